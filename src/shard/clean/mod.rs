//! The cleaner of a log: space that nobody needs comes back.
//!
//! A cycle asks who has which messages ([`mark`]), writes what is live in the emptiest segments again at the end of the
//! log ([`compact`]), makes the records in them superfluous by a snapshot in the log where that is worth it
//! ([`base`]), and frees them. It is begun by growth, by low space and by command; a log that rests has none.
//!
//! Invariants: nothing is freed before every shard has said what it has; what was moved is synced before its segment is
//! freed, and the base that replaces the records of a segment is named by a synced header; a segment in which a live
//! message cannot be read stays; while somebody has pinned the segments none is freed.

mod base;
mod compact;
mod mark;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

pub use mark::Declared;

use super::Shard;
use super::checkpoint::Keeper;
use super::commit::{Commit, NotStored};
use crate::io::disk::DiskError;
use crate::io::disk::files::{free_segment, trim_spares};
use crate::io::disk::indexer::{Bench, Ended};
use crate::io::disk::large::remove_large_file;
use crate::io::executor::sleep;
use crate::io::inbox::Inbox;
use crate::limits::store::{CLEAN_SEGMENTS_MIN, LIVE_SHARE};
use crate::store::live::{Candidate, Choice, Costs, Live, Urgency, choose};
use crate::store::segment::Base;

/// How often is looked whether there is something to do.
const PAUSE: Duration = Duration::from_secs(1);

/// After a failure, and between cycles for want of space, it rests for so many pauses.
const PAUSES_AFTER_FAILURE: u32 = 30;
const PAUSES_WHEN_FULL: u32 = 5;

/// A disk that was full is taken for full for so many pauses more: what was freed is soon written to again.
const PAUSES_SHORT: u32 = 30;

/// So often is looked how large a base would be, which goes over all accounts, and whether there is less to keep.
const PAUSES_PER_SIZING: u32 = 60;

/// Freed room that was not wanted for so long goes back to the file system, half of it at each further look: a load
/// that comes every few minutes uses again what the last one left.
const SIZINGS_KEPT: u32 = 3;

/// How long a log whose end was lost is waited for to have a record again.
const POSITION_PAUSES_MAX: u32 = 60;

pub struct Cleaner {
    commit: Rc<Commit>,
    keeper: Rc<Keeper>,
    last: Cell<Cycle>,
    /// Pauses for which space is still taken to be short.
    short_pauses: Cell<u32>,
    /// Bytes of freed segments that are kept to be used again: as much as was needed between two cycles of late.
    keep_bytes: Cell<u64>,
    /// Looks since a cycle needed half of that or more.
    sizings_idle: Cell<u32>,
    /// Segments with live messages that cannot be read.
    quarantined: RefCell<BTreeSet<u32>>,
    pins: RefCell<Vec<Weak<Pin>>>,
    /// Who asked for a cycle.
    asked: RefCell<Vec<Inbox<Result<Cycle, String>>>>,
    /// Segments that are damaged and are to go.
    evicted: RefCell<BTreeSet<u32>>,
}

/// What the last cycle found and did, and where everything stood when it began.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cycle {
    /// Unix seconds; 0 before the first.
    pub at: i64,
    /// Live bytes of messages in segments, and in large files.
    pub live_bytes: u64,
    pub large_bytes: u64,
    pub moved_bytes: u64,
    pub freed_bytes: u64,
    pub freed_segments: u64,
    pub removed_files: u64,
    /// Bytes that were appended or given up since the start of the server, by then.
    turned_over: u64,
    /// Of what is in the way of less garbage: segments that cannot be read.
    pub quarantined: u64,
}

/// As long as it lives no segment of the log is freed, unless it was told to be lost.
pub struct Pin {
    lost: Inbox<()>,
}

/// What a cycle gave back.
struct Given {
    moved_bytes: u64,
    freed: Vec<u32>,
}

/// Why a cycle ended early. What it wrote is good, and what it did not free is freed another time.
#[derive(Debug)]
enum Unclean {
    Disk(DiskError),
    NotStored(NotStored),
    Ended,
    Stopping,
}

impl Cleaner {
    pub fn new(commit: Rc<Commit>, keeper: Rc<Keeper>) -> Rc<Self> {
        // Twice what an earlier life kept: the run begins with halving it.
        let keep_bytes = Cell::new(2 * commit.files().spare().0);
        Rc::new(Self {
            commit,
            keeper,
            last: Cell::default(),
            short_pauses: Cell::default(),
            keep_bytes,
            sizings_idle: Cell::new(SIZINGS_KEPT),
            quarantined: RefCell::default(),
            pins: RefCell::default(),
            asked: RefCell::default(),
            evicted: RefCell::default(),
        })
    }

    /// Cleans the log whenever it is time, until the shard stops.
    pub async fn run(self: Rc<Self>, shard: Rc<Shard>) {
        let mut rest = 0;
        for pause in 0_u32.. {
            if shard.is_stopping() {
                return;
            }
            if pause.is_multiple_of(PAUSES_PER_SIZING) {
                self.commit.set_snapshot_bytes(self.keeper.snapshot_bytes());
                if let Err(unclean) = self.keep_less().await {
                    self.report(&unclean);
                }
            }
            sleep(PAUSE).await;
            rest = u32::saturating_sub(rest, 1);
            self.short_pauses.set(match self.commit.is_short() {
                true => PAUSES_SHORT,
                false => self.short_pauses.get().saturating_sub(1),
            });
            self.unpin_for_room();
            if !self.keeper.is_awake() {
                continue;
            }
            let asked = std::mem::take(&mut *self.asked.borrow_mut());
            let urgency = match (asked.is_empty(), self.due()) {
                (false, _) => Urgency::Now,
                (true, Some(urgency)) if rest == 0 => urgency,
                _ => continue,
            };
            let cleaned = self.clean(&shard, urgency).await;
            rest = match (&cleaned, urgency) {
                (Err(_), _) => PAUSES_AFTER_FAILURE,
                // Somebody may wait for more of the same.
                (Ok(cycle), Urgency::Now) if cycle.freed_segments > 0 => 0,
                (Ok(_), Urgency::Now) => PAUSES_WHEN_FULL,
                (Ok(_), Urgency::Steady) => 0,
            };
            let cleaned = cleaned.map_err(|unclean| self.report(&unclean));
            asked.iter().for_each(|asker| asker.post(cleaned.clone()));
        }
    }

    /// Runs a cycle as soon as can be, whether it seems worth it or not.
    pub fn ask(&self, answer: Inbox<Result<Cycle, String>>) {
        self.asked.borrow_mut().push(answer);
    }

    /// Runs a cycle that frees these segments, whether that brings back anything or not: what is good in them is
    /// written again. One with mail that cannot be read, and that somebody has, stays.
    pub fn evict(&self, segments: BTreeSet<u32>, answer: Inbox<Result<Cycle, String>>) {
        self.evicted.borrow_mut().extend(segments);
        self.ask(answer);
    }

    /// Keeps all segments, for somebody who copies them. `lost` is told when they cannot be kept any longer.
    pub fn pin(&self, lost: Inbox<()>) -> Rc<Pin> {
        let pin = Rc::new(Pin { lost });
        let mut pins = self.pins.borrow_mut();
        pins.retain(|pin| pin.strong_count() > 0);
        pins.push(Rc::downgrade(&pin));
        pin
    }

    fn is_pinned(&self) -> bool {
        self.pins.borrow().iter().any(|pin| pin.strong_count() > 0)
    }

    /// What goes into the reserve is what must be written: outcomes, or mail is sent twice. Before it is used up the
    /// log is cleaned, whoever copies it.
    fn unpin_for_room(&self) {
        if !self.commit.is_using_reserve() {
            return;
        }
        for pin in self.pins.take().iter().filter_map(Weak::upgrade) {
            pin.lost.post(());
            tracing::error!(
                log = self.commit.id().0,
                "the disk is full, and a backup keeps what could be freed: the backup is given up"
            );
        }
    }

    pub fn last(&self) -> Cycle {
        self.last.get()
    }

    pub fn commit(&self) -> &Rc<Commit> {
        &self.commit
    }

    /// Whether a cycle is due.
    fn due(&self) -> Option<Urgency> {
        let Cycle { turned_over, live_bytes, at, .. } = self.last.get();
        let grown = self.commit.turned_over().saturating_sub(turned_over);
        let used = self.commit.used_bytes();
        if grown == 0 || self.is_pinned() {
            return None;
        }
        if self.commit.is_short() {
            return Some(Urgency::Now);
        }
        // Nothing is known of what earlier lives left; a part of it may be garbage.
        let grown = if at == 0 { grown + used / LIVE_SHARE } else { grown };
        let enough = (live_bytes / LIVE_SHARE).max(CLEAN_SEGMENTS_MIN * self.commit.segment_bytes());
        (grown >= enough).then_some(Urgency::Steady)
    }

    async fn clean(&self, shard: &Rc<Shard>, urgency: Urgency) -> Result<Cycle, Unclean> {
        let turned_over = self.commit.turned_over();
        let evicted = std::mem::take(&mut *self.evicted.borrow_mut());
        self.leave_behind(shard, &evicted).await?;
        let Some(position) = self.commit.position() else {
            return Ok(Cycle::default());
        };
        let grown = turned_over.saturating_sub(self.last.get().turned_over);
        let live = Arc::new(self.mark(shard, position.through).await?);
        let removed_files = self.forget_dead(&live).await?;
        let (live_bytes, large_bytes) = live.bytes();
        let at = crate::io::clock::timestamp().seconds;
        let mut cycle = Cycle { at, live_bytes, large_bytes, removed_files, turned_over, ..Cycle::default() };
        let sizes = self.sizes().await?;
        let candidates = self.candidates(&sizes, position.segment, &live);
        let choice = match evicted.is_empty() {
            true => choose(&candidates, self.commit.stated_base(), self.costs(), urgency),
            false => {
                self.quarantined.borrow_mut().retain(|number| !evicted.contains(number));
                let victims = sizes.keys().copied().filter(|number| evicted.contains(number)).collect();
                Choice { victims, needs_base: true, ..Choice::default() }
            }
        };
        if !choice.victims.is_empty() {
            let keep_bytes = grown.max(self.keep_bytes.get()).max(2 * self.commit.segment_bytes());
            self.keep_bytes.set(keep_bytes);
            if grown >= keep_bytes / 2 {
                self.sizings_idle.set(0);
            }
            let given = self.give_back(shard, &choice, &live, keep_bytes).await?;
            let freed = given.freed.iter().filter_map(|number| sizes.get(number));
            cycle.freed_bytes = freed.sum();
            (cycle.moved_bytes, cycle.freed_segments) = (given.moved_bytes, given.freed.len() as u64);
        }
        cycle.quarantined = self.quarantined.borrow().len() as u64;
        self.last.set(cycle);
        tracing::info!(
            log = self.commit.id().0,
            live_bytes,
            freed_bytes = cycle.freed_bytes,
            moved_bytes = cycle.moved_bytes,
            removed_files,
            "the log was cleaned"
        );
        Ok(cycle)
    }

    /// What was needed for a burst is not kept for ever.
    async fn keep_less(&self) -> Result<(), Unclean> {
        self.sizings_idle.set(self.sizings_idle.get() + 1);
        if self.sizings_idle.get() <= SIZINGS_KEPT {
            return Ok(());
        }
        let keep_bytes = (self.keep_bytes.get() / 2).max(2 * self.commit.segment_bytes());
        self.keep_bytes.set(keep_bytes);
        if self.commit.files().spare().0 > keep_bytes {
            let dir = self.commit.dir().clone();
            self.keeper.indexer().run(move |_| trim_spares(&dir, keep_bytes)).await??;
        }
        Ok(())
    }

    /// Sees to it that the log is written behind these segments: a base begins another one.
    async fn leave_behind(&self, shard: &Rc<Shard>, segments: &BTreeSet<u32>) -> Result<(), Unclean> {
        let Some(&last) = segments.last() else {
            return Ok(());
        };
        // A start appends a record within a second, which gives a position to a log whose end was lost.
        for _ in 0..POSITION_PAUSES_MAX {
            if self.commit.position().is_some() || shard.is_stopping() {
                break;
            }
            sleep(PAUSE).await;
        }
        match self.commit.position().is_some_and(|position| position.segment <= last) {
            true => self.write_base(shard).await,
            false => Ok(()),
        }
    }

    /// Empties the victims and frees them; so many bytes of such are kept to be used again.
    async fn give_back(
        &self,
        shard: &Rc<Shard>,
        choice: &Choice,
        live: &Arc<Live>,
        keep_bytes: u64,
    ) -> Result<Given, Unclean> {
        let (emptied, moved_bytes) = self.compact(shard, &choice.victims, live).await?;
        let mut given = Given { moved_bytes, freed: Vec::new() };
        if choice.needs_base && !emptied.is_empty() {
            self.write_base(shard).await?;
        }
        let Some(base) = self.commit.stated_base() else {
            return Ok(given);
        };
        if !self.is_kept_twice(shard, base).await? {
            return Ok(given);
        }
        for number in emptied.into_iter().filter(|&number| number < base.position.segment) {
            if self.is_pinned() {
                break;
            }
            let dir = self.commit.dir().clone();
            let free = move |bench: &mut Bench| {
                let freed = free_segment(&dir, number, keep_bytes);
                // Who still has it mapped keeps it from being used again.
                bench.reader.forget_freed();
                freed
            };
            let (bytes, done) = self.keeper.indexer().run(free).await??;
            self.commit.handle_freed(bytes);
            done?;
            given.freed.push(number);
        }
        shard.reader().forget_freed();
        if !self.keeper.has_checkpoint_behind(base.position.through) {
            self.keeper.checkpoint_soon();
        }
        Ok(given)
    }

    /// What stands for the records that go is the base, and a checkpoint: one bad sector costs one of the two. A disk
    /// that is full may have no room for a checkpoint, and cannot wait for it.
    async fn is_kept_twice(&self, shard: &Shard, base: Base) -> Result<bool, Unclean> {
        let is_kept = || self.keeper.has_checkpoint_behind(base.position.through);
        if is_kept() || self.is_short_of_late() {
            return Ok(true);
        }
        if shard.is_stopping() {
            return Err(Unclean::Stopping);
        }
        // Without one the freeing is left to the next cleaning.
        self.keeper.checkpoint_now().await;
        Ok(is_kept())
    }

    /// Space was wanting a moment ago, if it is not now.
    fn is_short_of_late(&self) -> bool {
        self.commit.is_short() || self.short_pauses.get() > 0
    }

    /// When no more space can be had, half of the reserve stays for others.
    fn costs(&self) -> Costs {
        let room_bytes = match self.is_short_of_late() {
            true => (self.commit.ready_bytes() / 2).max(self.commit.last_bytes()),
            false => u64::MAX,
        };
        let (snapshot_bytes, left_bytes) = (self.keeper.snapshot_bytes(), self.commit.left_bytes());
        Costs { snapshot_bytes, left_bytes, segment_bytes: self.commit.segment_bytes(), room_bytes }
    }

    /// Removes large files that nobody has, and forgets where dead messages are.
    async fn forget_dead(&self, live: &Arc<Live>) -> Result<u64, Unclean> {
        let dead =
            self.commit.files().with_places(|places| places.dead_files(|message| live.is_live(message)));
        let count = dead.len() as u64;
        if count > 0 && !self.is_pinned() {
            let dir = self.commit.dir().clone();
            let remove = move |number: u64| match dir.large(number).exists() {
                true => remove_large_file(&dir, number),
                false => Ok(()),
            };
            self.keeper.indexer().run(move |_| dead.into_iter().try_for_each(remove)).await??;
        }
        if !self.is_pinned() {
            self.commit.files().change_places(|places| places.retain(|message| live.is_live(message)));
        }
        Ok(count)
    }

    /// The segments of the log with their lengths.
    async fn sizes(&self) -> Result<BTreeMap<u32, u64>, Unclean> {
        let dir = self.commit.dir().clone();
        let sizes = self.keeper.indexer().run(move |_| dir.segment_sizes()).await??;
        Ok(sizes.into_iter().collect())
    }

    /// Segments that were full when the look began.
    fn candidates(&self, sizes: &BTreeMap<u32, u64>, tail: u32, live: &Live) -> Vec<Candidate> {
        let tail = tail.min(self.commit.tail_segment());
        let quarantined = self.quarantined.borrow();
        let full = sizes.iter().filter(|(number, _)| **number < tail && !quarantined.contains(number));
        full.map(|(&number, &bytes)| Candidate { number, bytes, live: live.share(number) }).collect()
    }

    fn report(&self, unclean: &Unclean) -> String {
        let log = self.commit.id().0;
        let why = match unclean {
            Unclean::Disk(error) => error.to_string(),
            Unclean::NotStored(NotStored::Full) => "there is no space for what would make space".to_owned(),
            Unclean::NotStored(_) => "the log could not be written".to_owned(),
            Unclean::Ended => "the thread of the index has ended".to_owned(),
            Unclean::Stopping => "the server stops".to_owned(),
        };
        if !matches!(unclean, Unclean::Stopping) {
            tracing::error!(log, why, "the log could not be cleaned; no mail is lost");
        }
        why
    }
}

impl From<DiskError> for Unclean {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<NotStored> for Unclean {
    fn from(error: NotStored) -> Self {
        Self::NotStored(error)
    }
}

impl From<Ended> for Unclean {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}
