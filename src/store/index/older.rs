//! Chunks as older versions laid them out, which stand in the bases of their logs.

use rkyv::Portable;
use rkyv::bytecheck::CheckBytes;
use rkyv::rend::unaligned::{i16_ule, i64_ule, u16_ule, u32_ule, u64_ule};

use super::chunk::Measured;
use super::columns::{Column, Header, at, column};
use super::{ChunkBuilder, ChunkError, Kept, LazyDigest};
use crate::mail::time::Timestamp;
use crate::store::{Locator, LogId, MessageId, Place, Sequence};

column! {
    Times 30 {
        internal: i64_ule,
        internal_zone: i16_ule,
        saved: i64_ule,
        /// When it was sent, and whether that is known.
        sent: [u8; 12],
    }
}

column! {
    Source 35 {
        log: u16_ule,
        sequence: u64_ule,
        place: u8,
        number: u64_ule,
        offset: u32_ule,
        length: u64_ule,
        return_path_length: u32_ule,
    }
}

/// Where texts were, which a base does not have.
const TEXTS_BYTES: usize = 29;

/// What stood in front of the times, and at the end: in the second version flags as they once were, and ids that nobody
/// ever gave.
const THIRD: (usize, usize) = (size_of::<u32_ule>(), 0);
const SECOND: (usize, usize) = (size_of::<u32_ule>() + 17, 24);

/// The same rows as a chunk of the newest version, without texts. `ChunkError::Version` if the chunk is not of an older
/// one that is known.
pub fn renewed(bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let header: &Header = at(bytes, 0, 0).ok_or(ChunkError::Layout)?;
    let (front, end) = match header.version.to_native() {
        2 => SECOND,
        3 => THIRD,
        _ => return Err(ChunkError::Version),
    };
    let row_bytes = front + size_of::<Times>() + size_of::<Source>() + TEXTS_BYTES + end;
    let rows = Measured::of(bytes, |_| Some(row_bytes))?.rows;
    // Where the column begins in front of which a row has so many bytes in others.
    let column = |before| size_of::<Header>() + before * rows;
    let mut builder = ChunkBuilder::new();
    let mut last = 0;
    for index in 0..rows {
        let uid = at::<u32_ule>(bytes, column(0), index).ok_or(ChunkError::Layout)?.to_native();
        let times = at(bytes, column(front), index).ok_or(ChunkError::Layout)?;
        let source = at(bytes, column(front + size_of::<Times>()), index).ok_or(ChunkError::Layout)?;
        if uid <= last {
            return Err(ChunkError::Layout);
        }
        last = uid;
        builder.push(uid, &kept(times, source));
    }
    Ok(builder.finish())
}

fn kept(times: &Times, source: &Source) -> Kept<'static> {
    let number = source.number.to_native();
    let place = match (source.place, u32::try_from(number)) {
        (0, Ok(number)) => Place::Segment { number, offset: source.offset.to_native() },
        _ => Place::File { number },
    };
    let id =
        MessageId { log: LogId(source.log.to_native()), sequence: Sequence(source.sequence.to_native()) };
    Kept {
        internal: Timestamp {
            seconds: times.internal.to_native(),
            zone_minutes: times.internal_zone.to_native(),
        },
        saved: times.saved.to_native(),
        locator: Locator {
            id,
            place,
            length: source.length.to_native(),
            return_path_length: source.return_path_length.to_native(),
        },
        digest: LazyDigest::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, SECOND, Source, TEXTS_BYTES, THIRD, Times, kept};
    use crate::bytes::Slice;
    use crate::store::index::columns::{Header, MAGIC};
    use crate::store::index::{Chunk, ChunkError};

    fn times(uid: u32) -> Times {
        Times {
            internal: (1 << 40 | i64::from(uid)).into(),
            internal_zone: 90.into(),
            saved: (-1).into(),
            sent: [7; 12],
        }
    }

    fn source(uid: u32) -> Source {
        Source {
            log: 9.into(),
            sequence: (u64::from(uid) << 20).into(),
            place: (uid % 2) as u8,
            number: if uid.is_multiple_of(2) { 7.into() } else { (u64::from(uid) << 33).into() },
            offset: (uid * 4096).into(),
            length: (1 << 35).into(),
            return_path_length: 30.into(),
        }
    }

    /// As an older server wrote it.
    fn older(version: u16, (front, end): (usize, usize), uids: &[u32]) -> Vec<u8> {
        let row_bytes = front + size_of::<Times>() + size_of::<Source>() + TEXTS_BYTES + end;
        let header = Header {
            checksum: 0.into(),
            magic: MAGIC,
            version: version.into(),
            row_bytes: (row_bytes as u16).into(),
            rows: (uids.len() as u32).into(),
            uid_first: uids[0].into(),
            uid_last: uids[uids.len() - 1].into(),
            heap_bytes: 0.into(),
            spare: [0; 32],
        };
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        uids.iter().for_each(|uid| bytes.extend_from_slice(&uid.to_le_bytes()));
        bytes.resize(bytes.len() + uids.len() * (front - size_of::<u32>()), 0x15);
        uids.iter().for_each(|&uid| times(uid).put(&mut bytes));
        uids.iter().for_each(|&uid| source(uid).put(&mut bytes));
        bytes.resize(bytes.len() + uids.len() * (TEXTS_BYTES + end), 0);
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn bare_chunks_of_older_versions_are_read() {
        let uids = [1, 2, 3, 5, 8, 13, 21];
        for (version, columns) in [(2, SECOND), (3, THIRD)] {
            let bytes = older(version, columns, &uids);
            assert_eq!(Chunk::open(Slice::from(bytes.clone())).err(), Some(ChunkError::Version));
            let chunk = Chunk::open_bare(Slice::from(bytes.clone())).expect("the version is known");
            assert!(chunk.uids().eq(uids));
            for (index, uid) in uids.into_iter().enumerate() {
                assert_eq!(chunk.kept(index), kept(&times(uid), &source(uid)), "{version}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Chunk::open_bare(Slice::from(flipped)).is_err(), "bit {bit}");
            }
        }
        let unsorted = older(3, THIRD, &[2, 1]);
        assert_eq!(Chunk::open_bare(Slice::from(unsorted)).err(), Some(ChunkError::Layout));
        let later = older(9, THIRD, &[1]);
        assert_eq!(Chunk::open_bare(Slice::from(later)).err(), Some(ChunkError::Version));
    }
}
