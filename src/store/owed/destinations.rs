//! Names of destinations as numbers: a million rows name a few thousand of them.
//!
//! Invariant: a number means its name as long as a row has it; with the last row it is free for another name.

use std::collections::HashMap;

/// The number of a destination in one log, while mail for it is owed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DestinationId(pub u32);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Destinations {
    /// Name and count of rows; `None` is free.
    slots: Vec<Option<(Box<str>, u32)>>,
    by_name: HashMap<Box<str>, u32>,
    free: Vec<u32>,
}

impl Destinations {
    /// The number of a name, for one row more.
    pub fn take(&mut self, name: &str) -> DestinationId {
        if let Some(&number) = self.by_name.get(name) {
            if let Some((_, rows)) = self.slots.get_mut(number as usize).and_then(Option::as_mut) {
                *rows += 1;
            }
            return DestinationId(number);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("there are fewer destinations than rows")
        });
        self.slots[number as usize] = Some((name.into(), 1));
        self.by_name.insert(name.into(), number);
        DestinationId(number)
    }

    /// One row less has the number.
    pub fn give_back(&mut self, DestinationId(number): DestinationId) {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        match slot {
            Some((_, rows)) if *rows > 1 => *rows -= 1,
            Some((name, _)) => {
                self.by_name.remove(name);
                *slot = None;
                self.free.push(number);
            }
            None => {}
        }
    }

    pub fn name(&self, DestinationId(number): DestinationId) -> Option<&str> {
        self.slots.get(number as usize)?.as_ref().map(|(name, _)| &**name)
    }

    pub fn find(&self, name: &str) -> Option<DestinationId> {
        self.by_name.get(name).copied().map(DestinationId)
    }

    /// Numbers and names, with how many rows have each.
    pub fn iter(&self) -> impl Iterator<Item = (DestinationId, &str, u32)> {
        let numbered = (0..).map(DestinationId).zip(&self.slots);
        numbered.filter_map(|(id, slot)| slot.as_ref().map(|(name, rows)| (id, &**name, *rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::{DestinationId, Destinations};

    #[test]
    fn a_number_is_free_again_after_its_last_row() {
        let mut destinations = Destinations::default();
        let [one, two] = ["one.example", "two.example"].map(|name| destinations.take(name));
        assert_eq!(destinations.take("one.example"), one);
        destinations.give_back(one);
        assert_eq!(destinations.name(one), Some("one.example"));
        destinations.give_back(one);
        assert_eq!((destinations.name(one), destinations.find("one.example")), (None, None));
        assert_eq!(destinations.take("three.example"), one);
        let all: Vec<_> = destinations.iter().collect();
        assert_eq!(all, [(DestinationId(0), "three.example", 1), (two, "two.example", 1)]);
    }
}
