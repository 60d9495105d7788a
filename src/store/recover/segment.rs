//! One segment of a log that is read back.

use std::ops::{Range, RangeInclusive};

use super::{SegmentFile, Unreadable};
use crate::bytes::Slice;
use crate::store::batch::{BATCH_HEADER_BYTES, BatchHeader, PAGE_BYTES};
use crate::store::codec;
use crate::store::frame::{FRAME_HEADER_BYTES, Frame};
use crate::store::record::Record;
use crate::store::segment::{Base, FIRST_BATCH_OFFSET, Heading, SegmentHeader, SegmentKey};
use crate::store::{LogId, Sequence};

/// A segment with all that is known of it before it is read.
pub struct Segment {
    pub number: u32,
    pub bytes: Slice,
    /// `None` if both copies are lost and the next segment does not know it either.
    pub header: Option<SegmentHeader>,
    /// Made ready, anew or from an old segment, and not used.
    pub is_blank: bool,
    /// What later segments say of this one: records beyond are void, records up to here were durable.
    pub valid_through: Option<Sequence>,
}

/// What is at a place where a batch should be.
pub enum Batch {
    /// Header and frame headers are good; of the frames, the payloads may be damaged.
    Walked {
        header: BatchHeader,
        frames: Vec<FrameAt>,
        is_whole: bool,
    },
    None,
}

pub struct FrameAt {
    pub offset: usize,
    pub sequence: Sequence,
    pub is_good: bool,
}

/// Reads the headers of the segments and what each says of those before it.
pub fn head(log: LogId, files: Vec<SegmentFile>) -> Result<Vec<Segment>, Unreadable> {
    let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
    let mut later: Option<SegmentHeader> = None;
    let mut valid_through: Option<Sequence> = None;
    let mut base: Option<Base> = None;
    for SegmentFile { number, bytes } in files.into_iter().rev() {
        let (header, is_blank) = match Heading::read(&bytes, number) {
            Heading::Version(version) => return Err(Unreadable::Version { segment: number, version }),
            Heading::Good(header) | Heading::Former(header) if is_foreign(&header, log, later) => {
                return Err(Unreadable::Foreign { segment: number });
            }
            Heading::Good(header) => (Some(header), false),
            Heading::Blank | Heading::Former(_) => (None, true),
            Heading::Lost => (None, false),
        };
        let header = header.or_else(|| header_from_later(number, &bytes, later?));
        if later.is_some_and(|later| is_freed_between(number, later.number, base)) {
            valid_through = None;
        }
        segments.push(Segment { number, bytes, header, is_blank, valid_through });
        if let Some(header) = header {
            base = base.or(header.base);
            later = Some(header);
            let before = valid_through.unwrap_or(Sequence(u64::MAX));
            valid_through = Some(header.valid_through.min(before));
        }
    }
    segments.reverse();
    Ok(segments)
}

/// Whether segments between these are missing because they were freed; what comes after says nothing then of the end
/// of the one before.
pub fn is_freed_between(number: u32, next: u32, base: Option<Base>) -> bool {
    next > number + 1 && base.is_some_and(|base| next <= base.position.segment)
}

/// Whether a segment is of another log than the one that is opened, or than the segments after it.
fn is_foreign(header: &SegmentHeader, log: LogId, later: Option<SegmentHeader>) -> bool {
    header.log != log || later.is_some_and(|later| later.log_key != header.log_key)
}

/// What the header of a segment must have been, from that of the next one. What it said of its own records and
/// of earlier segments its first batch says, too: between two segments there may be numbers that nobody was given. If
/// that is lost as well, it is unknown and binds nobody.
fn header_from_later(number: u32, bytes: &[u8], later: SegmentHeader) -> Option<SegmentHeader> {
    let is_next = later.number == number + 1 && later.key_before != SegmentKey(0);
    let key = is_next.then_some(later.key_before)?;
    let batch = bytes.get(FIRST_BATCH_OFFSET..).and_then(|bytes| BatchHeader::parse(bytes, key));
    let batch = batch
        .filter(|batch| batch.segment == number && batch.page as usize == FIRST_BATCH_OFFSET / PAGE_BYTES);
    let (first, valid_through) =
        batch.map_or((Sequence(0), Sequence(u64::MAX)), |batch| (batch.first, batch.synced_through));
    Some(SegmentHeader { number, key, key_before: SegmentKey(0), first, valid_through, base: None, ..later })
}

/// What looks like a frame in a damaged range and is none, before we stop looking there.
const FALSE_FRAMES_MAX: usize = 1 << 16;

impl Segment {
    /// The first record in it.
    pub fn first(&self) -> Option<Sequence> {
        let said = self.header.map(|header| header.first).filter(|first| *first > Sequence(0));
        said.or_else(|| Some(self.batch_header(FIRST_BATCH_OFFSET)?.first))
    }

    pub fn covers(&self, sequence: Sequence) -> bool {
        self.valid_through.is_some_and(|through| through >= sequence)
    }

    pub fn is_void(&self, sequence: Sequence) -> bool {
        self.valid_through.is_some_and(|through| through < sequence)
    }

    /// The good header of a batch at this place of this segment.
    pub fn batch_header(&self, offset: usize) -> Option<BatchHeader> {
        let header = BatchHeader::parse(self.bytes.get(offset..)?, self.header?.key)?;
        let is_here = header.segment == self.number && header.page as usize * PAGE_BYTES == offset;
        let fits = header.length as usize + BATCH_HEADER_BYTES <= self.bytes.len() - offset;
        (is_here && fits).then_some(header)
    }

    /// Good headers of batches that may follow what comes next, with their places.
    pub fn later_headers(
        &self,
        from: usize,
        next: Sequence,
        incarnation: u32,
    ) -> impl Iterator<Item = (usize, BatchHeader)> {
        let from = from.next_multiple_of(PAGE_BYTES);
        let pages = (from..self.bytes.len().saturating_sub(PAGE_BYTES - 1)).step_by(PAGE_BYTES);
        let headers = pages.filter_map(|offset| Some((offset, self.batch_header(offset)?)));
        headers.filter(move |(_, header)| header.first > next && header.incarnation >= incarnation)
    }

    /// Good headers of batches before this place, with their places.
    pub fn headers_before(&self, offset: usize) -> impl Iterator<Item = (usize, BatchHeader)> {
        let end = offset.min(self.bytes.len().saturating_sub(PAGE_BYTES - 1));
        let pages = (FIRST_BATCH_OFFSET..end).step_by(PAGE_BYTES);
        pages.filter_map(|offset| Some((offset, self.batch_header(offset)?)))
    }

    /// Whether the batch that holds this record, or one before it, begins here by what stands before it.
    pub fn leads_to(&self, offset: usize, record: Sequence) -> bool {
        match self.headers_before(offset).last() {
            Some((at, before)) => at + before.padded_length() == offset && before.last() < record,
            None => offset == FIRST_BATCH_OFFSET && self.first().is_some_and(|first| first <= record),
        }
    }

    pub fn batch(&self, offset: usize, next: Sequence, incarnation: u32) -> Batch {
        let Some(header) = self.batch_header(offset) else {
            return Batch::None;
        };
        if header.first != next || header.incarnation < incarnation {
            return Batch::None;
        }
        self.walk(offset, header).unwrap_or(Batch::None)
    }

    /// Goes over the frames of a batch. `None` if their headers are not what they were.
    fn walk(&self, offset: usize, header: BatchHeader) -> Option<Batch> {
        let key = self.header?.key;
        let end = offset + BATCH_HEADER_BYTES + header.length as usize;
        let mut at = offset + BATCH_HEADER_BYTES;
        let mut checksum = crc32fast::Hasher::new();
        let mut frames = Vec::new();
        let mut is_whole = true;
        for number in 0..u64::from(header.count) {
            let bytes = &self.bytes[at..end];
            let frame = Frame::parse(bytes, key)?;
            if frame.sequence != header.first + number {
                return None;
            }
            checksum.update(&bytes[..frame.header_length()]);
            let is_good = frame.payload_is_good(bytes.get(frame.payload())?);
            is_whole &= is_good;
            frames.push(FrameAt { offset: at, sequence: frame.sequence, is_good });
            at += frame.frame_length();
        }
        let is_all = at == end && checksum.finalize() == header.frames_checksum;
        is_all.then_some(Batch::Walked { header, frames, is_whole })
    }

    /// Frames that can still be found in a damaged range, with ascending sequences.
    pub fn frames_within(&self, range: Range<usize>, sequences: RangeInclusive<Sequence>) -> Vec<FrameAt> {
        let Some(SegmentHeader { key, .. }) = self.header else {
            return Vec::new();
        };
        let bytes = &self.bytes[..range.end];
        let (mut next, last) = sequences.into_inner();
        let (mut at, mut wrong) = (range.start, 0);
        let mut frames = Vec::new();
        while at + FRAME_HEADER_BYTES <= range.end && next <= last && wrong < FALSE_FRAMES_MAX {
            // What was never written, quickly; a frame could begin with the last bytes of it.
            if at.is_multiple_of(PAGE_BYTES) && bytes[at..].iter().take(PAGE_BYTES).all(|&byte| byte == 0) {
                at += PAGE_BYTES - 4;
                continue;
            }
            if !looks_like_frame(&bytes[at..], next, last) {
                at += 1;
                continue;
            }
            let Some(frame) = Frame::parse(&bytes[at..], key) else {
                (at, wrong) = (at + 1, wrong + 1);
                continue;
            };
            let payload = bytes.get(at + frame.payload().start..at + frame.payload().end);
            let is_good = payload.is_some_and(|payload| frame.payload_is_good(payload));
            frames.push(FrameAt { offset: at, sequence: frame.sequence, is_good });
            next = frame.sequence + 1;
            at += frame.header_length();
            // Where the payload is good, nothing else is in it.
            if is_good {
                at += frame.length as usize;
            }
        }
        frames
    }

    /// Whether a batch of this segment, or a part of one, stands from here on.
    pub fn has_remains(&self, offset: usize, sequences: RangeInclusive<Sequence>) -> bool {
        self.later_headers(offset, Sequence(0), 0).next().is_some()
            || !self.frames_within(offset..self.bytes.len(), sequences).is_empty()
    }

    /// The record in a good frame. `None` for the log's own.
    pub fn record(&self, offset: usize) -> Result<Option<(Sequence, Record)>, Unreadable> {
        let frame = self.header.and_then(|header| Frame::parse(&self.bytes[offset..], header.key));
        let Some(frame) = frame else {
            return Ok(None);
        };
        let sequence = frame.sequence;
        if frame.kind == codec::OPENED {
            return Ok(None);
        }
        if frame.version != codec::VERSION {
            return Err(Unreadable::Record { sequence });
        }
        let (fields, body) = (frame.fields(), frame.body());
        let body = self.bytes.part(offset + body.start..offset + body.end);
        let record = codec::decode(frame.kind, &self.bytes[offset + fields.start..offset + fields.end], body);
        record.map(|record| Some((sequence, record))).map_err(|_| Unreadable::Record { sequence })
    }
}

/// A look at the numbers that needs no checksum.
fn looks_like_frame(bytes: &[u8], next: Sequence, last: Sequence) -> bool {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return false;
    };
    let sequence = u64::from_le_bytes([
        header[16], header[17], header[18], header[19], header[20], header[21], header[22], header[23],
    ]);
    header[4] != 0 && header[6..8] == [0, 0] && (next.0..=last.0).contains(&sequence)
}
