//! The thread that makes segments ready ahead of use: written with zeroes, synced, and only then named.
//!
//! A file that is already written syncs in a quarter of the time of one that grows (`docs/storage.md`).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::layout::LogDir;
use super::writer::{LogEvent, Writer};
use super::{DiskError, create_file, random_key, sync_parent};
use crate::io::inbox::Inbox;
use crate::store::log::{Ready, Wanted};

/// One per process; clones share its thread, which ends with the last of them.
#[derive(Clone)]
pub struct Preparer {
    handle: Arc<Handle>,
}

struct Handle {
    inbox: Inbox<Job>,
}

struct Job {
    dir: LogDir,
    wanted: Wanted,
    events: Inbox<LogEvent>,
}

impl Preparer {
    pub fn start() -> Result<Self, DiskError> {
        let inbox: Inbox<Job> = Inbox::new();
        thread::Builder::new()
            .name("segments".to_owned())
            .spawn({
                let inbox = inbox.clone();
                move || {
                    while let Some(Job { dir, wanted, events }) = inbox.wait() {
                        events.post(LogEvent::Prepared { result: prepare_segment(&dir, wanted) });
                    }
                }
            })
            .map_err(DiskError::new("start a thread for", Path::new("segments")))?;
        Ok(Self { handle: Arc::new(Handle { inbox }) })
    }

    /// The answer is an event of `writer`.
    pub fn prepare(&self, wanted: Wanted, writer: &Writer) {
        let (dir, events) = (writer.dir().clone(), writer.events().clone());
        self.handle.inbox.post(Job { dir, wanted, events });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Makes a segment ready, in the calling thread. What fails leaves nothing behind.
pub fn prepare_segment(dir: &LogDir, wanted: Wanted) -> Result<Ready, DiskError> {
    let path = dir.segment(wanted.number);
    let unfinished = path.with_extension("tmp");
    let made = create_file(&unfinished).and_then(|file| {
        write_zeroes(file, wanted.bytes).map_err(DiskError::new("write", &unfinished))?;
        std::fs::rename(&unfinished, &path).map_err(DiskError::new("rename", &unfinished))?;
        sync_parent(&path)
    });
    if let Err(error) = made {
        // The first error is the one to tell; the next start removes what cannot be removed now.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(Ready { number: wanted.number, bytes: wanted.bytes, key: random_key()? })
}

/// Synced in steps, so that the sync of a batch beside it never waits for all of it.
const STEP_BYTES: usize = 1 << 20;

fn write_zeroes(mut file: File, bytes: u64) -> std::io::Result<()> {
    let zeroes = vec![0; STEP_BYTES];
    let mut left = bytes;
    while left > 0 {
        let step = left.min(STEP_BYTES as u64);
        file.write_all(&zeroes[..step as usize])?;
        file.sync_data()?;
        left -= step;
    }
    file.sync_all()
}
