//! When a message is tried again, when its sender hears of it, and when it is given up.
//!
//! All times are Unix seconds: they are kept over restarts. The wait doubles with each attempt, up to a maximum, and
//! is moved a little at random. A message that may not leave before a time (FUTURERELEASE, RFC 4865) ages from then.
//! DELIVERBY (RFC 2852) with `R` ends it sooner; with `N` its sender hears of it at the time that it set, by which it
//! is tried once more.
//!
//! Invariants: no attempt is before the release; none is planned after the end, which itself is one more chance.

use super::policy::RetryPolicy;
use crate::mail::envelope::ByMode;

/// What a message's own wishes and past say about its times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// When it was accepted.
    pub received: i64,
    /// It may not leave before (RFC 4865).
    pub release: Option<i64>,
    pub deliver_by: Option<DeliverBy>,
}

/// A deadline that the sender set (RFC 2852 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliverBy {
    pub at: i64,
    pub mode: ByMode,
}

impl Life {
    /// From when on it may go and its age counts.
    pub fn begins(&self) -> i64 {
        self.release.map_or(self.received, |release| release.max(self.received))
    }

    /// When its sender wants to hear that it was not delivered yet.
    fn notifies(&self) -> Option<i64> {
        match self.deliver_by {
            Some(DeliverBy { at, mode: ByMode::Notify }) => Some(at.max(self.begins())),
            _ => None,
        }
    }
}

impl RetryPolicy {
    /// When to try next after `attempts` that failed, the last of them just now.
    pub fn next_attempt(&self, life: &Life, attempts: u32, now: i64, random: u64) -> i64 {
        let at = now.saturating_add(self.delay_s(attempts, random));
        // A sender who set a time hears at that time that it has passed.
        let told = life.notifies().filter(|told| *told > now);
        let at = told.map_or(at, |told| at.min(told));
        at.min(self.expires(life)).max(life.begins()).max(now)
    }

    /// When an attempt that failed was the last.
    pub fn expires(&self, life: &Life) -> i64 {
        let end = life.begins().saturating_add(seconds(self.expire_after));
        match life.deliver_by {
            Some(DeliverBy { at, mode: ByMode::Return }) => end.min(at),
            _ => end,
        }
    }

    /// When the sender is told that it waits; `None` if that is never, or not before it is given up.
    pub fn warns(&self, life: &Life) -> Option<i64> {
        let ends = self.expires(life);
        let after_age = self.warn_after.map(|age| life.begins().saturating_add(seconds(age)));
        let wished = life.notifies().filter(|at| *at < ends);
        wished.or(after_age).filter(|at| *at < ends)
    }

    /// The wait after so many attempts: `first`, doubled for each one more up to `max`, moved by the jitter.
    fn delay_s(&self, attempts: u32, random: u64) -> i64 {
        let doublings = attempts.saturating_sub(1).min(40);
        let first_ms = u64::try_from(self.first.as_millis()).unwrap_or(u64::MAX);
        let max_ms = u64::try_from(self.max.as_millis()).unwrap_or(u64::MAX);
        let delay_ms = first_ms.saturating_mul(1 << doublings).min(max_ms);
        let reach = u128::from(delay_ms) * u128::from(self.jitter_percent.min(99)) / 100;
        let moved = u128::from(random) * (2 * reach) / u128::from(u64::MAX);
        let delay_s = (u128::from(delay_ms) - reach + moved).div_ceil(1000);
        // Less than a second would be a loop.
        i64::try_from(delay_s).unwrap_or(i64::MAX).max(1)
    }
}

fn seconds(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{ByMode, DeliverBy, Life};
    use crate::queue::policy::RetryPolicy;

    const HOUR: i64 = 3600;

    fn plain(received: i64) -> Life {
        Life { received, release: None, deliver_by: None }
    }

    #[test]
    fn waits_double_up_to_four_hours() {
        let policy = RetryPolicy { jitter_percent: 0, ..RetryPolicy::default() };
        let life = plain(0);
        let waits: Vec<i64> =
            (1..=9).map(|attempts| policy.next_attempt(&life, attempts, 1000, 7) - 1000).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4800, 9600, 14_400, 14_400, 14_400]);
        assert_eq!(policy.next_attempt(&life, u32::MAX, 0, 0), 14_400);
    }

    #[test]
    fn the_jitter_goes_to_both_sides() {
        let policy = RetryPolicy::default();
        let at = |random| policy.next_attempt(&plain(0), 1, 0, random);
        assert_eq!((at(0), at(u64::MAX / 2), at(u64::MAX)), (255, 300, 345));
    }

    #[test]
    fn a_release_is_a_wall_and_the_age_begins_there() {
        let policy = RetryPolicy::default();
        let life = Life { release: Some(100 * HOUR), ..plain(0) };
        assert_eq!(policy.next_attempt(&life, 1, 0, 0), 100 * HOUR);
        assert_eq!(policy.warns(&life), Some(104 * HOUR));
        assert_eq!(policy.expires(&life), 220 * HOUR);
        let past = Life { release: Some(-5), ..plain(0) };
        assert_eq!(past.begins(), 0);
    }

    #[test]
    fn deadlines_of_the_sender() {
        let policy = RetryPolicy::default();
        let by = |mode| Life { deliver_by: Some(DeliverBy { at: HOUR, mode }), ..plain(0) };
        let returned = by(ByMode::Return);
        assert_eq!((policy.expires(&returned), policy.warns(&returned)), (HOUR, None));
        assert_eq!(policy.next_attempt(&returned, 5, HOUR - 60, 0), HOUR, "one more chance at the end");
        let told = by(ByMode::Notify);
        assert_eq!((policy.expires(&told), policy.warns(&told)), (120 * HOUR, Some(HOUR)));
        assert_eq!(
            policy.next_attempt(&told, 5, HOUR - 60, 0),
            HOUR,
            "tried once more, then its sender is told"
        );
        assert!(policy.next_attempt(&told, 5, HOUR, 0) > HOUR);
        let late = Life { deliver_by: Some(DeliverBy { at: 5 * HOUR, mode: ByMode::Notify }), ..plain(0) };
        assert_eq!(policy.warns(&late), Some(5 * HOUR), "when the sender wants to hear, and not before");
        let quiet = RetryPolicy { warn_after: None, ..RetryPolicy::default() };
        assert_eq!((quiet.warns(&plain(0)), quiet.warns(&told)), (None, Some(HOUR)));
    }

    proptest! {
        #[test]
        fn attempts_stay_within_the_life(
            attempts in 0..1000u32,
            random: u64,
            age in 0..2_000_000i64,
            release in prop::option::of(-1000..1_000_000i64),
            by in prop::option::of(1..1_000_000i64),
            jitter_percent in 0..100u8,
            first in 0..100_000u64,
        ) {
            let policy =
                RetryPolicy { jitter_percent, first: Duration::from_secs(first), ..RetryPolicy::default() };
            let deliver_by = by.map(|at| DeliverBy { at, mode: ByMode::Return });
            let life = Life { received: 0, release, deliver_by };
            let at = policy.next_attempt(&life, attempts, age, random);
            prop_assert!(at >= age && at >= life.begins());
            prop_assert!(at <= policy.expires(&life).max(life.begins()).max(age));
            if age < policy.expires(&life) {
                prop_assert!(at > age, "an attempt that failed is not repeated at once");
            }
        }
    }
}
