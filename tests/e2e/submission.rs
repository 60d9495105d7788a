//! Submission: who may send, as whom, and what is made whole.

use std::time::{Duration, Instant};

use crate::client::{Lines, Smtp};
use crate::exchange::queue_without;
use crate::flow::wait_for;
use crate::server::{PASSWORD, SMTP, SUBMISSION, SUBMISSIONS, Server};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

fn only_message(server: &Server, account: &str) -> String {
    wait_for(server, account, 1);
    let mut imap = server.imap(account);
    imap.ok("SELECT INBOX").expect("opens");
    let bodies = imap.bodies().expect("bodies");
    assert_eq!(bodies.len(), 1);
    String::from_utf8_lossy(&bodies[0]).into_owned()
}

#[test]
fn passwords_are_taken_under_tls_alone_and_nobody_sends_without_one() {
    let server = Server::with_accounts(&[ALICE]);
    for port in [SMTP, SUBMISSION] {
        let mut smtp = Smtp::connect(server.address(), port).expect("SMTP answers");
        let (_, capabilities) = smtp.command("EHLO again").expect("a reply");
        assert!(!capabilities.iter().any(|line| line.contains("AUTH")), "{capabilities:?}");
        let (code, lines) = smtp.auth_plain(ALICE, PASSWORD).expect("a reply");
        assert!(code == 538 || code == 530, "{lines:?}");
    }
    let mut clear = Smtp::connect(server.address(), SUBMISSION).expect("SMTP answers");
    assert_eq!(clear.code(&format!("MAIL FROM:<{ALICE}>")), 530);
    let mut stranger = Smtp::connect_tls(server.address(), SUBMISSION, &server.data()).expect("TLS");
    assert_eq!(stranger.code(&format!("MAIL FROM:<{ALICE}>")), 530);
    assert_eq!(stranger.auth_plain(ALICE, "wrong").expect("a reply").0, 535);
    assert_eq!(stranger.auth_plain(ALICE, PASSWORD).expect("a reply").0, 235);
    assert_eq!(stranger.code(&format!("MAIL FROM:<{ALICE}>")), 250);
}

#[test]
fn tls_from_the_start_serves_on_465() {
    let server = Server::with_accounts(&[ALICE]);
    let mut lines = Lines::connect(server.address(), SUBMISSIONS).expect("connected");
    lines.start_tls(&server.data()).expect("TLS");
    assert!(lines.line().expect("a greeting").starts_with("220 "));
}

#[test]
fn the_sender_must_belong_to_the_account() {
    let server = Server::with_accounts(&[ALICE, BOB]);
    server.done(&["alias", "add", "sales@example.test", ALICE]);
    let mut smtp = server.submission(ALICE);
    for (sender, is_own) in [
        (ALICE, true),
        ("alice+news@example.test", true),
        ("sales@example.test", true),
        ("ALICE@EXAMPLE.TEST", true),
        (BOB, false),
        ("nobody@example.test", false),
        ("alice@elsewhere.test", false),
    ] {
        let (code, lines) = smtp.command(&format!("MAIL FROM:<{sender}>")).expect("a reply");
        assert_eq!(code == 250, is_own, "{sender}: {lines:?}");
        smtp.command("RSET").expect("a reply");
    }
}

#[test]
fn a_login_on_port_25_is_no_way_around_the_sender_check() {
    let server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = Smtp::connect_tls(server.address(), SMTP, &server.data()).expect("TLS");
    assert_eq!(smtp.auth_plain(ALICE, PASSWORD).expect("a reply").0, 235);
    assert!(smtp.code(&format!("MAIL FROM:<{BOB}>")) >= 500);
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}>")), 250);
    assert_eq!(smtp.code("RCPT TO:<friend@elsewhere.test>"), 250);
}

#[test]
fn missing_fields_are_added_to_messages_of_any_size() {
    for size in [100, 600_000] {
        let server = Server::with_accounts(&[ALICE, BOB]);
        let mut smtp = server.submission(ALICE);
        let text = format!("Subject: bare\r\n\r\n{}", "a line of a message\r\n".repeat(size / 21 + 1));
        assert!(smtp.message(ALICE, &[BOB], text.as_bytes()).expect("a reply"));
        let stored = only_message(&server, BOB);
        let (header, body) = stored.split_once("\r\n\r\n").expect("a header");
        assert_eq!(header.matches("\r\nDate: ").count(), 1, "{header}");
        assert_eq!(header.matches("\r\nMessage-ID: <").count(), 1, "{header}");
        assert_eq!(header.matches(&format!("\r\nFrom: <{ALICE}>")).count(), 1, "{header}");
        assert!(header.contains("with ESMTPSA"), "{header}");
        assert_eq!(body, text.split_once("\r\n\r\n").expect("a header").1);
    }
}

/// RFC 5322 3.6.2: a null sender, as of a receipt, is nobody that From could name.
#[test]
fn a_message_from_nobody_names_who_logged_in() {
    let server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = server.submission(ALICE);
    assert!(smtp.message("", &[BOB], b"Subject: receipt\r\n\r\nread\r\n").expect("a reply"));
    let stored = only_message(&server, BOB);
    assert!(stored.starts_with("Return-Path: <>\r\n"), "{stored}");
    assert_eq!(stored.matches(&format!("\r\nFrom: <{ALICE}>\r\n")).count(), 1, "{stored}");
    let several = b"From: a@x.test, b@x.test\r\nSubject: receipt\r\n\r\nread\r\n";
    assert!(smtp.message("", &[ALICE], several).expect("a reply"));
    assert!(only_message(&server, ALICE).contains(&format!("\r\nSender: <{ALICE}>\r\n")));
}

#[test]
fn a_held_message_comes_when_it_is_time_and_not_earlier() {
    const HELD_S: u64 = 8;
    let mut server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = server.submission(ALICE);
    let since = Instant::now();
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}> HOLDFOR={HELD_S}")), 250);
    assert_eq!(smtp.code(&format!("RCPT TO:<{BOB}>")), 250);
    assert_eq!(smtp.code(&format!("RCPT TO:<{ALICE}>")), 250);
    assert_eq!(smtp.code("DATA"), 354);
    assert_eq!(smtp.code("Subject: later\r\n\r\nhello\r\n."), 250);
    assert!(smtp.message(ALICE, &[BOB], b"Subject: now\r\n\r\nhello\r\n").expect("a reply"));
    assert!(only_message(&server, BOB).contains("\r\nSubject: now\r\n"));
    // The log remembers it, too.
    server.kill();
    server.start();
    assert!(only_message(&server, BOB).contains("\r\nSubject: now\r\n"));
    assert!(since.elapsed() < Duration::from_secs(HELD_S), "this machine is too slow for this test");
    for account in [ALICE, BOB] {
        let expected = if account == BOB { 2 } else { 1 };
        wait_for(&server, account, expected);
    }
    // The second in which it was accepted may have been nearly over.
    assert!(since.elapsed() >= Duration::from_secs(HELD_S - 1));
}

#[test]
fn users_send_anywhere_and_it_waits_in_the_queue() {
    let mut server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = server.submission(ALICE);
    let text = format!("From: {ALICE}\r\nSubject: out\r\n\r\nhello\r\n");
    assert!(smtp.message(ALICE, &["friend@elsewhere.test", BOB], text.as_bytes()).expect("a reply"));
    wait_for(&server, BOB, 1);
    server.kill();
    server.start();
    let queue = queue_without(&server, BOB);
    assert!(queue.contains("friend@elsewhere.test") && queue.contains(ALICE), "{queue}");
}
