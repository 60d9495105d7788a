//! SIGKILL at a random moment, again and again, while everything is under way at once; after each, an audit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::audit::{Audit, Findings, PATIENCE, Seen};
use crate::cast::{RELAYERS, SENDERS, SHARED, name};
use crate::client::Imap;
use crate::disk::now;
use crate::ledger::{Entry, Ledger, Operation, Step, Writer};
use crate::load::{Clients, Refusals};
use crate::random::Random;
use crate::remote::{Character, Remote};
use crate::server::{IMAP, PASSWORD};
use crate::servers::{MailServer, ringpost};
use crate::stage::{Load, start_clients, wait_for_clients};

/// More in a shared mailbox are expunged between two rounds.
const SHARED_MAX: usize = 300;

/// In every so manieth round the log is cleaned, so that segments are freed and used again under the kills; it lasts
/// longer by as much as an order to clean may wait.
const CLEAN_EVERY: u64 = 5;
const CLEAN_MS: u64 = 1000;

#[derive(clap::Args, Clone)]
pub struct Orders {
    #[arg(long, default_value_t = 1000)]
    pub rounds: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A round lasts at most this long before the kill.
    #[arg(long, default_value_t = 600)]
    pub span_ms_max: u64,
}

/// Whether all promises were kept. Stops at the first that was not.
pub fn run(orders: &Orders) -> bool {
    let begun = Instant::now();
    let scratch = TempDir::new().expect("a folder for the test's data");
    let remote = Remote::start(Character::decent().with("CHUNKING"));
    let mut server = ringpost(&scratch.path().join("server"), &remote);
    let path = scratch.path().join("ledger");
    fs::write(&path, "").expect("the ledger is made");
    let mut random = Random::new(orders.seed);
    let (mut acknowledged, mut all) = (0, Findings::default());
    server.start();
    let mut kills = 0;
    for round in 0..orders.rounds {
        let is_cleaned = round % CLEAN_EVERY == 0;
        let span = 20 + random.below(orders.span_ms_max) + if is_cleaned { CLEAN_MS } else { 0 };
        let mut clients = start_clients(
            &server,
            &path,
            Load { round, pause_ms: 0, refusals: Refusals::Final, clients: Clients::All },
        );
        let cleaning = is_cleaned.then(|| server.spawn(&["store", "clean"]));
        thread::sleep(Duration::from_millis(span));
        server.kill();
        if let Some(mut cleaning) = cleaning {
            // It has ended, or would go on by itself where no server runs.
            cleaning.kill().and_then(|()| cleaning.wait()).expect("a command can be ended");
        }
        kills += 1;
        wait_for_clients(&mut clients);
        server.set_cores(1 + usize::try_from(random.below(3)).expect("a few"));
        server.start();
        let ledger = Ledger::read(&path).expect("the ledger can be read");
        let (findings, seen) = audit(&server, &ledger, &remote, PATIENCE);
        acknowledged += ledger.acknowledged(u64::MAX);
        let is_broken = findings.broken() > 0;
        if is_broken {
            eprintln!("seed {}, round {round}, killed after {span} ms: {findings}", orders.seed);
            findings.details.iter().for_each(|detail| eprintln!("    {detail}"));
            eprintln!("log:\n{}", server.log());
        }
        all.add(findings);
        if is_broken {
            break;
        }
        carry_over(&server, &path, &ledger, seen, &remote);
        if round % 50 == 49 {
            eprintln!("{} rounds, {acknowledged} acknowledged: {all}", round + 1);
        }
    }
    let log = server.log();
    let freed: u64 = log.split("freed_bytes=").skip(1).filter_map(number_at).sum();
    let seconds = begun.elapsed().as_secs();
    println!(
        "{kills} kills, {acknowledged} acknowledged, {} MiB of segments freed: {all}; {seconds} s",
        freed >> 20
    );
    all.broken() == 0
}

/// Holds it against all that ever came.
pub fn audit(
    server: &dyn MailServer,
    ledger: &Ledger,
    remote: &Remote,
    patience: Duration,
) -> (Findings, BTreeMap<usize, Seen>) {
    let audit = Audit {
        server,
        ledger,
        until: u64::MAX,
        remote,
        arrived: &BTreeSet::new(),
        arrivals_before: 0,
        patience,
    };
    audit.run()
}

/// Writes the next round's ledger: what was found stays, and what was under way to others may still come.
pub fn carry_over(
    server: &dyn MailServer,
    path: &Path,
    ledger: &Ledger,
    mut seen: BTreeMap<usize, Seen>,
    remote: &Remote,
) {
    for account in SHARED {
        let held = seen.get_mut(&account).expect("all accounts were looked at");
        if held.copies.len() > SHARED_MAX && server.kind().has_mailboxes() {
            empty(server, account);
            held.copies.clear();
        }
    }
    fs::write(path, "").expect("the ledger is begun anew");
    let writer = Writer::append_to(path).expect("the ledger is there");
    let write = |account, operation, step| {
        writer.write(&Entry { at: now(), account, operation, step }).expect("the ledger can be written");
    };
    for (account, seen) in &seen {
        for ((folder, number), found) in &seen.copies {
            write(*account, Operation::Held(*folder, *number, found[0].flags), Step::Done(found[0].place));
        }
        for (folder, place) in &seen.given {
            write(*account, Operation::Given(*folder), Step::Done(Some(*place)));
        }
    }
    for (number, is_done) in ledger.sent(&SENDERS, u64::MAX) {
        if !is_done {
            write(SENDERS[0], Operation::Send(number), Step::Begun);
        }
    }
    // Each of them was looked for; they may come again.
    remote.ledger().arrivals.clear();
    for number in ledger.relayed(&RELAYERS, u64::MAX).into_keys() {
        write(RELAYERS[0], Operation::Relay(number), Step::Begun);
    }
}

fn number_at(text: &str) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    text[..end].parse().ok()
}

/// Expunges all that is in the inbox of a shared account.
fn empty(server: &dyn MailServer, account: usize) {
    let mut imap = Imap::login(server.address(), IMAP, &name(account), PASSWORD).expect("IMAP login");
    imap.ok("SELECT INBOX").expect("it opens");
    imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)").expect("a reply");
    imap.ok("EXPUNGE").expect("a reply");
}
