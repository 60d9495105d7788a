//! What clients were told, in the order in which they were told it: a file of lines that both the clients' process
//! and the audit can read, and what follows from it for every mailbox.
//!
//! A line stands for an operation that has begun, was acknowledged, or was not; an acknowledgement is synced before
//! anybody counts it. In front may stand what an earlier audit found. Whoever asks names the moment at which the server
//! died: what was acknowledged before is sure, what had begun may have happened or not, nothing else can have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use crate::disk::now;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Folder {
    Inbox,
    Archive,
}

/// A message somewhere: mailboxes hold none twice.
pub type Key = (Folder, u64);

/// UIDVALIDITY and UID.
pub type Place = (u32, u32);

/// One command that a client sends. Numbers are those of messages, all different.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// To every one of the shared accounts.
    Send(u64),
    /// To somebody elsewhere.
    Relay(u64),
    Append(u64),
    Flag(Folder, u64),
    /// From the inbox to the archive, as Move.
    Copy(u64),
    Move(u64),
    /// As deleted.
    Mark(Folder, u64),
    Expunge(Folder, u64),
    Pop(u64),
    /// Not a command: an audit found the message here, with these flags.
    Held(Folder, u64, Flags),
    /// Nor this: all UIDs up to this one may have been given out.
    Given(Folder),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Begun,
    Done(Option<Place>),
    /// For now, in the words of its protocol.
    Refused,
    /// In words that mean something else.
    Wrong,
    /// The connection ended, or there was no answer.
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub at: u64,
    pub account: usize,
    pub operation: Operation,
    pub step: Step,
}

/// The flags that operations set.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flags {
    pub is_kept: bool,
    pub is_deleted: bool,
}

/// One message as a mailbox holds it. A place that is not known yet is any.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Copy {
    pub place: Option<Place>,
    pub flags: Flags,
}

/// What an account holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Holding {
    pub copies: BTreeMap<Key, Copy>,
    /// The highest UID that was given out, with its UIDVALIDITY.
    pub highest: BTreeMap<Folder, Place>,
}

/// What must be in an account, and what may be.
pub struct Expected {
    pub sure: Holding,
    /// As it would be if the operation under way took place.
    pub perhaps: Option<Holding>,
    /// Messages under way to a shared account.
    pub optional: BTreeSet<u64>,
}

/// Where the clients write.
pub struct Writer {
    file: Mutex<File>,
}

/// What was read.
#[derive(Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
}

impl Writer {
    pub fn append_to(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(OpenOptions::new().create(true).append(true).open(path)?) })
    }

    pub fn begin(&self, account: usize, operation: Operation) -> io::Result<()> {
        self.write(&Entry { at: now(), account, operation, step: Step::Begun })
    }

    /// Returns when the acknowledgement cannot be lost.
    pub fn done(&self, account: usize, operation: Operation, place: Option<Place>) -> io::Result<()> {
        self.write(&Entry { at: now(), account, operation, step: Step::Done(place) })?;
        self.file().sync_data()
    }

    /// It was not acknowledged.
    pub fn failed(&self, account: usize, operation: Operation, step: Step) -> io::Result<()> {
        self.write(&Entry { at: now(), account, operation, step })
    }

    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        self.file().write_all(entry.line().as_bytes())
    }

    fn file(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().expect("nothing panics while it writes")
    }
}

impl Ledger {
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let entries = text.lines().map(|line| Entry::parse(line).ok_or(io::ErrorKind::InvalidData));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// What was acknowledged up to this moment.
    pub fn acknowledged(&self, until: u64) -> usize {
        let is_told = |entry: &&Entry| matches!(entry.step, Step::Done(_)) && !entry.is_finding();
        self.entries.iter().filter(|entry| entry.at < until).filter(is_told).count()
    }

    /// What a worker's account holds if the server died at this moment.
    pub fn expected(&self, account: usize, until: u64) -> Expected {
        let mut sure = Holding::default();
        let mut under_way = None;
        for entry in self.entries.iter().filter(|entry| entry.account == account && entry.at < until) {
            // What was refused at last may come back with the disk's cache, if nothing was written behind it.
            under_way = Some(entry.operation).filter(|_| !matches!(entry.step, Step::Done(_)));
            if let Step::Done(place) = entry.step {
                sure.apply(entry.operation, place);
            }
        }
        let perhaps = under_way.map(|operation| {
            let mut perhaps = sure.clone();
            perhaps.apply(operation, None);
            perhaps
        });
        Expected { sure, perhaps, optional: BTreeSet::new() }
    }

    /// As [`Ledger::expected`], for an account to which the senders send. `senders` are theirs.
    pub fn expected_shared(&self, account: usize, senders: &[usize], until: u64) -> Expected {
        let Expected { mut sure, .. } = self.expected(account, until);
        let mut optional = BTreeSet::new();
        for (number, is_done) in self.sent(senders, until) {
            match is_done {
                true => sure.apply(Operation::Append(number), None),
                false => drop(optional.insert(number)),
            }
        }
        Expected { sure, perhaps: None, optional }
    }

    /// Messages to local accounts that were begun, and whether they were acknowledged.
    pub fn sent(&self, senders: &[usize], until: u64) -> BTreeMap<u64, bool> {
        self.messages(senders, until, |operation| match operation {
            Operation::Send(number) => Some(number),
            _ => None,
        })
    }

    /// As [`Ledger::sent`], of messages to elsewhere.
    pub fn relayed(&self, senders: &[usize], until: u64) -> BTreeMap<u64, bool> {
        self.messages(senders, until, |operation| match operation {
            Operation::Relay(number) => Some(number),
            _ => None,
        })
    }

    fn messages(
        &self,
        senders: &[usize],
        until: u64,
        which: impl Fn(Operation) -> Option<u64>,
    ) -> BTreeMap<u64, bool> {
        let mut found = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| senders.contains(&entry.account) && entry.at < until)
        {
            if let Some(number) = which(entry.operation) {
                *found.entry(number).or_default() |= matches!(entry.step, Step::Done(_));
            }
        }
        found
    }
}

impl Holding {
    pub fn apply(&mut self, operation: Operation, place: Option<Place>) {
        let inbox = |number| (Folder::Inbox, number);
        let archive = |number| (Folder::Archive, number);
        match operation {
            Operation::Send(_) | Operation::Relay(_) => {}
            Operation::Given(folder) => drop(place.and_then(|place| self.highest.insert(folder, place))),
            Operation::Append(number) => self.put(inbox(number), Copy { place, flags: Flags::default() }),
            Operation::Held(folder, number, flags) => self.put((folder, number), Copy { place, flags }),
            Operation::Flag(folder, number) => {
                self.copies.entry((folder, number)).or_default().flags.is_kept = true;
            }
            Operation::Mark(folder, number) => {
                self.copies.entry((folder, number)).or_default().flags.is_deleted = true;
            }
            Operation::Copy(number) => {
                let flags = self.copies.get(&inbox(number)).copied().unwrap_or_default().flags;
                self.put(archive(number), Copy { place, flags });
            }
            Operation::Move(number) => {
                let flags = self.copies.remove(&inbox(number)).unwrap_or_default().flags;
                self.put(archive(number), Copy { place, flags });
            }
            Operation::Expunge(folder, number) => drop(self.copies.remove(&(folder, number))),
            Operation::Pop(number) => drop(self.copies.remove(&inbox(number))),
        }
    }

    fn put(&mut self, key: Key, copy: Copy) {
        if let Some(place) = copy.place {
            let highest = self.highest.entry(key.0).or_insert(place);
            *highest = place.max(*highest);
        }
        self.copies.insert(key, copy);
    }
}

impl Entry {
    pub fn is_finding(&self) -> bool {
        matches!(self.operation, Operation::Held(..) | Operation::Given(_))
    }

    fn line(&self) -> String {
        let Self { at, account, operation, step } = self;
        let (step, place) = match step {
            Step::Begun => ("begun", String::new()),
            Step::Refused => ("refused", String::new()),
            Step::Wrong => ("wrong", String::new()),
            Step::Broken => ("broken", String::new()),
            Step::Done(None) => ("done", String::new()),
            Step::Done(Some((validity, uid))) => ("done", format!(" {validity} {uid}")),
        };
        format!("{at} {account} {step} {}{place}\n", operation.words())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (at, account) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let step = words.next()?;
        let operation = Operation::parse(&mut words)?;
        let place = match (words.next(), words.next()) {
            (Some(validity), Some(uid)) => Some((validity.parse().ok()?, uid.parse().ok()?)),
            _ => None,
        };
        let step = match step {
            "begun" => Step::Begun,
            "done" => Step::Done(place),
            "refused" => Step::Refused,
            "wrong" => Step::Wrong,
            "broken" => Step::Broken,
            _ => return None,
        };
        Some(Self { at, account, operation, step })
    }
}

impl Operation {
    fn words(self) -> String {
        match self {
            Self::Send(number) => format!("send {number}"),
            Self::Relay(number) => format!("relay {number}"),
            Self::Append(number) => format!("append {number}"),
            Self::Copy(number) => format!("copy {number}"),
            Self::Move(number) => format!("move {number}"),
            Self::Pop(number) => format!("pop {number}"),
            Self::Flag(folder, number) => format!("flag {} {number}", folder.name()),
            Self::Mark(folder, number) => format!("mark {} {number}", folder.name()),
            Self::Expunge(folder, number) => format!("expunge {} {number}", folder.name()),
            Self::Given(folder) => format!("given {} 0", folder.name()),
            Self::Held(folder, number, flags) => {
                let Flags { is_kept, is_deleted } = flags;
                format!("held {} {is_kept} {is_deleted} {number}", folder.name())
            }
        }
    }

    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let verb = words.next()?;
        let folder = match verb {
            "flag" | "mark" | "expunge" | "held" | "given" => Folder::named(words.next()?)?,
            _ => Folder::Inbox,
        };
        let flags = match verb {
            "held" => Flags { is_kept: words.next()?.parse().ok()?, is_deleted: words.next()?.parse().ok()? },
            _ => Flags::default(),
        };
        let number = words.next()?.parse().ok()?;
        Some(match verb {
            "send" => Self::Send(number),
            "relay" => Self::Relay(number),
            "append" => Self::Append(number),
            "copy" => Self::Copy(number),
            "move" => Self::Move(number),
            "pop" => Self::Pop(number),
            "flag" => Self::Flag(folder, number),
            "mark" => Self::Mark(folder, number),
            "expunge" => Self::Expunge(folder, number),
            "held" => Self::Held(folder, number, flags),
            "given" => Self::Given(folder),
            _ => return None,
        })
    }
}

impl Folder {
    pub const ALL: [Self; 2] = [Self::Inbox, Self::Archive];

    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "INBOX",
            Self::Archive => "Archive",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|folder| folder.name() == name)
    }
}
