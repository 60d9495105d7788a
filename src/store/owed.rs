//! What a log still owes: accepted messages with recipients whose copy is not settled.
//!
//! This is the fold of `Message`, `Delivered` and `Settled` records of one log. Everything below
//! [`Owed::low_water`] is settled for ever: owners of mailboxes need not remember deliveries of such messages.
//! A checkpoint carries it as bytes, drawn at [`Owed::encode`].

use std::collections::BTreeMap;

use super::record::{Record, Route};
use super::{AccountId, Kept, Locator, LogId, MessageId, Place, RecordPlace, Sequence};

/// Open promises of one log, by the sequence of their message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    log: LogId,
    entries: BTreeMap<Sequence, Entry>,
}

/// A message with the recipients it is still owed to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub message: Locator,
    /// Where its envelope is.
    pub record: RecordPlace,
    /// Unix seconds.
    pub received: i64,
    /// Number of the recipient in the envelope, and where its copy goes. Never empty.
    pub recipients: Vec<(u32, Route)>,
}

/// A checkpoint's bytes that do not hold what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Owed {
    pub fn new(log: LogId) -> Self {
        Self { log, entries: BTreeMap::new() }
    }

    /// Follows a record of this log. `message` is where a `Message` record is kept.
    pub fn apply(&mut self, record: &Record, message: Option<&Kept>) {
        match record {
            Record::Message(taken) => {
                let (Some(accepted), Some(&Kept { message, record })) = (&taken.accepted, message) else {
                    return;
                };
                let recipients: Vec<_> = (0..).zip(accepted.routes.iter().copied()).collect();
                if !recipients.is_empty() {
                    let entry = Entry { message, record, received: taken.received.seconds, recipients };
                    self.entries.insert(message.id.sequence, entry);
                }
            }
            Record::Delivered(delivered) => {
                if let Some((id, recipient)) = delivered.key
                    && id.log == self.log
                {
                    self.settle(id.sequence, recipient);
                }
            }
            Record::Settled(settled) => self.settle(settled.message, settled.recipient),
            _ => {}
        }
    }

    /// The oldest message that is still owed to someone; `next` if there is none.
    pub fn low_water(&self, next: Sequence) -> Sequence {
        self.entries.keys().next().copied().unwrap_or(next)
    }

    pub fn entry(&self, message: Sequence) -> Option<&Entry> {
        self.entries.get(&message)
    }

    /// Oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many messages are owed to someone.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// ```text
    /// entry := sequence u64 | place u8, a u32, b u32 or number u64 | length u64 | return path u32
    ///        | segment u32, offset u32 of the record | received i64 | count u32
    ///        | count * (recipient u32 | account u32 or 0xFFFFFFFF for remote)
    /// ```
    /// All little-endian, one entry after the other.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, entry) in &self.entries {
            bytes.extend_from_slice(&sequence.0.to_le_bytes());
            let (kind, place) = match entry.message.place {
                Place::Segment { number, offset } => (0u8, u64::from(number) | u64::from(offset) << 32),
                Place::File { number } => (1, number),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&place.to_le_bytes());
            bytes.extend_from_slice(&entry.message.length.to_le_bytes());
            bytes.extend_from_slice(&entry.message.return_path_length.to_le_bytes());
            bytes.extend_from_slice(&entry.record.segment.to_le_bytes());
            bytes.extend_from_slice(&entry.record.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.received.to_le_bytes());
            let count = u32::try_from(entry.recipients.len()).expect("recipients are bounded far below 2^32");
            bytes.extend_from_slice(&count.to_le_bytes());
            for (recipient, route) in &entry.recipients {
                bytes.extend_from_slice(&recipient.to_le_bytes());
                let account = match route {
                    Route::Local(account) => account.0,
                    Route::Remote => REMOTE,
                };
                bytes.extend_from_slice(&account.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Owed::encode`] wrote.
    pub fn decode(log: LogId, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut owed = Self::new(log);
        let mut rest = Rest(bytes);
        while !rest.0.is_empty() {
            let sequence = Sequence(rest.u64()?);
            let kind = rest.array::<1>()?[0];
            let place = rest.u64()?;
            let place = match kind {
                0 => Place::Segment { number: place as u32, offset: (place >> 32) as u32 },
                1 => Place::File { number: place },
                _ => return Err(Malformed),
            };
            let length = rest.u64()?;
            let return_path_length = rest.u32()?;
            let record = RecordPlace { segment: rest.u32()?, offset: rest.u32()? };
            let received = i64::from_le_bytes(rest.array()?);
            let count = rest.u32()?;
            let mut recipients = Vec::new();
            for _ in 0..count {
                let recipient = rest.u32()?;
                let route = match rest.u32()? {
                    REMOTE => Route::Remote,
                    account => Route::Local(AccountId(account)),
                };
                recipients.push((recipient, route));
            }
            let message = Locator { id: MessageId { log, sequence }, place, length, return_path_length };
            owed.entries.insert(sequence, Entry { message, record, received, recipients });
        }
        Ok(owed)
    }

    fn settle(&mut self, message: Sequence, recipient: u32) {
        let Some(entry) = self.entries.get_mut(&message) else {
            return;
        };
        entry.recipients.retain(|(number, _)| *number != recipient);
        if entry.recipients.is_empty() {
            self.entries.remove(&message);
        }
    }
}

/// Stands for a recipient elsewhere where an account's number would stand.
const REMOTE: u32 = u32::MAX;

/// Bytes that are read from the front.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*front)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Malformed, Owed};
    use crate::bytes::Slice;
    use crate::mail::envelope::Envelope;
    use crate::mail::time::Timestamp;
    use crate::store::record::{Accepted, Body, Message, Record, Route, Settled};
    use crate::store::{AccountId, Kept, Locator, LogId, MessageId, Place, RecordPlace, Sequence};

    const LOG: LogId = LogId(3);

    fn owed_of(messages: &[(u64, Place)]) -> Owed {
        let mut owed = Owed::new(LOG);
        for &(sequence, place) in messages {
            let id = MessageId { log: LOG, sequence: Sequence(sequence) };
            let message = Locator { id, place, length: 10, return_path_length: 2 };
            let accepted = Accepted {
                envelope: Envelope::default(),
                routes: vec![Route::Local(AccountId(7)), Route::Remote],
                login: None,
            };
            let body = Body::Inline { bytes: Slice::from(Vec::new()), return_path_length: 2 };
            let received = Timestamp { seconds: 99, zone_minutes: 0 };
            owed.apply(
                &Record::Message(Message { received, accepted: Some(accepted), body }),
                Some(&Kept { message, record: RecordPlace { segment: 7, offset: 4096 } }),
            );
        }
        owed
    }

    #[test]
    fn the_low_water_rises_when_all_recipients_of_the_oldest_are_settled() {
        let mut owed =
            owed_of(&[(5, Place::Segment { number: 1, offset: 4096 }), (9, Place::File { number: 1 << 40 })]);
        let settled = |message, recipient| Record::Settled(Settled { message: Sequence(message), recipient });
        owed.apply(&settled(5, 0), None);
        assert_eq!(owed.low_water(Sequence(10)), Sequence(5));
        owed.apply(&settled(5, 0), None);
        owed.apply(&settled(5, 1), None);
        assert_eq!(owed.low_water(Sequence(10)), Sequence(9));
        owed.apply(&settled(9, 1), None);
        owed.apply(&settled(9, 0), None);
        assert_eq!(owed.low_water(Sequence(10)), Sequence(10));
        assert_eq!(owed.count(), 0);
    }

    #[test]
    fn a_checkpoint_gives_it_back_and_a_cut_one_is_refused() {
        let owed =
            owed_of(&[(5, Place::Segment { number: 1, offset: 8192 }), (9, Place::File { number: 2 })]);
        let bytes = owed.encode();
        assert_eq!(Owed::decode(LOG, &bytes), Ok(owed));
        assert_eq!(Owed::decode(LOG, &bytes[..bytes.len() - 1]), Err(Malformed));
        assert_eq!(Owed::decode(LOG, &[]), Ok(Owed::new(LOG)));
    }
}
