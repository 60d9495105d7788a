//! Sessions that wait: what each costs in memory, and how soon each hears of a message.
//!
//! The first hundred sessions pay for what all of them share, and are not counted. The others are opened, the server is
//! left alone for a while, and what it has grown by is theirs. Then messages are appended on a schedule through a
//! connection apart; every session on that mailbox must say EXISTS, and its latency counts from when the last byte
//! of the message was sent. EXISTS for what nobody sent, and EXISTS that does not come, are wrong answers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;

use super::answer::{Answer, Reader, Status};
use super::fill::message;
use super::truth::{Rule, Wrong};
use crate::engine::tls::ClientTls;
use crate::engine::{PortId, Ports, Work};
use crate::record::Spectrum;

pub struct Plan {
    pub address: SocketAddr,
    pub tls: Option<ClientTls>,
    /// Name and password of each mailbox's owner; sessions are spread over them.
    pub users: Vec<(String, String)>,
    pub sessions: usize,
    /// Messages a second, for so long; zero is none.
    pub notify_rate: f64,
    pub notify_ns: u64,
    pub settle_ns: u64,
    /// A session that has heard nothing for so long will not hear.
    pub push_ns_max: u64,
}

/// Bytes of the server's processes and of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub server: u64,
    pub kernel: u64,
}

#[derive(Default)]
pub struct Found {
    pub before: Memory,
    pub after: Memory,
    /// Sessions that lie between the two.
    pub counted: usize,
    /// From the last byte sent to EXISTS.
    pub push: Spectrum,
    /// From the APPEND's OK to EXISTS; zero where EXISTS came first.
    pub push_after_ok: Spectrum,
    /// From the last byte sent to the last session's EXISTS.
    pub fan_out: Spectrum,
    pub append: Spectrum,
    pub open: Spectrum,
    pub lag: Spectrum,
    pub notified: u64,
    /// How long news were sent.
    pub notify_ns: u64,
    pub wrongs: BTreeMap<Rule, (u64, Wrong)>,
}

pub struct Run<'a> {
    plan: Plan,
    measure: &'a dyn Fn() -> io::Result<Memory>,
    waiters: Vec<Waiter>,
    by_port: HashMap<PortId, usize>,
    stage: Stage,
    /// How many sessions may have been dialled by now.
    wanted: usize,
    dialled: usize,
    idle: usize,
    /// How many were there, and when that last changed.
    progress: (usize, u64),
    notifier: Notifier,
    /// What is due waits for a connection.
    is_behind: bool,
    /// What was sent to each mailbox: by how many messages it holds then.
    news: HashMap<(usize, u32), News>,
    error: Option<io::Error>,
    pub found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Warming,
    /// The first sessions are there; until this time nothing is done.
    Settling(u64),
    Opening,
    SettlingAgain(u64),
    Notifying {
        began: u64,
        end: u64,
    },
    /// What was sent must be told by now.
    Draining(u64),
    Over,
}

struct Waiter {
    user: usize,
    reader: Reader,
    step: Step,
    exists: u32,
    dialled: u64,
    is_shaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Login,
    Select,
    Idle,
    Waiting,
    /// The notifier's.
    Ready,
    Literal,
    Append,
}

struct Notifier {
    ports: Vec<Option<PortId>>,
    sent: u64,
    next: usize,
}

struct News {
    sent: u64,
    answered: Option<u64>,
    /// Sessions that have not been told.
    missing: usize,
}

/// Pay for what all of them share.
const UNCOUNTED: usize = 100;

/// Handshakes and logins under way at once.
const OPENING_MAX: usize = 64;

const MESSAGE_BYTES: usize = 1024;

/// A server that has opened no session for so long has stopped.
const SILENCE_NS_MAX: u64 = 60_000_000_000;

impl<'a> Run<'a> {
    pub fn new(plan: Plan, measure: &'a dyn Fn() -> io::Result<Memory>) -> Self {
        let wanted = UNCOUNTED.min(plan.sessions);
        let notifier = Notifier { ports: vec![None; plan.users.len()], sent: 0, next: 0 };
        Self {
            plan,
            measure,
            waiters: Vec::new(),
            by_port: HashMap::new(),
            stage: Stage::Warming,
            wanted,
            dialled: 0,
            idle: 0,
            progress: (0, 0),
            notifier,
            is_behind: false,
            news: HashMap::new(),
            error: None,
            found: Found::default(),
        }
    }

    /// What ended the run early, if anything did.
    pub fn into_found(self) -> io::Result<Found> {
        self.error.map_or(Ok(self.found), Err)
    }

    fn dial(&mut self, ports: &mut Ports, user: usize, now: u64) -> io::Result<PortId> {
        let port = ports.dial(self.plan.address, None)?;
        self.by_port.insert(port, self.waiters.len());
        let reader = Reader::default();
        let step = Step::Greeting;
        self.waiters.push(Waiter { user, reader, step, exists: 0, dialled: now, is_shaken: false });
        Ok(port)
    }

    fn dial_more(&mut self, ports: &mut Ports, now: u64) {
        while self.dialled < self.wanted && self.dialled - self.idle < OPENING_MAX && self.error.is_none() {
            let user = self.dialled % self.plan.users.len();
            self.dialled += 1;
            if let Err(error) = self.dial(ports, user, now) {
                self.error = Some(error);
            }
        }
    }

    /// Goes from one stage to the next when it is time; says when to look again.
    fn step_stage(&mut self, ports: &mut Ports, now: u64) -> io::Result<u64> {
        let soon = now + 100_000_000;
        let is_opening = matches!(self.stage, Stage::Warming | Stage::Opening);
        if self.idle != self.progress.0 || self.progress.1 == 0 || !is_opening {
            self.progress = (self.idle, now);
        } else if now - self.progress.1 > SILENCE_NS_MAX {
            let (idle, wanted) = (self.idle, self.wanted);
            return Err(io::Error::other(format!(
                "{idle} of {wanted} sessions wait, and none came for a minute"
            )));
        }
        match self.stage {
            Stage::Warming if self.idle == self.wanted => {
                self.stage = Stage::Settling(now + self.plan.settle_ns);
            }
            Stage::Settling(until) if now >= until => {
                self.found.before = (self.measure)()?;
                self.found.counted = self.plan.sessions - self.wanted;
                self.wanted = self.plan.sessions;
                self.stage = Stage::Opening;
            }
            Stage::Opening if self.idle == self.wanted => {
                self.stage = Stage::SettlingAgain(now + self.plan.settle_ns);
            }
            Stage::SettlingAgain(until) if now >= until => {
                self.found.after = (self.measure)()?;
                self.begin_notifying(ports, now)?;
            }
            Stage::Notifying { began, end } if now >= end => {
                self.found.notify_ns = now - began;
                self.stage = Stage::Draining(now + self.plan.push_ns_max);
            }
            Stage::Notifying { began, .. } => return Ok(self.notify_due(ports, began, now).min(soon)),
            Stage::Draining(until) if now >= until || self.news.values().all(|news| news.missing == 0) => {
                self.find_missing();
                self.stage = Stage::Over;
            }
            _ => {}
        }
        Ok(soon)
    }

    fn begin_notifying(&mut self, ports: &mut Ports, now: u64) -> io::Result<()> {
        if self.plan.notify_rate <= 0.0 {
            self.stage = Stage::Over;
            return Ok(());
        }
        for user in 0..self.plan.users.len().min(self.plan.sessions) {
            self.notifier.ports[user] = Some(self.dial(ports, user, now)?);
        }
        // Logging in takes its time, and is not news.
        let began = now + 2_000_000_000;
        self.stage = Stage::Notifying { began, end: began + self.plan.notify_ns };
        Ok(())
    }

    /// Appends what is due, each to the next mailbox whose connection is free; gives when the next is due.
    fn notify_due(&mut self, ports: &mut Ports, began: u64, now: u64) -> u64 {
        loop {
            let due = began + (self.notifier.sent as f64 * 1e9 / self.plan.notify_rate) as u64;
            if due > now {
                return due;
            }
            let Some((port, waiter)) = self.free_notifier() else {
                // That the server is slow to take the last one is no lag of this side.
                self.is_behind = true;
                return now + 1_000_000;
            };
            if !std::mem::take(&mut self.is_behind) {
                self.found.lag.record(now - due);
            }
            self.notifier.sent += 1;
            self.waiters[waiter].step = Step::Literal;
            self.waiters[waiter].dialled = now;
            ports.send(port, &[format!("n APPEND INBOX {{{}}}\r\n", self.message().len()).as_bytes()]);
        }
    }

    fn message(&self) -> Vec<u8> {
        message(usize::try_from(self.notifier.sent).unwrap_or(0) * 1000 + 1, MESSAGE_BYTES)
    }

    fn free_notifier(&mut self) -> Option<(PortId, usize)> {
        for _ in 0..self.notifier.ports.len() {
            let place = self.notifier.next;
            self.notifier.next = (place + 1) % self.notifier.ports.len();
            if let Some(port) = self.notifier.ports[place]
                && let Some(&waiter) = self.by_port.get(&port)
                && self.waiters[waiter].step == Step::Ready
            {
                return Some((port, waiter));
            }
        }
        None
    }

    /// The whole message is on its way: from here on, EXISTS may come.
    fn message_sent(&mut self, user: usize, now: u64) {
        let is_told = |waiter: &&Waiter| waiter.user == user && waiter.step == Step::Waiting;
        let missing = self.waiters.iter().filter(is_told).count();
        let told = self.waiters.iter().find(is_told).map_or(0, |waiter| waiter.exists);
        let sent = self.news.keys().filter(|(mailbox, _)| *mailbox == user).map(|(_, count)| *count).max();
        let count = sent.unwrap_or(told) + 1;
        self.news.insert((user, count), News { sent: now, answered: None, missing });
        self.found.notified += 1;
    }

    fn handle_exists(&mut self, number: usize, count: u32, now: u64) {
        let waiter = &mut self.waiters[number];
        let before = std::mem::replace(&mut waiter.exists, count);
        let user = waiter.user;
        if waiter.step != Step::Waiting {
            return;
        }
        for told in before + 1..=count {
            let Some(news) = self.news.get_mut(&(user, told)) else {
                self.wrong(Wrong::new(Rule::NumberOutOfRange, format!("EXISTS {told}, which nobody sent")));
                continue;
            };
            news.missing = news.missing.saturating_sub(1);
            self.found.push.record(now - news.sent);
            self.found.push_after_ok.record(news.answered.map_or(1, |answered| now - answered));
            if news.missing == 0 {
                self.found.fan_out.record(now - news.sent);
            }
        }
    }

    fn find_missing(&mut self) {
        let late: Vec<_> = self.news.iter().filter(|(_, news)| news.missing > 0).collect();
        let wrongs: Vec<_> = late
            .iter()
            .map(|((_, count), news)| {
                Wrong::new(Rule::Stalled, format!("{} sessions never heard of message {count}", news.missing))
            })
            .collect();
        wrongs.into_iter().for_each(|wrong| self.wrong(wrong));
    }

    fn wrong(&mut self, wrong: Wrong) {
        let kept = self.found.wrongs.entry(wrong.rule).or_insert_with(|| (0, wrong));
        kept.0 += 1;
    }

    fn handle_answer(&mut self, ports: &mut Ports, port: PortId, answer: &Told, now: u64) {
        let Some(&number) = self.by_port.get(&port) else {
            return;
        };
        let is_notifier = self.notifier.ports.contains(&Some(port));
        let (user, step) = (self.waiters[number].user, self.waiters[number].step);
        let next = match (step, answer) {
            (_, Told::Exists(count)) => return self.handle_exists(number, *count, now),
            (_, Told::Refused(text)) => {
                self.error = Some(io::Error::other(format!("{step:?}: {text}")));
                return;
            }
            (Step::Greeting, Told::Other) => {
                let (name, pass) = &self.plan.users[user];
                ports.send(port, &[format!("l LOGIN \"{name}\" \"{pass}\"\r\n").as_bytes()]);
                Step::Login
            }
            (Step::Login, Told::Done) if is_notifier => Step::Ready,
            (Step::Login, Told::Done) => {
                ports.send(port, &[b"s SELECT INBOX\r\n"]);
                Step::Select
            }
            (Step::Select, Told::Done) => {
                ports.send(port, &[b"i IDLE\r\n"]);
                Step::Idle
            }
            (Step::Idle, Told::Continue) => {
                self.idle += 1;
                self.found.open.record(now - self.waiters[number].dialled);
                Step::Waiting
            }
            (Step::Literal, Told::Continue) => {
                let text = self.message();
                self.message_sent(user, now);
                ports.send(port, &[&text, b"\r\n"]);
                Step::Append
            }
            (Step::Append, Told::Done) => {
                self.found.append.record(now - self.waiters[number].dialled);
                let newest = self.news.iter_mut().filter(|((mailbox, _), _)| *mailbox == user);
                if let Some((_, news)) = newest.max_by_key(|((_, count), _)| *count) {
                    news.answered = Some(now);
                }
                Step::Ready
            }
            _ => return,
        };
        self.waiters[number].step = next;
    }
}

/// What this needs of an answer.
enum Told {
    Exists(u32),
    Done,
    Continue,
    Refused(String),
    Other,
}

impl Told {
    fn of(answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Exists(count) => Self::Exists(*count),
            Answer::Continue => Self::Continue,
            Answer::Tagged { status: Status::Ok, .. } => Self::Done,
            Answer::Tagged { text, .. } | Answer::Status { status: Status::Bye, text, .. } => {
                Self::Refused(String::from_utf8_lossy(text).into_owned())
            }
            _ => Self::Other,
        }
    }
}

impl Work for Run<'_> {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        self.dial_more(ports, now);
        match self.step_stage(ports, now) {
            Ok(again) => Some(again),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, _now: u64) {
        let Some(&number) = self.by_port.get(&port) else {
            return;
        };
        let waiter = &mut self.waiters[number];
        if let Some(tls) = self.plan.tls.as_ref().filter(|_| !waiter.is_shaken) {
            waiter.is_shaken = true;
            if let Err(error) = ports.begin_client_tls(port, tls) {
                self.error = Some(error);
            }
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        let Some(&number) = self.by_port.get(&port) else {
            return bytes.len();
        };
        let mut reader = std::mem::take(&mut self.waiters[number].reader);
        reader.extend(bytes);
        loop {
            let told = match reader.poll() {
                Ok(None) => break,
                Ok(Some(answer)) => Answer::parse(answer).map(|answer| Told::of(&answer)),
                Err(malformed) => Err(malformed),
            };
            match told {
                Ok(told) => self.handle_answer(ports, port, &told, now),
                Err(malformed) => {
                    self.error = Some(io::Error::other(malformed.to_string()));
                    break;
                }
            }
        }
        // One that waits holds no buffer, or ten thousand of them would hide what the server holds.
        if reader.is_within_answer() {
            self.waiters[number].reader = reader;
        }
        bytes.len()
    }

    fn handle_closed(&mut self, _: &mut Ports, _: PortId, error: Option<io::Error>, _: u64) {
        let early = || io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a session that waits");
        self.error = Some(error.unwrap_or_else(early));
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Over || self.error.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::engine::{Clock, Waiting, run};

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// One session hears nothing.
        OneIsDeaf,
        /// EXISTS counts one too many.
        CountsTooFar,
    }

    /// Speaks as much IMAP as waiting needs; tells the waiting sessions when something was appended.
    fn serve(listener: &TcpListener, fault: Fault) {
        let waiting: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        for stream in listener.incoming().map_while(Result::ok) {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || speak(stream, &waiting, fault));
        }
    }

    fn speak(mut stream: TcpStream, waiting: &Mutex<Vec<TcpStream>>, fault: Fault) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        stream.write_all(b"* OK hello\r\n")?;
        let mut count = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            match words[1] {
                "SELECT" => stream.write_all(b"* 0 EXISTS\r\ns OK\r\n")?,
                "IDLE" => {
                    stream.write_all(b"+ idling\r\n")?;
                    waiting.lock().expect("nobody panics").push(stream.try_clone()?);
                }
                "APPEND" => {
                    stream.write_all(b"+ go on\r\n")?;
                    let length: usize = words[3].trim_matches(['{', '}']).parse().expect("a length");
                    reader.read_exact(&mut vec![0; length + 2])?;
                    count += 1;
                    let told = if fault == Fault::CountsTooFar { count + 1 } else { count };
                    let deaf = usize::from(fault == Fault::OneIsDeaf);
                    for stream in waiting.lock().expect("nobody panics").iter_mut().skip(deaf) {
                        stream.write_all(format!("* {told} EXISTS\r\n").as_bytes())?;
                    }
                    stream.write_all(b"n OK\r\n")?;
                }
                _ => stream.write_all(format!("{} OK\r\n", words[0]).as_bytes())?,
            }
        }
    }

    fn found(fault: Fault) -> Found {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has room");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || serve(&listener, fault));
        let plan = Plan {
            address,
            tls: None,
            users: vec![("u".to_owned(), "p".to_owned())],
            sessions: 5,
            notify_rate: 50.0,
            notify_ns: 200_000_000,
            settle_ns: 1,
            // Where all news come, none of it is waited for.
            push_ns_max: if fault == Fault::None { 20_000_000_000 } else { 500_000_000 },
        };
        let measure = || Ok(Memory::default());
        let mut ports = Ports::new(Clock::start()).expect("there is epoll");
        let mut idle = Run::new(plan, &measure);
        run(&mut idle, &mut ports, Waiting::default()).expect("the loop runs");
        idle.into_found().expect("nothing broke")
    }

    #[test]
    fn every_session_hears_of_every_message() {
        let found = found(Fault::None);
        assert!(found.wrongs.is_empty(), "{:?}", found.wrongs);
        assert!(found.notified >= 1);
        assert_eq!(found.push.count(), found.notified * 5);
        assert_eq!(found.fan_out.count(), found.notified);
    }

    #[test]
    fn news_that_do_not_come_are_missed() {
        let found = found(Fault::OneIsDeaf);
        assert_eq!(found.wrongs.get(&Rule::Stalled).map(|(count, _)| *count), Some(found.notified));
    }

    #[test]
    fn news_of_nothing_are_noticed() {
        assert!(found(Fault::CountsTooFar).wrongs.contains_key(&Rule::NumberOutOfRange));
    }
}
