//! Checkpoints: what bounds the work of a start, written while the shard serves.
//!
//! One task per log tends its mailboxes: messages that came back without a digest get one, long tails become
//! chunks of the index file, and when enough was appended the state of everything is gathered and committed.
//! Files are read and written on the log's index thread; here are only slices of work between turns.
//!
//! Invariants: the position of a checkpoint is taken first, and every part of it is as of that moment or later,
//! whole, and only of what is synced; a state and the chunks it needs are taken in one step; what could not be
//! written is taken again next time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::commit::{Commit, SliceOf};
use super::seat::{Seat, Seats};
use crate::bytes::Slice;
use crate::io::disk::DiskError;
use crate::io::disk::indexer::{Ended, Indexer};
use crate::io::executor::{Turns, sleep};
use crate::limits::mailbox::CHUNK_ROWS_MAX;
use crate::limits::store::{DIGESTS_AT_ONCE, REPLAYED_RECORDS_MAX};
use crate::mail::digest::Digest;
use crate::mailbox::Mailbox;
use crate::mailbox::contents::Asleep;
use crate::mailbox::rows::{Seal, SealWhen};
use crate::store::catalog::Catalog;
use crate::store::checkpoint::{BlobKind, BlobName, BlobRef, Directory, Summary};
use crate::store::index::Chunk;
use crate::store::log::Position;
use crate::store::places::Places;
use crate::store::{AccountId, Locator, MailboxId, MessageId, Sequence};

/// How often is looked whether there is something to do.
const PAUSE: Duration = Duration::from_secs(1);

/// After a failure the disk is left alone for so many pauses.
const PAUSES_AFTER_FAILURE: u32 = 30;

/// States that go to the index thread in one job.
const JOB_BYTES: usize = 1 << 20;

/// What is in a snapshot, about.
const ACCOUNT_BYTES: u64 = 512;
const MAILBOX_BYTES: u64 = 256;
const ROW_BYTES: u64 = 160;
const PLACE_BYTES: u64 = 16;
const PART_BYTES: u64 = 4096;

/// Keeps the checkpoint of one log.
pub struct Keeper {
    commit: Rc<Commit>,
    seats: Rc<Seats>,
    indexer: Indexer,
    /// The blobs that count: those of the last checkpoint, and chunks that were made since.
    catalog: RefCell<Catalog>,
    /// Where the last checkpoint was taken, and how much had been written by then.
    last: Cell<(Option<Position>, u64)>,
    /// The last one is of little use: no matter how little is appended, the next pass writes a checkpoint.
    is_due: Cell<bool>,
    /// Messages that cannot be read; they are not tried again before the next start.
    unreadable: RefCell<HashSet<MessageId>>,
    is_stopping: Cell<bool>,
    /// A task is in the middle of something.
    is_busy: Cell<bool>,
    /// No mailbox sleeps in the index any more.
    is_awake: Cell<bool>,
}

/// A blob to be written; a state with its summary.
type Part = (BlobName, Option<Summary>, Vec<u8>);

/// Why something of a checkpoint was not written.
#[derive(Debug)]
enum Unkept {
    Disk(DiskError),
    Ended,
}

impl Keeper {
    /// Goes on from the checkpoint that was found, behind which so many records were read.
    pub fn new(
        commit: Rc<Commit>,
        seats: Rc<Seats>,
        indexer: Indexer,
        found: (Option<&Directory>, u64),
    ) -> Self {
        let (found, replayed) = found;
        let catalog = found.map(|directory| Catalog::of(&directory.blobs)).unwrap_or_default();
        Self {
            commit,
            seats,
            indexer,
            catalog: RefCell::new(catalog),
            last: Cell::new((found.and_then(|directory| directory.position), 0)),
            is_due: Cell::new(replayed > REPLAYED_RECORDS_MAX),
            unreadable: RefCell::default(),
            is_stopping: Cell::new(false),
            is_busy: Cell::new(false),
            is_awake: Cell::new(false),
        }
    }

    /// Writes a checkpoint with the next pass: the last one is of no use any more.
    pub fn checkpoint_soon(&self) {
        self.is_due.set(true);
    }

    /// Writes a checkpoint in between, for who cannot go on without. What fails is told of here.
    pub async fn checkpoint_now(&self) {
        self.begin().await;
        if let Err(unkept) = self.checkpoint().await {
            self.report(&unkept);
        }
        self.is_busy.set(false);
    }

    /// One at a time.
    async fn begin(&self) {
        while self.is_busy.replace(true) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether the last checkpoint is of this record or a later one.
    pub fn has_checkpoint_behind(&self, through: Sequence) -> bool {
        self.last.get().0.is_some_and(|position| position.through >= through)
    }

    /// Whether nobody who looks at many mailboxes has to wait for the disk.
    pub fn is_awake(&self) -> bool {
        self.is_awake.get()
    }

    /// The thread of the log's slow work.
    pub fn indexer(&self) -> &Indexer {
        &self.indexer
    }

    /// About how many bytes a snapshot of the log's state has.
    pub fn snapshot_bytes(&self) -> u64 {
        let of_seat = |seat: Rc<Seat>| {
            let account = seat.account();
            ACCOUNT_BYTES
                + account.mailboxes().count() as u64 * MAILBOX_BYTES
                + account.usage().messages * ROW_BYTES
        };
        let of_seats: u64 = self.own_seats(|_| true).into_iter().map(of_seat).sum();
        let moved = self.commit.files().with_places(Places::moved_count) as u64;
        of_seats + self.commit.owed().encoded_bytes() + moved * PLACE_BYTES + PART_BYTES
    }

    /// Tends the log's mailboxes until the shard stops.
    pub async fn run(self: Rc<Self>, shard: Rc<Shard>) {
        self.begin().await;
        let woken = self.wake().await;
        self.note_remade();
        self.is_awake.set(true);
        self.is_busy.set(false);
        if let Err(Ended) = woken {
            return self.report(&Unkept::Ended);
        }
        while !self.is_stopping.get() {
            self.begin().await;
            let bytes_max = shard.config().limits.checkpoint_bytes;
            let pauses = match self.pass(bytes_max).await {
                Ok(()) => 1,
                Err(unkept) => {
                    self.report(&unkept);
                    match unkept {
                        Unkept::Disk(_) => PAUSES_AFTER_FAILURE,
                        Unkept::Ended => break,
                    }
                }
            };
            self.is_busy.set(false);
            for _ in 0..pauses {
                if !self.is_stopping.get() {
                    sleep(PAUSE).await;
                }
            }
        }
        self.is_busy.set(false);
    }

    /// Wakes what sleeps in the index, beside the shard, so that hardly anybody waits for that.
    async fn wake(&self) -> Result<(), Ended> {
        for seat in self.own_seats(|_| true) {
            if self.is_stopping.get() {
                break;
            }
            let sleeping = |mailbox: &Mailbox| Some((mailbox.id(), mailbox.sleeping()?));
            let sleeping: Vec<(MailboxId, Asleep)> =
                seat.account().mailboxes().filter_map(sleeping).collect();
            let read = |(id, asleep): (MailboxId, Asleep)| (id, asleep.read());
            let read = self.indexer.run(move |_| sleeping.into_iter().map(read).collect::<Vec<_>>()).await?;
            let account = seat.account();
            for (id, awake) in read {
                if let Some(mailbox) = account.mailbox(id) {
                    mailbox.wake_with(awake);
                }
            }
        }
        Ok(())
    }

    /// What the index has of mailboxes that were made again is of no use.
    fn note_remade(&self) {
        for seat in self.own_seats(|_| true) {
            let is_remade = |mailbox: &&Mailbox| mailbox.sleeping().is_none() && mailbox.is_remade();
            let remade: Vec<MailboxId> =
                seat.account().mailboxes().filter(is_remade).map(Mailbox::id).collect();
            for mailbox in remade {
                self.catalog.borrow_mut().drop_chunks(seat.id(), mailbox, &(0..=u32::MAX));
                seat.account_mut().recount(mailbox);
                seat.mark(Some(mailbox));
                self.checkpoint_soon();
            }
        }
    }

    /// Writes the last checkpoint before the end; nothing is appended any more.
    pub async fn finish(&self) {
        self.is_stopping.set(true);
        self.begin().await;
        let is_wanted = self.is_due.get() || self.last.get().0 != self.commit.position();
        if is_wanted && let Err(unkept) = self.checkpoint().await {
            return self.report(&unkept);
        }
        if let Some(end) = self.commit.seal()
            && let Err(unkept) = self.note_end_of_log(end).await
        {
            self.report(&unkept);
        }
    }

    async fn note_end_of_log(&self, end: Position) -> Result<(), Unkept> {
        let noted = self.indexer.run(move |bench| bench.index.note_end_of_log(end)).await;
        noted.map_err(|Ended| Unkept::Ended)?.map_err(Unkept::Disk)
    }

    async fn pass(&self, bytes_max: u64) -> Result<(), Unkept> {
        let mut turns = Turns::begin();
        for seat in self.own_seats(Seat::is_changed) {
            for mailbox in seat.changed().unwrap_or_default() {
                self.tend(&seat, mailbox, SealWhen::Full).await?;
            }
            turns.give().await;
        }
        let (_, bytes_then) = self.last.get();
        // What is owed is written whole each time: with a long queue that is worth it only after much more new mail.
        let bytes_max = bytes_max.max(4 * self.commit.owed().encoded_bytes());
        match self.is_due.get() || self.commit.bytes() - bytes_then >= bytes_max {
            true => self.checkpoint().await,
            false => Ok(()),
        }
    }

    /// Gathers the state of everything, a part at a time, and commits it.
    async fn checkpoint(&self) -> Result<(), Unkept> {
        let bytes = self.commit.bytes();
        let Some(position) = self.commit.position() else {
            return Ok(());
        };
        self.take_of_log().await?;
        let is_taken = |seat: &Seat| seat.is_changed() || !self.catalog.borrow().has_account(seat.id());
        let mut turns = Turns::begin();
        for seat in self.own_seats(is_taken) {
            let changed = seat.take_changed().unwrap_or_default();
            if let Err(unkept) = self.take(&seat, &changed).await {
                changed.into_iter().for_each(|mailbox| seat.mark(Some(mailbox)));
                seat.mark(None);
                return Err(unkept);
            }
            turns.give().await;
        }
        let blobs = self.catalog.borrow().blobs();
        self.publish(Directory { position: Some(position), blobs }).await?;
        self.last.set((Some(position), bytes));
        self.is_due.set(false);
        tracing::debug!(log = self.commit.id().0, through = position.through.0, "a checkpoint was written");
        Ok(())
    }

    /// Takes what is of no account.
    async fn take_of_log(&self) -> Result<(), Unkept> {
        self.catalog.borrow_mut().drop_of_log();
        let mut turns = Turns::begin();
        for (of, bytes) in self.commit.slices() {
            let kind = match of {
                SliceOf::Owed => BlobKind::Owed,
                SliceOf::Places => BlobKind::Places,
            };
            self.write(vec![(BlobName::of_log(kind, self.applied()), None, bytes)]).await?;
            turns.give().await;
        }
        Ok(())
    }

    /// Takes an account: first all but its messages, then mailbox by mailbox what changed. A mailbox that is made or
    /// deleted meanwhile is so by a record behind the account's blob.
    async fn take(&self, seat: &Seat, changed: &BTreeSet<MailboxId>) -> Result<(), Unkept> {
        let id = seat.id();
        let mailboxes: BTreeSet<MailboxId> = seat.account().mailboxes().map(|mailbox| mailbox.id()).collect();
        let mut parts = vec![(BlobName::of_account(id, self.applied()), None, seat.snapshot())];
        self.catalog.borrow_mut().retain(id, &mailboxes);
        let is_stale =
            |mailbox: &MailboxId| changed.contains(mailbox) || !self.catalog.borrow().has_state(id, *mailbox);
        let stale: Vec<MailboxId> = mailboxes.iter().copied().filter(is_stale).collect();
        let mut turns = Turns::begin();
        for mailbox in stale {
            self.tend(seat, mailbox, SealWhen::Checkpoint).await?;
            let name = BlobName::of_state(id, mailbox, self.applied());
            let taken = seat.account().mailbox(mailbox).map(|found| (found.summary(), found.snapshot(id)));
            parts.extend(taken.map(|(summary, state)| (name, Some(summary), state)));
            if parts.iter().map(|(.., bytes)| bytes.len()).sum::<usize>() > JOB_BYTES {
                self.write(std::mem::take(&mut parts)).await?;
            }
            turns.give().await;
        }
        self.write(parts).await
    }

    /// Makes digests that are missing and chunks that are worth making.
    async fn tend(&self, seat: &Seat, mailbox: MailboxId, when: SealWhen) -> Result<(), Unkept> {
        let mut turns = Turns::begin();
        loop {
            let lacks_digests = !self.supply(seat, mailbox).await?;
            if lacks_digests && self.is_stopping.get() {
                return Ok(());
            }
            let seal = seat.account().mailbox(mailbox).and_then(|mailbox| mailbox.seal(when));
            match seal {
                Some(seal) => self.seal(seat, mailbox, seal).await?,
                None if !lacks_digests => return Ok(()),
                None => {}
            }
            turns.give().await;
        }
    }

    /// Gives the first rows that lack one a digest, as many as a chunk has rows. Says whether none is left without,
    /// other than those that cannot be read.
    async fn supply(&self, seat: &Seat, mailbox: MailboxId) -> Result<bool, Unkept> {
        for _ in 0..CHUNK_ROWS_MAX / DIGESTS_AT_ONCE {
            let wanted: Vec<(u32, Locator)> = {
                let (account, unreadable) = (seat.account(), self.unreadable.borrow());
                let Some(found) = account.mailbox(mailbox) else {
                    return Ok(true);
                };
                let readable = |locator: &Locator| !unreadable.contains(&locator.id);
                let rows = found.without_digest().map(|row| (row.uid, row.locator));
                rows.filter(|(_, locator)| readable(locator)).take(DIGESTS_AT_ONCE).collect()
            };
            if wanted.is_empty() {
                return Ok(true);
            }
            if self.is_stopping.get() {
                return Ok(false);
            }
            let made = self.digests(wanted).await?;
            let mut account = seat.account_mut();
            for (uid, message, digest) in made {
                match digest {
                    Some(digest) => account.supply(mailbox, uid, &digest),
                    None => drop(self.unreadable.borrow_mut().insert(message)),
                }
            }
        }
        Ok(false)
    }

    async fn digests(
        &self,
        wanted: Vec<(u32, Locator)>,
    ) -> Result<Vec<(u32, MessageId, Option<Arc<Digest>>)>, Unkept> {
        let made = self.indexer.run(move |bench| {
            let made = wanted.into_iter().map(|(uid, locator)| {
                let bytes = bench.reader.message(&locator).inspect_err(|error| {
                    tracing::error!(message = %locator.id, %error, "a message cannot be read");
                });
                (uid, locator.id, bytes.ok().map(|bytes| Arc::new(Digest::of(&bytes))))
            });
            made.collect()
        });
        Ok(made.await?)
    }

    /// Writes a chunk and puts it where its rows were.
    async fn seal(&self, seat: &Seat, mailbox: MailboxId, seal: Seal) -> Result<(), Unkept> {
        let Seal { uids, bytes } = seal;
        let (account, sequence) = (seat.id(), self.applied());
        let (chunk, blob) = self
            .indexer
            .run(move |bench| {
                let name = chunk_name(account, mailbox, sequence);
                let bytes = Slice::from(bytes);
                let made = Chunk::open(bytes.clone());
                let made = made.map_err(|error| bench.index.unfit(error))?;
                let Some(last) = made.len().checked_sub(1) else {
                    return Ok((made, None));
                };
                let name = BlobName { uid_first: made.uid(0), uid_last: made.uid(last), ..name };
                let blob = bench.index.append(name, None, &bytes)?;
                let mapped = Chunk::open(bench.index.read(&blob)?);
                Ok::<_, DiskError>((mapped.map_err(|error| bench.index.unfit(error))?, Some(blob)))
            })
            .await??;
        if seat.account_mut().install(mailbox, &uids, chunk) {
            let mut catalog = self.catalog.borrow_mut();
            catalog.drop_chunks(account, mailbox, &uids);
            blob.into_iter().for_each(|blob| catalog.put(blob));
            seat.mark(Some(mailbox));
        }
        Ok(())
    }

    async fn write(&self, parts: Vec<Part>) -> Result<(), Unkept> {
        let written = self.indexer.run(move |bench| {
            let append = |(name, summary, bytes): Part| bench.index.append(name, summary, &bytes);
            parts.into_iter().map(append).collect::<Result<Vec<BlobRef>, DiskError>>()
        });
        written.await??.into_iter().for_each(|blob| self.catalog.borrow_mut().put(blob));
        Ok(())
    }

    async fn publish(&self, directory: Directory) -> Result<(), Unkept> {
        let published = self.indexer.run(move |bench| {
            let generation = bench.index.generation();
            let blobs = bench.index.commit(directory)?.blobs.clone();
            Ok::<_, DiskError>((generation != bench.index.generation(), blobs))
        });
        let (is_rewritten, blobs) = published.await??;
        if is_rewritten {
            *self.catalog.borrow_mut() = Catalog::of(&blobs);
            self.move_over(blobs).await?;
        }
        Ok(())
    }

    /// The index file was written anew: lets go of the old one, chunk by chunk.
    async fn move_over(&self, blobs: Vec<BlobRef>) -> Result<(), Unkept> {
        for blob in blobs.into_iter().filter(|blob| blob.name.kind == BlobKind::Chunk) {
            let BlobName { account, mailbox, uid_first, uid_last, .. } = blob.name;
            let chunk = self.indexer.run(move |bench| bench.index.read(&blob).map(Chunk::open)).await??;
            let seat = self.seats.seat(account);
            if let (Some(seat), Ok(chunk)) = (seat, chunk) {
                seat.account_mut().install(mailbox, &(uid_first..=uid_last), chunk);
            }
        }
        Ok(())
    }

    pub fn own_seats(&self, which: impl Fn(&Seat) -> bool) -> Vec<Rc<Seat>> {
        let mut seats = self.seats.all();
        seats.retain(|seat| Rc::ptr_eq(seat.commit(), &self.commit) && which(seat));
        seats
    }

    /// What is applied is what is synced.
    fn applied(&self) -> Sequence {
        self.commit.position().map(|position| position.through).unwrap_or_default()
    }

    fn report(&self, unkept: &Unkept) {
        let log = self.commit.id().0;
        match unkept {
            Unkept::Disk(error) => {
                tracing::error!(log, %error, "a checkpoint was not written; no mail is lost")
            }
            Unkept::Ended => {
                tracing::error!(log, "no checkpoints are written any more before the next start")
            }
        }
    }
}

fn chunk_name(account: AccountId, mailbox: MailboxId, sequence: Sequence) -> BlobName {
    BlobName { kind: BlobKind::Chunk, account, mailbox, uid_first: 0, uid_last: 0, sequence }
}

impl From<DiskError> for Unkept {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Ended> for Unkept {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}
