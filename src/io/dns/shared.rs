//! What the clones of a resolver share: servers, answers, flights.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use glommio::sync::Semaphore;

use super::exchange::{Ended, exchange};
use super::flight::{Flight, Landed};
use crate::config::DnsSettings;
use crate::io::{clock, executor, random};
use crate::limits;
use crate::proto::dns::machine::{Hosts, ResolvConf};
use crate::proto::dns::{Cache, Lookup, Patience, Question, Servers};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What the clones of a resolver share.
pub struct Shared {
    patience: Patience,
    servers: RefCell<Servers>,
    hosts: RefCell<Hosts>,
    cache: RefCell<Cache>,
    flights: RefCell<HashMap<Question, Rc<Flight>>>,
    /// For flights that have a query out.
    slots: Semaphore,
}

/// Ends a flight, also when its task panics: nobody waits for ever.
struct Landing {
    shared: Rc<Shared>,
    question: Question,
    flight: Rc<Flight>,
}

impl Shared {
    /// A file that is missing or unreadable says nothing.
    pub fn of_machine(settings: &DnsSettings) -> Self {
        let conf = ResolvConf::parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
        let servers = match settings.servers.as_slice() {
            [] => Servers::new(&conf.servers, conf.rotation),
            servers => Servers::new(servers, Default::default()),
        };
        let attempts = settings.attempts.unwrap_or(conf.attempts);
        let patience = Patience {
            timeout: Duration::from_secs(settings.timeout_s.unwrap_or(conf.timeout_s)),
            attempts: usize::try_from(attempts).unwrap_or(1),
        };
        Self {
            patience,
            servers: RefCell::new(servers),
            hosts: RefCell::new(Hosts::parse(&fs::read_to_string(HOSTS).unwrap_or_default())),
            cache: RefCell::default(),
            flights: RefCell::default(),
            slots: Semaphore::new(limits::dns::QUESTIONS_MAX as u64),
        }
    }

    pub fn hosts(&self) -> Ref<'_, Hosts> {
        self.hosts.borrow()
    }

    /// What is known about `question`, or what can be found out. Dropping the future leaves the lookup to others.
    pub async fn ask(self: &Rc<Self>, question: Question) -> Landed {
        if let Some(known) = self.cache.borrow().get(&question, clock::instant()) {
            return Ok(known);
        }
        match self.flight(question) {
            Some(flight) => flight.landing().await,
            None => Err("too many names are being looked up".into()),
        }
    }

    /// The flight for `question`: the one that is under way, or a new one, unless there are too many.
    fn flight(self: &Rc<Self>, question: Question) -> Option<Rc<Flight>> {
        let mut flights = self.flights.borrow_mut();
        let is_full = flights.len() >= limits::dns::QUESTIONS_MAX + limits::dns::QUESTIONS_WAITING_MAX;
        let entry = match flights.entry(question) {
            Entry::Occupied(flying) => return Some(flying.get().clone()),
            Entry::Vacant(_) if is_full => return None,
            Entry::Vacant(entry) => entry,
        };
        let landing = Landing { shared: self.clone(), question: entry.key().clone(), flight: Rc::default() };
        let flight = entry.insert(landing.flight.clone()).clone();
        executor::spawn("lookup", landing.fly());
        Some(flight)
    }
}

impl Landing {
    async fn fly(self) {
        let slot = self.shared.slots.acquire_permit(1).await;
        let landed = match slot {
            Ok(_slot) => self.look_up().await,
            Err(_) => Err("the resolver has ended".into()),
        };
        self.flight.land(landed);
    }

    async fn look_up(&self) -> Landed {
        let Shared { servers, cache, patience, .. } = &*self.shared;
        let now = clock::instant();
        let order = servers.borrow_mut().order(now);
        let mut lookup = Lookup::new(self.question.clone(), order, *patience, now);
        while let Some(ask) = lookup.poll_ask(u16::from_ne_bytes(random::bytes()), clock::instant()) {
            match exchange(&ask, &mut lookup).await {
                Ended::Answer => servers.borrow_mut().handle_answer(ask.server),
                Ended::Silence => servers.borrow_mut().handle_silence(ask.server, clock::instant()),
            }
        }
        let answer = lookup.into_answer()?;
        Ok(cache.borrow_mut().insert(self.question.clone(), answer, clock::instant()))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.shared.flights.borrow_mut().remove(&self.question);
        self.flight.land(Err("the lookup broke off".into()));
    }
}
