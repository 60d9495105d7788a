//! Small files beside the logs, one for each shard, that are replaced as a whole: what it does no great harm to lose.
//!
//! ```text
//! DATA/outbound/NN.json
//! ```
//!
//! Invariant: a file is the old one or the new one, whatever the crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DiskError;
use super::file::{File, remove, rename, sync_directory};
use super::layout::create_directory;

const FOLDER: &str = "outbound";

/// The files there are, by number. One that cannot be read is told of and left out.
pub fn read_notes(data: &Path) -> Vec<(usize, Vec<u8>)> {
    let folder = data.join(FOLDER);
    let names = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut notes: Vec<(usize, Vec<u8>)> = names
        .filter_map(|path| {
            let number = number(&path)?;
            let read = fs::read(&path).map_err(|error| {
                tracing::error!(path = %path.display(), %error, "what was known before the restart is lost");
            });
            Some((number, read.ok()?))
        })
        .collect();
    notes.sort_unstable();
    notes
}

/// Puts a file in the place of the one with its number. Waits for the disk.
pub fn write_note(data: &Path, shard: usize, bytes: &[u8]) -> Result<(), DiskError> {
    let folder = data.join(FOLDER);
    create_directory(&folder)?;
    let (fresh, path) = (folder.join(format!("{shard:02}.tmp")), path(data, shard));
    let write = || -> io::Result<()> {
        let file = File::create(&fresh)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        rename(&fresh, &path)?;
        sync_directory(&folder)
    };
    write().map_err(DiskError::new("write", &path))
}

/// Removes the file of a shard that there is no more.
pub fn remove_note(data: &Path, shard: usize) -> io::Result<()> {
    remove(&path(data, shard))
}

fn path(data: &Path, shard: usize) -> PathBuf {
    data.join(FOLDER).join(format!("{shard:02}.json"))
}

fn number(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{read_notes, remove_note, write_note};

    #[test]
    fn notes_are_replaced_as_a_whole() {
        let folder = tempfile::TempDir::new().expect("a folder");
        assert_eq!(read_notes(folder.path()), []);
        for (shard, bytes) in [(1, "one"), (0, "nothing"), (1, "more")] {
            write_note(folder.path(), shard, bytes.as_bytes()).expect("written");
        }
        std::fs::write(folder.path().join("outbound/00.tmp"), "torn").expect("written");
        assert_eq!(read_notes(folder.path()), [(0, b"nothing".to_vec()), (1, b"more".to_vec())]);
        remove_note(folder.path(), 1).expect("removed");
        assert_eq!(read_notes(folder.path()).len(), 1);
    }
}
