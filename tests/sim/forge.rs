//! Segments rewritten with good checksums: what a server would read that does not check, or that forgot something.

use std::fs;
use std::path::{Path, PathBuf};

use ringpost::store::AccountId;
use ringpost::store::batch::{BATCH_HEADER_BYTES, BatchHeader, PAGE_BYTES};
use ringpost::store::codec;
use ringpost::store::frame::{self, Frame, FrameSpec};
use ringpost::store::record::{Record, Subscribed};
use ringpost::store::segment::{FIRST_BATCH_OFFSET, Heading};

/// What is put in the place of a payload: a kind of record, and whether all of it are fields.
pub enum Forged {
    /// Another record of the same length.
    Record(u8),
    /// The same record with another content.
    Content,
}

/// The segments of all logs under `data`.
pub fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for log in fs::read_dir(data.join("log")).into_iter().flatten().flatten() {
        let files = fs::read_dir(log.path()).expect("a log is a folder").flatten();
        found.extend(
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "seg")),
        );
    }
    found.sort();
    found
}

/// The logs are read from the beginning at the next start.
pub fn forget_indexes(data: &Path) {
    for log in fs::read_dir(data.join("log")).into_iter().flatten().flatten() {
        let _ = fs::remove_file(log.path().join("index.root"));
    }
}

/// Gives each record of a segment to `change`, with its payload, and seals again what it changes.
pub fn rewrite(path: &Path, mut change: impl FnMut(&Record, &mut [u8]) -> Option<Forged>) -> usize {
    let mut bytes = fs::read(path).expect("a segment can be read");
    let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    let Some(Heading::Good(heading)) = number.map(|number| Heading::read(&bytes, number)) else {
        return 0;
    };
    let (key, mut forged, mut at) = (heading.key, 0, FIRST_BATCH_OFFSET);
    while at + BATCH_HEADER_BYTES < bytes.len() {
        let Some(header) = BatchHeader::parse(&bytes[at..], key) else {
            at += PAGE_BYTES;
            continue;
        };
        let (start, end) = (at + BATCH_HEADER_BYTES, at + BATCH_HEADER_BYTES + header.length as usize);
        let (mut place, mut checksum) = (start, crc32fast::Hasher::new());
        let mut is_changed = false;
        while place < end {
            // A crash may have left the header of a batch and not all of its frames.
            let Some(frame) = Frame::parse(&bytes[place..], key) else {
                is_changed = false;
                break;
            };
            let (sequence, version, length) = (frame.sequence, frame.version, frame.frame_length());
            let (kind, fields, body, payload) = (frame.kind, frame.fields(), frame.body(), frame.payload());
            let header_length = frame.header_length();
            let whole = bytes[place..place + length].to_vec();
            let mut content = whole[payload.clone()].to_vec();
            // The log's own record is nobody's.
            let how = (kind != codec::OPENED).then(|| {
                let body = whole[body].to_vec().into();
                let record = codec::decode(kind, &whole[fields.clone()], body).expect("a record");
                change(&record, &mut content)
            });
            let how = how.flatten();
            let (kind, fields_length) = match &how {
                Some(Forged::Record(kind)) => (*kind, content.len()),
                Some(Forged::Content) | None => (kind, fields.len()),
            };
            if how.is_some() {
                is_changed = true;
                forged += 1;
                let spec = FrameSpec { kind, version, sequence };
                let (fields, body) = content.split_at(fields_length);
                frame::write_header(&mut bytes[place..place + header_length], spec, [fields, body], key);
                bytes[place + payload.start..place + payload.end].copy_from_slice(&content);
            }
            checksum.update(&bytes[place..place + header_length]);
            place += length;
        }
        if is_changed {
            let sealed = BatchHeader { frames_checksum: checksum.finalize(), ..header };
            bytes[at..start].copy_from_slice(&sealed.to_bytes(key));
        }
        at += header.padded_length();
    }
    if forged > 0 {
        fs::write(path, bytes).expect("a segment can be written");
    }
    forged
}

/// A record of the same length that changes no message.
pub fn blank(content: &mut [u8], account: AccountId) -> Option<Forged> {
    let name = "x".repeat(content.len().checked_sub(8)?);
    let record = Record::Subscribed(Subscribed { account, name });
    let mut fields = Vec::new();
    codec::encode(&record, &mut fields);
    content.copy_from_slice(&fields);
    Some(Forged::Record(codec::kind(&record)))
}
