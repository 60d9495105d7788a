//! What the README lets a newcomer type, and what they may do wrong.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::mail::{ALICE, BOB, append, ca, imap, message, server};
use crate::program::{Ran, available, command, run};
use crate::server::{SMTP, Server};

fn ringpost(server: &Server, arguments: &[&str]) -> Ran {
    let mut ringpost: Command = command(env!("CARGO_BIN_EXE_ringpost"), server.folder());
    ringpost.args(arguments).arg("--config").arg(server.config_path());
    run(ringpost, b"")
}

#[test]
fn a_second_server_on_the_same_ports_says_so() {
    let server = server();
    let elsewhere = server.folder().join("elsewhere");
    let second =
        ringpost(&server, &["serve", "--data", elsewhere.to_str().expect("a path of plain letters")]);
    assert_eq!(second.code, Some(3), "{}\n{}", second.text(), second.stderr);
    assert!(
        second.stderr.contains(&format!("cannot listen on {}:{SMTP}", server.address())),
        "{}",
        second.stderr
    );
    let same = ringpost(&server, &["serve"]);
    assert_eq!(same.code, Some(3));
    assert!(same.stderr.contains("another process uses"), "{}", same.stderr);
}

#[test]
fn an_account_moves_by_maildir_and_by_mbox() {
    if !available("curl") {
        return;
    }
    let server = server();
    let text = |number| message(number, 700);
    for number in 0..40 {
        append(&server, ALICE, ["INBOX", "Archive", "Sent", "Junk"][number % 4], &text(number));
    }
    imap(&server, ALICE, "Archive", "STORE 2 +FLAGS (\\Flagged \\Answered)");
    for format in ["maildir", "mbox"] {
        ringpost(&server, &["export", format, format, "--account", ALICE]).ok();
        let below = format!("From {format}");
        ringpost(&server, &["import", format, format, "--account", BOB, "--mailbox", &below]).ok();
        let again = format!("{format} again");
        ringpost(&server, &["export", format, &again, "--account", BOB]).ok();
    }
    for below in ["From maildir", "From mbox"] {
        let inbox = if below == "From mbox" { "/INBOX" } else { "" };
        for mailbox in [inbox, "/Archive", "/Sent", "/Junk"] {
            let status = imap(&server, BOB, "", &format!("STATUS \"{below}{mailbox}\" (MESSAGES)"));
            assert!(status.contains("(MESSAGES 10)"), "{status}");
        }
        let archive = format!("{below}/Archive").replace(' ', "%20");
        assert_eq!(imap(&server, BOB, &archive, "SEARCH FLAGGED ANSWERED"), "* SEARCH 2\r\n");
        assert_eq!(imap(&server, BOB, &archive, "SEARCH SUBJECT \"message 5\""), "* SEARCH 2\r\n");
    }
    assert!(ringpost(&server, &["store", "verify"]).text().contains("sound"));
}

/// The certificate is read again at SIGHUP, a bad one is refused, and sessions go on.
#[test]
fn a_reload_takes_a_new_certificate_and_refuses_a_bad_one() {
    if !available("openssl") {
        return;
    }
    let server = server();
    let certificate = |server: &Server| {
        let mut openssl = command("openssl", server.folder());
        openssl.args(["s_client", "-starttls", "smtp", "-CAfile"]).arg(ca(server));
        openssl.args(["-connect", &format!("{}:{SMTP}", server.address())]);
        let text = run(openssl, b"QUIT\r\n").text();
        let from = text.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
        text[from..text.find("-----END CERTIFICATE-----").expect("its end")].to_owned()
    };
    let reload = |word: &str| {
        let status = Command::new("kill").args(["-HUP", &server.process_id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        for _ in 0..200 {
            if server.log().contains(word) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("no {word:?} in the log:\n{}", server.log());
    };
    let first = certificate(&server);
    let path = server.data().join("tls/server.pem");
    let kept = fs::read(&path).expect("the certificate");
    fs::write(&path, "not a certificate").expect("a bad certificate");
    reload("stay as they were");
    assert_eq!(certificate(&server), first, "the old certificate stays");
    fs::write(&path, kept).expect("the good certificate");
    reload("were read again");
    assert_eq!(certificate(&server), first);
    fs::remove_file(&path).expect("the certificate is removed");
    fs::remove_file(server.data().join("tls/server.key")).expect("its key too");
    reload("were read again");
    for _ in 0..100 {
        if certificate(&server) != first {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the new certificate is not served");
}
