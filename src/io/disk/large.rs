//! Files of their own for messages that are too large for memory.
//!
//! Bytes are handed over as they arrive and written by a thread; a file is finished when its data and its name
//! are synced, and only then may a record name it. What is given up before a record does is removed; what a crash
//! leaves is removed at the next start, since no record names it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::file::{self, File};
use super::layout::{DataDir, LogDir};
use super::{DiskError, create_file, sync_parent};
use crate::bytes::Slice;
use crate::io::inbox::Inbox;
use crate::io::workers::hire;
use crate::limits;
use crate::store::large::{LargeChecksums, LargeName};
use crate::store::segment::SegmentKey;

/// The large files of all logs; clones share its threads.
#[derive(Clone)]
pub struct LargeFiles {
    threads: Arc<Threads>,
}

struct Threads {
    inboxes: Vec<Inbox<Job>>,
    /// Numbers are given once in all logs.
    next_number: AtomicU64,
}

/// A file that no record names. Dropping it removes it, unless it is kept.
pub struct LargeFile {
    number: u64,
    inbox: Inbox<Job>,
    events: Inbox<LargeEvent>,
    buffered_bytes: Arc<AtomicUsize>,
    is_kept: bool,
}

/// A file that is synced, with its name: what `Body::File` wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    pub number: u64,
    pub length: u64,
    pub crc: u32,
}

/// What a thread did with a large file. After an error everything that follows fails too.
#[derive(Debug)]
pub enum LargeEvent {
    /// One `append` is written: `buffered_bytes` fell.
    Written(Result<(), DiskError>),
    Finished(Result<Finished, DiskError>),
}

enum Job {
    Create { number: u64, page: Box<Page> },
    Append { number: u64, bytes: Slice },
    Finish { number: u64 },
    Keep { number: u64 },
    GiveUp { number: u64 },
    Remove { dir: LogDir, number: u64 },
}

/// A file as its thread sees it.
struct Page {
    dir: LogDir,
    name: LargeName,
    /// From the first append on.
    file: Option<File>,
    checksums: LargeChecksums,
    events: Inbox<LargeEvent>,
    buffered_bytes: Arc<AtomicUsize>,
    is_broken: bool,
}

impl LargeFiles {
    /// Starts the threads; the logs that exist must be known to `data` by now.
    pub fn start(data: &DataDir) -> Result<Self, DiskError> {
        let mut last = 0;
        for log in data.logs()? {
            last = data.log_dir(log).large_files()?.last().copied().unwrap_or(0).max(last);
        }
        let mut inboxes = Vec::with_capacity(limits::store::LARGE_FILE_THREADS);
        for _ in 0..limits::store::LARGE_FILE_THREADS {
            let inbox = Inbox::new();
            let mut pages = Pages::default();
            hire("large-files", &inbox, move |job| pages.handle(job))
                .map_err(DiskError::new("start a thread for", Path::new("large files")))?;
            inboxes.push(inbox);
        }
        Ok(Self { threads: Arc::new(Threads { inboxes, next_number: AtomicU64::new(last + 1) }) })
    }

    /// No number up to this is given again. What a record names may be gone: until the record is forgotten, a cleaning
    /// removes whatever has the number then.
    pub fn begin_above(&self, number: u64) {
        self.threads.next_number.fetch_max(number + 1, Ordering::Relaxed);
    }

    /// Begins a file of the log with this directory and key.
    pub fn create(&self, dir: &LogDir, log_key: SegmentKey) -> LargeFile {
        let number = self.threads.next_number.fetch_add(1, Ordering::Relaxed);
        let inbox = self.inbox(number).clone();
        let (events, buffered_bytes) = (Inbox::new(), Arc::new(AtomicUsize::new(0)));
        let page = Box::new(Page {
            dir: dir.clone(),
            name: LargeName { log_key, number },
            file: None,
            checksums: LargeChecksums::default(),
            events: events.clone(),
            buffered_bytes: Arc::clone(&buffered_bytes),
            is_broken: false,
        });
        inbox.post(Job::Create { number, page });
        LargeFile { number, inbox, events, buffered_bytes, is_kept: false }
    }

    /// Removes a file that was kept, in a while: the record that was to name it was never written.
    pub fn remove(&self, dir: &LogDir, number: u64) {
        self.inbox(number).post(Job::Remove { dir: dir.clone(), number });
    }

    fn inbox(&self, number: u64) -> &Inbox<Job> {
        &self.threads.inboxes[number as usize % self.threads.inboxes.len()]
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(Inbox::close);
    }
}

impl LargeFile {
    /// Queues bytes behind those before them. One event each.
    pub fn append(&mut self, bytes: Slice) {
        self.buffered_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        self.inbox.post(Job::Append { number: self.number, bytes });
    }

    /// Nothing more comes: sync the data and the name. The last event is `Finished`.
    pub fn finish(&mut self) {
        self.inbox.post(Job::Finish { number: self.number });
    }

    /// A record that names it is appended now.
    pub fn keep(mut self) {
        self.is_kept = true;
        self.inbox.post(Job::Keep { number: self.number });
    }

    pub fn events(&self) -> &Inbox<LargeEvent> {
        &self.events
    }

    /// Bytes that were appended and are not yet written: stop reading from the peer while they are many.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for LargeFile {
    fn drop(&mut self) {
        if !self.is_kept {
            self.inbox.post(Job::GiveUp { number: self.number });
        }
    }
}

/// Removes a file that no record names any more. What has it mapped keeps it.
pub fn remove_large_file(dir: &LogDir, number: u64) -> Result<(), DiskError> {
    let path = dir.large(number);
    file::remove(&path).map_err(DiskError::new("remove", &path))
}

/// Removes the files of a log that its records do not name. For a start, before new ones are made.
pub fn remove_orphans(dir: &LogDir, named: &HashSet<u64>) -> Result<usize, DiskError> {
    let orphans = dir.large_files()?.into_iter().filter(|number| !named.contains(number));
    orphans
        .map(|number| remove_large_file(dir, number))
        .try_fold(0, |count, removed| removed.map(|()| count + 1))
}

/// The files of a thread that no record names.
#[derive(Default)]
struct Pages(HashMap<u64, Box<Page>>);

impl Pages {
    fn handle(&mut self, job: Job) {
        let Self(pages) = self;
        match job {
            Job::Create { number, page } => {
                pages.insert(number, page);
            }
            Job::Append { number, bytes } => {
                if let Some(page) = pages.get_mut(&number) {
                    page.append(&bytes);
                }
            }
            Job::Finish { number } => {
                if let Some(page) = pages.get_mut(&number) {
                    page.finish();
                }
            }
            Job::Keep { number } => drop(pages.remove(&number)),
            Job::GiveUp { number } => {
                if let Some(mut page) = pages.remove(&number) {
                    page.remove();
                }
            }
            Job::Remove { dir, number } => {
                if let Err(error) = remove_large_file(&dir, number) {
                    tracing::warn!(%error, "what is left of a message that was refused stays until the next start");
                }
            }
        }
    }
}

impl Page {
    fn append(&mut self, bytes: &[u8]) {
        let offset = self.checksums.length();
        self.checksums.update(bytes);
        let result = self.write(bytes, offset);
        self.is_broken |= result.is_err();
        self.buffered_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        self.events.post(LargeEvent::Written(result));
    }

    fn finish(&mut self) {
        let finished = self.seal();
        if finished.is_err() {
            self.remove();
        }
        self.events.post(LargeEvent::Finished(finished));
    }

    fn seal(&mut self) -> Result<Finished, DiskError> {
        let (length, crc) = (self.checksums.length(), self.checksums.crc());
        let footer = std::mem::take(&mut self.checksums).finish(self.name);
        self.write(&footer, length)?;
        let path = self.dir.large(self.name.number);
        if let Some(file) = &self.file {
            file.sync_all().map_err(DiskError::new("sync", &path))?;
        }
        sync_parent(&path)?;
        Ok(Finished { number: self.name.number, length, crc })
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let path = self.dir.large(self.name.number);
        if self.is_broken {
            return Err(DiskError::invalid("write", &path, "an earlier write failed"));
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => create_file(&path)?,
        };
        let written = file.write_all_at(bytes, offset).map_err(DiskError::new("write", &path));
        self.file = Some(file);
        written
    }

    /// Best effort: what stays behind is removed as an orphan at the next start.
    fn remove(&mut self) {
        if self.file.take().is_some() {
            let _ = remove_large_file(&self.dir, self.name.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use futures_lite::future::block_on;

    use super::{Finished, LargeEvent, LargeFile, LargeFiles, remove_orphans};
    use crate::bytes::Slice;
    use crate::io::disk::layout::{DataDir, LogDir};
    use crate::store::LogId;
    use crate::store::large::{LargeName, message};
    use crate::store::segment::SegmentKey;

    const KEY: SegmentKey = SegmentKey(8);

    #[test]
    fn a_finished_file_holds_the_message_and_one_given_up_is_gone() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        let files = LargeFiles::start(&data).expect("started");
        let given_up = {
            let mut file = files.create(&dir, KEY);
            file.append(Slice::from(&b"never mind"[..]));
            block_on(file.events().next());
            file.events().clone()
        };
        let mut file = files.create(&dir, KEY);
        for _ in 0..100 {
            file.append(Slice::from(vec![b'x'; 1000]));
        }
        let finished = finish(&mut file);
        file.keep();
        assert_eq!((finished.length, finished.crc), (100_000, crc32fast::hash(&[b'x'; 100_000])));
        let bytes = std::fs::read(dir.large(finished.number)).expect("read");
        let name = LargeName { log_key: KEY, number: finished.number };
        assert_eq!(message(&bytes, name).map(<[u8]>::len), Some(100_000));
        assert!(given_up.try_next().is_none());
        wait_for(&dir, &[finished.number]);
        assert_eq!(remove_orphans(&dir, &HashSet::new()).expect("removed"), 1);
        files.begin_above(40);
        files.begin_above(7);
        assert_eq!(files.create(&dir, KEY).number, 41);
    }

    #[test]
    fn a_finished_file_that_no_record_names_is_removed() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        let files = LargeFiles::start(&data).expect("started");
        let [mut refused, mut lost] = [(), ()].map(|()| files.create(&dir, KEY));
        refused.append(Slice::from(&b"nobody's"[..]));
        lost.append(Slice::from(&b"its record was not written"[..]));
        let numbers = [&mut refused, &mut lost].map(|file| finish(file).number);
        assert_eq!(dir.large_files().expect("listed"), numbers);
        drop(refused);
        lost.keep();
        wait_for(&dir, &numbers[1..]);
        files.remove(&dir, numbers[1]);
        wait_for(&dir, &[]);
    }

    fn finish(file: &mut LargeFile) -> Finished {
        file.finish();
        loop {
            match block_on(file.events().next()) {
                LargeEvent::Written(result) => result.expect("written"),
                LargeEvent::Finished(result) => break result.expect("finished"),
            }
        }
    }

    /// Files go in a while.
    fn wait_for(dir: &LogDir, numbers: &[u64]) {
        for _ in 0..1000 {
            if dir.large_files().expect("listed") == numbers {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(dir.large_files().expect("listed"), numbers);
    }
}
