//! Guesses at a password over many connections at once, and right logins that come so.

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::server::{PASSWORD, SHARDS, address};
use super::with_server;
use crate::world::CLIENTS;
use crate::world::net::Lines;

const CONNECTIONS: usize = 60;

/// Four for nothing, then after 0.5, 1, 2, 4, 8 and 16 seconds, then every 16.
const GUESSES_A_MINUTE: u32 = 11;

/// Time for a round trip or two, and a hash.
const SOON_US: u64 = 2_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Password,
    Proof,
}

#[test]
fn many_connections_are_no_more_guesses_than_one() {
    for how in [How::Password, How::Proof] {
        let judged = with_server("", move |run| {
            let judged = Rc::new(Cell::new(0));
            for _ in 0..CONNECTIONS {
                let judged = Rc::clone(&judged);
                run.sim.spawn(CLIENTS, "guesser", async move {
                    let answer = guess(how).await;
                    assert!(answer.contains(" NO "), "{answer}");
                    judged.set(judged.get() + 1);
                });
            }
            run.pass(60_000_000);
            judged.get()
        });
        // Each shard brakes for itself, and a guess is on its way for a moment.
        let most = SHARDS as u32 * GUESSES_A_MINUTE;
        assert!((most - 4..=most).contains(&judged), "{how:?}: {judged}");
    }
}

#[test]
fn right_logins_that_come_all_at_once_wait_for_nothing() {
    with_server("", |run| {
        let right = Rc::new(Cell::new(0));
        for _ in 0..CONNECTIONS {
            let right = Rc::clone(&right);
            run.sim.spawn(CLIENTS, "device", async move {
                let (_lines, answer) = log_in(PASSWORD).await;
                assert!(answer.starts_with("a OK"), "{answer}");
                right.set(right.get() + 1);
            });
        }
        run.until("all are in", SOON_US, |_| right.get() == CONNECTIONS);
    });
}

async fn guess(how: How) -> String {
    match how {
        How::Password => log_in("wrong").await.1,
        How::Proof => prove_wrongly().await,
    }
}

async fn log_in(password: &str) -> (Lines, String) {
    let mut lines = connect().await;
    let answer = ask(&mut lines, &format!("a LOGIN alice@here.test {password}")).await;
    (lines, answer)
}

/// A whole exchange of SCRAM with a proof that proves nothing (RFC 5802 5).
async fn prove_wrongly() -> String {
    let mut lines = connect().await;
    let first = STANDARD.encode("n,,n=alice@here.test,r=nonce");
    let challenge = ask(&mut lines, &format!("a AUTHENTICATE SCRAM-SHA-256 {first}")).await;
    let challenge = STANDARD.decode(&challenge["+ ".len()..]).expect("a challenge is base64");
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let nonce = challenge.split(',').next().expect("it begins with the nonce");
    let last = format!("c=biws,{nonce},p={}", STANDARD.encode([0; 32]));
    ask(&mut lines, &STANDARD.encode(last)).await
}

async fn connect() -> Lines {
    let mut lines = Lines::connect(address(143)).await.expect("the server listens");
    lines.line().await.expect("a greeting");
    lines
}

async fn ask(lines: &mut Lines, line: &str) -> String {
    lines.send(format!("{line}\r\n")).await.expect("it is sent");
    lines.line().await.expect("an answer")
}
