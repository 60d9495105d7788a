//! The thread that makes segments ready ahead of use: old ones get a new name, others are written with zeroes, synced,
//! and only then named.
//!
//! A file that is already written syncs in a quarter of the time of one that grows (`docs/storage.md`). What an old one
//! still holds does not matter: its key is another.

use std::io;
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapMut;

use super::file::{self, File};
use super::layout::LogDir;
use super::writer::{LogEvent, Writer};
use super::{DiskError, create_file, random_key, sync_parent};
use crate::io::inbox::Inbox;
use crate::io::workers::hire;
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
        let prepare = |Job { dir, wanted, events }: Job| {
            events.post(LogEvent::Prepared { result: prepare_segment(&dir, wanted) });
        };
        hire("segments", &inbox, prepare)
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
    match dir.files.take_spare(wanted.bytes_min) {
        Some((old, bytes)) => reuse(dir, old, wanted.number, bytes),
        None => make(dir, wanted),
    }
}

fn reuse(dir: &LogDir, old: u32, number: u32, bytes: u64) -> Result<Ready, DiskError> {
    let (from, to) = (dir.old_segment(old), dir.segment(number));
    let renamed = file::rename(&from, &to).map_err(DiskError::new("rename", &from));
    if let Err(error) = renamed.and_then(|()| sync_parent(&to)) {
        // Under its new name it would be neither ready nor waiting; where that stays, the next start finds it blank.
        let is_back = !to.exists() || file::rename(&to, &from).is_ok();
        if is_back {
            dir.files.add_spare(old, bytes, None);
        }
        return Err(error);
    }
    Ok(Ready { number, bytes, key: random_key() })
}

fn make(dir: &LogDir, wanted: Wanted) -> Result<Ready, DiskError> {
    let path = dir.segment(wanted.number);
    let unfinished = path.with_extension("tmp");
    let made = create_file(&unfinished).and_then(|file| {
        write_zeroes(file, &unfinished, wanted.bytes).map_err(DiskError::new("write", &unfinished))?;
        file::rename(&unfinished, &path).map_err(DiskError::new("rename", &unfinished))?;
        sync_parent(&path)
    });
    if let Err(error) = made {
        // The first error is the one to tell; the next start removes what cannot be removed now.
        let _ = file::remove(if path.exists() { &path } else { &unfinished });
        return Err(error);
    }
    dir.files.add_prepared(wanted.bytes);
    Ok(Ready { number: wanted.number, bytes: wanted.bytes, key: random_key() })
}

/// Written in steps, so that the sync of a batch beside it never waits for all of it.
const STEP_BYTES: usize = 1 << 20;

/// Past the page cache where the file system can: the zeroes are read by nobody, and to copy them into pages and
/// then out again would cost each message as much as the write of its own bytes.
fn write_zeroes(file: File, path: &Path, bytes: u64) -> io::Result<()> {
    let direct = File::open_direct(path);
    let zeroes = MmapMut::map_anon(STEP_BYTES)?;
    match direct.and_then(|direct| write_steps(&direct, &zeroes, bytes)) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => write_steps(&file, &zeroes, bytes)?,
        written => written?,
    }
    file.sync_all()
}

/// `zeroes` begin on a page, as a write past the page cache wants them.
fn write_steps(file: &File, zeroes: &[u8], bytes: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < bytes {
        let step = (bytes - offset).min(zeroes.len() as u64);
        file.write_all_at(&zeroes[..step as usize], offset)?;
        file.sync_data()?;
        offset += step;
    }
    Ok(())
}
