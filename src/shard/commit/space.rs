//! Segments for a log: they are asked for ahead; what finds none waits, and where the disk has no space, new mail is
//! refused and what makes room goes into a reserve.
//!
//! Invariant: who waits keeps its turn, but for what is about nobody's mail.

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

    /// About how large a base of the log is: the reserve must have room for it.
    pub fn set_snapshot_bytes(&self, bytes: u64) {
        self.log.borrow_mut().set_snapshot_bytes(bytes);
        self.want_segments();
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

    /// Whoever waits for space keeps its turn, but not before those that make it: they are about nobody's mail, so that
    /// no plan rests on them.
    pub(super) fn place_in_turn(&self, group: Group) {
        let is_next = self.stalled.borrow().is_empty() || group.draw() == Draw::All;
        match is_next {
            true => self.place(group),
            false => self.stalled.borrow_mut().push_back(group),
        }
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
            let accounts: Vec<AccountId> =
                group.changes.iter().filter_map(|change| change.record.account()).collect();
            let is_lost = group.draw() == Draw::NewMail || group.failures > SPACE_FAILURES_MAX;
            if is_lost || accounts.iter().any(|account| hit.contains(account)) {
                hit.extend(accounts);
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
        stalled.into_iter().for_each(|group| self.place_in_turn(group));
        self.urgent.set(true);
    }

    /// A segment is ready.
    pub(super) fn take_segment(&self, ready: Ready) {
        self.log.borrow_mut().give_segment(ready);
        let has_reserve = self.log.borrow().ready_bytes().1;
        if has_reserve && self.is_short.replace(false) {
            tracing::info!(log = self.id.0, "there is space again; mail is taken");
        }
        self.place_stalled();
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
            commit.want_segments();
        });
    }
}
