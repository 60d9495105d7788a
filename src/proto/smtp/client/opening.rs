//! From the first byte to the first transaction: greeting, EHLO, STARTTLS, AUTH.
//!
//! ```text
//!   220 ──> EHLO ──┬──────────────────────────────────> AUTH ──> ready
//!             │    └──> STARTTLS ──> handshake ──> EHLO ──┘
//!             └──> HELO, where EHLO is not known
//! ```

use std::fmt::Write;

use crate::bytes::Output;
use crate::limits::smtp::client::SCRAM_ITERATIONS_MAX;
use crate::mail::reply::EnhancedCode;
use crate::proto::sasl::Prover;

use super::engine::{Client, State};
use super::event::{Event, Failure, Origin, Phase};
use super::offers::Offers;
use super::replies::{Answer, Class};
use super::settings::{Login, LoginOver, Protocol, Security, TlsPolicy};

/// RFC 4954 4: an AUTH command does not get longer for its initial response.
const AUTH_COMMAND_BYTES_MAX: usize = 512;

/// What the next reply answers.
#[derive(Debug)]
pub(super) enum Opening {
    /// The connection.
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// Nothing: the driver shakes hands.
    Handshake,
    Auth {
        prover: Prover,
        /// What was too long for the command.
        initial: Option<String>,
    },
}

impl Opening {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Ehlo | Self::Helo => Phase::Ehlo,
            Self::StartTls => Phase::StartTls,
            Self::Handshake => Phase::Tls,
            Self::Auth { .. } => Phase::Auth,
        }
    }
}

impl Client {
    pub(super) fn handle_opening(&mut self, opening: Opening, answer: &Answer, out: &mut Output) {
        match (opening, answer.class()) {
            (Opening::Greeting, Class::Positive) => self.say_ehlo(out),
            (Opening::Ehlo, Class::Positive) => {
                self.offers = Offers::of_lines(answer.lines());
                self.handle_offers(out);
            }
            (Opening::Ehlo, Class::Permanent) if self.may_say_helo(answer.code) => {
                self.say("HELO", out);
                self.state = State::Opening(Opening::Helo);
            }
            (Opening::Helo, Class::Positive) => {
                self.offers = Offers::default();
                self.handle_offers(out);
            }
            (Opening::StartTls, Class::Positive) => {
                self.state = State::Opening(Opening::Handshake);
                self.push(Event::StartTls);
            }
            (Opening::StartTls, Class::Transient | Class::Permanent)
                if self.settings.tls == TlsPolicy::Opportunistic =>
            {
                self.handle_channel(out);
            }
            (Opening::Auth { prover, .. }, Class::Positive) if prover.is_complete() => self.become_ready(),
            (Opening::Auth { prover, initial }, Class::Intermediate) => {
                self.handle_challenge(prover, initial, answer, out);
            }
            (opening, Class::Positive | Class::Intermediate) => {
                self.end(Failure::confused(opening.phase(), "a reply that the command cannot have"));
            }
            (opening, Class::Transient | Class::Permanent) => {
                let failure = Failure { reply: answer.reply(), phase: opening.phase(), origin: Origin::Peer };
                self.leave(failure, out);
            }
        }
    }

    /// In the clear, and again in TLS, where what was learnt before counts no more.
    pub(super) fn say_ehlo(&mut self, out: &mut Output) {
        self.offers = Offers::default();
        let verb = match self.settings.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.say(verb, out);
        self.state = State::Opening(Opening::Ehlo);
    }

    fn say(&self, verb: &str, out: &mut Output) {
        write!(out, "{verb} {}\r\n", self.settings.hostname).expect("writing to memory does not fail");
    }

    /// RFC 5321 3.2, 4.1.1.1: codes of a server that does not know EHLO.
    fn may_say_helo(&self, code: u16) -> bool {
        self.settings.protocol == Protocol::Smtp && matches!(code, 500 | 501 | 502 | 504 | 550)
    }

    /// EHLO is answered: TLS first.
    fn handle_offers(&mut self, out: &mut Output) {
        let is_wanted = self.security == Security::Clear && self.settings.tls != TlsPolicy::Never;
        if !is_wanted {
            return self.handle_channel(out);
        }
        if self.offers.starttls {
            out.push(b"STARTTLS\r\n");
            self.state = State::Opening(Opening::StartTls);
            return;
        }
        match self.settings.tls {
            TlsPolicy::Required => {
                let text = "TLS is required and the server does not offer it";
                let enhanced = EnhancedCode::new(4, 7, 4);
                self.leave(Failure::local(454, enhanced, text, Phase::StartTls), out);
            }
            TlsPolicy::Never | TlsPolicy::Opportunistic => self.handle_channel(out),
        }
    }

    /// The connection is as safe as it will be: log in, if we must.
    fn handle_channel(&mut self, out: &mut Output) {
        let Some(login) = self.settings.login.clone() else {
            return self.become_ready();
        };
        match self.start_auth(&login, out) {
            Ok(opening) => self.state = State::Opening(opening),
            Err(text) => self.leave(Failure::local(454, EnhancedCode::new(4, 7, 0), text, Phase::Auth), out),
        }
    }

    fn start_auth(&self, login: &Login, out: &mut Output) -> Result<Opening, &'static str> {
        if login.over == LoginOver::VerifiedTls && self.security != Security::Verified {
            return Err("the login is for verified TLS alone, and this is not");
        }
        let mut known = Prover::MECHANISMS.into_iter();
        let mechanism = known.find(|mechanism| self.offers.mechanisms.contains(mechanism));
        let mechanism = mechanism.ok_or("a login is required and the server offers no way that we know")?;
        let (prover, initial) =
            Prover::start(mechanism, &login.name, &login.password, self.nonce, SCRAM_ITERATIONS_MAX);
        let command = format!("AUTH {}", mechanism.name());
        out.push(command.as_bytes());
        let room = AUTH_COMMAND_BYTES_MAX - command.len() - " \r\n".len();
        let (along, later) = match initial {
            Some(initial) if initial.len() > room => (None, Some(initial)),
            initial => (initial, None),
        };
        if let Some(along) = along {
            out.push(b" ");
            out.push(along.as_bytes());
        }
        out.push(b"\r\n");
        Ok(Opening::Auth { prover, initial: later })
    }

    fn handle_challenge(
        &mut self,
        mut prover: Prover,
        initial: Option<String>,
        answer: &Answer,
        out: &mut Output,
    ) {
        let challenge = answer.lines().next().unwrap_or_default();
        let response = initial.map_or_else(|| prover.handle_challenge(challenge), Ok);
        match response {
            Ok(response) => {
                out.push(response.as_bytes());
                out.push(b"\r\n");
                self.state = State::Opening(Opening::Auth { prover, initial: None });
            }
            Err(refused) => {
                self.end(Failure::local(454, EnhancedCode::new(4, 7, 0), refused.0, Phase::Auth));
            }
        }
    }

    fn become_ready(&mut self) {
        self.state = State::Ready;
        self.push(Event::Ready);
    }
}
