//! What the clones of a resolver share: servers, answers, flights.

use std::cell::RefCell;
use std::collections::HashMap;
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

/// What the clones of a resolver share.
pub struct Shared {
    patience: Patience,
    servers: RefCell<Servers>,
    pub hosts: Hosts,
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
    /// What `settings` do not say is as the text of `resolv.conf` has it; `hosts` is that of `/etc/hosts`.
    pub fn of(settings: &DnsSettings, resolv_conf: &str, hosts: &str) -> Self {
        let conf = ResolvConf::parse(resolv_conf);
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
            hosts: Hosts::parse(hosts),
            cache: RefCell::default(),
            flights: RefCell::default(),
            slots: Semaphore::new(limits::dns::QUESTIONS_MAX as u64),
        }
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
        if let Some(flying) = self.flights.borrow().get(&question) {
            return Some(flying.clone());
        }
        if self.flights.borrow().len() >= limits::dns::QUESTIONS_MAX + limits::dns::QUESTIONS_WAITING_MAX {
            return None;
        }
        let flight = Rc::<Flight>::default();
        self.flights.borrow_mut().insert(question.clone(), flight.clone());
        // The executor runs a new task at once, up to its first wait; it may end there.
        let landing = Landing { shared: self.clone(), question, flight: flight.clone() };
        executor::spawn("lookup", landing.fly());
        Some(flight)
    }
}

impl Landing {
    async fn fly(self) {
        let asked = clock::instant();
        let slot = self.shared.slots.acquire_permit(1).await;
        let waited = clock::instant() - asked;
        let landed = match slot {
            // The flight is known to the resolver and to this task: nobody waits for it any more.
            Ok(_) if Rc::strong_count(&self.flight) <= 2 => return,
            Ok(_) if waited.as_secs() >= limits::dns::QUESTION_WAITS_S_MAX => {
                Err("the name servers are too slow for all that is asked".into())
            }
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
