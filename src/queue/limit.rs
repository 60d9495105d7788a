//! A rate as a brake that knows to the millisecond when it lets the next one through.
//!
//! Tokens come evenly spread, and a few may be saved up: a fiftieth of the count, at least one. Behind a burst the
//! rest are spread so much the wider that even the span that begins with the burst has no more than the count:
//!
//! ```text
//! 100/h      burst 2, then one each 3600 s / (100 - 2 + 1)
//!
//!   ||  |  |  |  |  |  |  |  |      no window of an hour, wherever it begins, holds more than 100
//! ```
//!
//! So a rate is kept in every window and not only on the mean, at the cost of up to a fiftieth of it; a limit that
//! is forgotten at a restart lets a fiftieth more through, not twice as much.
//!
//! This is the generic cell rate algorithm with exact fractions: the time is counted in `spread`ths of a
//! millisecond, in which every interval is a whole number.
//!
//! Invariants: in any window of `per`, its end excluded, at most `count` tokens are taken; `next` is the first
//! millisecond in which `available` is as many as were asked for.

use std::time::Duration;

use super::policy::Rate;
use crate::mail::time::Instant;

/// The part of a rate that may be saved up.
const BURST_OF_COUNT: u32 = 50;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Tokens that may be taken at once.
    burst: u32,
    /// Parts of a millisecond; a token comes each `rate.per()` in milliseconds of them.
    spread: u128,
    /// When all is saved up again, in those parts since the clock began.
    full_at: u128,
}

impl Bucket {
    /// Full.
    pub fn new(rate: Rate) -> Self {
        let burst = (rate.count() / BURST_OF_COUNT).max(1);
        Self { rate, burst, spread: u128::from(rate.count() - burst + 1), full_at: 0 }
    }

    /// From now on another rate; what is saved up is in proportion what it was.
    pub fn set_rate(&mut self, rate: Rate, now: Instant) {
        if rate == self.rate {
            return;
        }
        let used = self.burst - self.available(now).min(self.burst);
        let mut next = Self::new(rate);
        let used = (u64::from(used) * u64::from(next.burst)).div_ceil(self.burst.into());
        next.take(u32::try_from(used).unwrap_or(next.burst), now);
        *self = next;
    }

    /// Takes tokens that are there.
    pub fn take(&mut self, count: u32, now: Instant) {
        debug_assert!(count <= self.available(now), "a token was taken that was not there");
        self.full_at = self.full_at.max(self.parts(now)) + u128::from(count) * self.interval();
    }

    /// Puts back what was taken and not used.
    pub fn put_back(&mut self, count: u32) {
        self.full_at = self.full_at.saturating_sub(u128::from(count) * self.interval());
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// When all is saved up again, so that it may be forgotten.
    pub fn full_at(&self) -> Instant {
        Instant(u64::try_from(self.full_at.div_ceil(self.spread)).unwrap_or(u64::MAX))
    }

    /// As if all were saved up at that time and not before; never more than if nothing was left now.
    pub fn set_full_at(&mut self, at: Instant, now: Instant) {
        let emptied = self.parts(now) + u128::from(self.burst) * self.interval();
        self.full_at = self.parts(at).min(emptied).max(self.full_at);
    }

    /// How many may be taken now.
    pub fn available(&self, now: Instant) -> u32 {
        let missing = self.full_at.saturating_sub(self.parts(now)).div_ceil(self.interval());
        self.burst.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// The first moment from `now` on in which a token is there.
    pub fn next(&self, now: Instant) -> Instant {
        let at = self.full_at.saturating_sub(u128::from(self.burst - 1) * self.interval());
        let at_ms = at.div_ceil(self.spread);
        Instant(u64::try_from(at_ms).unwrap_or(u64::MAX).max(now.0))
    }

    /// How many may be taken in a span that begins with all saved up.
    pub fn most_within(&self, span: Duration) -> u32 {
        let more = span.as_millis() * self.spread / self.interval();
        self.burst.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    }

    fn parts(&self, now: Instant) -> u128 {
        u128::from(now.0) * self.spread
    }

    /// Between two tokens.
    fn interval(&self) -> u128 {
        self.rate.per().as_millis()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::Bucket;
    use crate::mail::time::Instant;
    use crate::queue::policy::Rate;

    fn rates() -> impl Strategy<Value = Rate> {
        let counts = prop_oneof![1..5u32, 1..300u32, 1..100_000u32];
        let spans = prop_oneof![1..50u64, Just(1000), Just(60_000), Just(3_600_000), Just(86_400_000)];
        (counts, spans).prop_map(|(count, ms)| {
            Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_millis(ms)).unwrap()
        })
    }

    proptest! {
        /// Whoever takes all that is there, at whatever times, never has more than the count in a window.
        #[test]
        fn no_window_has_more_than_the_count(
            rate in rates(),
            waits in prop::collection::vec((0..1000u64, 1..20u32), 1..200),
            start in 0..1_000_000u64,
        ) {
            let mut bucket = Bucket::new(rate);
            let mut now = Instant(start);
            let mut window: VecDeque<(Instant, u32)> = VecDeque::new();
            let unit = rate.per().as_millis() as u64 / u64::from(rate.count()).min(500) / 10;
            for (wait, wanted) in waits {
                now = now + Duration::from_millis(wait * unit.max(1) / 20);
                let taken = wanted.min(bucket.available(now));
                if taken > 0 {
                    bucket.take(taken, now);
                    window.push_back((now, taken));
                }
                while window.front().is_some_and(|(at, _)| now - *at >= rate.per()) {
                    window.pop_front();
                }
                let in_window: u32 = window.iter().map(|(_, taken)| taken).sum();
                prop_assert!(in_window <= rate.count(), "{in_window} in a window of {rate}");
            }
        }

        /// A millisecond before the promised time there is no token, then there is one.
        #[test]
        fn the_next_token_comes_when_it_was_promised(
            rate in rates(),
            start in 0..1_000_000u64,
            steps in prop::collection::vec(0..3u64, 1..100),
        ) {
            let mut bucket = Bucket::new(rate);
            let mut now = Instant(start);
            for step in steps {
                while bucket.available(now) > 0 {
                    prop_assert_eq!(bucket.next(now), now);
                    bucket.take(1, now);
                }
                let next = bucket.next(now);
                prop_assert!(next > now);
                prop_assert_eq!(bucket.available(Instant(next.0 - 1)), 0);
                prop_assert!(bucket.available(next) > 0);
                now = Instant(next.0 + step);
            }
        }

        /// Who takes each token as it comes gets all but a fiftieth of the rate.
        #[test]
        fn the_rate_is_reached(count in 1..20_000u32, ms in prop_oneof![Just(60_000u64), Just(3_600_000)]) {
            let rate = Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_millis(ms)).unwrap();
            let mut bucket = Bucket::new(rate);
            let (mut now, mut taken) = (Instant(0), 0);
            while now.0 < 2 * ms {
                let available = bucket.available(now);
                taken += available;
                bucket.take(available, now);
                now = bucket.next(now);
            }
            prop_assert!(taken <= 2 * count);
            prop_assert!(f64::from(taken) >= 1.96 * f64::from(count), "{taken} of {}", 2 * count);
        }
    }

    #[test]
    fn another_rate_keeps_what_was_used() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        let mut bucket = Bucket::new(rate("100/s"));
        let now = Instant(5000);
        bucket.take(2, now);
        bucket.set_rate(rate("10/min"), now);
        assert_eq!((bucket.available(now), bucket.next(now)), (0, Instant(11_000)));
        bucket.set_rate(rate("10/s"), now);
        assert_eq!(bucket.next(now), Instant(5100), "the debt is one token of the new rate");
        bucket.set_rate(rate("10/s"), now);
        assert_eq!(bucket.next(now), Instant(5100));
        assert_eq!(bucket.full_at(), Instant(5100));
    }

    #[test]
    fn what_was_not_used_is_there_again() {
        let mut bucket = Bucket::new("1000/d".parse().unwrap());
        bucket.take(20, Instant(0));
        assert_eq!(bucket.available(Instant(0)), 0);
        bucket.put_back(7);
        assert_eq!(bucket.available(Instant(0)), 7);
    }
}
