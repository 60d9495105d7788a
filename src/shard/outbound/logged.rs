//! What became of an attempt at a message, as a line in the log and an event for the operator's programs.

use super::job::{Attempt, Cause};
use super::report::{Judged, phase_of, reply_of};
use crate::mail::reply::Reply;
use crate::queue::event::{Event, EventKind, PeerAddress, Response, TlsPeer};
use crate::queue::verdict::{Sender, Verdict};
use crate::shard::Shard;
use crate::shard::logged::{about, queue_of};
use crate::store::MessageId;
use crate::store::record::{Accepted, Message};

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
        let queue = queue_of(accepted, recipient);
        self.outbound().events().post(&Event {
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
            delivery_protocol: Some(attempt.protocol),
            tls: attempt.tls.as_ref().map(|(version, cipher)| TlsPeer { cipher, version, subject: None }),
            ..about(kind, (&id, accepted), (recipient, &queue), &config.hostname)
        });
    }
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
