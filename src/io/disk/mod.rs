//! Files: the data directory, the writer threads of the logs, mappings, large files, the index file.
//!
//! ```text
//! DATA/lock                      held by the server that uses the directory
//! DATA/log/NN/0000000001.seg     the segments of log NN
//! DATA/log/NN/0000000001.old     segments that were freed and will be used again
//! DATA/log/NN/0000000001.idx     its index file, by generation
//! DATA/log/NN/index.root         which generation, and where its newest directory is
//! DATA/log/NN/closed             where the log ends, from a clean stop to the next start
//! DATA/large/NN/000000000001     messages of log NN that are too large for memory
//! DATA/identity                  tells backups of this store from others
//! DATA/restoring                 a restore into this directory was not finished
//! DATA/quarantine/               what was damaged, as it was
//! ```
//!
//! Threads take work from an [`Inbox`](super::inbox::Inbox) and post what came of it into another; any executor can
//! await it.
//!
//! Invariants: every failure names its path; nothing is reported as done before it is synced, with its directory
//! entry where that matters; nothing is stored through a mapping; a mapped file never shrinks; directories are
//! 0700 and files 0600.

mod closed;
pub mod copy;
mod file;
pub mod files;
pub mod index_file;
pub mod indexer;
pub mod large;
pub mod layout;
mod mapping;
pub mod notes;
pub mod open;
pub mod prepare;
pub mod quarantine;
pub mod reader;
pub mod sigbus;
pub mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::random;
use crate::store::segment::SegmentKey;
use file::File;

/// A failure of the world, with the file it happened to.
#[derive(Debug)]
pub struct DiskError {
    pub path: PathBuf,
    /// As in "cannot … the file".
    pub doing: &'static str,
    pub source: io::Error,
}

impl DiskError {
    /// Whether there was no space for it, by whatever bound: nothing is broken, and it may pass.
    pub fn is_full(&self) -> bool {
        let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(|errno| Some(errno.raw_os_error()));
        full.contains(&self.source.raw_os_error())
    }

    /// For `map_err`.
    pub(super) fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), doing, source }
    }

    fn invalid(doing: &'static str, path: &Path, why: impl fmt::Display) -> Self {
        Self::new(doing, path)(io::Error::new(io::ErrorKind::InvalidData, why.to_string()))
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Puts `bytes` in the place of a file: after a crash it holds them, or what it held before.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let new = PathBuf::from(name);
    let file = create_file(&new)?;
    file.write_all_at(bytes, 0).map_err(DiskError::new("write", &new))?;
    file.sync_all().map_err(DiskError::new("sync", &new))?;
    file::rename(&new, path).map_err(DiskError::new("rename", &new))?;
    sync_parent(path)
}

/// Writes a file that nobody needs yet; durable on return, but for its name.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = create_file(path)?;
    file.write_all_at(bytes, 0).map_err(DiskError::new("write", path))?;
    file.sync_all().map_err(DiskError::new("sync", path))
}

/// A new empty file, or an old one emptied, that only its owner may read.
fn create_file(path: &Path) -> Result<File, DiskError> {
    File::create(path).map_err(DiskError::new("create", path))
}

/// Makes what was created, renamed or removed beside `path` durable.
fn sync_parent(path: &Path) -> Result<(), DiskError> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes durable what was created, renamed or removed in it.
pub fn sync_directory(path: &Path) -> Result<(), DiskError> {
    file::sync_directory(path).map_err(DiskError::new("sync", path))
}

/// A number nobody can guess.
fn random_key() -> SegmentKey {
    SegmentKey(u64::from_le_bytes(random::bytes()).max(1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::Path;

    use super::{DiskError, create_file, replace_file};
    use crate::bytes::Slice;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("root");
        replace_file(&path, b"one").expect("written");
        replace_file(&path, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn thousands_of_pieces_are_written_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pieces");
        let pieces: Vec<Slice> =
            (0..5000u32).map(|n| Slice::from(n.to_le_bytes()[..(n % 5) as usize].to_vec())).collect();
        let file = create_file(&path).expect("created");
        file.write_pieces(&pieces, 3).expect("written");
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(fs::read(&path).expect("read")[3..], all);
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let error = |number| DiskError::new("write", Path::new("x"))(io::Error::from_raw_os_error(number));
        assert!(error(libc::ENOSPC).is_full() && error(libc::EDQUOT).is_full());
        assert!(!error(libc::EIO).is_full());
        assert!(error(libc::EIO).to_string().starts_with("cannot write x: "));
    }
}
