//! The thread that writes a log: one write, one sync, one event.
//!
//! Invariants: an event says `Ok` only after every byte was written and the sync that followed returned 0; after
//! an error nothing is tried again, since a second sync would lie.

use std::io;

use super::DiskError;
use super::file::File;
use super::layout::LogDir;
use crate::io::inbox::Inbox;
use crate::io::workers::{Hired, hire};
use crate::store::Sequence;
use crate::store::log::{Ready, Write};

/// What threads did for a log.
#[derive(Debug)]
pub enum LogEvent {
    /// For `Log::handle_written`.
    Written { through: Sequence, result: Result<(), DiskError> },
    /// For `Log::give_segment`; or wait a while, then `Log::handle_segment_failed`.
    Prepared { result: Result<Ready, DiskError> },
}

/// The handle of a writer thread; dropping it ends the thread after its inbox is empty, and waits for that.
pub struct Writer {
    inbox: Inbox<Write>,
    events: Inbox<LogEvent>,
    dir: LogDir,
    thread: Option<Hired>,
}

impl Writer {
    pub fn start(dir: LogDir) -> Result<Self, DiskError> {
        let (inbox, events) = (Inbox::new(), Inbox::new());
        let mut desk = Desk { dir: dir.clone(), open: None, events: events.clone() };
        let thread = hire(&format!("log-{:02}", dir.id.0), &inbox, move |write| desk.handle(write))
            .map_err(DiskError::new("start the writer of", &dir.segment(0)))?;
        Ok(Self { inbox, events, dir, thread: Some(thread) })
    }

    pub fn submit(&self, write: Write) {
        self.inbox.post(write);
    }

    /// Where its events arrive, and those of the preparer for this log.
    pub fn events(&self) -> &Inbox<LogEvent> {
        &self.events
    }

    pub fn dir(&self) -> &LogDir {
        &self.dir
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(thread) = self.thread.take() {
            // After a panic the log has no answer to its write and acknowledges nothing.
            thread.wait();
        }
    }
}

/// What the thread has before it.
struct Desk {
    dir: LogDir,
    open: Option<(u32, File)>,
    events: Inbox<LogEvent>,
}

impl Desk {
    fn handle(&mut self, write: Write) {
        let through = write.through;
        let result = self.write(&write);
        // The bodies are given back before anyone is told.
        drop(write);
        self.events.post(LogEvent::Written { through, result });
    }

    fn write(&mut self, write: &Write) -> Result<(), DiskError> {
        let path = self.dir.segment(write.segment);
        let file = self.file(write.segment).map_err(DiskError::new("open", &path))?;
        file.write_pieces(&write.pieces, write.offset).map_err(DiskError::new("write", &path))?;
        file.sync_data().map_err(DiskError::new("sync", &path))
    }

    fn file(&mut self, number: u32) -> io::Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == number => file,
            _ => File::open(&self.dir.segment(number))?,
        };
        Ok(&self.open.insert((number, file)).1)
    }
}
