//! The real binary as a test starts, kills and starts it again: on a loopback address of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Imap, Pop3, Smtp};

/// A debug build on a busy machine still starts well within this.
pub const START_MAX: Duration = Duration::from_secs(60);
/// Of its log, when a test fails.
const LOG_LINES_SHOWN: usize = 40;

const STOP_MAX: Duration = Duration::from_secs(60);

pub const SMTP: u16 = 2525;
pub const SUBMISSION: u16 = 2587;
pub const SUBMISSIONS: u16 = 2465;
pub const IMAP: u16 = 2143;
pub const IMAPS: u16 = 2993;
pub const POP3: u16 = 2110;
pub const POP3S: u16 = 2995;

pub const PASSWORD: &str = "correct horse battery";

/// A server with data of its own.
pub struct Server {
    folder: PathBuf,
    /// Removes the folder, if it was made for this server.
    _temporary: Option<TempDir>,
    address: Ipv4Addr,
    cores: usize,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// Data and configuration for a server that is not started yet. `more` is added to the configuration.
    pub fn prepare(cores: usize, more: &str) -> Self {
        let folder = TempDir::new().expect("a folder for the test's data");
        let mut server = Self::prepare_in(folder.path(), cores, more);
        server._temporary = Some(folder);
        server
    }

    /// As [`Server::prepare`], in a folder that exists and will stay.
    pub fn prepare_in(folder: &Path, cores: usize, more: &str) -> Self {
        let server = Self {
            folder: folder.to_owned(),
            _temporary: None,
            address: own_address(),
            cores,
            environment: Vec::new(),
            child: None,
        };
        fs::write(server.config_path(), server.config(more)).expect("the configuration is written");
        server
    }

    /// A running server of two shards with these accounts, all with [`PASSWORD`].
    pub fn with_accounts(accounts: &[&str]) -> Self {
        let mut server = Self::prepare(2, "");
        for account in accounts {
            server.add_account(account);
        }
        server.start();
        server
    }

    pub fn add_account(&self, account: &str) {
        let output = self.command(&["account", "add", account, "--password-stdin"], PASSWORD.as_bytes());
        assert!(output.status.success(), "account add: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the server and waits for its word that it is ready.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let mut child = self
            .ringpost()
            .arg("serve")
            .arg("--config")
            .arg(self.config_path())
            .args(["--cores", &self.cores.to_string()])
            .stdout(Stdio::piped())
            .stderr(
                fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file"),
            )
            .spawn()
            .expect("the server's binary starts");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains("ready") {
                    let _ = ready.send(());
                }
            }
        });
        self.child = Some(child);
        if is_ready.recv_timeout(START_MAX).is_err() {
            panic!("the server did not get ready; its log:\n{}", self.log());
        }
    }

    /// The end that no one can prepare for: SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the server can be killed");
        child.wait().expect("the server has ended");
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let process = self.process_id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &process]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Waits for a server that was told to end; whether it ended well, and how long it took.
    pub fn wait_for_end(&mut self) -> (bool, Duration) {
        let mut child = self.child.take().expect("the server runs");
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            if let Some(status) = child.try_wait().expect("the server can be asked after") {
                return (status.success(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        panic!("the server did not stop; its log:\n{}", self.log());
    }

    /// A command of the command line that must succeed; what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A running server of two shards, with more in its configuration.
    pub fn configured(accounts: &[&str], more: &str) -> Self {
        let mut server = Self::prepare(2, more);
        accounts.iter().for_each(|account| server.add_account(account));
        server.start();
        server
    }

    pub fn imap(&self, account: &str) -> Imap {
        Imap::login(self.address, IMAP, account, PASSWORD).expect("IMAP login")
    }

    pub fn pop3(&self, account: &str) -> Pop3 {
        Pop3::login(self.address, POP3, account, PASSWORD).expect("POP3 login")
    }

    pub fn smtp(&self) -> Smtp {
        Smtp::connect(self.address, SMTP).expect("SMTP answers")
    }

    pub fn submission(&self, account: &str) -> Smtp {
        Smtp::submit(self.address, &self.data(), account, PASSWORD).expect("submission answers")
    }

    /// The polite end: SIGTERM; the exit status must be success, within a bound.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        let status = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        let (ended, has_ended) = channel();
        let waiting = std::thread::spawn(move || {
            let status = child.wait();
            let _ = ended.send(());
            (child, status)
        });
        if has_ended.recv_timeout(STOP_MAX).is_err() {
            panic!("the server did not stop; its log:\n{}", self.log());
        }
        let (_, status) = waiting.join().expect("the waiting thread ends");
        assert!(status.expect("the server was waited for").success(), "log:\n{}", self.log());
    }

    /// A variable of the server's environment from the next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Another number of cores from the next start on.
    pub fn set_cores(&mut self, cores: usize) {
        self.cores = cores;
    }

    /// Runs one of the command line's verbs on this server's configuration, with `input` at its standard input.
    pub fn command(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(arguments);
        child.stdin.take().expect("standard input is a pipe").write_all(input).expect("input is taken");
        child.wait_with_output().expect("the command ends")
    }

    /// As [`Server::command`], without waiting for its end.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.ringpost();
        command.args(arguments).arg("--config").arg(self.config_path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    }

    /// What became of a command that is to fail, and what it said; one that goes on, such as a server, is a failure.
    pub fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut child = self.spawn(arguments);
        let begun = Instant::now();
        while child.try_wait().expect("it can be asked after").is_none() {
            if begun.elapsed() > START_MAX {
                child.kill().expect("it can be killed");
                panic!("{arguments:?} is not refused");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().expect("it has ended");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.join("ringpost.toml")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        // It gathers lines for a moment before it writes them.
        std::thread::sleep(Duration::from_millis(100));
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn ringpost(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command.current_dir(&self.folder).envs(self.environment.iter().cloned());
        command
    }

    fn config(&self, more: &str) -> String {
        let listeners = [
            ("smtp", SMTP, "starttls"),
            ("submission", SUBMISSION, "starttls"),
            ("submission", SUBMISSIONS, "implicit"),
            ("imap", IMAP, "starttls"),
            ("imap", IMAPS, "implicit"),
            ("pop3", POP3, "starttls"),
            ("pop3", POP3S, "implicit"),
        ];
        let mut text = format!("data = {:?}\nhostname = \"mail.example.test\"\n", self.data());
        text.push_str(more);
        if !more.contains("[dns]") {
            // Nobody answers there: mail for other domains waits.
            text.push_str("\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout_s = 1\n");
        }
        for (protocol, port, tls) in listeners {
            let address = self.address;
            text.push_str(&format!(
                "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}:{port}\"\ntls = \"{tls}\"\n"
            ));
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("the server's last lines:\n{last}");
        }
    }
}

/// A loopback address that no other server of any running test has: from the process and a counter.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, high, middle, _] = (number / 254 * 256).to_be_bytes();
    let low = u8::try_from(1 + number % 254).expect("at most 254");
    Ipv4Addr::new(127, 64 | (high & 63), middle, low)
}
