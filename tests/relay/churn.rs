//! Mail comes and goes, many times what the store may hold: the space comes back, and nothing that is live is harmed.
//!
//! Segments are small. Two shards have an account each, so that half of all deliveries cross from one log to the other;
//! beside them mail is relayed. The ledger is what was sent, by subject, and the UIDs that were seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Imap;
use crate::mail::{ALICE, Setup, send, wait_for, wait_for_arrivals, wait_until_done};
use crate::remote::Remote;
use crate::server::{IMAP, PASSWORD, Server};

const BOB: &str = "bob@example.test";
const ACCOUNTS: [&str; 2] = [ALICE, BOB];

const SMALL: &str =
    "\n[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\ncheckpoint_bytes = 1048576\n";

const MIB: u64 = 1 << 20;
const MESSAGE_BYTES: usize = 60_000;

/// Messages that stay from the beginning, every so many of the first, and those that stay for a while.
const KEPT: usize = 20;
const WINDOW: usize = 60;
const ROUNDS: usize = 6;

/// What each log has beside mail: the tail, the next segment, the reserve of four, what was freed and waits, which is
/// as much as was written between the last two cleanings, and what comes between two: both more on a busy machine.
/// Then the index.
const BESIDE: u64 = 2 * 18 * MIB;

fn message(number: usize) -> Vec<u8> {
    let mut text = format!("From: <{ALICE}>\r\nSubject: number {number}\r\n\r\n").into_bytes();
    let mut line = number as u64;
    while text.len() < MESSAGE_BYTES {
        line = line.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{line:016x}{:016x}\r\n", line.rotate_left(17)).as_bytes());
    }
    text
}

#[test]
fn space_comes_back_while_mail_comes_and_goes() {
    let remote = Remote::decent();
    let mut server = Setup::new().account(BOB).route("one.test", &remote).more(SMALL).start();
    let mut uids: [BTreeMap<usize, u32>; 2] = Default::default();
    let mut next = 0;
    let mut largest = 0;
    for round in 0..ROUNDS {
        for _ in 0..WINDOW {
            let recipients = [ACCOUNTS[0], ACCOUNTS[1], "somebody@one.test"];
            send(&server, ALICE, &recipients, &message(next));
            next += 1;
        }
        if round == ROUNDS / 2 {
            server.kill();
            server.start();
        }
        wait_until_done(&server, "one.test");
        for (account, uids) in ACCOUNTS.iter().zip(&mut uids) {
            let mut imap = login(&server, account);
            let live = uids.len() + WINDOW;
            wait_for("deliveries", &server, || (listed(&mut imap).len() == live).then_some(()));
            check(&mut imap, uids);
            thin_out(&mut imap, uids, next);
        }
        largest = largest.max(disk_bytes(&server.data()));
    }
    wait_for_arrivals(&server, &remote, ROUNDS * WINDOW);
    let sent = 3 * (ROUNDS * WINDOW * MESSAGE_BYTES) as u64;
    let live = live_bytes(&uids);
    eprintln!("sent {sent}, live {live}, at most {largest} bytes");
    // Between two looks a window of mail is live, too.
    let window = (WINDOW * MESSAGE_BYTES) as u64;
    assert!(largest <= (live + window) * 3 / 2 + BESIDE, "{largest} of {live}; log:\n{}", server.log());

    println!("{}", server.done(&["store", "clean"]));
    let begun = Instant::now();
    let bound = live * 13 / 10 + BESIDE;
    while disk_bytes(&server.data()) > bound {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} > {bound}", disk_bytes(&server.data()));
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{}", server.done(&["store", "stats"]));
    audit(&server, &mut uids);

    // The same from the log alone: what was freed is not missed.
    server.kill();
    for entry in logs(&server.data()) {
        if entry.extension().is_some_and(|extension| extension == "idx" || extension == "root") {
            fs::remove_file(entry).expect("removed");
        }
    }
    assert!(is_any_freed(&server.data()), "the first segment is still there");
    server.start();
    audit(&server, &mut uids);
    send(&server, ALICE, &ACCOUNTS, &message(next));
    let again = server.done(&["store", "verify"]);
    assert!(again.contains("all that is stored is sound"), "{again}");
    server.stop();
    server.start();
    audit_with(&server, &uids, 1);
}

fn login(server: &Server, account: &str) -> Imap {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    imap.ok("SELECT INBOX").expect("INBOX opens");
    imap
}

/// UIDs with the numbers of their messages.
fn listed(imap: &mut Imap) -> BTreeMap<usize, u32> {
    let responses = imap.ok("UID FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").expect("a list");
    let mut listed = BTreeMap::new();
    for response in responses.iter().filter(|response| !response.literals.is_empty()) {
        let uid = response.text.split("UID ").nth(1).expect("a UID");
        let uid = uid.split([' ', ')']).next().and_then(|uid| uid.parse().ok()).expect("a number");
        let subject = String::from_utf8_lossy(&response.literals[0]).into_owned();
        let number = subject.trim().rsplit(' ').next().and_then(|number| number.parse().ok());
        assert_eq!(listed.insert(number.expect("the number of a message"), uid), None, "twice: {subject}");
    }
    listed
}

/// What is known of before has its UID still; the rest is new.
fn check(imap: &mut Imap, uids: &mut BTreeMap<usize, u32>) {
    let found = listed(imap);
    for (number, uid) in uids.iter() {
        assert_eq!(found.get(number), Some(uid), "message {number}");
    }
    *uids = found;
}

/// Some of the first stay for ever, and some of the last round; all others go.
fn thin_out(imap: &mut Imap, uids: &mut BTreeMap<usize, u32>, next: usize) {
    let stays = |number: usize| {
        (number < WINDOW && number.is_multiple_of(WINDOW / KEPT)) || number + WINDOW / 2 >= next
    };
    let gone: Vec<String> =
        uids.iter().filter(|(n, _)| !stays(**n)).map(|(_, uid)| uid.to_string()).collect();
    uids.retain(|number, _| stays(*number));
    if !gone.is_empty() {
        imap.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", gone.join(","))).expect("stored");
        imap.ok("EXPUNGE").expect("expunged");
    }
}

fn audit(server: &Server, uids: &mut [BTreeMap<usize, u32>; 2]) {
    audit_with(server, uids, 0);
}

/// Every live message is there, byte for byte, with its UID; nothing else but `more` is.
fn audit_with(server: &Server, uids: &[BTreeMap<usize, u32>; 2], more: usize) {
    for (account, uids) in ACCOUNTS.iter().zip(uids) {
        let mut imap = login(server, account);
        wait_for("all mail", server, || (listed(&mut imap).len() == uids.len() + more).then_some(()));
        let found = listed(&mut imap);
        for (number, uid) in uids {
            assert_eq!(found.get(number), Some(uid), "message {number} of {account}");
            let fetched = imap.ok(&format!("UID FETCH {uid} BODY.PEEK[]")).expect("a message");
            let body = fetched.iter().find_map(|response| response.literals.first()).expect("a body");
            assert!(body.ends_with(&message(*number)), "message {number} of {account} is what was sent");
        }
    }
}

fn live_bytes(uids: &[BTreeMap<usize, u32>; 2]) -> u64 {
    let mut numbers: Vec<usize> = uids.iter().flat_map(|uids| uids.keys().copied()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    (numbers.len() * MESSAGE_BYTES) as u64
}

/// All files of all logs.
fn logs(data: &Path) -> Vec<std::path::PathBuf> {
    let list =
        |path: &Path| fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path());
    list(&data.join("log")).flat_map(|log| list(&log).collect::<Vec<_>>()).collect()
}

fn disk_bytes(data: &Path) -> u64 {
    let length = |path: std::path::PathBuf| fs::metadata(path).map_or(0, |found| found.len());
    logs(data).into_iter().map(length).sum()
}

fn is_any_freed(data: &Path) -> bool {
    !data.join("log/00/0000000001.seg").exists() || !data.join("log/01/0000000001.seg").exists()
}
