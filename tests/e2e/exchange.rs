//! Mail exchange on port 25: who gets mail, who is refused, and what cannot be smuggled.

use std::time::Duration;

use crate::client::{Imap, Smtp};
use crate::flow::{is_message, message, wait_for};
use crate::server::{IMAP, PASSWORD, SMTP, Server};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@other.test";
const SENDER: &str = "sender@elsewhere.test";

fn status(server: &Server, account: &str) -> String {
    server.imap(account).texts("STATUS INBOX (MESSAGES)")[0].clone()
}

/// The queue, once `recipient` is not in it any more: that a copy arrived is noted in the second after.
pub fn queue_without(server: &Server, recipient: &str) -> String {
    for _ in 0..200 {
        let queue = server.done(&["queue", "list"]);
        if !queue.contains(recipient) {
            return queue;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{recipient} stays in the queue; log:\n{}", server.log());
}

#[test]
fn aliases_lists_catch_alls_and_tags_reach_everyone_once() {
    let server = Server::with_accounts(&[ALICE, BOB, CAROL]);
    server.done(&["alias", "add", "inner@example.test", BOB, CAROL]);
    server.done(&["alias", "add", "team@example.test", ALICE, BOB, "inner@example.test"]);
    server.done(&["alias", "add", "@other.test", CAROL]);
    let mut smtp = server.smtp();
    let cases: [(&[&str], [usize; 3]); 5] = [
        (&["team@example.test"], [1, 1, 1]),
        (&["team@example.test", ALICE, "Alice+x@EXAMPLE.test", BOB], [2, 2, 2]),
        (&["anyone-at-all@other.test"], [2, 2, 3]),
        (&["alice+a+b@example.test"], [3, 2, 3]),
        (&["postmaster@example.test", "Postmaster", "postmaster@other.test"], [4, 2, 4]),
    ];
    for (number, (recipients, expected)) in cases.into_iter().enumerate() {
        assert!(smtp.message(SENDER, recipients, &message(number, 500)).expect("a reply"));
        for (account, count) in [ALICE, BOB, CAROL].into_iter().zip(expected) {
            wait_for(&server, account, count);
        }
    }
    for (account, count) in [ALICE, BOB, CAROL].into_iter().zip([4, 2, 4]) {
        assert!(status(&server, account).contains(&format!("MESSAGES {count})")), "{account} has too many");
    }
}

#[test]
fn an_alias_for_an_address_elsewhere_waits_in_the_queue() {
    let mut server = Server::with_accounts(&[ALICE]);
    server.done(&["alias", "add", "both@example.test", ALICE, "friend@elsewhere.test"]);
    assert!(server.smtp().message(SENDER, &["both@example.test"], &message(1, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
    for _ in 0..2 {
        let queue = queue_without(&server, "both@example.test");
        assert!(queue.contains("friend@elsewhere.test"), "{queue}");
        server.kill();
        server.start();
    }
}

#[test]
fn no_form_of_address_makes_an_open_relay() {
    let server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    smtp.command("MAIL FROM:<sender@elsewhere.test>").expect("a reply");
    let recipients = [
        "victim@elsewhere.test",
        "victim%elsewhere.test@example.test",
        "\"victim@elsewhere.test\"@example.test",
        "elsewhere.test!victim@example.test",
        "@example.test:victim@elsewhere.test",
        "@elsewhere.test,@example.test:victim@elsewhere.test",
        "victim@elsewhere.test@example.test",
        "victim@[127.0.0.1]",
        "victim@[IPv6:::1]",
        "victim@example.test.elsewhere.test",
        "victim@example.test%00.elsewhere.test",
        "victim",
        "<victim@elsewhere.test>",
        "\"alice@example.test\"@elsewhere.test",
    ];
    for recipient in recipients {
        let (code, lines) = smtp.command(&format!("RCPT TO:<{recipient}>")).expect("a reply");
        assert!((500..=559).contains(&code), "{recipient}: {lines:?}");
    }
    assert_eq!(smtp.code("DATA"), 554, "nobody was accepted");
    assert_eq!(server.done(&["queue", "list"]).lines().filter(|line| line.contains('@')).count(), 0);
}

#[test]
fn only_allowed_networks_relay_and_what_they_send_survives_a_kill_in_the_queue() {
    let mut server = Server::configured(&[ALICE], "[relay]\nallow = [\"127.0.0.0/8\"]\n");
    let mut smtp = server.smtp();
    let recipients = ["one@elsewhere.test", ALICE, "two@another.test"];
    for size in [500, 400_000] {
        assert!(smtp.message(SENDER, &recipients, &message(size, size)).expect("a reply"));
    }
    wait_for(&server, ALICE, 2);
    let before = queue_without(&server, ALICE);
    assert_eq!(before.matches("one@elsewhere.test").count(), 2, "{before}");
    assert_eq!(before.matches("two@another.test").count(), 2, "{before}");
    assert_eq!(before.matches(SENDER).count(), 4, "{before}");
    // Ages and reasons change, ids and addresses do not.
    let copies = |list: &str| -> Vec<String> {
        let copy = |line: &str| {
            let recipient = line.split(" -> ").nth(1)?.split(' ').next()?;
            Some(format!("{} {recipient}", line.split(' ').next()?))
        };
        list.lines().skip(1).filter_map(copy).collect()
    };
    assert_eq!(copies(&before).len(), 4, "{before}");
    server.kill();
    assert_eq!(copies(&server.done(&["queue", "list"])), copies(&before), "the queue without a server");
    server.start();
    assert_eq!(copies(&server.done(&["queue", "list"])), copies(&before));
}

#[test]
fn recipients_on_both_shards_get_one_copy_each() {
    let accounts: Vec<String> = (0..6).map(|number| format!("user{number}@example.test")).collect();
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let server = Server::with_accounts(&names);
    let sent: Vec<Vec<u8>> = (0..4).map(|number| message(number, 300_000 * number)).collect();
    for message in &sent {
        assert!(server.smtp().message(SENDER, &names, message).expect("a reply"));
    }
    for account in names {
        wait_for(&server, account, sent.len());
        let mut imap = server.imap(account);
        imap.ok("SELECT INBOX").expect("opens");
        let bodies = imap.bodies().expect("bodies");
        assert_eq!(bodies.len(), sent.len(), "{account}");
        for sent in &sent {
            assert_eq!(bodies.iter().filter(|body| is_message(body, sent)).count(), 1, "{account}");
        }
    }
}

#[test]
fn chunks_make_the_message_that_was_cut_into_them() {
    let server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    for size in [900, 900_000] {
        let sent = message(size, size);
        assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test>"), 250);
        assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250);
        for chunk in sent.chunks(size / 7 + 1) {
            smtp.raw(format!("BDAT {}\r\n", chunk.len()).as_bytes()).expect("sent");
            smtp.raw(chunk).expect("sent");
            assert_eq!(smtp.reply().expect("a reply").0, 250);
        }
        assert_eq!(smtp.code("BDAT 0 LAST"), 250);
    }
    wait_for(&server, ALICE, 2);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let bodies = imap.bodies().expect("bodies");
    assert!(is_message(&bodies[0], &message(900, 900)) && is_message(&bodies[1], &message(900_000, 900_000)));
}

#[test]
fn what_is_too_large_is_refused_and_the_session_goes_on() {
    let server = Server::configured(&[ALICE], "[limits]\nmessage_bytes = 400000\n");
    let mut smtp = server.smtp();
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test> SIZE=400001"), 552);
    let large = message(1, 600_000);
    assert!(!smtp.message(SENDER, &[ALICE], &large).expect("a reply"), "DATA over the bound");
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test>"), 250);
    assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250);
    smtp.raw(format!("BDAT {} LAST\r\n", large.len()).as_bytes()).expect("sent");
    smtp.raw(&large).expect("sent");
    assert_eq!(smtp.reply().expect("a reply").0, 552, "BDAT over the bound");
    smtp.command("RSET").expect("a reply");
    assert!(smtp.message(SENDER, &[ALICE], &message(2, 1000)).expect("a reply"));
    let mut imap = server.imap(ALICE);
    let appended = imap.texts(&format!("APPEND INBOX {{{}}}", large.len()));
    assert!(appended[0].contains(" NO [TOOBIG]"), "{appended:?}");
    wait_for(&server, ALICE, 1);
    assert!(status(&server, ALICE).contains("MESSAGES 1)"));
}

#[test]
fn over_quota_is_refused_for_now_and_taken_again_when_there_is_room() {
    let server = Server::with_accounts(&[ALICE]);
    let output =
        server.command(&["account", "add", BOB, "--quota", "20000", "--password-stdin"], PASSWORD.as_bytes());
    assert!(output.status.success());
    let mut smtp = server.smtp();
    assert!(smtp.message(SENDER, &[BOB], &message(1, 15_000)).expect("a reply"));
    wait_for(&server, BOB, 1);
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test> SIZE=9000"), 250);
    let (code, lines) = smtp.command("RCPT TO:<bob@example.test>").expect("a reply");
    assert!(code == 452 && lines[0].contains("4.2.2"), "{lines:?}");
    assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250, "others have room");
    smtp.command("RSET").expect("a reply");

    let mut imap = server.imap(BOB);
    let replies = imap.command(&format!("APPEND INBOX {{9000+}}\r\n{}", "x".repeat(9000))).expect("a reply");
    assert!(replies[replies.len() - 1].text.contains(" NO [OVERQUOTA]"), "{replies:?}");
    imap.ok("SELECT INBOX").expect("opens");
    assert!(imap.texts("COPY 1 Archive").iter().any(|line| line.contains(" NO [OVERQUOTA]")));
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").expect("flags are changed");
    imap.ok("EXPUNGE").expect("deleting makes room");
    assert!(smtp.message(SENDER, &[BOB], &message(2, 9_000)).expect("a reply"));
    wait_for(&server, BOB, 1);
}

#[test]
fn nothing_smuggled_becomes_a_second_message() {
    let server = Server::with_accounts(&[ALICE]);
    let ends: [&[u8]; 9] = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n\n.\r\n",
        b"\r\n\0.\r\n",
        b"\r\r\n.\r\r\n",
    ];
    for end in ends {
        let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
        assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test>"), 250);
        assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250);
        assert_eq!(smtp.code("DATA"), 354);
        let mut data = b"Subject: outer\r\n\r\nbody".to_vec();
        data.extend_from_slice(end);
        data.extend_from_slice(
            b"MAIL FROM:<evil@elsewhere.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n\
              Subject: inner\r\n\r\nsmuggled\r\n.\r\n",
        );
        smtp.raw(&data).expect("sent");
        let (code, lines) = smtp.reply().expect("one reply for one message");
        assert!(code == 250 || code >= 500, "{end:?}: {lines:?}");
        // Whatever follows is a command of its own; the next reply answers this one.
        let (code, lines) = smtp.command("VRFY nobody-in-particular").unwrap_or((421, Vec::new()));
        assert!([252, 421, 550, 502].contains(&code), "{end:?}: {lines:?}");
    }
    assert!(server.smtp().message(SENDER, &[ALICE], &message(99, 300)).expect("a reply"));
    let mut imap = crate::client::Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("login");
    imap.ok("SELECT INBOX").expect("opens");
    let inner = imap.texts("SEARCH SUBJECT inner");
    assert_eq!(inner[0], "* SEARCH", "{inner:?}");
    let evil = imap.texts("SEARCH HEADER Return-Path evil@elsewhere.test");
    assert_eq!(evil[0], "* SEARCH", "{evil:?}");
}

#[test]
fn binary_mail_puts_no_words_into_the_servers_mouth() {
    let server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    let sent = b"Subject: a\0b\r\nX-Other: c\0d\r\n\r\nx\n.\n+OK 5 evil\rmore\0\r\n.\r\n\n";
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test> BODY=BINARYMIME"), 250);
    assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250);
    smtp.raw(format!("BDAT {} LAST\r\n", sent.len()).as_bytes()).expect("sent");
    smtp.raw(sent).expect("sent");
    assert_eq!(smtp.reply().expect("a reply").0, 250);
    wait_for(&server, ALICE, 1);

    let mut pop3 = server.pop3(ALICE);
    let told = pop3.lines("RETR 1").expect("a message");
    let by_lines = b"Subject: a\0b\r\nX-Other: c\0d\r\n\r\nx . +OK 5 evil more\0\r\n.\r\n \r\n";
    assert!(told.ends_with(by_lines), "{}", told.escape_ascii());
    assert_eq!(pop3.command("LIST 1").expect("a reply"), format!("+OK 1 {}", told.len()));
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let headers = "BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[HEADER.FIELDS (X-Other)]";
    let fetched = imap.ok(&format!("FETCH 1 ({headers} BODY.PEEK[] BINARY.PEEK[1])")).expect("a message");
    let [subject, other, whole, content] = fetched[0].literals.as_slice() else {
        panic!("{fetched:?}");
    };
    let fields: [&[u8]; 2] = [b"Subject: a\x80b\r\n\r\n", b"X-Other: c\x80d\r\n\r\n"];
    assert_eq!([subject.as_slice(), other.as_slice()], fields);
    let without_nul: Vec<u8> = sent.iter().map(|&byte| if byte == 0 { 0x80 } else { byte }).collect();
    assert!(whole.ends_with(&without_nul), "{}", whole.escape_ascii());
    assert!(sent.ends_with(content) && content.starts_with(b"x\n"), "{}", content.escape_ascii());
    assert!(fetched[0].text.contains("BINARY[1] ~{"), "{}", fetched[0].text);
}

#[test]
fn large_binary_mail_comes_whole_in_the_clear_and_under_tls() {
    const HEADER: &[u8] = b"Subject: large\r\n\r\n";
    let server = Server::with_accounts(&[ALICE]);
    let sent = [HEADER, b"ab\0\0cdefg".repeat(60_000).as_slice(), b"\r\n"].concat();
    let mut smtp = server.smtp();
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test> BODY=BINARYMIME"), 250);
    assert_eq!(smtp.code("RCPT TO:<alice@example.test>"), 250);
    smtp.raw(format!("BDAT {} LAST\r\n", sent.len()).as_bytes()).expect("sent");
    smtp.raw(&sent).expect("sent");
    assert_eq!(smtp.reply().expect("a reply").0, 250);
    wait_for(&server, ALICE, 1);
    let without_nul: Vec<u8> = sent.iter().map(|&byte| if byte == 0 { 0x80 } else { byte }).collect();
    let mut clear = server.imap(ALICE);
    let mut sealed = Imap::connect(server.address(), IMAP).expect("a greeting");
    sealed.ok("STARTTLS").expect("granted");
    sealed.lines().start_tls(&server.data()).expect("a handshake");
    sealed.ok(&format!("LOGIN {ALICE} \"{PASSWORD}\"")).expect("logged in");
    for imap in [&mut clear, &mut sealed] {
        imap.ok("SELECT INBOX").expect("opens");
        let fetched = imap.ok("FETCH 1 (BODY.PEEK[] BODY.PEEK[TEXT]<100000.200000> UID)").expect("a message");
        let [whole, part] = fetched[0].literals.as_slice() else {
            panic!("{} literals", fetched[0].literals.len());
        };
        assert!(whole.ends_with(&without_nul));
        assert!(part == &without_nul[HEADER.len()..][100_000..300_000]);
    }
}
