//! Two sessions on one mailbox: what one does, the other is told, at the times that RFC 9051 7 allows.

use std::time::Duration;

use crate::client::Imap;
use crate::flow::message;
use crate::server::Server;

const ALICE: &str = "alice@example.test";

/// A server, and two sessions that have INBOX selected with so many messages.
fn two_sessions(messages: usize) -> (Server, Imap, Imap) {
    let server = Server::with_accounts(&[ALICE]);
    let mut one = server.imap(ALICE);
    for number in 0..messages {
        one.append("INBOX", &message(number, 300)).expect("a reply");
    }
    let mut two = server.imap(ALICE);
    one.ok("SELECT INBOX").expect("INBOX opens");
    two.ok("SELECT INBOX").expect("INBOX opens");
    (server, one, two)
}

fn has(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line.contains(wanted))
}

fn next(imap: &mut Imap) -> String {
    imap.response().expect("news").text
}

/// Begins IDLE; what was told before the continuation is lost.
fn idle(imap: &mut Imap) -> String {
    let tag = imap.send("IDLE").expect("sent");
    while !next(imap).starts_with('+') {}
    tag
}

#[test]
fn idle_is_told_at_once_of_mail_flags_and_expunges() {
    let (server, mut one, mut two) = two_sessions(3);
    let tag = idle(&mut two);

    one.ok("STORE 2 +FLAGS (\\Flagged)").expect("stored");
    let news = next(&mut two);
    assert!(news.starts_with("* 2 FETCH (") && news.contains("\\Flagged"), "{news}");

    server.smtp().message("sender@elsewhere.test", &[ALICE], &message(9, 300)).expect("a reply");
    assert_eq!(next(&mut two), "* 4 EXISTS");
    let recent = next(&mut two);
    assert!(recent.ends_with(" RECENT"), "{recent}");

    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").expect("stored");
    let news = next(&mut two);
    assert!(news.starts_with("* 1 FETCH (") && news.contains("\\Deleted"), "{news}");
    one.ok("EXPUNGE").expect("expunged");
    assert_eq!(next(&mut two), "* 1 EXPUNGE");

    two.raw(b"DONE\r\n").expect("sent");
    let end = two.until(&tag).expect("IDLE ends");
    assert!(end[end.len() - 1].text.contains("OK"), "{end:?}");
    let rest = two.texts("FETCH 1:* (UID)");
    assert_eq!(rest.len(), 4, "three messages are left: {rest:?}");
    assert!(rest[0].contains("UID 2"), "{rest:?}");
}

#[test]
fn expunges_wait_during_fetch_store_and_search_and_come_with_uid_fetch() {
    let (_server, mut one, mut two) = two_sessions(4);
    one.ok("STORE 2 +FLAGS.SILENT (\\Deleted)").expect("stored");
    one.ok("EXPUNGE").expect("expunged");
    for command in ["FETCH 1:* (FLAGS)", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "SORT (DATE) UTF-8 ALL"] {
        let lines = two.texts(command);
        assert!(!has(&lines, " EXPUNGE"), "{command}: {lines:?}");
    }
    let kept = two.texts("FETCH 4 (UID)");
    assert!(has(&kept, "* 4 FETCH (UID 4)"), "numbers stay until the expunge is told: {kept:?}");
    let gone = two.texts("FETCH 2 (BODY[])");
    assert!(has(&gone, "NO [EXPUNGEISSUED]"), "{gone:?}");
    let by_uid = two.texts("UID FETCH 1:3 (BODY[])");
    assert!(
        has(&by_uid, " OK") && has(&by_uid, "* 2 EXPUNGE"),
        "a UID that is gone is passed over: {by_uid:?}"
    );
    let moved_up = two.texts("FETCH 3 (UID)");
    assert!(has(&moved_up, "* 3 FETCH (UID 4)"), "{moved_up:?}");
}

#[test]
fn uid_commands_may_tell_expunges_and_both_sides_agree_in_the_end() {
    let (_server, mut one, mut two) = two_sessions(6);
    one.ok("STORE 1,3,5 +FLAGS.SILENT (\\Deleted)").expect("stored");
    let told = one.texts("UID EXPUNGE 1:4");
    let expunges: Vec<&String> = told.iter().filter(|line| line.ends_with("EXPUNGE")).collect();
    assert_eq!(expunges.len(), 2, "UID 5 was not named: {told:?}");
    two.texts("NOOP");
    assert_eq!(uids(&mut one), uids(&mut two));
    assert_eq!(uids(&mut one), [2, 4, 5, 6]);
}

fn uids(imap: &mut Imap) -> Vec<u32> {
    let lines = imap.texts("UID SEARCH ALL");
    let found = lines.iter().find(|line| line.starts_with("* SEARCH")).expect("a result");
    found["* SEARCH".len()..].split_whitespace().map(|uid| uid.parse().expect("a UID")).collect()
}

#[test]
fn own_silent_stores_are_silent_and_loud_ones_are_told_once() {
    let (_server, mut one, mut two) = two_sessions(2);
    let silent = one.texts("STORE 1 +FLAGS.SILENT (\\Seen Work)");
    assert!(!has(&silent, " FETCH "), "{silent:?}");
    let later = one.texts("NOOP");
    assert!(!has(&later, " FETCH "), "{later:?}");
    let loud = one.texts("STORE 2 +FLAGS (\\Answered)");
    assert_eq!(loud.iter().filter(|line| line.contains(" FETCH ")).count(), 1, "{loud:?}");
    let other = two.texts("NOOP");
    assert!(has(&other, "* FLAGS (") && has(&other, "Work"), "a new keyword is announced: {other:?}");
    assert!(has(&other, "* 1 FETCH ") && has(&other, "* 2 FETCH "), "{other:?}");
}

#[test]
fn a_new_keyword_is_announced_before_a_message_is_told_with_it() {
    let (_server, mut one, mut two) = two_sessions(1);
    two.ok("EXAMINE INBOX").expect("opens");
    let in_order = |lines: &[String], keyword: &str| {
        let at = |start: &str| {
            let is_it = |line: &String| line.starts_with(start) && line.contains(keyword);
            lines.iter().position(is_it).unwrap_or_else(|| panic!("no {start} in {lines:?}"))
        };
        assert!(at("* FLAGS (") < at("* 1 FETCH ("), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("* FLAGS")).count(), 1, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("[PERMANENTFLAGS")).count(), 1, "{lines:?}");
    };
    for keyword in ["First", "Second"] {
        in_order(&one.texts(&format!("STORE 1 +FLAGS ({keyword})")), keyword);
        in_order(&two.texts("FETCH 1 (FLAGS)"), keyword);
    }
    one.ok("STORE 1 +FLAGS (Third)").expect("stored");
    in_order(&two.texts("NOOP"), "Third");
    one.ok("STORE 1 +FLAGS (First)").expect("stored");
    assert!(!has(&two.texts("FETCH 1 (FLAGS)"), "* FLAGS"), "once is enough");
}

#[test]
fn a_session_whose_mailbox_is_deleted_or_renamed_is_told_the_truth() {
    let (server, mut one, mut two) = two_sessions(0);
    one.ok("CREATE Work").expect("created");
    one.append("Work", &message(1, 300)).expect("a reply");
    two.ok("SELECT Work").expect("opens");
    one.ok("RENAME Work Play").expect("renamed");
    assert!(has(&two.texts("FETCH 1 (UID)"), "* 1 FETCH"), "a renamed mailbox stays selected");
    one.ok("DELETE Play").expect("deleted");
    let lines = two.texts("FETCH 1 (UID)");
    assert!(has(&lines, " NO [NONEXISTENT]"), "{lines:?}");
    assert!(next(&mut two).starts_with("* BYE"), "who had it selected is sent away");
    assert!(two.response().is_err(), "and that is the end");
    let mut fresh = server.imap(ALICE);
    assert!(has(&fresh.texts("SELECT Play"), "NO [NONEXISTENT]"));

    one.ok("CREATE Idle").expect("created");
    fresh.ok("SELECT Idle").expect("opens");
    idle(&mut fresh);
    fresh.lines().set_patience(Duration::from_secs(10)).expect("set");
    one.ok("DELETE Idle").expect("deleted");
    assert!(next(&mut fresh).starts_with("* BYE"), "an idle session learns of it");
}

#[test]
fn a_deleted_mailbox_is_left_in_peace_or_with_a_bye() {
    let (server, mut one, _two) = two_sessions(1);
    for leave in ["CLOSE", "UNSELECT", "SELECT INBOX"] {
        one.ok("CREATE Work").expect("created");
        let mut two = server.imap(ALICE);
        two.ok("SELECT Work").expect("opens");
        one.ok("DELETE Work").expect("deleted");
        two.ok(leave).expect("a mailbox that is gone can be left");
        two.ok("NOOP").expect("the session goes on");
    }
    for (command, end) in
        [("NOOP", " OK"), ("STATUS INBOX (MESSAGES)", " OK"), ("EXPUNGE", " NO [NONEXISTENT]")]
    {
        one.ok("CREATE Work").expect("created");
        let mut two = server.imap(ALICE);
        two.ok("SELECT Work").expect("opens");
        one.ok("DELETE Work").expect("deleted");
        one.ok("CREATE Work").expect("another of the same name");
        two.raw(format!("a {command}\r\nb NOOP\r\n").as_bytes()).expect("sent");
        assert!(has(&[two.until("a").expect("an answer").pop().expect("a line").text], end), "{command}");
        assert!(next(&mut two).starts_with("* BYE"), "{command}");
        assert!(two.response().is_err(), "what was sent ahead is not carried out");
        one.ok("DELETE Work").expect("deleted");
    }
    // An APPEND elsewhere is kept, and said to be.
    one.ok("CREATE Work").expect("created");
    let mut two = server.imap(ALICE);
    two.ok("SELECT Work").expect("opens");
    one.ok("DELETE Work").expect("deleted");
    let appended = two.append("INBOX", &message(2, 300)).expect("a reply");
    assert!(appended[appended.len() - 1].text.contains(" OK [APPENDUID "), "{appended:?}");
    assert!(next(&mut two).starts_with("* BYE"));
    // Who deletes it itself is told that it is closed.
    one.ok("CREATE Work").expect("created");
    one.ok("SELECT Work").expect("opens");
    let deleted = one.texts("DELETE Work");
    assert!(has(&deleted, "* OK [CLOSED]") && has(&deleted, " OK Mailbox deleted"), "{deleted:?}");
    assert!(has(&one.texts("FETCH 1 (UID)"), " BAD "), "nothing is selected");
    one.ok("SELECT INBOX").expect("opens");
}

#[test]
fn closing_expunges_without_a_word_and_examine_changes_nothing() {
    let (_server, mut one, mut two) = two_sessions(3);
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").expect("stored");
    assert!(has(&two.texts("UNSELECT"), " OK"));
    two.ok("EXAMINE INBOX").expect("opens");
    two.ok("FETCH 2 BODY[]").expect("fetched");
    assert!(has(&two.texts("STORE 2 +FLAGS (\\Seen)"), " NO"), "a mailbox open for reading is not changed");
    assert!(has(&two.texts("EXPUNGE"), " NO"));
    two.ok("CLOSE").expect("closed");
    let flags = one.texts("FETCH 1:3 (FLAGS)");
    assert!(has(&flags, "* 1 FETCH") && !has(&flags, "\\Seen"), "{flags:?}");
    let closed = one.texts("CLOSE");
    assert_eq!(closed.len(), 1, "CLOSE tells no expunges: {closed:?}");
    one.ok("SELECT INBOX").expect("opens");
    assert_eq!(uids(&mut one), [2, 3]);
}

#[test]
fn ten_thousand_pipelined_commands_are_answered_in_order() {
    let (_server, mut one, _two) = two_sessions(1);
    let count = 10_000;
    let burst: String = (0..count).map(|number| format!("n{number} NOOP\r\n")).collect();
    one.lines().set_patience(Duration::from_secs(60)).expect("set");
    one.raw(burst.as_bytes()).expect("sent");
    for number in 0..count {
        let line = next(&mut one);
        assert!(line.starts_with(&format!("n{number} OK")), "{line}");
    }
}

#[test]
fn non_synchronising_literals_flow_in_a_pipeline() {
    let (_server, mut one, _two) = two_sessions(0);
    let text = message(7, 2000);
    let mut burst = Vec::new();
    for number in 0..20 {
        burst
            .extend_from_slice(format!("a{number} APPEND INBOX (\\Seen) {{{}+}}\r\n", text.len()).as_bytes());
        burst.extend_from_slice(&text);
        burst.extend_from_slice(b"\r\n");
    }
    burst.extend_from_slice(b"z1 STATUS {5+}\r\nINBOX (MESSAGES)\r\n");
    one.raw(&burst).expect("sent");
    let mut tagged = 0;
    loop {
        let line = next(&mut one);
        if line.starts_with('a') {
            assert!(line.contains("OK [APPENDUID "), "{line}");
            tagged += 1;
        }
        if line.starts_with("z1 ") {
            assert!(line.starts_with("z1 OK"), "{line}");
            break;
        }
    }
    assert_eq!(tagged, 20);
    assert_eq!(one.bodies().expect("bodies"), vec![text; 20]);
}

#[test]
fn what_others_have_expunged_is_neither_copied_nor_moved_nor_stored_without_a_word() {
    let (_server, mut one, mut two) = two_sessions(9);
    let mut expunge = |uid: u32| {
        one.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).expect("stored");
        one.ok("EXPUNGE").expect("expunged");
    };
    for (uid, command) in [(1, "COPY"), (2, "MOVE")] {
        expunge(uid);
        let refused = two.texts(&format!("{command} 1:3 Archive"));
        assert!(has(&refused, "* 1 EXPUNGE") && has(&refused, " NO [EXPUNGEISSUED]"), "{refused:?}");
        assert!(has(&two.texts("STATUS Archive (MESSAGES)"), "MESSAGES 0"), "it is all of them or none");
    }
    expunge(3);
    let stored = two.texts("STORE 1:2 +FLAGS (\\Answered)");
    assert!(has(&stored, "* 2 FETCH ") && has(&stored, " NO [EXPUNGEISSUED]"), "{stored:?}");
    let silent = two.texts("STORE 1:3 +FLAGS.SILENT (\\Flagged)");
    assert!(!has(&silent, " FETCH ") && has(&silent, " OK [EXPUNGEISSUED]"), "{silent:?}");
    let modified = two.texts("STORE 1:3 (UNCHANGEDSINCE 1) +FLAGS (\\Draft)");
    assert!(has(&modified, " NO [MODIFIED 2:3]"), "{modified:?}");
    let other = two.texts("STORE 2 +FLAGS.SILENT (\\Seen)");
    assert!(has(&other, " OK Flags"), "nothing that is gone was named: {other:?}");
    assert!(has(&two.texts("UID STORE 3:4 +FLAGS (\\Draft)"), " OK Flags"), "UIDs are passed over");
    expunge(5);
    assert!(has(&two.texts("UID COPY 4:6 Archive"), " 4,6 1:2] "), "UIDs are passed over");
    expunge(7);
    assert!(has(&two.texts("UID MOVE 6:8 Archive"), " 6,8 3:4] "), "UIDs are passed over");
    two.texts("NOOP");
    assert_eq!(uids(&mut two), [4, 9]);
}
