//! The write side of a log, as a value: groups of records go in, writes come out, outcomes go back in.
//!
//! `append` gives every record its sequence and its place at once and keeps it in the open batch. `poll_write`
//! closes the batch when no write is in flight; while one is, the next batch gathers. When to call it is the
//! shard's policy. `handle_written` moves `synced` forward, or poisons the segment: then everything that was
//! appended and not synced is lost to its askers, and the log goes on in the next segment, whose header says how
//! far the poisoned one is valid. Sequences are never used twice.
//!
//! Invariants: at most one write is in flight, so every valid batch proves the sync of all before it; a page that
//! was given out in a write is never given out again; a group lies in one batch; a batch lies in one segment.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::batch::padded_length;
use super::frame::frame_length;
use super::gather::Gather;
use super::record::Record;
use super::recover::End;
use super::segment::{FIRST_BATCH_OFFSET, SegmentHeader, SegmentKey};
use super::{Kept, LogId, MessageId, Place, RecordPlace, Sequence, codec};
use crate::bytes::Slice;
use crate::limits;

pub struct Log {
    id: LogId,
    key: SegmentKey,
    sizes: Sizes,
    incarnation: u32,
    /// The sequence kept for the record that begins the incarnation, until there is room for it.
    opening: Option<Sequence>,
    next: Sequence,
    synced: Sequence,
    position: Option<Position>,
    tail: Option<Tail>,
    /// The segment that was the tail last, with its key, for the header of the one after it.
    before: (u32, SegmentKey),
    ready: VecDeque<Ready>,
    /// The largest number a segment of this log ever had.
    last_segment: u32,
    wanting: Wanting,
    open: Option<Gather>,
    closed: VecDeque<Gather>,
    in_flight: Option<Position>,
}

/// How large segments and batches are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    pub segment_bytes_min: u64,
    pub segment_bytes_max: u64,
    pub batch_bytes: usize,
}

/// What became of a group: its records have consecutive sequences from `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Sequence,
    pub last: Sequence,
    /// Where its messages are, in order.
    pub messages: Vec<Kept>,
    /// Where its `Deferred` records are, in order.
    pub deferrals: Vec<RecordPlace>,
}

/// Why a group was not appended. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No segment with enough room is ready; `wants_segment` asks for one.
    NoSegment,
    /// The group is larger than a segment can be.
    TooLarge,
}

/// Bytes to be written at one place and synced.
#[derive(Debug)]
pub struct Write {
    pub segment: u32,
    pub offset: u64,
    /// In order, without gaps; whole pages together.
    pub pieces: Vec<Slice>,
    /// Of all pieces.
    pub length: u64,
    /// The last record in it.
    pub through: Sequence,
}

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Written in full, and then synced.
    Synced,
    /// Anything else.
    Failed,
}

/// Sequences of records that were appended and will never be durable, because their segment is poisoned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost(pub RangeInclusive<u64>);

/// A segment to be made ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub number: u32,
    pub bytes: u64,
}

/// A segment that is ready for use: allocated in full, without a valid header of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    pub number: u32,
    pub bytes: u64,
    pub key: SegmentKey,
}

/// A durable batch: where it begins, and the last record in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub segment: u32,
    pub offset: u64,
    pub through: Sequence,
}

/// The segment that batches are placed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    pub number: u32,
    pub bytes: u64,
    pub key: SegmentKey,
    pub key_before: SegmentKey,
    /// Where the next batch begins.
    pub offset: u64,
    /// Nothing is in it yet; its header goes out with its first batch.
    pub is_blank: bool,
}

/// What is being asked of the preparer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanting {
    /// A segment of at least this many bytes, if none is ready.
    Next {
        bytes_min: u64,
    },
    Asked {
        bytes_min: u64,
    },
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_bytes_min: limits::store::SEGMENT_BYTES_MIN,
            segment_bytes_max: limits::store::SEGMENT_BYTES_MAX,
            batch_bytes: limits::store::BATCH_BYTES,
        }
    }
}

impl Log {
    /// A log that has never been. `key` is random and stays with it for ever.
    pub fn create(id: LogId, key: SegmentKey, sizes: Sizes) -> Self {
        Self {
            id,
            key,
            sizes,
            incarnation: 1,
            opening: Some(Sequence(1)),
            next: Sequence(2),
            synced: Sequence(0),
            position: None,
            tail: None,
            before: (0, SegmentKey(0)),
            ready: VecDeque::new(),
            last_segment: 0,
            wanting: Wanting::Next { bytes_min: 0 },
            open: None,
            closed: VecDeque::new(),
            in_flight: None,
        }
    }

    /// Goes on behind what was recovered, on a fresh page, in a new incarnation. `key` is for a log that is new.
    pub fn resume(end: &End, key: SegmentKey, sizes: Sizes) -> Self {
        let mut log = Self::create(end.log, end.log_key.unwrap_or(key), sizes);
        log.incarnation = end.incarnation + 1;
        log.opening = Some(end.next);
        log.next = end.next + 1;
        log.synced = end.synced;
        log.position = end.position;
        log.tail = end.tail;
        log.before = end.tail.map_or((0, SegmentKey(0)), |tail| (tail.number, tail.key));
        log.last_segment = end.last_segment;
        log.begin_incarnation();
        log
    }

    /// Appends records that must become durable together. A `Delivered` that names a message of this same group
    /// gets its whole locator from here, so that what is applied live is what a replay will read.
    ///
    /// The n-th record of the group, from 0, will have the sequence `next_sequence() + n`; it says where with
    /// [`Locator::unplaced`](super::Locator::unplaced). After a refusal the next sequence may be another, so plan
    /// such a group again.
    pub fn append<'a, G>(&mut self, group: G) -> Result<Appended, Refused>
    where
        G: IntoIterator<Item = &'a mut Record>,
    {
        let mut group: Vec<&mut Record> = group.into_iter().collect();
        assert!(!group.is_empty(), "a group has at least one record");
        let lengths: Vec<usize> = group.iter().map(|record| length_in_batch(record)).collect();
        self.open_for(lengths.iter().sum())?;
        let Some(open) = &mut self.open else {
            return Err(Refused::NoSegment);
        };
        let first = self.next;
        let (messages, deferrals) = locate(open, self.id, (&group, &lengths), first);
        for (index, record) in group.iter_mut().enumerate() {
            debug_assert_eq!(open.first + u64::from(open.count), first + index as u64);
            adopt(record, self.id, &messages);
            open.push(record);
        }
        self.next = first + group.len() as u64;
        Ok(Appended { first, last: Sequence(self.next.0 - 1), messages, deferrals })
    }

    /// Closes the open batch and gives it out, unless a write is in flight or there is nothing to write.
    pub fn poll_write(&mut self) -> Option<Write> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.closed.is_empty() {
            self.close();
        }
        let batch = self.closed.pop_front()?;
        let through = batch.last();
        let segment = batch.segment;
        self.in_flight = Some(Position { segment, offset: batch.offset, through });
        let header = batch.begins.map(|tail| self.header_of(tail, batch.first));
        let offset = if header.is_some() { 0 } else { batch.offset };
        let pieces = batch.finish(header, self.incarnation, self.synced);
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Some(Write { segment, offset, pieces, length, through })
    }

    /// The answer to the write that `poll_write` gave. `Ok` is the new `synced()`: everything up to it is durable.
    pub fn handle_written(&mut self, through: Sequence, outcome: Outcome) -> Result<Sequence, Lost> {
        let written = self.in_flight.take().expect("an answer follows a write");
        assert_eq!(written.through, through, "the answer is to the write in flight");
        if outcome == Outcome::Failed {
            return Err(self.poison(written.segment));
        }
        self.synced = through;
        self.position = Some(written);
        Ok(through)
    }

    /// A segment to be prepared, each said once. One is wanted always ahead.
    pub fn wants_segment(&mut self) -> Option<Wanted> {
        let Wanting::Next { bytes_min } = self.wanting else {
            return None;
        };
        if !self.ready.is_empty() {
            return None;
        }
        self.last_segment += 1;
        self.wanting = Wanting::Asked { bytes_min };
        let number = self.last_segment;
        Some(Wanted { number, bytes: self.sizes.of_segment(number).max(bytes_min) })
    }

    pub fn give_segment(&mut self, ready: Ready) {
        assert!(ready.number <= self.last_segment && ready.number > self.before.0, "segments come in order");
        self.wanting = Wanting::Next { bytes_min: 0 };
        self.ready.push_back(ready);
        self.begin_incarnation();
    }

    /// The wanted segment could not be made; one is wanted again.
    pub fn handle_segment_failed(&mut self) {
        if let Wanting::Asked { bytes_min } = self.wanting {
            self.wanting = Wanting::Next { bytes_min };
        }
    }

    pub fn id(&self) -> LogId {
        self.id
    }

    /// The random number that is the same in all files of this log.
    pub fn key(&self) -> SegmentKey {
        self.key
    }

    /// The sequence of the record that is appended next.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// All records up to this one are durable, except those that were told to be lost.
    pub fn synced(&self) -> Sequence {
        self.synced
    }

    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Bytes that were appended and not yet given out.
    pub fn gathered_bytes(&self) -> usize {
        self.closed.iter().chain(&self.open).map(Gather::frames_length).sum()
    }

    /// Where the replay behind a checkpoint of everything synced begins. `None` before the first sync.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Sees to it that a batch is open that has room for frames of this length.
    fn open_for(&mut self, length: usize) -> Result<(), Refused> {
        let bytes_min = (FIRST_BATCH_OFFSET + padded_length(length)) as u64;
        if bytes_min > self.sizes.segment_bytes_max {
            return Err(Refused::TooLarge);
        }
        if self.open.as_ref().is_some_and(|open| self.has_room(open, length)) {
            return Ok(());
        }
        self.close();
        if self.tail.is_none_or(|tail| tail.offset + padded_length(length) as u64 > tail.bytes) {
            self.roll(bytes_min)?;
        }
        let first = self.opening.unwrap_or(self.next);
        self.open = self.tail.map(|tail| Gather::new(tail, first));
        Ok(())
    }

    /// Whether the open batch can take frames of this length.
    fn has_room(&self, open: &Gather, length: usize) -> bool {
        let grown = open.frames_length() + length;
        let end = open.offset + padded_length(grown) as u64;
        grown <= self.sizes.batch_bytes && self.tail.is_some_and(|tail| end <= tail.bytes)
    }

    /// Takes the next ready segment of at least this size; smaller ones are passed over and stay blank.
    fn roll(&mut self, bytes_min: u64) -> Result<(), Refused> {
        while let Some(ready) = self.ready.pop_front() {
            let Ready { number, bytes, key } = ready;
            if bytes < bytes_min {
                continue;
            }
            let key_before = if self.before.0 + 1 == number { self.before.1 } else { SegmentKey(0) };
            let offset = FIRST_BATCH_OFFSET as u64;
            self.before = (number, key);
            self.tail = Some(Tail { number, bytes, key, key_before, offset, is_blank: true });
            return Ok(());
        }
        if let Wanting::Next { bytes_min: wanted } = &mut self.wanting {
            *wanted = bytes_min.max(*wanted);
        }
        Err(Refused::NoSegment)
    }

    /// The open batch takes no more.
    fn close(&mut self) {
        let Some(batch) = self.open.take() else {
            return;
        };
        let tail = self.tail.as_mut().expect("an open batch lies in the tail");
        tail.offset += batch.padded_length() as u64;
        tail.is_blank = false;
        self.closed.push_back(batch);
    }

    /// Appends the first record of this start, as soon as there is room for it.
    fn begin_incarnation(&mut self) {
        if self.opening.is_none() || self.open_for(frame_length(0)).is_err() {
            return;
        }
        if let (Some(open), Some(_)) = (&mut self.open, self.opening.take()) {
            open.push_opened();
        }
    }

    /// Nothing that waits will be written: later records may build on those that failed.
    fn poison(&mut self, segment: u32) -> Lost {
        self.open = None;
        self.closed.clear();
        match &mut self.tail {
            Some(tail) if tail.number == segment => self.tail = None,
            Some(tail) => {
                tail.offset = FIRST_BATCH_OFFSET as u64;
                tail.is_blank = true;
            }
            None => {}
        }
        Lost(self.synced.0 + 1..=self.next.0 - 1)
    }

    fn header_of(&self, tail: Tail, first: Sequence) -> SegmentHeader {
        SegmentHeader {
            log: self.id,
            number: tail.number,
            key: tail.key,
            log_key: self.key,
            key_before: tail.key_before,
            first,
            valid_through: self.synced,
            bytes: tail.bytes,
        }
    }
}

impl Sizes {
    /// The first is the smallest, each next one twice as large.
    fn of_segment(&self, number: u32) -> u64 {
        let doublings = (number - 1).min(32);
        (self.segment_bytes_min << doublings).min(self.segment_bytes_max)
    }
}

/// The bytes of the record's frame.
fn length_in_batch(record: &Record) -> usize {
    frame_length(codec::fields_length(record) + codec::body(record).map_or(0, |body| body.len()))
}

/// Where the messages and the deferrals of a group will be when it is pushed into `open`.
fn locate(
    open: &Gather,
    log: LogId,
    group: (&[&mut Record], &[usize]),
    first: Sequence,
) -> (Vec<Kept>, Vec<RecordPlace>) {
    let (mut messages, mut deferrals) = (Vec::new(), Vec::new());
    let mut skipped = 0;
    for (index, (record, length)) in group.0.iter().zip(group.1).enumerate() {
        match &**record {
            Record::Message(message) => {
                let id = MessageId { log, sequence: first + index as u64 };
                messages.push(Kept::new(id, &message.body, open.place(skipped)));
            }
            Record::Deferred(_) => deferrals.push(open.place(skipped)),
            _ => {}
        }
        skipped += length;
    }
    (messages, deferrals)
}

/// Gives a delivery the whole locator of its message, where the message is of the same group.
fn adopt(record: &mut Record, log: LogId, messages: &[Kept]) {
    let Record::Delivered(delivered) = record else {
        return;
    };
    if let Some(kept) = messages.iter().find(|kept| kept.message.id == delivered.message.id) {
        delivered.message = kept.message;
    }
    let is_placed = delivered.message.place != Place::UNPLACED;
    assert!(is_placed, "log {}: a delivery names a message that is not in its group", log.0);
}
