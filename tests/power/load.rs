//! The clients, in a process of their own: mail in, mail to elsewhere, and everything that changes a mailbox, all at
//! once, until the server is gone. The ledger has each acknowledgement before the next command goes out. What is
//! refused is either the end of a client, or asked for again until it is done.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::cast::{Dialect, ELSEWHERE, Kind, RELAYERS, SENDER, SENDERS, SHARED, WORKERS, name, text};
use crate::client::{Imap, Pop3, Response, Smtp, stuffed};
use crate::ledger::{Folder, Holding, Key, Ledger, Operation, Place, Step, Writer};
use crate::server::{IMAP, PASSWORD, POP3, SMTP};

/// Messages of a worker that is done with one round of operations.
const ROUND: u64 = 5;

/// A worker's messages stay for that many of its rounds.
const KEPT_ROUNDS: u64 = 12;

/// Before what was refused is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// Before a sender connects again.
const RECONNECT: Duration = Duration::from_millis(50);

/// Who is at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Clients {
    All,
    /// Those who only send: they need not know what is there.
    Senders,
}

impl Clients {
    /// As an argument.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Senders => "senders",
        }
    }
}

/// What a refusal is to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Refusals {
    /// Nothing is to be refused: it ends.
    Final,
    /// The disk is in trouble: it asks again.
    ForNow,
}

impl Refusals {
    /// As an argument.
    pub fn word(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::ForNow => "for-now",
        }
    }
}

/// What the clients' process is told.
#[derive(clap::Args)]
pub struct Orders {
    #[arg(long)]
    pub server: Kind,
    #[arg(long)]
    pub address: Ipv4Addr,
    #[arg(long)]
    pub ledger: PathBuf,
    /// Numbers begin here; no two loads on one store may have the same.
    #[arg(long)]
    pub round: u64,
    /// Between two commands of a client.
    #[arg(long, default_value_t = 0)]
    pub pause_ms: u64,
    #[arg(long, value_enum, default_value = "final")]
    pub refusals: Refusals,
    #[arg(long, value_enum, default_value = "all")]
    pub clients: Clients,
}

/// What a server said to a command.
enum Answer {
    Done(Option<Place>),
    /// For now.
    Refused(String),
    /// For good, or for another reason.
    Wrong(String),
}

pub fn run(orders: &Orders) -> io::Result<()> {
    let ledger = Ledger::read(&orders.ledger)?;
    let writer = Writer::append_to(&orders.ledger)?;
    thread::scope(|scope| {
        let client = |account| Client { account, orders, writer: &writer };
        // The end of the connection is the end of a client.
        for account in SENDERS {
            scope.spawn(move || client(account).send());
        }
        for account in RELAYERS.into_iter().filter(|_| orders.server.relays()) {
            scope.spawn(move || client(account).relay());
        }
        let has_workers = orders.server.has_mailboxes() && orders.clients == Clients::All;
        for account in WORKERS.into_iter().filter(|_| has_workers) {
            let holding = ledger.expected(account, u64::MAX).sure;
            scope.spawn(move || client(account).work(holding));
        }
    });
    Ok(())
}

/// One of them.
struct Client<'a> {
    account: usize,
    orders: &'a Orders,
    writer: &'a Writer,
}

impl Client<'_> {
    fn first_number(&self) -> u64 {
        (self.account as u64 * 100_000 + self.orders.round) * 100_000
    }

    fn send(&self) -> io::Result<()> {
        let recipients = SHARED.map(name);
        let recipients = recipients.each_ref().map(String::as_str);
        let replies = if self.orders.server.dialect() == Dialect::Lmtp { recipients.len() } else { 1 };
        self.transact(Operation::Send, |smtp, number| transaction(smtp, &recipients, number, replies))
    }

    fn relay(&self) -> io::Result<()> {
        self.transact(Operation::Relay, |smtp, number| {
            transaction(smtp, &[&format!("to{number}@{ELSEWHERE}")], number, 1)
        })
    }

    /// Message after message. One whose connection broke may have been taken or not; the next goes over another.
    fn transact(
        &self,
        operation: impl Fn(u64) -> Operation,
        transact: impl Fn(&mut Smtp, u64) -> io::Result<Answer>,
    ) -> io::Result<()> {
        let mut smtp = self.connect()?;
        for number in self.first_number().. {
            let sent = self.one(operation(number), || transact(&mut smtp, number));
            if let Err(error) = sent {
                if self.orders.refusals == Refusals::Final {
                    return Err(error);
                }
                thread::sleep(RECONNECT);
                smtp = self.connect()?;
            }
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<Smtp> {
        match self.orders.server.dialect() {
            Dialect::Smtp => Smtp::connect(self.orders.address, SMTP),
            Dialect::Lmtp => Smtp::greet(self.orders.address, SMTP, "LHLO client.example.test"),
        }
    }

    /// Goes round all operations.
    fn work(&self, mut holding: Holding) -> io::Result<()> {
        let mut imap = Imap::login(self.orders.address, IMAP, &name(self.account), PASSWORD)?;
        let mut first = self.first_number();
        loop {
            for operation in round(first).into_iter().chain(self.retire(&holding, first)) {
                let place = self.one(operation, || self.ask(&mut imap, &holding, operation))?;
                holding.apply(operation, place);
            }
            first += ROUND;
        }
    }

    /// Deletes what was there long enough, so that mailboxes stay small, and marks from a round that was cut short.
    fn retire(&self, holding: &Holding, first: u64) -> Vec<Operation> {
        let is_old = |number: u64| number + KEPT_ROUNDS * ROUND < first;
        let old =
            holding.copies.iter().filter(|((_, number), copy)| is_old(*number) || copy.flags.is_deleted);
        old.take(4).flat_map(|((folder, number), _)| both(*folder, *number)).collect()
    }

    /// One operation, with its lines in the ledger.
    fn one(
        &self,
        operation: Operation,
        mut ask: impl FnMut() -> io::Result<Answer>,
    ) -> io::Result<Option<Place>> {
        loop {
            thread::sleep(Duration::from_millis(self.orders.pause_ms));
            self.writer.begin(self.account, operation)?;
            let (step, reply) = match ask() {
                Ok(Answer::Done(place)) => {
                    self.writer.done(self.account, operation, place)?;
                    return Ok(place);
                }
                Ok(Answer::Refused(reply)) => (Step::Refused, reply),
                Ok(Answer::Wrong(reply)) => (Step::Wrong, reply),
                Err(error) => {
                    self.writer.failed(self.account, operation, Step::Broken)?;
                    return Err(error);
                }
            };
            self.writer.failed(self.account, operation, step)?;
            if self.orders.refusals == Refusals::Final || step == Step::Wrong {
                eprintln!("client {} was refused {operation:?}: {reply}", self.account);
            }
            if self.orders.refusals == Refusals::Final {
                return Err(io::ErrorKind::Other.into());
            }
            thread::sleep(AGAIN);
        }
    }

    fn ask(&self, imap: &mut Imap, holding: &Holding, operation: Operation) -> io::Result<Answer> {
        if let Operation::Append(number) = operation {
            return append(imap, &text(number));
        }
        let (folder, number) = subject(operation);
        let uid = holding.copies.get(&(folder, number)).and_then(|copy| copy.place).map_or(0, |(_, uid)| uid);
        let selected = answer(&imap.command(&format!("SELECT {}", folder.name()))?);
        let Answer::Done(_) = selected else {
            return Ok(selected);
        };
        let command = match operation {
            Operation::Flag(..) => format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged Kept)"),
            Operation::Mark(..) => format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"),
            Operation::Expunge(..) => format!("UID EXPUNGE {uid}"),
            Operation::Copy(_) => format!("UID COPY {uid} Archive"),
            Operation::Move(_) => format!("UID MOVE {uid} Archive"),
            _ => return self.pop(imap, uid),
        };
        Ok(answer(&imap.command(&command)?))
    }

    /// Deletes the message through POP3: what QUIT acknowledges.
    fn pop(&self, imap: &mut Imap, uid: u32) -> io::Result<Answer> {
        let found = imap.command(&format!("SEARCH UID {uid}"))?;
        let Answer::Done(_) = answer(&found) else {
            return Ok(answer(&found));
        };
        let ordinal = found[0].text.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut pop3 = Pop3::connect(self.orders.address, POP3)?;
        for command in [
            format!("USER {}", name(self.account)),
            format!("PASS {PASSWORD}"),
            format!("DELE {ordinal}"),
            "QUIT".to_owned(),
        ] {
            let reply = pop3.command(&command)?;
            if !reply.starts_with("+OK") {
                return Ok(Answer::Refused(format!("{command}: {reply}")));
            }
        }
        Ok(Answer::Done(None))
    }
}

/// The operations on five new messages.
fn round(first: u64) -> Vec<Operation> {
    let mut round: Vec<Operation> = (first..first + 4).map(Operation::Append).collect();
    round.extend([
        Operation::Flag(Folder::Inbox, first),
        Operation::Copy(first),
        Operation::Flag(Folder::Archive, first),
        Operation::Flag(Folder::Inbox, first + 1),
        Operation::Move(first + 1),
    ]);
    round.extend(both(Folder::Inbox, first + 2));
    round.push(Operation::Pop(first + 3));
    round
}

/// An expunge is two commands.
fn both(folder: Folder, number: u64) -> [Operation; 2] {
    [Operation::Mark(folder, number), Operation::Expunge(folder, number)]
}

/// The message that an operation is about.
fn subject(operation: Operation) -> Key {
    match operation {
        Operation::Flag(folder, number)
        | Operation::Mark(folder, number)
        | Operation::Expunge(folder, number) => (folder, number),
        Operation::Copy(number) | Operation::Move(number) | Operation::Pop(number) => (Folder::Inbox, number),
        _ => unreachable!("{operation:?} is not asked of a mailbox"),
    }
}

/// As [`Imap::append`], of a server that may refuse before it has the message.
fn append(imap: &mut Imap, text: &[u8]) -> io::Result<Answer> {
    let tag = imap.send(&format!("APPEND INBOX {{{}}}", text.len()))?;
    let first = imap.response()?;
    if first.text.starts_with(&format!("{tag} ")) {
        return Ok(answer(&[first]));
    }
    if first.text.starts_with('+') {
        imap.raw(text)?;
        imap.raw(b"\r\n")?;
    }
    Ok(answer(&imap.until(&tag)?))
}

/// What a tagged reply says, with the UID of APPENDUID or COPYUID.
fn answer(replies: &[Response]) -> Answer {
    let last = &replies[replies.len() - 1].text;
    if last.contains(" NO ") {
        return Answer::Refused(last.clone());
    }
    if !last.contains(" OK") {
        return Answer::Wrong(last.clone());
    }
    let mut codes = replies.iter().filter_map(|reply| place(&reply.text));
    Answer::Done(codes.next_back())
}

fn place(line: &str) -> Option<Place> {
    let code = line.split(['[', ']']).nth(1)?;
    let words: Vec<&str> = code.split(' ').collect();
    match words.as_slice() {
        ["APPENDUID", validity, uid] | ["COPYUID", validity, _, uid] => {
            Some((validity.parse().ok()?, uid.parse().ok()?))
        }
        _ => None,
    }
}

/// Sends a message; it is acknowledged when all of so many replies to its end are.
fn transaction(smtp: &mut Smtp, recipients: &[&str], number: u64, replies: usize) -> io::Result<Answer> {
    let recipients_said = recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n"));
    let burst = format!("MAIL FROM:<{SENDER}>\r\n{}DATA\r\n", recipients_said.collect::<String>());
    smtp.raw(burst.as_bytes())?;
    let mut refusals = Vec::new();
    for _ in 0..=recipients.len() {
        refusals.extend(refusal(smtp.reply()?));
    }
    let (code, lines) = smtp.reply()?;
    match (refusals.into_iter().next(), code) {
        (None, 354) => {}
        // For some recipients and not for others: to go on would leave open what a retry means.
        (Some(_), 354) => return Err(io::ErrorKind::ConnectionAborted.into()),
        (Some(refusal), _) => return Ok(refusal),
        (None, _) => return Ok(refusal((code, lines)).unwrap_or(Answer::Wrong("no go-ahead".to_owned()))),
    }
    smtp.raw(&stuffed(&text(number)))?;
    let mut refusals = Vec::new();
    for _ in 0..replies {
        refusals.extend(refusal(smtp.reply()?));
    }
    Ok(refusals.into_iter().next().unwrap_or(Answer::Done(None)))
}

/// What is not yes.
fn refusal((code, lines): (u16, Vec<String>)) -> Option<Answer> {
    match code {
        200..300 => None,
        400..500 => Some(Answer::Refused(lines.join(" "))),
        _ => Some(Answer::Wrong(lines.join(" "))),
    }
}
