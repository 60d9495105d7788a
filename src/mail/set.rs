//! Sets of message numbers and UIDs as clients write them (RFC 9051 9, `sequence-set`).

use std::fmt;

/// One end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    Number(u32),
    /// `*`: the largest number in use.
    Last,
}

/// A set as it was written; `*` has no number yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NumberSet {
    /// Ranges in any order, ends in any order, overlapping as they please. Never empty.
    Ranges(Vec<(Bound, Bound)>),
    /// `$`, the saved result of a search (RFC 5182).
    Saved,
}

/// Numbers as ascending ranges, both ends included, that neither touch nor overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(Vec<(u32, u32)>);

impl NumberSet {
    /// Bytes of memory beside the value itself.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Ranges(ranges) => ranges.capacity() * size_of::<(Bound, Bound)>(),
            Self::Saved => 0,
        }
    }

    /// The set with `*` standing for `last`. `$` stands for nothing here: who knows the result answers it.
    pub fn resolve(&self, last: u32) -> Ranges {
        let Self::Ranges(written) = self else {
            return Ranges::default();
        };
        let number = |bound: Bound| match bound {
            Bound::Number(number) => number,
            Bound::Last => last,
        };
        let ends = written.iter().map(|&(from, to)| (number(from), number(to)));
        Ranges::from_unordered(ends.map(|(from, to)| (from.min(to), from.max(to))).collect())
    }
}

impl Ranges {
    /// Bytes of memory beside the value itself.
    pub fn held_bytes(&self) -> usize {
        self.0.len() * size_of::<(u32, u32)>()
    }

    /// From ranges whose ends are in order, themselves in any order.
    pub fn from_unordered(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// Adds a number that is larger than all before it.
    pub fn push(&mut self, number: u32) {
        match self.0.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(number) => last.1 = number,
            _ => self.0.push((number, number)),
        }
    }

    pub fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|range| range.1 < number);
        self.0.get(after).is_some_and(|range| range.0 <= number)
    }

    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| u64::from(to - from) + 1).sum()
    }

    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|range| range.1)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(from, to)| from..=to)
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self::from_unordered(numbers.into_iter().map(|number| (number, number)).collect())
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match from == to {
                true => write!(f, "{from}")?,
                false => write!(f, "{from}:{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, NumberSet, Ranges};

    #[test]
    fn ends_and_ranges_may_come_in_any_order() {
        let set = NumberSet::Ranges(vec![
            (Bound::Last, Bound::Number(9)),
            (Bound::Number(4), Bound::Number(2)),
            (Bound::Number(5), Bound::Number(5)),
        ]);
        assert_eq!(set.resolve(12).to_string(), "2:5,9:12");
        // `559:*` always holds the last number, also where that is smaller.
        assert_eq!(set.resolve(7).to_string(), "2:5,7:9");
    }

    #[test]
    fn membership_and_count() {
        let ranges: Ranges = [7, 1, 2, 3, 9].into_iter().collect();
        assert_eq!(ranges.to_string(), "1:3,7,9");
        assert_eq!(ranges.count(), 5);
        assert!(ranges.contains(2) && !ranges.contains(8) && !ranges.contains(0) && !ranges.contains(10));
        assert_eq!(
            Ranges::from_unordered(vec![(1, u32::MAX), (u32::MAX, u32::MAX)]).count(),
            u64::from(u32::MAX)
        );
    }
}
