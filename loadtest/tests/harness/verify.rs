//! `verify` as a program: what it prints, and with what status it ends.

use std::process::{Command, Stdio};

use loadtest::ledger::{Acknowledged, Durability, Line, Writer};

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");

/// More lines about them than a pipe holds.
const MISSING: u64 = 20_000;

#[test]
fn a_reader_that_leaves_changes_no_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = folder.path().join("sent");
    let mut writer = Writer::open(&ledger, Durability::Buffered).expect("it is made");
    for number in 0..MISSING {
        let line = Acknowledged {
            run: "a-run-with-a-name".to_owned(),
            session: 0,
            number,
            copies: 1,
            intended_ns: 1,
            sent_ns: 2,
            acknowledged_ns: 3,
            code: 250,
            queue_id: "1".to_owned(),
        };
        writer.append(&Line::Acknowledged(line)).expect("it is written");
    }
    writer.flush().expect("it is written");
    let mut child = Command::new(HARNESS)
        .arg("verify")
        .arg(&ledger)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the harness runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
