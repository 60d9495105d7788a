//! Telling senders that their mail is in mailboxes here, where they asked to hear that (NOTIFY=SUCCESS, RFC 3461 4.1).
//!
//! What is delivered in the group that takes a message is told in that group. Copies that other logs deliver stay owed
//! until they are told, all together that are confirmed within a moment; one that its own log delivers later is told
//! in the group of its delivery.
//!
//! Invariants: a copy that is to be told is settled in the group of the notification about it; no notification is
//! about a copy that is not durable where it was delivered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::commit::Commit;
use super::deliver::{RETRY, settled};
use super::outbound::tell::tell_delivered;
use crate::io::executor::{sleep, spawn};
use crate::mail::dsn::{self, Action};
use crate::mailbox::Change;
use crate::store::MessageId;
use crate::store::record::{Accepted, Body, Route};

/// For so long a notification waits for other copies of its message.
const TOGETHER: Duration = Duration::from_millis(200);

/// Copies that were delivered elsewhere and are about to be told: numbers of recipients by messages.
#[derive(Default)]
pub struct Telling(RefCell<BTreeMap<MessageId, Vec<u32>>>);

impl Telling {
    /// True for the first of its message.
    fn add(&self, message: MessageId, recipient: u32) -> bool {
        let mut telling = self.0.borrow_mut();
        let recipients = telling.entry(message).or_default();
        recipients.push(recipient);
        recipients.len() == 1
    }

    fn take(&self, message: MessageId) -> Vec<u32> {
        self.0.borrow_mut().remove(&message).unwrap_or_default()
    }
}

/// The recipients with accounts whose delivery the sender wants to hear of, in order. A null sender hears nothing.
pub fn wanted(accepted: &Accepted) -> Vec<u32> {
    let Accepted { envelope, routes, .. } = accepted;
    if !dsn::is_answerable(envelope) {
        return Vec::new();
    }
    let recipients = (0..).zip(routes.iter().zip(&envelope.recipients));
    let wanted = recipients.filter(|(_, (route, recipient))| {
        matches!(route, Route::Local(_)) && dsn::wanted(Action::Delivered, recipient.notify)
    });
    wanted.map(|(number, _)| number).collect()
}

impl Shard {
    /// Settles a copy that was delivered elsewhere, with the notification about it.
    pub fn settle_and_tell(self: &Rc<Self>, commit: &Rc<Commit>, (message, recipient): (MessageId, u32)) {
        if self.telling.add(message, recipient) {
            spawn("notification", Rc::clone(self).tell_together(Rc::clone(commit), message));
        }
    }

    async fn tell_together(self: Rc<Self>, commit: Rc<Commit>, message: MessageId) {
        sleep(TOGETHER).await;
        let mut recipients = self.telling.take(message);
        loop {
            recipients.retain(|number| {
                commit.owed().of_message(message.sequence).any(|row| row.recipient == *number)
            });
            if recipients.is_empty() {
                return;
            }
            let settled: Vec<Change> = recipients.iter().map(|number| settled((message, *number))).collect();
            let stored = match self.notification(&commit, message, &recipients) {
                Some((accepted, body)) => {
                    self.promise(&commit, settled, accepted, body).kept(&self).await.map(drop)
                }
                None => commit.append_soon(settled).stored().await,
            };
            let Err(reason) = stored else {
                return;
            };
            tracing::error!(%message, ?reason, "a delivery is not told yet; it is tried again");
            sleep(RETRY).await;
        }
    }

    /// What the sender is told of deliveries of a message that the log still owes.
    pub fn notification(
        self: &Rc<Self>,
        commit: &Commit,
        id: MessageId,
        recipients: &[u32],
    ) -> Option<(Accepted, Body)> {
        let record = commit.owed().of_message(id.sequence).next()?.record;
        match self.reader().taken(id, record) {
            Ok(taken) => tell_delivered(self, (id, &taken), recipients),
            Err(error) => {
                tracing::error!(message = %id, %error, "a record cannot be read: a delivery is not told");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;
    use crate::mail::address::Address;
    use crate::mail::envelope::{Envelope, Notify, Recipient};
    use crate::store::AccountId;
    use crate::store::record::{Accepted, Route};

    #[test]
    fn deliveries_here_are_told_where_that_is_asked_for() {
        let address = Address::parse("a@here.test").expect("it is one");
        let success = Notify { success: true, ..Notify::default() };
        let failure = Notify { failure: true, ..Notify::default() };
        let recipients = [
            (Some(success), Route::Local(AccountId(1))),
            (None, Route::Local(AccountId(2))),
            (Some(failure), Route::Local(AccountId(3))),
            (Some(success), Route::Remote),
            (Some(Notify { success: true, ..failure }), Route::Local(AccountId(4))),
        ];
        let (recipients, routes): (Vec<Recipient>, Vec<Route>) = recipients
            .map(|(notify, route)| (Recipient { notify, ..Recipient::new(address.clone()) }, route))
            .into_iter()
            .unzip();
        let envelope = Envelope { sender: Some(address), recipients, ..Envelope::default() };
        let mut accepted = Accepted { envelope, routes, ..Accepted::default() };
        assert_eq!(wanted(&accepted), [0, 4]);
        accepted.envelope.sender = None;
        assert!(wanted(&accepted).is_empty());
    }
}
