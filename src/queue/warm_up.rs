//! How a new address earns its reputation: so many recipients on the first day, more on each next one.
//!
//! Days are those of UTC, counted from the first. Before it the source sends nothing; after the last day of the
//! schedule it is like any other.
//!
//! Invariant: a cap is at least one.

use std::num::NonZeroU32;

/// The longest schedule.
pub const DAYS_MAX: usize = 366;

pub const DAY_S: i64 = 86_400;

/// Caps on the recipients of each day, over all sites.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WarmUp {
    /// Days since 1970-01-01.
    start_day: i64,
    /// At least one.
    caps: Vec<NonZeroU32>,
}

/// What holds at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cap {
    /// The first day is to come.
    NotBegun,
    /// So many in this day.
    PerDay(NonZeroU32),
    /// The last day is over.
    Warm,
}

impl WarmUp {
    /// `None` without a day, or with more than [`DAYS_MAX`].
    pub fn new(start_day: i64, caps: Vec<NonZeroU32>) -> Option<Self> {
        (1..=DAYS_MAX).contains(&caps.len()).then_some(Self { start_day, caps })
    }

    /// `caps`, and then each next day `percent` more, until so many days are over. `None` as for `new`.
    pub fn growing(start_day: i64, mut caps: Vec<NonZeroU32>, percent: u32, days: usize) -> Option<Self> {
        while caps.len() < days.min(DAYS_MAX + 1) {
            let last = *caps.last()?;
            // At least one more, or a small number would never grow.
            let more = (u64::from(last.get()) * u64::from(percent) / 100).max(u64::from(percent > 0));
            caps.push(last.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)));
        }
        Self::new(start_day, caps)
    }

    /// What holds at a time in Unix seconds.
    pub fn cap(&self, seconds: i64) -> Cap {
        match usize::try_from(seconds.div_euclid(DAY_S) - self.start_day) {
            Err(_) => Cap::NotBegun,
            Ok(day) => self.caps.get(day).map_or(Cap::Warm, |&cap| Cap::PerDay(cap)),
        }
    }

    /// When `cap` next gives another answer or begins to count anew, in Unix seconds.
    pub fn next_change(&self, seconds: i64) -> Option<i64> {
        match self.cap(seconds) {
            Cap::NotBegun => Some(self.start_day * DAY_S),
            Cap::PerDay(_) => Some((seconds.div_euclid(DAY_S) + 1) * DAY_S),
            Cap::Warm => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{Cap, DAY_S, DAYS_MAX, WarmUp};

    fn cap(cap: u32) -> Cap {
        Cap::PerDay(NonZeroU32::new(cap).unwrap())
    }

    #[test]
    fn a_schedule_day_by_day() {
        let caps = [50, 100, 500].map(|cap| NonZeroU32::new(cap).unwrap());
        let warm_up = WarmUp::new(20_000, caps.to_vec()).unwrap();
        let start = 20_000 * DAY_S;
        let table = [
            (start - 1, Cap::NotBegun, Some(start)),
            (start, cap(50), Some(start + DAY_S)),
            (start + DAY_S - 1, cap(50), Some(start + DAY_S)),
            (start + DAY_S, cap(100), Some(start + 2 * DAY_S)),
            (start + 3 * DAY_S - 1, cap(500), Some(start + 3 * DAY_S)),
            (start + 3 * DAY_S, Cap::Warm, None),
        ];
        for (seconds, expected, change) in table {
            assert_eq!((warm_up.cap(seconds), warm_up.next_change(seconds)), (expected, change), "{seconds}");
        }
    }

    #[test]
    fn growth_by_percent() {
        let growing =
            |first, percent, days| WarmUp::growing(0, vec![NonZeroU32::new(first).unwrap()], percent, days);
        let warm_up = growing(50, 50, 5).unwrap();
        let caps: Vec<Cap> = (0..6).map(|day| warm_up.cap(day * DAY_S)).collect();
        assert_eq!(caps, [cap(50), cap(75), cap(112), cap(168), cap(252), Cap::Warm]);
        assert_eq!(growing(1, 10, 3).unwrap().cap(2 * DAY_S), cap(3), "a small number grows, too");
        assert_eq!(growing(7, 0, 3).unwrap().cap(2 * DAY_S), cap(7));
        assert_eq!(growing(u32::MAX, 100, 9).unwrap().cap(8 * DAY_S), cap(u32::MAX));
        assert!(growing(1, 1, DAYS_MAX + 1).is_none() && WarmUp::growing(0, Vec::new(), 1, 5).is_none());
    }
}
