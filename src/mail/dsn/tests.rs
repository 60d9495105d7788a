//! Notifications, read back with our own MIME code.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Action, Addressee, Composed, Extent, Fate, Remote, Report, compose, is_answerable, wanted};
use crate::mail::address::Address;
use crate::mail::envelope::{BodyKind, Envelope, Notify, Recipient, Ret};
use crate::mail::header::Header;
use crate::mail::line_ends::is_canonical;
use crate::mail::mime::{PartId, Structure};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::Timestamp;
use crate::mail::transfer::decode;

const BOUNDARY: &str = "q7Zk3vTn0bXw";
const ORIGINAL: &str = "From: Ann <ann@here.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
    Message-ID: <1@here.example>\r\n\r\nHello\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).expect(text)
}

/// A message with its recipients, of which a test changes what it is about.
struct Case {
    sender: Address,
    envelope: Envelope,
    original: Vec<u8>,
    extent: Extent,
    action: Action,
    reply: Option<Reply>,
}

impl Case {
    fn new() -> Self {
        let recipient = Recipient {
            orcpt: Some("rfc822;bob+2Bx@there.example".to_owned()),
            ..Recipient::new(address("bob@there.example"))
        };
        Self {
            sender: address("ann@here.example"),
            envelope: Envelope {
                recipients: vec![recipient],
                envid: Some("QQ+2B7".to_owned()),
                ..Envelope::default()
            },
            original: ORIGINAL.as_bytes().to_vec(),
            extent: Extent::Whole,
            action: Action::Failed,
            reply: Some(Reply::new(550, EnhancedCode::new(5, 1, 1), "No such user\nhere")),
        }
    }

    fn composed(&self) -> Composed {
        self.composed_for(Addressee::Sender(&self.sender))
    }

    fn composed_for(&self, to: Addressee<'_>) -> Composed {
        let status = self.reply.as_ref().map_or(EnhancedCode::new(4, 4, 1), Reply::status);
        let fate = |recipient| Fate {
            recipient,
            action: self.action,
            status,
            remote: self.reply.as_ref().map(|reply| Remote { host: "mx.there.example", reply }),
            why: "no connection",
            last_attempt: Some(Timestamp::utc(7200)),
            retry_until: (self.action == Action::Delayed).then_some(Timestamp::utc(400_000)),
            log_id: Some("00010000002A"),
        };
        let fates: Vec<Fate<'_>> = self.envelope.recipients.iter().map(fate).collect();
        compose(&Report {
            host: "mx.here.example",
            from: &address("MAILER-DAEMON@mx.here.example"),
            to,
            envelope: &self.envelope,
            arrived: Timestamp::utc(3600),
            deliver_by: None,
            fates: &fates,
            original: &self.original,
            extent: self.extent,
            returned_bytes_max: 50_000,
            token: "1.2",
            boundary: BOUNDARY,
            now: Timestamp::utc(7201),
        })
    }
}

/// The three parts: media type and decoded content.
fn parts(composed: &Composed) -> [(String, Vec<u8>); 3] {
    let structure = Structure::of(&composed.bytes);
    let message = structure.part(PartId::MESSAGE);
    assert!(message.media.is("multipart", "report"), "{}", String::from_utf8_lossy(&composed.bytes));
    assert_eq!(message.media.parameter("report-type").as_deref(), Some(&b"delivery-status"[..]));
    let children: Vec<PartId> = structure.children(PartId::MESSAGE).collect();
    let part = |id: &PartId| {
        let part = structure.part(*id);
        let media = format!(
            "{}/{}",
            String::from_utf8_lossy(part.media.name),
            String::from_utf8_lossy(part.media.subtype)
        );
        let encoding = part.transfer().expect("an encoding that we know");
        if part.encoding_name() == b"7bit" {
            assert!(structure.body(*id).is_ascii(), "{media}");
        }
        (media.to_ascii_lowercase(), decode(encoding, structure.body(*id)))
    };
    let parts: Vec<_> = children.iter().map(part).collect();
    parts.try_into().unwrap_or_else(|parts: Vec<_>| panic!("{} parts", parts.len()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_failure() {
    let composed = Case::new().composed();
    assert_eq!((composed.body, composed.smtputf8), (BodyKind::SevenBit, false));
    assert!(composed.bytes.is_ascii() && is_canonical(&composed.bytes));
    let header = Header::of(&composed.bytes);
    let find = |name| String::from_utf8_lossy(header.find(name).unwrap_or_default()).trim().to_owned();
    assert_eq!(find("From"), "Mail Delivery System <MAILER-DAEMON@mx.here.example>");
    assert_eq!(find("To"), "<ann@here.example>");
    assert_eq!(find("Message-ID"), "<1.2@mx.here.example>");
    assert_eq!(find("In-Reply-To"), "<1@here.example>");
    assert_eq!(find("Auto-Submitted"), "auto-replied");
    let [human, machine, returned] = parts(&composed);
    assert_eq!(human.0, "text/plain");
    let said = text(&human.1);
    for words in [
        "bob@there.example",
        "mx.there.example",
        "550 5.1.1 No such user\r\n      here",
        "Gr\u{fc}\u{df}e",
        "check the part",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 76), "{said}");
    assert_eq!(machine.0, "message/delivery-status");
    let expected = "Original-Envelope-Id: QQ+7\r\nReporting-MTA: dns; mx.here.example\r\n\
        Arrival-Date: Thu, 1 Jan 1970 01:00:00 +0000\r\n\r\n\
        Original-Recipient: rfc822; bob+x@there.example\r\nFinal-Recipient: rfc822; bob@there.example\r\n\
        Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.there.example\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n\
        Last-Attempt-Date: Thu, 1 Jan 1970 02:00:00 +0000\r\nFinal-Log-ID: 00010000002A\r\n";
    assert_eq!(text(&machine.1), expected);
    assert_eq!((returned.0.as_str(), returned.1.as_slice()), ("message/rfc822", ORIGINAL.as_bytes()));
}

#[test]
fn how_much_is_returned() {
    let header = ORIGINAL.split_once("Hello").expect("a body").0;
    let is_whole = |change: fn(&mut Case)| {
        let mut case = Case::new();
        change(&mut case);
        let [.., returned] = parts(&case.composed());
        let is_whole = returned.0 == "message/rfc822";
        if !is_whole {
            assert_eq!((returned.0.as_str(), text(&returned.1).as_str()), ("text/rfc822-headers", header));
        }
        is_whole
    };
    assert!(is_whole(|_| {}));
    assert!(is_whole(|case| case.envelope.ret = Some(Ret::Full)));
    assert!(!is_whole(|case| case.envelope.ret = Some(Ret::Headers)));
    assert!(!is_whole(|case| case.extent = Extent::HeaderOnly));
    assert!(!is_whole(|case| case.action = Action::Delayed));
    assert!(!is_whole(|case| case.action = Action::Delivered));
    assert!(!is_whole(|case| case.envelope.body = BodyKind::BinaryMime));
    assert!(!is_whole(|case| case.original.extend([b'x'; 50_000])));
    assert!(!is_whole(|case| case.original.extend(b"\r\nbare\nline\r\n")));
}

#[test]
fn eight_bit_content_is_labelled() {
    let mut case = Case::new();
    case.original.extend("gr\u{fc}n\r\n".as_bytes());
    let composed = case.composed();
    assert_eq!((composed.body, composed.smtputf8), (BodyKind::EightBitMime, false));
    assert_eq!(
        Header::of(&composed.bytes).find("Content-Transfer-Encoding").map(<[u8]>::trim_ascii),
        Some(&b"8bit"[..])
    );
    assert_eq!(parts(&composed)[2].1, case.original);
    case.original = b"Subject: gr\xfcn\r\n\r\nHello\r\n".to_vec();
    case.envelope.ret = Some(Ret::Headers);
    let composed = case.composed();
    assert_eq!(composed.body, BodyKind::SevenBit);
    assert_eq!(parts(&composed)[2], ("text/rfc822-headers".to_owned(), b"Subject: gr\xfcn\r\n\r\n".to_vec()));
}

#[test]
fn addresses_beyond_ascii() {
    let mut case = Case::new();
    case.envelope.smtputf8 = true;
    case.envelope.recipients[0].address = address("b\u{f8}b@there.example");
    case.envelope.recipients[0].orcpt = Some("utf-8;\\x{F8}@there.example".to_owned());
    case.original = "Subject: gr\u{fc}n\r\n\r\nHello\r\n".as_bytes().to_vec();
    // To a sender with an ASCII address, by whatever server: nothing needs SMTPUTF8 or 8BITMIME.
    let composed = case.composed();
    assert_eq!((composed.body, composed.smtputf8), (BodyKind::SevenBit, false));
    assert!(composed.bytes.is_ascii());
    let [_, machine, returned] = parts(&composed);
    assert_eq!(machine.0, "message/global-delivery-status");
    assert!(text(&machine.1).contains(
        "Original-Recipient: utf-8; \u{f8}@there.example\r\n\
            Final-Recipient: utf-8; b\u{f8}b@there.example\r\n"
    ));
    assert_eq!(returned, ("message/global".to_owned(), case.original.clone()));
    // To a sender whose address is not: as it is.
    case.sender = address("\u{e5}nn@here.example");
    case.action = Action::Delayed;
    let composed = case.composed();
    assert_eq!((composed.body, composed.smtputf8), (BodyKind::EightBitMime, true));
    let [_, machine, returned] = parts(&composed);
    assert_eq!(
        (machine.0.as_str(), returned.0.as_str()),
        ("message/global-delivery-status", "message/global-headers")
    );
    assert_eq!(returned.1, "Subject: gr\u{fc}n\r\n\r\n".as_bytes());
    assert!(composed.envelope(&case.sender).smtputf8);
}

#[test]
fn delays_and_double_bounces_have_words_of_their_own() {
    let mut case = Case::new();
    (case.action, case.reply) = (Action::Delayed, None);
    let [human, machine, _] = parts(&case.composed());
    assert!(text(&human.1).contains("You need not do anything"), "{}", text(&human.1));
    assert!(text(&human.1).contains("What happened: no connection"));
    for field in [
        "Action: delayed\r\n",
        "Status: 4.4.1\r\n",
        "Diagnostic-Code: X-Ringpost; no connection\r\n",
        "Will-Retry-Until: Mon, 5 Jan 1970 15:06:40 +0000\r\n",
    ] {
        assert!(text(&machine.1).contains(field), "{field}");
    }
    case.action = Action::Failed;
    let postmaster = address("postmaster@here.example");
    let composed = case.composed_for(Addressee::Postmaster(&postmaster));
    let header = Header::of(&composed.bytes);
    assert!(header.find("Subject").is_some_and(|subject| subject.trim_ascii().starts_with(b"Double bounce")));
    assert!(text(&parts(&composed)[0].1).contains("as postmaster"));
    let envelope = composed.envelope(&postmaster);
    assert_eq!((envelope.sender, envelope.recipients[0].notify), (None, Some(Notify::default())));
}

#[test]
fn a_thousand_recipients_make_a_small_report() {
    let mut case = Case::new();
    let recipient = case.envelope.recipients[0].clone();
    case.envelope.recipients = vec![recipient; 1000];
    case.reply = Some(Reply::new(550, EnhancedCode::new(5, 7, 1), "no ".repeat(300)));
    let composed = case.composed();
    let [human, machine, _] = parts(&composed);
    assert_eq!(text(&machine.1).matches("Final-Recipient:").count(), 1000);
    assert!(text(&human.1).contains("and 950 more"));
    assert!(composed.bytes.len() < 1 << 20, "{}", composed.bytes.len());
}

#[test]
fn who_is_told_what() {
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    let table = [
        (None, [true, true, false]),
        (notify(false, false, false), [false, false, false]),
        (notify(true, false, false), [false, false, true]),
        (notify(false, true, false), [true, false, false]),
        (notify(false, false, true), [false, true, false]),
    ];
    for (notify, [failed, delayed, done]) in table {
        assert_eq!(wanted(Action::Failed, notify), failed, "{notify:?}");
        assert_eq!(wanted(Action::Delayed, notify), delayed, "{notify:?}");
        for action in [Action::Delivered, Action::Relayed, Action::Expanded] {
            assert_eq!(wanted(action, notify), done, "{notify:?}");
        }
    }
    assert!(!is_answerable(&Envelope::default()));
    assert!(is_answerable(&Envelope { sender: Some(address("a@b")), ..Envelope::default() }));
}

/// What servers of ill will say: line ends, escapes, our boundary, fields of ours.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just(format!("\r\n--{BOUNDARY}\r\n")),
        Just(format!("--{BOUNDARY}--")),
        Just("\nStatus: 2.0.0\nAction: delivered\n".to_owned()),
        Just("\u{1b}[2J\u{202e}\0\u{2028}".to_owned()),
        Just("x".repeat(1200)),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Failed),
        Just(Action::Delayed),
        Just(Action::Delivered),
        Just(Action::Relayed),
        Just(Action::Expanded)
    ]
}

/// Where a long line is broken, the rest of it must not look like the end of the part.
#[test]
fn our_boundary_at_a_line_break_is_no_boundary() {
    let said = format!("\r\n{}--{BOUNDARY}--", "\u{1b}[2J\u{202e}\0\u{2028}".repeat(3));
    let mut case = Case::new();
    case.reply = Some(Reply { code: 550, enhanced: None, text: said });
    case.sender = address("\u{e5}nn@here.example");
    for padding in 0..80 {
        assert_eq!(parts(&case.composed()).len(), 3, "after {padding}");
        case.reply.as_mut().expect("it was given").text.insert(2, 'x');
    }
}

proptest! {
    #[test]
    fn whatever_a_server_says_stays_in_its_place(
        said in hostile_text(),
        subject in hostile_text(),
        action in action(),
        sender_is_ascii in any::<bool>(),
        junk in any::<Vec<u8>>(),
    ) {
        let mut case = Case::new();
        case.action = action;
        // Straight into the noun, past the cleaning of `of_lines`.
        case.reply = Some(Reply { code: 550, enhanced: None, text: said });
        if !sender_is_ascii {
            case.sender = address("\u{e5}nn@here.example");
        }
        let subject = subject.replace(BOUNDARY, "-");
        case.original = format!("Subject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\n").into_bytes();
        case.original.extend(&junk);
        let composed = case.composed();
        // The status and the words are ours alone.
        let [human, machine, returned] = parts(&composed);
        let machine = text(&machine.1);
        assert_eq!(machine.matches("\r\nAction:").count(), 1, "{machine}");
        assert_eq!(machine.matches("\r\nStatus:").count(), 1, "{machine}");
        assert!(!machine.contains("\r\n--") && is_canonical(machine.as_bytes()));
        assert!(machine.bytes().all(|byte| byte >= b' ' || byte == b'\r' || byte == b'\n'));
        let human = text(&human.1);
        assert!(is_canonical(human.as_bytes()) && !human.contains("\n--"));
        assert!(human.chars().all(|char| !char.is_control() || char == '\r' || char == '\n'));
        assert!(case.original.starts_with(&returned.1));
        // The whole can be sent as what it says it is.
        assert!(is_canonical(&composed.bytes));
        assert!(composed.body == BodyKind::EightBitMime || composed.bytes.is_ascii());
        assert!(composed.bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
        let header = Header::of(&composed.bytes);
        assert!(composed.smtputf8 || composed.bytes[..header.len()].is_ascii());
    }
}
