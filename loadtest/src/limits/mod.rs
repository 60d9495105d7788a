//! What this machine can do: the bounds that no server passes, to read every other figure by.
//!
//! Each part measures one kind of work bare, without a server: what a sync takes in each way of writing a log, what
//! loopback and a server that stores nothing cost, how fast memory is copied, searched and checked, how many TLS
//! handshakes a core makes, how fast the disk streams. All of it takes less than a minute. A figure of a server is
//! to be read as a share of these; a sync below 50 us says that the disk, or what stands in for it, may not keep its
//! promises.

mod bare;
mod disk;
mod memory;
mod network;
mod null;
mod sync;
mod tls;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::record::Spectrum;

pub use bare::sync_latency;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Sync,
    Network,
    Memory,
    Tls,
    Disk,
}

/// One figure of the machine.
#[derive(Debug)]
pub struct Bound {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// How long each single one took, where that is known.
    pub latency: Option<Spectrum>,
}

impl Part {
    pub const ALL: [Self; 5] = [Self::Sync, Self::Network, Self::Memory, Self::Tls, Self::Disk];

    pub fn title(self) -> &'static str {
        match self {
            Self::Sync => "one write made durable (p50, p99, worst)",
            Self::Network => "loopback, and a server that stores nothing",
            Self::Memory => "one core on memory",
            Self::Tls => "TLS 1.3 in memory, one core for both ends",
            Self::Disk => "the disk",
        }
    }

    /// Measures it; files are made in `folder` and removed.
    pub fn measure(self, folder: &Path) -> io::Result<Vec<Bound>> {
        match self {
            Self::Sync => sync::measure(folder),
            Self::Network => network::measure(),
            Self::Memory => Ok(memory::measure()),
            Self::Tls => tls::measure(),
            Self::Disk => disk::measure(folder),
        }
    }
}

impl Bound {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, latency: None }
    }

    fn with_latency(self, latency: Spectrum) -> Self {
        Self { latency: Some(latency), ..self }
    }
}

fn record(latency: &mut Spectrum, began: Instant) {
    latency.record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

/// Processor time of the calling thread.
fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Processor time of this process.
fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}
