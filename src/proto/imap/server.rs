//! The session: its states, who may do what in which, and everything that needs no mailbox.
//!
//! ```text
//!   greeting ─> NotAuthenticated ──LOGIN, AUTHENTICATE──> Authenticated <──CLOSE, UNSELECT, own DELETE── Selected
//!                  │     ^                                     └──────────SELECT, EXAMINE─────────────────┘ ^
//!                  └─TLS─┘                LOGOUT, BYE, timeout: from every state to Closed
//! ```
//!
//! A `Phase` is what the protocol calls a state; an `Activity` is what the engine waits for: the client's
//! bytes or the driver's outcome.
//!
//! Invariants: one event is out at a time, and while it wants an outcome no input is taken; every command gets
//! one tagged line; what came in the clear behind STARTTLS is never read.

mod capability;
mod login;
mod receive;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::append::Append;
use super::command::{Access, AppendStart, Command};
use super::framing::Framing;
use super::lexer::{Dialect, Fault, Literal};
use super::parse::Request;
use super::parse::table::{Row, States};
use super::render::list::Names;
use super::render::state;
use super::reply::{Code, Done, Status};
use crate::bytes::Output;
use crate::limits::imap::{COMMANDS_BEFORE_LOGIN_MAX, ERRORS_MAX, IDLE_HEARTBEAT_S};
use crate::mail::time::{Instant, Now};
use crate::proto::sasl::{Bindings, Credentials, Exchange, Identity, Nonce, Verifier};

/// One connection's engine.
pub struct Server {
    settings: Settings,
    channel: Channel,
    phase: Phase,
    activity: Activity,
    enabled: Enabled,
    framing: Framing,
    /// Of the command that is being read or runs.
    tag: String,
    event: Option<Event>,
    /// A proof was wrong, and the driver does not know yet whose: told before the event, which may be `Close`.
    rejected: Option<Box<Identity>>,
    /// Commands in a row that were not understood.
    errors: u32,
    /// Commands without a login.
    commands_before_login: u8,
    auth_failures: u32,
    /// When the client, or before login the connection, was last a fresh one.
    active: Instant,
}

/// What the operator has decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The largest message of an APPEND.
    pub message_bytes_max: u64,
    /// There is a certificate, so that STARTTLS can be offered.
    pub starttls: bool,
    /// How long a client may take to log in.
    pub login_s: u64,
    /// How long it may be silent afterwards (RFC 9051 5.4).
    pub idle_s: u64,
}

/// How safe the connection is from listeners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Channel {
    /// No password may cross it.
    Clear,
    /// In the clear, but loopback or allowed by configuration.
    Trusted,
    Tls(Bindings),
}

/// What the client has switched on; it stays on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Enabled {
    pub rev2: bool,
    pub condstore: bool,
}

/// RFC 9051 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    NotAuthenticated,
    Authenticated,
    Selected(Access),
}

/// What the engine waits for.
#[derive(Debug)]
enum Activity {
    /// The client's next command.
    Reading,
    /// The client's answer to a challenge.
    Challenged(Box<Exchange>),
    /// The verifier of a login.
    LookingUp(Box<Exchange>),
    /// Whether a login may be.
    Judging,
    /// The end of a command.
    Running(Running),
    /// Whether a message may come.
    AppendAsked { literal: Literal, bytes_max: u64 },
    /// The octets of a message.
    Appending(Box<Append>),
    /// The driver's taking of a full buffer.
    AppendFull(Box<Append>),
    /// The end of the line behind a message.
    AppendEnding(Box<Append>),
    /// The keeping of a message.
    Keeping(Box<Append>),
    /// DONE.
    Idling { heartbeat: Instant },
    /// The last news of an IDLE, which the client has ended like this.
    LeavingIdle(IdleEnd),
    /// The handshake.
    StartingTls,
    /// Nothing.
    Closed,
}

/// A command that the driver executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Running {
    allows_expunge: bool,
    /// Its success leaves the mailbox.
    deselects: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IdleEnd {
    Done,
    Garbage,
}

/// What the driver must do. While one that wants an [`Outcome`] waits for it, no input is taken.
#[derive(Debug)]
pub enum Event {
    /// Send the output, hand in what else was read in the clear, which closes, or throw it away; run the
    /// handshake; then `handle_tls`.
    StartTls,
    /// Judge a password: `LoggedIn` or `Refused`.
    Verify(Credentials),
    /// Find a SCRAM verifier: `Verifier`.
    Lookup(Identity),
    /// SCRAM has proved the login; open its account: `LoggedIn` or `Refused`.
    Admit(Identity),
    /// A SCRAM proof for this login was wrong; for the log and the throttle. No outcome.
    Rejected(Identity),
    /// Execute: `Done`. With `announce_modseq`, first send `* OK [HIGHESTMODSEQ n]` of the selected mailbox
    /// (RFC 7162 3.1).
    Command { command: Command, announce_modseq: bool },
    /// A message is coming: `AppendAccepted`, or `Done` to refuse it.
    AppendStart(AppendStart),
    /// The body buffer is full: `take_body`, then `BodyTaken`, or `Done` to give up.
    AppendFull,
    /// The message is complete: `take_body` for the rest, keep it, then `Done`.
    AppendEnd,
    /// The message will not come: forget it. No outcome.
    AppendCancelled,
    /// Send news as they come, until `IdleEnd`. No outcome.
    IdleStart,
    /// Send what is left, then `Done`.
    IdleEnd,
    /// Send the output and close; a message that was coming is forgotten. No outcome.
    Close,
}

/// How an event went.
#[derive(Debug)]
pub enum Outcome {
    /// The account is open.
    LoggedIn,
    Refused(Refusal),
    /// `None`: refuse.
    Verifier(Option<Verifier>, Nonce),
    /// The message may come; its body buffer begins with this, which may be empty.
    AppendAccepted {
        prefix: Vec<u8>,
    },
    BodyTaken,
    Done(Done),
}

/// Why somebody was not let in (RFC 5530 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Wrong login or password, never saying which.
    Credentials,
    /// The login may not be that other account.
    Authorization,
    /// Too many attempts, or the directory cannot be asked now.
    Unavailable,
}

impl Server {
    pub fn new(settings: Settings, channel: Channel, now: Now) -> Self {
        Self {
            settings,
            channel,
            phase: Phase::NotAuthenticated,
            activity: Activity::Reading,
            enabled: Enabled::default(),
            framing: Framing::default(),
            tag: String::new(),
            event: None,
            rejected: None,
            errors: 0,
            commands_before_login: 0,
            auth_failures: 0,
            active: now.instant,
        }
    }

    /// Writes the greeting.
    pub fn greet(&mut self, out: &mut Output) {
        out.push(b"* OK [");
        self.write_capabilities(out.text_mut());
        out.push(b"] Ringpost ready\r\n");
    }

    /// Takes input; returns how many bytes it took. It stops at an event.
    pub fn handle_bytes(&mut self, input: &[u8], out: &mut Output, now: Now) -> usize {
        if self.phase != Phase::NotAuthenticated && !matches!(self.activity, Activity::Idling { .. }) {
            self.active = now.instant;
        }
        let mut taken = 0;
        while taken < input.len() && self.takes_input() {
            taken += self.take(&input[taken..], out, now);
        }
        // RFC 9051 6.2.1: nothing may follow before the handshake, least of all as a command.
        let is_waiting = matches!(self.activity, Activity::StartingTls) && self.event.is_none();
        if is_waiting && taken < input.len() {
            self.close();
        }
        match self.activity {
            Activity::Closed => input.len(),
            _ => taken,
        }
    }

    /// The outcome of the last event.
    pub fn handle_done(&mut self, outcome: Outcome, out: &mut Output, now: Now) {
        if self.phase != Phase::NotAuthenticated {
            self.active = now.instant;
        }
        match (std::mem::replace(&mut self.activity, Activity::Reading), outcome) {
            // The session has ended meanwhile.
            (Activity::Closed, _) => self.activity = Activity::Closed,
            (Activity::Judging, Outcome::LoggedIn) => self.log_in(out, now),
            (Activity::Judging, Outcome::Refused(refusal)) => self.refuse_login(refusal, out),
            // Whose proof has not come yet can be refused, and never accepted.
            (Activity::LookingUp(_), Outcome::Refused(refusal)) => self.refuse_login(refusal, out),
            (Activity::LookingUp(mut exchange), Outcome::Verifier(verifier, nonce)) => {
                let step = exchange.handle_verifier(verifier, nonce);
                self.handle_step(exchange, step, out);
            }
            (Activity::Running(running), Outcome::Done(done)) => self.finish_running(running, done, out),
            (Activity::LeavingIdle(end), Outcome::Done(done)) => self.finish_idle(end, done, out),
            (Activity::AppendAsked { literal, bytes_max }, Outcome::AppendAccepted { prefix }) => {
                self.start_message(literal, bytes_max, prefix, out);
            }
            (Activity::AppendAsked { .. }, Outcome::Done(done)) => {
                self.framing.refuse();
                self.finish(done, out);
            }
            (Activity::AppendFull(append), Outcome::BodyTaken) => self.activity = Activity::Appending(append),
            (Activity::AppendFull(append), Outcome::Done(done)) => {
                self.framing.skip(append.left());
                self.finish(done, out);
            }
            (Activity::Keeping(_), Outcome::Done(done)) => self.finish(done, out),
            (activity, outcome) => panic!("{outcome:?} is no outcome for {activity:?}"),
        }
    }

    /// TLS has begun. Everything that was learnt in the clear is forgotten.
    pub fn handle_tls(&mut self, bindings: Bindings, now: Now) {
        assert!(matches!(self.activity, Activity::StartingTls), "TLS that nobody asked for");
        *self = Self::new(self.settings, Channel::Tls(bindings), now);
    }

    /// The deadline has passed: a sign of life in IDLE, else the end.
    pub fn handle_timeout(&mut self, out: &mut Output, now: Now) {
        if self.deadline().is_none_or(|deadline| now.instant < deadline) {
            return;
        }
        let is_over = now.instant >= self.active + Duration::from_secs(self.settings.idle_s);
        match &mut self.activity {
            Activity::Idling { heartbeat } if !is_over => {
                *heartbeat = now.instant + Duration::from_secs(IDLE_HEARTBEAT_S);
                state::ok(out, None, "Still here");
            }
            _ => self.bye(out, "Nothing was heard for too long"),
        }
    }

    /// The running command of the client has deleted the mailbox that is selected.
    pub fn handle_deselected(&mut self, out: &mut Output) {
        state::ok(out, Some(&Code::Closed), "The selected mailbox is closed");
        self.phase = Phase::Authenticated;
    }

    /// The server goes down, or the mailbox is gone: BYE with this text, then `Close`.
    pub fn handle_shutdown(&mut self, out: &mut Output, text: &str) {
        if !matches!(self.activity, Activity::Closed) {
            self.bye(out, text);
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let rejected = self.rejected.take().map(|identity| Event::Rejected(*identity));
        rejected.or_else(|| self.event.take())
    }

    /// The body of the APPEND so far: prefix and message.
    pub fn take_body(&mut self) -> Vec<u8> {
        match &mut self.activity {
            Activity::AppendFull(append) | Activity::Keeping(append) => append.take_body(),
            _ => Vec::new(),
        }
    }

    /// When `handle_timeout` wants to be called. While the driver works nobody else can be late.
    pub fn deadline(&self) -> Option<Instant> {
        let (since, span_s) = match (&self.activity, self.phase) {
            (activity, _) if activity.is_drivers() => return None,
            (_, Phase::NotAuthenticated) => (self.active, self.settings.login_s),
            _ => (self.active, self.settings.idle_s),
        };
        let deadline = since + Duration::from_secs(span_s);
        match self.activity {
            Activity::Idling { heartbeat } => Some(deadline.min(heartbeat)),
            _ => Some(deadline),
        }
    }

    /// Bytes of the command or message that is coming.
    pub fn held_bytes(&self) -> usize {
        let message = match &self.activity {
            Activity::Appending(append)
            | Activity::AppendFull(append)
            | Activity::AppendEnding(append)
            | Activity::Keeping(append) => append.held_bytes(),
            _ => 0,
        };
        self.framing.held_bytes() + message
    }

    /// The tag of the running command.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    pub fn enabled(&self) -> Enabled {
        self.enabled
    }

    /// How mailbox names are written to this client.
    pub fn names(&self) -> Names {
        match self.enabled.rev2 {
            true => Names::Utf8,
            false => Names::ModifiedUtf7,
        }
    }

    /// The access to the selected mailbox, if one is selected.
    pub fn selected(&self) -> Option<Access> {
        match self.phase {
            Phase::Selected(access) => Some(access),
            _ => None,
        }
    }

    /// The client is in IDLE: news may be sent at any time.
    pub fn is_idle(&self) -> bool {
        matches!(self.activity, Activity::Idling { .. })
    }

    /// EXPUNGE may be sent now: a command is running that is none of FETCH, STORE, SEARCH, SORT, THREAD with
    /// message numbers (RFC 9051 7.5.1).
    pub fn may_expunge(&self) -> bool {
        match self.activity {
            Activity::Running(running) => running.allows_expunge,
            Activity::Idling { .. } | Activity::LeavingIdle(_) | Activity::Keeping(_) => true,
            _ => false,
        }
    }

    fn takes_input(&self) -> bool {
        self.event.is_none() && self.rejected.is_none() && !self.activity.is_drivers()
    }

    fn dialect(&self) -> Dialect {
        match self.enabled.rev2 {
            true => Dialect::Rev2,
            false => Dialect::Rev1,
        }
    }

    /// Whether a command may be given now.
    fn check_state(&self, row: &Row) -> Result<(), Fault> {
        let allowed = match row.states {
            States::Any => true,
            States::NotAuthenticated => self.phase == Phase::NotAuthenticated,
            States::Authenticated => self.phase != Phase::NotAuthenticated,
            States::Selected => matches!(self.phase, Phase::Selected(_)),
        };
        match allowed {
            true => Ok(()),
            false => Err(Fault::Syntax("The command is not allowed in this state")),
        }
    }

    fn execute(&mut self, request: Request, out: &mut Output, now: Now) {
        match request {
            Request::Capability => self.tell_capabilities(out),
            Request::Noop if self.phase == Phase::NotAuthenticated => {
                self.finish(Done::ok("NOOP completed"), out)
            }
            Request::Noop => self.run(Command::Noop, false),
            Request::Logout => self.log_out(out),
            Request::Id => {
                // RFC 2971 3.1
                out.push(b"* ID (\"name\" \"Ringpost\")\r\n");
                self.finish(Done::ok("ID completed"), out);
            }
            Request::StartTls => self.start_tls(out),
            Request::Authenticate { mechanism, initial } => {
                self.authenticate(&mechanism, initial.as_deref(), out)
            }
            Request::Login { login, password } => self.login(login, password, out),
            Request::Enable { rev2, condstore } => self.enable(Enabled { rev2, condstore }, out),
            Request::Idle => self.idle(out, now),
            Request::Select { command, condstore } => self.select(command, condstore, out),
            Request::Command(command) => {
                let announce_modseq = command.enables_condstore() && self.enable_condstore();
                self.run(command, announce_modseq);
            }
        }
    }

    fn run(&mut self, command: Command, announce_modseq: bool) {
        self.activity = Activity::Running(Running {
            allows_expunge: command.allows_expunge(),
            deselects: matches!(command, Command::Close | Command::Unselect),
        });
        self.event = Some(Event::Command { command, announce_modseq });
    }

    /// SELECT and EXAMINE leave the mailbox before they open one, whether that works or not (RFC 9051 6.3.2).
    fn select(&mut self, command: Command, condstore: bool, out: &mut Output) {
        if matches!(self.phase, Phase::Selected(_)) {
            state::ok(out, Some(&Code::Closed), "The previous mailbox is closed");
        }
        self.phase = Phase::Authenticated;
        self.enabled.condstore |= condstore;
        self.run(command, false);
    }

    fn finish_running(&mut self, running: Running, done: Done, out: &mut Output) {
        if let Some(access) = done.selected {
            self.phase = Phase::Selected(access);
        }
        if running.deselects && done.status == Status::Ok {
            self.phase = Phase::Authenticated;
        }
        self.finish(done, out);
    }

    /// `enable-data = "ENABLED" *(SP capability)`: what is on now and was not (RFC 5161 3.2).
    fn enable(&mut self, wanted: Enabled, out: &mut Output) {
        out.push(b"* ENABLED");
        if wanted.rev2 && !self.enabled.rev2 {
            self.enabled.rev2 = true;
            out.push(b" IMAP4rev2");
        }
        let had_condstore = self.enabled.condstore;
        let announce_modseq = wanted.condstore && self.enable_condstore();
        if self.enabled.condstore != had_condstore {
            out.push(b" CONDSTORE");
        }
        out.push(b"\r\n");
        match announce_modseq {
            true => self.run(Command::Enable, true),
            false => self.finish(Done::ok("ENABLE completed"), out),
        }
    }

    /// The client knows mod-sequences from now on; says whether that is news about a selected mailbox.
    fn enable_condstore(&mut self) -> bool {
        let is_news = !std::mem::replace(&mut self.enabled.condstore, true);
        is_news && self.selected().is_some()
    }

    fn idle(&mut self, out: &mut Output, now: Now) {
        out.push(b"+ idling\r\n");
        self.activity = Activity::Idling { heartbeat: now.instant + Duration::from_secs(IDLE_HEARTBEAT_S) };
        self.event = Some(Event::IdleStart);
    }

    fn finish_idle(&mut self, end: IdleEnd, done: Done, out: &mut Output) {
        match end {
            IdleEnd::Done => self.finish(done, out),
            // RFC 2177 3
            IdleEnd::Garbage => self.finish(Done::bad("Expected DONE"), out),
        }
    }

    fn log_out(&mut self, out: &mut Output) {
        out.push(b"* BYE Logging out\r\n");
        self.finish(Done::ok("LOGOUT completed"), out);
        self.close();
    }

    /// Writes the tagged line and waits for the next command.
    fn finish(&mut self, done: Done, out: &mut Output) {
        let tag = std::mem::take(&mut self.tag);
        self.activity = Activity::Reading;
        self.answer(&tag, &done, out);
    }

    /// An answer to something that has no tag.
    fn complain(&mut self, text: &'static str, out: &mut Output) {
        self.answer("*", &Done::bad(text), out);
    }

    fn answer(&mut self, tag: &str, done: &Done, out: &mut Output) {
        state::condition(out, tag, (done.status, done.code.as_ref()), &done.text);
        match done.status {
            Status::Bad => self.errors += 1,
            Status::Ok | Status::No => self.errors = 0,
        }
        let is_waste = self.phase == Phase::NotAuthenticated && self.is_one_too_many();
        if self.errors >= ERRORS_MAX || is_waste {
            self.bye(out, "Too many errors");
        }
    }

    /// Counts a command that was no login.
    fn is_one_too_many(&mut self) -> bool {
        self.commands_before_login += 1;
        self.commands_before_login >= COMMANDS_BEFORE_LOGIN_MAX
    }

    fn bye(&mut self, out: &mut Output, text: &str) {
        out.push(b"* BYE ");
        out.push(text.as_bytes());
        out.push(b"\r\n");
        self.close();
    }

    fn close(&mut self) {
        self.framing.clear();
        self.activity = Activity::Closed;
        self.event = Some(Event::Close);
    }
}

impl Activity {
    /// The driver's turn: no input is taken and nobody is late.
    fn is_drivers(&self) -> bool {
        match self {
            Self::Reading
            | Self::Challenged(_)
            | Self::Appending(_)
            | Self::AppendEnding(_)
            | Self::Idling { .. } => false,
            Self::LookingUp(_)
            | Self::Judging
            | Self::Running(_)
            | Self::AppendAsked { .. }
            | Self::AppendFull(_)
            | Self::Keeping(_)
            | Self::LeavingIdle(_)
            | Self::StartingTls
            | Self::Closed => true,
        }
    }
}

impl From<Fault> for Done {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax(text) => Self::bad(text),
            Fault::Refused(code, text) => Self::no(Some(code), text),
        }
    }
}
