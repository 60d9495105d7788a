//! The POP3 server with a maildrop of canned messages.
//!
//! Header: `tls: none|offered|implicit`, `clear: yes|no` (whether passwords may cross without TLS), `mail:`
//! names of messages, `commit: durable|failed`, `login-time:` and `idle:` in seconds. The login is
//! `john@here.test` with the password `secret`; other names have other fates.

use std::time::Duration;

use ringpost::auth::{Cost, PasswordRecord, ScramVerifier};
use ringpost::bytes::{Output, Slice};
use ringpost::mail::time::Instant;
use ringpost::proto::pop3::{
    Asked, Channel, CommitVerdict, Event, LoginVerdict, Maildrop, MessageFailure, OpenFailure, Outcome,
    Server, Tls,
};
use ringpost::proto::sasl::{Bindings, Identity, Nonce, Verifier};

use super::{Engine, Header};

const UID_VALIDITY: u32 = 0x2a;

const MESSAGES: [(&str, Result<&[u8], MessageFailure>); 11] = [
    ("hello", Ok(b"Subject: hello\r\n\r\nHi!\r\n")),
    ("dots", Ok(b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nx.\r\n\r\n.\r\n")),
    ("lines", Ok(b"A: b\r\nC: d\r\n e\r\n\r\none\r\n\r\nthree\r\nfour\r\n")),
    ("unended", Ok(b"Subject: cut\r\n\r\nno end")),
    ("unended-dot", Ok(b"Subject: cut\r\n\r\n.")),
    ("empty", Ok(b"")),
    ("header", Ok(b".A: b\r\nC: d\r\n")),
    ("body", Ok(b"\r\none\r\ntwo\r\n")),
    ("latin", Ok(b"Subject: gr\xfc\xdfe\r\n\r\n\xe4\r\n")),
    ("gone", Err(MessageFailure::Gone)),
    ("damaged", Err(MessageFailure::Damaged)),
];

pub struct Session {
    server: Server,
    mail: Vec<&'static Result<&'static [u8], MessageFailure>>,
    verdict: CommitVerdict,
    login: String,
    now: Instant,
    effects: Vec<String>,
    is_closed: bool,
}

impl Engine for Session {
    fn start(header: &Header, out: &mut Output) -> Self {
        let tls = match header.value("tls", "none") {
            "offered" => Tls::Offered,
            "implicit" => Tls::Active(bindings()),
            _ => Tls::Unavailable,
        };
        let number = |name, default| header.value(name, default).parse().expect("it is a number");
        let channel = Channel {
            tls,
            takes_clear_passwords: header.value("clear", "yes") == "yes",
            login_s: number("login-time", "60"),
            idle_s: number("idle", "600"),
        };
        let verdict = match header.value("commit", "durable") {
            "failed" => CommitVerdict::Failed,
            _ => CommitVerdict::Durable,
        };
        let named = |name: &str| &MESSAGES.iter().find(|row| row.0 == name).expect("it is in the table").1;
        let mail = header.value("mail", "").split_whitespace().map(named).collect();
        let now = Instant(1000);
        let server = Server::new(channel, out, now);
        Self { server, mail, verdict, login: String::new(), now, effects: Vec::new(), is_closed: false }
    }

    fn feed(&mut self, input: &[u8], out: &mut Output) {
        let mut used = 0;
        loop {
            let taken = self.server.handle_bytes(&input[used..], out, self.now);
            used += taken;
            if !self.answer_events(out) && taken == 0 {
                return;
            }
        }
    }

    fn direct(&mut self, directive: &str, out: &mut Output) {
        match directive.split_once(' ').unwrap_or((directive, "")) {
            ("tls", "") => self.server.handle_tls(bindings(), self.now),
            ("wait", seconds) => {
                self.now = self.now + Duration::from_secs(seconds.parse().expect("it is a number"));
                self.server.handle_timeout(self.now);
            }
            _ => panic!("unknown directive {directive}"),
        }
        self.answer_events(out);
    }

    fn effects(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
    }
}

impl Session {
    /// Answers what the engine asks; says whether there was anything.
    fn answer_events(&mut self, out: &mut Output) -> bool {
        let mut is_any = false;
        while let Some(event) = self.server.poll_event() {
            assert!(!self.is_closed, "Close is the last event");
            is_any = true;
            if let Some(outcome) = self.answer(event) {
                self.server.handle_done(outcome, out, self.now);
            }
            while self.server.is_sending() {
                self.server.poll_more(out, self.now);
            }
        }
        is_any
    }

    fn answer(&mut self, event: Event) -> Option<Outcome> {
        match event {
            Event::StartTls => self.note("starttls".into()),
            Event::Password(credentials) => {
                let is_right = credentials.password.bytes() == b"secret";
                Some(Outcome::Login(self.login_verdict(&credentials.identity, is_right)))
            }
            Event::Verifier(identity) if identity.login == "down" => {
                Some(Outcome::Login(LoginVerdict::Unavailable))
            }
            Event::Verifier(_) => {
                Some(Outcome::Verifier { verifier: Some(verifier()), nonce: Nonce([0; 18]) })
            }
            Event::Proved(identity) => Some(Outcome::Login(self.login_verdict(&identity, true))),
            Event::Rejected(identity) => self.note(format!("rejected {}", identity.login)),
            Event::Open => Some(Outcome::Opened(self.open())),
            Event::Retrieve { uid, asked } => {
                let how = if asked == Asked::Whole { "whole" } else { "top" };
                self.note(format!("retrieve {uid} {how}"));
                let message = self.mail[uid as usize / 10 - 1];
                Some(Outcome::Message(message.map(|bytes| Slice::from(bytes.to_vec()))))
            }
            Event::Commit(uids) => {
                self.note(format!("commit {uids}"));
                Some(Outcome::Committed(self.verdict))
            }
            Event::Close => {
                self.is_closed = true;
                self.note("close".into())
            }
        }
    }

    fn note(&mut self, effect: String) -> Option<Outcome> {
        self.effects.push(effect);
        None
    }

    fn login_verdict(&mut self, identity: &Identity, is_right: bool) -> LoginVerdict {
        self.login = identity.login.clone();
        match identity.login.as_str() {
            _ if !is_right || identity.authzid.as_ref().is_some_and(|other| *other != identity.login) => {
                LoginVerdict::Refused
            }
            "busy" => LoginVerdict::InUse,
            "down" => LoginVerdict::Unavailable,
            "john@here.test" | "jürgen@here.test" | "open-busy" | "open-large" | "open-down" => {
                LoginVerdict::Accepted
            }
            _ => LoginVerdict::Refused,
        }
    }

    /// The UIDs are 10, 20, 30 and so on.
    fn open(&self) -> Result<Maildrop, OpenFailure> {
        let octets = |bytes: &[u8]| match bytes {
            b"" => 0,
            bytes if bytes.ends_with(b"\r\n") => bytes.len(),
            bytes => bytes.len() + 2,
        };
        let row = |(index, message): (usize, &&Result<&[u8], _>)| {
            (10 * (index as u32 + 1), message.map_or(99, octets) as u64)
        };
        match self.login.as_str() {
            "open-busy" => Err(OpenFailure::InUse),
            "open-large" => Err(OpenFailure::TooLarge),
            "open-down" => Err(OpenFailure::Unavailable),
            _ => Ok(Maildrop::new(UID_VALIDITY, self.mail.iter().enumerate().map(row))),
        }
    }
}

fn bindings() -> Bindings {
    Bindings { exporter: Some(*b"0123456789abcdef0123456789abcdef"), server_end_point: None }
}

/// What the directory would keep of `secret`.
fn verifier() -> Verifier {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1, scram_iterations: 4096 };
    let record = PasswordRecord::derive("secret", &[7; 32], cost).expect("it is not empty");
    let ScramVerifier { salt, iterations, stored_key, server_key } = record.scram;
    Verifier { salt, iterations, stored_key, server_key }
}
