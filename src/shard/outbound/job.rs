//! A message for one destination, on its way from the shard that owes it to the one that sends it and back.
//!
//! Invariant: a job that is dropped, wherever and why, tells its home that it is back; what its home still owes then
//! is tried again.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::io::inbox::Inbox;
use crate::mail::envelope::Envelope;
use crate::proto::smtp::client::{Fate, Passed};
use crate::queue;
use crate::queue::policy::PoolId;
use crate::queue::schedule::Item;
use crate::shard::mesh::Letter;
use crate::store::{Locator, LogId};

/// See the module.
pub struct Job {
    pub home: Home,
    pub message: Locator,
    pub pool: PoolId,
    pub priority: i8,
    /// Before this one; of several recipients the most.
    pub attempts: u32,
    /// With those of the recipients that are still owed the message at this destination.
    pub envelope: Envelope,
    /// Their numbers in the whole envelope.
    pub numbers: Vec<u32>,
}

/// Where a job belongs.
pub struct Home {
    inbox: Inbox<Letter>,
    pub log: LogId,
    pub item: Item,
}

/// How an attempt went, for the home of the message to write down.
pub struct Report {
    pub log: LogId,
    pub item: Item,
    /// Recipients by their numbers in the envelope.
    pub fates: Vec<(u32, Fate)>,
    pub attempt: Arc<Attempt>,
}

/// Where and how it was tried.
pub struct Attempt {
    pub cause: Cause,
    pub site: Arc<str>,
    pub pool: String,
    pub source: String,
    pub protocol: &'static str,
    /// The other server, if there was a connection.
    pub host: Option<String>,
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    /// Version and cipher suite.
    pub tls: Option<(&'static str, String)>,
    /// Whether the peer takes over the sender's wishes for notifications.
    pub dsn: Passed,
    /// Whether the peer takes over the time that the sender set (BY).
    pub deliver_by: Passed,
}

/// Why a recipient's fate was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Delivery,
    Operator,
    /// Nobody tried; it has waited for a long time.
    Age,
}

impl Attempt {
    /// Of mail that was not tried.
    pub fn none() -> Self {
        Self {
            cause: Cause::Delivery,
            site: "".into(),
            pool: String::new(),
            source: String::new(),
            protocol: "ESMTP",
            host: None,
            peer: None,
            local: None,
            tls: None,
            dsn: Passed::Passed,
            deliver_by: Passed::Passed,
        }
    }

    /// Of mail that waits, for what its age alone calls for.
    pub fn of_age() -> Self {
        Self { cause: Cause::Age, ..Self::none() }
    }

    /// An operator's decision.
    pub fn administrative() -> Self {
        Self { cause: Cause::Operator, ..Self::none() }
    }
}

impl Home {
    pub fn new(inbox: Inbox<Letter>, log: LogId, item: Item) -> Self {
        Self { inbox, log, item }
    }

    /// Tells what became of some of the recipients. The job is still under way for the others.
    pub fn report(&self, fates: Vec<(u32, Fate)>, attempt: &Arc<Attempt>) {
        let Self { log, item, .. } = *self;
        let report = Report { log, item, fates, attempt: Arc::clone(attempt) };
        self.inbox.post_with_turn(Letter::Report(Box::new(report)));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.inbox.post_with_turn(Letter::Back { log: self.log, item: self.item });
    }
}

impl queue::job::Job for Job {
    fn pool(&self) -> PoolId {
        self.pool
    }

    fn priority(&self) -> i8 {
        self.priority
    }

    fn recipients(&self) -> usize {
        self.numbers.len()
    }
}
