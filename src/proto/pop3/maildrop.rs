//! The maildrop of a session: the messages of the INBOX as they were at login, and the marks of DELE.
//!
//! Eight bytes and a bit a message: UID and octets in two columns, and the marks.
//!
//! Invariants: numbers, UIDs and sizes never change; `count` and `octets` are those of the messages without a mark.

use std::fmt;

use crate::limits::MESSAGE_BYTES_MOST;
use crate::mail::set::Ranges;

/// What is added to a message in front and behind has room, too.
const _: () = assert!(2 * MESSAGE_BYTES_MOST - 1 <= u32::MAX as u64);

/// See the module.
#[derive(Debug)]
pub struct Maildrop {
    uid_validity: u32,
    uids: Vec<u32>,
    octets: Vec<u32>,
    /// A bit a message.
    marks: Vec<u64>,
    marked: usize,
    octets_unmarked: u64,
}

/// A message number that is in use and not marked, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Index(usize);

/// UIDL: the UIDVALIDITY and the UID, which together are never another message's (RFC 1939 7).
pub(super) struct UniqueId {
    uid_validity: u32,
    uid: u32,
}

impl Maildrop {
    /// The UID and the octets of each message, in the order of the UIDs. The octets are those that RETR sends
    /// before dots are doubled: a final CRLF that the message lacks is counted (RFC 1939 11).
    pub fn new(uid_validity: u32, messages: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let narrow = |octets: u64| u32::try_from(octets).expect("no message is so large");
        let (mut uids, mut octets): (Vec<u32>, Vec<u32>) =
            messages.into_iter().map(|(uid, octets)| (uid, narrow(octets))).unzip();
        uids.shrink_to_fit();
        octets.shrink_to_fit();
        let octets_unmarked = octets.iter().map(|octets| u64::from(*octets)).sum();
        let marks = vec![0; uids.len().div_ceil(64)];
        Self { uid_validity, uids, octets, marks, marked: 0, octets_unmarked }
    }

    /// Bytes of memory that so many messages take.
    pub fn held_bytes_of(messages: usize) -> usize {
        messages * 2 * size_of::<u32>() + messages.div_ceil(64) * size_of::<u64>()
    }

    /// Marks a message as deleted.
    pub(super) fn mark(&mut self, index: Index) {
        self.octets_unmarked -= self.octets_of(index);
        self.marks[index.0 / 64] |= 1 << (index.0 % 64);
        self.marked += 1;
    }

    pub(super) fn unmark_all(&mut self) {
        self.octets_unmarked += self.marked_indices().map(|index| self.octets_of(index)).sum::<u64>();
        self.marks.fill(0);
        self.marked = 0;
    }

    /// Messages without a mark.
    pub(super) fn count(&self) -> usize {
        self.uids.len() - self.marked
    }

    /// Octets of the messages without a mark.
    pub(super) fn octets(&self) -> u64 {
        self.octets_unmarked
    }

    pub(super) fn marked_uids(&self) -> Ranges {
        self.marked_indices().map(|index| self.uid_of(index)).collect()
    }

    /// The message of this number as clients count, from 1; not one that is marked.
    pub(super) fn index(&self, number: u32) -> Option<Index> {
        let index = (number as usize).checked_sub(1)?;
        (index < self.uids.len() && !self.is_marked(index)).then_some(Index(index))
    }

    /// Messages that were there at login.
    pub(super) fn numbers_max(&self) -> u32 {
        u32::try_from(self.uids.len()).expect("there are at most as many messages as UIDs")
    }

    pub(super) fn octets_of(&self, index: Index) -> u64 {
        u64::from(self.octets[index.0])
    }

    pub(super) fn uid_of(&self, index: Index) -> u32 {
        self.uids[index.0]
    }

    pub(super) fn unique_id_of(&self, index: Index) -> UniqueId {
        UniqueId { uid_validity: self.uid_validity, uid: self.uids[index.0] }
    }

    fn is_marked(&self, index: usize) -> bool {
        self.marks[index / 64] & 1 << (index % 64) != 0
    }

    /// Those that are marked, ascending; what lies between them costs a 64th.
    fn marked_indices(&self) -> impl Iterator<Item = Index> {
        let words = (0..).step_by(64).zip(&self.marks).filter(|(_, word)| **word != 0);
        words
            .flat_map(|(first, _)| first..self.uids.len().min(first + 64))
            .filter_map(|index| self.is_marked(index).then_some(Index(index)))
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.uid_validity, self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::Maildrop;

    #[test]
    fn marks_come_and_go_and_numbers_stay() {
        let mut maildrop = Maildrop::new(7, [(3, 100), (4, 200), (900, 1)]);
        for _ in 0..1000 {
            let second = maildrop.index(2).expect("it is not marked");
            maildrop.mark(second);
            assert_eq!((maildrop.count(), maildrop.octets()), (2, 101));
            assert_eq!(maildrop.index(2), None);
            maildrop.mark(maildrop.index(3).expect("it is not marked"));
            assert_eq!(maildrop.marked_uids().to_string(), "4,900");
            maildrop.unmark_all();
            assert_eq!((maildrop.count(), maildrop.octets()), (3, 301));
        }
        assert_eq!(
            maildrop.unique_id_of(maildrop.index(3).expect("it is there")).to_string(),
            "0000000700000384"
        );
        assert_eq!(Maildrop::held_bytes_of(3), 3 * 4 + 3 * 4 + 8);
        assert!([0, 4, u32::MAX].iter().all(|number| maildrop.index(*number).is_none()));
    }
}
