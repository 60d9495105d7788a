//! Every fate that mail can meet is counted, to the message.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loadtest::ledger::{Durability, Reader};
use loadtest::plan::{Bodies, Sizes, Template};
use loadtest::record::LedgerCounts;
use loadtest::sink::{Conduct, Sink};
use loadtest::smtp::{Envelope, Limit, Load};

use crate::fake::{Fake, Treated, Treatment};

const MESSAGES: u64 = 100;

/// What is found of a hundred messages to two recipients each, over one session, so that they have an order.
fn found(treatment: Treatment) -> LedgerCounts {
    let folder = tempfile::tempdir().expect("a folder");
    let (sent, came) = (folder.path().join("sent"), folder.path().join("came"));
    let address = ([127, 0, 0, 1], 0).into();
    let sink = Sink::start(address, Conduct::default(), Some((came.clone(), Durability::Buffered)), 1)
        .expect("a free port");
    let fake = Fake::start(Some(sink.address()), treatment, None);
    let bodies = Arc::new(Bodies::new(&Sizes::Between(200, 9000), 3));
    let load = Load {
        ledger: Some((sent.clone(), Durability::Buffered)),
        recipients: Template::new("user%d@fake.test", 10),
        recipients_each: 2,
        ..Load::plain(fake.address(), 1, Limit::Messages(MESSAGES), bodies)
    };
    let run = load.run().expect("everything is taken");
    assert_eq!(run.tally.counts.succeeded, MESSAGES);
    assert_eq!(fake.taken(), MESSAGES);
    sink.stop().expect("its ledger is written");
    check_program(&sent, &came);
    let mut reader = Reader::default();
    reader.read(&sent).expect("a ledger");
    reader.read(&came).expect("a ledger");
    reader.verify().counts
}

/// The program says the same with its exit status.
fn check_program(sent: &Path, came: &Path) {
    let mut reader = Reader::default();
    reader.read(sent).expect("a ledger");
    reader.read(came).expect("a ledger");
    let counts = reader.verify().counts;
    let verify = |slo: &str| {
        let program = env!("CARGO_BIN_EXE_loadtest");
        let mut command = Command::new(program);
        let output = command.arg("verify").args([sent, came]).args(["--slo", slo]).output();
        output.expect("the program runs").status.code()
    };
    assert_eq!(verify("missing==0"), Some(if counts.missing == 0 { 0 } else { 99 }));
    assert_eq!(verify("duplicated==0"), Some(if counts.duplicated == 0 { 0 } else { 99 }));
    assert_eq!(verify("corrupted==0"), Some(if counts.corrupted == 0 { 0 } else { 99 }));
}

fn well() -> LedgerCounts {
    LedgerCounts { acknowledged: 2 * MESSAGES, received: 2 * MESSAGES, ..LedgerCounts::default() }
}

#[test]
fn a_server_that_loses_nothing_is_not_accused() {
    assert_eq!(found(|_| Treated::Well), well());
}

#[test]
fn lost_messages_are_missing() {
    let counts = found(|number| if number % 10 == 3 { Treated::Lost } else { Treated::Well });
    assert_eq!(counts, LedgerCounts { received: 180, missing: 20, ..well() });
}

#[test]
fn doubled_messages_are_counted() {
    let counts = found(|number| if number % 20 == 0 { Treated::Doubled } else { Treated::Well });
    assert_eq!(counts, LedgerCounts { duplicated: 10, ..well() });
}

#[test]
fn one_wrong_bit_is_found() {
    let counts = found(|number| if number % 25 == 0 { Treated::Damaged } else { Treated::Well });
    assert_eq!(counts, LedgerCounts { corrupted: 8, ..well() });
}

#[test]
fn messages_that_overtake_are_counted() {
    let counts = found(|number| if number == 40 { Treated::Late } else { Treated::Well });
    // The late one goes with the recipients of the next, of whom one is its own: what matters is that it shows.
    assert!(counts.reordered > 0, "{counts:?}");
}

#[test]
fn all_envelopes_are_the_same_to_a_server() {
    for envelope in [Envelope::Stepwise, Envelope::Group, Envelope::Ahead] {
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), None, 1).expect("a port");
        let bodies = Arc::new(Bodies::new(&Sizes::Same(4096), 1));
        let load = Load { envelope, ..Load::plain(sink.address(), 7, Limit::Messages(500), bodies) };
        assert_eq!(load.run().expect("it runs").tally.counts.succeeded, 500);
        assert_eq!(sink.taken(), 500);
        assert_eq!(sink.counts().corrupted.load(Ordering::Relaxed), 0);
    }
}

/// A server that sends on in several chunks, as Exim does with what is longer than one of its buffers, waits for a
/// reply to each, and sends the next ones before these have come.
#[test]
fn a_message_in_chunks_is_one_message() {
    const WIRE: &[u8] = b"EHLO peer\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n\
        BDAT 14\r\nSubject: x\r\n\r\nBDAT 0\r\nBDAT 5\r\nbody BDAT 4 LAST\r\n.\r\n.\
        MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 3\r\nxyzRSET\r\n\
        MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 7 LAST\r\n1234567QUIT\r\n";
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), None, 1).expect("a port");
    for piece in [1, 3, 16, WIRE.len()] {
        let before = (sink.taken(), bytes(&sink));
        let mut stream = TcpStream::connect(sink.address()).expect("it listens");
        stream.set_nodelay(true).expect("it is set");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time is set");
        WIRE.chunks(piece).for_each(|part| stream.write_all(part).expect("it reads"));
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("every command is answered");
        let codes: Vec<&str> =
            said.lines().filter(|line| !line.starts_with("250-")).map(|l| &l[..3]).collect();
        let want = [&["220"][..], &["250"; 14], &["221"]].concat();
        assert_eq!(codes, want, "in pieces of {piece}: {said}");
        assert_eq!(
            (sink.taken(), bytes(&sink)),
            (before.0 + 2, before.1 + 14 + 5 + 4 + 7),
            "in pieces of {piece}"
        );
    }
}

fn bytes(sink: &Sink) -> u64 {
    sink.counts().bytes.load(Ordering::Relaxed)
}
