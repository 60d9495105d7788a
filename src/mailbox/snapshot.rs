//! Accounts and mailboxes as bytes, for a checkpoint, and back.
//!
//! An account is written as counters, delivery keys, and the records that would make its mailboxes and subscriptions
//! anew. What can change of a mailbox's messages is a blob of its own; what cannot lies in chunks, save for the rows of
//! the tail, which are written with it. Nothing that is in flight is written: the log has it or it never was. The
//! checksums around a blob are the store's affair; here every number is still checked, so that a wrong blob is refused
//! and its mailbox rebuilt from the log.
//!
//! ```text
//! account  version u8, account u32, mailbox_next u32, uid_validity u32,
//!          logs [log u16, low water u64, keys [sequence u64, recipient u32]], records [kind u8, fields]
//! state    version u8, mailbox u32, uid_next u32, modseq u64, keywords [text],
//!          messages u32, uids u32.., flags u8.., modseqs u64.., with keywords u8, keywords u64..,
//!          counts, history: floor u64, [modseq u64, [from u32, to u32]],
//!          tail [Delivered, with digest u8, envelope, body, body structure, fields, with sent u8, sent]
//! summary  uid_next u32, modseq u64, counts, lacks digests u8
//! ```
//!
//! Invariant: what `snapshot` writes `restore` makes equal; no bytes make it panic.

use std::sync::Arc;

use super::account::Account;
use super::contents::{Asleep, Awake, Contents};
use super::delivered::OfLog;
use super::journal::{FlagNotes, History};
use super::mailbox::{Counts, Mailbox, Messages};
use super::rows::{Rows, TailRow};
use crate::bytes::Slice;
use crate::limits::mailbox::{CHUNK_ROWS_MAX, KEYWORDS_MAX};
use crate::mail::digest::Digest;
use crate::mail::flags::SystemFlags;
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;
use crate::store::checkpoint::{SUMMARY_BYTES, Summary};
use crate::store::codec::{decode, encode, fields_length, kind};
use crate::store::fields::{Malformed, Put, Take};
use crate::store::index::{Chunk, ChunkBuilder};
use crate::store::record::{Delivered, MailboxCreated, Record, Subscribed};
use crate::store::{AccountId, LogId, MailboxId, Sequence};

const VERSION: u8 = 1;

impl Account {
    /// All but the messages.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u32(self.id.0);
        out.put_u32(self.mailbox_next);
        out.put_u32(self.uid_validity);
        out.put_u32(count(self.delivered.logs.len()));
        for (log, of_log) in &self.delivered.logs {
            out.put_u16(log.0);
            out.put_u64(of_log.low_water.0);
            out.put_u32(count(of_log.keys.len()));
            for (sequence, recipient) in &of_log.keys {
                out.put_u64(sequence.0);
                out.put_u32(*recipient);
            }
        }
        out.put_u32(count(self.mailboxes.len() + self.subscriptions.len()));
        for mailbox in self.mailboxes.values() {
            put_record(&Record::MailboxCreated(mailbox.as_created(self.id)), &mut out);
        }
        for name in &self.subscriptions {
            put_record(&Record::Subscribed(Subscribed { account: self.id, name: name.clone() }), &mut out);
        }
        out
    }

    /// The account with its mailboxes still empty: each wants a `restore_mailbox`.
    pub fn restore(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        check(take.u8()? == VERSION, &take)?;
        let mut account = Self::new(AccountId(take.u32()?));
        let (mailbox_next, uid_validity) = (take.u32()?, take.u32()?);
        for _ in 0..take.count(14)? {
            let log = LogId(take.u16()?);
            let mut of_log = OfLog { low_water: Sequence(take.u64()?), ..OfLog::default() };
            for _ in 0..take.count(12)? {
                of_log.keys.insert((Sequence(take.u64()?), take.u32()?));
            }
            account.delivered.logs.insert(log, of_log);
        }
        for _ in 0..take.count(5)? {
            let record = take_record(&mut take)?;
            let known = matches!(record, Record::MailboxCreated(_) | Record::Subscribed(_));
            check(known, &take)?;
            account.apply(&record, None);
        }
        check(take.left() == 0, &take)?;
        account.mailbox_next = account.mailbox_next.max(mailbox_next);
        account.uid_validity = account.uid_validity.max(uid_validity);
        account.flight.mailbox_next = account.mailbox_next;
        account.flight.uid_validity = account.uid_validity;
        Ok(account)
    }

    /// Fills a mailbox of a restored account with what sleeps in the index, and says whether rows of it lack digests.
    pub fn restore_mailbox(&mut self, id: MailboxId, asleep: Asleep) -> Result<bool, Malformed> {
        let summary = asleep.state.summary().ok_or(Malformed { offset: 0 })?;
        let outline = Outline::parse(&summary)?;
        self.fill(id, outline, Contents::asleep(asleep))?;
        Ok(outline.lacks_digests)
    }

    /// The same from a [`Mailbox::bare_snapshot`] and the chunks that came before it. These lack texts and may hold
    /// rows of messages that were gone by then: all rows become rows of the tail.
    pub fn restore_bare_mailbox(&mut self, state: &[u8], chunks: &[Chunk]) -> Result<MailboxId, Malformed> {
        let (id, outline, awake) = parse_state(self.id, state, |messages| Some(live_rows(chunks, messages)))?;
        self.fill(id, outline, Contents::from(awake))?;
        Ok(id)
    }

    fn fill(&mut self, id: MailboxId, outline: Outline, contents: Contents) -> Result<(), Malformed> {
        let Some(mailbox) = self.mailboxes.get_mut(&id).filter(|mailbox| mailbox.modseq == 1) else {
            return Err(Malformed { offset: 0 });
        };
        let Outline { uid_next, modseq, counts, .. } = outline;
        mailbox.recent_from.set(uid_next);
        mailbox.flag_notes = FlagNotes::begin_at(modseq);
        (mailbox.uid_next, mailbox.modseq, mailbox.counts) = (uid_next, modseq, counts);
        mailbox.contents = contents;
        self.usage.add(counts.usage());
        self.flight.mailboxes.remove(&id);
        Ok(())
    }
}

#[cfg(test)]
impl Account {
    /// As [`Account::restore_mailbox`], and awake.
    pub(super) fn restore_awake(&mut self, state: &[u8], chunks: Vec<Chunk>) -> Result<MailboxId, Malformed> {
        let (id, outline, awake) = parse_state(self.id, state, |_| chunks_first(chunks))?;
        self.fill(id, outline, Contents::from(awake))?;
        Ok(id)
    }
}

/// What is known of a mailbox without its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Outline {
    uid_next: u32,
    modseq: u64,
    counts: Counts,
    /// There are rows in the tail that lack digests.
    lacks_digests: bool,
}

impl Outline {
    fn to_bytes(self) -> Summary {
        let mut out = Vec::with_capacity(SUMMARY_BYTES);
        out.put_u32(self.uid_next);
        out.put_u64(self.modseq);
        put_counts(self.counts, &mut out);
        out.put_u8(u8::from(self.lacks_digests));
        out.try_into().expect("it has its length")
    }

    fn parse(summary: &Summary) -> Result<Self, Malformed> {
        let mut take = Take::new(summary);
        let (uid_next, modseq) = (take.u32()?, take.u64()?);
        check(uid_next > 0 && modseq > 0, &take)?;
        Ok(Self { uid_next, modseq, counts: take_counts(&mut take)?, lacks_digests: take.u8()? != 0 })
    }
}

impl Mailbox {
    /// What a start looks at of a snapshot that is taken now.
    pub fn summary(&self) -> Summary {
        let (uid_next, modseq, counts) = (self.uid_next, self.modseq, self.counts);
        let lacks_digests = self.without_digest().next().is_some();
        Outline { uid_next, modseq, counts, lacks_digests }.to_bytes()
    }

    /// Its contents, if it is not newer than a summary.
    pub fn into_contents(self, summary: &Summary) -> Option<Awake> {
        let Outline { uid_next, modseq, .. } = Outline::parse(summary).ok()?;
        (self.uid_next <= uid_next && self.modseq <= modseq).then(|| self.contents.into_awake())
    }

    /// What may change of the messages, and the rows that are in no chunk.
    pub fn snapshot(&self, account: AccountId) -> Vec<u8> {
        let mut out = self.snapshot_messages();
        let tail = self.contents.rows.tail();
        out.put_u32(count(tail.len()));
        for row in tail {
            put_tail_row(row, account, self.id, &mut out);
        }
        out
    }

    /// The same with the rows of all messages whose UIDs are above one, and no texts.
    pub fn bare_snapshot(&self, account: AccountId, above: u32) -> Vec<u8> {
        let mut out = self.snapshot_messages();
        let uids =
            &self.contents.messages.uids[self.contents.messages.uids.partition_point(|&uid| uid <= above)..];
        let mut cursor = self.contents.rows.cursor();
        let rows: Vec<TailRow> = uids.iter().filter_map(|&uid| cursor.find_bare(uid)).collect();
        out.put_u32(count(rows.len()));
        for row in &rows {
            put_tail_row(row, account, self.id, &mut out);
        }
        out
    }

    /// A chunk without texts of the rows above a UID, as many as fit into one, with the last UID in it. `None` if
    /// there are fewer: they come with the state.
    pub fn bare_chunk(&self, above: u32) -> Option<(u32, Vec<u8>)> {
        let from = self.contents.messages.uids.partition_point(|&uid| uid <= above);
        let uids = self.contents.messages.uids.get(from..from + CHUNK_ROWS_MAX)?;
        let mut builder = ChunkBuilder::new();
        let mut cursor = self.contents.rows.cursor();
        for &uid in uids {
            if let Some(row) = cursor.find_bare(uid) {
                builder.push(uid, &row.kept());
            }
        }
        Some((*uids.last()?, builder.finish()))
    }

    /// All but the rows.
    fn snapshot_messages(&self) -> Vec<u8> {
        let messages = &self.contents.messages;
        let mut out = Vec::with_capacity(256 + 21 * messages.uids.len());
        out.put_u8(VERSION);
        out.put_u32(self.id.0);
        out.put_u32(self.uid_next);
        out.put_u64(self.modseq);
        out.put_u32(count(self.contents.keywords.len()));
        self.contents.keywords.iter().for_each(|keyword| out.put_text(keyword));
        out.put_u32(count(messages.uids.len()));
        messages.uids.iter().for_each(|&uid| out.put_u32(uid));
        messages.flags.iter().for_each(|flags| out.put_u8(flags.0));
        messages.modseqs.iter().for_each(|&modseq| out.put_u64(modseq));
        let with_keywords = messages.keywords.iter().any(|&keywords| keywords != 0);
        out.put_u8(u8::from(with_keywords));
        if with_keywords {
            messages.keywords.iter().for_each(|&keywords| out.put_u64(keywords));
        }
        put_counts(self.counts, &mut out);
        put_history(&self.contents.history, &mut out);
        out
    }

    fn as_created(&self, account: AccountId) -> MailboxCreated {
        MailboxCreated {
            account,
            mailbox: self.id,
            name: self.name.clone(),
            uid_validity: self.uid_validity,
            special_use: self.special_use,
        }
    }
}

/// The contents of a mailbox from its [`Mailbox::snapshot`], and what its summary must be. The chunks are those that the
/// directory names, in order of UIDs.
pub(super) fn contents_of(
    account: AccountId,
    state: &[u8],
    chunks: Vec<Chunk>,
) -> Result<(Summary, Awake), Malformed> {
    let (_, outline, awake) = parse_state(account, state, |_| chunks_first(chunks))?;
    Ok((outline.to_bytes(), awake))
}

fn parse_state(
    account: AccountId,
    state: &[u8],
    first_rows: impl FnOnce(&Messages) -> Option<Rows>,
) -> Result<(MailboxId, Outline, Awake), Malformed> {
    let take = &mut Take::new(state);
    check(take.u8()? == VERSION, take)?;
    let id = MailboxId(take.u32()?);
    let (uid_next, modseq) = (take.u32()?, take.u64()?);
    let keywords_count = take.count(4)?;
    check(keywords_count <= KEYWORDS_MAX && uid_next > 0 && modseq > 0, take)?;
    let keywords =
        (0..keywords_count).map(|_| Ok(take.text()?.to_owned())).collect::<Result<_, Malformed>>()?;
    let messages = take_messages(take)?;
    let ascending = messages.uids.is_sorted_by(|one, next| one < next);
    let within =
        messages.uids.first() != Some(&0) && messages.uids.last().is_none_or(|&last| last < uid_next);
    check(ascending && within && messages.modseqs.iter().all(|&of_message| of_message <= modseq), take)?;
    let counts = take_counts(take)?;
    check(counts_agree(counts, &messages), take)?;
    let history = take_history(take)?;
    let mut rows = first_rows(&messages).ok_or(take.malformed())?;
    for _ in 0..take.count(5)? {
        let row = take_tail_row(take, account, id)?;
        check(rows.last_uid().is_none_or(|last| last < row.uid), take)?;
        rows.push(row);
    }
    check(take.left() == 0 && rows.hold_all(&messages), take)?;
    let lacks_digests = rows.tail().iter().any(|row| row.digest.is_none());
    let outline = Outline { uid_next, modseq, counts, lacks_digests };
    Ok((id, outline, Awake { keywords, messages, rows, history, is_remade: false }))
}

/// The rows that are in chunks. `None` if these do not follow each other.
fn chunks_first(chunks: Vec<Chunk>) -> Option<Rows> {
    let mut rows = Rows::default();
    chunks.into_iter().all(|chunk| rows.push_chunk(chunk)).then_some(rows)
}

/// The rows of chunks whose messages are there, without texts.
fn live_rows(chunks: &[Chunk], messages: &Messages) -> Rows {
    let mut rows = Rows::default();
    for chunk in chunks {
        for (at, uid) in chunk.uids().enumerate() {
            let is_next = rows.last_uid().is_none_or(|last| last < uid);
            if is_next && messages.uids.binary_search(&uid).is_ok() {
                rows.push(TailRow::bare(uid, chunk, at));
            }
        }
    }
    rows
}

fn put_record(record: &Record, out: &mut Vec<u8>) {
    out.put_u8(kind(record));
    out.put_u32(count(fields_length(record)));
    encode(record, out);
}

fn take_record(take: &mut Take<'_>) -> Result<Record, Malformed> {
    let kind = take.u8()?;
    let malformed = take.malformed();
    decode(kind, take.bytes()?, Slice::from(Vec::new())).map_err(|_| malformed)
}

fn take_messages(take: &mut Take<'_>) -> Result<Messages, Malformed> {
    let len = take.count(13)?;
    let mut messages = Messages {
        uids: take_column(take, len, Take::u32)?,
        flags: take_column(take, len, |take| take.u8().map(SystemFlags))?,
        modseqs: take_column(take, len, Take::u64)?,
        keywords: Vec::new(),
    };
    check(messages.flags.iter().all(|&flags| SystemFlags::ALL.contains(flags)), take)?;
    if take.u8()? != 0 {
        messages.keywords = take_column(take, len, Take::u64)?;
    }
    Ok(messages)
}

/// So many values, which are known to fit into what is left. Their room is made at once: a large mailbox has many.
fn take_column<'a, T>(
    take: &mut Take<'a>,
    len: usize,
    each: impl Fn(&mut Take<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut column = Vec::with_capacity(len);
    for _ in 0..len {
        column.push(each(take)?);
    }
    Ok(column)
}

fn put_counts(counts: Counts, out: &mut Vec<u8>) {
    out.put_u32(counts.messages);
    out.put_u32(counts.unseen);
    out.put_u32(counts.deleted);
    out.put_u64(counts.size);
    out.put_u64(counts.deleted_size);
}

fn take_counts(take: &mut Take<'_>) -> Result<Counts, Malformed> {
    Ok(Counts {
        messages: take.u32()?,
        unseen: take.u32()?,
        deleted: take.u32()?,
        size: take.u64()?,
        deleted_size: take.u64()?,
    })
}

fn counts_agree(counts: Counts, messages: &Messages) -> bool {
    let mut counted = Counts::default();
    messages.flags.iter().for_each(|&flags| counted.add(flags, 0));
    let Counts { messages, unseen, deleted, .. } = counted;
    (counts.messages, counts.unseen, counts.deleted) == (messages, unseen, deleted)
        && counts.deleted_size <= counts.size
}

fn put_history(history: &History, out: &mut Vec<u8>) {
    out.put_u64(history.floor);
    out.put_u32(count(history.notes.len()));
    for (modseq, uids) in &history.notes {
        out.put_u64(*modseq);
        out.put_u32(count(uids.ranges().len()));
        for &(from, to) in uids.ranges() {
            out.put_u32(from);
            out.put_u32(to);
        }
    }
}

fn take_history(take: &mut Take<'_>) -> Result<History, Malformed> {
    let mut history = History { floor: take.u64()?, ..History::default() };
    let mut before = history.floor;
    for _ in 0..take.count(12)? {
        let modseq = take.u64()?;
        check(modseq > before, take)?;
        before = modseq;
        let len = take.count(8)?;
        let ranges =
            (0..len).map(|_| Ok((take.u32()?, take.u32()?))).collect::<Result<Vec<_>, Malformed>>()?;
        check(ranges.iter().all(|(from, to)| from <= to), take)?;
        history.push(modseq, Ranges::from_unordered(ranges));
    }
    Ok(history)
}

/// As the record that brought the message, which has all of it but the digest; flags and mod-sequence stand
/// elsewhere.
fn put_tail_row(row: &TailRow, account: AccountId, mailbox: MailboxId, out: &mut Vec<u8>) {
    let delivered = Delivered {
        account,
        mailbox,
        uid: row.uid,
        modseq: 0,
        message: row.locator,
        key: None,
        flags: SystemFlags::NONE,
        keywords: 0,
        internal: row.internal,
        saved: row.saved,
    };
    put_record(&Record::Delivered(delivered), out);
    out.put_u8(u8::from(row.digest.is_some()));
    let Some(digest) = &row.digest else {
        return;
    };
    for part in [&digest.envelope, &digest.body, &digest.body_structure, &digest.fields] {
        out.put_bytes(part);
    }
    out.put_u8(u8::from(digest.sent.is_some()));
    let sent = digest.sent.unwrap_or_default();
    out.put_i64(sent.seconds);
    out.put_i16(sent.zone_minutes);
    out.put_u8(u8::from(digest.is_ended) | u8::from(digest.is_plain) << 1);
}

fn take_tail_row(take: &mut Take<'_>, account: AccountId, mailbox: MailboxId) -> Result<TailRow, Malformed> {
    let Record::Delivered(delivered) = take_record(take)? else {
        return Err(take.malformed());
    };
    check(delivered.account == account && delivered.mailbox == mailbox, take)?;
    let digest = match take.u8()? {
        0 => None,
        _ => Some(Arc::new(take_digest(take)?)),
    };
    let (internal, saved, locator) = (delivered.internal, delivered.saved, delivered.message);
    Ok(TailRow { uid: delivered.uid, internal, saved, locator, digest })
}

fn take_digest(take: &mut Take<'_>) -> Result<Digest, Malformed> {
    let envelope = take.bytes()?.to_vec();
    let body = take.bytes()?.to_vec();
    let body_structure = take.bytes()?.to_vec();
    let fields = take.bytes()?.to_vec();
    let with_sent = take.u8()? != 0;
    let sent = Timestamp { seconds: take.i64()?, zone_minutes: take.i16()? };
    let is = take.u8()?;
    let (is_ended, is_plain) = (is & 1 != 0, is & 2 != 0);
    let sent = with_sent.then_some(sent);
    Ok(Digest { envelope, body, body_structure, fields, sent, is_ended, is_plain })
}

fn check(holds: bool, take: &Take<'_>) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(take.malformed()) }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
