//! How bytes travel: shared slices, replies in the making.
//!
//! A [`Slice`] is a range of memory together with whatever keeps that memory alive: a mapped segment of the
//! log, a chunk of an index, a vector. An [`Output`] is a burst of reply bytes; small pieces are copied into
//! it, large ones are carried as slices, so that a message goes from the log to the socket without a copy.
//!
//! Invariants: this folder knows nothing of mail, of files and of sockets; a `Slice` never outlives its
//! memory; nothing here blocks.

mod output;
mod slice;

pub use output::{Chunk, Mark, Output, Swap};
pub use slice::{Owner, Slice};
