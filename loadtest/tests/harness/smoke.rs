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
    with(&["-s", "5", "-m", "100", "-d", "--pipeline=ahead"]);
    with(&["-s", "2", "-m", "20", "--pipeline", "--bdat", "--starttls"]);
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
