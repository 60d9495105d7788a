//! The server of the simulation: two real shards with a log each, started, stopped, killed and cut off.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};

use ringpost::auth::directory::{Directory, NewAccount};
use ringpost::auth::password::{Cost, PasswordRecord};
use ringpost::config::Config;
use ringpost::io::disk::large::LargeFiles;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::prepare::Preparer;
use ringpost::io::events::EventWriter;
use ringpost::io::inbox::Inbox;
use ringpost::io::net::Census;
use ringpost::io::tls::{ClientTls, ServerTls};
use ringpost::io::workers::Workers;
use ringpost::mail::address::Address;
use ringpost::mail::time::Timestamp;
use ringpost::shard::mesh::Letter;
use ringpost::shard::start::{self, Setup, StartError};
use ringpost::store::log::Sizes;

use crate::world::{CLIENTS, Sim, sim};

pub const PASSWORD: &str = "wonderland";
pub const SHARDS: usize = 2;

/// Accounts, with the log that each lies in.
pub const ACCOUNTS: [(&str, u16); 4] = [("alice", 0), ("bob", 1), ("carol", 0), ("dave", 1)];

/// Small, so that logs go on from segment to segment.
const SIZES: Sizes = Sizes {
    segment_bytes_min: 64 << 10,
    segment_bytes_max: 1 << 20,
    batch_bytes: 48 << 10,
    reserve_bytes: 1 << 20,
};

const CONFIG: &str = r#"
hostname = "mail.here.test"

[[listener]]
protocol = "smtp"
address = "127.0.1.1:25"

[[listener]]
protocol = "imap"
address = "127.0.1.1:143"

[[listener]]
protocol = "pop3"
address = "127.0.1.1:110"

[limits]
checkpoint_bytes = 65536

[relay]
allow = ["127.0.0.0/8"]

[queue]
retry_first_s = 1
retry_max_s = 4

[[route]]
domain = "remote.test"
to = ["127.0.2.1:25"]
tls = "never"

[[shaping]]
connections = 2
dead_first_s = 1
dead_max_s = 3
"#;

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, 1], port))
}

/// Keys take long to make, and are the same in all worlds.
fn tls() -> (ServerTls, ClientTls) {
    static TLS: OnceLock<(ServerTls, ClientTls)> = OnceLock::new();
    let made = TLS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Timestamp { seconds: 1_780_000_000, zone_minutes: 0 };
        let server = ServerTls::local(folder.path(), "mail.here.test", now).expect("a certificate");
        (server, ClientTls::open().expect("trust"))
    });
    made.clone()
}

/// What has to be made before a thread enters a world.
pub fn prepare() {
    // What the server has to say, for who looks at one seed.
    if std::env::var_os("RINGPOST_SIM_LOG").is_some() {
        let level = tracing::Level::DEBUG;
        let _ = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).try_init();
    }
    tls();
}

/// The accounts.
pub fn directory() -> Directory {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1, scram_iterations: 1 };
    let password = PasswordRecord::derive(PASSWORD, &[7; 32], cost).expect("a password");
    ACCOUNTS.iter().fold(Directory::new([5; 32]), |directory, (name, log)| {
        let address = Address { local: (*name).to_owned(), domain: "here.test".to_owned() };
        let new = NewAccount { address, log: *log, password: password.clone(), quota_bytes: None };
        directory.add(new).expect("a new account")
    })
}

/// How a life of the server ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// What was not synced is lost, or not, or garbage.
    PowerCut,
    /// What was written stays in the cache.
    Kill,
}

pub struct Server {
    config: Arc<Config>,
    directory: Arc<Directory>,
    events: EventWriter,
    life: Cell<u32>,
    inboxes: RefCell<Vec<Inbox<Letter>>>,
    starting: RefCell<Option<Receiver<Result<(), StartError>>>>,
    started: Cell<usize>,
    state: Rc<Cell<State>>,
    silent: RefCell<Arc<AtomicUsize>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Down,
    Starting,
    Up,
    /// It could not start, or came to its end.
    Failed,
}

impl Server {
    /// `limits` are more lines of that section of the configuration.
    pub fn new(root: &Path, limits: &str) -> Self {
        let text = CONFIG.replace("[limits]\n", &format!("[limits]\n{limits}"));
        let config = Config::parse(&text, "mail.here.test").expect("a good configuration");
        let settings = config.outbound.events.settings(root);
        Self {
            config: Arc::new(config),
            directory: Arc::new(directory()),
            events: EventWriter::start(settings).expect("a thread"),
            life: Cell::new(CLIENTS),
            inboxes: RefCell::default(),
            starting: RefCell::default(),
            started: Cell::new(0),
            state: Rc::new(Cell::new(State::Down)),
            silent: RefCell::default(),
        }
    }

    pub fn state(&self) -> State {
        let heard = self.starting.borrow().as_ref().and_then(|ready| ready.try_recv().ok());
        match heard {
            Some(Ok(())) => {
                self.started.set(self.started.get() + 1);
                if self.started.get() == SHARDS {
                    self.state.set(State::Up);
                }
            }
            Some(Err(_)) => self.state.set(State::Failed),
            None => {}
        }
        self.state.get()
    }

    /// How many times it was started.
    pub fn lives(&self) -> u32 {
        self.life.get()
    }

    /// The inboxes of the shards of this life.
    pub fn inboxes(&self) -> Vec<Inbox<Letter>> {
        self.inboxes.borrow().clone()
    }

    pub fn start(&self) {
        self.life.set(self.life.get() + 1);
        let inboxes: Vec<Inbox<Letter>> = (0..SHARDS).map(|_| Inbox::new()).collect();
        self.inboxes.replace(inboxes.clone());
        self.state.set(State::Starting);
        self.started.set(0);
        let silent = Arc::new(AtomicUsize::new(0));
        self.silent.replace(Arc::clone(&silent));
        let (ready, starting) = channel();
        self.starting.replace(Some(starting));
        let (config, directory) = (Arc::clone(&self.config), Arc::clone(&self.directory));
        let (events, state) = (self.events.door(), Rc::clone(&self.state));
        let boot = async move {
            let world = sim();
            let Ok(data) = DataDir::open(&world.disk.data()) else {
                return state.set(State::Failed);
            };
            let data = Arc::new(data.with_sizes(SIZES));
            let (Ok(preparer), Ok(large_files)) = (Preparer::start(), LargeFiles::start(&data)) else {
                return state.set(State::Failed);
            };
            let hashing = Workers::start("passwords", 0, 8, 0).expect("no threads are needed");
            let (tls, client_tls) = tls();
            let census = Census::new();
            for own in 0..SHARDS {
                let setup = Setup {
                    own,
                    inboxes: inboxes.clone(),
                    config: Arc::clone(&config),
                    addresses: Some(start::reserve(&config).expect("a made world has every address")),
                    tls: tls.clone(),
                    directory: Arc::clone(&directory),
                    data: Arc::clone(&data),
                    preparer: preparer.clone(),
                    large_files: large_files.clone(),
                    hashing: hashing.clone(),
                    census: census.clone(),
                    client_tls: client_tls.clone(),
                    events: events.clone(),
                    memory: (Arc::default(), hashing.clone()),
                    silent: Arc::clone(&silent),
                    is_starting: Arc::default(),
                    ready: ready.clone(),
                };
                world.spawn(world.life(), "shard", start::run(setup));
            }
        };
        sim().spawn(self.life.get(), "boot", boot);
    }

    pub fn stop(&self) {
        self.inboxes.borrow().iter().for_each(|inbox| inbox.post(Letter::Stop));
    }

    pub fn end(&self, sim: &Sim, how: End) {
        sim.end_life(self.life.get());
        self.starting.replace(None);
        self.state.set(State::Down);
        match how {
            End::PowerCut => sim.disk.crash(),
            End::Kill => sim.disk.survive(),
        }
    }
}
