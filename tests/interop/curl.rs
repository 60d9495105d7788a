//! curl: every protocol it has for mail, with and without TLS.

use crate::mail::{ALICE, BOB, HOST, append, came_through, curl, imap, message, server, wait_for};
use crate::program::{Ran, available, run};
use crate::server::{IMAP, IMAPS, POP3, POP3S, SMTP, SUBMISSION, SUBMISSIONS, Server};

/// curl's exit codes.
const LOGIN_DENIED: i32 = 67;
const SEND_ERROR: i32 = 55;
const CERTIFICATE_REFUSED: i32 = 60;

/// Scheme, port and options of curl.
type Way<'a> = (&'a str, u16, &'a [&'a str]);

fn send(server: &Server, way: Way<'_>, recipient: &str, text: &[u8]) -> Ran {
    let (scheme, port, options) = way;
    let mut curl = curl(server, ALICE, scheme, port, "client.example.test");
    curl.args(["--mail-from", ALICE, "--mail-rcpt", recipient, "-T", "-"]).args(options);
    run(curl, text)
}

#[test]
fn curl_sends_in_every_way_and_reads_in_every_way() {
    if !available("curl") {
        return;
    }
    let server = server();
    let ways: [Way<'_>; 5] = [
        ("smtp", SUBMISSION, &["--ssl-reqd"]),
        ("smtp", SUBMISSION, &["--ssl-reqd", "--login-options", "AUTH=LOGIN"]),
        ("smtp", SMTP, &["--ssl-reqd"]),
        ("smtps", SUBMISSIONS, &[]),
        ("smtps", SUBMISSIONS, &["--login-options", "AUTH=PLAIN", "--sasl-ir"]),
    ];
    let sent: Vec<Vec<u8>> = (0..ways.len()).map(|number| message(number, 3000)).collect();
    for (way, text) in ways.into_iter().zip(&sent) {
        send(&server, way, BOB, text).ok();
    }
    wait_for(&server, BOB, sent.len());

    let readings: [Way<'_>; 8] = [
        ("imap", IMAP, &[]),
        ("imap", IMAP, &["--ssl-reqd"]),
        ("imap", IMAP, &["--ssl-reqd", "--login-options", "AUTH=PLAIN", "--sasl-ir"]),
        ("imaps", IMAPS, &["--login-options", "AUTH=LOGIN"]),
        ("pop3", POP3, &[]),
        ("pop3", POP3, &["--ssl-reqd"]),
        ("pop3s", POP3S, &["--login-options", "AUTH=PLAIN", "--sasl-ir"]),
        ("pop3s", POP3S, &["--login-options", "AUTH=LOGIN"]),
    ];
    for (scheme, port, options) in readings {
        for (index, text) in sent.iter().enumerate() {
            let number = index + 1;
            let path = match scheme.starts_with("imap") {
                true => format!("INBOX;MAILINDEX={number}"),
                false => number.to_string(),
            };
            let mut curl = curl(&server, BOB, scheme, port, &path);
            curl.args(options);
            let stored = run(curl, b"").ok();
            assert!(
                came_through(&stored, text),
                "{scheme} {port} {options:?}: {}",
                String::from_utf8_lossy(&stored)
            );
        }
    }
}

#[test]
fn curl_runs_imap_commands() {
    if !available("curl") {
        return;
    }
    let server = server();
    for number in 0..3 {
        append(&server, ALICE, "INBOX", &message(number, 1000));
    }
    assert_eq!(imap(&server, ALICE, "INBOX", "SEARCH SUBJECT \"message 1\""), "* SEARCH 2\r\n");
    assert_eq!(imap(&server, ALICE, "INBOX", "UID COPY 2 Archive"), "");
    assert!(imap(&server, ALICE, "INBOX", "STORE 1 +FLAGS (\\Deleted)").starts_with("* 1 FETCH (FLAGS (\\"));
    assert_eq!(imap(&server, ALICE, "INBOX", "EXPUNGE"), "* 1 EXPUNGE\r\n");
    assert_eq!(imap(&server, ALICE, "", "CREATE \"Caf&AOk-/2026\""), "");
    assert!(imap(&server, ALICE, "", "LIST \"\" *").contains("Caf&AOk-/2026"));
    assert!(imap(&server, ALICE, "", "STATUS Archive (MESSAGES UIDNEXT)").contains("(MESSAGES 1 UIDNEXT 2)"));
}

#[test]
fn curl_sees_refusals_as_such() {
    if !available("curl") {
        return;
    }
    let server = server();
    let text = message(0, 100);
    assert_eq!(
        send(&server, ("smtps", SUBMISSIONS, &[]), "nobody@example.test", &text).code,
        Some(SEND_ERROR)
    );
    assert_eq!(
        send(&server, ("smtps", SUBMISSIONS, &["--mail-from", BOB]), BOB, &text).code,
        Some(SEND_ERROR)
    );
    // Without TLS the submission port takes no password.
    assert_ne!(send(&server, ("smtp", SUBMISSION, &[]), BOB, &text).code, Some(0));
    for (scheme, port) in [("imaps", IMAPS), ("pop3s", POP3S), ("smtps", SUBMISSIONS)] {
        let mut curl = curl(&server, ALICE, scheme, port, "");
        curl.args(["-u", &format!("{ALICE}:wrong")]);
        assert_eq!(run(curl, b"").code, Some(LOGIN_DENIED), "{scheme}");
    }
    let mut stranger = curl(&server, ALICE, "imaps", IMAPS, "");
    stranger.args(["--capath", "/nowhere", "--cacert", "/etc/ssl/certs/ca-certificates.crt"]);
    assert_eq!(
        run(stranger, b"").code,
        Some(CERTIFICATE_REFUSED),
        "{HOST} is known to its own authority alone"
    );
}
