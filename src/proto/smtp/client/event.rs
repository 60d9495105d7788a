//! What a client tells its driver.

use crate::mail::reply::{EnhancedCode, Reply};

use super::offers::Offers;

/// What happened, and what the driver must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Send what is due, then shake hands and call [`super::Client::handle_tls`], or
    /// [`super::Client::handle_end`] if that fails. If bytes in the clear are already there, hand them to
    /// `handle_bytes` as ever: it closes.
    StartTls,
    /// The peer takes mail: [`super::Client::begin`] or [`super::Client::quit`].
    Ready,
    /// A transaction is over; each `begin` gets one of these. Unless `Closed` follows, the next may begin.
    Done(Done),
    /// Send what is due, then close. The last event.
    Closed(Closed),
}

/// How a transaction went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// One for each recipient of the transaction, in its order.
    pub fates: Vec<Fate>,
    /// Whether the peer takes over RET, ENVID, NOTIFY and ORCPT; if not, a DSN that tells of the relaying is ours to
    /// make (RFC 3461 5.2.2).
    pub dsn: Passed,
    /// Whether the peer takes over BY (RFC 2852 4.1.4.2).
    pub deliver_by: Passed,
}

/// What became of a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The peer has taken the message for this recipient.
    Accepted(Reply),
    Failed(Failure),
    /// The peer was never asked about this recipient, or had no room for more recipients in this transaction; try it
    /// in another.
    NotTried,
}

/// Why a recipient did not get the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// 4yz or 5yz.
    pub reply: Reply,
    /// What the reply answers.
    pub phase: Phase,
    pub origin: Origin,
}

/// Whether the parameters of an extension went along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    Passed,
    NotOffered,
}

/// Who wrote a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Peer,
    /// It stands for what the peer did not say, or for what we did not do.
    Local,
}

/// The end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The peer's reply that ended it, 5yz among them (the driver tries the next host), or a 4yz of our own.
    pub reply: Reply,
    pub phase: Phase,
    pub origin: Origin,
    /// Transactions that were begun on this connection; with none, nothing was tried here.
    pub transactions: u32,
}

/// The step that a reply answers, or that was under way when none came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// The driver's: no connection yet.
    Connect,
    Greeting,
    /// EHLO, HELO or LHLO.
    Ehlo,
    StartTls,
    /// The handshake.
    Tls,
    Auth,
    /// Between transactions.
    Ready,
    Mail,
    Rcpt,
    /// DATA, before the message.
    Data,
    /// The message is being sent.
    Body,
    /// The message is sent: if the connection ends here, the peer may have it or not.
    Eod,
    Rset,
    Quit,
}

impl Phase {
    /// As it stands in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Ready => "ready",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Eod => "eod",
            Self::Rset => "rset",
            Self::Quit => "quit",
        }
    }
}

impl Done {
    pub(super) fn new(fates: Vec<Fate>, offers: &Offers) -> Self {
        Self { fates, dsn: Passed::when(offers.dsn), deliver_by: Passed::when(offers.deliver_by.is_some()) }
    }
}

impl Passed {
    fn when(is_offered: bool) -> Self {
        if is_offered { Self::Passed } else { Self::NotOffered }
    }
}

impl Failure {
    pub(super) fn local(code: u16, enhanced: EnhancedCode, text: &str, phase: Phase) -> Self {
        Self { reply: Reply::new(code, enhanced, text), phase, origin: Origin::Local }
    }

    /// The peer does what the protocol does not know: nobody can tell any more which reply answers what.
    pub(super) fn confused(phase: Phase, text: &str) -> Self {
        Self::local(451, EnhancedCode::new(4, 5, 0), text, phase)
    }
}
