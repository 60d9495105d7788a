//! The saved result of a search, `$` (RFC 5182).
//!
//! It is kept as UIDs, so that it is good for both kinds of numbers and what is expunged drops out by itself: whoever
//! uses it goes through `Look::resolve`, which names only what the view holds. It is empty after SELECT and EXAMINE; a
//! search with SAVE that ends in NO empties it, one that ends in BAD leaves it (RFC 5182 2.1).

use super::search::Answer;
use crate::mail::set::Ranges;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saved {
    pub(super) uids: Ranges,
}

impl Saved {
    /// Nothing was saved yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A SELECT, or a search that was to be saved and failed.
    pub fn clear(&mut self) {
        self.uids = Ranges::default();
    }

    /// A search was answered: what it saves replaces what was there; one without SAVE leaves it.
    pub fn take(&mut self, answer: &Answer) {
        if let Some(save) = &answer.save {
            self.uids.clone_from(save);
        }
    }

    /// Bytes of memory beside the value itself.
    pub fn held_bytes(&self) -> usize {
        self.uids.held_bytes()
    }

    pub fn uids(&self) -> &Ranges {
        &self.uids
    }
}
