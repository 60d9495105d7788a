//! The promise of an answer to who appended.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::store::Sequence;

/// The promise of an answer to who appended.
pub struct Ticket {
    /// Where the records are in the log; where they were planned to be until they have their place.
    first: Cell<Sequence>,
    fate: Cell<Fate>,
    asker: Cell<Option<Waker>>,
    /// Tasks that wait beside the asker, at a barrier.
    others: Cell<Vec<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Waiting,
    Stored,
    Lost(NotStored),
}

/// Why records did not become durable. They never will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotStored {
    /// There is no space.
    Full,
    /// The disk failed.
    Failed,
    /// The group does not fit into any segment.
    TooLarge,
}

impl Ticket {
    pub fn new(first: Sequence) -> Self {
        let first = Cell::new(first);
        Self { first, fate: Cell::new(Fate::Waiting), asker: Cell::default(), others: Cell::default() }
    }

    /// Sequence of the first record; final once the records are stored.
    pub fn first(&self) -> Sequence {
        self.first.get()
    }

    /// Why the records will never be durable, once that is known.
    pub fn lost(&self) -> Option<NotStored> {
        match self.fate.get() {
            Fate::Lost(why) => Some(why),
            Fate::Waiting | Fate::Stored => None,
        }
    }

    /// They have their place.
    pub fn set_first(&self, first: Sequence) {
        self.first.set(first);
    }

    /// Waits until the records are durable and visible. Any number of tasks may wait.
    pub async fn stored(&self) -> Result<(), NotStored> {
        poll_fn(|context| match self.fate.get() {
            Fate::Stored => Poll::Ready(Ok(())),
            Fate::Lost(why) => Poll::Ready(Err(why)),
            Fate::Waiting => {
                self.remember(context.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Nearly always one task waits, and costs no allocation.
    fn remember(&self, waker: &Waker) {
        match self.asker.take() {
            Some(asker) if !asker.will_wake(waker) => {
                self.asker.set(Some(asker));
                let mut others = self.others.take();
                if !others.iter().any(|other| other.will_wake(waker)) {
                    others.push(waker.clone());
                }
                self.others.set(others);
            }
            _ => self.asker.set(Some(waker.clone())),
        }
    }

    pub fn answer(&self, fate: Fate) {
        self.fate.set(fate);
        self.asker.take().into_iter().chain(self.others.take()).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::{Fate, Ticket};
    use crate::store::Sequence;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_who_wait_for_a_ticket_are_woken() {
        let ticket = Ticket::new(Sequence(1));
        let tasks: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
        let mut waits = [pin!(ticket.stored()), pin!(ticket.stored()), pin!(ticket.stored())];
        let wakers: Vec<Waker> = tasks.iter().map(|task| Waker::from(Arc::clone(task))).collect();
        for _ in 0..2 {
            for (wait, waker) in waits.iter_mut().zip(&wakers) {
                assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
        }
        ticket.answer(Fate::Stored);
        for (task, (wait, waker)) in tasks.iter().zip(waits.iter_mut().zip(&wakers)) {
            assert_eq!(task.0.load(Ordering::Relaxed), 1);
            assert_eq!(wait.as_mut().poll(&mut Context::from_waker(waker)), Poll::Ready(Ok(())));
        }
    }
}
