//! Copies of a data directory's files, for backups: which there are as of a position of their log, and how they are
//! read and written.
//!
//! Of the segment that holds the position only what is before its end is taken; the rest of it counts as zeroes. Copies
//! are made in slices, each synced before the next is read, so that a copy never owes the disk much at a time, and
//! checksums are made of what was read.
//!
//! Invariants: a copy is durable when it is told to be made, but for its name; the file that is copied is only read.

use std::fs::{self, File as Source};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::file::File;
use super::layout::{LogDir, list};
use super::{DiskError, create_file};
use crate::store::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::store::log::Position;
use crate::store::segment::{HEADING_BYTES, Heading};

/// Read, written and synced at once.
const SLICE_BYTES: usize = 4 << 20;

/// What a disk reads or does not.
const SECTOR_BYTES: usize = 512;

/// So much at either end tells two files of one name apart: headers have a random key, large files end with checksums.
const SAMPLE_BYTES: u64 = 128;

/// A file, and how much of it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    pub path: PathBuf,
    /// From its beginning.
    pub bytes: u64,
    /// Of the whole file; what lies between is zeroes.
    pub length: u64,
}

impl Extent {
    pub fn whole(path: PathBuf) -> Result<Self, DiskError> {
        let length = fs::metadata(&path).map_err(DiskError::new("look at", &path))?.len();
        Ok(Self { path, bytes: length, length })
    }
}

/// The files that a log needs as of a position: its segments up to there, and large files. Nobody frees any.
pub fn files_of_log(dir: &LogDir, position: Position, large: &[u64]) -> Result<Vec<Extent>, DiskError> {
    let mut files = Vec::new();
    for number in dir.segments()?.into_iter().filter(|&number| number <= position.segment) {
        let path = dir.segment(number);
        match Heading::read(&read(&path, 0, HEADING_BYTES)?, number) {
            Heading::Good(header) if number == position.segment => {
                let at = read(&path, position.offset, BATCH_HEADER_BYTES)?;
                let batch = BatchHeader::parse(&at, header.key).ok_or_else(|| {
                    DiskError::invalid("read the end of", &path, "its last batch is damaged")
                })?;
                let bytes = position.offset + batch.padded_length() as u64;
                files.push(Extent { bytes, ..Extent::whole(path)? });
            }
            // Made ready and passed over.
            Heading::Blank | Heading::Former(_) => {}
            _ => files.push(Extent::whole(path)?),
        }
    }
    for &number in large {
        let path = dir.large(number);
        // Nobody had the message any more when it was removed.
        if path.exists() {
            files.push(Extent::whole(path)?);
        }
    }
    Ok(files)
}

/// Beside the logs: accounts, keys, what sites have shown. Each is replaced as a whole, and whatever there was at any
/// moment since the cut will do.
pub fn extras(data: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut files = vec![data.join("directory"), data.join("directory.copy")];
    for folder in ["outbound", "tls"].map(|name| data.join(name)) {
        let names = list(&folder)?.into_iter().filter(|name| !name.ends_with(".tmp"));
        files.extend(names.map(|name| folder.join(name)));
    }
    files.retain(|path| path.is_file());
    Ok(files)
}

/// Bytes of a file from an offset on, as many as there are.
fn read(path: &Path, offset: u64, count: usize) -> Result<Vec<u8>, DiskError> {
    let file = Source::open(path).map_err(DiskError::new("open", path))?;
    let mut bytes = vec![0; count];
    let found = file.read_at(&mut bytes, offset).map_err(DiskError::new("read", path))?;
    bytes.truncate(found);
    Ok(bytes)
}

/// Whether the first `bytes` of two files begin and end alike. A file that cannot be read is like no other.
pub fn is_alike(one: &Path, other: &Path, bytes: u64) -> bool {
    let sample = |path: &Path| -> io::Result<(Vec<u8>, Vec<u8>)> {
        let file = Source::open(path)?;
        let count = bytes.min(SAMPLE_BYTES) as usize;
        let (mut first, mut last) = (vec![0; count], vec![0; count]);
        file.read_exact_at(&mut first, 0)?;
        file.read_exact_at(&mut last, bytes - count as u64)?;
        Ok((first, last))
    };
    matches!((sample(one), sample(other)), (Ok(one), Ok(other)) if one == other)
}

/// Copies the first `bytes` of a file into a new one and says their checksum. `each` is told of every slice that is
/// done; its error ends the copying.
pub fn copy<E: From<DiskError>>(
    from: &Path,
    to: &Path,
    bytes: u64,
    mut each: impl FnMut(u64) -> Result<(), E>,
) -> Result<u32, E> {
    let copy = create_file(to)?;
    let checksum = read_through(from, bytes, |slice, offset| {
        copy.write_all_at(slice, offset).map_err(DiskError::new("write", to))?;
        if offset + (slice.len() as u64) < bytes {
            copy.sync_data().map_err(DiskError::new("sync", to))?;
        }
        each(slice.len() as u64)
    })?;
    copy.sync_all().map_err(DiskError::new("sync", to))?;
    // Best effort: the memory is for others.
    let _ = copy.reread();
    Ok(checksum)
}

/// As much of the first `bytes` of a file as the disk gives, in a new one: zeroes are in the place of the rest.
pub fn copy_what_can_be(from: &Path, to: &Path, bytes: u64) -> Result<(), DiskError> {
    let copy = create_file(to)?;
    let file = Source::open(from).map_err(DiskError::new("open", from))?;
    let mut buffer = vec![0; SLICE_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let count = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        let slice = &mut buffer[..count];
        slice.fill(0);
        read_sectors(&file, slice, offset);
        copy.write_all_at(slice, offset).map_err(DiskError::new("write", to))?;
        copy.sync_data().map_err(DiskError::new("sync", to))?;
        offset += count as u64;
    }
    copy.sync_all().map_err(DiskError::new("sync", to))
}

/// Sector by sector where the whole cannot be read; what is missing stays as it is.
fn read_sectors(file: &Source, bytes: &mut [u8], offset: u64) {
    if file.read_exact_at(bytes, offset).is_ok() {
        return;
    }
    bytes.fill(0);
    for (number, sector) in (0..).zip(bytes.chunks_mut(SECTOR_BYTES)) {
        let mut read = [0; SECTOR_BYTES];
        if let Ok(count) = file.read_at(&mut read[..sector.len()], offset + number * SECTOR_BYTES as u64) {
            sector[..count].copy_from_slice(&read[..count]);
        }
    }
}

/// Makes a file as long as it was; what is added is zeroes.
pub fn lengthen(path: &Path, length: u64) -> Result<(), DiskError> {
    let file = File::open(path).map_err(DiskError::new("open", path))?;
    file.set_len(length).map_err(DiskError::new("lengthen", path))?;
    file.sync_all().map_err(DiskError::new("sync", path))
}

/// The checksum of the first `bytes` of a file.
pub fn checksum<E: From<DiskError>>(
    path: &Path,
    bytes: u64,
    mut each: impl FnMut(u64) -> Result<(), E>,
) -> Result<u32, E> {
    read_through(path, bytes, |slice, _| each(slice.len() as u64))
}

fn read_through<E: From<DiskError>>(
    path: &Path,
    bytes: u64,
    mut each: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<u32, E> {
    let file = Source::open(path).map_err(DiskError::new("open", path))?;
    // What is read once does not push out what others read often. Best effort.
    let _ = fadvise(&file, 0, None, Advice::NoReuse);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; SLICE_BYTES.min(usize::try_from(bytes).unwrap_or(SLICE_BYTES))];
    let mut offset = 0;
    while offset < bytes {
        let count = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        let slice = &mut buffer[..count];
        file.read_exact_at(slice, offset).map_err(DiskError::new("read", path))?;
        hasher.update(slice);
        each(slice, offset)?;
        offset += count as u64;
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SLICE_BYTES, checksum, copy, copy_what_can_be, is_alike, lengthen};
    use crate::io::disk::DiskError;

    #[test]
    fn a_copy_has_what_counts_and_its_checksum() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for length in [0, 1, SLICE_BYTES + 7] {
            let bytes: Vec<u8> = (0..length + 100).map(|n| (n * 31 % 251) as u8).collect();
            fs::write(&from, &bytes).expect("written");
            let mut told = 0;
            let count = length as u64;
            let copied = copy(&from, &to, count, |bytes| {
                told += bytes;
                Ok::<_, DiskError>(())
            });
            assert_eq!(copied.expect("copied"), crc32fast::hash(&bytes[..length]));
            assert_eq!((fs::read(&to).expect("read"), told), (bytes[..length].to_vec(), count));
            let again = checksum(&to, count, |_| Ok::<_, DiskError>(())).expect("read");
            assert_eq!(again, crc32fast::hash(&bytes[..length]));
            lengthen(&to, count + 50).expect("longer");
            assert_eq!(fs::read(&to).expect("read")[length..], [0; 50]);
        }
    }

    #[test]
    fn what_is_missing_at_the_end_is_zeroes_where_what_can_be_is_copied() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, [7; 700]).expect("written");
        copy_what_can_be(&from, &to, 1500).expect("copied");
        assert_eq!(fs::read(&to).expect("read"), [[7; 700].to_vec(), vec![0; 800]].concat());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_told_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"short").expect("written");
        let failed = copy(&from, &to, 6, |_| Ok::<_, DiskError>(())).expect_err("it is shorter");
        assert!(failed.to_string().contains("from"), "{failed}");
    }

    #[test]
    fn files_are_told_apart_by_their_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        for (at, is_alike_expected) in [(0, false), (5000, true), (9999, false), (10_000, true)] {
            let mut bytes = vec![7; 10_001];
            fs::write(&one, &bytes).expect("written");
            bytes[at] = 8;
            fs::write(&other, &bytes).expect("written");
            assert_eq!(is_alike(&one, &other, 10_000), is_alike_expected, "byte {at}");
        }
        assert!(is_alike(&one, &other, 0));
        assert!(!is_alike(&one, &folder.path().join("none"), 1));
    }
}
