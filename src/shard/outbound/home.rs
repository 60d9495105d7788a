//! The home side: what this shard's logs owe elsewhere is made ready in time and handed out to those who send it.
//!
//! ```text
//!   timeline ── due ──> line (destination, way) ── first item ──> way known? ──> Letter::Work to the site's shard
//!                                                                  │ no                    │
//!                                                                  v                       v
//!                                                          look up, then as before    Letter::Pull
//!                                                                                          │
//!   jobs with their envelopes, read from the log  <────────────────────────────────────────┘
//! ```
//!
//! Invariants: a line is told of when it has its first item and when it was asked for more than it had; a line whose
//! way cannot be found waits, or its mail is returned, and never both; mail is given to the site that its way leads to
//! now, and to no other; what was looked up by a configuration counts for nothing once another was read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Attempt, Home, Job, Report};
use super::operator::inside_of;
use super::way::{self, Choice, Unroutable, Way};
use crate::io::clock;
use crate::io::executor::{Turns, spawn};
use crate::mail::envelope::Envelope;
use crate::mail::time::Instant;
use crate::proto::smtp::client::{Failure, Fate};
use crate::queue::policy::PoolId;
use crate::queue::schedule::{COMMON_WAY, Item, Line};
use crate::queue::selection::{self, Outside};
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::shard::mesh::Letter;
use crate::store::owed::{DestinationId, Row, State};
use crate::store::record::Message;
use crate::store::{LogId, MessageId, RecordPlace, Sequence};

/// Items that are made ready before others of the shard have their turn, and where a record is read for each.
const DUE_PER_TURN: usize = 1000;
const READ_PER_TURN: usize = 64;

/// Items of a line that are passed over before others of the shard have their turn.
const PASSED_PER_PULL: usize = 256;

/// How long a way stays as it was found, whatever the TTL: sites are named by it. Then it is found anew, also while
/// mail waits.
const WAY_KEPT: Duration = Duration::from_secs(300);

/// Mail that a site may ask for: a line of a log, by names that mean the same on all shards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Feed {
    pub log: LogId,
    pub destination: Arc<str>,
    /// The home's number for the way.
    pub way: u16,
    pub pool: PoolId,
}

/// A line that has got its first items, for the shard of its site.
pub struct Work {
    pub feed: Feed,
    pub way: Arc<Way>,
    pub count: usize,
}

/// Whether the mail of a way waits at its site, and why.
pub struct Blocked {
    pub destination: Arc<str>,
    pub way: u16,
    pub site: Arc<str>,
    pub why: Option<String>,
}

/// A site's offer to take so many messages of a line.
pub struct Pull {
    pub feed: Feed,
    pub count: usize,
    /// The shard and the site that asked.
    pub shard: usize,
    pub site: Arc<str>,
}

/// The answer to a [`Pull`].
pub struct Jobs {
    pub site: Arc<str>,
    pub feed: Feed,
    pub jobs: Vec<Job>,
    /// How many more wait in the line.
    pub remaining: usize,
}

/// What is known of one destination.
pub struct Destination {
    /// By number; the first is that of mail of which nothing but the destination decides.
    ways: Vec<Known>,
}

impl Default for Destination {
    fn default() -> Self {
        Self { ways: vec![Known::new(Choice::default())] }
    }
}

/// A way by its number.
struct Known {
    choice: Choice,
    found: Found,
    /// The site that takes nothing now, and why.
    blocked: Option<(Arc<str>, String)>,
    /// Lines that wait for the way to be found.
    waiting: Vec<LogId>,
}

/// Whether a way is known.
enum Found {
    No,
    /// Somebody is looking it up, under this number. The way before stays if nothing can be found out now.
    Soon(u64, Option<Arc<Way>>),
    Until(Instant, Arc<Way>),
    /// It could not be found, and why; looked up again at a time.
    NotBefore(Instant, String),
}

/// The search for a way.
struct Lookup {
    destination: Arc<str>,
    /// The number of the way.
    way: u16,
    /// No other search has it, so that an entry that was made anew meanwhile is not taken for the one that asked.
    number: u64,
}

#[derive(Default)]
pub struct Destinations {
    by_name: RefCell<HashMap<Arc<str>, Destination>>,
    /// How many lookups have begun.
    lookups: Cell<u64>,
}

/// Makes ready what is due, for as long as the shard lives.
pub async fn run(shard: Rc<Shard>) {
    loop {
        let next = turn(&shard).await;
        shard.outbound().alarm().wait(next).await;
    }
}

/// One look at all timelines; says how long nothing will be due.
async fn turn(shard: &Rc<Shard>) -> Option<Duration> {
    let now = now_s();
    let mut turns = Turns::begin();
    for commit in shard.logs() {
        while shard.make_ready(commit, now) {
            turns.give().await;
        }
        loop {
            let fresh = commit.schedule_mut().poll_fresh();
            let Some(line) = fresh else {
                break;
            };
            shard.offer(commit, line);
        }
    }
    for (name, way, logs) in shard.outbound().destinations().take_expired(clock::instant()) {
        for commit in shard.logs().iter().filter(|commit| logs.contains(&commit.id())) {
            let found = commit.owed().destinations().find(&name);
            if let Some(DestinationId(destination)) = found {
                shard.offer(commit, Line { destination, way });
            }
        }
    }
    let dues = shard.logs().iter().filter_map(|commit| commit.schedule().deadline());
    let due = dues.min().map(|at| Duration::from_secs(u64::from(at.saturating_sub(now)).max(1)));
    let looked_up = shard.outbound().destinations().retry_after(clock::instant());
    due.into_iter().chain(looked_up).min()
}

/// Whether a recipient's copy is to be sent to the item's destination now.
fn is_due(row: &Row, item: Item, now: u32) -> bool {
    row.way == crate::store::owed::Way::Remote(DestinationId(item.destination))
        && row.state == State::Waiting
        && row.due <= now
}

impl Shard {
    /// Puts some of what is due in line. True if there may be more.
    fn make_ready(&self, commit: &Commit, now: u32) -> bool {
        let is_chosen = way::is_chosen(&self.config());
        let count_max = if is_chosen { READ_PER_TURN } else { DUE_PER_TURN };
        for _ in 0..count_max {
            let Some((item, at)) = commit.schedule_mut().poll_due(now) else {
                return false;
            };
            let row =
                commit.owed().of_message(Sequence(item.message)).find(|row| is_due(row, item, now)).copied();
            if let Some(row) = row {
                let way = if is_chosen { self.way_of(commit, item, row.record) } else { COMMON_WAY };
                commit.schedule_mut().make_ready(item, way, row.priority, at);
            }
        }
        true
    }

    /// The number of the way that a message goes by what is in it. Whoever takes one that cannot be read says so.
    fn way_of(&self, commit: &Commit, item: Item, record: RecordPlace) -> u16 {
        let id = MessageId { log: commit.id(), sequence: Sequence(item.message) };
        let owed = commit.owed();
        let name = owed.destinations().name(DestinationId(item.destination));
        let Some((name, (_, message))) = name.zip(self.reader().taken(id, record).ok()) else {
            return COMMON_WAY;
        };
        let choice = way::choose(&self.config(), &message);
        self.outbound().destinations().number(name, choice).unwrap_or(COMMON_WAY)
    }

    /// Finds the ways of all mail anew.
    pub fn reroute(&self) {
        self.outbound().destinations().forget();
        for commit in self.logs() {
            commit.schedule_mut().recall();
        }
        self.outbound().alarm().ring();
    }

    /// Has the sites of a destination tried that are being left alone, and its ways looked up anew.
    pub fn try_now(&self, destination: &str) {
        for site in self.outbound().destinations().end_pauses(destination, clock::instant()) {
            let shard = site_shard(&site, self.mesh.shards());
            self.mesh.post(shard, Letter::TryNow(site));
        }
    }

    /// Tells the site of a line that there is work, as soon as it is known which one that is.
    fn offer(self: &Rc<Self>, commit: &Commit, line: Line) {
        let name = commit.owed().destinations().name(DestinationId(line.destination)).map(Arc::<str>::from);
        let Some(name) = name else {
            return;
        };
        let log = commit.id();
        let destinations = self.outbound().destinations();
        let mut by_name = destinations.by_name.borrow_mut();
        let destination = by_name.entry(Arc::clone(&name)).or_default();
        let Some(known) = destination.ways.get_mut(usize::from(line.way)) else {
            return;
        };
        let now = clock::instant();
        match &known.found {
            Found::Until(until, way) if *until > now => {
                let way = Arc::clone(way);
                drop(by_name);
                let feed = Feed { log, destination: name, way: line.way, pool: way.pool };
                let count = commit.schedule().ready(line);
                let shard = site_shard(&way.site, self.mesh.shards());
                self.mesh.post(shard, Letter::Work(Box::new(Work { feed, way, count })));
            }
            Found::Soon(..) => known.wait(log),
            Found::NotBefore(at, _) if *at > now => known.wait(log),
            Found::No | Found::Until(..) | Found::NotBefore(..) => {
                known.wait(log);
                let number = destinations.lookups.get();
                destinations.lookups.set(number + 1);
                known.begin_lookup(number);
                let choice = known.choice.clone();
                drop(by_name);
                let lookup = Lookup { destination: name, way: line.way, number };
                spawn("way", Rc::clone(self).find_way(lookup, choice));
            }
        }
    }

    async fn find_way(self: Rc<Self>, lookup: Lookup, choice: Choice) {
        let found = way::find(&self, &lookup.destination, &choice).await;
        let now = clock::instant();
        let waiting = match found {
            Ok(way) => self.outbound().destinations().end_lookup(&lookup, |known, _| {
                known.found = Found::Until(now + WAY_KEPT, way);
                std::mem::take(&mut known.waiting)
            }),
            Err(Unroutable::Later(why, span)) => {
                tracing::info!(destination = &*lookup.destination, why, "the way is not known yet");
                self.outbound().destinations().end_lookup(&lookup, |known, before| match before {
                    Some(way) => {
                        known.found = Found::Until(now + span, way);
                        std::mem::take(&mut known.waiting)
                    }
                    None => {
                        known.found = Found::NotBefore(now + span, why);
                        // They wait on until it is looked up again.
                        Vec::new()
                    }
                })
            }
            Err(Unroutable::Never(failure)) => {
                self.fail_lines(&lookup, &failure).await;
                None
            }
        };
        for log in waiting.unwrap_or_default() {
            if let Some((commit, line)) = self.line(log, &lookup) {
                self.offer(&commit, line);
            }
        }
        self.outbound().alarm().ring();
    }

    /// The line of a log that a way was looked up for.
    fn line(&self, log: LogId, lookup: &Lookup) -> Option<(Rc<Commit>, Line)> {
        let commit = Rc::clone(self.log(log)?);
        let DestinationId(destination) = commit.owed().destinations().find(&lookup.destination)?;
        Some((commit, Line { destination, way: lookup.way }))
    }

    /// The mail that waits can go nowhere: it is returned, unless it goes another way before its turn.
    async fn fail_lines(self: &Rc<Self>, lookup: &Lookup, failure: &Failure) {
        let destinations = self.outbound().destinations();
        while let Some(log) = destinations.of_lookup(lookup, |known| known.waiting.pop()).flatten() {
            let Some((commit, line)) = self.line(log, lookup) else {
                continue;
            };
            while let Some(item) =
                destinations.of_lookup(lookup, |_| commit.schedule_mut().take(line)).flatten()
            {
                self.fail_item(&commit, item, failure).await;
            }
        }
        destinations.end_lookup(lookup, |known, _| known.found = Found::No);
    }

    async fn fail_item(self: &Rc<Self>, commit: &Rc<Commit>, item: Item, failure: &Failure) {
        let (_, rows) = due_rows(commit, item, now_s());
        let fates = rows.iter().map(|row| (row.recipient, Fate::Failed(failure.clone()))).collect();
        let report = Report { log: commit.id(), item, fates, attempt: Arc::new(Attempt::none()) };
        match self.follow(&report) {
            Some(ticket) => Rc::clone(self).take_back_after((commit.id(), item), ticket).await,
            None => self.take_back(commit.id(), item),
        }
    }

    /// Answers a site that has room for messages.
    pub fn answer_pull(self: &Rc<Self>, pull: Pull) {
        let Pull { feed, count, shard, site } = pull;
        let mut jobs = Vec::new();
        let mut remaining = 0;
        if let Some(commit) = self.log(feed.log).cloned() {
            let destination = commit.owed().destinations().find(&feed.destination);
            if let Some(DestinationId(destination)) = destination {
                let line = Line { destination, way: feed.way };
                if self.outbound().destinations().is_way_to(&feed, &site, clock::instant()) {
                    (jobs, remaining) = self.take_within_limits(&commit, line, &feed, count);
                } else {
                    // Whoever it goes to from now on is told, once that is known.
                    commit.schedule_mut().refresh(line);
                    self.outbound().alarm().ring();
                }
            }
        }
        self.mesh.post(shard, Letter::Jobs(Jobs { site, feed, jobs, remaining }));
    }

    /// At most so many jobs, and how many more there are to ask for.
    fn take_within_limits(
        self: &Rc<Self>,
        commit: &Rc<Commit>,
        line: Line,
        feed: &Feed,
        count: usize,
    ) -> (Vec<Job>, usize) {
        let tenant = self.outbound().destinations().tenant(feed);
        let count = self.outbound().room_for_outcomes((feed.log, line), count);
        let count = self.take_tenant_tokens(tenant.as_deref(), (feed.log, line), count);
        let jobs = self.take_jobs(commit, line, feed, count);
        self.put_back_tenant_tokens(tenant.as_deref(), count - jobs.len());
        // Without room or a token there is nothing to ask for until the line is told of again.
        let remaining = if count == 0 { 0 } else { commit.schedule().ready(line) };
        (jobs, remaining)
    }

    fn take_jobs(self: &Rc<Self>, commit: &Rc<Commit>, line: Line, feed: &Feed, count: usize) -> Vec<Job> {
        let now = now_s();
        let mut jobs = Vec::with_capacity(count);
        let mut passed = 0;
        while jobs.len() < count {
            if passed == PASSED_PER_PULL {
                // The site hears of the rest again.
                commit.schedule_mut().refresh(line);
                self.outbound().alarm().ring();
                break;
            }
            let taken = commit.schedule_mut().take(line);
            let Some(item) = taken else {
                break;
            };
            let (record, rows) = due_rows(commit, item, now);
            let Some(record) = record else {
                // Held, put off or settled since it was ready.
                passed += 1;
                commit.schedule_mut().give_back(item);
                continue;
            };
            let id = MessageId { log: commit.id(), sequence: Sequence(item.message) };
            match self.reader().taken(id, record) {
                Ok((kept, message)) => {
                    if let Some(until) = self.suspended_until(commit, feed, &rows, &message) {
                        passed += 1;
                        let mut schedule = commit.schedule_mut();
                        schedule.give_back(item);
                        schedule.insert(item, until);
                        continue;
                    }
                    if let Some(other) = self.other_way(feed, &message) {
                        passed += 1;
                        let at = rows.iter().map(|row| row.due).min().unwrap_or(now);
                        let mut schedule = commit.schedule_mut();
                        schedule.give_back(item);
                        schedule.make_ready(item, other, rows[0].priority, at);
                        self.outbound().alarm().ring();
                        continue;
                    }
                    let home = Home::new(self.mesh.own_inbox().clone(), commit.id(), item);
                    jobs.extend(job(home, feed.pool, (kept.message, message), &rows));
                }
                Err(error) => {
                    tracing::error!(message = %id, %error, "a record cannot be read");
                    let ticket = self.put_aside(commit, id, &rows);
                    spawn("outcome", Rc::clone(self).take_back_after((commit.id(), item), ticket));
                }
            }
        }
        jobs
    }

    /// Until when an operator keeps all of these recipients' copies back, in Unix seconds.
    fn suspended_until(&self, commit: &Commit, feed: &Feed, rows: &[Row], message: &Message) -> Option<u32> {
        let suspensions = self.outbound().suspensions().borrow();
        if suspensions.is_empty() {
            return None;
        }
        let (now, now_s) = (clock::instant(), now_s());
        let row = rows.first()?;
        let id = MessageId { log: commit.id(), sequence: row.message }.to_string();
        let site = self.outbound().destinations().site_of_feed(feed);
        let outside = Outside {
            id: &id,
            destination: &feed.destination,
            sites: site.as_slice(),
            state: selection::State::Ready,
            age_s: u64::from(now_s.saturating_sub(row.received)),
        };
        let until = rows.iter().map(|row| {
            let inside = inside_of(message, row.recipient, None)?;
            suspensions.holding(&outside, &inside, now).map(|suspension| suspension.until)
        });
        // One that may go takes the others along.
        let span = until.min()?? - now;
        Some(now_s.saturating_add(u32::try_from(span.as_secs()).unwrap_or(u32::MAX)).saturating_add(1))
    }

    /// The number of the way that a message goes by what is in it, if that is not the feed's: the configuration has
    /// changed meanwhile.
    fn other_way(&self, feed: &Feed, message: &Message) -> Option<u16> {
        let choice = way::choose(&self.config(), message);
        let number = self.outbound().destinations().number(&feed.destination, choice)?;
        (number != feed.way).then_some(number)
    }
}

/// The recipients of an item that are to be sent to now, and where their message's record is.
pub fn due_rows(commit: &Commit, item: Item, now: u32) -> (Option<RecordPlace>, Vec<Row>) {
    let owed = commit.owed();
    let rows: Vec<Row> =
        owed.of_message(Sequence(item.message)).filter(|row| is_due(row, item, now)).copied().collect();
    (rows.first().map(|row| row.record), rows)
}

fn job(
    home: Home,
    pool: PoolId,
    (locator, message): (crate::store::Locator, Message),
    rows: &[Row],
) -> Option<Job> {
    let Envelope { recipients, priority, .. } = &message.accepted.as_ref()?.envelope;
    let priority = *priority;
    let numbers: Vec<u32> = rows.iter().map(|row| row.recipient).collect();
    let recipients: Vec<_> =
        numbers.iter().filter_map(|&number| recipients.get(number as usize).cloned()).collect();
    let envelope = message.accepted?.envelope;
    let envelope = Envelope { recipients, ..envelope };
    let attempts = rows.iter().map(|row| u32::from(row.attempts)).max().unwrap_or(0);
    Some(Job { home, message: locator, pool, priority, attempts, envelope, numbers })
}

/// Which shard sends to a site.
pub fn site_shard(site: &str, shards: usize) -> usize {
    crc32fast::hash(site.as_bytes()) as usize % shards
}

impl Known {
    fn new(choice: Choice) -> Self {
        Self { choice, found: Found::No, blocked: None, waiting: Vec::new() }
    }

    fn site(&self) -> Option<&Arc<str>> {
        match &self.found {
            Found::Until(_, way) => Some(&way.site),
            _ => None,
        }
    }

    /// What holds up its mail.
    fn why_waiting(&self) -> Option<&String> {
        match (&self.found, &self.blocked) {
            (Found::NotBefore(_, why), _) => Some(why),
            (_, Some((site, why))) if self.may_be(site) => Some(why),
            _ => None,
        }
    }

    /// Whether its mail goes to this site, unless that is not known at the moment.
    fn may_be(&self, site: &Arc<str>) -> bool {
        self.site().is_none_or(|own| own == site)
    }

    /// From now on it is being looked up.
    fn begin_lookup(&mut self, number: u64) {
        let before = match std::mem::replace(&mut self.found, Found::No) {
            Found::Until(_, way) => Some(way),
            Found::Soon(_, before) => before,
            Found::No | Found::NotBefore(..) => None,
        };
        self.found = Found::Soon(number, before);
    }

    fn wait(&mut self, log: LogId) {
        if !self.waiting.contains(&log) {
            self.waiting.push(log);
        }
    }
}

impl Destinations {
    /// Ways may be others after the configuration was read again.
    fn forget(&self) {
        self.by_name.borrow_mut().clear();
    }

    /// Does something with what is looked up, unless it was forgotten since the lookup began.
    fn of_lookup<T>(&self, lookup: &Lookup, act: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut by_name = self.by_name.borrow_mut();
        let known = by_name.get_mut(&lookup.destination)?.ways.get_mut(usize::from(lookup.way))?;
        matches!(known.found, Found::Soon(number, _) if number == lookup.number).then(|| act(known))
    }

    /// As [`Destinations::of_lookup`], once it is over; the way before comes along.
    fn end_lookup<T>(
        &self,
        lookup: &Lookup,
        end: impl FnOnce(&mut Known, Option<Arc<Way>>) -> T,
    ) -> Option<T> {
        self.of_lookup(lookup, |known| {
            let before = match std::mem::replace(&mut known.found, Found::No) {
                Found::Soon(_, before) => before,
                _ => None,
            };
            end(known, before)
        })
    }

    /// Forgets destinations that nothing is owed to any more.
    pub fn prune(&self, is_owed: impl Fn(&str) -> bool) {
        self.by_name.borrow_mut().retain(|name, _| is_owed(name));
    }

    pub fn set_blocked(&self, blocked: Blocked) {
        let mut destinations = self.by_name.borrow_mut();
        let ways = destinations.get_mut(&blocked.destination).map(|destination| &mut destination.ways);
        // A site that had the mail before has no say any more.
        if let Some(known) = ways.and_then(|ways| ways.get_mut(usize::from(blocked.way)))
            && known.may_be(&blocked.site)
        {
            known.blocked = blocked.why.map(|why| (blocked.site, why));
        }
    }

    /// The tenant of a feed's mail, where tenants are told apart.
    fn tenant(&self, feed: &Feed) -> Option<String> {
        let destinations = self.by_name.borrow();
        let known = destinations.get(&feed.destination)?.ways.get(usize::from(feed.way))?;
        known.choice.tenant().map(str::to_owned)
    }

    /// The number of a way; `None` if there are too many.
    fn number(&self, name: &str, choice: Choice) -> Option<u16> {
        let mut destinations = self.by_name.borrow_mut();
        if !destinations.contains_key(name) {
            destinations.insert(name.into(), Destination::default());
        }
        let ways = &mut destinations.get_mut(name)?.ways;
        let number = ways.iter().position(|known| known.choice == choice).unwrap_or_else(|| {
            ways.push(Known::new(choice));
            ways.len() - 1
        });
        u16::try_from(number).ok()
    }

    /// The sites that mail for a destination goes to, as far as they were looked up; that of common mail first. Who
    /// sends it, and for whom, may decide which.
    pub fn sites(&self, name: &str) -> Vec<Arc<str>> {
        let destinations = self.by_name.borrow();
        let mut sites: Vec<Arc<str>> = Vec::new();
        for site in destinations.get(name).into_iter().flat_map(|known| &known.ways).filter_map(Known::site) {
            if !sites.contains(site) {
                sites.push(Arc::clone(site));
            }
        }
        sites
    }

    /// The site of this mail for a destination, if it was looked up.
    pub fn site_of(&self, name: &str, choice: &Choice) -> Option<Arc<str>> {
        let destinations = self.by_name.borrow();
        let mut ways = destinations.get(name)?.ways.iter();
        ways.find(|known| known.choice == *choice)?.site().cloned()
    }

    fn site_of_feed(&self, feed: &Feed) -> Option<Arc<str>> {
        self.by_name.borrow().get(&feed.destination)?.ways.get(usize::from(feed.way))?.site().cloned()
    }

    /// What holds up the mail for a destination, as far as this shard was told.
    pub fn why_waiting(&self, name: &str) -> Option<String> {
        let destinations = self.by_name.borrow();
        destinations.get(name)?.ways.iter().find_map(Known::why_waiting).cloned()
    }

    /// Whether mail of a feed goes to this site, as far as that was found out lately.
    fn is_way_to(&self, feed: &Feed, site: &str, now: Instant) -> bool {
        let destinations = self.by_name.borrow();
        let ways = destinations.get(&feed.destination).map(|destination| &destination.ways);
        let found = ways.and_then(|ways| ways.get(usize::from(feed.way))).map(|known| &known.found);
        match found {
            Some(Found::Until(until, way)) => *until > now && *way.site == *site && way.pool == feed.pool,
            _ => false,
        }
    }

    /// The sites of a destination's mail. They, and those that were not found, are looked for again now.
    fn end_pauses(&self, name: &str, now: Instant) -> Vec<Arc<str>> {
        let mut destinations = self.by_name.borrow_mut();
        let ways = destinations.get_mut(name).into_iter().flat_map(|destination| &mut destination.ways);
        let mut sites = Vec::new();
        for known in ways {
            match &mut known.found {
                Found::Until(until, way) => {
                    *until = (*until).min(now);
                    sites.push(Arc::clone(&way.site));
                }
                Found::NotBefore(at, _) => *at = (*at).min(now),
                Found::No | Found::Soon(..) => {}
            }
        }
        sites
    }

    /// Lines whose way is to be looked up again now: name, number of the way, logs.
    fn take_expired(&self, now: Instant) -> Vec<(Arc<str>, u16, Vec<LogId>)> {
        let mut expired = Vec::new();
        for (name, destination) in self.by_name.borrow_mut().iter_mut() {
            for (number, known) in (0..).zip(&mut destination.ways) {
                if matches!(known.found, Found::NotBefore(at, _) if at <= now) && !known.waiting.is_empty() {
                    expired.push((Arc::clone(name), number, std::mem::take(&mut known.waiting)));
                }
            }
        }
        expired
    }

    /// When a way is to be looked up again that could not be found.
    fn retry_after(&self, now: Instant) -> Option<Duration> {
        let destinations = self.by_name.borrow();
        let known = destinations.values().flat_map(|destination| &destination.ways);
        let at = known.filter_map(|known| match known.found {
            Found::NotBefore(at, _) if !known.waiting.is_empty() => Some(at),
            _ => None,
        });
        at.min().map(|at| at - now)
    }
}

/// Unix seconds as the schedule has them.
pub fn now_s() -> u32 {
    u32::try_from(clock::timestamp().seconds).unwrap_or(u32::MAX)
}
