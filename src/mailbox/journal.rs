//! What happened in a mailbox lately, for the views that look at it.
//!
//! Expunges form a chain that views hold on to: each view keeps the last note it has read, and a note lives for as long
//! as some view stands before it. So no expunge is ever missed, and with nobody behind nothing is kept. Flag changes
//! are kept in a short ring beside the mod-sequences of the messages, which tell the same to a view that has fallen
//! behind the ring.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::limits::mailbox::{EXPUNGE_HISTORY_RANGES_MAX, FLAG_NOTES_MAX, FLAG_NOTES_RANGES_MAX};
use crate::mail::set::Ranges;

/// A link of the chain: the messages that one record expunged.
#[derive(Debug, Default)]
pub(super) struct ExpungeNote {
    pub died: Ranges,
    next: OnceLock<Arc<ExpungeNote>>,
}

/// The end of the chain, to which the mailbox adds.
#[derive(Debug, Default)]
pub(super) struct ExpungeChain(Arc<ExpungeNote>);

/// The latest flag changes: mod-sequence and messages.
#[derive(Debug, Default)]
pub(super) struct FlagNotes {
    notes: VecDeque<(u64, Ranges)>,
    ranges: usize,
    /// Changes up to this mod-sequence may be missing.
    floor: u64,
}

/// The expunges that QRESYNC asks about (RFC 7162 3.2.5).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct History {
    pub(super) notes: VecDeque<(u64, Ranges)>,
    pub(super) ranges: usize,
    /// Expunges up to this mod-sequence may be missing.
    pub(super) floor: u64,
}

impl ExpungeNote {
    pub fn next(&self) -> Option<&Arc<ExpungeNote>> {
        self.next.get()
    }
}

impl Drop for ExpungeNote {
    /// A view that stood far behind frees its notes one by one, not one inside of the other.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(note) = next {
            next = Arc::into_inner(note).and_then(|mut note| note.next.take());
        }
    }
}

impl ExpungeChain {
    pub fn push(&mut self, died: Ranges) {
        let note = Arc::new(ExpungeNote { died, next: OnceLock::new() });
        let last = self.0.next.get_or_init(|| note);
        self.0 = Arc::clone(last);
    }

    pub fn end(&self) -> &Arc<ExpungeNote> {
        &self.0
    }
}

impl FlagNotes {
    pub fn push(&mut self, modseq: u64, uids: Ranges) {
        self.ranges += uids.ranges().len();
        self.notes.push_back((modseq, uids));
        while self.notes.len() > FLAG_NOTES_MAX || self.ranges > FLAG_NOTES_RANGES_MAX {
            let Some((modseq, uids)) = self.notes.pop_front() else {
                break;
            };
            self.ranges -= uids.ranges().len();
            self.floor = modseq;
        }
    }

    /// The changes after `modseq`; `None` if some are not kept any more.
    pub fn since(&self, modseq: u64) -> Option<impl Iterator<Item = &(u64, Ranges)>> {
        let from = self.notes.partition_point(|note| note.0 <= modseq);
        (modseq >= self.floor).then(|| self.notes.range(from..))
    }

    /// Changes up to `modseq` were made before this process and are not among the notes.
    pub fn begin_at(modseq: u64) -> Self {
        Self { floor: modseq, ..Self::default() }
    }
}

impl History {
    pub fn push(&mut self, modseq: u64, uids: Ranges) {
        self.ranges += uids.ranges().len();
        self.notes.push_back((modseq, uids));
        while self.ranges > EXPUNGE_HISTORY_RANGES_MAX {
            let Some((modseq, uids)) = self.notes.pop_front() else {
                break;
            };
            self.ranges -= uids.ranges().len();
            self.floor = modseq;
        }
    }

    /// What was expunged after `modseq`; `None` if some of it is not kept any more.
    pub fn since(&self, modseq: u64) -> Option<Ranges> {
        if modseq < self.floor {
            return None;
        }
        let from = self.notes.partition_point(|note| note.0 <= modseq);
        let ranges = self.notes.range(from..).flat_map(|(_, uids)| uids.ranges().iter().copied());
        Some(Ranges::from_unordered(ranges.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ExpungeChain, FlagNotes, History};

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut chain = ExpungeChain::default();
        let behind = Arc::clone(chain.end());
        for uid in 1..=300_000 {
            chain.push([uid].into_iter().collect());
        }
        let count = std::iter::successors(behind.next(), |note| note.next()).count();
        assert_eq!(count, 300_000);
        drop(behind);
        assert_eq!(Arc::strong_count(chain.end()), 1);
    }

    #[test]
    fn old_notes_make_room_and_say_so() {
        let mut notes = FlagNotes::default();
        let mut history = History::default();
        for modseq in 1..=100_000 {
            notes.push(modseq, [1].into_iter().collect());
            history.push(modseq, [modseq as u32].into_iter().collect());
        }
        assert!(notes.since(1).is_none());
        assert_eq!(notes.since(99_998).map(Iterator::count), Some(2));
        assert!(history.since(1).is_none());
        assert_eq!(history.since(99_990).map(|uids| uids.to_string()).as_deref(), Some("99991:100000"));
    }
}
