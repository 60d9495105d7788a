//! What a log knows that is of no account, for its snapshots: a slice at a time, each as of the moment it is taken.

use super::Commit;
use crate::store::Sequence;

/// What goes into one slice is of about so many messages.
const MESSAGES: usize = 4096;

/// What a slice tells of its messages.
#[derive(Clone, Copy)]
pub enum SliceOf {
    /// Whom they are still owed to.
    Owed,
    /// Where they are.
    Places,
}

/// All slices, oldest messages first. Other things may happen between two of them.
pub struct Slices<'a> {
    commit: &'a Commit,
    /// The next is of what is behind this message.
    next: Option<(SliceOf, Sequence)>,
}

impl<'a> Slices<'a> {
    pub fn of(commit: &'a Commit) -> Self {
        Self { commit, next: Some((SliceOf::Owed, Sequence(0))) }
    }
}

impl Iterator for Slices<'_> {
    type Item = (SliceOf, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        let (of, behind) = self.next?;
        let (bytes, last) = match of {
            SliceOf::Owed => self.commit.owed().encode_behind(behind, MESSAGES),
            SliceOf::Places => {
                self.commit.files().with_places(|places| places.encode_behind(behind, MESSAGES))
            }
        };
        self.next = match (of, last) {
            (_, Some(last)) => Some((of, last)),
            (SliceOf::Owed, None) => Some((SliceOf::Places, Sequence(0))),
            (SliceOf::Places, None) => None,
        };
        Some((of, bytes))
    }
}
