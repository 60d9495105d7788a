//! The body of a message on its way in: in memory while it is small, else in a file of its own.

use std::rc::Rc;

use super::commit::{Commit, NotStored};
use crate::bytes::Slice;
use crate::io::disk::DiskError;
use crate::io::disk::large::{LargeEvent, LargeFile, LargeFiles};
use crate::store::record::Body;

/// Bytes that may wait for the disk before the peer has to.
const BUFFERED_BYTES_MAX: usize = 1 << 20;

/// A message that is coming in for one log.
pub struct Intake {
    files: LargeFiles,
    commit: Rc<Commit>,
    /// Made when the message proves to be large.
    file: Option<LargeFile>,
}

impl Intake {
    pub fn new(files: &LargeFiles, commit: &Rc<Commit>) -> Self {
        Self { files: files.clone(), commit: Rc::clone(commit), file: None }
    }

    /// Whether a part of the message is in a file already.
    pub fn is_large(&self) -> bool {
        self.file.is_some()
    }

    /// Takes a part of the message that is too large for memory; waits while the disk is behind.
    pub async fn spill(&mut self, part: Vec<u8>) -> Result<(), NotStored> {
        let (files, commit) = (&self.files, &self.commit);
        let file = self.file.get_or_insert_with(|| commit.create_large(files));
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
    pub async fn finish(mut self, last: Vec<u8>, return_path_length: usize) -> Result<Body, NotStored> {
        let return_path_length =
            u32::try_from(return_path_length).expect("a Return-Path field is one address long");
        let Some(mut file) = self.file.take() else {
            return Ok(Body::Inline { bytes: Slice::from(last), return_path_length });
        };
        if !last.is_empty() {
            file.append(Slice::from(last));
        }
        let events = file.finish();
        loop {
            match events.next().await {
                LargeEvent::Written(result) => result.map_err(|error| not_stored(&error))?,
                LargeEvent::Finished(result) => {
                    let finished = result.map_err(|error| not_stored(&error))?;
                    return Ok(Body::File {
                        number: finished.number,
                        length: finished.length,
                        crc: finished.crc,
                        return_path_length,
                    });
                }
            }
        }
    }
}

fn not_stored(error: &DiskError) -> NotStored {
    tracing::error!(%error, "a large message could not be kept");
    if error.is_full() { NotStored::Full } else { NotStored::Failed }
}
