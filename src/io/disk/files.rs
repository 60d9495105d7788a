//! What all threads share about the files of a log: where moved messages are, who holds which segment, and the old
//! segments that wait to be used again.
//!
//! A reader takes a [`Hold`] on a segment before it opens the file, and has it for as long as anything of the mapping
//! lives. A segment that is freed gets another name first, so that nobody new can open it, and is used again when
//! nobody holds it any more: what was given out never changes under its reader, however slow. That costs space alone.
//!
//! Invariant: no lock is held while a file is read or written, other than for a rename.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use super::layout::LogDir;
use super::{DiskError, file, sync_parent};
use crate::store::places::Places;
use crate::store::{LogId, RecordPlace, Sequence};

/// The logs of a data directory.
#[derive(Debug, Default)]
pub struct Shared {
    logs: Mutex<HashMap<LogId, Arc<LogFiles>>>,
    gone_bytes: Arc<AtomicU64>,
}

/// One log.
#[derive(Debug, Default)]
pub struct LogFiles {
    places: RwLock<Places>,
    holds: Mutex<HashMap<u32, Weak<Hold>>>,
    spares: Mutex<Vec<Spare>>,
    /// Bytes of segments that were written with zeroes since the start.
    prepared_bytes: AtomicU64,
    /// Bytes of messages that mailboxes of any log gave up since the start.
    gone_bytes: Arc<AtomicU64>,
}

/// Somebody has a segment mapped.
#[derive(Debug, Default)]
pub struct Hold {
    is_freed: AtomicBool,
}

/// A segment that was freed. The hold is that of its readers, if it has any.
#[derive(Debug)]
struct Spare {
    number: u32,
    bytes: u64,
    hold: Arc<Hold>,
}

impl Shared {
    pub fn of_log(&self, id: LogId) -> Arc<LogFiles> {
        let gone_bytes = || Arc::clone(&self.gone_bytes);
        let new = || Arc::new(LogFiles { gone_bytes: gone_bytes(), ..LogFiles::default() });
        Arc::clone(lock(&self.logs).entry(id).or_insert_with(new))
    }
}

impl LogFiles {
    /// Where a message was written again.
    pub fn moved(&self, message: Sequence) -> Option<RecordPlace> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).moved(message)
    }

    /// Looks at where messages are. Not across an await.
    pub fn with_places<T>(&self, look: impl FnOnce(&Places) -> T) -> T {
        look(&self.places.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it. Only whoever drives the log does.
    pub fn change_places<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        change(&mut self.places.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn prepared_bytes(&self) -> u64 {
        self.prepared_bytes.load(Ordering::Relaxed)
    }

    pub fn add_prepared(&self, bytes: u64) {
        self.prepared_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of messages that were given up since the start, wherever they lie.
    pub fn gone_bytes(&self) -> u64 {
        self.gone_bytes.load(Ordering::Relaxed)
    }

    pub fn add_gone(&self, bytes: u64) {
        self.gone_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// To be taken before the file is opened, and kept as long as it is mapped.
    pub fn hold(&self, segment: u32) -> Arc<Hold> {
        let mut holds = lock(&self.holds);
        let known = holds.get(&segment).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let hold = Arc::new(Hold::default());
            holds.insert(segment, Arc::downgrade(&hold));
            hold
        })
    }

    /// Bytes of old segments that wait to be used again, and how many those are.
    pub fn spare(&self) -> (u64, usize) {
        let spares = lock(&self.spares);
        (spares.iter().map(|spare| spare.bytes).sum(), spares.len())
    }

    /// Puts a file under the name of an old segment aside. `None` for `hold`: after a start, when nobody has one.
    pub fn add_spare(&self, number: u32, bytes: u64, hold: Option<Arc<Hold>>) {
        lock(&self.spares).push(Spare { number, bytes, hold: hold.unwrap_or_default() });
    }

    /// Takes an old segment that nobody holds, of at least this size. The smallest that will do.
    pub fn take_spare(&self, bytes_min: u64) -> Option<(u32, u64)> {
        let mut spares = lock(&self.spares);
        let is_free = |spare: &Spare| spare.bytes >= bytes_min && Arc::strong_count(&spare.hold) == 1;
        let free = spares.iter().enumerate().filter(|(_, spare)| is_free(spare));
        let (at, _) = free.min_by_key(|(_, spare)| spare.bytes)?;
        let spare = spares.swap_remove(at);
        Some((spare.number, spare.bytes))
    }

    /// Takes old segments away until no more than so many bytes of them are left.
    fn take_beyond(&self, bytes_max: u64) -> Vec<Spare> {
        let mut spares = lock(&self.spares);
        let mut bytes: u64 = spares.iter().map(|spare| spare.bytes).sum();
        let mut taken = Vec::new();
        while bytes > bytes_max
            && let Some(spare) = spares.pop()
        {
            bytes -= spare.bytes;
            taken.push(spare);
        }
        taken
    }

    fn forget_hold(&self, segment: u32) -> Option<Arc<Hold>> {
        let mut holds = lock(&self.holds);
        holds.retain(|_, hold| hold.strong_count() > 0);
        holds.remove(&segment)?.upgrade()
    }
}

impl Hold {
    /// Nobody should look into the segment any more: let go of it.
    pub fn is_freed(&self) -> bool {
        self.is_freed.load(Ordering::Relaxed)
    }
}

/// Gives a segment up: nothing in it counts. It is used again, or removed if more than so many bytes of
/// such wait. Gives its length, and whether all that goes with it went well.
pub fn free_segment(
    dir: &LogDir,
    number: u32,
    keep_bytes: u64,
) -> Result<(u64, Result<(), DiskError>), DiskError> {
    let (path, old) = (dir.segment(number), dir.old_segment(number));
    let bytes = path.metadata().map_err(DiskError::new("look at", &path))?.len();
    file::rename(&path, &old).map_err(DiskError::new("rename", &path))?;
    let hold = dir.files.forget_hold(number);
    if let Some(hold) = &hold {
        hold.is_freed.store(true, Ordering::Relaxed);
    }
    dir.files.add_spare(number, bytes, hold);
    Ok((bytes, trim_spares(dir, keep_bytes).and(sync_parent(&path))))
}

/// Removes old segments beyond so many bytes. Who still has one mapped keeps it. What cannot be removed goes on
/// waiting.
pub fn trim_spares(dir: &LogDir, keep_bytes: u64) -> Result<(), DiskError> {
    let mut trimmed = Ok(());
    for spare in dir.files.take_beyond(keep_bytes) {
        let old = dir.old_segment(spare.number);
        if let Err(error) = file::remove(&old) {
            lock(&dir.files.spares).push(spare);
            trimmed = trimmed.and(Err(DiskError::new("remove", &old)(error)));
        }
    }
    trimmed
}

/// Nothing that is done under one of these locks leaves it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{free_segment, trim_spares};
    use crate::io::disk::layout::DataDir;
    use crate::store::LogId;

    #[test]
    fn a_freed_segment_waits_until_its_last_reader_is_gone() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        for number in [1, 2, 3] {
            fs::write(dir.segment(number), vec![0; 4096 * number as usize]).expect("written");
        }
        let reader = dir.files.hold(2);
        for number in [2, 3] {
            let (bytes, done) = free_segment(&dir, number, u64::MAX).expect("freed");
            assert_eq!(bytes, 4096 * u64::from(number));
            done.expect("all of it");
        }
        assert!(reader.is_freed());
        assert_eq!(dir.segments().expect("listed"), [1]);
        assert_eq!(dir.files.spare(), (5 * 4096, 2));
        assert_eq!(dir.files.take_spare(4096 * 4), None);
        assert_eq!(dir.files.take_spare(0), Some((3, 3 * 4096)));
        assert_eq!(dir.files.take_spare(0), None, "the other is held");
        drop(reader);
        assert_eq!(dir.files.take_spare(0), Some((2, 2 * 4096)));
        free_segment(&dir, 1, u64::MAX).expect("freed").1.expect("all of it");
        trim_spares(&dir, 0).expect("removed");
        assert!(!dir.old_segment(1).exists());
    }
}
