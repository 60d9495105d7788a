//! What a run of SMTP is to send, and how.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Waiting;
use crate::engine::tls::ClientTls;
use crate::ledger::Durability;
use crate::measure::Seen;
use crate::plan::{Arrivals, Bodies, Rate, Template};

#[derive(Clone)]
pub struct Load {
    pub to: SocketAddr,
    /// Connections at once.
    pub sessions: usize,
    pub threads: usize,
    pub limit: Limit,
    pub pace: Pace,
    pub connections: Connections,
    pub envelope: Envelope,
    pub transfer: Transfer,
    pub greeting: Greeting,
    pub security: Security,
    pub login: Option<Login>,
    pub sender: String,
    pub recipients: Template,
    /// Recipients of a message.
    pub recipients_each: usize,
    pub bodies: Arc<Bodies>,
    /// Stands in every message and in the ledger.
    pub run: String,
    pub seed: u64,
    pub waiting: Waiting,
    pub ledger: Option<(PathBuf, Durability)>,
    /// A reply that takes longer breaks the session.
    pub reply_max: Duration,
    /// After the schedule's end, messages that still wait for a session are dropped when so much time has passed.
    pub drain_max: Duration,
    pub on_error: OnError,
    pub seen: Seen,
}

/// When a run is over; what was begun then is still finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Messages(u64),
    Time(Duration),
}

/// What starts a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The end of the one before: as fast as the server answers.
    Closed,
    /// The schedule.
    Open(Rate, Arrivals),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Kept,
    /// One for each message.
    New,
}

/// How MAIL, RCPT and DATA are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Envelope {
    /// Each when the one before was answered.
    #[value(skip)]
    Stepwise,
    /// Together, when the message is due (RFC 2920).
    Group,
    /// Together behind the message before, so that only the data is left to be sent.
    Ahead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Data,
    /// In one chunk (RFC 3030).
    Bdat,
}

/// The name that a client gives itself, and the protocol that it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    Ehlo(String),
    Helo(String),
    Lhlo(String),
}

#[derive(Clone)]
pub enum Security {
    Clear,
    StartTls(ClientTls),
    Tls(ClientTls),
}

/// PLAIN, by sessions in turn.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: Template,
    pub password: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Count,
    /// The first message that fails ends the run.
    Stop,
}

impl Load {
    /// The plainest load: messages one after the other on kept connections, as fast as they are answered.
    pub fn plain(to: SocketAddr, sessions: usize, limit: Limit, bodies: Arc<Bodies>) -> Self {
        Self {
            to,
            sessions,
            threads: 1,
            limit,
            pace: Pace::Closed,
            connections: Connections::Kept,
            envelope: Envelope::Stepwise,
            transfer: Transfer::Data,
            greeting: Greeting::Ehlo("load.test".to_owned()),
            security: Security::Clear,
            login: None,
            sender: "load@load.test".to_owned(),
            recipients: Template::new("user%d@load.test", 1),
            recipients_each: 1,
            bodies,
            run: new_run(),
            seed: 1,
            waiting: Waiting::default(),
            ledger: None,
            reply_max: Duration::from_secs(120),
            drain_max: Duration::from_secs(10),
            on_error: OnError::Count,
            seen: Seen::Nothing,
        }
    }
}

/// A name that no other run has.
pub fn new_run() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

impl Greeting {
    pub fn command(&self) -> String {
        match self {
            Self::Ehlo(name) => format!("EHLO {name}\r\n"),
            Self::Helo(name) => format!("HELO {name}\r\n"),
            Self::Lhlo(name) => format!("LHLO {name}\r\n"),
        }
    }
}
