//! The envelope of a message: who sends it, to whom, and what was asked for on the way (RFC 5321 2.3.1).

use super::address::Address;

/// A sender, recipients, and the parameters of MAIL and RCPT.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Envelope {
    /// `None` is the null reverse-path `<>`.
    pub sender: Option<Address>,
    pub recipients: Vec<Recipient>,
    pub body: BodyKind,
    /// SMTPUTF8 was given (RFC 6531).
    pub smtputf8: bool,
    /// RET (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// ENVID as it came, in xtext (RFC 3461 4.4), to be passed on byte for byte.
    pub envid: Option<String>,
    /// -9 to 9, as it was allowed (RFC 6710 4.1).
    pub priority: i8,
    /// BY (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// HOLDFOR or HOLDUNTIL, in Unix seconds: nobody gets the message earlier (RFC 4865).
    pub hold_until: Option<i64>,
}

/// One recipient with its DSN parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// The address as given in RCPT.
    pub address: Address,
    /// `None`: not given.
    pub notify: Option<Notify>,
    /// ORCPT as it came: type, semicolon, xtext (RFC 3461 4.2).
    pub orcpt: Option<String>,
}

impl Recipient {
    pub fn new(address: Address) -> Self {
        Self { address, notify: None, orcpt: None }
    }

    /// Bytes of memory, with the value itself.
    pub fn held_bytes(&self) -> usize {
        let Address { local, domain } = &self.address;
        size_of::<Self>() + local.len() + domain.len() + self.orcpt.as_ref().map_or(0, String::len)
    }
}

/// BODY of MAIL (RFC 6152, RFC 3030). Without the parameter it is `SevenBit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyKind {
    #[default]
    SevenBit,
    EightBitMime,
    BinaryMime,
}

/// By when a message is worth delivering (RFC 2852 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliverBy {
    /// Unix seconds. With `Notify` it may have passed before the message came.
    pub at: i64,
    pub mode: ByMode,
    /// Every relay tells the sender where the message went.
    pub trace: bool,
}

/// What becomes of a message that is not delivered in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByMode {
    /// It goes back.
    Return,
    /// Its sender is told, and it is tried further.
    Notify,
}

/// How much of the message a DSN returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

/// When a DSN is wanted (RFC 3461 4.1). None of the three is NEVER.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Notify {
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}
