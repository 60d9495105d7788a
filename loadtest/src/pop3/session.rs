//! One POP3 session: logs in, asks what there is, fetches and deletes its share, leaves.
//!
//! A value without a socket or a clock. Up to `window` commands are under way at once; the order of replies tells which
//! is which. What the server says is held against itself: as many lines in UIDL and LIST as STAT counted, no id twice,
//! RETR as long as LIST said, and the same bytes for an id in every session. A message that carries a checksum of its
//! own is held against that.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::reply::{Reader, Reply, Shape, unstuffed};
use crate::ledger::{Received, Verdict, received_of};
use crate::plan::random::Random;

/// What all sessions do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Commands under way at once; one is the sequential way.
    pub window: usize,
    /// Messages fetched in a session at most.
    pub messages: usize,
    /// Of the messages that are there, so many are fetched.
    pub download_percent: u32,
    /// Of those that were fetched.
    pub delete_percent: u32,
    pub listing: Listing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// UIDL and LIST, as clients that keep mail on the server.
    Full,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    User,
    Pass,
    Stat,
    Uidl,
    List,
    Retr,
    Dele,
    Quit,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Answered with +OK.
    Done {
        verb: Verb,
        sent: u64,
        bytes: usize,
    },
    /// Answered with -ERR and this text.
    Refused {
        verb: Verb,
        text: String,
    },
    /// A message of a load test was fetched.
    Received(Received),
    /// An answer that no right server gives.
    Wrong(String),
    Over,
}

/// Checksums by the ids that UIDL gave, of one maildrop.
pub type Seen = Rc<RefCell<HashMap<String, u32>>>;

pub struct Session {
    plan: Rc<Plan>,
    user: String,
    pass: String,
    random: Random,
    seen: Seen,
    reader: Reader,
    is_greeted: bool,
    to_send: VecDeque<Command>,
    under_way: VecDeque<(Command, u64)>,
    count: usize,
    ids: HashMap<usize, String>,
    sizes: HashMap<usize, usize>,
    output: Vec<u8>,
    events: VecDeque<Event>,
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Command {
    verb: Verb,
    /// Which message, from one.
    number: usize,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Pass => "PASS",
            Self::Stat => "STAT",
            Self::Uidl => "UIDL",
            Self::List => "LIST",
            Self::Retr => "RETR",
            Self::Dele => "DELE",
            Self::Quit => "QUIT",
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Uidl | Self::List | Self::Retr => Shape::Text,
            _ => Shape::Line,
        }
    }
}

impl Session {
    pub fn new(plan: Rc<Plan>, user: String, pass: String, random: Random, seen: Seen) -> Self {
        Self {
            plan,
            user,
            pass,
            random,
            seen,
            reader: Reader::default(),
            is_greeted: false,
            to_send: VecDeque::new(),
            under_way: VecDeque::new(),
            count: 0,
            ids: HashMap::new(),
            sizes: HashMap::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            is_over: false,
        }
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The oldest command under way was sent at this time.
    pub fn waiting_since(&self) -> Option<u64> {
        self.under_way.front().map(|(_, sent)| *sent)
    }

    pub fn handle_bytes(&mut self, bytes: &[u8], now: u64) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.extend(bytes);
        while !self.is_over {
            let command = self.under_way.front().map(|(command, _)| *command);
            let shape = command.map_or(Shape::Line, |command| command.verb.shape());
            match (reader.poll(shape), command) {
                (Ok(None), _) => break,
                (Ok(Some(reply)), None) => self.handle_greeting(&reply),
                (Ok(Some(reply)), Some(command)) => self.handle_reply(command, &reply),
                (Err(_), _) => {
                    self.wrong("a reply that is neither +OK nor -ERR".to_owned());
                    self.end();
                }
            }
            self.send(now);
        }
        self.reader = reader;
    }

    fn handle_greeting(&mut self, reply: &Reply<'_>) {
        if std::mem::replace(&mut self.is_greeted, true) || !reply.is_ok {
            self.wrong(format!("a reply that nobody asked for: {}", String::from_utf8_lossy(reply.line)));
            return self.end();
        }
        self.queue(Verb::User, 0);
    }

    fn handle_reply(&mut self, command: Command, reply: &Reply<'_>) {
        let Some((_, sent)) = self.under_way.pop_front() else {
            return;
        };
        let verb = command.verb;
        if !reply.is_ok {
            self.events
                .push_back(Event::Refused { verb, text: String::from_utf8_lossy(reply.line).into_owned() });
            if matches!(verb, Verb::User | Verb::Pass | Verb::Stat | Verb::Quit) {
                self.end();
            }
            return;
        }
        self.events.push_back(Event::Done { verb, sent, bytes: reply.text.len() });
        match verb {
            Verb::User => self.queue(Verb::Pass, 0),
            Verb::Pass => self.queue(Verb::Stat, 0),
            Verb::Stat => self.handle_stat(reply.line),
            Verb::Uidl => self.handle_uidl(reply.text),
            Verb::List => self.handle_list(reply.text),
            Verb::Retr => self.handle_message(command.number, reply.text),
            Verb::Dele => {}
            Verb::Quit => self.end(),
        }
    }

    /// Now it is known what there is to do.
    fn handle_stat(&mut self, line: &[u8]) {
        let count = String::from_utf8_lossy(line).split(' ').next().and_then(|word| word.parse().ok());
        let Some(count) = count else {
            self.wrong("STAT without a number".to_owned());
            return self.end();
        };
        self.count = count;
        if self.plan.listing == Listing::Full {
            self.queue(Verb::Uidl, 0);
            self.queue(Verb::List, 0);
        }
        let percent = self.plan.download_percent;
        let mut fetched: Vec<usize> = (1..=count).filter(|_| self.random.percent(percent)).collect();
        fetched.truncate(self.plan.messages);
        for number in &fetched {
            self.queue(Verb::Retr, *number);
        }
        for number in fetched {
            if self.random.percent(self.plan.delete_percent) {
                self.queue(Verb::Dele, number);
            }
        }
        self.queue(Verb::Quit, 0);
    }

    fn handle_uidl(&mut self, text: &[u8]) {
        let rows = rows(text);
        let mut unique = HashSet::new();
        let is_right = rows.len() == self.count
            && rows.iter().enumerate().all(|(place, (number, id))| *number == place + 1 && unique.insert(id));
        if !is_right {
            self.wrong(format!("UIDL: {} lines for {} messages, or an id twice", rows.len(), self.count));
        }
        self.ids = rows.iter().map(|(number, id)| (*number, id.clone())).collect();
    }

    fn handle_list(&mut self, text: &[u8]) {
        let rows = rows(text);
        if rows.len() != self.count {
            self.wrong(format!("LIST: {} lines for {} messages", rows.len(), self.count));
        }
        let size = |(number, size): &(usize, String)| Some((*number, size.parse().ok()?));
        self.sizes = rows.iter().filter_map(size).collect();
    }

    fn handle_message(&mut self, number: usize, text: &[u8]) {
        let message = unstuffed(text);
        if let Some(size) = self.sizes.get(&number).filter(|size| **size != message.len()) {
            self.wrong(format!("message {number} has {} bytes, LIST said {size}", message.len()));
        }
        if let Some(received) = received_of(&message, &self.user, 0) {
            if received.verdict == Verdict::Corrupted {
                self.wrong(format!("message {number}: its body does not have its checksum"));
            }
            self.events.push_back(Event::Received(received));
        }
        let crc = crc32fast::hash(&message);
        if let Some(id) = self.ids.get(&number) {
            let before = *self.seen.borrow_mut().entry(id.clone()).or_insert(crc);
            if before != crc {
                self.wrong(format!("message {number}: another body than {id} had before"));
            }
        }
    }

    fn queue(&mut self, verb: Verb, number: usize) {
        self.to_send.push_back(Command { verb, number });
    }

    /// As many as may be under way.
    fn send(&mut self, now: u64) {
        while self.under_way.len() < self.plan.window
            && let Some(command) = self.to_send.pop_front()
        {
            let text = match command.verb {
                Verb::User => format!("USER {}\r\n", self.user),
                Verb::Pass => format!("PASS {}\r\n", self.pass),
                Verb::Retr | Verb::Dele => format!("{} {}\r\n", command.verb.name(), command.number),
                verb => format!("{}\r\n", verb.name()),
            };
            self.output.extend_from_slice(text.as_bytes());
            self.under_way.push_back((command, now));
        }
    }

    fn wrong(&mut self, what: String) {
        self.events.push_back(Event::Wrong(what));
    }

    fn end(&mut self) {
        self.is_over = true;
        self.under_way.clear();
        self.to_send.clear();
        self.events.push_back(Event::Over);
    }
}

/// `number word` lines.
fn rows(text: &[u8]) -> Vec<(usize, String)> {
    let text = String::from_utf8_lossy(text);
    let row = |line: &str| {
        let (number, word) = line.split_once(' ')?;
        Some((number.parse().ok()?, word.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server with two messages says to each command.
    fn answer(line: &str, uidl: &str, body: &str) -> String {
        match line.split(' ').next() {
            Some("STAT") => "+OK 2 20\r\n".to_owned(),
            Some("UIDL") => format!("+OK\r\n{uidl}.\r\n"),
            Some("LIST") => "+OK\r\n1 10\r\n2 10\r\n.\r\n".to_owned(),
            Some("RETR") => format!("+OK\r\n{body}.\r\n"),
            _ => "+OK\r\n".to_owned(),
        }
    }

    fn run(seen: &Seen, window: usize, uidl: &str, body: &str) -> (Vec<Verb>, Vec<String>) {
        let plan =
            Plan { window, messages: 9, download_percent: 100, delete_percent: 100, listing: Listing::Full };
        let mut session =
            Session::new(Rc::new(plan), "u".into(), "p".into(), Random::new(1, 1), Rc::clone(seen));
        session.handle_bytes(b"+OK hello\r\n", 0);
        let (mut done, mut wrong) = (Vec::new(), Vec::new());
        loop {
            let sent = String::from_utf8(std::mem::take(session.output())).expect("commands are text");
            assert!(sent.lines().count() <= window);
            let replies: String = sent.lines().map(|line| answer(line, uidl, body)).collect();
            session.handle_bytes(replies.as_bytes(), 1);
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Done { verb, .. } => done.push(verb),
                    Event::Wrong(what) => wrong.push(what),
                    Event::Received(_) => {}
                    Event::Refused { verb, text } => panic!("{verb:?}: {text}"),
                    Event::Over => return (done, wrong),
                }
            }
        }
    }

    const UIDL: &str = "1 a\r\n2 b\r\n";
    const BODY: &str = "12345678\r\n";

    #[test]
    fn a_session_does_its_share() {
        for window in [1, 2, 100] {
            let seen = Seen::default();
            let (done, wrong) = run(&seen, window, UIDL, BODY);
            assert_eq!(wrong, Vec::<String>::new());
            use Verb::{Dele, List, Pass, Quit, Retr, Stat, Uidl, User};
            assert_eq!(done, [User, Pass, Stat, Uidl, List, Retr, Retr, Dele, Dele, Quit]);
        }
    }

    #[test]
    fn a_wrong_server_is_caught() {
        let seen = Seen::default();
        assert_eq!(run(&seen, 1, UIDL, BODY).1, Vec::<String>::new());
        for (uidl, body, told) in [
            (UIDL, "12345679\r\n", "another body"),
            (UIDL, "1234567\r\n", "LIST said 10"),
            ("1 a\r\n2 a\r\n", BODY, "an id twice"),
            ("1 a\r\n", BODY, "1 lines for 2"),
            (UIDL, "X-Loadtest: r 1 2 00000000\r\n\r\nx\r\n", "its checksum"),
        ] {
            let (_, wrong) = run(&seen, 4, uidl, body);
            assert!(wrong.iter().any(|what| what.contains(told)), "{told}: {wrong:?}");
        }
    }
}
