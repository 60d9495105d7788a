//! The event log on disk: lines of JSON in files that follow each other, for the operator's programs.
//!
//! ```text
//! DATA/events/20261124T100000Z-000017.jsonl    when it was begun, and the how many-th it is
//! DATA/events/cursors/NAME                     how far a reader has come
//! ```
//!
//! A shard formats a line into its own buffer ([`EventLog`]) and hands the buffer over once a turn; a thread
//! ([`EventWriter`]) writes what has come with one call, begins new files and removes old ones. Readers open the
//! files themselves ([`files`]) and take whole lines only.
//!
//! Invariants: no line is promised to anyone, and a disk that is full or broken costs lines, which are counted,
//! and never mail; a file only grows, but for a last line that a crash or a full disk has left torn; numbers
//! only go up.

mod log;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mail::date::parse_rfc3339;
use crate::mail::time::Timestamp;

pub use log::{EventDoor, EventLog};
pub use writer::EventWriter;

const EXTENSION: &str = "jsonl";

/// One file of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventFile {
    /// Its place in the order; none is used twice.
    pub number: u64,
    /// When it was begun.
    pub begun: Timestamp,
    pub path: PathBuf,
}

/// The files in `dir`, the oldest first; none if it does not exist.
pub fn files(dir: &Path) -> io::Result<Vec<EventFile>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.extend(EventFile::of(&entry?.path()));
    }
    files.sort_unstable_by_key(|file| file.number);
    Ok(files)
}

impl EventFile {
    /// The file of this name, if it is one of ours.
    pub fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let (begun, number) = stem.split_once('-')?;
        let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number)?;
        let (date, time) = begun.strip_suffix('Z')?.split_once('T')?;
        let digits = |text: &str, from: usize, to: usize| text.get(from..to).map(str::to_owned);
        let begun = parse_rfc3339(&format!(
            "{}-{}-{}T{}:{}:{}Z",
            digits(date, 0, 4)?,
            digits(date, 4, 6)?,
            date.get(6..)?,
            digits(time, 0, 2)?,
            digits(time, 2, 4)?,
            time.get(4..)?
        ))?;
        Some(Self { number, begun, path: path.to_owned() })
    }

    fn new(dir: &Path, number: u64, begun: Timestamp) -> Self {
        let path = dir.join(format!("{}-{number:06}.{EXTENSION}", Compact(begun)));
        Self { number, begun, path }
    }

    /// Without the folder.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Prints `20261124T100000Z`.
struct Compact(Timestamp);

impl std::fmt::Display for Compact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = Timestamp::utc(self.0.seconds).day().civil();
        let second = self.0.seconds.rem_euclid(86_400);
        write!(f, "{year:04}{month:02}{day:02}")?;
        write!(f, "T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::EventFile;
    use crate::mail::time::Timestamp;

    #[test]
    fn names_of_files() {
        let file = EventFile::new(Path::new("events"), 17, Timestamp::utc(1_795_604_400));
        assert_eq!(file.path, Path::new("events/20261125T110000Z-000017.jsonl"));
        assert_eq!(EventFile::of(&file.path), Some(file));
        let long = EventFile::new(Path::new("e"), 12_345_678, Timestamp::utc(0));
        assert_eq!(EventFile::of(&long.path), Some(long));
        for name in [
            "20261125T110000Z-17.jsonl",
            "20261125T110000Z-000017.jsonl.zst",
            "20261125T110000-000017.jsonl",
            "20261325T110000Z-000017.jsonl",
            "2026112\u{e9}T110000Z-000017.jsonl",
            "-000017.jsonl",
            "cursors",
        ] {
            assert_eq!(EventFile::of(Path::new(name)), None, "{name}");
        }
    }
}
