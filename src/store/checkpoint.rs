//! The index file of a log: blobs, the directory that names the current ones, and the root that names the
//! directory.
//!
//! A checkpoint bounds replay and is never needed: whatever is wrong, old, foreign or missing here is made again
//! from the log. Blobs are only appended; a blob counts when a directory names it, a directory counts when the
//! root names it, and the root is replaced by rename after everything it names is synced.
//!
//! ```text
//! blob header                                     root file
//!  0  u32  checksum of the rest of this header     0  u32  checksum of the rest
//!  4  u32  "RPX1"                                  4  u32  "RPR1"
//!  8  u8   kind                                    8  u16  version
//!  9  u8   version                                10  u16  log
//! 10  u16  log                                    12  u32  zero
//! 12  u32  account                                16  u64  key of the log
//! 16  u32  mailbox                                24  u64  generation of the index file
//! 20  u32  first UID                              32  u64  offset of the directory's blob
//! 24  u32  last UID                               40  u64  length of its payload
//! 28  u32  checksum of the payload                48  u64  bytes in blobs that the directory names
//! 32  u64  the log up to here is in it            56  u64  zero
//! 40  u64  length of the payload
//! 48  u64  key of the log
//! 56  u64  offset of this header in the file
//! 64       the payload, then zeroes up to 64
//! ```
//!
//! Where a log ends is noted by a clean stop:
//!
//! ```text
//!  0  u32  checksum of the rest     12  u32  segment of the last batch    24  u64  offset of the last batch
//!  4  u32  "RPE1"                   16  u64  key of the log               32  u64  its last sequence
//!  8  u16  version
//! 10  u16  log
//! ```

use std::fmt;

use super::fields::{Malformed, Put, Take};
use super::index::Chunk;
use super::log::Position;
use super::segment::SegmentKey;
use super::{AccountId, LogId, MailboxId, Sequence};
use crate::bytes::Slice;

/// Blobs begin on multiples of this; their headers have this length.
pub const BLOB_HEADER_BYTES: usize = 64;

pub const ROOT_BYTES: usize = 64;

/// Bytes of the note that a clean stop leaves.
pub const CLOSING_NOTE_BYTES: usize = 40;

/// Of blobs, directories and roots. Another one means: make it again from the log.
const VERSION: u8 = 5;

const BLOB_MAGIC: [u8; 4] = *b"RPX1";
const ROOT_MAGIC: [u8; 4] = *b"RPR1";
const CLOSING_MAGIC: [u8; 4] = *b"RPE1";

/// What a blob of the index file holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BlobKind {
    /// A sealed chunk of a mailbox, which has checksums of its own.
    Chunk,
    /// What may change of the messages of a mailbox: flags, mod-sequences, tombstones; in the form of `mailbox`.
    State,
    /// An account without its messages, in the form of `mailbox`.
    Account,
    /// A [`Directory`].
    Directory,
    /// A slice of what the log owes.
    Owed,
    /// A slice of where messages of the log are.
    Places,
}

/// What a blob is of. Parts that do not apply are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobName {
    pub kind: BlobKind,
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub uid_first: u32,
    pub uid_last: u32,
    /// The log up to here is in it.
    pub sequence: Sequence,
}

/// A blob of the index file and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobRef {
    pub name: BlobName,
    /// Of its header in the file.
    pub offset: u64,
    /// Of its payload.
    pub length: u64,
    /// Of a state.
    pub summary: Option<Summary>,
}

/// What a start wants to know of a state that it does not look at, in the form of `mailbox`.
pub type Summary = [u8; SUMMARY_BYTES];

pub const SUMMARY_BYTES: usize = 41;

/// A blob that nobody has looked at yet.
#[derive(Clone)]
pub struct Unread {
    blob: BlobRef,
    owner: IndexOwner,
    /// With its header.
    bytes: Slice,
}

/// A checkpoint: the state of everything in a log after the record `position.through`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Directory {
    /// Replay begins in the batch there, with the record after `through`. `None`: at the beginning.
    pub position: Option<Position>,
    /// The current blobs, in the order given.
    pub blobs: Vec<BlobRef>,
}

/// Whose files these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexOwner {
    pub log: LogId,
    pub key: SegmentKey,
}

/// What the root file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    pub generation: u64,
    pub directory_offset: u64,
    pub directory_length: u64,
    /// Bytes of the blobs that the directory names, with their headers; the rest of the file is garbage.
    pub live_bytes: u64,
}

impl BlobKind {
    fn number(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::State => 2,
            Self::Account => 3,
            Self::Directory => 4,
            Self::Owed => 5,
            Self::Places => 6,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Chunk, Self::State, Self::Account, Self::Directory, Self::Owed, Self::Places]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

impl BlobRef {
    /// What the blob takes in the file.
    pub fn padded_length(&self) -> u64 {
        BLOB_HEADER_BYTES as u64 + self.length.next_multiple_of(BLOB_HEADER_BYTES as u64)
    }

    /// The header of a blob with a payload of this checksum.
    pub fn header(&self, owner: IndexOwner, checksum: u32) -> [u8; BLOB_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(BLOB_HEADER_BYTES);
        bytes.put_u32(0);
        bytes.put(&BLOB_MAGIC);
        bytes.put_u8(self.name.kind.number());
        bytes.put_u8(VERSION);
        bytes.put_u16(owner.log.0);
        put_name(&self.name, &mut bytes);
        bytes.put_u32(checksum);
        bytes.put_u64(self.name.sequence.0);
        bytes.put_u64(self.length);
        bytes.put_u64(owner.key.0);
        bytes.put_u64(self.offset);
        sealed(bytes)
    }

    /// The checksum of the payload, if `header` is that of this very blob.
    pub fn payload_checksum(&self, owner: IndexOwner, header: &[u8]) -> Option<u32> {
        let header: &[u8; BLOB_HEADER_BYTES] = header.first_chunk()?;
        let checksum = u32::from_le_bytes([header[28], header[29], header[30], header[31]]);
        (self.header(owner, checksum) == *header).then_some(checksum)
    }
}

impl Unread {
    /// `bytes` are the header and the payload.
    pub fn new(blob: BlobRef, owner: IndexOwner, bytes: Slice) -> Self {
        Self { blob, owner, bytes }
    }

    pub fn name(&self) -> BlobName {
        self.blob.name
    }

    /// Of a state.
    pub fn summary(&self) -> Option<Summary> {
        self.blob.summary
    }

    /// The payload. `None` if this is not the blob, or not as it was written; chunks are checked by `Chunk::open`.
    pub fn open(&self) -> Option<Slice> {
        let looked_at = match self.blob.name.kind {
            BlobKind::Chunk => Chunk::opened_bytes(self.blob.name.rows_max()),
            _ => self.blob.length,
        };
        let length = usize::try_from(looked_at).ok()?.saturating_add(BLOB_HEADER_BYTES).min(self.bytes.len());
        self.bytes.read_ahead(0..length);
        let header = self.bytes.get(..BLOB_HEADER_BYTES)?;
        let checksum = self.blob.payload_checksum(self.owner, header)?;
        let payload = self.bytes.part(BLOB_HEADER_BYTES..self.bytes.len());
        let is_good = self.blob.name.kind == BlobKind::Chunk || crc32fast::hash(&payload) == checksum;
        is_good.then_some(payload)
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unread({:?})", self.blob)
    }
}

impl Directory {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let position = self.position.unwrap_or(Position { segment: 0, offset: 0, through: Sequence(0) });
        bytes.put_u32(position.segment);
        bytes.put_u64(position.offset);
        bytes.put_u64(position.through.0);
        bytes.put_u32(u32::try_from(self.blobs.len()).expect("blobs are bounded by the file"));
        for blob in &self.blobs {
            bytes.put_u8(blob.name.kind.number());
            put_name(&blob.name, &mut bytes);
            bytes.put_u64(blob.name.sequence.0);
            bytes.put_u64(blob.offset);
            bytes.put_u64(blob.length);
            bytes.put(blob.summary.as_ref().map_or(&[], |summary| &summary[..]));
        }
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        let position = Position { segment: take.u32()?, offset: take.u64()?, through: Sequence(take.u64()?) };
        let count = take.count(BLOB_REF_BYTES)?;
        let mut blobs = Vec::with_capacity(count);
        for _ in 0..count {
            blobs.push(take_blob_ref(&mut take)?);
        }
        match take.left() {
            0 => Ok(Self { position: (position.segment > 0).then_some(position), blobs }),
            _ => Err(take.malformed()),
        }
    }

    /// The last record that any of its blobs has in it; the log must reach that far.
    pub fn reaches(&self) -> Sequence {
        let of_blobs = self.blobs.iter().map(|blob| blob.name.sequence);
        of_blobs.chain(self.position.map(|position| position.through)).max().unwrap_or_default()
    }

    /// Bytes of all blobs it names, with their headers.
    pub fn live_bytes(&self) -> u64 {
        self.blobs.iter().map(BlobRef::padded_length).sum()
    }
}

impl Root {
    pub fn to_bytes(&self, owner: IndexOwner) -> [u8; ROOT_BYTES] {
        let mut bytes = Vec::with_capacity(ROOT_BYTES);
        bytes.put_u32(0);
        bytes.put(&ROOT_MAGIC);
        bytes.put_u16(u16::from(VERSION));
        bytes.put_u16(owner.log.0);
        bytes.put_u32(0);
        bytes.put_u64(owner.key.0);
        bytes.put_u64(self.generation);
        bytes.put_u64(self.directory_offset);
        bytes.put_u64(self.directory_length);
        bytes.put_u64(self.live_bytes);
        bytes.put_u64(0);
        sealed(bytes)
    }

    /// The root in these bytes, if it is whole and of this log.
    pub fn parse(bytes: &[u8], owner: IndexOwner) -> Option<Self> {
        let mut take = Take::new(bytes);
        take.take(24).ok()?;
        let root = Self {
            generation: take.u64().ok()?,
            directory_offset: take.u64().ok()?,
            directory_length: take.u64().ok()?,
            live_bytes: take.u64().ok()?,
        };
        (root.to_bytes(owner) == bytes).then_some(root)
    }

    /// The blob that the root names.
    pub fn directory(&self, sequence: Sequence) -> BlobRef {
        BlobRef {
            name: BlobName::of_log(BlobKind::Directory, sequence),
            offset: self.directory_offset,
            length: self.directory_length,
            summary: None,
        }
    }
}

impl BlobName {
    /// So many rows at most has a chunk of this name.
    pub fn rows_max(&self) -> u64 {
        u64::from(self.uid_last.saturating_sub(self.uid_first)) + 1
    }

    /// Of a kind that is of no account.
    pub fn of_log(kind: BlobKind, sequence: Sequence) -> Self {
        let (account, mailbox) = (AccountId(0), MailboxId(0));
        Self { kind, account, mailbox, uid_first: 0, uid_last: 0, sequence }
    }
}

/// What a clean stop notes: the log ends with the batch at this position.
pub fn closing_note(owner: IndexOwner, position: Position) -> [u8; CLOSING_NOTE_BYTES] {
    let mut bytes = Vec::with_capacity(CLOSING_NOTE_BYTES);
    bytes.put_u32(0);
    bytes.put(&CLOSING_MAGIC);
    bytes.put_u16(u16::from(VERSION));
    bytes.put_u16(owner.log.0);
    bytes.put_u32(position.segment);
    bytes.put_u64(owner.key.0);
    bytes.put_u64(position.offset);
    bytes.put_u64(position.through.0);
    sealed(bytes)
}

/// Where the log ends by a note, if it is whole and of this log.
pub fn ended_at(note: &[u8], owner: IndexOwner) -> Option<Position> {
    let mut take = Take::new(note);
    take.take(12).ok()?;
    let segment = take.u32().ok()?;
    take.take(8).ok()?;
    let position = Position { segment, offset: take.u64().ok()?, through: Sequence(take.u64().ok()?) };
    (closing_note(owner, position) == note).then_some(position)
}

/// The sequence in the header of a blob, unchecked.
pub fn blob_sequence(header: &[u8]) -> Option<Sequence> {
    Take::new(header.get(32..)?).u64().ok().map(Sequence)
}

/// Kind, name, sequence, offset, length.
const BLOB_REF_BYTES: usize = 1 + 16 + 8 + 8 + 8;

fn put_name(name: &BlobName, to: &mut Vec<u8>) {
    to.put_u32(name.account.0);
    to.put_u32(name.mailbox.0);
    to.put_u32(name.uid_first);
    to.put_u32(name.uid_last);
}

fn take_blob_ref(take: &mut Take<'_>) -> Result<BlobRef, Malformed> {
    let kind = BlobKind::of(take.u8()?).ok_or(take.malformed())?;
    let (account, mailbox) = (AccountId(take.u32()?), MailboxId(take.u32()?));
    let (uid_first, uid_last) = (take.u32()?, take.u32()?);
    let name = BlobName { kind, account, mailbox, uid_first, uid_last, sequence: Sequence(take.u64()?) };
    let (offset, length) = (take.u64()?, take.u64()?);
    let summary = match kind {
        BlobKind::State => take.take(SUMMARY_BYTES)?.first_chunk().copied(),
        _ => None,
    };
    Ok(BlobRef { name, offset, length, summary })
}

/// Puts the checksum of the rest in front.
fn sealed<const N: usize>(bytes: Vec<u8>) -> [u8; N] {
    let mut sealed: [u8; N] = bytes.try_into().expect("the header has its length");
    let checksum = crc32fast::hash(&sealed[4..]);
    sealed[..4].copy_from_slice(&checksum.to_le_bytes());
    sealed
}

#[cfg(test)]
mod tests {
    use super::{
        BlobKind, BlobName, BlobRef, Directory, IndexOwner, Root, SUMMARY_BYTES, closing_note, ended_at,
    };
    use crate::store::log::Position;
    use crate::store::segment::SegmentKey;
    use crate::store::{AccountId, LogId, MailboxId, Sequence};

    const OWNER: IndexOwner = IndexOwner { log: LogId(1), key: SegmentKey(77) };
    const OTHER: IndexOwner = IndexOwner { log: LogId(1), key: SegmentKey(78) };

    fn directory() -> Directory {
        let name = BlobName {
            kind: BlobKind::Chunk,
            account: AccountId(1),
            mailbox: MailboxId(2),
            uid_first: 1,
            uid_last: 4096,
            sequence: Sequence(9),
        };
        let chunk = BlobRef { name, offset: 64, length: 100, summary: None };
        let name = BlobName::of_state(AccountId(1), MailboxId(2), Sequence(9));
        let state = BlobRef { name, offset: 256, length: 60, summary: Some([5; SUMMARY_BYTES]) };
        Directory {
            position: Some(Position { segment: 2, offset: 8192, through: Sequence(10) }),
            blobs: vec![chunk, state],
        }
    }

    #[test]
    fn a_directory_is_read_back_and_no_cut_of_it_is() {
        let bytes = directory().to_bytes();
        assert_eq!(Directory::parse(&bytes), Ok(directory()));
        assert_eq!(directory().live_bytes(), (64 + 128) + (64 + 64));
        for length in 0..bytes.len() {
            assert!(Directory::parse(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert_eq!(Directory::parse(&Directory::default().to_bytes()), Ok(Directory::default()));
    }

    #[test]
    fn a_root_is_of_its_log_and_any_flipped_bit_refuses_it() {
        let root = Root { generation: 1, directory_offset: 2, directory_length: 3, live_bytes: 4 };
        let bytes = root.to_bytes(OWNER);
        assert_eq!(Root::parse(&bytes, OWNER), Some(root));
        assert_eq!(Root::parse(&bytes, OTHER), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Root::parse(&flipped, OWNER), None, "bit {bit}");
        }
    }

    #[test]
    fn a_closing_note_is_of_its_log_and_no_bit_of_it_is_another() {
        let position = Position { segment: 7, offset: 8192, through: Sequence(10) };
        let note = closing_note(OWNER, position);
        assert_eq!(ended_at(&note, OWNER), Some(position));
        assert_eq!((ended_at(&note, OTHER), ended_at(&note[..30], OWNER)), (None, None));
        for bit in 0..note.len() * 8 {
            let mut flipped = note;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ended_at(&flipped, OWNER), None, "bit {bit}");
        }
    }

    #[test]
    fn a_blob_is_the_one_that_was_named() {
        let blob = directory().blobs[0];
        let header = blob.header(OWNER, 5);
        assert_eq!(blob.payload_checksum(OWNER, &header), Some(5));
        assert_eq!(blob.payload_checksum(OTHER, &header), None);
        assert_eq!(BlobRef { offset: 128, ..blob }.payload_checksum(OWNER, &header), None);
        assert_eq!(blob.payload_checksum(OWNER, &header[1..]), None);
    }
}
