//! Sealed chunks of a mailbox: what is listed of messages, without parsing them.
//!
//! A chunk is a header, columns of fixed stride, and a heap of pre-rendered wire bytes. The columns are rkyv
//! archives that are laid out by hand: little-endian, unaligned, no pointers, every bit pattern a value, so that
//! the bytes on disk are what `docs/storage.md` draws. A chunk never changes; flags that change later are deltas
//! over it, an expunge is a tombstone beside it.
//!
//! Invariants: a chunk is used only after its checksum was found good; rows ascend by UID; a range of the heap
//! that is not inside of it reads as empty, never as a panic.

mod builder;
mod chunk;
mod columns;

pub use builder::ChunkBuilder;
pub use chunk::{Chunk, ChunkError};

use crate::mail::flags::SystemFlags;
use crate::mail::time::Timestamp;
use crate::store::Locator;

/// One message, as it is pushed and as it is read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    pub uid: u32,
    pub modseq: u64,
    pub flags: SystemFlags,
    /// Bits of the mailbox's keyword table.
    pub keywords: u64,
    pub internal: Timestamp,
    /// Unix seconds.
    pub saved: i64,
    pub locator: Locator,
    pub digest: Option<RowDigest<'a>>,
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
}
