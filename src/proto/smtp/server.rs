//! The engine of one SMTP session.
//!
//! Invariants: a command is answered once; while a question is open, nothing is taken; after `Close` nothing is
//! ever taken or said.

use std::rc::Rc;
use std::time::Duration;

use crate::bytes::Output;
use crate::limits::smtp::{
    AUTH_LINE_BYTES_MAX, BODY_BYTES_PER_S_MIN, COMMAND_LINE_BYTES_MAX, ERRORS_MAX, IDLE_COMMANDS_MAX,
    RECIPIENTS_SURPLUS_MAX,
};
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::time::{Instant, Now, Timestamp};
use crate::proto::line::{Lines, Taken};
use crate::proto::sasl::{Credentials, Exchange, Identity};

use super::command::{self, Chunk, Command, Dialect, Row, Stage};
use super::data::Dots;
use super::event::{Event, LoginVerdict, MessageRefusal, Outcome, Refusal};
use super::extension;
use super::receive::{Opening, Receiving};
use super::reply::{self, Reply};
use super::session::{Greeting, Policy, Role, Session, Tls};
use super::transaction::Transaction;

/// An SMTP session, seen from the server. When the connection ends in the middle of a message, drop it: nothing
/// was promised.
#[derive(Debug)]
pub struct Server {
    pub(super) policy: Rc<Policy>,
    pub(super) session: Session,
    pub(super) phase: Phase,
    pending: Pending,
    refusal: Option<Refusal>,
    /// A proof was wrong, and the driver does not know yet whose.
    pub(super) rejected: Option<Box<Identity>>,
    /// A message that was begun is no more, and the driver does not know yet.
    pub(super) is_aborted: bool,
    /// The server is shutting down: no new transaction.
    is_leaving: bool,
    lines: Lines,
    /// Mistakes since the last message that was kept.
    errors: u32,
    /// Commands that brought no message any further, since then.
    idle_commands: u16,
    /// Recipients beyond what a transaction may have, since then.
    surplus_recipients: u16,
    /// Recipients that are nobody, since then.
    pub(super) refused_recipients: u32,
    pub(super) login_failures: u32,
    pub(super) mails: u32,
    /// When the last command was complete.
    since: Instant,
    /// When the last byte of a body came.
    pub(super) active: Instant,
}

/// Where the session stands, with what is needed there.
#[derive(Debug)]
pub(super) enum Phase {
    /// Between transactions.
    Ready,
    /// MAIL; the driver is asked.
    Sender(Transaction),
    Transaction(Transaction),
    /// RCPT; the driver is asked.
    Recipient(Transaction, Recipient),
    /// DATA or the first BDAT; the driver is asked for a buffer.
    Beginning(Transaction, Opening),
    Data(Receiving, Dots),
    Chunk {
        receiving: Receiving,
        chunk: Chunk,
        left_bytes: u64,
    },
    /// Between two chunks.
    Chunks(Receiving),
    Swallow {
        bytes: u64,
        left_bytes: u64,
        reply: Reply,
    },
    Complete {
        envelope: Envelope,
        body: Vec<u8>,
    },
    /// The driver has the message and makes it safe.
    Storing,
    Auth(Box<Exchange>),
    Lookup(Box<Exchange>, Identity),
    Password(Credentials),
    Proved(Identity),
    /// The driver judges a login.
    Judging,
    StartTls,
    Closed,
}

/// What stands between the engine and its next byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Nothing,
    /// The phase has a question that was not polled yet.
    Question,
    Outcome,
}

impl Server {
    /// A new session, greeted. `tls` is there where TLS came before the first word.
    pub fn new(policy: Rc<Policy>, tls: Option<Tls>, out: &mut Output, now: Instant) -> Self {
        reply::greeting(&policy.hostname, out);
        Self {
            policy,
            session: Session { tls, ..Session::default() },
            phase: Phase::Ready,
            pending: Pending::Nothing,
            refusal: None,
            rejected: None,
            is_aborted: false,
            is_leaving: false,
            lines: Lines::new(),
            errors: 0,
            idle_commands: 0,
            surplus_recipients: 0,
            refused_recipients: 0,
            login_failures: 0,
            mails: 0,
            since: now,
            active: now,
        }
    }

    /// Takes what it can of `input`; says how many bytes that were.
    pub fn handle_bytes(&mut self, input: &[u8], out: &mut Output, now: Now) -> usize {
        if matches!(self.phase, Phase::StartTls) && !input.is_empty() {
            // RFC 3207 6: whatever was sent in the clear behind STARTTLS is an attack or a fault.
            self.close();
            return input.len();
        }
        let mut used = 0;
        while used < input.len() && self.is_ready() {
            used += match self.phase {
                Phase::Data(..) => self.take_data(&input[used..], out, now.instant),
                Phase::Chunk { .. } => self.take_chunk(&input[used..], out, now.instant),
                Phase::Swallow { .. } => self.take_swallowed(&input[used..], out, now.instant),
                _ => self.take_line(&input[used..], out, now),
            };
        }
        used
    }

    /// The TLS handshake that `StartTls` asked for is done.
    pub fn handle_tls(&mut self, tls: Tls, now: Instant) {
        assert!(matches!(self.phase, Phase::StartTls), "nobody asked for TLS");
        // RFC 3207 4.2: all that the client said before is forgotten.
        self.session = Session { tls: Some(tls), ..Session::default() };
        self.lines.clear();
        self.phase = Phase::Ready;
        self.pending = Pending::Nothing;
        self.since = now;
    }

    /// How the last event went.
    pub fn handle_done(&mut self, outcome: Outcome, out: &mut Output, now: Instant) {
        self.pending = Pending::Nothing;
        self.active = now;
        if !matches!(self.phase, Phase::Data(..) | Phase::Chunk { .. }) {
            self.since = now;
        }
        match (self.leave(), outcome) {
            (Phase::Sender(transaction), Outcome::Sender(verdict)) => {
                self.handle_sender(transaction, verdict, out);
            }
            (Phase::Recipient(transaction, recipient), Outcome::Recipient(verdict)) => {
                self.handle_recipient(transaction, recipient, verdict, out);
            }
            (Phase::Beginning(transaction, opening), Outcome::Begin { prefix }) => {
                self.begin(transaction, opening, prefix, out);
            }
            (Phase::Beginning(_, opening), Outcome::Refuse(refusal)) => {
                self.begin_refused(opening, refusal, out);
            }
            (phase @ (Phase::Data(..) | Phase::Chunk { .. }), outcome) => self.handle_spilled(phase, outcome),
            (Phase::Storing, Outcome::Message(stored)) => self.handle_stored(stored, out),
            (Phase::Judging, Outcome::Login(verdict)) => self.handle_login(verdict, out),
            // Whose proof has not come yet can be refused, and never accepted.
            (Phase::Lookup(..), Outcome::Login(verdict))
                if !matches!(verdict, LoginVerdict::Accepted { .. }) =>
            {
                self.handle_login(verdict, out);
            }
            (Phase::Lookup(exchange, _), Outcome::Verifier { verifier, nonce }) => {
                self.handle_verifier(exchange, verifier, nonce, out);
            }
            (phase, outcome) => panic!("{outcome:?} answers nothing in {phase:?}"),
        }
        if self.is_leaving {
            self.shut_down(out);
        }
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, out: &mut Output, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.reset();
            self.close_with("?", Reply::IDLE, out);
        }
    }

    /// The server stops: closes now, or when the message that is on its way has its answer.
    pub fn shut_down(&mut self, out: &mut Output) {
        self.is_leaving = true;
        let is_at_rest = matches!(self.phase, Phase::Ready | Phase::Transaction(_) | Phase::Auth(_));
        if is_at_rest && self.pending == Pending::Nothing {
            // Nothing was asked, so nothing is refused.
            Reply::SHUTTING_DOWN.write(out);
            self.close();
        }
    }

    /// What the driver must do now.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        if let Some(identity) = self.rejected.take() {
            return Some(Event::Rejected(*identity));
        }
        if let Some(refusal) = self.refusal.take() {
            return Some(Event::Refused(refusal));
        }
        if std::mem::take(&mut self.is_aborted) {
            return Some(Event::Aborted);
        }
        if self.pending != Pending::Question {
            return None;
        }
        self.pending = Pending::Outcome;
        match self.phase {
            Phase::Complete { .. } | Phase::Password(_) | Phase::Proved(_) => self.hand_over(),
            _ => self.question(),
        }
    }

    /// When `handle_timeout` wants to be called. While the driver owes an outcome, it keeps the time.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = Duration::from_secs(self.policy.idle_s);
        let body_bytes = match &self.phase {
            _ if self.pending != Pending::Nothing => return None,
            Phase::Data(receiving, _) | Phase::Chunk { receiving, .. } => receiving.body.bytes(),
            Phase::Swallow { bytes, left_bytes, .. } => bytes - left_bytes,
            _ => return Some(self.since + idle),
        };
        let due = self.since + idle + Duration::from_secs(body_bytes / BODY_BYTES_PER_S_MIN);
        Some(due.min(self.active + idle))
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Stops until the driver has answered what `phase` asks.
    pub(super) fn ask(&mut self, phase: Phase) {
        self.phase = phase;
        self.pending = Pending::Question;
    }

    /// Stops in the phase it is in.
    pub(super) fn ask_again(&mut self) {
        self.pending = Pending::Question;
    }

    /// The phase as a value; between transactions is what remains.
    pub(super) fn leave(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Ready)
    }

    /// Ends the transaction, if there is one.
    pub(super) fn reset(&mut self) {
        match self.leave() {
            Phase::Data(..) | Phase::Chunk { .. } | Phase::Chunks(_) => self.is_aborted = true,
            _ => {}
        }
    }

    pub(super) fn refuse(&mut self, verb: &'static str, reply: Reply, out: &mut Output) {
        self.refuse_address(Refusal { verb, reply, address: None }, out);
    }

    /// Says a last word, and closes.
    pub(super) fn close_with(&mut self, verb: &'static str, reply: Reply, out: &mut Output) {
        reply.write(out);
        self.refusal = Some(Refusal { verb, reply, address: None });
        self.close();
    }

    pub(super) fn stage(&self) -> Stage {
        match self.phase {
            Phase::Transaction(_) => Stage::Mail,
            Phase::Chunks(_) => Stage::Chunks,
            _ if self.session.greeting.is_none() => Stage::New,
            _ => Stage::Ready,
        }
    }

    /// RFC 3207 4, RFC 4954 6: what is missing before this session may send mail.
    pub(super) fn login_refusal(&self) -> Option<Reply> {
        match (self.policy.role, &self.session) {
            (Role::Relay, _) => None,
            (Role::Submission, session) if session.tls.is_none() => Some(Reply::TLS_REQUIRED),
            (Role::Submission, session) => session.login.is_none().then_some(Reply::AUTH_REQUIRED),
        }
    }

    fn is_ready(&self) -> bool {
        self.pending == Pending::Nothing
            && self.rejected.is_none()
            && self.refusal.is_none()
            && !self.is_aborted
    }

    fn take_line(&mut self, input: &[u8], out: &mut Output, now: Now) -> usize {
        let (used, taken) = self.lines.take(input, self.line_bytes_max());
        if taken == Taken::More {
            return used;
        }
        self.since = now.instant;
        let exchange = match self.phase {
            Phase::Auth(_) => self.leave(),
            _ => Phase::Ready,
        };
        match (taken, exchange) {
            (Taken::Line(line), Phase::Auth(exchange)) => self.handle_auth_line(exchange, &line, out),
            (Taken::Line(line), _) => self.handle_command(&line, out, now.timestamp),
            (Taken::Stray, _) => self.refuse("?", Reply::STRAY_LINE_END, out),
            (Taken::TooLong, Phase::Auth(_)) => self.refuse("AUTH", Reply::AUTH_LINE_TOO_LONG, out),
            (Taken::TooLong, _) => self.refuse("?", Reply::LINE_TOO_LONG, out),
            (Taken::Endless, _) => {
                self.reset();
                self.close_with("?", Reply::LINE_TOO_LONG, out);
            }
            (Taken::More, _) => {}
        }
        used
    }

    /// RFC 4954 4: AUTH with its initial response may be as long as a line of its exchange.
    fn line_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Auth(_) => AUTH_LINE_BYTES_MAX,
            Phase::Ready if self.policy.offers_auth(&self.session) => AUTH_LINE_BYTES_MAX,
            _ => COMMAND_LINE_BYTES_MAX,
        }
    }

    fn handle_command(&mut self, line: &[u8], out: &mut Output, at: Timestamp) {
        if self.is_leaving && !matches!(self.phase, Phase::Chunks(_)) {
            self.reset();
            return self.close_with("?", Reply::SHUTTING_DOWN, out);
        }
        let Some((row, argument)) = command::find(line) else {
            return self.handle_unknown(line, out);
        };
        match self.understand(line, row, argument, at) {
            Ok(command) if command.is_idle() && self.is_idle_too_often() => {
                self.reset();
                self.close_with(row.verb, Reply::TOO_MANY_ERRORS, out);
            }
            Ok(command) => self.run(command, out, at),
            // Nobody can tell where the octets end.
            Err(reply) if row.verb == "BDAT" => {
                self.reset();
                self.close_with(row.verb, reply, out);
            }
            Err(reply) => self.refuse(row.verb, reply, out),
        }
    }

    fn handle_unknown(&mut self, line: &[u8], out: &mut Output) {
        if command::is_foreign(line) {
            self.reset();
            return self.close_with("?", Reply::NOT_SMTP, out);
        }
        let reply = match command::is_unimplemented(line) {
            _ if line.len() + 2 > COMMAND_LINE_BYTES_MAX => Reply::LINE_TOO_LONG,
            true => Reply::NOT_IMPLEMENTED,
            false => Reply::UNKNOWN_COMMAND,
        };
        self.refuse("?", reply, out);
    }

    fn understand<'a>(
        &self,
        line: &[u8],
        row: &Row,
        argument: &'a [u8],
        at: Timestamp,
    ) -> Result<Command<'a>, Reply> {
        if line.len() + 2 > COMMAND_LINE_BYTES_MAX && row.verb != "AUTH" {
            return Err(Reply::LINE_TOO_LONG);
        }
        if argument.iter().any(u8::is_ascii_control) {
            return Err(Reply::CONTROL_CHARACTER);
        }
        if let Some(reply) = self.login_refusal().filter(|_| row.needs_login) {
            return Err(reply);
        }
        if !row.stages.contains(self.stage()) {
            return Err(self.stage_refusal(row));
        }
        (row.parse)(argument, self.dialect(at))
    }

    fn stage_refusal(&self, row: &Row) -> Reply {
        match self.stage() {
            Stage::New => Reply::EHLO_FIRST,
            Stage::Ready => Reply::MAIL_FIRST,
            Stage::Mail => Reply::TRANSACTION_OPEN,
            Stage::Chunks if matches!(row.verb, "DATA" | "RCPT") => Reply::CHUNKS_OPEN,
            Stage::Chunks => Reply::TRANSACTION_OPEN,
        }
    }

    fn dialect(&self, at: Timestamp) -> Dialect {
        Dialect {
            is_esmtp: self.session.greeting.as_ref().is_some_and(|greeting| greeting.is_esmtp),
            is_smtputf8: matches!(&self.phase, Phase::Transaction(open) if open.envelope.smtputf8),
            role: self.policy.role,
            at: at.seconds,
        }
    }

    fn run(&mut self, command: Command, out: &mut Output, at: Timestamp) {
        match command {
            Command::Ehlo { name } => {
                self.greet(name, true);
                extension::ehlo(&self.policy, &self.session, at, out);
            }
            Command::Helo { name } => {
                self.greet(name, false);
                reply::helo(&self.policy.hostname, out);
            }
            Command::Mail(transaction) => self.handle_mail(transaction, out, at),
            Command::Rcpt(recipient) => self.handle_rcpt(recipient, out),
            Command::Data => match self.leave() {
                Phase::Transaction(transaction) => self.start_data(transaction, out),
                phase => self.phase = phase,
            },
            Command::Bdat(chunk) => self.start_chunk(chunk, out),
            Command::Rset => {
                self.reset();
                Reply::OK.write(out);
            }
            Command::Noop => Reply::OK.write(out),
            Command::Vrfy => Reply::CANNOT_VERIFY.write(out),
            Command::Expn => self.refuse("EXPN", Reply::EXPAND_DENIED, out),
            Command::Help => reply::help(command::verbs(), out),
            Command::Quit => {
                self.reset();
                Reply::BYE.write(out);
                self.close();
            }
            Command::StartTls => self.start_tls(out),
            Command::Auth { mechanism, initial } => self.start_auth(mechanism, initial, out),
        }
    }

    /// RFC 5321 4.1.4: EHLO and HELO reset as RSET does.
    fn greet(&mut self, name: &str, is_esmtp: bool) {
        self.reset();
        self.session.greeting = Some(Greeting { name: name.into(), is_esmtp });
    }

    fn start_tls(&mut self, out: &mut Output) {
        if self.session.tls.is_some() {
            return self.refuse("STARTTLS", Reply::TLS_ACTIVE, out);
        }
        if !self.policy.is_tls_available {
            return self.refuse("STARTTLS", Reply::NOT_IMPLEMENTED, out);
        }
        Reply::START_TLS.write(out);
        self.ask(Phase::StartTls);
    }

    fn handle_spilled(&mut self, mut phase: Phase, outcome: Outcome) {
        if let Phase::Data(receiving, _) | Phase::Chunk { receiving, .. } = &mut phase {
            match outcome {
                Outcome::Continue { spare } => receiving.body.resume(spare),
                Outcome::Refuse(refusal) => receiving.body.refuse(Reply::from(refusal)),
                outcome => panic!("{outcome:?} does not answer a full body"),
            }
        }
        self.phase = phase;
    }

    fn handle_stored(&mut self, stored: Result<String, MessageRefusal>, out: &mut Output) {
        match stored {
            Ok(id) => {
                (self.errors, self.refused_recipients) = (0, 0);
                (self.idle_commands, self.surplus_recipients) = (0, 0);
                reply::queued(&id, out);
            }
            Err(refusal) => self.refuse("DATA", Reply::from(refusal), out),
        }
    }

    pub(super) fn refuse_address(&mut self, refusal: Refusal, out: &mut Output) {
        if self.is_one_too_many(refusal.reply) {
            self.reset();
            return self.close_with(refusal.verb, Reply::TOO_MANY_ERRORS, out);
        }
        refusal.reply.write(out);
        self.refusal = Some(refusal);
    }

    /// Counts a refusal.
    fn is_one_too_many(&mut self, reply: Reply) -> bool {
        if reply == Reply::TOO_MANY_RECIPIENTS {
            self.surplus_recipients += 1;
            return self.surplus_recipients >= RECIPIENTS_SURPLUS_MAX;
        }
        if !reply.is_protocol_error() {
            return self.is_idle_too_often();
        }
        self.errors += 1;
        self.errors >= ERRORS_MAX
    }

    /// Counts a command that brings no message any further. Beyond what anyone needs each is a mistake.
    fn is_idle_too_often(&mut self) -> bool {
        if self.idle_commands < IDLE_COMMANDS_MAX {
            self.idle_commands += 1;
            return false;
        }
        self.errors += 1;
        self.errors >= ERRORS_MAX
    }

    fn close(&mut self) {
        self.ask(Phase::Closed);
        self.lines.clear();
    }

    /// The events that own what they bring.
    fn hand_over(&mut self) -> Option<Event<'_>> {
        match self.leave() {
            Phase::Complete { envelope, body } => {
                self.phase = Phase::Storing;
                Some(Event::Message { envelope, body })
            }
            Phase::Password(credentials) => {
                self.phase = Phase::Judging;
                Some(Event::Password(credentials))
            }
            Phase::Proved(identity) => {
                self.phase = Phase::Judging;
                Some(Event::Proved(identity))
            }
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// The events that show what the phase holds.
    fn question(&mut self) -> Option<Event<'_>> {
        let session = &self.session;
        Some(match &mut self.phase {
            Phase::Sender(transaction) => Event::Sender { session, transaction },
            Phase::Recipient(transaction, recipient) => Event::Recipient { session, transaction, recipient },
            Phase::Beginning(transaction, _) => Event::Begin { session, transaction },
            Phase::Data(receiving, _) | Phase::Chunk { receiving, .. } => {
                Event::BodyFull(receiving.body.spill())
            }
            Phase::Lookup(_, identity) => Event::Verifier(identity),
            Phase::StartTls => Event::StartTls,
            Phase::Closed => Event::Close,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use proptest::{collection, sample};

    use super::{Event, Instant, Now, Outcome, Output, Policy, Role, Server, Tls};
    use crate::proto::sasl::{Bindings, Mechanism, Nonce};
    use crate::proto::smtp::{LoginVerdict, RecipientVerdict, SenderVerdict};

    /// What a session said and did, and how often its engine was called.
    #[derive(PartialEq, Eq, Debug, Default)]
    struct Run {
        replies: String,
        bodies: Vec<Vec<u8>>,
        events: usize,
    }

    fn policy(role: Role) -> Rc<Policy> {
        Rc::new(Policy {
            hostname: "mx.test".into(),
            role,
            is_tls_available: true,
            message_bytes_max: 64,
            recipients_max: 2,
            idle_s: 300,
            mails_max: None,
            hold_s_max: 3600,
            deliver_by_s_min: 60,
            mechanisms: vec![Mechanism::Plain, Mechanism::ScramSha256],
        })
    }

    fn run<'a>(role: Role, pieces: impl Iterator<Item = &'a [u8]>) -> Run {
        let mut out = Output::new();
        let tls = Tls { cipher: "any".into(), bindings: Bindings::default() };
        let mut server = Server::new(policy(role), Some(tls), &mut out, Instant(0));
        let mut run = Run::default();
        for piece in pieces {
            let mut used = 0;
            loop {
                let taken = server.handle_bytes(&piece[used..], &mut out, Now::default());
                used += taken;
                let is_any = answer(&mut server, &mut run, &mut out);
                if taken == 0 && !is_any {
                    break;
                }
            }
        }
        run.replies = out.to_vec().escape_ascii().to_string();
        run
    }

    fn answer(server: &mut Server, run: &mut Run, out: &mut Output) -> bool {
        let before = run.events;
        while let Some(event) = server.poll_event() {
            run.events += 1;
            let outcome = match event {
                Event::Sender { .. } => Outcome::Sender(SenderVerdict::Accepted),
                Event::Recipient { .. } => Outcome::Recipient(RecipientVerdict::Accepted),
                Event::Begin { .. } => Outcome::Begin { prefix: Vec::new() },
                Event::BodyFull(spare) => Outcome::Continue { spare },
                Event::Message { body, .. } => {
                    run.bodies.push(body);
                    Outcome::Message(Ok("Q".into()))
                }
                Event::Password(_) | Event::Proved(_) => {
                    Outcome::Login(LoginVerdict::Accepted { login: "john".into() })
                }
                Event::Verifier(_) => Outcome::Verifier { verifier: None, nonce: Nonce([0; 18]) },
                Event::Aborted | Event::StartTls | Event::Rejected(_) | Event::Refused(_) | Event::Close => {
                    continue;
                }
            };
            server.handle_done(outcome, out, Instant(0));
        }
        run.events > before
    }

    /// Pieces of dialogues, so that chance gets deep into a session, and noise.
    fn dialogue() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: [&[u8]; 25] = [
            b"EHLO c\r\n",
            b"MAIL FROM:<a@b.test>\r\n",
            b"RCPT TO:<c@d.test>\r\n",
            b"DATA\r\n",
            b".\r\n",
            b"\r\n.\r\n",
            b"BDAT 3\r\n",
            b"abc",
            b"BDAT 2 LAST\r\n",
            b"BDAT 0 LAST\r\n",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"\r",
            b"\n",
            b".",
            b"AUTH PLAIN AGEAYg==\r\n",
            b"AUTH PLAIN\r\n",
            b"*\r\n",
            b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n",
            b"MAIL FROM:<> BODY=BINARYMIME\r\n",
            b"MAIL FROM:<> HOLDFOR=9 BY=60;R MT-PRIORITY=9\r\n",
            b"STARTTLS\r\n",
            b"x",
            b"text\r\n",
            b"QUIT\r\n",
        ];
        let piece = prop_oneof![
            30 => sample::select(WORDS.to_vec()).prop_map(<[u8]>::to_vec),
            1 => collection::vec(any::<u8>(), 0..6),
            1 => Just(vec![b'x'; 3000]),
        ];
        let greeted = collection::vec(piece, 0..30)
            .prop_map(|pieces| [b"EHLO c\r\n".to_vec(), pieces.concat()].concat());
        greeted.boxed()
    }

    #[test]
    fn an_idle_session_is_small_and_holds_no_buffer() {
        assert!(size_of::<Server>() <= 552, "{}", size_of::<Server>());
    }

    proptest! {
        #[test]
        fn no_split_matters(input in dialogue(), steps in collection::vec(1_usize..40, 1..20), is_relay: bool) {
            let role = if is_relay { Role::Relay } else { Role::Submission };
            let whole = run(role, std::iter::once(input.as_slice()));
            let (mut rest, mut steps) = (input.as_slice(), steps.into_iter().cycle());
            let cut = run(role, std::iter::from_fn(|| {
                let (piece, after) = rest.split_at(steps.next()?.min(rest.len()));
                rest = after;
                (!piece.is_empty()).then_some(piece)
            }));
            prop_assert_eq!(&whole, &cut);
            prop_assert_eq!(&whole, &run(role, input.chunks(1)));
            // Work is bounded by what the client sends: at most three events and one reply a line.
            let lines = 1 + input.iter().filter(|&&byte| byte == b'\n').count();
            assert!(whole.events <= 3 * lines + 2 && whole.replies.len() <= 600 * (lines + 1));
        }

        #[test]
        fn noise_is_survived(input in collection::vec(any::<u8>(), 0..300), step in 1_usize..50) {
            prop_assert_eq!(run(Role::Relay, std::iter::once(input.as_slice())), run(Role::Relay, input.chunks(step)));
        }
    }
}
