//! An account at its owner: its mailboxes in memory beside the log they are written to.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::commit::{Commit, NotStored};
use super::state::{Changing, State};
use crate::io::net::{Conn, Deadlines};
use crate::mailbox::account::Account;
use crate::mailbox::{Change, Plan};
use crate::store::{AccountId, MailboxId};

/// The accounts of a shard.
#[derive(Default)]
pub struct Seats {
    seats: RefCell<HashMap<AccountId, Rc<Seat>>>,
}

pub struct Seat {
    id: AccountId,
    account: State<Account>,
    commit: Rc<Commit>,
    /// Bytes in its mailboxes, for all shards to read at RCPT.
    usage: RefCell<Arc<AtomicU64>>,
    /// What the last checkpoint does not know of it yet.
    changed: RefCell<Option<BTreeSet<MailboxId>>>,
    /// The connections of its sessions.
    sessions: Deadlines,
    /// The account was removed: nobody is served any more.
    is_gone: Cell<bool>,
}

impl Seats {
    pub fn insert(&self, seat: Rc<Seat>) {
        let before = self.seats.borrow_mut().insert(seat.id(), seat);
        assert!(before.is_none(), "an account has one seat");
    }

    pub fn seat(&self, account: AccountId) -> Option<Rc<Seat>> {
        self.seats.borrow().get(&account).cloned()
    }

    /// In the order of their numbers.
    pub fn all(&self) -> Vec<Rc<Seat>> {
        let mut seats: Vec<Rc<Seat>> = self.seats.borrow().values().cloned().collect();
        seats.sort_unstable_by_key(|seat| seat.id());
        seats
    }
}

impl Seat {
    pub fn new(account: Account, commit: Rc<Commit>) -> Rc<Self> {
        let id = account.id();
        let account = State::new(account);
        Rc::new(Self {
            id,
            account,
            commit,
            usage: RefCell::default(),
            changed: RefCell::default(),
            sessions: Deadlines::default(),
            is_gone: Cell::new(false),
        })
    }

    pub fn id(&self) -> AccountId {
        self.id
    }

    pub fn commit(&self) -> &Rc<Commit> {
        &self.commit
    }

    /// To look. Not across an await.
    pub fn account(&self) -> Ref<'_, Account> {
        self.account.borrow()
    }

    /// To plan. Not across an await.
    pub fn account_mut(&self) -> Changing<'_, Account> {
        self.account.borrow_mut()
    }

    /// Appends what was planned just now and waits until it is durable and visible.
    pub async fn carry_out<T>(&self, plan: Plan<T>) -> Result<T, NotStored> {
        match plan.changes.is_empty() {
            // It may be so because another session's change of the same is under way, and has to be true first.
            true => self.commit.barrier().await?,
            false => self.commit.append(plan.changes).stored().await?,
        }
        Ok(plan.answer)
    }

    /// Makes a synced change visible.
    pub fn apply(&self, change: &Change) {
        let mut account = self.account_mut();
        let before = account.usage().bytes;
        account.apply(&change.record, change.digest.as_ref());
        self.commit.files().add_gone(before.saturating_sub(account.usage().bytes));
        self.usage.borrow().store(account.usage().bytes, Ordering::Relaxed);
    }

    /// All of the account but its messages, for a checkpoint or a base, without the keys of deliveries that nobody asks
    /// for again.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut account = self.account_mut();
        account.trim_delivered(self.commit.id(), self.commit.settled_below());
        account.snapshot()
    }

    /// The next checkpoint has to take the account again, and this mailbox of it.
    pub fn mark(&self, mailbox: Option<MailboxId>) {
        self.changed.borrow_mut().get_or_insert_default().extend(mailbox);
    }

    /// What changed since the last checkpoint; `None` if nothing did.
    pub fn changed(&self) -> Option<BTreeSet<MailboxId>> {
        self.changed.borrow().clone()
    }

    pub fn is_changed(&self) -> bool {
        self.changed.borrow().is_some()
    }

    /// From now on changes are counted for the checkpoint after this one.
    pub fn take_changed(&self) -> Option<BTreeSet<MailboxId>> {
        self.changed.take()
    }

    /// A session begins; it ends when it sees that the account is gone, for which it is woken.
    pub fn welcome(&self, conn: &Conn) {
        conn.join(&self.sessions);
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether the account was removed. Whoever adds it again brings it back, and so does a purge that failed.
    pub fn set_gone(&self, is_gone: bool) {
        if is_gone && !self.is_gone.get() {
            self.sessions.pass_all();
        }
        self.is_gone.set(is_gone);
    }

    /// Publishes the bytes in use where all shards look for them.
    pub fn publish_usage(&self, counter: &Arc<AtomicU64>) {
        counter.store(self.account().usage().bytes, Ordering::Relaxed);
        *self.usage.borrow_mut() = Arc::clone(counter);
    }
}
