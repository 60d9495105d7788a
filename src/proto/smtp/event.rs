//! What the engine asks of its driver, and what it is told.

use crate::mail::address::Address;
use crate::mail::envelope::{Envelope, Recipient};
use crate::proto::sasl::{Credentials, Identity, Nonce, Verifier};

use super::reply::Reply;
use super::session::Session;
use super::transaction::Transaction;

/// What the driver must do. Those with an outcome stop the engine until [`super::Server::handle_done`].
#[derive(Debug)]
pub enum Event<'a> {
    /// MAIL was given. [`Outcome::Sender`].
    Sender { session: &'a Session, transaction: &'a Transaction },
    /// RCPT was given. [`Outcome::Recipient`].
    Recipient { session: &'a Session, transaction: &'a Transaction, recipient: &'a Recipient },
    /// A message follows. [`Outcome::Begin`] or [`Outcome::Refuse`].
    Begin { session: &'a Session, transaction: &'a Transaction },
    /// More of the message than is kept in memory: put this, which follows what was given before, elsewhere.
    /// [`Outcome::Continue`] or [`Outcome::Refuse`].
    BodyFull(Vec<u8>),
    /// The message is complete; `body` is the prefix and the content, or what follows the last `BodyFull`.
    /// [`Outcome::Message`], when it is safe.
    Message { envelope: Envelope, body: Vec<u8> },
    /// The message that was begun will not be completed. No outcome.
    Aborted,
    /// Send the replies, then shake hands and call [`super::Server::handle_tls`]. If bytes in the clear are
    /// already there, hand them to `handle_bytes` as ever: it closes.
    StartTls,
    /// Judge the password. [`Outcome::Login`].
    Password(Credentials),
    /// Find the verifier of a login. [`Outcome::Verifier`].
    Verifier(&'a Identity),
    /// The client has proved to be this. [`Outcome::Login`].
    Proved(Identity),
    /// A SCRAM proof for this login was wrong; for the log and the throttle. No outcome.
    Rejected(Identity),
    /// A command was refused; for the log. No outcome.
    Refused(Refusal),
    /// Send the replies, then close. The last event.
    Close,
}

/// How it went.
#[derive(Debug)]
pub enum Outcome {
    Sender(SenderVerdict),
    Recipient(RecipientVerdict),
    /// The buffer in which the message will stand, with the trace fields in it.
    Begin {
        prefix: Vec<u8>,
    },
    /// The part is where it should be; a buffer to go on with, its content forgotten.
    Continue {
        spare: Vec<u8>,
    },
    /// The answer to `Begin` or `BodyFull`: there is no place for the message.
    Refuse(MessageRefusal),
    /// The queue id of a message that is kept.
    Message(Result<String, MessageRefusal>),
    Login(LoginVerdict),
    /// `None` refuses at once; see [`crate::proto::sasl::Exchange::handle_verifier`].
    Verifier {
        verifier: Option<Verifier>,
        nonce: Nonce,
    },
}

/// A command that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The verb of the table, or `?`.
    pub verb: &'static str,
    pub reply: Reply,
    /// The sender or recipient it was about.
    pub address: Option<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SenderVerdict {
    Accepted,
    /// Accepted, but with no priority above this one (RFC 6710 4.1).
    Capped {
        priority_max: i8,
    },
    /// The address is not one of the login's.
    NotOwned,
    /// This client may not send.
    Denied,
    /// The address can never be answered.
    UnknownDomain,
    NoSpace,
    Temporary,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum RecipientVerdict {
    Accepted,
    UnknownUser,
    UnknownDomain,
    /// Not our domain, and not a client of ours.
    RelayDenied,
    Disabled,
    OverQuota,
    /// The session would hold too much for all of them.
    TooMany,
    Temporary,
}

/// Why a message is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum MessageRefusal {
    Temporary,
    NoSpace,
    /// Header fields that cannot be mended (RFC 6409 8).
    BadHeader,
    /// Against the rules of this place.
    Denied,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginVerdict {
    /// Logged in as this account.
    Accepted {
        login: String,
    },
    Refused,
    /// This mechanism is too weak for the account.
    Weak,
    Disabled,
    /// Nobody can tell now.
    Unavailable,
}

impl RecipientVerdict {
    /// Whoever asks for such often guesses.
    pub(super) fn is_nobody(self) -> bool {
        matches!(self, Self::UnknownUser | Self::UnknownDomain | Self::RelayDenied)
    }
}
