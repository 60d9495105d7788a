//! Space comes back, also where segments are as small as they may be.

use std::fs;

use crate::server::Server;

const ALICE: &str = "alice@example.test";

const SMALLEST: &str = "[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";

/// What a base has of those that stay is more than a segment.
const MESSAGES: usize = 21_000;
const DELETED: usize = 12_000;

#[test]
fn a_base_larger_than_any_segment_is_written_in_pieces() {
    let mut server = Server::prepare(1, SMALLEST);
    server.add_account(ALICE);
    let mbox = server.folder().join("mail.mbox");
    let message = |number| format!("From a@b Thu Jan  1 00:00:00 2026\nSubject: {number}\n\nshort\n\n");
    fs::write(&mbox, (0..MESSAGES).map(message).collect::<String>()).expect("written");
    server.done(&["import", "mbox", mbox.to_str().expect("a plain path"), "--account", ALICE]);
    server.start();
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok(&format!("STORE 1:{DELETED} +FLAGS.SILENT (\\Deleted)")).expect("marked");
    imap.ok("EXPUNGE").expect("expunged");
    let said = server.done(&["store", "clean"]);
    let freed = |log: &str| {
        log.lines().any(|line| line.contains("the log was cleaned") && !line.contains("freed_bytes=0"))
    };
    assert!(freed(&server.log()), "{said}{}", server.log());
    assert!(!server.log().contains("could not be"), "{}", server.log());
    server.kill();
    server.start();
    let listed = server.imap(ALICE).command("STATUS INBOX (MESSAGES)").expect("a reply");
    let left = format!("(MESSAGES {})", MESSAGES - DELETED);
    assert!(listed.iter().any(|line| line.text.contains(&left)), "{listed:?}");
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    server.kill();
}
