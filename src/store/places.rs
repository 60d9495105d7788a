//! Where messages of one log are that their locators do not find: those that were written again, and those in
//! files of their own.
//!
//! The fold of the log's records, like what is owed. A locator says where a message was when it came into a mailbox;
//! when the cleaner has written it again elsewhere, this says where. Of large messages it says which file each has, so
//! that a file whose message nobody has any more can be removed. A snapshot and a checkpoint carry it as bytes.
//!
//! ```text
//! places := count u32 | count * (message u64 | segment u32, offset u32)     written again
//!         | count u32 | count * (message u64 | file u64)                    large
//! ```
//!
//! Invariant: what is known of a message that is live is true; of others anything may be known.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::fields::{Malformed, Put, Take};
use super::record::{Body, Record};
use super::{RecordPlace, Sequence};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    moved: BTreeMap<Sequence, RecordPlace>,
    files: BTreeMap<Sequence, u64>,
}

const MOVED_BYTES: usize = 8 + 4 + 4;

const FILE_BYTES: usize = 8 + 8;

impl Places {
    /// Follows a record of the log, which is at `place`.
    pub fn apply(&mut self, (sequence, record): (Sequence, &Record), place: RecordPlace) {
        match record {
            Record::Message(message) => {
                if let Body::File { number, .. } = message.body {
                    self.files.insert(sequence, number);
                }
            }
            Record::Moved(moved) => {
                self.moved.insert(moved.message, place);
                if let Body::File { number, .. } = moved.content.body {
                    self.files.insert(moved.message, number);
                }
            }
            _ => {}
        }
    }

    /// The place of a message that was written again.
    pub fn moved(&self, message: Sequence) -> Option<RecordPlace> {
        self.moved.get(&message).copied()
    }

    /// Messages in files of their own, with the numbers of those.
    pub fn files(&self) -> impl Iterator<Item = (Sequence, u64)> {
        self.files.iter().map(|(message, number)| (*message, *number))
    }

    /// Numbers of files that only dead messages have. The number of a file that is gone may have been given again while
    /// the record that named the first is still in the log: what a live message names is not dead.
    pub fn dead_files(&self, is_live: impl Fn(Sequence) -> bool) -> BTreeSet<u64> {
        let (kept, dead): (Vec<_>, Vec<_>) = self.files().partition(|(message, _)| is_live(*message));
        let kept: BTreeSet<u64> = kept.into_iter().map(|(_, number)| number).collect();
        dead.into_iter().map(|(_, number)| number).filter(|number| !kept.contains(number)).collect()
    }

    /// Messages that were written again.
    pub fn moved_count(&self) -> usize {
        self.moved.len()
    }

    /// Forgets messages that are dead.
    pub fn retain(&mut self, is_live: impl Fn(Sequence) -> bool) {
        self.moved.retain(|message, _| is_live(*message));
        self.files.retain(|message, _| is_live(*message));
    }

    /// What is known of messages behind one, about as many as said, with the last of them; `None` if that was all.
    pub fn encode_behind(&self, message: Sequence, count: usize) -> (Vec<u8>, Option<Sequence>) {
        let range = (Excluded(message), Unbounded);
        let last_moved = self.moved.range(range).nth(count).map(|(message, _)| *message);
        let last_file = self.files.range(range).nth(count).map(|(message, _)| *message);
        let last = [last_moved, last_file].into_iter().flatten().min();
        let through = last.unwrap_or(Sequence(u64::MAX));
        let mut bytes = Vec::new();
        let moved = self.moved.range(range).take_while(|(message, _)| **message <= through);
        put_counted(moved, &mut bytes, |place, bytes| {
            bytes.put_u32(place.segment);
            bytes.put_u32(place.offset);
        });
        let files = self.files.range(range).take_while(|(message, _)| **message <= through);
        put_counted(files, &mut bytes, |number, bytes| bytes.put_u64(*number));
        (bytes, last)
    }

    /// Adds what [`Places::encode_behind`] wrote.
    pub fn take_in(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut take = Take::new(bytes);
        for _ in 0..take.count(MOVED_BYTES)? {
            let (message, segment, offset) = (Sequence(take.u64()?), take.u32()?, take.u32()?);
            self.moved.insert(message, RecordPlace { segment, offset });
        }
        for _ in 0..take.count(FILE_BYTES)? {
            self.files.insert(Sequence(take.u64()?), take.u64()?);
        }
        match take.left() {
            0 => Ok(()),
            _ => Err(take.malformed()),
        }
    }
}

fn put_counted<'a, V: 'a>(
    entries: impl Iterator<Item = (&'a Sequence, &'a V)> + Clone,
    bytes: &mut Vec<u8>,
    put: impl Fn(&V, &mut Vec<u8>),
) {
    bytes.put_u32(
        u32::try_from(entries.clone().count()).expect("messages of a log that were moved, in memory"),
    );
    for (message, value) in entries {
        bytes.put_u64(message.0);
        put(value, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::Places;
    use crate::mail::time::Timestamp;
    use crate::store::record::{Body, Message, Moved, Record};
    use crate::store::{RecordPlace, Sequence};

    fn places() -> Places {
        let mut places = Places::default();
        for number in 1..=40 {
            let body = Body::File { number: number + 100, length: 1, crc: 0, return_path_length: 0 };
            let content = Message { received: Timestamp::default(), accepted: None, body };
            let place = RecordPlace { segment: 9, offset: 4096 * number as u32 };
            let record = match number % 3 {
                0 => Record::Message(content),
                _ => Record::Moved(Moved { message: Sequence(number), content }),
            };
            places.apply((Sequence(number), &record), place);
        }
        places
    }

    #[test]
    fn what_is_written_whole_or_in_slices_comes_back() {
        let places = places();
        for count in [0, 1, 7, 1000] {
            let (mut again, mut behind) = (Places::default(), Some(Sequence(0)));
            let mut slices = 0;
            while let Some(message) = behind {
                let (bytes, next) = places.encode_behind(message, count);
                again.take_in(&bytes).expect("it was just made");
                for length in 0..bytes.len() {
                    assert!(Places::default().take_in(&bytes[..length]).is_err());
                }
                (behind, slices) = (next, slices + 1);
            }
            assert_eq!(again, places);
            assert!(slices <= 41, "{slices} of {count}");
        }
    }

    /// Found by the simulation: the file of the message that had the number by then was removed.
    #[test]
    fn a_number_that_was_given_again_is_not_dead_with_its_first_message() {
        let mut places = places();
        let body = Body::File { number: 101, length: 1, crc: 0, return_path_length: 0 };
        let content = Message { received: Timestamp::default(), accepted: None, body };
        let place = RecordPlace { segment: 10, offset: 4096 };
        places.apply((Sequence(41), &Record::Message(content)), place);
        let of = |live: &[u64]| places.dead_files(|message| live.contains(&message.0));
        assert!(!of(&[41]).contains(&101) && of(&[41]).contains(&102));
        assert!(!of(&[1]).contains(&101), "nor the other way round");
        assert!(of(&[2]).contains(&101));
    }

    #[test]
    fn the_dead_are_forgotten() {
        let mut places = places();
        places.retain(|message| message.0 > 38);
        assert_eq!(places.files().collect::<Vec<_>>(), [(Sequence(39), 139), (Sequence(40), 140)]);
        assert_eq!((places.moved(Sequence(38)), places.moved_count()), (None, 1));
    }
}
