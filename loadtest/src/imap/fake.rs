//! Tests: a small IMAP server in memory that can be told to be wrong in one way, and sessions that must notice.

use std::cell::RefCell;
use std::rc::Rc;

use super::options::Options;
use super::random::Random;
use super::session::{Event, Session};
use super::truth::{Rule, Truth, Wrong};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// One byte of every body.
    BodyByte,
    /// The last flag is left out.
    FlagLeftOut,
    /// EXISTS counts a message that FETCH does not give.
    ExistsTooEarly,
    /// Two messages have one UID.
    UidTwice,
    /// APPENDUID tells the same UID again.
    AppendUidAgain,
    /// EXPUNGE takes one message that is not deleted.
    ExpungeTooMuch,
    /// EXPUNGE leaves one that is.
    ExpungeTooLittle,
    /// EXPUNGE is told of in the middle of a FETCH.
    ExpungeInFetch,
    SizeOfOne,
    ExistsShrinks,
    /// SELECT does not have the first message any more.
    SelectLoses,
    ValidityDrifts,
    StoreForgets,
    ItemLeftOut,
    Garbage,
    Refuses,
    LeavesWithBye,
}

struct Message {
    uid: u32,
    flags: Vec<String>,
    text: Vec<u8>,
}

struct Server {
    fault: Fault,
    messages: Vec<Message>,
    uid_next: u32,
    selects: u32,
    commands: u32,
    input: Vec<u8>,
    is_selected: bool,
}

impl Server {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            messages: Vec::new(),
            uid_next: 1,
            selects: 0,
            commands: 0,
            input: Vec::new(),
            is_selected: false,
        }
    }

    /// Takes what a client sent, gives what it gets.
    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(end) = memchr::memmem::find(&self.input, b"\r\n") {
            let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
            let mut used = end + 2;
            let mut literal = Vec::new();
            if let Some(length) =
                line.strip_suffix("+}").and_then(|line| line.rsplit_once('{')?.1.parse::<usize>().ok())
            {
                if self.input.len() < used + length + 2 {
                    return out;
                }
                literal = self.input[used..used + length].to_vec();
                used += length + 2;
            }
            self.input.drain(..used);
            self.command(&line, literal, &mut out);
        }
        out
    }

    fn command(&mut self, line: &str, literal: Vec<u8>, out: &mut Vec<u8>) {
        self.commands += 1;
        let say = |out: &mut Vec<u8>, text: String| out.extend_from_slice(format!("{text}\r\n").as_bytes());
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if self.commands > 20 {
            match self.fault {
                Fault::Refuses => return say(out, format!("{tag} BAD what?")),
                Fault::LeavesWithBye => return say(out, "* BYE tired".to_owned()),
                Fault::Garbage => say(out, "* 1 FETCH (UID".to_owned()),
                Fault::ExistsShrinks if self.is_selected && self.messages.len() > 1 => {
                    say(out, format!("* {} EXISTS", self.messages.len() - 1));
                }
                _ => {}
            }
        }
        let mut code = "";
        let append_code;
        match verb {
            "SELECT" => self.select(out),
            "APPEND" => {
                let uid = self.uid_next;
                append_code =
                    format!("[APPENDUID 7 {}] ", if self.fault == Fault::AppendUidAgain { 1 } else { uid });
                code = &append_code;
                self.messages.push(Message { uid, flags: Vec::new(), text: literal });
                self.uid_next += 1;
                if self.is_selected {
                    let early = usize::from(self.fault == Fault::ExistsTooEarly);
                    say(out, format!("* {} EXISTS", self.messages.len() + early));
                }
            }
            "FETCH" => self.fetch(rest, out),
            "STORE" => self.store(rest, out),
            "EXPUNGE" => self.expunge(out),
            "LOGOUT" => {
                self.is_selected = false;
                say(out, "* BYE".to_owned());
            }
            _ => {}
        }
        say(out, format!("{tag} OK {code}done"));
    }

    fn select(&mut self, out: &mut Vec<u8>) {
        self.is_selected = true;
        self.selects += 1;
        if self.fault == Fault::SelectLoses && self.selects > 2 && !self.messages.is_empty() {
            self.messages.remove(0);
        }
        let validity = if self.fault == Fault::ValidityDrifts { 6 + self.selects } else { 7 };
        let text = format!(
            "* {} EXISTS\r\n* OK [UIDVALIDITY {validity}] x\r\n* OK [UIDNEXT {}] x\r\n",
            self.messages.len(),
            self.uid_next
        );
        out.extend_from_slice(text.as_bytes());
    }

    fn fetch(&mut self, rest: &str, out: &mut Vec<u8>) {
        let (set, items) = rest.split_once(' ').expect("a set and items");
        let numbers = numbers(set);
        if self.fault == Fault::ExpungeInFetch && self.commands > 20 {
            out.extend_from_slice(b"* 1 EXPUNGE\r\n");
            self.messages.remove(0);
        }
        for number in numbers {
            let Some(message) = self.messages.get(number - 1) else {
                continue;
            };
            let mut row = format!("* {number} FETCH (").into_bytes();
            let is_last = number > 1 && number == self.messages.len();
            let uid = match self.fault {
                Fault::UidTwice if is_last => self.messages[number - 2].uid,
                _ => message.uid,
            };
            row.extend_from_slice(format!("UID {uid}").as_bytes());
            if items.contains("FLAGS") && self.fault != Fault::ItemLeftOut {
                let shown = message.flags.len().saturating_sub(usize::from(self.fault == Fault::FlagLeftOut));
                row.extend_from_slice(format!(" FLAGS ({})", message.flags[..shown].join(" ")).as_bytes());
            }
            if items.contains("RFC822.SIZE") {
                let bytes = message.text.len() + usize::from(self.fault == Fault::SizeOfOne);
                row.extend_from_slice(format!(" RFC822.SIZE {bytes}").as_bytes());
            }
            if items.contains("ENVELOPE") {
                row.extend_from_slice(b" ENVELOPE (NIL \"a\" NIL)");
            }
            if items.contains("BODY.PEEK[") {
                let is_whole = items.contains("BODY.PEEK[]");
                let mut text = if is_whole { message.text.clone() } else { b"From: a\r\n\r\n".to_vec() };
                if is_whole && self.fault == Fault::BodyByte {
                    text[500] ^= 1;
                }
                let section = if is_whole { "" } else { "HEADER.FIELDS (From)" };
                row.extend_from_slice(format!(" BODY[{section}] {{{}}}\r\n", text.len()).as_bytes());
                row.extend_from_slice(&text);
            }
            row.extend_from_slice(b")\r\n");
            out.extend_from_slice(&row);
        }
    }

    fn store(&mut self, rest: &str, out: &mut Vec<u8>) {
        let (set, change) = rest.split_once(' ').expect("a set and a change");
        let flags: Vec<&str> =
            change.split_once('(').map_or("", |(_, list)| list).trim_end_matches(')').split(' ').collect();
        for number in numbers(set) {
            let message = &mut self.messages[number - 1];
            for flag in &flags {
                message.flags.retain(|held| held != flag);
                if change.starts_with('+') && self.fault != Fault::StoreForgets {
                    message.flags.push((*flag).to_owned());
                }
            }
            out.extend_from_slice(
                format!("* {number} FETCH (FLAGS ({}))\r\n", message.flags.join(" ")).as_bytes(),
            );
        }
    }

    fn expunge(&mut self, out: &mut Vec<u8>) {
        let is_deleted = |message: &Message| message.flags.iter().any(|flag| flag == "\\Deleted");
        let mut spare = usize::from(self.fault == Fault::ExpungeTooLittle);
        let mut extra = usize::from(self.fault == Fault::ExpungeTooMuch);
        let mut place = 0;
        while place < self.messages.len() {
            let goes = match is_deleted(&self.messages[place]) {
                true => std::mem::take(&mut spare) == 0,
                false => std::mem::take(&mut extra) > 0,
            };
            if goes {
                self.messages.remove(place);
                out.extend_from_slice(format!("* {} EXPUNGE\r\n", place + 1).as_bytes());
            } else {
                place += 1;
            }
        }
    }
}

fn numbers(set: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().expect("a number");
        number(first)..=number(last)
    };
    set.split(',').flat_map(range).collect()
}

/// Clients one after the other, until `commands` are done or something is wrong.
fn run(fault: Fault, commands: usize) -> (usize, Vec<Wrong>) {
    let words = "msgs=12 random_msg_size=1200 list=0 status=0 fet2=100,30 store=100,50 logout=20";
    let options = Rc::new(Options::parse(words.split(' ')).expect("the words are right"));
    let truth = Rc::new(RefCell::new(Truth::new(1)));
    let mut server = Server::new(fault);
    let (mut done, mut wrongs) = (0, Vec::new());
    for stream in 0.. {
        let random = Random::new(5, stream);
        let mut session = Session::new(Rc::clone(&options), "u".to_owned(), 0, Rc::clone(&truth), random);
        session.handle_bytes(b"* OK [CAPABILITY IMAP4rev1 LITERAL+ UIDPLUS] hello\r\n");
        while session.is_ready() && done < commands && wrongs.is_empty() {
            session.begin();
            let sent = std::mem::take(session.output());
            session.handle_bytes(&server.answer(&sent));
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Done { .. } => done += 1,
                    Event::Wrong(wrong) => wrongs.push(wrong),
                    Event::Over => {}
                }
            }
        }
        if done >= commands || !wrongs.is_empty() {
            break;
        }
    }
    (done, wrongs)
}

#[test]
fn a_right_server_is_never_accused() {
    let (done, wrongs) = run(Fault::None, 3000);
    assert_eq!((done, wrongs), (3000, Vec::new()));
}

#[test]
fn a_wrong_server_is_caught() {
    for (fault, rule) in [
        (Fault::BodyByte, Rule::BodyWrong),
        (Fault::FlagLeftOut, Rule::FlagsWrong),
        (Fault::StoreForgets, Rule::FlagsWrong),
        (Fault::ExistsTooEarly, Rule::RowMissing),
        (Fault::UidTwice, Rule::UidOrder),
        (Fault::AppendUidAgain, Rule::UidReused),
        (Fault::ExpungeTooMuch, Rule::ExpungedUndeleted),
        (Fault::ExpungeTooLittle, Rule::DeletedStayed),
        (Fault::ExpungeInFetch, Rule::ExpungeForbidden),
        (Fault::SizeOfOne, Rule::SizeWrong),
        (Fault::ExistsShrinks, Rule::ExistsShrank),
        (Fault::SelectLoses, Rule::MessageLost),
        (Fault::ValidityDrifts, Rule::ValidityChanged),
        (Fault::ItemLeftOut, Rule::RowMissing),
        (Fault::Garbage, Rule::Unreadable),
        (Fault::Refuses, Rule::Refused),
        (Fault::LeavesWithBye, Rule::Goodbye),
    ] {
        let (_, wrongs) = run(fault, 3000);
        let found: Vec<_> = wrongs.iter().map(|wrong| wrong.rule).collect();
        assert!(found.contains(&rule), "{fault:?}: {wrongs:?}");
    }
}
