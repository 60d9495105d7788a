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
//! ```

use std::fmt;

use super::batch::PAGE_BYTES;
use super::{LogId, Sequence};

/// Where the first batch begins: behind the two pages of the header.
pub const FIRST_BATCH_OFFSET: usize = 2 * PAGE_BYTES;

pub const SEGMENT_HEADER_BYTES: usize = 64;

/// A store with another version is not opened.
pub const FORMAT_VERSION: u16 = 1;

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
}

/// What the first pages of a segment say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heading {
    Good(SegmentHeader),
    /// Another version of the format, which must not be touched.
    Version(u16),
    /// Zeroes: the segment was made ready and not used.
    Blank,
    /// Neither copy is good.
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
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Result<Self, u16>> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[4..8] != MAGIC || crc32fast::hash(&bytes[4..]) != u32_at(0) {
            return None;
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != FORMAT_VERSION {
            return Some(Err(version));
        }
        Some(Ok(Self {
            log: LogId(u16::from_le_bytes([bytes[10], bytes[11]])),
            number: u32_at(12),
            key: SegmentKey(u64_at(16)),
            log_key: SegmentKey(u64_at(24)),
            key_before: SegmentKey(u64_at(32)),
            first: Sequence(u64_at(40)),
            valid_through: Sequence(u64_at(48)),
            bytes: u64_at(56),
        }))
    }
}

impl Heading {
    /// Reads the header of a segment from its file.
    pub fn read(file: &[u8]) -> Self {
        let start = &file[..file.len().min(FIRST_BATCH_OFFSET)];
        if start.iter().all(|&byte| byte == 0) {
            return Self::Blank;
        }
        match start.chunks(PAGE_BYTES).find_map(SegmentHeader::parse) {
            Some(Ok(header)) => Self::Good(header),
            Some(Err(version)) => Self::Version(version),
            None => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heading, SegmentHeader, SegmentKey};
    use crate::store::{LogId, Sequence};

    #[test]
    fn one_good_copy_is_enough() {
        let header = SegmentHeader {
            log: LogId(2),
            number: 9,
            key: SegmentKey(1),
            log_key: SegmentKey(2),
            key_before: SegmentKey(3),
            first: Sequence(70),
            valid_through: Sequence(60),
            bytes: 1 << 22,
        };
        let mut pages = header.to_pages();
        assert_eq!(Heading::read(&pages), Heading::Good(header));
        pages[..4096].fill(0xa5);
        assert_eq!(Heading::read(&pages), Heading::Good(header));
        pages[4096 + 40] ^= 1;
        assert_eq!(Heading::read(&pages), Heading::Lost);
        assert_eq!(Heading::read(&[0; 8192]), Heading::Blank);
        assert_eq!(Heading::read(&[]), Heading::Blank);
    }
}
