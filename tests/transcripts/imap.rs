//! The IMAP server with a small mailbox.
//!
//! Header: `channel: clear|trusted|tls`, `starttls: yes|no`, `size:` (the largest message), `login: yes` (begins
//! logged in, without a greeting), `login-time:` and `idle:` in seconds. INBOX has three messages with the UIDs 11, 12
//! and 13; `Full` takes no mail; `Box` does, and cannot be selected; no other mailbox exists. The login is
//! `john@here.test` with the password `secret`. Commands about mailboxes are not executed but told as effects.

use std::time::Duration;

use ringpost::bytes::{Output, Slice};
use ringpost::mail::digest::Digest;
use ringpost::mail::flags::{FlagsAction, SystemFlags};
use ringpost::mail::mime::Structure;
use ringpost::mail::part;
use ringpost::mail::query::SearchKey;
use ringpost::mail::set::{NumberSet, Ranges};
use ringpost::mail::time::{Instant, Now, Timestamp};
use ringpost::proto::imap::command::{Command, Fetch, Numbering, Refused, Search, Store, Transfer};
use ringpost::proto::imap::render::fetch::{
    self, Content, FetchPart, FetchPlan, FetchRow, FlagsNews, RowFlags,
};
use ringpost::proto::imap::render::search::{self, SearchReply};
use ringpost::proto::imap::render::state::{self, NewKeywords};
use ringpost::proto::imap::reply::{Code, Done};
use ringpost::proto::imap::{Channel, Event, Outcome, Refusal, Server, Settings};
use ringpost::proto::sasl::{Bindings, Identity, Nonce};

use super::{Engine, Header, smtp};

pub struct Session {
    server: Server,
    messages: Vec<Message>,
    /// UIDs that another session has expunged and this client does not know of.
    gone: Vec<u32>,
    modseq: u64,
    /// The message that is coming.
    coming: Vec<u8>,
    effects: Vec<String>,
    now: Now,
    is_closed: bool,
}

struct Message {
    uid: u32,
    flags: SystemFlags,
    modseq: u64,
    bytes: Vec<u8>,
}

impl Engine for Session {
    fn start(header: &Header, out: &mut Output) -> Self {
        let settings = Settings {
            message_bytes_max: header.value("size", "1000").parse().expect("it is a number"),
            starttls: header.value("starttls", "no") == "yes",
            login_s: header.value("login-time", "60").parse().expect("it is a number"),
            idle_s: header.value("idle", "1860").parse().expect("it is a number"),
        };
        let channel = match header.value("channel", "trusted") {
            "clear" => Channel::Clear,
            "trusted" => Channel::Trusted,
            _ => Channel::Tls(bindings()),
        };
        let now = Now { instant: Instant(1000), timestamp: Timestamp::default() };
        let mut session = Self {
            server: Server::new(settings, channel, now),
            messages: messages(),
            gone: Vec::new(),
            modseq: 9,
            coming: Vec::new(),
            effects: Vec::new(),
            now,
            is_closed: false,
        };
        session.server.greet(out);
        if header.value("login", "no") == "yes" {
            session.feed(b"a LOGIN john@here.test secret\r\n", &mut Output::new());
            out.clear();
        }
        session
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
                let span = Duration::from_secs(seconds.parse().expect("it is a number"));
                self.now.instant = self.now.instant + span;
                self.server.handle_timeout(out, self.now);
            }
            ("stop", "") => self.server.handle_shutdown(out, "Shutting down"),
            ("expunge", uid) => {
                self.gone.push(uid.parse().expect("it is a number"));
                self.tell_expunges(out);
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
            if let Some(outcome) = self.answer(event, out) {
                self.server.handle_done(outcome, out, self.now);
            }
        }
        is_any
    }

    fn answer(&mut self, event: Event, out: &mut Output) -> Option<Outcome> {
        Some(match event {
            Event::Verify(credentials) => match credentials.password.bytes() {
                b"secret" => admit(&credentials.identity),
                _ => Outcome::Refused(Refusal::Credentials),
            },
            Event::Lookup(identity) if identity.login == "down@here.test" => {
                Outcome::Refused(Refusal::Unavailable)
            }
            Event::Lookup(identity) => {
                let verifier = (identity.login == "john@here.test").then(smtp::verifier);
                Outcome::Verifier(verifier, Nonce([0; 18]))
            }
            Event::Admit(identity) => admit(&identity),
            Event::Rejected(identity) => {
                self.effects.push(format!("rejected {}", identity.login));
                return None;
            }
            Event::Command { command, announce_modseq } => {
                if announce_modseq {
                    state::ok(out, Some(&Code::HighestModSeq(self.modseq)), "Highest");
                }
                let done = self.execute(command, out);
                if self.server.may_expunge() {
                    self.tell_expunges(out);
                }
                Outcome::Done(done)
            }
            Event::AppendStart(start) => match start.mailbox.as_str() {
                "INBOX" | "Box" => {
                    let flags = (start.flags.system.0, start.flags.keywords, start.internal);
                    self.effects.push(format!("append of {} {flags:?}", start.size));
                    Outcome::AppendAccepted { prefix: b"prefix:".to_vec() }
                }
                "Full" => Outcome::Done(Done::no(Some(Code::OverQuota), "No room")),
                _ => Outcome::Done(Done::no(Some(Code::TryCreate), "No such mailbox")),
            },
            Event::AppendFull => {
                self.coming.append(&mut self.server.take_body());
                Outcome::BodyTaken
            }
            Event::AppendEnd => {
                self.coming.append(&mut self.server.take_body());
                let body = std::mem::take(&mut self.coming);
                let shown =
                    if body.len() < 300 { body.escape_ascii().to_string() } else { body.len().to_string() };
                self.effects.push(format!("appended {shown}"));
                Outcome::Done(Done::ok("APPEND completed").with(Code::AppendUid { uid_validity: 7, uid: 14 }))
            }
            Event::IdleEnd => Outcome::Done(Done::ok("IDLE completed")),
            Event::AppendCancelled => return self.tell("append cancelled"),
            Event::IdleStart => return self.tell("idle"),
            Event::StartTls => return self.tell("starttls"),
            Event::Close => {
                self.is_closed = true;
                return self.tell("close");
            }
        })
    }

    fn tell(&mut self, effect: &str) -> Option<Outcome> {
        self.effects.push(effect.to_owned());
        None
    }

    fn execute(&mut self, command: Command, out: &mut Output) -> Done {
        match command {
            Command::Noop => Done::ok("NOOP completed"),
            Command::Enable => Done::ok("ENABLE completed"),
            Command::Select(select) if select.mailbox == "INBOX" => {
                self.tell_mailbox(out);
                Done::selected(select.access)
            }
            Command::Select(_) => Done::no(Some(Code::NonExistent), "No such mailbox"),
            Command::Fetch(fetch) => self.fetch(&fetch, out),
            Command::Store(store) => self.store(&store, out),
            Command::Search(search) => self.search(&search, out),
            Command::Copy(transfer) | Command::Move(transfer) if transfer.mailbox != "INBOX" => {
                Done::no(Some(Code::TryCreate), "No such mailbox")
            }
            Command::Copy(transfer) => {
                let code = self.copied(&transfer);
                Done::ok("COPY completed").with(code)
            }
            Command::Move(transfer) => {
                let code = self.copied(&transfer);
                state::ok(out, Some(&code), "Moved");
                self.gone.extend(self.chosen(transfer.numbering, &transfer.numbers));
                Done::ok("MOVE completed")
            }
            Command::Expunge { .. } => {
                let deleted =
                    self.messages.iter().filter(|message| message.flags.contains(SystemFlags::DELETED));
                self.gone.extend(deleted.map(|message| message.uid));
                Done::ok("EXPUNGE completed")
            }
            Command::Close | Command::Unselect => Done::ok("Mailbox closed"),
            Command::Refused(Refused { loses, code, text }) => {
                self.effects.push(format!("{loses:?} is lost"));
                Done::no(Some(code), text)
            }
            command => {
                self.effects.push(format!("{command:?}"));
                Done::ok("Done")
            }
        }
    }

    fn tell_mailbox(&self, out: &mut Output) {
        state::flags(out, SystemFlags::ALL, &[]);
        state::exists(out, self.messages.len() as u32);
        state::permanent_flags(out, SystemFlags::ALL, &[], NewKeywords::Refused);
        state::ok(out, Some(&Code::UidValidity(7)), "Valid");
        state::ok(out, Some(&Code::UidNext(14)), "Next");
    }

    fn tell_expunges(&mut self, out: &mut Output) {
        if !self.server.may_expunge() {
            return;
        }
        for uid in std::mem::take(&mut self.gone) {
            if let Some(index) = self.messages.iter().position(|message| message.uid == uid) {
                self.messages.remove(index);
                state::expunge(out, index as u32 + 1);
            }
        }
    }

    fn fetch(&mut self, fetch: &Fetch, out: &mut Output) -> Done {
        let plan = FetchPlan::new(fetch, self.server.enabled());
        for uid in self.chosen(fetch.numbering, &fetch.numbers) {
            let Some(index) = self.messages.iter().position(|message| message.uid == uid) else { continue };
            let message = &mut self.messages[index];
            let changed = plan.sets_seen() && !message.flags.contains(SystemFlags::SEEN);
            if changed {
                message.flags |= SystemFlags::SEEN;
            }
            let digest = Digest::of(&message.bytes);
            let row = message.row(index, &digest, changed);
            fetch::open(out, &plan, &row);
            write_parts(out, &plan, &message.bytes);
            fetch::close(out);
        }
        Done::ok("FETCH completed")
    }

    fn store(&mut self, store: &Store, out: &mut Output) -> Done {
        let mut modified = Vec::new();
        for uid in self.chosen(store.numbering, &store.numbers) {
            let Some(index) = self.messages.iter().position(|message| message.uid == uid) else { continue };
            let message = &mut self.messages[index];
            if store.unchanged_since.is_some_and(|modseq| message.modseq > modseq) {
                modified.push(if store.numbering == Numbering::Uid { uid } else { index as u32 + 1 });
                continue;
            }
            message.flags = match store.action {
                FlagsAction::Replace => store.flags.system,
                FlagsAction::Add => message.flags | store.flags.system,
                FlagsAction::Remove => message.flags & !store.flags.system,
            };
            self.modseq += 1;
            message.modseq = self.modseq;
            let condstore = self.server.enabled().condstore;
            let uid = store.numbering == Numbering::Uid || condstore;
            let news = FlagsNews { uid, modseq: condstore, flags: !store.silent };
            fetch::flags_changed(out, &message.row(index, &Digest::of(b""), false), news);
        }
        match modified.is_empty() {
            true => Done::ok("STORE completed"),
            false => Done::ok("STORE completed").with(Code::Modified(modified.into_iter().collect())),
        }
    }

    fn search(&mut self, search: &Search, out: &mut Output) -> Done {
        let matches = self.messages.iter().enumerate().filter(|(_, message)| message.matches(&search.key));
        let matches: Ranges = matches
            .map(|(index, message)| match search.numbering {
                Numbering::Uid => message.uid,
                Numbering::Sequence => index as u32 + 1,
            })
            .collect();
        let reply = SearchReply {
            tag: self.server.tag(),
            numbering: search.numbering,
            returns: search.returns,
            matches: &matches,
            modseq: search.tells_modseq.then_some(self.modseq),
            rev2: self.server.enabled().rev2,
        };
        search::search(out, &reply);
        Done::ok("SEARCH completed")
    }

    fn copied(&self, transfer: &Transfer) -> Code {
        let uids = self.chosen(transfer.numbering, &transfer.numbers);
        let copies = (0..uids.len() as u32).map(|index| 14 + index).collect();
        Code::CopyUid { uid_validity: 7, uids: uids.into_iter().collect(), copies }
    }

    /// The UIDs of a set.
    fn chosen(&self, numbering: Numbering, numbers: &NumberSet) -> Vec<u32> {
        let uids = self.messages.iter().map(|message| message.uid);
        match numbering {
            Numbering::Uid => {
                let set = numbers.resolve(self.messages.last().map_or(0, |message| message.uid));
                uids.filter(|uid| set.contains(*uid)).collect()
            }
            Numbering::Sequence => {
                let set = numbers.resolve(self.messages.len() as u32);
                uids.zip(1..).filter(|(_, number)| set.contains(*number)).map(|(uid, _)| uid).collect()
            }
        }
    }
}

impl Message {
    fn row<'a>(&self, index: usize, digest: &'a Digest, changed: bool) -> FetchRow<'a> {
        FetchRow {
            number: index as u32 + 1,
            uid: self.uid,
            modseq: self.modseq,
            flags: RowFlags { system: self.flags, changed, ..RowFlags::default() },
            size: self.bytes.len() as u64,
            internal: Timestamp { seconds: 86_400, zone_minutes: 60 },
            saved: None,
            envelope: &digest.envelope,
            body: &digest.body,
            body_structure: &digest.body_structure,
        }
    }

    fn matches(&self, key: &SearchKey) -> bool {
        match key {
            SearchKey::And(keys) => keys.iter().all(|key| self.matches(key)),
            SearchKey::Or(first, second) => self.matches(first) || self.matches(second),
            SearchKey::Not(key) => !self.matches(key),
            SearchKey::Flags(flags) => self.flags.contains(*flags),
            SearchKey::ModSequence(modseq) => self.modseq >= *modseq,
            SearchKey::All => true,
            _ => false,
        }
    }
}

fn write_parts(out: &mut Output, plan: &FetchPlan, message: &[u8]) {
    let structure = Structure::of(message);
    let content = |bytes: &[u8]| Content::Bytes(Slice::from(bytes.to_vec()));
    let has_nul = |bytes: &[u8]| bytes.contains(&0);
    for item in plan.parts() {
        match item {
            FetchPart::Section(item) => {
                let found = part::section_bytes(&structure, &item.section);
                fetch::section(
                    out,
                    item,
                    found.map_or(Content::Missing, |found| content(found.bytes(message))),
                    has_nul,
                );
            }
            FetchPart::Fields(item, names) => {
                let kept = Digest::of(message).fields;
                fetch::fields(out, item, names, &kept, &mut Vec::new());
            }
            FetchPart::Binary(item) => {
                let found = part::binary(&structure, &item.part);
                fetch::binary(
                    out,
                    item,
                    found.map_or(Content::Missing, |found| content(found.bytes(message))),
                    has_nul,
                );
            }
            FetchPart::BinarySize(item) => {
                fetch::binary_size(out, item, part::binary_len(&structure, &item.part).unwrap_or(0));
            }
        }
    }
}

fn admit(identity: &Identity) -> Outcome {
    match (&identity.authzid, identity.login.as_str()) {
        (None, "john@here.test") => Outcome::LoggedIn,
        (None, "down@here.test") => Outcome::Refused(Refusal::Unavailable),
        (Some(_), _) => Outcome::Refused(Refusal::Authorization),
        _ => Outcome::Refused(Refusal::Credentials),
    }
}

fn bindings() -> Bindings {
    Bindings { exporter: Some(*b"0123456789abcdef0123456789abcdef"), server_end_point: None }
}

fn messages() -> Vec<Message> {
    let message = |uid, flags, text: &str| Message { uid, flags, modseq: 5, bytes: text.as_bytes().to_vec() };
    vec![
        message(11, SystemFlags::SEEN, "From: a@b\r\nSubject: one\r\n\r\nfirst\r\n"),
        message(12, SystemFlags::NONE, "Subject: two\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n"),
        message(13, SystemFlags::DELETED, "Subject: three\r\n\r\n"),
    ]
}
