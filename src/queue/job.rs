//! What a site and its driver say to each other: messages to send, connections, and what became of both.
//!
//! A job is a message for one destination, with the recipients that it is still owed to. It is in exactly one
//! place: at its home, on its way to the site (asked for), in the site, or with the driver, who got it by an
//! [`Action`]. Jobs that a site forgets are lost to nobody: their home still owes them.

use std::fmt;
use std::rc::Rc;

use super::policy::{PoolId, SourceId};
use crate::mail::reply::Reply;
use crate::mail::time::Instant;

/// What a site must know of a message to send it.
pub trait Job {
    fn pool(&self) -> PoolId;
    /// -9..=9, higher goes first (RFC 6710).
    fn priority(&self) -> i8;
    /// How many recipients it is still owed to; at least one.
    fn recipients(&self) -> usize;
}

/// A home's mail for one destination that leaves by one pool. The driver gives the numbers; the site hands them back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FeedId {
    pub home: u32,
    pub destination: u32,
    pub pool: PoolId,
}

/// A connection of one site; numbers are not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What a site wants done.
#[derive(Debug)]
pub enum Action<J> {
    /// Ask the feed's home for up to `count` messages; `handle_jobs` takes the answer.
    Pull { feed: FeedId, count: u32 },
    /// Connect from this source, trying all hosts of the site; `handle_opened` or `handle_open_failed` answers.
    Open { connection: ConnectionId, source: SourceId },
    /// Send to the first `recipients_max` recipients; `handle_sent` answers and brings the job back for the rest.
    Send { connection: ConnectionId, job: J, recipients_max: usize },
    /// End it politely; `handle_closed` answers.
    Close { connection: ConnectionId },
    /// The message goes back to its home as it came, which is told when to offer it again by `Blocked` and `Unblocked`.
    Return { job: J },
    /// No host took a connection: an attempt that failed, for the home to record and to try again by its schedule.
    Fail { job: J, failure: Rc<OpenFailure> },
    /// Mail of this pool cannot go before a time, if there is one; homes need not offer any.
    Blocked { pool: PoolId, block: Block },
    /// Mail of this pool can go again.
    Unblocked { pool: PoolId },
}

/// Since when the mail of a pool does not go, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// `None`: until an operator says so.
    pub until: Option<Instant>,
    pub why: Why,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// By an operator or a rule, in their words.
    Suspended(String),
    /// No host took a connection, and this was the last of the failures.
    Dead(Rc<OpenFailure>),
    /// No address of the pool can be used on this machine.
    SourceUnusable,
    /// A rate that lets little through.
    Throttled,
    /// The sources of the pool have sent what they may today, or do not begin before a day to come.
    WarmingUp,
    /// The pool has no source at this site: the configuration was changed.
    NoSource,
    /// The server ends.
    Stopping,
}

/// Why there is no connection, with what the host said or what stands for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenFailure {
    pub kind: FailureKind,
    pub reply: Reply,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// No address, no route, or no answer in time.
    Unreachable,
    /// Nobody listens there.
    Refused,
    /// TLS was asked for and did not come about, or not with the certificate that it needs.
    Tls,
    /// 4yz to the greeting, EHLO or AUTH, or a connection that was lost meanwhile.
    GreetingTransient,
    /// 5yz to the greeting, EHLO or AUTH.
    GreetingPermanent,
    /// The source's address could not be bound: not the site's fault.
    SourceUnusable,
}

/// What a host said in EHLO about its limits (RFC 9422).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerLimits {
    /// MAILMAX.
    pub messages: Option<u32>,
    /// RCPTMAX.
    pub recipients: Option<u32>,
}

/// A transaction is over.
#[derive(Debug)]
pub struct Sent<J> {
    pub outcome: SendOutcome,
    /// The job with the recipients that were not tried, if there are any: the site sends to them, too.
    pub leftover: Option<J>,
}

/// How a transaction went, seen from the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    /// Somebody's copy was taken.
    Ok,
    /// It was refused for now.
    Transient,
    /// It was refused for good.
    Permanent,
    /// The connection broke, timed out or was ended with 421; it is closed.
    ConnectionLost,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(reason) => write!(f, "suspended: {reason}"),
            Self::Dead(failure) => write!(f, "no connection: {}", failure.reply),
            Self::SourceUnusable => f.write_str("no source address of the pool can be used"),
            Self::Throttled => f.write_str("a rate limit is reached"),
            Self::WarmingUp => f.write_str("the sources of the pool are warming up"),
            Self::NoSource => f.write_str("the pool has no source"),
            Self::Stopping => f.write_str("the server is stopping"),
        }
    }
}
