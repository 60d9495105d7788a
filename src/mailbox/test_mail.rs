//! Mailboxes for tests, made of header blocks.

use std::sync::Arc;

use super::account::Account;
use super::mailbox::Mailbox;
use super::plan::Incoming;
use crate::mail::digest::Digest;
use crate::mail::flags::Flags;
use crate::mail::time::Timestamp;
use crate::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, Sequence};

/// The n-th message has UID n and came n minutes into 2026.
pub fn mailbox_of(headers: &[impl AsRef<str>]) -> Mailbox {
    let mut account = Account::new(AccountId(1));
    let plan = account.plan_create("box", None).expect("a new name");
    let id = plan.answer;
    for change in plan.changes {
        account.apply(&change.record, None);
    }
    for (minute, header) in (1..).zip(headers) {
        let message = format!("{}\r\n\r\nbody\r\n", header.as_ref());
        deliver(&mut account, id, minute, message.as_bytes());
    }
    account.mailboxes.remove(&id).expect("just made")
}

pub fn deliver(account: &mut Account, mailbox: MailboxId, minute: u64, message: &[u8]) {
    let incoming = incoming(minute, message);
    let plan = account.plan_append(mailbox, incoming).expect("a mailbox");
    for change in plan.changes {
        account.apply(&change.record, change.digest.as_ref());
    }
}

pub fn incoming(minute: u64, message: &[u8]) -> Incoming {
    Incoming {
        message: Locator {
            id: MessageId { log: LogId(0), sequence: Sequence(minute) },
            place: Place::Segment { number: 0, offset: 0 },
            length: message.len() as u64,
            return_path_length: 0,
        },
        digest: Some(Arc::new(Digest::of(message))),
        key: None,
        flags: Flags::default(),
        internal: Timestamp { seconds: 1_767_225_600 + minute as i64 * 60, zone_minutes: 0 },
        saved: 1_767_225_600,
    }
}
