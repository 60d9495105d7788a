//! The connections of a source over all sites, counted in one place for all shards.
//!
//! Whoever wants to connect from the source asks; it is granted at once while there are fewer than the limit, else
//! in the order of asking, when others have given theirs back. While somebody waits, whoever holds the most is asked
//! to end one.
//!
//! Invariant: no more are held than the limit allowed when the last of them was granted; who asked first is served
//! first.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

/// See the module.
#[derive(Debug, Default)]
pub struct Slots {
    held: BTreeMap<usize, u32>,
    /// Shards, each as often as it waits.
    waiting: VecDeque<usize>,
}

/// What a shard is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// One more connection is yours.
    Granted,
    /// Somebody waits: end one when it has had its turn.
    Yield,
}

impl Slots {
    /// A shard wants to connect.
    pub fn ask(&mut self, shard: usize, limit: NonZeroU32) -> Vec<(usize, Say)> {
        self.waiting.push_back(shard);
        self.grant(limit)
    }

    /// A connection of a shard has ended.
    pub fn give_back(&mut self, shard: usize, limit: NonZeroU32) -> Vec<(usize, Say)> {
        if let Some(held) = self.held.get_mut(&shard) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&shard);
            }
        }
        self.grant(limit)
    }

    fn grant(&mut self, limit: NonZeroU32) -> Vec<(usize, Say)> {
        let mut says = Vec::new();
        while self.held() < limit.get()
            && let Some(shard) = self.waiting.pop_front()
        {
            *self.held.entry(shard).or_default() += 1;
            says.push((shard, Say::Granted));
        }
        // At each step, so that of those who hold one somebody always knows of those who wait.
        if !self.waiting.is_empty()
            && let Some(most) = self.held.iter().max_by_key(|(_, held)| **held).map(|(shard, _)| *shard)
        {
            says.push((most, Say::Yield));
        }
        says
    }

    pub fn held(&self) -> u32 {
        self.held.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::{prop, proptest};

    use super::{Say, Slots};

    fn limit(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).expect("it is not 0")
    }

    #[test]
    fn who_waits_is_served_in_order_and_the_greatest_holder_yields() {
        let mut slots = Slots::default();
        for _ in 0..2 {
            assert_eq!(slots.ask(1, limit(3)), [(1, Say::Granted)]);
        }
        assert_eq!(slots.ask(0, limit(3)), [(0, Say::Granted)]);
        assert_eq!(slots.ask(2, limit(3)), [(1, Say::Yield)]);
        assert_eq!(slots.ask(0, limit(3)), [(1, Say::Yield)]);
        assert_eq!(slots.give_back(1, limit(3)), [(2, Say::Granted), (2, Say::Yield)], "another waits still");
        assert_eq!(slots.give_back(1, limit(3)), [(0, Say::Granted)]);
        // A lower limit: those who are there end one after the other.
        assert_eq!(slots.ask(1, limit(1)), [(0, Say::Yield)]);
        assert_eq!(slots.give_back(0, limit(1)), [(2, Say::Yield)]);
        assert_eq!(slots.give_back(0, limit(1)), [(2, Say::Yield)]);
        assert_eq!(slots.give_back(2, limit(1)), [(1, Say::Granted)]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_nobody_is_forgotten(
            steps in prop::collection::vec((0..3usize, prop::bool::ANY), 0..200),
            most in 1..5u32,
        ) {
            let mut slots = Slots::default();
            let mut granted = [0u32; 3];
            let mut asked = 0u32;
            let mut served = 0u32;
            for (shard, asks) in steps {
                let says = if asks {
                    asked += 1;
                    slots.ask(shard, limit(most))
                } else if granted[shard] > 0 {
                    granted[shard] -= 1;
                    slots.give_back(shard, limit(most))
                } else {
                    continue;
                };
                let is_one_told = says.iter().any(|(_, say)| *say == Say::Yield);
                for (shard, say) in says {
                    if say == Say::Granted {
                        granted[shard] += 1;
                        served += 1;
                    }
                }
                let held: u32 = granted.iter().sum();
                assert!(held <= most && held == slots.held());
                assert!(held == most || served == asked, "nobody waits while there is room");
                assert_eq!(is_one_told, served < asked, "somebody knows of those who wait");
            }
        }
    }
}
