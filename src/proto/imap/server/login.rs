//! Who the client is: STARTTLS, LOGIN, AUTHENTICATE.

use super::{Activity, Channel, Event, Phase, Refusal, Server};
use crate::bytes::Output;
use crate::limits::imap::AUTH_FAILURES_MAX;
use crate::mail::time::Now;
use crate::proto::imap::reply::{Code, Done};
use crate::proto::sasl::{Credentials, Exchange, Failure, Identity, Mechanism, Secret, Step};

impl Server {
    pub(super) fn start_tls(&mut self, out: &mut Output) {
        if !self.offers_tls() {
            return self.finish(Done::bad("TLS cannot begin here"), out);
        }
        self.finish(Done::ok("Begin TLS now"), out);
        self.activity = Activity::StartingTls;
        self.event = Some(Event::StartTls);
    }

    pub(super) fn login(&mut self, login: String, password: Secret, out: &mut Output) {
        if self.channel == Channel::Clear {
            return self.refuse_in_the_clear(out);
        }
        if login.is_empty() {
            return self.refuse_login(Refusal::Credentials, out);
        }
        self.activity = Activity::Judging;
        self.event =
            Some(Event::Verify(Credentials { identity: Identity { authzid: None, login }, password }));
    }

    pub(super) fn authenticate(&mut self, mechanism: &str, initial: Option<&str>, out: &mut Output) {
        if self.channel == Channel::Clear {
            return self.refuse_in_the_clear(out);
        }
        let bindings = self.bindings();
        let mechanism = Mechanism::named(mechanism.as_bytes()).filter(|known| known.is_possible(&bindings));
        let Some(mechanism) = mechanism else {
            return self.finish(Done::no(Some(Code::Cannot), "Unknown mechanism"), out);
        };
        let (exchange, step) = Exchange::start(mechanism, initial.map(str::as_bytes), &bindings);
        self.handle_step(Box::new(exchange), step, out);
    }

    /// The client's answer to a challenge.
    pub(super) fn handle_response(&mut self, mut exchange: Box<Exchange>, line: &[u8], out: &mut Output) {
        let step = exchange.handle_line(line);
        self.handle_step(exchange, step, out);
    }

    pub(super) fn handle_step(&mut self, exchange: Box<Exchange>, step: Step, out: &mut Output) {
        match step {
            Step::Challenge(challenge) => {
                out.push(b"+ ");
                out.push(challenge.as_bytes());
                out.push(b"\r\n");
                self.activity = Activity::Challenged(exchange);
            }
            Step::Verify(credentials) => {
                self.activity = Activity::Judging;
                self.event = Some(Event::Verify(credentials));
            }
            Step::Lookup(identity) => {
                self.activity = Activity::LookingUp(exchange);
                self.event = Some(Event::Lookup(identity));
            }
            Step::Success(identity) => {
                self.activity = Activity::Judging;
                self.event = Some(Event::Admit(identity));
            }
            Step::Failure(failure) => self.fail_exchange(failure, *exchange, out),
        }
    }

    /// RFC 9051 6.2.2: a cancelled exchange and what is not base64 are BAD.
    fn fail_exchange(&mut self, failure: Failure, exchange: Exchange, out: &mut Output) {
        match failure {
            Failure::Cancelled => self.finish(Done::bad("AUTHENTICATE cancelled"), out),
            Failure::Encoding => self.finish(Done::bad("The response is not base64"), out),
            Failure::Malformed => self.finish(Done::bad("The response is malformed"), out),
            Failure::Rejected => {
                self.rejected = exchange.into_claimed().map(Box::new);
                self.refuse_login(Refusal::Credentials, out);
            }
        }
    }

    pub(super) fn log_in(&mut self, out: &mut Output, now: Now) {
        self.phase = Phase::Authenticated;
        self.active = now.instant;
        self.errors = 0;
        let tag = std::mem::take(&mut self.tag);
        out.push(tag.as_bytes());
        out.push(b" OK [");
        self.write_capabilities(out.text_mut());
        out.push(b"] Logged in\r\n");
    }

    pub(super) fn refuse_login(&mut self, refusal: Refusal, out: &mut Output) {
        let (code, text) = match refusal {
            Refusal::Credentials => (Code::AuthenticationFailed, "Wrong login or password"),
            Refusal::Authorization => (Code::AuthorizationFailed, "Not allowed to be that user"),
            Refusal::Unavailable => (Code::Unavailable, "Logins cannot be checked now, try again later"),
        };
        self.auth_failures += u32::from(refusal != Refusal::Unavailable);
        self.finish(Done::no(Some(code), text), out);
        if self.auth_failures >= AUTH_FAILURES_MAX {
            self.bye(out, "Too many failed logins");
        }
    }

    fn refuse_in_the_clear(&mut self, out: &mut Output) {
        self.finish(Done::no(Some(Code::PrivacyRequired), "Begin TLS before you log in"), out);
    }
}
