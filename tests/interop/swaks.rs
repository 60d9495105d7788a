//! swaks: submission with and without pipelining, attachments, every mechanism it has.

use std::fs;

use crate::mail::{ALICE, BOB, ca, imap, server, wait_for};
use crate::program::{Ran, available, command, run};
use crate::server::{PASSWORD, SMTP, SUBMISSION, SUBMISSIONS, Server};

fn swaks(server: &Server, port: u16, options: &[&str]) -> Ran {
    let mut swaks = command("swaks", server.folder());
    swaks.args([
        "--server",
        &server.address().to_string(),
        "--port",
        &port.to_string(),
        "--helo",
        "client.test",
    ]);
    swaks.args(["--from", ALICE, "--to", BOB, "--timeout", "60"]).args(options);
    run(swaks, b"")
}

#[test]
fn swaks_submits_with_every_mechanism_over_starttls_and_tls() {
    if !available("swaks") {
        return;
    }
    let server = server();
    let mut count = 0;
    let authority = ca(&server);
    let authority = authority.to_str().expect("a path of plain letters");
    for (port, tls) in [(SUBMISSION, "-tls"), (SUBMISSIONS, "-tlsc"), (SMTP, "-tls")] {
        for mechanism in ["PLAIN", "LOGIN"] {
            for pipeline in [None, Some("--pipeline")] {
                let login = ["--auth", mechanism, "--auth-user", ALICE, "--auth-password", PASSWORD];
                let mut options = [&login[..], &[tls, "--tls-ca-path", authority]].concat();
                options.extend(pipeline);
                swaks(&server, port, &options).ok();
                count += 1;
            }
        }
    }
    wait_for(&server, BOB, count);
}

#[test]
fn an_attachment_arrives_as_a_part() {
    if !available("swaks") {
        return;
    }
    let server = server();
    let attachment = server.folder().join("numbers.bin");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(&attachment, bytes).expect("a file to attach");
    let attached = format!("@{}", attachment.display());
    let options =
        ["--attach-type", "application/octet-stream", "--attach", &attached, "--header", "Subject: h\u{e9}"];
    swaks(&server, SMTP, &options).ok();
    wait_for(&server, BOB, 1);
    let structure = imap(&server, BOB, "INBOX", "FETCH 1 BODYSTRUCTURE").to_lowercase();
    assert!(structure.contains("(\"application\" \"octet-stream\""), "{structure}");
    assert!(structure.contains("numbers.bin"), "{structure}");
    let size = imap(&server, BOB, "INBOX", "FETCH 1 (BINARY.SIZE[2])");
    assert!(size.contains("BINARY.SIZE[2] 100000)"), "{size}");
}

#[test]
fn swaks_without_tls_or_with_a_wrong_password_is_refused() {
    if !available("swaks") {
        return;
    }
    let server = server();
    let no_tls =
        swaks(&server, SUBMISSION, &["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", PASSWORD]);
    assert_eq!(no_tls.code, Some(28), "{}", no_tls.text());
    let wrong = ["-tls", "--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", "wrong"];
    let wrong = swaks(&server, SUBMISSION, &wrong);
    assert_eq!(wrong.code, Some(28), "{}", wrong.text());
    assert!(wrong.text().contains("535 5.7.8"), "{}", wrong.text());
    let stranger = swaks(&server, SMTP, &["--to", "someone@elsewhere.test"]);
    assert!(stranger.text().contains("550 5.7."), "{}", stranger.text());
}
