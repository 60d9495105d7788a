//! What a run found: one JSON document for every command, and the lines an operator pastes.
//!
//! A [`Record`] says what ran where, how many operations succeeded and failed, how long they took, what they cost the
//! server, and whether the generator itself was up to it. Commands fill it, `report`, `sweep` and `ab` read it.
//! Latencies
//! have names: `corrected` counts from the time an operation should have started at, `service` from when it did
//! start,
//! `ack` from the end of data to its reply; others are a command's own (`FETCH`, `SELECT`, ...).
//!
//! A record of an invalid run is written too, so that nobody wonders where it is; its figures are never printed.

mod health;
mod machine;
mod print;
mod slo;
mod spectrum;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cost::Cost;

pub use health::{Health, LAG_P99_MAX, SHARE_MAX};
pub use machine::{Machine, seconds_since_1970};
pub use print::{duration, summary};
pub use slo::{Objective, Verdict};
pub use spectrum::{PERCENTILES, Spectrum};

/// Readers refuse a record of another version.
pub const VERSION: u32 = 1;

/// The latency from the time that an operation should have started at.
pub const CORRECTED: &str = "corrected";
/// The latency from the time that an operation did start at.
pub const SERVICE: &str = "service";
/// From the end of data to its reply.
pub const ACK: &str = "ack";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub what: What,
    /// What an operation is: `message`, `command`, `session`.
    pub unit: String,
    pub counts: Counts,
    /// Operations that succeeded, a second.
    pub rate: f64,
    pub seconds: f64,
    /// By name; see above.
    pub latency: BTreeMap<String, Spectrum>,
    pub series: Vec<Moment>,
    /// How often each thing went wrong, such as `RCPT 451` or `closed in DATA`.
    pub errors: BTreeMap<String, u64>,
    pub health: Health,
    /// `None` where no process of the server is known.
    pub cost: Option<Cost>,
    /// What `verify` found, if ledgers were compared.
    pub ledger: Option<LedgerCounts>,
    /// Other figures of a command, with the unit at the end of the name, such as `memory_bytes_per_session`.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    pub verdict: Option<Verdict>,
}

/// What ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct What {
    /// Of `loadtest`: `smtp`, `imap`, ...
    pub command: String,
    /// The whole command line.
    pub arguments: Vec<String>,
    /// The server as a reader knows it, such as `Postfix 3.7`, or the address.
    pub target: String,
    /// What a 250 promises there, such as `synced before 250`.
    pub durability: String,
    /// When it began, in seconds since 1970.
    pub started_at: u64,
    pub machine: Machine,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Started, whatever became of them.
    pub started: u64,
    pub succeeded: u64,
    /// Refused or broken.
    pub failed: u64,
    /// Due by the schedule, but the run ended first.
    pub dropped: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Bytes of messages that went out or came in, of those that succeeded.
    pub bytes: u64,
}

/// A second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Which second, counted from the start.
    pub second: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

/// What became of acknowledged messages, each copy counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Copies that were acknowledged: messages times their recipients.
    pub acknowledged: u64,
    /// Of these, copies that came in at least once.
    pub received: u64,
    pub missing: u64,
    /// Copies that came in again.
    pub duplicated: u64,
    /// Copies whose body is not what was sent.
    pub corrupted: u64,
    /// Copies that came in after a later one of the same session.
    pub reordered: u64,
    /// Copies of an acknowledged message beyond those that were acknowledged: for somebody it was not accepted for.
    #[serde(default)]
    pub unexpected: u64,
    /// Copies that came in, but whose acknowledgement never did.
    pub unacknowledged: u64,
}

impl Record {
    /// An empty record of `command`, with this machine and this command line.
    pub fn new(command: &str, unit: &str, target: &str, durability: &str) -> Self {
        let what = What {
            command: command.to_owned(),
            arguments: std::env::args().collect(),
            target: target.to_owned(),
            durability: durability.to_owned(),
            started_at: seconds_since_1970(),
            machine: Machine::here(),
        };
        Self {
            version: VERSION,
            what,
            unit: unit.to_owned(),
            counts: Counts::default(),
            rate: 0.0,
            seconds: 0.0,
            latency: BTreeMap::new(),
            series: Vec::new(),
            errors: BTreeMap::new(),
            health: Health::default(),
            cost: None,
            ledger: None,
            figures: BTreeMap::new(),
            verdict: None,
        }
    }

    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let record: Self = serde_json::from_str(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        match record.version {
            VERSION => Ok(record),
            other => Err(io::Error::other(format!("{}: version {other} of records", path.display()))),
        }
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        fs::write(path, text)
    }

    /// The spectrum that objectives and short summaries mean when they name none.
    pub fn main_latency(&self) -> Option<&Spectrum> {
        [CORRECTED, SERVICE].iter().find_map(|name| self.latency.get(*name)).or(self.latency.values().next())
    }

    /// Of all that were due, the share that failed or was dropped.
    pub fn error_share(&self) -> f64 {
        let bad = self.counts.failed + self.counts.dropped;
        match self.counts.succeeded + bad {
            0 => 0.0,
            all => bad as f64 / all as f64,
        }
    }

    /// A cost divided by what succeeded.
    pub fn each(&self, count: u64) -> f64 {
        count as f64 / self.counts.succeeded.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run.json");
        let mut record = Record::new("smtp", "message", "127.0.0.1:25", "synced before 250");
        record.latency.entry("ack".to_owned()).or_default().record(1234);
        record.errors.insert("RCPT 451".to_owned(), 3);
        (record.counts.succeeded, record.counts.failed, record.counts.dropped) = (7, 1, 2);
        assert_eq!(record.error_share(), 0.3);
        record.write(&path).expect("it is written");
        assert_eq!(Record::read(&path).expect("it is read"), record);
        let text =
            std::fs::read_to_string(&path).expect("a text").replace("\"version\": 1", "\"version\": 9");
        std::fs::write(&path, text).expect("it is written");
        assert!(Record::read(&path).is_err());
    }
}
