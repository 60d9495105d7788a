//! The sending side: the sites that this shard sends to, each a state machine with a task that carries out what it
//! wants.
//!
//! ```text
//!   Letter::Work ──> site ──> Pull ──> Letter::Jobs ──> site ──> Open ──> connection task ──> opened, failed
//!                      ^                                 │                      │
//!                      │                                 └────── Send ────────> │ ──> Report to the job's home
//!                      └───────────────── sent, closed <──────────────────────── ┘
//! ```
//!
//! Invariants: whatever happens to a connection's task, its site hears of it once; a site that has nothing to do and
//! nothing to remember is forgotten.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{self, Command, Desk};
use super::destinations::Blocked;
use super::home::{Feed, Jobs, Pull, Work};
use super::job::{Attempt, Cause, Job};
use super::way::Way;
use crate::io::clock;
use crate::io::executor::spawn;
use crate::mail::time::Instant;
use crate::proto::smtp::client::{Failure, Fate, Origin, Passed, Phase};
use crate::queue::job::{Action, ConnectionId, FeedId, OpenFailure, PeerLimits, SendOutcome, Sent};
use crate::queue::policy::{PoolId, Rate, SourceId};
use crate::queue::site::{Scope, Site};
use crate::queue::sources::Sources;
use crate::shard::Shard;
use crate::shard::alarm::Alarm;
use crate::shard::mesh::Letter;
use crate::shard::state::State;

/// Actions of one site before others of the shard have their turn.
const ACTIONS_PER_TURN: usize = 64;

/// A site with nothing to do is looked at so often, to be forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The sites of a shard.
pub struct Sites {
    by_name: RefCell<BTreeMap<Arc<str>, Rc<Running>>>,
    pub sources: State<Sources>,
}

/// A site that is being sent to.
pub struct Running {
    pub name: Arc<str>,
    /// As it was found last.
    way: RefCell<Arc<Way>>,
    machine: State<Site<Job>>,
    feeds: RefCell<Feeds>,
    connections: RefCell<HashMap<ConnectionId, Rc<Desk>>>,
    counts: Cell<Counts>,
    alarm: Alarm,
    is_over: Cell<bool>,
}

/// What became of recipients since the site was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub delivered: u64,
    pub deferred: u64,
    pub failed: u64,
}

/// Feeds by the numbers that the machine knows them by.
#[derive(Default)]
struct Feeds {
    numbers: BTreeMap<Feed, FeedId>,
    by_number: HashMap<FeedId, Feed>,
}

impl Sites {
    pub fn new(sources: Sources) -> Self {
        Self { by_name: RefCell::default(), sources: State::new(sources) }
    }

    /// All that there are now, for an operator.
    pub fn all(&self) -> Vec<Rc<Running>> {
        self.by_name.borrow().values().cloned().collect()
    }

    /// Nothing new is sent from now on.
    pub fn stop(&self) {
        for running in self.all() {
            running.machine.borrow_mut().stop();
            running.alarm.ring();
        }
    }

    /// Whether any connection is still open.
    pub fn is_sending(&self) -> bool {
        self.by_name.borrow().values().any(|running| !running.connections.borrow().is_empty())
    }

    pub fn named(&self, name: &str) -> Option<Rc<Running>> {
        self.by_name.borrow().get(name).cloned()
    }
}

impl Shard {
    /// A home has work for a site of this shard.
    pub fn take_work(self: &Rc<Self>, work: Work) {
        // A site that is begun now would not know that nothing new is to be sent.
        if self.is_stopping() {
            return;
        }
        let Work { feed, way, count } = work;
        let sites = self.outbound().sites();
        let running = match sites.named(&way.site) {
            Some(running) => running,
            None => self.begin_site(&way),
        };
        *running.way.borrow_mut() = way;
        let number = running.feeds.borrow_mut().number(feed);
        running.machine.borrow_mut().handle_work(number, clamp(count));
        running.alarm.ring();
    }

    fn begin_site(self: &Rc<Self>, way: &Arc<Way>) -> Rc<Running> {
        let plan = way.plan(&self.config());
        let running = Rc::new(Running {
            name: Arc::clone(&way.site),
            way: RefCell::new(Arc::clone(way)),
            machine: State::new(Site::new(way.site.to_string(), plan)),
            feeds: RefCell::default(),
            connections: RefCell::default(),
            counts: Cell::default(),
            alarm: Alarm::default(),
            is_over: Cell::new(false),
        });
        self.recall_site(&running);
        let name = Arc::clone(&running.name);
        self.outbound().sites().by_name.borrow_mut().insert(name, Rc::clone(&running));
        spawn("site", run(Rc::clone(self), Rc::clone(&running)));
        running
    }

    /// The answer to a pull.
    pub fn take_jobs_of(&self, jobs: Jobs) {
        let Jobs { site, feed, jobs, remaining } = jobs;
        // Jobs of a site that was forgotten go back by themselves.
        let Some(running) = self.outbound().sites().named(&site) else {
            return;
        };
        let number = running.feeds.borrow_mut().number(feed);
        running.machine.borrow_mut().handle_jobs(number, jobs, clamp(remaining));
        running.alarm.ring();
    }

    /// An operator wants a site tried that is being left alone.
    pub fn try_site(&self, name: &str) {
        if let Some(running) = self.outbound().sites().named(name) {
            running.machine.borrow_mut().end_pauses(clock::instant());
            running.alarm.ring();
        }
    }

    /// Another configuration holds from now on.
    pub fn replan_sites(&self) {
        let config = self.config();
        let now = clock::now();
        self.outbound().sites().sources.borrow_mut().set_sources(&config.outbound.sources, now);
        for running in self.outbound().sites().all() {
            let plan = running.way.borrow().plan(&config);
            running.machine.borrow_mut().set_plan(plan, now.instant);
            running.alarm.ring();
        }
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Carries out what the site wants until there is nothing more.
async fn run(shard: Rc<Shard>, running: Rc<Running>) {
    loop {
        let mut actions = 0;
        while let Some(action) = running.poll(&shard) {
            running.carry_out(&shard, action);
            actions += 1;
            if actions % ACTIONS_PER_TURN == 0 {
                futures_lite::future::yield_now().await;
            }
        }
        let now = clock::instant();
        let (deadline, is_idle) = running.outlook(&shard, now);
        if is_idle && running.is_over.get() {
            break;
        }
        running.is_over.set(is_idle);
        let wait = deadline.map(|at| (at - now).max(Duration::from_millis(1)));
        let wait = if is_idle { Some(wait.unwrap_or(FORGET_AFTER).min(FORGET_AFTER)) } else { wait };
        running.alarm.wait(wait).await;
    }
    shard.outbound().sites().by_name.borrow_mut().remove(&running.name);
}

impl Running {
    pub fn machine(&self) -> &State<Site<Job>> {
        &self.machine
    }

    /// The connections from a source.
    pub fn desks_from(&self, source: SourceId) -> Vec<Rc<Desk>> {
        let connections = self.connections.borrow();
        connections.values().filter(|slot| slot.source() == source).cloned().collect()
    }

    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    fn count(&self, fates: &[(u32, Fate)]) {
        let mut counts = self.counts.get();
        for (_, fate) in fates {
            match fate {
                Fate::Accepted(_) => counts.delivered += 1,
                Fate::Failed(failure) if failure.reply.is_permanent() => counts.failed += 1,
                Fate::Failed(_) => counts.deferred += 1,
                Fate::NotTried => {}
            }
        }
        self.counts.set(counts);
    }

    /// What was changed in the machine may give it something to do.
    pub fn ring(&self) {
        self.alarm.ring();
    }

    fn poll(&self, shard: &Shard) -> Option<Action<Job>> {
        let mut sources = shard.outbound().sites().sources.borrow_mut();
        self.machine.borrow_mut().poll_action(&mut sources, clock::instant())
    }

    fn outlook(&self, shard: &Shard, now: Instant) -> (Option<Instant>, bool) {
        let sources = shard.outbound().sites().sources.borrow();
        let machine = self.machine.borrow();
        (machine.deadline(&sources, now), machine.is_idle(now))
    }

    fn carry_out(self: &Rc<Self>, shard: &Rc<Shard>, action: Action<Job>) {
        match action {
            Action::Pull { feed, count } => self.pull(shard, feed, count),
            Action::Open { connection, source } => {
                let slot = Rc::new(Desk::new(source));
                self.connections.borrow_mut().insert(connection, Rc::clone(&slot));
                let (shard, way) = (Rc::clone(shard), Arc::clone(&self.way.borrow()));
                let link = Link { running: Rc::clone(self), shard: Rc::clone(&shard), connection };
                spawn("outbound", connection::run(shard, link, (way, source), slot));
            }
            Action::Send { connection, job, recipients_max } => {
                self.command(connection, Command::Send(Box::new(job), recipients_max));
            }
            Action::Close { connection } => self.command(connection, Command::Close),
            // Dropped, it is back at its home.
            Action::Return { job } => drop(job),
            Action::Fail { job, failure } => self.fail(shard, job, &failure),
            Action::Blocked { pool, block } => {
                tracing::info!(site = &*self.name, why = %block.why, "mail waits");
                self.tell_homes(shard, pool, Some(block.why.to_string()));
            }
            Action::Unblocked { pool } => {
                tracing::info!(site = &*self.name, "mail goes again");
                self.tell_homes(shard, pool, None);
            }
        }
    }

    fn command(&self, connection: ConnectionId, command: Command) {
        // Without its task the connection is about to be told of as lost, and a job in the command goes home.
        if let Some(slot) = self.connections.borrow().get(&connection) {
            slot.put(command);
        }
    }

    fn pull(&self, shard: &Shard, number: FeedId, count: u32) {
        let feed = self.feeds.borrow().by_number.get(&number).cloned();
        let Some(feed) = feed else {
            return self.machine.borrow_mut().forget_feed(number);
        };
        let home = shard.mesh.driver_of(feed.log);
        let (count, site) = (count as usize, Arc::clone(&self.name));
        shard.mesh.post(home, Letter::Pull(Pull { feed, count, shard: shard.mesh.own(), site }));
    }

    /// Homes keep the reason for those who ask; the machine asks for no mail meanwhile.
    fn tell_homes(&self, shard: &Shard, pool: PoolId, why: Option<String>) {
        for feed in self.feeds.borrow().numbers.keys().filter(|feed| feed.pool == pool) {
            let home = shard.mesh.driver_of(feed.log);
            let (destination, site) = (Arc::clone(&feed.destination), Arc::clone(&self.name));
            let blocked = Blocked { destination, way: feed.way, site, why: why.clone() };
            shard.mesh.post(home, Letter::Blocked(blocked));
        }
    }

    /// No host could be reached: an attempt that failed.
    fn fail(&self, shard: &Shard, job: Job, failure: &OpenFailure) {
        let way = self.way.borrow();
        let fate = Fate::Failed(Failure {
            reply: failure.reply.clone(),
            phase: Phase::Connect,
            origin: Origin::Local,
        });
        let attempt = Arc::new(Attempt {
            cause: Cause::Delivery,
            site: Arc::clone(&self.name),
            pool: way.pool_name(&shard.config(), job.pool),
            source: String::new(),
            protocol: way.protocol_name(),
            host: None,
            peer: None,
            local: None,
            tls: None,
            dsn: Passed::Passed,
            deliver_by: Passed::Passed,
        });
        let fates: Vec<_> = job.numbers.iter().map(|&number| (number, fate.clone())).collect();
        self.count(&fates);
        job.home.report(fates, &attempt);
    }
}

/// What a connection's task tells its site by. Dropped without a word, the connection counts as lost.
pub struct Link {
    running: Rc<Running>,
    shard: Rc<Shard>,
    connection: ConnectionId,
}

impl Link {
    pub fn site(&self) -> &Arc<str> {
        &self.running.name
    }

    /// Counts what became of recipients, for who looks at the site.
    pub fn count(&self, fates: &[(u32, Fate)]) {
        self.running.count(fates);
    }

    pub fn opened(&self, limits: PeerLimits) {
        self.change(|machine, sources, id, now| machine.handle_opened(id, limits, sources, now));
    }

    /// The last word.
    pub fn open_failed(self, failure: OpenFailure) {
        self.change(|machine, sources, id, now| machine.handle_open_failed(id, failure, sources, now));
        self.forget();
    }

    pub fn sent(&self, outcome: SendOutcome, leftover: Option<Job>) {
        self.change(|machine, sources, id, now| {
            machine.handle_sent(id, Sent { outcome, leftover }, sources, now)
        });
    }

    /// The connection ended with a transaction. The last word.
    pub fn lost(self, leftover: Option<Job>) {
        self.sent(SendOutcome::ConnectionLost, leftover);
        self.forget();
    }

    /// The connection ended between two transactions. The last word.
    pub fn closed(self) {
        self.change(|machine, _, id, _| machine.handle_closed(id));
        self.forget();
    }

    pub fn slow(&self, source: SourceId, rate: Rate, until: Instant) {
        self.change(|machine, _, _, now| machine.slow(source, rate, until, now));
    }

    pub fn suspend(&self, source: SourceId, until: Instant, reason: &str) {
        self.change(|machine, _, _, _| machine.suspend(Scope::Source(source), Some(until), reason));
    }

    pub fn switch_pool(&self, from: PoolId, to: PoolId, until: Instant) {
        self.change(|machine, _, _, _| machine.switch_pool(from, to, until));
    }

    fn change(&self, change: impl FnOnce(&mut Site<Job>, &mut Sources, ConnectionId, Instant)) {
        let mut sources = self.shard.outbound().sites().sources.borrow_mut();
        change(&mut self.running.machine.borrow_mut(), &mut sources, self.connection, clock::instant());
        self.running.alarm.ring();
    }

    fn forget(&self) {
        self.running.connections.borrow_mut().remove(&self.connection);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The task ended without a last word, by a panic: others must not wait for it.
        if self.running.connections.borrow_mut().remove(&self.connection).is_some() {
            self.change(|machine, _, id, _| machine.handle_closed(id));
        }
    }
}

impl Feeds {
    fn number(&mut self, feed: Feed) -> FeedId {
        if let Some(number) = self.numbers.get(&feed) {
            return *number;
        }
        let number =
            FeedId { home: u32::from(feed.log.0), destination: clamp(self.numbers.len()), pool: feed.pool };
        self.numbers.insert(feed.clone(), number);
        self.by_number.insert(number, feed);
        number
    }
}
