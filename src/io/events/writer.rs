//! The thread that writes the event log: one write a wake-up, new files by size and age, old ones removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::UNIX_EPOCH;

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
            let mut count = self.gather(first);
            while self.lines.len() < WRITE_BYTES
                && let Some(next) = batches.try_next()
            {
                count += self.gather(next);
            }
            match self.write() {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.counters.dropped.fetch_add(count, Ordering::Relaxed);
                    self.report(&error);
                }
            }
            self.counters.waiting_bytes.fetch_sub(self.lines.len(), Ordering::Relaxed);
            self.lines.clear();
        }
        if let Some(open) = self.open.take()
            && let Err(error) = open.file.sync_data()
        {
            tracing::warn!(path = %open.at.path.display(), %error, "the last events may not be safe");
        }
    }

    fn gather(&mut self, batch: Batch) -> u64 {
        self.lines.extend_from_slice(&batch.lines);
        let count = batch.count;
        batch.done();
        count
    }

    /// Once for each time that it begins to fail.
    fn report(&mut self, error: &DiskError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "events are lost until they can be written; mail goes on");
        }
    }

    fn write(&mut self) -> Result<(), DiskError> {
        let now = clock::timestamp();
        if self.open.as_ref().is_some_and(|open| self.is_over(open, now)) {
            self.close();
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now)?,
        };
        let written = open.file.write_all_at(&self.lines, open.bytes);
        match written {
            Ok(()) => open.bytes += self.lines.len() as u64,
            // Lines that were written in part are cut off, or else overwritten by the next.
            Err(_) => drop(open.file.set_len(open.bytes)),
        }
        let path = open.at.path.clone();
        self.open = Some(open);
        written.map_err(DiskError::new("write", &path))
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
        if let Some(at) = memchr::memrchr(b'\n', &piece) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
