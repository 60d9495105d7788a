//! What got a 250 survives every end: SIGKILL in the middle of a load, SIGTERM, another number of cores.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Imap, Smtp};
use crate::flow::{is_message, message};
use crate::server::{IMAP, PASSWORD, SMTP, Server};

/// Clients that send at the same time.
const SENDERS: usize = 8;
const ROUNDS: usize = 5;
const ACCOUNTS: [&str; 3] = ["a@example.test", "b@example.test", "c@example.test"];

/// Checkpoints every second of the load.
const OFTEN: &str = "[limits]\ncheckpoint_bytes = 65536\n";

/// Numbers of messages that got their 250.
type Ledger = Arc<Mutex<Vec<usize>>>;

#[test]
fn nothing_that_got_a_250_is_lost_by_a_kill() {
    let mut server = Server::prepare(2, OFTEN);
    ACCOUNTS.iter().for_each(|account| server.add_account(account));
    server.start();
    let ledger = Ledger::default();
    for round in 0..ROUNDS {
        send_until_killed(&mut server, &ledger, round);
        server.set_cores(1 + round % 3);
        server.start();
        audit(&server, &ledger);
    }
    server.stop();
    server.start();
    audit(&server, &ledger);
    assert!(!ledger.lock().expect("the ledger").is_empty(), "the load was taken");
}

/// Sends from several connections, kills the server while they are at it.
fn send_until_killed(server: &mut Server, ledger: &Ledger, round: usize) {
    let address = server.address();
    let stopped = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (ledger, stopped) = (Arc::clone(ledger), Arc::clone(&stopped));
            std::thread::spawn(move || {
                let Ok(mut smtp) = Smtp::connect(address, SMTP) else {
                    return;
                };
                for count in 0.. {
                    let number = (round * SENDERS + sender) * 100_000 + count;
                    let text = message(number, 200 + 37 * (number % 100));
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    match smtp.message("sender@elsewhere.test", &ACCOUNTS, &text) {
                        Ok(true) => ledger.lock().expect("the ledger").push(number),
                        Ok(false) | Err(_) => return,
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(400 + 150 * round as u64));
    server.kill();
    stopped.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().expect("a sender ends");
    }
}

/// Every message of the ledger is in every mailbox, whole.
fn audit(server: &Server, ledger: &Ledger) {
    let promised = ledger.lock().expect("the ledger").clone();
    for account in ACCOUNTS {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let missing = missing(server, account, &promised);
            if missing.is_empty() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{account} lacks {missing:?} of {} acknowledged; log:\n{}",
                promised.len(),
                server.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn missing(server: &Server, account: &str, promised: &[usize]) -> Vec<usize> {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    let selected = imap.ok("SELECT INBOX").expect("INBOX opens");
    if selected.iter().any(|response| response.text == "* 0 EXISTS") {
        return promised.to_vec();
    }
    let bodies = imap.bodies().expect("bodies");
    let by_number: HashMap<usize, &Vec<u8>> =
        bodies.iter().filter_map(|body| Some((number_of(body)?, body))).collect();
    // No client here sends a message twice, so none may be there twice.
    let numbered = bodies.iter().filter(|body| number_of(body).is_some()).count();
    assert_eq!(numbered, by_number.len(), "{account} has a message twice; log:\n{}", server.log());
    promised
        .iter()
        .copied()
        .filter(|number| {
            let text = message(*number, 200 + 37 * (number % 100));
            !by_number.get(number).is_some_and(|body| is_message(body, &text))
        })
        .collect()
}

fn number_of(body: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(body);
    text.split("Subject: message ").nth(1)?.split("\r\n").next()?.parse().ok()
}
