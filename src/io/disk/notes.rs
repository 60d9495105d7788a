//! Small files beside the logs, one for each shard, that are replaced as a whole: what it does no great harm to lose.
//!
//! ```text
//! DATA/outbound/NN.json      what is kept, a line feed, `crc32 89abcdef` of all before, a line feed
//! ```
//!
//! Invariants: a file is the old one or the new one, whatever the crash; one that a disk has changed is not believed.

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
            let read = fs::read(&path).and_then(|bytes| {
                checked(bytes).ok_or(io::Error::new(io::ErrorKind::InvalidData, "the file is damaged"))
            });
            let read = read.inspect_err(|error| {
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
        file.write_all_at(&sealed(bytes), 0)?;
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

const SEAL: &str = "crc32 ";

/// What is written, with its checksum behind it.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    sealed.push(b'\n');
    let checksum = crc32fast::hash(&sealed);
    sealed.extend_from_slice(format!("{SEAL}{checksum:08x}\n").as_bytes());
    sealed
}

/// What was written, without its checksum. Files of earlier versions have none, and are one line of JSON without an
/// end.
fn checked(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let seal_bytes = SEAL.len() + 8 + 1;
    let at = bytes.len().saturating_sub(seal_bytes);
    if !bytes.contains(&b'\n') {
        return Some(bytes);
    }
    let seal = str::from_utf8(&bytes[at..]).ok()?.strip_prefix(SEAL)?.strip_suffix('\n')?;
    let is_good = u32::from_str_radix(seal, 16).ok()? == crc32fast::hash(&bytes[..at]);
    bytes.truncate(at.checked_sub(1)?);
    is_good.then_some(bytes)
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
    fn a_note_with_a_wrong_bit_or_a_lost_sector_is_not_believed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let text = format!("{{\"sites\":{{\"a\":\"{}\"}}}}", "x".repeat(1500));
        write_note(folder.path(), 0, text.as_bytes()).expect("written");
        let path = folder.path().join("outbound/00.json");
        let whole = std::fs::read(&path).expect("read");
        let damaged = |bytes: &[u8], what: &str, at: usize| {
            std::fs::write(&path, bytes).expect("written");
            let found = read_notes(folder.path());
            // JSON that was cut in the middle is none.
            let is_json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
            let is_wrong = |(_, bytes): &(usize, Vec<u8>)| bytes != text.as_bytes() && is_json(bytes);
            assert!(!found.iter().any(is_wrong), "{what} {at}");
        };
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            damaged(&bytes, "bit", bit);
        }
        for at in (0..whole.len()).step_by(512) {
            let mut bytes = whole.clone();
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
            damaged(&bytes, "sector", at);
            damaged(&whole[..at], "cut", at);
        }
        std::fs::write(&path, "{}").expect("written");
        assert_eq!(read_notes(folder.path()), [(0, b"{}".to_vec())], "as earlier versions wrote it");
    }

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
