//! What a client may do and how long it waits.

use std::time::Duration;

use crate::limits::smtp::client as limits;
use crate::proto::sasl::Secret;

/// How to speak to one peer; the same for all connections to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Our name in EHLO or LHLO.
    pub hostname: String,
    pub protocol: Protocol,
    pub tls: TlsPolicy,
    /// With a login, nothing is sent before it has been accepted.
    pub login: Option<Login>,
    pub eight_bit: EightBit,
    pub chunking: Chunking,
    pub timeouts: Timeouts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Smtp,
    /// RFC 2033: LHLO, and a reply for each recipient after the message.
    Lmtp,
}

/// Whether STARTTLS is used. Whose certificates are good enough is settled where the handshake is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsPolicy {
    Never,
    /// Where it is offered; the session goes on in the clear where the peer refuses.
    Opportunistic,
    /// No mail without it.
    Required,
}

/// What protects the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    Clear,
    /// TLS with a peer that nobody vouches for.
    Encrypted,
    /// TLS with the peer that was meant.
    Verified,
}

/// How we prove who we are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    pub name: String,
    pub password: Secret,
    pub over: LoginOver,
}

/// Where credentials may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginOver {
    VerifiedTls,
    /// The operator trusts the way to this peer.
    AnyChannel,
}

/// What becomes of a message with octets over 127 where the peer does not offer 8BITMIME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EightBit {
    /// RFC 6152 3: it fails, since we convert nothing.
    Refuse,
    /// It is sent as it is, as many do.
    SendAnyway,
}

/// When BDAT takes the place of DATA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunking {
    WhenOffered,
    /// Only for messages that DATA cannot carry.
    WhenNeeded,
}

/// How long each reply may take (RFC 5321 4.5.3.2), and all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    pub greeting: Duration,
    /// EHLO, HELO, STARTTLS and each step of AUTH.
    pub hello: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    /// The answer to DATA.
    pub data: Duration,
    /// One burst of the message.
    pub block: Duration,
    /// The answer to the end of the message.
    pub eod: Duration,
    pub rset: Duration,
    pub quit: Duration,
    /// All that comes before the first transaction.
    pub opening: Duration,
    /// A transaction without its message.
    pub transaction: Duration,
    /// The rate at which the peer must take the message, on the whole: it adds to `transaction`.
    pub bytes_per_s_min: u64,
}

impl Settings {
    /// SMTP to a stranger, by the defaults of the RFCs.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            protocol: Protocol::Smtp,
            tls: TlsPolicy::Opportunistic,
            login: None,
            eight_bit: EightBit::Refuse,
            chunking: Chunking::WhenOffered,
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(limits::GREETING_S),
            hello: Duration::from_secs(limits::HELLO_S),
            mail: Duration::from_secs(limits::MAIL_S),
            rcpt: Duration::from_secs(limits::RCPT_S),
            data: Duration::from_secs(limits::DATA_S),
            block: Duration::from_secs(limits::BLOCK_S),
            eod: Duration::from_secs(limits::EOD_S),
            rset: Duration::from_secs(limits::RSET_S),
            quit: Duration::from_secs(limits::QUIT_S),
            opening: Duration::from_secs(limits::OPENING_S),
            transaction: Duration::from_secs(limits::TRANSACTION_S),
            bytes_per_s_min: limits::BYTES_PER_S_MIN,
        }
    }
}
