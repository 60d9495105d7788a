//! MAIL and RCPT: the envelope, as the driver lets it grow (RFC 5321 4.1.1.2 and 4.1.1.3).

use crate::bytes::Output;
use crate::limits::smtp::RECIPIENTS_REFUSED_MAX;
use crate::mail::envelope::{ByMode, DeliverBy, Envelope, Recipient};
use crate::mail::time::Timestamp;

use super::event::{RecipientVerdict, Refusal, SenderVerdict};
use super::reply::{self, Reply};
use super::server::{Phase, Server};

/// An open transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    pub envelope: Envelope,
    /// SIZE of MAIL (RFC 1870).
    pub declared_bytes: Option<u64>,
    /// MT-PRIORITY was given; the envelope has what was made of it (RFC 6710).
    pub has_priority: bool,
}

impl Server {
    pub(super) fn handle_mail(&mut self, transaction: Transaction, out: &mut Output, at: Timestamp) {
        self.mails = self.mails.saturating_add(1);
        if self.policy.mails_max.is_some_and(|mails_max| self.mails > mails_max) {
            return self.close_with("MAIL", Reply::TOO_MANY_MAILS, out);
        }
        match self.mail_refusal(&transaction, at) {
            None => self.ask(Phase::Sender(transaction)),
            Some(reply) => {
                let address = transaction.envelope.sender;
                self.refuse_address(Refusal { verb: "MAIL", reply, address }, out);
            }
        }
    }

    pub(super) fn handle_sender(
        &mut self,
        mut transaction: Transaction,
        verdict: SenderVerdict,
        out: &mut Output,
    ) {
        let reply = Reply::from(verdict);
        match verdict {
            SenderVerdict::Capped { priority_max } if transaction.envelope.priority > priority_max => {
                transaction.envelope.priority = priority_max;
                reply::lowered(priority_max, out);
                self.phase = Phase::Transaction(transaction);
            }
            SenderVerdict::Accepted | SenderVerdict::Capped { .. } => {
                reply.write(out);
                self.phase = Phase::Transaction(transaction);
            }
            _ => {
                let address = transaction.envelope.sender;
                self.refuse_address(Refusal { verb: "MAIL", reply, address }, out);
            }
        }
    }

    pub(super) fn handle_rcpt(&mut self, recipient: Recipient, out: &mut Output) {
        match self.leave() {
            Phase::Transaction(open) if open.envelope.recipients.len() >= self.policy.recipients_max => {
                self.phase = Phase::Transaction(open);
                let (reply, address) = (Reply::TOO_MANY_RECIPIENTS, Some(recipient.address));
                self.refuse_address(Refusal { verb: "RCPT", reply, address }, out);
            }
            Phase::Transaction(open) => self.ask(Phase::Recipient(open, recipient)),
            phase => self.phase = phase,
        }
    }

    pub(super) fn handle_recipient(
        &mut self,
        mut transaction: Transaction,
        recipient: Recipient,
        verdict: RecipientVerdict,
        out: &mut Output,
    ) {
        let reply = Reply::from(verdict);
        if verdict == RecipientVerdict::Accepted {
            transaction.envelope.recipients.push(recipient);
            self.phase = Phase::Transaction(transaction);
            return reply.write(out);
        }
        self.refused_recipients += u32::from(verdict.is_nobody());
        if self.refused_recipients >= RECIPIENTS_REFUSED_MAX {
            return self.close_with("RCPT", Reply::TOO_MANY_ERRORS, out);
        }
        self.phase = Phase::Transaction(transaction);
        self.refuse_address(Refusal { verb: "RCPT", reply, address: Some(recipient.address) }, out);
    }

    /// What MAIL asks for and nobody could keep.
    fn mail_refusal(&self, transaction: &Transaction, at: Timestamp) -> Option<Reply> {
        let Envelope { hold_until, deliver_by, .. } = &transaction.envelope;
        // RFC 1870 6.1
        if transaction.declared_bytes.is_some_and(|bytes| bytes > self.policy.message_bytes_max) {
            return Some(Reply::TOO_LARGE);
        }
        // RFC 2852 2: a minimum of the time, for messages that would go back. N may ask for any.
        let is_short = |by: &DeliverBy| {
            let least = at.seconds.saturating_add(i64::from(self.policy.deliver_by_s_min));
            by.mode == ByMode::Return && by.at < least
        };
        if deliver_by.as_ref().is_some_and(is_short) {
            return Some(Reply::DELIVER_BY_TOO_SHORT);
        }
        let until = (*hold_until)?;
        let last = at.seconds.saturating_add(i64::from(self.policy.hold_s_max));
        match deliver_by {
            // RFC 4865 4.2. A time that has passed is refused, too: who wrote it meant another one, and a message
            // that is gone does not come back.
            _ if until > last || until <= at.seconds => Some(Reply::BAD_HOLD),
            // RFC 4865 5.2.2
            Some(by) if until > by.at => Some(Reply::HELD_TOO_LONG),
            _ => None,
        }
    }
}
