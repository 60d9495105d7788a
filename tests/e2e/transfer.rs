//! Mail from files of other programs, into a store that cannot take all of it.

use std::fs;

use crate::server::{PASSWORD, Server};

const ALICE: &str = "alice@example.test";

fn mbox(count: usize, bytes: usize) -> String {
    let body = "a line of the message\n".repeat(bytes / 22);
    (0..count)
        .map(|number| format!("From a@b Thu Jan  1 00:00:00 2026\nSubject: {number}\n\n{body}\n"))
        .collect()
}

/// How an import of `mail.mbox` ended, and what it said.
fn import(server: &Server, more: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["import", "mbox", "mail.mbox", "--account", ALICE];
    arguments.extend(more);
    let output = server.command(&arguments, b"");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_import_that_a_quota_stops_goes_on_where_it_was() {
    let mut server = Server::prepare(1, "");
    let arguments = ["account", "add", ALICE, "--quota", "20000", "--password-stdin"];
    assert!(server.command(&arguments, PASSWORD.as_bytes()).status.success());
    fs::write(server.folder().join("mail.mbox"), mbox(10, 3000)).expect("written");
    // A second time with the same words, as one who did not understand would: nothing is there twice.
    for more in [&[][..], &["--skip", "6"]] {
        let (status, said) = import(&server, more);
        assert_eq!(status, Some(3), "{said}");
        assert!(said.contains("the first 6 messages are in; go on with --skip 6"), "{said}");
        assert!(said.contains("the account is full"), "{said}");
    }
    server.start();
    let mut imap = server.imap(ALICE);
    let subjects = |imap: &mut crate::client::Imap| {
        imap.ok("SELECT INBOX").expect("opens");
        let bodies = imap.bodies().expect("bodies");
        let number = |body: &Vec<u8>| {
            let text = String::from_utf8_lossy(body).into_owned();
            text.lines().next().and_then(|line| line.strip_prefix("Subject: ")?.parse().ok())
        };
        bodies.iter().filter_map(number).collect::<Vec<usize>>()
    };
    assert_eq!(subjects(&mut imap), [0, 1, 2, 3, 4, 5]);
    imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)").expect("marked");
    imap.ok("EXPUNGE").expect("there is room again");
    let (status, said) = import(&server, &["--skip", "6"]);
    assert!(status == Some(0) && said.contains("4 messages imported"), "{said}");
    assert_eq!(subjects(&mut imap), [6, 7, 8, 9]);
}

#[test]
fn an_import_takes_messages_that_no_segment_has_room_for() {
    let more = "[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";
    let mut server = Server::prepare(1, more);
    server.add_account(ALICE);
    let sizes = [1000, 300_000, 3_000_000, 2000];
    let text: String = sizes.iter().map(|bytes| mbox(1, *bytes)).collect();
    fs::write(server.folder().join("mail.mbox"), text).expect("written");
    let (status, said) = import(&server, &[]);
    assert!(status == Some(0) && said.contains("4 messages imported"), "{said}");
    let check = |server: &Server| {
        let mut imap = server.imap(ALICE);
        imap.ok("SELECT INBOX").expect("opens");
        let bodies = imap.bodies().expect("bodies");
        for (body, bytes) in bodies.iter().zip(sizes) {
            let lines = "a line of the message\r\n".repeat(bytes / 22);
            assert!(*body == format!("Subject: 0\r\n\r\n{lines}").into_bytes(), "{bytes}");
        }
        assert_eq!(bodies.len(), sizes.len());
        assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    };
    server.start();
    check(&server);
    server.kill();
    server.start();
    check(&server);
}
