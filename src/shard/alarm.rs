//! What wakes a task of the same shard: a ring, or a time.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::io::executor::sleep;
use futures_lite::FutureExt;

/// One task waits; anyone of the shard may ring. A ring before the wait ends it at once.
#[derive(Default)]
pub struct Alarm {
    is_rung: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Alarm {
    pub fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for a ring, or for so long.
    pub async fn wait(&self, at_most: Option<Duration>) {
        let rung = poll_fn(|context| {
            if self.is_rung.take() {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        });
        match at_most {
            None => rung.await,
            Some(span) => {
                let timer = async {
                    sleep(span).await;
                };
                rung.or(timer).await;
            }
        }
    }
}
