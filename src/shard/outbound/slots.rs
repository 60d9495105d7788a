//! The limit on a source's connections over all sites, kept by one shard for all of them.
//!
//! ```text
//!   connection ── source_slot ──> Letter::Slot(Ask) ──> owner ── Granted ──> connection goes on
//!                                                         └───── Yield ────> some connection ends after its turn
//!   its end ── Slot dropped ────> Letter::Slot(GiveBack) ──> owner
//! ```
//!
//! A connection that waits counts against the limits of its site like one that is being made.
//!
//! Invariant: a slot is given back once, however its connection ends.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::rc::Rc;

use super::connection::Desk;
use crate::io::clock;
use crate::io::executor::{sleep, spawn};
use crate::io::inbox::Inbox;
use crate::limits::outbound::TURN;
use crate::mail::time::Instant;
use crate::queue::policy::SourceId;
use crate::queue::slots::{Say, Slots};
use crate::shard::Shard;
use crate::shard::mesh::Letter;

/// Between the shards that connect and the one that counts.
pub struct SlotLetter {
    pub source: SourceId,
    pub says: Says,
}

pub enum Says {
    Ask { shard: usize, limit: NonZeroU32 },
    GiveBack { shard: usize, limit: NonZeroU32 },
    Told(Say),
}

/// What a shard keeps of them.
#[derive(Default)]
pub struct SourceSlots {
    /// Of the sources that this shard counts.
    counted: RefCell<HashMap<SourceId, Slots>>,
    /// Connections of this shard that wait.
    waiting: RefCell<HashMap<SourceId, VecDeque<Waiting>>>,
}

/// A connection that waits for its slot.
struct Waiting {
    desk: Rc<Desk>,
    answer: Inbox<Option<Slot>>,
}

/// The right to one connection from a source, until it is dropped.
pub struct Slot {
    owner: Inbox<Letter>,
    shard: usize,
    source: SourceId,
    limit: NonZeroU32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { owner, shard, source, limit } = self;
        let says = Says::GiveBack { shard: *shard, limit: *limit };
        owner.post(Letter::Slot(SlotLetter { source: *source, says }));
    }
}

/// Whether a connection may be made.
pub enum Right {
    /// The source has no limit.
    Free,
    Held(Slot),
    /// The server ends.
    None,
}

impl Shard {
    /// Waits until one more connection may be made from its source.
    pub async fn source_slot(&self, desk: &Rc<Desk>) -> Right {
        if self.stopping.get() {
            return Right::None;
        }
        let source = desk.source();
        let limit = self.config().outbound.source(source).and_then(|source| source.connections);
        let Some(limit) = limit else {
            return Right::Free;
        };
        let answer = Inbox::new();
        let slots = self.outbound().source_slots();
        let waiting = Waiting { desk: Rc::clone(desk), answer: answer.clone() };
        slots.waiting.borrow_mut().entry(source).or_default().push_back(waiting);
        let says = Says::Ask { shard: self.mesh.own(), limit };
        self.mesh.post(self.counter_of(source), Letter::Slot(SlotLetter { source, says }));
        match answer.next().await {
            Some(slot) => Right::Held(slot),
            None => Right::None,
        }
    }

    /// Nobody waits any more: the server ends.
    pub fn end_slot_waits(&self) {
        for (_, waiting) in self.outbound().source_slots().waiting.borrow_mut().drain() {
            waiting.into_iter().for_each(|waiting| waiting.answer.post(None));
        }
    }

    pub fn take_slot_letter(self: &Rc<Self>, letter: SlotLetter) {
        let SlotLetter { source, says } = letter;
        let slots = self.outbound().source_slots();
        let told = match says {
            Says::Ask { shard, limit } => {
                slots.counted.borrow_mut().entry(source).or_default().ask(shard, limit)
            }
            Says::GiveBack { shard, limit } => {
                let limit = self
                    .config()
                    .outbound
                    .source(source)
                    .and_then(|known| known.connections)
                    .unwrap_or(limit);
                slots.counted.borrow_mut().entry(source).or_default().give_back(shard, limit)
            }
            Says::Told(Say::Granted) => return self.take_slot(source),
            Says::Told(Say::Yield) => return spawn("yield", Rc::clone(self).yield_slot(source)),
        };
        for (shard, say) in told {
            self.mesh.post(shard, Letter::Slot(SlotLetter { source, says: Says::Told(say) }));
        }
    }

    fn take_slot(&self, source: SourceId) {
        let waiting = self
            .outbound()
            .source_slots()
            .waiting
            .borrow_mut()
            .get_mut(&source)
            .and_then(VecDeque::pop_front);
        let limit = NonZeroU32::MAX;
        let limit =
            self.config().outbound.source(source).and_then(|known| known.connections).unwrap_or(limit);
        let owner = self.mesh.inbox_of(self.counter_of(source)).clone();
        let slot = Slot { owner, shard: self.mesh.own(), source, limit };
        // With nobody to take it, it goes back by itself.
        if let Some(Waiting { desk, answer }) = waiting {
            // At once: what comes next may be that others want it.
            desk.hold(clock::instant());
            answer.post(Some(slot));
        }
    }

    /// Ends a connection from a source for others: one without work, or the one that has had its slot for the longest
    /// time, when it has had its turn. Where all are about to end there is nothing more to do.
    async fn yield_slot(self: Rc<Self>, source: SourceId) {
        let holders = self.holders(source);
        if let Some((_, idle)) = holders.iter().find(|(_, desk)| desk.is_idle()) {
            return idle.end_soon();
        }
        if let Some((since, eldest)) = holders.into_iter().min_by_key(|(since, _)| *since) {
            eldest.promise();
            sleep(since + TURN - clock::instant()).await;
            eldest.end_soon();
        }
    }

    /// Connections that have a slot which is not promised yet, and since when. One that waits for a slot itself has
    /// none to give.
    fn holders(&self, source: SourceId) -> Vec<(Instant, Rc<Desk>)> {
        let sites = self.outbound().sites().all();
        let desks = sites.iter().flat_map(|running| running.desks_from(source));
        desks.filter_map(|desk| desk.held_since().map(|since| (since, desk))).collect()
    }

    /// The shard that counts a source's connections.
    fn counter_of(&self, source: SourceId) -> usize {
        let name =
            self.config().outbound.source(source).map_or_else(String::new, |source| source.name.clone());
        crc32fast::hash(name.as_bytes()) as usize % self.mesh.shards()
    }
}
