//! Reading a chunk.

use std::cell::RefCell;
use std::fmt;

use rkyv::rend::unaligned::u32_ule;

use super::columns::{
    CAME, Came, Column, Header, Heading, MAGIC, ROW_BYTES, SOURCE, Source, TEXTS, Texts, VERSION, at,
};
use super::{Kept, LazyDigest, RowDigest, older};
use crate::bytes::Slice;
use crate::mail::time::Timestamp;
use crate::store::Locator;

/// A sealed chunk whose columns were found good when it was opened. Clones share it.
///
/// Texts are checked when they are first asked for, so that opening reads a small part of the chunk.
#[derive(Clone)]
pub struct Chunk {
    bytes: Slice,
    rows: usize,
    heap_at: usize,
    checked: RefCell<Checked>,
}

/// Rows whose texts were found good, a bit each; and how much memory had been lost by then.
#[derive(Clone, Default)]
struct Checked {
    rows: Vec<u64>,
    lost_parts: usize,
}

const WORD_BITS: usize = u64::BITS as usize;

/// Why bytes are not a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    Version,
    Checksum,
    Layout,
}

impl Chunk {
    pub fn open(bytes: Slice) -> Result<Self, ChunkError> {
        let row_bytes = |version| (version == VERSION).then_some(ROW_BYTES);
        let Measured { rows, heap_at } = Measured::of(&bytes, row_bytes)?;
        let chunk = Self { bytes, rows, heap_at, checked: RefCell::default() };
        let ascends = chunk.uids().is_sorted_by(|one, next| one < next);
        ascends.then_some(chunk).ok_or(ChunkError::Layout)
    }

    /// A chunk without texts, as a base has it, of any version.
    pub fn open_bare(bytes: Slice) -> Result<Self, ChunkError> {
        match Self::open(bytes.clone()) {
            Err(ChunkError::Version) => Self::open(Slice::from(older::renewed(&bytes)?)),
            opened => opened,
        }
    }

    /// How much of a chunk of so many rows is looked at when it is opened.
    pub fn opened_bytes(rows: u64) -> u64 {
        (size_of::<Header>() as u64).saturating_add(rows.saturating_mul(ROW_BYTES as u64))
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row of this UID.
    pub fn find(&self, uid: u32) -> Option<usize> {
        let index = self.first_from(uid);
        (index < self.rows && self.uid(index) == uid).then_some(index)
    }

    /// The first row whose UID is this or larger; `len()` if there is none.
    pub fn first_from(&self, uid: u32) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low.midpoint(high);
            match self.uid(middle) < uid {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// All of a row but its UID. Its index must be below `len()`.
    pub fn kept(&self, index: usize) -> Kept<'_> {
        let (internal, saved) = self.came(index);
        Kept { internal, saved, locator: self.locator(index), digest: LazyDigest::Sealed(self, index) }
    }

    pub fn uid(&self, index: usize) -> u32 {
        self.element::<u32_ule>(0, index).to_native()
    }

    /// The UIDs of all rows, ascending: faster than one after the other.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        let column = &self.bytes[size_of::<Header>()..][..self.rows * size_of::<u32_ule>()];
        column.as_chunks().0.iter().map(|&uid| u32::from_le_bytes(uid))
    }

    /// When the message came, and when it was put here, in Unix seconds.
    pub fn came(&self, index: usize) -> (Timestamp, i64) {
        let came: &Came = self.element(CAME, index);
        (came.internal(), came.saved.to_native())
    }

    pub fn locator(&self, index: usize) -> Locator {
        self.element::<Source>(SOURCE, index).locator()
    }

    /// `None` if the row was sealed without, or if the texts are not as they were written.
    pub fn digest(&self, index: usize) -> Option<RowDigest<'_>> {
        let texts = self.texts(index);
        let is_ended = texts.is_ended()?;
        let own = self.bytes.get(self.heap_at + texts.offset.to_native() as usize..)?;
        let heading: &Heading = at(own, 0, 0)?;
        let lengths = [heading.envelope, heading.body, heading.body_structure, heading.fields];
        let length: usize = lengths.iter().map(|length| length.to_native() as usize).sum();
        let own = own.get(..size_of::<Heading>() + length)?;
        let lost_parts = self.bytes.lost_parts();
        if !self.checked.borrow().holds(index, lost_parts) {
            if crc32fast::hash(&own[size_of::<u32_ule>()..]) != heading.checksum.to_native() {
                return None;
            }
            self.checked.borrow_mut().add(index, self.rows, lost_parts);
        }
        let mut rest = &own[size_of::<Heading>()..];
        let mut next = |length: u32_ule| {
            let (text, after) = rest.split_at(length.to_native() as usize);
            rest = after;
            text
        };
        let [envelope, body, body_structure, fields] = lengths.map(&mut next);
        let (sent, is_plain) = (heading.sent(), texts.is_plain());
        Some(RowDigest { envelope, body, body_structure, fields, sent, is_ended, is_plain })
    }

    /// Whether the last line of the message has its CRLF. `None` if the row was sealed without a digest.
    pub fn is_ended(&self, index: usize) -> Option<bool> {
        self.texts(index).is_ended()
    }

    /// Whether the message is known to be text as it lies.
    pub fn is_plain(&self, index: usize) -> bool {
        self.texts(index).is_plain()
    }

    fn texts(&self, index: usize) -> &Texts {
        self.element(TEXTS, index)
    }

    /// An element of the column in front of which a row has `before` bytes in other columns.
    fn element<T>(&self, before: usize, index: usize) -> &T
    where
        T: Column
            + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rkyv::rancor::Failure>>,
    {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        at(&self.bytes, size_of::<Header>() + before * self.rows, index)
            .expect("all columns are inside, as `open` found")
    }
}

/// What the header of a chunk says, found good together with the columns.
pub struct Measured {
    pub rows: usize,
    pub heap_at: usize,
}

impl Measured {
    /// `row_bytes` are those of a row in all columns; `None` for a version that is not wanted.
    pub fn of(bytes: &[u8], row_bytes: impl Fn(u16) -> Option<usize>) -> Result<Self, ChunkError> {
        let header: &Header = at(bytes, 0, 0).ok_or(ChunkError::Layout)?;
        if header.magic != MAGIC {
            return Err(ChunkError::Layout);
        }
        let row_bytes = row_bytes(header.version.to_native())
            .filter(|row_bytes| *row_bytes == usize::from(header.row_bytes.to_native()))
            .ok_or(ChunkError::Version)?;
        let rows = header.rows.to_native() as usize;
        let heap_bytes = usize::try_from(header.heap_bytes.to_native()).map_err(|_| ChunkError::Layout)?;
        let heap_at = size_of::<Header>() + rows * row_bytes;
        if heap_at.checked_add(heap_bytes) != Some(bytes.len()) {
            return Err(ChunkError::Layout);
        }
        let is_good = header.checksum.to_native() == crc32fast::hash(&bytes[4..heap_at]);
        is_good.then_some(Self { rows, heap_at }).ok_or(ChunkError::Checksum)
    }
}

impl Checked {
    fn holds(&self, row: usize, lost_parts: usize) -> bool {
        let word = self.rows.get(row / WORD_BITS).copied().unwrap_or(0);
        self.lost_parts == lost_parts && word >> (row % WORD_BITS) & 1 == 1
    }

    fn add(&mut self, row: usize, rows: usize, lost_parts: usize) {
        if self.rows.is_empty() || self.lost_parts != lost_parts {
            self.rows = vec![0; rows.div_ceil(WORD_BITS)];
            self.lost_parts = lost_parts;
        }
        self.rows[row / WORD_BITS] |= 1 << (row % WORD_BITS);
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} rows, {} bytes)", self.rows, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Chunk, ChunkError};
    use crate::bytes::{Owner, Slice};
    use crate::mail::digest::Digest;
    use crate::mail::time::Timestamp;
    use crate::store::index::{ChunkBuilder, Kept};
    use crate::store::{Locator, LogId, MessageId, Place, Sequence};

    fn digest(uid: u32) -> Option<Digest> {
        let digest = Digest {
            envelope: format!("(envelope {uid})").into_bytes(),
            body: b"(body)".to_vec(),
            body_structure: b"(structure)".to_vec(),
            fields: Vec::new(),
            sent: uid.is_multiple_of(3).then_some(Timestamp { seconds: -5, zone_minutes: -720 }),
            is_ended: !uid.is_multiple_of(4),
            is_plain: uid.is_multiple_of(7),
        };
        (!uid.is_multiple_of(5)).then_some(digest)
    }

    fn kept(uid: u32, digest: Option<&Digest>) -> Kept<'_> {
        let place = match uid % 2 {
            0 => Place::Segment { number: 7, offset: uid * 4096 },
            _ => Place::File { number: u64::from(uid) << 33 },
        };
        Kept {
            internal: Timestamp { seconds: 1 << 40, zone_minutes: 90 },
            saved: -1,
            locator: Locator {
                id: MessageId { log: LogId(9), sequence: Sequence(u64::from(uid) << 20) },
                place,
                length: 1 << 35,
                return_path_length: 30,
            },
            digest: digest.into(),
        }
    }

    fn chunk(uids: &[u32]) -> Vec<u8> {
        let mut builder = ChunkBuilder::new();
        for &uid in uids {
            builder.push(uid, &kept(uid, digest(uid).as_ref()));
        }
        builder.finish()
    }

    #[test]
    fn rows_come_back_as_they_were_pushed() {
        let uids: Vec<u32> = (1..200).map(|n| n * 3).collect();
        let chunk = Chunk::open(Slice::from(chunk(&uids))).expect("it was just made");
        assert_eq!(chunk.len(), uids.len());
        for (index, &uid) in uids.iter().enumerate() {
            assert_eq!((chunk.uid(index), chunk.kept(index)), (uid, kept(uid, digest(uid).as_ref())));
            assert_eq!((chunk.find(uid), chunk.find(uid + 1)), (Some(index), None));
        }
        assert_eq!(
            (chunk.first_from(0), chunk.first_from(4), chunk.first_from(u32::MAX)),
            (0, 1, uids.len())
        );
        assert!(Chunk::open(Slice::from(ChunkBuilder::new().finish())).expect("empty").is_empty());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = chunk(&[1, 2]);
        let heap_at = Chunk::open(Slice::from(bytes.clone())).expect("it was just made").heap_at;
        assert_eq!(Chunk::opened_bytes(2), heap_at as u64);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match Chunk::open(Slice::from(flipped)) {
                Ok(chunk) => {
                    assert!(bit >= heap_at * 8, "bit {bit}");
                    let digests = [0, 1].map(|index| chunk.digest(index).is_some());
                    assert_eq!(digests.into_iter().filter(|is_good| *is_good).count(), 1, "bit {bit}");
                }
                Err(_) => assert!(bit < heap_at * 8, "bit {bit}"),
            }
        }
        for length in 0..bytes.len() {
            assert!(Chunk::open(Slice::from(bytes[..length].to_vec())).is_err(), "cut at {length}");
        }
    }

    /// Memory of which a part is lost some day.
    struct Fading(Arc<(Vec<u8>, Vec<u8>, AtomicUsize)>);

    impl AsRef<[u8]> for Fading {
        fn as_ref(&self) -> &[u8] {
            let (whole, faded, lost) = &*self.0;
            if lost.load(Ordering::Relaxed) == 0 { whole } else { faded }
        }
    }

    impl Owner for Fading {
        fn lost_parts(&self) -> usize {
            self.0.2.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn texts_are_checked_once_and_again_behind_a_loss() {
        let whole = chunk(&[1, 2]);
        let mut faded = whole.clone();
        *faded.last_mut().expect("it has texts") ^= 1;
        let memory = Arc::new((whole, faded, AtomicUsize::new(0)));
        let chunk = Chunk::open(Slice::new(Fading(Arc::clone(&memory)))).expect("it was just made");
        let digests = || [0, 1, 0, 1].map(|index| chunk.digest(index).is_some());
        assert_eq!(digests(), [true; 4]);
        memory.2.store(1, Ordering::Relaxed);
        assert_eq!(digests(), [true, false, true, false]);
        memory.2.store(2, Ordering::Relaxed);
        assert_eq!(digests(), [true, false, true, false]);
    }

    #[test]
    fn forged_numbers_under_a_good_checksum_do_no_harm() {
        let bytes = chunk(&[1, 2, 3]);
        let heap_at = Chunk::open(Slice::from(bytes.clone())).expect("it was just made").heap_at;
        for at in 4..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] = 0xff;
            let checksum = crc32fast::hash(&forged[4..heap_at]);
            forged[..4].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(chunk) = Chunk::open(Slice::from(forged)) {
                assert!(chunk.uids().all(|uid| uid > 0), "byte {at}");
                (0..chunk.len()).for_each(|index| _ = chunk.kept(index).digest.get());
            }
        }
        let mut other = bytes;
        other[8] = 9;
        let checksum = crc32fast::hash(&other[4..heap_at]);
        other[..4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Chunk::open(Slice::from(other)).err(), Some(ChunkError::Version));
    }
}
