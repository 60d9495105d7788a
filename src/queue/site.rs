//! A site: the hosts that take the mail of one or many destinations, and all that is under way to them.
//!
//! Homes say that they have mail (`handle_work`); the site asks for as much as it can soon send, deals it out among
//! its lanes by the weights of the pool, opens connections and sends. The driver carries out what `poll_action`
//! says and reports back; between events nothing changes but by time, and `deadline` knows when.
//!
//! ```text
//!   home ── handle_work ──> feeds ──> Pull ──> home ── handle_jobs ──> lane ──> Open, Send ──> driver
//!     ^                                                                 │  ^                     │
//!     ├───────────────────────────── Return, Fail <─────────────────────┘  └──── leftover <──────┤
//!     └───────────────────────────── outcome <───────────────────────────────── handle_sent <────┘
//! ```
//!
//! The weights decide while the lanes keep up. A lane that is full, or has to wait, holds up none of the others: then
//! each sends what it can.
//!
//! A message that was pulled and cannot go soon after all, because of a suspension or a limit, returns to its home
//! unharmed. Where no host took a connection until the site counted as dead, it fails, and its home counts an
//! attempt; messages that were still at home are not touched, their homes are told that the pool is blocked.
//!
//! Invariants: a job is in exactly one place; connections and rates never exceed the plan; messages held are bounded;
//! after `poll_action` has given `None`, it gives nothing before the next event or `deadline`, which lies ahead.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use super::feeds::Feeds;
use super::job::{
    Action, Block, ConnectionId, FailureKind, FeedId, Job, OpenFailure, PeerLimits, SendOutcome, Sent, Why,
};
use super::lane::{Gate, Lane, NEVER, PULL_AHEAD_MS, Suspension};
use super::plan::Plan;
use super::policy::{Member, PoolId, Rate, SourceId};
use super::rule::{Fired, RuleAction};
use super::sources::Sources;
use super::turns::Turns;
use crate::limits::outbound::{JOBS_MAX, PULL_MAX, TURN};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::Instant;

mod memory;
#[cfg(test)]
mod tests;

/// See the module.
pub struct Site<J> {
    name: String,
    plan: Plan,
    /// One for each source of the plan, and retired ones that still have connections.
    lanes: Vec<Lane<J>>,
    feeds: Feeds,
    /// The pool whose feeds were asked last.
    last_pool: Option<PoolId>,
    turns: BTreeMap<PoolId, Turns>,
    /// Jobs that no lane has yet.
    arrived: VecDeque<J>,
    /// Jobs that are to go back, and have not been handed out yet.
    returned: VecDeque<Action<J>>,
    connections: HashMap<ConnectionId, SourceId>,
    next_connection: u64,
    /// Later arrivals have higher numbers; what comes back goes in front.
    last_order: i64,
    first_order: i64,
    suspension: Option<Suspension>,
    switches: Vec<Switch>,
    /// What homes were told.
    blocks: BTreeMap<PoolId, Block>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Nothing is begun any more.
    Stopping,
}

/// Mail of one pool that leaves by another for a time.
struct Switch {
    from: PoolId,
    to: PoolId,
    until: Instant,
}

/// What a suspension covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Site,
    Source(SourceId),
}

/// A lane as an operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneView {
    pub source: SourceId,
    /// Messages that wait for a connection.
    pub ready: usize,
    pub opening: u32,
    pub idle: u32,
    pub busy: u32,
    /// How many connections the site has shown to bear.
    pub window: u32,
    /// When it can next send, and what it waits for.
    pub gate: Gate,
}

impl<J: Job> Site<J> {
    /// `name` is the MX set or the route, as operators see it.
    pub fn new(name: String, plan: Plan) -> Self {
        let lanes = plan.lanes.iter().map(|lane| Lane::new(lane.source, Rc::clone(&lane.shaping))).collect();
        Self {
            name,
            plan,
            lanes,
            feeds: Feeds::default(),
            last_pool: None,
            turns: BTreeMap::new(),
            arrived: VecDeque::new(),
            returned: VecDeque::new(),
            connections: HashMap::new(),
            next_connection: 0,
            last_order: 0,
            first_order: 0,
            suspension: None,
            switches: Vec::new(),
            blocks: BTreeMap::new(),
            phase: Phase::Running,
        }
    }

    /// A home has so many messages for the feed, those that were asked for included; 0 takes a hint back.
    pub fn handle_work(&mut self, feed: FeedId, count: u32) {
        self.feeds.set_waiting(feed, count);
    }

    /// The answer to a `Pull`. So many more wait at the home; who sends none is not asked again before it has
    /// said anew that it has work.
    pub fn handle_jobs(&mut self, feed: FeedId, jobs: Vec<J>, remaining: u32) {
        let remaining = if jobs.is_empty() { 0 } else { remaining };
        self.feeds.end_asking(feed, remaining);
        self.arrived.extend(jobs);
    }

    /// The home has no such feed any more, and will not answer.
    pub fn forget_feed(&mut self, feed: FeedId) {
        self.feeds.forget(feed);
    }

    /// Greeted, introduced, and as secure as was asked for.
    pub fn handle_opened(
        &mut self,
        connection: ConnectionId,
        limits: PeerLimits,
        sources: &mut Sources,
        now: Instant,
    ) {
        if let Some(lane) = self.lane_of(connection) {
            sources.take_back(lane.source);
            lane.handle_opened(connection, limits, now);
        }
    }

    /// No host and no address of the site took the connection; `failure` is the last or the most telling.
    pub fn handle_open_failed(
        &mut self,
        connection: ConnectionId,
        failure: OpenFailure,
        sources: &mut Sources,
        now: Instant,
    ) {
        let Some(lane) = self.lane_of(connection) else {
            return;
        };
        lane.remove(connection);
        match failure.kind {
            FailureKind::SourceUnusable => sources.put_aside(lane.source, now),
            _ => lane.handle_refused(Rc::new(failure), now),
        }
        self.connections.remove(&connection);
    }

    /// How a transaction went. After `ConnectionLost` the connection is gone, and no `handle_closed` follows.
    pub fn handle_sent(
        &mut self,
        connection: ConnectionId,
        sent: Sent<J>,
        sources: &mut Sources,
        now: Instant,
    ) {
        let Sent { outcome, leftover } = sent;
        let untried = leftover.as_ref().map_or(0, Job::recipients);
        let order = self.first_order - 1;
        let Some(lane) = self.lane_of(connection) else {
            // Nobody knows the connection, but a job is a job.
            self.arrived.extend(leftover);
            return;
        };
        match outcome {
            SendOutcome::ConnectionLost if lane.handle_lost(connection, untried, sources, now) => {
                lane.handle_refused(Rc::new(lost_at_once()), now);
            }
            SendOutcome::ConnectionLost => lane.window.handle_failure(),
            _ => {
                lane.handle_sent(connection, untried, sources, now);
                lane.health.handle_success();
            }
        }
        if outcome == SendOutcome::Ok {
            lane.window.handle_success();
        }
        if let Some(job) = leftover {
            lane.push(job, order);
            self.first_order = order;
        }
        if outcome == SendOutcome::ConnectionLost {
            self.connections.remove(&connection);
        }
    }

    /// It is closed: as was asked, or by the host while nothing was on it.
    pub fn handle_closed(&mut self, connection: ConnectionId) {
        if let Some(lane) = self.lane_of(connection) {
            lane.remove(connection);
        }
        self.connections.remove(&connection);
    }

    /// Begins nothing there until `until`, or until it is resumed; what is under way comes to its end.
    pub fn suspend(&mut self, scope: Scope, until: Option<Instant>, reason: &str) {
        let suspension = Some(Suspension { until, reason: reason.to_owned() });
        match scope {
            Scope::Site => self.suspension = suspension,
            Scope::Source(source) => {
                if let Some(lane) = self.lane_from(source) {
                    lane.suspension = suspension;
                }
            }
        }
    }

    /// Lifts a suspension of just this scope.
    pub fn resume(&mut self, scope: Scope) {
        match scope {
            Scope::Site => self.suspension = None,
            Scope::Source(source) => {
                if let Some(lane) = self.lane_from(source) {
                    lane.suspension = None;
                }
            }
        }
    }

    /// Tries hosts that are being left alone, at once.
    pub fn end_pauses(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.end_pause(now));
    }

    /// Gives back all messages that are on no connection: their homes may judge them otherwise now.
    pub fn give_back(&mut self) -> Vec<J> {
        let mut jobs: Vec<J> = self.lanes.iter_mut().flat_map(Lane::take_ready).collect();
        jobs.extend(self.arrived.drain(..));
        jobs
    }

    /// Keeps to this rate, too, until then.
    pub fn slow(&mut self, source: SourceId, rate: Rate, until: Instant, now: Instant) {
        if let Some(lane) = self.lane_from(source) {
            lane.slow(rate, until, now);
        }
    }

    /// Ends what `slow` began.
    pub fn unslow(&mut self, source: SourceId) {
        if let Some(lane) = self.lane_from(source) {
            lane.unslow();
        }
    }

    /// Sends mail of one pool by another until then. The plan must have both; jobs that are dealt out stay.
    pub fn switch_pool(&mut self, from: PoolId, to: PoolId, until: Instant) {
        self.switches.retain(|switch| switch.from != from);
        if from != to {
            self.switches.push(Switch { from, to, until });
        }
    }

    /// What a rule does to the site; `Bounce` and `Defer` are about the message alone. A pool that is switched to must
    /// be in the plan.
    pub fn apply(&mut self, fired: &Fired, now: Instant) {
        let until = now + fired.duration;
        match &fired.does {
            RuleAction::Slow(rate) => self.slow(fired.source, *rate, until, now),
            RuleAction::Suspend => {
                let reason = format!("rule {}: {}", fired.rule, fired.reply);
                self.suspend(Scope::Source(fired.source), Some(until), &reason);
            }
            RuleAction::SwitchPool(to) => self.switch_pool(fired.pool, PoolId::of(to), until),
            RuleAction::Bounce | RuleAction::Defer => {}
        }
    }

    /// Another configuration. What was counted, learnt, suspended and slowed stays; sources that are gone finish
    /// what they have begun.
    pub fn set_plan(&mut self, plan: Plan, now: Instant) {
        for lane in &mut self.lanes {
            lane.is_retired = true;
        }
        for planned in &plan.lanes {
            match self.lanes.iter_mut().find(|lane| lane.source == planned.source) {
                Some(lane) => lane.set_shaping(Rc::clone(&planned.shaping), now),
                None => self.lanes.push(Lane::new(planned.source, Rc::clone(&planned.shaping))),
            }
        }
        self.turns.retain(|pool, _| plan.pools.iter().any(|known| known.id() == *pool));
        self.plan = plan;
    }

    /// Gives everything back and begins nothing more; it has ended when `connection_count` is 0.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopping;
    }

    /// What to do now. To be asked after each event and at `deadline`, until it gives `None`.
    pub fn poll_action(&mut self, sources: &mut Sources, now: Instant) -> Option<Action<J>> {
        self.tidy(now);
        self.evict(sources, now);
        self.deal_out(sources, now);
        if let Some(action) = self.returned.pop_front() {
            return Some(action);
        }
        self.poll_full()
            .or_else(|| self.poll_send(sources, now))
            .or_else(|| self.poll_spare(sources, now))
            .or_else(|| self.poll_open(sources, now))
            .or_else(|| self.poll_pull(sources, now))
            .or_else(|| self.poll_block(sources, now))
    }

    /// When `poll_action` may have something to do without an event; later than `now` once it has given `None`.
    pub fn deadline(&self, sources: &Sources, now: Instant) -> Option<Instant> {
        let mut earliest = NEVER;
        // What is due already waits for an event: `poll_action` had its chance.
        let mut consider = |at: Instant| {
            if at > now && at < earliest {
                earliest = at;
            }
        };
        for lane in &self.lanes {
            if let Some(at) = lane.idle_ends() {
                consider(at);
            }
            if lane.ready_count() > 0 && lane.eldest_idle().is_some() {
                consider(self.with_suspension(lane.message_gate(sources, now), now).at);
            }
            if lane.wants_connection(now) {
                consider(self.with_suspension(Gate::open(lane.opens_at(sources, now)), now).at);
            }
            // Then the site may be forgotten.
            if lane.is_empty() {
                consider(lane.fades());
            }
        }
        for pool in self.feeds.pools() {
            for lane in self.lanes_of(self.leaves_by(pool, now)) {
                lane.slowed_until().into_iter().for_each(&mut consider);
                if lane.room(sources, now) > 0 {
                    consider(ahead(self.with_suspension(lane.gate(sources, now), now).at));
                }
            }
        }
        for pool in self.blocks.keys() {
            consider(ahead(self.gate(*pool, sources, now).at));
        }
        self.switches.iter().for_each(|switch| consider(switch.until));
        self.suspension.iter().for_each(|suspension| consider(suspension.ends()));
        (earliest < NEVER).then_some(earliest)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What homes were last told about a pool, for one that comes later.
    pub fn block(&self, pool: PoolId) -> Option<&Block> {
        self.blocks.get(&pool)
    }

    /// By an operator or a rule, as a whole.
    pub fn suspension(&self) -> Option<&Suspension> {
        self.suspension.as_ref()
    }

    pub fn lanes(&self, sources: &Sources, now: Instant) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().map(move |lane| LaneView {
            source: lane.source,
            ready: lane.ready_count(),
            opening: lane.opening_count(),
            idle: lane.live() - lane.busy_count(),
            busy: lane.busy_count(),
            window: lane.window.connections(),
            gate: self.with_suspension(lane.gate(sources, now), now),
        })
    }

    /// In whatever phase they are.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Jobs that are here: neither at a home nor on a connection.
    pub fn job_count(&self) -> usize {
        self.arrived.len() + self.returned.len() + self.lanes.iter().map(Lane::ready_count).sum::<usize>()
    }

    /// There is nothing to do and nothing to remember: made anew it would be the same.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.feeds.is_empty()
            && self.arrived.is_empty()
            && self.returned.is_empty()
            && self.suspension.is_none()
            && self.switches.is_empty()
            && self.blocks.is_empty()
            && self.lanes.iter().all(|lane| lane.is_untouched(now))
    }

    fn lane_of(&mut self, connection: ConnectionId) -> Option<&mut Lane<J>> {
        let source = *self.connections.get(&connection)?;
        self.lane_from(source)
    }

    fn lane_from(&mut self, source: SourceId) -> Option<&mut Lane<J>> {
        self.lanes.iter_mut().find(|lane| lane.source == source)
    }

    /// Forgets what has ended.
    fn tidy(&mut self, now: Instant) {
        self.suspension.take_if(|suspension| suspension.ends() <= now);
        self.switches.retain(|switch| switch.until > now);
        self.lanes.retain(|lane| !lane.is_retired || lane.total() > 0 || lane.ready_count() > 0);
        self.lanes.iter_mut().for_each(|lane| lane.tidy(now));
    }

    /// Takes the messages from lanes that cannot send them soon.
    fn evict(&mut self, sources: &Sources, now: Instant) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].ready_count() == 0 {
                continue;
            }
            let gate = self.with_suspension(self.lanes[index].gate(sources, now), now);
            if gate.is_near(now) {
                continue;
            }
            for job in self.lanes[index].take_ready() {
                self.place(job, sources, now);
            }
        }
    }

    /// Gives the messages that have arrived to lanes.
    fn deal_out(&mut self, sources: &Sources, now: Instant) {
        while let Some(job) = self.arrived.pop_front() {
            self.place(job, sources, now);
        }
    }

    /// A job goes to the lane whose turn it is, or back.
    fn place(&mut self, job: J, sources: &Sources, now: Instant) {
        let pool = self.leaves_by(job.pool(), now);
        if let Some(source) = self.choose(pool, sources, now) {
            self.last_order += 1;
            let order = self.last_order;
            let lane = self.lane_from(source).expect("a lane was chosen that is there");
            lane.push(job, order);
            return;
        }
        let gate = self.gate(job.pool(), sources, now);
        let is_near = gate.is_near(now);
        let action = match gate.why {
            Why::Dead(failure) if !is_near => Action::Fail { job, failure },
            _ => Action::Return { job },
        };
        self.returned.push_back(action);
    }

    /// The lane for the next job of a pool, of those that have room: one that can send at once, else one that can soon.
    fn choose(&mut self, pool: PoolId, sources: &Sources, now: Instant) -> Option<SourceId> {
        let mut turns = std::mem::take(self.turns.entry(pool).or_default());
        let gate_of = |member: &Member| {
            let lane = self.lanes.iter().find(|lane| lane.source == member.source)?;
            let has_room = lane.room(sources, now) > 0;
            has_room.then(|| self.with_suspension(lane.gate(sources, now), now))
        };
        let members = || self.plan.members(pool).iter().copied();
        let soon = members().filter(|member| gate_of(member).is_some_and(|gate| gate.is_soon(now)));
        let near = members().filter(|member| gate_of(member).is_some_and(|gate| gate.is_near(now)));
        let chosen = turns.choose(soon).or_else(|| turns.choose(near));
        self.turns.insert(pool, turns);
        chosen
    }

    /// Ends connections that carried what they may.
    fn poll_full(&mut self) -> Option<Action<J>> {
        let (lane, connection) =
            self.lanes.iter_mut().find_map(|lane| lane.full().map(|connection| (lane, connection)))?;
        lane.begin_closing(connection);
        Some(Action::Close { connection })
    }

    fn poll_send(&mut self, sources: &mut Sources, now: Instant) -> Option<Action<J>> {
        if self.phase == Phase::Stopping || self.suspension.is_some() {
            return None;
        }
        let index = self.lanes.iter().position(|lane| lane.can_send(sources, now))?;
        if let Some(connection) = self.given_up(index, sources, now) {
            self.lanes[index].begin_closing(connection);
            return Some(Action::Close { connection });
        }
        let lane = &mut self.lanes[index];
        let (connection, job, recipients_max) = lane.begin_sending(sources, now)?;
        // Lanes take turns.
        self.lanes.rotate_left(index + 1);
        Some(Action::Send { connection, job, recipients_max })
    }

    /// A connection that could be used, but that a lane without any needs more.
    fn given_up(&self, index: usize, sources: &Sources, now: Instant) -> Option<ConnectionId> {
        let lane = &self.lanes[index];
        let has_had_its_turn = lane.total() > 1 || lane.age_of_next(now) >= TURN;
        let is_starving = |other: &Lane<J>| other.total() == 0 && self.would_open(other, sources, now);
        let is_wanted = has_had_its_turn && self.is_crowded() && self.lanes.iter().any(is_starving);
        lane.eldest_idle().filter(|_| is_wanted)
    }

    /// Ends connections that nobody needs any more, or that another lane needs more.
    fn poll_spare(&mut self, sources: &Sources, now: Instant) -> Option<Action<J>> {
        let needy = self.lanes.iter().position(|lane| self.would_open(lane, sources, now));
        let needy = needy.filter(|_| self.is_crowded());
        let closing = usize_of(self.lanes.iter().map(Lane::closing_count).sum());
        let is_over = self.connections.len() - closing > usize_of(self.plan.shaping.site_connections.get());
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            let is_needed = needy.is_some_and(|needy| needy != index);
            let is_held_up = lane.is_retired
                || self.phase == Phase::Stopping
                || lane.suspension.is_some()
                || self.suspension.is_some();
            let spare = match lane.spare(now) {
                None if is_held_up || is_over || is_needed => lane.eldest_idle(),
                spare => spare,
            };
            if let Some(connection) = spare {
                self.lanes[index].begin_closing(connection);
                return Some(Action::Close { connection });
            }
        }
        None
    }

    fn poll_open(&mut self, sources: &Sources, now: Instant) -> Option<Action<J>> {
        if self.free_connections() == 0 {
            return None;
        }
        let index = self.lanes.iter().position(|lane| self.would_open(lane, sources, now))?;
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let lane = &mut self.lanes[index];
        lane.begin_opening(connection, now);
        let source = lane.source;
        self.connections.insert(connection, source);
        self.lanes.rotate_left(index + 1);
        Some(Action::Open { connection, source })
    }

    /// All but the site's share of connections allows it.
    fn would_open(&self, lane: &Lane<J>, sources: &Sources, now: Instant) -> bool {
        self.phase == Phase::Running
            && self.suspension.is_none()
            && lane.wants_connection(now)
            && lane.opens_at(sources, now) <= now
    }

    /// There is no connection to be had but by ending one, and none is about to end.
    fn is_crowded(&self) -> bool {
        self.free_connections() == 0 && self.lanes.iter().all(|lane| lane.closing_count() == 0)
    }

    fn free_connections(&self) -> usize {
        usize_of(self.plan.shaping.site_connections.get()).saturating_sub(self.connections.len())
    }

    fn poll_pull(&mut self, sources: &Sources, now: Instant) -> Option<Action<J>> {
        let asked = self.feeds.asked();
        let room_of_site = usize_of(JOBS_MAX).saturating_sub(self.job_count() + asked);
        // Pools that share a source take turns.
        let last = self.last_pool;
        let later = self.feeds.pools().filter(|pool| Some(*pool) > last);
        let others = self.feeds.pools().filter(|pool| Some(*pool) <= last);
        let with_room = |pool| {
            let room = self.room(self.leaves_by(pool, now), sources, now).saturating_sub(asked);
            (room > 0).then_some((pool, room.min(room_of_site)))
        };
        let found = later.chain(others).find_map(with_room);
        let (pool, room) = found?;
        let (feed, waiting) = self.feeds.next(pool).filter(|_| room > 0)?;
        self.last_pool = Some(pool);
        let share = room.div_ceil(self.feeds.queued(pool).max(1));
        let count = u32::try_from(share).unwrap_or(u32::MAX).min(waiting).min(PULL_MAX);
        self.feeds.begin_asking(feed, count);
        Some(Action::Pull { feed, count })
    }

    /// Messages that the lanes of a pool could take now.
    fn room(&self, pool: PoolId, sources: &Sources, now: Instant) -> usize {
        if self.phase == Phase::Stopping {
            return 0;
        }
        let is_soon = |lane: &&Lane<J>| self.with_suspension(lane.gate(sources, now), now).is_soon(now);
        let rooms = self.lanes_of(pool).filter(is_soon).map(|lane| lane.room(sources, now));
        rooms.fold(0, usize::saturating_add)
    }

    fn lanes_of(&self, pool: PoolId) -> impl Iterator<Item = &Lane<J>> {
        let of_source = |member: &Member| self.lanes.iter().find(|lane| lane.source == member.source);
        self.plan.members(pool).iter().filter_map(of_source)
    }

    /// Tells homes when the mail of a pool cannot go, and when it can again.
    fn poll_block(&mut self, sources: &Sources, now: Instant) -> Option<Action<J>> {
        let can_again = |pool: &PoolId| self.gate(*pool, sources, now).is_soon(now);
        if let Some(pool) = self.blocks.keys().copied().find(can_again) {
            self.blocks.remove(&pool);
            return Some(Action::Unblocked { pool });
        }
        let mut pools = self.feeds.pools().chain(self.blocks.keys().copied());
        let (pool, block) = pools.find_map(|pool| {
            let gate = self.gate(pool, sources, now);
            let told = self.blocks.get(&pool);
            if told.is_none() && gate.is_near(now) {
                return None;
            }
            let block = Block { until: (gate.at < NEVER).then_some(gate.at), why: gate.why };
            (told != Some(&block)).then_some((pool, block))
        })?;
        self.blocks.insert(pool, block.clone());
        Some(Action::Blocked { pool, block })
    }

    /// When the first lane of a pool can send. Of several that wait for ever, one that is dead says why.
    fn gate(&self, pool: PoolId, sources: &Sources, now: Instant) -> Gate {
        let pool = self.leaves_by(pool, now);
        let mut best = Gate { at: NEVER, why: Why::NoSource };
        for lane in self.lanes_of(pool) {
            let gate = self.with_suspension(lane.gate(sources, now), now);
            if gate.at < best.at || best.why == Why::NoSource {
                best = gate;
            }
        }
        best
    }

    /// What a suspension of the whole site, or its end, makes of a lane's gate.
    fn with_suspension(&self, gate: Gate, now: Instant) -> Gate {
        let gate = match self.phase {
            Phase::Running => gate,
            Phase::Stopping => gate.and(NEVER, || Why::Stopping),
        };
        match &self.suspension {
            Some(suspension) if suspension.ends() > now => {
                gate.and(suspension.ends(), || Why::Suspended(suspension.reason.clone()))
            }
            _ => gate,
        }
    }

    /// The pool that mail of `pool` leaves by at the moment.
    fn leaves_by(&self, pool: PoolId, now: Instant) -> PoolId {
        let switch = self.switches.iter().find(|switch| switch.from == pool && switch.until > now);
        switch.map_or(pool, |switch| switch.to)
    }
}

/// The time to fetch mail that can go at `at`.
fn ahead(at: Instant) -> Instant {
    if at == NEVER { NEVER } else { Instant(at.0.saturating_sub(PULL_AHEAD_MS)) }
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Stands for a host that greets and then hangs up on the first message.
fn lost_at_once() -> OpenFailure {
    let code = EnhancedCode::new(4, 4, 2);
    let reply = Reply::new(421, code, "the connection was lost before a message went through");
    OpenFailure { kind: FailureKind::GreetingTransient, reply }
}
