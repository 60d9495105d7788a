//! Rows in the order of their messages, packed: millions of them wait for a destination that is down.
//!
//! They lie in pages of a few hundred. New ones come at the end, as sequences only grow; settled ones are taken
//! out of the middle, and a page that is empty goes.
//!
//! Invariants: rows are in order, within a page and over all; a page's key is not above its first row and above
//! all rows of the page before; no page is empty.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::Row;
use crate::store::Sequence;

/// A move of half a page in memory costs less than a page of its own.
const PAGE_ROWS: usize = 256;

/// Message and number of the recipient.
pub type Key = (Sequence, u32);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    pages: BTreeMap<Key, Vec<Row>>,
    count: usize,
}

impl Rows {
    /// Adds a row, in place of the one with its key.
    pub fn insert(&mut self, row: Row) {
        let key = row.key();
        let Some((_, page)) = self.pages.range_mut(..=key).next_back() else {
            return self.insert_first(row);
        };
        match page.binary_search_by_key(&key, Row::key) {
            Ok(at) => page[at] = row,
            Err(at) => {
                self.count += 1;
                if page.len() < PAGE_ROWS || at == 0 {
                    return page.insert(at, row);
                }
                // In the middle of a full page its end becomes a page of its own.
                let mut next = page.split_off(at);
                next.insert(0, row);
                page.shrink_to_fit();
                self.pages.insert(key, next);
            }
        }
    }

    /// Below all rows there are.
    fn insert_first(&mut self, row: Row) {
        self.count += 1;
        self.pages.insert(row.key(), vec![row]);
    }

    pub fn remove(&mut self, key: Key) -> Option<Row> {
        let (&first, page) = self.pages.range_mut(..=key).next_back()?;
        let at = page.binary_search_by_key(&key, Row::key).ok()?;
        let row = page.remove(at);
        self.count -= 1;
        if page.is_empty() {
            self.pages.remove(&first);
        }
        Some(row)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Row> {
        let (_, page) = self.pages.range_mut(..=key).next_back()?;
        page.binary_search_by_key(&key, Row::key).ok().map(|at| &mut page[at])
    }

    pub fn first(&self) -> Option<&Row> {
        self.pages.values().next()?.first()
    }

    /// The rows from `key` on.
    pub fn from(&self, key: Key) -> impl Iterator<Item = &Row> {
        let begun = self.pages.range(..=key).next_back();
        let begun = begun.map_or(&[][..], |(_, page)| &page[page.partition_point(|row| row.key() < key)..]);
        begun.iter().chain(self.pages.range((Excluded(key), Unbounded)).flat_map(|(_, page)| page))
    }

    pub fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop, proptest};

    use super::{Row, Rows};
    use crate::store::Sequence;

    fn row(message: u64, recipient: u32, due: u32) -> Row {
        Row { message: Sequence(message), recipient, due, ..Row::default() }
    }

    proptest! {
        /// Operations on few keys, so that pages split, shrink and go.
        #[test]
        fn rows_are_an_ordered_map(steps in prop::collection::vec((0..3u8, 0..1200u64, 0..2u32), 0..4000)) {
            let mut rows = Rows::default();
            let mut model = BTreeMap::new();
            for (number, (step, message, recipient)) in (0u32..).zip(steps) {
                let key = (Sequence(message), recipient);
                match step {
                    0 => assert_eq!(rows.remove(key), model.remove(&key)),
                    _ => {
                        let row = row(message, recipient, number);
                        rows.insert(row);
                        model.insert(key, row);
                    }
                }
                assert_eq!(rows.get_mut(key), model.get_mut(&key));
            }
            assert_eq!(rows.len(), model.len());
            assert_eq!(rows.first(), model.values().next());
            assert!(rows.from((Sequence(0), 0)).eq(model.values()));
            for from in [(Sequence(7), 1), (Sequence(600), 0), (Sequence(5000), 0)] {
                assert!(rows.from(from).eq(model.range(from..).map(|(_, row)| row)));
            }
        }
    }

    #[test]
    fn a_million_rows_in_order_leave_little_room_unused() {
        let mut rows = Rows::default();
        (0..100_000).for_each(|message| rows.insert(row(message, 0, 0)));
        let room: usize = rows.pages.values().map(Vec::capacity).sum();
        assert!(room < 102_000, "{room}");
        assert!(size_of::<Row>() <= 48);
    }
}
