//! A frame: one record with its header, length and checksums.
//!
//! The header's checksum begins with the key of the segment, so that neither the contents of a message nor the
//! remains of a recycled file can pass for a frame. The payload is checked in blocks of 64 KiB whose checksums
//! follow the header; a reader that wants a part checks the blocks of that part.
//!
//! ```text
//!  0  u32  checksum of the segment's key and of all that follows up to the payload
//!  4  u8   kind of record
//!  5  u8   version of its layout
//!  6  u16  zero
//!  8  u32  length of the payload: fields, then body
//! 12  u32  length of the fields; the body begins behind them
//! 16  u64  sequence
//! 24  u32  checksum of each block of the payload
//!  …       the payload
//! ```

use std::ops::Range;

use super::Sequence;
use super::segment::SegmentKey;

pub const FRAME_HEADER_BYTES: usize = 24;

/// The payload is checked in blocks of this size.
pub const BLOCK_BYTES: usize = 64 << 10;

/// A frame header that was found good, with the checksums of its blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    pub kind: u8,
    pub version: u8,
    pub sequence: Sequence,
    pub length: u32,
    pub fields_length: u32,
    blocks: &'a [u8],
}

/// What the writer says of a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameSpec {
    pub kind: u8,
    pub version: u8,
    pub sequence: Sequence,
}

/// Header and block checksums of a payload of this length.
pub fn header_length(payload_length: usize) -> usize {
    FRAME_HEADER_BYTES + 4 * payload_length.div_ceil(BLOCK_BYTES)
}

/// The whole frame of a payload of this length.
pub fn frame_length(payload_length: usize) -> usize {
    header_length(payload_length) + payload_length
}

/// Writes the header of a frame whose payload is `fields` and then `body`.
pub fn write_header(to: &mut [u8], spec: FrameSpec, [fields, body]: [&[u8]; 2], key: SegmentKey) {
    let length = fields.len() + body.len();
    assert_eq!(to.len(), header_length(length));
    let word =
        |length: usize| u32::try_from(length).expect("a frame is smaller than a segment").to_le_bytes();
    to[4] = spec.kind;
    to[5] = spec.version;
    to[6..8].fill(0);
    to[8..12].copy_from_slice(&word(length));
    to[12..16].copy_from_slice(&word(fields.len()));
    to[16..24].copy_from_slice(&spec.sequence.0.to_le_bytes());
    write_block_checksums(&mut to[FRAME_HEADER_BYTES..], [fields, body]);
    let checksum = key.checksum(&to[4..]);
    to[..4].copy_from_slice(&checksum.to_le_bytes());
}

impl<'a> Frame<'a> {
    /// The frame whose header is at the beginning of `bytes`, if it is a good one. The payload may still be
    /// damaged, or not there.
    pub fn parse(bytes: &'a [u8], key: SegmentKey) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (kind, length, fields_length) = (header[4], word(8), word(12));
        if kind == 0 || header[6..8] != [0, 0] || fields_length > length || length as usize > bytes.len() {
            return None;
        }
        let checked = bytes.get(4..header_length(length as usize))?;
        if key.checksum(checked) != word(0) {
            return None;
        }
        Some(Self {
            kind,
            version: header[5],
            sequence: Sequence(u64::from(word(16)) | u64::from(word(20)) << 32),
            length,
            fields_length,
            blocks: &checked[FRAME_HEADER_BYTES - 4..],
        })
    }

    /// Whether all blocks of the payload are what was written.
    pub fn payload_is_good(&self, payload: &[u8]) -> bool {
        payload.len() == self.length as usize
            && payload
                .chunks(BLOCK_BYTES)
                .zip(self.blocks.chunks_exact(4))
                .all(|(block, checksum)| crc32fast::hash(block).to_le_bytes() == checksum)
    }

    pub fn header_length(&self) -> usize {
        header_length(self.length as usize)
    }

    pub fn frame_length(&self) -> usize {
        frame_length(self.length as usize)
    }

    /// Where the fields are, from the beginning of the frame.
    pub fn fields(&self) -> Range<usize> {
        self.header_length()..self.header_length() + self.fields_length as usize
    }

    /// Where the body is, from the beginning of the frame.
    pub fn body(&self) -> Range<usize> {
        self.fields().end..self.frame_length()
    }

    pub fn payload(&self) -> Range<usize> {
        self.header_length()..self.frame_length()
    }
}

/// The checksums of the blocks of a payload that lies in two pieces.
fn write_block_checksums(to: &mut [u8], [mut fields, mut body]: [&[u8]; 2]) {
    for checksum in to.chunks_exact_mut(4) {
        let mut hasher = crc32fast::Hasher::new();
        let of_fields = fields.len().min(BLOCK_BYTES);
        let of_body = body.len().min(BLOCK_BYTES - of_fields);
        hasher.update(&fields[..of_fields]);
        hasher.update(&body[..of_body]);
        (fields, body) = (&fields[of_fields..], &body[of_body..]);
        checksum.copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, Frame, FrameSpec, header_length, write_header};
    use crate::store::Sequence;
    use crate::store::segment::SegmentKey;

    const KEY: SegmentKey = SegmentKey(0x0123_4567_89ab_cdef);

    fn frame(fields: &[u8], body: &[u8]) -> Vec<u8> {
        let spec = FrameSpec { kind: 2, version: 1, sequence: Sequence(1 << 40 | 7) };
        let mut bytes = vec![0; header_length(fields.len() + body.len())];
        write_header(&mut bytes, spec, [fields, body], KEY);
        bytes.extend_from_slice(fields);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn the_body_is_found_from_the_header_alone() {
        for body_length in [0, 1, BLOCK_BYTES - 6, BLOCK_BYTES, 3 * BLOCK_BYTES + 1] {
            let body = vec![b'x'; body_length];
            let bytes = frame(b"fields", &body);
            let found = Frame::parse(&bytes, KEY).expect("it was just written");
            assert_eq!(found.sequence, Sequence(1 << 40 | 7));
            assert_eq!((&bytes[found.fields()], &bytes[found.body()]), (&b"fields"[..], &body[..]));
            assert!(found.payload_is_good(&bytes[found.payload()]));
            assert_eq!(found.frame_length(), bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_every_cut() {
        let bytes = frame(b"fields", b"a body");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let good = Frame::parse(&flipped, KEY)
                .is_some_and(|frame| frame.payload_is_good(&flipped[frame.payload()]));
            assert!(!good, "bit {bit}");
        }
        for length in 0..bytes.len() {
            let whole = Frame::parse(&bytes[..length], KEY)
                .is_some_and(|frame| bytes[..length].get(frame.payload()).is_some());
            assert!(!whole, "cut at {length}");
        }
    }

    #[test]
    fn another_key_and_zeroes_are_refused() {
        let bytes = frame(b"fields", b"a body");
        assert!(Frame::parse(&bytes, SegmentKey(1)).is_none());
        assert!(Frame::parse(&[0; 4096], KEY).is_none());
        assert!(Frame::parse(&[0xff; 4096], KEY).is_none());
    }
}
