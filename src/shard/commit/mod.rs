//! Group commit: records go in, a sync covers many of them, then they become visible, in the log's order.
//!
//! [`Commit::append`] gives each group its place in the log at once. A task closes the batch when no write is
//! in flight and everything that was ready to be appended has been: what is appended while a write is being
//! synced goes out with the next. Only after the sync are the records applied to the accounts, bells rung and
//! the askers answered.
//!
//! Invariants: apply order is log order; a group that was not synced is abandoned by the accounts it was planned
//! in, and its asker learns of it; nothing is retried on the same pages.

mod apply;
mod gather;
mod group;
mod slices;
mod space;
mod ticket;

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use self::gather::Batches;
use self::group::{Group, body_bytes};
pub use self::slices::{SliceOf, Slices};
pub use self::ticket::{NotStored, Ticket};
use super::alarm::Alarm;
use super::notify::Bells;
use super::seat::Seats;
use super::state::{Changing, State};
use crate::io::disk::files::LogFiles;
use crate::io::disk::large::{LargeFile, LargeFiles};
use crate::io::disk::layout::LogDir;
use crate::io::disk::prepare::Preparer;
use crate::io::disk::writer::{LogEvent, Writer};
use crate::io::executor::{sleep, spawn, spawn_vital};
use crate::io::net::Sockets;
use crate::mailbox::Change;
use crate::queue::schedule::{Item, Schedule};
use crate::store::log::{Appended, Draw, Log, Outcome, Position, Refused, Write};
use crate::store::owed::{Due, Owed};
use crate::store::record::{Based, Record};
use crate::store::segment::Base;
use crate::store::{Locator, LogId, MessageId, Sequence};

/// What nobody waits for, but should be durable soon, waits so long for others to be written with.
const SOON: Duration = Duration::from_millis(10);

/// One log with everything that waits for it.
pub struct Commit {
    id: LogId,
    log: State<Log>,
    writer: Writer,
    preparer: Preparer,
    large_files: LargeFiles,
    sockets: Sockets,
    seats: Rc<Seats>,
    bells: Rc<Bells>,
    owed: State<Owed>,
    /// When what is owed elsewhere is tried.
    schedule: State<Schedule>,
    /// Rung when there is more to try.
    alarm: Rc<Alarm>,
    /// Appended and not yet synced, in log order.
    pending: State<VecDeque<Group>>,
    /// Waiting for a segment, in the order of planning.
    stalled: State<VecDeque<Group>>,
    /// Somebody waits for what was appended since the last write.
    urgent: Cell<bool>,
    /// A timer runs for what is to be written soon.
    soon: Cell<bool>,
    /// The server ends, and what comes now comes too late.
    is_sealed: Cell<bool>,
    driver: Cell<Option<Waker>>,
    batches: Batches,
    /// Since the start.
    records: Cell<u64>,
    syncs: Cell<u64>,
    /// Bytes written since the start.
    bytes: Cell<u64>,
    /// Bytes of messages taken since the start, and of what the cleaner wrote.
    taken_bytes: Cell<u64>,
    upkeep_bytes: Cell<u64>,
    /// There is no space for another segment: what is left is for what makes room.
    is_short: Cell<bool>,
    /// Records that the start found damaged: what they said of an account that is not known here nobody knows.
    lost_records: u64,
    /// Deliveries of messages of a log, for its cleaner, since it asked.
    watched: RefCell<BTreeMap<LogId, Vec<Locator>>>,
}

impl Commit {
    /// What is owed and how many records are lost, as a start found.
    pub fn new(log: Log, writer: Writer, (owed, lost_records): (Owed, u64), around: Around) -> Rc<Self> {
        let Around { others, preparer, large_files, sockets, seats, bells, alarm } = around;
        let dues = owed.dues().map(|due| (item(&due), due.at));
        let schedule = Schedule::of(dues, owed.row_count());
        let commit = Rc::new(Self {
            id: log.id(),
            log: State::new(log),
            writer,
            preparer,
            large_files,
            sockets,
            seats,
            bells,
            owed: State::new(owed),
            schedule: State::new(schedule),
            alarm,
            pending: State::default(),
            stalled: State::default(),
            urgent: Cell::new(false),
            soon: Cell::new(false),
            is_sealed: Cell::new(false),
            driver: Cell::default(),
            batches: Batches::beside(others),
            records: Cell::new(0),
            syncs: Cell::new(0),
            bytes: Cell::new(0),
            taken_bytes: Cell::new(0),
            upkeep_bytes: Cell::new(0),
            is_short: Cell::new(false),
            lost_records,
            watched: RefCell::default(),
        });
        spawn_vital("commit", drive(Rc::clone(&commit)));
        commit
    }

    /// Appends records that must become durable together. They were planned just now.
    pub fn append(&self, changes: Vec<Change>) -> Rc<Ticket> {
        let ticket = self.append_lazily(changes);
        self.urgent.set(true);
        self.wake_driver();
        ticket
    }

    /// As [`Commit::append`], but nobody waits: they go out with what others append, or with the next second.
    pub fn append_lazily(&self, changes: Vec<Change>) -> Rc<Ticket> {
        let next = self.next_sequence();
        let ticket = Rc::new(Ticket::new(next));
        let group = Group {
            first: next,
            last: next,
            changes,
            messages: Vec::new(),
            places: Vec::new(),
            ticket: Rc::clone(&ticket),
            failures: 0,
        };
        if let Some((group, why)) = self.place_in_turn(group) {
            self.lose(group, why);
        }
        ticket
    }

    /// As [`Commit::append_lazily`], but they go out within [`SOON`].
    pub fn append_soon(self: &Rc<Self>, changes: Vec<Change>) -> Rc<Ticket> {
        let ticket = self.append_lazily(changes);
        if !self.soon.replace(true) {
            let commit = Rc::clone(self);
            spawn("soon", async move {
                sleep(SOON).await;
                commit.soon.set(false);
                commit.nudge();
            });
        }
        ticket
    }

    /// Writes what was appended lazily.
    pub fn nudge(&self) {
        if self.log.borrow().gathered_bytes() > 0 {
            self.urgent.set(true);
            self.wake_driver();
        }
    }

    /// Writes nothing from now on, unless something waits to be written. Gives where the log ends.
    pub fn seal(&self) -> Option<Position> {
        let is_settled = self.is_settled() && !self.log.borrow().is_writing();
        self.is_sealed.set(is_settled);
        self.position().filter(|_| is_settled)
    }

    /// Waits until all that was appended before is durable, or is known to be lost.
    pub async fn barrier(&self) -> Result<(), NotStored> {
        // What has its place is stored or lost together; what waits for space, each for itself.
        let tickets: Vec<Rc<Ticket>> = {
            let (pending, stalled) = (self.pending.borrow(), self.stalled.borrow());
            pending.back().into_iter().chain(&*stalled).map(|group| Rc::clone(&group.ticket)).collect()
        };
        self.nudge();
        for ticket in tickets {
            ticket.stored().await?;
        }
        Ok(())
    }

    pub fn id(&self) -> LogId {
        self.id
    }

    /// The identity that a message will have which is the first record of the next group.
    pub fn next_message(&self) -> MessageId {
        MessageId { log: self.id, sequence: self.next_sequence() }
    }

    pub fn lost_records(&self) -> u64 {
        self.lost_records
    }

    /// Every message of this log below this is durable and settled.
    pub fn settled_below(&self) -> Sequence {
        self.owed.borrow().low_water(Sequence(self.applied().0 + 1))
    }

    /// What is owed.
    pub fn owed(&self) -> Ref<'_, Owed> {
        self.owed.borrow()
    }

    /// When what is owed elsewhere is tried.
    pub fn schedule(&self) -> Ref<'_, Schedule> {
        self.schedule.borrow()
    }

    pub fn schedule_mut(&self) -> Changing<'_, Schedule> {
        self.schedule.borrow_mut()
    }

    /// Everything that was appended has been synced and applied.
    pub fn is_settled(&self) -> bool {
        self.pending.borrow().is_empty() && self.stalled.borrow().is_empty()
    }

    /// What is of no account, for a snapshot.
    pub fn slices(&self) -> Slices<'_> {
        Slices::of(self)
    }

    /// Where its messages are, and what else all threads share about its files.
    pub fn files(&self) -> &LogFiles {
        &self.writer.dir().files
    }

    pub fn dir(&self) -> &LogDir {
        self.writer.dir()
    }

    /// Names a base in the header of a new segment. `None` if none is ready.
    pub fn name_base(&self, base: Base) -> Option<Rc<Ticket>> {
        {
            let mut log = self.log.borrow_mut();
            log.set_base(base);
            if !log.begin_segment() {
                return None;
            }
        }
        let based = Record::Based(Based { snapshot: base.position.through });
        Some(self.append(vec![Change { record: based, digest: None }]))
    }

    /// The base that a synced header names.
    pub fn stated_base(&self) -> Option<Base> {
        self.log.borrow().stated_base()
    }

    pub fn tail_segment(&self) -> u32 {
        self.log.borrow().tail_segment()
    }

    /// Bytes of the segments that are used.
    pub fn used_bytes(&self) -> u64 {
        self.log.borrow().used_bytes()
    }

    /// How many segments are used, and their bytes.
    pub fn used(&self) -> (u64, u64) {
        let log = self.log.borrow();
        (log.used_bytes(), log.used_segments())
    }

    /// Bytes that came or went since the start, the cleaner's own left out.
    pub fn turned_over(&self) -> u64 {
        self.bytes.get().saturating_sub(self.upkeep_bytes.get()) + self.files().gone_bytes()
    }

    /// Bytes of messages that were taken since the start.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.get()
    }

    /// What is applied is what is synced.
    pub fn applied(&self) -> Sequence {
        self.position().map(|position| position.through).unwrap_or_default()
    }

    /// Begins a file of its own for a message of this log.
    pub fn create_large(&self) -> LargeFile {
        self.large_files.create(self.writer.dir(), self.log.borrow().key())
    }

    /// Records appended since the start.
    pub fn records(&self) -> u64 {
        self.records.get()
    }

    /// Batches written and synced since the start.
    pub fn syncs(&self) -> u64 {
        self.syncs.get()
    }

    /// Bytes written since the start.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// How far everything is durable and applied: both happen in one step, so that whoever runs sees them together.
    pub fn position(&self) -> Option<Position> {
        self.log.borrow().position()
    }

    fn next_sequence(&self) -> Sequence {
        self.log.borrow().next_sequence()
    }

    /// Gives the group its place in the log, or a place among those that wait for space. Gives back what will never
    /// have one.
    fn place(&self, mut group: Group) -> Option<(Group, NotStored)> {
        group.renumber(self.id, self.next_sequence());
        let draw = group.draw();
        // Where the disk was full before there was a reserve, what is left of the segment is it.
        if draw == Draw::NewMail && self.is_short.get() && !self.log.borrow().has_reserve() {
            return Some((group, NotStored::Full));
        }
        let appended = {
            let mut log = self.log.borrow_mut();
            let records = group.changes.iter_mut().map(|change| &mut change.record);
            log.append_drawing(draw, records)
        };
        self.want_segments();
        match appended {
            Ok(Appended { first, last, messages, places }) => {
                assert_eq!(first, group.first, "records are numbered as they were planned");
                self.count(&group.changes);
                (group.last, group.messages, group.places) = (last, messages, places);
                group.ticket.set_first(first);
                self.pending.borrow_mut().push_back(group);
                None
            }
            Err(Refused::NoSegment) if draw == Draw::NewMail && self.is_short.get() => {
                Some((group, NotStored::Full))
            }
            Err(Refused::NoSegment) => {
                self.stalled.borrow_mut().push_back(group);
                None
            }
            Err(Refused::TooLarge) => Some((group, NotStored::TooLarge)),
        }
    }

    fn count(&self, changes: &[Change]) {
        self.records.set(self.records.get() + changes.len() as u64);
        for Change { record, .. } in changes {
            let bytes = if record.is_upkeep() { 0 } else { body_bytes(record) };
            self.taken_bytes.set(self.taken_bytes.get() + bytes);
        }
    }

    fn wake_driver(&self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// Waits for something to do: an event of the threads, or records that somebody waits for.
    async fn work(&self) -> Option<LogEvent> {
        poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(event) = self.writer.events().poll_next(context) {
                return Poll::Ready(Some(event));
            }
            if self.urgent.get() && !self.is_sealed.get() && !self.log.borrow().is_writing() {
                return Poll::Ready(None);
            }
            self.driver.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn write(&self) {
        self.urgent.set(false);
        let write = self.log.borrow_mut().poll_write();
        if let Some(write) = write {
            self.weigh(&write);
            self.syncs.set(self.syncs.get() + 1);
            self.bytes.set(self.bytes.get() + write.length);
            self.writer.submit(write);
        }
    }

    /// Counts the groups of a batch, and what of it is for the log alone: a batch that holds nothing else is so with
    /// all its padding, or the cleaner's own writes would look like growth and call for the next cleaning.
    fn weigh(&self, write: &Write) {
        let (mut groups, mut upkeep_bytes, mut is_upkeep) = (0, 0, true);
        for group in self.pending.borrow().iter().take_while(|group| group.last <= write.through) {
            groups += 1;
            for Change { record, .. } in &group.changes {
                match record.is_upkeep() {
                    true => upkeep_bytes += body_bytes(record),
                    false => is_upkeep = false,
                }
            }
        }
        self.batches.count(groups);
        let upkeep_bytes = if is_upkeep { write.length } else { upkeep_bytes };
        self.upkeep_bytes.set(self.upkeep_bytes.get() + upkeep_bytes);
    }

    fn handle(self: &Rc<Self>, event: LogEvent) {
        match event {
            LogEvent::Written { through, result } => {
                let outcome = match &result {
                    Ok(()) => Outcome::Synced,
                    Err(error) => {
                        tracing::error!(log = self.id.0, %error, "mail could not be written; the segment is given up");
                        Outcome::Failed
                    }
                };
                let handled = self.log.borrow_mut().handle_written(through, outcome);
                match handled {
                    Ok(synced) => self.apply_through(synced),
                    Err(lost) => self.lose_range(&lost),
                }
            }
            LogEvent::Prepared { result: Ok(ready) } => self.take_segment(ready),
            LogEvent::Prepared { result: Err(error) } => self.go_short(&error),
        }
        self.want_segments();
    }
}

/// What a log needs around it.
pub struct Around {
    /// Shards beside this one, which sync on the same disk.
    pub others: usize,
    pub preparer: Preparer,
    pub large_files: LargeFiles,
    pub sockets: Sockets,
    pub seats: Rc<Seats>,
    pub bells: Rc<Bells>,
    pub alarm: Rc<Alarm>,
}

/// Drives the log until the process ends.
async fn drive(commit: Rc<Commit>) {
    commit.want_segments();
    loop {
        match commit.work().await {
            Some(event) => commit.handle(event),
            None => {
                commit.gather().await;
                commit.write();
            }
        }
    }
}

/// A message with a destination, as the schedule knows it.
fn item(due: &Due) -> Item {
    Item { message: due.message.0, destination: due.destination.0 }
}
