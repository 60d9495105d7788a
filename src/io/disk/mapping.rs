//! Files mapped for reading.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

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
