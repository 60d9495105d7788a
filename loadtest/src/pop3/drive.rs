//! POP3 sessions over one event loop: so many at once, or so many begun a minute.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::session::{Event, Plan, Seen, Session};
use crate::engine::tls::ClientTls;
use crate::engine::{PortId, Ports, Work};
use crate::ledger::{Line, Received, Writer};
use crate::plan::random::Random;
use crate::record::{Counts, Spectrum};

/// A server that is silent for so long with a command under way is stuck.
const SILENCE_NS_MAX: u64 = 60_000_000_000;

/// After a connection that could not be made or was lost.
const RETRY_NS: u64 = 200_000_000;

const WRONGS_KEPT: usize = 20;

/// Who logs in where, how often, and for how long.
pub struct Load {
    pub address: SocketAddr,
    pub tls: Option<ClientTls>,
    pub tls_address: SocketAddr,
    /// So many of a hundred sessions use TLS.
    pub tls_percent: u32,
    /// Names and passwords; a maildrop is opened by one session at a time.
    pub users: Vec<(String, String)>,
    pub sessions: usize,
    /// Between two beginnings, when they are on a schedule.
    pub interval_ns: Option<u64>,
    pub duration_ns: u64,
    /// Ends before, after so many sessions.
    pub sessions_total: Option<u64>,
    pub seed: u64,
}

pub struct Drive {
    load: Load,
    plan: Rc<Plan>,
    random: Random,
    /// Users whom no session has now.
    idle_users: Vec<usize>,
    seen: Vec<Seen>,
    open: HashMap<PortId, Open>,
    begun: u64,
    began: u64,
    end: u64,
    next_due: u64,
    /// A session is due and waits for another one's end.
    is_behind: bool,
    is_over: bool,
    /// Where copies that came are written down.
    pub ledger: Option<Writer>,
    pub found: Found,
}

#[derive(Default)]
pub struct Found {
    pub counts: Counts,
    pub sessions: u64,
    pub latency: BTreeMap<String, Spectrum>,
    /// From its beginning to its end, of each session.
    pub session: Spectrum,
    pub lag: Spectrum,
    pub errors: BTreeMap<String, u64>,
    pub wrongs: Vec<String>,
    pub elapsed_ns: u64,
}

struct Open {
    session: Session,
    user: usize,
    began: u64,
    tls: Tls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Never,
    ToShake,
    Shaken,
}

impl Drive {
    pub fn new(load: Load, plan: Plan, now: u64) -> Self {
        Self {
            plan: Rc::new(plan),
            random: Random::new(load.seed, 0),
            idle_users: (0..load.users.len()).rev().collect(),
            seen: load.users.iter().map(|_| Seen::default()).collect(),
            open: HashMap::new(),
            begun: 0,
            began: now,
            end: now.saturating_add(load.duration_ns),
            next_due: now,
            is_behind: false,
            is_over: false,
            ledger: None,
            found: Found::default(),
            load,
        }
    }

    fn may_begin(&self, now: u64) -> bool {
        let is_early = now < self.next_due;
        let is_last = self.load.sessions_total.is_some_and(|total| self.begun >= total);
        now < self.end
            && !is_early
            && !is_last
            && self.open.len() < self.load.sessions
            && !self.idle_users.is_empty()
    }

    fn begin(&mut self, ports: &mut Ports, now: u64) {
        self.begun += 1;
        if let Some(interval) = self.load.interval_ns {
            // That the server is slow to end a session is no lag of this side.
            if !std::mem::take(&mut self.is_behind) {
                self.found.lag.record(now - self.next_due);
            }
            self.next_due += interval;
        }
        let place = self.random.below(self.idle_users.len());
        let user = self.idle_users.swap_remove(place);
        let is_tls = self.load.tls.is_some() && self.random.percent(self.load.tls_percent);
        let (address, tls) = match is_tls {
            true => (self.load.tls_address, Tls::ToShake),
            false => (self.load.address, Tls::Never),
        };
        let (name, pass) = self.load.users[user].clone();
        let random = Random::new(self.load.seed, self.begun);
        let session = Session::new(Rc::clone(&self.plan), name, pass, random, Rc::clone(&self.seen[user]));
        match ports.dial(address, None) {
            Ok(port) => {
                self.found.counts.connections += 1;
                self.open.insert(port, Open { session, user, began: now, tls });
            }
            Err(error) => {
                self.idle_users.push(user);
                self.found.fail(format!("connection: {error}"));
                self.next_due = self.next_due.max(now + RETRY_NS);
            }
        }
    }

    fn take_events(&mut self, ports: &mut Ports, port: PortId, now: u64) {
        loop {
            let Some(event) = self.open.get_mut(&port).and_then(|open| open.session.poll_event()) else {
                return;
            };
            match event {
                Event::Done { verb, sent, bytes } => {
                    self.found.counts.started += 1;
                    self.found.counts.succeeded += 1;
                    self.found.counts.bytes += bytes as u64;
                    let spectrum = self.found.latency.entry(verb.name().to_owned()).or_default();
                    spectrum.record(now.saturating_sub(sent));
                }
                Event::Refused { verb, text } => {
                    self.found.counts.started += 1;
                    self.found.fail(format!("{} -ERR {text}", verb.name()));
                }
                Event::Received(line) => {
                    let line = Line::Received(Received { at_ns: now, ..line });
                    if let Some(Err(error)) = self.ledger.as_mut().map(|ledger| ledger.append(&line)) {
                        self.found.fail(format!("ledger: {error}"));
                    }
                }
                Event::Wrong(what) => self.found.wrong(what),
                Event::Over => {
                    ports.end(port);
                    self.close(port, now);
                }
            }
        }
    }

    fn close(&mut self, port: PortId, now: u64) {
        if let Some(open) = self.open.remove(&port) {
            self.idle_users.push(open.user);
            self.found.sessions += 1;
            self.found.session.record(now.saturating_sub(open.began));
        }
    }

    fn finish(&mut self, now: u64) {
        let is_stalled = |open: &Open| {
            // Without a command it waits for the greeting.
            let since = open.session.waiting_since().unwrap_or(open.began);
            now.saturating_sub(since) > SILENCE_NS_MAX
        };
        let stalled = self.open.values().filter(|open| is_stalled(open)).count();
        let has_ended = now >= self.end || self.load.sessions_total.is_some_and(|total| self.begun >= total);
        if stalled > 0 {
            self.found.wrong(format!("{stalled} sessions without an answer for a minute"));
        }
        if stalled > 0 || (has_ended && self.open.is_empty()) {
            self.is_over = true;
            self.found.elapsed_ns = now - self.began;
            self.found.counts.dropped = self.open.len() as u64;
        }
    }
}

impl Work for Drive {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        while self.may_begin(now) {
            self.begin(ports, now);
        }
        self.is_behind = self.load.interval_ns.is_some() && now >= self.next_due;
        if !self.is_over {
            self.finish(now);
        }
        let check = now + 1_000_000_000;
        let due = Some(self.next_due).filter(|due| *due > now);
        due.into_iter().chain([check]).min()
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, now: u64) {
        let Some(open) = self.open.get_mut(&port).filter(|open| open.tls == Tls::ToShake) else {
            return;
        };
        open.tls = Tls::Shaken;
        if let Some(Err(error)) = self.load.tls.as_ref().map(|tls| ports.begin_client_tls(port, tls)) {
            self.found.fail(format!("TLS: {error}"));
            self.close(port, now);
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        if let Some(open) = self.open.get_mut(&port) {
            open.session.handle_bytes(bytes, now);
            let output = open.session.output();
            if !output.is_empty() {
                ports.send(port, &[output]);
                output.clear();
            }
            self.take_events(ports, port, now);
        }
        bytes.len()
    }

    fn handle_closed(&mut self, _: &mut Ports, port: PortId, error: Option<io::Error>, now: u64) {
        let what = error.map_or("closed by the server".to_owned(), |error| format!("connection: {error}"));
        self.found.fail(what);
        self.next_due = self.next_due.max(now);
        self.close(port, now);
    }

    fn is_done(&self) -> bool {
        self.is_over
    }
}

impl Found {
    fn fail(&mut self, what: String) {
        self.counts.failed += 1;
        *self.errors.entry(what).or_default() += 1;
    }

    fn wrong(&mut self, what: String) {
        self.counts.failed += 1;
        *self.errors.entry("wrong answers".to_owned()).or_default() += 1;
        if self.wrongs.len() < WRONGS_KEPT {
            self.wrongs.push(what);
        }
    }
}
