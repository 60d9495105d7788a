//! The write side of a log, as a value: groups of records go in, writes come out, outcomes go back in.
//!
//! `append` gives every record its sequence and its place at once and keeps it in the open batch. `poll_write`
//! closes the batch when no write is in flight; while one is, the next batch gathers. When to call it is the
//! shard's policy. `handle_written` moves `synced` forward, or poisons the segment: then everything that was
//! appended and not synced is lost to its askers, and the log goes on in the next segment, whose header says how
//! far the poisoned one is valid. Sequences are never used twice.
//!
//! Invariants: at most one write is in flight, so every valid batch proves the sync of all before it; a page that
//! was given out in a write is never given out again; a group lies in one batch; a batch lies in one segment; a base
//! is named only by headers that are written after all of it was durable.
//!
//! Some of the segments that are ready are the reserve: new mail does not [draw](Draw) on it, so that it is
//! refused while there is still room for what makes room.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::batch::padded_length;
use super::frame::frame_length;
use super::gather::Gather;
use super::record::Record;
use super::recover::End;
use super::segment::{Base, FIRST_BATCH_OFFSET, SegmentHeader, SegmentKey};
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
    /// Bytes of the segments that are used.
    used_bytes: u64,
    used_segments: u64,
    open: Option<Gather>,
    closed: VecDeque<Gather>,
    in_flight: Option<Flight>,
    /// For the headers of segments to come.
    base: Option<Base>,
    /// What a header says that is durable.
    stated: Option<Base>,
    /// About what a base would have.
    snapshot_bytes: u64,
}

/// A write that was given out.
#[derive(Clone, Copy, Debug)]
struct Flight {
    position: Position,
    /// The base that a header in it names.
    states: Option<Base>,
}

/// How large segments and batches are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    pub segment_bytes_min: u64,
    pub segment_bytes_max: u64,
    pub batch_bytes: usize,
    /// Kept ready besides the segment that comes next.
    pub reserve_bytes: u64,
}

/// What became of a group: its records have consecutive sequences from `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Sequence,
    pub last: Sequence,
    /// Where its messages are, in order.
    pub messages: Vec<Kept>,
    /// Where its other records are that [have a place](Record::has_place), in order.
    pub places: Vec<RecordPlace>,
}

/// Why a group was not appended. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No segment with enough room is ready, or only the reserve; `wants_segment` asks for one.
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
    /// An old one of at least this size will do.
    pub bytes_min: u64,
}

/// What of the segments that are ready a group may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Draw {
    /// Whatever there is: what frees other segments.
    All,
    /// All but the last ones, without which no other can be freed.
    Outcomes,
    /// All but the reserve.
    NewMail,
}

/// Segments that only a cleaning takes: at least one for what it writes, and one whose header names a base. So many
/// more as a base needs, up to a bound: with mail so small that its rows are a large part of it, most of it can be
/// freed without a new base.
const LAST_SEGMENTS: usize = 2;
const LAST_SEGMENTS_MAX: usize = 4;

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
            reserve_bytes: limits::store::RESERVE_BYTES,
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
            used_bytes: 0,
            used_segments: 0,
            open: None,
            closed: VecDeque::new(),
            in_flight: None,
            base: None,
            stated: None,
            snapshot_bytes: 0,
        }
    }

    /// Goes on behind what was recovered, on a fresh page, in a new incarnation. `key` is for a log that is new. Where
    /// something stands behind the end, it goes on in another segment and leaves out the numbers that it may have:
    /// nobody must ever take it for what comes now.
    pub fn resume(end: &End, key: SegmentKey, sizes: Sizes) -> Self {
        let mut log = Self::create(end.log, end.log_key.unwrap_or(key), sizes);
        log.incarnation = end.incarnation + 1;
        let first = end.next + end.remains;
        log.opening = Some(first);
        log.next = first + 1;
        log.synced = end.synced;
        log.position = end.position;
        log.tail = end.tail.map(|tail| match end.remains {
            0 => tail,
            _ => Tail { offset: tail.bytes, ..tail },
        });
        log.before = end.tail.map_or((0, SegmentKey(0)), |tail| (tail.number, tail.key));
        log.last_segment = end.last_segment;
        (log.base, log.stated) = (end.base, end.base);
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
        self.append_drawing(Draw::All, group)
    }

    /// As [`Log::append`], but leaves to others what is not for it.
    pub fn append_drawing<'a, G>(&mut self, draw: Draw, group: G) -> Result<Appended, Refused>
    where
        G: IntoIterator<Item = &'a mut Record>,
    {
        let mut group: Vec<&mut Record> = group.into_iter().collect();
        assert!(!group.is_empty(), "a group has at least one record");
        let lengths: Vec<usize> = group.iter().map(|record| length_in_batch(record)).collect();
        self.open_for(lengths.iter().sum(), draw)?;
        let Some(open) = &mut self.open else {
            return Err(Refused::NoSegment);
        };
        let first = self.next;
        let (messages, places) = locate(open, self.id, (&group, &lengths), first);
        for (index, record) in group.iter_mut().enumerate() {
            debug_assert_eq!(open.first + u64::from(open.count), first + index as u64);
            adopt(record, self.id, &messages);
            open.push(record);
        }
        self.next = first + group.len() as u64;
        Ok(Appended { first, last: Sequence(self.next.0 - 1), messages, places })
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
        let position = Position { segment, offset: batch.offset, through };
        let header = batch.begins.map(|tail| self.header_of(tail, batch.first));
        self.in_flight = Some(Flight { position, states: header.and_then(|header| header.base) });
        let offset = if header.is_some() { 0 } else { batch.offset };
        let pieces = batch.finish(header, self.incarnation, self.synced);
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Some(Write { segment, offset, pieces, length, through })
    }

    /// The answer to the write that `poll_write` gave. `Ok` is the new `synced()`: everything up to it is durable.
    pub fn handle_written(&mut self, through: Sequence, outcome: Outcome) -> Result<Sequence, Lost> {
        let Flight { position: written, states } = self.in_flight.take().expect("an answer follows a write");
        assert_eq!(written.through, through, "the answer is to the write in flight");
        if outcome == Outcome::Failed {
            return Err(self.poison(written.segment));
        }
        self.synced = through;
        self.position = Some(written);
        self.stated = states.or(self.stated);
        Ok(through)
    }

    /// A segment to be prepared, each said once. One is wanted always ahead, and those of the reserve.
    pub fn wants_segment(&mut self) -> Option<Wanted> {
        let Wanting::Next { bytes_min } = self.wanting else {
            return None;
        };
        if bytes_min == 0 && self.has_reserve_behind_next() {
            return None;
        }
        self.last_segment += 1;
        self.wanting = Wanting::Asked { bytes_min };
        let bytes = self.sizes.of_segment(self.used_bytes).max(bytes_min);
        Some(Wanted {
            number: self.last_segment,
            bytes,
            bytes_min: bytes_min.max(self.sizes.segment_bytes_min),
        })
    }

    pub fn give_segment(&mut self, ready: Ready) {
        assert!(ready.number <= self.last_segment && ready.number > self.before.0, "segments come in order");
        self.wanting = Wanting::Next { bytes_min: 0 };
        self.ready.push_back(ready);
        self.begin_incarnation();
    }

    /// Names a snapshot, all of which is durable, in the headers of segments to come.
    pub fn set_base(&mut self, base: Base) {
        assert!(base.last <= self.synced, "log {}: all of a base is durable before it is named", self.id.0);
        self.base = Some(base);
    }

    /// What is appended next begins a segment. `false` if none is ready.
    pub fn begin_segment(&mut self) -> bool {
        let is_ready = !self.ready.is_empty();
        if is_ready {
            self.close();
            self.tail = None;
        }
        is_ready
    }

    /// So many bytes more are kept ready than the segment that comes next.
    pub fn set_reserve(&mut self, bytes: u64) {
        self.sizes.reserve_bytes = bytes;
    }

    /// About so many bytes a base would have.
    pub fn set_snapshot_bytes(&mut self, bytes: u64) {
        self.snapshot_bytes = bytes;
    }

    /// Segments of these lengths are used already, as a start found.
    pub fn set_used(&mut self, lengths: impl Iterator<Item = u64>) {
        (self.used_bytes, self.used_segments) =
            lengths.fold((0, 0), |(bytes, count), length| (bytes + length, count + 1));
    }

    /// A segment was given back.
    pub fn handle_freed(&mut self, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        self.used_segments = self.used_segments.saturating_sub(1);
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

    /// The snapshot that a durable header names: what all records up to it made is in it.
    pub fn stated_base(&self) -> Option<Base> {
        self.stated
    }

    /// The segment that batches are placed in, or were last.
    pub fn tail_segment(&self) -> u32 {
        self.before.0
    }

    /// What is left of the segment that batches are placed in.
    pub fn left_bytes(&self) -> u64 {
        self.tail.map_or(0, |tail| tail.bytes - tail.offset)
    }

    /// Bytes in segments that are ready, and whether those behind the next make up the reserve.
    pub fn ready_bytes(&self) -> (u64, bool) {
        (self.ready.iter().map(|ready| ready.bytes).sum(), self.has_reserve_behind_next())
    }

    /// What a segment would have that is wanted now.
    pub fn segment_bytes(&self) -> u64 {
        self.sizes.of_segment(self.used_bytes)
    }

    /// What the smallest segments have.
    pub fn segment_bytes_min(&self) -> u64 {
        self.sizes.segment_bytes_min
    }

    /// What no segment has more of.
    pub fn segment_bytes_max(&self) -> u64 {
        self.sizes.segment_bytes_max
    }

    /// Bytes of the segments that are used.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub fn used_segments(&self) -> u64 {
        self.used_segments
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
    fn open_for(&mut self, length: usize, draw: Draw) -> Result<(), Refused> {
        let bytes_min = (FIRST_BATCH_OFFSET + padded_length(length)) as u64;
        if bytes_min > self.sizes.segment_bytes_max {
            return Err(Refused::TooLarge);
        }
        if self.open.as_ref().is_some_and(|open| self.has_room(open, length)) {
            return Ok(());
        }
        let end = |tail: Tail| tail.offset + self.open.as_ref().map_or(0, Gather::padded_length) as u64;
        if self.tail.is_none_or(|tail| end(tail) + padded_length(length) as u64 > tail.bytes) {
            self.roll(bytes_min, draw)?;
        } else {
            self.close();
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

    /// Whether the segments that are ready are the reserve, with or without a next one.
    pub fn has_reserve(&self) -> bool {
        self.has_reserve_behind(0)
    }

    fn has_reserve_behind_next(&self) -> bool {
        self.has_reserve_behind(1)
    }

    /// Whether the segments behind so many are the reserve: the last, and as many for outcomes. Once these are full of
    /// outcomes, nothing in them is live, and they bring back more than the base takes that makes up for them.
    fn has_reserve_behind(&self, count: usize) -> bool {
        let least = if self.sizes.reserve_bytes == 0 { 0 } else { 2 * self.last_segments() };
        let behind: u64 = self.ready.iter().skip(count).map(|ready| ready.bytes).sum();
        self.ready.len() >= least + count && behind >= self.sizes.reserve_bytes
    }

    /// How many of those that are ready are for cleanings alone.
    fn last_segments(&self) -> usize {
        let smallest =
            self.ready.iter().map(|ready| ready.bytes).min().unwrap_or(self.sizes.segment_bytes_min);
        let of_base = self.snapshot_bytes.div_ceil(smallest.max(1));
        usize::try_from(of_base + 1).unwrap_or(usize::MAX).clamp(LAST_SEGMENTS, LAST_SEGMENTS_MAX)
    }

    /// Bytes of those that a base may fill.
    pub fn last_bytes(&self) -> u64 {
        self.ready.iter().rev().take(self.last_segments() - 1).map(|ready| ready.bytes).sum()
    }

    fn may_take(&self, draw: Draw) -> bool {
        match draw {
            Draw::All => true,
            Draw::Outcomes => self.sizes.reserve_bytes == 0 || self.ready.len() > self.last_segments(),
            Draw::NewMail => self.has_reserve_behind_next(),
        }
    }

    /// Takes the next ready segment of at least this size; smaller ones are passed over and stay blank.
    fn roll(&mut self, bytes_min: u64, draw: Draw) -> Result<(), Refused> {
        let fits = self.ready.iter().position(|ready| ready.bytes >= bytes_min);
        if let Some(at) = fits.filter(|_| self.may_take(draw)) {
            self.close();
            // Those that are passed over are given back by the cleaner as any other.
            self.used_bytes += self.ready.range(..=at).map(|ready| ready.bytes).sum::<u64>();
            self.used_segments += at as u64 + 1;
            let Ready { number, bytes, key } = self.ready.drain(..=at).next_back().expect("it is there");
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
        if self.opening.is_none() || self.open_for(frame_length(0), Draw::All).is_err() {
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
            base: self.base,
        }
    }
}

/// A log has about so many segments, until they are as large as they get.
const SEGMENTS: u64 = 32;

impl Sizes {
    /// With segments of at most so many bytes, and so much in reserve.
    pub fn bounded(segment_bytes_max: u64, reserve_bytes: u64) -> Self {
        let sizes = Self::default();
        let segment_bytes_min = sizes.segment_bytes_min.min(segment_bytes_max);
        Self { segment_bytes_min, segment_bytes_max, reserve_bytes, ..sizes }
    }

    /// The first are the smallest; they grow with the log, so that little of it is lost to segments that are not full.
    fn of_segment(&self, used_bytes: u64) -> u64 {
        let share = used_bytes / SEGMENTS;
        let even = if share == 0 { 0 } else { 1 << share.ilog2() };
        even.clamp(self.segment_bytes_min, self.segment_bytes_max)
    }
}

/// The bytes of the record's frame.
fn length_in_batch(record: &Record) -> usize {
    frame_length(codec::fields_length(record) + codec::body(record).map_or(0, |body| body.len()))
}

/// Where the messages of a group will be when it is pushed into `open`, and its other records that have a place.
fn locate(
    open: &Gather,
    log: LogId,
    group: (&[&mut Record], &[usize]),
    first: Sequence,
) -> (Vec<Kept>, Vec<RecordPlace>) {
    let (mut messages, mut places) = (Vec::new(), Vec::new());
    let mut skipped = 0;
    for (index, (record, length)) in group.0.iter().zip(group.1).enumerate() {
        match &**record {
            Record::Message(message) => {
                let id = MessageId { log, sequence: first + index as u64 };
                messages.push(Kept::new(id, &message.body, open.place(skipped)));
            }
            record if record.has_place() => places.push(open.place(skipped)),
            _ => {}
        }
        skipped += length;
    }
    (messages, places)
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
