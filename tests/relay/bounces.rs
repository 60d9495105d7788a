//! Who is told of what became of their mail, and that nobody is told who did not ask.

use std::time::Duration;

use crate::dsn::Notification;
use crate::mail::{
    ALICE, POSTMASTER, Setup, careful_text, count_mail, is_queued, mail_of, note, refs, send, send_with,
    wait_for, wait_for_arrivals, wait_for_mail, wait_until_done,
};
use crate::remote::{Act, Character, Remote, Verb};

#[test]
fn a_bounce_says_who_where_and_why() {
    let remote = Remote::decent();
    let server = Setup::new().route("remote.test", &remote).start();
    let mail = format!("<{ALICE}> ENVID=abc+2B1");
    let to = "<no1@remote.test> ORCPT=rfc822;first@somewhere.test";
    send_with(&server, &mail, &[to], &note("for nobody"));
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert_eq!(bounce.header["return-path"], "<>");
    assert!(bounce.header["from"].contains("MAILER-DAEMON@mail.example.test"), "{}", bounce.header["from"]);
    assert!(bounce.header["to"].contains(ALICE));
    assert_eq!(bounce.header["auto-submitted"], "auto-replied");
    assert!(bounce.header.contains_key("date") && bounce.header.contains_key("message-id"));
    assert_eq!(bounce.message["original-envelope-id"], "abc+1");
    assert_eq!(bounce.message["reporting-mta"], "dns; mail.example.test");
    let fields = bounce.recipient("no1@remote.test");
    assert_eq!(fields["original-recipient"], "rfc822; first@somewhere.test");
    assert_eq!((fields["action"].as_str(), fields["status"].as_str()), ("failed", "5.1.1"));
    assert_eq!(fields["diagnostic-code"], "smtp; 550 5.1.1 No such mailbox");
    assert!(fields["remote-mta"].starts_with("dns; 127."), "{}", fields["remote-mta"]);
    assert!(bounce.words.contains("no1@remote.test") && bounce.words.contains("No such mailbox"));
    assert_eq!(bounce.returned_as, "message/rfc822");
    assert!(bounce.returned.ends_with(&note("for nobody")));
    wait_until_done(&server, "remote.test");
}

/// RFC 3461 4.3, and a message that is too large to come back.
#[test]
fn only_the_header_comes_back_where_that_was_asked_for_or_is_better() {
    let remote = Remote::decent();
    let server = Setup::new().also_queue("dsn_return_bytes = 20000\n").route("remote.test", &remote).start();
    send_with(&server, &format!("<{ALICE}> RET=HDRS"), &["<no1@remote.test>"], &note("asked"));
    wait_for_mail(&server, ALICE, 1);
    send(&server, ALICE, &["no2@remote.test"], &careful_text(60_000));
    let mail = wait_for_mail(&server, ALICE, 2);
    for (bounce, subject) in mail.iter().zip(["asked", "careful"]) {
        let bounce = Notification::read(bounce);
        assert!(bounce.returned_as.starts_with("text/rfc822-headers"), "{}", bounce.returned_as);
        let returned = String::from_utf8_lossy(&bounce.returned).into_owned();
        assert!(returned.contains(&format!("Subject: {subject}\r\n")), "{returned}");
        assert!(!returned.contains("The text of") && !returned.contains("From me"), "{returned}");
    }
}

/// A report is one group of records with what it tells of: one that no segment has room for could never be written.
#[test]
fn a_report_has_room_in_the_smallest_segment() {
    let remote = Remote::decent();
    let segments = "\n[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";
    let server = Setup::new().route("remote.test", &remote).more(segments).start();
    send(&server, ALICE, &["no1@remote.test", "ok1@remote.test"], &careful_text(1_042_000));
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert!(bounce.returned_as.starts_with("text/rfc822-headers"), "{}", bounce.returned_as);
    send(&server, ALICE, &["no2@remote.test"], &careful_text(500_000));
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 2)[1]);
    assert_eq!(bounce.returned_as, "message/rfc822");
    wait_until_done(&server, "remote.test");
    assert_eq!(remote.arrivals().len(), 1, "nobody gets it twice");
}

/// RFC 3461 4.1: for each recipient as it was asked for.
#[test]
fn notify_is_obeyed() {
    let without = Remote::start(Character::decent().without("DSN"));
    let with = Remote::decent();
    let server = Setup::new().route("without.test", &without).route("with.test", &with).start();
    let to = [
        "<no1@without.test> NOTIFY=NEVER",
        "<no2@without.test> NOTIFY=SUCCESS",
        "<no3@without.test> NOTIFY=FAILURE",
        "<ok1@without.test> NOTIFY=SUCCESS",
        "<ok2@without.test> NOTIFY=FAILURE",
        "<ok3@without.test>",
        "<ok4@with.test> NOTIFY=SUCCESS",
    ];
    send_with(&server, &format!("<{ALICE}>"), &to, &note("with wishes"));
    wait_until_done(&server, "without.test");
    wait_until_done(&server, "with.test");
    let mut told: Vec<(String, String)> = Vec::new();
    let count = wait_for("the notifications", &server, || {
        Some(count_mail(&server, ALICE)).filter(|count| *count > 0)
    });
    for mail in wait_for_mail(&server, ALICE, count) {
        for fields in Notification::read(&mail).recipients {
            told.push((fields["final-recipient"].clone(), fields["action"].clone()));
        }
    }
    told.sort();
    let expected = [("rfc822; no3@without.test", "failed"), ("rfc822; ok1@without.test", "relayed")];
    assert_eq!(told, expected.map(|(to, action)| (to.to_owned(), action.to_owned())));
    // A host that knows of notifications is left to see to it.
    let rcpt = &with.arrivals()[0].rcpt[0];
    assert!(rcpt.contains("NOTIFY=SUCCESS"), "{rcpt}");
}

/// RFC 3461 5.2.3, 5.2.7.3: in whichever logs the mailboxes are, and for each as it was asked for.
#[test]
fn a_delivery_here_is_told_to_who_asked_for_it() {
    const BOB: &str = "bob@example.test";
    const CAROL: &str = "carol@example.test";
    let server = Setup::new().account(BOB).account(CAROL).start();
    server.done(&["alias", "add", "team@example.test", BOB, CAROL]);
    server.done(&["alias", "add", "info@example.test", BOB]);
    let success = |recipient: &str| format!("<{recipient}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{recipient}");
    let quiet = [format!("<{BOB}>"), format!("<{CAROL}> NOTIFY=NEVER")];
    send_with(&server, &format!("<{ALICE}>"), &refs(&quiet), &note("without wishes"));
    send_with(&server, "<>", &refs(&[BOB, "team@example.test"].map(success)), &note("from nobody"));
    let mail = format!("<{ALICE}> ENVID=both RET=FULL");
    send_with(&server, &mail, &refs(&[BOB, CAROL].map(success)), &note("to both"));
    let mail = format!("<{ALICE}> ENVID=large");
    send_with(&server, &mail, &refs(&[BOB, CAROL].map(success)), &careful_text(600_000));
    let mail = format!("<{ALICE}> ENVID=team");
    send_with(&server, &mail, &refs(&["team@example.test"].map(success)), &note("to a team"));
    let mail = format!("<{ALICE}> ENVID=single");
    send_with(&server, &mail, &refs(&["info@example.test"].map(success)), &note("to an alias for one"));
    let told = || -> Vec<(String, String, String)> {
        let mut told = Vec::new();
        for notification in mail_of(&server, ALICE).iter().map(|mail| Notification::read(mail)) {
            assert_eq!(notification.header["return-path"], "<>");
            assert_eq!(notification.returned_as, "text/rfc822-headers");
            let envid = &notification.message["original-envelope-id"];
            told.extend(notification.recipients.iter().map(|fields| {
                assert_eq!(fields["status"], "2.0.0");
                assert!(!fields.contains_key("diagnostic-code") && !fields.contains_key("remote-mta"));
                (envid.clone(), fields["original-recipient"].clone(), fields["action"].clone())
            }));
        }
        told.sort();
        told
    };
    let expected = [
        ("both", BOB, "delivered"),
        ("both", CAROL, "delivered"),
        ("large", BOB, "delivered"),
        ("large", CAROL, "delivered"),
        ("single", "info@example.test", "delivered"),
        ("team", "team@example.test", "expanded"),
    ];
    let expected = expected.map(|(envid, recipient, action)| {
        (envid.to_owned(), format!("rfc822; {recipient}"), action.to_owned())
    });
    wait_for("the notifications", &server, || (told().len() >= expected.len()).then_some(()));
    assert_eq!(told(), expected);
    // What was told of is there, and nothing is told of the rest.
    assert_eq!((count_mail(&server, BOB), count_mail(&server, CAROL)), (6, 5));
}

/// RFC 4865 and RFC 3461 5.2.3: not before it is there, in the log that took the message and in the other.
#[test]
fn what_was_held_is_told_when_it_is_delivered() {
    const OTHERS: [&str; 2] = ["bob@example.test", "carol@example.test"];
    let server = Setup::new().account(OTHERS[0]).account(OTHERS[1]).start();
    let mut smtp = server.submission(ALICE);
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}> HOLDFOR=4")), 250);
    for recipient in OTHERS {
        assert_eq!(smtp.code(&format!("RCPT TO:<{recipient}> NOTIFY=SUCCESS")), 250);
    }
    assert_eq!(smtp.code("DATA"), 354);
    assert_eq!(smtp.code("Subject: later\r\n\r\nhello\r\n."), 250);
    assert_eq!(count_mail(&server, ALICE), 0);
    let told = wait_for("the notifications", &server, || {
        let told = mail_of(&server, ALICE).into_iter().flat_map(|mail| Notification::read(&mail).recipients);
        let mut told: Vec<String> = told.map(|fields| fields["final-recipient"].clone()).collect();
        told.sort();
        (told.len() >= OTHERS.len()).then_some(told)
    });
    assert_eq!(told, OTHERS.map(|recipient| format!("rfc822; {recipient}")));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!([ALICE, OTHERS[0], OTHERS[1]].map(|account| count_mail(&server, account)), [2, 1, 1]);
}

/// RFC 5321 6.1: nobody writes back to a null sender; the postmaster is told of what is lost for good.
#[test]
fn a_message_without_a_sender_goes_to_the_postmaster_when_it_fails() {
    let remote = Remote::decent();
    let server = Setup::new().route("remote.test", &remote).account(POSTMASTER).start();
    send_with(&server, "<>", &["<no1@remote.test>", "<ok1@remote.test>"], &note("from nobody"));
    wait_for_arrivals(&server, &remote, 1);
    let double = Notification::read(&wait_for_mail(&server, POSTMASTER, 1)[0]);
    assert_eq!(double.verdict("no1@remote.test"), ("failed", "5.1.1"));
    assert_eq!(double.header["return-path"], "<>");
    // A sender whose own domain refuses the bounce: nothing comes of it but that.
    let mail = "carol@remote.test";
    send(&server, "no-carol@remote.test", &["no2@remote.test"], &note("from a forged sender"));
    let doubles = wait_for_mail(&server, POSTMASTER, 2);
    let double = Notification::read(&doubles[1]);
    assert_eq!(double.verdict("no-carol@remote.test"), ("failed", "5.1.1"));
    wait_until_done(&server, "remote.test");
    assert_eq!(count_mail(&server, POSTMASTER), 2);
    assert!(remote.ledger().commands(&format!("RCPT TO:<{mail}>")).is_empty());
}

/// An alias that leads elsewhere is told like any other sender, and the postmaster, too; there that ends.
#[test]
fn who_reads_mail_elsewhere_is_told_there() {
    let remote = Remote::decent();
    let mut server = Setup::new().route("remote.test", &remote).prepare();
    server.done(&["alias", "add", "root@example.test", ALICE, "admin@remote.test"]);
    server.done(&["alias", "add", POSTMASTER, "chief@remote.test", "no-chief@remote.test"]);
    server.start();
    send(&server, "root@example.test", &["no1@remote.test"], &note("from two who read it"));
    let arrival = &wait_for_arrivals(&server, &remote, 1)[0];
    assert_eq!(arrival.taken_for, ["admin@remote.test"]);
    assert!(arrival.mail.starts_with("MAIL FROM:<>"), "{}", arrival.mail);
    for bounce in [arrival.content.clone(), wait_for_mail(&server, ALICE, 1).remove(0)] {
        let bounce = Notification::read(&bounce);
        assert!(bounce.header["to"].contains("root@example.test"), "{}", bounce.header["to"]);
        assert_eq!(bounce.verdict("no1@remote.test"), ("failed", "5.1.1"));
    }
    send_with(&server, "<>", &["<no2@remote.test>"], &note("from nobody"));
    let double = &wait_for_arrivals(&server, &remote, 2)[1];
    assert_eq!(double.taken_for, ["chief@remote.test"]);
    assert_eq!(Notification::read(&double.content).verdict("no2@remote.test"), ("failed", "5.1.1"));
    // What the other postmaster does not take ends there.
    wait_until_done(&server, "remote.test");
    assert_eq!(remote.ledger().commands("RCPT TO:<no-chief@remote.test>").len(), 1);
    assert_eq!((remote.arrivals().len(), count_mail(&server, ALICE)), (2, 1));
}

#[test]
fn a_delay_is_told_once_and_the_end_of_it_as_what_it_is() {
    let remote = Remote::decent();
    let server = Setup::new()
        .also_queue("warn_after_s = 2\nexpire_after_s = 6\n")
        .route("remote.test", &remote)
        .start();
    let to =
        ["<later1@remote.test>", "<later2@remote.test> NOTIFY=FAILURE", "<later3@remote.test> NOTIFY=NEVER"];
    send_with(&server, &format!("<{ALICE}>"), &to, &note("waiting"));
    let warning = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert_eq!(warning.recipients.len(), 1);
    assert_eq!(warning.verdict("later1@remote.test"), ("delayed", "4.7.1"));
    // RFC 3464 2.3.9: when it will be given up, not when it is tried next. Zones are whole quarters of an hour.
    let until = &warning.recipient("later1@remote.test")["will-retry-until"];
    assert_eq!((seconds(until) + 900 - seconds(&warning.message["arrival-date"])) % 900, 6, "{until}");
    assert!(is_queued(&server, "later1@remote.test"));
    wait_until_done(&server, "remote.test");
    let mut ends = Vec::new();
    let told = |all: &[Vec<u8>]| -> Vec<String> {
        let all = all.iter().flat_map(|mail| Notification::read(mail).recipients);
        all.filter(|fields| fields["action"] == "failed")
            .map(|fields| format!("{} {}", fields["final-recipient"], fields["status"]))
            .collect()
    };
    wait_for("two returned", &server, || {
        let count = count_mail(&server, ALICE);
        ends = told(&wait_for_mail(&server, ALICE, count));
        ends.sort();
        (ends.len() == 2).then_some(())
    });
    assert_eq!(ends, ["rfc822; later1@remote.test 4.4.7", "rfc822; later2@remote.test 4.4.7"]);
    let warnings = wait_for_mail(&server, ALICE, count_mail(&server, ALICE));
    let warnings = warnings.iter().filter(|mail| String::from_utf8_lossy(mail).contains("Action: delayed"));
    assert_eq!(warnings.count(), 1);
}

/// Of a date, within a quarter of an hour.
fn seconds(date: &str) -> u32 {
    let mut parts = date.split([':', ' ']).rev().skip(1).map(|part| part.parse::<u32>().expect("a number"));
    let [seconds, minutes] = [(); 2].map(|()| parts.next().expect("a time"));
    (60 * minutes + seconds) % 900
}

/// OC-11, LP-10: what a server says lands in the bounce and nowhere else.
#[test]
fn what_a_hostile_server_says_stays_words() {
    let nasty = b"550-5.7.1 \x1b[2J\xff\xfe caf\xc3\xa9 \x00\r\n550-5.7.1 Subject: forged\r\n\
        550-5.7.1 --boundary--\r\n550-5.7.1 \t Content-Type: text/html\r\n550 5.7.1 end\r\n";
    let nasty = Remote::start(Character::decent().at(Verb::Rcpt, Act::Bytes(nasty.to_vec())));
    let long: String = (0..90).map(|_| format!("550-5.7.1 {}\r\n", "x".repeat(480))).collect();
    let long = format!("{long}550 5.7.1 end");
    let long = Remote::start(Character::decent().at(Verb::Rcpt, Act::Say(long)));
    let server = Setup::new().route("nasty.test", &nasty).route("long.test", &long).start();
    for (index, recipient) in ["a@nasty.test", "a@long.test"].iter().enumerate() {
        send(&server, ALICE, &[recipient], &note("said back"));
        let mail = &wait_for_mail(&server, ALICE, index + 1)[index];
        assert!(mail.len() < 20_000, "{} bytes", mail.len());
        let bounce = Notification::read(mail);
        assert_eq!(bounce.verdict(recipient), ("failed", "5.7.1"));
        assert!(!mail.contains(&0x1b) && mail.is_ascii(), "{}", String::from_utf8_lossy(mail));
        assert!(!bounce.header["subject"].contains("forged"));
        let diagnostic = &bounce.recipient(recipient)["diagnostic-code"];
        assert!(diagnostic.starts_with("smtp; 550"), "{diagnostic}");
    }
}

/// OC-09, RFC 5321 3.4: another address is not tried on a stranger's word.
#[test]
fn forwarding_words_are_not_followed() {
    let evil = Remote::decent();
    let remote = Remote::decent();
    let server = Setup::new().route("remote.test", &remote).route("evil.test", &evil).start();
    send(&server, ALICE, &["forward1@remote.test", "moved1@remote.test"], &note("elsewhere"));
    let arrivals = wait_for_arrivals(&server, &remote, 1);
    assert_eq!(arrivals[0].taken_for, ["forward1@remote.test"]);
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert_eq!(bounce.verdict("moved1@remote.test"), ("failed", "5.1.6"));
    assert_eq!(bounce.recipients.len(), 1);
    wait_until_done(&server, "remote.test");
    std::thread::sleep(Duration::from_millis(200));
    assert!(evil.ledger().connections.is_empty());
}
