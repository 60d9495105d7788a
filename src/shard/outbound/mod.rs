//! Mail on its way out: from what the logs owe, over the sites that take it, to what became of it.
//!
//! ```text
//!   home ──> way ────────────> sites ──> connection ──> open ──> talk
//!    ^   (a destination's hosts)              │
//!    └──────── report <────────── job ────────┘
//!                 └──> tell ──> deliver
//! ```
//!
//! [`home`] runs on the shard whose logs owe a message, and asks [`destinations`] what is known of its way; [`sites`]
//! runs on the shard that a site's name belongs to; they talk by letters. What a site holds is nobody's truth: a
//! message is owed by its home until a [`report`] is written.
//!
//! Invariants: nothing here decides when, how fast or how often, it asks `queue`; a message is never at two
//! sites at once; an outcome is written before the message may be offered again.

mod automation;
mod connection;
mod converse;
pub mod damaged;
pub mod destinations;
pub mod home;
pub mod job;
pub mod logged;
pub mod memory;
mod open;
pub mod operator;
mod ourselves;
pub mod report;
pub mod sites;
pub mod slots;
pub mod sweep;
mod talk;
pub mod tell;
mod tenants;
pub mod way;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use super::alarm::Alarm;
use super::commit::Ticket;
use crate::io::dns::Resolver;
use crate::io::events::EventLog;
use crate::io::tls::ClientTls;
use crate::limits::outbound::OUTCOMES_UNWRITTEN_MAX;
use crate::queue::rule::Triggers;
use crate::queue::schedule::{Item, Line};
use crate::queue::suspension::Suspensions;
use crate::store::LogId;
use destinations::Destinations;
use memory::Remembered;
use ourselves::Ourselves;
use sites::Sites;
use slots::SourceSlots;
use tenants::TenantRates;

/// What a shard keeps for mail on its way out.
pub struct Outbound {
    alarm: Rc<Alarm>,
    destinations: Destinations,
    sites: Sites,
    resolver: Resolver,
    tls: ClientTls,
    events: EventLog,
    ourselves: Ourselves,
    source_slots: SourceSlots,
    remembered: Remembered,
    suspensions: RefCell<Suspensions>,
    triggers: RefCell<Triggers>,
    tenant_rates: TenantRates,
    /// Outcomes that are being written, of items that are not back yet.
    writing: RefCell<BTreeMap<(LogId, Item), Rc<Ticket>>>,
    /// Outcomes that are not durable yet.
    unwritten: Cell<usize>,
    /// Lines that get nothing before outcomes are durable.
    starved: RefCell<Vec<(LogId, Line)>>,
    /// Connections to each address.
    by_address: Rc<RefCell<HashMap<IpAddr, u32>>>,
}

/// A connection to an address, counted until it is dropped.
pub struct CountedAddress {
    counts: Rc<RefCell<HashMap<IpAddr, u32>>>,
    ip: IpAddr,
}

impl Outbound {
    pub fn new(
        alarm: Rc<Alarm>,
        (sites, remembered): (Sites, Remembered),
        resolver: Resolver,
        tls: ClientTls,
        events: EventLog,
    ) -> Self {
        Self {
            alarm,
            destinations: Destinations::default(),
            sites,
            resolver,
            tls,
            events,
            ourselves: Ourselves::default(),
            source_slots: SourceSlots::default(),
            remembered,
            suspensions: RefCell::default(),
            triggers: RefCell::default(),
            tenant_rates: TenantRates::default(),
            writing: RefCell::default(),
            unwritten: Cell::new(0),
            starved: RefCell::default(),
            by_address: Rc::default(),
        }
    }

    /// Rung when there is more to try, or other ways to try it.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub fn tls(&self) -> ClientTls {
        self.tls.clone()
    }

    pub fn events(&self) -> &EventLog {
        &self.events
    }

    pub fn source_slots(&self) -> &SourceSlots {
        &self.source_slots
    }

    /// What was known before the start.
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// What an operator keeps back for a time.
    pub fn suspensions(&self) -> &RefCell<Suspensions> {
        &self.suspensions
    }

    /// What the operator's rules remember.
    fn triggers(&self) -> &RefCell<Triggers> {
        &self.triggers
    }

    fn tenant_rates(&self) -> &TenantRates {
        &self.tenant_rates
    }

    pub fn writing(&self) -> &RefCell<BTreeMap<(LogId, Item), Rc<Ticket>>> {
        &self.writing
    }

    /// Waits for all outcomes that were reported to be written.
    pub async fn written(&self) {
        let tickets: Vec<Rc<Ticket>> = self.writing.borrow().values().cloned().collect();
        for ticket in tickets {
            // What is not written is owed as before.
            let _ = ticket.stored().await;
        }
    }

    /// How many of `count` messages of a line may be given out. With none, the line is told of again when there is
    /// room.
    fn room_for_outcomes(&self, line: (LogId, Line), count: usize) -> usize {
        let room = OUTCOMES_UNWRITTEN_MAX.saturating_sub(self.unwritten.get()).min(count);
        let mut starved = self.starved.borrow_mut();
        if room == 0 && !starved.contains(&line) {
            starved.push(line);
        }
        room
    }

    fn begin_outcome(&self) {
        self.unwritten.set(self.unwritten.get() + 1);
    }

    /// One outcome is durable, or lost; says which lines there is room for again.
    fn finish_outcome(&self) -> Vec<(LogId, Line)> {
        self.unwritten.set(self.unwritten.get() - 1);
        match self.unwritten.get() < OUTCOMES_UNWRITTEN_MAX / 2 {
            true => self.starved.take(),
            false => Vec::new(),
        }
    }

    /// Counts a connection to an address; `None` if there are as many as there may be.
    fn count(&self, ip: IpAddr, max: u32) -> Option<CountedAddress> {
        let mut counts = self.by_address.borrow_mut();
        let count = counts.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(CountedAddress { counts: Rc::clone(&self.by_address), ip })
    }
}

impl Drop for CountedAddress {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}
