//! When operations are to start: fixed before the run, whatever the answers take.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::random::Random;

/// Operations a second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// The same time between any two.
    Constant,
    /// As of many people who know nothing of each other.
    Poisson,
}

/// The times of one thread's operations, in nanoseconds, each with its number.
pub struct Schedule {
    arrivals: Arrivals,
    random: Random,
    /// Between two operations of this thread.
    interval_ns: f64,
    next_ns: f64,
    end_ns: f64,
    number: u64,
    /// Every so manieth number is this thread's.
    stride: u64,
}

/// A thread among others that share the load.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub index: u64,
    pub of: u64,
}

impl Schedule {
    pub fn new(rate: Rate, arrivals: Arrivals, share: Share, seed: u64, span: Range<u64>) -> Self {
        let interval_ns = 1e9 * share.of as f64 / rate.0;
        let offset = match arrivals {
            Arrivals::Constant => 1e9 * share.index as f64 / rate.0,
            Arrivals::Poisson => 0.0,
        };
        let mut schedule = Self {
            arrivals,
            random: Random::new(seed, share.index),
            interval_ns,
            next_ns: span.start as f64 + offset,
            end_ns: span.end as f64,
            number: share.index,
            stride: share.of,
        };
        if arrivals == Arrivals::Poisson {
            schedule.next_ns += schedule.interval();
        }
        schedule
    }

    /// When the next is due, if there is one.
    pub fn peek(&self) -> Option<u64> {
        (self.next_ns < self.end_ns).then_some(self.next_ns as u64)
    }

    /// The number that the next has.
    pub fn next_number(&self) -> u64 {
        self.number
    }

    /// The number and the time of one that is due.
    pub fn pop_due(&mut self, now: u64) -> Option<(u64, u64)> {
        let at = self.peek().filter(|&at| at <= now)?;
        let number = self.number;
        self.number += self.stride;
        self.next_ns += self.interval();
        Some((number, at))
    }

    fn interval(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Constant => self.interval_ns,
            Arrivals::Poisson => -self.random.unit().ln() * self.interval_ns,
        }
    }
}

/// `5000`, `5000/s`, `600/m`, `2.5k/s`, `3M/h`.
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, unit) = text.split_once('/').unwrap_or((text, "s"));
        let (digits, factor) = match amount.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1e3),
            None => amount.strip_suffix('M').map_or((amount, 1.0), |digits| (digits, 1e6)),
        };
        let seconds = match unit {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            other => return Err(format!("{other:?} is no time; write for example 5000/s")),
        };
        match digits.parse::<f64>() {
            Ok(number) if number > 0.0 => Ok(Self(number * factor / seconds)),
            _ => Err(format!("{text:?} is no rate; write for example 5000/s")),
        }
    }
}

/// `60s`, `500ms`, `2m`, `1h`, `10` (seconds).
pub fn time(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("{other:?} is no unit of time")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{text:?} is no time"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Rate, Schedule, Share, time};

    fn times(arrivals: Arrivals, of: u64) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for index in 0..of {
            let share = Share { index, of };
            let mut schedule = Schedule::new(Rate(1000.0), arrivals, share, 7, 500..10_000_000_500);
            all.extend(std::iter::from_fn(|| schedule.pop_due(u64::MAX)));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn a_constant_rate_is_the_same_however_many_threads_share_it() {
        let one = times(Arrivals::Constant, 1);
        assert_eq!(one.len(), 10_000);
        assert_eq!((one[0], one[1]), ((0, 500), (1, 1_000_500)));
        let four = times(Arrivals::Constant, 4);
        assert_eq!(four.len(), one.len());
        assert!(four.iter().zip(&one).all(|(a, b)| a.0 == b.0 && a.1.abs_diff(b.1) < 10));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_are_no_clockwork() {
        let mut at: Vec<u64> = times(Arrivals::Poisson, 3).into_iter().map(|(_, at)| at).collect();
        at.sort_unstable();
        assert!((9_500..10_500).contains(&at.len()), "{}", at.len());
        // Of exponential intervals, a share of 1 - 1/e is shorter than the mean.
        let short = at.windows(2).filter(|pair| pair[1] - pair[0] < 1_000_000).count() as f64;
        assert!((0.6..0.66).contains(&(short / at.len() as f64)), "{short}");
    }

    #[test]
    fn nothing_is_due_early() {
        let share = Share { index: 0, of: 1 };
        let mut schedule = Schedule::new(Rate(10.0), Arrivals::Constant, share, 1, 1000..1_000_000_000);
        assert_eq!(schedule.pop_due(999), None);
        assert_eq!(schedule.pop_due(1000), Some((0, 1000)));
        assert_eq!(schedule.peek(), Some(100_001_000));
    }

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!("3M/h".parse(), Ok(Rate(3e6 / 3600.0)));
        assert_eq!("2.5k/s".parse(), Ok(Rate(2500.0)));
        assert_eq!("60/m".parse(), Ok(Rate(1.0)));
        assert!("0".parse::<Rate>().is_err() && "5/day".parse::<Rate>().is_err());
        assert_eq!(time("1.5s").map(|time| time.as_millis()), Ok(1500));
        assert!(time("3 apples").is_err());
    }
}
