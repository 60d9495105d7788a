//! What one session knows of a mailbox.
//!
//! A view holds no list of messages. It knows which UIDs below `uid_told` its client was told of, and of those that are
//! expunged it keeps the few that the client still counts: the ghosts. Its numbering is the mailbox's live list below
//! `uid_told` with the ghosts mixed in. Expunges reach it through the mailbox's chain of notes, where its place is
//! `cursor`; flag changes through mod-sequences, up to `version`.
//!
//! Whoever asks a view for numbers goes through [`View::look`], which first takes notice of everything, so that the
//! view and the mailbox can never be of different times.
//!
//! \Recent is the first session's that may change the mailbox and is told of the message (RFC 3501 2.3.2); it is kept
//! in memory alone.
//!
//! Invariants: ghosts ascend, are below `uid_told` and are not live; the number of messages told changes only in
//! `poll`; an idle view of a quiet mailbox is under 200 bytes.

use std::sync::Arc;

use super::journal::ExpungeNote;
use super::mailbox::{Mailbox, Row, as_count};
use super::rows::Cursor;
use super::saved::Saved;
use crate::limits::mailbox::RECENT_RANGES_MAX;
use crate::mail::flags::SystemFlags;
use crate::mail::set::{NumberSet, Ranges};
use crate::store::MailboxId;

/// Kept by a session while it has the mailbox selected.
#[derive(Debug)]
pub struct View {
    mailbox: MailboxId,
    access: Access,
    /// Messages below it were told.
    uid_told: u32,
    /// Flag changes up to this mod-sequence were told.
    version: u64,
    keywords_told: u8,
    /// The last expunge that was taken notice of.
    cursor: Arc<ExpungeNote>,
    /// Expunged, but still counted by the client.
    ghosts: Vec<u32>,
    /// Mod-sequences above `version` that need no echo.
    silenced: Vec<u64>,
    /// First and last UID of messages that are \Recent here, ascending.
    recent: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    ReadWrite,
    /// EXAMINE: claims no \Recent.
    ReadOnly,
}

/// Whether EXPUNGE may be sent now (RFC 9051 7.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expunges {
    Told,
    Withheld,
}

/// Whether numbers of a command are message sequence numbers or UIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbering {
    Sequence,
    Uid,
}

/// A message number beyond what the session was told of: BAD (RFC 9051 9, `seq-number`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// News for a session, to be sent in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Updates {
    /// Message sequence numbers, each as it counts when its turn comes (they descend).
    pub expunged: Vec<u32>,
    /// The same messages as UIDs, for VANISHED.
    pub vanished: Ranges,
    /// The new number of messages, if messages came.
    pub exists: Option<u32>,
    /// The number of recent messages, whenever `exists` is told.
    pub recent: Option<u32>,
    /// The keyword table grew: FLAGS and PERMANENTFLAGS are due.
    pub keywords: bool,
    /// Messages whose flags changed: sequence number and UID, ascending.
    pub flags: Vec<(u32, u32)>,
}

/// A view beside the mailbox as it is now. While it lives nothing changes.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    view: &'a View,
    mailbox: &'a Mailbox,
}

/// A message as the session counts it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub msn: u32,
    pub uid: u32,
    pub recent: bool,
    /// `None` if it is expunged and the session does not know yet: NO \[EXPUNGEISSUED\].
    pub row: Option<Row<'a>>,
}

/// Goes through messages of a view in order.
pub struct Messages<'s, 'a> {
    look: Look<'a>,
    rows: Cursor<'a>,
    spans: std::slice::Iter<'s, (u32, u32)>,
    /// Of the current span, the last UID.
    to: u32,
    live_next: usize,
    ghost_next: usize,
    after: u32,
}

impl View {
    pub fn open(mailbox: &Mailbox, access: Access) -> Self {
        let mut view = Self {
            mailbox: mailbox.id(),
            access,
            uid_told: mailbox.uid_next(),
            version: mailbox.highest_modseq(),
            keywords_told: keyword_count(mailbox),
            cursor: Arc::clone(mailbox.expunges.end()),
            ghosts: Vec::new(),
            silenced: Vec::new(),
            recent: Vec::new(),
        };
        view.claim_recent(mailbox);
        view
    }

    /// Bytes of memory beside the value itself: they grow with what others expunge and this session is not told.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&*self.ghosts) + size_of_val(&*self.silenced) + size_of_val(&*self.recent)
    }

    /// The session's own change of this mod-sequence needs no echo: its client knows. Others still hear of
    /// it.
    pub fn silence(&mut self, modseq: u64) {
        if modseq > self.version {
            self.silenced.push(modseq);
        }
    }

    /// What the session is to be told now.
    pub fn poll(&mut self, mailbox: &Mailbox, expunges: Expunges) -> Updates {
        self.absorb(mailbox);
        let mut updates = Updates::default();
        if expunges == Expunges::Told {
            self.tell_expunges(mailbox, &mut updates);
        }
        let changed = self.changed_flags(mailbox);
        self.tell_new(mailbox, &mut updates);
        updates.keywords = self.poll_keywords(mailbox);
        let look = Look { view: self, mailbox };
        updates.flags.extend(changed.into_iter().filter_map(|uid| Some((look.msn_of(uid)?, uid))));
        updates
    }

    /// Whether FLAGS and PERMANENTFLAGS are due. They go before the first message that is told with a new keyword.
    pub fn poll_keywords(&mut self, mailbox: &Mailbox) -> bool {
        let keywords = keyword_count(mailbox);
        std::mem::replace(&mut self.keywords_told, keywords) != keywords
    }

    /// Whether `poll` may have something to say; `false` is certain.
    pub fn has_news(&self, mailbox: &Mailbox) -> bool {
        !self.ghosts.is_empty()
            || self.version != mailbox.highest_modseq()
            || self.keywords_told != keyword_count(mailbox)
    }

    /// Takes notice of what happened, without telling it, and looks.
    pub fn look<'a>(&'a mut self, mailbox: &'a Mailbox) -> Look<'a> {
        self.absorb(mailbox);
        Look { view: self, mailbox }
    }

    pub fn mailbox(&self) -> MailboxId {
        self.mailbox
    }

    pub fn access(&self) -> Access {
        self.access
    }

    /// Follows the chain of expunges to its end. Cheap when nothing happened; sessions that cannot speak for a while
    /// should be led here from time to time, so that the mailbox need not keep old notes for them.
    pub fn absorb(&mut self, mailbox: &Mailbox) {
        assert_eq!(self.mailbox, mailbox.id(), "a view belongs to one mailbox");
        let before = self.ghosts.len();
        while let Some(note) = self.cursor.next() {
            self.ghosts.extend(note.died.iter().take_while(|&uid| uid < self.uid_told));
            self.cursor = Arc::clone(note);
        }
        if self.ghosts.len() > before {
            self.ghosts.sort_unstable();
        }
    }

    fn tell_expunges(&mut self, mailbox: &Mailbox, updates: &mut Updates) {
        if self.ghosts.is_empty() {
            return;
        }
        let look = Look { view: self, mailbox };
        // From the last to the first, so that no number shifts another that is still to come.
        updates.expunged = self.ghosts.iter().rev().filter_map(|&uid| look.msn_of(uid)).collect();
        updates.vanished = self.ghosts.iter().copied().collect();
        self.ghosts = Vec::new();
    }

    fn tell_new(&mut self, mailbox: &Mailbox, updates: &mut Updates) {
        let came = mailbox.uids().last().is_some_and(|&last| last >= self.uid_told);
        self.uid_told = mailbox.uid_next();
        self.claim_recent(mailbox);
        if came {
            let look = Look { view: self, mailbox };
            updates.exists = Some(look.exists());
            updates.recent = Some(look.recent());
        }
    }

    /// Messages that were told before and whose flags have changed since; brings `version` up to date.
    fn changed_flags(&mut self, mailbox: &Mailbox) -> Vec<u32> {
        let version = std::mem::replace(&mut self.version, mailbox.highest_modseq());
        let mut silenced = std::mem::take(&mut self.silenced);
        // A change that is still on its way will need its silence later.
        self.silenced = silenced.extract_if(.., |modseq| *modseq > self.version).collect();
        if version == self.version {
            return Vec::new();
        }
        let Some(notes) = mailbox.flag_notes.since(version) else {
            // Too far behind the notes: the mod-sequences know which, at the price of echoes.
            return mailbox.changed_since(version).take_while(|&uid| uid < self.uid_told).collect();
        };
        let loud = notes.filter(|(modseq, _)| !silenced.contains(modseq));
        let spans =
            Ranges::from_unordered(loud.flat_map(|(_, uids)| uids.ranges().iter().copied()).collect());
        let live =
            mailbox.contents.messages.runs(&spans).into_iter().flatten().map(|index| mailbox.uids()[index]);
        live.take_while(|&uid| uid < self.uid_told).collect()
    }

    fn claim_recent(&mut self, mailbox: &Mailbox) {
        let (from, end) = (mailbox.recent_from.get(), mailbox.uid_next());
        if from >= end {
            return;
        }
        match self.access {
            Access::ReadWrite => mailbox.recent_from.set(end),
            // Shown as recent, and left for the session that may have them.
            Access::ReadOnly => self.recent.retain(|range| range.1 < from),
        }
        match self.recent.last_mut() {
            Some(last) if last.1 + 1 == from => last.1 = end - 1,
            _ => self.recent.push((from, end - 1)),
        }
        if self.recent.len() > RECENT_RANGES_MAX {
            self.recent.remove(0);
        }
    }
}

impl<'a> Look<'a> {
    pub fn mailbox(&self) -> &'a Mailbox {
        self.mailbox
    }

    /// The number of messages as the session was told.
    pub fn exists(&self) -> u32 {
        as_count(self.live().len() + self.view.ghosts.len())
    }

    /// The number of messages that are recent here.
    pub fn recent(&self) -> u32 {
        let within = |&(from, to): &(u32, u32)| {
            let count = |uids: &[u32]| {
                uids.partition_point(|&uid| uid <= to) - uids.partition_point(|&uid| uid < from)
            };
            count(self.live()) + count(&self.view.ghosts)
        };
        as_count(self.view.recent.iter().map(within).sum())
    }

    pub fn is_recent(&self, uid: u32) -> bool {
        let at = self.view.recent.partition_point(|range| range.1 < uid);
        self.view.recent.get(at).is_some_and(|range| range.0 <= uid)
    }

    /// The lowest number of a message without \Seen (UNSEEN of SELECT).
    pub fn first_unseen(&self) -> Option<u32> {
        let index = self.mailbox.contents.messages.first_without(SystemFlags::SEEN)?;
        self.msn_of(*self.live().get(index)?)
    }

    /// Of a message that the session was told of and that it was not told to be gone.
    pub fn msn_of(&self, uid: u32) -> Option<u32> {
        let below = match (self.live().binary_search(&uid), self.view.ghosts.binary_search(&uid)) {
            (Ok(live), Err(ghosts)) | (Err(live), Ok(ghosts)) => live + ghosts,
            _ => return None,
        };
        Some(as_count(below + 1))
    }

    pub fn uid_of(&self, msn: u32) -> Option<u32> {
        let rank = (msn as usize).checked_sub(1)?;
        let (live, ghosts) = (self.live(), &self.view.ghosts);
        if ghosts.is_empty() {
            return live.get(rank).copied();
        }
        // Ghosts that stand before the place: each one's rank is its own place plus the live messages before
        // it.
        let mut low = 0;
        let mut high = ghosts.len();
        while low < high {
            let middle = low + (high - low) / 2;
            let its_rank = middle + live.partition_point(|&uid| uid < ghosts[middle]);
            if its_rank < rank {
                low = middle + 1;
            } else if its_rank == rank {
                return Some(ghosts[middle]);
            } else {
                high = middle;
            }
        }
        live.get(rank - low).copied()
    }

    /// The messages that a set names, as spans of UIDs: within a span every message of this view is meant, and no other
    /// lives there. Spans stay right while numbers shift.
    pub fn resolve(
        &self,
        set: &NumberSet,
        numbering: Numbering,
        saved: &Saved,
    ) -> Result<Ranges, OutOfRange> {
        // RFC 5182 2.1: `$` is good as either kind of number, and may be empty.
        if *set == NumberSet::Saved {
            return Ok(self.clip(saved.uids()));
        }
        match numbering {
            Numbering::Uid => {
                Ok(self.last_uid().map_or_else(Ranges::default, |last| self.clip(&set.resolve(last))))
            }
            Numbering::Sequence => self.resolve_numbers(&set.resolve(self.exists())),
        }
    }

    /// As `resolve`, for a search: numbers that are out of range name nothing (RFC 9051 6.4.4).
    pub fn resolve_leniently(&self, set: &NumberSet, numbering: Numbering, saved: &Saved) -> Ranges {
        if numbering == Numbering::Uid || *set == NumberSet::Saved {
            return self.resolve(set, Numbering::Uid, saved).unwrap_or_default();
        }
        let exists = self.exists();
        let numbers = intersect(&set.resolve(exists), &[(1, exists)]);
        self.resolve_numbers(&numbers).unwrap_or_default()
    }

    /// The messages within `spans` whose UID is above `after`, ascending: begin with 0, go on with the last
    /// UID seen.
    pub fn messages<'s>(&self, spans: &'s Ranges, after: u32) -> Messages<'s, 'a> {
        let skipped = spans.ranges().partition_point(|range| range.1 <= after);
        let mut messages = Messages {
            look: *self,
            rows: self.mailbox.cursor(),
            spans: spans.ranges()[skipped..].iter(),
            to: 0,
            live_next: 0,
            ghost_next: 0,
            after,
        };
        messages.enter_next_span();
        messages
    }

    /// Whether some of the messages within `spans` are expunged, and the session does not know yet.
    pub fn has_expunged(&self, spans: &Ranges) -> bool {
        let ghosts = &self.view.ghosts;
        spans.ranges().iter().any(|&(from, to)| {
            let at = ghosts.partition_point(|&uid| uid < from);
            ghosts.get(at).is_some_and(|&uid| uid <= to)
        })
    }

    /// All messages of the view.
    pub fn everything(&self) -> Ranges {
        self.last_uid().map_or_else(Ranges::default, |last| Ranges::from_unordered(vec![(1, last)]))
    }

    /// The sequence numbers of these UIDs; what is not in the view is left out.
    pub fn to_numbers(&self, uids: &Ranges) -> Ranges {
        let number = |&(from, to): &(u32, u32)| {
            let before = self.count_below(from);
            let through = before.max(self.count_below(to.saturating_add(1)));
            (before + 1, through)
        };
        let numbers = uids.ranges().iter().map(number).filter(|(first, last)| first <= last);
        Ranges::from_unordered(numbers.collect())
    }

    /// Live messages that the session was told of.
    fn live(&self) -> &'a [u32] {
        let uids = self.mailbox.uids();
        // Most often there is nothing new.
        let told = match uids.last() {
            Some(&last) if last >= self.view.uid_told => {
                uids.partition_point(|&uid| uid < self.view.uid_told)
            }
            _ => uids.len(),
        };
        &uids[..told]
    }

    fn last_uid(&self) -> Option<u32> {
        self.live().last().max(self.view.ghosts.last()).copied()
    }

    fn count_below(&self, uid: u32) -> u32 {
        let count = |uids: &[u32]| uids.partition_point(|&of_view| of_view < uid);
        as_count(count(self.live()) + count(&self.view.ghosts))
    }

    fn resolve_numbers(&self, numbers: &Ranges) -> Result<Ranges, OutOfRange> {
        let mut spans = Vec::with_capacity(numbers.ranges().len());
        for &(from, to) in numbers.ranges() {
            let (Some(from), Some(to)) = (self.uid_of(from), self.uid_of(to)) else {
                return Err(OutOfRange);
            };
            spans.push((from, to));
        }
        Ok(Ranges::from_unordered(spans))
    }

    fn clip(&self, uids: &Ranges) -> Ranges {
        intersect(uids, &[(1, self.view.uid_told - 1)])
    }
}

impl<'a> Messages<'_, 'a> {
    fn enter_next_span(&mut self) -> bool {
        let Some(&(from, to)) = self.spans.next() else {
            return false;
        };
        let from = from.max(self.after.saturating_add(1));
        self.to = to;
        self.live_next = self.look.live().partition_point(|&uid| uid < from);
        self.ghost_next = self.look.view.ghosts.partition_point(|&uid| uid < from);
        true
    }

    fn step(&mut self) -> Option<Message<'a>> {
        let (look, to) = (self.look, self.to);
        let live = look.mailbox.uids().get(self.live_next).copied();
        let live = live.filter(|&uid| uid <= to && uid < look.view.uid_told);
        let ghost = look.view.ghosts.get(self.ghost_next).copied().filter(|&uid| uid <= to);
        let uid = match (live, ghost) {
            (Some(live), Some(ghost)) => live.min(ghost),
            (live, ghost) => live.or(ghost)?,
        };
        let msn = as_count(self.live_next + self.ghost_next + 1);
        let mut row = None;
        if live == Some(uid) {
            row = self.rows.find(uid).map(|kept| look.mailbox.contents.messages.row(self.live_next, kept));
            self.live_next += 1;
        } else {
            self.ghost_next += 1;
        }
        Some(Message { msn, uid, recent: look.is_recent(uid), row })
    }
}

impl<'a> Iterator for Messages<'_, 'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            if let Some(message) = self.step() {
                return Some(message);
            }
            if !self.enter_next_span() {
                return None;
            }
        }
    }
}

/// What is in both; `within` ascends.
pub(super) fn intersect(ranges: &Ranges, within: &[(u32, u32)]) -> Ranges {
    let mut both = Vec::new();
    let mut bounds = within.iter().copied().peekable();
    for &(from, to) in ranges.ranges() {
        while bounds.next_if(|bound| bound.1 < from).is_some() {}
        while let Some(&(low, high)) = bounds.peek().filter(|bound| bound.0 <= to) {
            if from.max(low) <= to.min(high) {
                both.push((from.max(low), to.min(high)));
            }
            if high > to {
                break;
            }
            bounds.next();
        }
    }
    Ranges::from_unordered(both)
}

fn keyword_count(mailbox: &Mailbox) -> u8 {
    // At most `KEYWORDS_MAX`.
    mailbox.keywords().len() as u8
}

#[cfg(test)]
mod tests {
    use super::{Access, Expunges, Numbering, OutOfRange, View, intersect};
    use crate::limits::mailbox::FLAG_NOTES_MAX;
    use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
    use crate::mail::set::{Bound, NumberSet, Ranges};
    use crate::mailbox::account::Account;
    use crate::mailbox::plan::{Doomed, StoreFlags};
    use crate::mailbox::saved::Saved;
    use crate::mailbox::test_mail::deliver;
    use crate::store::{AccountId, MailboxId};

    fn account_with(messages: u64) -> (Account, MailboxId) {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_create("box", None).expect("a new name");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        (1..=messages).for_each(|minute| deliver(&mut account, plan.answer, minute, b"\r\n"));
        (account, plan.answer)
    }

    fn expunge(account: &mut Account, id: MailboxId, uids: &[u32]) {
        let uids = uids.iter().copied().collect();
        let plan = account.plan_expunge(id, Doomed::These(&uids)).expect("it is there");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
    }

    fn store(account: &mut Account, id: MailboxId, uid: u32, action: FlagsAction) -> Option<u64> {
        let flags = Flags::system(SystemFlags::FLAGGED);
        let uids: Ranges = [uid].into_iter().collect();
        let store = StoreFlags { uids: &uids, action, flags: &flags, unchanged_since: None };
        let plan = account.plan_store(id, store).expect("it is there");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        plan.answer.modseq
    }

    #[test]
    fn sets_are_resolved_in_what_the_client_counts() {
        use Bound::{Last, Number};

        let (mut account, id) = account_with(8);
        expunge(&mut account, id, &[1, 4]);
        let mailbox = account.mailbox(id).expect("just made");
        let mut view = View::open(mailbox, Access::ReadOnly);
        // Counted: 2, 3, 5, 6, 7, 8. Then 3 and 8 go, and 9 comes; the client knows nothing of it.
        expunge(&mut account, id, &[3, 8]);
        deliver(&mut account, id, 9, b"\r\n");
        type Row<'a> = (Numbering, (Bound, Bound), Result<&'a [u32], OutOfRange>);
        let table: [Row<'_>; 12] = [
            (Numbering::Sequence, (Number(1), Number(2)), Ok(&[2, 3])),
            (Numbering::Sequence, (Number(3), Number(2)), Ok(&[3, 5])),
            (Numbering::Sequence, (Last, Number(6)), Ok(&[8])),
            (Numbering::Sequence, (Number(1), Last), Ok(&[2, 3, 5, 6, 7, 8])),
            (Numbering::Sequence, (Number(7), Number(7)), Err(OutOfRange)),
            (Numbering::Sequence, (Number(2), Number(u32::MAX)), Err(OutOfRange)),
            (Numbering::Sequence, (Number(0), Number(0)), Err(OutOfRange)),
            (Numbering::Uid, (Number(1), Number(4)), Ok(&[2, 3])),
            (Numbering::Uid, (Number(559), Last), Ok(&[8])),
            (Numbering::Uid, (Last, Last), Ok(&[8])),
            (Numbering::Uid, (Number(9), Number(u32::MAX)), Ok(&[])),
            (Numbering::Uid, (Number(4), Number(4)), Ok(&[])),
        ];
        let mailbox = account.mailbox(id).expect("just made");
        let held_bytes = view.held_bytes();
        let look = view.look(mailbox);
        for (numbering, range, expected) in table {
            let spans = look.resolve(&NumberSet::Ranges(vec![range]), numbering, &Saved::new());
            let uids =
                spans.map(|spans| look.messages(&spans, 0).map(|message| message.uid).collect::<Vec<_>>());
            assert_eq!(uids.as_deref().map_err(|error| *error), expected, "{range:?}");
        }
        let gone: Vec<_> =
            look.messages(&look.everything(), 0).filter(|message| message.row.is_none()).collect();
        assert_eq!(
            gone.iter().map(|message| (message.msn, message.uid)).collect::<Vec<_>>(),
            [(2, 3), (6, 8)]
        );
        let table: [(&[(u32, u32)], bool); 5] = [
            (&[(1, 2), (5, 7)], false),
            (&[(2, 3)], true),
            (&[(1, 1), (4, 8)], true),
            (&[(9, 9)], false),
            (&[], false),
        ];
        for (spans, has_expunged) in table {
            assert_eq!(look.has_expunged(&Ranges::from_unordered(spans.to_vec())), has_expunged, "{spans:?}");
        }
        assert_eq!(
            look.messages(&look.everything(), 5).map(|message| message.msn).collect::<Vec<_>>(),
            [4, 5, 6]
        );
        assert_eq!(look.to_numbers(&[1, 2, 5, 6, 9].into_iter().collect()).to_string(), "1,3:4");
        assert_eq!(look.first_unseen(), Some(1));
        assert_eq!((look.exists(), view.poll(mailbox, Expunges::Withheld).exists), (6, Some(7)));
        assert_eq!(view.held_bytes(), held_bytes + 2 * size_of::<u32>());
        assert_eq!(view.poll(mailbox, Expunges::Told).expunged, [6, 2]);
        assert_eq!(view.held_bytes(), held_bytes);
    }

    #[test]
    fn an_empty_mailbox_has_no_last_message() {
        let (account, id) = account_with(0);
        let mailbox = account.mailbox(id).expect("just made");
        let mut view = View::open(mailbox, Access::ReadWrite);
        let look = view.look(mailbox);
        let last = NumberSet::Ranges(vec![(Bound::Number(1), Bound::Last)]);
        assert_eq!(look.resolve(&last, Numbering::Sequence, &Saved::new()), Err(OutOfRange));
        assert_eq!(look.resolve(&last, Numbering::Uid, &Saved::new()), Ok(Ranges::default()));
        assert!(look.resolve_leniently(&last, Numbering::Sequence, &Saved::new()).is_empty());
        assert_eq!((look.exists(), look.recent(), look.first_unseen()), (0, 0, None));
    }

    #[test]
    fn who_is_too_far_behind_hears_of_every_changed_message() {
        let (mut account, id) = account_with(5);
        let mailbox = account.mailbox(id).expect("just made");
        let mut slow = View::open(mailbox, Access::ReadOnly);
        let mut own = View::open(mailbox, Access::ReadOnly);
        for round in 0..FLAG_NOTES_MAX {
            let action = if round % 2 == 0 { FlagsAction::Add } else { FlagsAction::Remove };
            let modseq = store(&mut account, id, 2, action);
            own.silence(modseq.expect("a change"));
            store(&mut account, id, 4, action);
            let mailbox = account.mailbox(id).expect("just made");
            assert_eq!(own.poll(mailbox, Expunges::Withheld).flags, [(4, 4)]);
        }
        expunge(&mut account, id, &[1]);
        let mailbox = account.mailbox(id).expect("just made");
        assert!(slow.has_news(mailbox));
        assert_eq!(slow.poll(mailbox, Expunges::Withheld).flags, [(2, 2), (4, 4)]);
        let updates = slow.poll(mailbox, Expunges::Told);
        assert_eq!((updates.expunged, updates.vanished.to_string()), (vec![1], "1".to_owned()));
        assert!(!slow.has_news(mailbox) && own.has_news(mailbox));
    }

    #[test]
    fn recent_is_the_first_that_may_have_it() {
        let (mut account, id) = account_with(2);
        let mailbox = account.mailbox(id).expect("just made");
        assert_eq!(mailbox.recent(), 2);
        let mut looks_on = View::open(mailbox, Access::ReadOnly);
        assert_eq!((looks_on.look(mailbox).recent(), mailbox.recent()), (2, 2));
        let mut first = View::open(mailbox, Access::ReadWrite);
        let mut second = View::open(mailbox, Access::ReadWrite);
        assert_eq!(
            (first.look(mailbox).recent(), second.look(mailbox).recent(), mailbox.recent()),
            (2, 0, 0)
        );
        deliver(&mut account, id, 3, b"\r\n");
        let mailbox = account.mailbox(id).expect("just made");
        let updates = second.poll(mailbox, Expunges::Told);
        assert_eq!((updates.exists, updates.recent), (Some(3), Some(1)));
        assert_eq!(first.poll(mailbox, Expunges::Told).recent, Some(2));
        let look = second.look(mailbox);
        assert!(look.is_recent(3) && !look.is_recent(2));
    }

    #[test]
    fn intersections() {
        let ranges = |text: &[(u32, u32)]| Ranges::from_unordered(text.to_vec());
        type Row<'a> = (&'a [(u32, u32)], &'a [(u32, u32)], &'a str);
        let table: [Row<'_>; 5] = [
            (&[(1, 10)], &[(2, 3), (5, 6)], "2:3,5:6"),
            (&[(2, 3), (5, 6)], &[(1, 10)], "2:3,5:6"),
            (&[(1, 4), (6, 9)], &[(3, 7)], "3:4,6:7"),
            (&[(1, 4)], &[(5, 9)], ""),
            (&[(0, 4)], &[(1, 0)], ""),
        ];
        for (one, other, both) in table {
            assert_eq!(intersect(&ranges(one), other).to_string(), both);
        }
    }
}
