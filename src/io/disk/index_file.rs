//! The index file of a log: blobs are appended, a root names the newest directory.
//!
//! Nothing here is needed to survive: what cannot be read is reported as not there, and made again from the log.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::closed::note_end;
use super::file::{self, File};
use super::layout::LogDir;
use super::mapping::{map_through, read_ahead};
use super::{DiskError, create_file, replace_file, sync_parent};
use crate::bytes::Slice;
use crate::store::checkpoint::{
    BLOB_HEADER_BYTES, BlobKind, BlobName, BlobRef, Directory, IndexOwner, Root, Summary, Unread,
    blob_sequence,
};
use crate::store::log::Position;

/// The index file of one log.
pub struct IndexFile {
    dir: LogDir,
    owner: IndexOwner,
    generation: u64,
    path: PathBuf,
    file: File,
    /// Where the next blob goes.
    end: u64,
    directory: Option<Directory>,
    /// A sync failed: the page cache may say what the disk does not.
    is_suspect: bool,
    /// Covers what was in the file when something beyond it was last asked for.
    mapping: RefCell<Slice>,
}

/// Address space is cheap and mappings are counted: one has room for what will be appended.
const MAPPED_BYTES_MIN: usize = 64 << 20;

/// What lies so near is read along: it costs less than another request to the disk.
const NEAR_BYTES: u64 = 128 << 10;

/// Garbage is not worth a rewrite before there is this much of it.
const GARBAGE_BYTES_MIN: u64 = 16 << 20;

impl IndexFile {
    /// The index that the root names; `None` if there is none, or anything about it is not right. Changes nothing: what
    /// the disk does not give now it may give later.
    pub fn open(dir: LogDir, owner: IndexOwner) -> Result<Option<Self>, DiskError> {
        let path = dir.index_root();
        let root = unless_missing(std::fs::read(&path)).map_err(DiskError::new("read", &path))?;
        let Some(root) = root.and_then(|bytes| Root::parse(&bytes, owner)) else {
            return Ok(None);
        };
        let path = dir.index(root.generation);
        let Some(file) = unless_missing(File::open(&path)).map_err(DiskError::new("open", &path))? else {
            return Ok(None);
        };
        let end = file.len().map_err(DiskError::new("look at", &path))?;
        let end = end.next_multiple_of(BLOB_HEADER_BYTES as u64);
        let mapping = RefCell::new(Slice::from(&b""[..]));
        let generation = root.generation;
        let mut index =
            Self { dir, owner, generation, path, file, end, directory: None, is_suspect: false, mapping };
        index.directory = index.read_directory(&root);
        index.directory.iter().for_each(|directory| index.read_ahead(directory));
        Ok(index.directory.is_some().then_some(index))
    }

    /// An empty index, beside whatever there is, which goes with the first commit.
    pub fn create(dir: LogDir, owner: IndexOwner) -> Result<Self, DiskError> {
        let generation = dir.indexes()?.last().map_or(1, |last| last + 1);
        let path = dir.index(generation);
        let file = create_file(&path)?;
        let mapping = RefCell::new(Slice::from(&b""[..]));
        Ok(Self { dir, owner, generation, path, file, end: 0, directory: None, is_suspect: false, mapping })
    }

    /// Appends a blob; it counts when a directory that names it is committed. A state has a summary.
    pub fn append(
        &mut self,
        name: BlobName,
        summary: Option<Summary>,
        payload: &[u8],
    ) -> Result<BlobRef, DiskError> {
        let blob = BlobRef { name, offset: self.end, length: payload.len() as u64, summary };
        let header = blob.header(self.owner, crc32fast::hash(payload));
        let error = || DiskError::new("write", &self.path);
        self.file.write_all_at(&header, blob.offset).map_err(error())?;
        self.file.write_all_at(payload, blob.offset + BLOB_HEADER_BYTES as u64).map_err(error())?;
        let end = blob.offset + blob.padded_length();
        // The padding is a hole, so that the next blob may be mapped together with this one.
        self.file.set_len(end).map_err(error())?;
        self.end = end;
        Ok(blob)
    }

    /// Syncs the blobs, appends the directory, replaces the root. A file that is mostly garbage, or whose last sync
    /// failed, is written anew first. What is given back is the directory with its blobs where they now are, in the
    /// same order. After an error the directory before this one is still the current one.
    pub fn commit(&mut self, mut directory: Directory) -> Result<&Directory, DiskError> {
        let garbage = self.end.saturating_sub(directory.live_bytes());
        if self.is_suspect || garbage > GARBAGE_BYTES_MIN.max(self.end / 2) {
            let mut new = self.rewritten(&mut directory)?;
            new.publish(&directory)?;
            *self = new;
        } else {
            self.is_suspect = true;
            self.publish(&directory)?;
            self.is_suspect = false;
        }
        // What is left of others costs space alone, until the next time; the new directory counts already.
        if let Err(error) = self.remove_others() {
            tracing::warn!(log = self.dir.id.0, %error, "an index that is not used any more stays for now");
        }
        Ok(self.directory.insert(directory))
    }

    fn publish(&mut self, directory: &Directory) -> Result<(), DiskError> {
        let sequence = directory.position.map(|position| position.through).unwrap_or_default();
        let name = BlobName::of_log(BlobKind::Directory, sequence);
        let blob = self.append(name, None, &directory.to_bytes())?;
        self.file.sync_all().map_err(DiskError::new("sync", &self.path))?;
        sync_parent(&self.path)?;
        let root = Root {
            generation: self.generation,
            directory_offset: blob.offset,
            directory_length: blob.length,
            live_bytes: directory.live_bytes(),
        };
        replace_file(&self.dir.index_root(), &root.to_bytes(self.owner))
    }

    /// Notes that the log ends with the batch at this position, and that nothing is written to it any more.
    pub fn note_end_of_log(&self, position: Position) -> Result<(), DiskError> {
        note_end(&self.dir, self.owner, position)
    }

    /// What is in the file is not what was written into it.
    pub fn unfit(&self, why: impl std::fmt::Debug) -> DiskError {
        DiskError::invalid("use", &self.path, format!("{why:?}"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Raised when the file is written anew: blobs are elsewhere then.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The newest directory, if there is one that is whole and of this log.
    pub fn directory(&self) -> Option<&Directory> {
        self.directory.as_ref()
    }

    /// The payload of a blob, mapped. Chunks are checked by `Chunk::open`, all others here.
    pub fn read(&self, blob: &BlobRef) -> Result<Slice, DiskError> {
        let lost =
            || DiskError::invalid("use", &self.path, format!("the blob at {} is not good", blob.offset));
        self.unread(blob)?.open().ok_or_else(lost)
    }

    /// A blob, mapped, at which nobody looks now.
    pub fn unread(&self, blob: &BlobRef) -> Result<Unread, DiskError> {
        let end = blob.offset.saturating_add(blob.length).saturating_add(BLOB_HEADER_BYTES as u64);
        let whole = self.mapped(end)?;
        let range = usize::try_from(blob.offset).ok().zip(usize::try_from(end).ok());
        let range = range.map(|(start, end)| start..end).filter(|range| range.end <= whole.len());
        let range = range.ok_or_else(|| DiskError::invalid("use", &self.path, "it is too short"))?;
        Ok(Unread::new(*blob, self.owner, whole.part(range)))
    }

    /// The next start finds no index.
    pub fn remove(dir: &LogDir) -> Result<(), DiskError> {
        let root = dir.index_root();
        file::remove(&root).map_err(DiskError::new("remove", &root))
    }

    /// The log's files.
    pub fn dir(&self) -> &LogDir {
        &self.dir
    }

    /// A mapping that reaches at least to `end`.
    fn mapped(&self, end: u64) -> Result<Slice, DiskError> {
        let too_short = || DiskError::invalid("use", &self.path, "it is too short");
        if end > self.end {
            return Err(too_short());
        }
        let mut mapping = self.mapping.borrow_mut();
        if (mapping.len() as u64) < end {
            let room = usize::try_from(2 * self.end).map_err(|_| too_short())?;
            *mapping = map_through(&self.path, room.max(MAPPED_BYTES_MIN))?;
        }
        Ok(mapping.clone())
    }

    fn read_directory(&self, root: &Root) -> Option<Directory> {
        let at = usize::try_from(root.directory_offset).ok()?;
        let whole = self.mapped(root.directory_offset.checked_add(BLOB_HEADER_BYTES as u64)?).ok()?;
        let length = usize::try_from(root.directory_length).ok()?;
        read_ahead(whole.get(at..at.checked_add(BLOB_HEADER_BYTES + length)?)?);
        let sequence = blob_sequence(whole.get(at..at + BLOB_HEADER_BYTES)?)?;
        let directory = Directory::parse(&self.read(&root.directory(sequence)).ok()?).ok()?;
        let is_inside =
            |blob: &BlobRef| blob.offset.checked_add(blob.length).is_some_and(|end| end <= self.end);
        directory.blobs.iter().all(is_inside).then_some(directory)
    }

    /// Has the disk read what a start looks at, all of it at once and in the order of the file.
    fn read_ahead(&self, directory: &Directory) {
        let Ok(whole) = self.mapped(self.end) else {
            return;
        };
        for Range { start, end } in looked_at(directory) {
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            read_ahead(range.and_then(|(start, end)| whole.get(start..end)).unwrap_or_default());
        }
    }

    /// A new generation of the file with copies of what is current.
    fn rewritten(&self, directory: &mut Directory) -> Result<Self, DiskError> {
        let mut new = Self::create(self.dir.clone(), self.owner)?;
        for blob in &mut directory.blobs {
            *blob = new.append(blob.name, blob.summary, &self.read(blob)?)?;
        }
        Ok(new)
    }

    /// Removes other generations, which no root names now. Whoever has one mapped keeps it.
    fn remove_others(&self) -> Result<(), DiskError> {
        for generation in self.dir.indexes()?.into_iter().filter(|&generation| generation != self.generation)
        {
            let path = self.dir.index(generation);
            remove(&path)?;
        }
        Ok(())
    }
}

/// Where a start looks: at everything but what is of mailboxes.
fn looked_at(directory: &Directory) -> Vec<Range<u64>> {
    let is_looked_at = |blob: &&BlobRef| !matches!(blob.name.kind, BlobKind::Chunk | BlobKind::State);
    let looked_at = directory.blobs.iter().filter(is_looked_at);
    let mut ranges: Vec<Range<u64>> =
        looked_at.map(|blob| blob.offset..blob.offset.saturating_add(blob.padded_length())).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let near = ranges.chunk_by(|range, next| next.start <= range.end.saturating_add(NEAR_BYTES));
    near.filter_map(|near| Some(near.first()?.start..near.last()?.end)).collect()
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn remove(path: &Path) -> Result<(), DiskError> {
    file::remove(path).map_err(DiskError::new("remove", path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::IndexFile;
    use crate::io::disk::layout::DataDir;
    use crate::store::checkpoint::{BlobKind, BlobName, Directory, IndexOwner, SUMMARY_BYTES, Summary};
    use crate::store::segment::SegmentKey;
    use crate::store::{AccountId, LogId, MailboxId, Sequence};

    const OWNER: IndexOwner = IndexOwner { log: LogId(0), key: SegmentKey(3) };

    fn name(number: u32) -> BlobName {
        let (account, mailbox) = (AccountId(number), MailboxId(number));
        let sequence = Sequence(u64::from(number));
        BlobName { kind: BlobKind::State, account, mailbox, uid_first: 0, uid_last: 0, sequence }
    }

    const SUMMARY: Option<Summary> = Some([3; SUMMARY_BYTES]);

    fn checkpoint(index: &mut IndexFile, number: u32) -> Directory {
        let blobs = vec![
            index.append(name(number), SUMMARY, b"some state").expect("appended"),
            index.append(name(number + 1), SUMMARY, &vec![number as u8; 5000]).expect("appended"),
        ];
        let directory = Directory { blobs, ..Directory::default() };
        index.commit(directory).expect("committed").clone()
    }

    #[test]
    fn the_newest_committed_directory_is_found_and_nothing_after_it() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        let mut index = IndexFile::create(dir.clone(), OWNER).expect("new");
        assert!(index.directory().is_none());
        checkpoint(&mut index, 1);
        let newest = checkpoint(&mut index, 5);
        index.append(name(9), None, b"nobody names this").expect("appended");
        let again = IndexFile::open(dir.clone(), OWNER).expect("opened").expect("it is there");
        assert_eq!(again.directory(), Some(&newest));
        assert_eq!(&*again.read(&newest.blobs[0]).expect("read"), b"some state");
        assert_eq!(again.read(&newest.blobs[1]).expect("read").len(), 5000);
        let other = IndexOwner { key: SegmentKey(4), ..OWNER };
        assert!(IndexFile::open(dir, other).expect("opened").is_none());
    }

    #[test]
    fn any_cut_of_index_or_root_is_either_harmless_or_no_checkpoint() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        let mut index = IndexFile::create(dir.clone(), OWNER).expect("new");
        let newest = checkpoint(&mut index, 1);
        let files = [dir.index_root(), dir.index(1)].map(|path| (fs::read(&path).expect("read"), path));
        for (whole, path) in &files {
            for length in (0..whole.len()).step_by(61) {
                fs::write(path, &whole[..length]).expect("cut");
                let cut = IndexFile::open(dir.clone(), OWNER).expect("opened");
                assert!(cut.is_none_or(|cut| cut.directory() == Some(&newest)), "{path:?} cut at {length}");
                for (whole, path) in &files {
                    fs::write(path, whole).expect("mended");
                }
            }
        }
        let again = IndexFile::open(dir, OWNER).expect("opened").expect("it is there");
        assert_eq!(again.directory(), Some(&newest));
    }

    #[test]
    fn a_file_that_is_mostly_garbage_is_written_anew() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LogId(0)).expect("made");
        let mut index = IndexFile::create(dir.clone(), OWNER).expect("new");
        let old = checkpoint(&mut index, 1);
        let held = index.read(&old.blobs[1]).expect("read");
        index.append(name(2), None, &vec![0; 20 << 20]).expect("garbage");
        let kept = Directory { blobs: old.blobs.clone(), ..Directory::default() };
        let new = index.commit(kept).expect("committed").clone();
        assert_eq!(dir.indexes().expect("listed"), [2]);
        assert!(dir.index(2).metadata().expect("it exists").len() < 1 << 20);
        assert_eq!(*index.read(&new.blobs[1]).expect("read"), *held);
        let again = IndexFile::open(dir, OWNER).expect("opened").expect("it is there");
        assert_eq!(again.directory(), Some(&new));
    }
}
