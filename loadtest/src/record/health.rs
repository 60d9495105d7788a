//! Whether the generator was up to its own schedule: a late or saturated one measures itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Later than this (p99), the schedule was not kept.
pub const LAG_P99_MAX: Duration = Duration::from_millis(1);

/// A larger share of its threads' time, and the generator may be what limits the rate.
pub const SHARE_MAX: f64 = 0.8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// How late the generator saw that operations were due (p99); 0 in a closed loop.
    pub lag_p99_ns: u64,
    /// Processor time of the generator's threads in microseconds, without waiting actively.
    pub cpu_us: u64,
    /// Processor time that went into waking up on time.
    pub spin_us: u64,
    /// Time in which it was ready to run and others had the processor.
    #[serde(default)]
    pub queued_us: u64,
    /// `cpu_us` as a share of what its threads could have had.
    pub cpu_share: f64,
    pub threads: u64,
    /// Why the figures mean nothing, if they do not.
    pub invalid: Option<String>,
}

impl Health {
    /// Judges what was measured.
    pub fn judge(mut self) -> Self {
        let late = u128::from(self.lag_p99_ns) > LAG_P99_MAX.as_nanos();
        let saturated = self.cpu_share > SHARE_MAX;
        self.invalid = match (late, saturated) {
            (true, _) => Some(format!(
                "the generator was late: p99 of its lag is {:.2} ms, more than {} ms; of all threads' time it worked \
                 {:.0} ms, and waited {:.0} ms for a processor",
                self.lag_p99_ns as f64 / 1e6,
                LAG_P99_MAX.as_millis(),
                self.cpu_us as f64 / 1e3,
                self.queued_us as f64 / 1e3
            )),
            (false, true) => Some(format!(
                "the generator was saturated: it used {:.0} % of its {} thread(s), more than {:.0} %",
                self.cpu_share * 100.0,
                self.threads,
                SHARE_MAX * 100.0
            )),
            (false, false) => None,
        };
        self
    }

    pub fn is_valid(&self) -> bool {
        self.invalid.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn a_late_or_saturated_generator_is_not_believed() {
        let health = Health { threads: 1, cpu_share: 0.5, lag_p99_ns: 900_000, ..Health::default() };
        assert!(health.clone().judge().is_valid());
        assert!(!Health { cpu_share: 0.9, ..health.clone() }.judge().is_valid());
        let late = Health { lag_p99_ns: 1_100_000, cpu_us: 7_000, queued_us: 300_000, ..health }.judge();
        // Whether it was its own work or others'.
        assert!(
            late.invalid.is_some_and(|why| why.contains("worked 7 ms, and waited 300 ms for a processor"))
        );
    }
}
