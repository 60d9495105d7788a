//! From a complete message to the mailboxes it is for: the promise behind a 250, and its keeping.
//!
//! [`Shard::accept`] appends the message with what is owed to whom; copies for accounts of the same log are
//! delivered in the same group, so that one sync covers both. After the sync the owners of the other copies are
//! written to. An owner delivers, syncs, answers; the answer settles the debt with the next batch.
//!
//! A message that its sender wants held is owed like any other and stays in the [`hold`](super::hold) until its time.
//! What is said to a sender who wants to hear of a delivery is in [`told`].
//!
//! Invariants: what is owed is in the accepting log before anyone is told; an owner answers after its sync; a
//! copy that is asked for twice is delivered once, by its key.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::commit::{Commit, NotStored, Ticket};
use super::logged::Origin;
use super::mesh::{Deliver, Delivered, Letter};
use super::outbound::tell::tell_taken;
use super::seat::Seat;
use super::told;
use crate::bytes::Slice;
use crate::io::clock;
use crate::io::executor::{Turns, sleep, spawn};
use crate::mail::digest::Digest;
use crate::mail::dsn::Action;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::flags::Flags;
use crate::mail::time::Timestamp;
use crate::mailbox::plan::{Incoming, Placed};
use crate::mailbox::{Change, Plan};
use crate::store::owed::{Row, Way};
use crate::store::record::{self, Accepted, Body, Record, Route, Settled};
use crate::store::{AccountId, Locator, LogId, MessageId, Place, RecordPlace};

/// The mailbox that mail is delivered to.
const INBOX: &str = "INBOX";

/// A delivery that could not be stored is tried again so much later.
pub const RETRY: Duration = Duration::from_secs(5);

/// A message with what is to be promised.
pub struct Promise {
    pub accepted: Accepted,
    /// Aliases for several people that it was for, as recipients: the sender wants to hear that they were opened.
    pub expanded: Vec<Recipient>,
}

/// A message that is on its way into the log.
pub struct Promised {
    message: New,
    /// About the message, in the same group.
    notification: Option<New>,
    pub ticket: Rc<Ticket>,
    commit: Rc<Commit>,
}

/// A message of a group.
struct New {
    message: Locator,
    /// Records in front of its own.
    index: u64,
    accepted: Arc<Accepted>,
    /// Where it came from; nowhere, if the server wrote it.
    origin: Option<Origin>,
    /// Recipients whose delivery is to be told when it has come, by their numbers in the envelope.
    told: Vec<u32>,
}

impl Promised {
    /// Waits until it is durable, says so in the event log, and writes to the owners of its copies.
    pub async fn kept(self, shard: &Shard) -> Result<MessageId, NotStored> {
        self.ticket.stored().await?;
        let id_of =
            |new: &New| MessageId { log: new.message.id.log, sequence: self.ticket.first() + new.index };
        for new in std::iter::once(&self.message).chain(&self.notification) {
            let message = new.message.at(id_of(new));
            shard.log_taken(&message, &new.accepted, new.origin, &self.commit.owed());
            shard.send_out(&self.commit, message, &new.accepted, &new.told);
        }
        Ok(id_of(&self.message))
    }
}

impl Shard {
    /// Takes responsibility for a message (RFC 5321 4.2.5) and says its identity, which is
    /// [`Commit::next_message`] of this moment unless the log has to wait for space.
    ///
    /// [`Commit::next_message`]: super::commit::Commit::next_message
    pub async fn accept(
        self: &Rc<Self>,
        promise: Promise,
        body: Body,
        origin: Origin,
    ) -> Result<MessageId, NotStored> {
        let Promise { accepted, expanded } = promise;
        let (commit, told) = (self.own_log(), told::wanted(&accepted));
        let mut changes = Vec::new();
        let message = self.take(commit, (accepted, told.clone()), body.clone(), &mut changes);
        let message = New { origin: Some(origin), ..message };
        let envelope = &message.accepted.envelope;
        let delivered = told.iter().filter(|number| message.told.binary_search(number).is_err());
        let delivered = delivered.filter_map(|number| envelope.recipients.get(*number as usize).cloned());
        let (recipients, actions): (Vec<Recipient>, Vec<Action>) = delivered
            .map(|recipient| (recipient, Action::Delivered))
            .chain(expanded.into_iter().map(|recipient| (recipient, Action::Expanded)))
            .unzip();
        let notification = (!actions.is_empty()).then(|| {
            let envelope = Envelope { recipients, ..envelope.clone() };
            let (accepted, body) = tell_taken(self, (&message.message, &body), &envelope, &actions)?;
            Some(self.take(commit, (accepted, Vec::new()), body, &mut changes))
        });
        let notification = notification.flatten();
        let ticket = commit.append(changes);
        Promised { message, notification, ticket, commit: Rc::clone(commit) }.kept(self).await
    }

    /// Appends a message with what is owed to whom, of which nothing is to be told, behind what comes `before` it, to
    /// become durable together.
    pub fn promise(
        &self,
        commit: &Rc<Commit>,
        before: Vec<Change>,
        accepted: Accepted,
        body: Body,
    ) -> Promised {
        let mut changes = before;
        let message = self.take(commit, (accepted, Vec::new()), body, &mut changes);
        Promised { message, notification: None, ticket: commit.append(changes), commit: Rc::clone(commit) }
    }

    /// Adds to a group a message with what is owed to whom, and its copies for accounts of the same log. The delivery
    /// of `told` is to be told.
    fn take(
        &self,
        commit: &Rc<Commit>,
        (accepted, mut told): (Accepted, Vec<u32>),
        body: Body,
        changes: &mut Vec<Change>,
    ) -> New {
        let received = clock::timestamp();
        let index = changes.len() as u64;
        let next = commit.next_message();
        let id = MessageId { sequence: next.sequence + index, ..next };
        let (message, bytes) = locator(id, &body);
        changes.reserve(1 + accepted.routes.len());
        let accepted = Arc::new(accepted);
        let is_held = accepted.envelope.hold_until.is_some_and(|until| until > received.seconds);
        changes.push(change(Record::Message(record::Message {
            received,
            accepted: Some(Arc::clone(&accepted)),
            body,
        })));
        let mut digest = None;
        for (recipient, route) in (0..).zip(&accepted.routes) {
            let seat = self.local_seat(route).filter(|seat| Rc::ptr_eq(seat.commit(), commit));
            let Some(seat) = seat.filter(|_| !is_held) else {
                continue;
            };
            if digest.is_none() {
                digest = bytes.as_ref().map(|bytes| Arc::new(Digest::of(bytes)));
            }
            let incoming = incoming(message, digest.clone(), (id, recipient), received);
            let Some(plan) = plan_new(&seat, incoming) else {
                continue;
            };
            changes.extend(plan.changes);
            if let Ok(at) = told.binary_search(&recipient) {
                told.remove(at);
            }
        }
        New { message, index, accepted, origin: None, told }
    }

    /// Writes to the owners of what was held until now.
    pub fn release_held(&self) {
        for id in self.held.take_due(clock::timestamp().seconds) {
            if self.send_out_now(id) {
                tracing::info!(message = %id, "a held message is released");
            }
        }
    }

    /// Writes again to the owners of copies that are still owed; whether any are.
    fn send_out_now(&self, id: MessageId) -> bool {
        let Some(commit) = self.log(id.log) else {
            return false;
        };
        let record = commit.owed().of_message(id.sequence).next().map(|row| row.record);
        if let Some(record) = record {
            self.send_out_again(commit, id, record);
        }
        record.is_some()
    }

    /// Writes to the owners of the copies of a message that are still owed to accounts, or holds them until their
    /// time. `message` need not know its place: its record does. The delivery of `told` is to be told.
    fn send_out(&self, commit: &Commit, message: Locator, accepted: &Arc<Accepted>, told: &[u32]) {
        let now = clock::timestamp().seconds;
        let low_water = commit.settled_below();
        let directory = self.directory();
        for row in commit.owed().of_message(message.id.sequence) {
            let Way::Local(AccountId(account)) = row.way else {
                continue;
            };
            if waits(row, now) {
                self.held.hold(message.id, row.due.into());
                continue;
            }
            // Without an account of this number the copy stays in the queue, for the operator to see.
            let Some(owner) = directory.account(account) else {
                continue;
            };
            let shard = self.mesh.driver_of(LogId(owner.log));
            let (message, recipient) = (message.placed(row.record), row.recipient);
            let received_seconds = i64::from(row.received);
            let tells_sender = told.binary_search(&recipient).is_ok();
            let (accepted, cut) = (Arc::clone(accepted), self.cut_number());
            self.mesh.ask(
                shard,
                Deliver {
                    message,
                    recipient,
                    accepted,
                    account,
                    low_water,
                    received_seconds,
                    tells_sender,
                    cut,
                },
            );
        }
    }

    /// Delivers a copy to an account of this shard and answers when it is durable.
    pub async fn deliver(self: Rc<Self>, letter: Deliver) {
        let from = self.mesh.driver_of(letter.message.id.log);
        loop {
            match self.try_deliver(&letter).await {
                Ok(kept) => {
                    let Deliver { message, recipient, tells_sender, .. } = letter;
                    let (log, message, cut) = (message.id.log, message.id, self.cut_number());
                    let delivered = Delivered { log, message, recipient, kept, tells_sender, cut };
                    return self.mesh.post(from, Letter::Delivered(delivered));
                }
                Err(reason) => {
                    let message = letter.message.id;
                    tracing::error!(%message, ?reason, "a delivery is not stored yet; it is tried again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_deliver(self: &Rc<Self>, letter: &Deliver) -> Result<bool, NotStored> {
        let Some(log) = self.directory().account(letter.account).map(|account| account.log) else {
            return Ok(false);
        };
        let Some(seat) = self.open_seat(AccountId(letter.account), LogId(log)).await else {
            return Err(NotStored::Failed);
        };
        seat.account_mut().trim_delivered(letter.message.id.log, letter.low_water);
        let key = (letter.message.id, letter.recipient);
        if seat.account().is_delivered(key) {
            // It may have been asked for twice, with the first still in flight, and that one may get lost.
            seat.commit().barrier().await?;
            return if seat.account().is_delivered(key) { Ok(true) } else { Err(NotStored::Failed) };
        }
        let digest = self.read(&letter.message).map(|bytes| Arc::new(Digest::of(&bytes)));
        let received = Timestamp { seconds: letter.received_seconds, zone_minutes: 0 };
        // What the account's own log owes is settled by the delivery itself, so that the sender is told with that.
        let home = seat.commit();
        let is_told = letter.tells_sender && letter.message.id.log == home.id();
        let told = is_told.then(|| self.notification(home, key.0, &[key.1])).flatten();
        let Some(plan) = plan(&seat, incoming(letter.message, digest, key, received)) else {
            return Err(NotStored::Failed);
        };
        match told {
            None => drop(seat.carry_out(plan).await?),
            Some((accepted, body)) => {
                let mut changes = plan.changes;
                // That it is settled is an outcome, for which there is space where there is none for new mail.
                changes.push(settled(key));
                self.promise(home, changes, accepted, body).kept(self).await?;
            }
        }
        self.log_delivered(letter);
        Ok(true)
    }

    /// A copy has arrived, or has nowhere to go.
    pub fn delivered(self: &Rc<Self>, letter: Delivered) {
        self.mesh.answered();
        let Some(commit) = self.log(letter.log) else {
            return;
        };
        if !letter.kept {
            let message = letter.message;
            tracing::warn!(%message, "the account of a queued message is gone; the message stays in the queue");
            return;
        }
        let key = (letter.message, letter.recipient);
        match letter.tells_sender {
            true => self.settle_and_tell(commit, key),
            false => drop(commit.append_lazily(vec![settled(key)])),
        }
    }

    /// The messages of which this shard's logs owe copies to accounts now. Those whose time is still to come are held.
    pub fn owed_to_accounts(&self) -> Vec<MessageId> {
        let now = clock::timestamp().seconds;
        let mut all = Vec::new();
        for commit in self.logs() {
            let owed = commit.owed();
            for row in owed.rows().filter(|row| matches!(row.way, Way::Local(_))) {
                let id = MessageId { log: commit.id(), sequence: row.message };
                match waits(row, now) {
                    true => self.held.hold(id, row.due.into()),
                    false => all.push(id),
                }
            }
        }
        all.dedup();
        all
    }

    /// Asks again for what was owed to accounts when the shard started.
    pub async fn send_out_all(self: Rc<Self>, owed: Vec<MessageId>) {
        let mut turns = Turns::begin();
        for id in owed {
            if self.is_stopping() {
                return;
            }
            self.send_out_now(id);
            turns.give().await;
        }
    }

    /// As [`Shard::send_out`], for a message of which only the record is known.
    fn send_out_again(&self, commit: &Commit, id: MessageId, record: RecordPlace) {
        match self.reader.taken(id, record) {
            Ok((kept, message)) => {
                let accepted = message.accepted.unwrap_or_default();
                self.send_out(commit, kept.message, &accepted, &told::wanted(&accepted));
            }
            Err(error) => tracing::error!(message = %id, %error, "an owed message cannot be read"),
        }
    }

    fn local_seat(&self, route: &Route) -> Option<Rc<Seat>> {
        match route {
            Route::Local(account) => self.seat(*account),
            Route::Remote => None,
        }
    }

    /// Answers letters about mail.
    pub fn start_delivery(self: &Rc<Self>, letter: Deliver) {
        spawn("delivery", Rc::clone(self).deliver(letter));
    }
}

/// Where the message will be, and its bytes if they are in memory.
pub fn locator(id: MessageId, body: &Body) -> (Locator, Option<Slice>) {
    match body {
        Body::Inline { bytes, return_path_length } => {
            // The log fills in the place when the group is appended.
            let place = Place::Segment { number: 0, offset: 0 };
            let length = bytes.len() as u64;
            let locator = Locator { id, place, length, return_path_length: *return_path_length };
            (locator, Some(bytes.clone()))
        }
        Body::File { number, length, return_path_length, .. } => {
            let place = Place::File { number: *number };
            (Locator { id, place, length: *length, return_path_length: *return_path_length }, None)
        }
    }
}

/// Whether the time of a copy is still to come. One whose time is when it came waits for nothing, wherever the clock
/// stands now.
fn waits(row: &Row, now: i64) -> bool {
    row.due > row.received && i64::from(row.due) > now
}

pub fn change(record: Record) -> Change {
    Change { record, digest: None }
}

pub fn settled((message, recipient): (MessageId, u32)) -> Change {
    change(Record::Settled(Settled { message: message.sequence, recipient }))
}

fn incoming(
    message: Locator,
    digest: Option<Arc<Digest>>,
    key: (MessageId, u32),
    received: Timestamp,
) -> Incoming {
    Incoming {
        message,
        digest,
        key: Some(key),
        flags: Flags::default(),
        internal: received,
        saved: clock::timestamp().seconds,
    }
}

/// The copy of a message that is accepted in the same group. `None` if the account cannot take it now; the copy
/// is then owed.
fn plan_new(seat: &Seat, incoming: Incoming) -> Option<Plan<Placed>> {
    let mut account = seat.account_mut();
    let inbox = account.named(INBOX)?.id();
    account.plan_deliver_new(inbox, incoming).ok()
}

/// `None` if the account has no INBOX, which only an account has that is being made, or if it has the copy.
fn plan(seat: &Seat, incoming: Incoming) -> Option<Plan<Placed>> {
    let mut account = seat.account_mut();
    let inbox = account.named(INBOX)?.id();
    account.plan_deliver(inbox, incoming).ok().flatten()
}
