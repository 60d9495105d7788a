//! How long a batch stays open behind the first record that somebody waits for: each sync costs the processor about as
//! much as a small message, and each wait costs whoever has sent one its time.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::future::{or, yield_now};

use super::Commit;
use crate::io::executor::sleep;

/// With so many groups in the last batch the shard is busy: it gathers until everything that has come in was taken.
const BUSY_GROUPS: usize = 4;

/// With so many it is so busy that more may come in while it waits, and a sync less is worth the time.
const VERY_BUSY_GROUPS: usize = 8;

/// How long it waits for one more: about what a sync takes of the processor.
const GAP: Duration = Duration::from_micros(75);

/// Beside the writing of so many bytes a sync costs little.
const GATHERED_BYTES: usize = 256 * 1024;

/// How long a busy shard gathers at most.
const GATHER: Duration = Duration::from_millis(1);

/// Batches with so many groups on average say that a second comes soon behind the first.
const SHARED_GROUPS: f32 = 1.2;

/// How long the first waits for it.
const COMPANY: Duration = Duration::from_micros(300);

/// What the last batch is of the average.
const WEIGHT: f32 = 1.0 / 16.0;

/// What the batches have held, which tells what comes while the next stays open.
pub(super) struct Batches {
    /// Groups in the last one.
    last: Cell<usize>,
    average: Cell<f32>,
    /// Others sync on the same disk. Each has a part of the mail, and would sync for fewer messages at a time than one
    /// that has all of it.
    has_others: bool,
}

impl Batches {
    pub fn beside(others: usize) -> Self {
        Self { last: Cell::new(0), average: Cell::new(0.0), has_others: others > 0 }
    }

    pub fn count(&self, groups: usize) {
        self.last.set(groups);
        self.average.set(self.average.get() + (groups as f32 - self.average.get()) * WEIGHT);
    }

    /// Whether the first group of a batch waits for a second.
    fn have_company(&self) -> bool {
        self.has_others && self.average.get() >= SHARED_GROUPS
    }
}

impl Commit {
    /// Lets everything that is ready come along: one turn of the executor, and on a busy shard more.
    pub(super) async fn gather(&self) {
        yield_now().await;
        match self.batches.last.get() {
            ..BUSY_GROUPS if self.batches.have_company() => {
                or(self.holds(|| self.pending.borrow().len() > 1), sleep(COMPANY)).await
            }
            ..BUSY_GROUPS => {}
            BUSY_GROUPS..VERY_BUSY_GROUPS => or(self.sockets.quiet(), sleep(GATHER)).await,
            VERY_BUSY_GROUPS.. => {
                let is_full = || self.log.borrow().gathered_bytes() >= GATHERED_BYTES;
                or(self.holds(is_full), or(self.gap(), sleep(GATHER))).await
            }
        }
    }

    /// Waits until nothing was appended for a while.
    async fn gap(&self) {
        loop {
            let before = self.log.borrow().gathered_bytes();
            sleep(GAP).await;
            if self.log.borrow().gathered_bytes() == before {
                return;
            }
        }
    }

    /// Waits until the batch holds enough to be written as it is.
    async fn holds(&self, enough: impl Fn() -> bool) {
        poll_fn(|context: &mut Context<'_>| {
            if enough() {
                return Poll::Ready(());
            }
            self.driver.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::Batches;

    #[test]
    fn a_batch_waits_for_company_where_it_has_come_before_and_others_sync_beside_it() {
        let (alone, beside) = (Batches::beside(0), Batches::beside(1));
        assert!(!beside.have_company(), "nothing has come yet");
        for batches in [&alone, &beside] {
            (0..64).for_each(|number| batches.count(1 + number % 2));
        }
        assert!(beside.have_company());
        assert!(!alone.have_company());

        (0..64).for_each(|_| beside.count(1));
        assert!(!beside.have_company(), "each comes alone");
    }
}
