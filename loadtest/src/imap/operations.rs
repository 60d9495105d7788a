//! Fixed operations on one mailbox, each measured by itself: what a comparison of servers is made of.
//!
//! Every answer is checked before its time counts: a listing must list every message, NOOP must tell of the message
//! that came, EXPUNGE of the one that went. Operations leave the mailbox as large as they found it.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::answer::{Answer, Row};
use super::client::{Client, Login, Timing, unexpected};
use super::fill::{NEEDLE, NEEDLE_EVERY, message};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Operation {
    /// `FETCH 1:* (UID FLAGS)`.
    Flags,
    /// `FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)`.
    Envelope,
    /// What Thunderbird lists a folder with.
    Headers,
    /// The same as ENVELOPE of the 50 newest, as a webmail's page.
    Last50,
    /// SELECT in a session that has nothing selected.
    Select,
    /// `STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)`.
    Status,
    /// NOOP when one message has come in meanwhile.
    Noop,
    /// A flag of one message.
    Store,
    /// One message of 4 KiB.
    Append,
    /// One message of all.
    Expunge,
    /// A word that every thousandth body has.
    Search,
}

/// What an operation took, each time that it was done.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub whole_ns: Vec<u64>,
    pub first_byte_ns: Vec<u64>,
    /// Server's processor time of all times together.
    pub cpu_ns: u64,
    /// Messages that one operation is about.
    pub messages: usize,
}

/// What is measured, on which mailbox.
pub struct Bench<'a> {
    pub login: Login,
    pub mailbox: String,
    pub rounds: usize,
    /// The server's processor time so far.
    pub cpu_ns: &'a dyn Fn() -> io::Result<u64>,
    /// Before each of the operations that read the whole mailbox.
    pub before_listing: &'a dyn Fn() -> io::Result<()>,
}

/// Operations that are over in a moment are done so often in a round.
const LIGHT_TIMES: usize = 20;

const APPENDED_BYTES: usize = 4096;

const THUNDERBIRD: &str = "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Reply-To \
                           Subject Date Message-ID References In-Reply-To Newsgroups Priority X-Priority \
                           Content-Type)])";

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Flags => "FETCH flags",
            Self::Envelope => "FETCH envelope",
            Self::Headers => "FETCH headers",
            Self::Last50 => "FETCH last 50",
            Self::Select => "SELECT",
            Self::Status => "STATUS",
            Self::Noop => "NOOP one new",
            Self::Store => "STORE one flag",
            Self::Append => "APPEND 4 KiB",
            Self::Expunge => "EXPUNGE one",
            Self::Search => "SEARCH TEXT",
        }
    }

    /// Whether it goes through the whole mailbox.
    fn is_heavy(self) -> bool {
        matches!(self, Self::Flags | Self::Envelope | Self::Headers | Self::Search)
    }

    pub fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }
}

/// Two sessions on the mailbox: one is measured, through the other things happen.
struct Sessions {
    main: Client,
    other: Client,
    mailbox: String,
    exists: u32,
    /// Turns with each STORE, so that each changes something.
    is_flagged: bool,
}

impl Bench<'_> {
    /// Does each of `operations`, all of them in every round.
    pub fn run(&self, operations: &[Operation]) -> io::Result<BTreeMap<Operation, Measured>> {
        let mut sessions = Sessions::open(&self.login, &self.mailbox)?;
        let mut found: BTreeMap<Operation, Measured> = BTreeMap::new();
        for _ in 0..self.rounds {
            for &operation in operations {
                let measured = found.entry(operation).or_default();
                let times = if operation.is_heavy() { 1 } else { LIGHT_TIMES };
                if operation.is_heavy() {
                    (self.before_listing)()?;
                }
                measured.messages = sessions.exists as usize;
                for _ in 0..times {
                    sessions.prepare(operation)?;
                    let before = (self.cpu_ns)()?;
                    let timing = sessions.perform(operation)?;
                    measured.cpu_ns += (self.cpu_ns)()?.saturating_sub(before);
                    measured.take(timing);
                    sessions.restore(operation)?;
                }
            }
        }
        sessions.main.logout()?;
        sessions.other.logout()?;
        Ok(found)
    }
}

impl Measured {
    fn take(&mut self, timing: Timing) {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.whole_ns.push(nanos(timing.whole));
        self.first_byte_ns.push(nanos(timing.first_byte));
    }

    pub fn times(&self) -> usize {
        self.whole_ns.len()
    }

    pub fn cpu_us_each(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.times().max(1) as f64
    }
}

pub fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

impl Sessions {
    fn open(login: &Login, mailbox: &str) -> io::Result<Self> {
        let (mut main, other) = (login.open()?, login.open()?);
        let exists = select(&mut main, mailbox)?.1;
        Ok(Self { main, other, mailbox: mailbox.to_owned(), exists, is_flagged: false })
    }

    /// What must have happened before the operation, unmeasured.
    fn prepare(&mut self, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Select => self.main.command("UNSELECT", |_| Ok(())).map(drop),
            Operation::Noop => self.append_by_other(),
            Operation::Expunge => {
                self.append_by_other()?;
                self.main.command("NOOP", |_| Ok(()))?;
                let last = format!("STORE {} +FLAGS (\\Deleted)", self.exists + 1);
                self.main.command(&last, |_| Ok(())).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes back what the operation added.
    fn restore(&mut self, operation: Operation) -> io::Result<()> {
        if !matches!(operation, Operation::Noop | Operation::Append) {
            return Ok(());
        }
        self.main.command("NOOP", |_| Ok(()))?;
        let last = format!("STORE {} +FLAGS.SILENT (\\Deleted)", self.exists + 1);
        self.main.command(&last, |_| Ok(()))?;
        self.main.command("EXPUNGE", |_| Ok(())).map(drop)
    }

    fn perform(&mut self, operation: Operation) -> io::Result<Timing> {
        let exists = self.exists;
        match operation {
            Operation::Flags => self.list("FETCH 1:* (UID FLAGS)", exists, |row| row.flags.is_some()),
            Operation::Envelope => {
                let command = "FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)";
                self.list(command, exists, |row| row.has_envelope && row.size.is_some())
            }
            Operation::Headers => self.list(THUNDERBIRD, exists, |row| row.bodies.len() == 1),
            Operation::Last50 => {
                let first = exists.saturating_sub(49).max(1);
                let command = format!("FETCH {first}:{exists} (UID FLAGS RFC822.SIZE ENVELOPE)");
                self.list(&command, exists - first + 1, |row| row.has_envelope)
            }
            Operation::Select => {
                let (timing, found) = select(&mut self.main, &self.mailbox)?;
                demand(found == exists, || format!("SELECT told of {found} messages, not of {exists}"))?;
                Ok(timing)
            }
            Operation::Status => self.status(),
            Operation::Noop => self.noop(),
            Operation::Store => self.store(),
            Operation::Append => self.append(),
            Operation::Expunge => self.expunge(),
            Operation::Search => self.search(),
        }
    }

    fn list(&mut self, command: &str, rows: u32, is_whole: impl Fn(&Row<'_>) -> bool) -> io::Result<Timing> {
        let (mut listed, mut last_uid) = (0, 0);
        let timing = self.main.command(command, |answer| match answer {
            Answer::Fetch(_, row) if is_whole(row) && row.uid > Some(last_uid) => {
                listed += 1;
                last_uid = row.uid.unwrap_or_default();
                Ok(())
            }
            Answer::Fetch(..) => Err(unexpected(command, answer)),
            _ => Ok(()),
        })?;
        demand(listed == rows, || format!("{command}: {listed} rows of {rows}"))?;
        Ok(timing)
    }

    fn status(&mut self) -> io::Result<Timing> {
        // Of a mailbox that another session has selected, as clients ask it.
        let command = format!("STATUS \"{}\" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", self.mailbox);
        let mut messages = None;
        let timing = self.other.command(&command, |answer| {
            if let Answer::MailboxStatus(items) = answer {
                messages = items.iter().find(|(name, _)| *name == b"MESSAGES").map(|(_, count)| *count);
            }
            Ok(())
        })?;
        demand(messages == Some(u64::from(self.exists)), || format!("STATUS told of {messages:?} messages"))?;
        Ok(timing)
    }

    fn noop(&mut self) -> io::Result<Timing> {
        let mut told = None;
        let timing = self.main.command("NOOP", |answer| {
            if let Answer::Exists(count) = answer {
                told = Some(*count);
            }
            Ok(())
        })?;
        let wanted = self.exists + 1;
        demand(told == Some(wanted), || format!("NOOP told of {told:?} messages, not of {wanted}"))?;
        Ok(timing)
    }

    fn store(&mut self) -> io::Result<Timing> {
        self.is_flagged = !self.is_flagged;
        let sign = if self.is_flagged { '+' } else { '-' };
        let command = format!("STORE {} {sign}FLAGS (\\Flagged)", self.exists);
        let mut is_flagged = None;
        let timing = self.main.command(&command, |answer| {
            if let Answer::Fetch(_, Row { flags: Some(flags), .. }) = answer {
                let holds = |flag: &[u8]| flag.eq_ignore_ascii_case(b"\\Flagged");
                is_flagged = Some(flags.split(|byte| *byte == b' ').any(holds));
            }
            Ok(())
        })?;
        demand(is_flagged == Some(self.is_flagged), || format!("{command}: flagged is {is_flagged:?}"))?;
        Ok(timing)
    }

    fn append(&mut self) -> io::Result<Timing> {
        let text = message(1, APPENDED_BYTES);
        let tag = self.main.next_tag();
        let began = Instant::now();
        append(&mut self.main, &tag, &self.mailbox, &text)?;
        Ok(Timing { first_byte: began.elapsed(), whole: began.elapsed() })
    }

    fn append_by_other(&mut self) -> io::Result<()> {
        let tag = self.other.next_tag();
        append(&mut self.other, &tag, &self.mailbox, &message(1, APPENDED_BYTES))
    }

    fn expunge(&mut self) -> io::Result<Timing> {
        let mut gone = Vec::new();
        let timing = self.main.command("EXPUNGE", |answer| {
            if let Answer::Expunge(number) = answer {
                gone.push(*number);
            }
            Ok(())
        })?;
        demand(gone == [self.exists + 1], || format!("EXPUNGE told of {gone:?}"))?;
        Ok(timing)
    }

    fn search(&mut self) -> io::Result<Timing> {
        let mut hits = None;
        let timing = self.main.command(&format!("SEARCH TEXT \"{NEEDLE}\""), |answer| {
            if let Answer::Search(numbers) = answer {
                hits = Some(numbers.len());
            }
            Ok(())
        })?;
        let wanted = (self.exists as usize).div_ceil(NEEDLE_EVERY);
        demand(hits == Some(wanted), || format!("SEARCH found {hits:?} messages, not {wanted}"))?;
        Ok(timing)
    }
}

/// Gives how many messages there are.
fn select(client: &mut Client, mailbox: &str) -> io::Result<(Timing, u32)> {
    let mut exists = None;
    let timing = client.command(&format!("SELECT \"{mailbox}\""), |answer| {
        if let Answer::Exists(count) = answer {
            exists = Some(*count);
        }
        Ok(())
    })?;
    Ok((timing, exists.ok_or_else(|| io::Error::other("SELECT did not say how many messages there are"))?))
}

/// With a literal that is waited for, which every server knows.
fn append(client: &mut Client, tag: &str, mailbox: &str, text: &[u8]) -> io::Result<()> {
    client.send(format!("{tag} APPEND \"{mailbox}\" {{{}}}\r\n", text.len()).as_bytes())?;
    let wait = |client: &mut Client| loop {
        let is_there = client.answer(|answer| match answer {
            Answer::Continue => Ok(true),
            Answer::Tagged { status: super::answer::Status::Ok, .. } => Ok(true),
            Answer::Tagged { .. } => Err(unexpected("APPEND", &answer)),
            _ => Ok(false),
        });
        match is_there {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(error),
        }
    };
    wait(client)?;
    client.send(text)?;
    client.send(b"\r\n")?;
    wait(client)
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise())) }
}
