//! Whatever IMAP and POP3 acknowledged is so after SIGKILL: appends, flags, copies, moves, expunges, deletions.
//!
//! Each worker has an account of its own and does one thing at a time, so that its ledger says exactly what must be
//! there; only the one operation that was under way at the kill may have happened or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use crate::client::{Imap, Pop3};
use crate::flow::message;
use crate::server::{IMAP, PASSWORD, POP3, Server};

const WORKERS: usize = 4;
const ROUNDS: usize = 3;
const MAILBOXES: [&str; 2] = ["INBOX", "Archive"];

/// What the account of one worker holds: copies by mailbox and message number, with their flags.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Ledger {
    copies: BTreeMap<(usize, usize), Vec<BTreeSet<String>>>,
}

/// One change that a client asks for.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Append(usize),
    Flag(usize),
    Copy(usize),
    Move(usize),
    Expunge(usize),
    Pop(usize),
}

/// What is sure, and what may have happened besides.
struct Account {
    name: String,
    sure: Ledger,
    /// As it would be if the last operation took place.
    perhaps: Ledger,
    next: usize,
}

#[test]
fn nothing_that_imap_or_pop3_acknowledged_is_undone_by_a_kill() {
    let mut accounts: Vec<Account> = (0..WORKERS)
        .map(|worker| Account {
            name: format!("worker{worker}@example.test"),
            sure: Ledger::default(),
            perhaps: Ledger::default(),
            next: 0,
        })
        .collect();
    let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
    let mut server = Server::with_accounts(&names);
    for round in 0..ROUNDS {
        let address = server.address();
        accounts = std::thread::scope(|scope| {
            let working: Vec<_> = accounts
                .drain(..)
                .map(|mut account| {
                    scope.spawn(move || {
                        // The end of the connection is the end of the round.
                        let _ = work(&mut account, address);
                        account
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(1500 + 300 * round as u64));
            server.kill();
            working.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
        });
        server.set_cores(1 + round % 2);
        server.start();
        for account in &mut accounts {
            audit(&server, account);
        }
    }
    let done: usize = accounts.iter().map(|account| account.next).sum();
    assert!(done > WORKERS * ROUNDS, "the workers got something done: {done}");
}

/// Goes round all operations until the server is gone.
fn work(account: &mut Account, address: std::net::Ipv4Addr) -> io::Result<()> {
    let mut imap = Imap::login(address, IMAP, &account.name, PASSWORD)?;
    loop {
        let first = account.next;
        account.next += 5;
        let round = [
            Operation::Append(first),
            Operation::Append(first + 1),
            Operation::Append(first + 2),
            Operation::Append(first + 3),
            Operation::Flag(first),
            Operation::Copy(first),
            Operation::Flag(first + 1),
            Operation::Move(first + 1),
            Operation::Expunge(first + 2),
            Operation::Pop(first + 3),
        ];
        for operation in round {
            account.perhaps = account.sure.after(operation);
            ask(&mut imap, address, &account.name, operation)?;
            account.sure = account.perhaps.clone();
        }
    }
}

fn ask(imap: &mut Imap, address: std::net::Ipv4Addr, name: &str, operation: Operation) -> io::Result<()> {
    if let Operation::Append(number) = operation {
        let replies = imap.append("INBOX", &text(number))?;
        assert!(replies[replies.len() - 1].text.contains(" OK"), "{replies:?}");
        return Ok(());
    }
    imap.ok("SELECT INBOX")?;
    match operation {
        Operation::Append(_) => {}
        Operation::Flag(number) => {
            let uid = uid(imap, number)?;
            imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged Kept)"))?;
        }
        Operation::Copy(number) => {
            let uid = uid(imap, number)?;
            imap.ok(&format!("UID COPY {uid} Archive"))?;
        }
        Operation::Move(number) => {
            let uid = uid(imap, number)?;
            imap.ok(&format!("UID MOVE {uid} Archive"))?;
        }
        Operation::Expunge(number) => {
            let uid = uid(imap, number)?;
            imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
            imap.ok(&format!("UID EXPUNGE {uid}"))?;
        }
        Operation::Pop(number) => {
            let mut pop3 = Pop3::connect(address, POP3)?;
            for command in [format!("USER {name}"), format!("PASS {PASSWORD}")] {
                pop3.command(&command)?;
            }
            let ordinal = imap.ok(&format!("SEARCH SUBJECT \"number {number} end\""))?[0].text.clone();
            let ordinal = ordinal.rsplit(' ').next().unwrap_or_default().to_owned();
            assert!(pop3.command(&format!("DELE {ordinal}"))?.starts_with("+OK"), "{number} as {ordinal}");
            assert!(pop3.command("QUIT")?.starts_with("+OK"));
        }
    }
    Ok(())
}

fn text(number: usize) -> Vec<u8> {
    let mut text = format!("Subject: number {number} end\r\n").into_bytes();
    // Some are large enough for a file of their own.
    text.extend_from_slice(&message(number, if number.is_multiple_of(20) { 300_000 } else { 500 }));
    text
}

fn uid(imap: &mut Imap, number: usize) -> io::Result<u32> {
    let found = imap.ok(&format!("UID SEARCH SUBJECT \"number {number} end\""))?[0].text.clone();
    Ok(found
        .rsplit(' ')
        .next()
        .and_then(|uid| uid.parse().ok())
        .unwrap_or_else(|| panic!("{number}: {found}")))
}

impl Ledger {
    fn after(&self, operation: Operation) -> Self {
        let mut next = self.clone();
        let copies = &mut next.copies;
        match operation {
            Operation::Append(number) => copies.entry((0, number)).or_default().push(BTreeSet::new()),
            Operation::Flag(number) => {
                let flags = ["\\Flagged", "Kept"].map(str::to_owned);
                copies.entry((0, number)).or_default().iter_mut().for_each(|copy| copy.extend(flags.clone()));
            }
            Operation::Copy(number) => {
                let copied = copies.get(&(0, number)).cloned().unwrap_or_default();
                copies.insert((1, number), copied);
            }
            Operation::Move(number) => {
                let moved = copies.remove(&(0, number)).unwrap_or_default();
                copies.insert((1, number), moved);
            }
            Operation::Expunge(number) | Operation::Pop(number) => {
                copies.remove(&(0, number));
            }
        }
        next
    }
}

/// The account is as its ledger says, or as it would be after the operation that was under way.
fn audit(server: &Server, account: &mut Account) {
    let found = read(server, &account.name);
    // An expunge is two commands; between them the message is there and marked, in this round or an earlier one.
    let (marked, unmarked) = (without_marks(&found), without_marks(&account.sure));
    assert!(
        found == account.sure || found == account.perhaps || marked == unmarked,
        "{}: found {:?}, sure is {:?}, perhaps {:?}; log:\n{}",
        account.name,
        difference(&found, &account.sure),
        difference(&account.sure, &found),
        difference(&account.perhaps, &found),
        server.log()
    );
    account.sure = found;
}

fn without_marks(ledger: &Ledger) -> Ledger {
    let mut ledger = ledger.clone();
    for copy in ledger.copies.values_mut().flatten() {
        copy.remove("\\Deleted");
    }
    ledger
}

/// Of one ledger, what another does not have.
fn difference(of: &Ledger, from: &Ledger) -> Ledger {
    let copies = of.copies.iter().filter(|(key, copies)| from.copies.get(key) != Some(copies));
    Ledger { copies: copies.map(|(key, copies)| (*key, copies.clone())).collect() }
}

fn read(server: &Server, name: &str) -> Ledger {
    let mut imap = server.imap(name);
    let mut ledger = Ledger::default();
    for (index, mailbox) in MAILBOXES.into_iter().enumerate() {
        imap.ok(&format!("SELECT {mailbox}")).expect("opens");
        for response in imap.command("FETCH 1:* (FLAGS BODY.PEEK[])").expect("a reply") {
            let [body] = response.literals.as_slice() else {
                continue;
            };
            let text_of = String::from_utf8_lossy(body);
            let number = text_of.split("number ").nth(1).and_then(|rest| rest.split(' ').next());
            let number: usize = number.and_then(|number| number.parse().ok()).expect("a number");
            assert!(*body == text(number), "message {number} is whole");
            let flags = response.text.split("FLAGS (").nth(1).and_then(|rest| rest.split(')').next());
            let flags = flags.expect("flags").split_whitespace().filter(|flag| *flag != "\\Recent");
            ledger.copies.entry((index, number)).or_default().push(flags.map(str::to_owned).collect());
        }
    }
    ledger
}
