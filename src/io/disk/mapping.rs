//! Files mapped for reading.
//!
//! Whoever touches a page that is not in memory waits for the disk, which then reads as much around it as it is told to
//! read ahead: megabytes, on some, for a few bytes. So what is known to be wanted is asked for before it is looked at.

use std::ffi::c_void;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use rustix::mm::{Advice, madvise};

use super::DiskError;
use super::files::Hold;
use super::sigbus::{Watched, lost_pages};
use crate::bytes::{Owner, Slice};

/// A file in memory. It stays mapped while any slice of it lives, also after the file was unlinked.
struct Mapping {
    // Fields are dropped in this order: watched for as long as it is mapped.
    _watched: Watched,
    bytes: Mmap,
    /// Given up last: then the file may be used again.
    _hold: Option<Arc<Hold>>,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Owner for Mapping {
    fn lost_parts(&self) -> usize {
        lost_pages()
    }

    fn read_ahead(&self, part: &[u8]) {
        read_ahead(part);
    }
}

/// Maps a whole file, as long as it is now.
pub fn map(path: &Path) -> Result<Slice, DiskError> {
    map_through(path, 0)
}

/// Maps a segment, which is not used again as long as anything of the mapping lives.
pub fn map_held(path: &Path, hold: Arc<Hold>) -> Result<Slice, DiskError> {
    map_file(path, 0, Some(hold))
}

/// Maps a file with room for it to grow to `bytes_min`. What is behind its end must not be looked at before it
/// is there.
pub fn map_through(path: &Path, bytes_min: usize) -> Result<Slice, DiskError> {
    map_file(path, bytes_min, None)
}

/// The smallest page there is.
const PAGE_BYTES: usize = 4096;

/// The kernel reads at most so much for one piece of advice, and forgets the rest.
const READ_AHEAD_BYTES: usize = 128 << 10;

/// Has the disk read these bytes of a mapping, and nothing around them, without waiting for it. What cannot be read is
/// met by whoever looks at it.
pub fn read_ahead(bytes: &[u8]) {
    for (from, length) in pieces(bytes.as_ptr().addr(), bytes.len()) {
        let start = bytes.as_ptr().with_addr(from).cast_mut().cast::<c_void>();
        // SAFETY: the advice changes nothing that can be seen, and is about pages that `bytes` lies in.
        // `tests::what_is_asked_for_is_read` leans on it.
        if unsafe { madvise(start, length, Advice::WillNeed) }.is_err() {
            return;
        }
    }
}

/// The pages that so many bytes from an address lie in, as addresses and lengths that may be asked for at once. None
/// for no bytes: who reads messages that are in memory asks for nothing thousands of times, and each call counts.
fn pieces(start: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = if length == 0 { 0 } else { start + length };
    let froms = (start / PAGE_BYTES * PAGE_BYTES..end).step_by(READ_AHEAD_BYTES);
    froms.map(move |from| (from, (end - from).min(READ_AHEAD_BYTES)))
}

/// From now on whoever touches a page of this mapping, all of which `bytes` are, has that page read alone.
pub fn read_anywhere(bytes: &[u8]) {
    let start = bytes.as_ptr().cast_mut().cast::<c_void>();
    // SAFETY: as for `read_ahead`. Refused, it is as if nothing had been said.
    let _ = unsafe { madvise(start, bytes.len(), Advice::Random) };
}

fn map_file(path: &Path, bytes_min: usize, hold: Option<Arc<Hold>>) -> Result<Slice, DiskError> {
    let file = File::open(path).map_err(DiskError::new("open", path))?;
    let bytes = file.metadata().map_err(DiskError::new("look at", path))?.len();
    let bytes =
        usize::try_from(bytes).map_err(|error| DiskError::invalid("map", path, error))?.max(bytes_min);
    if bytes == 0 {
        return Ok(Slice::from(&b""[..]));
    }
    // SAFETY: the bytes that anybody looks at do not change: the data directory is locked against other servers;
    // this one never shrinks a file, and writes only where nothing acknowledged is (segments: `store::log`; index and
    // large files only grow), or into a segment that was freed and that no mapping holds (`io::disk::files`). Bytes
    // beyond the end of a log do change, but they are read only while it is opened, before its writer exists.
    // `open::tests` and `reader::tests` read through it while a writer appends.
    let mapping = unsafe { MmapOptions::new().len(bytes).map(&file) }.map_err(DiskError::new("map", path))?;
    let watched = Watched::new(&mapping).map_err(DiskError::new("watch", path))?;
    Ok(Slice::new(Mapping { _watched: watched, bytes: mapping, _hold: hold }))
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::fs::{File, write};

    use rustix::fs::{Advice, fadvise};

    use super::{PAGE_BYTES, READ_AHEAD_BYTES, map, pieces, read_ahead, read_anywhere};

    const PAGES: usize = 1024;

    /// Which pages are in memory.
    fn present(bytes: &[u8]) -> Vec<usize> {
        let mut pages = vec![0_u8; bytes.len().div_ceil(PAGE_BYTES)];
        let start = bytes.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: it looks at a mapping that lives, and writes a byte for each page of it.
        assert_eq!(unsafe { libc::mincore(start, bytes.len(), pages.as_mut_ptr()) }, 0);
        (0..pages.len()).filter(|&page| pages[page] & 1 == 1).collect()
    }

    #[test]
    fn whole_pages_are_asked_for_and_nothing_where_nothing_is_wanted() {
        let all = |start, length| pieces(start, length).collect::<Vec<_>>();
        assert_eq!(all(1, 0), []);
        assert_eq!(all(5 * PAGE_BYTES, 0), []);
        assert_eq!(all(5 * PAGE_BYTES + 7, 1), [(5 * PAGE_BYTES, 8)]);
        let (first, second) = (4 * PAGE_BYTES, 4 * PAGE_BYTES + READ_AHEAD_BYTES);
        assert_eq!(all(first + 9, READ_AHEAD_BYTES), [(first, READ_AHEAD_BYTES), (second, 9)]);
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let whole: Vec<u8> = (0..PAGES * PAGE_BYTES).map(|n| (n * 31 % 251) as u8).collect();
        write(&path, &whole).expect("written");
        let evict = || {
            let file = File::open(&path).expect("opened");
            file.sync_all().expect("synced");
            fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
        };
        evict();
        let bytes = map(&path).expect("mapped");
        read_anywhere(&bytes);
        if !present(&bytes).is_empty() {
            // A file system in memory has nothing else to read it from.
            return;
        }
        let wanted = 500 * PAGE_BYTES - 7..502 * PAGE_BYTES + 7;
        read_ahead(&bytes[wanted.clone()]);
        assert_eq!(bytes[wanted.clone()], whole[wanted]);
        assert_eq!(present(&bytes), [499, 500, 501, 502]);
        read_ahead(&bytes);
        read_ahead(&[]);
        assert_eq!(*bytes, *whole);
    }
}
