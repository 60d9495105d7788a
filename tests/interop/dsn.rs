//! Notifications as Python's `email` package reads them: parsed strictly, nothing may be amiss.

use ringpost::mail::address::Address;
use ringpost::mail::dsn::{Action, Addressee, Composed, Extent, Fate, Remote, Report, compose};
use ringpost::mail::envelope::{Envelope, Recipient};
use ringpost::mail::reply::{EnhancedCode, Reply};
use ringpost::mail::time::Timestamp;
use tempfile::TempDir;

use crate::program::{available, command, run};

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn bounce(sender: &str, recipient: &str, subject: &str) -> Composed {
    let sender = address(sender);
    let recipient = Recipient {
        orcpt: Some("rfc822;bob@there.example".to_owned()),
        ..Recipient::new(address(recipient))
    };
    let envelope = Envelope { recipients: vec![recipient.clone()], ..Envelope::default() };
    let said = "Hidden\r\n--frontier--\r\nby \u{1b}[1mescape\u{1b}[0m and gr\u{fc}n ".repeat(20);
    let reply = Reply { code: 550, enhanced: Some(EnhancedCode::new(5, 7, 1)), text: said };
    let fate = Fate {
        recipient: &recipient,
        action: Action::Failed,
        status: EnhancedCode::new(5, 7, 1),
        remote: Some(Remote { host: "mx.there.example", reply: &reply }),
        why: "",
        last_attempt: Some(Timestamp::utc(1_790_000_000)),
        retry_until: None,
        log_id: Some("00010000002A"),
    };
    compose(&Report {
        host: "mx.here.example",
        from: &address("MAILER-DAEMON@mx.here.example"),
        to: Addressee::Sender(&sender),
        envelope: &envelope,
        arrived: Timestamp::utc(1_780_000_000),
        deliver_by: None,
        fates: &[fate],
        original: format!("Subject: {subject}\r\nMessage-ID: <1@here.example>\r\n\r\nThe text.\r\n")
            .as_bytes(),
        extent: Extent::Whole,
        returned_bytes_max: 50_000,
        token: "1.2",
        boundary: "frontier",
        now: Timestamp::utc(1_790_000_001),
    })
}

#[test]
fn the_email_package_reads_notifications() {
    if !available("python3") {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let cases = [
        ("ann@here.example", "bob@there.example", "plain", "message/delivery-status"),
        ("ann@here.example", "b\u{f8}b@there.example", "gr\u{fc}n", "message/global-delivery-status"),
        ("\u{e5}nn@here.example", "b\u{f8}b@there.example", "gr\u{fc}n", "message/global-delivery-status"),
    ];
    for (sender, recipient, subject, media) in cases {
        let path = folder.path().join("report");
        std::fs::write(&path, bounce(sender, recipient, subject).bytes).expect("the report is written");
        let mut python = command("python3", folder.path());
        python.arg("-").env("REPORT", &path).env("SENDER", sender).env("RECIPIENT", recipient);
        python.env("STATUS_TYPE", media);
        run(python, include_bytes!("python/report.py")).ok();
    }
}
