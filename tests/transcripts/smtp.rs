//! The SMTP server with canned outcomes, which the names in the envelope choose.
//!
//! Header: `role: relay|submission`, `tls: none|offered|implicit`, `auth: MECHANISM ...`, `size:`, `recipients:`,
//! `mails:`, `idle:` in seconds. `here.test` is local, `gone.test` does not exist, everything else is foreign. The
//! login is `john@here.test` with the password `secret`.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};

use ringpost::bytes::Output;
use ringpost::mail::address::Address;
use ringpost::mail::envelope::{BodyKind, ByMode, Envelope, Notify, Recipient, Ret};
use ringpost::mail::time::{Instant, Now, Timestamp};
use ringpost::proto::sasl::{Bindings, Credentials, Identity, Mechanism, Nonce, Verifier};
use ringpost::proto::smtp::{
    Event, LoginVerdict, MessageRefusal, Outcome, Policy, RecipientVerdict, Role, SenderVerdict, Server, Tls,
    Transaction,
};

use super::{Engine, Header};

pub struct Session {
    server: Server,
    effects: Vec<String>,
    now: Instant,
    messages: u32,
    /// What was taken by `BodyFull`.
    spilled: Vec<u8>,
    is_closed: bool,
}

impl Engine for Session {
    fn start(header: &Header, out: &mut Output) -> Self {
        let number = |name, default: &str| header.value(name, default).parse().expect("it is a number");
        let mechanisms = header.value("auth", "").split_whitespace();
        let policy = Policy {
            hostname: "mx.test".into(),
            role: if header.value("role", "relay") == "relay" { Role::Relay } else { Role::Submission },
            is_tls_available: header.value("tls", "none") != "none",
            message_bytes_max: number("size", "1000"),
            recipients_max: number("recipients", "100") as usize,
            idle_s: number("idle", "300"),
            mails_max: header.value("mails", "").parse().ok(),
            hold_s_max: number("hold", "1000000").try_into().expect("it is small"),
            deliver_by_s_min: 60,
            mechanisms: mechanisms
                .map(|name| Mechanism::named(name.as_bytes()).expect("it is ours"))
                .collect(),
        };
        let now = Instant(1000);
        let tls = (header.value("tls", "none") == "implicit").then(tls);
        let server = Server::new(Rc::new(policy), tls, out, now);
        Self { server, effects: Vec::new(), now, messages: 0, spilled: Vec::new(), is_closed: false }
    }

    fn feed(&mut self, input: &[u8], out: &mut Output) {
        let mut used = 0;
        loop {
            let taken = self.server.handle_bytes(&input[used..], out, now(self.now));
            used += taken;
            if !self.answer_events(out) && taken == 0 {
                return;
            }
        }
    }

    fn direct(&mut self, directive: &str, out: &mut Output) {
        match directive.split_once(' ').unwrap_or((directive, "")) {
            ("tls", "") => self.server.handle_tls(tls(), self.now),
            ("wait", seconds) => {
                self.now = self.now + Duration::from_secs(seconds.parse().expect("it is a number"));
                self.server.handle_timeout(out, self.now);
            }
            ("stop", "") => self.server.shut_down(out),
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
            let outcome = match event {
                Event::Sender { session, transaction } => {
                    Some(Outcome::Sender(sender_verdict(session.login.is_some(), transaction)))
                }
                Event::Recipient { session, recipient, .. } => {
                    Some(Outcome::Recipient(recipient_verdict(session.login.is_some(), recipient)))
                }
                Event::Begin { session, transaction } => Some(begin(session.login.as_deref(), transaction)),
                Event::BodyFull(part) => {
                    self.spilled.extend_from_slice(&part);
                    Some(Outcome::Continue { spare: part })
                }
                Event::Message { envelope, body } => {
                    self.spilled.extend_from_slice(&body);
                    let body = std::mem::take(&mut self.spilled);
                    self.effects.push(shown(&envelope, &body));
                    self.messages += 1;
                    Some(Outcome::Message(stored(&envelope, self.messages)))
                }
                Event::Aborted => {
                    self.spilled.clear();
                    self.effects.push("aborted".into());
                    None
                }
                Event::StartTls => {
                    self.effects.push("starttls".into());
                    None
                }
                Event::Password(credentials) => Some(Outcome::Login(login_verdict(&credentials))),
                Event::Verifier(identity) if identity.login == "down@here.test" => {
                    Some(Outcome::Login(LoginVerdict::Unavailable))
                }
                Event::Verifier(identity) => {
                    let verifier = (identity.login == "john@here.test").then(verifier);
                    Some(Outcome::Verifier { verifier, nonce: Nonce([0; 18]) })
                }
                Event::Proved(identity) => Some(Outcome::Login(proved_verdict(identity))),
                Event::Rejected(identity) => {
                    self.effects.push(format!("rejected {}", identity.login));
                    None
                }
                Event::Refused(_) => None,
                Event::Close => {
                    self.is_closed = true;
                    self.effects.push("close".into());
                    None
                }
            };
            if let Some(outcome) = outcome {
                self.server.handle_done(outcome, out, self.now);
            }
        }
        is_any
    }
}

/// It is 10:00:00 on 24 November 2026 in every dialogue, however long a client waits.
fn now(instant: Instant) -> Now {
    Now { instant, timestamp: Timestamp::utc(1_795_514_400) }
}

fn tls() -> Tls {
    let bindings = Bindings { exporter: Some(*b"0123456789abcdef0123456789abcdef"), server_end_point: None };
    Tls { cipher: "TLS_AES_128_GCM_SHA256".into(), bindings }
}

fn local_part(address: Option<&Address>) -> &str {
    address.map_or("", |address| &address.local)
}

fn sender_verdict(is_login: bool, transaction: &Transaction) -> SenderVerdict {
    match local_part(transaction.envelope.sender.as_ref()) {
        "thief" if is_login => SenderVerdict::NotOwned,
        "denied" => SenderVerdict::Denied,
        "unknown" => SenderVerdict::UnknownDomain,
        "nospace" => SenderVerdict::NoSpace,
        "later" => SenderVerdict::Temporary,
        _ if is_login => SenderVerdict::Accepted,
        _ => SenderVerdict::Capped { priority_max: 0 },
    }
}

fn recipient_verdict(is_login: bool, recipient: &Recipient) -> RecipientVerdict {
    match (recipient.address.domain.as_str(), recipient.address.local.as_str()) {
        ("gone.test", _) => RecipientVerdict::UnknownDomain,
        ("" | "here.test", "nobody") => RecipientVerdict::UnknownUser,
        ("" | "here.test", "disabled") => RecipientVerdict::Disabled,
        ("" | "here.test", "full") => RecipientVerdict::OverQuota,
        ("" | "here.test", "later") => RecipientVerdict::Temporary,
        ("" | "here.test" | "xn--hre-rla.test" | "hére.test", _) => RecipientVerdict::Accepted,
        _ if is_login => RecipientVerdict::Accepted,
        _ => RecipientVerdict::RelayDenied,
    }
}

fn begin(login: Option<&str>, transaction: &Transaction) -> Outcome {
    match local_part(transaction.envelope.sender.as_ref()) {
        "nobuffer" => Outcome::Refuse(MessageRefusal::NoSpace),
        _ => Outcome::Begin { prefix: format!("{}:", login.unwrap_or("-")).into_bytes() },
    }
}

fn stored(envelope: &Envelope, number: u32) -> Result<String, MessageRefusal> {
    match local_part(envelope.sender.as_ref()) {
        "storelater" => Err(MessageRefusal::Temporary),
        "storefull" => Err(MessageRefusal::NoSpace),
        "badheader" => Err(MessageRefusal::BadHeader),
        "spam" => Err(MessageRefusal::Denied),
        _ => Ok(format!("Q{number}")),
    }
}

fn login_verdict(credentials: &Credentials) -> LoginVerdict {
    match (credentials.identity.login.as_str(), credentials.password.bytes()) {
        ("weak@here.test", b"secret") => LoginVerdict::Weak,
        ("disabled@here.test", b"secret") => LoginVerdict::Disabled,
        ("down@here.test", _) => LoginVerdict::Unavailable,
        ("john@here.test", b"secret") => proved_verdict(credentials.identity.clone()),
        _ => LoginVerdict::Refused,
    }
}

fn proved_verdict(identity: Identity) -> LoginVerdict {
    match identity.authzid {
        Some(authzid) if authzid != identity.login => LoginVerdict::Refused,
        _ => LoginVerdict::Accepted { login: identity.login },
    }
}

/// Of the password `secret` with the salt `salt`, 4096 times.
pub fn verifier() -> Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    let made = VERIFIER.get_or_init(|| {
        let iterations = NonZeroU32::new(4096).expect("4096 is not zero");
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, b"salt", b"secret", &mut salted);
        let sign = |text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), text);
        let stored_key = digest::digest(&digest::SHA256, sign(b"Client Key").as_ref());
        let bytes = |bytes: &[u8]| bytes.try_into().expect("SHA-256 has 32 bytes");
        Verifier {
            salt: b"salt".to_vec(),
            iterations: iterations.get(),
            stored_key: bytes(stored_key.as_ref()),
            server_key: bytes(sign(b"Server Key").as_ref()),
        }
    });
    made.clone()
}

/// An envelope and a body as one line.
fn shown(envelope: &Envelope, body: &[u8]) -> String {
    let sender = envelope.sender.as_ref().map_or_else(String::new, Address::to_string);
    let mut words = vec![format!("message <{sender}>")];
    match envelope.body {
        BodyKind::SevenBit => {}
        BodyKind::EightBitMime => words.push("8bit".into()),
        BodyKind::BinaryMime => words.push("binary".into()),
    }
    words.extend(envelope.smtputf8.then(|| "smtputf8".to_owned()));
    words.extend(envelope.ret.map(|ret| if ret == Ret::Full { "full" } else { "headers" }.to_owned()));
    words.extend(envelope.envid.as_ref().map(|envid| format!("envid={envid}")));
    words.extend((envelope.priority != 0).then(|| format!("priority={}", envelope.priority)));
    words.extend(envelope.deliver_by.map(|by| {
        let mode = if by.mode == ByMode::Return { "return" } else { "notify" };
        format!("{mode}@{}{}", by.at, if by.trace { "/trace" } else { "" })
    }));
    words.extend(envelope.hold_until.map(|until| format!("hold@{until}")));
    words.extend(envelope.recipients.iter().map(shown_recipient));
    let body = match body.len() {
        0..=300 => body.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\""),
        len => format!("{len} bytes"),
    };
    format!("{} {body}", words.join(" "))
}

fn shown_recipient(recipient: &Recipient) -> String {
    let mut text = format!("to=<{}>", recipient.address);
    if let Some(Notify { success, failure, delay }) = recipient.notify {
        let flags = [(success, 'S'), (failure, 'F'), (delay, 'D')];
        text.push_str("/notify=");
        text.extend(flags.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag));
    }
    if let Some(orcpt) = &recipient.orcpt {
        text.push_str("/orcpt=");
        text.push_str(orcpt);
    }
    text
}
