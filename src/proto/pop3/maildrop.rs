//! The maildrop of a session: the messages of the INBOX as they were at login, and the marks of DELE.
//!
//! Twelve bytes a message: UID and octets, in two columns. A mark is the top bit of the octets; the numbers
//! marked stand in a list besides, so that RSET costs what the DELEs before it did.
//!
//! Invariants: numbers, UIDs and sizes never change; a number is in the list exactly if it is marked;
//! `count` and `octets` are those of the messages without a mark.

use std::fmt;

use crate::mail::set::Ranges;

/// No message is so large.
const MARK: u64 = 1 << 63;

/// See the module.
#[derive(Debug)]
pub struct Maildrop {
    uid_validity: u32,
    uids: Vec<u32>,
    octets: Vec<u64>,
    /// In the order of the DELEs.
    marked: Vec<u32>,
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
        let (mut uids, mut octets): (Vec<u32>, Vec<u64>) = messages.into_iter().unzip();
        uids.shrink_to_fit();
        octets.shrink_to_fit();
        let octets_unmarked = octets.iter().sum();
        Self { uid_validity, uids, octets, marked: Vec::new(), octets_unmarked }
    }

    /// Marks a message as deleted.
    pub(super) fn mark(&mut self, index: Index) {
        self.octets_unmarked -= self.octets[index.0];
        self.octets[index.0] |= MARK;
        self.marked.push(u32::try_from(index.0).expect("there are at most as many messages as UIDs"));
    }

    pub(super) fn unmark_all(&mut self) {
        for index in std::mem::take(&mut self.marked) {
            let octets = &mut self.octets[index as usize];
            *octets &= !MARK;
            self.octets_unmarked += *octets;
        }
    }

    /// Messages without a mark.
    pub(super) fn count(&self) -> usize {
        self.uids.len() - self.marked.len()
    }

    /// Octets of the messages without a mark.
    pub(super) fn octets(&self) -> u64 {
        self.octets_unmarked
    }

    pub(super) fn marked_uids(&self) -> Ranges {
        self.marked.iter().map(|index| self.uids[*index as usize]).collect()
    }

    /// The message of this number as clients count, from 1; not one that is marked.
    pub(super) fn index(&self, number: u32) -> Option<Index> {
        let index = (number as usize).checked_sub(1)?;
        self.octets.get(index).filter(|octets| **octets & MARK == 0).map(|_| Index(index))
    }

    /// Messages that were there at login.
    pub(super) fn numbers_max(&self) -> u32 {
        u32::try_from(self.uids.len()).expect("there are at most as many messages as UIDs")
    }

    pub(super) fn octets_of(&self, index: Index) -> u64 {
        self.octets[index.0]
    }

    pub(super) fn uid_of(&self, index: Index) -> u32 {
        self.uids[index.0]
    }

    pub(super) fn unique_id_of(&self, index: Index) -> UniqueId {
        UniqueId { uid_validity: self.uid_validity, uid: self.uids[index.0] }
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
        assert!([0, 4, u32::MAX].iter().all(|number| maildrop.index(*number).is_none()));
    }
}
