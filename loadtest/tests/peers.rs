//! The scripts of `peers/`: each server starts in a folder of its own, does its work, keeps its word about syncs, and
//! ends.
//!
//! They need root, and what `peers/NAME install` installs; elsewhere they are skipped.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadtest::compare::server::{AuthCache, End, Mode, PASSWORD, Running, Scripts, Server, Setup, account};
use loadtest::cost::{Calls, Meter};
use loadtest::imap::client::Login;
use loadtest::imap::fill;
use loadtest::imap::options::Security;
use tempfile::TempDir;

const MESSAGES: u64 = 20;

fn scripts() -> Scripts {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    // Of our own server nothing is started here: another crate builds it.
    Scripts { folder, program: PathBuf::from("ringpost") }
}

/// `None` where it cannot run. What is required and missing fails.
fn ready(server: Server) -> Option<Scripts> {
    let scripts = scripts();
    let is_root = rustix::process::geteuid().is_root();
    let why = match scripts.version(server) {
        Ok(_) if is_root => return Some(scripts),
        Ok(_) => "it needs root".to_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("RINGPOST_INTEROP").is_ok_and(|value| value == "required");
    assert!(!required, "{} is required here: {why}", server.name());
    eprintln!("skipped: {}: {why}", server.name());
    None
}

/// On an address that nothing else here listens on.
fn setup(mode: Mode, number: u8) -> Setup {
    Setup {
        mode,
        address: Some(Ipv4Addr::new(127, 72, number, 1).into()),
        accounts: 3,
        names: vec!["box".to_owned()],
        cpus: None,
        cores: 2,
        connections: 50,
        hash: None,
        auth_cache: AuthCache::Off,
        sink: SocketAddr::from((Ipv4Addr::new(127, 72, 9, 1), 2525)),
    }
}

/// Sends messages in one session, each of which must be taken.
fn send(to: SocketAddr, messages: u64) {
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time is set");
    let mut output = stream.try_clone().expect("a stream can be shared");
    let mut input = BufReader::new(stream);
    let mut expect = |code: &str| loop {
        let mut line = String::new();
        input.read_line(&mut line).expect("it answers");
        assert!(line.starts_with(code), "{line:?} where {code} was expected");
        if line.as_bytes().get(3) == Some(&b' ') {
            break;
        }
    };
    expect("220");
    let mut say = |command: &str, code: &str| {
        output.write_all(command.as_bytes()).expect("it reads");
        expect(code);
    };
    say("EHLO client.load.test\r\n", "250");
    for number in 0..messages {
        say("MAIL FROM:<sender@load.test>\r\n", "250");
        say(&format!("RCPT TO:<{}>\r\n", account(0)), "250");
        say("DATA\r\n", "354");
        say(&format!("Subject: {number}\r\n\r\nIt works.\r\n.\r\n"), "250");
    }
    say("QUIT\r\n", "221");
}

fn is_listening(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// Syncs while messages are accepted, if this machine lets us count them.
fn syncs(running: &Running, folder: &Path) -> Option<u64> {
    // The first message may wait for processes that are yet to be made.
    let to = running.port("smtp").expect("it speaks SMTP");
    send(to, 1);
    let meter = Meter::start(&[running.pid], Some(folder), Calls::Counted).expect("it lives");
    send(to, MESSAGES);
    meter.stop().expect("it was measured").syncs
}

fn keeps_its_word(server: Server, number: u8) {
    let Some(scripts) = ready(server) else {
        return;
    };
    let folder = TempDir::new().expect("there is room for a folder");
    let running = scripts.start(server, folder.path(), &setup(Mode::Accept, number)).expect("it starts");
    let address = running.port("smtp").expect("it speaks SMTP");
    assert!(running.started_us > 0.0);
    let durability = scripts.durability(server).expect("it is said");
    assert_eq!(durability.starts_with("synced before 250"), server.syncs(), "{durability}");
    if let Some(syncs) = syncs(&running, folder.path()) {
        match server.syncs() {
            true => assert!(syncs >= MESSAGES, "{durability}, but {syncs} syncs for {MESSAGES} messages"),
            false => assert_eq!(syncs, 0, "{durability}"),
        }
    }
    running.stop(End::Clean).expect("it ends");
    assert!(!is_listening(address));
}

#[test]
fn postfix_syncs_what_it_accepts() {
    keeps_its_word(Server::Postfix, 1);
}

#[test]
fn exim_syncs_what_it_accepts() {
    keeps_its_word(Server::Exim, 2);
}

#[test]
fn opensmtpd_does_not_sync_what_it_accepts() {
    keeps_its_word(Server::OpenSmtpd, 3);
}

/// A Maildir of ten messages.
fn maildir(folder: &Path) -> PathBuf {
    let maildir = folder.join("maildir");
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).expect("a folder is made");
    }
    for number in 0..10 {
        let text: Vec<u8> = fill::message(number, 1500).into_iter().filter(|byte| *byte != b'\r').collect();
        std::fs::write(maildir.join(format!("cur/{}.M{number}P1.load:2,", 1_700_000_000 + number)), text)
            .expect("a message is written");
    }
    maildir
}

fn count(running: &Running) -> usize {
    let login = Login {
        address: running.port("imap").expect("it speaks IMAP"),
        security: Security::Plain,
        user: "box@load.test".to_owned(),
        pass: PASSWORD.to_owned(),
    };
    fill::count(&login, "INBOX").expect("it can be selected")
}

/// Filled, killed, started again, its caches forgotten: the mail is there.
#[test]
fn dovecot_takes_mailboxes_in_both_formats() {
    // One after the other, since both listen on the same address.
    for server in [Server::DovecotMaildir, Server::DovecotSdbox] {
        let Some(scripts) = ready(server) else {
            return;
        };
        let folder = TempDir::new().expect("there is room for a folder");
        let maildir = maildir(folder.path());
        let setup = setup(Mode::Mailbox, 4);
        let running = scripts.start(server, folder.path(), &setup).expect("it starts");
        scripts.fill(server, folder.path(), "box@load.test", &maildir).expect("it is filled");
        assert_eq!(count(&running), 10, "{}", server.name());
        running.stop(End::Killed).expect("it is killed");
        scripts.forget(server, folder.path(), "box@load.test").expect("its caches go");
        let running = scripts.start(server, folder.path(), &setup).expect("it starts again");
        assert_eq!(count(&running), 10, "{}", server.name());
    }
}
