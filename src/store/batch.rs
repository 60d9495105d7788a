//! A batch: the frames that one sync makes durable, valid whole or not at all.
//!
//! It begins on a page of 4 KiB and is padded with zeroes to the next. Its header's checksum covers the checksum
//! of all frame headers, and those cover the checksums of all payloads; what pads is defined as ignored.
//!
//! ```text
//!  0  u32  checksum of the segment's key and of the rest of this header
//!  4  u32  "RPB1"
//!  8  u64  key of the segment
//! 16  u32  number of the segment
//! 20  u32  page of the segment that this is
//! 24  u32  incarnation: how often the log was opened
//! 28  u32  records
//! 32  u64  sequence of the first record
//! 40  u64  synced through: this record and all before it were durable when this was written
//! 48  u32  length of all frames
//! 52  u32  checksum of all frame headers, one behind the other
//! 56  u64  zero
//! ```

use super::Sequence;
use super::segment::SegmentKey;

/// Batches begin on multiples of this.
pub const PAGE_BYTES: usize = 4096;

pub const BATCH_HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"RPB1";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub segment: u32,
    pub page: u32,
    pub incarnation: u32,
    pub count: u32,
    pub first: Sequence,
    pub synced_through: Sequence,
    /// Of all frames, without this header and the padding.
    pub length: u32,
    pub frames_checksum: u32,
}

impl BatchHeader {
    pub fn to_bytes(&self, key: SegmentKey) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&key.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.page.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.count.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced_through.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.length.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.frames_checksum.to_le_bytes());
        let checksum = key.checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, if it is a good one of this segment. Whether it lies where it
    /// belongs is for the caller to say: compare `segment` and `page`.
    pub fn parse(bytes: &[u8], key: SegmentKey) -> Option<Self> {
        Self::parse_with_own_key(bytes).filter(|_| bytes[8..16] == key.0.to_le_bytes())
    }

    /// The same of whichever segment: what it says is no proof of anything, since contents of mail can say it, too.
    pub fn parse_with_own_key(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[4..8] != MAGIC || SegmentKey(u64_at(8)).checksum(&bytes[4..]) != u32_at(0) {
            return None;
        }
        let header = Self {
            segment: u32_at(16),
            page: u32_at(20),
            incarnation: u32_at(24),
            count: u32_at(28),
            first: Sequence(u64_at(32)),
            synced_through: Sequence(u64_at(40)),
            length: u32_at(48),
            frames_checksum: u32_at(52),
        };
        (header.count > 0).then_some(header)
    }

    /// The last record in it.
    pub fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.count) - 1)
    }

    /// With the header and the padding.
    pub fn padded_length(&self) -> usize {
        padded_length(self.length as usize)
    }
}

/// What a batch with frames of this length takes in its segment.
pub fn padded_length(frames_length: usize) -> usize {
    (BATCH_HEADER_BYTES + frames_length).next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::BatchHeader;
    use crate::store::Sequence;
    use crate::store::segment::SegmentKey;

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let key = SegmentKey(99);
        let header = BatchHeader {
            segment: 3,
            page: 17,
            incarnation: 2,
            count: 5,
            first: Sequence(1 << 33),
            synced_through: Sequence((1 << 33) - 1),
            length: 5000,
            frames_checksum: 0xdead_beef,
        };
        let bytes = header.to_bytes(key);
        assert_eq!(BatchHeader::parse(&bytes, key), Some(header));
        assert_eq!((header.last(), header.padded_length()), (Sequence((1 << 33) + 4), 8192));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::parse(&flipped, key), None, "bit {bit}");
        }
        assert_eq!(BatchHeader::parse(&[0; 64], SegmentKey(0)), None);
    }
}
