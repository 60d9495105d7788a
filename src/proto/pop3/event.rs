//! What the engine asks of its driver, and what it is told.

use crate::bytes::Slice;
use crate::mail::set::Ranges;
use crate::proto::pop3::Maildrop;
use crate::proto::sasl::{Credentials, Identity, Nonce, Verifier};

/// What the driver must do. Those with an outcome stop the engine until [`super::Server::handle_done`].
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// Send the replies, then shake hands and call [`super::Server::handle_tls`]. If bytes in the clear are
    /// already there, hand them to `handle_bytes` as ever: it closes.
    StartTls,
    /// Judge the password. [`Outcome::Login`].
    Password(Credentials),
    /// Find the verifier of a login. [`Outcome::Verifier`].
    Verifier(Identity),
    /// The client has proved to be this. [`Outcome::Login`].
    Proved(Identity),
    /// A SCRAM proof for this login was wrong; for the log and the throttle. No outcome.
    Rejected(Identity),
    /// The login stands: look at the INBOX of the account. This is the moment to move the session to where the
    /// account lives. [`Outcome::Opened`].
    Open,
    /// Give the message of this UID. [`Outcome::Message`].
    Retrieve { uid: u32, asked: Asked },
    /// Remove the messages of these UIDs, as far as they are still there, and say when that is durable.
    /// [`Outcome::Committed`].
    Commit(Ranges),
    /// Send the replies, then close. The last event.
    Close,
}

/// What a message is wanted for: whether it counts as read is the driver's affair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Whole,
    Top,
}

/// How it went.
#[derive(Debug)]
pub enum Outcome {
    Login(LoginVerdict),
    /// `None` refuses at once; see [`crate::proto::sasl::Exchange::handle_verifier`].
    Verifier {
        verifier: Option<Verifier>,
        nonce: Nonce,
    },
    Opened(Result<Maildrop, OpenFailure>),
    Message(Result<Slice, MessageFailure>),
    Committed(CommitVerdict),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginVerdict {
    Accepted,
    Refused,
    /// The password is right, and another session has the maildrop to itself.
    InUse,
    /// Nobody can tell now.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenFailure {
    InUse,
    /// More messages than a session may know of.
    TooLarge,
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageFailure {
    /// Another session has removed it.
    Gone,
    /// Its bytes are not what was stored.
    Damaged,
    /// It cannot be read now.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitVerdict {
    /// All are removed, and stay so.
    Durable,
    /// Some may still be there.
    Failed,
}
