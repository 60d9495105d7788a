//! The calls that change the file system, all of them in one place: the world may forbid each, or see it only.
//!
//! Invariant: a call that was answered `Ok` did all that it says; a write that is short goes on behind the part that
//! was written, everything else that fails is told and never tried again.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use crate::bytes::Slice;
use crate::io::world::{Change, Permit, permit};

/// A segment has more pieces than this only in batches of many large bodies; the kernel takes 1024 at once.
const PIECES_MAX: usize = 1024;

/// A file that is written.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    path: PathBuf,
}

impl File {
    /// A new empty file, or an old one emptied, that only its owner may read.
    pub fn create(path: &Path) -> io::Result<Self> {
        permit(&Change::Create { path })?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Self { file: options.open(path)?, path: path.to_owned() })
    }

    /// A file that is there, to be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, 0)
    }

    /// The same past the page cache, for whole pages.
    pub fn open_direct(path: &Path) -> io::Result<Self> {
        Self::open_with(path, libc::O_DIRECT)
    }

    fn open_with(path: &Path, flags: i32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.may_write(offset, bytes.len())?;
            self.file.write_all_at(&bytes[..count], offset)?;
            bytes = &bytes[count..];
            offset += count as u64;
        }
        Ok(())
    }

    /// Writes all pieces one behind the other. Nothing is retried but what was interrupted or short.
    pub fn write_pieces(&self, pieces: &[Slice], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let count = left.len().min(PIECES_MAX);
            match self.write_vectored(&left[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn write_vectored(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<usize, Errno> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let count = self.may_write(offset, length).map_err(errno)?;
        if count == length {
            return rustix::io::pwritev(&self.file, slices, offset);
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(count).collect();
        rustix::io::pwrite(&self.file, &bytes, offset)
    }

    /// How many of so many bytes a write may take.
    fn may_write(&self, offset: u64, length: usize) -> io::Result<usize> {
        match permit(&Change::Write { path: &self.path, offset, length })? {
            Permit::Bytes(count) => Ok(count.min(length)),
            Permit::All | Permit::Done => Ok(length),
        }
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        permit(&Change::Resize { path: &self.path, length })?;
        self.file.set_len(length)
    }

    /// After an error nothing is known of what was written before: another sync would lie.
    pub fn sync_data(&self) -> io::Result<()> {
        match permit(&Change::Sync { path: &self.path })? {
            Permit::Done => Ok(()),
            Permit::All | Permit::Bytes(_) => self.file.sync_data(),
        }
    }

    /// With all that is known about the file.
    pub fn sync_all(&self) -> io::Result<()> {
        match permit(&Change::Sync { path: &self.path })? {
            Permit::Done => Ok(()),
            Permit::All | Permit::Bytes(_) => self.file.sync_all(),
        }
    }

    /// What is read from here on comes from the disk, not from a cache.
    pub fn reread(&self) -> io::Result<()> {
        permit(&Change::Reread { path: &self.path })?;
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Puts a file in the place of another, or where there was none.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match permit(&Change::Rename { from, to })? {
        Permit::Done => Ok(()),
        Permit::All | Permit::Bytes(_) => std::fs::rename(from, to),
    }
}

pub fn remove(path: &Path) -> io::Result<()> {
    match permit(&Change::Remove { path })? {
        Permit::Done => Ok(()),
        Permit::All | Permit::Bytes(_) => std::fs::remove_file(path),
    }
}

/// A new directory that only its owner may enter.
pub fn make_directory(path: &Path) -> io::Result<()> {
    permit(&Change::MakeDirectory { path })?;
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes durable what was created, renamed or removed in a directory.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match permit(&Change::SyncDirectory { path })? {
        Permit::Done => Ok(()),
        Permit::All | Permit::Bytes(_) => std::fs::File::open(path)?.sync_all(),
    }
}
