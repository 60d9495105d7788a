//! What was promised to clients, and whether what is seen agrees with it.
//!
//! Every message has a token of its own in its header. The ledger knows of each what its client was told, of each
//! mailbox what was seen in it, and of the remote server what it took. Each check names its rule, so that a mutant can
//! be told by what caught it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::world::sim;

/// Whether a client knows what became of something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Known {
    /// It was told yes.
    Yes,
    /// It asked and was told no, or nothing.
    Maybe,
}

/// A message that a client sent.
pub struct Sent {
    pub bytes: Vec<u8>,
    pub recipients: Vec<String>,
    pub taken: Known,
}

/// What names a message in a mailbox for ever.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Uid {
    pub mailbox: String,
    pub validity: u32,
    pub uid: u32,
}

/// What is known of one account's mail.
#[derive(Default)]
pub struct Mail {
    /// What each UID was seen to be.
    pub seen: BTreeMap<Uid, String>,
    /// Expunged, and told so.
    pub gone: BTreeSet<Uid>,
    /// Perhaps expunged.
    pub doubtful: BTreeSet<Uid>,
    /// Flags that must be there, of those that nobody changes now.
    pub flags: BTreeMap<Uid, BTreeSet<String>>,
    /// Those whose change was not told to have worked: what a failed sync was for may be found whole by a start.
    pub unsure: BTreeSet<Uid>,
    pub modseqs: BTreeMap<Uid, u64>,
    pub validities: BTreeMap<String, u32>,
    /// UIDNEXT and HIGHESTMODSEQ as they were last seen.
    pub heights: BTreeMap<(String, u32), (u32, u64)>,
    /// Tokens that must be somewhere, since APPEND was told yes.
    pub appended: BTreeSet<String>,
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    next: Cell<u64>,
    pub sent: RefCell<BTreeMap<String, Sent>>,
    pub mail: RefCell<BTreeMap<String, Mail>>,
    /// By token and recipient.
    pub delivered: RefCell<BTreeMap<(String, String), u32>>,
    pub bounced: RefCell<BTreeSet<(String, String)>>,
    /// Deliveries that the sender wants to hear of.
    pub wished: RefCell<BTreeSet<(String, String)>>,
    /// Those that it heard of, with the notifications that said so.
    told: RefCell<BTreeMap<(String, String), BTreeSet<String>>>,
    /// Files may have been damaged: what is there must be right, and not all has to be there.
    pub is_rotten: Cell<bool>,
    /// Nothing new is begun.
    pub is_over: Cell<bool>,
    /// Clients that are still at something.
    pub busy: Cell<usize>,
    pub acknowledged: Cell<u64>,
    /// Messages that the remote server took and did not say so.
    pub unsaid: Cell<u64>,
}

impl Ledger {
    pub fn token(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("t{:06}", self.next.get())
    }

    pub fn acknowledge(&self) {
        self.acknowledged.set(self.acknowledged.get() + 1);
    }

    /// A client asks for a message to be taken.
    pub fn send(&self, token: &str, recipients: &[String], bytes: Vec<u8>) {
        let sent = Sent { bytes, recipients: recipients.to_vec(), taken: Known::Maybe };
        self.sent.borrow_mut().insert(token.to_owned(), sent);
    }

    /// Of a message that is sent: its deliveries here are to be told.
    pub fn wish(&self, token: &str, recipients: &[String]) {
        let here = recipients.iter().filter(|recipient| recipient.ends_with("@here.test"));
        self.wished.borrow_mut().extend(here.map(|recipient| (token.to_owned(), recipient.clone())));
    }

    pub fn taken(&self, token: &str) {
        self.acknowledge();
        if let Some(sent) = self.sent.borrow_mut().get_mut(token) {
            sent.taken = Known::Yes;
        }
    }

    pub fn with<T>(&self, account: &str, work: impl FnOnce(&mut Mail) -> T) -> T {
        work(self.mail.borrow_mut().entry(account.to_owned()).or_default())
    }

    /// A message was seen under a UID.
    pub fn observe(&self, account: &str, at: &Uid, identity: &str) {
        sim().note(format!("{account} {at:?} {identity}").as_bytes());
        let is_rotten = self.is_rotten.get();
        self.with(account, |mail| {
            rule!(
                "expunged stays expunged",
                !mail.gone.contains(at),
                "{account} has {at:?} again: {identity}"
            );
            let before = mail.seen.insert(at.clone(), identity.to_owned());
            rule!(
                "a UID is one message for ever",
                is_rotten || before.as_ref().is_none_or(|before| before == identity),
                "{account} {at:?} was {before:?} and is {identity}"
            );
        });
        self.check_owner(account, identity);
    }

    /// Nothing in a mailbox was meant for somebody else.
    fn check_owner(&self, account: &str, identity: &str) {
        let sent = self.sent.borrow();
        let Some(sent) = sent.get(identity) else {
            rule!(
                "nothing is invented",
                !identity.starts_with('t'),
                "{account} has {identity}, which nobody sent"
            );
            return;
        };
        let address = format!("{account}@here.test");
        rule!(
            "nobody gets another's mail",
            sent.recipients.contains(&address),
            "{account} has {identity}, which was for {:?}",
            sent.recipients
        );
    }

    /// A mailbox was opened.
    pub fn opened(&self, account: &str, mailbox: &str, validity: u32, (next, modseq): (u32, u64)) {
        self.with(account, |mail| {
            let before = mail.validities.insert(mailbox.to_owned(), validity);
            rule!(
                "UIDVALIDITY stays",
                before.is_none_or(|before| before == validity),
                "{account} {mailbox}: {before:?} became {validity}"
            );
            let heights = mail.heights.entry((mailbox.to_owned(), validity)).or_default();
            rule!(
                "UIDNEXT never falls",
                next >= heights.0,
                "{account} {mailbox}: {} became {next}",
                heights.0
            );
            rule!(
                "HIGHESTMODSEQ never falls",
                modseq >= heights.1,
                "{account} {mailbox}: {} became {modseq}",
                heights.1
            );
            *heights = (next, modseq);
            let known = mail.seen.keys().filter(|uid| uid.mailbox == mailbox && uid.validity == validity);
            let last = known.map(|uid| uid.uid).max().unwrap_or(0);
            rule!(
                "UIDNEXT never falls",
                next > last,
                "{account} {mailbox}: UIDNEXT {next}, UID {last} was seen"
            );
        });
    }

    /// All of a mailbox was listed; `known` was there before.
    pub fn listed(&self, account: &str, mailbox: &str, known: &BTreeSet<Uid>, listed: &BTreeSet<Uid>) {
        if self.is_rotten.get() {
            return;
        }
        self.with(account, |mail| {
            for uid in known.iter().filter(|uid| uid.mailbox == mailbox) {
                let is_there = listed.contains(uid);
                let may_be_gone = mail.gone.contains(uid) || mail.doubtful.contains(uid);
                rule!(
                    "what was seen stays until it is expunged",
                    is_there || may_be_gone,
                    "{account} {uid:?} {:?} is not there",
                    mail.seen.get(uid)
                );
                if !is_there && mail.doubtful.remove(uid) {
                    mail.gone.insert(uid.clone());
                }
            }
        });
    }

    pub fn saw_flags(&self, account: &str, at: &Uid, flags: &BTreeSet<String>, modseq: u64) {
        let is_rotten = self.is_rotten.get();
        self.with(account, |mail| {
            if let Some(wanted) = mail.flags.get(at) {
                rule!(
                    "flags that were stored stay",
                    is_rotten || wanted == flags || mail.unsure.contains(at),
                    "{account} {at:?}: {wanted:?} are {flags:?}"
                );
            }
            mail.flags.insert(at.clone(), flags.clone());
            let before = mail.modseqs.insert(at.clone(), modseq).unwrap_or(0);
            rule!(
                "MODSEQ never falls",
                is_rotten || modseq >= before,
                "{account} {at:?}: {before}, {modseq}"
            );
        });
    }

    /// The bytes of a message were read.
    pub fn read(&self, account: &str, identity: &str, bytes: &[u8]) {
        let sent = self.sent.borrow();
        if let Some(sent) = sent.get(identity) {
            rule!(
                "a message is what was sent",
                bytes.ends_with(&sent.bytes),
                "{account} {identity}: {} bytes of {} differ",
                bytes.len(),
                sent.bytes.len()
            );
        }
        drop(sent);
        self.note_notification(bytes);
    }

    /// Notifications say who got what, and who did not.
    fn note_notification(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let header = text.split("\r\n\r\n").next().unwrap_or_default();
        if !header.contains("multipart/report") {
            return;
        }
        let mut tokens = text.lines().filter_map(|line| line.strip_prefix("X-Token: "));
        let values = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
        let id = values("Message-ID: ").next().unwrap_or_default();
        let recipients = values("Final-Recipient: rfc822;").zip(values("Action: "));
        let Some(token) = tokens.next_back() else {
            return;
        };
        for (recipient, action) in recipients {
            let key = (token.to_owned(), recipient.trim().to_owned());
            match action {
                "delivered" => self.note_told(key, id),
                _ => drop(self.bounced.borrow_mut().insert(key)),
            }
        }
    }

    fn note_told(&self, key: (String, String), id: &str) {
        rule!("nobody is told who did not ask", self.wished.borrow().contains(&key), "{key:?} is told");
        let mut told = self.told.borrow_mut();
        let times = told.entry(key.clone()).or_default();
        times.insert(id.to_owned());
        // What a failed sync was for may be found whole by a start.
        rule!(
            "a delivery is told once",
            self.is_rotten.get() || times.len() as u64 <= 1 + sim().disk.faults(),
            "{key:?} was told by {times:?}"
        );
    }

    /// The remote server takes a copy. `excuses` are the events that may each have hidden an outcome.
    pub fn deliver(&self, token: &str, recipient: &str, bytes: &[u8], excuses: u64) {
        let sent = self.sent.borrow();
        let Some(sent) = sent.get(token) else {
            panic!("[nothing is invented] the remote server got {token}");
        };
        rule!(
            "nobody gets another's mail",
            sent.recipients.iter().any(|known| known == recipient),
            "{token} was sent to {recipient}, and was for {:?}",
            sent.recipients
        );
        rule!("a message is what was sent", bytes.ends_with(&sent.bytes), "{token} to {recipient} differs");
        let mut delivered = self.delivered.borrow_mut();
        let count = delivered.entry((token.to_owned(), recipient.to_owned())).or_default();
        *count += 1;
        sim().note(format!("{token} {recipient}").as_bytes());
        rule!(
            "twice only where an outcome was not known",
            u64::from(*count) <= 1 + excuses,
            "{token} came to {recipient} {count} times, with {excuses} reasons"
        );
    }

    /// What is still missing of what was promised.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let (sent, mail) = (self.sent.borrow(), self.mail.borrow());
        for (token, sent) in sent.iter().filter(|(_, sent)| sent.taken == Known::Yes) {
            for recipient in &sent.recipients {
                let key = (token.clone(), recipient.clone());
                let is_there = match recipient.strip_suffix("@here.test") {
                    Some(account) => {
                        mail.get(account).is_some_and(|mail| mail.seen.values().any(|seen| seen == token))
                    }
                    None if recipient.starts_with("perm") => self.bounced.borrow().contains(&key),
                    None => self.delivered.borrow().contains_key(&key),
                };
                if !is_there {
                    missing.push(format!("{token} for {recipient}"));
                }
                if self.wished.borrow().contains(&key) && !self.told.borrow().contains_key(&key) {
                    missing.push(format!("word of {token} for {recipient}"));
                }
            }
        }
        for (token, recipient) in self.told.borrow().keys() {
            let account = recipient.trim_end_matches("@here.test");
            let is_there = mail.get(account).is_some_and(|mail| mail.seen.values().any(|seen| seen == token));
            if !is_there {
                missing.push(format!("{token} for {recipient}, of which word came"));
            }
        }
        missing
    }

    /// A message is delivered to a mailbox once.
    pub fn check_doubles(&self) {
        for (account, mail) in self.mail.borrow().iter() {
            let mut first: BTreeMap<&String, &Uid> = BTreeMap::new();
            for (uid, identity) in mail.seen.iter().filter(|(uid, _)| uid.mailbox == "INBOX") {
                let before = first.insert(identity, uid);
                rule!(
                    "a copy is delivered once",
                    before.is_none() || mail.appended.contains(identity),
                    "{account} has {identity} as {before:?} and {uid:?}"
                );
            }
        }
    }
}
