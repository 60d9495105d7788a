//! Where a thread's messages come from: the schedule of an open loop, or the end of the message before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::measure::Tally;
use crate::plan::{Schedule, Share};
use crate::smtp::load::{Limit, Load, Pace};

/// What the threads of a run share.
#[derive(Default)]
pub struct Shared {
    /// The number of the next message of a closed loop.
    next: AtomicU64,
    is_stopped: AtomicBool,
}

pub enum Source {
    /// Whenever a session is free, until then or that number.
    Closed {
        end: u64,
        limit: u64,
    },
    Open(Box<Open>),
    Dry,
}

/// Messages on schedule.
pub struct Open {
    schedule: Schedule,
    limit: u64,
    /// What waits for a session after the end of the schedule is dropped after so long.
    drain_ns: u64,
    drop_at: u64,
    /// What is due and has no session yet.
    backlog: VecDeque<Due>,
}

/// A message that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub number: u64,
    /// When it should be sent.
    pub at: u64,
}

impl Shared {
    /// No thread begins another message.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

impl Source {
    pub fn new(load: &Load, share: Share, begin: u64) -> Self {
        let (end, limit) = match load.limit {
            Limit::Time(time) => (begin + time.as_nanos() as u64, u64::MAX),
            Limit::Messages(count) => (u64::MAX, count),
        };
        match load.pace {
            Pace::Closed => Self::Closed { end, limit },
            Pace::Open(rate, arrivals) => Self::Open(Box::new(Open {
                schedule: Schedule::new(rate, arrivals, share, load.seed, begin..end),
                limit,
                drain_ns: load.drain_max.as_nanos() as u64,
                drop_at: u64::MAX,
                backlog: VecDeque::new(),
            })),
        }
    }

    /// The next message, if one is due.
    pub fn next(&mut self, shared: &Shared, now: u64) -> Option<Due> {
        let due = match self {
            _ if shared.is_stopped() => None,
            Self::Dry => None,
            // There may be more later.
            Self::Open(open) => return open.backlog.pop_front(),
            Self::Closed { end, limit } => {
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                (now < *end && number < *limit).then_some(Due { number, at: now })
            }
        };
        if due.is_none() && matches!(self, Self::Closed { .. }) {
            *self = Self::Dry;
        }
        due
    }

    /// Notes what has fallen due; says when to look again.
    pub fn take_due(&mut self, shared: &Shared, tally: &mut Tally, now: u64) -> Option<u64> {
        let Self::Open(open) = self else { return None };
        let next = if shared.is_stopped() { None } else { open.take_due(tally, now) };
        if next.is_none() {
            // Late by at least so much: without them the end of a hang would look fast.
            open.backlog.iter().for_each(|due| tally.corrected.record(now.saturating_sub(due.at)));
            tally.counts.dropped += open.backlog.len() as u64;
            *self = Self::Dry;
        }
        next
    }

    /// Nothing comes any more.
    pub fn is_dry(&self) -> bool {
        matches!(self, Self::Dry)
    }
}

impl Open {
    fn take_due(&mut self, tally: &mut Tally, now: u64) -> Option<u64> {
        while let Some((number, at)) = self.schedule.pop_due(now).filter(|(number, _)| *number < self.limit) {
            tally.lag.record(now - at);
            self.backlog.push_back(Due { number, at });
        }
        let next = self.schedule.peek().filter(|_| self.schedule.next_number() < self.limit);
        if next.is_some() {
            return next;
        }
        self.drop_at = self.drop_at.min(now + self.drain_ns);
        (now < self.drop_at && !self.backlog.is_empty()).then_some(self.drop_at)
    }
}
