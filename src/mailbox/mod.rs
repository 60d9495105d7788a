//! A mailbox as its users see it: names, messages, flags, views, searches.
//!
//! State is the fold of records. [`account::Account::apply`] is the only thing that changes what can be seen, live
//! (after the sync that covers the record) and in a replay. A command is *planned*: a `plan_*` method looks at the
//! state and at what is planned before it, reserves UIDs and mod-sequences, and gives the records to append as one
//! group. Several plans may be in flight; the order of planning is the order in the log is the order of `apply`, within
//! one account. A group that failed is handed to `abandon`.
//!
//! A [`view::View`] is what one session knows of a mailbox: a version and the expunges it was not told yet.
//!
//! Invariants: UIDs and mod-sequences only grow and are never used twice, also not after a failed group; nothing
//! planned is visible; a view never shows one message under the number of another; no protocol bytes, no async, no
//! clock, no file; what decodes stored bytes errs and never panics; nothing recurses on depth that comes from messages.

pub mod account;
pub mod contents;
mod delivered;
mod flight;
mod forest;
mod journal;
pub mod list;
mod loss;
#[allow(clippy::module_inception, reason = "a mailbox is what this folder is about")]
pub mod mailbox;
#[cfg(test)]
mod model;
pub mod name;
mod namespace;
pub mod plan;
mod renumber;
pub mod rows;
pub mod saved;
pub mod search;
mod snapshot;
pub mod sort;
#[cfg(test)]
mod test_mail;
pub mod thread;
pub mod view;

pub use account::Account;
pub use mailbox::{Mailbox, Row};
pub use renumber::RAISE_MIN;
pub use view::View;

use std::sync::Arc;

use crate::mail::digest::Digest;
use crate::store::record::Record;

/// Records to append as one group, in this order, and what to tell the client once they are durable and
/// applied.
#[derive(Clone, Debug)]
#[must_use = "what is planned holds its UIDs until it is applied or abandoned"]
pub struct Plan<T> {
    /// Empty if nothing changes; then there is nothing to wait for.
    pub changes: Vec<Change>,
    pub answer: T,
}

/// A record with the digest that `apply` wants beside it.
#[derive(Clone, Debug)]
pub struct Change {
    pub record: Record,
    /// For a message that comes into a mailbox, if it is known.
    pub digest: Option<Arc<Digest>>,
}

/// Why a command is not carried out. Nothing was changed or reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// NO \[NONEXISTENT\].
    NonExistent,
    /// NO \[ALREADYEXISTS\].
    AlreadyExists,
    /// NO \[CANNOT\], with the reason for people.
    Cannot(&'static str),
    /// NO \[TRYCREATE\]: the target does not exist.
    TryCreate,
    /// NO \[HASCHILDREN\].
    HasChildren,
    /// NO \[USEATTR\]: the special use is taken.
    UseAttribute,
    /// NO \[OVERQUOTA\].
    OverQuota,
    /// NO \[LIMIT\], with what there is too much of.
    Limit(&'static str),
}

impl Change {
    fn of(record: Record) -> Self {
        Self { record, digest: None }
    }
}

impl<T> Plan<T> {
    fn nothing(answer: T) -> Self {
        Self { changes: Vec::new(), answer }
    }
}
