//! One mailbox: its messages, their flags, and its counters.
//!
//! The live UIDs stand in one sorted list; beside it, in the same order, what changes of a message: flags,
//! keywords, mod-sequence. What does not change lies in [`super::rows`]. Counts are kept, not counted.
//!
//! Invariants: UIDs ascend and are below `uid_next`; every mod-sequence is at most `modseq`; a change of an older
//! mod-sequence than `modseq` was applied before and changes nothing.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::account::Usage;
use super::contents::{Asleep, Awake, Contents};
use super::flight::{Outlook, Pending, changed_flags, changed_keywords};
use super::journal::{ExpungeChain, FlagNotes};
use super::rows::{Cursor, Seal, SealWhen, TailRow};
use crate::limits::mailbox::KEYWORDS_MAX;
use crate::mail::digest::Digest;
use crate::mail::flags::SystemFlags;
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;
use crate::store::index::{Chunk, Kept, LazyDigest};
use crate::store::record::{Delivered, Expunged, FlagsChanged, KeywordAdded, MailboxCreated, SpecialUse};
use crate::store::{Locator, MailboxId};

/// Flags of so many messages are looked at together, many times faster than one by one.
const FLAGS_BLOCK: usize = 4096;

#[derive(Debug)]
pub struct Mailbox {
    pub(super) id: MailboxId,
    pub(super) name: String,
    pub(super) special_use: Option<SpecialUse>,
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) modseq: u64,
    pub(super) counts: Counts,
    pub(super) contents: Contents,
    pub(super) expunges: ExpungeChain,
    pub(super) flag_notes: FlagNotes,
    /// Messages from this UID on were told to no session that takes \Recent. A restart begins at `uid_next`.
    pub(super) recent_from: Cell<u32>,
}

/// The live messages, in columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Messages {
    pub uids: Vec<u32>,
    pub flags: Vec<SystemFlags>,
    pub modseqs: Vec<u64>,
    /// Empty while no message ever had a keyword.
    pub keywords: Vec<u64>,
}

/// One message as it is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    pub uid: u32,
    pub modseq: u64,
    pub flags: SystemFlags,
    /// Bits of the mailbox's keyword table.
    pub keywords: u64,
    pub internal: Timestamp,
    /// Unix seconds.
    pub saved: i64,
    pub locator: Locator,
    pub digest: LazyDigest<'a>,
}

/// The counts of STATUS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    /// Octets of all messages.
    pub size: u64,
    /// Octets of those that are \Deleted.
    pub deleted_size: u64,
}

impl Mailbox {
    pub(super) fn created(record: &MailboxCreated) -> Self {
        Self {
            id: record.mailbox,
            name: record.name.clone(),
            special_use: record.special_use,
            uid_validity: record.uid_validity,
            uid_next: 1,
            modseq: 1,
            counts: Counts::default(),
            contents: Contents::default(),
            expunges: ExpungeChain::default(),
            flag_notes: FlagNotes::default(),
            recent_from: Cell::new(1),
        }
    }

    /// Whether the message was new here.
    pub(super) fn apply_delivered(&mut self, record: &Delivered, digest: Option<&Arc<Digest>>) -> bool {
        if record.modseq <= self.modseq || record.uid < self.uid_next {
            return false;
        }
        // The last UID is never given, so that `uid_next` always has a value.
        let Some(uid_next) = record.uid.checked_add(1) else {
            return false;
        };
        self.uid_next = uid_next;
        self.modseq = record.modseq;
        self.contents.messages.push(record.uid, record.flags, record.modseq, record.keywords);
        self.contents.rows.push(TailRow {
            uid: record.uid,
            internal: record.internal,
            saved: record.saved,
            locator: record.message,
            digest: digest.cloned(),
        });
        self.counts.add(record.flags, record.message.length);
        true
    }

    pub(super) fn apply_flags(&mut self, record: &FlagsChanged) {
        if record.modseq <= self.modseq {
            return;
        }
        self.modseq = record.modseq;
        let Awake { messages, rows, .. } = &mut *self.contents;
        let mut cursor = rows.cursor();
        for run in messages.runs(&record.uids) {
            for index in run {
                let old = messages.flags[index];
                let new = changed_flags(old, record.action, record.flags);
                if (old.0 ^ new.0) & (SystemFlags::SEEN | SystemFlags::DELETED).0 != 0 {
                    let size = cursor.find(messages.uids[index]).map_or(0, |kept| kept.locator.length);
                    self.counts.change(old, new, size);
                }
                messages.flags[index] = new;
                messages.modseqs[index] = record.modseq;
                let keywords = changed_keywords(messages.keywords_at(index), record.action, record.keywords);
                messages.set_keywords(index, keywords);
            }
        }
        self.flag_notes.push(record.modseq, record.uids.clone());
    }

    /// The octets that went.
    pub(super) fn apply_expunged(&mut self, record: &Expunged) -> Counts {
        let mut gone = Counts::default();
        if record.modseq <= self.modseq {
            return gone;
        }
        self.modseq = record.modseq;
        let runs = self.contents.messages.runs(&record.uids);
        let mut died = Ranges::default();
        let mut cursor = self.contents.rows.cursor();
        for index in runs.iter().cloned().flatten() {
            let uid = self.contents.messages.uids[index];
            let size = cursor.find(uid).map_or(0, |kept| kept.locator.length);
            gone.add(self.contents.messages.flags[index], size);
            died.push(uid);
        }
        if died.is_empty() {
            return gone;
        }
        self.counts.subtract(gone);
        self.contents.messages.remove(&runs);
        self.contents.rows.remove(&died);
        self.contents.history.push(record.modseq, died.clone());
        self.expunges.push(died);
        gone
    }

    pub(super) fn apply_keyword(&mut self, record: &KeywordAdded) {
        let bit = usize::from(record.bit);
        if bit >= KEYWORDS_MAX {
            return;
        }
        // A group that failed can leave a hole.
        let keywords = &mut self.contents.keywords;
        keywords.resize(keywords.len().max(bit + 1), String::new());
        if keywords[bit].is_empty() {
            keywords[bit].clone_from(&record.name);
        }
    }

    /// Counts what is there, which is not what was known to be.
    pub(super) fn recount(&mut self) {
        let Awake { messages, rows, .. } = &*self.contents;
        let mut cursor = rows.cursor();
        let mut counts = Counts::default();
        for (&uid, &flags) in messages.uids.iter().zip(&messages.flags) {
            counts.add(flags, cursor.find_place(uid).map_or(0, |(locator, _)| locator.length));
        }
        self.counts = counts;
    }

    pub(super) fn supply(&mut self, uid: u32, digest: &Arc<Digest>) {
        self.contents.rows.supply(uid, digest);
    }

    pub fn id(&self) -> MailboxId {
        self.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn special_use(&self) -> Option<SpecialUse> {
        self.special_use
    }

    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    pub fn uid_next(&self) -> u32 {
        self.uid_next
    }

    /// At least 1.
    pub fn highest_modseq(&self) -> u64 {
        self.modseq
    }

    /// The keyword table: the n-th is bit n. An empty name is to be skipped.
    pub fn keywords(&self) -> &[String] {
        &self.contents.keywords
    }

    /// The bit of a keyword, in any case.
    pub fn keyword_bit(&self, keyword: &str) -> Option<u8> {
        let at = self
            .keywords()
            .iter()
            .position(|known| !known.is_empty() && known.eq_ignore_ascii_case(keyword))?;
        u8::try_from(at).ok()
    }

    /// Whether another keyword can be made (`\*` of PERMANENTFLAGS).
    pub fn takes_new_keywords(&self) -> bool {
        self.contents.keywords.len() < KEYWORDS_MAX
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Messages that no session was told of yet (STATUS RECENT). Kept in memory: a restart begins at none.
    pub fn recent(&self) -> u32 {
        if self.recent_from.get() == self.uid_next {
            return 0;
        }
        let before = self.contents.messages.uids.partition_point(|&uid| uid < self.recent_from.get());
        as_count(self.contents.messages.uids.len() - before)
    }

    /// The live UIDs in ascending order.
    pub fn uids(&self) -> &[u32] {
        &self.contents.messages.uids
    }

    pub fn row(&self, uid: u32) -> Option<Row<'_>> {
        let index = self.contents.messages.uids.binary_search(&uid).ok()?;
        Some(self.contents.messages.row(index, self.contents.rows.get(uid)?))
    }

    /// Each message in order of UID: where it is and, if that is known without reading it, whether its last line
    /// has its CRLF.
    pub fn places(&self) -> impl Iterator<Item = (u32, Locator, Option<bool>)> {
        let mut cursor = self.contents.rows.cursor();
        self.contents.messages.uids.iter().filter_map(move |&uid| {
            let (locator, is_ended) = cursor.find_place(uid)?;
            Some((uid, locator, is_ended))
        })
    }

    /// Where messages are whose UIDs are above one, in order.
    pub fn places_above(&self, above: u32) -> impl Iterator<Item = (u32, Locator)> {
        let from = self.contents.messages.uids.partition_point(|&uid| uid <= above);
        let mut cursor = self.contents.rows.cursor();
        self.contents.messages.uids[from..]
            .iter()
            .filter_map(move |&uid| Some((uid, cursor.find_place(uid)?.0)))
    }

    /// The digest of a message, to be kept beside a copy of it.
    pub fn digest(&self, uid: u32) -> Option<Arc<Digest>> {
        self.contents.rows.digest(uid)
    }

    /// What was expunged after `modseq`, as spans that hold no live message. Where the kept history begins
    /// later, every absent UID.
    pub fn vanished_since(&self, modseq: u64) -> Ranges {
        self.contents
            .history
            .since(modseq)
            .unwrap_or_else(|| self.contents.messages.absent_below(self.uid_next))
    }

    /// Live messages that changed after `modseq`, in ascending order of UID (CHANGEDSINCE).
    pub fn changed_since(&self, modseq: u64) -> impl Iterator<Item = u32> {
        let messages = self.contents.messages.uids.iter().zip(&self.contents.messages.modseqs);
        messages.filter(move |(_, of_message)| **of_message > modseq).map(|(&uid, _)| uid)
    }

    /// The next chunk that is worth making, made; after its `Account::install` ask again, until `None`.
    pub fn seal(&self, when: SealWhen) -> Option<Seal> {
        let uids = self.contents.rows.worth_sealing(when, &self.contents.messages)?;
        let end = *uids.end();
        let seal = Seal::of(&self.contents.rows, &self.contents.messages, uids);
        // Full of bytes before it held its neighbours: then the tail alone.
        match self.contents.rows.tail().first() {
            Some(tail) if *seal.uids.end() < tail.uid.min(end) => {
                Some(Seal::of(&self.contents.rows, &self.contents.messages, tail.uid..=end))
            }
            _ => Some(seal),
        }
    }

    /// The chunks in use, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.contents.rows.chunks()
    }

    /// Its contents as they sleep in the index, if they do.
    pub fn sleeping(&self) -> Option<Asleep> {
        self.contents.sleeping()
    }

    /// Wakes it with what [`Asleep::read`] gave, unless it woke by itself meanwhile.
    pub fn wake_with(&self, awake: Awake) {
        self.contents.wake_with(awake);
    }

    /// What the index has of it was not good.
    pub fn is_remade(&self) -> bool {
        self.contents.is_remade
    }

    /// The rows whose digests a replay left out.
    pub fn without_digest(&self) -> impl Iterator<Item = &TailRow> {
        self.contents.rows.tail().iter().filter(|row| row.digest.is_none())
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        self.contents.rows.cursor()
    }

    /// The message at this place as it will be after `pending`.
    pub(super) fn outlook(&self, index: usize, pending: &[&Pending]) -> Outlook {
        let mut outlook = Outlook {
            flags: self.contents.messages.flags[index],
            keywords: self.contents.messages.keywords_at(index),
            modseq: self.contents.messages.modseqs[index],
            is_doomed: false,
        };
        for change in pending {
            change.foresee(self.contents.messages.uids[index], &mut outlook);
        }
        outlook
    }
}

impl Messages {
    fn push(&mut self, uid: u32, flags: SystemFlags, modseq: u64, keywords: u64) {
        self.uids.push(uid);
        self.flags.push(flags);
        self.modseqs.push(modseq);
        if !self.keywords.is_empty() {
            self.keywords.push(keywords);
        } else {
            self.set_keywords(self.uids.len() - 1, keywords);
        }
    }

    /// The row at this place of the columns, whose unchanging part was found already.
    pub fn row<'a>(&self, index: usize, kept: Kept<'a>) -> Row<'a> {
        Row {
            uid: self.uids[index],
            modseq: self.modseqs[index],
            flags: self.flags[index],
            keywords: self.keywords_at(index),
            internal: kept.internal,
            saved: kept.saved,
            locator: kept.locator,
            digest: kept.digest,
        }
    }

    /// The UIDs of messages with a flag, of which there are so many.
    pub fn uids_with(&self, flag: SystemFlags, count: u32) -> Ranges {
        let mut uids = Ranges::default();
        let mut left = count;
        for (number, block) in self.flags.chunks(FLAGS_BLOCK).enumerate() {
            if left == 0 {
                break;
            }
            let any = block.iter().fold(SystemFlags::NONE, |any, flags| any | *flags);
            if !any.contains(flag) {
                continue;
            }
            for (at, _) in block.iter().enumerate().filter(|(_, flags)| flags.contains(flag)) {
                uids.push(self.uids[number * FLAGS_BLOCK + at]);
                left = left.saturating_sub(1);
            }
        }
        uids
    }

    /// The place of the first message without a flag.
    pub fn first_without(&self, flag: SystemFlags) -> Option<usize> {
        let lacks = |flags: &SystemFlags| !flags.contains(flag);
        let is_in =
            |block: &[SystemFlags]| lacks(&block.iter().fold(SystemFlags::ALL, |all, flags| all & *flags));
        let number = self.flags.chunks(FLAGS_BLOCK).position(is_in)?;
        let from = number * FLAGS_BLOCK;
        Some(from + self.flags[from..].iter().position(lacks)?)
    }

    /// How many live messages have UIDs from `first` to `last`.
    pub fn count_within(&self, first: u32, last: u32) -> usize {
        self.uids.partition_point(|&uid| uid <= last) - self.uids.partition_point(|&uid| uid < first)
    }

    pub fn keywords_at(&self, index: usize) -> u64 {
        self.keywords.get(index).copied().unwrap_or(0)
    }

    fn set_keywords(&mut self, index: usize, keywords: u64) {
        if self.keywords.is_empty() && keywords == 0 {
            return;
        }
        self.keywords.resize(self.uids.len(), 0);
        self.keywords[index] = keywords;
    }

    /// Where the live messages among `uids` stand; runs ascend and are not empty.
    pub fn runs(&self, uids: &Ranges) -> Vec<Range<usize>> {
        let place = |&(from, to): &(u32, u32)| {
            let start = self.uids.partition_point(|&uid| uid < from);
            start..start + self.uids[start..].partition_point(|&uid| uid <= to)
        };
        uids.ranges().iter().map(place).filter(|run| !run.is_empty()).collect()
    }

    fn remove(&mut self, runs: &[Range<usize>]) {
        remove_runs(&mut self.uids, runs);
        remove_runs(&mut self.flags, runs);
        remove_runs(&mut self.modseqs, runs);
        if !self.keywords.is_empty() {
            remove_runs(&mut self.keywords, runs);
        }
    }

    fn absent_below(&self, end: u32) -> Ranges {
        let mut absent = Vec::new();
        let mut from = 1;
        for &uid in self.uids.iter().chain([&end]) {
            if from < uid {
                absent.push((from, uid - 1));
            }
            from = uid.saturating_add(1);
        }
        Ranges::from_unordered(absent)
    }
}

impl Counts {
    pub(super) fn add(&mut self, flags: SystemFlags, size: u64) {
        self.messages += 1;
        self.size = self.size.saturating_add(size);
        self.unseen += u32::from(!flags.contains(SystemFlags::SEEN));
        if flags.contains(SystemFlags::DELETED) {
            self.deleted += 1;
            self.deleted_size = self.deleted_size.saturating_add(size);
        }
    }

    pub(super) fn usage(self) -> Usage {
        Usage { bytes: self.size, messages: u64::from(self.messages) }
    }

    fn subtract(&mut self, gone: Counts) {
        self.messages = self.messages.saturating_sub(gone.messages);
        self.size = self.size.saturating_sub(gone.size);
        self.unseen = self.unseen.saturating_sub(gone.unseen);
        self.deleted = self.deleted.saturating_sub(gone.deleted);
        self.deleted_size = self.deleted_size.saturating_sub(gone.deleted_size);
    }

    fn change(&mut self, old: SystemFlags, new: SystemFlags, size: u64) {
        let mut gone = Counts::default();
        gone.add(old, size);
        self.subtract(gone);
        self.add(new, size);
    }
}

/// A number of messages. UIDs are 32 bits wide, so there are never more.
pub(super) fn as_count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Closes the gaps, all in one pass. `runs` ascend.
fn remove_runs<T: Copy>(list: &mut Vec<T>, runs: &[Range<usize>]) {
    let Some(first) = runs.first() else {
        return;
    };
    let mut to = first.start;
    for (index, run) in runs.iter().enumerate() {
        let end = runs.get(index + 1).map_or(list.len(), |next| next.start);
        list.copy_within(run.end..end, to);
        to += end - run.end;
    }
    list.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::{FLAGS_BLOCK, Messages, remove_runs};
    use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
    use crate::mail::set::Ranges;
    use crate::mailbox::Refusal;
    use crate::mailbox::account::Account;
    use crate::mailbox::plan::{Doomed, Incoming, StoreFlags};
    use crate::mailbox::test_mail::{deliver, incoming};
    use crate::store::{AccountId, MailboxId};

    #[test]
    fn runs_are_cut_out_in_one_pass() {
        let mut list: Vec<u32> = (0..10).collect();
        remove_runs(&mut list, &[0..2, 4..5, 8..10]);
        assert_eq!(list, [2, 3, 5, 6, 7]);
        remove_runs(&mut list, &[]);
        assert_eq!(list.len(), 5);
    }

    #[test]
    fn flags_are_found_in_any_block() {
        const DELETED: SystemFlags = SystemFlags::DELETED;
        let found = |len: usize, deleted: &[usize]| {
            let mut messages = Messages { uids: (1..=len as u32).collect(), ..Messages::default() };
            messages.flags = vec![SystemFlags::SEEN; len];
            deleted.iter().for_each(|&at| messages.flags[at] = SystemFlags::SEEN | DELETED);
            let uids = messages.uids_with(DELETED, deleted.len() as u32).to_string();
            messages.flags.iter_mut().for_each(|flags| *flags = SystemFlags(flags.0 ^ DELETED.0));
            (uids, messages.first_without(DELETED))
        };
        let long = 3 * FLAGS_BLOCK + 7;
        for (len, deleted, uids) in [
            (0, &[][..], ""),
            (3, &[], ""),
            (3, &[0, 1, 2], "1:3"),
            (FLAGS_BLOCK, &[FLAGS_BLOCK - 1], "4096"),
            (long, &[FLAGS_BLOCK, long - 1], "4097,12295"),
            (long, &[], ""),
        ] {
            assert_eq!(found(len, deleted), (uids.to_owned(), deleted.first().copied()), "{len} {deleted:?}");
        }
    }

    #[test]
    fn absent_uids_are_the_gaps() {
        let table: [(&[u32], u32, &str); 4] =
            [(&[], 1, ""), (&[], 5, "1:4"), (&[1, 2, 5], 6, "3:4"), (&[2], 9, "1,3:8")];
        for (uids, uid_next, absent) in table {
            let messages = Messages { uids: uids.to_vec(), ..Messages::default() };
            assert_eq!(messages.absent_below(uid_next).to_string(), absent);
        }
    }

    fn account_with(messages: u64) -> (Account, MailboxId) {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_create("box", None).expect("a new name");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        (1..=messages).for_each(|minute| deliver(&mut account, plan.answer, minute, b"\r\n"));
        (account, plan.answer)
    }

    fn store(
        account: &mut Account,
        id: MailboxId,
        uids: &Ranges,
        flags: &Flags,
    ) -> Result<Option<u64>, Refusal> {
        let store = StoreFlags { uids, action: FlagsAction::Add, flags, unchanged_since: None };
        let plan = account.plan_store(id, store)?;
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        Ok(plan.answer.modseq)
    }

    #[test]
    fn history_tells_what_vanished_and_what_changed() {
        let (mut account, id) = account_with(6);
        let modseq = |account: &Account| account.mailbox(id).expect("just made").highest_modseq();
        let before = modseq(&account);
        for uids in [[2, 3], [5, 5]] {
            let uids = uids.into_iter().collect();
            let plan = account.plan_expunge(id, Doomed::These(&uids)).expect("it is there");
            assert!(
                account.has_doomed(id, &uids) && !account.has_doomed(id, &[1, 4, 6].into_iter().collect())
            );
            plan.changes.iter().for_each(|change| account.apply(&change.record, None));
            assert!(!account.has_doomed(id, &uids), "it is done");
        }
        let between = modseq(&account);
        let seen = Flags::system(SystemFlags::SEEN);
        store(&mut account, id, &[4].into_iter().collect(), &seen).expect("it is there");
        let mailbox = account.mailbox(id).expect("just made");
        assert_eq!(mailbox.vanished_since(before).to_string(), "2:3,5");
        assert!(mailbox.vanished_since(between).is_empty());
        assert_eq!(mailbox.changed_since(between).collect::<Vec<_>>(), [4]);
        assert_eq!(mailbox.changed_since(0).count(), 3);
    }

    #[test]
    fn the_keyword_table_has_an_end() {
        let (mut account, id) = account_with(1);
        let one: Ranges = [1].into_iter().collect();
        let keyword = |name: String| Flags { system: SystemFlags::NONE, keywords: vec![name] };
        for number in 0..64 {
            assert!(account.mailbox(id).expect("just made").takes_new_keywords());
            assert!(store(&mut account, id, &one, &keyword(format!("k{number}"))).is_ok());
        }
        assert!(!account.mailbox(id).expect("just made").takes_new_keywords());
        assert!(matches!(store(&mut account, id, &one, &keyword("more".to_owned())), Err(Refusal::Limit(_))));
        assert_eq!(
            store(&mut account, id, &one, &keyword("K63".to_owned())),
            Ok(None),
            "known, in another case"
        );
        let flags =
            Flags { system: SystemFlags::SEEN, keywords: ["more", "k1", "K63"].map(str::to_owned).to_vec() };
        let plan =
            account.plan_append(id, Incoming { flags, ..incoming(2, b"\r\n") }).expect("a message is taken");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let mailbox = account.mailbox(id).expect("just made");
        let row = mailbox.row(plan.answer.uid).expect("it is there");
        assert_eq!(
            (row.flags, row.keywords),
            (SystemFlags::SEEN, 1 << 1 | 1 << 63),
            "without what has no room"
        );
        assert_eq!(mailbox.keywords().len(), 64);
        let long = keyword("x".repeat(101));
        assert!(matches!(store(&mut account, id, &one, &long), Err(Refusal::Limit(_))));
        let none = Ranges::default();
        assert!(matches!(store(&mut account, id, &none, &long), Err(Refusal::Limit(_))));
    }

    #[test]
    fn a_long_mailbox_changes_as_a_whole() {
        let (mut account, id) = account_with(3000);
        let all = Ranges::from_unordered(vec![(1, u32::MAX)]);
        let odd: Ranges = (1..=3000).filter(|uid| uid % 2 == 1).collect();
        store(&mut account, id, &odd, &Flags::system(SystemFlags::DELETED)).expect("it is there");
        let plan = account.plan_expunge(id, Doomed::Deleted).expect("it is there");
        assert_eq!(plan.answer, odd);
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let store = StoreFlags {
            uids: &all,
            action: FlagsAction::Add,
            flags: &Flags::default(),
            unchanged_since: None,
        };
        assert_eq!(account.plan_store(id, store).map(|plan| plan.changes.len()), Ok(0));
        let seen = Flags::system(SystemFlags::SEEN);
        let store = StoreFlags { flags: &seen, ..store };
        let plan = account.plan_store(id, store).expect("it is there");
        assert_eq!(plan.answer.passed.count(), 1500);
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let counts = account.mailbox(id).expect("just made").counts();
        assert_eq!((counts.messages, counts.unseen, counts.deleted, counts.size), (1500, 0, 0, 3000));
    }
}
