//! The thread that writes a log: one write, one sync, one event.
//!
//! Invariants: an event says `Ok` only after every byte was written and the sync that followed returned 0; after
//! an error nothing is tried again, since a second sync would lie.

use std::fs::{File, OpenOptions};
use std::io;
use std::thread;

use super::layout::LogDir;
use super::{DiskError, write_pieces};
use crate::io::inbox::Inbox;
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
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub fn start(dir: LogDir) -> Result<Self, DiskError> {
        let (inbox, events) = (Inbox::new(), Inbox::new());
        let desk = Desk { dir: dir.clone(), open: None };
        let thread = thread::Builder::new()
            .name(format!("log-{:02}", dir.id.0))
            .spawn({
                let (inbox, events) = (inbox.clone(), events.clone());
                move || desk.run(&inbox, &events)
            })
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
            // A panic of the thread was told by its hook; the log has no answer to its write and acknowledges nothing.
            let _ = thread.join();
        }
    }
}

/// What the thread has before it.
struct Desk {
    dir: LogDir,
    open: Option<(u32, File)>,
}

impl Desk {
    fn run(mut self, inbox: &Inbox<Write>, events: &Inbox<LogEvent>) {
        while let Some(write) = inbox.wait() {
            let through = write.through;
            let result = self.write(&write);
            // The bodies are given back before anyone is told.
            drop(write);
            events.post(LogEvent::Written { through, result });
        }
    }

    fn write(&mut self, write: &Write) -> Result<(), DiskError> {
        let path = self.dir.segment(write.segment);
        let file = self.file(write.segment).map_err(DiskError::new("open", &path))?;
        write_pieces(file, &write.pieces, write.offset).map_err(DiskError::new("write", &path))?;
        file.sync_data().map_err(DiskError::new("sync", &path))
    }

    fn file(&mut self, number: u32) -> io::Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == number => file,
            _ => OpenOptions::new().write(true).open(self.dir.segment(number))?,
        };
        Ok(&self.open.insert((number, file)).1)
    }
}
