//! Backups of a server under load and of one that is down, what becomes of them when something is killed, and what a
//! restore gives back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Imap, Smtp};
use crate::flow::{is_message, message, wait_for};
use crate::server::{IMAP, PASSWORD, SMTP, Server};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@example.test";
const ACCOUNTS: [&str; 3] = [ALICE, BOB, CAROL];
const SENDER: &str = "sender@elsewhere.test";

/// Small files and many checkpoints, so that little mail fills some and the cleaner has work; nobody takes mail
/// for elsewhere.
const SMALL: &str = "[limits]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\ncheckpoint_bytes = 65536\n\
                     [[route]]\ndomain = \"*\"\nto = [\"127.0.0.1:9\"]\n";

const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of messages that got their 250.
type Ledger = Arc<Mutex<Vec<usize>>>;

fn size_of(number: usize) -> usize {
    200 + 613 * (number % 17)
}

/// Clients that send to all accounts, and one that appends and expunges, until they are told to stop.
struct Load {
    ledger: Ledger,
    stopped: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn begin(server: &Server, senders: usize) -> Self {
        let (ledger, stopped, address) =
            (Ledger::default(), Arc::new(AtomicBool::new(false)), server.address());
        let sender = |sender: usize| {
            let (ledger, stopped) = (Arc::clone(&ledger), Arc::clone(&stopped));
            std::thread::spawn(move || {
                let mut smtp = Smtp::connect(address, SMTP).expect("SMTP answers");
                for number in (1 + sender * 100_000..).take_while(|_| !stopped.load(Ordering::Relaxed)) {
                    let text = message(number, size_of(number));
                    assert!(smtp.message(SENDER, &ACCOUNTS, &text).expect("a reply"), "message {number}");
                    ledger.lock().expect("the ledger").push(number);
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let mut clients: Vec<_> = (0..senders).map(sender).collect();
        let going = Arc::clone(&stopped);
        clients.push(std::thread::spawn(move || {
            let mut imap = Imap::login(address, IMAP, BOB, PASSWORD).expect("IMAP login");
            while !going.load(Ordering::Relaxed) {
                imap.append("Trash", &message(0, 200_000)).expect("a reply");
                imap.ok("SELECT Trash").expect("opens");
                imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)").expect("stored");
                imap.ok("EXPUNGE").expect("expunged");
            }
        }));
        Self { ledger, stopped, clients }
    }

    fn acknowledged(&self) -> Vec<usize> {
        self.ledger.lock().expect("the ledger").clone()
    }

    fn end(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("a client ends"));
    }
}

/// What a client sees of a mailbox: UIDVALIDITY, and by UID the flags and bytes of each message.
struct Mailbox {
    uid_validity: u32,
    messages: BTreeMap<u32, (String, Vec<u8>)>,
}

fn look(server: &Server, account: &str, mailbox: &str) -> Mailbox {
    let mut imap = server.imap(account);
    let selected = imap.ok(&format!("EXAMINE {mailbox}")).expect("opens");
    let uid_validity = selected.iter().find_map(|response| number_behind(&response.text, "UIDVALIDITY "));
    let mut messages = BTreeMap::new();
    for response in imap.ok("UID FETCH 1:* (FLAGS BODY.PEEK[])").expect("fetched") {
        if let Some(body) = response.literals.first() {
            let uid = number_behind(&response.text, "UID ").expect("a UID");
            let flags = response.text.split("FLAGS (").nth(1).and_then(|rest| rest.split(')').next());
            let flags = flags.expect("flags").replace("\\Recent", "").trim().to_owned();
            messages.insert(uid, (flags, body.clone()));
        }
    }
    Mailbox { uid_validity: uid_validity.expect("a UIDVALIDITY"), messages }
}

fn number_behind(text: &str, word: &str) -> Option<u32> {
    let rest = text.split(word).nth(1)?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

fn number_of(body: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(body);
    text.split("Subject: message ").nth(1)?.split("\r\n").next()?.parse().ok()
}

fn unique_ids(server: &Server, account: &str) -> BTreeSet<String> {
    let listing = server.pop3(account).lines("UIDL").expect("a listing");
    let text = String::from_utf8(listing).expect("ASCII");
    text.lines().map(|line| line.split_once(' ').expect("number and id").1.to_owned()).collect()
}

/// Every promised message is there once, whole, under the UID that it had.
fn audit(server: &Server, account: &str, promised: &[usize], before: &Mailbox) -> Mailbox {
    let begun = Instant::now();
    loop {
        let found = look(server, account, "INBOX");
        let numbers: Vec<usize> = found.messages.values().filter_map(|(_, body)| number_of(body)).collect();
        let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len(), "{account} has a message twice; log:\n{}", server.log());
        let missing: Vec<&usize> = promised.iter().filter(|number| !distinct.contains(number)).collect();
        if missing.is_empty() {
            check_same(account, &found, before);
            return found;
        }
        // A copy that was still on its way between logs is delivered at the next start.
        assert!(begun.elapsed() < PATIENCE, "{account} lacks {missing:?}; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn check_same(account: &str, found: &Mailbox, before: &Mailbox) {
    let uids: HashMap<usize, u32> =
        before.messages.iter().filter_map(|(uid, (_, body))| Some((number_of(body)?, *uid))).collect();
    for (uid, (_, body)) in &found.messages {
        let number = number_of(body).expect("all messages are numbered");
        assert!(
            is_message(body, &message(number, size_of(number))),
            "{account}: message {number} is another"
        );
        if let Some((_, then)) = before.messages.get(uid) {
            // What was delivered after the backup may have got another UID than before.
            let is_later = uids.get(&number).is_none_or(|known| known != uid);
            assert!(then == body || is_later, "{account}: UID {uid} names another message");
        }
    }
    assert!(found.uid_validity > before.uid_validity, "{account}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that a backup copied, and all that are in it.
fn backup(server: &Server, folder: &Path) -> (u64, u64) {
    let said = server.done(&["backup", path(folder)]);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [_, all, _, copied] = numbers[..] else { panic!("{said}") };
    (copied, all)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

/// A server whose data is what a backup gives; not started.
fn restored(cores: usize, folder: &Path, more: &[&str]) -> (Server, String) {
    let server = Server::prepare(cores, SMALL);
    let said = server.done(&[&["restore", path(folder)], more].concat());
    (server, said)
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before_it() {
    let mut server = Server::prepare(2, SMALL);
    ACCOUNTS.iter().for_each(|account| server.add_account(account));
    server.start();
    server.done(&["alias", "add", "info@example.test", ALICE, BOB]);
    let folder = server.folder().join("backup");

    // Things of all sorts: flags, a mailbox, a copy, messages in files of their own, mail that cannot leave.
    let mut imap = server.imap(CAROL);
    for number in [7_000_001, 7_000_002, 7_000_003] {
        imap.append("Archive", &message(number, 1000)).expect("a reply");
    }
    imap.append("Archive", &message(7_000_004, 700_000)).expect("a reply");
    imap.ok("SELECT Archive").expect("opens");
    imap.ok("STORE 2 +FLAGS (\\Flagged $Forwarded)").expect("stored");
    imap.ok("CREATE Projects/Old").expect("created");
    imap.ok("COPY 2:4 Projects/Old").expect("copied");
    let mut smtp = server.submission(ALICE);
    assert!(smtp.message(ALICE, &["eve@elsewhere.test"], &message(8_000_000, 500)).expect("a reply"));

    let load = Load::begin(&server, 3);
    let mut promised = Vec::new();
    for round in 0..4 {
        std::thread::sleep(Duration::from_millis(1200));
        promised = load.acknowledged();
        let (copied, all) = backup(&server, &folder);
        assert!(copied <= all && (round == 0) == (copied == all), "round {round}: {copied} of {all}");
    }
    assert!(promised.len() > 50, "the load was taken");
    std::thread::sleep(Duration::from_millis(500));
    let archive = look(&server, CAROL, "Projects/Old");
    let ids = unique_ids(&server, CAROL);
    load.end();
    // What happens after a backup is lost, and what it deletes is there again.
    let mut imap = server.imap(CAROL);
    imap.ok("DELETE Projects/Old").expect("deleted");
    for name in 0..20 {
        imap.ok(&format!("CREATE later-{name}")).expect("created");
    }
    server.add_account("dave@example.test");
    let dave = look(&server, "dave@example.test", "INBOX");
    let latest = look(&server, CAROL, "later-19").uid_validity;
    let before = ACCOUNTS.map(|account| look(&server, account, "INBOX"));
    server.stop();

    for cores in [3, 1] {
        let (mut server, said) = restored(cores, &folder, &[]);
        assert!(said.contains("3 accounts") && said.contains("1 recipient is held"), "{said}");
        server.start();
        for (account, before) in ACCOUNTS.into_iter().zip(&before) {
            let found = audit(&server, account, &promised, before);
            assert!(found.uid_validity > latest);
        }
        let again = look(&server, CAROL, "Projects/Old");
        assert_eq!(again.messages, archive.messages, "with {cores} cores");
        assert!(
            again
                .messages
                .values()
                .any(|(flags, _)| flags.contains("\\Flagged") && flags.contains("$Forwarded"))
        );
        assert!(again.uid_validity > latest);
        assert_eq!(look(&server, CAROL, "Archive").messages.len(), 4);
        let found = unique_ids(&server, CAROL);
        assert!(!found.is_empty() && found.is_disjoint(&ids), "a unique-id is there again");
        let pop3 = server.pop3(CAROL).lines("RETR 1").expect("a message");
        assert_eq!(&pop3, &look(&server, CAROL, "INBOX").messages.values().next().expect("a message").1);
        check_queue(&server);
        // The aliases are there, and mail goes on; accounts that are made again begin anew.
        assert!(server.done(&["alias", "list"]).contains("info@example.test"));
        server.add_account("dave@example.test");
        assert!(look(&server, "dave@example.test", "INBOX").uid_validity > dave.uid_validity.max(latest));
        let count = look(&server, ALICE, "INBOX").messages.len();
        assert!(server.smtp().message(SENDER, &ACCOUNTS, &message(9_000_000, 300)).expect("a reply"));
        wait_for(&server, ALICE, count + 1);
        assert_eq!(server.done(&["store", "verify"]), "all that is stored is sound\n");
        server.kill();
        server.start();
        wait_for(&server, ALICE, count + 1);
        assert!(look(&server, CAROL, "INBOX").uid_validity > latest, "after a kill, too");
    }
}

/// What was queued is held, says why, and goes when it is released.
fn check_queue(server: &Server) {
    let listed = server.done(&["queue", "list", "--json"]);
    let is_held = listed.contains("\"state\":\"held\"") && listed.contains("restored from the backup of 20");
    assert!(listed.lines().count() == 1 && is_held, "{listed}");
    server.done(&["queue", "release", "--everything"]);
    assert!(!server.done(&["queue", "list", "--json"]).contains("\"state\":\"held\""));
}

/// A server with some files of a log full, and its first backup.
fn with_backup(more: &[&str]) -> (Server, PathBuf) {
    let mut server = Server::prepare(1, SMALL);
    server.add_account(ALICE);
    server.start();
    fill(&server, 1, 25);
    let folder = server.folder().join("backup");
    server.done(&[&["backup", path(&folder)], more].concat());
    (server, folder)
}

/// Messages of 200 kB.
fn fill(server: &Server, first: usize, count: usize) {
    let mut smtp = server.smtp();
    for number in first..first + count {
        assert!(smtp.message(SENDER, &[ALICE], &message(number, 200_000)).expect("a reply"));
    }
    wait_for(server, ALICE, first + count - 1);
}

#[test]
fn the_next_backup_copies_what_is_new_and_needs_no_server() {
    let (mut server, folder) = with_backup(&[]);
    let (copied, all) = backup(&server, &folder);
    assert!(all > 5_000_000 && copied < 100_000, "nothing is new: {copied} of {all}");
    fill(&server, 26, 1);
    let (copied, all) = backup(&server, &folder);
    assert!(copied < 1_500_000, "{copied} of {all}: the file that is written to, and no other");
    server.stop();
    let (copied, _) = backup(&server, &folder);
    assert!(copied < 1_500_000, "{copied}");
    let mut left = names(&folder);
    left.retain(|name| name.starts_with("directory"));
    left.sort();
    assert_eq!(left, ["directory.4", "directory.copy.4"]);
    let (mut server, _) = restored(2, &folder, &["--send-queue"]);
    server.start();
    wait_for(&server, ALICE, 26);
    // What was restored is another store.
    let refused = server.command(&["backup", path(&folder)], b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("another store"), "{}", text(&refused.stderr));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Begins a backup that takes long, and waits until it copies.
fn slow_backup(server: &Server, folder: &Path) -> Child {
    let fresh = folder.join("log/00");
    let known: BTreeSet<String> = names(&fresh).into_iter().collect();
    let mut child = server.spawn(&["backup", path(folder), "--bytes-per-s", "100000"]);
    let begun = Instant::now();
    while names(&fresh).into_iter().all(|name| known.contains(&name)) {
        assert!(begun.elapsed() < PATIENCE, "nothing is copied");
        assert!(child.try_wait().expect("it can be asked").is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn ended(child: Child) -> Output {
    child.wait_with_output().expect("the command ends")
}

/// Files of a log that a cleaning gave back.
fn freed(server: &Server) -> u32 {
    number_behind(&server.done(&["store", "clean"]), " bytes in ").expect("a number of files")
}

#[test]
fn a_backup_that_is_killed_holds_nothing_and_harms_nothing() {
    let (server, folder) = with_backup(&[]);
    fill(&server, 26, 20);
    let mut child = slow_backup(&server, &folder);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok("STORE 1:40 +FLAGS.SILENT (\\Deleted)").expect("stored");
    imap.ok("EXPUNGE").expect("expunged");
    assert_eq!(freed(&server), 0, "the files are kept");
    let busy = server.command(&["backup", path(&folder)], b"");
    assert!(text(&busy.stderr).contains("another backup"), "{}", text(&busy.stderr));
    child.kill().expect("killed");
    ended(child);
    let begun = Instant::now();
    while freed(&server) == 0 {
        assert!(begun.elapsed() < PATIENCE, "the files are kept for nobody");
        std::thread::sleep(Duration::from_millis(200));
    }
    // The first backup is as it was.
    assert!(server.done(&["restore", path(&folder), "--check"]).contains("is whole"));
    let (mut first, _) = restored(1, &folder, &[]);
    first.start();
    wait_for(&first, ALICE, 25);
    assert_eq!(look(&first, ALICE, "INBOX").messages.len(), 25);
    // And the next one takes away what the killed one left.
    backup(&server, &folder);
    let (mut second, _) = restored(1, &folder, &[]);
    second.start();
    assert_eq!(look(&second, ALICE, "INBOX").messages.len(), 5);
}

#[test]
fn a_server_that_is_killed_ends_a_backup_without_harm() {
    let (mut server, folder) = with_backup(&[]);
    fill(&server, 26, 10);
    let child = slow_backup(&server, &folder);
    server.kill();
    // The next server knows nothing of the backup, and frees what it likes.
    server.start();
    let output = ended(child);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the server was lost") && said.contains("is as it was"), "{said}");
    assert!(names(&folder.join("log/00")).iter().all(|name| name.ends_with(".1")), "what it wrote is gone");
    let (mut first, _) = restored(1, &folder, &[]);
    first.start();
    assert_eq!(look(&first, ALICE, "INBOX").messages.len(), 25);
}

#[test]
fn what_is_damaged_foreign_or_in_use_is_refused_by_name() {
    let (mut server, folder) = with_backup(&[]);
    let target = Server::prepare(1, SMALL);
    let refused = |server: &Server, arguments: &[&str], words: &[&str]| {
        let output = server.command(arguments, b"");
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    };
    let restore = ["restore", path(&folder)];
    refused(&server, &restore, &["data", "is not empty"]);
    refused(&server, &["restore", path(&folder), "--set-aside"], &["another process uses"]);
    refused(&server, &["backup", path(&server.folder().join("data/backup"))], &["in each other"]);
    refused(&server, &["backup", path(&server.folder().join("data/log"))], &["in each other"]);
    let letters = server.folder().join("letters");
    fs::create_dir(&letters).expect("made");
    fs::write(letters.join("letter.txt"), "dear").expect("written");
    refused(&server, &["backup", path(&letters)], &["letters", "not empty"]);
    refused(&target, &["restore", path(&letters)], &["no backup in"]);

    // Every file of the backup: a byte that changed, an end that is missing, and all of it.
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    files.retain(|file| !file.ends_with("lock"));
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        let whole = fs::read(&file).expect("read");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for damaged in [&changed[..], &whole[..whole.len() - 1]] {
            fs::write(&file, damaged).expect("damaged");
            refused(&target, &restore, &[&name]);
        }
        fs::remove_file(&file).expect("removed");
        let word = if name == "manifest" { "no backup in" } else { &name };
        refused(&target, &restore, &[word]);
        fs::write(&file, whole).expect("put back");
        assert!(!target.data().exists(), "nothing is written before all is checked");
    }
    // A data directory that is there is moved out of the way, if that is wanted.
    server.stop();
    let said = server.done(&["restore", path(&folder), "--set-aside"]);
    assert!(said.contains("data.before-restore-1"), "{said}");
    assert!(server.folder().join("data.before-restore-1/log/00").exists());
    server.start();
    wait_for(&server, ALICE, 25);
}

/// Changes bytes in the middle of the copy of the first file of the log.
fn damage_first_segment(folder: &Path) -> String {
    let segment = folder.join("log/00/0000000001.seg.1");
    let mut bytes = fs::read(&segment).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xa5);
    fs::write(&segment, bytes).expect("damaged");
    path(&segment).to_owned()
}

#[test]
fn of_a_damaged_backup_is_restored_what_can_be_read() {
    let (_server, folder) = with_backup(&[]);
    let segment = damage_first_segment(&folder);
    // Of the accounts there is a copy.
    fs::remove_file(folder.join("directory.1")).expect("removed");
    let mut target = Server::prepare(1, SMALL);
    let refused = target.command(&["restore", path(&folder)], b"");
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("and 1 more files are; `ringpost restore --damaged`"),
        "{said}"
    );
    assert!(!target.data().exists());
    let said = target.done(&["restore", path(&folder), "--damaged"]);
    assert!(said.contains(&format!("damaged: {segment}: its checksum is wrong")), "{said}");
    assert!(said.contains("directory.1"), "{said}");
    let lost: Vec<&str> = said.lines().filter(|line| line.starts_with("lost: ")).collect();
    assert!(lost.len() == 1 && lost[0].contains(ALICE), "{said}");
    target.start();
    let mut imap = target.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let bodies = imap.command("FETCH 1:* BODY.PEEK[]").expect("a reply");
    let numbers: BTreeSet<usize> =
        bodies.iter().flat_map(|body| &body.literals).filter_map(|body| number_of(body)).collect();
    assert_eq!(numbers.len(), 24, "{numbers:?}");
}

#[test]
fn a_copy_that_went_bad_is_made_again_by_a_backup_that_looks() {
    let (server, folder) = with_backup(&[]);
    damage_first_segment(&folder);
    server.done(&["backup", path(&folder)]);
    assert!(!server.command(&["restore", path(&folder), "--check"], b"").status.success(), "nobody looked");
    let said = server.done(&["backup", path(&folder), "--check"]);
    assert!(said.contains("0000000001.seg.1 has gone bad and is copied again"), "{said}");
    assert!(server.done(&["restore", path(&folder), "--check"]).contains("is whole"));
    let said = server.done(&["backup", path(&folder), "--check"]);
    assert!(!said.contains("gone bad"), "{said}");
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("listed").flatten() {
        match entry.path().is_dir() {
            true => files_below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[test]
fn a_restore_that_is_killed_is_told_and_begins_anew() {
    let (_server, folder) = with_backup(&[]);
    let mut target = Server::prepare(1, SMALL);
    let log = target.data().join("log/00");
    // As soon as it writes; when it has copied some; when it opens what it copied.
    for moment in [target.data().join("restoring"), log.join("0000000003.seg"), log.join("0000000001.idx")] {
        let mut child = target.spawn(&["restore", path(&folder)]);
        let begun = Instant::now();
        while !moment.exists() {
            assert!(begun.elapsed() < PATIENCE, "{}", moment.display());
        }
        child.kill().expect("killed");
        ended(child);
        for command in [&["serve"][..], &["store", "stats"]] {
            let (status, said) = target.refusal(command);
            assert_eq!(status, Some(3), "{command:?}: {said}");
            assert!(said.contains("a restore into it was not finished"), "{said}");
        }
    }
    target.done(&["restore", path(&folder)]);
    target.start();
    wait_for(&target, ALICE, 25);
    assert_eq!(look(&target, ALICE, "INBOX").messages.len(), 25);
}

#[test]
fn a_folder_without_room_keeps_its_last_backup() {
    let (server, folder) = with_backup(&[]);
    let small = server.folder().join("small");
    fs::create_dir(&small).expect("made");
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=9m,mode=700", "ringpost-test"])
        .arg(&small)
        .output();
    if !mount.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    }
    let _unmount = Unmount(&small);
    server.done(&["backup", path(&small)]);
    fill(&server, 26, 30);
    let output = server.command(&["backup", path(&small)], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("No space left") && said.contains("is as it was"), "{said}");
    assert!(server.done(&["restore", path(&small), "--check"]).contains("is whole"));
    let (mut first, _) = restored(1, &small, &[]);
    first.start();
    assert_eq!(look(&first, ALICE, "INBOX").messages.len(), 25);
    assert!(server.done(&["restore", path(&folder), "--check"]).contains("is whole"));
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}
