//! When what is owed elsewhere is tried: a timeline of messages, and what is ready for each destination.
//!
//! An item is a message with a destination, as two numbers. It waits for its time, is ready, or is out: given to
//! whoever sends it. The schedule is a hint to what the log says, never the truth: an item may be settled, held or
//! put off by the time it is taken, and whoever takes it looks. So nothing has to be found in here and removed, an item
//! that is in here twice does no harm, and heaps do, in which an item costs sixteen bytes.
//!
//! Invariants: an item that was put in comes out; an item is out once; what is ready for a destination comes out
//! by priority, then by its time; work is logarithmic in what waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

/// A heap with room for more than this gives room back when three quarters of it are unused.
const KEPT_ITEMS: usize = 1024;

/// A message with a destination, by the numbers of the log that owes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Item {
    pub message: u64,
    pub destination: u32,
}

/// Items for one destination that go the same way. Which ways there are is the shard's business.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Line {
    pub destination: u32,
    pub way: u16,
}

/// The way of an item of which nothing but its destination is known.
pub const COMMON_WAY: u16 = 0;

#[derive(Debug, Default)]
pub struct Schedule {
    waiting: BinaryHeap<Reverse<Waiting>>,
    ready: BTreeMap<Line, BinaryHeap<Reverse<Ready>>>,
    out: HashSet<Item>,
    /// Lanes that were empty and are not any more, and were not told of.
    fresh: Vec<Line>,
}

/// In the order in which it is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Waiting {
    /// Unix seconds.
    at: u32,
    destination: u32,
    message: u64,
}

/// In the order in which it is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Ready {
    /// Higher priorities first (RFC 6710).
    rank: i8,
    at: u32,
    message: u64,
}

impl Schedule {
    /// Items with their times, all at once, at most so many.
    pub fn of(items: impl Iterator<Item = (Item, u32)>, most: usize) -> Self {
        let mut waiting = Vec::with_capacity(most);
        waiting.extend(items.map(|(Item { message, destination }, at)| {
            let waiting = Waiting { at, destination, message };
            Reverse(waiting)
        }));
        Self { waiting: waiting.into(), ..Self::default() }
    }

    /// `at` is in Unix seconds. An item that is out is not ready before it is back.
    pub fn insert(&mut self, item: Item, at: u32) {
        let Item { message, destination } = item;
        self.waiting.push(Reverse(Waiting { at, destination, message }));
    }

    /// The next item whose time has come, to be made ready by whoever knows its way; with that time.
    pub fn poll_due(&mut self, now: u32) -> Option<(Item, u32)> {
        let &Reverse(Waiting { at, destination, message }) = self.waiting.peek()?;
        if at > now {
            return None;
        }
        self.waiting.pop();
        give_room_back(&mut self.waiting);
        Some((Item { message, destination }, at))
    }

    /// Puts an item in line. `priority` is -9..=9, the highest first.
    pub fn make_ready(&mut self, item: Item, way: u16, priority: i8, at: u32) {
        let line = Line { destination: item.destination, way };
        let heap = self.ready.entry(line).or_default();
        if heap.is_empty() {
            self.fresh.push(line);
        }
        heap.push(Reverse(Ready { rank: priority.saturating_neg(), at, message: item.message }));
    }

    /// A line that was asked for items and gave none is to be told of again.
    pub fn refresh(&mut self, line: Line) {
        if self.ready(line) > 0 {
            self.fresh.push(line);
        }
    }

    /// A line that has got its first items, or was refreshed, since it was last told of.
    pub fn poll_fresh(&mut self) -> Option<Line> {
        self.fresh.pop()
    }

    /// Marks an item as out without giving it to anyone; false if it is out already.
    pub fn claim(&mut self, item: Item) -> bool {
        self.out.insert(item)
    }

    /// Takes the first item of a line, which is out from now on. Items that are out already are passed over: they
    /// come back.
    pub fn take(&mut self, line: Line) -> Option<Item> {
        loop {
            let heap = self.ready.get_mut(&line)?;
            let Some(Reverse(Ready { message, .. })) = heap.pop() else {
                self.ready.remove(&line);
                return None;
            };
            give_room_back(heap);
            let item = Item { message, destination: line.destination };
            if self.out.insert(item) {
                return Some(item);
            }
        }
    }

    /// Whoever had the item is done with it. What is still owed has to be put in again.
    pub fn give_back(&mut self, item: Item) {
        self.out.remove(&item);
    }

    /// What is ready has to be put in line again, by ways that may be others.
    pub fn recall(&mut self) {
        for (line, heap) in std::mem::take(&mut self.ready) {
            let destination = line.destination;
            let again = |Reverse(Ready { at, message, .. })| Reverse(Waiting { at, destination, message });
            self.waiting.extend(heap.into_iter().map(again));
        }
        self.fresh.clear();
    }

    pub fn is_out(&self, item: Item) -> bool {
        self.out.contains(&item)
    }

    /// How many items of a line are ready.
    pub fn ready(&self, line: Line) -> usize {
        self.ready.get(&line).map_or(0, BinaryHeap::len)
    }

    /// Lanes with something ready, each with the number of its items.
    pub fn lines(&self) -> impl Iterator<Item = (Line, usize)> {
        self.ready.iter().filter(|(_, heap)| !heap.is_empty()).map(|(line, heap)| (*line, heap.len()))
    }

    /// Items that wait for their time.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Items that are out.
    pub fn out(&self) -> usize {
        self.out.len()
    }

    /// When the next item's time comes, in Unix seconds.
    pub fn deadline(&self) -> Option<u32> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }
}

fn give_room_back<T: Ord>(heap: &mut BinaryHeap<T>) {
    if heap.capacity() > KEPT_ITEMS && heap.len() < heap.capacity() / 4 {
        heap.shrink_to(2 * heap.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::{COMMON_WAY, Item, KEPT_ITEMS, Line, Schedule};

    const LINE: Line = Line { destination: 1, way: COMMON_WAY };

    fn item(message: u64) -> Item {
        Item { message, destination: LINE.destination }
    }

    #[test]
    fn a_heap_that_was_long_gives_its_room_back() {
        let items = (0..100_000).map(|message| (item(message), 0));
        let mut schedule = Schedule::of(items, 200_000);
        advance(&mut schedule, 0);
        assert!(schedule.waiting.capacity() <= KEPT_ITEMS);
        while schedule.ready(LINE) > 10_000 {
            schedule.take(LINE);
        }
        let heap = &schedule.ready[&LINE];
        assert!((10_000..=40_000).contains(&heap.capacity()), "{}", heap.capacity());
    }

    /// Puts all in line whose time has come.
    fn advance(schedule: &mut Schedule, now: u32) {
        while let Some((item, at)) = schedule.poll_due(now) {
            schedule.make_ready(item, COMMON_WAY, 0, at);
        }
    }

    #[test]
    fn nothing_is_ready_before_its_time_and_priority_goes_first() {
        let mut schedule = Schedule::default();
        for (at, message) in [(30, 1), (10, 2), (20, 3)] {
            schedule.insert(item(message), at);
        }
        advance(&mut schedule, 9);
        assert_eq!((schedule.take(LINE), schedule.deadline()), (None, Some(10)));
        advance(&mut schedule, 30);
        schedule.make_ready(item(4), COMMON_WAY, 9, 30);
        schedule.make_ready(item(5), COMMON_WAY, -9, 1);
        let order: Vec<u64> = std::iter::from_fn(|| schedule.take(LINE)).map(|item| item.message).collect();
        assert_eq!(order, [4, 2, 3, 1, 5]);
        assert_eq!((schedule.poll_fresh(), schedule.poll_fresh()), (Some(LINE), None));
    }

    #[test]
    fn an_item_that_is_out_is_not_given_again_before_it_is_back() {
        let mut schedule = Schedule::default();
        schedule.insert(item(1), 0);
        advance(&mut schedule, 0);
        assert_eq!(schedule.take(LINE), Some(item(1)));
        schedule.insert(item(1), 5);
        advance(&mut schedule, 5);
        assert_eq!(schedule.take(LINE), None);
        schedule.give_back(item(1));
        schedule.insert(item(1), 5);
        advance(&mut schedule, 5);
        assert_eq!(schedule.take(LINE), Some(item(1)));
    }

    #[test]
    fn what_is_claimed_is_given_to_nobody() {
        let mut schedule = Schedule::default();
        schedule.insert(item(1), 0);
        advance(&mut schedule, 0);
        assert_eq!((schedule.claim(item(1)), schedule.claim(item(1))), (true, false));
        assert_eq!(schedule.take(LINE), None);
        schedule.give_back(item(1));
        assert!(schedule.claim(item(1)));
    }

    #[test]
    fn what_is_recalled_is_due_as_before() {
        let mut schedule = Schedule::default();
        schedule.insert(item(1), 5);
        advance(&mut schedule, 5);
        schedule.recall();
        assert_eq!((schedule.ready(LINE), schedule.poll_fresh(), schedule.deadline()), (0, None, Some(5)));
        advance(&mut schedule, 5);
        assert_eq!((schedule.poll_fresh(), schedule.take(LINE)), (Some(LINE), Some(item(1))));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once_and_not_early(times in prop::collection::vec(0..500u32, 1..200)) {
            let mut schedule = Schedule::default();
            (0..).zip(&times).for_each(|(message, &at)| schedule.insert(item(message), at));
            let mut taken = Vec::new();
            for now in 0..=500 {
                advance(&mut schedule, now);
                while let Some(item) = schedule.take(LINE) {
                    assert_eq!(times[item.message as usize], now);
                    taken.push(item.message);
                }
            }
            taken.sort_unstable();
            assert_eq!(taken, (0..times.len() as u64).collect::<Vec<_>>());
        }
    }
}
