//! What happened to a message, as a line in the log and an event for the operator's programs.

use std::borrow::Cow;
use std::net::IpAddr;

use super::job::{Attempt, Cause};
use super::report::{Judged, phase_of, reply_of};
use crate::io::clock;
use crate::mail::reply::Reply;
use crate::proto::smtp::Refusal;
use crate::queue::event::{Event, EventKind, PeerAddress, Response, TlsPeer, queue_name};
use crate::queue::verdict::{Sender, Verdict};
use crate::shard::Shard;
use crate::store::MessageId;
use crate::store::record::{Accepted, Message, Route};

impl Shard {
    /// One line and one event for each recipient, and another event where the sender is told of a delay.
    pub fn log_attempt(&self, id: MessageId, message: &Message, judged: &[Judged], attempt: &Attempt) {
        let Some(accepted) = &message.accepted else {
            return;
        };
        for judged in judged {
            let kind = match judged.verdict {
                Verdict::Delivered => EventKind::Delivery,
                Verdict::Later { .. } => EventKind::TransientFailure,
                Verdict::Failed if attempt.cause == Cause::Operator => EventKind::AdminBounce,
                Verdict::Failed => EventKind::Bounce,
                Verdict::Expired => EventKind::Expiration,
            };
            let happened = Happened { id, message, accepted, judged, attempt };
            happened.log(kind);
            self.post_event(kind, &happened);
            if let Verdict::Later { sender: Sender::Warned { .. }, .. } = judged.verdict {
                self.post_event(EventKind::Delayed, &happened);
            }
        }
    }

    fn post_event(&self, kind: EventKind, happened: &Happened<'_>) {
        let Happened { id, message, accepted, judged, attempt } = *happened;
        let Some(recipient) = accepted.envelope.recipients.get(judged.row.recipient as usize) else {
            return;
        };
        let reply = reply_of(&judged.fate);
        let config = self.config();
        let class = match kind {
            EventKind::Bounce | EventKind::TransientFailure => {
                reply.map(|reply| config.outbound.classes.classify(reply))
            }
            _ => None,
        };
        let peer_ip = attempt.peer.map(|peer| peer.ip());
        let sender = accepted.envelope.sender.as_ref();
        self.outbound().events().post(&Event {
            id: Some(&id),
            sender: sender.map(|sender| sender as &dyn std::fmt::Display).or(Some(&"")),
            recipient: Some(&recipient.address),
            queue: Some(&queue_of(accepted, &recipient.address.domain)),
            site: Some(&attempt.site).filter(|site| !site.is_empty()).map(|site| &**site),
            size: Some(message.body.length() - u64::from(message.body.return_path_length())),
            response: reply
                .map(|reply| Response::of(reply, phase_of(&judged.fate).map(|phase| phase.name()))),
            peer: attempt.host.as_deref().map(|name| PeerAddress { name: Some(name), addr: peer_ip }),
            created_s: Some(message.received.seconds),
            attempts: Some(u32::from(judged.row.attempts) + 1),
            bounce_class: class,
            egress_pool: Some(&attempt.pool),
            egress_source: Some(&*attempt.source).filter(|source| !source.is_empty()),
            source_address: attempt.local,
            tenant: accepted.tenant.as_deref(),
            campaign: accepted.campaign.as_deref(),
            delivery_protocol: Some(attempt.protocol),
            node: Some(&config.hostname),
            tls: attempt.tls.as_ref().map(|(version, cipher)| TlsPeer { cipher, version, subject: None }),
            ..Event::new(kind, clock::unix_ms())
        });
    }
}

impl Shard {
    /// An event for each recipient elsewhere of a message that was taken.
    pub fn log_reception(&self, id: MessageId, accepted: &Accepted, size: u64, from: Origin) {
        if !accepted.routes.contains(&Route::Remote) {
            return;
        }
        let config = self.config();
        let sender = accepted.envelope.sender.as_ref();
        for (recipient, route) in accepted.envelope.recipients.iter().zip(&accepted.routes) {
            if *route != Route::Remote {
                continue;
            }
            self.outbound().events().post(&Event {
                id: Some(&id),
                sender: sender.map(|sender| sender as &dyn std::fmt::Display).or(Some(&"")),
                recipient: Some(&recipient.address),
                queue: Some(&queue_of(accepted, &recipient.address.domain)),
                size: Some(size),
                peer: from.peer.map(|addr| PeerAddress { name: None, addr: Some(addr) }),
                tenant: accepted.tenant.as_deref(),
                campaign: accepted.campaign.as_deref(),
                reception_protocol: Some(from.protocol),
                node: Some(&config.hostname),
                ..Event::new(EventKind::Reception, clock::unix_ms())
            });
        }
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

fn queue_of<'a>(accepted: &Accepted, domain: &'a str) -> Cow<'a, str> {
    queue_name(accepted.campaign.as_deref(), accepted.tenant.as_deref(), domain)
}

/// Where a message came from.
#[derive(Clone, Copy)]
pub struct Origin {
    pub peer: Option<IpAddr>,
    pub protocol: &'static str,
}

/// What became of one recipient of a message.
#[derive(Clone, Copy)]
struct Happened<'a> {
    id: MessageId,
    message: &'a Message,
    accepted: &'a Accepted,
    judged: &'a Judged,
    attempt: &'a Attempt,
}

impl Happened<'_> {
    fn log(&self, kind: EventKind) {
        let Self { id, accepted, judged, attempt, .. } = self;
        let recipient = accepted.envelope.recipients.get(judged.row.recipient as usize);
        let to = recipient.map(|recipient| recipient.address.to_string()).unwrap_or_default();
        let reply = reply_of(&judged.fate).map(Reply::to_string).unwrap_or_default();
        let host = attempt.host.as_deref().unwrap_or_default();
        let what = match kind {
            EventKind::Delivery => "delivered",
            EventKind::TransientFailure => "deferred",
            EventKind::Bounce => "failed",
            EventKind::AdminBounce => "returned by an operator",
            _ => "expired",
        };
        tracing::info!(%id, to, host, reply, "message {what}");
    }
}
