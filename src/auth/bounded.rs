//! A map with a bound: when it is full, something that was not used of late makes room.
//!
//! Slots stand in a ring. A use marks its slot; the hand that looks for room takes marks away until it finds
//! a slot without one (second chance), so that each insertion costs a constant number of steps on average.
//!
//! Invariants: never more than `entries_max` entries; every key in `places` names the slot that holds it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
pub struct Bounded<K, V> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    entries_max: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    is_used: bool,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    pub fn new(entries_max: usize) -> Self {
        assert!(entries_max > 0, "a table without room");
        Self { places: HashMap::new(), slots: Vec::new(), hand: 0, entries_max }
    }

    /// The value of `key`, marked as used.
    pub fn touch<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.is_used = true;
        Some(&mut slot.value)
    }

    /// The value of `key`, unmarked.
    pub fn value<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.places.get(key).map(|&place| &self.slots[place].value)
    }

    /// Puts `value` in place of what `key` had.
    pub fn insert(&mut self, key: K, value: V) {
        if let Some(known) = self.touch(&key) {
            *known = value;
            return;
        }
        let slot = Slot { key: key.clone(), value, is_used: false };
        let place = match self.slots.len() < self.entries_max {
            true => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
            false => {
                let place = self.unused_place();
                self.places.remove(&self.slots[place].key);
                self.slots[place] = slot;
                place
            }
        };
        self.places.insert(key, place);
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let Some(place) = self.places.remove(key) else {
            return;
        };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        assert_eq!(self.places.len(), self.slots.len());
        self.slots.len()
    }

    fn unused_place(&mut self) -> usize {
        loop {
            let place = self.hand % self.slots.len();
            self.hand = place + 1;
            match self.slots[place].is_used {
                true => self.slots[place].is_used = false,
                false => return place,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::{any, proptest};

    use super::Bounded;

    #[test]
    fn what_is_used_stays() {
        let mut table = Bounded::new(3);
        (0..3).for_each(|key| table.insert(key, key));
        for key in 3..100 {
            assert_eq!(table.touch(&0), Some(&mut 0));
            table.insert(key, key);
            assert_eq!(table.value(&key), Some(&key));
        }
        assert_eq!((table.count(), table.value(&50)), (3, None));
        table.remove(&0);
        assert_eq!((table.count(), table.value(&0), table.value(&99)), (2, None, Some(&99)));
    }

    proptest! {
        #[test]
        fn never_over_the_bound_and_never_astray(steps in collection::vec((0_u8..12, any::<bool>()), 0..100)) {
            let mut table = Bounded::new(5);
            for (key, insert) in steps {
                match insert {
                    true => table.insert(key, key),
                    false => table.remove(&key),
                }
                assert_eq!(table.value(&key).is_some(), insert);
                assert!(table.count() <= 5);
                assert!((0..12).all(|key| table.value(&key).is_none_or(|value| *value == key)));
            }
        }
    }
}
