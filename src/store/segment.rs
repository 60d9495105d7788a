//! A segment: a file of fixed size in which a part of the log lies.
//!
//! Its first two pages hold the same header; either is enough. They are written once, together with the first
//! batch. The header also says how far all earlier segments are valid, which matters when one was poisoned by a
//! failed write, and repeats the key of the segment before, so that a segment whose own header is lost can still
//! be read.
//!
//! ```text
//!  0  u32  checksum of the rest of this header
//!  4  u32  "RPS1"
//!  8  u16  version of the format
//! 10  u16  log
//! 12  u32  number of the segment
//! 16  u64  key of the segment
//! 24  u64  key of the log: the same in all its segments
//! 32  u64  key of the segment whose number is one less, or zero
//! 40  u64  sequence of the first record
//! 48  u64  valid through: records of earlier segments beyond this one are void
//! 56  u64  length of the file
//! 64  u32  checksum of what follows here
//! 68  u32  segment where the log's base is
//! 72  u64  snapshot: the base is the state behind this record; zero if there is none
//! 80  u64  its last part
//! 88  u32  where in that segment the batch begins that the record ends
//! 92  u32  how many parts it has
//! 96       zero up to 128
//! ```
//!
//! Headers of version 1 end at 64; their segments have no base.

use std::fmt;

use super::batch::{BATCH_HEADER_BYTES, BatchHeader, PAGE_BYTES};
use super::fields::Put;
use super::log::Position;
use super::{LogId, Sequence};

/// Where the first batch begins: behind the two pages of the header.
pub const FIRST_BATCH_OFFSET: usize = 2 * PAGE_BYTES;

/// What of a file is looked at to tell what it says of itself.
pub const HEADING_BYTES: usize = FIRST_BATCH_OFFSET + BATCH_HEADER_BYTES;

pub const SEGMENT_HEADER_BYTES: usize = 128;

/// What all versions have in common.
const HEADER_BYTES_1: usize = 64;

/// A store with a version above this is not opened.
pub const FORMAT_VERSION: u16 = 2;

const MAGIC: [u8; 4] = *b"RPS1";

/// A random number that every batch of the segment repeats; contents of mail cannot forge it, and batches that a
/// recycled file still holds do not have it. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SegmentKey(pub u64);

impl SegmentKey {
    /// The checksum of this key and `bytes`.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    pub log: LogId,
    pub number: u32,
    pub key: SegmentKey,
    pub log_key: SegmentKey,
    pub key_before: SegmentKey,
    pub first: Sequence,
    pub valid_through: Sequence,
    pub bytes: u64,
    pub base: Option<Base>,
}

/// A snapshot in the log: what all records up to `position.through` made, so that no start needs them. It was
/// durable before any header named it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// Replay goes on behind it.
    pub position: Position,
    /// Its last part; all are between `position` and here.
    pub last: Sequence,
    pub parts: u32,
}

/// What the first pages of a segment say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heading {
    /// It has the number of the file.
    Good(SegmentHeader),
    /// Another version of the format, which must not be touched.
    Version(u16),
    /// Zeroes: the segment was made ready and not used.
    Blank,
    /// It was made ready from an old one, whose header this is, and not used.
    Former(SegmentHeader),
    /// Neither copy is good, or both are what there was before the batch that follows them.
    Lost,
}

impl SegmentHeader {
    /// Both pages.
    pub fn to_pages(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIRST_BATCH_OFFSET];
        let header = self.to_bytes();
        for page in bytes.chunks_exact_mut(PAGE_BYTES) {
            page[..SEGMENT_HEADER_BYTES].copy_from_slice(&header);
        }
        bytes
    }

    fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.log.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_key.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.key_before.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.valid_through.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[68..96].copy_from_slice(&base_bytes(self.base));
        let checksum = crc32fast::hash(&bytes[68..]);
        bytes[64..68].copy_from_slice(&checksum.to_le_bytes());
        // As in version 1, so that a program that knows no other understands that this is one.
        let checksum = crc32fast::hash(&bytes[4..HEADER_BYTES_1]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Result<Self, u16>> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[4..8] != MAGIC || crc32fast::hash(&bytes[4..HEADER_BYTES_1]) != u32_at(0) {
            return None;
        }
        let base = match u16::from_le_bytes([bytes[8], bytes[9]]) {
            1 => None,
            FORMAT_VERSION if crc32fast::hash(&bytes[68..]) != u32_at(64) => return None,
            FORMAT_VERSION => {
                let (segment, offset, through) = (u32_at(68), u64::from(u32_at(88)), Sequence(u64_at(72)));
                let position = Position { segment, offset, through };
                let base = Base { position, last: Sequence(u64_at(80)), parts: u32_at(92) };
                (through > Sequence(0)).then_some(base)
            }
            version => return Some(Err(version)),
        };
        Some(Ok(Self {
            log: LogId(u16::from_le_bytes([bytes[10], bytes[11]])),
            number: u32_at(12),
            key: SegmentKey(u64_at(16)),
            log_key: SegmentKey(u64_at(24)),
            key_before: SegmentKey(u64_at(32)),
            first: Sequence(u64_at(40)),
            valid_through: Sequence(u64_at(48)),
            bytes: u64_at(56),
            base,
        }))
    }
}

/// From the segment of the base to the count of its parts.
fn base_bytes(base: Option<Base>) -> [u8; 28] {
    let Some(Base { position, last, parts }) = base else {
        return [0; 28];
    };
    let mut bytes = Vec::with_capacity(28);
    bytes.put_u32(position.segment);
    bytes.put_u64(position.through.0);
    bytes.put_u64(last.0);
    bytes.put_u32(u32::try_from(position.offset).expect("offsets in a segment have 32 bits"));
    bytes.put_u32(parts);
    bytes.try_into().expect("they have their length")
}

impl Heading {
    /// Reads the header of the segment with this number from its file. A disk may have lost the write of a page and
    /// still have what was there before it: the copy that is this segment's counts, and a file in which its first
    /// batch begins is in use, whatever both copies say.
    pub fn read(file: &[u8], number: u32) -> Self {
        let start = &file[..file.len().min(FIRST_BATCH_OFFSET)];
        let (mut own, mut former) = (None, None);
        for copy in start.chunks(PAGE_BYTES).filter_map(SegmentHeader::parse) {
            match copy {
                Err(version) => return Self::Version(version),
                Ok(header) if header.number == number => own = own.or(Some(header)),
                Ok(header) => former = former.or(Some(header)),
            }
        }
        match (own, former) {
            (Some(header), _) => Self::Good(header),
            _ if has_first_batch(file, number) => Self::Lost,
            (None, Some(header)) => Self::Former(header),
            (None, None) if start.iter().all(|&byte| byte == 0) => Self::Blank,
            (None, None) => Self::Lost,
        }
    }
}

/// Whether a batch of the segment with this number begins where its first does.
fn has_first_batch(file: &[u8], number: u32) -> bool {
    let batch = file.get(FIRST_BATCH_OFFSET..).and_then(BatchHeader::parse_with_own_key);
    batch.is_some_and(|batch| batch.segment == number)
}

#[cfg(test)]
mod tests {
    use super::{
        Base, FIRST_BATCH_OFFSET, FORMAT_VERSION, HEADER_BYTES_1, Heading, SegmentHeader, SegmentKey,
    };
    use crate::store::batch::BatchHeader;
    use crate::store::log::Position;
    use crate::store::{LogId, Sequence};

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: LogId(2),
            number: 9,
            key: SegmentKey(1),
            log_key: SegmentKey(2),
            key_before: SegmentKey(3),
            first: Sequence(70),
            valid_through: Sequence(60),
            bytes: 1 << 22,
            base: Some(Base {
                position: Position { segment: 7, offset: 12288, through: Sequence(40) },
                last: Sequence(55),
                parts: 6,
            }),
        }
    }

    #[test]
    fn one_good_copy_is_enough() {
        let header = header();
        let mut pages = header.to_pages();
        assert_eq!(Heading::read(&pages, 9), Heading::Good(header));
        pages[..4096].fill(0xa5);
        assert_eq!(Heading::read(&pages, 9), Heading::Good(header));
        pages[4096 + 40] ^= 1;
        assert_eq!(Heading::read(&pages, 9), Heading::Lost);
        assert_eq!(Heading::read(&[0; 8192], 9), Heading::Blank);
        assert_eq!(Heading::read(&[], 9), Heading::Blank);
    }

    /// What a recycled file held before is not taken for what it holds now, whichever page the disk lost.
    #[test]
    fn a_page_from_a_former_life_does_not_hide_that_a_segment_is_used() {
        let former = SegmentHeader { number: 4, key: SegmentKey(7), ..header() };
        let (now, before) = (header().to_pages(), former.to_pages());
        let [now, before] = [&now[..4096], &before[..4096]];
        assert_eq!(Heading::read(&[before, now].concat(), 9), Heading::Good(header()));
        assert_eq!(Heading::read(&[now, before].concat(), 9), Heading::Good(header()));
        let batch = |segment: u32, key: SegmentKey| {
            let (page, first) = ((FIRST_BATCH_OFFSET / 4096) as u32, Sequence(70));
            let (incarnation, count, length, frames_checksum) = (1, 1, 0, 0);
            let synced_through = Sequence(69);
            let header = BatchHeader {
                segment,
                page,
                incarnation,
                count,
                first,
                synced_through,
                length,
                frames_checksum,
            };
            header.to_bytes(key)
        };
        let zeroes = [0; 4096];
        for (pages, unused) in
            [([before, before], Heading::Former(former)), ([&zeroes, &zeroes], Heading::Blank)]
        {
            let file = |batch: &[u8]| [pages[0], pages[1], batch].concat();
            assert_eq!(Heading::read(&file(&[]), 9), unused);
            assert_eq!(Heading::read(&file(&batch(4, SegmentKey(7))), 9), unused);
            assert_eq!(Heading::read(&file(&batch(9, SegmentKey(1))), 9), Heading::Lost);
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        for base in [header().base, None] {
            let header = SegmentHeader { base, ..header() };
            let bytes = header.to_bytes();
            assert_eq!(Heading::read(&bytes, 9), Heading::Good(header));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Heading::read(&flipped, 9), Heading::Lost, "bit {bit}");
            }
        }
    }

    /// What version 1 wrote is read, and what a later version writes is refused by its number.
    #[test]
    fn versions_are_told_apart_by_what_all_have_in_common() {
        for (version, expected) in [
            (1, Heading::Good(SegmentHeader { base: None, ..header() })),
            (FORMAT_VERSION + 1, Heading::Version(FORMAT_VERSION + 1)),
        ] {
            let mut bytes = header().to_bytes();
            bytes[8..10].copy_from_slice(&version.to_le_bytes());
            bytes[HEADER_BYTES_1..].fill(0);
            let checksum = crc32fast::hash(&bytes[4..HEADER_BYTES_1]);
            bytes[..4].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(Heading::read(&bytes, 9), expected);
        }
    }
}
