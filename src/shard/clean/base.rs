//! A snapshot of a log's state, written into the log: its base.
//!
//! It is gathered like a checkpoint, a part at a time between other records. The position is taken first; each part is
//! as of the record that it names, which is the position or later. When all parts are synced a segment begins whose
//! header names them; when that is synced, nothing needs the records up to the position any more.

use std::rc::Rc;

use super::{Cleaner, Unclean};
use crate::bytes::Slice;
use crate::io::executor::{Turns, sleep};
use crate::mailbox::Change;
use crate::shard::Shard;
use crate::shard::commit::{Commit, NotStored, SliceOf};
use crate::shard::deliver::change;
use crate::shard::seat::Seat;
use crate::store::record::{Part, PartKind, Piece, Record};
use crate::store::segment::Base;
use crate::store::{AccountId, MailboxId, Sequence};

/// Parts are cut into pieces, and a group is appended once it has as much as one. A group has less than two, and so
/// fits into any segment, most of which others fill.
const PIECE_BYTES_MAX: u64 = 1 << 20;
const PIECES_OF_SEGMENT: u64 = 8;

/// How often is asked for a segment before it is given up.
const TRIES: u32 = 10;

/// Parts that are being written.
struct Parts<'a> {
    commit: &'a Commit,
    piece_bytes: usize,
    bytes_per_second: u64,
    snapshot: Sequence,
    waiting: Vec<Change>,
    waiting_bytes: usize,
    count: u32,
    last: Sequence,
}

/// What a part is of.
#[derive(Clone, Copy)]
struct Name {
    kind: PartKind,
    account: AccountId,
    mailbox: MailboxId,
}

impl Cleaner {
    pub(super) async fn write_base(&self, shard: &Rc<Shard>) -> Result<(), Unclean> {
        let Some(position) = self.commit.position() else {
            return Ok(());
        };
        let piece_bytes = (self.commit.segment_bytes_min() / PIECES_OF_SEGMENT).min(PIECE_BYTES_MAX);
        let mut parts = Parts {
            commit: &self.commit,
            piece_bytes: usize::try_from(piece_bytes).unwrap_or(usize::MAX),
            bytes_per_second: self.bytes_per_second(shard),
            snapshot: position.through,
            waiting: Vec::new(),
            waiting_bytes: 0,
            count: 0,
            last: Sequence(0),
        };
        for (of, bytes) in self.commit.slices() {
            let kind = match of {
                SliceOf::Owed => PartKind::Owed,
                SliceOf::Places => PartKind::Places,
            };
            parts.put(Name::of_log(kind), bytes).await?;
        }
        let mut turns = Turns::begin();
        for seat in self.keeper.own_seats(|_| true) {
            put_account(&seat, &mut parts).await?;
            turns.give().await;
            if shard.is_stopping() {
                return Err(Unclean::Stopping);
            }
        }
        parts.flush().await?;
        self.name(Base { position, last: parts.last, parts: parts.count }).await
    }

    /// Begins a segment that names the base.
    async fn name(&self, base: Base) -> Result<(), Unclean> {
        for _ in 0..TRIES {
            let Some(ticket) = self.commit.name_base(base) else {
                sleep(super::PAUSE).await;
                continue;
            };
            ticket.stored().await?;
            tracing::debug!(log = self.commit.id().0, ?base, "the log has a new base");
            return Ok(());
        }
        Err(Unclean::NotStored(NotStored::Full))
    }
}

/// First all of an account but its messages, then mailbox by mailbox: rows in chunks, the rest with the state. A
/// mailbox that is made or deleted meanwhile is so by a record behind the account's part.
async fn put_account(seat: &Seat, parts: &mut Parts<'_>) -> Result<(), Unclean> {
    let account = seat.id();
    let name = |kind, mailbox| Name { kind, account, mailbox };
    let mailboxes: Vec<MailboxId> = seat.account().mailboxes().map(|mailbox| mailbox.id()).collect();
    let bytes = seat.snapshot();
    parts.put(name(PartKind::Account, MailboxId(0)), bytes).await?;
    for id in mailboxes {
        let mut above = 0;
        loop {
            let chunk = seat.account().mailbox(id).and_then(|mailbox| mailbox.bare_chunk(above));
            let Some((last, bytes)) = chunk else {
                break;
            };
            above = last;
            parts.put(name(PartKind::Chunk, id), bytes).await?;
        }
        let state = seat.account().mailbox(id).map(|mailbox| mailbox.bare_snapshot(account, above));
        if let Some(bytes) = state {
            parts.put(name(PartKind::State, id), bytes).await?;
        }
    }
    Ok(())
}

impl Name {
    fn of_log(kind: PartKind) -> Self {
        Self { kind, account: AccountId(0), mailbox: MailboxId(0) }
    }
}

impl Parts<'_> {
    /// A part that was made in this very step.
    async fn put(&mut self, name: Name, bytes: Vec<u8>) -> Result<(), Unclean> {
        let Name { kind, account, mailbox } = name;
        let (snapshot, sequence) = (self.snapshot, self.commit.applied());
        let bytes = Slice::from(bytes);
        let mut from = 0;
        loop {
            let to = bytes.len().min(from + self.piece_bytes);
            let piece = if to == bytes.len() { Piece::Last } else { Piece::More };
            let bytes = bytes.part(from..to);
            self.waiting_bytes += bytes.len();
            let part = Part { snapshot, kind, account, mailbox, sequence, piece, bytes };
            self.waiting.push(change(Record::Part(part)));
            self.count += 1;
            if self.waiting_bytes >= self.piece_bytes {
                self.flush().await?;
            }
            from = to;
            if piece == Piece::Last {
                return Ok(());
            }
        }
    }

    /// Appends what waits and waits until it is synced; not faster than it may.
    async fn flush(&mut self) -> Result<(), Unclean> {
        let changes = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.waiting_bytes) as u64;
        if changes.is_empty() {
            return Ok(());
        }
        let count = changes.len() as u64;
        let ticket = self.commit.append(changes);
        ticket.stored().await?;
        self.last = Sequence(ticket.first().0 + count - 1);
        sleep(super::compact::time_for(bytes, self.bytes_per_second)).await;
        Ok(())
    }
}
