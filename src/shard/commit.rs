//! Group commit: records go in, a sync covers many of them, then they become visible, in the log's order.
//!
//! [`Commit::append`] gives each group its place in the log at once. A task closes the batch when no write is
//! in flight and everything that was ready to be appended has been: what is appended while a write is being
//! synced goes out with the next. Only after the sync are the records applied to the accounts, bells rung and
//! the askers answered.
//!
//! Invariants: apply order is log order; a group that was not synced is abandoned by the accounts it was planned
//! in, and its asker learns of it; nothing is retried on the same pages.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future::{or, yield_now};

use super::alarm::Alarm;
use super::notify::Bells;
use super::seat::{Seat, Seats};
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
use crate::store::log::{Appended, Draw, Log, Lost, Outcome, Position, Refused, Write};
use crate::store::owed::{Due, Owed};
use crate::store::record::{Based, Record};
use crate::store::segment::Base;
use crate::store::{AccountId, Kept, Locator, LogId, MailboxId, MessageId, RecordPlace, Sequence, codec};

/// With so many groups in the last batch the shard is busy: it gathers until everything that has come in was taken.
const BUSY_GROUPS: usize = 4;

/// With so many it is so busy that more will come in while it waits, and a sync less is worth the time.
const VERY_BUSY_GROUPS: usize = 8;

/// How long a busy shard gathers at most.
const GATHER: Duration = Duration::from_millis(1);

/// What nobody waits for, but should be durable soon, waits so long for others to be written with.
const SOON: Duration = Duration::from_millis(10);

/// After a failure to get space the disk is asked again so much later.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// What makes room waits for the cleaner through so many of them; then whoever waits is told.
const SPACE_FAILURES_MAX: u32 = 30;

/// One log with everything that waits for it.
pub struct Commit {
    id: LogId,
    log: State<Log>,
    writer: Writer,
    preparer: Preparer,
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
    driver: Cell<Option<Waker>>,
    /// Groups in the last batch.
    batch_groups: Cell<usize>,
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

/// Records that were appended together.
struct Group {
    /// The sequence that its first record was planned to have.
    first: Sequence,
    last: Sequence,
    changes: Vec<Change>,
    messages: Vec<Kept>,
    /// Of other records that have one.
    places: Vec<RecordPlace>,
    ticket: Rc<Ticket>,
    /// Failures to get space that it has waited through.
    failures: u32,
}

/// The promise of an answer to who appended.
pub struct Ticket {
    /// Where the records are in the log; where they were planned to be until they have their place.
    first: Cell<Sequence>,
    fate: Cell<Fate>,
    asker: Cell<Option<Waker>>,
    /// Tasks that wait beside the asker, at a barrier.
    others: Cell<Vec<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Stored,
    Lost(NotStored),
}

/// Why records did not become durable. They never will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotStored {
    /// There is no space.
    Full,
    /// The disk failed.
    Failed,
    /// The group does not fit into any segment.
    TooLarge,
}

impl Commit {
    /// What is owed and how many records are lost, as a start found.
    pub fn new(log: Log, writer: Writer, (owed, lost_records): (Owed, u64), around: Around) -> Rc<Self> {
        let Around { preparer, sockets, seats, bells, alarm } = around;
        let schedule: Schedule = owed.dues().map(|due| (item(&due), due.at)).collect();
        let commit = Rc::new(Self {
            id: log.id(),
            log: State::new(log),
            writer,
            preparer,
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
            driver: Cell::default(),
            batch_groups: Cell::new(0),
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
        self.place_in_turn(group);
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

    /// Waits until all that was appended before is durable, or is known to be lost.
    pub async fn barrier(&self) -> Result<(), NotStored> {
        // What waits for space comes behind what has its place.
        let stalled = self.stalled.borrow().back().map(|group| Rc::clone(&group.ticket));
        let last = stalled.or_else(|| self.pending.borrow().back().map(|group| Rc::clone(&group.ticket)));
        self.nudge();
        match last {
            Some(ticket) => ticket.stored().await,
            None => Ok(()),
        }
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

    /// Every message of this log below this is settled.
    pub fn low_water(&self) -> Sequence {
        self.owed.borrow().low_water(self.next_sequence())
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

    /// Where its messages are, and what else all threads share about its files.
    pub fn files(&self) -> &LogFiles {
        &self.writer.dir().files
    }

    pub fn dir(&self) -> &LogDir {
        self.writer.dir()
    }

    /// From now on deliveries of messages of this log are remembered.
    pub fn watch(&self, home: LogId) {
        self.watched.borrow_mut().insert(home, Vec::new());
    }

    /// What was remembered since [`Commit::watch`], and what is under way.
    pub fn watched(&self, home: LogId) -> Vec<Locator> {
        let mut found = self.watched.borrow_mut().remove(&home).unwrap_or_default();
        let (pending, stalled) = (self.pending.borrow(), self.stalled.borrow());
        for group in pending.iter().chain(&*stalled) {
            found.extend(group.changes.iter().filter_map(|change| delivered(&change.record, home)));
        }
        found
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

    /// What is left of the segment that batches are placed in.
    pub fn left_bytes(&self) -> u64 {
        self.log.borrow().left_bytes()
    }

    /// What a segment would have that is made now.
    pub fn segment_bytes(&self) -> u64 {
        self.log.borrow().segment_bytes()
    }

    /// Bytes of the segments that are used.
    pub fn used_bytes(&self) -> u64 {
        self.log.borrow().used_bytes()
    }

    /// Bytes in segments that are ready.
    pub fn ready_bytes(&self) -> u64 {
        self.log.borrow().ready_bytes().0
    }

    /// About how large a base of the log is: the reserve must have room for it.
    pub fn set_snapshot_bytes(&self, bytes: u64) {
        self.log.borrow_mut().set_snapshot_bytes(bytes);
        self.want_segments();
    }

    /// Bytes of the segments that only a cleaning takes, but for the one that a base begins.
    pub fn last_bytes(&self) -> u64 {
        self.log.borrow().last_bytes()
    }

    /// A segment was given back.
    pub fn handle_freed(&self, bytes: u64) {
        self.log.borrow_mut().handle_freed(bytes);
        self.want_segments();
    }

    /// New mail is refused: what is left is for what makes room.
    pub fn is_short(&self) -> bool {
        self.is_short.get()
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
    pub fn create_large(&self, files: &LargeFiles) -> LargeFile {
        files.create(self.writer.dir(), self.log.borrow().key())
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

    /// Whoever waits for space keeps its turn, but not before those that make it: they are about nobody's mail, so that
    /// no plan rests on them.
    fn place_in_turn(&self, group: Group) {
        let is_next = self.stalled.borrow().is_empty() || draw(&group.changes) == Draw::All;
        match is_next {
            true => self.place(group),
            false => self.stalled.borrow_mut().push_back(group),
        }
    }

    /// Gives the group its place in the log, or a place among those that wait for space.
    fn place(&self, mut group: Group) {
        group.renumber(self.id, self.next_sequence());
        let draw = draw(&group.changes);
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
                group.ticket.first.set(first);
                self.pending.borrow_mut().push_back(group);
            }
            Err(Refused::NoSegment) if draw == Draw::NewMail && self.is_short.get() => {
                self.lose(group, NotStored::Full)
            }
            Err(Refused::NoSegment) => self.stalled.borrow_mut().push_back(group),
            Err(Refused::TooLarge) => self.lose(group, NotStored::TooLarge),
        }
    }

    fn count(&self, changes: &[Change]) {
        self.records.set(self.records.get() + changes.len() as u64);
        for Change { record, .. } in changes {
            let bytes = if record.is_upkeep() { 0 } else { body_bytes(record) };
            self.taken_bytes.set(self.taken_bytes.get() + bytes);
        }
    }

    fn want_segments(&self) {
        while let Some(wanted) = self.log.borrow_mut().wants_segment() {
            self.preparer.prepare(wanted, &self.writer);
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
            if self.urgent.get() && !self.log.borrow().is_writing() {
                return Poll::Ready(None);
            }
            self.driver.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Lets everything that is ready come along: one turn of the executor, and on a busy shard more.
    async fn gather(&self) {
        yield_now().await;
        match self.batch_groups.get() {
            ..BUSY_GROUPS => {}
            BUSY_GROUPS..VERY_BUSY_GROUPS => or(self.sockets.quiet(), sleep(GATHER)).await,
            VERY_BUSY_GROUPS.. => sleep(GATHER).await,
        }
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
        self.batch_groups.set(groups);
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
            LogEvent::Prepared { result: Ok(ready) } => {
                self.log.borrow_mut().give_segment(ready);
                let has_reserve = self.log.borrow().ready_bytes().1;
                if has_reserve && self.is_short.replace(false) {
                    tracing::info!(log = self.id.0, "there is space again; mail is taken");
                }
                self.place_stalled();
            }
            LogEvent::Prepared { result: Err(error) } => {
                if !self.is_short.replace(true) {
                    let reserve = self.log.borrow().ready_bytes().0;
                    tracing::error!(
                        log = self.id.0,
                        reserve,
                        %error,
                        "no space could be made: mail is refused, deletes and outcomes still go into the reserve"
                    );
                }
                self.refuse_stalled();
                let commit = Rc::clone(self);
                spawn("space", async move {
                    sleep(SPACE_RETRY).await;
                    commit.log.borrow_mut().handle_segment_failed();
                    commit.want_segments();
                });
            }
        }
        self.want_segments();
    }

    /// New mail that waits for space is lost, and what was planned on top of it. The rest may go into the reserve, and
    /// is lost when that is used up for long.
    fn refuse_stalled(&self) {
        let stalled = std::mem::take(&mut *self.stalled.borrow_mut());
        let mut hit: BTreeSet<AccountId> = BTreeSet::new();
        let mut kept = VecDeque::new();
        for mut group in stalled {
            group.failures += 1;
            let accounts = group.changes.iter().filter_map(|change| subject(&change.record));
            let accounts: Vec<AccountId> = accounts.map(|(account, _)| account).collect();
            let is_lost = draw(&group.changes) == Draw::NewMail || group.failures > SPACE_FAILURES_MAX;
            if is_lost || accounts.iter().any(|account| hit.contains(account)) {
                hit.extend(accounts);
                self.lose(group, NotStored::Full);
            } else {
                kept.push_back(group);
            }
        }
        self.stalled.borrow_mut().extend(kept);
        self.place_stalled();
        self.wake_driver();
    }

    fn place_stalled(&self) {
        let stalled = std::mem::take(&mut *self.stalled.borrow_mut());
        stalled.into_iter().for_each(|group| self.place_in_turn(group));
        self.urgent.set(true);
    }

    /// Makes visible what is synced, in order.
    fn apply_through(&self, synced: Sequence) {
        loop {
            let group = {
                let mut pending = self.pending.borrow_mut();
                match pending.front() {
                    Some(group) if group.last <= synced => pending.pop_front(),
                    _ => None,
                }
            };
            let Some(group) = group else {
                return;
            };
            let mut messages = group.messages.iter().map(|kept| kept.record);
            let mut places = group.places.iter().copied();
            for (index, change) in (0..).zip(&group.changes) {
                let place = match &change.record {
                    Record::Message(_) => messages.next(),
                    record if record.has_place() => places.next(),
                    _ => None,
                };
                let place = place.unwrap_or_default();
                self.follow(group.first + index, &change.record, place);
                self.owe(group.first + index, &change.record, place);
                let Some((account, mailbox)) = subject(&change.record) else {
                    continue;
                };
                self.remember(&change.record);
                if let Some(seat) = self.seats.seat(account) {
                    seat.apply(change);
                    seat.mark(mailbox);
                }
                if let Some(mailbox) = mailbox {
                    self.bells.ring(account, mailbox);
                }
            }
            group.ticket.answer(Fate::Stored);
        }
    }

    fn remember(&self, record: &Record) {
        for (home, found) in self.watched.borrow_mut().iter_mut() {
            found.extend(delivered(record, *home));
        }
    }

    /// Follows what a record says about where messages are.
    fn follow(&self, sequence: Sequence, record: &Record, place: RecordPlace) {
        if matches!(record, Record::Message(_) | Record::Moved(_)) {
            self.files().change_places(|places| places.apply((sequence, record), place));
        }
    }

    /// Follows what a record says about owed mail.
    fn owe(&self, sequence: Sequence, record: &Record, place: RecordPlace) {
        let mut due = Vec::new();
        self.owed.borrow_mut().apply((sequence, record), place, &mut due);
        if due.is_empty() {
            return;
        }
        let mut schedule = self.schedule.borrow_mut();
        due.iter().for_each(|due| schedule.insert(item(due), due.at));
        self.alarm.ring();
    }

    fn lose_range(&self, lost: &Lost) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        let (gone, kept): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|group| lost.0.contains(&group.first.0));
        self.pending.borrow_mut().extend(kept);
        gone.into_iter().for_each(|group| self.lose(group, NotStored::Failed));
    }

    fn lose(&self, group: Group, why: NotStored) {
        let mut seats: Vec<Rc<Seat>> = Vec::new();
        for change in &group.changes {
            let seat = subject(&change.record).and_then(|(account, _)| self.seats.seat(account));
            seats.extend(seat.filter(|seat| !seats.iter().any(|known| known.id() == seat.id())));
        }
        seats.iter().for_each(|seat| seat.account_mut().abandon(&group.changes));
        group.ticket.answer(Fate::Lost(why));
    }
}

/// What a log needs around it.
pub struct Around {
    pub preparer: Preparer,
    pub sockets: Sockets,
    pub seats: Rc<Seats>,
    pub bells: Rc<Bells>,
    pub alarm: Rc<Alarm>,
}

impl Group {
    /// The group waited for space: its records come later in the log than was planned.
    fn renumber(&mut self, log: LogId, first: Sequence) {
        let late = first.0 - self.first.0;
        let planned = self.first;
        self.first = first;
        if late == 0 {
            return;
        }
        let shift = |id: &mut MessageId| {
            if id.log == log && id.sequence >= planned {
                id.sequence = id.sequence + late;
            }
        };
        for change in &mut self.changes {
            if let Record::Delivered(delivered) = &mut change.record {
                shift(&mut delivered.message.id);
                if let Some((id, _)) = &mut delivered.key {
                    shift(id);
                }
            }
        }
    }
}

impl Ticket {
    fn new(first: Sequence) -> Self {
        let first = Cell::new(first);
        Self { first, fate: Cell::new(Fate::Waiting), asker: Cell::default(), others: Cell::default() }
    }

    /// Sequence of the first record; final once the records are stored.
    pub fn first(&self) -> Sequence {
        self.first.get()
    }

    /// Waits until the records are durable and visible. Any number of tasks may wait.
    pub async fn stored(&self) -> Result<(), NotStored> {
        poll_fn(|context| match self.fate.get() {
            Fate::Stored => Poll::Ready(Ok(())),
            Fate::Lost(why) => Poll::Ready(Err(why)),
            Fate::Waiting => {
                self.remember(context.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Nearly always one task waits, and costs no allocation.
    fn remember(&self, waker: &Waker) {
        match self.asker.take() {
            Some(asker) if !asker.will_wake(waker) => {
                self.asker.set(Some(asker));
                let mut others = self.others.take();
                if !others.iter().any(|other| other.will_wake(waker)) {
                    others.push(waker.clone());
                }
                self.others.set(others);
            }
            _ => self.asker.set(Some(waker.clone())),
        }
    }

    fn answer(&self, fate: Fate) {
        self.fate.set(fate);
        self.asker.take().into_iter().chain(self.others.take()).for_each(Waker::wake);
    }
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

/// What the group may take. New mail is a message that nobody is responsible for yet; a bounce is an outcome.
fn draw(changes: &[Change]) -> Draw {
    let any = |is: fn(&Record) -> bool| changes.iter().any(|change| is(&change.record));
    match any(|record| matches!(record, Record::Message(_))) {
        true if any(|record| matches!(record, Record::Settled(_))) => Draw::Outcomes,
        true => Draw::NewMail,
        false if any(Record::is_upkeep) => Draw::All,
        false => Draw::Outcomes,
    }
}

fn body_bytes(record: &Record) -> u64 {
    codec::body(record).map_or(0, |body| body.len() as u64)
}

/// The message of a log that a delivery is of.
fn delivered(record: &Record, home: LogId) -> Option<Locator> {
    match record {
        Record::Delivered(delivered) if delivered.message.id.log == home => Some(delivered.message),
        _ => None,
    }
}

/// A message with a destination, as the schedule knows it.
fn item(due: &Due) -> Item {
    Item { message: due.message.0, destination: due.destination.0 }
}

/// The account and mailbox that a record is about.
pub fn subject(record: &Record) -> Option<(AccountId, Option<MailboxId>)> {
    match record {
        Record::Message(_)
        | Record::Settled(_)
        | Record::Deferred(_)
        | Record::Held(_)
        | Record::Released(_)
        | Record::Rebound(_)
        | Record::Moved(_)
        | Record::ReasonMoved(_)
        | Record::Part(_)
        | Record::Based(_) => None,
        Record::Delivered(record) => Some((record.account, Some(record.mailbox))),
        Record::FlagsChanged(record) => Some((record.account, Some(record.mailbox))),
        Record::Expunged(record) => Some((record.account, Some(record.mailbox))),
        Record::KeywordAdded(record) => Some((record.account, Some(record.mailbox))),
        Record::MailboxCreated(record) => Some((record.account, Some(record.mailbox))),
        Record::MailboxRenamed(record) => Some((record.account, Some(record.mailbox))),
        Record::MailboxDeleted(record) => Some((record.account, Some(record.mailbox))),
        Record::Subscribed(record) | Record::Unsubscribed(record) => Some((record.account, None)),
        Record::AccountPurged(record) => Some((record.account, None)),
        Record::UidValidityRaised(record) => Some((record.account, Some(record.mailbox))),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::{Fate, Ticket};
    use crate::store::Sequence;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_who_wait_for_a_ticket_are_woken() {
        let ticket = Ticket::new(Sequence(1));
        let tasks: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
        let mut waits = [pin!(ticket.stored()), pin!(ticket.stored()), pin!(ticket.stored())];
        let wakers: Vec<Waker> = tasks.iter().map(|task| Waker::from(Arc::clone(task))).collect();
        for _ in 0..2 {
            for (wait, waker) in waits.iter_mut().zip(&wakers) {
                assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
        }
        ticket.answer(Fate::Stored);
        for (task, (wait, waker)) in tasks.iter().zip(waits.iter_mut().zip(&wakers)) {
            assert_eq!(task.0.load(Ordering::Relaxed), 1);
            assert_eq!(wait.as_mut().poll(&mut Context::from_waker(waker)), Poll::Ready(Ok(())));
        }
    }
}
