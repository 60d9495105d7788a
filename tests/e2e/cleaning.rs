//! Space comes back, also where segments are as small as they may be.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::Server;

const ALICE: &str = "alice@example.test";

const SMALLEST: &str = "[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";

/// What a base has of those that stay is more than a segment.
const MESSAGES: usize = 21_000;
const DELETED: usize = 12_000;

/// A busy machine has removed a file by then.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_base_larger_than_any_segment_is_written_in_pieces() {
    let mut server = Server::prepare(1, SMALLEST);
    server.add_account(ALICE);
    let mbox = server.folder().join("mail.mbox");
    let message = |number| format!("From a@b Thu Jan  1 00:00:00 2026\nSubject: {number}\n\nshort\n\n");
    fs::write(&mbox, (0..MESSAGES).map(message).collect::<String>()).expect("written");
    server.done(&["import", "mbox", mbox.to_str().expect("a plain path"), "--account", ALICE]);
    server.start();
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok(&format!("STORE 1:{DELETED} +FLAGS.SILENT (\\Deleted)")).expect("marked");
    imap.ok("EXPUNGE").expect("expunged");
    let said = server.done(&["store", "clean"]);
    let freed = |log: &str| {
        log.lines().any(|line| line.contains("the log was cleaned") && !line.contains("freed_bytes=0"))
    };
    assert!(freed(&server.log()), "{said}{}", server.log());
    assert!(!server.log().contains("could not be"), "{}", server.log());
    server.kill();
    server.start();
    let listed = server.imap(ALICE).command("STATUS INBOX (MESSAGES)").expect("a reply");
    let left = format!("(MESSAGES {})", MESSAGES - DELETED);
    assert!(listed.iter().any(|line| line.text.contains(&left)), "{listed:?}");
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    server.kill();
}

/// A large message that is gone may still be named by a record that a start reads; its number must not be another
/// message's, or the next cleaning takes that for the dead one.
#[test]
fn a_large_message_under_way_is_not_cleaned_away_for_one_that_is_gone() {
    const LENGTH: usize = 600_000;
    let mut server = Server::configured(&[ALICE], "");
    let mut imap = server.imap(ALICE);
    let message = |letter: char| {
        let lines = format!("{}\r\n", letter.to_string().repeat(70)).repeat(LENGTH / 72);
        format!("Subject: {letter}\r\n\r\n{lines}").into_bytes()
    };
    imap.append("INBOX", &message('a')).expect("taken");
    for command in ["SELECT INBOX", "STORE 1 +FLAGS.SILENT (\\Deleted)", "EXPUNGE", "LOGOUT"] {
        imap.ok(command).expect(command);
    }
    server.done(&["store", "clean"]);
    server.kill();
    server.start();

    let second = message('b');
    let mut imap = server.imap(ALICE);
    let tag = imap.send(&format!("APPEND INBOX {{{}}}", second.len())).expect("sent");
    assert!(imap.response().expect("a go-ahead").text.starts_with('+'));
    let (most, rest) = second.split_at(LENGTH * 9 / 10);
    imap.raw(most).expect("sent");
    // Until most of it lies in its file.
    thread::sleep(Duration::from_millis(500));
    server.done(&["store", "clean"]);
    imap.raw(rest).expect("sent");
    imap.raw(b"\r\n").expect("sent");
    imap.until(&tag).expect("taken");
    imap.ok("SELECT INBOX").expect("opens");
    assert_eq!(imap.bodies().expect("readable"), [second]);
    server.kill();
}

#[test]
fn a_large_message_that_is_refused_at_its_end_leaves_no_file() {
    const LENGTH: usize = 600_000;
    let server = Server::configured(&[ALICE], "[limits]\naccount_bytes = 1000000\n");
    let message = format!("Subject: large\r\n\r\n{}", "0123456789 123456\r\n".repeat(LENGTH / 20));
    let (most, rest) = message.split_at(message.len() - 10);
    let mut sessions = [(); 3].map(|()| server.imap(ALICE));
    let mut other = server.imap(ALICE);
    other.ok("CREATE Gone").expect("made");
    let mailboxes = ["INBOX", "INBOX", "Gone"];
    let tags = [0, 1, 2].map(|at| {
        let tag =
            sessions[at].send(&format!("APPEND {} {{{}}}", mailboxes[at], message.len())).expect("sent");
        assert!(sessions[at].response().expect("a go-ahead").text.starts_with('+'));
        sessions[at].raw(most.as_bytes()).expect("sent");
        tag
    });
    other.ok("DELETE Gone").expect("deleted");
    let answers = [2, 0, 1].map(|at| {
        sessions[at].raw(format!("{rest}\r\n").as_bytes()).expect("sent");
        let answer = sessions[at].until(&tags[at]).expect("an answer");
        answer.last().map(|last| last.text.clone()).unwrap_or_default()
    });
    for (answer, expected) in answers.iter().zip([" NO [TRYCREATE]", " OK [APPENDUID", " NO [OVERQUOTA]"]) {
        assert!(answer.contains(expected), "{answers:?}");
    }
    let begun = Instant::now();
    while large_files(&server) != 1 {
        assert!(begun.elapsed() < PATIENCE, "{} files are there", large_files(&server));
        thread::sleep(Duration::from_millis(20));
    }
}

fn large_files(server: &Server) -> usize {
    let logs = fs::read_dir(server.data().join("large")).expect("a folder");
    logs.map(|log| fs::read_dir(log.expect("a log's folder").path()).expect("files").count()).sum()
}
