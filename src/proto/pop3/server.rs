//! The session: its phases, and what each command does in them.
//!
//! ```text
//!   Login ──AUTH──> Exchange            Transaction ──RETR──> Fetching
//!     │ ^              │                    ^  │ ^─────────────┘
//!     │ └── refused ───┤                    │  └──QUIT──> Committing ──> Over
//!     └──PASS──> Judging ──right──> Opening ┘
//! ```
//!
//! A phase holds what it needs and is consumed on leaving. While a phase waits for its driver, and while a
//! long response is on its way, no input is taken; so the replies come in the order of the commands, however
//! these were cut into reads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bytes::Output;
use crate::limits::pop3::{
    AUTH_LINE_BYTES_MAX, COMMAND_LINE_BYTES_MAX, COMMANDS_BEFORE_LOGIN_MAX, ERRORS_MAX, OUTPUT_BURST_BYTES,
};
use crate::mail::time::Instant;
use crate::proto::line::{Lines, Taken};
use crate::proto::pop3::command::{Command, Offer, Row, States, capabilities, is_foreign};
use crate::proto::pop3::event::{
    Asked, CommitVerdict, Event, LoginVerdict, MessageFailure, OpenFailure, Outcome,
};
use crate::proto::pop3::maildrop::{Index, Maildrop};
use crate::proto::pop3::reply::{self, Code, Language, Refusal, Text};
use crate::proto::pop3::sending::{Column, Listing, Message, Sending};
use crate::proto::sasl::{Bindings, Exchange, Mechanism};

use super::login::Login;

/// A POP3 session, seen from the server.
#[derive(Debug)]
pub struct Server {
    pub(super) channel: Channel,
    lines: Lines,
    pub(super) phase: Phase,
    events: VecDeque<Event>,
    pub(super) language: Language,
    /// UTF8 was given (RFC 6856 2.1).
    is_utf8: bool,
    /// Commands in a row that were not understood.
    errors: u32,
    /// Commands without a login.
    commands_before_login: u8,
    pub(super) refused_logins: u32,
    /// When the connection, or its TLS, was fresh.
    begun: Instant,
    deadline: Option<Instant>,
    /// The server goes down: the session ends when nothing is half done.
    is_stopping: bool,
}

/// What carries the session, and how patiently.
#[derive(Clone, Debug)]
pub struct Channel {
    pub tls: Tls,
    /// A password may cross it in the clear: both ends are on this machine, or the operator says so.
    pub takes_clear_passwords: bool,
    /// How long a client may take to log in.
    pub login_s: u64,
    /// How long it may be silent afterwards (RFC 1939 3).
    pub idle_s: u64,
}

#[derive(Clone, Debug)]
pub enum Tls {
    /// STLS is not offered.
    Unavailable,
    /// STLS is offered.
    Offered,
    /// From the first byte, or since STLS.
    Active(Bindings),
}

/// See the module.
#[derive(Debug)]
pub(super) enum Phase {
    Login(Login),
    Exchange(Exchange),
    /// A password or verifier is with the driver.
    Judging(Option<Exchange>),
    Opening,
    /// With the response that is on its way.
    Transaction(Maildrop, Option<Sending>),
    Fetching {
        maildrop: Maildrop,
        wanted: Wanted,
    },
    Committing,
    /// Between STLS and the end of the handshake.
    Handshake,
    Over,
}

/// What becomes of the message that is being fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Whole,
    Top { lines: u64 },
}

impl Server {
    /// A session that begins: the greeting goes to `out`.
    pub fn new(channel: Channel, out: &mut Output, now: Instant) -> Self {
        let mut server = Self {
            channel,
            lines: Lines::new(),
            phase: Phase::Login(Login::default()),
            events: VecDeque::new(),
            language: Language::default(),
            is_utf8: false,
            errors: 0,
            commands_before_login: 0,
            refused_logins: 0,
            begun: now,
            deadline: None,
            is_stopping: false,
        };
        // No timestamp in angle brackets: it would offer APOP, which needs passwords kept as they are.
        server.ok(out, Text::Ready);
        server.rest(now);
        server
    }

    /// Takes input up to an event, an unfinished response, or `OUTPUT_BURST_BYTES` in `out`: write, and call
    /// again with the rest.
    pub fn handle_bytes(&mut self, input: &[u8], out: &mut Output, now: Instant) -> usize {
        if matches!(self.phase, Phase::Handshake) && self.events.is_empty() && !input.is_empty() {
            // RFC 2595 4: what is sent in the clear behind STLS was never meant for us, or not by our client.
            self.close();
            return input.len();
        }
        let mut used = 0;
        while used < input.len() && self.takes_input() && out.len() < OUTPUT_BURST_BYTES {
            if matches!(self.phase, Phase::Over) {
                return input.len();
            }
            let (taken_bytes, taken) = self.lines.take(&input[used..], self.line_bytes_max());
            used += taken_bytes;
            if taken != Taken::More {
                self.handle_taken(taken, out, now);
            }
        }
        used
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How an event went. An outcome that nobody waits for changes nothing.
    pub fn handle_done(&mut self, outcome: Outcome, out: &mut Output, now: Instant) {
        match (std::mem::replace(&mut self.phase, Phase::Over), outcome) {
            (Phase::Judging(None), Outcome::Login(verdict)) => self.handle_verdict(verdict, out),
            // Whose proof has not come yet can be refused, and never accepted.
            (Phase::Judging(Some(_)), Outcome::Login(verdict)) if verdict != LoginVerdict::Accepted => {
                self.handle_verdict(verdict, out);
            }
            (Phase::Judging(Some(exchange)), Outcome::Verifier { verifier, nonce }) => {
                self.handle_verifier(exchange, verifier, nonce, out);
            }
            (Phase::Opening, Outcome::Opened(opened)) => self.handle_opened(opened, out),
            (Phase::Fetching { maildrop, wanted }, Outcome::Message(Ok(message))) => {
                let message = match wanted {
                    Wanted::Whole => Message::whole(message),
                    Wanted::Top { lines } => Message::top(message, lines),
                };
                match wanted {
                    Wanted::Whole => reply::octets_follow(out, message.octets(), self.language),
                    Wanted::Top { .. } => self.ok(out, Text::TopFollows),
                }
                self.send(maildrop, Sending::Message(message), out);
            }
            (Phase::Fetching { maildrop, .. }, Outcome::Message(Err(failure))) => {
                self.phase = Phase::Transaction(maildrop, None);
                self.err(out, failure.into());
            }
            (Phase::Committing, Outcome::Committed(verdict)) => self.handle_committed(verdict, out),
            (phase, _) => self.phase = phase,
        }
        self.rest(now);
    }

    /// The handshake is done. What was learnt in the clear is forgotten (RFC 2595 4).
    pub fn handle_tls(&mut self, bindings: Bindings, now: Instant) {
        self.channel.tls = Tls::Active(bindings);
        self.lines.clear();
        self.language = Language::default();
        self.phase = Phase::Login(Login::default());
        self.begun = now;
        self.rest(now);
    }

    /// The deadline has passed: the session ends without a word and without removing anything (RFC 1939 3).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.close();
        }
    }

    /// The server goes down: a command that has begun is answered, then the session ends without a word, for
    /// POP3 has none; nothing is removed that no QUIT has asked for.
    pub fn shut_down(&mut self, now: Instant) {
        self.is_stopping = true;
        self.rest(now);
    }

    /// Goes on with a long response, after what was in `out` is written.
    pub fn poll_more(&mut self, out: &mut Output, now: Instant) {
        if let Phase::Transaction(maildrop, sending) = &mut self.phase {
            let is_complete = sending.as_mut().is_none_or(|sending| sending.poll(maildrop, out));
            if is_complete {
                *sending = None;
            }
        }
        self.rest(now);
    }

    /// A response is not complete: [`Self::poll_more`] has more of it.
    pub fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Transaction(_, Some(_)))
    }

    /// When to call [`Self::handle_timeout`]; nothing while the driver has work to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn is_logged_in(&self) -> bool {
        matches!(self.phase, Phase::Transaction(..) | Phase::Fetching { .. } | Phase::Committing)
    }

    fn takes_input(&self) -> bool {
        let is_busy = match self.phase {
            Phase::Judging(_) | Phase::Opening | Phase::Fetching { .. } => true,
            Phase::Committing | Phase::Handshake | Phase::Transaction(_, Some(_)) => true,
            Phase::Login(_) | Phase::Exchange(_) | Phase::Transaction(_, None) | Phase::Over => false,
        };
        !is_busy && self.events.is_empty()
    }

    fn line_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Transaction(..) => COMMAND_LINE_BYTES_MAX,
            _ => AUTH_LINE_BYTES_MAX,
        }
    }

    fn handle_taken(&mut self, taken: Taken<'_>, out: &mut Output, now: Instant) {
        match (std::mem::replace(&mut self.phase, Phase::Over), taken) {
            (Phase::Exchange(exchange), Taken::Line(line)) => self.handle_response(exchange, &line, out),
            (phase, Taken::Line(line)) => {
                self.phase = phase;
                self.handle_line(&line, out);
            }
            (phase, taken) => {
                // An exchange does not outlive a line that is none.
                self.phase = match phase {
                    Phase::Exchange(_) => Phase::Login(Login::default()),
                    phase => phase,
                };
                match taken {
                    Taken::Stray => self.mistake(out, Text::Syntax),
                    Taken::Endless => self.part(out, Refusal::plain(Text::LineTooLong)),
                    _ => self.mistake(out, Text::LineTooLong),
                }
            }
        }
        self.rest(now);
    }

    fn handle_line(&mut self, line: &[u8], out: &mut Output) {
        let Some((row, rest)) = Row::of(line) else {
            return match is_foreign(line) {
                true => self.part(out, Refusal::plain(Text::NotMail)),
                false => self.mistake(out, Text::UnknownCommand),
            };
        };
        if line.len() + 2 > COMMAND_LINE_BYTES_MAX && !row.takes_long_lines() {
            return self.mistake(out, Text::LineTooLong);
        }
        let state = match self.phase {
            Phase::Transaction(..) => States::Transaction,
            _ => States::Authorization,
        };
        if state == States::Authorization {
            self.commands_before_login += 1;
            if self.commands_before_login > COMMANDS_BEFORE_LOGIN_MAX {
                return self.part(out, Refusal::plain(Text::TooManyErrors));
            }
        }
        if !row.states.has(state) {
            return self.mistake(out, Text::WrongState);
        }
        let Some(command) = row.command(rest) else {
            return self.mistake(out, Text::Syntax);
        };
        self.errors = 0;
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Transaction(maildrop, _) => self.handle_transaction(command, maildrop, out),
            Phase::Login(login) => self.handle_login(command, login, out),
            phase => self.phase = phase,
        }
    }

    /// A command of the AUTHORIZATION state.
    fn handle_login(&mut self, command: Command<'_>, login: Login, out: &mut Output) {
        // PASS comes right after USER: any other command forgets the name (RFC 1939 7).
        self.phase = Phase::Login(Login::default());
        match command {
            Command::Pass(password) => self.handle_pass(login, password, out),
            Command::User(name) => self.handle_user(name, out),
            Command::Auth { mechanism, initial } => self.handle_auth(mechanism, initial, out),
            Command::AuthList => self.list_mechanisms(out),
            Command::Apop => self.err(out, Refusal::plain(Text::NoApop)),
            Command::Stls => self.handle_stls(out),
            Command::Utf8 => {
                self.is_utf8 = true;
                self.ok(out, Text::Utf8);
            }
            Command::Quit => {
                self.ok(out, Text::Bye);
                self.close();
            }
            command => self.handle_anywhere(command, out),
        }
    }

    /// A command of the TRANSACTION state.
    fn handle_transaction(&mut self, command: Command<'_>, mut maildrop: Maildrop, out: &mut Output) {
        match command {
            Command::ListAll => {
                self.ok(out, Text::Listing);
                return self.send(maildrop, Sending::Listing(Listing::new(Column::Octets)), out);
            }
            Command::UidlAll => {
                self.ok(out, Text::Listing);
                return self.send(maildrop, Sending::Listing(Listing::new(Column::UniqueId)), out);
            }
            Command::Retr(number) => return self.fetch(maildrop, number, Wanted::Whole, out),
            Command::Top { number, lines } => {
                return self.fetch(maildrop, number, Wanted::Top { lines }, out);
            }
            Command::Quit => return self.handle_quit(&maildrop, out),
            Command::List(number) => self.with_message(&maildrop, number, out, |index, out| {
                reply::line(out, format_args!("+OK {number} {}", maildrop.octets_of(index)));
            }),
            Command::Uidl(number) => self.with_message(&maildrop, number, out, |index, out| {
                reply::line(out, format_args!("+OK {number} {}", maildrop.unique_id_of(index)));
            }),
            // RFC 1939 5: nothing follows the second number.
            Command::Stat => {
                reply::line(out, format_args!("+OK {} {}", maildrop.count(), maildrop.octets()));
            }
            Command::Dele(number) => match maildrop.index(number) {
                Some(index) => {
                    maildrop.mark(index);
                    self.ok(out, Text::Deleted);
                }
                None => self.err(out, Refusal::plain(Text::NoMessage)),
            },
            Command::Rset => {
                maildrop.unmark_all();
                reply::maildrop(out, maildrop.count(), maildrop.octets(), self.language);
            }
            Command::Noop => self.ok(out, Text::Done),
            command => self.handle_anywhere(command, out),
        }
        self.phase = Phase::Transaction(maildrop, None);
    }

    /// A command of both states.
    fn handle_anywhere(&mut self, command: Command<'_>, out: &mut Output) {
        match command {
            Command::Capa => {
                self.ok(out, Text::Capabilities);
                capabilities(&self.offer()).for_each(|line| reply::line(out, format_args!("{line}")));
                reply::end_of_lines(out);
            }
            Command::LangList => reply::languages(out, self.language),
            Command::Lang(range) => match Language::matching(range) {
                Some(language) => {
                    self.language = language;
                    let text = Text::LanguageChanged.spoken(language);
                    reply::line(out, format_args!("+OK {} {text}", language.tag()));
                }
                None => self.err(out, Refusal::plain(Text::UnknownLanguage)),
            },
            _ => self.err(out, Refusal::plain(Text::WrongState)),
        }
    }

    fn handle_stls(&mut self, out: &mut Output) {
        match self.channel.tls {
            Tls::Active(_) => self.err(out, Refusal::plain(Text::TlsActive)),
            Tls::Unavailable => self.err(out, Refusal::plain(Text::TlsUnavailable)),
            // RFC 6856 2.1 lets us hold clients to the order.
            Tls::Offered if self.is_utf8 => self.err(out, Refusal::plain(Text::TlsAfterUtf8)),
            Tls::Offered => {
                self.ok(out, Text::StartTls);
                self.phase = Phase::Handshake;
                self.events.push_back(Event::StartTls);
            }
        }
    }

    /// RFC 1939 6: the UPDATE state.
    fn handle_quit(&mut self, maildrop: &Maildrop, out: &mut Output) {
        let uids = maildrop.marked_uids();
        if uids.is_empty() {
            self.ok(out, Text::Bye);
            return self.close();
        }
        self.phase = Phase::Committing;
        self.events.push_back(Event::Commit(uids));
    }

    fn handle_committed(&mut self, verdict: CommitVerdict, out: &mut Output) {
        match verdict {
            CommitVerdict::Durable => self.ok(out, Text::Bye),
            CommitVerdict::Failed => self.err(out, Refusal::coded(Code::SysTemp, Text::NotRemoved)),
        }
        self.close();
    }

    fn handle_opened(&mut self, opened: Result<Maildrop, OpenFailure>, out: &mut Output) {
        match opened {
            Ok(maildrop) => {
                reply::maildrop(out, maildrop.count(), maildrop.octets(), self.language);
                self.phase = Phase::Transaction(maildrop, None);
            }
            Err(failure) => {
                self.phase = Phase::Login(Login::default());
                self.err(out, failure.into());
            }
        }
    }

    fn fetch(&mut self, maildrop: Maildrop, number: u32, wanted: Wanted, out: &mut Output) {
        let Some(index) = maildrop.index(number) else {
            self.phase = Phase::Transaction(maildrop, None);
            return self.err(out, Refusal::plain(Text::NoMessage));
        };
        let asked = match wanted {
            Wanted::Whole => Asked::Whole,
            Wanted::Top { .. } => Asked::Top,
        };
        self.events.push_back(Event::Retrieve { uid: maildrop.uid_of(index), asked });
        self.phase = Phase::Fetching { maildrop, wanted };
    }

    /// Begins a long response, and ends it at once if it is short.
    fn send(&mut self, maildrop: Maildrop, mut sending: Sending, out: &mut Output) {
        let is_complete = sending.poll(&maildrop, out);
        self.phase = Phase::Transaction(maildrop, (!is_complete).then_some(sending));
    }

    fn with_message(
        &self,
        maildrop: &Maildrop,
        number: u32,
        out: &mut Output,
        answer: impl FnOnce(Index, &mut Output),
    ) {
        match maildrop.index(number) {
            Some(index) => answer(index, out),
            None => self.err(out, Refusal::plain(Text::NoMessage)),
        }
    }

    /// What the channel allows.
    pub(super) fn offer(&self) -> Offer {
        let unbound = Bindings::default();
        let (bindings, takes_passwords) = match &self.channel.tls {
            Tls::Active(bindings) => (bindings, true),
            Tls::Unavailable | Tls::Offered => (&unbound, self.channel.takes_clear_passwords),
        };
        let is_offered =
            |each: &Mechanism| each.is_possible(bindings) && (takes_passwords || !each.shows_password());
        Offer {
            mechanisms: Mechanism::ALL.into_iter().filter(is_offered).collect(),
            takes_passwords,
            can_start_tls: matches!(self.channel.tls, Tls::Offered) && !self.is_utf8,
        }
    }

    /// A line that was not understood, or not here.
    fn mistake(&mut self, out: &mut Output, text: Text) {
        self.errors += 1;
        if let Phase::Login(login) = &mut self.phase {
            *login = Login::default();
        }
        match self.errors < ERRORS_MAX {
            true => self.err(out, Refusal::plain(text)),
            false => self.part(out, Refusal::plain(Text::TooManyErrors)),
        }
    }

    /// The last word to a client that we have had enough of. Nothing is removed.
    pub(super) fn part(&mut self, out: &mut Output, refusal: Refusal) {
        self.err(out, refusal);
        self.close();
    }

    pub(super) fn ask(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn ok(&self, out: &mut Output, text: Text) {
        reply::ok(out, text, self.language);
    }

    pub(super) fn err(&self, out: &mut Output, refusal: Refusal) {
        reply::err(out, refusal, self.language);
    }

    fn close(&mut self) {
        self.phase = Phase::Over;
        self.lines.clear();
        self.deadline = None;
        self.events.push_back(Event::Close);
    }

    /// Sets the time by which something must have come: before login that, afterwards a whole line, not a byte of one.
    fn rest(&mut self, now: Instant) {
        if self.is_stopping && self.takes_input() && !matches!(self.phase, Phase::Over) {
            return self.close();
        }
        self.deadline = match self.phase {
            Phase::Login(_) | Phase::Exchange(_) | Phase::Handshake => {
                Some(self.begun + Duration::from_secs(self.channel.login_s))
            }
            Phase::Transaction(..) => Some(now + Duration::from_secs(self.channel.idle_s)),
            Phase::Judging(_) | Phase::Opening | Phase::Fetching { .. } | Phase::Committing | Phase::Over => {
                None
            }
        };
    }
}

impl From<MessageFailure> for Refusal {
    fn from(failure: MessageFailure) -> Self {
        match failure {
            MessageFailure::Gone => Self::coded(Code::SysTemp, Text::Gone),
            MessageFailure::Damaged => Self::coded(Code::SysPerm, Text::Damaged),
            MessageFailure::Unavailable => Self::coded(Code::SysTemp, Text::Unavailable),
        }
    }
}

impl From<OpenFailure> for Refusal {
    fn from(failure: OpenFailure) -> Self {
        match failure {
            OpenFailure::InUse => Self::coded(Code::InUse, Text::InUse),
            OpenFailure::TooLarge => Self::coded(Code::SysTemp, Text::TooManyMessages),
            OpenFailure::Unavailable => Self::coded(Code::SysTemp, Text::Unavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::{Channel, Server, Tls};
    use crate::bytes::{Output, Slice};
    use crate::limits::pop3::{IDLE_S, OUTPUT_BURST_BYTES};
    use crate::limits::server::LOGIN_S;
    use crate::mail::time::Instant;
    use crate::proto::pop3::{CommitVerdict, Event, LoginVerdict, Maildrop, Outcome};
    use crate::proto::sasl::{Bindings, Nonce, Verifier};

    /// A session whose driver says yes to everything, and what it has sent and asked.
    struct Run {
        server: Server,
        sent: Vec<u8>,
        asked: Vec<String>,
    }

    impl Run {
        fn new(tls: Tls, messages: u32) -> Self {
            let mut out = Output::new();
            let channel = Channel { tls, takes_clear_passwords: true, login_s: LOGIN_S, idle_s: IDLE_S };
            let server = Server::new(channel, &mut out, Instant(0));
            let mut run = Self { server, sent: out.to_vec(), asked: Vec::new() };
            run.asked.push(messages.to_string());
            run
        }

        fn logged_in(messages: u32) -> Self {
            let mut run = Self::new(Tls::Unavailable, messages);
            run.feed(b"USER bob\r\nPASS secret\r\n");
            run
        }

        /// As a driver does it: one write after each call.
        fn feed(&mut self, mut input: &[u8]) {
            loop {
                let mut out = Output::new();
                let used = self.server.handle_bytes(input, &mut out, Instant(0));
                input = &input[used..];
                let is_event = self.answer(&mut out);
                assert!(out.len() < 2 * OUTPUT_BURST_BYTES);
                self.sent.extend(out.to_vec());
                while self.server.is_sending() {
                    let mut out = Output::new();
                    self.server.poll_more(&mut out, Instant(0));
                    self.sent.extend(out.to_vec());
                }
                if used == 0 && !is_event {
                    return;
                }
            }
        }

        fn answer(&mut self, out: &mut Output) -> bool {
            let Some(event) = self.server.poll_event() else {
                return false;
            };
            self.asked.push(format!("{event:?}"));
            let outcome = match event {
                Event::Password(_) | Event::Proved(_) => Outcome::Login(LoginVerdict::Accepted),
                Event::Verifier(_) => Outcome::Verifier { verifier: Some(verifier()), nonce: Nonce([1; 18]) },
                Event::Open => {
                    let count = self.asked[0].parse().expect("it was put there");
                    Outcome::Opened(Ok(Maildrop::new(1, (1..=count).map(|uid| (uid, 9)))))
                }
                Event::Retrieve { .. } => Outcome::Message(Ok(Slice::from(&b"A: b\r\n\r\n.c\r\n"[..]))),
                Event::Commit(_) => Outcome::Committed(CommitVerdict::Durable),
                Event::StartTls | Event::Rejected(_) | Event::Close => return true,
            };
            self.server.handle_done(outcome, out, Instant(0));
            true
        }
    }

    fn verifier() -> Verifier {
        Verifier { salt: vec![1; 16], iterations: 4096, stored_key: [2; 32], server_key: [3; 32] }
    }

    #[test]
    fn a_session_can_move_to_another_shard() {
        fn moves<T: Send>(_: &T) {}
        moves(&Run::logged_in(3).server);
    }

    #[test]
    fn a_burst_of_listings_does_not_gather() {
        let mut run = Run::logged_in(3000);
        let greeting = run.sent.len();
        run.feed(&b"LIST\r\n".repeat(100));
        let rows: usize = (1..=3000).map(|number: u32| number.to_string().len() + 4).sum();
        assert_eq!(run.sent.len() - greeting, 100 * ("+OK Listing follows\r\n".len() + rows + 3));
    }

    #[test]
    fn marks_and_unmarks_for_ever() {
        let mut run = Run::logged_in(2);
        let before = run.sent.len();
        run.feed(&b"DELE 1\r\nRSET\r\n".repeat(5000));
        assert_eq!((run.sent.len() - before) % 5000, 0);
        run.feed(b"STAT\r\n");
        assert!(run.sent.ends_with(b"+OK 2 18\r\n"));
    }

    #[test]
    fn going_down_ends_what_rests_and_finishes_what_runs() {
        let mut resting = Run::logged_in(1);
        resting.feed(b"DELE 1\r\n");
        let said = resting.sent.len();
        resting.server.shut_down(Instant(0));
        resting.feed(b"QUIT\r\n");
        assert_eq!((resting.sent.len(), resting.asked.last().map(String::as_str)), (said, Some("Close")));

        let mut leaving = Run::logged_in(1);
        let mut out = Output::new();
        leaving.server.handle_bytes(b"DELE 1\r\nQUIT\r\n", &mut out, Instant(0));
        leaving.server.shut_down(Instant(0));
        while leaving.answer(&mut out) {}
        assert!(out.to_vec().ends_with(b"+OK Goodbye\r\n"));
        assert_eq!(leaving.asked[3..], ["Commit(Ranges([(1, 1)]))", "Close"]);
    }

    #[test]
    fn a_byte_now_and_then_does_not_keep_a_session() {
        let mut run = Run::logged_in(1);
        let mut out = Output::new();
        for second in 0..=IDLE_S {
            let now = Instant(second * 1000);
            run.server.handle_bytes(b"x", &mut out, now);
            run.server.handle_timeout(now);
        }
        assert_eq!((run.server.poll_event(), out.len()), (Some(Event::Close), 0));
    }

    #[test]
    fn an_outcome_that_nobody_waits_for_changes_nothing() {
        let mut run = Run::new(Tls::Unavailable, 0);
        let mut out = Output::new();
        run.server.handle_done(Outcome::Login(LoginVerdict::Accepted), &mut out, Instant(0));
        run.server.handle_bytes(b"AUTH SCRAM-SHA-256 biwsbj1ib2Iscj1hYmM=\r\n", &mut out, Instant(0));
        assert!(matches!(run.server.poll_event(), Some(Event::Verifier(_))));
        // Whose proof has not come is not logged in, whatever the driver says.
        run.server.handle_done(Outcome::Login(LoginVerdict::Accepted), &mut out, Instant(0));
        assert_eq!((run.server.poll_event(), run.server.is_logged_in(), out.len()), (None, false, 0));
    }

    /// Pieces of sessions, good and bad.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let lines: Vec<&[u8]> = vec![
            b"USER bob\r\n",
            b"PASS secret\r\n",
            b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n",
            b"AUTH SCRAM-SHA-256 biwsbj1ib2Iscj1hYmM=\r\n",
            b"AUTH LOGIN\r\n",
            b"Ym9i\r\n",
            b"*\r\n",
            b"CAPA\r\n",
            b"UTF8\r\n",
            b"LANG de\r\n",
            b"STLS\r\n",
            b"STAT\r\n",
            b"LIST\r\n",
            b"UIDL 2\r\n",
            b"RETR 1\r\n",
            b"TOP 2 0\r\n",
            b"DELE 3\r\n",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"QUIT\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b" ",
        ];
        let login = Just(b"USER bob\r\nPASS secret\r\n".to_vec());
        let line = (0..lines.len()).prop_map(move |index| lines[index].to_vec());
        prop_oneof![1 => login, 12 => line, 1 => any::<[u8; 3]>().prop_map(Vec::from)]
    }

    proptest! {
        #[test]
        fn no_split_matters(
            pieces in collection::vec(piece(), 0..24),
            cuts in collection::vec(1_usize..40, 1..20),
            is_tls_offered in any::<bool>(),
        ) {
            let input = pieces.concat();
            let tls = || if is_tls_offered { Tls::Offered } else { Tls::Active(Bindings::default()) };
            let (mut whole, mut cut) = (Run::new(tls(), 3), Run::new(tls(), 3));
            whole.feed(&input);
            let mut rest = &input[..];
            for step in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*step).min(rest.len()));
                cut.feed(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(whole.sent.escape_ascii().to_string(), cut.sent.escape_ascii().to_string());
            prop_assert_eq!(whole.asked, cut.asked);
        }
    }
}
