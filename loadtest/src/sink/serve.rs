//! A sink's threads, and what they counted.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{self, Clock, Ports, Waiting};
use crate::ledger::Durability;
use crate::sink::Conduct;
use crate::sink::receiver::Receiver;

/// It serves until it is stopped or dropped.
pub struct Sink {
    address: SocketAddr,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What has come so far.
#[derive(Default)]
pub struct Counts {
    pub connections: AtomicU64,
    pub messages: AtomicU64,
    pub copies: AtomicU64,
    pub bytes: AtomicU64,
    pub corrupted: AtomicU64,
    /// Messages without a mark, which are none of ours.
    pub unmarked: AtomicU64,
    pub(super) stop: AtomicBool,
    /// How often what was refused or broken off.
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().map(|refused| refused.clone()).unwrap_or_default()
    }

    pub(super) fn refuse(&self, what: &str) {
        if let Ok(mut refused) = self.refused.lock() {
            *refused.entry(what.to_owned()).or_default() += 1;
        }
    }
}

/// A slow reader reads in so many pieces a second.
const READS_A_SECOND: usize = 20;

/// How often a thread looks whether it is to stop.
pub(super) const LOOK: Duration = Duration::from_millis(50);

impl Sink {
    /// Port 0 takes a free one.
    pub fn start(
        address: SocketAddr,
        conduct: Conduct,
        ledger: Option<(PathBuf, Durability)>,
        threads: usize,
    ) -> io::Result<Self> {
        let (counts, clock, conduct) = (Arc::new(Counts::default()), Clock::start(), Arc::new(conduct));
        let mut sink = Self { address, counts, threads: Vec::new() };
        for index in 0..threads.max(1) {
            let mut ports = Ports::new(clock)?;
            let listener = ports.listen(sink.address, 4096)?;
            sink.address = ports.local_address(listener).unwrap_or(address);
            if let Some(rate) = conduct.read_rate {
                ports.read_at_most(rate / READS_A_SECOND);
            }
            let ledger = ledger.as_ref().map(|(path, durability)| (path.as_path(), *durability));
            let mut receiver =
                Receiver::new(Arc::clone(&conduct), Arc::clone(&sink.counts), ledger, index as u64)?;
            sink.threads.push(thread::Builder::new().name(format!("sink-{index}")).spawn(move || {
                engine::run(&mut receiver, &mut ports, Waiting::Punctual(Duration::ZERO))?;
                receiver.end()
            })?);
        }
        Ok(sink)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Messages that were answered with 250.
    pub fn taken(&self) -> u64 {
        self.counts.messages.load(Ordering::Relaxed)
    }

    /// Waits for so many messages in all.
    pub fn wait(&self, count: u64) -> io::Result<()> {
        let (mut last, mut moved) = (self.taken(), Instant::now());
        while last < count {
            thread::sleep(Duration::from_millis(5));
            let now = self.taken();
            if now > last {
                (last, moved) = (now, Instant::now());
            } else if moved.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other(format!("the sink got {last} of {count} messages and no more")));
            }
        }
        Ok(())
    }

    /// Ends its threads; ledgers are written then.
    pub fn stop(mut self) -> io::Result<()> {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a sink panicked"))??;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
    }
}
