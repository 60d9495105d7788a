//! The clients, in a process of their own: mail in, mail to elsewhere, and everything that changes a mailbox, all at
//! once, until the server is gone. The ledger has each acknowledgement before the next command goes out.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::cast::{Dialect, ELSEWHERE, Kind, RELAYERS, SENDER, SENDERS, SHARED, WORKERS, name, text};
use crate::client::{Imap, Pop3, Response, Smtp};
use crate::ledger::{Folder, Holding, Key, Ledger, Operation, Place, Writer};
use crate::server::{IMAP, PASSWORD, POP3, SMTP};

/// Messages of a worker that is done with one round of operations.
const ROUND: u64 = 5;

/// A worker's messages stay for that many of its rounds.
const KEPT_ROUNDS: u64 = 12;

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
}

/// What a server said to a command.
enum Answer {
    Done(Option<Place>),
    Refused(String),
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
        for account in WORKERS.into_iter().filter(|_| orders.server.has_mailboxes()) {
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
        let mut smtp = self.connect()?;
        for number in self.first_number().. {
            let replies = if self.orders.server.dialect() == Dialect::Lmtp { recipients.len() } else { 1 };
            self.one(Operation::Send(number), || transaction(&mut smtp, &recipients, number, replies))?;
        }
        Ok(())
    }

    fn relay(&self) -> io::Result<()> {
        let mut smtp = self.connect()?;
        for number in self.first_number().. {
            let recipient = format!("to{number}@{ELSEWHERE}");
            self.one(Operation::Relay(number), || transaction(&mut smtp, &[&recipient], number, 1))?;
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
        ask: impl FnOnce() -> io::Result<Answer>,
    ) -> io::Result<Option<Place>> {
        thread::sleep(Duration::from_millis(self.orders.pause_ms));
        self.writer.begin(self.account, operation)?;
        match ask()? {
            Answer::Done(place) => {
                self.writer.done(self.account, operation, place)?;
                Ok(place)
            }
            Answer::Refused(reply) => {
                self.writer.refused(self.account, operation)?;
                eprintln!("client {} was refused {operation:?}: {reply}", self.account);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn ask(&self, imap: &mut Imap, holding: &Holding, operation: Operation) -> io::Result<Answer> {
        if let Operation::Append(number) = operation {
            return Ok(answer(&imap.append("INBOX", &text(number))?));
        }
        let (folder, number) = subject(operation);
        let uid = holding.copies.get(&(folder, number)).and_then(|copy| copy.place).map_or(0, |(_, uid)| uid);
        imap.ok(&format!("SELECT {}", folder.name()))?;
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
        let found = imap.ok(&format!("SEARCH UID {uid}"))?;
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

/// What a tagged reply says, with the UID of APPENDUID or COPYUID.
fn answer(replies: &[Response]) -> Answer {
    let last = &replies[replies.len() - 1].text;
    if !last.contains(" OK") {
        return Answer::Refused(last.clone());
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
    let (code, mut lines) = smtp.message_reply(SENDER, recipients, &text(number))?;
    let mut is_taken = code == 250;
    for _ in 1..replies {
        let (code, more) = smtp.reply()?;
        is_taken &= code == 250;
        lines.extend(more);
    }
    Ok(if is_taken { Answer::Done(None) } else { Answer::Refused(lines.join(" ")) })
}
