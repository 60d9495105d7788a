//! Segments for a log: they are asked for ahead; what finds none waits, and where the disk has no space, new mail is
//! refused and what makes room goes into a reserve.
//!
//! Invariants: who waits keeps its turn, but for what is about nobody's mail; what was planned on top of something lost
//! is lost with it.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::group::Group;
use super::{Commit, NotStored};
use crate::io::disk::DiskError;
use crate::io::executor::{sleep, spawn};
use crate::store::AccountId;
use crate::store::log::{Draw, Ready};

/// After a failure to get space the disk is asked again so much later.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// What makes room waits for the cleaner through so many of them; then whoever waits is told.
const SPACE_FAILURES_MAX: u32 = 30;

impl Commit {
    /// What is left of the segment that batches are placed in.
    pub fn left_bytes(&self) -> u64 {
        self.log.borrow().left_bytes()
    }

    /// What a segment would have that is made now.
    pub fn segment_bytes(&self) -> u64 {
        self.log.borrow().segment_bytes()
    }

    /// Bytes in segments that are ready.
    pub fn ready_bytes(&self) -> u64 {
        self.log.borrow().ready_bytes().0
    }

    /// What the smallest segments have.
    pub fn segment_bytes_min(&self) -> u64 {
        self.log.borrow().segment_bytes_min()
    }

    /// What no segment has more of, and no group of records.
    pub fn segment_bytes_max(&self) -> u64 {
        self.log.borrow().segment_bytes_max()
    }

    /// About how large a base of the log is: the reserve must have room for it.
    pub fn set_snapshot_bytes(&self, bytes: u64) {
        self.log.borrow_mut().set_snapshot_bytes(bytes);
        self.look_again();
    }

    /// Bytes of the segments that only a cleaning takes, but for the one that a base begins.
    pub fn last_bytes(&self) -> u64 {
        self.log.borrow().last_bytes()
    }

    /// A segment was given back.
    pub fn handle_freed(&self, bytes: u64) {
        self.log.borrow_mut().handle_freed(bytes);
        self.want_segments();
    }

    /// New mail is refused: what is left is for what makes room.
    pub fn is_short(&self) -> bool {
        self.is_short.get()
    }

    /// More than new mail is in want of space: a part of the reserve is gone.
    pub fn is_using_reserve(&self) -> bool {
        self.is_short.get() && !self.log.borrow().has_reserve()
    }

    /// Whoever waits for space keeps its turn, but not before those that make it. Gives back what will never have a
    /// place.
    pub(super) fn place_in_turn(&self, group: Group) -> Option<(Group, NotStored)> {
        let is_next = self.stalled.borrow().is_empty() || group.is_upkeep();
        if is_next {
            return self.place(group);
        }
        self.stalled.borrow_mut().push_back(group);
        None
    }

    pub(super) fn want_segments(&self) {
        while let Some(wanted) = self.log.borrow_mut().wants_segment() {
            self.preparer.prepare(wanted, &self.writer);
        }
    }

    /// New mail that waits for space is lost, and what was planned on top of it. The rest may go into the reserve, and
    /// is lost when that is used up for long.
    fn refuse_stalled(&self) {
        let stalled = std::mem::take(&mut *self.stalled.borrow_mut());
        let mut hit: BTreeSet<AccountId> = BTreeSet::new();
        let mut kept = VecDeque::new();
        for mut group in stalled {
            group.failures += 1;
            let is_lost = group.draw() == Draw::NewMail || group.failures > SPACE_FAILURES_MAX;
            if is_lost || group.accounts().any(|account| hit.contains(&account)) {
                hit.extend(group.accounts());
                self.lose(group, NotStored::Full);
            } else {
                kept.push_back(group);
            }
        }
        self.stalled.borrow_mut().extend(kept);
        self.place_stalled();
        self.wake_driver();
    }

    pub(super) fn place_stalled(&self) {
        let stalled = std::mem::take(&mut *self.stalled.borrow_mut());
        let mut hit: BTreeSet<AccountId> = BTreeSet::new();
        for group in stalled {
            let rests_on_lost = group.accounts().any(|account| hit.contains(&account));
            let lost = match rests_on_lost {
                true => Some((group, NotStored::Full)),
                false => self.place_in_turn(group),
            };
            if let Some((group, why)) = lost {
                hit.extend(group.accounts());
                self.lose(group, why);
            }
        }
        self.urgent.set(true);
    }

    /// A segment is ready.
    pub(super) fn take_segment(&self, ready: Ready) {
        self.log.borrow_mut().give_segment(ready);
        self.look_at_reserve();
        self.place_stalled();
    }

    /// Asks for what is wanted. With a smaller base to have room for, nothing may be, and then nothing else would wake
    /// those who wait.
    fn look_again(&self) {
        self.want_segments();
        self.look_at_reserve();
        if !self.stalled.borrow().is_empty() {
            self.place_stalled();
        }
    }

    /// Once the reserve is whole, mail is taken again.
    fn look_at_reserve(&self) {
        let has_reserve = self.log.borrow().ready_bytes().1;
        if has_reserve && self.is_short.replace(false) {
            tracing::info!(log = self.id.0, "there is space again; mail is taken");
        }
    }

    /// None could be made. The disk is asked again.
    pub(super) fn go_short(self: &Rc<Self>, error: &DiskError) {
        if !self.is_short.replace(true) {
            let reserve = self.log.borrow().ready_bytes().0;
            tracing::error!(
                log = self.id.0,
                reserve,
                %error,
                "no space could be made: mail is refused, deletes and outcomes still go into the reserve"
            );
        }
        self.refuse_stalled();
        let commit = Rc::clone(self);
        spawn("space", async move {
            sleep(SPACE_RETRY).await;
            commit.log.borrow_mut().handle_segment_failed();
            commit.look_again();
        });
    }
}
