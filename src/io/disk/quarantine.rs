//! What was damaged, kept for whoever wants to look at it: nothing that a repair takes out of the mail is thrown away.
//!
//! ```text
//! DATA/quarantine/NAME         the bytes as they are on the disk; what cannot be read is zero
//! DATA/quarantine/NAME.txt     what they were, and whose
//! ```
//!
//! Invariants: what was kept is synced before its original may go; a thing that is kept twice has the same name.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::file;
use super::layout::{LogDir, create_directory};
use super::{DiskError, create_file, sync_parent};
use crate::mail::header::Header;
use crate::store::frame::Frame;
use crate::store::segment::{HEADING_BYTES, Heading, SegmentKey};
use crate::store::{Locator, Place, RecordPlace, codec};

const FOLDER: &str = "quarantine";

/// What a disk reads or does not.
const SECTOR_BYTES: usize = 512;

/// Copied at once.
const STEP_BYTES: usize = 1 << 20;

/// Beside a message that has no header any more its frame may have so much.
const FRAME_BYTES_MAX: u64 = 64 << 10;

/// The folder for what was damaged.
pub struct Quarantine {
    folder: PathBuf,
}

impl Quarantine {
    pub fn open(data: &Path) -> Result<Self, DiskError> {
        let folder = data.join(FOLDER);
        create_directory(&folder)?;
        Ok(Self { folder })
    }

    /// Keeps what is left of a message, and says where.
    pub fn keep_message(
        &self,
        name: &str,
        dir: &LogDir,
        message: &Locator,
        words: &str,
    ) -> Result<PathBuf, DiskError> {
        let left = remains(dir, message)?;
        self.write(name, words, |file| file.write_all_at(&left.bytes, 0))
    }

    /// Keeps a whole segment.
    pub fn keep_segment(&self, dir: &LogDir, number: u32, words: &str) -> Result<PathBuf, DiskError> {
        let path = dir.segment(number);
        let from = File::open(&path).map_err(DiskError::new("open", &path))?;
        let bytes = from.metadata().map_err(DiskError::new("look at", &path))?.len();
        self.write(&format!("log{:02}-{number:010}.seg", dir.id.0), words, |file| {
            let mut offset = 0;
            while offset < bytes {
                let step = (bytes - offset).min(STEP_BYTES as u64);
                file.write_all_at(&read_what_can_be(&from, offset, step as usize), offset)?;
                offset += step;
            }
            Ok(())
        })
    }

    fn write(
        &self,
        name: &str,
        words: &str,
        write: impl FnOnce(&file::File) -> io::Result<()>,
    ) -> Result<PathBuf, DiskError> {
        let path = self.folder.join(name);
        let text = self.folder.join(format!("{name}.txt"));
        let file = create_file(&path)?;
        write(&file).map_err(DiskError::new("write", &path))?;
        file.sync_all().map_err(DiskError::new("sync", &path))?;
        let file = create_file(&text)?;
        file.write_all_at(words.as_bytes(), 0).map_err(DiskError::new("write", &text))?;
        file.sync_all().map_err(DiskError::new("sync", &text))?;
        sync_parent(&path)?;
        Ok(path)
    }
}

/// The header of a damaged message as it is left; empty where what lies there cannot be told to be this message.
pub fn header_left(dir: &LogDir, message: &Locator) -> Vec<u8> {
    let left = remains(dir, message).ok().filter(|left| left.is_body);
    left.map(|left| left.bytes[..Header::of(&left.bytes).len()].to_vec()).unwrap_or_default()
}

/// What is left of a message.
struct Remains {
    bytes: Vec<u8>,
    /// They are its own, from its first byte on, and not all that its frame may have been.
    is_body: bool,
}

fn remains(dir: &LogDir, message: &Locator) -> Result<Remains, DiskError> {
    let moved = dir.files.moved(message.id.sequence);
    let (path, record) = match (message.place, moved) {
        (Place::File { number }, _) => (dir.large(number), None),
        (_, Some(record)) => (dir.segment(record.segment), Some(record)),
        (Place::Segment { number, offset }, None) => {
            (dir.segment(number), Some(RecordPlace { segment: number, offset }))
        }
    };
    let from = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Remains { bytes: Vec::new(), is_body: true });
        }
        from => from.map_err(DiskError::new("open", &path))?,
    };
    let length = from.metadata().map_err(DiskError::new("look at", &path))?.len();
    let Some(RecordPlace { segment, offset }) = record else {
        let length = message.length.min(length);
        let bytes = read_what_can_be(&from, 0, usize::try_from(length).unwrap_or(0));
        return Ok(Remains { bytes, is_body: true });
    };
    let offset = u64::from(offset);
    let length = (message.length + FRAME_BYTES_MAX).min(length.saturating_sub(offset));
    let bytes = read_what_can_be(&from, offset, usize::try_from(length).unwrap_or(0));
    let body = match Heading::read(&read_what_can_be(&from, 0, HEADING_BYTES), segment) {
        Heading::Good(header) => body_within(&bytes, header.key, message),
        _ => None,
    };
    Ok(match body {
        Some(body) => Remains { bytes: bytes[body].to_vec(), is_body: true },
        None => Remains { bytes, is_body: false },
    })
}

/// Where the body is, if the header of the frame is good and of this message.
fn body_within(bytes: &[u8], key: SegmentKey, message: &Locator) -> Option<Range<usize>> {
    let frame = Frame::parse(bytes, key)?;
    let fields = bytes.get(frame.fields())?;
    let is_meant = codec::message_of(frame.kind, frame.sequence, fields) == Some(message.id.sequence);
    (is_meant && frame.body().end <= bytes.len()).then(|| frame.body())
}

/// Sector by sector where the whole cannot be read.
fn read_what_can_be(file: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if file.read_exact_at(&mut bytes, offset).is_ok() {
        return bytes;
    }
    bytes.fill(0);
    for (number, sector) in (0..).zip(bytes.chunks_mut(SECTOR_BYTES)) {
        let at = offset + number * SECTOR_BYTES as u64;
        if file.read_exact_at(sector, at).is_err() {
            sector.fill(0);
        }
    }
    bytes
}
