//! Many sessions over one event loop: closed, each as fast as it is answered, or open, on a schedule.
//!
//! In an open loop every command has its time before the run begins. When it comes and no session is free, the
//! command waits, and its latency counts from its time all the same. What was due and not begun at the end is
//! counted as dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::options::{OnError, Options, Security};
use super::random::Random;
use super::session::{Event, Session};
use super::truth::{Rule, Truth, Wrong};
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::engine::{PortId, Ports, Work};
use crate::record::{Counts, Spectrum};

/// A server that is silent for so long with a command under way is stuck.
const SILENCE_NS_MAX: u64 = 60_000_000_000;

/// What is still under way at the end has this time.
const GRACE_NS: u64 = 10_000_000_000;

/// A connection that was lost is opened again after this.
const RETRY_NS: u64 = 200_000_000;

/// The first wrong answers are kept in full.
const WRONGS_KEPT: usize = 20;

pub struct Drive {
    options: Rc<Options>,
    address: SocketAddr,
    tls: Option<ClientTls>,
    clients: Vec<Client>,
    /// Whose port it is, by the port's place.
    by_port: Vec<usize>,
    truths: BTreeMap<usize, Rc<RefCell<Truth>>>,
    schedule: Option<Schedule>,
    /// Clients that could begin, if it were time.
    free: VecDeque<usize>,
    began: u64,
    end: u64,
    under_way: usize,
    is_over: bool,
    pub found: Found,
}

/// What a run gave.
#[derive(Default)]
pub struct Found {
    pub counts: Counts,
    /// By the name of the state, from when the command was sent.
    pub latency: BTreeMap<String, Spectrum>,
    /// From when a command should have been sent, in an open loop.
    pub corrected: Spectrum,
    pub service: Spectrum,
    pub lag: Spectrum,
    pub errors: BTreeMap<String, u64>,
    pub wrongs: Vec<Wrong>,
    pub elapsed_ns: u64,
}

struct Client {
    session: Session,
    port: Option<PortId>,
    is_shaken: bool,
    /// When the command under way was sent, and when it should have been.
    sent: u64,
    intended: u64,
    is_busy: bool,
    connections: u64,
}

struct Schedule {
    interval_ns: f64,
    started: u64,
    /// Due, and waiting for a session.
    waiting: VecDeque<u64>,
}

impl Drive {
    /// `now` is the start; the run goes on for as long as the options say.
    pub fn new(options: Options, address: SocketAddr, now: u64) -> io::Result<Self> {
        let tls = match options.security {
            Security::Plain => None,
            Security::Tls => Some(ClientTls::new("mail.load.test", Trust::Anyone, Handshake::Full)?),
        };
        let duration = u64::try_from(options.duration.as_nanos()).unwrap_or(u64::MAX);
        let interval = |rate: f64| Schedule { interval_ns: 1e9 / rate, started: 0, waiting: VecDeque::new() };
        let schedule = options.rate.map(interval);
        let mut drive = Self {
            options: Rc::new(options),
            address,
            tls,
            clients: Vec::new(),
            by_port: Vec::new(),
            truths: BTreeMap::new(),
            schedule,
            free: VecDeque::new(),
            began: now,
            end: now.saturating_add(duration),
            under_way: 0,
            is_over: false,
            found: Found::default(),
        };
        for number in 0..drive.options.clients {
            let session = drive.session(number, 0);
            drive.clients.push(Client {
                session,
                port: None,
                is_shaken: false,
                sent: 0,
                intended: 0,
                is_busy: false,
                connections: 0,
            });
        }
        Ok(drive)
    }

    /// Opens a connection for every client; call it once, before the loop.
    pub fn dial_all(&mut self, ports: &mut Ports) -> io::Result<()> {
        (0..self.clients.len()).try_for_each(|number| self.dial(ports, number))
    }

    /// Clients that share a user share what is known of the mailbox; a client with several users has each alone.
    fn session(&mut self, number: usize, connection: u64) -> Session {
        let (users, clients) = (self.options.users, self.options.clients);
        let turn = usize::try_from(connection).unwrap_or(0);
        let (user, place, sharers) = match users > clients {
            true => {
                let own = (users - number).div_ceil(clients);
                (number + turn % own * clients, 0, 1)
            }
            false => (number % users, number / users, (clients - number % users).div_ceil(users)),
        };
        let truth = self.truths.entry(user).or_insert_with(|| Rc::new(RefCell::new(Truth::new(sharers))));
        let random = Random::new(self.options.seed, number as u64 + (connection << 20) + 1);
        let name = self.options.user_name(user + 1);
        Session::new(Rc::clone(&self.options), name, place, Rc::clone(truth), random)
    }

    fn dial(&mut self, ports: &mut Ports, number: usize) -> io::Result<()> {
        let port = ports.dial(self.address, None)?;
        if self.by_port.len() <= port.place() {
            self.by_port.resize(port.place() + 1, 0);
        }
        self.by_port[port.place()] = number;
        let client = &mut self.clients[number];
        (client.port, client.is_shaken) = (Some(port), false);
        self.found.counts.connections += 1;
        Ok(())
    }

    fn client_of(&mut self, port: PortId) -> Option<usize> {
        let number = *self.by_port.get(port.place())?;
        (self.clients.get(number)?.port == Some(port)).then_some(number)
    }

    /// The client can begin a command.
    fn handle_ready(&mut self, ports: &mut Ports, number: usize, now: u64) {
        match &mut self.schedule {
            _ if now >= self.end => {}
            None => self.begin(ports, number, now, now),
            Some(schedule) => match schedule.waiting.pop_front() {
                Some(intended) => self.begin(ports, number, intended, now),
                None => self.free.push_back(number),
            },
        }
    }

    fn begin(&mut self, ports: &mut Ports, number: usize, intended: u64, now: u64) {
        let client = &mut self.clients[number];
        let Some(port) = client.port else {
            return;
        };
        client.session.begin();
        (client.sent, client.intended, client.is_busy) = (now, intended, true);
        self.under_way += 1;
        self.found.counts.started += 1;
        send(ports, port, client);
    }

    fn take_events(&mut self, ports: &mut Ports, number: usize, now: u64) {
        while let Some(event) = self.clients[number].session.poll_event() {
            match event {
                Event::Done { state, refusal } => {
                    let client = &mut self.clients[number];
                    client.is_busy = false;
                    self.under_way -= 1;
                    let took = now.saturating_sub(client.sent);
                    self.found.service.record(took);
                    self.found.corrected.record(now.saturating_sub(client.intended));
                    self.found.latency.entry(state.name().to_owned()).or_default().record(took);
                    match refusal {
                        None => self.found.counts.succeeded += 1,
                        Some(text) => self.found.fail(format!("{} NO {text}", state.name())),
                    }
                }
                Event::Wrong(wrong) => self.handle_wrong(wrong, now),
                Event::Over => self.restart(ports, number, now),
            }
        }
        if self.clients[number].session.is_ready() && !self.clients[number].is_busy {
            self.handle_ready(ports, number, now);
        }
    }

    fn handle_wrong(&mut self, wrong: Wrong, now: u64) {
        self.found.wrong(wrong);
        if self.options.on_error == OnError::Quit {
            self.finish(now);
        }
    }

    fn finish(&mut self, now: u64) {
        self.is_over = true;
        self.found.elapsed_ns = now.min(self.end) - self.began;
        let waiting = self.schedule.as_ref().map_or(0, |schedule| schedule.waiting.len());
        self.found.counts.dropped = waiting as u64 + self.under_way as u64;
    }

    /// After LOGOUT or a lost connection: the next session of this client.
    fn restart(&mut self, ports: &mut Ports, number: usize, now: u64) {
        self.free.retain(|free| *free != number);
        if let Some(port) = self.clients[number].port.take() {
            ports.close(port);
        }
        self.clients[number].connections += 1;
        let connections = self.clients[number].connections;
        self.clients[number].session = self.session(number, connections);
        if now < self.end && self.dial(ports, number).is_err() {
            ports.wake_at(now + RETRY_NS, number as u64);
        }
    }

    fn lose(&mut self, ports: &mut Ports, number: usize, what: String, now: u64) {
        let client = &mut self.clients[number];
        client.session.abandon();
        if std::mem::take(&mut client.is_busy) {
            self.under_way -= 1;
        }
        self.found.fail(what);
        client.port = None;
        self.clients[number].connections += 1;
        let connections = self.clients[number].connections;
        self.clients[number].session = self.session(number, connections);
        self.free.retain(|free| *free != number);
        ports.wake_at(now + RETRY_NS, number as u64);
    }

    /// What is due now goes to sessions that are free.
    fn start_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        let due_at =
            |schedule: &Schedule, began: u64| began + (schedule.started as f64 * schedule.interval_ns) as u64;
        loop {
            let schedule = self.schedule.as_mut()?;
            let due = due_at(schedule, self.began);
            if due > now || due >= self.end {
                return (due < self.end).then_some(due);
            }
            schedule.started += 1;
            self.found.lag.record(now - due);
            match self.free.pop_front() {
                Some(number) => self.begin(ports, number, due, now),
                None => schedule.waiting.push_back(due),
            }
        }
    }

    /// A command that nobody answers ends the run; behind its end, sooner.
    fn find_stalled(&mut self, now: u64) {
        let patience = if now >= self.end { GRACE_NS } else { SILENCE_NS_MAX };
        let is_stalled = |client: &&Client| client.is_busy && now.saturating_sub(client.sent) >= patience;
        let stalled = self.clients.iter().filter(is_stalled).count();
        if stalled > 0 && (now < self.end || now >= self.end + GRACE_NS) {
            let seconds = patience / 1_000_000_000;
            self.found.wrong(Wrong::new(
                Rule::Stalled,
                format!("{stalled} commands without an answer for {seconds} s"),
            ));
            self.finish(now);
        }
    }
}

impl Work for Drive {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        let due = self.start_due(ports, now);
        self.find_stalled(now);
        if now >= self.end && (self.under_way == 0 || now >= self.end + GRACE_NS) && !self.is_over {
            self.finish(now);
        }
        let check = now + 1_000_000_000;
        let end = if now < self.end { self.end } else { self.end + GRACE_NS };
        due.into_iter().chain([check, end]).min()
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, now: u64) {
        let Some(number) = self.client_of(port) else {
            return;
        };
        if let Some(tls) = self.tls.as_ref().filter(|_| !self.clients[number].is_shaken) {
            self.clients[number].is_shaken = true;
            if let Err(error) = ports.begin_client_tls(port, tls) {
                self.lose(ports, number, format!("TLS: {error}"), now);
            }
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        if let Some(number) = self.client_of(port) {
            let client = &mut self.clients[number];
            client.session.handle_bytes(bytes);
            send(ports, port, client);
            self.found.counts.bytes += bytes.len() as u64;
            self.take_events(ports, number, now);
        }
        bytes.len()
    }

    fn handle_closed(&mut self, ports: &mut Ports, port: PortId, error: Option<io::Error>, now: u64) {
        if let Some(number) = self.client_of(port) {
            let what =
                error.map_or("closed by the server".to_owned(), |error| format!("connection: {error}"));
            self.lose(ports, number, what, now);
        }
    }

    fn handle_timer(&mut self, ports: &mut Ports, token: u64, now: u64) {
        let number = usize::try_from(token).unwrap_or(usize::MAX);
        if now < self.end && self.clients[number].port.is_none() && self.dial(ports, number).is_err() {
            ports.wake_at(now + RETRY_NS, token);
        }
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

    fn wrong(&mut self, wrong: Wrong) {
        *self.errors.entry(format!("wrong: {}", wrong.rule.name())).or_default() += 1;
        self.counts.failed += 1;
        if self.wrongs.len() < WRONGS_KEPT {
            self.wrongs.push(wrong);
        }
    }
}

/// What the session has to say goes out.
fn send(ports: &mut Ports, port: PortId, client: &mut Client) {
    let output = client.session.output();
    if !output.is_empty() {
        ports.send(port, &[output]);
        output.clear();
    }
}
