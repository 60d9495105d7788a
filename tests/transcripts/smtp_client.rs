//! The SMTP and LMTP client, told what to do by directives.
//!
//! Header: `protocol: smtp|lmtp`, `tls: never|opportunistic|required|implicit`, `login: verified|any` (as
//! `john@here.test` with the password `secret`, or `password:`), `eight_bit: refuse|anyway`,
//! `chunking: offered|needed`.
//!
//! Directives: `begin WORD ...` with `from=`, `to=` (with `/notify=SFD` and `/orcpt=` behind), `body=8bit|binary`,
//! `smtputf8`, `ret=full|headers`, `envid=`, `by=SECONDS;R|N[T]`, `priority=`, and `part=`, of which each is a part of
//! the message; `send` (all of the message), `burst` (one burst), `tls encrypted|verified`, `end WHY`,
//! `wait SECONDS`, `quit`.

use std::rc::Rc;
use std::time::Duration;

use ringpost::bytes::{Output, Slice};
use ringpost::mail::address::Address;
use ringpost::mail::envelope::{BodyKind, Notify, Recipient, Ret};
use ringpost::mail::time::Instant;
use ringpost::proto::sasl::{Nonce, Secret};
use ringpost::proto::smtp::client::{
    ByMode, Chunking, Client, DeliverBy, Done, EightBit, Event, Fate, Login, LoginOver, Origin, Passed,
    Protocol, Security, Settings, TlsPolicy, Transaction,
};

use super::{Engine, Header, Side, unescaped};

pub struct Session {
    client: Client,
    effects: Vec<String>,
    now: Instant,
    is_closed: bool,
}

impl Engine for Session {
    const SIDE: Side = Side::Client;

    fn start(header: &Header, _: &mut Output) -> Self {
        let mut settings = Settings::new("me.test");
        if header.value("protocol", "smtp") == "lmtp" {
            settings.protocol = Protocol::Lmtp;
        }
        settings.tls = match header.value("tls", "never") {
            "opportunistic" => TlsPolicy::Opportunistic,
            "required" | "implicit" => TlsPolicy::Required,
            _ => TlsPolicy::Never,
        };
        let over = match header.value("login", "") {
            "verified" => Some(LoginOver::VerifiedTls),
            "any" => Some(LoginOver::AnyChannel),
            _ => None,
        };
        let password = Secret::from(unescaped(header.value("password", "secret"), "header"));
        settings.login = over.map(|over| Login { name: "john@here.test".into(), password, over });
        if header.value("eight_bit", "refuse") == "anyway" {
            settings.eight_bit = EightBit::SendAnyway;
        }
        if header.value("chunking", "offered") == "needed" {
            settings.chunking = Chunking::WhenNeeded;
        }
        let security = match header.value("tls", "never") {
            "implicit" => Security::Verified,
            _ => Security::Clear,
        };
        let now = Instant(1000);
        let client = Client::new(Rc::new(settings), security, Nonce([0; 18]), now);
        Self { client, effects: Vec::new(), now, is_closed: false }
    }

    fn feed(&mut self, input: &[u8], out: &mut Output) {
        let mut used = 0;
        while used < input.len() {
            used += self.client.handle_bytes(&input[used..], out, self.now);
            self.take_events();
        }
    }

    fn direct(&mut self, directive: &str, out: &mut Output) {
        match directive.split_once(' ').unwrap_or((directive, "")) {
            ("begin", words) => self.client.begin(transaction(words), out, self.now),
            ("send", "") => while self.client.poll_output(out, self.now) {},
            ("burst", "") => assert!(self.client.poll_output(out, self.now)),
            ("tls", "encrypted") => self.client.handle_tls(Security::Encrypted, out, self.now),
            ("tls", "verified") => self.client.handle_tls(Security::Verified, out, self.now),
            ("end", why) => self.client.handle_end(why),
            ("wait", seconds) => {
                self.now = self.now + Duration::from_secs(seconds.parse().expect("it is a number"));
                self.client.handle_timeout(self.now);
            }
            ("quit", "") => self.client.quit(out, self.now),
            _ => panic!("unknown directive {directive}"),
        }
        self.take_events();
    }

    fn effects(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
    }
}

impl Session {
    fn take_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            assert!(!self.is_closed, "Closed is the last event");
            match event {
                Event::StartTls => self.effects.push("starttls".into()),
                Event::Ready => self.effects.push("ready".into()),
                Event::Done(done) => self.show_done(&done),
                Event::Closed(closed) => {
                    self.is_closed = true;
                    assert_eq!(self.client.deadline(), None);
                    let (phase, whose) = (closed.phase.name(), whose(closed.origin));
                    let (reply, transactions) = (closed.reply, closed.transactions);
                    self.effects.push(format!("closed at {phase} {whose} {reply} (after {transactions})"));
                }
            }
        }
    }

    fn show_done(&mut self, done: &Done) {
        for (index, fate) in done.fates.iter().enumerate() {
            self.effects.push(match fate {
                Fate::Accepted(reply) => format!("{index} accepted {reply}"),
                Fate::Failed(failure) => {
                    let (phase, whose) = (failure.phase.name(), whose(failure.origin));
                    format!("{index} failed at {phase} {whose} {}", failure.reply)
                }
                Fate::NotTried => format!("{index} not tried"),
            });
        }
        let mut words = vec!["done"];
        words.extend((done.dsn == Passed::Passed).then_some("dsn"));
        words.extend((done.deliver_by == Passed::Passed).then_some("by"));
        self.effects.push(words.join(" "));
    }
}

fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Peer => "by",
        Origin::Local => "for",
    }
}

fn transaction(words: &str) -> Transaction {
    let mut transaction = Transaction::default();
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("from", "") => transaction.sender = None,
            ("from", address) => transaction.sender = Some(Address::parse(address).expect("an address")),
            ("to", recipient) => transaction.recipients.push(self::recipient(recipient)),
            ("body", "8bit") => transaction.body = BodyKind::EightBitMime,
            ("body", "binary") => transaction.body = BodyKind::BinaryMime,
            ("smtputf8", "") => transaction.smtputf8 = true,
            ("ret", "full") => transaction.ret = Some(Ret::Full),
            ("ret", "headers") => transaction.ret = Some(Ret::Headers),
            ("envid", envid) => transaction.envid = Some(envid.into()),
            ("by", by) => transaction.deliver_by = Some(deliver_by(by)),
            ("priority", priority) => transaction.priority = Some(priority.parse().expect("a number")),
            ("part", text) => transaction.message.push(Slice::from(unescaped(text, words))),
            _ => panic!("unknown word {word}"),
        }
    }
    transaction
}

fn recipient(text: &str) -> Recipient {
    let mut words = text.split('/');
    let address = Address::parse(words.next().unwrap_or_default()).expect("an address");
    let mut recipient = Recipient::new(address);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("notify", flags) => {
                let [success, failure, delay] = ['S', 'F', 'D'].map(|flag| flags.contains(flag));
                recipient.notify = Some(Notify { success, failure, delay });
            }
            ("orcpt", orcpt) => recipient.orcpt = Some(orcpt.into()),
            _ => panic!("unknown word {word}"),
        }
    }
    recipient
}

fn deliver_by(text: &str) -> DeliverBy {
    let (seconds, mode) = text.split_once(';').expect("seconds and mode");
    let (remaining_s, trace) = (seconds.parse().expect("a number"), mode.ends_with('T'));
    let mode = if mode.starts_with('R') { ByMode::Return } else { ByMode::Notify };
    DeliverBy { remaining_s, mode, trace }
}
