//! Guesses at a password over many connections at once, and right logins that come so.

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_lite::future::or;

use super::server::{PASSWORD, SHARDS, address};
use super::{Run, with_server};
use crate::world::net::Lines;
use crate::world::{CLIENTS, sim};

const CONNECTIONS: usize = 60;

/// Four for nothing, then after 0.5, 1, 2, 4, 8 and 16 seconds, then every 16.
const GUESSES_A_MINUTE: u32 = 11;

/// The line is too long.
const SENT_AWAY: &str = "[UNAVAILABLE]";

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
                    judged.set(judged.get() + u32::from(!answer.contains(SENT_AWAY)));
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
    with_server("", |run| all_devices_log_in(run, SOON_US));
}

#[test]
fn who_is_one_too_many_is_asked_to_come_back() {
    /// On each shard 64 wait, and some were judged before; once each waits for its answer, 8.
    const TAKEN_MAX: usize = SHARDS * (64 + GUESSES_A_MINUTE as usize);
    const BRAKED_MAX: usize = SHARDS * 9;
    for how in [How::Password, How::Proof] {
        with_server("", move |run| {
            let sent_away = Rc::new(Cell::new(0));
            let guess_many = |count| {
                for _ in 0..count {
                    let sent_away = Rc::clone(&sent_away);
                    run.sim.spawn(CLIENTS, "guesser", async move {
                        let answer = guess(how).await;
                        sent_away.set(sent_away.get() + usize::from(answer.contains(SENT_AWAY)));
                    });
                }
            };
            let many = 2 * TAKEN_MAX;
            guess_many(many);
            run.until("some are sent away", SOON_US, |_| sent_away.get() >= many - TAKEN_MAX);
            run.pass(10_000_000);
            let before = sent_away.get();
            assert!(before < many, "{how:?}: not all are");
            guess_many(100);
            run.until("most are now", SOON_US, |_| sent_away.get() >= before + 100 - BRAKED_MAX);
        });
    }
}

#[test]
fn a_proof_that_does_not_come_holds_nobody_up_for_long() {
    const PROOF_MAX_US: u64 = 4_000_000;
    with_server("", |run| {
        let silent = Rc::new(Cell::new(0));
        for _ in 0..SHARDS {
            let silent = Rc::clone(&silent);
            run.sim.spawn(CLIENTS, "silent", async move {
                let _lines = silent_session().await;
                silent.set(silent.get() + 1);
                std::future::pending::<()>().await;
            });
        }
        run.until("both have their challenge", SOON_US, |_| silent.get() == SHARDS);
        all_devices_log_in(run, PROOF_MAX_US + SOON_US);
    });
}

/// With the right password, all at once and within so long.
fn all_devices_log_in(run: &Run, span_us: u64) {
    let right = Rc::new(Cell::new(0));
    for _ in 0..CONNECTIONS {
        let right = Rc::clone(&right);
        run.sim.spawn(CLIENTS, "device", async move {
            let (_lines, answer) = log_in(PASSWORD).await;
            assert!(answer.starts_with("a OK"), "{answer}");
            right.set(right.get() + 1);
        });
    }
    run.until("all are in", span_us, |_| right.get() == CONNECTIONS);
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
    let challenge = ask_for_challenge(&mut lines).await;
    let Some(challenge) = challenge.strip_prefix("+ ") else {
        return challenge;
    };
    let challenge = STANDARD.decode(challenge).expect("a challenge is base64");
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let nonce = challenge.split(',').next().expect("it begins with the nonce");
    let last = format!("c=biws,{nonce},p={}", STANDARD.encode([0; 32]));
    ask(&mut lines, &STANDARD.encode(last)).await
}

async fn ask_for_challenge(lines: &mut Lines) -> String {
    let first = STANDARD.encode("n,,n=alice@here.test,r=nonce");
    ask(lines, &format!("a AUTHENTICATE SCRAM-SHA-256 {first}")).await
}

/// A session with a challenge that it does not answer, on a shard that has no other: there it would wait for one.
async fn silent_session() -> Lines {
    const IMPATIENT_US: u64 = 200_000;
    loop {
        let mut lines = connect().await;
        let challenge = async { Some(ask_for_challenge(&mut lines).await) };
        let impatience = async {
            sim().sleep_us(IMPATIENT_US).await;
            None
        };
        if let Some(challenge) = or(challenge, impatience).await {
            assert!(challenge.starts_with("+ "), "{challenge}");
            return lines;
        }
    }
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
