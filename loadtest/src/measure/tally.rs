//! What one thread has counted.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use crate::record::{ACK, CORRECTED, Counts, Record, SERVICE, Spectrum};

/// Counts and latencies of a thread's operations.
#[derive(Default)]
pub struct Tally {
    pub counts: Counts,
    /// From when it should have started; empty in a closed loop, where nobody says when that is.
    pub corrected: Spectrum,
    pub service: Spectrum,
    pub ack: Spectrum,
    /// From dialling to the greeting, or to the end of the TLS handshake where that comes later.
    pub connect: Spectrum,
    /// How late the generator saw that something was due.
    pub lag: Spectrum,
    pub errors: BTreeMap<String, u64>,
    beat: Beat,
    listener: Option<Sender<Beat>>,
}

/// What happened in one second.
#[derive(Clone, Default)]
pub struct Beat {
    pub second: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub latency: Spectrum,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Tally {
    /// Whoever has the other end is told of every second that is over.
    pub fn told_to(listener: Sender<Beat>) -> Self {
        Self { listener: Some(listener), ..Self::default() }
    }

    /// An operation succeeded; `since_begin` is the time of the run.
    pub fn succeed(&mut self, latency_ns: u64, since_begin: u64) {
        self.turn(since_begin);
        self.counts.succeeded += 1;
        self.beat.succeeded += 1;
        self.beat.latency.record(latency_ns);
    }

    pub fn fail(&mut self, what: &str, since_begin: u64) {
        self.turn(since_begin);
        self.counts.failed += 1;
        self.beat.failed += 1;
        self.note(what);
    }

    /// Something went wrong that is no failed operation of its own.
    pub fn note(&mut self, what: &str) {
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(what.to_owned(), 1)),
        }
    }

    /// Tells of the second before if it is over.
    pub fn turn(&mut self, since_begin: u64) {
        let second = since_begin / SECOND_NS;
        if second == self.beat.second {
            return;
        }
        let is_empty = self.beat.succeeded + self.beat.failed == 0;
        if let Some(listener) = self.listener.as_ref().filter(|_| !is_empty) {
            // Nobody may want to know any more.
            let _ = listener.send(self.beat.clone());
        }
        self.beat.succeeded = 0;
        self.beat.failed = 0;
        self.beat.latency.clear();
        self.beat.second = second;
    }

    /// The last second is over, whatever the clock says.
    pub fn end(&mut self) {
        self.turn(u64::MAX);
        self.listener = None;
    }

    pub fn add(&mut self, other: &Self) {
        let (own, others) = (&mut self.counts, &other.counts);
        own.started += others.started;
        own.succeeded += others.succeeded;
        own.failed += others.failed;
        own.dropped += others.dropped;
        own.connections += others.connections;
        own.bytes += others.bytes;
        self.corrected.add(&other.corrected);
        self.service.add(&other.service);
        self.ack.add(&other.ack);
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
    }

    /// Puts everything into a record of a run of so many seconds.
    pub fn fill(&self, record: &mut Record, seconds: f64) {
        record.counts = self.counts;
        record.seconds = seconds;
        record.rate = self.counts.succeeded as f64 / seconds.max(1e-9);
        record.errors.clone_from(&self.errors);
        for (name, spectrum) in [
            (CORRECTED, &self.corrected),
            (SERVICE, &self.service),
            (ACK, &self.ack),
            ("connect", &self.connect),
        ] {
            if spectrum.count() > 0 {
                record.latency.insert(name.to_owned(), spectrum.clone());
            }
        }
    }
}
