//! Deadlines of all connections of a shard, swept once a second.
//!
//! A timer per connection and read would cost more than the reads. Instead each connection says until when it
//! waits, and the sweep wakes those that waited too long. A deadline is coarse: it passes up to a second late.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use crate::mail::time::Instant;

/// All deadlines of a shard.
#[derive(Default)]
pub struct Deadlines {
    watched: RefCell<Vec<Weak<Deadline>>>,
}

/// The deadline of one connection.
#[derive(Default)]
pub struct Deadline {
    at: Cell<Option<Instant>>,
    passed: Cell<bool>,
    /// The peer is late in taking what is sent to it, not in sending.
    is_stalled: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

/// A stall in sending; when it ends the deadline for input holds again.
pub(super) struct Stall<'a> {
    deadline: &'a Deadline,
    input: Option<Instant>,
}

impl Deadlines {
    pub(super) fn watch(&self) -> Rc<Deadline> {
        let deadline = Rc::new(Deadline::default());
        self.watched.borrow_mut().push(Rc::downgrade(&deadline));
        deadline
    }

    /// One that is watched already, for whoever wants to wake some connections and not all.
    pub(super) fn watch_too(&self, deadline: &Rc<Deadline>) {
        let mut watched = self.watched.borrow_mut();
        if watched.len() == watched.capacity() {
            watched.retain(|deadline| deadline.strong_count() > 0);
        }
        watched.push(Rc::downgrade(deadline));
    }

    /// Wakes connections whose deadline has passed, and forgets those that are gone.
    pub fn sweep(&self, now: Instant) {
        self.watched.borrow_mut().retain(|deadline| {
            let Some(deadline) = deadline.upgrade() else {
                return false;
            };
            if deadline.at.get().is_some_and(|at| at <= now) {
                deadline.pass();
            }
            true
        });
    }

    /// Wakes all connections that wait for input, as if their deadlines had passed; for a server that stops, or an
    /// account that is gone.
    pub fn pass_all(&self) {
        for deadline in self.watched.borrow().iter().filter_map(Weak::upgrade) {
            if !deadline.is_stalled.get() {
                deadline.pass();
            }
        }
    }
}

impl Deadline {
    /// Forgets that an earlier deadline passed while nobody waited for it.
    pub(super) fn set(&self, at: Option<Instant>) {
        self.at.set(at);
        self.passed.set(false);
    }

    /// The peer has until `at` to take something, for as long as the answer lives.
    pub(super) fn stall(&self, at: Instant) -> Stall<'_> {
        let input = self.at.get();
        self.set(Some(at));
        self.is_stalled.set(true);
        Stall { deadline: self, input }
    }

    /// Ready when the deadline has passed; it has then to be set anew.
    pub(super) fn poll_passed(&self, context: &Context<'_>) -> Poll<()> {
        if self.passed.replace(false) {
            return Poll::Ready(());
        }
        let waker = match self.waiting.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waiting.set(Some(waker));
        Poll::Pending
    }

    fn pass(&self) {
        self.at.set(None);
        self.passed.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        self.deadline.set(self.input);
        self.deadline.is_stalled.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::Deadlines;
    use crate::mail::time::Instant;

    #[test]
    fn a_deadline_passes_once_and_can_be_set_again() {
        let deadlines = Deadlines::default();
        let deadline = deadlines.watch();
        let context = Context::from_waker(Waker::noop());
        deadline.set(Some(Instant(5)));
        deadlines.sweep(Instant(4));
        assert_eq!(deadline.poll_passed(&context), Poll::Pending);
        deadlines.sweep(Instant(5));
        assert_eq!(deadline.poll_passed(&context), Poll::Ready(()));
        deadlines.sweep(Instant(9));
        assert_eq!(deadline.poll_passed(&context), Poll::Pending);
        deadlines.pass_all();
        assert_eq!(deadline.poll_passed(&context), Poll::Ready(()));
    }

    #[test]
    fn a_stall_in_sending_has_its_own_time_and_leaves_that_of_input() {
        let deadlines = Deadlines::default();
        let deadline = deadlines.watch();
        let context = Context::from_waker(Waker::noop());
        deadline.set(Some(Instant(5)));
        let stall = deadline.stall(Instant(9));
        deadlines.sweep(Instant(6));
        deadlines.pass_all();
        assert_eq!(deadline.poll_passed(&context), Poll::Pending);
        drop(stall);
        deadlines.sweep(Instant(4));
        assert_eq!(deadline.poll_passed(&context), Poll::Pending);
        deadlines.sweep(Instant(6));
        assert_eq!(deadline.poll_passed(&context), Poll::Ready(()));
    }
}
