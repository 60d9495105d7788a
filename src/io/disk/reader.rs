//! Messages, read through read-only mappings.
//!
//! A locator is a hint: what lies at its place is believed only if the checksums are good and it is the record asked
//! for. What is not there may have been moved: the log's files know where to. A bounded number of files stays mapped,
//! the least recently used one goes first; a slice that was given out keeps its own mapping.
//!
//! A message that is looked for alone is read alone, however much the kernel would read around it. Where one is read
//! soon behind another, what lies behind is asked for ahead, without waiting for it.
//!
//! Invariant: no byte leaves whose block was not checked since its file was mapped, or since a page of it was lost.
//! Who sends a slice much later than it was given out asks [`has_lost_pages`] first.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::DiskError;
use super::files::{Hold, Shared};
use super::layout::{DataDir, LogDir, log_dir_in};
use super::mapping::{map, map_held, read_ahead, read_anywhere};
use super::open::heading_of;
use super::sigbus::has_lost_pages;
use crate::bytes::Slice;
use crate::limits;
use crate::store::frame::Frame;
use crate::store::large::{self, LargeName};
use crate::store::record::{Deferred, Message, Record};
use crate::store::segment::{Heading, SegmentKey};
use crate::store::{Kept, Locator, LogId, MessageId, Place, RecordPlace, Sequence, codec};

/// Reads messages of all logs; one per shard.
pub struct Reader {
    root: PathBuf,
    shared: Arc<Shared>,
    dirs: RefCell<HashMap<LogId, LogDir>>,
    files: RefCell<HashMap<(LogId, FileName), Mapped>>,
    clock: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum FileName {
    Segment(u32),
    Large(u64),
}

struct Mapped {
    bytes: Slice,
    /// The key of the segment, or of the log for a large file.
    key: SegmentKey,
    /// Offsets of the messages whose blocks were found good.
    checked: HashSet<u32>,
    used: u64,
    /// Of a segment.
    hold: Option<Arc<Hold>>,
    /// Of a segment: where the record ended that was looked at last, up to where the disk was asked to read, and how
    /// far it is asked to read ahead.
    end: usize,
    asked: usize,
    ahead_bytes: usize,
}

/// A record that begins so near behind the last one is read as one of a row: then the disk is asked for so much more,
/// and each time for twice as much as the last time.
const NEAR_BYTES: usize = 256 << 10;

/// The most that it is asked to read ahead.
const AHEAD_BYTES_MAX: usize = 4 << 20;

/// What a record has beside the bytes of its message, mostly; more of it is read when it is come upon.
const FRAME_BYTES: usize = 4096;

impl Mapped {
    fn new(bytes: Slice, key: SegmentKey, hold: Option<Arc<Hold>>) -> Self {
        Self { bytes, key, checked: HashSet::new(), used: 0, hold, end: usize::MAX, asked: 0, ahead_bytes: 0 }
    }

    /// Has the disk read a record of a segment that is about to be looked at, and what is likely to be next.
    fn expect(&mut self, start: usize, length: usize) {
        let is_near = start.abs_diff(self.end) <= NEAR_BYTES;
        if !is_near {
            (self.asked, self.ahead_bytes) = (start, 0);
        }
        self.go_on(start.saturating_add(length));
        if is_near && self.asked <= self.end.saturating_add(self.ahead_bytes / 2) {
            self.ahead_bytes = (2 * self.ahead_bytes).clamp(NEAR_BYTES, AHEAD_BYTES_MAX);
            self.ask(self.end.saturating_add(self.ahead_bytes));
        }
    }

    /// The record that is looked at ends there.
    fn go_on(&mut self, end: usize) {
        self.end = end;
        self.ask(end);
    }

    fn ask(&mut self, end: usize) {
        let end = end.min(self.bytes.len());
        read_ahead(self.bytes.get(self.asked..end).unwrap_or_default());
        self.asked = self.asked.max(end);
    }
}

#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be opened or mapped.
    Disk(DiskError),
    /// What lies there is not what was written.
    Damaged(Locator),
    /// A good record of something else lies there.
    Elsewhere(Locator),
}

impl Reader {
    pub fn new(data: &DataDir) -> Self {
        Self {
            root: data.path().to_owned(),
            shared: Arc::clone(data.shared()),
            dirs: RefCell::default(),
            files: RefCell::default(),
            clock: Cell::new(0),
        }
    }

    /// All bytes of a message, `Return-Path` in front, after their checksums were found good. The body of a large
    /// file is read whole the first time; everything else is cheap.
    pub fn message(&self, locator: &Locator) -> Result<Slice, ReadError> {
        self.message_at(locator).or_else(|error| match self.moved(locator.id, locator.place) {
            Some(record) => self.message_at(&locator.placed(record)),
            None => Err(error),
        })
    }

    fn message_at(&self, locator: &Locator) -> Result<Slice, ReadError> {
        let message = match locator.place {
            Place::Segment { number, offset } => self.inline(locator, number, offset),
            Place::File { number } => self.large(locator, number),
        };
        if let Err(ReadError::Damaged(_)) = message {
            // What is wrong may be in our mapping alone: a page that could not be read once. Look afresh next time.
            self.forget(locator.id.log, locator.place);
        }
        message
    }

    /// A message as it was taken, from its record: what was promised, and where its bytes are.
    pub fn taken(&self, id: MessageId, record: RecordPlace) -> Result<(Kept, Message), ReadError> {
        self.taken_at(id, record).or_else(|error| match self.moved(id, at(id, record).place) {
            Some(record) => self.taken_at(id, record),
            None => Err(error),
        })
    }

    fn taken_at(&self, id: MessageId, record: RecordPlace) -> Result<(Kept, Message), ReadError> {
        let (sequence, found) = self.record(id, record)?;
        let (sequence, message) = match found {
            Record::Message(message) => (sequence, message),
            Record::Moved(moved) => (moved.message, moved.content),
            _ => return Err(ReadError::Elsewhere(at(id, record))),
        };
        match sequence == id.sequence {
            true => Ok((Kept::new(id, &message.body, record), message)),
            false => Err(ReadError::Elsewhere(at(id, record))),
        }
    }

    /// Where the bytes of a message are that was taken, and how many, from its record. Of bytes that lie there nothing
    /// is read: how many they are is in the header, and whether they are good is for who wants them.
    pub fn extent_of_taken(&self, id: MessageId, record: RecordPlace) -> Result<(Place, u64), ReadError> {
        self.extent_at(id, record).or_else(|error| match self.moved(id, at(id, record).place) {
            Some(record) => self.extent_at(id, record),
            None => Err(error),
        })
    }

    fn extent_at(&self, id: MessageId, record: RecordPlace) -> Result<(Place, u64), ReadError> {
        let locator = at(id, record);
        let body_bytes = {
            let mut files = self.files.borrow_mut();
            let file = self.file(&mut files, (id.log, FileName::Segment(record.segment)), &locator)?;
            file.expect(record.offset as usize, FRAME_BYTES);
            let bytes = file.bytes.get(record.offset as usize..).ok_or(ReadError::Elsewhere(locator))?;
            let frame = Frame::parse(bytes, file.key).ok_or(ReadError::Damaged(locator))?;
            let fields = bytes.get(frame.fields()).ok_or(ReadError::Damaged(locator))?;
            if codec::message_of(frame.kind, frame.sequence, fields) != Some(id.sequence) {
                return Err(ReadError::Elsewhere(locator));
            }
            frame.body().len() as u64
        };
        match body_bytes {
            // It is in a file of its own, or has none.
            0 => self.taken_at(id, record).map(|(kept, _)| (kept.message.place, kept.message.length)),
            _ => Ok((locator.place, body_bytes)),
        }
    }

    /// Where a message was written again, if that is not where it was looked for.
    fn moved(&self, id: MessageId, place: Place) -> Option<RecordPlace> {
        let Place::Segment { number, offset } = place else {
            return None;
        };
        let moved = self.dir(id.log).files.moved(id.sequence)?;
        (moved != RecordPlace { segment: number, offset }).then_some(moved)
    }

    /// Why owed mail was put off, from the record that says so.
    pub fn deferral(&self, log: LogId, record: RecordPlace) -> Option<Deferred> {
        let any = MessageId { log, sequence: Sequence(0) };
        match self.record(any, record) {
            Ok((_, Record::Deferred(deferred))) => Some(deferred),
            Ok((_, Record::ReasonMoved(moved))) => Some(moved.deferred),
            _ => None,
        }
    }

    /// The record at a place, with its sequence. The identity is for errors.
    fn record(&self, id: MessageId, record: RecordPlace) -> Result<(Sequence, Record), ReadError> {
        let locator = at(id, record);
        let mut files = self.files.borrow_mut();
        let file = self.file(&mut files, (id.log, FileName::Segment(record.segment)), &locator)?;
        let start = record.offset as usize;
        file.expect(start, FRAME_BYTES);
        let whole = file.bytes.clone();
        let bytes = whole.get(start..).ok_or(ReadError::Elsewhere(locator))?;
        let frame = Frame::parse(bytes, file.key).ok_or(ReadError::Damaged(locator))?;
        file.go_on(start + frame.frame_length());
        if !file.checked.contains(&record.offset) || has_lost_pages(&file.bytes) {
            let is_good = bytes.get(frame.payload()).is_some_and(|payload| frame.payload_is_good(payload));
            if !is_good {
                return Err(ReadError::Damaged(locator));
            }
            file.checked.insert(record.offset);
        }
        let body = frame.body();
        let body = whole.part(start + body.start..start + body.end);
        let decoded = codec::decode(frame.kind, &bytes[frame.fields()], body);
        decoded.map(|found| (frame.sequence, found)).map_err(|_| ReadError::Damaged(locator))
    }

    /// Lets go of segments that were freed, so that they can be used again.
    pub fn forget_freed(&self) {
        let is_kept = |mapped: &Mapped| mapped.hold.as_ref().is_none_or(|hold| !hold.is_freed());
        self.files.borrow_mut().retain(|_, mapped| is_kept(mapped));
    }

    /// Forgets a mapping, before its file is removed or used again.
    pub fn forget(&self, log: LogId, place: Place) {
        self.files.borrow_mut().remove(&(log, FileName::of(place)));
    }

    fn inline(&self, locator: &Locator, number: u32, offset: u32) -> Result<Slice, ReadError> {
        let mut files = self.files.borrow_mut();
        let name = (locator.id.log, FileName::Segment(number));
        let file = self.file(&mut files, name, locator)?;
        let length = usize::try_from(locator.length).map_err(|_| ReadError::Elsewhere(*locator))?;
        file.expect(offset as usize, length.saturating_add(FRAME_BYTES));
        let bytes = file.bytes.get(offset as usize..).ok_or(ReadError::Elsewhere(*locator))?;
        let frame = Frame::parse(bytes, file.key).ok_or(ReadError::Damaged(*locator))?;
        let fields = bytes.get(frame.fields()).ok_or(ReadError::Damaged(*locator))?;
        let is_meant = codec::message_of(frame.kind, frame.sequence, fields) == Some(locator.id.sequence)
            && frame.body().len() as u64 == locator.length;
        if !is_meant {
            return Err(ReadError::Elsewhere(*locator));
        }
        if !file.checked.contains(&offset) || has_lost_pages(&file.bytes) {
            let is_good = bytes.get(frame.payload()).is_some_and(|payload| frame.payload_is_good(payload));
            if !is_good {
                return Err(ReadError::Damaged(*locator));
            }
            file.checked.insert(offset);
        }
        let body = frame.body();
        Ok(file.bytes.part(offset as usize + body.start..offset as usize + body.end))
    }

    fn large(&self, locator: &Locator, number: u64) -> Result<Slice, ReadError> {
        let mut files = self.files.borrow_mut();
        let name = (locator.id.log, FileName::Large(number));
        let file = self.file(&mut files, name, locator)?;
        let length = usize::try_from(locator.length).map_err(|_| ReadError::Elsewhere(*locator))?;
        if file.checked.is_empty() || has_lost_pages(&file.bytes) {
            let name = LargeName { log_key: file.key, number };
            let message = large::message(&file.bytes, name).ok_or(ReadError::Damaged(*locator))?;
            if message.len() != length {
                return Err(ReadError::Elsewhere(*locator));
            }
            file.checked.insert(0);
        }
        match length <= file.bytes.len() {
            true => Ok(file.bytes.part(0..length)),
            false => Err(ReadError::Elsewhere(*locator)),
        }
    }

    fn file<'a>(
        &self,
        files: &'a mut HashMap<(LogId, FileName), Mapped>,
        name: (LogId, FileName),
        locator: &Locator,
    ) -> Result<&'a mut Mapped, ReadError> {
        self.clock.set(self.clock.get() + 1);
        if !files.contains_key(&name) {
            let mapped = self.map(name, locator)?;
            if files.len() >= limits::store::MAPPINGS_MAX {
                let oldest = files.iter().min_by_key(|(_, mapped)| mapped.used).map(|(name, _)| *name);
                oldest.map(|name| files.remove(&name));
            }
            files.insert(name, mapped);
        }
        let mapped = files.get_mut(&name).ok_or(ReadError::Elsewhere(*locator))?;
        mapped.used = self.clock.get();
        Ok(mapped)
    }

    fn map(&self, (log, name): (LogId, FileName), locator: &Locator) -> Result<Mapped, ReadError> {
        let dir = self.dir(log);
        let (bytes, hold) = match name {
            FileName::Segment(number) => {
                let hold = dir.files.hold(number);
                (map_held(&dir.segment(number), Arc::clone(&hold)), Some(hold))
            }
            FileName::Large(number) => (map(&dir.large(number)), None),
        };
        let bytes = bytes.map_err(ReadError::Disk)?;
        let key = match name {
            FileName::Segment(number) => {
                read_anywhere(&bytes);
                match heading_of(&bytes, number) {
                    Heading::Good(header) if header.log == log => Some(header.key),
                    _ => None,
                }
            }
            FileName::Large(_) => large::log_key(&bytes),
        };
        let key = key.ok_or(ReadError::Damaged(*locator))?;
        Ok(Mapped::new(bytes, key, hold))
    }

    fn dir(&self, log: LogId) -> LogDir {
        let mut dirs = self.dirs.borrow_mut();
        dirs.entry(log).or_insert_with(|| log_dir_in(&self.root, &self.shared, log)).clone()
    }
}

/// A place as an error names it.
fn at(id: MessageId, record: RecordPlace) -> Locator {
    let place = Place::Segment { number: record.segment, offset: record.offset };
    Locator { id, place, length: 0, return_path_length: 0 }
}

impl FileName {
    fn of(place: Place) -> Self {
        match place {
            Place::Segment { number, .. } => Self::Segment(number),
            Place::File { number } => Self::Large(number),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Damaged(locator) => write!(f, "message {} is damaged", locator.id),
            Self::Elsewhere(locator) => write!(f, "message {} is not at {:?}", locator.id, locator.place),
        }
    }
}

impl std::error::Error for ReadError {}
