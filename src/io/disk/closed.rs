//! The note that a clean stop leaves beside a log: where it ends.
//!
//! A start need not look behind that place for what a crash may have left: with large segments that is most of what it
//! would read.
//!
//! Invariants: the note is written when nothing is, or will be, written to the log any more, and it is gone, durably,
//! before anything is written again; whoever finds none, or one that is not whole, looks.

use std::fs;
use std::io;

use super::layout::LogDir;
use super::{DiskError, file, replace_file, sync_parent};
use crate::store::checkpoint::{IndexOwner, closing_note};
use crate::store::log::Position;

/// Notes that the log ends with the batch at this position. Waits for the disk.
pub fn note_end(dir: &LogDir, owner: IndexOwner, position: Position) -> Result<(), DiskError> {
    replace_file(&dir.closed(), &closing_note(owner, position))
}

/// Takes away what was noted, for [`ended_at`](crate::store::checkpoint::ended_at). Waits for the disk, if there is
/// something.
pub fn take_note(dir: &LogDir) -> Result<Option<Vec<u8>>, DiskError> {
    let path = dir.closed();
    let note = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // What cannot be read has to go all the same.
        read => read.ok(),
    };
    file::remove(&path).map_err(DiskError::new("remove", &path))?;
    sync_parent(&path)?;
    Ok(note)
}
