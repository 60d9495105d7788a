//! Python's standard library: smtplib, imaplib and poplib, over plain connections, STARTTLS and TLS.

use crate::mail::{ALICE, BOB, HOST, ca, server};
use crate::program::{available, command, run};
use crate::server::{IMAP, IMAPS, PASSWORD, POP3, POP3S, SMTP, SUBMISSION, SUBMISSIONS, Server};

/// What every script begins with: where the server is and how it is trusted.
const PRELUDE: &str = include_str!("python/prelude.py");

/// Runs a script; what it asserts must hold.
pub fn script(server: &Server, text: &str) -> String {
    let mut python = command("python3", server.folder());
    python.arg("-").env("ADDRESS", server.address().to_string()).env("HOST", HOST).env("CA", ca(server));
    python.env("ALICE", ALICE).env("BOB", BOB).env("PASSWORD", PASSWORD);
    for (name, port) in [
        ("SMTP", SMTP),
        ("SUBMISSION", SUBMISSION),
        ("SUBMISSIONS", SUBMISSIONS),
        ("IMAP", IMAP),
        ("IMAPS", IMAPS),
        ("POP3", POP3),
        ("POP3S", POP3S),
    ] {
        python.env(format!("{name}_PORT"), port.to_string());
    }
    let ran = run(python, format!("{PRELUDE}\n{text}").as_bytes());
    String::from_utf8(ran.ok()).expect("the script prints text")
}

#[test]
fn smtplib_sends() {
    if available("python3") {
        script(&server(), include_str!("python/send.py"));
    }
}

#[test]
fn imaplib_reads_and_changes() {
    if available("python3") {
        script(&server(), include_str!("python/imap.py"));
    }
}

#[test]
fn imaplib_waits_in_idle() {
    if available("python3") {
        script(&server(), include_str!("python/idle.py"));
    }
}

#[test]
fn poplib_reads_and_deletes() {
    if available("python3") {
        script(&server(), include_str!("python/pop.py"));
    }
}
