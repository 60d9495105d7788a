//! The brakes on guessing: who was wrong of late waits before the next answer.
//!
//! Failures are counted for each network (an IPv4 address, an IPv6 /64: what one guesser has for nothing) and
//! for each login; both counts halve every five minutes. After a few free ones the wait doubles with each
//! failure up to a bound. The wait is the longer of the two; the driver holds the answer back for so long, and
//! the check itself too, so that a guess in flight does not cost a hash either. What one network tries at one login
//! is judged one after the other, so that many connections are no more guesses than one: whoever comes from the network
//! of a guesser, for the same login and for the first time, stands behind the guesses.
//!
//! Nobody is locked out. A network from which a login was right is known for that login: there, strangers'
//! guesses at the login do not count, and its own failures slow that login down by [`KNOWN_WAIT_MAX`] at most.
//! So a user at home reads mail in the middle of an attack on the account, and one with a forgotten password in
//! some device does not stop the household. There nobody waits for others, either: the devices of a user come all at
//! once. Success takes no failure back: a guesser who owns one account here would wash the count of its network
//! with it.
//!
//! Invariants: memory is bounded, and networks and logins that go on failing stay in it; a table of its own
//! keeps what is known to be good, so that strangers cannot crowd that out; no wait is over [`WAIT_MAX`], once it is
//! an attempt's turn; of a login only a keyed hash is kept, so that long names cost nothing.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::auth::bounded::Bounded;
use crate::limits::auth::THROTTLED_MAX;
use crate::mail::time::Instant;

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u32 = 3;

/// The wait after the first failure that counts.
const WAIT_FIRST: Duration = Duration::from_millis(500);

/// Long enough to make guessing hopeless, shorter than the patience of mail programs.
pub const WAIT_MAX: Duration = Duration::from_secs(16);

/// For a login that was right from this network before.
pub const KNOWN_WAIT_MAX: Duration = Duration::from_secs(2);

/// In this time half of the failures are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(5 * 60);

/// So long a network stays known for a login that was right.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// See the module. Logins are the keys of [`crate::auth::Directory::login_key`].
pub struct Throttle {
    networks: Bounded<IpAddr, Failures>,
    logins: Bounded<u64, Failures>,
    known: Bounded<(IpAddr, u64), Instant>,
    hasher: RandomState,
}

/// A network at a login that was not right from there of late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stranger {
    network: IpAddr,
    login: u64,
}

/// A count that fades.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(THROTTLED_MAX)
    }
}

impl Throttle {
    /// Remembers so many networks, logins, and known pairs, each.
    pub fn new(entries_max: usize) -> Self {
        Self {
            networks: Bounded::new(entries_max),
            logins: Bounded::new(entries_max),
            known: Bounded::new(entries_max),
            hasher: RandomState::new(),
        }
    }

    /// Whose attempts are judged one after the other. `None` if `login` was right from there before.
    pub fn stranger(&self, from: IpAddr, login: &str, now: Instant) -> Option<Stranger> {
        let stranger = Stranger { network: network(from), login: self.hasher.hash_one(login) };
        (!self.is_known(stranger.network, stranger.login, now)).then_some(stranger)
    }

    /// How long an attempt of `from` at `login` waits.
    pub fn delay(&self, from: IpAddr, login: &str, now: Instant) -> Duration {
        let (network, login) = (network(from), self.hasher.hash_one(login));
        let of_network = self.networks.value(&network).map_or(Duration::ZERO, |failures| failures.wait(now));
        if self.is_known(network, login, now) {
            return of_network.min(KNOWN_WAIT_MAX);
        }
        let of_login = self.logins.value(&login).map_or(Duration::ZERO, |failures| failures.wait(now));
        of_network.max(of_login)
    }

    pub fn record_failure(&mut self, from: IpAddr, login: &str, now: Instant) {
        count_failure(&mut self.networks, network(from), now);
        count_failure(&mut self.logins, self.hasher.hash_one(login), now);
    }

    pub fn record_success(&mut self, from: IpAddr, login: &str, now: Instant) {
        self.known.insert((network(from), self.hasher.hash_one(login)), now + KNOWN_FOR);
    }

    fn is_known(&self, network: IpAddr, login: u64, now: Instant) -> bool {
        self.known.value(&(network, login)).is_some_and(|until| now < *until)
    }
}

impl Failures {
    /// The count as it has faded by now.
    fn count(self, now: Instant) -> u32 {
        let halvings = (now - self.since).as_millis() / HALF_LIFE.as_millis();
        self.count.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn wait(self, now: Instant) -> Duration {
        match self.count(now).checked_sub(FREE_FAILURES) {
            None | Some(0) => Duration::ZERO,
            // 2^16 is over the bound already.
            Some(counted) => (WAIT_FIRST * (1 << (counted - 1).min(16))).min(WAIT_MAX),
        }
    }

    /// One more. Fading is settled up to whole half-lives, so that failures that keep coming do not stop it.
    fn add(&mut self, now: Instant) {
        let faded = self.count(now);
        if faded == 0 {
            self.since = now;
        }
        let halvings = (now - self.since).as_millis() / HALF_LIFE.as_millis();
        self.since = self.since + HALF_LIFE * u32::try_from(halvings).unwrap_or(u32::MAX);
        // The bound keeps an hour-long attack from being remembered for a day: 64 failures fade in half an hour.
        self.count = (faded + 1).min(64);
    }
}

fn count_failure<K: Hash + Eq + Clone>(table: &mut Bounded<K, Failures>, key: K, now: Instant) {
    match table.touch(&key) {
        Some(failures) => failures.add(now),
        None => {
            let mut failures = Failures::default();
            failures.add(now);
            table.insert(key, failures);
        }
    }
}

/// What one guesser has many addresses of: an IPv6 /64. IPv4 in IPv6 clothes counts as IPv4.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{HALF_LIFE, KNOWN_FOR, KNOWN_WAIT_MAX, Throttle, WAIT_MAX};
    use crate::mail::time::Instant;

    const BOB: &str = "bob@example.org";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn after(failures: u32, from: &str, login: &str) -> Throttle {
        let mut throttle = Throttle::new(100);
        (0..failures).for_each(|_| throttle.record_failure(ip(from), login, Instant(0)));
        throttle
    }

    #[test]
    fn waits_double_and_end() {
        let table = [
            (0, 0),
            (3, 0),
            (4, 500),
            (5, 1000),
            (6, 2000),
            (8, 8000),
            (9, 16000),
            (40, 16000),
            (5000, 16000),
        ];
        for (failures, wait_ms) in table {
            let throttle = after(failures, "192.0.2.1", BOB);
            assert_eq!(
                throttle.delay(ip("192.0.2.1"), "eve@x", Instant(0)).as_millis(),
                wait_ms,
                "{failures}"
            );
            assert_eq!(throttle.delay(ip("192.0.2.2"), BOB, Instant(0)).as_millis(), wait_ms, "{failures}");
            assert_eq!(throttle.delay(ip("192.0.2.2"), "eve@x", Instant(0)), Duration::ZERO);
        }
    }

    #[test]
    fn failures_fade_also_while_more_come() {
        let mut throttle = after(5000, "192.0.2.1", BOB);
        let wait = |throttle: &Throttle, now| throttle.delay(ip("192.0.2.1"), BOB, now);
        let mut now = Instant(0);
        assert_eq!(wait(&throttle, now), WAIT_MAX);
        now = now + HALF_LIFE * 5;
        assert_eq!(wait(&throttle, now), Duration::ZERO);
        for _ in 0..100 {
            now = now + HALF_LIFE;
            throttle.record_failure(ip("192.0.2.1"), BOB, now);
            assert_eq!(wait(&throttle, now), Duration::ZERO);
        }
    }

    #[test]
    fn a_known_network_is_hardly_slowed_down_and_others_are() {
        let mut throttle = after(50, "192.0.2.1", BOB);
        let home = ip("2001:db8:1:2::3");
        assert_eq!(throttle.delay(home, BOB, Instant(0)), WAIT_MAX);
        throttle.record_success(home, BOB, Instant(0));
        assert_eq!(throttle.delay(ip("2001:db8:1:2:ffff::1"), BOB, Instant(0)), Duration::ZERO);
        assert_eq!(throttle.delay(ip("2001:db8:1:3::3"), BOB, Instant(0)), WAIT_MAX);
        (0..50).for_each(|_| throttle.record_failure(home, BOB, Instant(0)));
        assert_eq!(throttle.delay(home, BOB, Instant(0)), KNOWN_WAIT_MAX);
        assert_eq!(throttle.delay(home, "eve@x", Instant(0)), WAIT_MAX);
        let mut later = Instant(0) + KNOWN_FOR;
        throttle.record_failure(ip("192.0.2.1"), BOB, later);
        later = later + Duration::from_secs(1);
        assert_eq!(throttle.delay(home, BOB, later), Duration::ZERO);
    }

    #[test]
    fn who_was_right_from_a_network_is_no_stranger_there() {
        let mut throttle = after(1, "192.0.2.1", BOB);
        let stranger = |throttle: &Throttle, from, login| throttle.stranger(ip(from), login, Instant(0));
        let bob = stranger(&throttle, "2001:db8:1:2::3", BOB);
        assert!(bob.is_some() && bob == stranger(&throttle, "2001:db8:1:2::4", BOB));
        assert_ne!(bob, stranger(&throttle, "2001:db8:1:3::3", BOB));
        assert_ne!(bob, stranger(&throttle, "2001:db8:1:2::3", "eve@x"));
        throttle.record_success(ip("2001:db8:1:2::3"), BOB, Instant(0));
        assert_eq!(stranger(&throttle, "2001:db8:1:2::4", BOB), None);
        assert!(stranger(&throttle, "192.0.2.1", BOB).is_some());
        assert!(stranger(&throttle, "2001:db8:1:2::3", "eve@x").is_some());
    }

    #[test]
    fn an_own_account_does_not_wash_the_count() {
        let mut throttle = Throttle::new(100);
        for login in 0..20 {
            throttle.record_failure(ip("::ffff:192.0.2.1"), &format!("{login}@x"), Instant(0));
            throttle.record_success(ip("192.0.2.1"), "mallory@x", Instant(0));
        }
        assert_eq!(throttle.delay(ip("192.0.2.1"), "20@x", Instant(0)), WAIT_MAX);
    }
}
