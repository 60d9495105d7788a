//! APPEND, delivery, STORE, COPY, MOVE, EXPUNGE as plans (RFC 9051 6.3.12, 6.4.3-6.4.8; RFC 7162 3.1.3).

use std::sync::Arc;

use super::account::{Account, DeliveryKey, Usage};
use super::flight::{MailboxFlight, Outlook, Pending, PendingChange, changed_flags, changed_keywords};
use super::mailbox::Mailbox;
use super::view::intersect;
use super::{Change, Plan, Refusal};
use crate::limits::mailbox::{KEYWORD_BYTES_MAX, KEYWORDS_MAX};
use crate::mail::digest::Digest;
use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;
use crate::store::record::{Delivered, Expunged, FlagsChanged, KeywordAdded, Record};
use crate::store::{AccountId, Locator, MailboxId};

/// A message that wants into a mailbox.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub message: Locator,
    pub digest: Option<Arc<Digest>>,
    /// `None` for APPEND and import.
    pub key: Option<DeliveryKey>,
    pub flags: Flags,
    pub internal: Timestamp,
    /// Now, in Unix seconds.
    pub saved: i64,
}

/// Where a message came to be: the numbers of APPENDUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    pub mailbox: MailboxId,
    pub uid_validity: u32,
    pub uid: u32,
}

/// A STORE.
#[derive(Clone, Copy, Debug)]
pub struct StoreFlags<'a> {
    /// Spans as `Look::resolve` gives them.
    pub uids: &'a Ranges,
    pub action: FlagsAction,
    pub flags: &'a Flags,
    /// RFC 7162 3.1.3.
    pub unchanged_since: Option<u64>,
}

/// What a STORE did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// Messages that passed UNCHANGEDSINCE, changed or not; these are echoed.
    pub passed: Ranges,
    /// Messages that failed UNCHANGEDSINCE: the set of MODIFIED, as UIDs.
    pub modified: Ranges,
    /// The mod-sequence of the change, if anything changes: what `View::silence` wants.
    pub modseq: Option<u64>,
}

/// What COPY and MOVE did: the n-th of `source` became the n-th of `target`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    pub uid_validity: u32,
    pub source: Ranges,
    pub target: Ranges,
}

/// What is to be expunged.
#[derive(Clone, Copy, Debug)]
pub enum Doomed<'a> {
    /// EXPUNGE and CLOSE: all that are \Deleted.
    Deleted,
    /// UID EXPUNGE: of these, those that are \Deleted.
    DeletedAmong(&'a Ranges),
    /// POP3: these, whatever their flags.
    These(&'a Ranges),
}

/// A message on its way into a mailbox, as its source has it.
struct Passenger {
    uid: u32,
    message: Locator,
    internal: Timestamp,
    flags: SystemFlags,
    /// Bits of the source's table.
    keywords: u64,
    digest: Option<Arc<Digest>>,
}

/// A mailbox that something is planned for.
struct Open<'a> {
    account: AccountId,
    id: MailboxId,
    /// `None` while it is being made.
    visible: Option<&'a Mailbox>,
    flight: &'a mut MailboxFlight,
}

/// Keywords as bits of one mailbox, with those that it must learn first.
#[derive(Default)]
struct Bits {
    mask: u64,
    new: Vec<(u8, String)>,
}

/// How keywords of one mailbox are called in another.
struct Translation {
    /// Bit there, mask here.
    bits: Vec<(usize, u64)>,
    new: Vec<(u8, String)>,
}

impl Account {
    /// A promised message; it was accepted, so no quota stops it now. `None` if it is there already or on its
    /// way.
    pub fn plan_deliver(
        &mut self,
        mailbox: MailboxId,
        incoming: Incoming,
    ) -> Result<Option<Plan<Placed>>, Refusal> {
        if incoming.key.is_some_and(|key| self.is_delivered(key)) {
            return Ok(None);
        }
        let key = incoming.key;
        let plan = self.plan_incoming(mailbox, incoming)?;
        if let Some(key) = key {
            self.flight.keys.insert(key);
            self.flight.key_places.insert((mailbox, plan.answer.uid), key);
        }
        Ok(Some(plan))
    }

    /// A promised message whose promise is made in the same group. Nobody can have asked for it before, and while the
    /// group waits for its place in the log the key in its record may change: until it is applied nothing is compared
    /// with it.
    pub fn plan_deliver_new(
        &mut self,
        mailbox: MailboxId,
        incoming: Incoming,
    ) -> Result<Plan<Placed>, Refusal> {
        self.plan_incoming(mailbox, incoming)
    }

    /// APPEND and import.
    pub fn plan_append(&mut self, mailbox: MailboxId, incoming: Incoming) -> Result<Plan<Placed>, Refusal> {
        if !self.has_room_for(incoming.message.length) {
            return Err(Refusal::OverQuota);
        }
        self.plan_incoming(mailbox, incoming)
    }

    pub fn plan_store(&mut self, mailbox: MailboxId, store: StoreFlags<'_>) -> Result<Plan<Stored>, Refusal> {
        let mut target = self.open(mailbox)?;
        let bits = match store.action {
            FlagsAction::Remove => target.known_bits(&store.flags.keywords),
            _ => target.bits(&store.flags.keywords)?,
        };
        let (stored, uids) = target.sort_out(&store, bits.mask);
        if uids.is_empty() {
            return Ok(Plan::nothing(stored));
        }
        let mut changes = target.learn(bits.new);
        let modseq = target.flight.take_modseq();
        let (action, flags, keywords) = (store.action, store.flags.system, bits.mask);
        let what = PendingChange::Flags { action, flags, keywords, uids: uids.clone() };
        target.flight.pending.push_back(Pending { modseq, what });
        let account = self.id;
        let record = FlagsChanged { account, mailbox, modseq, action, flags, keywords, uids };
        changes.push(Change::of(Record::FlagsChanged(record)));
        Ok(Plan { changes, answer: Stored { modseq: Some(modseq), ..stored } })
    }

    /// All of them or none; flags and the internal date are kept. `now` in Unix seconds becomes the save
    /// date.
    pub fn plan_copy(
        &mut self,
        from: MailboxId,
        uids: &Ranges,
        to: MailboxId,
        now: i64,
    ) -> Result<Plan<Copied>, Refusal> {
        let passengers = self.passengers(from, uids)?;
        let bytes = passengers.iter().map(|passenger| passenger.message.length).fold(0, u64::saturating_add);
        if !passengers.is_empty() && !self.has_room(Usage { bytes, messages: passengers.len() as u64 }) {
            return Err(Refusal::OverQuota);
        }
        self.board(from, passengers, to, now)
    }

    /// A COPY and the expunge of its source, in one group (RFC 6851 3.3). Nothing is added, so no quota is
    /// asked.
    pub fn plan_move(
        &mut self,
        from: MailboxId,
        uids: &Ranges,
        to: MailboxId,
        now: i64,
    ) -> Result<Plan<Copied>, Refusal> {
        let passengers = self.passengers(from, uids)?;
        let mut plan = self.board(from, passengers, to, now)?;
        if !plan.answer.source.is_empty() {
            let source = plan.answer.source.clone();
            plan.changes.push(self.open(from)?.expunge(source));
        }
        Ok(plan)
    }

    /// Whether a message among `uids` will be expunged by what is under way.
    pub fn has_doomed(&self, mailbox: MailboxId, uids: &Ranges) -> bool {
        let expunged = |pending: &Pending| match &pending.what {
            PendingChange::Expunged(doomed) => !intersect(uids, doomed.ranges()).is_empty(),
            PendingChange::Flags { .. } => false,
        };
        self.flight.mailboxes.get(&mailbox).is_some_and(|flight| flight.pending.iter().any(expunged))
    }

    /// The answer is what will be gone.
    pub fn plan_expunge(&mut self, mailbox: MailboxId, doomed: Doomed<'_>) -> Result<Plan<Ranges>, Refusal> {
        let target = self.open(mailbox)?;
        let (among, any) = match doomed {
            Doomed::Deleted => (target.deleted(), false),
            Doomed::DeletedAmong(uids) => (intersect(uids, target.deleted().ranges()), false),
            Doomed::These(uids) => (uids.clone(), true),
        };
        let mut uids = Ranges::default();
        target.for_each(&among, |_, uid, outlook| {
            if !outlook.is_doomed && (any || outlook.flags.contains(SystemFlags::DELETED)) {
                uids.push(uid);
            }
        });
        if uids.is_empty() {
            return Ok(Plan::nothing(uids));
        }
        let change = self.open(mailbox)?.expunge(uids.clone());
        Ok(Plan { changes: vec![change], answer: uids })
    }

    fn plan_incoming(&mut self, mailbox: MailboxId, incoming: Incoming) -> Result<Plan<Placed>, Refusal> {
        let account = self.id;
        let mut target = self.open(mailbox)?;
        // A keyword for which there is no bit left is lost, as by COPY; the message is not.
        let (bits, _) = target.bits_that_fit(&incoming.flags.keywords);
        let uid = target.flight.take_uids(1).ok_or(UIDS_USED_UP)?;
        let mut changes = target.learn(bits.new);
        let modseq = target.flight.take_modseq();
        let answer = Placed { mailbox, uid_validity: target.flight.uid_validity, uid };
        self.flight.reserved.add(Usage { bytes: incoming.message.length, messages: 1 });
        let record = Delivered {
            account,
            mailbox,
            uid,
            modseq,
            message: incoming.message,
            key: incoming.key,
            flags: incoming.flags.system,
            keywords: bits.mask,
            internal: incoming.internal,
            saved: incoming.saved,
        };
        changes.push(Change { record: Record::Delivered(record), digest: incoming.digest });
        Ok(Plan { changes, answer })
    }

    /// Opens a mailbox that exists, or will, and is not about to go.
    fn open(&mut self, id: MailboxId) -> Result<Open<'_>, Refusal> {
        let visible = self.mailboxes.get(&id);
        if self.flight.doomed.contains(&id) || (visible.is_none() && !self.flight.unborn.contains_key(&id)) {
            return Err(Refusal::NonExistent);
        }
        let flights = &mut self.flight.mailboxes;
        let flight = match visible {
            Some(mailbox) => flights.entry(id).or_insert_with(|| MailboxFlight::beside(mailbox)),
            None => flights.get_mut(&id).ok_or(Refusal::NonExistent)?,
        };
        Ok(Open { account: self.id, id, visible, flight })
    }

    fn passengers(&mut self, from: MailboxId, uids: &Ranges) -> Result<Vec<Passenger>, Refusal> {
        let source = self.open(from)?;
        let Some(visible) = source.visible else {
            return Ok(Vec::new());
        };
        let mut cursor = visible.cursor();
        let mut passengers = Vec::new();
        source.for_each(uids, |_, uid, outlook| {
            let Some(kept) = cursor.find(uid).filter(|_| !outlook.is_doomed) else {
                return;
            };
            passengers.push(Passenger {
                uid,
                message: kept.locator,
                internal: kept.internal,
                flags: outlook.flags,
                keywords: outlook.keywords,
                digest: visible.digest(uid),
            });
        });
        Ok(passengers)
    }

    /// Takes the passengers into the mailbox `to`, under new UIDs.
    fn board(
        &mut self,
        from: MailboxId,
        passengers: Vec<Passenger>,
        to: MailboxId,
        now: i64,
    ) -> Result<Plan<Copied>, Refusal> {
        let used = passengers.iter().fold(0, |used, passenger| used | passenger.keywords);
        let names = self.open(from)?.keyword_names(used);
        let account = self.id;
        let mut target = self.open(to).map_err(|_| Refusal::TryCreate)?;
        let translation = target.translation(&names);
        let first = target.flight.take_uids(passengers.len()).ok_or(UIDS_USED_UP)?;
        let mut changes = target.learn(translation.new);
        let mut copied = Copied { uid_validity: target.flight.uid_validity, ..Copied::default() };
        let mut reserved = Usage::default();
        for (uid, passenger) in (first..).zip(passengers) {
            reserved.add(Usage { bytes: passenger.message.length, messages: 1 });
            copied.source.push(passenger.uid);
            copied.target.push(uid);
            let record = Delivered {
                account,
                mailbox: to,
                uid,
                modseq: target.flight.take_modseq(),
                message: passenger.message,
                key: None,
                flags: passenger.flags,
                keywords: translated(passenger.keywords, &translation.bits),
                internal: passenger.internal,
                saved: now,
            };
            changes.push(Change { record: Record::Delivered(record), digest: passenger.digest });
        }
        self.flight.reserved.add(reserved);
        Ok(Plan { changes, answer: copied })
    }
}

const UIDS_USED_UP: Refusal = Refusal::Limit("messages that ever were in a mailbox");

impl Open<'_> {
    /// Every visible message among `uids`: its place, its UID, and how it will be.
    fn for_each(&self, uids: &Ranges, mut each: impl FnMut(usize, u32, Outlook)) {
        let Some(visible) = self.visible else {
            return;
        };
        let pending = self.flight.touching(uids);
        for index in visible.contents.messages.runs(uids).into_iter().flatten() {
            each(index, visible.contents.messages.uids[index], visible.outlook(index, &pending));
        }
    }

    /// Spans with all messages that are \Deleted or may become so.
    fn deleted(&self) -> Ranges {
        let now = self.visible.map(|mailbox| {
            mailbox.contents.messages.uids_with(SystemFlags::DELETED, mailbox.counts().deleted)
        });
        let pending = self.flight.pending.iter().map(Pending::uids);
        let spans = now.iter().chain(pending).flat_map(|uids| uids.ranges().iter().copied());
        Ranges::from_unordered(spans.collect())
    }

    /// Which messages a STORE changes, as spans between which no other message lives, and which it must leave
    /// alone.
    fn sort_out(&self, store: &StoreFlags<'_>, keywords: u64) -> (Stored, Ranges) {
        let mut stored = Stored::default();
        let mut spans: Vec<(u32, u32)> = Vec::new();
        let mut after_last = None;
        self.for_each(store.uids, |index, uid, outlook| {
            if outlook.is_doomed {
                return;
            }
            // RFC 7162 3.1.3: also a change that is still on its way counts.
            if store.unchanged_since.is_some_and(|since| outlook.modseq > since) {
                return stored.modified.push(uid);
            }
            stored.passed.push(uid);
            let changed = changed_flags(outlook.flags, store.action, store.flags.system) != outlook.flags
                || changed_keywords(outlook.keywords, store.action, keywords) != outlook.keywords;
            if !changed {
                return;
            }
            match spans.last_mut() {
                Some(span) if after_last == Some(index) => span.1 = uid,
                _ => spans.push((uid, uid)),
            }
            after_last = Some(index + 1);
        });
        (stored, Ranges::from_unordered(spans))
    }

    fn expunge(&mut self, uids: Ranges) -> Change {
        let modseq = self.flight.take_modseq();
        self.flight.pending.push_back(Pending { modseq, what: PendingChange::Expunged(uids.clone()) });
        Change::of(Record::Expunged(Expunged { account: self.account, mailbox: self.id, modseq, uids }))
    }

    /// The table as it will be.
    fn keywords(&self) -> impl Iterator<Item = &String> {
        self.visible.map_or(&[][..], |mailbox| mailbox.keywords()).iter().chain(&self.flight.keywords)
    }

    fn bit_of(&self, keyword: &str) -> Option<usize> {
        self.keywords().position(|known| !known.is_empty() && known.eq_ignore_ascii_case(keyword))
    }

    /// The bits of those keywords that the mailbox has.
    fn known_bits(&self, keywords: &[String]) -> Bits {
        let mask =
            keywords.iter().filter_map(|keyword| self.bit_of(keyword)).fold(0, |mask, bit| mask | 1 << bit);
        Bits { mask, new: Vec::new() }
    }

    /// The bits of all of these keywords, of which some may be new.
    fn bits(&self, keywords: &[String]) -> Result<Bits, Refusal> {
        if keywords.iter().any(|keyword| !is_keyword(keyword)) {
            return Err(Refusal::Limit("length of a keyword"));
        }
        let (bits, lost) = self.bits_that_fit(keywords);
        match lost {
            0 => Ok(bits),
            _ => Err(Refusal::Limit("keywords in a mailbox")),
        }
    }

    /// The bits of those keywords that the mailbox has or has room for, and how many it has not.
    fn bits_that_fit(&self, keywords: &[String]) -> (Bits, usize) {
        let (mut bits, mut lost) = (Bits::default(), 0);
        let mut next = self.keywords().count();
        for keyword in keywords {
            let bit = self.bit_of(keyword).unwrap_or(next);
            if bit >= KEYWORDS_MAX || !is_keyword(keyword) {
                lost += 1;
                continue;
            }
            if bit == next {
                bits.new.push((bit as u8, keyword.clone()));
                next += 1;
            }
            bits.mask |= 1 << bit;
        }
        (bits, lost)
    }

    fn learn(&mut self, new: Vec<(u8, String)>) -> Vec<Change> {
        self.flight.keywords.extend(new.iter().map(|(_, name)| name.clone()));
        let (account, mailbox) = (self.account, self.id);
        let record = |(bit, name)| Record::KeywordAdded(KeywordAdded { account, mailbox, bit, name });
        new.into_iter().map(record).map(Change::of).collect()
    }

    /// The names of the bits in `used`.
    fn keyword_names(&self, used: u64) -> Vec<(usize, String)> {
        let named = self.keywords().enumerate().filter(|(bit, _)| used >> bit & 1 == 1);
        named.map(|(bit, name)| (bit, name.clone())).collect()
    }

    /// For bits of another mailbox, the bits here, with what is to be learnt. A keyword for which there is no
    /// bit left is lost on the way; the message is not.
    fn translation(&self, names: &[(usize, String)]) -> Translation {
        let mut bits = Vec::with_capacity(names.len());
        let mut new = Vec::new();
        for (from, name) in names {
            let next = self.keywords().count() + new.len();
            let bit = self.bit_of(name).unwrap_or(next);
            if bit >= KEYWORDS_MAX || name.is_empty() {
                continue;
            }
            if bit == next {
                new.push((bit as u8, name.clone()));
            }
            bits.push((*from, 1 << bit));
        }
        Translation { bits, new }
    }
}

fn is_keyword(text: &str) -> bool {
    !text.is_empty() && text.len() <= KEYWORD_BYTES_MAX
}

fn translated(keywords: u64, bits: &[(usize, u64)]) -> u64 {
    let held = bits.iter().filter(|(bit, _)| keywords >> bit & 1 == 1);
    held.fold(0, |all, (_, here)| all | here)
}
