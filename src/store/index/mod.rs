//! Sealed chunks of a mailbox: what is listed of messages, without parsing them.
//!
//! A chunk is a header, columns of fixed stride, and a heap of pre-rendered wire bytes. The columns are rkyv
//! archives that are laid out by hand: little-endian, unaligned, no pointers, every bit pattern a value, so that
//! the bytes on disk are what `docs/storage.md` draws. A chunk never changes, and holds only what does not change of a
//! message: flags, and which messages are gone, stand elsewhere.
//!
//! Invariants: a chunk is used only after its checksum was found good; rows ascend by UID; a range of the heap
//! that is not inside of it reads as empty, never as a panic.

mod builder;
mod chunk;
mod columns;
mod older;

pub use builder::ChunkBuilder;
pub use chunk::{Chunk, ChunkError};

use crate::mail::digest::Digest;
use crate::mail::time::Timestamp;
use crate::store::Locator;

/// What never changes of a message, as it is pushed and as it is read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept<'a> {
    pub internal: Timestamp,
    /// Unix seconds.
    pub saved: i64,
    pub locator: Locator,
    pub digest: LazyDigest<'a>,
}

/// The digest of a row. Who lists flags or sizes does not want it: texts are read, and their checksum with them, when
/// they are asked for.
#[derive(Clone, Copy, Debug)]
pub enum LazyDigest<'a> {
    Missing,
    Made(&'a Digest),
    /// Of this row of a chunk.
    Sealed(&'a Chunk, usize),
}

/// Pre-rendered parts of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowDigest<'a> {
    pub envelope: &'a [u8],
    pub body: &'a [u8],
    pub body_structure: &'a [u8],
    /// The kept header fields, as a header block.
    pub fields: &'a [u8],
    pub sent: Option<Timestamp>,
    /// Its last line has its CRLF.
    pub is_ended: bool,
    /// It is text as it lies (`mail::text::is_plain`).
    pub is_plain: bool,
}

impl<'a> LazyDigest<'a> {
    /// `None` if there is none, or if the texts are not as they were written.
    pub fn get(self) -> Option<RowDigest<'a>> {
        match self {
            Self::Missing => None,
            Self::Made(digest) => Some(digest.into()),
            Self::Sealed(chunk, index) => chunk.digest(index),
        }
    }

    /// Whether the message is known to be text as it lies; reads no texts.
    pub fn is_plain(self) -> bool {
        match self {
            Self::Missing => false,
            Self::Made(digest) => digest.is_plain,
            Self::Sealed(chunk, index) => chunk.is_plain(index),
        }
    }
}

impl PartialEq for LazyDigest<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for LazyDigest<'_> {}

impl<'a> From<Option<&'a Digest>> for LazyDigest<'a> {
    fn from(digest: Option<&'a Digest>) -> Self {
        digest.map_or(Self::Missing, Self::Made)
    }
}

impl<'a> From<&'a Digest> for RowDigest<'a> {
    fn from(digest: &'a Digest) -> Self {
        Self {
            envelope: &digest.envelope,
            body: &digest.body,
            body_structure: &digest.body_structure,
            fields: &digest.fields,
            sent: digest.sent,
            is_ended: digest.is_ended,
            is_plain: digest.is_plain,
        }
    }
}

impl From<RowDigest<'_>> for Digest {
    fn from(digest: RowDigest<'_>) -> Self {
        Self {
            envelope: digest.envelope.to_vec(),
            body: digest.body.to_vec(),
            body_structure: digest.body_structure.to_vec(),
            fields: digest.fields.to_vec(),
            sent: digest.sent,
            is_ended: digest.is_ended,
            is_plain: digest.is_plain,
        }
    }
}
