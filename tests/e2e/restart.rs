//! Starts are bounded by checkpoints, and nothing that a client can see depends on whether one was used.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::client::{Imap, Smtp};
use crate::flow::message;
use crate::server::{IMAP, PASSWORD, SMTP, START_MAX, Server};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const SENDER: &str = "sender@elsewhere.test";

/// The smallest that may be configured: a few dozen messages.
const OFTEN: &str = "[limits]\ncheckpoint_bytes = 65536\n";

/// A checkpoint is looked for every second.
const CHECKPOINT_MAX: Duration = Duration::from_secs(30);

#[test]
fn after_a_clean_stop_hardly_anything_is_read_back() {
    let mut server = server("");
    fill(&server, 0, 90);
    change(&server);
    let before = state(&server);
    server.stop();
    let says_where_it_ends = |server: &Server| log_dir(server, "00").join("closed").exists();
    assert!(says_where_it_ends(&server));
    server.start();
    assert!(!says_where_it_ends(&server));
    assert_eq!(state(&server), before);
    for (records, with_checkpoint) in read_back(&server) {
        assert!(with_checkpoint && records <= 2, "{records} records; log:\n{}", server.log());
    }
    // The next message goes behind the others.
    fill(&server, 500, 501);
    assert_eq!(count(&server, ALICE), 85 + 1);
}

/// Keys of deliveries are kept until they are settled, and not with the account for ever.
#[test]
fn what_was_delivered_long_ago_makes_no_checkpoint_longer() {
    const MESSAGES: usize = 200;
    let mut server = server("");
    fill(&server, 0, MESSAGES);
    server.stop();
    let accounts: Vec<u64> =
        ["00", "01"].iter().flat_map(|log| account_blobs(&log_dir(&server, log))).collect();
    // A key has 12 bytes.
    assert!(
        accounts.len() >= 2 && accounts.iter().all(|bytes| *bytes < 12 * MESSAGES as u64),
        "{accounts:?}"
    );
}

/// The lengths of what the index of a log has of accounts, as docs/storage.md draws it.
fn account_blobs(dir: &PathBuf) -> Vec<u64> {
    const HEADER: usize = 64;
    const ACCOUNT: u8 = 3;
    let index = files_in(dir).into_iter().find(|path| path.extension().is_some_and(|end| end == "idx"));
    let bytes = index.map(|path| fs::read(path).expect("readable")).unwrap_or_default();
    let headers =
        bytes.chunks_exact(HEADER).filter(|header| &header[4..8] == b"RPX1" && header[8] == ACCOUNT);
    headers.map(|header| u64::from_le_bytes(header[40..48].try_into().expect("eight bytes"))).collect()
}

/// Connections are taken before the server says that it is ready.
#[test]
fn who_takes_connections_is_stopped_in_good_order() {
    let mut server = server("");
    fill(&server, 0, 10);
    server.stop();
    for _ in 0..5 {
        let mut child = server.spawn(&["serve"]);
        let begun = Instant::now();
        let greets = || TcpStream::connect((server.address(), IMAP))?.read_exact(&mut [0; 4]);
        while greets().is_err() {
            assert!(begun.elapsed() < START_MAX, "nobody is greeted");
        }
        let told = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        let ended = child.wait().expect("it ends");
        assert!(told.success() && ended.success(), "{ended}");
        assert!(log_dir(&server, "00").join("closed").exists());
    }
}

#[test]
fn a_kill_after_a_checkpoint_costs_the_tail_alone() {
    let mut server = server(OFTEN);
    for round in 0..3 {
        fill(&server, round * 100, round * 100 + 80);
        if round == 0 {
            change(&server);
        }
        fill_to_checkpoint(&server);
        // Changes of all sorts that only the log knows.
        fill(&server, round * 100 + 80, round * 100 + 90);
        let mut imap = login(&server, ALICE);
        imap.ok(&format!("CREATE later-{round}")).expect("created");
        imap.ok("SELECT INBOX").expect("selected");
        imap.ok(&format!("COPY 2:9 later-{round}")).expect("copied");
        imap.ok("STORE 3:12 +FLAGS (\\Answered later)").expect("stored");
        imap.ok("STORE 1 +FLAGS (\\Deleted)").expect("stored");
        imap.ok("EXPUNGE").expect("expunged");
        let before = state(&server);
        server.kill();
        server.start();
        assert_eq!(state(&server), before, "round {round}");
        let (records, with_checkpoint) = read_back(&server)[0];
        assert!(with_checkpoint && records < 200, "{records} records; log:\n{}", server.log());
    }
}

#[test]
fn an_index_that_is_not_good_is_made_again_from_the_log() {
    let (mut server, before) = stopped_with_checkpoint();
    let old = index_files(&server).into_iter().map(|path| (fs::read(&path).expect("read"), path));
    let old: Vec<(Vec<u8>, PathBuf)> = old.collect();

    for path in index_files(&server) {
        fs::remove_file(path).expect("removed");
    }
    check_start(&mut server, &before, "deleted");
    server.stop();
    for path in index_files(&server) {
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_len(file.metadata().expect("metadata").len() / 2).expect("cut");
    }
    check_start(&mut server, &before, "cut");
    server.stop();
    for path in index_files(&server) {
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        for at in (0..file.metadata().expect("metadata").len()).step_by(2000) {
            file.write_all_at(b"\xa5", at).expect("damaged");
        }
    }
    check_start(&mut server, &before, "damaged");

    // An older index with the log of now, and the index of another store.
    fill(&server, 300, 310);
    let before = state(&server);
    server.stop();
    index_files(&server).into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
    old.iter().for_each(|(bytes, path)| fs::write(path, bytes).expect("written"));
    check_start(&mut server, &before, "older");
    let mut other = self::server(OFTEN);
    fill(&other, 0, 20);
    other.stop();
    server.stop();
    for (ours, theirs) in ["00", "01"].map(|log| (log_dir(&server, log), log_dir(&other, log))) {
        for file in files_in(&ours).into_iter().filter(|path| is_index(path)) {
            fs::remove_file(file).expect("removed");
        }
        for file in files_in(&theirs).into_iter().filter(|path| is_index(path)) {
            fs::copy(&file, ours.join(file.file_name().expect("a name"))).expect("copied");
        }
    }
    check_start(&mut server, &before, "foreign");
}

#[test]
fn mailboxes_that_are_damaged_in_the_index_are_made_again_from_the_log_in_the_middle_of_work() {
    let (mut server, before) = stopped_with_checkpoint();
    let remade = |server: &Server| server.log().matches("a mailbox is made again from the log").count();

    assert!(damage_states(&server) >= 4, "each account has several mailboxes");
    server.start();
    assert_eq!(state(&server), before, "log:\n{}", server.log());
    server.stop();
    let times = remade(&server);
    assert!(times >= 4, "log:\n{}", server.log());
    check_start(&mut server, &before, "damaged states");
    assert_eq!(remade(&server), times, "each once; log:\n{}", server.log());

    // Changed by the log behind the checkpoint, and by who comes first after the start.
    fill_to_checkpoint(&server);
    fill(&server, 400, 420);
    let before = state(&server);
    server.kill();
    damage_states(&server);
    server.start();
    assert_eq!(state(&server), before, "log:\n{}", server.log());
    assert!(read_back(&server).iter().all(|(_, with_checkpoint)| *with_checkpoint));
    change_more(&server);
    fill(&server, 420, 430);
    let before = state(&server);
    assert!(remade(&server) > times, "log:\n{}", server.log());
    server.stop();
    check_start(&mut server, &before, "changed after it was made again");
}

/// A bad place in the log beside that in the index costs what stood there.
#[test]
fn a_mailbox_that_is_damaged_in_the_index_and_in_the_log_lacks_what_is_lost_and_nothing_else() {
    let mut server = server(OFTEN);
    fill(&server, 0, 90);
    fill_to_checkpoint(&server);
    let before = [ALICE, BOB].map(|account| uids(&server, account));
    server.stop();
    damage_states(&server);
    for log in ["00", "01"] {
        let segment = log_dir(&server, log).join("0000000001.seg");
        let used = fs::read(&segment).expect("read").iter().rposition(|&byte| byte != 0).expect("it is used");
        let file = fs::OpenOptions::new().write(true).open(&segment).expect("opened");
        file.write_all_at(&[0xa5; 4096], used as u64 / 2).expect("damaged");
    }
    server.start();
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_counted = |account: &&str| uids(&server, account).len() == count(&server, account);
    while ![ALICE, BOB].iter().all(is_counted) {
        assert!(Instant::now() < deadline, "STATUS says otherwise; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.log().contains("these records are damaged and lost"), "log:\n{}", server.log());
    let left = [ALICE, BOB].map(|account| uids(&server, account));
    assert!(left.concat().len() < before.concat().len(), "something was lost");
    for (before, left) in before.iter().zip(&left) {
        assert!(left.len() > before.len() / 2 && left.iter().all(|uid| before.contains(uid)), "{left:?}");
    }
    fill(&server, 500, 503);
    let left = [ALICE, BOB].map(|account| uids(&server, account));
    server.stop();
    server.start();
    assert_eq!([ALICE, BOB].map(|account| uids(&server, account)), left);
    assert!(read_back(&server).iter().all(|(_, with_checkpoint)| *with_checkpoint));
}

fn uids(server: &Server, account: &str) -> Vec<u32> {
    let mut imap = login(server, account);
    imap.ok("SELECT INBOX").expect("selected");
    let found = imap.ok("UID SEARCH ALL").expect("searched");
    let found = found.iter().find_map(|response| response.text.strip_prefix("* SEARCH")).expect("UIDs");
    found.split_whitespace().map(|uid| uid.parse().expect("a number")).collect()
}

/// Turns a bit around in what the indexes have of each mailbox; says in how many.
fn damage_states(server: &Server) -> usize {
    const HEADER_BYTES: usize = 64;
    const STATE: u8 = 2;
    let mut times = 0;
    for path in index_files(server) {
        let bytes = fs::read(&path).expect("read");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        for (number, block) in bytes.chunks_exact(HEADER_BYTES).enumerate() {
            if block[4..9] == [b"RPX1".as_slice(), &[STATE]].concat() {
                let at = (number + 1) * HEADER_BYTES + 9;
                file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("damaged");
                times += 1;
            }
        }
    }
    times
}

fn change_more(server: &Server) {
    let mut imap = login(server, ALICE);
    for command in ["SELECT INBOX", "STORE 1:9 -FLAGS (\\Seen)", "STORE 4 +FLAGS (\\Deleted)", "EXPUNGE"] {
        imap.ok(command).expect("done");
    }
}

/// A server whose index has everything, and what is in it.
fn stopped_with_checkpoint() -> (Server, Vec<String>) {
    let mut server = server(OFTEN);
    fill(&server, 0, 90);
    change(&server);
    fill_to_checkpoint(&server);
    let before = state(&server);
    server.stop();
    (server, before)
}

fn server(more: &str) -> Server {
    let mut server = Server::prepare(2, more);
    server.add_account(ALICE);
    server.add_account(BOB);
    server.start();
    server
}

/// Starts on whatever index there is, and once more on the one that was made of it.
fn check_start(server: &mut Server, before: &[String], what: &str) {
    server.start();
    assert_eq!(state(server), before, "{what}; log:\n{}", server.log());
    server.stop();
    server.start();
    assert_eq!(state(server), before, "{what}, again");
    assert!(read_back(server).iter().all(|(_, with_checkpoint)| *with_checkpoint), "{what}");
}

fn fill(server: &Server, from: usize, to: usize) {
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    let before = [ALICE, BOB].map(|account| count(server, account));
    for number in from..to {
        let text = message(number, 1500 + 100 * (number % 7));
        assert!(smtp.message(SENDER, &[ALICE, BOB], &text).expect("a reply"), "a 250");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for (account, before) in [ALICE, BOB].into_iter().zip(before) {
        while count(server, account) < before + (to - from) {
            assert!(Instant::now() < deadline, "{account} lacks mail; log:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Flags, keywords, expunges, mailboxes and subscriptions.
fn change(server: &Server) {
    let mut imap = login(server, ALICE);
    for command in [
        "CREATE work",
        "CREATE gone",
        "CREATE work/inner",
        "SUBSCRIBE work",
        "SELECT INBOX",
        "COPY 1:20 work",
        "COPY 1:5 gone",
        "STORE 2:30 +FLAGS (\\Seen $Important)",
        "STORE 7:11 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "DELETE gone",
        "RENAME work/inner renamed",
    ] {
        imap.ok(command).expect("done");
    }
}

fn login(server: &Server, account: &str) -> Imap {
    Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login")
}

fn count(server: &Server, account: &str) -> usize {
    let status = login(server, account).ok("STATUS INBOX (MESSAGES)").expect("a status");
    let text = &status[0].text;
    text.rsplit(['(', ' ', ')']).find_map(|word| word.parse().ok()).expect("a number")
}

/// Everything of all mailboxes that must not change by a start.
fn state(server: &Server) -> Vec<String> {
    let mut lines = Vec::new();
    for account in [ALICE, BOB] {
        let mut imap = login(server, account);
        let listed = imap.ok("LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE)").expect("a list");
        let names = listed.iter().filter_map(|response| response.text.strip_prefix("* LIST "));
        let names: Vec<String> = names.filter_map(|rest| Some(rest.rsplit_once(' ')?.1.to_owned())).collect();
        lines.extend(listed.iter().map(|response| response.text.clone()));
        for name in names {
            let items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE";
            let status = imap.ok(&format!("STATUS {name} ({items})")).expect("a status");
            lines.push(status[0].text.clone());
            // Told once, a message is not recent any more.
            imap.ok(&format!("SELECT {name} (CONDSTORE)")).expect("selected");
            imap.ok(&format!("SELECT {name} (CONDSTORE)")).expect("selected");
            let fetch = "UID FETCH 1:* (FLAGS MODSEQ INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)";
            for response in imap.ok(fetch).expect("fetched") {
                let literals = response.literals.iter().map(|text| String::from_utf8_lossy(text));
                lines.push(literals.fold(response.text.clone(), |line, text| line + &text));
            }
        }
    }
    lines.retain(|line| line.starts_with('*'));
    assert!(lines.iter().filter(|line| line.contains("BODYSTRUCTURE")).count() > 50, "there is mail");
    lines
}

/// What the last start read of each log: records, and whether a checkpoint came before them.
fn read_back(server: &Server) -> Vec<(usize, bool)> {
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a log was read back")).collect();
    let plain = |line: &str| line.replace("\u{1b}[3m", "").replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
    let found = lines[lines.len() - 2..].iter().map(|line| {
        let line = plain(line);
        let records = line.split("records=").nth(1).and_then(|rest| rest.split(' ').next());
        (
            records.and_then(|count| count.parse().ok()).expect("a number"),
            line.contains("with_checkpoint=true"),
        )
    });
    found.collect()
}

/// Sends more until a checkpoint has all that was there before.
fn fill_to_checkpoint(server: &Server) {
    let before = SystemTime::now();
    let root = log_dir(server, "00").join("index.root");
    let deadline = Instant::now() + CHECKPOINT_MAX;
    while !fs::metadata(&root).and_then(|found| found.modified()).is_ok_and(|written| written > before) {
        assert!(Instant::now() < deadline, "no checkpoint was written; log:\n{}", server.log());
        fill(server, 0, 5);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn log_dir(server: &Server, log: &str) -> PathBuf {
    server.data().join("log").join(log)
}

fn files_in(dir: &PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the log's folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn is_index(path: &Path) -> bool {
    path.ends_with("index.root") || path.extension().is_some_and(|extension| extension == "idx")
}

fn index_files(server: &Server) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        ["00", "01"].iter().flat_map(|log| files_in(&log_dir(server, log))).collect();
    files.retain(|path| is_index(path));
    assert!(!files.is_empty(), "there is an index");
    files
}
