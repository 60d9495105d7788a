//! The log, the truth about all mail, and the index made from it; as values that know no file.
//!
//! Invariants: an acknowledged record is never overwritten as long as it counts; a record is believed only after its
//! checksums; a message is (log, sequence) for ever, wherever it is moved; an index that is wrong, old or missing is
//! rebuilt, never trusted.

pub mod batch;
pub mod catalog;
pub mod checkpoint;
pub mod codec;
pub mod fields;
pub mod frame;
mod gather;
pub mod index;
pub mod large;
pub mod live;
pub mod log;
pub mod owed;
pub mod places;
pub mod record;
pub mod recover;
pub mod segment;

use std::fmt;
use std::ops::Add;

use record::Body;

/// The permanent number of a log. It is not a core: core `i` of `n` drives the logs whose number modulo `n` is `i`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogId(pub u16);

/// The place of a record in the order of its log; the first record has 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sequence(pub u64);

impl Add<u64> for Sequence {
    type Output = Self;

    fn add(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// The identity of a message: the log that accepted it and the sequence of its record there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MessageId {
    pub log: LogId,
    pub sequence: Sequence,
}

/// An account, numbered once and never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AccountId(pub u32);

/// A mailbox of an account, numbered once and never again; renaming keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MailboxId(pub u32);

/// A message and where its bytes lie. The place is a hint that is checked against the record found there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Locator {
    pub id: MessageId,
    pub place: Place,
    /// Bytes of the message with everything that was put in front of it.
    pub length: u64,
    /// Of these, the `Return-Path` field at the front, which is for mailboxes only.
    pub return_path_length: u32,
}

/// A message in the log that took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub message: Locator,
    /// The record of it, which has the envelope; also where the bytes are in a file of their own.
    pub record: RecordPlace,
}

/// Where the header of a record begins; at offset 0 none does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RecordPlace {
    pub segment: u32,
    pub offset: u32,
}

/// Where the bytes of a message are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// In a segment of the log, in the record whose header begins at this offset.
    Segment { number: u32, offset: u32 },
    /// In a file of its own beside the log.
    File { number: u64 },
}

impl Place {
    /// Of a message that is about to be appended: the log puts the true place here.
    pub const UNPLACED: Self = Self::Segment { number: 0, offset: 0 };
}

impl Kept {
    /// A message whose record is at a place.
    pub fn new(id: MessageId, body: &Body, record: RecordPlace) -> Self {
        let place = match body {
            Body::File { number, .. } => Place::File { number: *number },
            Body::Inline { .. } => Place::Segment { number: record.segment, offset: record.offset },
        };
        let (length, return_path_length) = (body.length(), body.return_path_length());
        Self { message: Locator { id, place, length, return_path_length }, record }
    }
}

impl Locator {
    /// The locator of a message for a record of the same group, before either is appended.
    pub fn unplaced(id: MessageId, body: &Body) -> Self {
        let (length, return_path_length) = (body.length(), body.return_path_length());
        Self { id, place: Place::UNPLACED, length, return_path_length }
    }
}

impl Locator {
    /// The same bytes under the identity that they have got.
    pub fn at(self, id: MessageId) -> Self {
        Self { id, ..self }
    }

    /// With the place of its record filled in, where its bytes are there.
    pub fn placed(self, record: RecordPlace) -> Self {
        match self.place {
            Place::File { .. } => self,
            Place::Segment { .. } => {
                let place = Place::Segment { number: record.segment, offset: record.offset };
                Self { place, ..self }
            }
        }
    }
}

impl MessageId {
    /// The queue id that operators see, read back.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() >= 12 && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return None;
        }
        // Logs from 256 on have more than two digits.
        let (log, sequence) = text.split_at(text.len() - 10);
        let log = LogId(u16::from_str_radix(log, 16).ok()?);
        let sequence = Sequence(u64::from_str_radix(sequence, 16).ok()?);
        Some(Self { log, sequence })
    }
}

impl fmt::Display for MessageId {
    /// The queue id that operators see: log and sequence in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}{:010X}", self.log.0, self.sequence.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{LogId, MessageId, Sequence};

    #[test]
    fn ids_are_read_back() {
        for (log, sequence) in [(0, 1), (3, 0x2a_0000_0000), (255, 7), (256, 7), (u16::MAX, 0xff_ffff_ffff)] {
            let id = MessageId { log: LogId(log), sequence: Sequence(sequence) };
            assert_eq!(MessageId::parse(&id.to_string()), Some(id));
            assert_eq!(MessageId::parse(&id.to_string().to_lowercase()), Some(id));
        }
        for text in ["", "0", "00000000001", "00000000000G", "+00000000001", "1234567890123456789"] {
            assert_eq!(MessageId::parse(text), None, "{text}");
        }
    }
}
