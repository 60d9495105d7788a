//! What an operator sees while a run goes on, and the series that is kept of it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::measure::Beat;
use crate::record::{Moment, Spectrum, duration};

/// Gathers the seconds of all threads; shows a line on a terminal, nothing elsewhere.
pub struct Live {
    seconds: BTreeMap<u64, Beat>,
    bar: ProgressBar,
    succeeded: u64,
    failed: u64,
    total: Option<u64>,
}

/// What there is to be seen of a run, which decides what the bar means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Nothing,
    /// Of so many operations.
    Operations(u64),
    /// Of so many seconds.
    Seconds(u64),
}

impl Live {
    pub fn new(seen: Seen) -> Self {
        let (length, total) = match seen {
            Seen::Operations(count) => (count, Some(count)),
            Seen::Seconds(count) => (count, None),
            Seen::Nothing => (0, None),
        };
        let bar = match seen != Seen::Nothing && stderr().is_terminal() {
            true => ProgressBar::new(length),
            false => ProgressBar::hidden(),
        };
        let style =
            ProgressStyle::with_template("{bar:30} {elapsed} {msg}").expect("the template is well formed");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { seconds: BTreeMap::new(), bar, succeeded: 0, failed: 0, total }
    }

    pub fn take(&mut self, beat: &Beat) {
        self.succeeded += beat.succeeded;
        self.failed += beat.failed;
        let second = self.seconds.entry(beat.second).or_default();
        second.succeeded += beat.succeeded;
        second.failed += beat.failed;
        second.latency.add(&beat.latency);
        self.bar.set_position(self.total.map_or(beat.second + 1, |_| self.succeeded + self.failed));
        self.bar.set_message(format!(
            "{}/s now, {} done, {} failed, p99 {}",
            second.succeeded,
            self.succeeded,
            self.failed,
            duration(second.latency.percentile(99.0)),
        ));
    }

    /// The series of seconds, those in which nothing happened too.
    pub fn end(self) -> Vec<Moment> {
        self.bar.finish_and_clear();
        let last = self.seconds.keys().next_back().map_or(0, |second| second + 1);
        (0..last)
            .map(|second| self.seconds.get(&second).map_or(empty(second), |beat| moment(second, beat)))
            .collect()
    }
}

fn empty(second: u64) -> Moment {
    Moment { second, ..Moment::default() }
}

fn moment(second: u64, beat: &Beat) -> Moment {
    let latency: &Spectrum = &beat.latency;
    Moment {
        second,
        succeeded: beat.succeeded,
        failed: beat.failed,
        p50_ns: latency.percentile(50.0),
        p99_ns: latency.percentile(99.0),
        max_ns: latency.max(),
    }
}
