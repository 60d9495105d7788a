//! One client: chooses commands as imaptest does, and judges every answer.
//!
//! A value without a socket or a clock. [`Session::begin`] starts the next command, [`Session::handle_bytes`] takes
//! what came, [`Session::output`] is what is to be sent, and [`Session::poll_event`] tells what was done and what was
//! wrong. One command is under way at a time, so that each has a latency of its own; what a session must know before
//! it can go on (UIDs of messages that came) is a command too, and measured like the others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::answer::{Answer, Reader, Row, Status};
use super::choice::{Choice, Stage};
use super::options::{Options, State, Tracking};
use super::random::Random;
use super::truth::{Contents, Flags, Rule, Truth, Wrong};
use super::view::View;

pub struct Session {
    pub(super) options: Rc<Options>,
    pub(super) user: String,
    /// Its number among the sessions of the mailbox.
    pub(super) number: usize,
    pub(super) truth: Rc<RefCell<Truth>>,
    choice: Choice,
    pub(super) random: Random,
    reader: Reader,
    pub(super) output: Vec<u8>,
    pub(super) phase: Phase,
    pub(super) running: Option<Running>,
    pub(super) commands: u64,
    pub(super) has_literal_plus: bool,
    events: VecDeque<Event>,
}

/// Where the connection stands; in a mailbox, what is known of it.
pub(super) enum Phase {
    Greeting,
    Stranger,
    LoggedIn,
    Selected(View),
    Over,
}

/// A command under way.
pub(super) struct Running {
    pub(super) tag: String,
    pub(super) state: State,
    /// What it asked of which messages, by number; empty for other commands.
    pub(super) numbers: Vec<u32>,
    pub(super) is_answered: Vec<bool>,
    pub(super) work: Work,
}

/// What its answer means.
pub(super) enum Work {
    Plain,
    /// Rows must have all of these.
    Fetch(Wanted),
    /// UIDs and flags of everything that is there.
    Sync,
    /// What each message's flags become.
    Store(Vec<(u32, Option<Flags>)>),
    Append(Contents),
    /// The text to be sent when the server asks for it, and what it is.
    Literal(Vec<u8>, Contents),
    Select {
        uid_max: u32,
    },
    Expunge {
        began: u64,
    },
    Idle,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub uid: bool,
    pub flags: bool,
    pub size: bool,
    pub envelope: bool,
    pub sections: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A command was answered with OK, or with NO and this text.
    Done {
        state: State,
        refusal: Option<String>,
    },
    Wrong(Wrong),
    /// The session has ended as it wanted to; another may begin.
    Over,
}

/// Of one command.
pub(super) const NUMBERS_MAX: usize = 100;

impl Session {
    /// A client that will log in as `user` and is the `number`th on its mailbox.
    pub fn new(
        options: Rc<Options>,
        user: String,
        number: usize,
        truth: Rc<RefCell<Truth>>,
        random: Random,
    ) -> Self {
        Self {
            choice: Choice::new(options.order),
            options,
            user,
            number,
            truth,
            random,
            reader: Reader::default(),
            output: Vec::new(),
            phase: Phase::Greeting,
            running: None,
            commands: 0,
            has_literal_plus: false,
            events: VecDeque::new(),
        }
    }

    /// Whether [`Self::begin`] may be called.
    pub fn is_ready(&self) -> bool {
        self.running.is_none() && !matches!(self.phase, Phase::Greeting | Phase::Over)
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Starts the next command.
    pub fn begin(&mut self) {
        let stage = match &self.phase {
            Phase::Selected(view)
                if view.first_unknown().is_some() && self.options.tracking == Tracking::Full =>
            {
                let first = view.first_unknown().unwrap_or(1);
                return self.sync(first);
            }
            Phase::Selected(_) => Stage::Selected,
            Phase::LoggedIn => Stage::LoggedIn,
            Phase::Stranger | Phase::Greeting | Phase::Over => Stage::Stranger,
        };
        // A state that has nothing to do here (an empty mailbox) leaves its turn to the next.
        for _ in 0..State::COUNT * 8 {
            let state = self.choice.next(stage, &self.options, &mut self.random);
            if self.start(state) {
                return;
            }
        }
        self.start(State::Noop);
    }

    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.extend(bytes);
        loop {
            let judged = match reader.poll() {
                Ok(None) => break,
                Ok(Some(answer)) => match Answer::parse(answer) {
                    Ok(answer) => self.handle_answer(answer),
                    Err(malformed) => Err(Wrong::new(
                        Rule::Unreadable,
                        format!(
                            "{malformed} in {}",
                            String::from_utf8_lossy(&answer[..answer.len().min(200)])
                        ),
                    )),
                },
                Err(malformed) => {
                    self.events.push_back(Event::Wrong(Wrong::new(Rule::Unreadable, malformed.to_string())));
                    self.phase = Phase::Over;
                    break;
                }
            };
            if let Err(wrong) = judged
                && self.options.tracking == Tracking::Full
            {
                self.events.push_back(Event::Wrong(wrong));
            }
        }
        self.reader = reader;
    }

    fn handle_answer(&mut self, answer: Answer<'_>) -> Result<(), Wrong> {
        match answer {
            Answer::Tagged { tag, status, code, text } => self.handle_tagged(tag, status, code, text),
            Answer::Status { status: Status::Bye, text, .. } => self.handle_bye(text),
            Answer::Status { status: Status::Ok | Status::Preauth, code, .. } => self.handle_code(code),
            Answer::Status { status: Status::Bad, text, .. } => {
                Err(Wrong::new(Rule::Refused, String::from_utf8_lossy(text)))
            }
            Answer::Continue => self.handle_continue(),
            Answer::Capability(words) => {
                self.learn_abilities(words);
                Ok(())
            }
            Answer::Exists(count) => match &mut self.phase {
                Phase::Selected(view) => view.exists(count),
                _ => Ok(()),
            },
            Answer::Expunge(number) => self.handle_expunge(number),
            Answer::Fetch(number, row) => self.handle_row(number, &row),
            Answer::Search(numbers) => self.handle_search(&numbers),
            Answer::Status { .. } | Answer::Recent | Answer::MailboxStatus(_) | Answer::Other(_) => Ok(()),
        }
    }

    fn handle_code(&mut self, code: Option<&[u8]>) -> Result<(), Wrong> {
        if matches!(self.phase, Phase::Greeting) {
            self.phase = Phase::Stranger;
        }
        let Some(code) = code else {
            return Ok(());
        };
        let (word, rest) = split_word(code);
        let number = || std::str::from_utf8(rest).ok()?.trim().parse::<u32>().ok();
        match (word, number()) {
            (b"CAPABILITY", _) => {
                self.learn_abilities(rest);
                Ok(())
            }
            (b"UIDVALIDITY", Some(validity)) => self.truth.borrow_mut().check_validity(validity),
            (b"UIDNEXT", Some(next)) => self.check_uid_next(next),
            _ => Ok(()),
        }
    }

    fn check_uid_next(&self, next: u32) -> Result<(), Wrong> {
        match &self.running {
            Some(Running { work: Work::Select { uid_max }, .. }) if next <= *uid_max => {
                Err(Wrong::new(Rule::UidReused, format!("UIDNEXT {next}, but there is UID {uid_max}")))
            }
            _ => Ok(()),
        }
    }

    fn learn_abilities(&mut self, words: &[u8]) {
        let is_plus = |word: &[u8]| word.eq_ignore_ascii_case(b"LITERAL+");
        self.has_literal_plus |= words.split(|byte| *byte == b' ').any(is_plus);
    }

    fn handle_bye(&mut self, text: &[u8]) -> Result<(), Wrong> {
        let is_wanted = self.running.as_ref().is_some_and(|running| running.state == State::Logout);
        if is_wanted {
            return Ok(());
        }
        self.abandon();
        Err(Wrong::new(Rule::Goodbye, String::from_utf8_lossy(text)))
    }

    fn handle_continue(&mut self) -> Result<(), Wrong> {
        match &mut self.running {
            Some(Running { work: Work::Idle, .. }) => self.output.extend_from_slice(b"DONE\r\n"),
            Some(running) if matches!(running.work, Work::Literal(..)) => {
                if let Work::Literal(text, contents) = std::mem::replace(&mut running.work, Work::Plain) {
                    self.output.extend_from_slice(&text);
                    self.output.extend_from_slice(b"\r\n");
                    running.work = Work::Append(contents);
                }
            }
            // A server that asks for a literal that was sent unasked is let be.
            _ => {}
        }
        Ok(())
    }

    fn handle_expunge(&mut self, number: u32) -> Result<(), Wrong> {
        let Phase::Selected(view) = &mut self.phase else {
            return Ok(());
        };
        view.expunge(number, &mut self.truth.borrow_mut())?;
        // RFC 3501 7.4.1
        let is_in_use = self.running.as_ref().is_some_and(|running| !running.numbers.is_empty());
        match is_in_use {
            true => Err(Wrong::new(Rule::ExpungeForbidden, format!("EXPUNGE of {number}"))),
            false => Ok(()),
        }
    }

    fn handle_row(&mut self, number: u32, row: &Row<'_>) -> Result<(), Wrong> {
        let Phase::Selected(view) = &mut self.phase else {
            return Ok(());
        };
        let mut truth = self.truth.borrow_mut();
        view.row(number, row, self.number, &mut truth)?;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let Some(place) = running.numbers.iter().position(|asked| *asked == number) else {
            return Ok(());
        };
        match &mut running.work {
            Work::Fetch(wanted) if wanted.is_in(row) => running.is_answered[place] = true,
            Work::Sync if row.uid.is_some() && row.flags.is_some() => running.is_answered[place] = true,
            Work::Fetch(_) if row.is_push() => {}
            Work::Fetch(wanted) => {
                return Err(Wrong::new(
                    Rule::ItemMissing,
                    format!("message {number}: {wanted:?} asked, got {row:?}"),
                ));
            }
            Work::Store(changes) => {
                let target =
                    view.uid(number).and_then(|uid| changes.iter().find(|(changed, _)| *changed == uid));
                if let (Some((uid, Some(target))), Some(list)) = (target, row.flags)
                    && Flags::parse(list) != *target
                {
                    let detail = format!("STORE left UID {uid} with {}, not {target}", Flags::parse(list));
                    return Err(Wrong::new(Rule::FlagsWrong, detail));
                }
                running.is_answered[place] = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_search(&self, numbers: &[u32]) -> Result<(), Wrong> {
        let Phase::Selected(view) = &self.phase else {
            return Ok(());
        };
        match numbers.iter().find(|number| **number == 0 || **number as usize > view.len()) {
            Some(number) => Err(Wrong::new(Rule::NumberOutOfRange, format!("SEARCH found {number}"))),
            None => Ok(()),
        }
    }

    fn handle_tagged(
        &mut self,
        tag: &[u8],
        status: Status,
        code: Option<&[u8]>,
        text: &[u8],
    ) -> Result<(), Wrong> {
        let Some(running) = self.running.take_if(|running| running.tag.as_bytes() == tag) else {
            return Err(Wrong::new(Rule::UnknownTag, String::from_utf8_lossy(tag)));
        };
        let shown = || String::from_utf8_lossy(text).into_owned();
        let judged = match status {
            Status::Ok => {
                if let Some((b"CAPABILITY", words)) = code.map(split_word) {
                    self.learn_abilities(words);
                }
                self.succeeded(&running, code)
            }
            Status::Bad => {
                self.failed(&running);
                Err(Wrong::new(Rule::Refused, format!("{}: {}", running.state.name(), shown())))
            }
            _ => {
                self.failed(&running);
                Ok(())
            }
        };
        let refusal = (status != Status::Ok).then(shown);
        self.events.push_back(Event::Done { state: running.state, refusal });
        if running.state == State::Logout {
            self.phase = Phase::Over;
            self.events.push_back(Event::Over);
        }
        judged
    }

    /// What OK means for what is known.
    fn succeeded(&mut self, running: &Running, code: Option<&[u8]>) -> Result<(), Wrong> {
        let mut truth = self.truth.borrow_mut();
        match (&running.work, running.state, &mut self.phase) {
            (_, State::Login, phase) => {
                *phase = Phase::LoggedIn;
                Ok(())
            }
            (Work::Store(changes), _, _) => {
                for (uid, flags) in changes {
                    truth.changed(*uid, *flags);
                }
                Ok(())
            }
            (Work::Append(contents), _, _) => match code.and_then(append_uid) {
                Some(uid) => truth.appended(uid, *contents),
                None => Ok(()),
            },
            (Work::Sync, _, Phase::Selected(view)) => {
                running.check_answered(view, &truth)?;
                match view.first_unknown() {
                    None if running.numbers.first() == Some(&1) => view.check_complete(&truth),
                    _ => Ok(()),
                }
            }
            (Work::Fetch(_), _, Phase::Selected(view)) => running.check_answered(view, &truth),
            (Work::Expunge { began }, _, Phase::Selected(view)) => match truth.expunge_ended(*began) {
                true => view.check_expunged(&truth, self.number),
                false => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// After NO or BAD.
    fn failed(&mut self, running: &Running) {
        match &running.work {
            Work::Store(changes) => {
                for (uid, _) in changes {
                    self.truth.borrow_mut().changed(*uid, None);
                }
            }
            Work::Select { .. } => self.phase = Phase::LoggedIn,
            Work::Expunge { began } => drop(self.truth.borrow_mut().expunge_ended(*began)),
            _ => {}
        }
    }

    /// The connection is gone with a command under way, whose outcome nobody will tell.
    pub fn abandon(&mut self) {
        if let Some(running) = self.running.take() {
            self.failed(&running);
        }
        self.phase = Phase::Over;
    }
}

impl Running {
    /// Every message that was asked about has been told about, unless it may be gone.
    fn check_answered(&self, view: &View, truth: &Truth) -> Result<(), Wrong> {
        let unanswered = self.numbers.iter().zip(&self.is_answered).filter(|(_, is_answered)| !**is_answered);
        for (number, _) in unanswered {
            let may_be_gone = view.uid(*number).is_some_and(|uid| truth.may_be_gone(uid));
            if !may_be_gone {
                let detail = format!("message {number} (UID {:?}) of {}", view.uid(*number), view.len());
                return Err(Wrong::new(Rule::RowMissing, detail));
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn is_in(self, row: &Row<'_>) -> bool {
        (!self.uid || row.uid.is_some())
            && (!self.flags || row.flags.is_some())
            && (!self.size || row.size.is_some())
            && (!self.envelope || row.has_envelope)
            && row.bodies.len() >= self.sections
    }
}

impl Row<'_> {
    /// Flags that another session changed come on their own, in the middle of anything.
    fn is_push(&self) -> bool {
        self.flags.is_some() && self.size.is_none() && !self.has_envelope && self.bodies.is_empty()
    }
}

/// The UID in `APPENDUID validity uid`.
fn append_uid(code: &[u8]) -> Option<u32> {
    let (word, rest) = split_word(code);
    let uid = rest.rsplit(|byte| *byte == b' ').next()?;
    (word == b"APPENDUID").then(|| std::str::from_utf8(uid).ok()?.parse().ok()).flatten()
}

fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
