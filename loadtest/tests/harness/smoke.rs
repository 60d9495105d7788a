//! The built server under the built harness: what it acknowledged came through to the sink, all of it, once.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loadtest::ledger::Durability;
use loadtest::record::Record;
use loadtest::sink::{Conduct, Sink};
use loadtest::target::{self, Setup};

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Beside the harness, if the workspace was built.
fn program() -> Option<PathBuf> {
    let path = Path::new(HARNESS).with_file_name("ringpost");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("RINGPOST_INTEROP").as_deref() != Ok("required"), "the server is not built");
    eprintln!("skipped: {} is not built; cargo build --workspace", path.display());
    None
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it has an address")
}

fn start(program: &Path, folder: &Path, smtp: SocketAddr, sink: SocketAddr) -> Server {
    let config = folder.join("ringpost.toml");
    let text = format!(
        "data = {:?}\nhostname = \"mail.load.test\"\ncores = 1\n\n[limits]\nsessions_per_address = 1000\n\n\
         [[listener]]\nprotocol = \"smtp\"\naddress = \"{smtp}\"\ntls = \"starttls\"\n\n\
         [relay]\nallow = [\"127.0.0.0/8\"]\n\n[[route]]\ndomain = \"sink.test\"\nto = [\"{sink}\"]\n",
        folder.join("data")
    );
    fs::write(&config, text).expect("the configuration is written");
    let mut child = Command::new(program)
        .args(["serve", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    assert!(stdout.lines().map_while(Result::ok).any(|line| line.contains("ready")), "it is ready");
    Server(child)
}

fn harness(arguments: &[&str]) -> String {
    let output = Command::new(HARNESS).args(arguments).output().expect("the harness runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // A busy machine may make the generator invalid; its messages are sent all the same.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{arguments:?}: {text}{errors}");
    text
}

#[test]
fn nothing_that_the_server_acknowledged_is_missing() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path of text").to_owned();
    let came = Some((folder.path().join("came"), Durability::Buffered));
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), came, 1).expect("a free port");
    let smtp = free_address();
    let server = start(&program, folder.path(), smtp, sink.address());
    let (to, pid) = (smtp.to_string(), server.0.id().to_string());
    let common = ["smtp", &to, "-t", "user%d@sink.test", "--users", "50", "--ledger", &path("sent")];
    let with = |more: &[&str]| harness(&[&common[..], more].concat());
    let measured = path("run.json");
    with(&["-s", "5", "-m", "200", "-d", "-r", "2", "--pid", &pid, "--json", &measured, "--size", "1k..20k"]);
    with(&["-s", "5", "-m", "100", "-d", "--pipeline"]);
    with(&["-s", "2", "-m", "20", "--pipeline=group", "--bdat", "--starttls"]);
    with(&["-s", "3", "-m", "50", "-d", "--rate", "200"]);
    let copies = 200 * 2 + 100 + 20 + 50;
    let patience = Instant::now() + Duration::from_secs(60);
    while sink.counts().copies.load(std::sync::atomic::Ordering::Relaxed) < copies
        && Instant::now() < patience
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    sink.stop().expect("its ledger is written");
    let slo = "missing==0,corrupted==0,duplicated==0";
    let verdict = harness(&["verify", &path("sent"), &path("came"), "--slo", slo, "--json", &measured]);
    assert!(verdict.contains("objective held"), "{verdict}");
    let record = Record::read(Path::new(&measured)).expect("a record");
    let ledger = record.ledger.expect("it was verified");
    assert_eq!((ledger.acknowledged, ledger.received), (copies, copies));
    assert_eq!((record.counts.succeeded, record.counts.failed), (200, 0), "{:?}", record.errors);
    assert!(record.cost.expect("the server was measured").cpu_us > 0);
}

#[test]
fn a_mailbox_is_measured_as_it_grows() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |path: &Path| path.to_str().expect("a path of text").to_owned();
    let (server, records) = (path(&program), path(folder.path()));
    let said = harness(
        &[
            &["sweep", "mailbox", "10..40", "--steps", "2", "--rounds", "1"][..],
            &[
                "--server",
                &server,
                "--records",
                &records,
                "--only",
                "select,status",
                "--slo=SELECT growth<1000",
            ],
        ]
        .concat(),
    );
    for words in ["growth from 10 to 40 messages", "POP3 UIDL", "objective held"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let record = Record::read(&folder.path().join("mailbox-40.json")).expect("a record");
    assert_eq!(record.latency["POP3 RETR"].count(), 20);
    assert_eq!(record.latency["STATUS"].count(), 20);
}

#[test]
fn users_look_into_their_folders() {
    let Some(program) = program() else { return };
    let setup = Setup { cores: 1, accounts: 3, sink: None };
    let server = target::Server::start(&program, setup).expect("the server starts");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path of text").to_owned();
    fs::write(path("profile"), PROFILE).expect("the profile is written");
    let [smtp, imap, pop3] =
        [server.smtp, server.imap, server.pop3].map(|address| address.port().to_string());
    harness(
        &[
            &["mix", "--profile", &path("profile"), "--pass", target::PASSWORD, "--json", &path("mix.json")]
                [..],
            &["--smtp-port", &smtp, "--imap-port", &imap, "--pop3-port", &pop3, "--duration=3s", "--fill"],
        ]
        .concat(),
    );
    let record = Record::read(Path::new(&path("mix-100.json"))).expect("a record");
    assert_eq!(record.counts.failed, 0, "{:?}", record.errors);
    for name in ["delivery", "imap MOVE", "imap FETCH folder", "imap FETCH older", "pop3 RETR"] {
        assert!(record.latency.contains_key(name), "{name} is not in {:?}", record.latency.keys());
    }
}

/// Hasty people: everything happens within a second.
const PROFILE: &str = "\
    total_user_count = 3\n user_zipf = 0.5\n folder_count = 3\n folder_zipf = 1\n message_zipf = 1\n\
    mailbox_messages = 5-20\n gate_imap_p50 = 60s\n\
    user hasty {\n username_format = user%n@load.test\n username_start_index = 0\n count = 100%\n\
    mail_inbox_delivery_interval = 200ms\n mail_session_length = 1s\n mail_action_delay = 50ms\n\
    mail_action_repeat_delay = 20ms\n mail_inbox_read_percentage = 100\n mail_inbox_move_percentage = 50\n\
    mail_inbox_reread_percentage = 100\n mail_folder_browse_percentage = 100\n}\n\
    client program {\n count = 67%\n imap_idle = yes\n login_interval = 1s\n\
    imap_fetch_immediate = UID FLAGS BODY.PEEK[HEADER.FIELDS (Message-ID)]\n}\n\
    client fetcher {\n count = 33%\n protocol = pop3\n pop3_keep_mails = no\n login_interval = 1s\n}\n";
