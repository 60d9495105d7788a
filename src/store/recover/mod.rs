//! Reading a log back: what is valid, in order, what is a torn tail, and what is damage.
//!
//! The scan goes from batch to batch. Where a batch is not valid it looks for what was written later: a later
//! header of the same segment, or the header of a later segment, whose word on what was durable covers the
//! missing records. If there is one, the batch was promised and is damaged: the frames that can still be found in
//! it are saved, the rest is reported, and reading goes on at the next good header. If there is none, nobody was
//! promised anything beyond this point, and the log ends here.
//!
//! Invariants: records come in the order of their sequences, each once, and only what was written with this
//! segment's key; the scan changes nothing, so that doing it again gives the same; no bytes make it panic; its
//! work is linear in the bytes, except for a bounded number of checksums of what looks like a frame in a
//! damaged range.

mod segment;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use segment::{Batch, FrameAt, Segment, head, is_freed_between};

use super::batch::{BatchHeader, PAGE_BYTES};
use super::frame::FRAME_HEADER_BYTES;
use super::log::{Position, Tail};
use super::record::Record;
use super::segment::{Base, FIRST_BATCH_OFFSET, SegmentKey};
use super::{LogId, RecordPlace, Sequence};
use crate::bytes::Slice;

/// The file of a segment, whole.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    pub number: u32,
    pub bytes: Slice,
}

/// What a scan comes upon.
#[derive(Clone, Debug)]
pub enum Found {
    Record(Recovered),
    Damage(Damage),
}

/// A record that was read back.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub sequence: Sequence,
    /// Where its frame is.
    pub place: RecordPlace,
    pub record: Record,
}

/// Records that were durable and are no longer what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    pub segment: u32,
    /// Where in the segment, as near as can be told, and where something begins that is good again, or was not touched.
    pub offset: u64,
    pub end: u64,
    /// Both ends included.
    pub first: Sequence,
    pub last: Sequence,
}

/// Bytes after the end of the log that nobody was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    pub segment: u32,
    pub offset: u64,
}

/// Why a log cannot be read at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// A segment is of another version of the format.
    Version { segment: u32, version: u16 },
    /// A segment is of another log.
    Foreign { segment: u32 },
    /// A good record is of a kind or version that this program does not know.
    Record { sequence: Sequence },
    /// The checkpoint's batch is not where it says: replay from the beginning.
    NoSuchPosition,
}

/// Where a log goes on after its scan.
#[derive(Clone, Debug)]
pub struct End {
    pub log: LogId,
    /// `None` if no segment was ever used.
    pub log_key: Option<SegmentKey>,
    pub incarnation: u32,
    pub next: Sequence,
    pub synced: Sequence,
    pub position: Option<Position>,
    pub tail: Option<Tail>,
    /// So many numbers behind `next` may stand in what was written behind the end and is not valid; zero if nothing is.
    pub remains: u64,
    /// The newest that a header names.
    pub base: Option<Base>,
    pub last_segment: u32,
    /// At most one in each segment.
    pub torn: Vec<Torn>,
    /// Segments that were made ready and never used.
    pub blank: Vec<u32>,
    /// Segments whose header is lost and that nothing says to hold records.
    pub strange: Vec<u32>,
}

/// Above those of all starts there can have been, for a log whose batches do not say any more how many there were.
const INCARNATION_UNKNOWN: u32 = 1 << 24;

/// A scan of the segments of a log, as an iterator; [`Scan::end`] tells the rest when it is through.
pub struct Scan {
    segments: Vec<Segment>,
    /// The segment that is read next, and where in it.
    index: usize,
    offset: usize,
    /// Records up to this one are in the checkpoint.
    skip_through: Sequence,
    found: VecDeque<Found>,
    failed: bool,
    /// The batch that nothing was written behind.
    closed: Option<Position>,
    end: End,
}

impl Scan {
    /// A scan of `segments`, which ascend by number. With a position it begins in that batch, with the record
    /// after it; segments before it need not be there.
    pub fn new(log: LogId, segments: Vec<SegmentFile>, start: Option<Position>) -> Result<Self, Unreadable> {
        let last_segment = segments.last().map_or(0, |segment| segment.number);
        let mut scan = Self {
            segments: head(log, segments)?,
            index: 0,
            offset: 0,
            skip_through: Sequence(0),
            found: VecDeque::new(),
            failed: false,
            closed: None,
            end: End {
                log,
                log_key: None,
                incarnation: 0,
                next: Sequence(1),
                synced: Sequence(0),
                position: None,
                tail: None,
                remains: 0,
                base: None,
                last_segment,
                torn: Vec::new(),
                blank: Vec::new(),
                strange: Vec::new(),
            },
        };
        scan.end.log_key = scan.segments.iter().find_map(|segment| Some(segment.header?.log_key));
        scan.end.base = scan.segments.iter().rev().find_map(|segment| segment.header?.base);
        match start {
            Some(position) => scan.begin_at(position)?,
            None => scan.begin_at_first(),
        }
        Ok(scan)
    }

    /// Nothing was written behind the batch at this position, whatever stands there: it need not be looked at.
    pub fn expect_end(&mut self, position: Position) {
        self.closed = Some(position);
    }

    /// A scan for all that can still be found in one segment, whether anything says that it was durable or not, but not
    /// beyond the last record in it that a later segment calls valid.
    pub fn of_remains(
        log: LogId,
        segment: SegmentFile,
        valid_through: Option<Sequence>,
    ) -> Result<Self, Unreadable> {
        let mut scan = Self::new(log, vec![segment], None)?;
        let through = valid_through.unwrap_or(Sequence(u64::MAX - 1));
        scan.segments.iter_mut().for_each(|segment| segment.valid_through = Some(through));
        Ok(scan)
    }

    /// Where the log goes on. Exhaust the scan first.
    pub fn end(self) -> End {
        assert!(self.index >= self.segments.len() || self.failed, "the scan is through");
        self.end
    }

    /// What is read next has the first sequence that is there: earlier segments may have been recycled.
    fn begin_at_first(&mut self) {
        let is_all = self.segments.first().is_none_or(|segment| segment.number == 1);
        let first = self.segments.iter().find_map(Segment::first);
        self.end.next = if is_all { Sequence(1) } else { first.unwrap_or(Sequence(1)) };
        self.end.synced = Sequence(self.end.next.0 - 1);
    }

    fn begin_at(&mut self, position: Position) -> Result<(), Unreadable> {
        let (index, offset) = self.place_of(position)?;
        let header = self.segments[index].batch_header(offset).ok_or(Unreadable::NoSuchPosition)?;
        if header.last() != position.through {
            return Err(Unreadable::NoSuchPosition);
        }
        self.go_to((index, offset), position.through);
        self.end.next = header.first;
        self.end.synced = Sequence(header.first.0 - 1);
        Ok(())
    }

    /// As [`Scan::new`] with a position, where the header of its batch is damaged: nothing is wanted of that batch, so
    /// that what follows can be read as well. Wants the segments before it, too, which know the incarnation, and a
    /// proof that the log was there: its batches lead to that place, or later ones begin behind the position.
    pub fn behind(log: LogId, segments: Vec<SegmentFile>, position: Position) -> Result<Self, Unreadable> {
        let mut scan = Self::new(log, segments, None)?;
        let (index, offset) = scan.place_of(position)?;
        let segment = &scan.segments[index];
        let is_reached = segment.leads_to(offset, position.through);
        let is_passed = segment.covers(position.through)
            || segment.later_headers(offset + PAGE_BYTES, position.through, 0).next().is_some();
        if segment.batch_header(offset).is_some() || !(is_reached || is_passed) {
            return Err(Unreadable::NoSuchPosition);
        }
        let within = |at: usize| if at == index { offset } else { usize::MAX };
        let before = (0..=index).rev().find_map(|at| scan.segments[at].headers_before(within(at)).last());
        let incarnation = before.map_or(INCARNATION_UNKNOWN, |(_, header)| header.incarnation);
        scan.go_to((index, offset), position.through);
        // The record that ended the batch is looked for, not missed: the checkpoint has it.
        scan.end.next = position.through;
        scan.end.synced = Sequence(position.through.0 - 1);
        scan.end.incarnation = incarnation;
        Ok(scan)
    }

    /// The segment and the offset of a position that can be in this log.
    fn place_of(&self, position: Position) -> Result<(usize, usize), Unreadable> {
        let index = self.segments.iter().position(|segment| segment.number == position.segment);
        let index = index.ok_or(Unreadable::NoSuchPosition)?;
        let segment = &self.segments[index];
        let offset = usize::try_from(position.offset).map_err(|_| Unreadable::NoSuchPosition)?;
        let is_page = offset >= FIRST_BATCH_OFFSET && offset.is_multiple_of(PAGE_BYTES);
        let is_inside = offset + PAGE_BYTES <= segment.bytes.len();
        match is_page && is_inside && position.through > Sequence(0) && !segment.is_void(position.through) {
            true => Ok((index, offset)),
            false => Err(Unreadable::NoSuchPosition),
        }
    }

    fn go_to(&mut self, (index, offset): (usize, usize), skip_through: Sequence) {
        self.enter(index);
        (self.index, self.offset, self.skip_through) = (index, offset, skip_through);
    }

    /// Reads on until there is something to tell. `false` at the end.
    fn read_on(&mut self) -> Result<bool, Unreadable> {
        let Some(segment) = self.segments.get(self.index) else {
            return Ok(false);
        };
        if self.offset == 0 {
            self.begin_segment();
        } else if self.offset + PAGE_BYTES > segment.bytes.len() {
            self.leave();
        } else {
            self.read_batch()?;
        }
        Ok(true)
    }

    fn begin_segment(&mut self) {
        let segment = &self.segments[self.index];
        let (number, covered) = (segment.number, segment.covers(self.end.next));
        let Some(header) = segment.header else {
            match (covered, segment.is_blank) {
                (true, _) => self.lose_up_to(segment.valid_through, 0..segment.bytes.len()),
                (false, true) => self.end.blank.push(number),
                (false, false) => self.end.strange.push(number),
            }
            self.index += 1;
            return;
        };
        let before = self.index.checked_sub(1).map(|before| self.segments[before].number);
        let is_freed = before.is_some_and(|before| is_freed_between(before, number, self.end.base));
        // A segment that should stand between is missing, or the end of the one before.
        if !is_freed && header.first > self.end.next && header.valid_through >= self.end.next {
            let through = header.valid_through.min(Sequence(header.first.0 - 1));
            self.lose_up_to(Some(through), 0..0);
        }
        self.end.next = self.end.next.max(header.first);
        self.enter(self.index);
        self.offset = FIRST_BATCH_OFFSET;
    }

    /// The log goes on in this segment, unless a later one is used.
    fn enter(&mut self, index: usize) {
        let segment = &self.segments[index];
        self.end.remains = 0;
        self.end.tail = segment.header.map(|header| Tail {
            number: segment.number,
            bytes: segment.bytes.len() as u64,
            key: header.key,
            key_before: header.key_before,
            offset: FIRST_BATCH_OFFSET as u64,
            is_blank: false,
        });
    }

    fn leave(&mut self) {
        self.index += 1;
        self.offset = 0;
    }

    fn read_batch(&mut self) -> Result<(), Unreadable> {
        let segment = &self.segments[self.index];
        match segment.batch(self.offset, self.end.next, self.end.incarnation) {
            Batch::Walked { header, .. } if segment.is_void(header.last()) => self.leave(),
            Batch::Walked { header, frames, is_whole } => {
                let is_promised = is_whole || self.is_covered(self.offset + header.padded_length());
                match is_promised {
                    true => self.accept(header, &frames)?,
                    false => self.tear(),
                }
            }
            Batch::None if self.is_covered(self.offset + PAGE_BYTES) => self.salvage()?,
            Batch::None => self.tear(),
        }
        Ok(())
    }

    /// Whether the checkpoint or something written later says that the record which comes next was durable.
    fn is_covered(&self, from: usize) -> bool {
        let segment = &self.segments[self.index];
        self.skip_through >= self.end.next
            || segment.covers(self.end.next)
            || !self.is_closed_here()
                && segment
                    .later_headers(from, self.end.next, self.end.incarnation)
                    .any(|(_, later)| later.synced_through >= self.end.next)
    }

    /// Whether the batch before this place was the last.
    fn is_closed_here(&self) -> bool {
        self.closed.is_some() && self.closed == self.end.position
    }

    /// Takes the good records of a batch and reports the others.
    fn accept(&mut self, header: BatchHeader, frames: &[FrameAt]) -> Result<(), Unreadable> {
        let end = self.offset + header.padded_length();
        for (at, frame) in frames.iter().enumerate() {
            let next = frames.get(at + 1).map_or(end, |next| next.offset);
            match frame.is_good {
                true => self.take(frame.offset)?,
                false => self.lose(frame.sequence, frame.sequence, frame.offset..next),
            }
        }
        self.end.incarnation = header.incarnation;
        self.reach(header.last());
        self.end.position =
            Some(Position { segment: header.segment, offset: self.offset as u64, through: header.last() });
        self.advance(self.offset + header.padded_length());
        Ok(())
    }

    /// Saves what can be found between a batch that is not valid and what follows it.
    fn salvage(&mut self) -> Result<(), Unreadable> {
        let segment = &self.segments[self.index];
        let next =
            segment.later_headers(self.offset + PAGE_BYTES, self.end.next, self.end.incarnation).next();
        let (to, through) = match (next, segment.batch_header(self.offset)) {
            (Some((to, later)), _) => (to, Sequence(later.first.0 - 1)),
            (None, Some(header)) => (self.offset + header.padded_length(), header.last()),
            (None, None) => (segment.bytes.len(), segment.valid_through.unwrap_or(self.skip_through)),
        };
        let to = to.min(segment.bytes.len());
        let frames = segment.frames_within(self.offset..to, self.end.next..=through);
        let mut from = self.offset;
        for (at, frame) in frames.iter().enumerate() {
            let next = frames.get(at + 1).map_or(to, |next| next.offset);
            if frame.sequence > self.end.next {
                self.lose(self.end.next, Sequence(frame.sequence.0 - 1), from..frame.offset);
            }
            match frame.is_good {
                true => self.take(frame.offset)?,
                false => self.lose(frame.sequence, frame.sequence, frame.offset..next),
            }
            self.reach(frame.sequence);
            from = frame.offset;
        }
        self.lose_up_to(Some(through), from..to);
        self.advance(to);
        Ok(())
    }

    /// Nothing here was promised: the segment ends before this place.
    fn tear(&mut self) {
        let segment = &self.segments[self.index];
        let rest = &segment.bytes[self.offset..];
        // A fresh page of zeroes is no tail but the end.
        if rest[..PAGE_BYTES].iter().any(|&byte| byte != 0) {
            self.end.torn.push(Torn { segment: segment.number, offset: self.offset as u64 });
        }
        // No more records than this can have been written here.
        let records = (rest.len() / FRAME_HEADER_BYTES) as u64;
        if !self.is_closed_here() && segment.has_remains(self.offset, self.end.next..=self.end.next + records)
        {
            self.end.remains = records;
        }
        self.leave();
    }

    fn take(&mut self, offset: usize) -> Result<(), Unreadable> {
        let segment = &self.segments[self.index];
        let Some((sequence, record)) = segment.record(offset)? else {
            return Ok(());
        };
        if sequence > self.skip_through {
            let offset = u32::try_from(offset).expect("offsets in a segment have 32 bits");
            let place = RecordPlace { segment: segment.number, offset };
            self.found.push_back(Found::Record(Recovered { sequence, place, record }));
        }
        Ok(())
    }

    fn lose_up_to(&mut self, through: Option<Sequence>, within: Range<usize>) {
        let Some(through) = through else {
            return;
        };
        if through >= self.end.next {
            self.lose(self.end.next, through, within);
            self.reach(through);
        }
    }

    fn lose(&mut self, first: Sequence, last: Sequence, within: Range<usize>) {
        let segment = self.segments[self.index].number;
        if last > self.skip_through {
            let first = first.max(self.skip_through + 1);
            let (offset, end) = (within.start as u64, within.end as u64);
            self.found.push_back(Found::Damage(Damage { segment, offset, end, first, last }));
        }
    }

    fn reach(&mut self, last: Sequence) {
        self.end.synced = last;
        self.end.next = last + 1;
    }

    fn advance(&mut self, offset: usize) {
        self.offset = offset;
        if let Some(tail) = &mut self.end.tail {
            tail.offset = offset as u64;
        }
    }
}

impl End {
    /// Records up to this one were durable, as a checkpoint says, and the log must not give their numbers again: it
    /// goes on behind them, in another segment. What of them was not found is damage.
    pub fn promise(&mut self, through: Sequence) -> Option<Damage> {
        if through < self.next {
            return None;
        }
        let (segment, offset) = self.tail.map_or((0, 0), |tail| (tail.number, tail.offset));
        let end = self.tail.map_or(0, |tail| tail.bytes);
        let damage = Damage { segment, offset, end, first: self.next, last: through };
        if let Some(tail) = &mut self.tail {
            tail.offset = tail.bytes;
        }
        (self.synced, self.next) = (through, through + 1);
        Some(damage)
    }
}

impl Damage {
    /// How many records that are.
    pub fn records(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

impl Iterator for Scan {
    type Item = Result<Found, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(Ok(found));
            }
            if self.failed {
                return None;
            }
            match self.read_on() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(unreadable) => {
                    self.failed = true;
                    return Some(Err(unreadable));
                }
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, first, last, .. } = self;
        write!(
            f,
            "segment {segment} is damaged near byte {offset}: records {} to {} are lost",
            first.0, last.0
        )
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { segment, version } => {
                write!(
                    f,
                    "segment {segment} has version {version} of the format, which this program does not know"
                )
            }
            Self::Foreign { segment } => write!(f, "segment {segment} belongs to another log"),
            Self::Record { sequence } => {
                write!(f, "record {} is of a kind that this program does not know", sequence.0)
            }
            Self::NoSuchPosition => f.write_str("the checkpoint is not of this log"),
        }
    }
}
