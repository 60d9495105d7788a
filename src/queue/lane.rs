//! One source's way to one site: its connections, the messages that wait for one, and what holds them up.
//!
//! A lane does not decide alone: the site shares its connections among the lanes. It answers when it could next send
//! ([`Lane::gate`]) and open ([`Lane::opens_at`]), and keeps the counts.
//!
//! Invariants: each connection is in one phase, and the counts are those of the phases; the messages wait in the
//! order of their priority, then of their arrival; whatever the lane's limits forbid now, the gate says until when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use super::adaptive::{Allowance, Health, Window};
use super::job::{ConnectionId, Job, OpenFailure, PeerLimits, Why};
use super::limit::Bucket;
use super::policy::{Rate, Shaping, SourceId};
use super::sources::Sources;
use crate::limits::outbound::{HOLD, JOBS_PER_CONNECTION, JOBS_SPARE, PULL_AHEAD, REOPEN_FIRST};
use crate::mail::time::Instant;

/// No time at all: only an event can end the wait.
pub const NEVER: Instant = Instant(u64::MAX);

pub const PULL_AHEAD_MS: u64 = PULL_AHEAD.as_secs() * 1000;

/// See the module.
pub struct Lane<J> {
    pub source: SourceId,
    pub shaping: Rc<Shaping>,
    pub health: Health,
    pub window: Window,
    pub suspension: Option<Suspension>,
    /// Why no connection came about the last time.
    pub last_failure: Option<Rc<OpenFailure>>,
    /// The configuration does not name it any more; it ends with its connections.
    pub is_retired: bool,
    ready: BTreeMap<(Reverse<i8>, i64), J>,
    connections: HashMap<ConnectionId, Connection>,
    /// Those without work, the one that was used last at the end.
    idle: Vec<ConnectionId>,
    opening: u32,
    busy: u32,
    connection_rate: Option<Bucket>,
    message_rate: Option<Bucket>,
    slowed: Option<Slowed>,
    /// More connections than there are were refused: none is tried before.
    reopen_at: Instant,
}

/// By an operator or a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspension {
    /// `None`: until it is lifted.
    pub until: Option<Instant>,
    pub reason: String,
}

/// Another rate for a time, besides the configuration's.
struct Slowed {
    bucket: Bucket,
    until: Instant,
}

struct Connection {
    phase: Phase,
    opened: Instant,
    /// Transactions that were begun.
    sent: u32,
    limits: PeerLimits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle { since: Instant },
    Busy { sending: Sending },
    Closing,
}

/// What a busy connection carries.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sending {
    /// Of the job, and of those the ones that were counted for the transaction.
    recipients: usize,
    counted: usize,
}

/// When something can be, and what it waits for until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    pub at: Instant,
    pub why: Why,
}

impl Gate {
    pub fn open(now: Instant) -> Self {
        Self { at: now, why: Why::Throttled }
    }

    /// Both must be.
    pub fn and(self, at: Instant, why: impl FnOnce() -> Why) -> Self {
        if at > self.at { Self { at, why: why() } } else { self }
    }

    /// Soon enough to fetch mail for it.
    pub fn is_soon(&self, now: Instant) -> bool {
        self.at <= now + PULL_AHEAD
    }

    /// Soon enough to keep mail that is here already.
    pub fn is_near(&self, now: Instant) -> bool {
        self.at <= now + HOLD
    }
}

impl Suspension {
    pub fn ends(&self) -> Instant {
        self.until.unwrap_or(NEVER)
    }
}

impl<J: Job> Lane<J> {
    pub fn new(source: SourceId, shaping: Rc<Shaping>) -> Self {
        Self {
            source,
            health: Health::default(),
            window: Window::new(shaping.connections.get()),
            suspension: None,
            last_failure: None,
            is_retired: false,
            ready: BTreeMap::new(),
            connections: HashMap::new(),
            idle: Vec::new(),
            opening: 0,
            busy: 0,
            connection_rate: shaping.connection_rate.map(Bucket::new),
            message_rate: shaping.message_rate.map(Bucket::new),
            slowed: None,
            reopen_at: Instant(0),
            shaping,
        }
    }

    /// Another configuration; what was counted and learnt stays.
    pub fn set_shaping(&mut self, shaping: Rc<Shaping>, now: Instant) {
        self.window.set_max(shaping.connections.get());
        set_rate(&mut self.connection_rate, shaping.connection_rate, now);
        set_rate(&mut self.message_rate, shaping.message_rate, now);
        self.shaping = shaping;
        self.is_retired = false;
    }

    pub fn slow(&mut self, rate: Rate, until: Instant, now: Instant) {
        match &mut self.slowed {
            Some(slowed) if slowed.until > now => {
                slowed.bucket.set_rate(rate, now);
                slowed.until = until;
            }
            _ => self.slowed = Some(Slowed { bucket: Bucket::new(rate), until }),
        }
    }

    pub fn slowed_until(&self) -> Option<Instant> {
        self.slowed.as_ref().map(|slowed| slowed.until)
    }

    /// By a rule or an operator: to which rate, until when.
    pub fn slowed_to(&self) -> Option<(Rate, Instant)> {
        self.slowed.as_ref().map(|slowed| (slowed.bucket.rate(), slowed.until))
    }

    /// Back to the configured rate.
    pub fn unslow(&mut self) {
        self.slowed = None;
    }

    pub fn push(&mut self, job: J, order: i64) {
        self.ready.insert((Reverse(job.priority()), order), job);
    }

    /// All that wait, in their order.
    pub fn take_ready(&mut self) -> Vec<J> {
        std::mem::take(&mut self.ready).into_values().collect()
    }

    /// An operator wants a connection tried now.
    pub fn end_pause(&mut self, now: Instant) {
        self.health.end_pause(now);
        self.reopen_at = self.reopen_at.min(now);
    }

    pub fn begin_opening(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(rate) = &mut self.connection_rate {
            rate.take(1, now);
        }
        let fresh = Connection { phase: Phase::Opening, opened: now, sent: 0, limits: PeerLimits::default() };
        self.connections.insert(connection, fresh);
        self.opening += 1;
    }

    pub fn handle_opened(&mut self, connection: ConnectionId, limits: PeerLimits, now: Instant) {
        if let Some(known) = self.connections.get_mut(&connection)
            && known.phase == Phase::Opening
        {
            known.limits = limits;
            known.phase = Phase::Idle { since: now };
            self.opening -= 1;
            self.idle.push(connection);
        }
    }

    /// No host took it. Where others of ours are connected, this one was only too much.
    pub fn handle_refused(&mut self, failure: Rc<OpenFailure>, now: Instant) {
        self.window.handle_failure();
        self.last_failure = Some(failure);
        if self.live() > 0 {
            self.reopen_at = now + REOPEN_FIRST;
        } else {
            self.health.handle_failure(&self.shaping, now);
        }
    }

    /// Takes the first message and the connection that was used last. [`Lane::can_send`] said that both are there.
    pub fn begin_sending(&mut self, sources: &mut Sources, now: Instant) -> Option<(ConnectionId, J, usize)> {
        let connection = *self.idle.last()?;
        let recipients_max = sources.recipients_max(self.source, now);
        let (_, job) = self.ready.pop_first()?;
        self.idle.pop();
        let known = self.connections.get_mut(&connection).expect("what is idle is connected");
        let of_peer =
            known.limits.recipients.unwrap_or(u32::MAX).min(self.shaping.recipients_per_message.get());
        let recipients_max = recipients_max.min(usize::try_from(of_peer).unwrap_or(usize::MAX)).max(1);
        let recipients = job.recipients();
        let counted = recipients.min(recipients_max);
        known.sent += 1;
        known.phase = Phase::Busy { sending: Sending { recipients, counted } };
        self.busy += 1;
        for bucket in
            self.message_rate.iter_mut().chain(self.slowed.as_mut().and_then(|slowed| slowed.live(now)))
        {
            bucket.take(1, now);
        }
        sources.take(self.source, counted, now);
        Some((connection, job, recipients_max))
    }

    /// The transaction is over, and the connection is there for the next. `leftover` recipients were not tried.
    pub fn handle_sent(
        &mut self,
        connection: ConnectionId,
        leftover: usize,
        sources: &mut Sources,
        now: Instant,
    ) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        if let Phase::Busy { sending } = known.phase {
            sources.put_back(self.source, sending.untried(leftover), now);
            known.phase = Phase::Idle { since: now };
            self.busy -= 1;
            self.idle.push(connection);
        }
    }

    /// The connection broke with a message on it; says whether it was the first.
    pub fn handle_lost(
        &mut self,
        connection: ConnectionId,
        leftover: usize,
        sources: &mut Sources,
        now: Instant,
    ) -> bool {
        let Some(known) = self.connections.get(&connection) else {
            return false;
        };
        if let Phase::Busy { sending } = known.phase {
            sources.put_back(self.source, sending.untried(leftover), now);
        }
        let is_first = known.sent <= 1;
        self.remove(connection);
        is_first
    }

    pub fn begin_closing(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection)
            && matches!(known.phase, Phase::Idle { .. })
        {
            known.phase = Phase::Closing;
            self.idle.retain(|idle| *idle != connection);
        }
    }

    /// It is gone, in whatever phase it was.
    pub fn remove(&mut self, connection: ConnectionId) {
        let Some(known) = self.connections.remove(&connection) else {
            return;
        };
        match known.phase {
            Phase::Opening => self.opening -= 1,
            Phase::Idle { .. } => self.idle.retain(|idle| *idle != connection),
            Phase::Busy { .. } => self.busy -= 1,
            Phase::Closing => {}
        }
    }

    /// When a message could be sent from here, if there is a connection for it or one may be opened.
    pub fn gate(&self, sources: &Sources, now: Instant) -> Gate {
        let gate = self.message_gate(sources, now);
        if self.live() > 0 || self.opening > 0 { gate } else { self.open_gate(gate, sources, now) }
    }

    /// When a connection may be opened, the window and the site's share apart: in time for the message to be sent.
    pub fn opens_at(&self, sources: &Sources, now: Instant) -> Instant {
        let message = self.message_gate(sources, now).at;
        let ahead = if message == NEVER { NEVER } else { Instant(message.0.saturating_sub(PULL_AHEAD_MS)) };
        self.open_gate(Gate::open(ahead.max(now)), sources, now).at
    }

    /// What holds messages up, connected or not.
    pub fn message_gate(&self, sources: &Sources, now: Instant) -> Gate {
        let mut gate = Gate::open(now);
        if self.is_retired {
            gate = gate.and(NEVER, || Why::NoSource);
        }
        if let Some(suspension) = &self.suspension {
            gate = gate.and(suspension.ends(), || Why::Suspended(suspension.reason.clone()));
        }
        if let Some(rate) = &self.message_rate {
            gate = gate.and(rate.next(now), || Why::Throttled);
        }
        if let Some(slowed) = &self.slowed {
            gate = gate.and(slowed.bucket.next(now).min(slowed.until), || Why::Throttled);
        }
        let (at, why) = sources.sends_at(self.source, now);
        gate.and(at, || why)
    }

    fn open_gate(&self, gate: Gate, sources: &Sources, now: Instant) -> Gate {
        let mut gate = gate.and(self.reopen_at, || Why::Throttled);
        if let Allowance::NotBefore(until) = self.health.allowance(now) {
            gate = gate.and(until, || self.last_failure.clone().map_or(Why::Throttled, Why::Dead));
        }
        gate = gate.and(sources.opens_at(self.source, now), || Why::SourceUnusable);
        match &self.connection_rate {
            Some(rate) => gate.and(rate.next(now), || Why::Throttled),
            None => gate,
        }
    }

    /// There is a message, a connection for it, and nothing that holds it up.
    pub fn can_send(&self, sources: &Sources, now: Instant) -> bool {
        !self.idle.is_empty() && !self.ready.is_empty() && self.message_gate(sources, now).at <= now
    }

    /// There are more messages than connections for them, and the window has room.
    pub fn wants_connection(&self, now: Instant) -> bool {
        let provided = self.idle.len() + usize_of(self.opening);
        self.ready.len() > provided && self.total() < self.connections_max(now)
    }

    /// How many more messages may wait here.
    pub fn room(&self, sources: &Sources, now: Instant) -> usize {
        let connections = self.connections_max(now);
        // A dead site is tried with one message, so that not many fail for having been here.
        let by_window = if self.health.is_dead() && self.live() == 0 {
            1
        } else {
            connections.saturating_mul(JOBS_PER_CONNECTION).saturating_add(JOBS_SPARE)
        };
        let slowed = self.slowed.as_ref().filter(|slowed| slowed.until > now).map(|slowed| &slowed.bucket);
        let buckets = self.message_rate.iter().chain(slowed).map(|bucket| bucket.most_within(HOLD));
        let bound = buckets.fold(by_window.min(sources.most_within(self.source, HOLD)), u32::min);
        usize_of(bound).saturating_sub(self.ready.len())
    }

    fn connections_max(&self, now: Instant) -> u32 {
        match self.health.allowance(now) {
            Allowance::Probe => 1,
            _ => self.window.connections(),
        }
    }

    /// A connection that carried what it may.
    pub fn full(&self) -> Option<ConnectionId> {
        self.idle.iter().copied().find(|connection| self.is_full(*connection))
    }

    /// A connection that was idle for long, or is one too many.
    pub fn spare(&self, now: Instant) -> Option<ConnectionId> {
        let is_over = self.total() > self.shaping.connections.get();
        let eldest = self.idle.first().copied();
        eldest.filter(|_| is_over || self.idle_ends().is_some_and(|at| at <= now))
    }

    fn is_full(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| {
            let most = self.shaping.messages_per_connection.get();
            known.sent >= known.limits.messages.unwrap_or(most).clamp(1, most)
        })
    }

    /// When the eldest idle connection has been idle for long enough.
    pub fn idle_ends(&self) -> Option<Instant> {
        let eldest = self.connections.get(self.idle.first()?)?;
        let Phase::Idle { since } = eldest.phase else {
            return None;
        };
        Some(since + self.shaping.idle)
    }

    /// The idle connection that is to go first.
    pub fn eldest_idle(&self) -> Option<ConnectionId> {
        self.idle.first().copied()
    }

    /// How long the connection that would be used next has been there.
    pub fn age_of_next(&self, now: Instant) -> Duration {
        let next = self.idle.last().and_then(|connection| self.connections.get(connection));
        next.map_or(Duration::ZERO, |connection| now - connection.opened)
    }

    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Connections that stand.
    pub fn live(&self) -> u32 {
        self.busy + u32::try_from(self.idle.len()).unwrap_or(u32::MAX)
    }

    /// Connections that count against the limits: in every phase, until they are gone.
    pub fn total(&self) -> u32 {
        u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    pub fn closing_count(&self) -> u32 {
        self.total() - self.live() - self.opening
    }

    pub fn opening_count(&self) -> u32 {
        self.opening
    }

    pub fn busy_count(&self) -> u32 {
        self.busy
    }

    /// Made anew it would be the same.
    pub fn is_untouched(&self, now: Instant) -> bool {
        self.is_empty() && self.fades() <= now
    }

    /// There is neither a message nor a connection.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.connections.is_empty()
    }

    /// When nothing more is to be remembered of what was sent, of what went wrong, and of what somebody ordered.
    pub fn fades(&self) -> Instant {
        let buckets = self.connection_rate.iter().chain(&self.message_rate).map(Bucket::full_at);
        let suspended = self.suspension.as_ref().map(Suspension::ends);
        let others = self.health.fades(&self.shaping).into_iter().chain(suspended).chain(self.slowed_until());
        buckets.chain(others).max().unwrap_or_default()
    }

    /// Forgets what has ended.
    pub fn tidy(&mut self, now: Instant) {
        self.slowed.take_if(|slowed| slowed.until <= now);
        self.suspension.take_if(|suspension| suspension.ends() <= now);
    }
}

impl Slowed {
    fn live(&mut self, now: Instant) -> Option<&mut Bucket> {
        (self.until > now).then_some(&mut self.bucket)
    }
}

impl Sending {
    /// Recipients that were counted although `leftover` of all were not tried.
    fn untried(self, leftover: usize) -> usize {
        self.counted.saturating_sub(self.recipients.saturating_sub(leftover))
    }
}

fn set_rate(bucket: &mut Option<Bucket>, rate: Option<Rate>, now: Instant) {
    match (bucket, rate) {
        (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
        (bucket, rate) => *bucket = rate.map(Bucket::new),
    }
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
