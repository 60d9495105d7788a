//! Clients that do what they must not: it costs them their connection, and nobody else anything.

use std::net::Ipv4Addr;

use crate::client::{Imap, Lines, Pop3, Smtp};
use crate::server::{IMAP, PASSWORD, POP3, SMTP, SUBMISSION, Server};

const ALICE: &str = "alice@example.test";

/// Sends everything at once and reads what comes until the server closes.
fn burst(address: Ipv4Addr, port: u16, bytes: &[u8]) -> Vec<String> {
    let mut lines = Lines::connect(address, port).expect("the server answers");
    lines.send(bytes).expect("it is sent");
    std::iter::from_fn(|| lines.line().ok()).collect()
}

#[test]
fn what_comes_in_the_clear_behind_starttls_ends_the_connection() {
    let server = Server::with_accounts(&[ALICE]);
    let cases: [(u16, &[u8]); 4] = [
        (SMTP, b"EHLO client.example.test\r\nSTARTTLS\r\nMAIL FROM:<mallory@elsewhere.test>\r\n"),
        (SUBMISSION, b"EHLO client.example.test\r\nSTARTTLS\r\nNOOP\r\n"),
        (IMAP, b"a1 STARTTLS\r\na2 NOOP\r\n"),
        (POP3, b"STLS\r\nCAPA\r\n"),
    ];
    for (port, bytes) in cases {
        let said = burst(server.address(), port, bytes);
        let is_answered =
            |line: &String| line.contains("2.1.0") || line.contains("a2 ") || line.contains("UIDL");
        assert!(!said.iter().any(is_answered), "port {port}: {said:?}");
    }
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn others_are_served_while_many_connect_and_go() {
    let server = Server::with_accounts(&[ALICE]);
    for _ in 0..200 {
        drop(Lines::connect(server.address(), SMTP).expect("the server accepts"));
    }
    Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP answers");
    Pop3::login(server.address(), POP3, ALICE, PASSWORD).expect("POP3 answers");
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn thousands_of_commands_sent_ahead_are_all_answered() {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP answers");
    let commands: String = (0..2000).map(|number| format!("n{number} LIST \"\" *\r\n")).collect();
    imap.raw(commands.as_bytes()).expect("the server takes commands while it answers");
    let answers = imap.until("n1999").expect("all answers");
    assert_eq!(answers.iter().filter(|answer| answer.text.starts_with('n')).count(), 2000);
}
