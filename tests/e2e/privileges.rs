//! Started as root, and root no more: who the server is, whose its files are, and which places it refuses.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use ringpost::io::privilege::{User, is_root};
use tempfile::TempDir;

use crate::client::Smtp;
use crate::flow::{message, wait_for};
use crate::server::Server;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const SENDER: &str = "sender@elsewhere.test";

/// A user that every Linux has, and that nothing else belongs to.
const USER: &str = "nobody";

/// A server that is to become [`USER`], in a folder that this user can enter, and that user; its data directory is not
/// made. `None`, with a message, where tests do not run as root.
fn prepared(more: &str) -> Option<(TempDir, Server, User)> {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    let user = User::named(USER).expect("users can be looked up").expect("there is this user");
    let folder = TempDir::new().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let server = Server::prepare_in(folder.path(), 2, &format!("user = \"{USER}\"\n{more}"));
    Some((folder, server, user))
}

fn make_data(server: &Server, owner: u32, mode: u32) {
    fs::create_dir(server.data()).expect("made");
    chown(server.data(), Some(owner), None).expect("given");
    fs::set_permissions(server.data(), Permissions::from_mode(mode)).expect("set");
}

/// An address that no other test's server has, for a port that only root can have.
fn low_address() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 200, high, low.max(1))
}

/// What the kernel says of each thread of the server.
fn assert_all_threads_are(server: &Server, user: &User) {
    let tasks = format!("/proc/{}/task", server.process_id());
    let mut count = 0;
    for task in fs::read_dir(tasks).expect("the server runs") {
        let path = task.expect("a thread").path().join("status");
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(path) else {
            continue;
        };
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(value("Uid:"), vec![user.uid.to_string(); 4], "{status}");
        assert_eq!(value("Gid:"), vec![user.gid.to_string(); 4], "{status}");
        assert_eq!(value("Groups:"), [user.gid.to_string()], "{status}");
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(value(name), ["0000000000000000"], "{status}");
        }
        assert_eq!(value("NoNewPrivs:"), ["1"], "{status}");
        count += 1;
    }
    assert!(count > 4, "two shards have more threads than {count}");
}

/// The number of files and folders at and below a path, all of which belong to a user.
fn count_of(path: &Path, uid: u32) -> usize {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    assert_eq!(metadata.uid(), uid, "{}", path.display());
    if !metadata.is_dir() {
        return 1;
    }
    let entries = fs::read_dir(path).expect("listed");
    1 + entries.map(|entry| count_of(&entry.expect("an entry").path(), uid)).sum::<usize>()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn root_is_given_up_for_good_and_mail_flows() {
    let low = low_address();
    let listener = format!("[[listener]]\nprotocol = \"smtp\"\naddress = \"{low}:25\"\n");
    let Some((_folder, mut server, user)) = prepared(&listener) else {
        return;
    };
    make_data(&server, user.uid, 0o755);
    server.add_account(ALICE);
    assert_eq!(mode(&server.data()), 0o700);
    assert!(count_of(&server.data(), user.uid) >= 3, "what a command of root's made is the user's");
    server.start();
    assert_all_threads_are(&server, &user);
    assert!(!server.log().contains("runs as root"), "{}", server.log());
    assert_eq!(mode(&server.data().join("control.sock")), 0o600);

    server.add_account(BOB);
    let mut smtp = Smtp::connect(low, 25).expect("the port under 1024 answers");
    // One of them has a file of its own.
    for (number, size) in [(1, 900), (2, 700_000)] {
        assert!(smtp.message(SENDER, &[ALICE, BOB], &message(number, size)).expect("a reply"));
    }
    wait_for(&server, BOB, 2);
    assert_all_threads_are(&server, &user);
    server.kill();

    server.done(&["store", "stats"]);
    server.done(&["store", "verify"]);
    server.done(&["events", "--cursor", "test", "--count", "1"]);
    let files = count_of(&server.data(), user.uid);
    assert!(files > 10, "{files} files");
    server.start();
    wait_for(&server, ALICE, 2);
    let bodies = {
        let mut imap = server.imap(ALICE);
        imap.ok("SELECT INBOX").expect("opens");
        imap.bodies().expect("bodies")
    };
    assert!(bodies.iter().any(|body| body.len() > 700_000), "the large one is whole");
    server.stop();
    count_of(&server.data(), user.uid);
}

/// What a command says that must fail, and its exit status.
#[test]
fn root_makes_backups_and_restores_them_as_the_user() {
    let Some((folder, server, user)) = prepared("") else {
        return;
    };
    make_data(&server, user.uid, 0o700);
    server.add_account(ALICE);
    let backup = folder.path().join("backup");
    let name = backup.to_str().expect("it is UTF-8");
    let (status, said) = refusal(&server, &["backup", name]);
    assert!(status == Some(3) && said.contains("install -d -m 700 -o nobody"), "{said}");
    fs::create_dir(&backup).expect("made");
    chown(&backup, Some(user.uid), None).expect("given");
    server.done(&["backup", name]);
    assert!(count_of(&backup, user.uid) > 5);
    fs::rename(server.data(), folder.path().join("old")).expect("moved");
    make_data(&server, user.uid, 0o700);
    server.done(&["restore", name]);
    assert!(count_of(&server.data(), user.uid) > 10);
    assert!(server.done(&["account", "list"]).contains(ALICE));
}

fn refusal(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let output = server.command(arguments, b"");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_place_of_somebody_else_is_refused_with_what_to_type() {
    let Some((folder, server, user)) = prepared("") else {
        return;
    };
    let data = server.data();
    let data_name = data.display();
    for arguments in [&["serve"][..], &["account", "list"]] {
        let (status, said) = refusal(&server, arguments);
        assert!(status == Some(3) && said.contains("install -d -m 700 -o nobody"), "{said}");
        assert!(!data.exists());

        make_data(&server, 0, 0o700);
        let (status, said) = refusal(&server, arguments);
        assert!(status == Some(3) && said.contains("belongs to root"), "{said}");
        assert!(said.contains(&format!("chown -R nobody: {data_name}")), "{said}");

        chown(&data, Some(user.uid), None).expect("given");
        fs::set_permissions(&data, Permissions::from_mode(0o777)).expect("set");
        let (status, said) = refusal(&server, arguments);
        assert!(status == Some(3) && said.contains(&format!("chmod 700 {data_name}")), "{said}");
        assert_eq!(fs::read_dir(&data).expect("listed").count(), 0, "nothing was made");
        fs::remove_dir(&data).expect("removed");
    }
    make_data(&server, user.uid, 0o700);
    let config = fs::read_to_string(server.config_path()).expect("read");
    let configure = |text: &str| fs::write(server.config_path(), text).expect("written");
    configure(&config.replace(&format!("user = \"{USER}\"\n"), ""));
    let (status, said) = refusal(&server, &["account", "list"]);
    assert!(status == Some(3) && said.contains("belongs to nobody"), "{said}");
    configure(&config.replace(USER, "nosuchuser"));
    for arguments in [&["serve"][..], &["account", "list"]] {
        let (status, said) = refusal(&server, arguments);
        assert!(status == Some(1) && said.contains("useradd"), "{said}");
    }
    assert_eq!(fs::read_dir(&data).expect("listed").count(), 0, "nothing was made");
    drop(folder);
}

#[test]
fn root_without_a_user_is_warned_and_a_second_server_is_told_why() {
    let server = Server::with_accounts(&[ALICE]);
    assert_eq!(server.log().contains("name another user with `user`"), is_root(), "{}", server.log());
    let (status, said) = refusal(&server, &["serve"]);
    assert!(status == Some(3) && said.contains("another process uses"), "{said}");
}
