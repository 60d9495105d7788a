//! A disk that fills while mail waits to go out: the mail goes, what came of it is noted, and no start sends it again.

use std::net::SocketAddr;

use crate::mail::{
    ALICE, Setup, careful_text, note, queue, send, wait_for, wait_for_arrivals, wait_for_mail,
    wait_until_done,
};
use crate::remote::{Character, PORT, Remote, own_address};
use crate::server::Server;
use crate::small_disk::SmallDisk;

const DISK: &str = "size=40m,mode=700";

/// Segments of a megabyte, so that little mail fills some of them.
const SMALL: &str = "\n[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";

/// Messages that wait: each outcome is a record with a sync of its own at the worst.
const WAITING: usize = 60;

const BALLAST_BYTES: usize = 200_000;

#[test]
fn outcomes_are_noted_on_a_full_disk() {
    let address = SocketAddr::new(own_address().into(), PORT);
    let mut server = Setup::new()
        .cores(1)
        .more(SMALL)
        .more(&format!("\n[[route]]\ndomain = \"remote.test\"\nto = [\"{address}\"]\n"))
        .more("\n[[shaping]]\ndead_first_s = 1\ndead_max_s = 1\n")
        .prepare();
    let Some(disk) = SmallDisk::mount(&server.data(), DISK) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    server.add_account(ALICE);
    server.start();
    // Nobody listens there yet. The last is one that will be refused for good: its bounce is an outcome, too.
    for number in 0..WAITING {
        send(&server, ALICE, &[&format!("ok{number}@remote.test")], &note(&format!("number {number}")));
    }
    send(&server, ALICE, &["no@remote.test"], &note("to be refused"));
    disk.fill("ballast");
    let mut local = 0;
    while is_taken(&server) {
        local += 1;
    }
    wait_for("the log says so", &server, || server.log().contains("mail is refused").then_some(()));

    let remote = Remote::at(address, Character::decent());
    wait_for_arrivals(&server, &remote, WAITING);
    wait_until_done(&server, "remote.test");
    wait_for_mail(&server, ALICE, local + 1);
    let probe = std::fs::write(server.data().join("probe"), [1; 1 << 17]);
    assert!(probe.is_err(), "the disk is still full");

    // The outcomes are in the log, not in memory alone.
    server.kill();
    server.start();
    assert!(!queue(&server).contains("remote.test"), "{}", queue(&server));
    wait_for_mail(&server, ALICE, local + 1);
    let mut taken: Vec<String> =
        remote.arrivals().into_iter().flat_map(|arrival| arrival.taken_for).collect();
    taken.sort();
    taken.dedup();
    assert_eq!((taken.len(), remote.arrivals().len()), (WAITING, WAITING), "each went once");
    server.kill();
}

/// Whether a message is taken; a refusal must be for now.
fn is_taken(server: &Server) -> bool {
    let text = careful_text(BALLAST_BYTES);
    let (code, lines) = server.smtp().message_reply(ALICE, &[ALICE], &text).expect("a reply");
    assert!(code == 250 || (400..500).contains(&code), "{lines:?}");
    code == 250
}
