//! One message for one peer, as the driver hands it over.

use crate::bytes::Slice;
use crate::mail::address::Address;
pub use crate::mail::envelope::ByMode;
use crate::mail::envelope::{BodyKind, Recipient, Ret};

/// What is to be sent: an envelope and a message.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// `None` is the null reverse-path.
    pub sender: Option<Address>,
    /// At least one.
    pub recipients: Vec<Recipient>,
    pub body: BodyKind,
    /// SMTPUTF8 was asked for when the message came; it is asked for again only if the message needs it.
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    /// In xtext, as it came.
    pub envid: Option<String>,
    pub deliver_by: Option<DeliverBy>,
    /// MT-PRIORITY, -9 to 9 (RFC 6710).
    pub priority: Option<i8>,
    /// The message in pieces that follow each other: fields that this hop adds, then what the sender wrote. They
    /// may be large and are not copied.
    pub message: Vec<Slice>,
}

/// What is left of the time that the sender gave (RFC 2852).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliverBy {
    pub remaining_s: i64,
    pub mode: ByMode,
    pub trace: bool,
}

impl Transaction {
    /// The size of the message before any dot is doubled.
    pub fn message_bytes(&self) -> u64 {
        self.message.iter().map(|part| part.len() as u64).sum()
    }
}
