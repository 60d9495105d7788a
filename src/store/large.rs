//! The end of a large file: whose it is, and checksums of its blocks. The message comes first, from byte 0.
//!
//! ```text
//!  0       the message
//!  length  u32 checksum of each block of 64 KiB
//!  end-40  u32 checksum of the block checksums and of the rest of this
//!      36  u32 "RPL1"
//!      32  u64 key of the log
//!      24  u64 number of the file
//!      16  u64 length of the message
//!       8  u32 checksum of the whole message, as in its record
//!       4  u32 zero
//! ```

use super::fields::{Put, Take};
use super::frame::BLOCK_BYTES;
use super::segment::SegmentKey;

const MAGIC: [u8; 4] = *b"RPL1";

const FOOTER_BYTES: usize = 40;

/// Gathers the checksums of a message as it comes.
#[derive(Clone, Default)]
pub struct LargeChecksums {
    blocks: Vec<u8>,
    block: crc32fast::Hasher,
    block_length: usize,
    whole: crc32fast::Hasher,
    length: u64,
}

/// What a large file is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargeName {
    pub log_key: SegmentKey,
    pub number: u64,
}

impl LargeChecksums {
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block_length));
            self.block.update(now);
            self.block_length += now.len();
            if self.block_length == BLOCK_BYTES {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// What follows the message in its file.
    pub fn finish(mut self, name: LargeName) -> Vec<u8> {
        if self.block_length > 0 {
            self.end_block();
        }
        let crc = self.crc();
        let mut footer = self.blocks;
        let blocks_length = footer.len();
        footer.put(&MAGIC);
        footer.put_u64(name.log_key.0);
        footer.put_u64(name.number);
        footer.put_u64(self.length);
        footer.put_u32(crc);
        footer.put_u32(0);
        let checksum = crc32fast::hash(&footer);
        footer.splice(blocks_length..blocks_length, checksum.to_le_bytes());
        footer
    }

    /// Of the whole message so far.
    pub fn crc(&self) -> u32 {
        self.whole.clone().finalize()
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    fn end_block(&mut self) {
        let checksum = std::mem::take(&mut self.block).finalize();
        self.blocks.put_u32(checksum);
        self.block_length = 0;
    }
}

/// The message in a large file, if the file is the one that is meant and every block is good.
pub fn message(file: &[u8], name: LargeName) -> Option<&[u8]> {
    let footer_at = file.len().checked_sub(FOOTER_BYTES)?;
    let mut footer = Take::new(&file[footer_at..]);
    let checksum = footer.u32().ok()?;
    let magic = footer.take(4).ok()?;
    let found = LargeName { log_key: SegmentKey(footer.u64().ok()?), number: footer.u64().ok()? };
    let length = usize::try_from(footer.u64().ok()?).ok()?;
    let blocks_length = length.div_ceil(BLOCK_BYTES).checked_mul(4)?;
    if magic != MAGIC || found != name || length.checked_add(blocks_length)? != footer_at {
        return None;
    }
    let (message, blocks) = file[..footer_at].split_at(length);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(blocks);
    hasher.update(&file[footer_at + 4..]);
    let is_good = hasher.finalize() == checksum
        && message
            .chunks(BLOCK_BYTES)
            .zip(blocks.chunks_exact(4))
            .all(|(block, checksum)| crc32fast::hash(block).to_le_bytes() == checksum);
    is_good.then_some(message)
}

/// The key of the log that the file says to be of, unchecked.
pub fn log_key(file: &[u8]) -> Option<SegmentKey> {
    let mut footer = Take::new(file.get(file.len().checked_sub(FOOTER_BYTES)? + 8..)?);
    footer.u64().ok().map(SegmentKey)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, LargeChecksums, LargeName, message};
    use crate::store::segment::SegmentKey;

    const NAME: LargeName = LargeName { log_key: SegmentKey(5), number: 77 };

    fn file(body: &[u8], piece: usize) -> Vec<u8> {
        let mut checksums = LargeChecksums::default();
        body.chunks(piece).for_each(|piece| checksums.update(piece));
        [body, &checksums.finish(NAME)].concat()
    }

    #[test]
    fn a_file_is_the_same_however_it_came() {
        for length in [0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7] {
            let body: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            let whole = file(&body, length.max(1));
            assert_eq!(message(&whole, NAME), Some(&body[..]));
            assert_eq!(file(&body, 1013), whole);
        }
    }

    #[test]
    fn damage_and_other_files_are_refused() {
        let whole = file(b"a message", 4);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(message(&flipped, NAME), None, "bit {bit}");
        }
        for length in 0..whole.len() {
            assert_eq!(message(&whole[..length], NAME), None, "cut at {length}");
        }
        assert_eq!(message(&whole, LargeName { number: 78, ..NAME }), None);
        assert_eq!(message(&whole, LargeName { log_key: SegmentKey(6), ..NAME }), None);
    }
}
