//! All shards of a server, as the thread that started them sees them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;

use futures_lite::future::block_on;
use glommio::ExecutorJoinHandle;

use super::mesh::{self, Letter};
use super::outbound;
use super::start::{self, Addresses, Setup, StartError};
use crate::auth::Directory;
use crate::config::Config;
use crate::io::disk::large::LargeFiles;
use crate::io::disk::layout::DataDir;
use crate::io::disk::prepare::Preparer;
use crate::io::events::EventWriter;
use crate::io::executor;
use crate::io::inbox::Inbox;
use crate::io::net::Census;
use crate::io::ring::{self, RingError};
use crate::io::tls::{ClientTls, ServerTls};
use crate::io::workers::Workers;
use crate::queue::memory::Memory;
use crate::store::LogId;

/// Logins that wait for a hashing thread; more are refused for the moment.
const HASHING_WAITING_MAX: usize = 256;

/// Who is in goes before those who want in.
const HASHING_NICENESS: i32 = 10;

/// A server with all its shards, as it is talked to; clones talk to the same.
#[derive(Clone)]
pub struct Server {
    inboxes: Arc<[Inbox<Letter>]>,
}

/// The threads of a server's shards.
pub struct Threads {
    shards: Vec<ExecutorJoinHandle<()>>,
    events: EventWriter,
}

/// What a server is made of.
pub struct Parts {
    pub config: Arc<Config>,
    pub tls: ServerTls,
    pub client_tls: ClientTls,
    pub directory: Arc<Directory>,
    pub data: Arc<DataDir>,
    pub shards: usize,
    /// For each shard; `None` for work on the store alone, such as an import.
    pub addresses: Option<Vec<Addresses>>,
    /// Becomes false before the first connection is taken.
    pub is_starting: Arc<AtomicBool>,
}

/// Why there is no server.
#[derive(Debug)]
pub enum ServerError {
    Ring(RingError),
    Executor(String),
    Shard(StartError),
}

/// The addresses of so many shards, which nobody else has.
pub fn reserve(config: &Config, shards: usize) -> Result<Vec<Addresses>, ServerError> {
    start::check_free(config).map_err(ServerError::Shard)?;
    (0..shards).map(|_| start::reserve(config)).collect::<Result<_, _>>().map_err(ServerError::Shard)
}

impl Server {
    /// Starts all shards; returns when all of them serve.
    pub fn start(parts: Parts) -> Result<(Self, Threads), ServerError> {
        ring::check(ring::raise_limits()).map_err(ServerError::Ring)?;
        let Parts { config, tls, client_tls, directory, data, shards, addresses, is_starting } = parts;
        let listens = addresses.is_some();
        let mut addresses = addresses.into_iter().flatten();
        let cpus = executor::allowed_cpus();
        let pinned = shards <= cpus.len();
        if !pinned {
            tracing::warn!(shards, cpus = cpus.len(), "more shards than processors: none is pinned");
        }
        let inboxes: Vec<Inbox<Letter>> = (0..shards).map(|_| Inbox::new()).collect();
        let preparer = Preparer::start().map_err(|error| ServerError::Shard(StartError::Disk(error)))?;
        let large_files =
            LargeFiles::start(&data).map_err(|error| ServerError::Shard(StartError::Disk(error)))?;
        let threads = cpus.len().div_ceil(2);
        let hashing = Workers::start("passwords", threads, HASHING_WAITING_MAX, HASHING_NICENESS)
            .map_err(|error| ServerError::Executor(error.to_string()))?;
        let census = Census::new();
        let events = EventWriter::start(config.outbound.events.settings(&config.data))
            .map_err(|error| ServerError::Shard(StartError::Disk(error)))?;
        let memory =
            Arc::new(if listens { outbound::memory::read_all(data.path()) } else { Memory::default() });
        let notes = Workers::start("notes", 1, shards * 2, 0)
            .map_err(|error| ServerError::Executor(error.to_string()))?;
        let silent = Arc::new(AtomicUsize::new(0));
        let (ready, is_ready) = channel();
        let mut threads = Vec::new();
        let mut pulses = Vec::new();
        let cpus = if pinned { cpus } else { Vec::new() };
        for own in 0..shards {
            let setup = Setup {
                own,
                inboxes: inboxes.clone(),
                config: Arc::clone(&config),
                addresses: addresses.next(),
                tls: tls.clone(),
                directory: Arc::clone(&directory),
                data: Arc::clone(&data),
                preparer: preparer.clone(),
                large_files: large_files.clone(),
                hashing: hashing.clone(),
                census: census.clone(),
                client_tls: client_tls.clone(),
                events: events.door(),
                memory: (Arc::clone(&memory), notes.clone()),
                silent: Arc::clone(&silent),
                is_starting: Arc::clone(&is_starting),
                ready: ready.clone(),
            };
            let cpu = cpus.get(own).copied();
            let (thread, pulse) = executor::start(&format!("shard-{own}"), cpu, move |_| start::run(setup))
                .map_err(|error| ServerError::Executor(error.to_string()))?;
            threads.push(thread);
            pulses.push(pulse);
        }
        drop(ready);
        std::thread::spawn(move || executor::watch(pulses));
        for _ in 0..shards {
            match is_ready.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(ServerError::Shard(error)),
                Err(_) => return Err(ServerError::Executor("a shard ended before it served".to_owned())),
            }
        }
        if listens {
            outbound::memory::forget_others(data.path(), shards);
        }
        Ok((Self { inboxes: inboxes.into() }, Threads { shards: threads, events }))
    }

    /// Gives all shards a new snapshot; returns when each serves by it.
    pub fn publish(&self, directory: &Arc<Directory>) {
        let taken = Inbox::new();
        for inbox in &*self.inboxes {
            inbox.post(Letter::Directory(Arc::clone(directory), taken.clone()));
        }
        for _ in &*self.inboxes {
            block_on(taken.next());
        }
    }

    /// Certificates and configuration were read again.
    pub fn reload(&self, config: &Arc<Config>, tls: &ServerTls) {
        for inbox in &*self.inboxes {
            inbox.post(Letter::Reload(Arc::clone(config), tls.clone()));
        }
    }

    pub fn post(&self, shard: usize, letter: Letter) {
        self.inboxes[shard].post(letter);
    }

    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Which shard drives a log.
    pub fn driver_of(&self, log: LogId) -> usize {
        mesh::driver_of(log, self.inboxes.len())
    }

    /// Tells all shards to finish what was promised and end; may be called from any thread, once.
    pub fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.post(Letter::Stop));
    }
}

impl Threads {
    /// Lets the shards end with the process. Events are written until the writer is dropped.
    pub fn detach(self) -> EventWriter {
        self.events
    }

    /// Waits for all shards to end. False if one of them died.
    pub fn join(self) -> bool {
        let Self { shards, events } = self;
        let ended: Vec<bool> = shards.into_iter().map(|thread| thread.join().is_ok()).collect();
        drop(events);
        !ended.contains(&false)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => write!(f, "{error}"),
            Self::Executor(error) => write!(f, "an executor cannot start: {error}"),
            Self::Shard(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ServerError {}
