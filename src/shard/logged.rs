//! What happened to messages here, as events for the operator's programs: they were taken, came into mailboxes, or
//! were refused. What becomes of them elsewhere is in [`outbound::logged`](super::outbound::logged).
//!
//! Invariants: an event about a message is posted when what it says is durable; that it was taken comes before all
//! else about it.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;

use super::Shard;
use super::mesh::Deliver;
use crate::io::clock;
use crate::mail::envelope::Recipient;
use crate::proto::smtp::Refusal;
use crate::queue::event::{Event, EventKind, PeerAddress, Response, queue_name};
use crate::store::owed::Owed;
use crate::store::record::{Accepted, Route};
use crate::store::{Locator, MessageId};

/// Where a message came from.
#[derive(Clone, Copy)]
pub struct Origin {
    pub peer: Option<IpAddr>,
    pub protocol: &'static str,
}

/// What all events about a recipient of a message say. `queue` is [`queue_of`] the recipient.
pub fn about<'a>(
    kind: EventKind,
    (id, accepted): (&'a MessageId, &'a Accepted),
    (recipient, queue): (&'a Recipient, &'a str),
    node: &'a str,
) -> Event<'a> {
    let sender = accepted.envelope.sender.as_ref().map(|sender| sender as &dyn Display);
    Event {
        id: Some(id),
        sender: sender.or(Some(&"")),
        recipient: Some(&recipient.address),
        queue: Some(queue),
        tenant: accepted.tenant.as_deref(),
        campaign: accepted.campaign.as_deref(),
        node: Some(node),
        ..Event::new(kind, clock::unix_ms())
    }
}

/// The queue of a recipient.
pub fn queue_of<'a>(accepted: &Accepted, recipient: &'a Recipient) -> Cow<'a, str> {
    queue_name(accepted.campaign.as_deref(), accepted.tenant.as_deref(), &recipient.address.domain)
}

impl Shard {
    /// Of a message that was taken now: an event for each recipient if it came from outside, and another for each who
    /// has it with that, to whom it is not owed.
    pub fn log_taken(&self, message: &Locator, accepted: &Accepted, origin: Option<Origin>, owed: &Owed) {
        let is_local_logged = self.config().outbound.events.local;
        let recipients = || accepted.envelope.recipients.iter().zip(&accepted.routes);
        if let Some(origin) = origin {
            for (recipient, route) in recipients() {
                if *route == Route::Remote || is_local_logged {
                    self.post_reception((message, accepted), recipient, origin);
                }
            }
        }
        if !is_local_logged {
            return;
        }
        let mut owed = owed.of_message(message.id.sequence).map(|row| row.recipient).peekable();
        for (number, (recipient, route)) in (0..).zip(recipients()) {
            let is_owed = owed.next_if_eq(&number).is_some();
            if !is_owed && *route != Route::Remote {
                self.post_delivery((message, accepted), recipient, clock::timestamp().seconds);
            }
        }
    }

    /// Of a copy that came into a mailbox later than its message into the log.
    pub fn log_delivered(&self, letter: &Deliver) {
        let recipient = letter.accepted.envelope.recipients.get(letter.recipient as usize);
        if let Some(recipient) = recipient.filter(|_| self.config().outbound.events.local) {
            self.post_delivery((&letter.message, &letter.accepted), recipient, letter.received_seconds);
        }
    }

    fn post_reception(&self, (message, accepted): (&Locator, &Accepted), to: &Recipient, from: Origin) {
        let (config, queue) = (self.config(), queue_of(accepted, to));
        self.outbound().events().post(&Event {
            size: Some(size_of(message)),
            peer: from.peer.map(|addr| PeerAddress { name: None, addr: Some(addr) }),
            reception_protocol: Some(from.protocol),
            ..about(EventKind::Reception, (&message.id, accepted), (to, &queue), &config.hostname)
        });
    }

    fn post_delivery(&self, (message, accepted): (&Locator, &Accepted), to: &Recipient, created_s: i64) {
        let (config, queue) = (self.config(), queue_of(accepted, to));
        self.outbound().events().post(&Event {
            size: Some(size_of(message)),
            created_s: Some(created_s),
            delivery_protocol: Some("Local"),
            ..about(EventKind::Delivery, (&message.id, accepted), (to, &queue), &config.hostname)
        });
    }

    /// An event for a command of a client that was refused.
    pub fn log_rejection(&self, peer: IpAddr, refusal: &Refusal) {
        let config = self.config();
        let line = refusal.reply.line();
        let code = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        let address = refusal.address.as_ref().map(|address| address as &dyn std::fmt::Display);
        let (sender, recipient) = match refusal.verb {
            "MAIL" => (address, None),
            _ => (None, address),
        };
        self.outbound().events().post(&Event {
            sender,
            recipient,
            response: Some(Response {
                code,
                enhanced: None,
                content: line.get(4..).unwrap_or_default(),
                command: Some(refusal.verb),
            }),
            peer: Some(PeerAddress { name: None, addr: Some(peer) }),
            reception_protocol: Some("ESMTP"),
            node: Some(&config.hostname),
            ..Event::new(EventKind::Rejection, clock::unix_ms())
        });
    }
}

/// As it came, without what is for mailboxes only.
fn size_of(message: &Locator) -> u64 {
    message.length - u64::from(message.return_path_length)
}
