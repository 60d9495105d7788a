//! A store that a disk has damaged: what was hit gets a name and is put aside, everything else stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::flow::{is_message, message, wait_for};
use crate::server::Server;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const SENDER: &str = "sender@elsewhere.test";

/// The messages whose bytes are damaged: a small one and one in a file of its own.
const HIT: [usize; 2] = [2, 6];

const MESSAGES: usize = 8;

/// Whether a server runs while its store is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Runs {
    Yes,
    No,
}

fn sent(number: usize) -> Vec<u8> {
    message(number, if number == 6 { 600_000 } else { 1500 })
}

/// A stopped server with the same mail for two accounts in two logs.
fn filled() -> Server {
    let mut server = Server::with_accounts(&[ALICE, BOB]);
    let mut smtp = server.smtp();
    for number in 0..MESSAGES {
        assert!(smtp.message(SENDER, &[ALICE, BOB], &sent(number)).expect("a reply"));
    }
    [ALICE, BOB].iter().for_each(|account| wait_for(&server, account, MESSAGES));
    server.stop();
    server
}

fn files(server: &Server, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for log in fs::read_dir(server.data().join(folder)).into_iter().flatten().flatten() {
        found.extend(fs::read_dir(log.path()).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found
}

/// Turns a bit around in these words, wherever they stand in segments and large files.
fn damage(server: &Server, words: &str) {
    let mut times = 0;
    for path in files(server, "log").into_iter().chain(files(server, "large")) {
        if path.extension().is_some_and(|end| end == "idx") {
            continue;
        }
        let bytes = fs::read(&path).expect("it can be read");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("it can be written");
        for at in memchr::memmem::find_iter(&bytes, words.as_bytes()) {
            file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("it can be written");
            times += 1;
        }
    }
    assert!(times > 0, "{words:?} are on the disk");
}

fn damage_all(server: &Server) {
    HIT.iter().for_each(|number| damage(server, &format!("line 5 of message {number},")));
}

fn rows(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What a row says: whose message, where, and which.
fn identity(row: &Value) -> (String, String, u64, String, String) {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let uid = row["uid"].as_u64().expect("a UID");
    (text("account"), text("mailbox"), uid, text("subject"), text("message_id"))
}

/// By UID.
fn inbox(server: &Server, account: &str) -> BTreeMap<u32, Vec<u8>> {
    let mut imap = server.imap(account);
    imap.ok("SELECT INBOX").expect("opens");
    let answers = imap.ok("UID FETCH 1:* (UID BODY.PEEK[])").expect("bodies");
    let uid = |text: &str| {
        let rest = text.split_once("UID ").map(|(_, rest)| rest)?;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    let body = |mut answer: crate::client::Response| Some((uid(&answer.text)?, answer.literals.pop()?));
    answers.into_iter().filter_map(body).collect()
}

/// Each account has its notes in the place of what was hit, and all else as it was sent, under the UIDs of old.
fn check_mail(server: &Server) {
    for account in [ALICE, BOB] {
        let found = inbox(server, account);
        assert_eq!(found.len(), MESSAGES, "{account}");
        let old = found.iter().filter(|(uid, _)| **uid <= MESSAGES as u32);
        for (uid, body) in old {
            let number = *uid as usize - 1;
            assert!(!HIT.contains(&number) && is_message(body, &sent(number)), "{account} {uid}");
        }
        let notes: Vec<String> = found
            .iter()
            .filter(|(uid, _)| **uid > MESSAGES as u32)
            .map(|(_, body)| String::from_utf8_lossy(body).into_owned())
            .collect();
        assert_eq!(notes.len(), HIT.len(), "{account}");
        for (note, number) in notes.iter().zip(HIT) {
            assert!(note.contains("Subject: A message that was here is damaged"), "{note}");
            assert!(note.contains(&format!("Subject: message {number}\r\n")), "{note}");
        }
    }
}

fn look_and_repair(runs: Runs) {
    let mut server = filled();
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    damage_all(&server);
    if runs == Runs::Yes {
        server.start();
    }
    let output = server.command(&["store", "verify", "--json"], b"");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let told: BTreeSet<_> = rows(&output.stdout).iter().map(identity).collect();
    let expected = [ALICE, BOB].into_iter().flat_map(|account| {
        HIT.map(|number| {
            let (subject, id) = (format!("message {number}"), format!("<{number}@elsewhere.test>"));
            (account.to_owned(), "INBOX".to_owned(), number as u64 + 1, subject, id)
        })
    });
    assert_eq!(told, expected.collect(), "no more and no less than what was damaged");
    let lines = server.command(&["store", "verify"], b"");
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    assert!(lines.contains("alice@example.test: message 3 in INBOX cannot be read"), "{lines}");
    assert!(lines.contains("4 pieces are damaged; everything else is sound"), "{lines}");

    let output = server.command(&["store", "repair", "--json"], b"");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors} {}", String::from_utf8_lossy(&output.stdout));
    assert!(rows(&output.stdout).iter().all(|row| row["done"].is_string()));
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    assert!(server.done(&["store", "repair"]).contains("nothing was changed"));
    let quarantine = server.data().join("quarantine");
    let kept: Vec<String> = fs::read_dir(&quarantine)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let messages = kept.iter().filter(|name| name.ends_with(".eml")).count();
    assert_eq!((messages, kept.len() % 2), (4, 0), "each with its text: {kept:?}");
    for name in kept.iter().filter(|name| name.ends_with(".eml")) {
        let bytes = fs::read(quarantine.join(name)).expect("it can be read");
        let words = fs::read_to_string(quarantine.join(format!("{name}.txt"))).expect("it has a text");
        assert!(words.contains("cannot be read") && words.contains("Subject: message "), "{words}");
        let is_right = HIT.iter().any(|number| bytes.len() >= sent(*number).len());
        assert!(is_right && bytes.starts_with(b"Return-Path: <sender@elsewhere.test>"), "{name}");
    }
    if runs == Runs::No {
        server.start();
    }
    check_mail(&server);
    server.kill();
    server.start();
    check_mail(&server);
}

#[test]
fn an_export_tells_of_what_cannot_be_read_and_has_the_rest() {
    let server = filled();
    damage_all(&server);
    let output = server.command(&["export", "maildir", "mail", "--account", ALICE], b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for number in HIT {
        assert!(
            said.contains(&format!("left out: {ALICE}: message {} in INBOX cannot", number + 1)),
            "{said}"
        );
    }
    let exported = fs::read_dir(server.folder().join("mail/cur")).expect("a Maildir").count();
    assert_eq!(exported, MESSAGES - HIT.len());
    assert!(String::from_utf8_lossy(&output.stdout).contains("6 messages exported"));
}

#[test]
fn a_damaged_store_is_verified_and_repaired_without_a_server() {
    look_and_repair(Runs::No);
}

#[test]
fn a_damaged_store_is_verified_and_repaired_under_a_server() {
    look_and_repair(Runs::Yes);
}

#[test]
fn a_repair_that_is_killed_is_done_again() {
    let mut server = filled();
    damage_all(&server);
    for round in 0..12 {
        let mut repair = server.spawn(&["store", "repair"]);
        std::thread::sleep(Duration::from_millis(20 + 35 * round));
        // It may have come to its end.
        let _ = repair.kill();
        repair.wait().expect("it ends");
    }
    server.done(&["store", "repair"]);
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    server.start();
    check_mail(&server);
}

#[test]
fn a_bad_sector_where_the_log_is_read_from_does_not_keep_it_from_starting() {
    let mut server = filled();
    // The last batch of the log is where the checkpoint of a clean stop begins.
    for path in
        files(&server, "log").into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg"))
    {
        let bytes = fs::read(&path).expect("it can be read");
        let mut pages = bytes.chunks(4096).enumerate();
        let Some((page, _)) = pages.rfind(|(_, page)| page[4..8] == *b"RPB1") else {
            continue;
        };
        let file = fs::OpenOptions::new().write(true).open(&path).expect("it can be written");
        file.write_all_at(&[0; 512], page as u64 * 4096).expect("it can be written");
    }
    server.start();
    for account in [ALICE, BOB] {
        let found = inbox(&server, account);
        assert_eq!(found.len(), MESSAGES, "{account}; log:\n{}", server.log());
        assert!(found.iter().all(|(uid, body)| is_message(body, &sent(*uid as usize - 1))));
    }
    assert!(server.log().contains("ringpost store verify"), "{}", server.log());
    server.command(&["store", "repair"], b"");
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    server.stop();
    server.start();
    assert_eq!(inbox(&server, ALICE).len(), MESSAGES);
}
