//! What all rows stand on: sizes, folders, the sink, and where servers and load run.
//!
//! With two processors or more the load keeps to one half of them and the servers to the other, so that what is
//! measured of a server is not what the load left of it. The sink belongs to the load.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::compare::row::Samples;
use crate::compare::server::{AuthCache, End, Mode, Running, Scripts, Server, Setup, account};
use crate::cost::{Calls, Cost, Meter, mount_tracepoints};
use crate::interrupt::{Undo, undo_by};
use crate::sink::{Conduct, Sink};

/// How large everything is.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub name: &'static str,
    pub repetitions: usize,
    /// How long a closed loop goes on.
    pub seconds: f64,
    /// Kept connections that mail is accepted over.
    pub sessions: Vec<usize>,
    /// Accounts that mail goes to.
    pub accounts: usize,
    /// Messages relayed by a fast server; slow ones get a part of them.
    pub relayed: usize,
    /// Messages in the large mailbox.
    pub listed: usize,
    /// Mailboxes that grow.
    pub grown: Vec<usize>,
    /// Messages and bytes of each, for SEARCH.
    pub searched: Vec<(usize, usize)>,
    pub idle: Vec<usize>,
    /// Bytes of mail behind a start.
    pub stored: Vec<u64>,
    /// Accounts that log in once each.
    pub logins: usize,
    /// Bytes of mail in a round while writes are counted.
    pub written: u64,
}

pub struct Bench {
    pub sizes: Sizes,
    pub scripts: Scripts,
    /// Data sets and what the servers keep.
    pub folder: PathBuf,
    pub sink: Sink,
    pub sink_address: SocketAddr,
    halves: Halves,
    /// Of whatever runs in the folder.
    _undo: Undo,
}

/// Processors of the servers, and how many; without a second half, all of them.
struct Halves {
    servers: Option<String>,
    servers_count: usize,
    /// Of the load, and all.
    load: CpuSet,
    all: CpuSet,
}

/// What is written after the last reply still is the cost of the messages.
pub const SETTLE: Duration = Duration::from_millis(400);

impl Sizes {
    pub fn full() -> Self {
        Self {
            name: "full",
            repetitions: 5,
            seconds: 3.0,
            sessions: vec![1, 16, 64, 256],
            accounts: 100,
            relayed: 20_000,
            listed: 100_000,
            grown: vec![1_000, 10_000, 100_000, 1_000_000],
            searched: vec![(10_000, 4096), (100_000, 20_480)],
            idle: vec![500, 10_000],
            stored: vec![1_000_000_000, 10_000_000_000],
            logins: 100,
            written: 500_000_000,
        }
    }

    pub fn quick() -> Self {
        Self {
            name: "quick",
            repetitions: 3,
            seconds: 1.0,
            sessions: vec![1, 64],
            accounts: 20,
            relayed: 4_000,
            listed: 10_000,
            grown: vec![1_000, 10_000],
            searched: vec![(2_000, 4096)],
            idle: vec![500],
            stored: vec![100_000_000],
            logins: 20,
            written: 60_000_000,
        }
    }

    /// As small as it can be: that everything works, and no more.
    pub fn tiny() -> Self {
        Self {
            name: "tiny",
            repetitions: 1,
            seconds: 0.3,
            sessions: vec![1, 16, 64, 256],
            accounts: 10,
            relayed: 200,
            listed: 300,
            grown: vec![100, 300],
            searched: vec![(300, 4096)],
            idle: vec![40],
            stored: vec![2_000_000],
            logins: 3,
            written: 4_000_000,
        }
    }

    /// In words, for whoever reads a result.
    pub fn words(&self) -> String {
        format!("{} sizes, {} repetitions of {} s", self.name, self.repetitions, self.seconds)
    }
}

impl Bench {
    pub fn open(sizes: Sizes, scripts: Scripts, folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        end_leftovers(&scripts, folder)?;
        if let Err(error) = mount_tracepoints() {
            eprintln!("syncs will not be counted: {error}");
        }
        let halves = Halves::split()?;
        let sink_address = SocketAddr::from(([127, 71, 9, 1], 2525));
        // Its threads stay on the half of the load.
        let sink = Sink::start(
            sink_address,
            Conduct { hostname: "sink.test".to_owned(), ..Conduct::default() },
            None,
            1,
        )?;
        let undo = {
            let (scripts, folder) = (scripts.clone(), folder.to_owned());
            undo_by(move || {
                if let Err(error) = end_leftovers(&scripts, &folder) {
                    eprintln!("{error}");
                }
            })
        };
        Ok(Self { sizes, scripts, folder: folder.to_owned(), sink, sink_address, halves, _undo: undo })
    }

    pub fn setup(&self, mode: Mode) -> Setup {
        Setup {
            mode,
            address: None,
            accounts: self.sizes.accounts,
            names: Vec::new(),
            cpus: self.halves.servers.clone(),
            cores: self.halves.servers_count,
            connections: 600,
            hash: None,
            auth_cache: AuthCache::Off,
            sink: self.sink_address,
        }
    }

    /// Does `work` on all processors; a server that it starts without being told of processors has them all, too.
    pub fn on_all<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        sched_setaffinity(None, &self.halves.all)?;
        let given = work();
        sched_setaffinity(None, &self.halves.load)?;
        given
    }

    /// Starts a server that has nothing yet.
    pub fn start_fresh(&self, server: Server, setup: &Setup) -> io::Result<Running> {
        let folder = self.folder.join("fresh").join(server.key());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        self.scripts.start(server, &folder, setup)
    }

    /// Removes what servers had that began with nothing.
    pub fn end(self) -> io::Result<()> {
        match fs::remove_dir_all(self.folder.join("fresh")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where a server keeps the mailboxes of a data set.
    pub fn kept_folder(&self, server: Server, set: &str) -> PathBuf {
        self.folder.join("kept").join(set).join(server.key())
    }

    pub fn recipients(&self) -> Arc<Vec<String>> {
        Arc::new((0..self.sizes.accounts).map(account).collect())
    }

    /// What the server spends while `work` is done, and what that gave.
    pub fn metered<T>(
        &self,
        running: &Running,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Cost)> {
        let meter = Meter::start(&[running.pid], Some(&self.folder), Calls::NotCounted)?;
        let given = work()?;
        std::thread::sleep(SETTLE);
        Ok((given, meter.stop()?))
    }
}

/// Ends servers of a comparison that was interrupted.
fn end_leftovers(scripts: &Scripts, folder: &Path) -> io::Result<()> {
    let mut sets = vec![folder.join("fresh")];
    if let Ok(kept) = fs::read_dir(folder.join("kept")) {
        sets.extend(kept.flatten().map(|set| set.path()));
    }
    for server in Server::ALL {
        for set in &sets {
            let own = set.join(server.key());
            if own.join("pid").exists() {
                scripts.stop(server, &own, End::Clean)?;
            }
        }
    }
    Ok(())
}

impl Halves {
    /// Moves this process, and all threads that it starts, to the second half.
    fn split() -> io::Result<Self> {
        let count = std::thread::available_parallelism()?.get();
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        if numbers.len() < 2 {
            return Ok(Self { servers: None, servers_count: count, load: allowed, all: allowed });
        }
        let (servers, of_load) = numbers.split_at(numbers.len() / 2);
        let mut load = CpuSet::new();
        of_load.iter().for_each(|cpu| load.set(*cpu));
        sched_setaffinity(None, &load)?;
        let list = servers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Ok(Self { servers: Some(list), servers_count: servers.len(), load, all: allowed })
    }
}

/// Names of measures beside their values.
pub fn samples<const N: usize>(named: [(&str, f64); N]) -> Samples {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Adds a value that may not have been counted.
pub fn add(samples: &mut Samples, name: &str, value: Option<f64>) {
    if let Some(value) = value {
        samples.insert(name.to_owned(), value);
    }
}
