//! A thread's sessions: gives each message to one, and judges every reply.
//!
//! A session that carries nothing is idle; a message that is due takes the one that has been idle longest, and waits
//! if there is none. Waiting for a session is the server's doing and part of the corrected latency; being late to
//! notice that a message is due is the generator's, and counted as its lag. What a session says is in `compose`, what
//! it hears in `answer`, and when there is a message for it in `source`.

mod answer;
mod compose;
mod source;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::engine::{PortId, Ports, Work};
use crate::ledger::Writer;
use crate::measure::Tally;
use crate::plan::Share;
use crate::smtp::load::{Connections, Load, Pace, Security};
use crate::smtp::reply::{self, Found};
use crate::smtp::session::{Message, Session, Stage, Step};
use source::{Due, Source};

pub use source::Shared;

pub struct Generator {
    load: Arc<Load>,
    shared: Arc<Shared>,
    share: Share,
    pub tally: Tally,
    sessions: Vec<Session>,
    /// By the place of their port.
    owners: Vec<usize>,
    idle: VecDeque<usize>,
    phase: Phase,
    /// Sessions that were dialled, or need not be, and when the last were.
    dialled: usize,
    dialled_at: u64,
    ready: usize,
    recipients: u64,
    succeeded_at: u64,
    fatal: Option<io::Error>,
    ledger: Option<Writer>,
    scratch: Vec<u8>,
    tail: Vec<u8>,
}

enum Phase {
    /// Kept connections are opened.
    Connecting,
    Running {
        begin: u64,
        source: Source,
    },
}

/// Until a connection is tried again.
const RETRY_NS: u64 = 100_000_000;

/// Without any success for so long, a run is given up if it cannot even connect.
const GIVE_UP_NS: u64 = 30_000_000_000;

/// How often sessions are looked at that hear nothing.
const LOOK_NS: u64 = 1_000_000_000;
const LOOK: u64 = u64::MAX;

/// Kept connections are opened a few at a time: there are servers whose listener holds no more than five that were not
/// accepted yet, and the kernel may lose the others without a word to either side.
const DIALS_AT_ONCE: usize = 2;
const DIALS_WAITING_MAX: usize = 4;
const DIALS_EVERY_NS: u64 = 1_000_000;
const DIAL: u64 = u64::MAX - 1;

/// A server that greets late does not hold up the others longer than this.
const DIALS_WAIT_NS_MAX: u64 = 50_000_000;

/// A connection that nobody has greeted for so long is taken for lost and dialled again, before the run is given up.
const GREETING_NS_MAX: u64 = 20_000_000_000;

impl Generator {
    pub fn new(load: Arc<Load>, shared: Arc<Shared>, share: Share, tally: Tally) -> io::Result<Self> {
        let sessions = (share.index..load.sessions as u64).step_by(share.of as usize).count();
        let ledger = match &load.ledger {
            Some((path, durability)) => Some(Writer::open(path, *durability)?),
            None => None,
        };
        Ok(Self {
            shared,
            share,
            tally,
            sessions: (0..sessions).map(|_| Session::new()).collect(),
            owners: Vec::new(),
            idle: VecDeque::new(),
            phase: Phase::Connecting,
            dialled: 0,
            dialled_at: 0,
            ready: 0,
            recipients: share.index * 1_000_000,
            succeeded_at: 0,
            fatal: None,
            ledger,
            scratch: Vec::new(),
            tail: Vec::new(),
            load,
        })
    }

    /// Opens what is kept open.
    pub fn connect(&mut self, ports: &mut Ports) {
        ports.wake_at(ports.now() + LOOK_NS, LOOK);
        self.succeeded_at = ports.now();
        match self.load.connections {
            Connections::Kept => self.dial_some(ports),
            Connections::New => {
                self.dialled = self.sessions.len();
                self.ready = self.sessions.len();
                self.sessions.iter_mut().for_each(|session| session.is_idle = true);
                self.idle.extend(0..self.sessions.len());
            }
        }
    }

    fn dial_some(&mut self, ports: &mut Ports) {
        let now = ports.now();
        let are_many_waiting = self.dialled - self.ready >= DIALS_WAITING_MAX;
        if !are_many_waiting || now - self.dialled_at >= DIALS_WAIT_NS_MAX {
            let end = (self.dialled + DIALS_AT_ONCE).min(self.sessions.len());
            for index in self.dialled..end {
                self.dial(ports, index);
            }
            (self.dialled, self.dialled_at) = (end, now);
        }
        if self.dialled < self.sessions.len() {
            ports.wake_at(now + DIALS_EVERY_NS, DIAL);
        }
    }

    /// From here on messages are sent.
    pub fn begin(&mut self, begin: u64) {
        let source = Source::new(&self.load, self.share, begin);
        self.succeeded_at = begin;
        self.phase = Phase::Running { begin, source };
    }

    /// Says goodbye, and what went wrong altogether.
    pub fn end(&mut self, ports: &mut Ports) -> io::Result<()> {
        for session in &self.sessions {
            let Some(port) = session.port else { continue };
            match session.stage {
                Stage::None => {
                    ports.send(port, &[b"QUIT\r\n"]);
                    ports.end(port);
                }
                Stage::Sent | Stage::Open => ports.reset(port),
            }
        }
        self.tally.end();
        if let Some(ledger) = &mut self.ledger {
            ledger.flush()?;
        }
        self.fatal.take().map_or(Ok(()), Err)
    }

    fn since_begin(&self, now: u64) -> u64 {
        match self.phase {
            Phase::Running { begin, .. } => now.saturating_sub(begin),
            Phase::Connecting => 0,
        }
    }

    // --- messages to sessions ---

    /// Gives messages to idle sessions as long as there are both.
    fn pump(&mut self, ports: &mut Ports, now: u64) {
        while let Some(&index) = self.idle.front() {
            let Some(due) = self.next_message(now) else { return };
            self.idle.pop_front();
            self.sessions[index].is_idle = false;
            self.tally.counts.started += 1;
            let message = Message {
                number: due.number,
                intended: due.at,
                started: now,
                sent: None,
                copies: None,
                acknowledged: 0,
                bytes: 0,
            };
            self.sessions[index].message = Some(message);
            match (self.sessions[index].port, self.sessions[index].stage) {
                (None, _) => self.dial(ports, index),
                (Some(_), Stage::None) => self.send_envelope(ports, index, now),
                (Some(_), Stage::Sent) => {}
                (Some(_), Stage::Open) => self.send_data(ports, index),
            }
        }
    }

    fn next_message(&mut self, now: u64) -> Option<Due> {
        let Phase::Running { source, .. } = &mut self.phase else { return None };
        source.next(&self.shared, now)
    }

    fn is_dry(&self) -> bool {
        matches!(&self.phase, Phase::Running { source, .. } if source.is_dry())
    }

    /// The session can take a message, unless it has one already.
    fn free(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let session = &mut self.sessions[index];
        if session.is_idle || session.message.is_some() {
            return;
        }
        session.is_idle = true;
        self.idle.push_back(index);
        self.pump(ports, now);
    }

    // --- connections ---

    fn dial(&mut self, ports: &mut Ports, index: usize) {
        self.sessions[index].forget_connection();
        match ports.dial(self.load.to, None) {
            Ok(port) => {
                let now = ports.now();
                let session = &mut self.sessions[index];
                session.port = Some(port);
                session.dialled_at = now;
                session.heard_at = now;
                session.expected.push_back(Step::Greeting);
                if self.owners.len() <= port.place() {
                    self.owners.resize(port.place() + 1, usize::MAX);
                }
                self.owners[port.place()] = index;
                self.tally.counts.connections += 1;
            }
            Err(error) => self.dial_later(ports, index, &error),
        }
    }

    fn dial_later(&mut self, ports: &mut Ports, index: usize, error: &io::Error) {
        self.tally.note(&format!("connect: {error}"));
        let now = ports.now();
        if now.saturating_sub(self.succeeded_at) > GIVE_UP_NS {
            self.fatal = Some(io::Error::other(format!("{}: {error}", self.load.to)));
        }
        ports.wake_at(now + RETRY_NS, index as u64);
    }

    fn owner(&self, port: PortId) -> Option<usize> {
        let index = *self.owners.get(port.place())?;
        self.sessions.get(index).filter(|session| session.port == Some(port)).map(|_| index)
    }

    /// The connection is ready for mail.
    fn enter(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let session = &self.sessions[index];
        self.tally.connect.record(now - session.dialled_at);
        if session.message.is_some() {
            return self.send_envelope(ports, index, now);
        }
        if matches!(self.phase, Phase::Connecting) {
            self.ready += 1;
        }
        self.free(ports, index, now);
    }

    /// Ends the connection, and the message it carried.
    fn break_off(&mut self, ports: &mut Ports, index: usize, what: &str, now: u64) {
        let session = &mut self.sessions[index];
        let step = session.expected.front().map_or("idle", |step| step.name());
        let is_entering = matches!(step, "greeting" | "EHLO" | "STARTTLS" | "AUTH");
        if let Some(port) = session.port {
            ports.reset(port);
        }
        session.forget_connection();
        if is_entering {
            return self.dial_later(ports, index, &io::Error::other(format!("{what} in {step}")));
        }
        if let Some(message) = session.message {
            if matches!(self.load.pace, Pace::Open(..)) {
                // It was waited for, and would have taken longer still.
                self.tally.corrected.record(now.saturating_sub(message.intended));
            }
            let what = format!("{what} in {step}");
            self.fail(index, &what, now);
        }
        self.free(ports, index, now);
    }
}

impl Work for Generator {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        let Phase::Running { source, .. } = &mut self.phase else { return None };
        let next = source.take_due(&self.shared, &mut self.tally, now);
        self.pump(ports, now);
        next
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, now: u64) {
        let Some(index) = self.owner(port) else { return };
        let session = &self.sessions[index];
        match (&self.load.security, session.is_secure) {
            (Security::Tls(_), false) => self.begin_tls(ports, index, now),
            (Security::StartTls(_), true) => self.send_hello(ports, index),
            _ => {}
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        let mut used = 0;
        while let Some(index) = self.owner(port) {
            match reply::find(&bytes[used..]) {
                Found::Partial => return used,
                Found::Garbage => {
                    self.break_off(ports, index, "no reply", now);
                    return bytes.len();
                }
                Found::Line(line) => {
                    used += line.bytes;
                    let session = &mut self.sessions[index];
                    if session.expected.front() == Some(&Step::Hello) {
                        session.has_pipelining |= line.text.eq_ignore_ascii_case(b"PIPELINING");
                        session.has_chunking |= line.text.eq_ignore_ascii_case(b"CHUNKING");
                    }
                    if line.is_last {
                        self.handle_reply(ports, index, line, now);
                    }
                }
            }
        }
        bytes.len()
    }

    fn handle_closed(&mut self, ports: &mut Ports, port: PortId, error: Option<io::Error>, now: u64) {
        let Some(index) = self.owner(port) else { return };
        let what = error.map_or_else(|| "closed".to_owned(), |error| error.to_string());
        self.break_off(ports, index, &what, now);
    }

    fn handle_timer(&mut self, ports: &mut Ports, token: u64, now: u64) {
        match token {
            LOOK => {}
            DIAL => return self.dial_some(ports),
            index => return self.dial(ports, index as usize),
        }
        ports.wake_at(now + LOOK_NS, LOOK);
        self.tally.turn(self.since_begin(now));
        let patience = self.load.reply_max.as_nanos() as u64;
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let Some(step) = session.expected.front().filter(|_| session.port.is_some()) else { continue };
            let is_new = *step == Step::Greeting;
            let patience = if is_new { patience.min(GREETING_NS_MAX) } else { patience };
            if now.saturating_sub(session.heard_at) > patience {
                self.break_off(ports, index, "no answer", now);
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_over = match &self.phase {
            Phase::Connecting => self.ready == self.sessions.len(),
            Phase::Running { .. } => self.is_dry() && self.idle.len() == self.sessions.len(),
        };
        is_over || self.fatal.is_some()
    }
}
