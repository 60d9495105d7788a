//! Accounts come, change and go, while the server runs and while it does not.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::{Imap, Pop3, Smtp};
use crate::flow::{message, wait_for};
use crate::scram;
use crate::server::{IMAP, PASSWORD, POP3, SUBMISSION, Server};

const ALICE: &str = "alice@example.test";
const SENDER: &str = "sender@elsewhere.test";
const OTHER: &str = "other@example.test";

fn login(server: &Server, account: &str, password: &str) -> bool {
    let mut imap = Imap::connect(server.address(), IMAP).expect("IMAP answers");
    let lines = imap.texts(&format!("LOGIN {account} \"{password}\""));
    lines[lines.len() - 1].contains(" OK")
}

#[test]
fn a_new_account_can_be_used_at_once_on_every_shard() {
    let server = Server::with_accounts(&[ALICE]);
    for number in 0..6 {
        let account = format!("new{number}@example.test");
        server.add_account(&account);
        // Connections are spread over the shards by the kernel.
        for _ in 0..6 {
            assert!(login(&server, &account, PASSWORD), "{account}");
            let mut smtp = server.smtp();
            assert_eq!(smtp.code("MAIL FROM:<>"), 250);
            assert_eq!(smtp.code(&format!("RCPT TO:<{account}>")), 250);
        }
    }
    let listed = server.done(&["account", "list"]);
    assert_eq!(listed.matches("@example.test").count(), 7, "{listed}");
}

#[test]
fn a_new_password_counts_from_then_on_and_the_old_one_no_more() {
    let mut server = Server::with_accounts(&[ALICE]);
    assert!(login(&server, ALICE, PASSWORD));
    for (password, running) in [("second", true), ("third", false)] {
        if !running {
            server.stop();
        }
        let output = server.command(&["account", "passwd", ALICE, "--password-stdin"], password.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if !running {
            server.start();
        }
        for _ in 0..3 {
            assert!(login(&server, ALICE, password), "{password}");
        }
        assert!(!login(&server, ALICE, PASSWORD), "the cache of logins does not keep the old password");
    }
}

#[test]
fn a_removed_account_keeps_its_mail_until_it_is_purged() {
    let mut server = Server::with_accounts(&[ALICE, "other@example.test"]);
    assert!(server.smtp().message(SENDER, &[ALICE], &message(1, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
    for purge in [false, true] {
        if purge {
            server.done(&["account", "remove", ALICE, "--purge"]);
        } else {
            server.done(&["account", "remove", ALICE]);
        }
        assert!(!login(&server, ALICE, PASSWORD));
        let mut smtp = server.smtp();
        assert_eq!(smtp.code("MAIL FROM:<>"), 250);
        assert_eq!(smtp.code(&format!("RCPT TO:<{ALICE}>")), 550);
        server.kill();
        server.start();
        assert!(!login(&server, ALICE, PASSWORD), "it stays removed");
        server.add_account(ALICE);
        let status = server.imap(ALICE).texts("STATUS INBOX (MESSAGES)");
        let expected = if purge { "MESSAGES 0" } else { "MESSAGES 1" };
        assert!(status[0].contains(expected), "{status:?}");
    }
    assert!(server.smtp().message(SENDER, &[ALICE], &message(2, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
}

/// The number in the answer to `STATUS name (UIDVALIDITY)`.
fn uid_validity(server: &Server, name: &str) -> u32 {
    let status = server.imap(ALICE).texts(&format!("STATUS {name} (UIDVALIDITY)"));
    let digits = status[0].split("UIDVALIDITY ").nth(1).and_then(|rest| rest.split(')').next());
    digits.and_then(|digits| digits.parse().ok()).expect("a number")
}

#[test]
fn an_address_that_comes_back_after_a_purge_gives_no_number_again() {
    let mut server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    for number in 0..30 {
        imap.ok(&format!("CREATE made-{number}")).expect("created");
    }
    // More mailboxes than seconds have passed.
    let used = uid_validity(&server, "made-29");
    for is_started_again in [false, true] {
        server.done(&["account", "remove", ALICE, "--purge"]);
        if is_started_again {
            server.kill();
            server.start();
        }
        server.add_account(ALICE);
        assert!(uid_validity(&server, "INBOX") > used);
    }
}

#[test]
fn an_account_of_a_new_store_begins_above_what_an_older_store_gave() {
    let server = Server::with_accounts(&[ALICE]);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    assert!(u64::from(uid_validity(&server, "INBOX")) + 60 > seconds);
}

/// How many messages there are in all mailboxes, also of accounts that the directory does not know.
fn messages(server: &Server) -> String {
    let stats = server.done(&["store", "stats"]);
    let count = stats.lines().find_map(|line| line.strip_prefix("messages  "));
    count.expect("they are counted").to_owned()
}

#[test]
fn a_purge_takes_the_mail_also_without_a_server() {
    let mut server = Server::with_accounts(&[ALICE, "other@example.test"]);
    for (number, recipients) in [&[ALICE][..], &[ALICE, "other@example.test"]].into_iter().enumerate() {
        assert!(server.smtp().message(SENDER, recipients, &message(number, 500)).expect("a reply"));
    }
    wait_for(&server, ALICE, 2);
    wait_for(&server, "other@example.test", 1);
    server.stop();
    assert_eq!(messages(&server), "3");
    server.done(&["account", "remove", ALICE, "--purge"]);
    assert_eq!(messages(&server), "1");
    server.start();
    assert_eq!(messages(&server), "1");
    assert!(!server.done(&["account", "list"]).contains(ALICE));
}

#[test]
fn a_purge_that_the_disk_refuses_can_be_made_again() {
    let mut server = Server::with_accounts(&[ALICE]);
    assert!(server.smtp().message(SENDER, &[ALICE], &message(1, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
    // The files of accounts can be written, the log cannot.
    let process = server.process_id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &process, "--fsize=8192:unlimited"]).status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit sets the limit");
    let (status, said) = server.refusal(&["account", "remove", ALICE, "--purge"]);
    assert!(status == Some(3) && said.contains("purge it again"), "{said}");
    assert!(!login(&server, ALICE, PASSWORD), "it is removed");
    server.kill();
    server.start();
    assert!(!login(&server, ALICE, PASSWORD), "it stays removed");
    assert_eq!(messages(&server), "1");
    server.done(&["account", "remove", ALICE, "--purge"]);
    assert_eq!(messages(&server), "0");
    assert!(!server.done(&["account", "list"]).contains(ALICE));
}

#[test]
fn the_sessions_of_an_account_that_is_removed_end() {
    let mut server = Server::with_accounts(&[ALICE, OTHER]);
    removal_ends_sessions(&server, &["account", "remove", ALICE]);
    server.add_account(ALICE);
    removal_ends_sessions(&server, &["account", "remove", ALICE, "--purge"]);
    server.kill();
    server.start();
    server.add_account(ALICE);
    let mut fresh = server.imap(ALICE);
    let status = fresh.texts("STATUS INBOX (MESSAGES)");
    assert!(status[0].contains("MESSAGES 0"), "{status:?}");
}

fn removal_ends_sessions(server: &Server, removal: &[&str]) {
    let mut open = server.imap(ALICE);
    open.append("INBOX", &message(1, 300)).expect("a reply");
    open.ok("SELECT INBOX").expect("opens");
    let mut idle = server.imap(ALICE);
    idle.ok("SELECT INBOX").expect("opens");
    idle.send("IDLE").expect("sent");
    while !idle.response().expect("a line").text.starts_with('+') {}
    let mut pop3 = Pop3::login(server.address(), POP3, ALICE, PASSWORD).expect("logged in");
    let (mut sender, mut between) = (server.submission(ALICE), server.submission(ALICE));
    assert_eq!(between.code("MAIL FROM:<>"), 250);
    let mut other = server.imap(OTHER);
    server.done(removal);
    for session in [&mut open, &mut idle] {
        assert!(session.response().expect("a last word").text.starts_with("* BYE"));
        assert!(session.response().is_err(), "it goes on");
    }
    assert!(pop3.command("STAT").is_err(), "it goes on");
    for from in ["", ALICE] {
        assert_eq!(sender.code(&format!("MAIL FROM:<{from}>")), 550, "{from:?}");
    }
    assert_eq!(between.code("RCPT TO:<far@elsewhere.test>"), 550, "mail goes out for nobody");
    other.ok("SELECT INBOX").expect("that of another account goes on");
}

#[test]
fn accounts_and_aliases_are_managed_without_a_server_too() {
    let mut server = Server::prepare(2, "");
    server.add_account(ALICE);
    server.add_account("bob@example.test");
    server.done(&["alias", "add", "both@example.test", ALICE, "bob@example.test"]);
    server.done(&["account", "remove", "bob@example.test", "--purge"]);
    let refused = server.command(&["account", "add", ALICE, "--password-stdin"], b"x");
    assert!(!refused.status.success(), "an account is added once");
    server.start();
    assert!(login(&server, ALICE, PASSWORD) && !login(&server, "bob@example.test", PASSWORD));
    assert!(server.smtp().message(SENDER, &["both@example.test"], &message(1, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
}

#[test]
fn guessing_gets_slower_and_the_owner_is_let_in() {
    let mut server = Server::prepare(1, "");
    server.add_account(ALICE);
    server.start();
    assert!(login(&server, ALICE, PASSWORD));
    let begun = Instant::now();
    for number in 0..6 {
        assert!(!login(&server, ALICE, &format!("guess {number}")));
    }
    assert!(begun.elapsed() > Duration::from_millis(1500), "six guesses took {:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(login(&server, ALICE, PASSWORD));
    assert!(begun.elapsed() < Duration::from_secs(5), "the owner waits for {:?}", begun.elapsed());
}

/// Logs in by SCRAM, to one protocol after the other; says whether that worked and how long it took.
fn prove(server: &Server, turn: usize, password: &str) -> (bool, Duration) {
    let (address, login) = (server.address(), ALICE);
    match turn % 3 {
        0 => {
            let mut smtp = Smtp::connect_tls(address, SUBMISSION, &server.data()).expect("SMTP answers");
            let begun = Instant::now();
            let reply = scram::log_in("AUTH", login, password, |line| {
                let (_, mut lines) = smtp.command(line).expect("a reply");
                lines.pop().expect("a reply has a line")
            });
            (reply.starts_with("235 "), begun.elapsed())
        }
        1 => {
            let mut imap = Imap::connect(address, IMAP).expect("IMAP answers");
            let begun = Instant::now();
            let reply = scram::log_in("a AUTHENTICATE", login, password, |line| {
                imap.raw(format!("{line}\r\n").as_bytes()).expect("sends");
                imap.lines().line().expect("a reply")
            });
            (reply.starts_with("a OK "), begun.elapsed())
        }
        _ => {
            let mut pop3 = Pop3::connect(address, POP3).expect("POP3 answers");
            let begun = Instant::now();
            let reply = scram::log_in("AUTH", login, password, |line| pop3.command(line).expect("a reply"));
            (reply.starts_with("+OK "), begun.elapsed())
        }
    }
}

#[test]
fn guessing_by_scram_gets_slower_in_every_protocol_and_the_owner_is_let_in() {
    let mut server = Server::prepare(1, "");
    server.add_account(ALICE);
    server.start();
    assert!((0..3).all(|turn| prove(&server, turn, PASSWORD).0));
    // One count for all protocols: a guess that one of them forgets is missing in the waits that follow.
    for (turn, wait_ms) in [0, 0, 0, 0, 500, 1000, 2000].into_iter().enumerate() {
        let (is_right, took) = prove(&server, turn, "a guess");
        assert!(!is_right, "guess {turn}");
        assert!(took >= Duration::from_millis(wait_ms), "guess {turn} took {took:?}");
    }
    // A stranger would wait for four seconds.
    let (is_right, took) = prove(&server, 1, PASSWORD);
    assert!(is_right && took < Duration::from_secs(4), "the owner waits for {took:?}");
}
