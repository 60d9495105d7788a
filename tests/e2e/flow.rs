//! Mail goes in and comes out, byte for byte.

use crate::client::{Imap, Pop3, Smtp};
use crate::server::{IMAP, PASSWORD, POP3, SMTP, Server};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// A message of about `size` bytes with every sort of line in it.
pub fn message(number: usize, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Sender <sender@elsewhere.test>\r\nTo: {ALICE}\r\nSubject: message {number}\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@elsewhere.test>\r\n\r\n\
         .a line that begins with a dot\r\n..and one with two\r\n.\r\n\r\n"
    )
    .into_bytes();
    let mut line = 0;
    while text.len() < size {
        text.extend_from_slice(format!("line {line} of message {number}, caf\u{e9}\r\n").as_bytes());
        line += 1;
    }
    text
}

/// What was sent, at the end of what came back: trace fields stand in front of it.
pub fn is_message(stored: &[u8], sent: &[u8]) -> bool {
    let front = stored.strip_suffix(sent).unwrap_or_default();
    front.starts_with(b"Return-Path: <sender@elsewhere.test>\r\nReceived: ") && front.ends_with(b"\r\n")
}

#[test]
fn mail_comes_out_by_imap_and_pop3_as_it_went_in() {
    let server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    let sent: Vec<Vec<u8>> = (0..20).map(|number| message(number, 100 + 700 * number)).collect();
    for message in &sent {
        let taken = smtp.message("sender@elsewhere.test", &[ALICE, BOB], message).expect("a reply");
        assert!(taken, "every message gets its 250");
    }

    for account in [ALICE, BOB] {
        wait_for(&server, account, sent.len());
        let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
        imap.ok("SELECT INBOX").expect("INBOX opens");
        let bodies = imap.bodies().expect("bodies");
        assert_eq!(bodies.len(), sent.len());

        let mut pop3 = Pop3::login(server.address(), POP3, account, PASSWORD).expect("POP3 login");
        assert!(pop3.command("STAT").expect("a reply").starts_with(&format!("+OK {} ", sent.len())));
        for (index, body) in bodies.iter().enumerate() {
            assert!(sent.iter().any(|sent| is_message(body, sent)), "message {index} came out changed");
            assert_eq!(&pop3.lines(&format!("RETR {}", index + 1)).expect("a message"), body);
        }
    }
}

#[test]
fn a_large_message_streams_in_and_out_unchanged() {
    let server = Server::with_accounts(&[ALICE]);
    let sent = message(1, 8 << 20);
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    assert!(smtp.message("sender@elsewhere.test", &[ALICE], &sent).expect("a reply"));
    wait_for(&server, ALICE, 1);
    let mut imap = Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP login");
    imap.ok("SELECT INBOX").expect("INBOX opens");
    let bodies = imap.bodies().expect("bodies");
    assert!(is_message(&bodies[0], &sent));
    imap.append("Archive", &bodies[0]).expect("a reply");
    imap.ok("SELECT Archive").expect("Archive opens");
    assert_eq!(imap.bodies().expect("bodies"), bodies);
}

#[test]
fn unknown_recipients_and_strangers_domains_are_refused_at_rcpt() {
    let server = Server::with_accounts(&[ALICE]);
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    let cases = [
        ("alice@example.test", "250"),
        ("ALICE+tag@Example.TEST", "250"),
        ("postmaster", "250"),
        ("postmaster@example.test", "250"),
        ("nobody@example.test", "550"),
        ("someone@elsewhere.test", "550"),
        ("alice%elsewhere.test@elsewhere.test", "550"),
    ];
    smtp.command("MAIL FROM:<>").expect("a reply");
    for (recipient, code) in cases {
        let (_, lines) = smtp.command(&format!("RCPT TO:<{recipient}>")).expect("a reply");
        assert!(lines[0].starts_with(code), "{recipient}: {lines:?}");
    }
}

/// Deliveries follow the 250; waits until the account's INBOX holds `count` messages.
pub fn wait_for(server: &Server, account: &str, count: usize) {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    for _ in 0..600 {
        let status = imap.ok("STATUS INBOX (MESSAGES)").expect("a status");
        let found =
            status[0].text.split("MESSAGES ").nth(1).and_then(|rest| rest.trim_end_matches(')').parse().ok());
        if found.is_some_and(|found: usize| found >= count) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{account} did not get {count} messages; log:\n{}", server.log());
}
