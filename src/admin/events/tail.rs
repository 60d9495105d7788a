//! The lines of the event log, file after file, as they come.
//!
//! Invariants: a line is given when its end is there, and once; a file is left only when a later one exists and
//! nothing more was found in it after that was known.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::io::events::{EventFile, files};

const BUFFER_BYTES: usize = 64 << 10;

/// Behind a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The name of the file.
    pub file: String,
    pub offset: u64,
}

pub struct Tail {
    dir: PathBuf,
    open: Option<Open>,
    line: Vec<u8>,
}

struct Open {
    at: EventFile,
    reader: BufReader<File>,
    /// Behind the last line that was given.
    offset: u64,
    /// There is a later file.
    is_over: bool,
}

#[derive(Debug)]
pub enum Next<'a> {
    /// Without its end.
    Line(&'a [u8]),
    /// All that is there now was given.
    End,
}

impl Tail {
    /// Begins at a position, or else with the oldest file that may have events since then. What is missing is told to
    /// `warn`.
    pub fn open(
        dir: &Path,
        position: Option<&Position>,
        since_s: Option<i64>,
        warn: &mut dyn FnMut(&str),
    ) -> io::Result<Self> {
        let mut tail = Self { dir: dir.to_owned(), open: None, line: Vec::new() };
        let known = files(dir)?;
        let Some(position) = position else {
            // A file whose successor was begun before then ended before then.
            let is_later = |pair: &[EventFile]| since_s.is_none_or(|since| pair[1].begun.seconds >= since);
            let first = known.windows(2).position(is_later).unwrap_or(known.len().saturating_sub(1));
            tail.open_file(known.get(first), 0)?;
            return Ok(tail);
        };
        let found = known.iter().find(|file| file.name() == position.file);
        if found.is_some() {
            tail.open_file(found, position.offset)?;
            return Ok(tail);
        }
        let file = &position.file;
        let number = EventFile::of(Path::new(file)).map(|file| file.number);
        let next = known.iter().find(|file| Some(file.number) > number);
        match next {
            Some(next) => warn(&format!(
                "events were removed before they were read: from {file}, byte {}, up to {}",
                position.offset,
                next.name()
            )),
            None => {
                warn(&format!("the file {file} is gone, and none follows it; what is there is read anew"))
            }
        }
        tail.open_file(next.or(known.first()), 0)?;
        Ok(tail)
    }

    /// The next line, if there is one by now.
    pub fn next(&mut self, warn: &mut dyn FnMut(&str)) -> io::Result<Next<'_>> {
        loop {
            let Some(open) = &mut self.open else {
                let known = files(&self.dir)?;
                if known.is_empty() {
                    return Ok(Next::End);
                }
                self.open_file(known.first(), 0)?;
                continue;
            };
            if open.read_line(&mut self.line)? {
                return Ok(Next::Line(&self.line[..self.line.len() - 1]));
            }
            let known = files(&self.dir)?;
            let Some(later) = known.iter().find(|file| file.number > open.at.number) else {
                return Ok(Next::End);
            };
            if !open.is_over {
                // More may have come between the end of the file and the look for a later one.
                open.is_over = true;
                continue;
            }
            if later.number != open.at.number + 1 {
                warn(&format!(
                    "events were removed before they were read: from {} up to {}",
                    open.at.name(),
                    later.name()
                ));
            }
            let later = later.clone();
            self.open_file(Some(&later), 0)?;
        }
    }

    /// Behind the last line that was given.
    pub fn position(&self) -> Option<Position> {
        let open = self.open.as_ref()?;
        Some(Position { file: open.at.name().to_owned(), offset: open.offset })
    }

    /// Makes durable what was read. Files before this one are, since they are complete.
    pub fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.reader.get_ref().sync_data())
    }

    fn open_file(&mut self, at: Option<&EventFile>, offset: u64) -> io::Result<()> {
        let Some(at) = at else {
            return Ok(());
        };
        let mut file = match File::open(&at.path) {
            Ok(file) => file,
            // Removed a moment ago; the next look finds what there is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        self.open = Some(Open { at: at.clone(), reader, offset, is_over: false });
        Ok(())
    }
}

impl Open {
    /// False if the next line is not complete yet.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let taken = self.reader.read_until(b'\n', line)?;
        if line.ends_with(b"\n") {
            self.offset += taken as u64;
            return Ok(true);
        }
        if taken > 0 {
            self.reader.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    use tempfile::TempDir;

    use super::{Next, Position, Tail};

    fn name(number: u32) -> String {
        format!("20261125T11{number:02}00Z-{number:06}.jsonl")
    }

    fn write(dir: &Path, number: u32, text: &str) {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(dir.join(name(number))).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// All lines that are there, and the warnings.
    fn drain(tail: &mut Tail) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut warnings) = (Vec::new(), Vec::new());
        loop {
            match tail.next(&mut |text| warnings.push(text.to_owned())).expect("read") {
                Next::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
                Next::End => return (lines, warnings),
            }
        }
    }

    fn open(dir: &Path, position: Option<&Position>) -> (Tail, Vec<String>) {
        let mut warnings = Vec::new();
        let tail = Tail::open(dir, position, None, &mut |text| warnings.push(text.to_owned()));
        (tail.expect("opened"), warnings)
    }

    #[test]
    fn lines_come_when_they_are_whole_and_across_files() {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path();
        let (mut tail, _) = open(dir, None);
        assert_eq!(drain(&mut tail).0, [""; 0]);
        write(dir, 1, "a\nb\nhal");
        assert_eq!(drain(&mut tail).0, ["a", "b"]);
        assert_eq!(drain(&mut tail).0, [""; 0]);
        write(dir, 1, "f\n");
        write(dir, 2, "c\n");
        assert_eq!(drain(&mut tail), (vec!["half".to_owned(), "c".to_owned()], Vec::new()));
        assert_eq!(tail.position(), Some(Position { file: name(2), offset: 2 }));
        let (mut again, _) = open(dir, Some(&Position { file: name(1), offset: 2 }));
        assert_eq!(drain(&mut again).0, ["b", "half", "c"]);
    }

    #[test]
    fn what_was_removed_unread_is_said() {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path();
        (1..=5).for_each(|number| write(dir, number, &format!("{number}\n")));
        let (mut tail, _) = open(dir, None);
        (1..=3).for_each(|number| fs::remove_file(dir.join(name(number))).expect("removed"));
        // The first is still open.
        let (lines, warnings) = drain(&mut tail);
        assert_eq!((lines, warnings.len()), (vec!["1".to_owned(), "4".to_owned(), "5".to_owned()], 1));
        let (mut tail, warnings) = open(dir, Some(&Position { file: name(2), offset: 0 }));
        assert!(warnings[0].contains(&name(2)) && warnings[0].contains(&name(4)), "{warnings:?}");
        assert_eq!(drain(&mut tail).0, ["4", "5"]);
        let (mut tail, warnings) = open(dir, Some(&Position { file: name(9), offset: 0 }));
        assert_eq!((drain(&mut tail).0.len(), warnings.len()), (2, 1));
    }

    #[test]
    fn files_that_ended_before_are_not_opened() {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path();
        (1..=4).for_each(|number| write(dir, number, &format!("{number}\n")));
        // File 3 was begun at 11:03:00.
        let since = 1_795_604_400 + 3 * 60;
        for (since, first) in
            [(since - 1, "2"), (since, "2"), (since + 1, "3"), (since + 9999, "4"), (0, "1")]
        {
            let mut tail = Tail::open(dir, None, Some(since), &mut |_| {}).expect("opened");
            assert_eq!(drain(&mut tail).0[0], first, "{since}");
        }
    }
}
