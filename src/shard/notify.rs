//! Who is told when a mailbox changes.
//!
//! A session that looks at a mailbox has a bell for it. A change rings all bells of the mailbox; what changed
//! each session finds out from its own view. A session that is not waiting finds its bell rung later.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use crate::store::{AccountId, MailboxId};

/// All bells of a shard.
#[derive(Default)]
pub struct Bells {
    hung: RefCell<HashMap<(AccountId, MailboxId), Hung>>,
}

/// The bells of one mailbox.
type Hung = Vec<Weak<Bell>>;

/// One session's bell for one mailbox. It stops ringing when it is dropped.
#[derive(Default)]
pub struct Bell {
    rung: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Bells {
    /// A bell that rings when `mailbox` changes.
    pub fn hang(&self, account: AccountId, mailbox: MailboxId) -> Rc<Bell> {
        let bell = Rc::new(Bell::default());
        let mut hung = self.hung.borrow_mut();
        let bells = hung.entry((account, mailbox)).or_default();
        if bells.len() == bells.capacity() {
            bells.retain(|bell| bell.strong_count() > 0);
        }
        bells.push(Rc::downgrade(&bell));
        bell
    }

    pub fn ring(&self, account: AccountId, mailbox: MailboxId) {
        let mut hung = self.hung.borrow_mut();
        let Some(bells) = hung.get_mut(&(account, mailbox)) else {
            return;
        };
        bells.retain(|bell| {
            let Some(bell) = bell.upgrade() else {
                return false;
            };
            bell.ring();
            true
        });
        if bells.is_empty() {
            hung.remove(&(account, mailbox));
        }
    }
}

impl Bell {
    fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for a ring, or finds one that came before, and silences it.
    pub async fn rung(&self) {
        poll_fn(|context| {
            if self.rung.replace(false) {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::Bells;
    use crate::store::{AccountId, MailboxId};

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_dropped_bells_are_forgotten() {
        let bells = Bells::default();
        let bell = bells.hang(AccountId(1), MailboxId(1));
        bells.ring(AccountId(1), MailboxId(2));
        bells.ring(AccountId(1), MailboxId(1));
        block_on(bell.rung());
        drop(bell);
        bells.ring(AccountId(1), MailboxId(1));
        assert!(bells.hung.borrow().is_empty());
    }
}
