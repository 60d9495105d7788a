//! A site among homes and hosts of chance, from a seed: what must hold is checked after every step.
//!
//! Messages arrive at random, take random times and come to random ends; hosts refuse, die, hang up, and bear only so
//! many connections; sources do not bind; operators suspend, slow, switch and load other configurations. Checked is
//! that no limit is exceeded in any window, that each job is in one place, that the promised time of the next action
//! is neither late nor early, that what can go on does, and at the end that all is delivered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use super::job::{
    Action, ConnectionId, FailureKind, FeedId, Job, OpenFailure, PeerLimits, SendOutcome, Sent,
};
use super::lane::NEVER;
use super::plan::Plan;
use super::policy::{Member, Part, Pool, PoolId, Rate, Shaping, Source, SourceId};
use super::site::{Scope, Site};
use super::sources::Sources;
use crate::limits::outbound::{JOBS_PER_CONNECTION, JOBS_SPARE};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::{Instant, Now};

const SEEDS: u64 = 150;
const SOURCES: [&str; 3] = ["one", "two", "three"];
const POOLS: [&str; 2] = ["bulk", "best"];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn count(&mut self, least: u32, most: u32) -> NonZeroU32 {
        let more = self.below(u64::from(most - least) + 1);
        NonZeroU32::new(least + u32::try_from(more).unwrap()).unwrap()
    }

    fn rate(&mut self) -> Option<Rate> {
        let texts = ["3/s", "20/s", "2/min", "40/min", "300/h", "1/20s"];
        let text = texts.get(usize::try_from(self.below(12)).unwrap())?;
        Some(text.parse().unwrap())
    }
}

#[derive(Clone, Debug)]
struct Message {
    pool: PoolId,
    priority: i8,
    recipients: usize,
}

impl Job for Message {
    fn pool(&self) -> PoolId {
        self.pool
    }

    fn priority(&self) -> i8 {
        self.priority
    }

    fn recipients(&self) -> usize {
        self.recipients
    }
}

#[derive(Debug)]
enum Event {
    Arrive(usize, Message),
    Work(usize),
    Jobs(FeedId, Vec<Message>),
    Opened(ConnectionId),
    OpenFailed(ConnectionId, FailureKind),
    Sent(ConnectionId, SendOutcome, Option<Message>),
    Closed(ConnectionId),
    Operator(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Opening,
    Idle,
    Busy,
    Closing,
}

struct Open {
    source: SourceId,
    state: State,
    sent: u32,
    limits: PeerLimits,
}

/// What each source did, and when; what it may do at the moment.
#[derive(Default)]
struct Record {
    opened: VecDeque<Instant>,
    sent: VecDeque<Instant>,
}

struct World {
    random: Random,
    now: Instant,
    site: Site<Message>,
    sources: Sources,
    shapings: HashMap<SourceId, Shaping>,
    site_connections: u32,
    homes: Vec<(FeedId, VecDeque<Message>)>,
    /// By time, then by number.
    events: BTreeMap<(Instant, u64), Event>,
    event_number: u64,
    open: HashMap<ConnectionId, Open>,
    records: HashMap<SourceId, Record>,
    messages: usize,
    done: usize,
    /// With the driver, on a connection.
    on_the_way: usize,
    /// On its way from a home to the site.
    in_letters: usize,
    bears: usize,
    dead_until: Instant,
    is_calm: bool,
    actions: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(2);
        let now = Instant(random.below(1 << 40));
        let clock = Now { instant: now, ..Now::default() };
        let source = |random: &mut Random, name: &str| Source {
            name: name.to_owned(),
            message_rate: if random.one_in(3) { random.rate() } else { None },
            ..Source::unbound()
        };
        let known = SOURCES.map(|name| source(&mut random, name));
        let (plan, shapings) = plan(&mut random);
        let homes = (0..4).map(|number| (feed(number), VecDeque::new())).collect();
        let mut world = Self {
            now,
            site_connections: plan.shaping.site_connections.get(),
            site: Site::new("hosts.example".to_owned(), plan),
            sources: Sources::new(&known, Part::WHOLE, clock),
            shapings,
            homes,
            events: BTreeMap::new(),
            event_number: 0,
            open: HashMap::new(),
            records: HashMap::new(),
            messages: 0,
            done: 0,
            on_the_way: 0,
            in_letters: 0,
            bears: usize::try_from(random.below(40)).unwrap() + 1,
            dead_until: Instant(0),
            is_calm: false,
            actions: 0,
            random,
        };
        world.plan_arrivals();
        world
    }

    fn plan_arrivals(&mut self) {
        let homes = u64::try_from(self.homes.len()).unwrap();
        for _ in 0..usize::try_from(self.random.below(120)).unwrap() + 1 {
            let home = usize::try_from(self.random.below(homes)).unwrap();
            let message = Message {
                pool: self.homes[home].0.pool,
                priority: i8::try_from(self.random.below(5)).unwrap() - 2,
                recipients: usize::try_from(self.random.below(9)).unwrap() + 1,
            };
            let after = self.random.below(100_000);
            self.after(after, Event::Arrive(home, message));
            self.messages += 1;
        }
        for _ in 0..self.random.below(8) {
            let (after, what) = (self.random.below(200_000), self.random.below(7));
            self.after(after, Event::Operator(what));
        }
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.event_number += 1;
        self.events.insert((self.now + Duration::from_millis(ms), self.event_number), event);
    }

    /// Lets things happen until all is delivered.
    fn run(&mut self) {
        let trouble_ends = self.now + Duration::from_secs(300);
        for step in 0.. {
            assert!(step < 100_000, "it comes to no end");
            self.act();
            let deadline = self.site.deadline(&self.sources, self.now);
            assert!(deadline.is_none_or(|at| at > self.now), "a deadline that is over");
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = event.into_iter().chain(deadline).min() else {
                break;
            };
            self.nothing_to_do_before(next);
            self.now = next;
            self.is_calm = self.now > trouble_ends;
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.handle(event);
                self.check_places();
            }
        }
        assert_eq!(self.done, self.messages, "all is delivered");
        assert_eq!((self.open.len(), self.site.connection_count()), (0, 0), "and all is closed");
    }

    /// The deadline is not late: a millisecond before it, and at some moment on the way, there is nothing to do.
    fn nothing_to_do_before(&mut self, next: Instant) {
        let span = next.0 - self.now.0;
        if span == 0 {
            return;
        }
        for ahead in [self.random.below(span), span - 1] {
            let early = Instant(self.now.0 + ahead);
            let action = self.site.poll_action(&mut self.sources, early);
            assert!(action.is_none(), "{action:?} was possible at {early:?}, promised for {next:?}");
        }
    }

    fn act(&mut self) {
        let before = self.actions;
        while let Some(action) = self.site.poll_action(&mut self.sources, self.now) {
            self.actions += 1;
            assert!(self.actions - before < 10_000, "a busy loop");
            self.carry_out(action);
            self.check_places();
        }
    }

    fn carry_out(&mut self, action: Action<Message>) {
        let delay = self.random.below(30);
        match action {
            Action::Pull { feed, count } => {
                let waiting = &mut self.home(feed).1;
                let count = waiting.len().min(usize::try_from(count).unwrap());
                let jobs: Vec<Message> = waiting.drain(..count).collect();
                self.in_letters += jobs.len();
                self.after(delay, Event::Jobs(feed, jobs));
            }
            Action::Open { connection, source } => self.open(connection, source, delay),
            Action::Send { connection, job, recipients_max } => self.send(connection, job, recipients_max),
            Action::Close { connection } => {
                let open = self.open.get_mut(&connection).unwrap();
                assert_eq!(open.state, State::Idle, "only what is idle is closed");
                open.state = State::Closing;
                self.after(delay, Event::Closed(connection));
            }
            Action::Return { job } => self.offer_again(job, 0),
            Action::Fail { job, .. } => {
                let wait = self.random.below(60_000);
                self.offer_again(job, wait);
            }
            Action::Blocked { block, .. } => {
                assert!(block.until.is_none_or(|until| until > self.now));
            }
            Action::Unblocked { pool } => assert!(self.site.block(pool).is_none()),
        }
    }

    fn open(&mut self, connection: ConnectionId, source: SourceId, delay: u64) {
        let shaping = &self.shapings[&source];
        let record = self.records.entry(source).or_default();
        record.opened.push_back(self.now);
        keep_window(&mut record.opened, shaping.connection_rate, self.now);
        let limits = PeerLimits {
            messages: self.random.one_in(4).then(|| u32::try_from(self.random.below(4)).unwrap()),
            recipients: self.random.one_in(4).then(|| u32::try_from(self.random.below(4)).unwrap() + 1),
        };
        self.open.insert(connection, Open { source, state: State::Opening, sent: 0, limits });
        let of_source = self.open.values().filter(|open| open.source == source).count();
        assert!(of_source <= usize::try_from(shaping.connections.get()).unwrap(), "connections of a source");
        assert!(
            self.open.len() <= usize::try_from(self.site_connections).unwrap(),
            "connections of the site"
        );
        let trouble = self.random.below(if self.is_calm { 1 } else { 12 });
        let event = match trouble {
            _ if self.now < self.dead_until => Event::OpenFailed(connection, FailureKind::Refused),
            _ if self.open.len() > self.bears => {
                Event::OpenFailed(connection, FailureKind::GreetingTransient)
            }
            1 => Event::OpenFailed(connection, FailureKind::SourceUnusable),
            2 => Event::OpenFailed(connection, FailureKind::Tls),
            _ => Event::Opened(connection),
        };
        self.after(delay, event);
    }

    fn send(&mut self, connection: ConnectionId, job: Message, recipients_max: usize) {
        let open = self.open.get_mut(&connection).unwrap();
        assert_eq!(open.state, State::Idle);
        open.state = State::Busy;
        open.sent += 1;
        let shaping = &self.shapings[&open.source];
        let of_peer = open.limits.recipients.unwrap_or(u32::MAX).min(shaping.recipients_per_message.get());
        assert!((1..=usize::try_from(of_peer).unwrap()).contains(&recipients_max));
        assert!(open.sent <= shaping.messages_per_connection.get());
        assert!(open.sent <= open.limits.messages.unwrap_or(u32::MAX).max(1));
        let record = self.records.entry(open.source).or_default();
        record.sent.push_back(self.now);
        keep_window(&mut record.sent, shaping.message_rate, self.now);
        self.on_the_way += 1;
        let outcome = match self.random.below(if self.is_calm { 1 } else { 14 }) {
            1 => SendOutcome::Transient,
            2 => SendOutcome::Permanent,
            3 => SendOutcome::ConnectionLost,
            _ => SendOutcome::Ok,
        };
        let tried = match outcome {
            SendOutcome::ConnectionLost if self.random.one_in(2) => 0,
            _ => job.recipients.min(recipients_max),
        };
        let leftover = Message { recipients: job.recipients - tried, ..job };
        let leftover = (leftover.recipients > 0).then_some(leftover);
        let took = self.random.below(3000);
        self.after(took, Event::Sent(connection, outcome, leftover));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(home, message) => {
                self.homes[home].1.push_back(message);
                self.handle(Event::Work(home));
            }
            Event::Work(home) => {
                let (feed, waiting) = &self.homes[home];
                // What was asked for and is in a letter is the feed's, too.
                let in_letters = |event: &Event| match event {
                    Event::Jobs(of, jobs) if of == feed => jobs.len(),
                    _ => 0,
                };
                let count = waiting.len() + self.events.values().map(in_letters).sum::<usize>();
                self.site.handle_work(*feed, u32::try_from(count).unwrap());
            }
            Event::Jobs(feed, jobs) => {
                self.in_letters -= jobs.len();
                let remaining = u32::try_from(self.home(feed).1.len()).unwrap();
                self.site.handle_jobs(feed, jobs, remaining);
            }
            Event::Opened(connection) => {
                let open = self.open.get_mut(&connection).unwrap();
                open.state = State::Idle;
                self.site.handle_opened(connection, open.limits, &mut self.sources, self.now);
            }
            Event::OpenFailed(connection, kind) => {
                self.open.remove(&connection);
                let reply = Reply::new(421, EnhancedCode::new(4, 4, 1), "no");
                let failure = OpenFailure { kind, reply };
                self.site.handle_open_failed(connection, failure, &mut self.sources, self.now);
            }
            Event::Sent(connection, outcome, leftover) => self.handle_sent(connection, outcome, leftover),
            Event::Closed(connection) => {
                self.open.remove(&connection);
                self.site.handle_closed(connection);
            }
            Event::Operator(what) => self.meddle(what),
        }
    }

    fn handle_sent(&mut self, connection: ConnectionId, outcome: SendOutcome, leftover: Option<Message>) {
        self.on_the_way -= 1;
        self.done += usize::from(leftover.is_none());
        if outcome == SendOutcome::ConnectionLost {
            self.open.remove(&connection);
        } else {
            self.open.get_mut(&connection).unwrap().state = State::Idle;
        }
        self.site.handle_sent(connection, Sent { outcome, leftover }, &mut self.sources, self.now);
    }

    fn meddle(&mut self, what: u64) {
        let source = SourceId::of(SOURCES[usize::try_from(self.random.below(3)).unwrap()]);
        let span = Duration::from_millis(self.random.below(90_000) + 1);
        let until = self.now + span;
        let (bulk, best) = (PoolId::of(POOLS[0]), PoolId::of(POOLS[1]));
        match what {
            0 => self.site.suspend(Scope::Site, Some(until), "by hand"),
            1 => self.site.suspend(Scope::Source(source), Some(until), "by hand"),
            2 => self.site.slow(source, "6/min".parse().unwrap(), until, self.now),
            3 => self.site.switch_pool(bulk, best, until),
            4 => self.dead_until = until,
            5 => self.site.resume(Scope::Site),
            _ => {
                let (plan, shapings) = plan(&mut self.random);
                // Connections that are there are not torn down, and what was sent before was right before.
                let site_connections = plan.shaping.site_connections.get().max(self.site_connections);
                let mut shapings = shapings;
                for (source, shaping) in &mut shapings {
                    let before = &self.shapings[source];
                    shaping.connections = shaping.connections.max(before.connections);
                    shaping.message_rate = before.message_rate;
                    shaping.connection_rate = before.connection_rate;
                    shaping.messages_per_connection = before.messages_per_connection;
                }
                let of_source = |source: SourceId| std::rc::Rc::new(shapings[&source].clone());
                let whole = Shaping {
                    site_connections: NonZeroU32::new(site_connections).unwrap(),
                    ..Shaping::default()
                };
                self.site.set_plan(Plan::new(std::rc::Rc::new(whole), plan.pools, of_source), self.now);
                self.site_connections = site_connections;
                self.shapings = shapings;
            }
        }
    }

    fn offer_again(&mut self, job: Message, after_ms: u64) {
        let home = self.homes.iter().position(|(feed, _)| feed.pool == job.pool).unwrap();
        if after_ms == 0 {
            self.homes[home].1.push_back(job);
            self.handle(Event::Work(home));
        } else {
            self.after(after_ms, Event::Arrive(home, job));
        }
    }

    fn home(&mut self, feed: FeedId) -> &mut (FeedId, VecDeque<Message>) {
        self.homes.iter_mut().find(|(known, _)| *known == feed).unwrap()
    }

    /// No job is lost or there twice, and the site holds no more than it may.
    fn check_places(&self) {
        let at_home: usize = self.homes.iter().map(|(_, waiting)| waiting.len()).sum();
        let to_come = self.events.values().filter(|event| matches!(event, Event::Arrive(..))).count();
        let in_site = self.site.job_count();
        let all = at_home + to_come + self.in_letters + in_site + self.on_the_way + self.done;
        assert_eq!(all, self.messages);
        let most: u32 = self.shapings.values().map(|shaping| shaping.connections.get()).sum();
        let lanes = u32::try_from(SOURCES.len()).unwrap();
        let bound = most * JOBS_PER_CONNECTION + lanes * JOBS_SPARE;
        // Leftovers come on top, one for each connection.
        assert!(
            in_site + self.in_letters <= usize::try_from(bound + most).unwrap(),
            "{in_site} jobs are held"
        );
    }
}

fn feed(number: u32) -> FeedId {
    FeedId { home: number, destination: 7, pool: PoolId::of(POOLS[usize::try_from(number % 2).unwrap()]) }
}

fn plan(random: &mut Random) -> (Plan, HashMap<SourceId, Shaping>) {
    let mut member = |name: &str| Member { source: SourceId::of(name), weight: random.count(1, 5) };
    let pools = vec![
        Pool { name: POOLS[0].to_owned(), members: vec![member(SOURCES[0]), member(SOURCES[1])] },
        Pool { name: POOLS[1].to_owned(), members: vec![member(SOURCES[1]), member(SOURCES[2])] },
    ];
    let shapings: HashMap<SourceId, Shaping> =
        SOURCES.map(|name| (SourceId::of(name), shaping(random))).into_iter().collect();
    let whole = Shaping { site_connections: random.count(1, 12), ..Shaping::default() };
    let of_source = |source: SourceId| std::rc::Rc::new(shapings[&source].clone());
    (Plan::new(std::rc::Rc::new(whole), pools, of_source), shapings)
}

fn shaping(random: &mut Random) -> Shaping {
    Shaping {
        connections: random.count(1, 8),
        connection_rate: random.rate(),
        message_rate: random.rate(),
        messages_per_connection: random.count(1, 10),
        recipients_per_message: random.count(1, 5),
        idle: Duration::from_millis(random.below(20_000) + 1),
        failures_until_dead: random.count(1, 4),
        dead_first: Duration::from_millis(random.below(60_000) + 1000),
        dead_max: Duration::from_secs(200),
        ..Shaping::default()
    }
}

/// Drops what is older than the window, and checks the rest.
fn keep_window(times: &mut VecDeque<Instant>, rate: Option<Rate>, now: Instant) {
    let Some(rate) = rate else {
        return;
    };
    while times.front().is_some_and(|at| now - *at >= rate.per()) {
        times.pop_front();
    }
    assert!(times.len() <= usize::try_from(rate.count()).unwrap(), "{} in a window of {rate}", times.len());
}

#[test]
fn a_site_in_a_rough_world() {
    let mut actions = 0;
    for seed in 0..SEEDS {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            world.run();
            world.actions
        });
        match std::panic::catch_unwind(run) {
            Ok(count) => actions += count,
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(actions > 50 * SEEDS, "only {actions} actions in all: the world was too quiet to show anything");
    assert!(NEVER > Instant(1 << 60));
}
