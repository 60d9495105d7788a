//! The servers of the comparison, each driven by a script of `peers/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    Ringpost,
    Postfix,
    Exim,
    OpenSmtpd,
    DovecotMaildir,
    DovecotSdbox,
    /// Dovecot with maildir, whose idle sessions move into one process.
    DovecotHibernate,
}

/// What is started, and how; see `peers/common.sh`.
#[derive(Clone, Debug)]
pub struct Setup {
    pub mode: Mode,
    /// To listen on; each server has one of its own.
    pub address: Option<IpAddr>,
    pub accounts: usize,
    /// Further accounts, by the part before the @.
    pub names: Vec<String>,
    /// Processors to run on, as taskset(1) lists them; all without.
    pub cpus: Option<String>,
    pub cores: usize,
    pub connections: usize,
    /// Whether Dovecot remembers passwords.
    pub auth_cache: AuthCache,
    /// Of all passwords; without it the cheapest that the server knows.
    pub hash: Option<String>,
    pub sink: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthCache {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Accept,
    Relay,
    Mailbox,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Killed,
}

/// Where the scripts are, and what they run.
#[derive(Clone, Debug)]
pub struct Scripts {
    pub folder: PathBuf,
    pub program: PathBuf,
}

/// A server that runs; it is stopped when this is dropped.
pub struct Running {
    scripts: Scripts,
    server: Server,
    folder: PathBuf,
    pub pid: u32,
    /// From the program's start to its first greeting.
    pub started_us: f64,
    ports: BTreeMap<String, SocketAddr>,
}

pub const DOMAIN: &str = "load.test";
pub const PASSWORD: &str = "a password for the load";

impl Server {
    pub const ALL: [Self; 7] = [
        Self::Ringpost,
        Self::Postfix,
        Self::Exim,
        Self::OpenSmtpd,
        Self::DovecotMaildir,
        Self::DovecotSdbox,
        Self::DovecotHibernate,
    ];

    /// As a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringpost => "Ringpost",
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::OpenSmtpd => "OpenSMTPD",
            Self::DovecotMaildir => "Dovecot maildir",
            Self::DovecotSdbox => "Dovecot sdbox",
            Self::DovecotHibernate => "Dovecot hibernated",
        }
    }

    /// Whether a 250 says that mail is on the disk.
    pub fn syncs(self) -> bool {
        self != Self::OpenSmtpd
    }

    /// What is on the disk when it says 250 or OK. The scripts say it at length.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Ringpost | Self::Postfix | Self::Exim => "synced",
            Self::OpenSmtpd => "not synced",
            Self::DovecotMaildir | Self::DovecotSdbox | Self::DovecotHibernate => "messages synced",
        }
    }

    /// The name, with the promise.
    pub fn label(self) -> String {
        format!("{} ({})", self.name(), self.promise())
    }

    /// As a folder is called.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ringpost => "ringpost",
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::OpenSmtpd => "opensmtpd",
            // One set of mailboxes for both.
            Self::DovecotMaildir | Self::DovecotHibernate => "dovecot-maildir",
            Self::DovecotSdbox => "dovecot-sdbox",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::DovecotMaildir | Self::DovecotSdbox | Self::DovecotHibernate => "dovecot",
            other => other.key(),
        }
    }

    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::DovecotMaildir => &[("PEER_FORMAT", "maildir")],
            Self::DovecotSdbox => &[("PEER_FORMAT", "sdbox")],
            Self::DovecotHibernate => &[("PEER_FORMAT", "maildir"), ("PEER_HIBERNATE", "yes")],
            _ => &[],
        }
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Relay => "relay",
            Self::Mailbox => "mailbox",
        }
    }
}

impl Setup {
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PEER_MODE", self.mode.name().to_owned()),
            ("PEER_ACCOUNTS", self.accounts.to_string()),
            ("PEER_NAMES", self.names.join(" ")),
            ("PEER_CORES", self.cores.to_string()),
            ("PEER_CONNECTIONS", self.connections.to_string()),
            ("PEER_SINK", self.sink.to_string()),
        ];
        if self.auth_cache == AuthCache::On {
            variables.push(("PEER_AUTH_CACHE", "yes".to_owned()));
        }
        variables.extend(self.address.map(|address| ("PEER_ADDRESS", address.to_string())));
        variables.extend(self.cpus.clone().map(|cpus| ("PEER_CPUS", cpus)));
        variables.extend(self.hash.clone().map(|hash| ("PEER_HASH", hash)));
        variables
    }
}

impl Scripts {
    pub fn install(&self, server: Server) -> io::Result<()> {
        self.run(server, &["install"], &[]).map(drop)
    }

    /// Such as `Postfix 3.7.11`.
    pub fn version(&self, server: Server) -> io::Result<String> {
        Ok(self.run(server, &["version"], &[])?.trim().to_owned())
    }

    /// What a 250 or OK promises there.
    pub fn durability(&self, server: Server) -> io::Result<String> {
        Ok(self.run(server, &["durability"], &[])?.trim().to_owned())
    }

    /// Starts it with what is in the folder.
    pub fn start(&self, server: Server, folder: &Path, setup: &Setup) -> io::Result<Running> {
        fs::create_dir_all(folder)?;
        let said = self.run(server, &["start", text(folder)?], &setup.variables())?;
        let (mut pid, mut started_us, mut ports) = (None, 0.0, BTreeMap::new());
        for (name, value) in said.lines().filter_map(|line| line.split_once(' ')) {
            match name {
                "pid" => pid = value.parse().ok(),
                "started_us" => started_us = value.parse().map_err(io::Error::other)?,
                _ => {
                    ports.insert(name.to_owned(), value.parse().map_err(io::Error::other)?);
                }
            }
        }
        let pid =
            pid.ok_or_else(|| io::Error::other(format!("{} did not say its process", server.name())))?;
        Ok(Running { scripts: self.clone(), server, folder: folder.to_owned(), pid, started_us, ports })
    }

    /// Puts the messages of a Maildir into the INBOX of an account of a running server.
    pub fn fill(&self, server: Server, folder: &Path, account: &str, maildir: &Path) -> io::Result<()> {
        self.run(server, &["fill", text(folder)?, account, text(maildir)?], &[]).map(drop)
    }

    /// Deletes what the server keeps beside an account's mail to find things faster.
    pub fn forget(&self, server: Server, folder: &Path, account: &str) -> io::Result<()> {
        self.run(server, &["forget", text(folder)?, account], &[]).map(drop)
    }

    /// Ends what runs in a folder, if anything does.
    pub fn stop(&self, server: Server, folder: &Path, end: End) -> io::Result<()> {
        let kill = if end == End::Killed { "yes" } else { "no" };
        let variables = [("PEER_KILL", kill.to_owned())];
        self.run(server, &["stop", text(folder)?], &variables).map(drop)
    }

    fn run(&self, server: Server, arguments: &[&str], variables: &[(&str, String)]) -> io::Result<String> {
        let script = self.folder.join(server.script());
        let output = Command::new(&script)
            .args(arguments)
            .env("PEER_PROGRAM", &self.program)
            .envs(server.variables().iter().copied())
            .envs(variables.iter().map(|(name, value)| (name, value.as_str())))
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(format!(
                "{} {}: {}",
                script.display(),
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }
}

impl Running {
    pub fn server(&self) -> Server {
        self.server
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it speaks `smtp`, `imaps`, ...
    pub fn port(&self, protocol: &str) -> io::Result<SocketAddr> {
        let port = self.ports.get(protocol).copied();
        port.ok_or_else(|| io::Error::other(format!("{} does not speak {protocol}", self.server.name())))
    }

    pub fn stop(self, end: End) -> io::Result<()> {
        self.end(end)
    }

    fn end(&self, end: End) -> io::Result<()> {
        self.scripts.stop(self.server, &self.folder, end)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` there is nothing left to do, and the script says so by doing nothing.
        if let Err(error) = self.end(End::Clean) {
            eprintln!("{error}");
        }
    }
}

pub fn account(number: usize) -> String {
    format!("user{number}@{DOMAIN}")
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other(format!("{} is no text", path.display())))
}
