//! What a backup folder holds: the one file of it that counts, as bytes.
//!
//! ```text
//!   ringpost backup 1
//!   {"store":"5f0c…","number":3,"taken":1790000000}
//!   {"path":"directory","number":3,"bytes":811,"length":811,"crc":"89abcdef"}
//!   {"path":"log/00/0000000001.seg","number":1,"bytes":2097152,"length":2097152,"crc":"01234567"}
//!   crc32 89abcdef
//! ```
//!
//! A file lies under its path, a dot, and the number of the backup that it came with, so that no backup writes over
//! what an earlier one needs. `bytes` are there, of a file that is `length` long; the rest of it is zeroes.
//!
//! Invariants: `parse(render(m))` is `m`; what was cut or changed is refused; no path leads out of the folder, or to
//! where a store has no files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

const NAME: &str = "ringpost backup";

const VERSION: u32 = 1;

/// The first part of every path.
pub const ROOTS: [&str; 6] = ["directory", "directory.copy", "large", "log", "outbound", "tls"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The identity of the store.
    pub store: String,
    /// Of the backup, from 1; 0 where none was finished yet.
    pub number: u64,
    /// When it was begun, in Unix seconds.
    pub taken: i64,
    /// By path below the data directory.
    pub files: BTreeMap<String, Stored>,
}

/// A file of the store, as it lies in the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The backup that it came with.
    pub number: u64,
    pub bytes: u64,
    pub length: u64,
    pub crc: u32,
}

#[derive(Serialize, Deserialize)]
struct HeadRow {
    store: String,
    number: u64,
    taken: i64,
}

#[derive(Serialize, Deserialize)]
struct FileRow {
    path: String,
    number: u64,
    bytes: u64,
    length: u64,
    crc: String,
}

impl Manifest {
    /// Of a folder that no backup was finished in.
    pub fn new(store: String) -> Self {
        Self { store, number: 0, taken: 0, files: BTreeMap::new() }
    }

    pub fn render(&self) -> Vec<u8> {
        let mut bytes = format!("{NAME} {VERSION}\n").into_bytes();
        let Self { store, number, taken, files } = self;
        push_row(&mut bytes, &HeadRow { store: store.clone(), number: *number, taken: *taken });
        for (path, Stored { number, bytes: count, length, crc }) in files {
            let (path, crc) = (path.clone(), format!("{crc:08x}"));
            push_row(&mut bytes, &FileRow { path, number: *number, bytes: *count, length: *length, crc });
        }
        let checksum = crc32fast::hash(&bytes);
        writeln!(bytes, "crc32 {checksum:08x}").expect("a vector takes all");
        bytes
    }

    /// Why bytes are no manifest, as a sentence without its subject.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        check_version(bytes)?;
        let mut rows = checked_text(bytes)?.lines().skip(1);
        let HeadRow { store, number, taken } = row(rows.next().unwrap_or_default())?;
        let mut files = BTreeMap::new();
        for line in rows {
            let FileRow { path, number: came_with, bytes, length, crc } = row(line)?;
            let crc = u32::from_str_radix(&crc, 16).map_err(|_| format!("has no checksum of {path}"))?;
            if !is_in_a_store(&path) || came_with > number || bytes > length {
                return Err(format!("says of {path} what cannot be"));
            }
            files.insert(path, Stored { number: came_with, bytes, length, crc });
        }
        Ok(Self { store, number, taken, files })
    }

    /// Where a file lies, below the folder.
    pub fn place(path: &str, number: u64) -> String {
        format!("{path}.{number}")
    }
}

/// Whether a path is one that a file of a data directory may have.
fn is_in_a_store(path: &str) -> bool {
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    is_plain && !path.contains("//") && ROOTS.contains(&path.split('/').next().unwrap_or_default())
}

fn push_row(bytes: &mut Vec<u8>, row: &impl Serialize) {
    serde_json::to_writer(&mut *bytes, row).expect("rows have string keys and a vector takes all");
    bytes.push(b'\n');
}

fn row<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("cannot be understood: {error}"))
}

/// Before the checksum, which a later version may have elsewhere.
fn check_version(bytes: &[u8]) -> Result<(), String> {
    let first_line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let rest = first_line.strip_prefix(NAME.as_bytes()).and_then(|rest| std::str::from_utf8(rest).ok());
    match rest.and_then(|rest| rest.trim_start().parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(version) => {
            Err(format!("has version {version} of the format, which this program does not know"))
        }
        None => Err(format!("does not begin with \"{NAME}\"")),
    }
}

fn checked_text(bytes: &[u8]) -> Result<&str, String> {
    let body = bytes.strip_suffix(b"\n").unwrap_or_default();
    let last = memchr::memrchr(b'\n', body).map_or(0, |lf| lf + 1);
    let (rows, checksum) = bytes.split_at(last);
    match std::str::from_utf8(rows) {
        Ok(text) if checksum == format!("crc32 {:08x}\n", crc32fast::hash(rows)).as_bytes() => Ok(text),
        _ => Err("was cut or changed: its checksum is wrong".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Manifest, Stored};

    fn manifest() -> Manifest {
        let file = |number, bytes| Stored { number, bytes, length: 4096, crc: 0x0123_4567 };
        let paths = [
            ("directory", file(3, 11)),
            ("log/00/0000000001.seg", file(1, 4096)),
            ("tls/ca.pem", file(3, 0)),
        ];
        let files = paths.map(|(path, stored)| (path.to_owned(), stored));
        Manifest { store: "5f0c".to_owned(), number: 3, taken: 1_790_000_000, files: BTreeMap::from(files) }
    }

    #[test]
    fn what_is_written_is_read() {
        for manifest in [manifest(), Manifest::new("5f0c".to_owned())] {
            assert_eq!(Manifest::parse(&manifest.render()), Ok(manifest));
        }
    }

    #[test]
    fn no_cut_and_no_flip_is_believed() {
        let bytes = manifest().render();
        for at in 0..bytes.len() {
            assert!(Manifest::parse(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Manifest::parse(&flipped).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn paths_stay_within_a_store_and_versions_are_told_apart() {
        for path in ["../x", "/etc/passwd", "log/../../x", "events/x", "manifest", "", "log//x", "./log/x"] {
            let mut manifest = manifest();
            manifest.files.insert(path.to_owned(), Stored { number: 1, bytes: 1, length: 1, crc: 0 });
            assert!(Manifest::parse(&manifest.render()).is_err(), "{path}");
        }
        let newer = b"ringpost backup 2\nwhatever\n";
        assert!(Manifest::parse(newer).unwrap_err().contains("version 2"));
        assert!(Manifest::parse(b"something else\n").unwrap_err().contains("begin"));
    }
}
