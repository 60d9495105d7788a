//! What is planned and not yet applied.
//!
//! Plans look at the visible state through this: names as they will be, UIDs and mod-sequences that are given away
//! already, flags and expunges on their way. Whatever is applied or abandoned leaves it, and with nothing in flight all
//! of it is empty but the counters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::account::{DeliveryKey, Usage};
use super::mailbox::Mailbox;
use crate::mail::flags::{FlagsAction, SystemFlags};
use crate::mail::set::Ranges;
use crate::store::MailboxId;
use crate::store::record::{Delivered, SpecialUse};

/// Of an account.
#[derive(Debug, Default)]
pub(super) struct AccountFlight {
    /// Names that will be there, or will not.
    pub names: BTreeMap<String, Option<MailboxId>>,
    /// Records about names that are not applied yet; at none, `names` says nothing new.
    pub names_pending: usize,
    /// The next number for a mailbox.
    pub mailbox_next: u32,
    /// The last UIDVALIDITY that was given.
    pub uid_validity: u32,
    /// Mailboxes that are being made, and what for.
    pub unborn: BTreeMap<MailboxId, Option<SpecialUse>>,
    /// Of every mailbox that something was planned for, unborn ones included.
    pub mailboxes: BTreeMap<MailboxId, MailboxFlight>,
    /// Mailboxes that are being deleted.
    pub doomed: BTreeSet<MailboxId>,
    /// What comes in.
    pub reserved: Usage,
    /// Deliveries that are being made.
    pub keys: HashSet<DeliveryKey>,
    /// The same by the mailbox and UID they were given.
    pub key_places: HashMap<(MailboxId, u32), DeliveryKey>,
}

/// Of a mailbox.
#[derive(Clone, Debug)]
pub(super) struct MailboxFlight {
    pub uid_validity: u32,
    /// UIDs below it are given.
    pub uid_next: u32,
    /// The last mod-sequence that was given.
    pub modseq: u64,
    /// Keywords that follow those of the visible table.
    pub keywords: Vec<String>,
    pub pending: VecDeque<Pending>,
}

/// A change of messages that are visible.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub modseq: u64,
    pub what: PendingChange,
}

#[derive(Clone, Debug)]
pub(super) enum PendingChange {
    Flags { action: FlagsAction, flags: SystemFlags, keywords: u64, uids: Ranges },
    Expunged(Ranges),
}

/// A message as it will be when everything in flight is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outlook {
    pub flags: SystemFlags,
    pub keywords: u64,
    pub modseq: u64,
    pub is_doomed: bool,
}

impl AccountFlight {
    /// A message has come in, or never will.
    pub fn release(&mut self, record: &Delivered) {
        self.reserved.bytes = self.reserved.bytes.saturating_sub(record.message.length);
        self.reserved.messages = self.reserved.messages.saturating_sub(1);
        if let Some(key) = self.key_places.remove(&(record.mailbox, record.uid)) {
            self.keys.remove(&key);
        }
    }

    /// A record about names is applied, or never will be.
    pub fn settle_name(&mut self) {
        self.names_pending = self.names_pending.saturating_sub(1);
        if self.names_pending == 0 {
            self.names.clear();
        }
    }

    /// A record of this mailbox and mod-sequence is applied, and with it everything before.
    pub fn settle(&mut self, mailbox: MailboxId, modseq: u64) {
        if let Some(flight) = self.mailboxes.get_mut(&mailbox) {
            flight.settle(modseq);
        }
    }
}

impl MailboxFlight {
    /// Of a mailbox that is to be made.
    pub fn unborn(uid_validity: u32) -> Self {
        Self { uid_validity, uid_next: 1, modseq: 1, keywords: Vec::new(), pending: VecDeque::new() }
    }

    /// Of a mailbox that nothing was planned for yet.
    pub fn beside(mailbox: &Mailbox) -> Self {
        let (uid_next, modseq) = (mailbox.uid_next(), mailbox.highest_modseq());
        Self { uid_next, modseq, ..Self::unborn(mailbox.uid_validity()) }
    }

    pub fn take_modseq(&mut self) -> u64 {
        self.modseq += 1;
        self.modseq
    }

    /// The first of `count` new UIDs; `None` when the UIDs of the mailbox are used up.
    pub fn take_uids(&mut self, count: usize) -> Option<u32> {
        let first = self.uid_next;
        self.uid_next = first.checked_add(u32::try_from(count).ok()?)?;
        Some(first)
    }

    /// A record of this mod-sequence is applied, and with it everything before.
    fn settle(&mut self, modseq: u64) {
        while self.pending.front().is_some_and(|pending| pending.modseq <= modseq) {
            self.pending.pop_front();
        }
        self.modseq = self.modseq.max(modseq);
    }

    /// The record of this mod-sequence will never be applied. The number stays used.
    pub fn abandon(&mut self, modseq: u64) {
        self.pending.retain(|pending| pending.modseq != modseq);
    }

    /// Only the changes that touch `uids`, so that a long queue of others costs nothing per message.
    pub fn touching(&self, uids: &Ranges) -> Vec<&Pending> {
        let (Some(&(first, _)), Some(last)) = (uids.ranges().first(), uids.last()) else {
            return Vec::new();
        };
        let touches = |uids: &Ranges| uids.ranges().iter().any(|&(from, to)| from <= last && to >= first);
        self.pending.iter().filter(|pending| touches(pending.uids())).collect()
    }
}

impl Pending {
    pub fn uids(&self) -> &Ranges {
        match &self.what {
            PendingChange::Flags { uids, .. } | PendingChange::Expunged(uids) => uids,
        }
    }

    pub fn foresee(&self, uid: u32, outlook: &mut Outlook) {
        if !self.uids().contains(uid) {
            return;
        }
        outlook.modseq = outlook.modseq.max(self.modseq);
        match &self.what {
            PendingChange::Flags { action, flags, keywords, .. } => {
                outlook.flags = changed_flags(outlook.flags, *action, *flags);
                outlook.keywords = changed_keywords(outlook.keywords, *action, *keywords);
            }
            PendingChange::Expunged(_) => outlook.is_doomed = true,
        }
    }
}

pub(super) fn changed_flags(old: SystemFlags, action: FlagsAction, named: SystemFlags) -> SystemFlags {
    match action {
        FlagsAction::Replace => named,
        FlagsAction::Add => old | named,
        FlagsAction::Remove => old & !named,
    }
}

pub(super) fn changed_keywords(old: u64, action: FlagsAction, named: u64) -> u64 {
    match action {
        FlagsAction::Replace => named,
        FlagsAction::Add => old | named,
        FlagsAction::Remove => old & !named,
    }
}
