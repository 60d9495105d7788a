//! Opening a log: its files become a scan, the scan becomes a log that goes on.
//!
//! Before anything is believed the end of the log is synced and dropped from the page cache: after a failed sync
//! and a kill, the cache holds bytes that the disk does not. Doing all of this again, after a crash in the middle
//! of it, gives the same.
//!
//! A page that the disk does not give looks like zeroes, and zeroes are where a log ends. So what cannot be read is
//! asked for again, and a log whose very end cannot be read is not opened: it would be written over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::closed::take_note;
use super::file::{self, File};
use super::index_file::IndexFile;
use super::layout::{DataDir, LogDir};
use super::mapping::{map_held, read_ahead};
use super::sigbus::lost_pages;
use super::writer::Writer;
use super::{DiskError, random_key};
use crate::bytes::Slice;
use crate::store::checkpoint::{IndexOwner, ended_at};
use crate::store::log::{Log, Position, Ready, Sizes};
use crate::store::record::{Part, Record};
use crate::store::recover::{Damage, End, Found, Recovered, Scan, SegmentFile, Torn, Unreadable};
use crate::store::segment::{Base, HEADING_BYTES, Heading, SegmentHeader};
use crate::store::{LogId, Sequence};

/// A log that was read back and is ready to go on.
pub struct Opened {
    pub log: Log,
    pub writer: Writer,
    /// With the checkpoint, if there is a good one.
    pub index: IndexFile,
    /// What was promised and is gone: for the operator.
    pub damage: Vec<Damage>,
    /// What a crash left behind the end; nobody was promised it.
    pub torn: Vec<Torn>,
}

/// What a whole log was found to hold.
#[derive(Debug)]
pub struct Verified {
    pub records: u64,
    pub damage: Vec<Damage>,
    pub end: End,
}

/// What the state begins with that records are applied to.
pub enum Begin<'a> {
    /// The checkpoint of the index.
    Checkpoint(&'a IndexFile),
    /// The parts of the snapshot that the log's newest header names, in order and all of them.
    Base(Vec<Part>),
    /// Nothing was before the first record that is there.
    Nothing,
}

/// Where a state is to be had that records are applied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    /// In the checkpoint of the index.
    Checkpoint(Option<Position>),
    Base(Base),
    Beginning,
}

/// What cannot be read may be so for a moment: a path to a disk that fails over, a controller that begins anew.
const REREADS_MAX: u32 = 3;
const BEFORE_REREAD: Duration = Duration::from_secs(1);

/// So much is read together with where a last batch begins.
const LAST_BATCH_BYTES: u64 = 128 << 10;

/// A log as it was read. Nothing was changed yet.
struct ReadBack<S> {
    owner: IndexOwner,
    index: Option<IndexFile>,
    start: Start,
    recovered: RecoveredAll<S>,
    /// The disk did not give the index: there may be one.
    lacks_index: bool,
}

/// Recovers a log, or makes a new one.
///
/// `begin` makes the state that records are applied to: from the checkpoint, if there is one that it can use (`None`
/// sends it on), else from the log's base, else from nothing. Then `replay` gets every record after that, in order.
pub fn open_log<S>(
    data: &DataDir,
    id: LogId,
    mut begin: impl FnMut(Begin<'_>) -> Option<S>,
    mut replay: impl FnMut(&mut S, Recovered),
) -> Result<(Opened, S), DiskError> {
    let dir = data.log(id)?;
    let closing_note = take_note(&dir)?;
    let mut rereads = 0;
    let (back, has_gaps) = loop {
        let lost_before = lost_pages();
        let back = match tidy(&dir) {
            Ok(segments) => read_back(&segments, closing_note.as_deref(), &mut begin, &mut replay),
            Err(Untidy::Unread(error)) => Err(error),
            Err(Untidy::NotSynced(error)) => return Err(error),
        };
        // Another log may be at fault, which costs a look.
        let has_gaps = lost_pages() > lost_before
            || match &back {
                Ok(back) => back.lacks_index,
                Err(error) => error.source.raw_os_error().is_some(),
            };
        if !has_gaps || rereads == REREADS_MAX {
            break (back?, has_gaps);
        }
        tracing::warn!(log = id.0, "parts of the log cannot be read; they are read again");
        thread::sleep(BEFORE_REREAD);
        rereads += 1;
    };
    let ReadBack { owner, index, start, recovered, .. } = back;
    let RecoveredAll { state, mut damage, mut end } = recovered;
    if has_gaps {
        check_end(&dir, &end)?;
    }
    // Whatever the state begins with: what a checkpoint had was durable.
    let promised = index.as_ref().and_then(|index| index.directory()).map(|directory| directory.reaches());
    damage.extend(end.promise(promised.unwrap_or_default()));
    tell_strange(&dir, &end);
    let log = resume(&dir, &end, owner, data.sizes())?;
    let index = match index {
        Some(index) if matches!(start, Start::Checkpoint(_)) => index,
        _ => IndexFile::create(dir.clone(), owner)?,
    };
    let writer = Writer::start(dir)?;
    Ok((Opened { log, writer, index, damage, torn: end.torn }, state))
}

fn read_back<S>(
    segments: &Segments<'_>,
    closing_note: Option<&[u8]>,
    begin: &mut impl FnMut(Begin<'_>) -> Option<S>,
    replay: &mut impl FnMut(&mut S, Recovered),
) -> Result<ReadBack<S>, DiskError> {
    let dir = segments.dir;
    let newest = segments.newest_header()?;
    let log_key = newest.map(|header| header.log_key);
    let owner = IndexOwner { log: dir.id, key: log_key.unwrap_or_else(random_key) };
    let end = closing_note.and_then(|note| ended_at(note, owner));
    let found = IndexFile::open(dir.clone(), owner)
        .inspect_err(|error| tracing::warn!(log = dir.id.0, %error, "the index cannot be read"));
    let lacks_index = found.is_err();
    let index = found.unwrap_or_default();
    for start in starts(segments, index.as_ref(), newest.and_then(|header| header.base))? {
        let Some(scan) = scan_behind(segments, start, end)? else {
            continue;
        };
        let state = match start {
            Start::Checkpoint(_) => index.as_ref().and_then(|index| begin(Begin::Checkpoint(index))),
            Start::Base(base) => parts(segments, base)?.and_then(|parts| begin(Begin::Base(parts))),
            Start::Beginning => begin(Begin::Nothing),
        };
        let Some(state) = state else {
            tell_passed_over(dir, start);
            continue;
        };
        let recovered = recover(scan, dir, state, replay)?;
        return Ok(ReadBack { owner, index, start, recovered, lacks_index });
    }
    Err(without_beginning(dir))
}

/// The state of a log as it was after a record, and what is damaged before: as [`open_log`] reads it back without an
/// index, but the log may go on meanwhile. `None` if there is nothing to begin with.
pub fn look_back<S>(
    dir: &LogDir,
    through: Sequence,
    begin: impl FnOnce(Begin<'_>) -> Option<S>,
    mut replay: impl FnMut(&mut S, Recovered),
) -> Result<Option<(S, Vec<Damage>)>, DiskError> {
    let segments = Segments::of(dir)?;
    let base = segments.newest_header()?.and_then(|header| header.base);
    let Some(&start) = starts(&segments, None, base)?.first() else {
        return Ok(None);
    };
    let begins_with = match start {
        Start::Base(base) => parts(&segments, base)?.map(Begin::Base),
        _ => Some(Begin::Nothing),
    };
    let (Some(scan), Some(mut state)) = (scan_behind(&segments, start, None)?, begins_with.and_then(begin))
    else {
        return Ok(None);
    };
    let mut damage = Vec::new();
    for found in scan {
        match found.map_err(|unreadable| unreadable_at(dir, unreadable))? {
            Found::Record(recovered) if recovered.sequence > through => break,
            Found::Record(recovered) => replay(&mut state, recovered),
            Found::Damage(found) => damage.push(found),
        }
    }
    Ok(Some((state, damage)))
}

/// Nothing says that these hold mail, and nothing that they do not: they are left as they are.
fn tell_strange(dir: &LogDir, end: &End) {
    for segment in &end.strange {
        let log = dir.id.0;
        tracing::error!(
            log,
            segment,
            "the header of a segment is lost, and with it whatever stands there; it is left alone"
        );
    }
}

/// What was taken for nothing must be readable, or it may be something.
fn check_end(dir: &LogDir, end: &End) -> Result<(), DiskError> {
    let behind = end.tail.map(|tail| (tail.number, tail.offset..tail.bytes));
    let unused = end.blank.iter().chain(&end.strange).map(|&number| (number, 0..HEADING_BYTES as u64));
    for (number, range) in behind.into_iter().chain(unused) {
        let path = dir.segment(number);
        read_through(&path, range).map_err(DiskError::new("read", &path)).inspect_err(|_| {
            tracing::error!(
                log = dir.id.0,
                segment = number,
                "the end of the log cannot be read, and may be mail that was acknowledged: the log is not opened, \
                 and nothing in it was changed"
            );
        })?;
    }
    Ok(())
}

fn read_through(path: &Path, range: Range<u64>) -> io::Result<()> {
    let file = fs::File::open(path)?;
    let mut bytes = vec![0; 1 << 16];
    let mut offset = range.start;
    while offset < range.end {
        match file.read_at(&mut bytes, offset)? {
            0 => break,
            count => offset += count as u64,
        }
    }
    Ok(())
}

/// What can be started from, the best first. As long as nothing else is wrong, one of them is whole: a cleaning frees
/// no segment before both a base and a checkpoint stand for it.
fn starts(
    segments: &Segments<'_>,
    index: Option<&IndexFile>,
    base: Option<Base>,
) -> Result<Vec<Start>, DiskError> {
    let directory = index.and_then(|index| index.directory());
    let checkpoint = directory.map(|directory| Start::Checkpoint(directory.position));
    let position = directory.and_then(|directory| directory.position);
    let Some(base) = base else {
        let beginning = (!segments.lacks_beginning()?).then_some(Start::Beginning);
        return Ok(checkpoint.into_iter().chain(beginning).collect());
    };
    // What is before the base may have been freed in places, and a checkpoint from there is of use only if it was not.
    let is_behind = position.is_some_and(|position| position.through >= base.position.through);
    let is_kept = |number: u32| segments.numbers.binary_search(&number).is_ok();
    let is_whole = position.is_some_and(|position| (position.segment..=base.position.segment).all(is_kept));
    let base = Start::Base(base);
    Ok(match checkpoint {
        Some(checkpoint) if is_behind => vec![checkpoint, base],
        Some(checkpoint) if is_whole => vec![base, checkpoint],
        _ => vec![base],
    })
}

fn tell_passed_over(dir: &LogDir, start: Start) {
    let log = dir.id.0;
    match start {
        Start::Checkpoint(_) => {
            tracing::warn!(log, "the index is damaged; it is made again from the log, and no mail is lost");
        }
        Start::Base(_) => tracing::error!(
            log,
            "a part of the log that stands for freed segments is damaged; the index has the same. \
             Run `ringpost store repair` to write it anew"
        ),
        Start::Beginning => {}
    }
}

/// The parts of the log's base; `None` if one of them is gone: then the state cannot be known, and nothing is guessed.
fn parts(segments: &Segments<'_>, base: Base) -> Result<Option<Vec<Part>>, DiskError> {
    let Some(scan) = scan_behind(segments, Start::Base(base), None)? else {
        return Ok(None);
    };
    let mut parts = Vec::new();
    for found in scan {
        match found.map_err(|unreadable| unreadable_at(segments.dir, unreadable))? {
            Found::Record(recovered) if recovered.sequence > base.last => break,
            Found::Record(Recovered { record: Record::Part(part), .. })
                if part.snapshot == base.position.through =>
            {
                parts.push(part);
            }
            _ => {}
        }
    }
    Ok((parts.len() == base.parts as usize).then_some(parts))
}

fn without_beginning(dir: &LogDir) -> DiskError {
    let why = "the index is lost, and what stands in the log for its freed segments is damaged or missing";
    DiskError::invalid("read the log in", dir.segment(1).parent().unwrap_or(Path::new(".")), why)
}

/// A scan for all that can still be found in one segment, which is not used again meanwhile.
pub fn scan_segment(dir: &LogDir, number: u32) -> Result<Scan, DiskError> {
    let bytes = map_held(&dir.segment(number), dir.files.hold(number))?;
    Scan::of_remains(dir.id, SegmentFile { number, bytes }, valid_through(dir, number)?)
        .map_err(|unreadable| unreadable_at(dir, unreadable))
}

/// What the next segment that is used says of this one.
fn valid_through(dir: &LogDir, number: u32) -> Result<Option<Sequence>, DiskError> {
    for later in dir.segments()?.into_iter().filter(|&later| later > number) {
        let bytes = map_held(&dir.segment(later), dir.files.hold(later))?;
        if let Heading::Good(header) = heading_of(&bytes, later) {
            return Ok(Some(header.valid_through));
        }
    }
    Ok(None)
}

/// A scan from where a start wants it to where the log ends, if that is known; `None` if the first is not in the log.
fn scan_behind(
    segments: &Segments<'_>,
    start: Start,
    end: Option<Position>,
) -> Result<Option<Scan>, DiskError> {
    let dir = segments.dir;
    let position = match start {
        Start::Checkpoint(position) => position,
        Start::Base(base) => Some(base.position),
        Start::Beginning => None,
    };
    let scan = match (scan_from(segments, position, end), position) {
        (Err(Failure::Unreadable(Unreadable::NoSuchPosition)), Some(position)) => {
            let scan = Scan::behind(dir.id, segments.from(0)?, position).map_err(Failure::Unreadable);
            scan.inspect(|_| {
                let (log, segment, offset) = (dir.id.0, position.segment, position.offset);
                tracing::error!(
                    log,
                    segment,
                    offset,
                    "the place where the log is read from is damaged; what stands there is known from elsewhere. \
                     Run `ringpost store verify`"
                );
            })
        }
        (scan, _) => scan,
    };
    match scan {
        Ok(mut scan) => {
            end.into_iter().for_each(|end| scan.expect_end(end));
            Ok(Some(scan))
        }
        Err(Failure::Unreadable(Unreadable::NoSuchPosition)) => Ok(None),
        Err(failure) => Err(failure.at(dir)),
    }
}

/// What a scan to the end gave.
struct RecoveredAll<S> {
    state: S,
    damage: Vec<Damage>,
    end: End,
}

fn recover<S>(
    mut scan: Scan,
    dir: &LogDir,
    mut state: S,
    replay: &mut impl FnMut(&mut S, Recovered),
) -> Result<RecoveredAll<S>, DiskError> {
    let damage = read(&mut scan, dir, |record| replay(&mut state, record))?;
    Ok(RecoveredAll { state, damage, end: scan.end() })
}

/// Reads all of a log and checks every byte of it. Changes nothing, and no segment is used again meanwhile.
pub fn verify_log(data: &DataDir, id: LogId) -> Result<Verified, DiskError> {
    let dir = data.log_dir(id);
    let mut segments = Vec::new();
    for number in dir.segments()? {
        match map_held(&dir.segment(number), dir.files.hold(number)) {
            Ok(bytes) => segments.push(SegmentFile { number, bytes }),
            // It was freed since its name was read.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut scan = Scan::new(id, segments, None).map_err(|unreadable| unreadable_at(&dir, unreadable))?;
    let mut records = 0;
    let damage = read(&mut scan, &dir, |_| records += 1)?;
    Ok(Verified { records, damage, end: scan.end() })
}

/// The tail, and one that was poisoned before it.
const SUSPECTS: usize = 2;

/// Why the end of a log is not in the state of the disk.
enum Untidy {
    Unread(DiskError),
    /// Another sync would lie.
    NotSynced(DiskError),
}

impl From<DiskError> for Untidy {
    fn from(error: DiskError) -> Self {
        Self::Unread(error)
    }
}

/// Removes what a crash left half made; gives the segments, the last that are used, and all behind them, in the state
/// of the disk.
fn tidy(dir: &LogDir) -> Result<Segments<'_>, Untidy> {
    for path in dir.unfinished()? {
        file::remove(&path).map_err(DiskError::new("remove", &path))?;
    }
    let segments = Segments::of(dir)?;
    let mut used = 0;
    for &number in segments.numbers.iter().rev() {
        let path = dir.segment(number);
        let file = File::open(&path).map_err(DiskError::new("open", &path))?;
        file.sync_data().map_err(DiskError::new("sync", &path)).map_err(Untidy::NotSynced)?;
        file.reread().map_err(DiskError::new("read again", &path))?;
        // Only now it can be told whether it was used: any number of them may have been made ready.
        used += match segments.segment(number)?.1 {
            Heading::Blank | Heading::Former(_) => 0,
            _ => 1,
        };
        if used == SUSPECTS {
            break;
        }
    }
    Ok(segments)
}

/// The segments of a log that is read back. Each is mapped once, when it is first looked at: then it must be in the
/// state of the disk.
struct Segments<'a> {
    dir: &'a LogDir,
    /// Ascending.
    numbers: Vec<u32>,
    mapped: RefCell<BTreeMap<u32, (Slice, Heading)>>,
}

impl<'a> Segments<'a> {
    fn of(dir: &'a LogDir) -> Result<Self, DiskError> {
        Ok(Self { dir, numbers: dir.segments()?, mapped: RefCell::default() })
    }

    /// The header of the last segment that is used and has one.
    fn newest_header(&self) -> Result<Option<SegmentHeader>, DiskError> {
        for &number in self.numbers.iter().rev() {
            if let Heading::Good(header) = self.segment(number)?.1 {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Whether records were durable before the first segment that is there.
    fn lacks_beginning(&self) -> Result<bool, DiskError> {
        let Some(&first) = self.numbers.first().filter(|&&first| first > 1) else {
            return Ok(false);
        };
        match self.segment(first)?.1 {
            Heading::Good(header) => Ok(header.valid_through > Sequence(0)),
            _ => Ok(true),
        }
    }

    /// Those from a number on.
    fn from(&self, number: u32) -> Result<Vec<SegmentFile>, DiskError> {
        let file = |&number: &u32| Ok(SegmentFile { number, bytes: self.segment(number)?.0 });
        self.numbers.iter().filter(|&&at| at >= number).map(file).collect()
    }

    fn segment(&self, number: u32) -> Result<(Slice, Heading), DiskError> {
        if let Some(known) = self.mapped.borrow().get(&number) {
            return Ok(known.clone());
        }
        let bytes = map_held(&self.dir.segment(number), self.dir.files.hold(number))?;
        let heading = heading_of(&bytes, number);
        self.mapped.borrow_mut().insert(number, (bytes.clone(), heading));
        Ok((bytes, heading))
    }
}

/// What a mapped segment says of itself, of which nothing else is read.
pub(super) fn heading_of(bytes: &[u8], number: u32) -> Heading {
    read_ahead(&bytes[..bytes.len().min(HEADING_BYTES)]);
    Heading::read(bytes, number)
}

enum Failure {
    Disk(DiskError),
    Unreadable(Unreadable),
}

impl Failure {
    fn at(self, dir: &LogDir) -> DiskError {
        match self {
            Self::Disk(error) => error,
            Self::Unreadable(unreadable) => unreadable_at(dir, unreadable),
        }
    }
}

/// Why a log cannot be read, with where it is.
pub fn unreadable_at(dir: &LogDir, unreadable: Unreadable) -> DiskError {
    let first = dir.segment(1);
    DiskError::invalid("read the log in", first.parent().unwrap_or(Path::new(".")), unreadable)
}

fn scan_from(
    segments: &Segments<'_>,
    start: Option<Position>,
    end: Option<Position>,
) -> Result<Scan, Failure> {
    let from = start.map_or(0, |position| position.segment);
    let files = segments.from(from).map_err(Failure::Disk)?;
    if let (Some(position), Some(first)) = (start, files.first()) {
        // All of it is looked at: for what was written last, then for anything later unless nothing is. In the
        // meantime there is the state to be read.
        let end = end.filter(|end| end.segment == position.segment);
        let end = end.map_or(first.bytes.len() as u64, |end| end.offset.saturating_add(LAST_BATCH_BYTES));
        let range = usize::try_from(position.offset).ok().zip(usize::try_from(end).ok());
        let range = range.and_then(|(from, to)| first.bytes.get(from..to.min(first.bytes.len())));
        read_ahead(range.unwrap_or_default());
    }
    Scan::new(segments.dir.id, files, start).map_err(Failure::Unreadable)
}

fn read(scan: &mut Scan, dir: &LogDir, mut replay: impl FnMut(Recovered)) -> Result<Vec<Damage>, DiskError> {
    let mut damage = Vec::new();
    for found in scan {
        match found.map_err(|unreadable| unreadable_at(dir, unreadable))? {
            Found::Record(record) => replay(record),
            Found::Damage(found) => damage.push(found),
        }
    }
    Ok(damage)
}

/// The log goes on, in a segment that was already made ready if there is one.
fn resume(dir: &LogDir, end: &End, owner: IndexOwner, sizes: Sizes) -> Result<Log, DiskError> {
    let mut log = Log::resume(end, owner.key, sizes);
    let tail = end.tail.map_or(0, |tail| tail.number);
    let sizes = dir.segment_sizes()?.into_iter();
    let (blank, used): (Vec<_>, Vec<_>) = sizes.partition(|(number, _)| end.blank.contains(number));
    log.set_used(used.into_iter().map(|(_, bytes)| bytes));
    for (number, bytes) in blank {
        let path = dir.segment(number);
        if number > tail {
            log.give_segment(Ready { number, bytes, key: random_key() });
        } else {
            file::remove(&path).map_err(DiskError::new("remove", &path))?;
        }
    }
    for number in dir.old_segments()? {
        let path = dir.old_segment(number);
        let bytes = path.metadata().map_err(DiskError::new("look at", &path))?.len();
        dir.files.add_spare(number, bytes, None);
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions, create_dir, read, remove_dir, rename, write};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use futures_lite::future::block_on;

    use super::{Opened, open_log, tidy, verify_log};
    use crate::bytes::Slice;
    use crate::io::disk::closed::note_end;
    use crate::io::disk::layout::{DataDir, LogDir};
    use crate::io::disk::prepare::Preparer;
    use crate::io::disk::reader::{ReadError, Reader};
    use crate::io::disk::writer::LogEvent;
    use crate::mail::time::Timestamp;
    use crate::store::checkpoint::{Directory, IndexOwner};
    use crate::store::log::{Outcome, Refused};
    use crate::store::record::{Body, Message, Record, Settled};
    use crate::store::segment::{Heading, SegmentHeader, SegmentKey};
    use crate::store::{Locator, LogId, Place, RecordPlace, Sequence};

    const ID: LogId = LogId(4);

    fn open(path: &Path) -> (DataDir, Opened, Vec<Sequence>) {
        let data = DataDir::open(path).expect("the lock is free");
        let (opened, records) = open_log(
            &data,
            ID,
            |_| Some(Vec::new()),
            |records: &mut Vec<_>, recovered| {
                records.push(recovered.sequence);
            },
        )
        .expect("opened");
        (data, opened, records)
    }

    fn message(length: usize) -> Record {
        let bytes = (0..length).map(|n| (n * 31 % 251) as u8).collect::<Vec<u8>>();
        let body = Body::Inline { bytes: Slice::from(bytes), return_path_length: 0 };
        Record::Message(Message { received: Timestamp::default(), accepted: None, body })
    }

    /// What a shard does, one thing after the other.
    fn append(opened: &mut Opened, preparer: &Preparer, group: &mut [Record]) -> Vec<Locator> {
        let messages: Vec<_> = loop {
            match opened.log.append(group.iter_mut()) {
                Ok(appended) => break appended.messages.iter().map(|kept| kept.message).collect(),
                Err(Refused::NoSegment) => prepare(opened, preparer),
                Err(Refused::TooLarge) => panic!("it is not"),
            }
        };
        while let Some(write) = opened.log.poll_write() {
            opened.writer.submit(write);
            match block_on(opened.writer.events().next()) {
                LogEvent::Written { through, result } => {
                    result.expect("written");
                    opened.log.handle_written(through, Outcome::Synced).expect("it was synced");
                }
                LogEvent::Prepared { .. } => panic!("nothing was asked for"),
            }
        }
        messages
    }

    fn prepare(opened: &mut Opened, preparer: &Preparer) {
        let wanted = opened.log.wants_segment().expect("one is missing");
        preparer.prepare(wanted, &opened.writer);
        match block_on(opened.writer.events().next()) {
            LogEvent::Prepared { result } => opened.log.give_segment(result.expect("prepared")),
            LogEvent::Written { .. } => panic!("nothing was written"),
        }
    }

    #[test]
    fn what_was_written_is_read_and_recovered() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, records) = open(temporary.path());
        assert!(records.is_empty());
        let reader = Reader::new(&data);
        let mut locators = Vec::new();
        // More than the first segment takes.
        for length in [0, 1, 5000, 300_000].repeat(16) {
            let mut group =
                [message(length), Record::Settled(Settled { message: Sequence(1), recipient: 0 })];
            locators.extend(append(&mut opened, &preparer, &mut group));
        }
        for locator in &locators {
            let bytes = reader.message(locator).expect("read");
            assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == (n * 31 % 251) as u8));
            assert_eq!(bytes.len() as u64, locator.length);
        }
        let last = opened.log.synced();
        drop((opened, data));
        let (data, opened, records) = open(temporary.path());
        assert_eq!(records.len(), 2 * locators.len());
        assert_eq!((records.last(), opened.damage.len(), opened.torn.len()), (Some(&last), 0, 0));
        assert_eq!(verify_log(&data, ID).expect("readable").records, records.len() as u64);
    }

    /// A disk that lost the write of a header's page still has what was there when the file had another number.
    #[test]
    fn a_recycled_segment_with_a_page_of_its_former_life_is_not_taken_as_ready() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        let former = |dir: &LogDir| {
            let bytes = read(dir.segment(1)).expect("read");
            let mut header = SegmentHeader { number: 77, ..header_of(&bytes) };
            header.key = SegmentKey(5);
            header.to_pages()
        };
        append(&mut opened, &preparer, &mut [message(10)]);
        let dir = opened.writer.dir().clone();
        drop((opened, data));
        let whole = read(dir.segment(1)).expect("read");
        for (lost, found) in [(0..4096, 1), (4096..8192, 1), (0..8192, 0)] {
            let mut bytes = whole.clone();
            bytes[lost.clone()].copy_from_slice(&former(&dir)[lost]);
            write(dir.segment(1), &bytes).expect("written");
            let (data, mut opened, records) = open(temporary.path());
            assert_eq!(records.len(), found);
            // What a header would be needed for stays as it is.
            assert_eq!(opened.log.wants_segment().map(|wanted| wanted.number), Some(2));
            drop((opened, data));
            assert_eq!(read(dir.segment(1)).expect("read"), bytes);
            write(dir.segment(1), &whole).expect("put back");
        }
    }

    fn header_of(bytes: &[u8]) -> SegmentHeader {
        match Heading::read(bytes, 1) {
            Heading::Good(header) => header,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_checkpoint_bounds_the_replay_and_a_foreign_one_does_not() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        append(&mut opened, &preparer, &mut [message(10)]);
        let position = opened.log.position();
        let directory = Directory { position, ..Directory::default() };
        opened.index.commit(directory.clone()).expect("committed");
        append(&mut opened, &preparer, &mut [message(20)]);
        drop((opened, data));
        let (data, mut opened, records) = open(temporary.path());
        assert_eq!(records, [Sequence(3)]);
        // A position that is not in the log: everything is replayed.
        let beyond = position.map(|mut position| {
            position.offset += 4096 * 7;
            position
        });
        opened.index.commit(Directory { position: beyond, ..directory }).expect("committed");
        drop((opened, data));
        let (_, opened, records) = open(temporary.path());
        assert_eq!(records, [Sequence(2), Sequence(3)]);
        assert!(opened.index.directory().is_none());
    }

    /// A log of one message with an index that reaches to its end.
    fn with_index(path: &Path, preparer: &Preparer) -> (DataDir, Opened, Directory) {
        let (data, mut opened, _) = open(path);
        append(&mut opened, preparer, &mut [message(10)]);
        let directory = Directory { position: opened.log.position(), ..Directory::default() };
        opened.index.commit(directory.clone()).expect("committed");
        (data, opened, directory)
    }

    #[test]
    fn an_index_that_cannot_be_read_for_a_moment_is_asked_for_again() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, directory) = with_index(temporary.path(), &preparer);
        append(&mut opened, &preparer, &mut [message(20)]);
        drop((opened, data));
        let root = DataDir::open(temporary.path()).expect("the lock is free").log_dir(ID).index_root();
        let aside = root.with_extension("aside");
        // A folder is no file that could be read.
        rename(&root, &aside).expect("renamed");
        create_dir(&root).expect("made");
        let mending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            remove_dir(&root).expect("removed");
            rename(&aside, &root).expect("renamed");
        });
        let (_, opened, records) = open(temporary.path());
        mending.join().expect("it ends");
        assert_eq!(records, [Sequence(3)]);
        assert_eq!(opened.index.directory(), Some(&directory));
    }

    #[test]
    fn an_end_that_cannot_be_read_for_a_moment_is_asked_for_again() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, opened, _) = with_index(temporary.path(), &preparer);
        let segment = opened.writer.dir().segment(1);
        drop((opened, data));
        let aside = segment.with_extension("aside");
        // A folder is no file that could be read.
        rename(&segment, &aside).expect("renamed");
        create_dir(&segment).expect("made");
        let mending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            remove_dir(&segment).expect("removed");
            rename(&aside, &segment).expect("renamed");
        });
        let (_, opened, records) = open(temporary.path());
        mending.join().expect("it ends");
        assert_eq!((records.len(), opened.damage.len()), (0, 0));
    }

    #[test]
    fn a_log_that_is_not_opened_keeps_its_index() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, opened, directory) = with_index(temporary.path(), &preparer);
        let dir = opened.writer.dir().clone();
        drop((opened, data));
        let whole = read(dir.segment(1)).expect("read");
        let mut later = whole.clone();
        for page in [0, 4096] {
            later[page + 8..page + 10].copy_from_slice(&9_u16.to_le_bytes());
            let checksum = crc32fast::hash(&later[page + 4..page + 64]);
            later[page..page + 4].copy_from_slice(&checksum.to_le_bytes());
        }
        write(dir.segment(1), later).expect("written");
        let data = DataDir::open(temporary.path()).expect("the lock is free");
        assert!(open_log(&data, ID, |_| Some(()), |_: &mut (), _| ()).is_err());
        drop(data);
        write(dir.segment(1), whole).expect("put back");
        let (_, opened, records) = open(temporary.path());
        assert_eq!((records.len(), opened.index.directory()), (0, Some(&directory)));
    }

    #[test]
    fn a_damaged_message_is_not_given_out_and_the_others_are() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        let locators: Vec<Locator> =
            (0..3).flat_map(|_| append(&mut opened, &preparer, &mut [message(9000)])).collect();
        let Place::Segment { number, offset } = locators[1].place else {
            panic!("it is in a segment");
        };
        let file = OpenOptions::new().write(true).open(data.log_dir(ID).segment(number)).expect("opened");
        file.write_all_at(b"rot", u64::from(offset) + 500).expect("damaged");
        let reader = Reader::new(&data);
        assert!(reader.message(&locators[0]).is_ok() && reader.message(&locators[2]).is_ok());
        assert!(matches!(reader.message(&locators[1]), Err(ReadError::Damaged(_))));
        // How long it is can be told without it.
        let record = RecordPlace { segment: number, offset };
        assert!(reader.taken(locators[1].id, record).is_err());
        let extent = reader.extent_of_taken(locators[1].id, record);
        assert_eq!(extent.ok(), Some((locators[1].place, 9000)));
        assert!(reader.extent_of_taken(locators[2].id, record).is_err(), "it is another");
        // The place is right and the message another.
        let wrong = Locator { place: locators[0].place, ..locators[2] };
        assert!(matches!(reader.message(&wrong), Err(ReadError::Elsewhere(_))));
        let wrong = Locator { place: Place::Segment { number, offset: u32::MAX }, ..locators[2] };
        assert!(matches!(reader.message(&wrong), Err(ReadError::Elsewhere(_))));
        drop((opened, data));
        let (_, opened, records) = open(temporary.path());
        assert_eq!((opened.damage.len(), opened.damage[0].first), (1, locators[1].id.sequence));
        assert_eq!(records, [locators[0].id.sequence, locators[2].id.sequence]);
    }

    #[test]
    fn what_a_crash_leaves_of_segments_in_the_making_is_tidied() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        append(&mut opened, &preparer, &mut [message(10)]);
        prepare(&mut opened, &preparer);
        let dir = opened.writer.dir().clone();
        File::create(dir.segment(9).with_extension("tmp")).expect("created");
        drop((opened, data));
        let (data, mut opened, records) = open(temporary.path());
        assert_eq!(records.len(), 1);
        assert!(dir.unfinished().expect("listed").is_empty());
        assert_eq!(dir.segments().expect("listed"), [1, 2]);
        // The one that was ready is used; only the reserve is wanted.
        assert_eq!(opened.log.wants_segment().map(|wanted| wanted.number), Some(3));
        opened.log.handle_segment_failed();
        append(&mut opened, &preparer, &mut [message(10)]);
        drop((opened, data));
        assert_eq!(open(temporary.path()).2.len(), 2);
    }

    #[test]
    fn behind_the_noted_end_nothing_is_looked_for_and_the_note_counts_once() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        let kept = append(&mut opened, &preparer, &mut [message(10)]);
        let end = opened.log.position().expect("something was synced");
        append(&mut opened, &preparer, &mut [message(20)]);
        let behind = opened.log.position().expect("something was synced");
        let dir = opened.writer.dir().clone();
        drop((opened, data));
        // What stands there then is a batch that was cut off.
        let segment = File::options().write(true).open(dir.segment(behind.segment)).expect("it is there");
        segment.write_all_at(&[0; 64], behind.offset).expect("written");
        let goes_on_behind = || {
            let (data, opened, records) = open(temporary.path());
            assert_eq!((records.as_slice(), opened.damage.len()), (&[kept[0].id.sequence][..], 0));
            let next = opened.log.next_sequence();
            drop((opened, data));
            next.0 - kept[0].id.sequence.0
        };
        let Ok(segments) = tidy(&dir) else {
            panic!("it can be read");
        };
        let key = segments.newest_header().expect("readable").expect("there is one").log_key;
        note_end(&dir, IndexOwner { log: ID, key }, end).expect("noted");
        assert_eq!(goes_on_behind(), 2, "the number between is for the start");
        assert!(!dir.closed().exists());
        assert!(goes_on_behind() > 2, "numbers are left out for what may stand there");
        note_end(&dir, IndexOwner { log: ID, key }, behind).expect("noted");
        assert!(goes_on_behind() > 2, "the log ends elsewhere than the note says");
    }

    #[test]
    fn a_failed_write_loses_only_what_was_not_acknowledged() {
        let temporary = tempfile::tempdir().expect("a directory");
        let preparer = Preparer::start().expect("started");
        let (data, mut opened, _) = open(temporary.path());
        prepare(&mut opened, &preparer);
        std::fs::remove_file(opened.writer.dir().segment(1)).expect("removed");
        opened.log.append(&mut [message(10)]).expect("appended");
        opened.writer.submit(opened.log.poll_write().expect("there is something"));
        match block_on(opened.writer.events().next()) {
            LogEvent::Written { through, result } => {
                let error = result.expect_err("the file is gone");
                assert!(error.path.ends_with("0000000001.seg") && !error.is_full());
                opened.log.handle_written(through, Outcome::Failed).expect_err("it is lost");
            }
            LogEvent::Prepared { .. } => panic!("nothing was asked for"),
        }
        let locators = append(&mut opened, &preparer, &mut [message(20)]);
        drop((opened, data));
        let (_, opened, records) = open(temporary.path());
        assert_eq!(records, [locators[0].id.sequence]);
        assert!(opened.damage.is_empty());
    }
}
