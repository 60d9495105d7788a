//! A range of bytes that keeps its memory alive.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Memory that can be shared between shards: it does not move or change while any [`Slice`] of it lives.
pub trait Owner: AsRef<[u8]> + Send + Sync + 'static {
    /// How many parts of such memory were lost so far, and are zeroes: what was found good before may be one of them.
    fn lost_parts(&self) -> usize {
        0
    }

    /// Has a part of it read from the disk, where it comes from there, without waiting for that.
    fn read_ahead(&self, _part: &[u8]) {}
}

impl Owner for Vec<u8> {}

impl Owner for &'static [u8] {}

/// A cheap, cloneable view of bytes that something else owns.
#[derive(Clone)]
pub struct Slice {
    owner: Arc<dyn Owner>,
    range: Range<usize>,
}

impl Slice {
    /// The whole of `owner`.
    pub fn new(owner: impl Owner) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// A range of an owner that is already shared. The range must lie inside it.
    pub fn of(owner: Arc<dyn Owner>, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= (*owner).as_ref().len(),
            "range outside of its owner"
        );
        Self { owner, range }
    }

    /// See [`Owner::lost_parts`].
    pub fn lost_parts(&self) -> usize {
        self.owner.lost_parts()
    }

    /// See [`Owner::read_ahead`].
    pub fn read_ahead(&self, range: Range<usize>) {
        self.owner.read_ahead(&self[range]);
    }

    /// A part of this slice, counted from its beginning.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "part outside of its slice");
        Self {
            owner: Arc::clone(&self.owner),
            range: self.range.start + range.start..self.range.start + range.end,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&'static [u8]> for Slice {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Slice;

    #[test]
    fn a_part_of_a_part_counts_from_its_own_beginning() {
        let whole = Slice::from(b"abcdefgh".to_vec());
        let part = whole.part(2..6);
        assert_eq!(&*part, b"cdef");
        assert_eq!(&*part.part(1..3), b"de");
    }

    #[test]
    #[should_panic(expected = "part outside of its slice")]
    fn a_part_cannot_leave_its_slice() {
        let part = Slice::from(b"abcdefgh".to_vec()).part(2..6);
        part.part(0..5);
    }
}
