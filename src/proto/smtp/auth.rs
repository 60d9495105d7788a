//! AUTH (RFC 4954): which mechanisms, and what their steps say.

use crate::bytes::Output;
use crate::limits::smtp::AUTH_FAILURES_MAX;
use crate::proto::sasl::{Bindings, Exchange, Failure, Mechanism, Nonce, Step, Verifier};

use super::event::LoginVerdict;
use super::reply::{self, Reply};
use super::server::{Phase, Server};

impl Server {
    /// AUTH was said between two transactions.
    pub(super) fn start_auth(&mut self, mechanism: &[u8], initial: Option<&[u8]>, out: &mut Output) {
        if let Some(reply) = self.auth_refusal() {
            return self.refuse("AUTH", reply, out);
        }
        let named = Mechanism::named(mechanism);
        let offered =
            named.filter(|&named| self.policy.mechanisms_for(&self.session).any(|known| known == named));
        let Some(mechanism) = offered else {
            return self.refuse("AUTH", Reply::UNKNOWN_MECHANISM, out);
        };
        let is_plus_offered = self.policy.mechanisms.contains(&Mechanism::ScramSha256Plus);
        let bindings = self.session.tls.as_ref().filter(|_| is_plus_offered).map(|tls| &tls.bindings);
        let (exchange, step) = Exchange::start(mechanism, initial, bindings.unwrap_or(&Bindings::NONE));
        self.handle_step(Box::new(exchange), step, out);
    }

    /// A line of the exchange.
    pub(super) fn handle_auth_line(&mut self, mut exchange: Box<Exchange>, line: &[u8], out: &mut Output) {
        let step = exchange.handle_line(line);
        self.handle_step(exchange, step, out);
    }

    pub(super) fn handle_verifier(
        &mut self,
        mut exchange: Box<Exchange>,
        verifier: Option<Verifier>,
        nonce: Nonce,
        out: &mut Output,
    ) {
        let step = exchange.handle_verifier(verifier, nonce);
        self.handle_step(exchange, step, out);
    }

    pub(super) fn handle_login(&mut self, verdict: LoginVerdict, out: &mut Output) {
        let reply = Reply::from(&verdict);
        match verdict {
            LoginVerdict::Accepted { login } => {
                self.session.login = Some(login);
                reply.write(out);
            }
            LoginVerdict::Refused => self.fail_login(out),
            LoginVerdict::Weak | LoginVerdict::Disabled | LoginVerdict::Unavailable => {
                self.refuse("AUTH", reply, out);
            }
        }
    }

    fn auth_refusal(&self) -> Option<Reply> {
        if self.policy.mechanisms.is_empty() {
            return Some(Reply::NOT_IMPLEMENTED);
        }
        if self.session.login.is_some() {
            return Some(Reply::ALREADY_LOGGED_IN);
        }
        // The mechanism is not even looked at: nothing secret is asked for in the clear.
        self.session.tls.is_none().then_some(Reply::AUTH_NEEDS_TLS)
    }

    fn handle_step(&mut self, exchange: Box<Exchange>, step: Step, out: &mut Output) {
        match step {
            Step::Challenge(text) => {
                reply::challenge(&text, out);
                self.phase = Phase::Auth(exchange);
            }
            Step::Verify(credentials) => self.ask(Phase::Password(credentials)),
            Step::Lookup(identity) => self.ask(Phase::Lookup(exchange, identity)),
            Step::Success(identity) => self.ask(Phase::Proved(identity)),
            Step::Failure(Failure::Rejected) => {
                self.rejected = exchange.into_claimed().map(Box::new);
                self.fail_login(out);
            }
            Step::Failure(failure) => self.refuse("AUTH", Reply::from(failure), out),
        }
    }

    /// Wrong passwords are counted apart, and sooner too many.
    fn fail_login(&mut self, out: &mut Output) {
        self.login_failures += 1;
        match self.login_failures >= AUTH_FAILURES_MAX {
            true => self.close_with("AUTH", Reply::TOO_MANY_LOGINS, out),
            false => self.refuse("AUTH", Reply::BAD_CREDENTIALS, out),
        }
    }
}
