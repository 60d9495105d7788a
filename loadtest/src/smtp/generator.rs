//! A thread's sessions: gives each message to one, and judges every reply.
//!
//! A session that carries nothing is idle; a message that is due takes the one that has been idle longest, and waits
//! if there is none. Waiting for a session is the server's doing and part of the corrected latency; being late to
//! notice that a message is due is the generator's, and counted as its lag.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::{PortId, Ports, Work};
use crate::ledger::{Acknowledged, HEADER, Line, Writer};
use crate::measure::Tally;
use crate::plan::{Arrivals, Schedule, Share};
use crate::smtp::load::{Connections, Envelope, Greeting, Limit, Load, OnError, Pace, Security, Transfer};
use crate::smtp::reply::{self, Found};
use crate::smtp::session::{Message, Session, Stage, Step};

/// What the threads of a run share.
#[derive(Default)]
pub struct Shared {
    /// The number of the next message of a closed loop.
    pub next: AtomicU64,
    pub stop: AtomicBool,
}

pub struct Generator {
    load: Arc<Load>,
    shared: Arc<Shared>,
    share: Share,
    pub tally: Tally,
    sessions: Vec<Session>,
    /// By the place of their port.
    owners: Vec<usize>,
    idle: VecDeque<usize>,
    backlog: VecDeque<(u64, u64)>,
    phase: Phase,
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

/// Where messages come from.
enum Source {
    Closed { end: u64 },
    Open { schedule: Schedule, limit: u64, drop_at: u64 },
    Dry,
}

/// Until a connection is tried again.
const RETRY_NS: u64 = 100_000_000;

/// Without any success for so long, a run is given up if it cannot even connect.
const GIVE_UP_NS: u64 = 30_000_000_000;

/// How often sessions are looked at that hear nothing.
const LOOK_NS: u64 = 1_000_000_000;
const LOOK: u64 = u64::MAX;

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
            backlog: VecDeque::new(),
            phase: Phase::Connecting,
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
        for index in 0..self.sessions.len() {
            match self.load.connections {
                Connections::Kept => self.dial(ports, index),
                Connections::New => {
                    self.ready += 1;
                    self.sessions[index].is_idle = true;
                    self.idle.push_back(index);
                }
            }
        }
    }

    /// From here on messages are sent.
    pub fn begin(&mut self, begin: u64) {
        let after = |limit: Limit| match limit {
            Limit::Time(time) => begin + time.as_nanos() as u64,
            Limit::Messages(_) => u64::MAX,
        };
        let end = after(self.load.limit);
        let source = match self.load.pace {
            Pace::Closed => Source::Closed { end },
            Pace::Open(rate, arrivals) => {
                let limit = match (self.load.limit, arrivals) {
                    (Limit::Messages(count), Arrivals::Constant | Arrivals::Poisson) => count,
                    (Limit::Time(_), _) => u64::MAX,
                };
                let schedule = Schedule::new(rate, arrivals, self.share, self.load.seed, begin..end);
                Source::Open { schedule, limit, drop_at: u64::MAX }
            }
        };
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
            let Some((number, intended)) = self.next_message(now) else { return };
            self.idle.pop_front();
            self.sessions[index].is_idle = false;
            self.tally.counts.started += 1;
            let message = Message {
                number,
                intended,
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

    fn next_message(&mut self, now: u64) -> Option<(u64, u64)> {
        let Phase::Running { source, .. } = &mut self.phase else { return None };
        if self.shared.stop.load(Ordering::Relaxed) {
            *source = Source::Dry;
            return None;
        }
        match source {
            Source::Open { .. } | Source::Dry => self.backlog.pop_front(),
            Source::Closed { end } => {
                let limit = match self.load.limit {
                    Limit::Messages(count) => count,
                    Limit::Time(_) => u64::MAX,
                };
                let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
                if now >= *end || number >= limit {
                    *source = Source::Dry;
                    return None;
                }
                Some((number, now))
            }
        }
    }

    /// Moves what is due from the schedule to the backlog; says when the next is due.
    fn take_due(&mut self, now: u64) -> Option<u64> {
        let Phase::Running { source, .. } = &mut self.phase else { return None };
        let Source::Open { schedule, limit, drop_at } = source else { return None };
        while let Some((number, at)) = schedule.pop_due(now).filter(|(number, _)| number < limit) {
            self.tally.lag.record(now - at);
            self.backlog.push_back((number, at));
        }
        if let Some(at) = schedule.peek().filter(|_| schedule.next_number() < *limit) {
            return Some(at);
        }
        *drop_at = (*drop_at).min(now + self.load.drain_max.as_nanos() as u64);
        if now >= *drop_at || self.backlog.is_empty() {
            self.tally.counts.dropped += self.backlog.len() as u64;
            self.backlog.clear();
            *source = Source::Dry;
            return None;
        }
        Some(*drop_at)
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
        if session.message.is_some() {
            let what = format!("{what} in {step}");
            self.fail(index, &what, now);
        }
        self.free(ports, index, now);
    }

    // --- what is sent ---

    fn send(&mut self, ports: &mut Ports, index: usize, text: &[u8], step: Step) {
        let session = &mut self.sessions[index];
        session.expected.push_back(step);
        if let Some(port) = session.port {
            ports.send(port, &[text]);
        }
    }

    fn send_hello(&mut self, ports: &mut Ports, index: usize) {
        let command = self.load.greeting.command();
        self.send(ports, index, command.as_bytes(), Step::Hello);
    }

    fn envelope_of(&self, index: usize) -> Envelope {
        match (self.load.envelope, self.load.connections) {
            _ if !self.sessions[index].has_pipelining => Envelope::Stepwise,
            (Envelope::Ahead, Connections::New) => Envelope::Group,
            (envelope, _) => envelope,
        }
    }

    fn send_envelope(&mut self, ports: &mut Ports, index: usize, now: u64) {
        self.sessions[index].heard_at = now;
        let mut out = mem::take(&mut self.scratch);
        out.clear();
        match self.envelope_of(index) {
            Envelope::Stepwise => {
                self.begin_envelope(index);
                self.write_mail(&mut out);
                self.send(ports, index, &out, Step::Mail);
            }
            Envelope::Group | Envelope::Ahead => {
                self.write_group(index, &mut out);
                if self.load.transfer == Transfer::Bdat {
                    self.send_chunk(ports, index, &mut out);
                } else if let Some(port) = self.sessions[index].port {
                    ports.send(port, &[&out]);
                }
            }
        }
        self.scratch = out;
    }

    fn begin_envelope(&mut self, index: usize) {
        self.sessions[index].begin_envelope(self.recipients);
        self.recipients += self.load.recipients_each as u64;
    }

    /// MAIL, all RCPT, and DATA if that is what follows.
    fn write_group(&mut self, index: usize, out: &mut Vec<u8>) {
        self.begin_envelope(index);
        self.write_mail(out);
        for number in 0..self.load.recipients_each {
            self.write_recipient(index, number, out);
        }
        let is_data = self.load.transfer == Transfer::Data;
        let expected = &mut self.sessions[index].expected;
        expected.push_back(Step::Mail);
        expected.extend((0..self.load.recipients_each).map(|_| Step::Recipient));
        if is_data {
            expected.push_back(Step::Data);
            out.extend_from_slice(b"DATA\r\n");
        }
    }

    fn write_mail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        out.extend_from_slice(self.load.sender.as_bytes());
        out.extend_from_slice(b">\r\n");
    }

    fn write_recipient(&self, index: usize, number: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        self.load.recipients.write(self.sessions[index].first_recipient + number as u64, out);
        out.extend_from_slice(b">\r\n");
    }

    fn write_head(&self, index: usize, out: &mut Vec<u8>) {
        let load = &self.load;
        let session = &self.sessions[index];
        let number = session.message.map_or(0, |message| message.number);
        let checksum = load.bodies.of(number).checksum;
        let session_number = self.share.index + index as u64 * self.share.of;
        out.extend_from_slice(b"From: <");
        out.extend_from_slice(load.sender.as_bytes());
        out.extend_from_slice(b">\r\nTo: <");
        load.recipients.write(session.first_recipient, out);
        write!(
            out,
            ">\r\nSubject: load {number}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <{number}.{run}@load.test>\r\n\
             {HEADER}{run} {session_number} {number} {checksum:08x}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n",
            run = load.run,
        )
        .expect("a Vec takes everything");
    }

    /// The message, and the next envelope behind it if that is wanted.
    fn send_data(&mut self, ports: &mut Ports, index: usize) {
        let (mut head, mut tail) = (mem::take(&mut self.scratch), mem::take(&mut self.tail));
        head.clear();
        tail.clear();
        self.write_head(index, &mut head);
        tail.extend_from_slice(b".\r\n");
        let session = &mut self.sessions[index];
        let copies = session.accepted;
        session.stage = Stage::None;
        let ends = if matches!(self.load.greeting, Greeting::Lhlo(_)) { copies } else { 1 };
        session.expected.extend((0..ends).map(|_| Step::End));
        if self.envelope_of(index) == Envelope::Ahead && !self.is_dry() {
            self.write_group(index, &mut tail);
        }
        let load = Arc::clone(&self.load);
        let Some((number, port)) = self.under_way(index) else { return };
        let body = load.bodies.of(number);
        ports.send(port, &[&head, body.stuffed, &tail]);
        self.note_sent(ports, index, Some(copies), head.len() + body.text.len());
        (self.scratch, self.tail) = (head, tail);
    }

    /// The same as one chunk, behind what `out` holds.
    fn send_chunk(&mut self, ports: &mut Ports, index: usize, out: &mut Vec<u8>) {
        let mut head = mem::take(&mut self.tail);
        head.clear();
        self.write_head(index, &mut head);
        let load = Arc::clone(&self.load);
        let Some((number, port)) = self.under_way(index) else { return };
        let body = load.bodies.of(number);
        write!(out, "BDAT {} LAST\r\n", head.len() + body.text.len()).expect("a Vec takes everything");
        ports.send(port, &[out, &head, body.text]);
        let session = &mut self.sessions[index];
        session.stage = Stage::None;
        session.expected.push_back(Step::End);
        self.note_sent(ports, index, None, head.len() + body.text.len());
        self.tail = head;
    }

    fn under_way(&self, index: usize) -> Option<(u64, PortId)> {
        let session = &self.sessions[index];
        Some((session.message?.number, session.port?))
    }

    fn note_sent(&mut self, ports: &Ports, index: usize, copies: Option<u64>, bytes: usize) {
        if let Some(message) = &mut self.sessions[index].message {
            message.sent = Some(ports.now());
            message.copies = copies;
            message.bytes = bytes as u64;
        }
    }

    fn is_dry(&self) -> bool {
        matches!(self.phase, Phase::Running { source: Source::Dry, .. })
    }

    // --- what is answered ---

    fn handle_reply(&mut self, ports: &mut Ports, index: usize, line: reply::Line<'_>, now: u64) {
        let session = &mut self.sessions[index];
        session.heard_at = now;
        let Some(step) = session.expected.pop_front() else {
            return self.break_off(ports, index, "a reply to nothing", now);
        };
        let code = line.code;
        let is_good = code / 100 == 2;
        match step {
            Step::Greeting if code == 220 => self.send_hello(ports, index),
            Step::Hello if is_good => self.handle_hello(ports, index, now),
            Step::StartTls if code == 220 => self.begin_tls(ports, index, now),
            Step::Auth if code == 235 => self.enter(ports, index, now),
            Step::Greeting | Step::Hello | Step::StartTls | Step::Auth => {
                session.expected.push_front(step);
                self.break_off(ports, index, &format!("{code}"), now);
            }
            Step::Mail => self.handle_mail(ports, index, code, now),
            Step::Recipient => self.handle_recipient(ports, index, code, now),
            Step::Data => self.handle_go_ahead(ports, index, code, now),
            Step::End => self.handle_end(ports, index, line, now),
            Step::Void => self.start_over(ports, index),
            Step::Reset => self.free(ports, index, now),
            Step::Quit => {
                if let Some(port) = session.port {
                    ports.reset(port);
                }
                session.forget_connection();
                self.free(ports, index, now);
            }
        }
    }

    fn handle_hello(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let is_secure = self.sessions[index].is_secure;
        match (&self.load.security, &self.load.login) {
            (Security::StartTls(_), _) if !is_secure => {
                self.send(ports, index, b"STARTTLS\r\n", Step::StartTls)
            }
            (_, Some(login)) => {
                let number = self.share.index + index as u64 * self.share.of;
                let response = format!("\0{}\0{}", login.user.name(number), login.password);
                let command = format!("AUTH PLAIN {}\r\n", base64(response.as_bytes()));
                self.send(ports, index, command.as_bytes(), Step::Auth);
            }
            _ => self.enter(ports, index, now),
        }
    }

    fn begin_tls(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let (Security::StartTls(tls) | Security::Tls(tls)) = &self.load.security else { return };
        let session = &mut self.sessions[index];
        session.is_secure = true;
        let Some(port) = session.port else { return };
        if let Err(error) = ports.begin_client_tls(port, tls) {
            self.break_off(ports, index, &error.to_string(), now);
        }
    }

    fn handle_mail(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let is_stepwise = self.envelope_of(index) == Envelope::Stepwise;
        match (code, is_stepwise) {
            (250, true) => self.send_recipient(ports, index),
            (250, false) => {}
            (code, true) => self.refuse(ports, index, &format!("MAIL {code}"), now),
            (code, false) => self.sessions[index].refusal = Some(format!("MAIL {code}")),
        }
    }

    fn send_recipient(&mut self, ports: &mut Ports, index: usize) {
        let mut out = Vec::new();
        self.write_recipient(index, self.sessions[index].asked, &mut out);
        self.sessions[index].asked += 1;
        self.send(ports, index, &out, Step::Recipient);
    }

    fn handle_recipient(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let session = &mut self.sessions[index];
        match code / 100 {
            2 => session.accepted += 1,
            _ if session.refusal.is_some() => {}
            _ => self.tally.note(&format!("RCPT {code}")),
        }
        if self.envelope_of(index) != Envelope::Stepwise {
            return;
        }
        let session = &self.sessions[index];
        if session.asked < self.load.recipients_each {
            return self.send_recipient(ports, index);
        }
        match (session.accepted, self.load.transfer) {
            (0, _) => self.refuse(ports, index, "no recipient was accepted", now),
            (_, Transfer::Data) => self.send(ports, index, b"DATA\r\n", Step::Data),
            (_, Transfer::Bdat) => self.send_chunk(ports, index, &mut Vec::new()),
        }
    }

    fn handle_go_ahead(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let session = &mut self.sessions[index];
        let refusal = session.refusal.take();
        match (code, refusal) {
            (354, None) if session.accepted > 0 => {
                session.stage = Stage::Open;
                if session.message.is_some() {
                    self.send_data(ports, index);
                }
            }
            // RFC 2920, section 3.1: an empty message ends it, and is not one.
            (354, refusal) => {
                let what = refusal.unwrap_or_else(|| "no recipient was accepted".to_owned());
                self.fail(index, &what, now);
                self.send(ports, index, b".\r\n", Step::Void);
            }
            (code, refusal) => {
                let what = refusal.unwrap_or_else(|| format!("DATA {code}"));
                self.refuse(ports, index, &what, now);
            }
        }
    }

    fn handle_end(&mut self, ports: &mut Ports, index: usize, line: reply::Line<'_>, now: u64) {
        let session = &mut self.sessions[index];
        let is_more_to_come = session.expected.front() == Some(&Step::End);
        let accepted = session.accepted;
        let Some(message) = &mut session.message else {
            return self.break_off(ports, index, "a reply to nothing", now);
        };
        let copies = *message.copies.get_or_insert(accepted);
        let is_good = line.code / 100 == 2;
        if matches!(self.load.greeting, Greeting::Lhlo(_)) {
            message.acknowledged += u64::from(is_good);
            if is_more_to_come {
                return;
            }
        } else if is_good {
            message.acknowledged = copies;
        }
        let message = *message;
        match message.acknowledged {
            0 => {
                let what = session.refusal.take().unwrap_or_else(|| format!("end of data {}", line.code));
                self.fail(index, &what, now);
            }
            _ => self.succeed(index, message, line, now),
        }
        match self.load.connections {
            Connections::Kept => self.free(ports, index, now),
            Connections::New => self.send(ports, index, b"QUIT\r\n", Step::Quit),
        }
    }

    fn succeed(&mut self, index: usize, message: Message, line: reply::Line<'_>, now: u64) {
        self.sessions[index].message = None;
        self.succeeded_at = now;
        let service = now - message.started;
        let sent = message.sent.unwrap_or(message.started);
        self.tally.service.record(service);
        self.tally.ack.record(now.saturating_sub(sent));
        self.tally.counts.bytes += message.bytes;
        let latency = match self.load.pace {
            Pace::Closed => service,
            Pace::Open(..) => {
                self.tally.corrected.record(now - message.intended);
                now - message.intended
            }
        };
        let since_begin = self.since_begin(now);
        self.tally.succeed(latency, since_begin);
        let Some(ledger) = &mut self.ledger else { return };
        let begin = now - since_begin;
        let promise = Line::Acknowledged(Acknowledged {
            run: self.load.run.clone(),
            session: self.share.index + index as u64 * self.share.of,
            number: message.number,
            copies: message.acknowledged,
            intended_ns: message.intended.saturating_sub(begin),
            sent_ns: sent.saturating_sub(begin),
            acknowledged_ns: since_begin,
            code: line.code,
            queue_id: reply::queue_id(line.text),
        });
        if let Err(error) = ledger.append(&promise) {
            self.fatal = Some(error);
        }
    }

    fn fail(&mut self, index: usize, what: &str, now: u64) {
        let since_begin = self.since_begin(now);
        match self.sessions[index].message.take() {
            Some(_) => self.tally.fail(what, since_begin),
            // An envelope that was sent ahead has no message yet.
            None => self.tally.note(what),
        }
        if self.load.on_error == OnError::Stop {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }

    /// The server wants no data; the next message begins anew.
    fn refuse(&mut self, ports: &mut Ports, index: usize, what: &str, now: u64) {
        self.fail(index, what, now);
        self.start_over(ports, index);
    }

    fn start_over(&mut self, ports: &mut Ports, index: usize) {
        self.sessions[index].stage = Stage::None;
        match self.load.connections {
            Connections::Kept => self.send(ports, index, b"RSET\r\n", Step::Reset),
            Connections::New => self.send(ports, index, b"QUIT\r\n", Step::Quit),
        }
    }
}

impl Work for Generator {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        let due = self.take_due(now);
        self.pump(ports, now);
        due
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
        if token != LOOK {
            return self.dial(ports, token as usize);
        }
        ports.wake_at(now + LOOK_NS, LOOK);
        self.tally.turn(self.since_begin(now));
        let patience = self.load.reply_max.as_nanos() as u64;
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let waits = session.message.is_some() && session.port.is_some();
            if waits && now.saturating_sub(session.heard_at) > patience {
                self.break_off(ports, index, "no answer", now);
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_over = match &self.phase {
            Phase::Connecting => self.ready == self.sessions.len(),
            Phase::Running { source: Source::Dry, .. } => {
                self.backlog.is_empty() && self.idle.len() == self.sessions.len()
            }
            Phase::Running { .. } => false,
        };
        is_over || self.fatal.is_some()
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let block = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let number = u32::from_be_bytes([0, block[0], block[1], block[2]]);
        for place in 0..4 {
            match place <= chunk.len() {
                true => text.push(LETTERS[(number >> (18 - 6 * place)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_padded() {
        assert_eq!(super::base64(b"\0user\0pw"), "AHVzZXIAcHc=");
        assert_eq!(super::base64(b"abc"), "YWJj");
        assert_eq!(super::base64(b"a"), "YQ==");
    }
}
