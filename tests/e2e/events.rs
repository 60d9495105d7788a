//! The event log as `ringpost events` shows it: without a server, with filters, with a cursor, and as it grows.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

fn line(number: usize, kind: &str, recipient: &str) -> String {
    let timestamp = 1_700_000_000 + number;
    format!(
        "{{\"type\":\"{kind}\",\"id\":\"{number}\",\"sender\":\"ann@example.test\",\"recipient\":\"{recipient}\",\
         \"timestamp\":{timestamp}}}\n"
    )
}

/// Appends to the `number`th file.
fn write(server: &Server, number: usize, text: &str) {
    let dir = server.data().join("events");
    fs::create_dir_all(&dir).expect("a folder");
    let path = dir.join(format!("20261125T110000Z-{number:06}.jsonl"));
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

/// The ids of the lines that are shown.
fn ids(server: &Server, arguments: &[&str]) -> Vec<String> {
    let text = server.done(&[&["events"], arguments].concat());
    let id = |line: &str| line.split("\"id\":\"").nth(1)?.split('"').next().map(str::to_owned);
    text.lines().filter_map(id).collect()
}

fn three_files() -> Server {
    let server = Server::prepare(1, "");
    for number in 0..9 {
        let kind = ["Reception", "Delivery", "Bounce"][number % 3];
        let recipient = ["bob@there.example", "eve@else.example"][number % 2];
        write(&server, number / 3 + 1, &line(number, kind, recipient));
    }
    server
}

#[test]
fn events_are_where_the_configuration_has_them() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let server = Server::prepare(1, &format!("[events]\ndir = {:?}\n", elsewhere.path()));
    let path = elsewhere.path().join("20261125T110000Z-000001.jsonl");
    fs::write(path, line(7, "Delivery", "bob@there.example")).expect("written");
    assert_eq!(ids(&server, &[]), ["7"]);
    // The configuration may be named by the environment, too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    let output =
        command.arg("events").env("RINGPOST_CONFIG", server.config_path()).output().expect("it starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("bob@there.example"), "{output:?}");
}

#[test]
fn filters_pick_lines_of_all_files() {
    let server = three_files();
    assert_eq!(ids(&server, &[]), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    assert_eq!(ids(&server, &["--type", "bounce"]), ["2", "5", "8"]);
    assert_eq!(
        ids(&server, &["--type", "Bounce", "--type", "Delivery", "--domain", "there.example"]),
        ["2", "4", "8"]
    );
    assert_eq!(ids(&server, &["--recipient", "eve@else.example", "--count", "2"]), ["1", "3"]);
    assert_eq!(ids(&server, &["--since", "2023-11-14T22:13:26Z"]), ["6", "7", "8"]);
    assert_eq!(ids(&server, &["--since", "1h"]), [""; 0]);
    assert_eq!(ids(&server, &["--id", "4", "--sender", "@example.test"]), ["4"]);
    let table = server.done(&["events", "--table", "--id", "4"]);
    assert!(
        table.contains("  Delivery ") && table.contains("<ann@example.test> -> bob@there.example"),
        "{table}"
    );
}

#[test]
fn a_cursor_goes_on_where_it_was_and_says_what_it_missed() {
    let server = three_files();
    assert_eq!(ids(&server, &["--cursor", "bill", "--count", "4"]), ["0", "1", "2", "3"]);
    assert_eq!(ids(&server, &["--cursor", "bill", "--type", "Bounce"]), ["5", "8"]);
    assert_eq!(ids(&server, &["--cursor", "bill"]), [""; 0]);
    assert_eq!(ids(&server, &["--cursor", "other", "--count", "1"]), ["0"]);
    write(&server, 3, &line(9, "Delivery", "bob@there.example"));
    write(&server, 3, "{\"type\":\"Deliv");
    assert_eq!(ids(&server, &["--cursor", "bill"]), ["9"]);
    fs::remove_file(server.data().join("events/20261125T110000Z-000001.jsonl")).expect("removed");
    let output = server.command(&["events", "--cursor", "other", "--count", "1"], b"");
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(warning.contains("removed before they were read"), "{warning}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"id\":\"3\""));
}

#[test]
fn following_sees_new_lines_and_new_files() {
    let server = three_files();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringpost"))
        .args(["events", "--follow", "--count", "11", "--config"])
        .arg(server.config_path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    (0..9).for_each(|number| assert!(next().contains(&format!("\"id\":\"{number}\""))));
    let whole = line(9, "Delivery", "bob@there.example");
    let (front, back) = whole.split_at(20);
    write(&server, 3, front);
    write(&server, 3, back);
    assert_eq!(next() + "\n", whole);
    write(&server, 4, &line(10, "Delivery", "bob@there.example"));
    assert!(next().contains("\"id\":\"10\""));
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let server = Server::prepare(1, "");
    let many: String = (0..20_000).map(|number| line(number, "Delivery", "bob@there.example")).collect();
    write(&server, 1, &many);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringpost"))
        .args(["events", "--cursor", "gone", "--config"])
        .arg(server.config_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // What was not handed over comes again.
    let left = ids(&server, &["--cursor", "gone"]);
    assert!(left.len() > 10_000 && left.last().is_some_and(|id| id == "19999"), "{}", left.len());
}

/// The events there are, as fields, once there are so many.
fn written(server: &Server, count: usize) -> Vec<serde_json::Value> {
    let begun = Instant::now();
    loop {
        let text = server.done(&["events"]);
        let events: Vec<_> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        if events.len() >= count {
            return events;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{count} expected:\n{text}{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Types of the events about each recipient, in their order.
fn stories(events: &[serde_json::Value]) -> BTreeMap<String, String> {
    let mut stories: BTreeMap<String, String> = BTreeMap::new();
    for event in events {
        let field = |name: &str| event[name].as_str().expect(name).to_owned();
        let story = stories.entry(field("recipient")).or_default();
        *story += &format!("{}<{}> ", field("type"), field("sender"));
    }
    stories
}

/// Accounts of two cores: some deliveries go with the message, others are asked of the other core.
#[test]
fn mail_for_accounts_is_told_of_from_its_reception_to_the_mailbox() {
    const ALL: [&str; 6] = [
        "a@example.test",
        "b@example.test",
        "c@example.test",
        "d@example.test",
        "e@example.test",
        "f@example.test",
    ];
    let mut server = Server::prepare(2, "");
    ALL.iter().for_each(|account| server.add_account(account));
    server.start();
    let mut smtp = server.submission(ALL[0]);
    assert!(smtp.message(ALL[0], &ALL, b"Subject: to all\r\n\r\nhello\r\n").expect("a reply"));
    let events = written(&server, 12);
    let plain = format!("Reception<{0}> Delivery<{0}> ", ALL[0]);
    assert_eq!(stories(&events), ALL.iter().map(|one| ((*one).to_owned(), plain.clone())).collect());
    let of_kind = |kind| events.iter().filter(move |event| event["type"] == kind);
    assert!(of_kind("Reception").all(|event| event["reception_protocol"] == "ESMTPSA"), "{events:?}");
    assert!(of_kind("Delivery").all(|event| {
        event["delivery_protocol"] == "Local"
            && event["id"] == events[0]["id"]
            && event["created"].is_number()
    }));
    // Deliveries that are told, and what tells of them; a message that waits for its time.
    for (parameter, kept, recipient) in [("", " NOTIFY=SUCCESS", ALL[1]), (" HOLDFOR=2", "", ALL[2])] {
        assert_eq!(smtp.code(&format!("MAIL FROM:<{}>{parameter}", ALL[0])), 250);
        assert_eq!(smtp.code(&format!("RCPT TO:<{recipient}>{kept}")), 250);
        assert_eq!(smtp.code("DATA"), 354);
        assert_eq!(smtp.code("Subject: more\r\n\r\nhello\r\n."), 250);
    }
    let stories = stories(&written(&server, 17));
    assert_eq!(stories[ALL[0]], format!("{plain}Delivery<> "));
    assert_eq!([&stories[ALL[1]], &stories[ALL[2]]], [&plain.repeat(2); 2]);
    drop(smtp);
    server.stop();
    assert_eq!(written(&server, 17).len(), 17);
}

#[test]
fn mail_for_accounts_is_not_told_of_where_nobody_wants_that() {
    let more = "[events]\nlocal = false\n[[route]]\ndomain = \"*\"\nto = [\"127.0.0.1:9\"]\n";
    let server = Server::configured(&["a@example.test", "b@example.test"], more);
    let mut smtp = server.submission("a@example.test");
    let recipients = ["a@example.test", "b@example.test", "c@elsewhere.test"];
    assert!(smtp.message(recipients[0], &recipients, b"Subject: to all\r\n\r\nhello\r\n").expect("a reply"));
    // The attempt elsewhere comes after all that there could be to tell of the others.
    let stories = stories(&written(&server, 2));
    assert_eq!(stories.keys().collect::<Vec<_>>(), ["c@elsewhere.test"]);
}
