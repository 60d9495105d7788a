//! The life of a shard: logs read back, listeners opened, letters answered, and the way down.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::alarm::Alarm;
use super::checkpoint::Keeper;
use super::clean::Cleaner;
use super::commit::{Around, Commit};
use super::cut::Cuts;
use super::hold::Held;
use super::login::Turns;
use super::mesh::{Letter, Mesh};
use super::notify::Bells;
use super::outbound::memory::Remembered;
use super::outbound::sites::Sites;
use super::outbound::{self, Outbound};
use super::remake;
use super::restore::Loading;
use super::seat::{Seat, Seats};
use super::told::Telling;
use super::{Shard, accept, session};
use crate::auth::{Directory, LoginCache, Throttle};
use crate::config::{self, Config};
use crate::io::disk::DiskError;
use crate::io::disk::indexer::Indexer;
use crate::io::disk::large::{LargeFiles, remove_orphans};
use crate::io::disk::layout::DataDir;
use crate::io::disk::open::{Begin, open_log};
use crate::io::disk::prepare::Preparer;
use crate::io::disk::reader::Reader;
use crate::io::dns::Resolver;
use crate::io::events::{EventDoor, EventLog};
use crate::io::executor::{sleep, spawn, spawn_sharing, spawn_vital};
use crate::io::inbox::Inbox;
use crate::io::net::{Census, Deadlines, Listener, Reserved, Sockets};
use crate::io::tls::{ClientTls, ServerTls};
use crate::io::workers::Workers;
use crate::io::{clock, random};
use crate::mailbox::account::{Account, Quota};
use crate::queue::memory::Memory;
use crate::queue::policy::Part;
use crate::queue::sources::Sources;
use crate::store::recover::Damage;
use crate::store::{AccountId, LogId};

/// How long sessions may take to end when the server stops.
const STOP_MAX: Duration = Duration::from_secs(10);

/// For each listener an address where a shard will listen.
pub type Addresses = Vec<(Reserved, config::Listener)>;

/// What a shard is made of.
pub struct Setup {
    pub own: usize,
    pub inboxes: Vec<Inbox<Letter>>,
    pub config: Arc<Config>,
    /// Where connections are taken; `None` where no mail is to be served.
    pub addresses: Option<Addresses>,
    pub tls: ServerTls,
    pub directory: Arc<Directory>,
    pub data: Arc<DataDir>,
    pub preparer: Preparer,
    pub large_files: LargeFiles,
    pub hashing: Workers,
    pub census: Census,
    pub client_tls: ClientTls,
    pub events: EventDoor,
    /// What was known before the start, and who writes it down further.
    pub memory: (Arc<Memory>, Workers),
    /// Shards that send nothing any more, on their way down.
    pub silent: Arc<AtomicUsize>,
    /// Until the first connection may be taken.
    pub is_starting: Arc<AtomicBool>,
    /// Told once, when the shard serves or cannot.
    pub ready: Sender<Result<(), StartError>>,
}

/// Why a shard cannot serve.
#[derive(Debug)]
pub enum StartError {
    Disk(DiskError),
    Ring(io::Error),
    Listen(SocketAddr, io::Error),
}

/// Runs a shard until it is told to stop.
pub async fn run(setup: Setup) {
    let ready = setup.ready.clone();
    let (listens, silent) = (setup.addresses.is_some(), Arc::clone(&setup.silent));
    let (memory, is_starting) = (Arc::clone(&setup.memory.0), Arc::clone(&setup.is_starting));
    let (listeners, shard) = match start(setup).await {
        Ok(started) => started,
        Err(error) => {
            // If nobody listens any more the server is on its way down already.
            let _ = ready.send(Err(error));
            return;
        }
    };
    spawn_vital("clock", tick(Rc::clone(&shard)));
    // Only what was owed before: what is accepted from now on is sent out when it is durable.
    let owed = shard.owed_to_accounts();
    if listens {
        shard.recall(&memory);
    }
    for keeper in &shard.keepers {
        spawn("checkpoint", Rc::clone(keeper).run(Rc::clone(&shard)));
    }
    for cleaner in &shard.cleaners {
        spawn("clean", Rc::clone(cleaner).run(Rc::clone(&shard)));
    }
    if listens {
        spawn_vital("queue", outbound::home::run(Rc::clone(&shard)));
        spawn_vital("sweep", outbound::sweep::run(Rc::clone(&shard)));
        spawn_vital("memory", outbound::memory::run(Rc::clone(&shard)));
    }
    is_starting.store(false, Ordering::Relaxed);
    for (listener, config) in listeners {
        spawn_vital("accept", accept::run(Rc::clone(&shard), listener, config));
    }
    // Nobody who connects waits for what follows.
    spawn("owed", Rc::clone(&shard).send_out_all(owed));
    if listens {
        // Before anybody removes what shards wrote that there are no more.
        shard.remember().await;
    }
    let _ = ready.send(Ok(()));
    read_letters(&shard).await;
    // Outcomes of what is under way still come, from here and from other shards.
    let reading = Rc::clone(&shard);
    spawn("letters", async move { read_letters(&reading).await });
    shard.wind_down(&silent).await;
}

async fn start(setup: Setup) -> Result<(Vec<(Listener, config::Listener)>, Rc<Shard>), StartError> {
    let sockets = Sockets::open().map_err(StartError::Ring)?;
    let seats = Rc::new(Seats::default());
    let bells = Rc::new(Bells::default());
    let alarm = Rc::new(Alarm::default());
    let mesh = Mesh::new(&setup.inboxes, setup.own);
    let (mut logs, mut keepers) = (Vec::new(), Vec::new());
    for id in own_logs(&setup.data, &setup.directory, &mesh).map_err(StartError::Disk)? {
        let around = Around {
            others: mesh.shards() - 1,
            preparer: setup.preparer.clone(),
            large_files: setup.large_files.clone(),
            sockets: sockets.clone(),
            seats: Rc::clone(&seats),
            bells: Rc::clone(&bells),
            alarm: Rc::clone(&alarm),
        };
        let (commit, keeper) = load(&setup.data, id, around).map_err(StartError::Disk)?;
        logs.push(commit);
        keepers.push(keeper);
    }
    let cleaners = logs.iter().zip(&keepers);
    let cleaners =
        cleaners.map(|(commit, keeper)| Cleaner::new(Rc::clone(commit), Rc::clone(keeper))).collect();
    let listeners = listen(setup.addresses.unwrap_or_default(), &sockets)?;
    let part = Part { index: clamp(setup.own), of: clamp(setup.inboxes.len()) };
    let sources = Sources::new(&setup.config.outbound.sources, part, clock::now());
    let outbound = Outbound::new(
        alarm,
        (Sites::new(sources), Remembered::new(setup.data.path().to_owned(), setup.memory.1)),
        Resolver::new(setup.config.dns.clone()),
        setup.client_tls,
        EventLog::new(setup.events),
    );
    let shard = Rc::new(Shard {
        mesh,
        bells,
        deadlines: Deadlines::default(),
        sockets,
        census: setup.census,
        hashing: setup.hashing,
        reader: Reader::new(&setup.data),
        outbound,
        config: RefCell::new(setup.config),
        tls: RefCell::new(setup.tls),
        directory: RefCell::new(Arc::clone(&setup.directory)),
        logs,
        keepers,
        cleaners,
        seats,
        throttle: RefCell::new(Throttle::default()),
        logins: RefCell::new(LoginCache::new(&random::bytes())),
        hashed_now: Turns::default(),
        judged_now: Turns::default(),
        stopping: Cell::new(false),
        sessions: Cell::new(0),
        held: Held::default(),
        telling: Telling::default(),
        cuts: Cuts::default(),
    });
    shard.take_directory(setup.directory).await;
    Ok((listeners, shard))
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).expect("shards are counted in cores")
}

/// The logs that this shard drives, its own first: those that are there and those that accounts name. Any that
/// is not there is made.
fn own_logs(data: &DataDir, directory: &Directory, mesh: &Mesh) -> Result<Vec<LogId>, DiskError> {
    let own = LogId(u16::try_from(mesh.own()).expect("shards are counted in cores"));
    let named = directory.accounts().map(|account| LogId(account.log));
    let known: BTreeSet<LogId> = data.logs()?.into_iter().chain(named).collect();
    let others = known.into_iter().filter(|&id| id != own && mesh.is_own(id));
    Ok(std::iter::once(own).chain(others).collect())
}

/// What was promised and is gone.
pub(super) fn tell_damage(log: LogId, damage: &[Damage]) {
    for Damage { segment, offset, first, last, .. } in damage {
        tracing::error!(
            log = log.0,
            segment,
            offset,
            first = first.0,
            last = last.0,
            "these records are damaged and lost, all others are there; `ringpost store verify` says whose mail it hit, \
             `ringpost store repair` puts it aside"
        );
    }
}

/// Reads a log back and seats its accounts.
fn load(data: &DataDir, id: LogId, around: Around) -> Result<(Rc<Commit>, Rc<Keeper>), DiskError> {
    let begin = |begin: Begin<'_>| match begin {
        Begin::Checkpoint(index) => {
            let restored = Loading::restore(id, index, &remake::for_index(index));
            if restored.is_none() {
                tracing::warn!(log = id.0, "the index is not good; it is made again from the log");
            }
            restored
        }
        Begin::Base(parts) => Loading::restore_base(id, parts),
        Begin::Nothing => Some(Loading::empty(id)),
    };
    let (opened, mut loading) = open_log(data, id, begin, Loading::replay)?;
    let lost_records = loading.allow_for(&opened.damage);
    let files = &opened.writer.dir().files;
    files.change_places(|places| *places = loading.places);
    let named: HashSet<u64> = files.with_places(|places| places.files().map(|(_, number)| number).collect());
    around.large_files.begin_above(named.iter().copied().max().unwrap_or(0));
    // Where records are lost, nobody can say that a file is nobody's.
    if opened.damage.is_empty() {
        remove_orphans(opened.writer.dir(), &named)?;
    }
    let replayed = loading.replayed;
    let with_checkpoint = opened.index.directory().is_some();
    tracing::info!(log = id.0, records = replayed, with_checkpoint, "a log was read back");
    tell_damage(id, &opened.damage);
    let seats = Rc::clone(&around.seats);
    let commit = Commit::new(opened.log, opened.writer, (loading.owed, lost_records), around);
    for loaded in loading.accounts.into_values() {
        let seat = Seat::new(loaded.account, Rc::clone(&commit));
        loaded.changed.into_iter().for_each(|mailbox| seat.mark(mailbox));
        seats.insert(seat);
    }
    let found = opened.index.directory().cloned();
    let indexer = Indexer::start(data, opened.index)?;
    let keeper = Keeper::new(Rc::clone(&commit), seats, indexer, (found.as_ref(), replayed));
    if lost_records > 0 {
        keeper.checkpoint_soon();
    }
    Ok((commit, Rc::new(keeper)))
}

/// Fails if a listener's address is taken, before any is reserved.
pub fn check_free(config: &Config) -> Result<(), StartError> {
    let check = |address| Reserved::check_free(address).map_err(|error| StartError::Listen(address, error));
    config.listeners.iter().try_for_each(|listener| check(listener.address))
}

/// The addresses of one shard. Ports under 1024 take privileges, which what follows does not need.
pub fn reserve(config: &Config) -> Result<Addresses, StartError> {
    let bind = |listener: &config::Listener| {
        let bound = Reserved::bind(listener.address);
        bound.map(|bound| (bound, *listener)).map_err(|error| StartError::Listen(listener.address, error))
    };
    config.listeners.iter().map(bind).collect()
}

fn listen(addresses: Addresses, sockets: &Sockets) -> Result<Vec<(Listener, config::Listener)>, StartError> {
    let open = |(reserved, listener): (Reserved, config::Listener)| {
        let opened = Listener::open(reserved, sockets);
        opened.map(|opened| (opened, listener)).map_err(|error| StartError::Listen(listener.address, error))
    };
    addresses.into_iter().map(open).collect()
}

/// Once a second: deadlines, records that nobody waits for, and messages whose time has come.
async fn tick(shard: Rc<Shard>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        shard.deadlines.sweep(clock::instant());
        shard.logs().iter().for_each(|commit| commit.nudge());
        shard.release_held();
        shard.reader.forget_freed();
    }
}

async fn read_letters(shard: &Rc<Shard>) {
    let mut is_over = false;
    while !is_over {
        for letter in shard.mesh.own_inbox().take().await {
            match letter {
                Letter::Deliver(deliver) => {
                    shard.cut(deliver.cut);
                    shard.start_delivery(deliver);
                }
                Letter::Delivered(delivered) => {
                    shard.cut(delivered.cut);
                    shard.delivered(delivered);
                }
                Letter::Work(work) => shard.take_work(*work),
                Letter::Pull(pull) => shard.answer_pull(pull),
                Letter::Jobs(jobs) => shard.take_jobs_of(jobs),
                Letter::Report(report) => shard.take_report(&report),
                Letter::Back { log, item } => shard.take_home(log, item),
                Letter::Blocked(blocked) => shard.outbound().destinations().set_blocked(blocked),
                Letter::Slot(letter) => shard.take_slot_letter(letter),
                Letter::TryNow(site) => shard.try_site(&site),
                Letter::Session(moved) => {
                    // From now on: a server that stops waits for it.
                    let session = shard.count_session();
                    spawn_sharing("session", session::resume(Rc::clone(shard), *moved, session));
                }
                Letter::Directory(directory, taken) => {
                    let shard = Rc::clone(shard);
                    spawn("directory", async move {
                        shard.take_directory(directory).await;
                        taken.post(());
                    });
                }
                Letter::Reload(config, tls) => shard.reload(config, tls),
                Letter::Declare(home, to) => spawn("declare", Rc::clone(shard).declare(home, to)),
                Letter::Control(request) => spawn("control", Rc::clone(shard).answer(request)),
                // What came along is taken, too: an outcome among it is written by nobody else.
                Letter::Stop => is_over = true,
            }
        }
    }
}

impl Shard {
    /// Goes on with a new snapshot of accounts, aliases and domains; returns when new accounts have their
    /// mailboxes.
    pub async fn take_directory(self: &Rc<Self>, directory: Arc<Directory>) {
        *self.directory.borrow_mut() = Arc::clone(&directory);
        for seat in self.seats.all() {
            seat.set_gone(!directory.is_open(seat.id().0));
        }
        let default_quota = self.config.borrow().limits.account_bytes;
        let mut is_any_new = false;
        for account in directory.accounts() {
            let log = LogId(account.log);
            if !self.mesh.is_own(log) {
                continue;
            }
            let Some((seat, is_new)) = self.begin_seat(AccountId(account.id), log) else {
                continue;
            };
            is_any_new |= is_new;
            let bytes_max = account.quota_bytes.or(default_quota);
            seat.account_mut().set_quota(Quota { bytes_max, messages_max: None });
            seat.publish_usage(&account.usage);
        }
        if is_any_new {
            // What fails is tried again with the first mail for the account.
            for commit in self.logs() {
                let _ = commit.barrier().await;
            }
        }
    }

    /// The account's seat at this shard, made with its first mailboxes if there is none. `None` if this shard
    /// does not drive the log, or cannot write to it, or if the account was purged.
    pub async fn open_seat(&self, account: AccountId, log: LogId) -> Option<Rc<Seat>> {
        let (seat, is_new) = self.begin_seat(account, log)?;
        if is_new {
            // Somebody else may have planned the mailboxes just before.
            seat.commit().barrier().await.ok()?;
            seat.account().named("INBOX")?;
        }
        Some(seat)
    }

    /// As [`Shard::open_seat`], without waiting; and whether its first mailboxes are still to become durable.
    fn begin_seat(&self, account: AccountId, log: LogId) -> Option<(Rc<Seat>, bool)> {
        let commit = self.log(log)?;
        // Whoever asks may have looked before a purge, behind which there is nothing of the account.
        self.directory().account(account.0)?;
        let seat = self.seats.seat(account).unwrap_or_else(|| {
            let mut new = Account::new(account);
            new.allow_for(commit.lost_records());
            let seat = Seat::new(new, Rc::clone(commit));
            self.seats.insert(Rc::clone(&seat));
            seat
        });
        let is_new = seat.account().named("INBOX").is_none();
        if is_new {
            // RFC 9051 2.3.1.1: the address may have had mail before in a store that is gone.
            let now = u32::try_from(clock::timestamp().seconds).unwrap_or_default();
            seat.account_mut().begin_above(self.directory().uid_validity().max(now));
            let plan = seat.account_mut().plan_new();
            if !plan.changes.is_empty() {
                commit.append(plan.changes);
            }
        }
        Some((seat, is_new))
    }

    fn reload(&self, config: Arc<Config>, tls: ServerTls) {
        *self.config.borrow_mut() = config;
        *self.tls.borrow_mut() = tls;
        self.replan_sites();
        self.reroute();
    }

    /// Stops accepting, lets sessions end, writes what is left.
    async fn wind_down(&self, silent: &AtomicUsize) {
        self.stopping.set(true);
        self.outbound.sites().stop();
        self.end_slot_waits();
        let patience = clock::instant() + STOP_MAX;
        while self.sessions.get() > 0 && clock::instant() < patience {
            self.deadlines.pass_all();
            sleep(Duration::from_millis(20)).await;
        }
        while self.outbound.sites().is_sending() && clock::instant() < patience {
            sleep(Duration::from_millis(5)).await;
        }
        // What another shard still sends may be owed here, and its outcome is worth waiting for.
        silent.fetch_add(1, Ordering::Relaxed);
        while silent.load(Ordering::Relaxed) < self.mesh.shards() && clock::instant() < patience {
            sleep(Duration::from_millis(5)).await;
        }
        self.outbound.written().await;
        if self.outbound.remembered().is_kept() {
            self.remember().await;
        }
        if self.sessions.get() > 0 {
            tracing::warn!(sessions = self.sessions.get(), "sessions were cut off");
        }
        for commit in self.logs() {
            // What failed was answered as failed; nothing is promised that is not stored.
            let _ = commit.barrier().await;
        }
        for keeper in &self.keepers {
            keeper.finish().await;
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "{error}"),
            Self::Ring(error) => write!(f, "no ring for sockets can be made: {error}"),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
