//! A server under test: started with data of its own on loopback, ended by its id.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const SMTP: u16 = 2625;
pub const IMAP: u16 = 2243;
pub const PASSWORD: &str = "a password for the load";
pub const DOMAIN: &str = "load.test";

/// Mail for this domain goes to the sink.
pub const SINK_DOMAIN: &str = "sink.test";
/// Nobody listens where this domain's mail goes.
pub const DEAD_DOMAIN: &str = "dead.test";
pub const SINK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2726);
pub const DEAD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2727);

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts `program` as an operator would, with `accounts` accounts named `user0@…` and so on.
    pub fn start(program: &Path, cores: usize, accounts: usize) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let config = folder.path().join("ringpost.toml");
        fs::write(&config, configuration(&folder.path().join("data"), cores))?;
        for number in 0..accounts {
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
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let ready = stdout.lines().map_while(Result::ok).any(|line| line.contains("ready"));
        match ready {
            true => Ok(Self { child, folder }),
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

pub fn smtp_address() -> SocketAddr {
    SocketAddr::new(HOST, SMTP)
}

pub fn imap_address() -> SocketAddr {
    SocketAddr::new(HOST, IMAP)
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
    text.push_str("\n[limits]\nsessions_per_address = 100000\n");
    for (protocol, port) in [("smtp", SMTP), ("imap", IMAP)] {
        text.push_str(&format!(
            "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{HOST}:{port}\"\ntls = \"starttls\"\n"
        ));
    }
    text.push_str("\n[relay]\nallow = [\"127.0.0.0/8\"]\n");
    for (domain, to) in [(SINK_DOMAIN, SINK), (DEAD_DOMAIN, DEAD)] {
        text.push_str(&format!("\n[[route]]\ndomain = \"{domain}\"\nto = [\"{to}\"]\n"));
    }
    text
}
