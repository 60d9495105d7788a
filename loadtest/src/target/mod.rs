//! A server under test: started with data of its own on loopback, ended by its id.
//!
//! It listens on ports that were free a moment ago, so that any number of them run beside each other.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::interrupt::{Undo, undo_by};

pub const PASSWORD: &str = "a password for the load";
pub const DOMAIN: &str = "load.test";

/// Mail for this domain goes to the sink.
pub const SINK_DOMAIN: &str = "sink.test";
/// Nobody listens where this domain's mail goes.
pub const DEAD_DOMAIN: &str = "dead.test";

const CONFIG: &str = "ringpost.toml";

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub struct Server {
    program: PathBuf,
    child: Child,
    folder: TempDir,
    /// Of `child` and `folder`.
    undo: Undo,
    pub smtp: SocketAddr,
    pub imap: SocketAddr,
    pub pop3: SocketAddr,
    /// Bound and not listening: connections are refused, and nobody else gets it.
    _dead: OwnedFd,
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Shards.
    pub cores: usize,
    /// Named `user0@…` and so on.
    pub accounts: usize,
    /// Where mail for [`SINK_DOMAIN`] goes, if anywhere.
    pub sink: Option<SocketAddr>,
}

impl Server {
    /// Starts `program` as an operator would.
    pub fn start(program: &Path, setup: Setup) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let config = folder.path().join(CONFIG);
        let (smtp, imap, pop3) = (free_address()?, free_address()?, free_address()?);
        let (dead, dead_address) = refusing_address()?;
        let mut text = configuration(&folder.path().join("data"), setup.cores);
        write_listeners(&mut text, &[("smtp", smtp), ("imap", imap), ("pop3", pop3)]);
        let sink = setup.sink.map(|sink| (SINK_DOMAIN, sink));
        write_routes(&mut text, sink.into_iter().chain([(DEAD_DOMAIN, dead_address)]));
        fs::write(&config, text)?;
        for number in 0..setup.accounts {
            let mut add = Command::new(program)
                .args(["account", "add", &account(number), "--password-stdin", "--config"])
                .arg(&config)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()?;
            add.stdin.take().expect("standard input is a pipe").write_all(PASSWORD.as_bytes())?;
            if !add.wait()?.success() {
                return Err(io::Error::other("an account could not be added"));
            }
        }
        let child = serve(program, &config)?;
        let program = program.to_owned();
        let undo = undo_by(ending(&child, folder.path()));
        let mut server = Self { program, child, folder, undo, smtp, imap, pop3, _dead: dead };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Ends it with SIGKILL and starts it again. Says how long the start took until it was ready.
    pub fn restart_killed(&mut self) -> io::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        self.child = serve(&self.program, &self.folder.path().join(CONFIG))?;
        self.undo = undo_by(ending(&self.child, self.folder.path()));
        self.wait_until_ready()?;
        Ok(began.elapsed())
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let stdout = BufReader::new(self.child.stdout.take().expect("standard output is a pipe"));
        let is_ready = stdout.lines().map_while(Result::ok).any(|line| line.contains("ready"));
        match is_ready {
            true => Ok(()),
            false => Err(io::Error::other("the server ended before it was ready")),
        }
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What there is to be done in its place where nobody lives to do it.
fn ending(child: &Child, folder: &Path) -> impl FnOnce() + Send + 'static {
    let (pid, folder) = (Pid::from_child(child), folder.to_owned());
    move || {
        // What cannot be ended has ended, and what cannot be removed is for the next boot.
        let _ = kill_process(pid, Signal::KILL);
        let _ = fs::remove_dir_all(folder);
    }
}

fn serve(program: &Path, config: &Path) -> io::Result<Child> {
    Command::new(program)
        .args(["serve", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn account(number: usize) -> String {
    format!("user{number}@{DOMAIN}")
}

/// One that nobody listened on a moment ago.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((HOST, 0))?.local_addr()
}

/// One that refuses connections as long as the socket lives.
fn refusing_address() -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddr::from((HOST, 0)))?;
    let address = net::getsockname(&socket)?.try_into().map_err(io::Error::other)?;
    Ok((socket, address))
}

/// The release build beside this program.
pub fn default_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("ringpost")
}

/// Waits until a server accepts connections.
pub fn wait_for(address: SocketAddr) -> io::Result<()> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > patience => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn configuration(data: &Path, cores: usize) -> String {
    let mut text = format!(
        "data = {data:?}\nhostname = \"mail.load.test\"\ncores = {cores}\n\n[log]\nlevel = \"warn\"\n"
    );
    text.push_str("\n[limits]\nsessions_per_address = 100000\n\n[relay]\nallow = [\"127.0.0.0/8\"]\n");
    text
}

fn write_listeners(text: &mut String, listeners: &[(&str, SocketAddr)]) {
    for (protocol, address) in listeners {
        text.push_str(&format!(
            "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"starttls\"\n"
        ));
    }
}

fn write_routes<'a>(text: &mut String, routes: impl Iterator<Item = (&'a str, SocketAddr)>) {
    for (domain, to) in routes {
        text.push_str(&format!("\n[[route]]\ndomain = \"{domain}\"\nto = [\"{to}\"]\n"));
    }
}
