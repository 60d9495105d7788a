//! What is known of each destination: by which ways its mail goes, as far as they were looked up, and what holds it up.
//!
//! Invariants: what was looked up by a configuration counts for nothing once another was read; a way that was found
//! stays while nothing can be found out; a site has a say about the mail that goes to it now, and about no other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::home::Feed;
use super::way::{Choice, Way};
use crate::mail::time::Instant;
use crate::store::LogId;

/// Whether the mail of a way waits at its site, and why.
pub struct Blocked {
    pub destination: Arc<str>,
    pub way: u16,
    pub site: Arc<str>,
    pub why: Option<String>,
}

/// What is known of one destination.
struct Destination {
    /// By number; the first is that of mail of which nothing but the destination decides.
    ways: Vec<Known>,
}

impl Default for Destination {
    fn default() -> Self {
        Self { ways: vec![Known::new(Choice::default())] }
    }
}

/// A way by its number.
struct Known {
    choice: Choice,
    found: Found,
    /// The site that takes nothing now, and why.
    blocked: Option<(Arc<str>, String)>,
    /// Lines that wait for the way to be found.
    waiting: Vec<LogId>,
}

/// Whether a way is known.
enum Found {
    No,
    /// Somebody is looking it up, under this number. The way before stays if nothing can be found out now.
    Soon(u64, Option<Arc<Way>>),
    Until(Instant, Arc<Way>),
    /// It could not be found, and why; looked up again at a time.
    NotBefore(Instant, String),
}

/// The search for a way.
pub struct Lookup {
    pub destination: Arc<str>,
    /// The number of the way.
    pub way: u16,
    /// No other search has it, so that an entry that was made anew meanwhile is not taken for the one that asked.
    number: u64,
}

/// What there is to know of a way.
pub enum Asked {
    Way(Arc<Way>),
    /// Whoever asked is to look it up.
    LookUp(Lookup, Choice),
    /// Whoever asked waits: it is being looked up, or will be after a while.
    Wait,
}

/// See the module.
#[derive(Default)]
pub struct Destinations {
    by_name: RefCell<HashMap<Arc<str>, Destination>>,
    /// How many lookups have begun.
    lookups: Cell<u64>,
}

impl Known {
    fn new(choice: Choice) -> Self {
        Self { choice, found: Found::No, blocked: None, waiting: Vec::new() }
    }

    fn site(&self) -> Option<&Arc<str>> {
        match &self.found {
            Found::Until(_, way) => Some(&way.site),
            _ => None,
        }
    }

    /// What holds up its mail.
    fn why_waiting(&self) -> Option<&String> {
        match (&self.found, &self.blocked) {
            (Found::NotBefore(_, why), _) => Some(why),
            (_, Some((site, why))) if self.may_be(site) => Some(why),
            _ => None,
        }
    }

    /// Whether its mail goes to this site, unless that is not known at the moment.
    fn may_be(&self, site: &Arc<str>) -> bool {
        self.site().is_none_or(|own| own == site)
    }

    /// From now on it is being looked up.
    fn begin_lookup(&mut self, number: u64) {
        let before = match std::mem::replace(&mut self.found, Found::No) {
            Found::Until(_, way) => Some(way),
            Found::Soon(_, before) => before,
            Found::No | Found::NotBefore(..) => None,
        };
        self.found = Found::Soon(number, before);
    }

    /// Some mail was to go by it. The first way is there in any case.
    fn is_used(&self) -> bool {
        !matches!(self.found, Found::No) || !self.waiting.is_empty()
    }

    /// A line waits for it.
    fn wait(&mut self, log: LogId) {
        if !self.waiting.contains(&log) {
            self.waiting.push(log);
        }
    }
}

impl Destinations {
    /// Ways may be others after the configuration was read again.
    pub fn forget(&self) {
        self.by_name.borrow_mut().clear();
    }

    /// The way with a number, for a line of a log that is told if it has to wait. `None` if there is no such way.
    pub fn ask(&self, name: &Arc<str>, number: u16, log: LogId, now: Instant) -> Option<Asked> {
        let mut by_name = self.by_name.borrow_mut();
        let destination = by_name.entry(Arc::clone(name)).or_default();
        let known = destination.ways.get_mut(usize::from(number))?;
        match &known.found {
            Found::Until(until, way) if *until > now => return Some(Asked::Way(Arc::clone(way))),
            Found::Soon(..) => known.wait(log),
            Found::NotBefore(at, _) if *at > now => known.wait(log),
            Found::No | Found::Until(..) | Found::NotBefore(..) => {
                known.wait(log);
                let lookup =
                    Lookup { destination: Arc::clone(name), way: number, number: self.lookups.get() };
                self.lookups.set(lookup.number + 1);
                known.begin_lookup(lookup.number);
                return Some(Asked::LookUp(lookup, known.choice.clone()));
            }
        }
        Some(Asked::Wait)
    }

    /// A way was found. Gives the logs whose lines waited for it.
    pub fn found(&self, lookup: &Lookup, way: Arc<Way>, until: Instant) -> Vec<LogId> {
        let waiting = self.end_lookup(lookup, |known, _| {
            known.found = Found::Until(until, way);
            std::mem::take(&mut known.waiting)
        });
        waiting.unwrap_or_default()
    }

    /// A way cannot be found now. Gives the logs whose lines go on by the way before; without one they wait on until
    /// it is looked up again.
    pub fn not_found(&self, lookup: &Lookup, why: String, until: Instant) -> Vec<LogId> {
        let waiting = self.end_lookup(lookup, |known, before| match before {
            Some(way) => {
                known.found = Found::Until(until, way);
                std::mem::take(&mut known.waiting)
            }
            None => {
                known.found = Found::NotBefore(until, why);
                Vec::new()
            }
        });
        waiting.unwrap_or_default()
    }

    /// There is no way: the next log whose line waited for it, and then an end of the lookup.
    pub fn fail_next(&self, lookup: &Lookup) -> Option<LogId> {
        let next = self.of_lookup(lookup, |known| known.waiting.pop()).flatten();
        if next.is_none() {
            self.end_lookup(lookup, |known, _| known.found = Found::No);
        }
        next
    }

    /// Whether the answer to a lookup still counts.
    pub fn is_awaited(&self, lookup: &Lookup) -> bool {
        self.of_lookup(lookup, |_| ()).is_some()
    }

    /// Does something with what is looked up, unless it was forgotten since the lookup began.
    fn of_lookup<T>(&self, lookup: &Lookup, act: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut by_name = self.by_name.borrow_mut();
        let known = by_name.get_mut(&lookup.destination)?.ways.get_mut(usize::from(lookup.way))?;
        matches!(known.found, Found::Soon(number, _) if number == lookup.number).then(|| act(known))
    }

    /// As [`Destinations::of_lookup`], once it is over; the way before comes along.
    fn end_lookup<T>(
        &self,
        lookup: &Lookup,
        end: impl FnOnce(&mut Known, Option<Arc<Way>>) -> T,
    ) -> Option<T> {
        self.of_lookup(lookup, |known| {
            let before = match std::mem::replace(&mut known.found, Found::No) {
                Found::Soon(_, before) => before,
                _ => None,
            };
            end(known, before)
        })
    }

    /// Forgets destinations that nothing is owed to any more.
    pub fn prune(&self, is_owed: impl Fn(&str) -> bool) {
        self.by_name.borrow_mut().retain(|name, _| is_owed(name));
    }

    pub fn set_blocked(&self, blocked: Blocked) {
        let mut destinations = self.by_name.borrow_mut();
        let ways = destinations.get_mut(&blocked.destination).map(|destination| &mut destination.ways);
        // A site that had the mail before has no say any more.
        if let Some(known) = ways.and_then(|ways| ways.get_mut(usize::from(blocked.way)))
            && known.may_be(&blocked.site)
        {
            known.blocked = blocked.why.map(|why| (blocked.site, why));
        }
    }

    /// The tenant of a feed's mail, where tenants are told apart.
    pub fn tenant(&self, feed: &Feed) -> Option<String> {
        let destinations = self.by_name.borrow();
        let known = destinations.get(&feed.destination)?.ways.get(usize::from(feed.way))?;
        known.choice.tenant().map(str::to_owned)
    }

    /// The number of a way; `None` if there are too many.
    pub fn number(&self, name: &str, choice: Choice) -> Option<u16> {
        let mut destinations = self.by_name.borrow_mut();
        if !destinations.contains_key(name) {
            destinations.insert(name.into(), Destination::default());
        }
        let ways = &mut destinations.get_mut(name)?.ways;
        let number = ways.iter().position(|known| known.choice == choice).unwrap_or_else(|| {
            ways.push(Known::new(choice));
            ways.len() - 1
        });
        u16::try_from(number).ok()
    }

    /// The sites that mail for a destination goes to, as far as they were looked up; that of common mail first. Who
    /// sends it, and for whom, may decide which.
    pub fn sites(&self, name: &str) -> Vec<Arc<str>> {
        let destinations = self.by_name.borrow();
        let mut sites: Vec<Arc<str>> = Vec::new();
        for site in destinations.get(name).into_iter().flat_map(|known| &known.ways).filter_map(Known::site) {
            if !sites.contains(site) {
                sites.push(Arc::clone(site));
            }
        }
        sites
    }

    /// The site of this mail for a destination, if it was looked up.
    pub fn site_of(&self, name: &str, choice: &Choice) -> Option<Arc<str>> {
        let destinations = self.by_name.borrow();
        let mut ways = destinations.get(name)?.ways.iter();
        ways.find(|known| known.choice == *choice)?.site().cloned()
    }

    pub fn site_of_feed(&self, feed: &Feed) -> Option<Arc<str>> {
        self.by_name.borrow().get(&feed.destination)?.ways.get(usize::from(feed.way))?.site().cloned()
    }

    /// What holds up the mail for a destination, as far as this shard was told.
    pub fn why_waiting(&self, name: &str) -> Option<String> {
        let destinations = self.by_name.borrow();
        destinations.get(name)?.ways.iter().find_map(Known::why_waiting).cloned()
    }

    /// What decides about the mail for a destination, as far as it was in line since the configuration was read.
    pub fn choices(&self, name: &str) -> Vec<Choice> {
        let destinations = self.by_name.borrow();
        let known = destinations.get(name).into_iter().flat_map(|destination| &destination.ways);
        known.filter(|known| known.is_used()).map(|known| known.choice.clone()).collect()
    }

    /// Whether mail of a feed goes to this site, as far as that was found out lately.
    pub fn is_way_to(&self, feed: &Feed, site: &str, now: Instant) -> bool {
        let destinations = self.by_name.borrow();
        let ways = destinations.get(&feed.destination).map(|destination| &destination.ways);
        let found = ways.and_then(|ways| ways.get(usize::from(feed.way))).map(|known| &known.found);
        match found {
            Some(Found::Until(until, way)) => *until > now && *way.site == *site && way.pool == feed.pool,
            _ => false,
        }
    }

    /// The sites of a destination's mail. They, and those that were not found, are looked for again now.
    pub fn end_pauses(&self, name: &str, now: Instant) -> Vec<Arc<str>> {
        let mut destinations = self.by_name.borrow_mut();
        let ways = destinations.get_mut(name).into_iter().flat_map(|destination| &mut destination.ways);
        let mut sites = Vec::new();
        for known in ways {
            match &mut known.found {
                Found::Until(until, way) => {
                    *until = (*until).min(now);
                    sites.push(Arc::clone(&way.site));
                }
                Found::NotBefore(at, _) => *at = (*at).min(now),
                Found::No | Found::Soon(..) => {}
            }
        }
        sites
    }

    /// Lines whose way is to be looked up again now: name, number of the way, logs.
    pub fn take_expired(&self, now: Instant) -> Vec<(Arc<str>, u16, Vec<LogId>)> {
        let mut expired = Vec::new();
        for (name, destination) in self.by_name.borrow_mut().iter_mut() {
            for (number, known) in (0..).zip(&mut destination.ways) {
                if matches!(known.found, Found::NotBefore(at, _) if at <= now) && !known.waiting.is_empty() {
                    expired.push((Arc::clone(name), number, std::mem::take(&mut known.waiting)));
                }
            }
        }
        expired
    }

    /// When a way is to be looked up again that could not be found.
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        let destinations = self.by_name.borrow();
        let known = destinations.values().flat_map(|destination| &destination.ways);
        let at = known.filter_map(|known| match known.found {
            Found::NotBefore(at, _) if !known.waiting.is_empty() => Some(at),
            _ => None,
        });
        at.min().map(|at| at - now)
    }
}
