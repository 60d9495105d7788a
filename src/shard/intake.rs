//! The body of a message on its way in: in memory while it is small, else in a file of its own.
//!
//! Invariant: a file is removed unless a record that names it is appended; from then on the log answers for it.

use std::rc::Rc;

use super::commit::{Commit, NotStored};
use crate::bytes::Slice;
use crate::io::disk::DiskError;
use crate::io::disk::large::{LargeEvent, LargeFile};
use crate::store::record::Body;

/// Bytes that may wait for the disk before the peer has to.
const BUFFERED_BYTES_MAX: usize = 1 << 20;

/// A message that is coming in for one log.
pub struct Intake {
    commit: Rc<Commit>,
    /// Made when the message proves to be large.
    file: Option<LargeFile>,
}

impl Intake {
    pub fn new(commit: &Rc<Commit>) -> Self {
        Self { commit: Rc::clone(commit), file: None }
    }

    /// Whether a part of the message is in a file already.
    pub fn is_large(&self) -> bool {
        self.file.is_some()
    }

    /// Takes a part of the message that is too large for memory; waits while the disk is behind. No file is begun for
    /// what the log would refuse.
    pub async fn spill(&mut self, part: Vec<u8>) -> Result<(), NotStored> {
        if self.file.is_none() && self.commit.is_short() {
            return Err(NotStored::Full);
        }
        let file = self.file.get_or_insert_with(|| self.commit.create_large());
        file.append(Slice::from(part));
        while file.buffered_bytes() > BUFFERED_BYTES_MAX {
            match file.events().next().await {
                LargeEvent::Written(result) => result.map_err(|error| not_stored(&error))?,
                LargeEvent::Finished(_) => break,
            }
        }
        Ok(())
    }

    /// The body with its last part, ready for a record: a file of its own is synced by then.
    pub async fn finish(mut self, last: Vec<u8>, return_path_length: usize) -> Result<Complete, NotStored> {
        let return_path_length =
            u32::try_from(return_path_length).expect("a Return-Path field is one address long");
        let Some(mut file) = self.file.take() else {
            let body = Body::Inline { bytes: Slice::from(last), return_path_length };
            return Ok(Complete { body, file: None });
        };
        if !last.is_empty() {
            file.append(Slice::from(last));
        }
        file.finish();
        loop {
            match file.events().next().await {
                LargeEvent::Written(result) => result.map_err(|error| not_stored(&error))?,
                LargeEvent::Finished(result) => {
                    let finished = result.map_err(|error| not_stored(&error))?;
                    let body = Body::File {
                        number: finished.number,
                        length: finished.length,
                        crc: finished.crc,
                        return_path_length,
                    };
                    return Ok(Complete { body, file: Some(file) });
                }
            }
        }
    }
}

/// The body of a message that no record names yet.
pub struct Complete {
    body: Body,
    file: Option<LargeFile>,
}

impl Complete {
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// For a record that is appended before anything else happens.
    pub fn into_body(self) -> Body {
        if let Some(file) = self.file {
            file.keep();
        }
        self.body
    }
}

fn not_stored(error: &DiskError) -> NotStored {
    tracing::error!(%error, "a large message could not be kept");
    if error.is_full() { NotStored::Full } else { NotStored::Failed }
}
