//! What arrives elsewhere is what came here, byte by byte, behind our trace field.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dsn::Notification;
use crate::mail::{
    ALICE, Setup, behind_trace, careful_text, is_queued, note, send, send_with, wait_for_arrivals,
    wait_for_mail, wait_until_done,
};
use crate::remote::{Carrier, Character, Remote};

const FULL: [&str; 7] =
    ["PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "SMTPUTF8"];

/// Messages that are easily damaged.
fn delicate() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "Subject: no body\r\n",
        "Subject: empty body\r\n\r\n",
        "Subject: a dot\r\n\r\n.\r\n",
        "Subject: dots\r\n\r\n..\r\n...\r\n.\r\n..\r\n",
        "Subject: first\r\n\r\n.first line\r\n",
        "Subject: command\r\n\r\nQUIT\r\n.\r\nMAIL FROM:<evil@evil.test>\r\n",
        ".Subject: a header with a dot\r\n\r\ntext\r\n",
        "no header at all\r\n",
        "\r\nno header, and a body\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    // Dots that lie at the ends of all blocks that somebody may send in.
    for size in [4096, 8192, 16384, 65536] {
        let mut text = b"Subject: blocks\r\n\r\n".to_vec();
        while text.len() < size * 2 {
            text.extend_from_slice(b"1234567\r\n.\r\n");
        }
        all.push(text);
    }
    all.push(careful_text(100_000));
    all
}

#[test]
fn delicate_messages_come_through_by_data_and_bdat() {
    let plain = Remote::start(Character::offering(&["PIPELINING", "8BITMIME"]));
    let slow = Remote::start(Character::offering(&["8BITMIME"]));
    let chunks = Remote::start(Character::offering(&FULL));
    let server = Setup::new()
        .route("plain.test", &plain)
        .route("slow.test", &slow)
        .route("chunks.test", &chunks)
        .start();
    let messages = delicate();
    for (index, message) in messages.iter().enumerate() {
        for domain in ["plain.test", "slow.test", "chunks.test"] {
            send(&server, ALICE, &[&format!("r{index}@{domain}")], message);
        }
    }
    for (remote, domain, carrier) in [
        (&plain, "plain.test", Carrier::Data),
        (&slow, "slow.test", Carrier::Data),
        (&chunks, "chunks.test", Carrier::Bdat),
    ] {
        wait_for_arrivals(&server, remote, messages.len());
        for (index, message) in messages.iter().enumerate() {
            let arrival = remote.arrival_for(&format!("r{index}@{domain}"));
            assert_eq!(arrival.carrier, carrier);
            assert!(arrival.mail.starts_with(&format!("MAIL FROM:<{ALICE}>")), "{}", arrival.mail);
            let came = behind_trace(&arrival.content);
            assert!(came == message, "{index} by {domain}:\n{}", String::from_utf8_lossy(came));
        }
    }
}

/// RFC 1652, RFC 6531: nobody is sent what they cannot take, and nobody loses it silently.
#[test]
fn what_a_host_cannot_take_is_returned_or_sent_as_asked() {
    let seven = Remote::start(Character::offering(&["PIPELINING"]));
    let lenient = Remote::start(Character::offering(&["PIPELINING"]));
    let small = Remote::start(Character::offering(&["PIPELINING", "8BITMIME", "SIZE 2000"]));
    let ascii = Remote::start(Character::offering(&["8BITMIME"]));
    let server = Setup::new()
        .route("seven.test", &seven)
        .route("lenient.test", &lenient)
        .route("small.test", &small)
        .route("ascii.test", &ascii)
        .more("\n[[shaping]]\ndomain = \"lenient.test\"\neight_bit = \"as-is\"\n")
        .start();
    let text = careful_text(5000);
    send(&server, ALICE, &["a@seven.test", "a@lenient.test", "a@small.test"], &text);
    send(&server, ALICE, &["b@seven.test"], &note("plain text"));
    // A header in UTF-8 goes to nobody there, one in ASCII to those who can be named.
    let named = "<j\u{f6}rg@ascii.test>";
    let mail = format!("<{ALICE}> SMTPUTF8");
    send_with(&server, &mail, &[named, "<b@ascii.test>"], &note("gr\u{fc}\u{df}e"));
    send_with(&server, &mail, &[named, "<c@ascii.test>"], &note("a name"));
    send_with(&server, &mail, &["<d@ascii.test>"], &note("for one"));
    wait_for_arrivals(&server, &lenient, 1);
    assert!(behind_trace(&lenient.arrivals()[0].content) == text);
    wait_for_arrivals(&server, &seven, 1);
    let bounces = wait_for_mail(&server, ALICE, 4);
    let mut seen = Vec::new();
    for bounce in &bounces {
        let text = String::from_utf8_lossy(bounce);
        if text.contains("message/global-delivery-status") {
            // What is not ASCII is wrapped: the sender's own mailbox may not be for it.
            let mut parts =
                text.split("\r\n\r\n").skip_while(|part| !part.contains("global-delivery-status\r\n"));
            let status = parts.nth(1).expect("the part's body").split("\r\n--").next().unwrap_or_default();
            let status = STANDARD.decode(status.replace("\r\n", "")).expect("base64");
            let status = String::from_utf8(status).expect("UTF-8");
            let named = "Final-Recipient: utf-8; j\u{f6}rg@ascii.test\r\nAction: failed\r\nStatus: 5.6.7\r\n";
            assert!(status.contains(named), "{status}");
            let other = "Final-Recipient: rfc822; b@ascii.test\r\nAction: failed\r\nStatus: 5.6.9\r\n";
            seen.push(if status.contains(other) { "both" } else { "one" });
        }
        for (recipient, status) in [("a@seven.test", "5.6.3"), ("a@small.test", "5.3.4")] {
            if text.contains(recipient) && text.contains(&format!("\r\nStatus: {status}\r\n")) {
                seen.push(recipient);
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["a@seven.test", "a@small.test", "both", "one"], "log:\n{}", server.log());
    assert!(seven.arrivals().iter().all(|arrival| arrival.has("b@seven.test")));
    assert!(small.arrivals().is_empty());
    wait_for_arrivals(&server, &ascii, 2);
    ascii.arrival_for("c@ascii.test");
    ascii.arrival_for("d@ascii.test");
}

/// RFC 3030 3: octets that no line protocol could carry, to those who take them and to nobody else.
#[test]
fn binary_messages_go_as_they_are_or_come_back() {
    let binary = Remote::start(Character::offering(&FULL).with("BINARYMIME"));
    let chunks = Remote::start(Character::offering(&FULL));
    let unchunked = Remote::start(Character::offering(&["8BITMIME", "BINARYMIME"]));
    let server = Setup::new()
        .route("binary.test", &binary)
        .route("chunks.test", &chunks)
        .route("unchunked.test", &unchunked)
        .start();
    let mut message = b"Subject: binary\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\
        Content-Transfer-Encoding: binary\r\n\r\n"
        .to_vec();
    message.extend((0..70_000_u32).flat_map(|number| [b'\n', b'.', b'\r', 0, number.to_le_bytes()[0]]));
    let mut smtp = crate::mail::smtp(&server);
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}> BODY=BINARYMIME")), 250);
    for domain in ["binary.test", "chunks.test", "unchunked.test"] {
        assert_eq!(smtp.code(&format!("RCPT TO:<a@{domain}>")), 250);
    }
    let (first, last) = message.split_at(100_001);
    for (part, end) in [(first, ""), (last, " LAST")] {
        smtp.raw(format!("BDAT {}{end}\r\n", part.len()).as_bytes()).expect("sent");
        smtp.raw(part).expect("sent");
        assert_eq!(smtp.reply().expect("a reply").0, 250);
    }
    let arrival = &wait_for_arrivals(&server, &binary, 1)[0];
    assert_eq!(arrival.carrier, Carrier::Bdat);
    assert!(arrival.mail.contains(" BODY=BINARYMIME"), "{}", arrival.mail);
    assert!(behind_trace(&arrival.content) == message);
    let mut told = Vec::new();
    for bounce in wait_for_mail(&server, ALICE, 2) {
        let text = String::from_utf8_lossy(&bounce);
        let status = text.split("Final-Recipient: rfc822; ").nth(1).expect("a recipient");
        told.push(status.split("\r\nDiagnostic").next().expect("a line").replace("\r\n", " "));
        // What comes back is no more binary than the way back bears.
        assert!(!bounce.contains(&0) && text.contains("text/rfc822-headers"), "{text}");
    }
    told.sort();
    let failed = ["a@chunks.test", "a@unchunked.test"].map(|to| format!("{to} Action: failed Status: 5.6.3"));
    assert_eq!(told, failed);
    assert!(chunks.arrivals().is_empty() && unchunked.arrivals().is_empty());
}

/// Each in a file of its own, streamed from it.
#[test]
fn large_messages_come_through() {
    let plain = Remote::start(Character::offering(&["PIPELINING", "8BITMIME", "SIZE 104857600"]));
    let chunks = Remote::start(Character::offering(&FULL));
    let server = Setup::new().route("plain.test", &plain).route("chunks.test", &chunks).start();
    let before = crate::mail::resident_kb(&server);
    for (index, size) in [300_000, 5 << 20, 50 << 20].into_iter().enumerate() {
        let text = careful_text(size);
        let recipients = [format!("r{index}@plain.test"), format!("r{index}@chunks.test")];
        send(&server, ALICE, &[&recipients[0], &recipients[1]], &text);
        for (remote, recipient) in [(&plain, &recipients[0]), (&chunks, &recipients[1])] {
            wait_for_arrivals(&server, remote, index + 1);
            let arrival = remote.arrival_for(recipient);
            assert!(behind_trace(&arrival.content) == text, "{size} bytes for {recipient}");
        }
    }
    let grown = crate::mail::resident_kb(&server).saturating_sub(before);
    // What is sent is never in memory as a whole; its file is mapped, which does not count.
    eprintln!("the server grew by {grown} KB");
    assert!(grown < 48 << 10, "the server grew by {grown} KB");
    wait_until_done(&server, "plain.test");
}

#[test]
fn the_envelope_is_passed_on() {
    let full = Remote::start(Character::offering(&FULL));
    let bare = Remote::start(Character::offering(&[]));
    let server = Setup::new().route("full.test", &full).route("bare.test", &bare).start();
    let mail = format!("<{ALICE}> SIZE=500 BODY=8BITMIME RET=HDRS ENVID=QQ314159");
    for domain in ["full.test", "bare.test"] {
        let to = format!("<a@{domain}> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2B1@{domain}");
        send_with(&server, &mail, &[&to], &note("parameters"));
    }
    let arrival = &wait_for_arrivals(&server, &full, 1)[0];
    for word in ["BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159", "SIZE="] {
        assert!(arrival.mail.contains(word), "{}", arrival.mail);
    }
    let rcpt = &arrival.rcpt[0];
    assert!(rcpt.contains("NOTIFY=FAILURE,DELAY") && rcpt.contains("ORCPT=rfc822;a+2B1@full.test"), "{rcpt}");
    let arrival = &wait_for_arrivals(&server, &bare, 1)[0];
    assert_eq!(arrival.mail, format!("MAIL FROM:<{ALICE}>"));
    assert_eq!(arrival.rcpt, ["RCPT TO:<a@bare.test>"]);
}

/// A program in a local mailbox and one elsewhere get the same message, each as theirs.
#[test]
fn local_and_remote_recipients_of_one_message() {
    let remote = Remote::decent();
    let server = Setup::new().route("remote.test", &remote).start();
    let text = careful_text(3000);
    send(&server, "carol@elsewhere.test", &[ALICE, "no1@remote.test", "b@remote.test"], &text);
    let mail = wait_for_mail(&server, ALICE, 1);
    assert!(mail[0].starts_with(b"Return-Path: <carol@elsewhere.test>\r\n") && mail[0].ends_with(&text));
    wait_for_arrivals(&server, &remote, 1);
    let arrival = remote.arrival_for("b@remote.test");
    assert!(behind_trace(&arrival.content) == text);
    // The bounce goes to a domain that nobody serves here: it stays queued, and is a notification.
    crate::mail::wait_for("a bounce for the sender", &server, || {
        is_queued(&server, "carol@elsewhere.test").then_some(())
    });
}

/// A bounce that travels by the relay itself is a message like others.
#[test]
fn a_bounce_goes_to_a_sender_elsewhere() {
    let remote = Remote::decent();
    let home = Remote::decent();
    let server = Setup::new().route("remote.test", &remote).route("elsewhere.test", &home).start();
    send(&server, "carol@elsewhere.test", &["no1@remote.test"], &note("returned"));
    let arrival = &wait_for_arrivals(&server, &home, 1)[0];
    assert!(arrival.mail.starts_with("MAIL FROM:<>"), "{}", arrival.mail);
    assert_eq!(arrival.taken_for, ["carol@elsewhere.test"]);
    let notification = Notification::read(&arrival.content);
    assert_eq!(notification.verdict("no1@remote.test"), ("failed", "5.1.1"));
}
