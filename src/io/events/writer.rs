//! The thread that writes the event log: one write a wake-up, new files by size and age, old ones removed.
//!
//! It is woken by the first lines that come and waits a moment for more before it writes, so that a busy server pays
//! for a hundred wake-ups a second and not for one a message.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, UNIX_EPOCH};

use super::log::{Batch, Counters, EventDoor};
use super::{EventFile, files};
use crate::io::clock;
use crate::io::disk::DiskError;
use crate::io::disk::layout::create_directory;
use crate::io::inbox::Inbox;
use crate::mail::time::Timestamp;
use crate::queue::event::EventSettings;

/// As much as is gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// How long lines wait for others to be written with.
const GATHER: Duration = Duration::from_millis(10);

/// The handle of the thread; dropping it writes what was handed in by then, and waits for that.
pub struct EventWriter {
    door: EventDoor,
    thread: Option<JoinHandle<()>>,
}

impl EventWriter {
    pub fn start(settings: EventSettings) -> Result<Self, DiskError> {
        let counters = Arc::new(Counters::default());
        let door = EventDoor { batches: Inbox::new(), counters: Arc::clone(&counters) };
        let path = settings.dir.clone();
        let desk = Desk { settings, counters, open: None, is_failing: false, lines: Vec::new() };
        let batches = door.batches.clone();
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || desk.run(&batches))
            .map_err(DiskError::new("start the writer of", &path))?;
        Ok(Self { door, thread: Some(thread) })
    }

    pub fn door(&self) -> EventDoor {
        self.door.clone()
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.door.batches.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told by its hook, and cost lines alone.
            let _ = thread.join();
        }
    }
}

/// What the thread has before it.
struct Desk {
    settings: EventSettings,
    counters: Arc<Counters>,
    open: Option<Open>,
    /// The last write failed, which has been logged.
    is_failing: bool,
    /// What is written next.
    lines: Vec<u8>,
}

/// The file that grows.
struct Open {
    file: File,
    at: EventFile,
    /// Of whole lines; what lies behind is overwritten.
    bytes: u64,
}

impl Desk {
    fn run(mut self, batches: &Inbox<Batch>) {
        // A torn line is cut off now and not when the next event comes, for whoever reads.
        match self.resume() {
            Ok(open) => self.open = open,
            Err(error) => self.report(&error),
        }
        while let Some(first) = batches.wait() {
            thread::sleep(GATHER);
            self.gather(first);
            while self.lines.len() < WRITE_BYTES
                && let Some(next) = batches.try_next()
            {
                self.gather(next);
            }
            let taken = self.lines.len();
            match self.write() {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    let lost = memchr::memchr_iter(b'\n', &self.lines).count() as u64;
                    self.counters.dropped.fetch_add(lost, Ordering::Relaxed);
                    self.report(&error);
                }
            }
            self.counters.waiting_bytes.fetch_sub(taken, Ordering::Relaxed);
            self.lines.clear();
        }
        if let Some(open) = self.open.take()
            && let Err(error) = open.file.sync_data()
        {
            tracing::warn!(path = %open.at.path.display(), %error, "the last events may not be safe");
        }
    }

    fn gather(&mut self, batch: Batch) {
        self.lines.extend_from_slice(&batch.lines);
        batch.done();
    }

    /// Once for each time that it begins to fail.
    fn report(&mut self, error: &DiskError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "events are lost until they can be written; mail goes on");
        }
    }

    /// Writes `lines`; after an error those that were not written are left in it.
    fn write(&mut self) -> Result<(), DiskError> {
        let now = clock::timestamp();
        if self.open.as_ref().is_some_and(|open| self.is_over(open, now)) {
            self.close();
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now)?,
        };
        let (written, result) = write_at(&open.file, &self.lines, open.bytes);
        // Of what was written in part, the whole lines stay: somebody may have read them.
        let kept = end_of_lines(&self.lines[..written]);
        open.bytes += kept as u64;
        if result.is_err() {
            // If this fails too, the next line overwrites the torn one.
            let _ = open.file.set_len(open.bytes);
            self.lines.drain(..kept);
        }
        let path = open.at.path.clone();
        self.open = Some(open);
        result.map_err(DiskError::new("write", &path))
    }

    fn is_over(&self, open: &Open, now: Timestamp) -> bool {
        open.bytes >= self.settings.rotate_bytes
            || age_s(now, open.at.begun) >= self.settings.rotate_s
            // Somebody removed it, or moved it elsewhere.
            || !open.at.path.exists()
    }

    /// The file is complete.
    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && let Err(error) = open.file.sync_data()
        {
            tracing::warn!(path = %open.at.path.display(), %error, "events may not be safe");
        }
    }

    fn begin(&self, now: Timestamp) -> Result<Open, DiskError> {
        let dir = &self.settings.dir;
        let known = self.purge(now)?;
        let number = known.last().map_or(1, |last| last.number + 1);
        let at = EventFile::new(dir, number, now);
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).mode(0o600).open(&at.path);
        let file = created.map_err(DiskError::new("create", &at.path))?;
        Ok(Open { file, at, bytes: 0 })
    }

    /// The newest file, cut behind its last whole line.
    fn resume(&self) -> Result<Option<Open>, DiskError> {
        create_directory(&self.settings.dir)?;
        let known = self.purge(clock::timestamp())?;
        let Some(at) = known.into_iter().next_back() else {
            return Ok(None);
        };
        let opened = OpenOptions::new().read(true).write(true).open(&at.path);
        let file = opened.map_err(DiskError::new("open", &at.path))?;
        let bytes = whole_lines(&file).map_err(DiskError::new("read", &at.path))?;
        file.set_len(bytes).map_err(DiskError::new("cut", &at.path))?;
        Ok(Some(Open { file, at, bytes }))
    }

    /// Removes what is too old or too much; says what is left.
    fn purge(&self, now: Timestamp) -> Result<Vec<EventFile>, DiskError> {
        let dir = &self.settings.dir;
        let mut known = files(dir).map_err(DiskError::new("list", dir))?;
        let mut total = 0;
        let mut gone = 0;
        // From the newest on; what is kept is the newest part, without gaps.
        for (index, file) in known.iter().enumerate().rev() {
            let Ok(metadata) = fs::metadata(&file.path) else {
                continue;
            };
            total += metadata.len();
            let written = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let written = written.and_then(|at| i64::try_from(at.as_secs()).ok()).unwrap_or(now.seconds);
            let is_newest = index + 1 == known.len();
            let is_old = age_s(now, Timestamp::utc(written)) > self.settings.keep_s;
            if !is_newest && (total > self.settings.keep_bytes || is_old) {
                gone = index + 1;
                break;
            }
        }
        for file in known.drain(..gone) {
            if let Err(error) = fs::remove_file(&file.path) {
                tracing::warn!(path = %file.path.display(), %error, "an old file of events stays");
            }
        }
        Ok(known)
    }
}

/// Behind the last line end.
fn end_of_lines(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// Says how much was written, also after an error.
fn write_at(file: &File, bytes: &[u8], offset: u64) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn age_s(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(now.seconds.saturating_sub(then.seconds)).unwrap_or(0)
}

/// Where the last line that has its end ends.
fn whole_lines(file: &File) -> io::Result<u64> {
    const PIECE: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    let mut piece = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(PIECE);
        piece.resize(usize::try_from(end - begin).expect("a piece"), 0);
        file.read_exact_at(&mut piece, begin)?;
        let lines = end_of_lines(&piece);
        if lines > 0 {
            return Ok(begin + lines as u64);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::{EventWriter, files};
    use crate::io::events::EventLog;
    use crate::io::{clock, executor};
    use crate::queue::event::{Event, EventKind, EventSettings};

    fn settings(folder: &Path) -> EventSettings {
        EventSettings {
            dir: folder.join("events"),
            rotate_bytes: 64 << 20,
            rotate_s: 3600,
            keep_bytes: 1 << 30,
            keep_s: 30 * 86_400,
        }
    }

    /// Posts events on an executor, `turns` times so many; how many were dropped.
    fn post(writer: &EventWriter, turns: usize, events: usize) -> u64 {
        let door = writer.door();
        let body = move |_| async move {
            let log = EventLog::new(door);
            for turn in 0..turns {
                for number in 0..events {
                    let id = turn * events + number;
                    let at = clock::unix_ms();
                    log.post(&Event { id: Some(&id), ..Event::new(EventKind::Delivery, at) });
                }
                executor::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let (thread, _) = executor::start("test", None, body).expect("an executor");
        thread.join().expect("the executor ends");
        writer.door().dropped()
    }

    fn lines(folder: &Path) -> Vec<String> {
        let read = |file: super::EventFile| fs::read_to_string(file.path).expect("a file of events");
        let files = files(&folder.join("events")).expect("a folder");
        files.into_iter().map(read).collect::<String>().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_was_posted_is_there_in_order() {
        let folder = TempDir::new().expect("a folder");
        let writer = EventWriter::start(settings(folder.path())).expect("a writer");
        assert_eq!(post(&writer, 3, 1000), 0);
        drop(writer);
        let lines = lines(folder.path());
        assert_eq!(lines.len(), 3000);
        for (number, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("{{\"type\":\"Delivery\",\"id\":\"{number}\",")), "{line}");
        }
        // The next start goes on in the same file.
        let writer = EventWriter::start(settings(folder.path())).expect("a writer");
        post(&writer, 1, 1);
        drop(writer);
        assert_eq!(files(&folder.path().join("events")).expect("files").len(), 1);
        assert_eq!(super::tests::lines(folder.path()).len(), 3001);
    }

    #[test]
    fn files_follow_each_other_and_old_ones_go() {
        let folder = TempDir::new().expect("a folder");
        let settings = EventSettings { rotate_bytes: 2000, keep_bytes: 10_000, ..settings(folder.path()) };
        for _ in 0..30 {
            // What one wake-up finds goes into one file, so that each batch has a writer of its own.
            let writer = EventWriter::start(settings.clone()).expect("a writer");
            post(&writer, 1, 10);
        }
        let kept = files(&folder.path().join("events")).expect("files");
        let total: u64 = kept.iter().map(|file| fs::metadata(&file.path).expect("a file").len()).sum();
        assert!(total < 15_000 && kept.len() > 2, "{total} bytes in {} files", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
        assert!(kept[0].number > 1);
        assert!(lines(folder.path()).last().expect("a line").contains("\"id\":\"9\""));
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path().join("events");
        fs::create_dir(&dir).expect("a folder");
        let path = dir.join("20261125T110000Z-000007.jsonl");
        let torn = format!("{{\"whole\":1}}\n{{\"torn\":\"{}", "x".repeat(200_000));
        fs::write(&path, torn).expect("a file");
        let settings = EventSettings { rotate_s: u64::MAX, ..settings(folder.path()) };
        let writer = EventWriter::start(settings).expect("a writer");
        post(&writer, 1, 1);
        drop(writer);
        let lines = lines(folder.path());
        assert_eq!((lines.len(), lines[0].as_str()), (2, "{\"whole\":1}"));
        assert!(lines[1].starts_with("{\"type\":\"Delivery\""), "{}", lines[1]);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_lines_and_nothing_else() {
        let folder = TempDir::new().expect("a folder");
        // Something else stands where the folder should be.
        fs::write(folder.path().join("events"), "").expect("a file");
        let writer = EventWriter::start(settings(folder.path())).expect("a writer");
        post(&writer, 2, 50);
        let door = writer.door();
        drop(writer);
        assert_eq!(door.dropped(), 100);
    }

    #[test]
    fn whole_lines_of_a_write_that_failed_half_way_stay() {
        assert_eq!(super::end_of_lines(b"one\ntwo\nthr"), 8);
        assert_eq!(super::end_of_lines(b"one"), 0);
        let file = tempfile::tempfile().expect("a file");
        // The kernel takes nothing behind the largest offset.
        let (written, result) = super::write_at(&file, b"one\ntwo\n", i64::MAX.unsigned_abs());
        assert_eq!((written, result.is_err()), (0, true));
        let (written, result) = super::write_at(&file, b"one\ntwo\n", 0);
        assert_eq!((written, result.is_ok()), (8, true));
    }
}
