//! What a sender is told about a message's way: delivery status notifications (RFC 3464, RFC 6522, RFC 6533).
//!
//! ```text
//! multipart/report
//!   text/plain                           what happened, for a person       [`words`]
//!   message/delivery-status              the same, for a program           [`status`]
//!   message/rfc822 | text/rfc822-headers what it is about                  [`returned`]
//! ```
//!
//! The last two have a form for mail whose header is UTF-8 (`message/global…`). It is used when an address is not
//! ASCII, as it is if the notification may travel with SMTPUTF8, else in base64: a sender whose own address is
//! ASCII may have no mailbox for the former.
//!
//! Invariants: every line ends with CRLF and none is longer than RFC 5322 allows, but for those of the original;
//! what a remote server said stands in no place where it could be taken for ours, whatever it is; nothing 8-bit
//! stands in a part that does not say so.

mod returned;
mod status;
mod words;

use super::address::Address;
use super::envelope::{BodyKind, Envelope, Notify, Recipient};
use super::reply::{EnhancedCode, Reply};
use super::time::Timestamp;

/// Everything that a notification is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our name, in A-labels.
    pub host: &'a str,
    /// Who writes, such as `MAILER-DAEMON@host`.
    pub from: &'a Address,
    pub to: Addressee<'a>,
    /// Of the message that this is about.
    pub envelope: &'a Envelope,
    /// When that message came.
    pub arrived: Timestamp,
    /// When it had to be delivered (BY, RFC 2852).
    pub deliver_by: Option<Timestamp>,
    /// At least one.
    pub fates: &'a [Fate<'a>],
    /// The message, or as much of its beginning as the caller has: its header at least.
    pub original: &'a [u8],
    /// Whether `original` is all of it, and may be returned as such.
    pub extent: Extent,
    /// A longer original is returned as its header.
    pub returned_bytes_max: usize,
    /// Left of the `@` of the Message-ID; unique for this host.
    pub token: &'a str,
    /// Between the parts: letters and digits that nobody can guess, at most 60.
    pub boundary: &'a str,
    pub now: Timestamp,
}

/// Who reads it.
#[derive(Clone, Copy, Debug)]
pub enum Addressee<'a> {
    /// Who sent the message.
    Sender(&'a Address),
    /// It has no sender, being a notification itself (RFC 5321 6.1): a double bounce.
    Postmaster(&'a Address),
}

/// How much of a message there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Whole,
    HeaderOnly,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Fate<'a> {
    pub recipient: &'a Recipient,
    pub action: Action,
    pub status: EnhancedCode,
    /// What another server said. Without one, `why` is all there is.
    pub remote: Option<Remote<'a>>,
    /// What happened here, in words: `no connection to any of the domain's servers`. May be empty.
    pub why: &'a str,
    pub last_attempt: Option<Timestamp>,
    pub retry_until: Option<Timestamp>,
    /// Where our log tells more.
    pub log_id: Option<&'a str>,
}

/// Another server and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    pub host: &'a str,
    pub reply: &'a Reply,
}

/// RFC 3464 2.3.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    /// To a server that sends no notifications.
    Relayed,
    /// To the members of an alias.
    Expanded,
}

/// A notification, ready to be sent from `<>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Composed {
    pub bytes: Vec<u8>,
    pub body: BodyKind,
    pub smtputf8: bool,
}

/// Whether a sender who asked for this (or for nothing) is told (RFC 3461 4.1, 6.2).
pub fn wanted(action: Action, notify: Option<Notify>) -> bool {
    let _ = (action, notify);
    todo!()
}

/// Whether anybody can be told: never about a message from `<>` (RFC 5321 6.1).
pub fn is_answerable(envelope: &Envelope) -> bool {
    envelope.sender.is_some()
}

/// Writes the notification.
pub fn compose(report: &Report<'_>) -> Composed {
    let _ = report;
    todo!()
}
