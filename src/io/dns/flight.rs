//! A lookup under way, and those who wait for it.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::proto::dns::Known;

/// What is known in the end, or who said what.
pub type Landed = Result<Rc<Known>, Rc<str>>;

/// A lookup under way.
#[derive(Default)]
pub struct Flight {
    landed: OnceCell<Landed>,
    waiting: RefCell<Vec<Waker>>,
}

impl Flight {
    /// Tells all who wait. Only the first word counts.
    pub fn land(&self, landed: Landed) {
        // A second word is that of a guard, which could not know.
        let _ = self.landed.set(landed);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for the end.
    pub async fn landing(&self) -> Landed {
        poll_fn(|context| {
            if let Some(landed) = self.landed.get() {
                return Poll::Ready(landed.clone());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_lite::future::{block_on, poll_once, zip};

    use super::Flight;

    #[test]
    fn all_who_wait_are_told_the_first_word() {
        let flight = Flight::default();
        let mut given_up = Box::pin(flight.landing());
        assert!(block_on(poll_once(&mut given_up)).is_none());
        drop(given_up);
        let waiting = zip(flight.landing(), flight.landing());
        let landing = async {
            flight.land(Err(Rc::from("first")));
            flight.land(Err(Rc::from("second")));
        };
        let ((one, other), ()) = block_on(zip(waiting, landing));
        assert_eq!((&*one.unwrap_err(), &*other.unwrap_err()), ("first", "first"));
        assert_eq!(&*block_on(flight.landing()).unwrap_err(), "first");
    }
}
