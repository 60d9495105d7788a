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
//! now, and to no other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::destinations::{Asked, Lookup};
use super::job::{Attempt, Home, Job, Report};
use super::operator::inside_of;
use super::way::{self, Choice, Unroutable, Way};
use crate::io::clock;
use crate::io::executor::{Turns, spawn};
use crate::mail::envelope::Envelope;
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
        match self.outbound().destinations().ask(&name, line.way, log, clock::instant()) {
            Some(Asked::Way(way)) => {
                let feed = Feed { log, destination: name, way: line.way, pool: way.pool };
                let count = commit.schedule().ready(line);
                let shard = site_shard(&way.site, self.mesh.shards());
                self.mesh.post(shard, Letter::Work(Box::new(Work { feed, way, count })));
            }
            Some(Asked::LookUp(lookup, choice)) => spawn("way", Rc::clone(self).find_way(lookup, choice)),
            Some(Asked::Wait) | None => {}
        }
    }

    async fn find_way(self: Rc<Self>, lookup: Lookup, choice: Choice) {
        let found = way::find(&self, &lookup.destination, &choice).await;
        let now = clock::instant();
        let destinations = self.outbound().destinations();
        let waiting = match found {
            Ok(way) => destinations.found(&lookup, way, now + WAY_KEPT),
            Err(Unroutable::Later(why, span)) => {
                tracing::info!(destination = &*lookup.destination, why, "the way is not known yet");
                destinations.not_found(&lookup, why, now + span)
            }
            Err(Unroutable::Never(failure)) => {
                self.fail_lines(&lookup, &failure).await;
                Vec::new()
            }
        };
        for log in waiting {
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
        while let Some(log) = destinations.fail_next(lookup) {
            let Some((commit, line)) = self.line(log, lookup) else {
                continue;
            };
            while destinations.is_awaited(lookup) {
                let taken = commit.schedule_mut().take(line);
                let Some(item) = taken else {
                    break;
                };
                self.fail_item(&commit, item, failure).await;
            }
        }
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
    let envelope = Arc::unwrap_or_clone(message.accepted?).envelope;
    let envelope = Envelope { recipients, ..envelope };
    let attempts = rows.iter().map(|row| u32::from(row.attempts)).max().unwrap_or(0);
    Some(Job { home, message: locator, pool, priority, attempts, envelope, numbers })
}

/// Which shard sends to a site.
pub fn site_shard(site: &str, shards: usize) -> usize {
    crc32fast::hash(site.as_bytes()) as usize % shards
}

/// Unix seconds as the schedule has them.
pub fn now_s() -> u32 {
    u32::try_from(clock::timestamp().seconds).unwrap_or(u32::MAX)
}
