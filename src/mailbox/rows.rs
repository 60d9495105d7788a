//! The unchanging part of a mailbox: what is known of each message since it came in.
//!
//! Old messages lie in sealed chunks of the index, the youngest in the tail, in memory. A chunk does not change: rows
//! of messages that are gone stay in it until it is made anew. Rows are found by UID; who goes through many in order
//! uses a [`Cursor`], which looks one further before it searches.
//!
//! Sealing keeps the chunks few: the new one takes in those before it that are no more than twice its size, once there
//! are three of them, so that of the chunks before any one the third is more than twice its size, and a row is written
//! again a logarithmic number of times. A chunk of which most is gone is made anew as well.
//!
//! Invariants: chunks are sorted and do not overlap, the tail is behind them; every live message has exactly
//! one row.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::mailbox::Messages;
use crate::limits::mailbox::{CHECKPOINT_TAIL_MAX, CHUNK_ROWS_MAX};
use crate::mail::digest::Digest;
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;
use crate::store::Locator;
use crate::store::index::{Chunk, ChunkBuilder, Kept};

/// So many chunks before a new one are worth being written again with it.
const ALIKE_MIN: usize = 3;

/// Fewer are, where hardly more would fit.
const FULL_ROWS_MIN: usize = CHUNK_ROWS_MAX / 4 * 3;

/// The rows of one mailbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    chunks: Vec<Sealed>,
    tail: Vec<TailRow>,
}

/// A chunk with the UIDs it answers for.
#[derive(Clone, Debug)]
struct Sealed {
    last: u32,
    chunk: Chunk,
}

/// A row that is in no chunk yet.
#[derive(Clone, Debug)]
pub struct TailRow {
    pub uid: u32,
    pub internal: Timestamp,
    pub saved: i64,
    pub locator: Locator,
    pub digest: Option<Arc<Digest>>,
}

/// A chunk to be written to the index and then handed to `Account::install`.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The rows of these UIDs are in it, all that are live; what held them before is not needed any more.
    pub uids: RangeInclusive<u32>,
    pub bytes: Vec<u8>,
}

/// What is worth sealing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealWhen {
    /// While running: a full tail.
    Full,
    /// For a checkpoint: a tail that is too long to be written with every snapshot, and chunks of which most
    /// is gone.
    Checkpoint,
}

/// A place among the rows, for going through them in order.
pub(super) struct Cursor<'a> {
    rows: &'a Rows,
    /// The chunk, or the tail if it is behind the last.
    block: usize,
    /// Where in it the next row probably is.
    next: usize,
}

impl Rows {
    /// Adds a row whose UID is above all others.
    pub fn push(&mut self, row: TailRow) {
        debug_assert!(self.tail.last().is_none_or(|last| last.uid < row.uid));
        self.tail.push(row);
    }

    /// Adds a chunk behind the others, as a checkpoint names them. `false` if it is not behind them.
    pub fn push_chunk(&mut self, chunk: Chunk) -> bool {
        let Some(last) = chunk.len().checked_sub(1).map(|last| chunk.uid(last)) else {
            return true;
        };
        let follows = self.chunks.last().is_none_or(|before| before.last < chunk.uid(0));
        if follows && self.tail.is_empty() {
            self.chunks.push(Sealed { last, chunk });
        }
        follows
    }

    /// Gives up the rows of messages that are gone.
    pub fn remove(&mut self, uids: &Ranges) {
        let (Some(first), Some(last)) = (uids.ranges().first(), uids.last()) else {
            return;
        };
        let from = self.tail.partition_point(|row| row.uid < first.0);
        if from == self.tail.len() {
            return;
        }
        if first.0 == last {
            if self.tail[from].uid == last {
                self.tail.remove(from);
            }
            return;
        }
        self.tail.retain(|row| !uids.contains(row.uid));
    }

    /// Gives a row in the tail the digest that it lacks.
    pub fn supply(&mut self, uid: u32, digest: &Arc<Digest>) {
        if let Ok(at) = self.tail.binary_search_by_key(&uid, |row| row.uid) {
            self.tail[at].digest.get_or_insert_with(|| Arc::clone(digest));
        }
    }

    /// Puts a chunk where its rows were. `false`, and nothing changed, if it does not fit: it overlaps a
    /// chunk that holds more, or lacks a live row.
    pub fn install(&mut self, uids: &RangeInclusive<u32>, chunk: Chunk, live: &Messages) -> bool {
        let (first, last) = (*uids.start(), *uids.end());
        let from = self.chunks.partition_point(|sealed| sealed.last < first);
        let to = self.chunks.partition_point(|sealed| sealed.last <= last);
        let begins_before = self.chunks.get(from).is_some_and(|sealed| sealed.chunk.uid(0) < first);
        let reaches_into_next = self.chunks.get(to).is_some_and(|sealed| sealed.chunk.uid(0) <= last);
        if begins_before || reaches_into_next || !holds_all(&chunk, live, uids) {
            return false;
        }
        let sealed = (!chunk.is_empty()).then_some(Sealed { last, chunk });
        self.chunks.splice(from..to.max(from), sealed);
        let tail_from = self.tail.partition_point(|row| row.uid < first);
        let tail_to = self.tail.partition_point(|row| row.uid <= last);
        self.tail.drain(tail_from..tail_to);
        true
    }

    pub fn get(&self, uid: u32) -> Option<Kept<'_>> {
        self.cursor().find(uid)
    }

    /// Shared where it is in memory, copied out of a chunk.
    pub fn digest(&self, uid: u32) -> Option<Arc<Digest>> {
        if let Ok(at) = self.tail.binary_search_by_key(&uid, |row| row.uid) {
            return self.tail[at].digest.clone();
        }
        let digest = self.get(uid)?.digest.get()?;
        Some(Arc::new(digest.into()))
    }

    pub fn last_uid(&self) -> Option<u32> {
        let sealed = self.chunks.last().map(|sealed| sealed.last);
        self.tail.last().map(|row| row.uid).or(sealed)
    }

    /// Whether every live message has its row.
    pub fn hold_all(&self, live: &Messages) -> bool {
        let mut from = 0;
        for sealed in &self.chunks {
            if !holds_all(&sealed.chunk, live, &(from..=sealed.last)) {
                return false;
            }
            from = sealed.last.saturating_add(1);
        }
        let rest = &live.uids[live.uids.partition_point(|&uid| uid < from)..];
        rest.len() == self.tail.len() && rest.iter().zip(&self.tail).all(|(&uid, row)| uid == row.uid)
    }

    pub fn tail(&self) -> &[TailRow] {
        &self.tail
    }

    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().map(|sealed| &sealed.chunk)
    }

    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { rows: self, block: 0, next: 0 }
    }

    /// The UIDs of the next chunk that is worth making; each call after an `install` says another, until
    /// `None`.
    pub fn worth_sealing(&self, when: SealWhen, live: &Messages) -> Option<RangeInclusive<u32>> {
        let tail = &self.tail[..self.tail.len().min(CHUNK_ROWS_MAX)];
        let enough = match when {
            SealWhen::Full => CHUNK_ROWS_MAX,
            SealWhen::Checkpoint => CHECKPOINT_TAIL_MAX + 1,
        };
        if tail.len() >= enough {
            let (first, last) = (tail.first()?.uid, tail.last()?.uid);
            return Some(self.taken_in(first, tail.len())..=last);
        }
        if when == SealWhen::Full {
            return None;
        }
        let sparse = |sealed: &&Sealed| {
            let all = sealed.chunk.len();
            2 * live.count_within(sealed.chunk.uid(0), sealed.last) < all
        };
        let at = self.chunks.iter().position(|sealed| sparse(&sealed))?;
        Some(self.chunks[at].chunk.uid(0)..=self.chunks[at].last)
    }

    /// Where a new chunk of `rows` rows that would begin at `first` begins once it has taken in those before it that
    /// are like it; and those before the larger one that it then is.
    fn taken_in(&self, first: u32, rows: usize) -> u32 {
        let (mut from, mut rows) = (self.chunks.len(), rows);
        loop {
            let (mut count, mut sum) = (0, rows);
            for older in self.chunks[..from].iter().rev().map(|sealed| sealed.chunk.len()) {
                if older > 2 * rows || sum + older > CHUNK_ROWS_MAX {
                    break;
                }
                (count, sum) = (count + 1, sum + older);
            }
            let is_worth_it = count >= ALIKE_MIN || (count > 0 && sum >= FULL_ROWS_MIN);
            if !is_worth_it {
                return self.chunks.get(from).map_or(first, |sealed| sealed.chunk.uid(0));
            }
            (from, rows) = (from - count, sum);
        }
    }
}

impl Seal {
    /// The live rows among `uids`, or as many from the first as fit into a chunk.
    pub(super) fn of(rows: &Rows, live: &Messages, uids: RangeInclusive<u32>) -> Self {
        let mut builder = ChunkBuilder::new();
        let mut cursor = rows.cursor();
        let (first, mut last) = (*uids.start(), *uids.end());
        let from = live.uids.partition_point(|&uid| uid < first);
        for &uid in live.uids[from..].iter().take_while(|&&uid| uid <= last) {
            if builder.is_full() {
                last = uid - 1;
                break;
            }
            if let Some(kept) = cursor.find(uid) {
                builder.push(uid, &kept);
            }
        }
        Self { uids: first..=last, bytes: builder.finish() }
    }
}

impl TailRow {
    /// The row of a chunk, without its texts.
    pub(super) fn bare(uid: u32, chunk: &Chunk, at: usize) -> Self {
        let ((internal, saved), locator) = (chunk.came(at), chunk.locator(at));
        Self { uid, internal, saved, locator, digest: None }
    }

    pub fn kept(&self) -> Kept<'_> {
        Kept {
            internal: self.internal,
            saved: self.saved,
            locator: self.locator,
            digest: self.digest.as_deref().into(),
        }
    }
}

impl<'a> Cursor<'a> {
    /// The row of `uid`, which is most often the one after the last that was asked for.
    pub fn find(&mut self, uid: u32) -> Option<Kept<'a>> {
        let at = self.step(uid)?;
        match self.rows.chunks.get(self.block) {
            Some(Sealed { chunk, .. }) => Some(chunk.kept(at)),
            None => self.rows.tail.get(at).map(TailRow::kept),
        }
    }

    /// The row without its texts, which are not looked at.
    pub fn find_bare(&mut self, uid: u32) -> Option<TailRow> {
        let at = self.step(uid)?;
        match self.rows.chunks.get(self.block) {
            Some(Sealed { chunk, .. }) => Some(TailRow::bare(uid, chunk, at)),
            None => self.rows.tail.get(at).map(|row| TailRow { digest: None, ..row.clone() }),
        }
    }

    /// Where the message is and, if it has a digest, whether its last line has its CRLF; reads no texts.
    pub fn find_place(&mut self, uid: u32) -> Option<(Locator, Option<bool>)> {
        let at = self.step(uid)?;
        match self.rows.chunks.get(self.block) {
            Some(Sealed { chunk, .. }) => Some((chunk.locator(at), chunk.is_ended(at))),
            None => {
                let row = self.rows.tail.get(at)?;
                Some((row.locator, row.digest.as_ref().map(|digest| digest.is_ended)))
            }
        }
    }

    /// Where in its block the row of `uid` is.
    fn step(&mut self, uid: u32) -> Option<usize> {
        if self.uid_at_next() != Some(uid) {
            self.seek(uid)?;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    fn uid_at_next(&self) -> Option<u32> {
        match self.rows.chunks.get(self.block) {
            Some(sealed) => (self.next < sealed.chunk.len()).then(|| sealed.chunk.uid(self.next)),
            None => self.rows.tail.get(self.next).map(|row| row.uid),
        }
    }

    fn seek(&mut self, uid: u32) -> Option<()> {
        self.block = self.rows.chunks.partition_point(|sealed| sealed.last < uid);
        self.next = match self.rows.chunks.get(self.block) {
            Some(sealed) => sealed.chunk.find(uid)?,
            None => self.rows.tail.binary_search_by_key(&uid, |row| row.uid).ok()?,
        };
        Some(())
    }
}

/// Whether every live message of these UIDs has its row, and no row is of another.
fn holds_all(chunk: &Chunk, live: &Messages, uids: &RangeInclusive<u32>) -> bool {
    let from = live.uids.partition_point(|uid| uid < uids.start());
    let to = live.uids.partition_point(|uid| uid <= uids.end());
    let mut rows = chunk.uids();
    let have_rows = live.uids[from..to].iter().all(|&uid| rows.find(|&row| row >= uid) == Some(uid));
    let ends = chunk.len().checked_sub(1).map(|last| (chunk.uid(0), chunk.uid(last)));
    have_rows && ends.is_none_or(|(first, last)| uids.contains(&first) && uids.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_ROWS_MAX, Chunk, FULL_ROWS_MIN, Seal, SealWhen};
    use crate::bytes::Slice;
    use crate::mailbox::account::Account;
    use crate::mailbox::plan::Doomed;
    use crate::mailbox::test_mail::deliver;
    use crate::mailbox::view::{Access, View};
    use crate::store::{AccountId, MailboxId};

    fn account() -> (Account, MailboxId) {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_create("box", None).expect("a new name");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        (account, plan.answer)
    }

    fn fill(account: &mut Account, id: MailboxId, messages: u64) {
        let from = u64::from(account.mailbox(id).expect("just made").uid_next());
        for minute in from..from + messages {
            deliver(account, id, minute, format!("Subject: {minute}\r\n\r\n").as_bytes());
        }
    }

    fn expunge(account: &mut Account, id: MailboxId, from: u32, to: u32) {
        let uids = (from..=to).collect();
        let plan = account.plan_expunge(id, Doomed::These(&uids)).expect("it is there");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
    }

    fn open(seal: &Seal) -> Chunk {
        Chunk::open(Slice::from(seal.bytes.clone())).expect("just made")
    }

    fn seal_all(account: &mut Account, id: MailboxId) -> usize {
        let mut sealed = 0;
        while let Some(seal) = account.mailbox(id).expect("just made").seal(SealWhen::Checkpoint) {
            assert!(account.install(id, &seal.uids, open(&seal)), "{:?}", seal.uids);
            sealed += 1;
        }
        sealed
    }

    fn chunk_sizes(account: &Account, id: MailboxId) -> Vec<usize> {
        account.mailbox(id).expect("just made").chunks().map(Chunk::len).collect()
    }

    /// Every live message answers as it did when it came in, however it is asked.
    fn check(account: &Account, id: MailboxId) {
        let mailbox = account.mailbox(id).expect("just made");
        let mut view = View::open(mailbox, Access::ReadOnly);
        let look = view.look(mailbox);
        let mut count = 0;
        for message in look.messages(&look.everything(), 0) {
            let row = message.row.expect("it lives");
            let one = mailbox.row(message.uid).expect("it lives");
            assert_eq!((row.uid, row.locator, row.saved), (one.uid, one.locator, one.saved));
            assert_eq!(row.locator.id.sequence.0, u64::from(row.uid));
            let fields = row.digest.get().expect("kept").fields;
            assert_eq!(fields, format!("Subject: {}\r\n\r\n", row.uid).as_bytes());
            count += 1;
        }
        assert_eq!(count, mailbox.counts().messages);
    }

    #[test]
    fn chunks_grow_as_they_age() {
        let (mut account, id) = account();
        fill(&mut account, id, 60);
        assert_eq!(seal_all(&mut account, id), 0, "a short tail goes with the flags");
        let mut written = 0;
        for round in 1..=70 {
            fill(&mut account, id, 70);
            assert_eq!(seal_all(&mut account, id), 1);
            if round % 10 < 2 {
                check(&account, id);
            }
            let sizes = chunk_sizes(&account, id);
            written += sizes.last().expect("just made");
            let falls =
                |four: &[usize]| four[..3].iter().any(|old| *old > 2 * four[3] || *old >= FULL_ROWS_MIN);
            assert!(sizes.windows(4).all(falls), "{sizes:?}");
        }
        assert_eq!(chunk_sizes(&account, id), [3420, 1120, 280, 70, 70]);
        assert!(written < 3 * (60 + 70 * 70), "{written}");
        assert!(account.mailbox(id).expect("just made").seal(SealWhen::Full).is_none());
    }

    #[test]
    fn a_chunk_that_is_mostly_gone_is_made_anew() {
        let (mut account, id) = account();
        fill(&mut account, id, 200);
        seal_all(&mut account, id);
        expunge(&mut account, id, 20, 100);
        check(&account, id);
        assert_eq!(seal_all(&mut account, id), 0);
        expunge(&mut account, id, 101, 150);
        fill(&mut account, id, 3);
        assert_eq!(seal_all(&mut account, id), 1);
        assert_eq!(chunk_sizes(&account, id), [69]);
        check(&account, id);
        expunge(&mut account, id, 1, 200);
        assert_eq!(seal_all(&mut account, id), 1);
        assert!(chunk_sizes(&account, id).is_empty());
        check(&account, id);
    }

    #[test]
    fn a_chunk_that_came_too_late_is_refused_or_right() {
        let (mut account, id) = account();
        fill(&mut account, id, 100);
        let early = account.mailbox(id).expect("just made").seal(SealWhen::Checkpoint).expect("enough");
        // Between its making and its return messages come and go.
        fill(&mut account, id, 50);
        expunge(&mut account, id, 90, 110);
        let late = account.mailbox(id).expect("just made").seal(SealWhen::Checkpoint).expect("enough");
        assert!(account.install(id, &early.uids, open(&early)));
        check(&account, id);
        assert!(account.install(id, &late.uids, open(&late)), "it holds all of the first and more");
        check(&account, id);
        assert!(!account.install(id, &early.uids, open(&early)), "the other reaches further");
        check(&account, id);
    }

    #[test]
    fn a_full_tail_is_sealed_and_a_checkpoint_comes_back() {
        let (mut account, id) = account();
        fill(&mut account, id, CHUNK_ROWS_MAX as u64 + 10);
        let seal = account.mailbox(id).expect("just made").seal(SealWhen::Full).expect("a full tail");
        assert!(account.install(id, &seal.uids, open(&seal)));
        expunge(&mut account, id, 5, 9);
        check(&account, id);
        let state = account.mailbox(id).expect("just made").snapshot(account.id());
        let chunks: Vec<_> = account.mailbox(id).expect("just made").chunks().cloned().collect();
        let mut restored = Account::restore(&account.snapshot()).expect("just made");
        assert!(restored.restore_awake(&state, Vec::new()).is_err(), "rows are missing");
        let mut restored_again = Account::restore(&account.snapshot()).expect("just made");
        assert_eq!(restored_again.restore_awake(&state, chunks), Ok(id));
        check(&restored_again, id);
        assert_eq!(restored_again.usage(), account.usage());
        fill(&mut restored_again, id, 2);
        check(&restored_again, id);
    }
}
