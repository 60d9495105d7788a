//! What an operator decides about outbound mail, as nouns: rates, shaping, sources, pools, retries, tenants.
//!
//! The configuration makes these, checked; `site` and `lane` obey them. A name is looked up once: sources and pools
//! have ids that are made of their names, so that an id still means the same after the configuration was read again.
//!
//! Invariants: every count and span that would stop mail for ever is impossible (a rate is at least one, a
//! connection carries at least one message); a pool has a member, and each member a weight.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::outbound;
use crate::queue::warm_up::WarmUp;

/// So many in any span of this length: `100/h`, `10/s`, `5/min`, `20000/d`, `1/30s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    count: NonZeroU32,
    /// 1 ms to a year.
    per: Duration,
}

/// Text that is not a [`Rate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARate;

/// The longest span of a rate.
const PER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// More messages than that in one span are no limit but a typing error.
const COUNT_MAX: u32 = 1_000_000_000;

impl Rate {
    /// The largest count that a day may have.
    pub const MOST_A_DAY: Self =
        Self { count: NonZeroU32::new(COUNT_MAX).expect("it is not 0"), per: Duration::from_secs(24 * 3600) };

    /// `None` if a span is shorter than 1 ms or longer than a year.
    pub fn new(count: NonZeroU32, per: Duration) -> Option<Self> {
        let is_sound = per >= Duration::from_millis(1) && per <= PER_MAX && count.get() <= COUNT_MAX;
        is_sound.then_some(Self { count, per })
    }

    pub fn count(self) -> u32 {
        self.count.get()
    }

    pub fn per(self) -> Duration {
        self.per
    }

    /// What one of `of` equal parts of the server may do, so that all together keep to the rate. A count smaller
    /// than `of` becomes one in a longer span: the mean stays the same, but the parts may choose the same moment.
    pub fn share(self, part: Part) -> Self {
        let count = part.of_count(self.count());
        if let Some(count) = NonZeroU32::new(count)
            && self.count() >= part.of
        {
            return Self { count, ..self };
        }
        let per = (self.per * part.of / self.count()).min(PER_MAX);
        Self { count: NonZeroU32::MIN, per }
    }
}

/// One of `of` equal parts: a shard's share of what holds for the whole server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Less than `of`.
    pub index: u32,
    pub of: u32,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The shares of all parts add up to `count`.
    pub fn of_count(self, count: u32) -> u32 {
        let (count, index, of) = (u64::from(count), u64::from(self.index), u64::from(self.of.max(1)));
        u32::try_from(count * (index + 1) / of - count * index / of).unwrap_or(u32::MAX)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (count, per) = text.split_once('/').ok_or(NotARate)?;
        let count = count.trim().replace('_', "").parse().map_err(|_| NotARate)?;
        let per = per.trim();
        let digits = per.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = per.split_at(digits);
        let number: u32 = if number.is_empty() { 1 } else { number.parse().map_err(|_| NotARate)? };
        let unit_ms: u64 = match unit.trim() {
            "ms" => 1,
            "s" | "sec" | "second" => 1000,
            "min" | "minute" => 60_000,
            "h" | "hour" => 3_600_000,
            "d" | "day" => 86_400_000,
            _ => return Err(NotARate),
        };
        Self::new(count, Duration::from_millis(unit_ms.saturating_mul(number.into()))).ok_or(NotARate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.per.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
        let (unit_ms, unit) =
            units.into_iter().find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms)).unwrap_or((1, "ms"));
        match ms / unit_ms {
            1 => write!(f, "{}/{unit}", self.count),
            number => write!(f, "{}/{number}{unit}", self.count),
        }
    }
}

/// How fast and by which manners mail goes to one site from one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shaping {
    /// Connections at a time from one source; what the adaptive window may grow to.
    pub connections: NonZeroU32,
    /// Connections at a time from all sources together.
    pub site_connections: NonZeroU32,
    /// New connections from one source.
    pub connection_rate: Option<Rate>,
    /// Transactions from one source.
    pub message_rate: Option<Rate>,
    pub messages_per_connection: NonZeroU32,
    /// The rest of the recipients go in another transaction.
    pub recipients_per_message: NonZeroU32,
    /// How long a connection without work is kept open.
    pub idle: Duration,
    /// Failures to connect, one after the other, after which a site counts as dead.
    pub failures_until_dead: NonZeroU32,
    /// How long a site is left alone after it was found dead; doubled each time that it still is.
    pub dead_first: Duration,
    pub dead_max: Duration,
    pub tls: Tls,
    pub eight_bit: EightBit,
    pub timeouts: Timeouts,
}

/// What is asked of a connection's encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    Never,
    /// If it is offered, whatever the certificate; in the clear otherwise.
    #[default]
    Opportunistic,
    /// Whatever the certificate; never in the clear.
    Required,
    /// With a certificate that is valid for the host's name.
    Verified,
}

/// What becomes of a message with bytes above 127 at a host that does not offer 8BITMIME (RFC 6152 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EightBit {
    /// It is returned to its sender: 5.6.3.
    #[default]
    Refuse,
    /// It is sent as it is. Against the letter of RFC 6152 3, for hosts that take it nevertheless.
    AsIs,
}

/// How long a host may take for each step (RFC 5321 4.5.3.2), and for a whole message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For each address.
    pub connect: Duration,
    pub greeting: Duration,
    /// EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET.
    pub command: Duration,
    /// For 354.
    pub data: Duration,
    /// For each block of the message to be taken.
    pub block: Duration,
    /// For the reply after the message. A short one makes doubles.
    pub end: Duration,
    /// For a transaction as a whole, however busy the host seems.
    pub transaction: Duration,
}

impl Default for Shaping {
    fn default() -> Self {
        Self {
            connections: outbound::CONNECTIONS,
            site_connections: outbound::SITE_CONNECTIONS,
            connection_rate: None,
            message_rate: None,
            messages_per_connection: outbound::MESSAGES_PER_CONNECTION,
            recipients_per_message: outbound::RECIPIENTS_PER_MESSAGE,
            idle: outbound::IDLE,
            failures_until_dead: outbound::FAILURES_UNTIL_DEAD,
            dead_first: outbound::DEAD_FIRST,
            dead_max: outbound::DEAD_MAX,
            tls: Tls::default(),
            eight_bit: EightBit::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    /// RFC 5321 4.5.3.2.1 to 4.5.3.2.6; the first and the last are ours.
    fn default() -> Self {
        Self {
            connect: outbound::CONNECT,
            greeting: Duration::from_secs(5 * 60),
            command: Duration::from_secs(5 * 60),
            data: Duration::from_secs(2 * 60),
            block: Duration::from_secs(3 * 60),
            end: Duration::from_secs(10 * 60),
            transaction: outbound::TRANSACTION,
        }
    }
}

/// The id of a source; made of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct SourceId(u64);

/// The id of a pool; made of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct PoolId(u64);

/// The name of the source that binds to nothing, and of the pool that holds it alone. Both always exist, unless the
/// configuration gives the name to its own.
pub const DEFAULT_NAME: &str = "default";

impl SourceId {
    pub fn of(name: &str) -> Self {
        Self(fnv(name))
    }
}

impl PoolId {
    pub fn of(name: &str) -> Self {
        Self(fnv(name))
    }
}

impl Default for PoolId {
    fn default() -> Self {
        Self::of(DEFAULT_NAME)
    }
}

/// FNV-1a with 64 bits. The names are the operator's own, and the configuration refuses two with one value.
fn fnv(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An address that mail leaves from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub name: String,
    /// What the socket is bound to; `None` leaves it to the system.
    pub address: Option<IpAddr>,
    /// The name in EHLO; `None` is the server's own.
    pub ehlo: Option<String>,
    /// At a time, to all sites together.
    pub connections: Option<NonZeroU32>,
    /// Transactions from this source to all sites together.
    pub message_rate: Option<Rate>,
    pub warm_up: Option<WarmUp>,
}

impl Source {
    /// The one that binds to nothing.
    pub fn unbound() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            address: None,
            ehlo: None,
            connections: None,
            message_rate: None,
            warm_up: None,
        }
    }

    pub fn id(&self) -> SourceId {
        SourceId::of(&self.name)
    }
}

/// Sources that share the mail that is given to the pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    pub name: String,
    /// At least one; no source twice.
    pub members: Vec<Member>,
}

/// A source with its share of the pool's mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    pub source: SourceId,
    pub weight: NonZeroU32,
}

impl Pool {
    /// The one that holds the source which binds to nothing.
    pub fn unbound() -> Self {
        let member = Member { source: SourceId::of(DEFAULT_NAME), weight: NonZeroU32::MIN };
        Self { name: DEFAULT_NAME.to_owned(), members: vec![member] }
    }

    pub fn id(&self) -> PoolId {
        PoolId::of(&self.name)
    }
}

/// When what did not go is tried again, and when it is given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// The wait after the first attempt; each later one is twice the one before.
    pub first: Duration,
    pub max: Duration,
    /// How far a wait is moved at random to either side, in percent of it, so that what failed together does not
    /// come back together. Less than 100.
    pub jitter_percent: u8,
    /// The age at which a sender who did not forbid it is told that a message waits.
    pub warn_after: Option<Duration>,
    /// The age at which a message is returned.
    pub expire_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: outbound::RETRY_FIRST,
            max: outbound::RETRY_MAX,
            jitter_percent: outbound::RETRY_JITTER_PERCENT,
            warn_after: Some(outbound::WARN_AFTER),
            expire_after: outbound::EXPIRE_AFTER,
        }
    }
}

/// Somebody on whose behalf mail is sent, with ways and limits of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    pub name: String,
    /// Logins whose mail is this tenant's.
    pub logins: Vec<String>,
    /// `None`: what the route says, or the default pool.
    pub pool: Option<PoolId>,
    /// Transactions of this tenant to all sites together.
    pub message_rate: Option<Rate>,
}

/// A login at a smart host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub username: String,
    /// The first line of this file is the password.
    pub password_file: PathBuf,
}

/// When TLS begins on a connection that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsBegins {
    #[default]
    Starttls,
    /// With the first byte.
    Implicit,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{NotARate, Part, PoolId, Rate};

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn rates_are_read_and_printed() {
        let table = [
            ("100/h", 100, 3_600_000, "100/h"),
            ("10/s", 10, 1000, "10/s"),
            ("5/min", 5, 60_000, "5/min"),
            ("20_000/d", 20_000, 86_400_000, "20000/d"),
            ("1/30s", 1, 30_000, "1/30s"),
            ("1 / 60 s", 1, 60_000, "1/min"),
            ("3/48h", 3, 172_800_000, "3/2d"),
            ("7/250ms", 7, 250, "7/250ms"),
        ];
        for (text, count, ms, printed) in table {
            let rate = rate(text);
            assert_eq!((rate.count(), rate.per()), (count, Duration::from_millis(ms)), "{text}");
            assert_eq!(rate.to_string(), printed);
            assert_eq!(rate, printed.parse().unwrap());
        }
    }

    #[test]
    fn what_is_no_rate() {
        for text in
            ["", "100", "0/h", "-1/h", "1/", "1/0s", "1/m", "1/400d", "1.5/h", "2000000000/s", "/h", "1/h/h"]
        {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
    }

    #[test]
    fn shares_add_up_and_are_never_nothing() {
        for of in 1..9 {
            for count in 1..40 {
                let whole = Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(60)).unwrap();
                let shares: Vec<Rate> = (0..of).map(|index| whole.share(Part { index, of })).collect();
                if count >= of {
                    assert_eq!(shares.iter().map(|share| share.count()).sum::<u32>(), count);
                    assert!(shares.iter().all(|share| share.per() == whole.per()));
                } else {
                    let per = Duration::from_secs(60) * of / count;
                    assert!(shares.iter().all(|share| (share.count(), share.per()) == (1, per)));
                }
            }
        }
    }

    #[test]
    fn ids_are_those_of_the_names() {
        assert_eq!(PoolId::of("default"), PoolId::default());
        assert_ne!(PoolId::of("a"), PoolId::of("b"));
        // The published value of FNV-1a for "a".
        assert_eq!(PoolId::of("a"), PoolId(0xaf63_dc4c_8601_ec8c));
    }
}
