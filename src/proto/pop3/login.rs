//! Logging in: USER and PASS, and AUTH by [`crate::proto::sasl`] (RFC 5034).
//!
//! Invariants: USER says +OK to every name; a password is taken only where the channel may carry it, and
//! refused before it is asked for elsewhere; an unknown login and a wrong password get the same reply; after
//! [`AUTH_FAILURES_MAX`] of them the connection closes.

use crate::bytes::Output;
use crate::limits::pop3::AUTH_FAILURES_MAX;
use crate::proto::pop3::event::{Event, LoginVerdict};
use crate::proto::pop3::reply::{self, Code, Refusal, Text};
use crate::proto::sasl::{
    Bindings, Credentials, Exchange, Failure, Identity, Mechanism, Nonce, Secret, Step, Verifier,
};

use super::server::{Phase, Server, Tls};

/// The AUTHORIZATION state.
#[derive(Default, Debug)]
pub(super) struct Login {
    /// What the USER right before gave.
    user: Option<String>,
}

impl Server {
    pub(super) fn handle_user(&mut self, name: &str, out: &mut Output) {
        if !self.offer().takes_passwords {
            return self.err(out, Refusal::plain(Text::NeedsTls));
        }
        self.phase = Phase::Login(Login { user: Some(name.to_owned()) });
        self.ok(out, Text::SendPassword);
    }

    pub(super) fn handle_pass(&mut self, login: Login, password: &[u8], out: &mut Output) {
        let Some(login) = login.user else {
            return self.err(out, Refusal::plain(Text::NoUser));
        };
        // RFC 6856 2.2: what is not UTF-8 is nobody's password. Nor is nothing.
        if password.is_empty() || std::str::from_utf8(password).is_err() {
            return self.refuse_login(out);
        }
        let identity = Identity { authzid: None, login };
        self.phase = Phase::Judging(None);
        self.ask(Event::Password(Credentials { identity, password: Secret::from(password.to_vec()) }));
    }

    pub(super) fn handle_auth(&mut self, mechanism: &[u8], initial: Option<&[u8]>, out: &mut Output) {
        let offer = self.offer();
        let mechanism = match Mechanism::named(mechanism) {
            Some(known) if offer.mechanisms.contains(&known) => known,
            Some(known) if known.shows_password() => {
                return self.err(out, Refusal::plain(Text::NeedsTls));
            }
            _ => return self.err(out, Refusal::plain(Text::UnknownMechanism)),
        };
        let unbound = Bindings::default();
        let bindings = match &self.channel.tls {
            Tls::Active(bindings) => bindings,
            Tls::Unavailable | Tls::Offered => &unbound,
        };
        let (exchange, step) = Exchange::start(mechanism, initial, bindings);
        self.take_step(exchange, step, out);
    }

    /// A line of the exchange.
    pub(super) fn handle_response(&mut self, mut exchange: Exchange, line: &[u8], out: &mut Output) {
        let step = exchange.handle_line(line);
        self.take_step(exchange, step, out);
    }

    pub(super) fn handle_verifier(
        &mut self,
        mut exchange: Exchange,
        verifier: Option<Verifier>,
        nonce: Nonce,
        out: &mut Output,
    ) {
        let step = exchange.handle_verifier(verifier, nonce);
        self.take_step(exchange, step, out);
    }

    pub(super) fn handle_verdict(&mut self, verdict: LoginVerdict, out: &mut Output) {
        self.phase = Phase::Login(Login::default());
        match verdict {
            LoginVerdict::Accepted => {
                self.phase = Phase::Opening;
                self.ask(Event::Open);
            }
            LoginVerdict::Refused => self.refuse_login(out),
            LoginVerdict::InUse => self.err(out, Refusal::coded(Code::InUse, Text::InUse)),
            // RFC 3206 4: not [AUTH], so that clients do not ask for another password.
            LoginVerdict::Unavailable => self.err(out, Refusal::coded(Code::SysTemp, Text::Unavailable)),
        }
    }

    /// AUTH alone, from the time before CAPA.
    pub(super) fn list_mechanisms(&mut self, out: &mut Output) {
        self.ok(out, Text::Mechanisms);
        let offer = self.offer();
        offer.mechanisms.iter().for_each(|each| reply::line(out, format_args!("{}", each.name())));
        reply::end_of_lines(out);
    }

    fn take_step(&mut self, exchange: Exchange, step: Step, out: &mut Output) {
        self.phase = Phase::Login(Login::default());
        match step {
            Step::Challenge(challenge) => {
                reply::line(out, format_args!("+ {challenge}"));
                self.phase = Phase::Exchange(exchange);
            }
            Step::Verify(credentials) => {
                self.phase = Phase::Judging(None);
                self.ask(Event::Password(credentials));
            }
            Step::Lookup(identity) => {
                self.phase = Phase::Judging(Some(exchange));
                self.ask(Event::Verifier(identity));
            }
            Step::Success(identity) => {
                self.phase = Phase::Judging(None);
                self.ask(Event::Proved(identity));
            }
            Step::Failure(failure) => self.handle_failure(failure, exchange, out),
        }
    }

    fn handle_failure(&mut self, failure: Failure, exchange: Exchange, out: &mut Output) {
        match failure {
            Failure::Cancelled => self.err(out, Refusal::plain(Text::Cancelled)),
            Failure::Encoding | Failure::Malformed => self.err(out, Refusal::plain(Text::BadEncoding)),
            Failure::Rejected => {
                if let Some(identity) = exchange.into_claimed() {
                    self.ask(Event::Rejected(identity));
                }
                self.refuse_login(out);
            }
        }
    }

    fn refuse_login(&mut self, out: &mut Output) {
        self.refused_logins += 1;
        match self.refused_logins < AUTH_FAILURES_MAX {
            true => self.err(out, Refusal::coded(Code::Auth, Text::LoginRefused)),
            false => self.part(out, Refusal::coded(Code::Auth, Text::TooManyLogins)),
        }
    }
}
