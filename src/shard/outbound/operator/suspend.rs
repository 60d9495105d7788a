//! Mail that is kept back, or returned, for a time, through restarts too.
//!
//! What is suspended stays where it is and is passed over when it would be given out. What is to be returned is
//! looked for again and again while the order stands: what came since the last look each time, and everything
//! once in a while, for what was being sent meanwhile.

use std::rc::Rc;
use std::time::Duration;

use super::find::{Records, Sought, Ways, item_of};
use crate::io::executor::{Turns, sleep, spawn};
use crate::mail::time::Instant;
use crate::queue::selection::{Order, Selection};
use crate::queue::suspension::{Does, Suspension};
use crate::shard::Shard;
use crate::store::Sequence;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of so many looks one goes over everything.
const LOOKS_PER_ROUND: u32 = 30;

/// What an operator wants kept back.
#[derive(Clone, Debug)]
pub struct Suspend {
    /// The same on all shards.
    pub id: u64,
    pub selection: Selection,
    pub span: Duration,
    pub reason: String,
    pub does: Does,
}

impl Shard {
    /// Holds from now on.
    pub fn suspend(self: &Rc<Self>, suspend: Suspend, now: Instant) {
        let Suspend { id, selection, span, reason, does } = suspend;
        self.outbound().suspensions().borrow_mut().tidy(now);
        self.add_suspension(Suspension { id, selection, until: now + span, reason, does });
    }

    /// One that was there before the start, or is new.
    pub fn add_suspension(self: &Rc<Self>, suspension: Suspension) {
        if suspension.does == Does::Bounce {
            spawn("bounces", Rc::clone(self).bounce_while(suspension.clone()));
        }
        self.outbound().suspensions().borrow_mut().add(suspension);
    }

    pub fn suspensions(&self, now: Instant) -> Vec<Suspension> {
        self.outbound().suspensions().borrow().iter(now).cloned().collect()
    }

    /// Mail that sites have fetched goes back to its homes, which hear of it before they hear anything that is sent
    /// after this.
    pub fn give_back_all(&self) {
        for running in self.outbound().sites().all() {
            let jobs = running.machine().borrow_mut().give_back();
            // Dropped, they are on their way home.
            drop(jobs);
            running.ring();
        }
    }

    /// Lifts suspensions; what they kept back is offered again at its time, which may be now.
    pub async fn resume(self: &Rc<Self>, id: Option<u64>, selection: &Selection) -> Vec<Suspension> {
        let is_meant = |one: &Suspension| match id {
            Some(id) => one.id == id,
            None => !selection.is_empty() && selection.is_part_of(&one.selection),
        };
        let lifted = self.outbound().suspensions().borrow_mut().lift(is_meant);
        for suspension in &lifted {
            self.offer_again(&suspension.selection).await;
        }
        self.outbound().alarm().ring();
        lifted
    }

    /// It was put off in the timeline alone.
    async fn offer_again(self: &Rc<Self>, selection: &Selection) {
        let sought = Sought { selection, ways: Ways::Remote, records: Records::AsNeeded };
        let mut turns = Turns::begin();
        for commit in self.logs() {
            let mut from = Some(Sequence(0));
            while let Some(at) = from {
                let (found, next) = self.find(commit, sought, at);
                let mut schedule = commit.schedule_mut();
                for row in found.iter().flat_map(|found| &found.rows) {
                    if let Some(item) = item_of(row) {
                        schedule.insert(item, row.due);
                    }
                }
                drop(schedule);
                self.outbound().alarm().ring();
                from = next;
                turns.give().await;
            }
        }
    }

    /// Returns what a standing order selects, for as long as it stands.
    async fn bounce_while(self: Rc<Self>, suspension: Suspension) {
        let Suspension { id, selection, reason, .. } = suspension;
        let order = Order::Bounce { reason };
        let mut seen: Vec<Sequence> = self.logs().iter().map(|_| Sequence(0)).collect();
        for look in 1.. {
            sleep(LOOK_EVERY).await;
            let now = crate::io::clock::instant();
            let stands = self.suspensions(now).iter().any(|one| one.id == id);
            if !stands {
                return;
            }
            for (commit, seen) in self.logs().iter().zip(&mut seen) {
                let from = if look % LOOKS_PER_ROUND == 0 { Sequence(0) } else { *seen };
                let next = commit.next_message().sequence;
                self.order_from(commit, &selection, &order, from).await;
                *seen = next;
            }
        }
    }
}
