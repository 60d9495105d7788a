//! Mail from the programs of this machine, by `ringpost sendmail` and by its old name.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use crate::exchange::queue_without;
use crate::flow::wait_for;
use crate::server::Server;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// The command, its exit status and what it said.
fn sendmail(server: &Server, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    said(&server.command(&[&["sendmail"], arguments].concat(), input.as_bytes()))
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn messages(server: &Server, account: &str) -> Vec<String> {
    let mut imap = server.imap(account);
    imap.ok("SELECT INBOX").expect("opens");
    let bodies = imap.bodies().expect("bodies");
    bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
}

#[test]
fn recipients_of_the_header_get_what_a_program_wrote() {
    let server = Server::with_accounts(&[ALICE, BOB]);
    server.done(&["alias", "add", "root@example.test", ALICE]);
    let text = "To: root\nBcc: bob@example.test, friend@elsewhere.test\nSubject: report\n\n\
                All is well.\n.\nTo the end.\n";
    let (code, said) = sendmail(&server, &["-t", "-i", "-f", "cron", "-F", "Cron Daemon", "-v"], text);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("the message is "), "{said}");
    for account in [ALICE, BOB] {
        wait_for(&server, account, 1);
        let stored = &messages(&server, account)[0];
        let (header, body) = stored.split_once("\r\n\r\n").expect("a header");
        assert_eq!(body, "All is well.\r\n.\r\nTo the end.\r\n");
        assert!(
            header.starts_with(
                "Return-Path: <cron@example.test>\r\nReceived: by mail.example.test (from user "
            )
        );
        for field in [
            "\r\nDate: ",
            "\r\nMessage-ID: <",
            "\r\nFrom: Cron Daemon <cron@example.test>",
            "\r\nTo: root@example.test\r\n",
        ] {
            assert_eq!(header.matches(field).count(), 1, "{field:?}: {header}");
        }
        assert!(!header.to_lowercase().contains("bcc") && !header.contains("friend"), "{header}");
    }
    let queue = queue_without(&server, BOB);
    assert!(queue.contains("friend@elsewhere.test") && queue.contains("cron@example.test"), "{queue}");
}

#[test]
fn exit_statuses_say_whose_move_it_is() {
    let mut server = Server::with_accounts(&[ALICE]);
    let text = "Subject: x\n\nText\n";
    let (code, said) = sendmail(&server, &[ALICE, "nobody@example.test"], text);
    assert_eq!(code, Some(67), "{said}");
    assert!(
        said.contains("nobody@example.test: 550 5.1.1") && said.contains("other recipients get it"),
        "{said}"
    );
    wait_for(&server, ALICE, 1);
    assert_eq!(sendmail(&server, &["nobody@example.test"], text).0, Some(67));
    assert_eq!(sendmail(&server, &["not an@address@"], text).0, Some(65));
    assert_eq!(sendmail(&server, &[ALICE], "From: a@b\nFrom: c@d\n\n").0, Some(65));
    assert_eq!(sendmail(&server, &[], text).0, Some(64));
    assert_eq!(sendmail(&server, &["-Z", ALICE], text).0, Some(64));
    assert_eq!(
        sendmail(&server, &["--config", "missing.toml", ALICE], text).0,
        Some(0),
        "the last --config counts"
    );
    let (code, said) = sendmail(&server, &["-bp"], "");
    assert!(code == Some(0) && said.contains("ringpost queue list"), "{said}");
    server.stop();
    let (code, said) = sendmail(&server, &[ALICE], text);
    assert!(code == Some(75) && said.contains("no server runs"), "{code:?} {said}");
    server.start();
    wait_for(&server, ALICE, 2);
    assert_eq!(messages(&server, ALICE).len(), 2);
}

#[test]
fn a_message_too_large_for_memory_goes_the_same_way() {
    let server = Server::with_accounts(&[ALICE]);
    let body = "a line of a message\n".repeat(50_000);
    let (code, said) = sendmail(&server, &[ALICE], &format!("Subject: large\n\n{body}"));
    assert_eq!(code, Some(0), "{said}");
    wait_for(&server, ALICE, 1);
    let stored = &messages(&server, ALICE)[0];
    let (header, stored_body) = stored.split_once("\r\n\r\n").expect("a header");
    assert!(header.contains("\r\nMessage-ID: <"), "{header}");
    assert_eq!(stored_body, body.replace('\n', "\r\n"));
}

#[test]
fn by_its_old_name_and_in_a_dialogue() {
    let server = Server::with_accounts(&[ALICE]);
    let program = server.folder().join("sendmail");
    symlink(env!("CARGO_BIN_EXE_ringpost"), &program).expect("a link");
    let run = |arguments: &[&str], input: &str| {
        let mut child = Command::new(&program)
            .args(arguments)
            .env("RINGPOST_CONFIG", server.config_path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input is taken");
        said(&child.wait_with_output().expect("the program ends"))
    };
    assert_eq!(run(&["-oi", "-oem", ALICE], "Subject: old\n\nText\n"), (Some(0), String::new()));
    let dialogue = "EHLO localhost\r\nMAIL FROM:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\n\
        RCPT TO:<alice@example.test>\r\nRCPT TO:<friend@elsewhere.test>\r\n\
        DATA\r\nSubject: dialogue\r\n\r\nText\r\n.\r\n\
        QUIT\r\n";
    let (code, text) = run(&["-bs"], dialogue);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\r\n550 5.1.1") && text.ends_with("221 2.0.0 Bye\r\n"), "{text}");
    wait_for(&server, ALICE, 2);
    let stored = messages(&server, ALICE);
    assert!(stored.iter().any(|message| message.contains("Subject: dialogue\r\n\r\nText\r\n")), "{stored:?}");
    assert!(queue_without(&server, "Subject").contains("friend@elsewhere.test"));
    // Nobody has logged in, so that there is nobody whom From could name.
    let dialogue = "EHLO localhost\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n\
        DATA\r\nSubject: from nobody\r\n\r\nText\r\n.\r\nQUIT\r\n";
    let (_, text) = run(&["-bs"], dialogue);
    assert!(text.contains("\r\n554 5.6.0 "), "{text}");
    assert!(run(&["--help"], "").1.starts_with("Usage: sendmail"));
}
