//! Owed mail that cannot be read.
//!
//! ```text
//!   the record, with the envelope    nobody knows whose mail it is: tried a few times, then held, with a reason that
//!                                    `ringpost queue list` shows. An operator releases it, to have it tried again, or
//!                                    bounces it, which ends it without a word to anybody.
//!   the body alone (a large file)    tried a few times, then returned to its sender, without its header
//! ```
//!
//! A disk that fails once may read well another time, so that nothing is given up at the first trouble.
//!
//! Invariant: whatever cannot be read is told of in the log and in the queue, and is never sent.

use std::rc::Rc;

use crate::io::{clock, random};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mailbox::Change;
use crate::proto::smtp::client::{Failure, Origin, Phase};
use crate::queue::retry::Life;
use crate::shard::Shard;
use crate::shard::commit::{Commit, Ticket};
use crate::shard::deliver::change;
use crate::store::MessageId;
use crate::store::owed::Row;
use crate::store::record::{Deferred, Record, Selected, Settled, Warning};

/// Attempts to read, the last of which decides.
pub const READS_MAX: u32 = 3;

/// X.3.0: something is wrong with the mail system itself (RFC 3463 3.4).
const SYSTEM: (u16, u16) = (3, 0);

/// What stands in the queue for an envelope that cannot be read.
pub const UNREADABLE: &str = "the message's record cannot be read";

impl Shard {
    /// Puts off recipients of a message whose record cannot be read, or holds them. Durable when the ticket says so.
    pub fn put_aside(&self, commit: &Rc<Commit>, id: MessageId, rows: &[Row]) -> Rc<Ticket> {
        let changes: Vec<Change> = rows.iter().flat_map(|row| self.aside(row)).collect();
        let is_given_up = rows.iter().any(|row| reads(row) >= READS_MAX);
        let then = if is_given_up { "held" } else { "tried again" };
        tracing::error!(message = %id, recipients = rows.len(), "an owed message cannot be read; it is {then}");
        commit.append(changes)
    }

    fn aside(&self, row: &Row) -> Vec<Change> {
        let now = clock::timestamp().seconds;
        let attempts = reads(row);
        let policy = self.config().outbound.retry_for(None).clone();
        let life = Life { received: i64::from(row.received), release: None, deliver_by: None };
        let due = policy.next_attempt(&life, attempts, now, u64::from_le_bytes(random::bytes()));
        let deferred = Deferred {
            message: row.message,
            recipients: vec![row.recipient],
            attempts: u16::try_from(attempts).unwrap_or(u16::MAX),
            due,
            warning: Warning::NotSent,
            reply: format!("451 4.3.0 Here: {UNREADABLE}"),
        };
        let mut changes = vec![change(Record::Deferred(deferred))];
        if attempts >= READS_MAX {
            let held = Selected { message: row.message, recipients: vec![row.recipient] };
            changes.push(change(Record::Held(held)));
        }
        changes
    }

    /// Ends what was held since nobody can read it: an operator says so. `None` if there is nothing of that kind.
    pub fn end_unreadable(&self, commit: &Rc<Commit>, id: MessageId, rows: &[Row]) -> Option<Rc<Ticket>> {
        let held = rows.iter().filter(|row| row.state == crate::store::owed::State::Held);
        let settled =
            |row: &Row| change(Record::Settled(Settled { message: row.message, recipient: row.recipient }));
        let changes: Vec<Change> = held.map(settled).collect();
        if changes.is_empty() {
            return None;
        }
        tracing::warn!(message = %id, "ended by an operator; nobody can be told, for it cannot be read");
        Some(commit.append(changes))
    }
}

/// Attempts, with the one that was just made.
fn reads(row: &Row) -> u32 {
    u32::from(row.attempts) + 1
}

/// What becomes of a recipient whose message has an envelope and no body, at its attempt of this number.
pub fn unreadable(attempt: u32) -> Failure {
    let (subject, detail) = SYSTEM;
    let reply = match attempt < READS_MAX {
        true => Reply::new(451, EnhancedCode::new(4, subject, detail), "The message cannot be read here"),
        false => Reply::new(554, EnhancedCode::new(5, subject, detail), "The message was damaged here"),
    };
    Failure { reply, phase: Phase::Mail, origin: Origin::Local }
}
