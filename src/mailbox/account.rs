//! An account: its mailboxes, subscriptions, counters and what it has been delivered.
//!
//! This file holds what is visible and how records change it. How commands become records is in `namespace.rs` (names),
//! `plan.rs` (messages) and `renumber.rs` (after a restore); what those look at besides is in `flight.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Change;
use super::contents::Awake;
use super::delivered::Delivered;
use super::flight::AccountFlight;
use super::mailbox::{Counts, Mailbox};
use super::name;
use crate::mail::digest::Digest;
use crate::store::index::Chunk;
use crate::store::record::{self, Record};
use crate::store::{AccountId, LogId, MailboxId, MessageId, Sequence};

/// The promise that a delivery keeps: the accepted message and the number of the recipient in its envelope.
pub type DeliveryKey = (MessageId, u32);

#[derive(Debug)]
pub struct Account {
    pub(super) id: AccountId,
    pub(super) mailboxes: BTreeMap<MailboxId, Mailbox>,
    pub(super) names: BTreeMap<String, MailboxId>,
    pub(super) subscriptions: BTreeSet<String>,
    /// The next number for a mailbox.
    pub(super) mailbox_next: u32,
    /// The last UIDVALIDITY in use.
    pub(super) uid_validity: u32,
    pub(super) usage: Usage,
    pub(super) quota: Quota,
    pub(super) delivered: Delivered,
    pub(super) flight: AccountFlight,
}

/// How much the account may hold. `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    pub bytes_max: Option<u64>,
    pub messages_max: Option<u64>,
}

/// What the account holds; a message in two mailboxes counts twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub bytes: u64,
    pub messages: u64,
}

impl Account {
    /// An account without anything, also without INBOX.
    pub fn new(id: AccountId) -> Self {
        Self {
            id,
            mailboxes: BTreeMap::new(),
            names: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            mailbox_next: 1,
            uid_validity: 0,
            usage: Usage::default(),
            quota: Quota::default(),
            delivered: Delivered::default(),
            flight: AccountFlight { mailbox_next: 1, ..AccountFlight::default() },
        }
    }

    /// Changes what can be seen. A record that was applied before, or that is for another account, changes
    /// nothing.
    pub fn apply(&mut self, record: &Record, digest: Option<&Arc<Digest>>) {
        if record.account() != Some(self.id) {
            return;
        }
        match record {
            Record::Delivered(delivered) => self.apply_delivered(delivered, digest),
            Record::FlagsChanged(changed) => {
                self.flight.settle(changed.mailbox, changed.modseq);
                if let Some(mailbox) = self.mailboxes.get_mut(&changed.mailbox) {
                    mailbox.apply_flags(changed);
                }
            }
            Record::Expunged(expunged) => {
                self.flight.settle(expunged.mailbox, expunged.modseq);
                if let Some(mailbox) = self.mailboxes.get_mut(&expunged.mailbox) {
                    let gone = mailbox.apply_expunged(expunged);
                    self.usage.subtract(gone);
                }
            }
            Record::KeywordAdded(added) => self.apply_keyword(added),
            Record::MailboxCreated(created) => self.apply_created(created),
            Record::MailboxRenamed(renamed) => self.apply_renamed(renamed),
            Record::MailboxDeleted(deleted) => self.apply_deleted(deleted.mailbox),
            Record::Subscribed(subscribed) => {
                self.subscriptions.insert(subscribed.name.clone());
            }
            Record::Unsubscribed(subscribed) => {
                self.subscriptions.remove(&subscribed.name);
            }
            Record::AccountPurged(_) => self.apply_purged(),
            Record::UidValidityRaised(raised) => self.apply_raised(raised),
            _ => {}
        }
    }

    /// Forgets plans whose group was not written. Their UIDs and mod-sequences stay used. A log that fails fails
    /// everything that waits for it, so plans made on top of these are to be abandoned too.
    pub fn abandon(&mut self, changes: &[Change]) {
        for change in changes {
            match &change.record {
                Record::Delivered(delivered) => self.flight.release(delivered),
                Record::FlagsChanged(record::FlagsChanged { mailbox, modseq, .. })
                | Record::Expunged(record::Expunged { mailbox, modseq, .. }) => {
                    if let Some(flight) = self.flight.mailboxes.get_mut(mailbox) {
                        flight.abandon(*modseq);
                    }
                }
                Record::KeywordAdded(added) => {
                    let visible =
                        self.mailboxes.get(&added.mailbox).map_or(0, |mailbox| mailbox.keywords().len());
                    if let Some(flight) = self.flight.mailboxes.get_mut(&added.mailbox) {
                        flight.keywords.truncate(usize::from(added.bit).saturating_sub(visible));
                    }
                }
                Record::MailboxCreated(created) => {
                    self.flight.unborn.remove(&created.mailbox);
                    self.flight.mailboxes.remove(&created.mailbox);
                    self.flight.settle_name();
                }
                Record::MailboxRenamed(_) => self.flight.settle_name(),
                Record::MailboxDeleted(deleted) => {
                    self.flight.doomed.remove(&deleted.mailbox);
                    self.flight.settle_name();
                }
                _ => {}
            }
        }
    }

    pub fn set_quota(&mut self, quota: Quota) {
        self.quota = quota;
    }

    /// Gives a message the digest that it lacks.
    pub fn supply(&mut self, mailbox: MailboxId, uid: u32, digest: &Arc<Digest>) {
        if let Some(mailbox) = self.mailboxes.get_mut(&mailbox) {
            mailbox.supply(uid, digest);
        }
    }

    /// Puts a chunk that [`Mailbox::seal`] made, and that is readable now, where its rows were. `false` if it
    /// does not fit any more.
    pub fn install(&mut self, mailbox: MailboxId, uids: &RangeInclusive<u32>, chunk: Chunk) -> bool {
        let Some(mailbox) = self.mailboxes.get_mut(&mailbox) else {
            return false;
        };
        let Awake { rows, messages, .. } = &mut *mailbox.contents;
        rows.install(uids, chunk, messages)
    }

    /// Counts a mailbox of which something was lost.
    pub fn recount(&mut self, mailbox: MailboxId) {
        if let Some(mailbox) = self.mailboxes.get_mut(&mailbox) {
            self.usage.subtract(mailbox.counts());
            mailbox.recount();
            self.usage.add(mailbox.counts().usage());
        }
    }

    /// Forgets the delivery keys of a log below its low-water mark: that log will not ask again.
    pub fn trim_delivered(&mut self, log: LogId, low_water: Sequence) {
        self.delivered.trim(log, low_water);
    }

    pub fn id(&self) -> AccountId {
        self.id
    }

    pub fn mailbox(&self, id: MailboxId) -> Option<&Mailbox> {
        self.mailboxes.get(&id)
    }

    /// By name; INBOX in any case, and in any composition. A name that was stored as it came goes first.
    pub fn named(&self, name: &str) -> Option<&Mailbox> {
        let name = name::folded(name);
        let id = self.names.get(&*name).or_else(|| self.names.get(&*name::composed(&name)))?;
        self.mailboxes.get(id)
    }

    /// In order of their numbers.
    pub fn into_mailboxes(self) -> impl Iterator<Item = Mailbox> {
        self.mailboxes.into_values()
    }

    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        self.mailboxes.values()
    }

    pub fn is_subscribed(&self, name: &str) -> bool {
        let name = name::folded(name);
        self.subscriptions.contains(&*name) || self.subscriptions.contains(&*name::composed(&name))
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Whether a message of this size may still come in, for RCPT and MAIL.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.has_room(Usage { bytes, messages: 1 })
    }

    /// Whether this delivery was made or is in flight.
    pub fn is_delivered(&self, key: DeliveryKey) -> bool {
        self.delivered.contains(key) || self.flight.keys.contains(&key)
    }

    /// What is on its way counts as if it were there.
    pub(super) fn has_room(&self, more: Usage) -> bool {
        let sum = |a: u64, b: u64, c: u64| a.saturating_add(b).saturating_add(c);
        let bytes = sum(self.usage.bytes, self.flight.reserved.bytes, more.bytes);
        let messages = sum(self.usage.messages, self.flight.reserved.messages, more.messages);
        self.quota.bytes_max.is_none_or(|max| bytes <= max)
            && self.quota.messages_max.is_none_or(|max| messages <= max)
    }

    fn apply_delivered(&mut self, record: &record::Delivered, digest: Option<&Arc<Digest>>) {
        self.flight.release(record);
        self.flight.settle(record.mailbox, record.modseq);
        // Into a mailbox whose making failed nothing was delivered.
        let Some(mailbox) = self.mailboxes.get_mut(&record.mailbox) else {
            return;
        };
        if let Some(key) = record.key {
            self.delivered.insert(key);
        }
        if mailbox.apply_delivered(record, digest) {
            self.usage.bytes = self.usage.bytes.saturating_add(record.message.length);
            self.usage.messages += 1;
        }
    }

    fn apply_keyword(&mut self, record: &record::KeywordAdded) {
        let Some(mailbox) = self.mailboxes.get_mut(&record.mailbox) else {
            return;
        };
        let before = mailbox.keywords().len();
        mailbox.apply_keyword(record);
        if let Some(flight) = self.flight.mailboxes.get_mut(&record.mailbox) {
            // What is visible now is not on its way any more.
            let arrived = (mailbox.keywords().len() - before).min(flight.keywords.len());
            flight.keywords.drain(..arrived);
        }
    }

    fn apply_created(&mut self, record: &record::MailboxCreated) {
        self.flight.unborn.remove(&record.mailbox);
        self.flight.settle_name();
        if record.mailbox.0 < self.mailbox_next {
            return;
        }
        self.mailbox_next = record.mailbox.0.saturating_add(1);
        self.uid_validity = self.uid_validity.max(record.uid_validity);
        self.flight.mailbox_next = self.flight.mailbox_next.max(self.mailbox_next);
        self.flight.uid_validity = self.flight.uid_validity.max(self.uid_validity);
        self.names.insert(record.name.clone(), record.mailbox);
        self.mailboxes.insert(record.mailbox, Mailbox::created(record));
    }

    fn apply_renamed(&mut self, record: &record::MailboxRenamed) {
        self.flight.settle_name();
        let Some(mailbox) = self.mailboxes.get_mut(&record.mailbox) else {
            return;
        };
        let old = std::mem::replace(&mut mailbox.name, record.name.clone());
        if self.names.get(&old) == Some(&record.mailbox) {
            self.names.remove(&old);
        }
        self.names.insert(record.name.clone(), record.mailbox);
    }

    fn apply_deleted(&mut self, id: MailboxId) {
        self.flight.doomed.remove(&id);
        self.flight.mailboxes.remove(&id);
        self.flight.settle_name();
        let Some(mailbox) = self.mailboxes.remove(&id) else {
            return;
        };
        self.usage.subtract(mailbox.counts());
        if self.names.get(mailbox.name()) == Some(&id) {
            self.names.remove(mailbox.name());
        }
    }

    /// The counters stay: nothing that was once named is named again.
    fn apply_purged(&mut self) {
        self.mailboxes.clear();
        self.names.clear();
        self.subscriptions.clear();
        self.flight.mailboxes.clear();
        self.flight.unborn.clear();
        self.usage = Usage::default();
    }
}

impl Usage {
    fn subtract(&mut self, gone: Counts) {
        self.bytes = self.bytes.saturating_sub(gone.size);
        self.messages = self.messages.saturating_sub(u64::from(gone.messages));
    }
}
