//! The timers of a shard that sleeps in its ring of sockets (`io/net/sockets`).
//!
//! Invariants: a timer wakes its task at the first turn after its time, once; one that was dropped wakes nobody.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::clock;

thread_local! {
    static TIMERS: Timers = const { Timers { due: RefCell::new(BTreeMap::new()), made: Cell::new(0) } };
}

struct Timers {
    /// By time, and by number where the time is the same.
    due: RefCell<BTreeMap<(Instant, u64), Waker>>,
    made: Cell<u64>,
}

/// Is ready when its time has come.
pub struct Timer((Instant, u64));

impl Timer {
    pub fn after(span: Duration) -> Self {
        let number = TIMERS.with(|timers| timers.made.replace(timers.made.get() + 1));
        Self((clock::precise() + span, number))
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.0 <= clock::precise() {
            return Poll::Ready(());
        }
        TIMERS.with(|timers| timers.due.borrow_mut().insert(self.0, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        TIMERS.with(|timers| timers.due.borrow_mut().remove(&self.0));
    }
}

/// Wakes the tasks whose time has come; how many there were.
pub fn fire(now: Instant) -> usize {
    let mut count = 0;
    while let Some(waker) = TIMERS.with(|timers| timers.take(now)) {
        waker.wake();
        count += 1;
    }
    count
}

/// When the next one is due.
pub fn next() -> Option<Instant> {
    TIMERS.with(|timers| timers.due.borrow().first_key_value().map(|((at, _), _)| *at))
}

impl Timers {
    fn take(&self, now: Instant) -> Option<Waker> {
        let mut due = self.due.borrow_mut();
        let first = due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::{Timer, fire, next};
    use crate::io::clock;

    #[test]
    fn timers_fire_in_order_and_dropped_ones_do_not() {
        let mut context = Context::from_waker(Waker::noop());
        let span = |seconds| Duration::from_secs(seconds);
        let mut timers = [30, 10, 10, 20].map(|seconds| Timer::after(span(seconds)));
        assert!(timers.iter_mut().all(|timer| Future::poll(Pin::new(timer), &mut context).is_pending()));
        let began = timers[1].0.0 - span(10);
        assert_eq!(next(), Some(timers[1].0.0));
        let [late, first, second, dropped] = timers;
        drop(dropped);
        let at = |seconds: u64| began + span(seconds) + Duration::from_millis(100);
        assert_eq!((fire(at(9)), fire(at(10)), fire(at(25)), fire(at(30))), (0, 2, 0, 1));
        assert_eq!(next(), None);
        drop((late, first, second));
        let mut past = Timer::after(Duration::ZERO);
        assert!(Future::poll(Pin::new(&mut past), &mut context).is_ready());
        assert!(clock::precise() < at(9));
    }
}
