//! What the homes still have for a site, and whose turn it is to be asked.
//!
//! A home says how many messages wait; it is asked for some of them, once at a time; it answers with as many as it
//! has, and says how many remain. Feeds of one pool are asked in turn, so that a home with a million messages does
//! not hold up one with a single message.
//!
//! Invariants: a feed stands in the queue of its pool once, exactly while it has messages and is not being asked;
//! `asked` is the sum of what is asked for.

use std::collections::{BTreeMap, VecDeque};

use super::job::FeedId;
use super::policy::PoolId;

/// See the module.
#[derive(Default)]
pub struct Feeds {
    feeds: BTreeMap<FeedId, Feed>,
    queues: BTreeMap<PoolId, VecDeque<FeedId>>,
    asked: usize,
}

#[derive(Default)]
struct Feed {
    /// What the home has, apart from what it was asked for.
    waiting: u32,
    asked: u32,
}

impl Feeds {
    /// What the home has now, all told.
    pub fn set_waiting(&mut self, id: FeedId, count: u32) {
        let feed = self.feeds.entry(id).or_default();
        let was_queued = feed.is_queued();
        feed.waiting = count.saturating_sub(feed.asked);
        self.settle(id, was_queued);
    }

    pub fn begin_asking(&mut self, id: FeedId, count: u32) {
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        let was_queued = feed.is_queued();
        feed.asked = count;
        feed.waiting = feed.waiting.saturating_sub(count);
        self.asked += usize::try_from(count).unwrap_or(usize::MAX);
        self.settle(id, was_queued);
    }

    /// The answer has come; so many remain there.
    pub fn end_asking(&mut self, id: FeedId, remaining: u32) {
        let feed = self.feeds.entry(id).or_default();
        let was_queued = feed.is_queued();
        self.asked -= usize::try_from(feed.asked).unwrap_or(usize::MAX);
        feed.asked = 0;
        feed.waiting = remaining;
        self.settle(id, was_queued);
    }

    /// No answer will come.
    pub fn forget(&mut self, id: FeedId) {
        self.end_asking(id, 0);
    }

    /// Whose turn it is in a pool, and how many it has.
    pub fn next(&self, pool: PoolId) -> Option<(FeedId, u32)> {
        let id = *self.queues.get(&pool)?.front()?;
        self.feeds.get(&id).map(|feed| (id, feed.waiting))
    }

    /// How many feeds of the pool have messages that were not asked for.
    pub fn queued(&self, pool: PoolId) -> usize {
        self.queues.get(&pool).map_or(0, VecDeque::len)
    }

    /// Pools that have mail at a home.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.queues.keys().copied()
    }

    /// Messages that were asked for and have not come.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// No home has anything, nor was asked.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Puts the feed where its counts say: into the queue, out of it, or away.
    fn settle(&mut self, id: FeedId, was_queued: bool) {
        let Some(feed) = self.feeds.get(&id) else {
            return;
        };
        match (was_queued, feed.is_queued()) {
            (false, true) => self.queues.entry(id.pool).or_default().push_back(id),
            (true, false) => {
                let queue = self.queues.entry(id.pool).or_default();
                // It is the first, but for a hint that was taken back.
                if let Some(place) = queue.iter().position(|queued| *queued == id) {
                    queue.remove(place);
                }
                if queue.is_empty() {
                    self.queues.remove(&id.pool);
                }
            }
            _ => {}
        }
        if feed.waiting == 0 && feed.asked == 0 {
            self.feeds.remove(&id);
        }
    }
}

impl Feed {
    fn is_queued(&self) -> bool {
        self.waiting > 0 && self.asked == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{FeedId, Feeds, PoolId};

    fn feed(home: u32) -> FeedId {
        FeedId { home, destination: 0, pool: PoolId::default() }
    }

    /// The order in which feeds are asked, ten at a time.
    fn asked(feeds: &mut Feeds, times: usize) -> Vec<u32> {
        let mut order = Vec::new();
        for _ in 0..times {
            let Some((id, waiting)) = feeds.next(PoolId::default()) else {
                break;
            };
            feeds.begin_asking(id, waiting.min(10));
            assert_ne!(feeds.next(PoolId::default()).map(|(next, _)| next), Some(id), "once at a time");
            order.push(id.home);
            feeds.end_asking(id, waiting.saturating_sub(10));
        }
        order
    }

    #[test]
    fn feeds_take_turns() {
        let mut feeds = Feeds::default();
        for (home, count) in [(1, 1_000_000), (2, 5), (3, 25)] {
            feeds.set_waiting(feed(home), count);
        }
        assert_eq!(asked(&mut feeds, 8), [1, 2, 3, 1, 3, 1, 3, 1]);
        assert_eq!((feeds.queued(PoolId::default()), feeds.asked()), (1, 0));
    }

    #[test]
    fn a_hint_may_be_taken_back_and_repeated() {
        let mut feeds = Feeds::default();
        feeds.set_waiting(feed(1), 3);
        feeds.set_waiting(feed(1), 4);
        assert_eq!(feeds.next(PoolId::default()), Some((feed(1), 4)));
        feeds.set_waiting(feed(1), 0);
        assert!(feeds.is_empty() && feeds.pools().next().is_none());
        feeds.set_waiting(feed(1), 10);
        feeds.begin_asking(feed(1), 10);
        feeds.set_waiting(feed(1), 15);
        assert_eq!((feeds.next(PoolId::default()), feeds.asked()), (None, 10));
        feeds.end_asking(feed(1), 5);
        assert_eq!(feeds.next(PoolId::default()), Some((feed(1), 5)));
        feeds.begin_asking(feed(1), 5);
        feeds.forget(feed(1));
        assert!(feeds.is_empty() && feeds.asked() == 0);
    }
}
