//! One IMAP connection of the mix: a mail program that looks at the INBOX, and its user who does things with mail.
//!
//! The program asks for the fields that it lists with, waits in IDLE or asks again from time to time, and lists what
//! comes. The user opens a message after a while, then perhaps answers, moves or deletes it, opens an older one, or
//! looks into a folder and comes back. One command is under way at a time; what is to be done next waits in a queue.

use std::collections::VecDeque;
use std::rc::Rc;

use memchr::memmem;

use crate::imap::answer::{Answer, Reader, Row, Status};
use crate::imap::profile::{Client, Habits, User};
use crate::plan::random::Random;

/// What stands in the Message-ID of a letter, behind its number.
pub const DOMAIN: &str = ".mix@load.test>";

/// Where what is moved goes, from 0 on.
pub fn folder(number: usize) -> String {
    format!("Filed-{number}")
}

/// An errand that opens a message of the INBOX again.
const OLDER: &str = "FETCH older";

/// A program that does not wait in IDLE asks so often.
const POLL_NS: u64 = 60_000_000_000;

/// Of a mailbox that is opened, so many are listed.
const LISTED_MAX: u32 = 50;

#[derive(Debug)]
pub enum Event {
    /// A command was answered with OK.
    Done {
        name: &'static str,
        took: u64,
    },
    Refused {
        name: &'static str,
        text: String,
    },
    /// The program has listed the letter of this number.
    Arrived(u64),
    /// Its user answers a letter.
    Reply,
    Wrong(String),
    Over,
}

/// Who looks, with what.
#[derive(Clone)]
pub struct Seat {
    pub user: Rc<User>,
    pub client: Rc<Client>,
    pub name: String,
    pub pass: String,
    /// Times of the profile are divided by this.
    pub load: f64,
    pub habits: Habits,
}

pub struct Talk {
    seat: Seat,
    random: Random,
    reader: Reader,
    waits_in_idle: bool,
    to_do: VecDeque<Errand>,
    running: Option<(Errand, u64)>,
    is_idling: bool,
    exists: u32,
    listed: u32,
    /// It looks into a folder that holds so many, not at the INBOX.
    folder: Option<u32>,
    /// When the user does something with a message, by UID.
    plans: Vec<(u64, u32, Step)>,
    next_poll: u64,
    leaves_at: Option<u64>,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug)]
struct Errand {
    name: &'static str,
    command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Act,
}

impl Talk {
    pub fn new(seat: Seat, mut random: Random, now: u64) -> Self {
        let waits_in_idle = random.percent(seat.client.idle_percent);
        let leaves_at = seat.user.session_length.map(|length| now + scaled(length, seat.load));
        Self {
            seat,
            random,
            reader: Reader::default(),
            waits_in_idle,
            to_do: VecDeque::new(),
            running: None,
            is_idling: false,
            exists: 0,
            listed: 0,
            folder: None,
            plans: Vec::new(),
            next_poll: 0,
            leaves_at,
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When it wants to be woken.
    pub fn next_time(&self) -> Option<u64> {
        let poll = (!self.waits_in_idle && self.next_poll > 0).then_some(self.next_poll);
        self.plans.iter().map(|(at, _, _)| *at).chain(poll).chain(self.leaves_at).min()
    }

    /// Since when the server owes an answer to a command; to wait in IDLE is none.
    pub fn waiting_since(&self) -> Option<u64> {
        self.running.as_ref().filter(|_| !self.is_idling).map(|(_, since)| *since)
    }

    /// It is told of mail at once.
    pub fn is_watching(&self) -> bool {
        self.is_idling && self.folder.is_none()
    }

    pub fn handle_time(&mut self, now: u64) {
        let due: Vec<_> = self.plans.extract_if(.., |(at, _, _)| *at <= now).collect();
        for (_, uid, step) in due {
            self.carry_out(uid, step, now);
        }
        if !self.waits_in_idle && self.next_poll > 0 && now >= self.next_poll {
            self.next_poll = now + (POLL_NS as f64 / self.seat.load) as u64;
            self.add("NOOP", "NOOP".to_owned());
        }
        if self.leaves_at.take_if(|at| *at <= now).is_some() {
            self.add("LOGOUT", "LOGOUT".to_owned());
        }
        self.go_on(now);
    }

    pub fn handle_bytes(&mut self, bytes: &[u8], now: u64) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.extend(bytes);
        loop {
            match reader.poll() {
                Ok(None) => break,
                Ok(Some(answer)) => match Answer::parse(answer) {
                    Ok(answer) => self.handle_answer(&answer, now),
                    Err(malformed) => self.events.push_back(Event::Wrong(malformed.to_string())),
                },
                Err(malformed) => {
                    self.events.push_back(Event::Wrong(malformed.to_string()));
                    self.events.push_back(Event::Over);
                    break;
                }
            }
        }
        self.reader = reader;
        self.go_on(now);
    }

    fn handle_answer(&mut self, answer: &Answer<'_>, now: u64) {
        match answer {
            Answer::Status { status: Status::Ok, .. } if self.running.is_none() && self.next_poll == 0 => {
                // The greeting.
                self.next_poll = now + (POLL_NS as f64 / self.seat.load) as u64;
                let (name, pass) = (&self.seat.name, &self.seat.pass);
                self.add("LOGIN", format!("LOGIN \"{name}\" \"{pass}\""));
                self.add("SELECT", "SELECT INBOX".to_owned());
            }
            Answer::Exists(count) => *self.folder.as_mut().unwrap_or(&mut self.exists) = *count,
            Answer::Expunge(_) if self.folder.is_none() => {
                self.exists = self.exists.saturating_sub(1);
                self.listed = self.listed.saturating_sub(1);
            }
            Answer::Fetch(_, row) => self.handle_row(row, now),
            Answer::Continue => self.is_idling = true,
            Answer::Tagged { status, text, .. } => self.handle_done(*status, text, now),
            Answer::Status { status: Status::Bye, text, .. }
                if self.running.as_ref().is_none_or(|(errand, _)| errand.name != "LOGOUT") =>
            {
                self.events.push_back(Event::Wrong(format!("BYE {}", String::from_utf8_lossy(text))));
            }
            _ => {}
        }
    }

    /// A message that the program has not listed before: its user may want something of it.
    fn handle_row(&mut self, row: &Row<'_>, now: u64) {
        let is_listing = self.running.as_ref().is_some_and(|(errand, _)| errand.name == "FETCH list");
        let Some(uid) = row.uid.filter(|_| is_listing) else {
            return;
        };
        let number = row.bodies.iter().find_map(|(_, text)| letter_number(text));
        self.events.extend(number.map(Event::Arrived));
        if self.random.percent(self.seat.user.move_filter_percent) {
            return self.move_away(uid);
        }
        if number.is_some() && self.random.percent(self.seat.user.read_percent) {
            let delay = scaled(self.seat.user.action_delay, self.seat.load);
            self.plans.push((now + delay, uid, Step::Read));
        }
    }

    fn carry_out(&mut self, uid: u32, step: Step, now: u64) {
        let user = Rc::clone(&self.seat.user);
        if step == Step::Read {
            let items = &self.seat.client.fetch_manual;
            let items = if items.is_empty() { "BODY.PEEK[]" } else { items };
            self.add("FETCH message", format!("UID FETCH {uid} ({items})"));
            self.add("STORE", format!("UID STORE {uid} +FLAGS (\\Seen)"));
            let delay = scaled(user.action_repeat_delay, self.seat.load);
            return self.plans.push((now + delay, uid, Step::Act));
        }
        if self.random.percent(user.search_percent) {
            self.add("SEARCH", "SEARCH TEXT \"what was said\"".to_owned());
        }
        if self.random.percent(user.reply_percent) {
            self.events.push_back(Event::Reply);
            self.add("STORE", format!("UID STORE {uid} +FLAGS (\\Answered)"));
        }
        if self.random.percent(user.move_percent) {
            self.move_away(uid);
        } else if self.random.percent(user.delete_percent) {
            self.add("STORE", format!("UID STORE {uid} +FLAGS (\\Deleted)"));
            self.add("EXPUNGE", "EXPUNGE".to_owned());
        }
        if self.random.percent(user.reread_percent) {
            // Which one, that is decided when it is asked for: others may be gone by then.
            self.add(OLDER, String::new());
        }
        if self.random.percent(user.browse_percent) {
            let name = folder(self.draw_folder());
            self.add("SELECT folder", format!("SELECT {name}"));
            self.add("SELECT back", "SELECT INBOX".to_owned());
        }
    }

    fn draw_folder(&mut self) -> usize {
        let habits = self.seat.habits;
        habits.folder_zipf.draw(habits.folders, &mut self.random)
    }

    fn move_away(&mut self, uid: u32) {
        let name = folder(self.draw_folder());
        self.add("MOVE", format!("UID MOVE {uid} {name}"));
    }

    /// Opens one of so many messages again, the newest ones more often.
    fn reread(&mut self, name: &'static str, exists: u32) -> Errand {
        let rank = self.seat.habits.message_zipf.draw(exists as usize, &mut self.random) as u32;
        let items = &self.seat.client.fetch_manual;
        let items = if items.is_empty() { "BODY.PEEK[]" } else { items };
        Errand { name, command: format!("FETCH {} ({items})", exists - rank) }
    }

    /// The folder is open: its newest messages are listed, and one of them is read, before it goes back.
    fn browse(&mut self, exists: u32) {
        let first = exists.saturating_sub(LISTED_MAX - 1).max(1);
        let open = self.reread("FETCH folder message", exists);
        self.to_do.push_front(open);
        let items = self.listing();
        let command = format!("FETCH {first}:{exists} ({items})");
        self.to_do.push_front(Errand { name: "FETCH folder", command });
    }

    /// What the program asks of messages that it lists.
    fn listing(&self) -> &str {
        let items = self.seat.client.fetch_immediate.as_str();
        if items.is_empty() { "UID FLAGS RFC822.SIZE ENVELOPE" } else { items }
    }

    fn handle_done(&mut self, status: Status, text: &[u8], now: u64) {
        let Some((errand, sent)) = self.running.take() else {
            return self.events.push_back(Event::Wrong("a tagged answer that nobody waits for".to_owned()));
        };
        let text = || String::from_utf8_lossy(text).into_owned();
        match status {
            Status::Ok if errand.name == "IDLE" => self.is_idling = false,
            Status::Ok => self.events.push_back(Event::Done { name: errand.name, took: now - sent }),
            Status::Bad => self.events.push_back(Event::Wrong(format!("{} BAD {}", errand.command, text()))),
            _ => self.events.push_back(Event::Refused { name: errand.name, text: text() }),
        }
        match errand.name {
            "LOGIN" if status != Status::Ok => self.events.push_back(Event::Over),
            "LOGOUT" => self.events.push_back(Event::Over),
            "SELECT" => self.listed = self.exists.saturating_sub(LISTED_MAX),
            "SELECT folder" => match self.folder {
                Some(exists @ 1..) if status == Status::Ok => self.browse(exists),
                _ => {}
            },
            "SELECT back" => self.listed = self.listed.min(self.exists),
            _ => {}
        }
    }

    fn add(&mut self, name: &'static str, command: String) {
        self.to_do.push_back(Errand { name, command });
    }

    /// Begins what is next, if nothing is under way.
    fn go_on(&mut self, now: u64) {
        let has_news = self.exists > self.listed;
        if self.is_idling && (has_news || !self.to_do.is_empty()) {
            self.is_idling = false;
            self.output.extend_from_slice(b"DONE\r\n");
            return;
        }
        if self.running.is_some() {
            return;
        }
        let next = match self.to_do.pop_front() {
            Some(errand) if errand.name == OLDER => match self.exists {
                0 => return self.go_on(now),
                exists => self.reread(OLDER, exists),
            },
            Some(errand) => errand,
            None if has_news => {
                let (first, last) = (self.listed + 1, self.exists);
                self.listed = last;
                Errand { name: "FETCH list", command: format!("FETCH {first}:{last} ({})", self.listing()) }
            }
            None if self.waits_in_idle && self.next_poll > 0 => {
                Errand { name: "IDLE", command: "IDLE".to_owned() }
            }
            None => return,
        };
        match next.name {
            "SELECT folder" => self.folder = Some(0),
            "SELECT back" => self.folder = None,
            _ => {}
        }
        self.output.extend_from_slice(format!("m {}\r\n", next.command).as_bytes());
        self.running = Some((next, now));
    }
}

/// A time of the profile under so much load.
pub fn scaled(time: std::time::Duration, load: f64) -> u64 {
    (time.as_nanos() as f64 / load) as u64
}

/// The number in `<number.mix@load.test>`.
fn letter_number(text: &[u8]) -> Option<u64> {
    let end = memmem::find(text, DOMAIN.as_bytes())?;
    let start = text[..end].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |place| place + 1);
    std::str::from_utf8(&text[start..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Zipf;

    fn talk(user: User) -> Talk {
        let habits = Habits { folders: 1, folder_zipf: Zipf(1.0), message_zipf: Zipf(1.0) };
        let client = Client { idle_percent: 100, ..Client::default() };
        let seat = Seat {
            user: Rc::new(user),
            client: Rc::new(client),
            name: "u".into(),
            pass: "p".into(),
            load: 1.0,
            habits,
        };
        Talk::new(seat, Random::new(1, 1), 0)
    }

    #[test]
    fn mail_that_comes_is_listed_read_and_deleted() {
        let mut talk = talk(User { read_percent: 100, delete_percent: 100, ..User::default() });
        let mut say = |text: &str, now: u64| -> String {
            talk.handle_bytes(text.as_bytes(), now);
            if let Some(at) = talk.next_time().filter(|at| *at <= now) {
                talk.handle_time(at.max(now));
            }
            String::from_utf8(std::mem::take(talk.output())).expect("commands are text")
        };
        assert_eq!(say("* OK hi\r\n", 1), "m LOGIN \"u\" \"p\"\r\n");
        assert_eq!(say("m OK\r\n", 2), "m SELECT INBOX\r\n");
        assert_eq!(say("* 0 EXISTS\r\nm OK\r\n", 3), "m IDLE\r\n");
        assert_eq!(say("+ idling\r\n", 4), "");
        assert_eq!(say("* 1 EXISTS\r\n", 5), "DONE\r\n");
        assert_eq!(say("m OK\r\n", 6), "m FETCH 1:1 (UID FLAGS RFC822.SIZE ENVELOPE)\r\n");
        let row = "* 1 FETCH (UID 9 BODY[HEADER.FIELDS (MESSAGE-ID)] \"Message-ID: <12.mix@load.test>\")\r\n";
        assert_eq!(say(&format!("{row}m OK\r\n"), 7), "m IDLE\r\n");
        assert_eq!(say("+ idling\r\n", 8), "DONE\r\n");
        assert_eq!(say("m OK\r\n", 9), "m UID FETCH 9 (BODY.PEEK[])\r\n");
        assert_eq!(say("m OK\r\n", 10), "m UID STORE 9 +FLAGS (\\Seen)\r\n");
        let events: Vec<_> = std::iter::from_fn(|| talk.poll_event()).collect();
        assert!(events.iter().any(|event| matches!(event, Event::Arrived(12))), "{events:?}");
        assert!(!events.iter().any(|event| matches!(event, Event::Wrong(_))), "{events:?}");
    }

    #[test]
    fn a_folder_is_looked_into_and_left_again() {
        let user = User { read_percent: 100, reread_percent: 100, browse_percent: 100, ..User::default() };
        let mut talk = talk(user);
        let mut say = |text: &str, now: u64| -> String {
            talk.handle_bytes(text.as_bytes(), now);
            if let Some(at) = talk.next_time().filter(|at| *at <= now) {
                talk.handle_time(at.max(now));
            }
            String::from_utf8(std::mem::take(talk.output())).expect("commands are text")
        };
        for (now, text) in (1..).zip(["* OK hi\r\n", "m OK\r\n", "* 1 EXISTS\r\nm OK\r\n"]) {
            say(text, now);
        }
        let row = "* 1 FETCH (UID 9 BODY[HEADER.FIELDS (MESSAGE-ID)] \"Message-ID: <12.mix@load.test>\")\r\n";
        assert_eq!(say(&format!("{row}m OK\r\n"), 6), "m IDLE\r\n");
        assert_eq!(say("+ idling\r\n", 7), "DONE\r\n");
        assert_eq!(say("m OK\r\n", 8), "m UID FETCH 9 (BODY.PEEK[])\r\n");
        assert_eq!(say("m OK\r\n", 9), "m UID STORE 9 +FLAGS (\\Seen)\r\n");
        assert_eq!(say("m OK\r\n", 10), "m FETCH 1 (BODY.PEEK[])\r\n");
        assert_eq!(say("m OK\r\n", 11), "m SELECT Filed-0\r\n");
        let listed = say("* 2 EXISTS\r\nm OK\r\n", 12);
        assert_eq!(listed, "m FETCH 1:2 (UID FLAGS RFC822.SIZE ENVELOPE)\r\n");
        let opened = say("m OK\r\n", 13);
        assert!(["m FETCH 1 (BODY.PEEK[])\r\n", "m FETCH 2 (BODY.PEEK[])\r\n"].contains(&opened.as_str()));
        assert_eq!(say("m OK\r\n", 14), "m SELECT INBOX\r\n");
        // What came in meanwhile is listed, and nothing else.
        let news = say("* 2 EXISTS\r\nm OK\r\n", 15);
        assert_eq!(news, "m FETCH 2:2 (UID FLAGS RFC822.SIZE ENVELOPE)\r\n");
        assert!(std::iter::from_fn(|| talk.poll_event()).all(|event| !matches!(event, Event::Wrong(_))));
    }
}
