//! A disk that is full: mail is refused for now, what is there is read and deleted, and space brings all back.

use std::fs;
use std::time::{Duration, Instant};

use crate::flow::{message, wait_for};
use crate::server::Server;
use crate::small_disk::SmallDisk;

const ALICE: &str = "alice@example.test";
const SENDER: &str = "sender@elsewhere.test";
/// A busy machine has cleaned its logs by then.
const PATIENCE: Duration = Duration::from_secs(60);

const DISK: &str = "size=80m,mode=700";

/// For a log of the smallest segments, with its reserve and as much mail again.
const SMALL_DISK: &str = "size=32m,mode=700";

/// A cleaning for want of space is begun no more often than every few seconds; after it, all is as it stays.
const CLEANED: Duration = Duration::from_secs(12);

const QUOTA: &str = "60M";

/// Octets of each message that fills the logs.
const FILLING: usize = 100_000;

/// A connection comes to any of two logs: so many refusals in a row are hardly ever of one alone.
const REFUSED: usize = 20;

/// Segments of a megabyte, so that little mail fills some of them.
const SMALL: &str = "[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n";

#[test]
fn a_full_disk_refuses_mail_for_now_and_recovers() {
    // Two logs: neither takes the reserve of the other.
    let mut server = Server::prepare(2, SMALL);
    let Some(disk) = SmallDisk::mount(&server.data(), DISK) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    server.add_account(ALICE);
    server.start();
    let mut smtp = server.smtp();
    assert!(smtp.message(SENDER, &[ALICE], &message(0, 900)).expect("a reply"));
    wait_for(&server, ALICE, 1);

    let ballast = disk.fill("ballast");
    // What the account's log has no room for now waits in the log that took it.
    let accepted = 1 + fill_with_mail(&server);

    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let bodies = imap.command("FETCH 1 BODY.PEEK[]").expect("a reply");
    assert_eq!(bodies[0].literals.len(), 1, "what is there can be read");
    let text = message(1, 900_000);
    let refused = imap
        .command(&format!("APPEND INBOX {{{}+}}\r\n{}", text.len(), String::from_utf8_lossy(&text)))
        .expect("a reply");
    assert!(refused[refused.len() - 1].text.contains(" NO "), "{refused:?}");
    // The reserve is for deletes, and what is deleted makes room for mail: the disk empties itself.
    let delete = |imap: &mut crate::client::Imap, messages: &str| {
        imap.ok(&format!("STORE {messages} +FLAGS.SILENT (\\Deleted)")).expect("marked");
        imap.ok("EXPUNGE").expect("expunged");
    };
    delete(&mut imap, "1");
    wait_for(&server, ALICE, accepted - 1);
    imap.ok("NOOP").expect("news");
    delete(&mut imap, "1:*");
    let taken = fill_again(&server, accepted);
    let log = server.log();
    assert!(log.contains("no space could be made: mail is refused"), "{log}");
    assert!(log.contains("cannot write") || log.contains("cannot create"), "{log}");

    fs::remove_file(&ballast).expect("there is space again");
    let begun = Instant::now();
    while !try_message(&server, 200_000) {
        assert!(begun.elapsed() < PATIENCE, "it does not recover; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    server.kill();
    server.start();
    wait_for(&server, ALICE, taken + 1);
    server.kill();
}

#[test]
fn a_disk_that_stays_full_is_emptied_message_by_message_in_the_default_reserve() {
    let mut server = Server::prepare(1, "");
    let Some(disk) = SmallDisk::mount(&server.data(), SMALL_DISK) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    server.add_account(ALICE);
    server.start();
    let mut smtp = server.smtp();
    let text = message(0, 6000);
    let mut count = 0;
    while smtp.message(SENDER, &[ALICE], &text).expect("a reply") {
        count += 1;
    }
    // What it gives back from here on is its own reserve, not the disk's last bytes.
    disk.fill("ballast");
    assert!(count > 1000, "{count} messages are too few to use up any reserve");
    wait_for(&server, ALICE, count);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let mut delete = || {
        imap.ok("UID STORE * +FLAGS.SILENT (\\Deleted)").expect("marked");
        imap.ok("EXPUNGE").expect("expunged");
    };
    // One is no reason to go on cleaning: a log that rests on a full disk writes nothing.
    delete();
    std::thread::sleep(CLEANED);
    let rested = records(&server);
    std::thread::sleep(CLEANED);
    assert_eq!(records(&server), rested, "log:\n{}", server.log());
    // Two records for each, each with a page and a sync of its own: many times what the reserve has.
    for left in (0..count - 1).rev() {
        delete();
        if left % 500 == 0 {
            disk.fill(&format!("ballast {left}"));
        }
    }
    wait_for(&server, ALICE, 0);
    // What was mail is room for mail, though the disk has no more of it.
    let begun = Instant::now();
    while !try_message(&server, 6000) {
        assert!(begun.elapsed() < PATIENCE, "no mail is taken; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    server.kill();
    server.start();
    wait_for(&server, ALICE, 1);
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    server.kill();
}

/// A backup keeps what could be freed, and what must be written goes before it.
#[test]
fn a_backup_is_given_up_before_a_full_disk_has_no_room_for_outcomes() {
    let mut server = Server::prepare(1, SMALL);
    let Some(disk) = SmallDisk::mount(&server.data(), SMALL_DISK) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    server.add_account(ALICE);
    server.start();
    // The first one makes the file by which the store is known.
    let first = server.folder().join("first");
    server.done(&["backup", first.to_str().expect("a path")]);
    let mut smtp = server.smtp();
    let text = message(0, 6000);
    let mut count = 0;
    while smtp.message(SENDER, &[ALICE], &text).expect("a reply") {
        count += 1;
    }
    disk.fill("ballast");
    wait_for(&server, ALICE, count);
    let folder = server.folder().join("backup");
    let backup = server.spawn(&["backup", folder.to_str().expect("a path"), "--bytes-per-s", "10000"]);
    let begun = Instant::now();
    while !folder.join("log").exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing is copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    // Many times what the reserve has.
    for _ in 0..count {
        imap.ok("UID STORE * +FLAGS.SILENT (\\Deleted)").expect("marked");
        imap.ok("EXPUNGE").expect("expunged");
        // At this pace the disk is full and not full in turns.
        std::thread::sleep(Duration::from_millis(4));
    }
    wait_for(&server, ALICE, 0);
    let ended = backup.wait_with_output().expect("the command ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("the disk is full, and files that the backup needs"), "{said}");
    while !try_message(&server, 6000) {
        assert!(begun.elapsed() < 3 * PATIENCE, "no mail is taken; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    server.kill();
}

#[test]
fn a_quota_is_as_a_full_disk_also_where_writing_copies() {
    let mut server = Server::prepare(1, SMALL);
    let image = server.folder().join("image");
    let Some(_disk) = SmallDisk::with_quota(&server.data(), &image, QUOTA) else {
        eprintln!("skipped: no Btrfs with a quota can be mounted here (it takes root, and btrfs-progs)");
        return;
    };
    server.add_account(ALICE);
    server.start();
    let accepted = fill_with_mail(&server);
    assert!(accepted > 100, "{accepted} are not what the quota has room for");
    assert!(server.log().contains("no space could be made: mail is refused"), "{}", server.log());
    wait_for(&server, ALICE, accepted);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)").expect("marked");
    imap.ok("EXPUNGE").expect("expunged");
    let taken = fill_again(&server, accepted);
    server.kill();
    server.start();
    wait_for(&server, ALICE, taken);
    server.kill();
}

fn records(server: &Server) -> String {
    let stats = server.done(&["store", "stats"]);
    let line = stats.lines().find(|line| line.starts_with("records appended since the start"));
    line.expect("it is among the numbers").to_owned()
}

/// Sends until no log takes any; how many messages were taken.
fn fill_with_mail(server: &Server) -> usize {
    let (mut taken, mut refused) = (0, 0);
    while refused < REFUSED {
        match try_message(server, FILLING) {
            true => (taken, refused) = (taken + 1, 0),
            false => refused += 1,
        }
        assert!(taken < 2000, "the disk is full and mail is still taken");
    }
    taken
}

/// Sends until a third is taken of what was deleted; how many that is. The ends of the segments that were being written
/// have room for one or two. Not all comes back: a reserve that the deletes went into is made up for first.
fn fill_again(server: &Server, deleted: usize) -> usize {
    let begun = Instant::now();
    let (mut taken, wanted) = (0, deleted / 3);
    while taken < wanted {
        match try_message(server, FILLING) {
            true => taken += 1,
            false => std::thread::sleep(Duration::from_millis(200)),
        }
        let elapsed = begun.elapsed();
        assert!(elapsed < PATIENCE, "only {taken} of {deleted} came back; log:\n{}", server.log());
    }
    taken
}

/// Whether a message is taken; a refusal must be for now.
fn try_message(server: &Server, size: usize) -> bool {
    let mut smtp = server.smtp();
    let (code, lines) = smtp.message_reply(SENDER, &[ALICE], &message(5, size)).expect("a reply");
    assert!(code == 250 || (400..500).contains(&code), "{lines:?}");
    code == 250
}
