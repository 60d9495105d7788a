//! MAIL and RCPT: the envelope, as the driver lets it grow (RFC 5321 4.1.1.2 and 4.1.1.3).

use crate::bytes::Output;
use crate::mail::envelope::{Envelope, Recipient};

use super::event::{RecipientVerdict, Refusal, SenderVerdict};
use super::reply::Reply;
use super::server::{Phase, Server};

/// An open transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    pub envelope: Envelope,
    /// SIZE of MAIL (RFC 1870).
    pub declared_bytes: Option<u64>,
}

impl Server {
    pub(super) fn handle_mail(&mut self, transaction: Transaction, out: &mut Output) {
        self.mails = self.mails.saturating_add(1);
        if self.policy.mails_max.is_some_and(|mails_max| self.mails > mails_max) {
            return self.close_with("MAIL", Reply::TOO_MANY_MAILS, out);
        }
        // RFC 1870 6.1
        if transaction.declared_bytes.is_some_and(|bytes| bytes > self.policy.message_bytes_max) {
            let address = transaction.envelope.sender;
            return self.refuse_address(Refusal { verb: "MAIL", reply: Reply::TOO_LARGE, address }, out);
        }
        self.ask(Phase::Sender(transaction));
    }

    pub(super) fn handle_sender(
        &mut self,
        transaction: Transaction,
        verdict: SenderVerdict,
        out: &mut Output,
    ) {
        let reply = Reply::from(verdict);
        match verdict {
            SenderVerdict::Accepted => {
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
        self.phase = Phase::Transaction(transaction);
        self.refuse_address(Refusal { verb: "RCPT", reply, address: Some(recipient.address) }, out);
    }
}
