//! How long a batch stays open behind the first record that somebody waits for: each sync costs the processor about as
//! much as a small message, and each wait costs whoever has sent one its time.

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

impl Commit {
    /// Lets everything that is ready come along: one turn of the executor, and on a busy shard more.
    pub(super) async fn gather(&self) {
        yield_now().await;
        match self.batch_groups.get() {
            ..BUSY_GROUPS => {}
            BUSY_GROUPS..VERY_BUSY_GROUPS => or(self.sockets.quiet(), sleep(GATHER)).await,
            VERY_BUSY_GROUPS.. => or(self.full(), or(self.gap(), sleep(GATHER))).await,
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

    /// Waits until the batch is large enough to be written as it is.
    async fn full(&self) {
        poll_fn(|context: &mut Context<'_>| {
            if self.log.borrow().gathered_bytes() >= GATHERED_BYTES {
                return Poll::Ready(());
            }
            self.driver.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
