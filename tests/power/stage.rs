//! Where a server is tried: a file system on a disk of ours, the server that lives on it, and clients at work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cast::Kind;
use crate::device::{Device, FileSystem};
use crate::load::{Clients, Refusals};
use crate::remote::{Character, Remote};
use crate::servers::{MailServer, prepare};

/// A load's clients see the end of the server at once.
const CLIENTS_MAX: Duration = Duration::from_secs(60);

/// One file system, with the server that lives on it.
pub struct Stage {
    pub device: Device,
    pub server: Box<dyn MailServer>,
    pub remote: Remote,
    pub scratch: TempDir,
}

/// What clients are told besides the server's name.
#[derive(Clone, Copy)]
pub struct Load {
    /// No two loads on one store have the same.
    pub round: u64,
    /// Between two commands of a client.
    pub pause_ms: u64,
    pub refusals: Refusals,
    pub clients: Clients,
}

impl Stage {
    /// A new file system with a server that was never started.
    pub fn set(kind: Kind, fs: FileSystem) -> Result<Self, String> {
        let scratch = TempDir::new().expect("a folder for the test's data");
        let mut device = Device::make(fs, scratch.path())?;
        device.mount()?;
        let remote = Remote::start(Character::decent().with("CHUNKING"));
        let off_device = scratch.path().join("off");
        fs::create_dir(&off_device).expect("a folder beside the disk");
        let server = prepare(kind, &device.folder().join("server"), &off_device, &remote);
        Ok(Self { device, server, remote, scratch })
    }
}

/// The clients, in a process of their own.
pub fn start_clients(server: &dyn MailServer, ledger: &Path, load: Load) -> Child {
    let Load { round, pause_ms, refusals, clients } = load;
    let program: PathBuf = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["client", "--server", &server.kind().to_string()]);
    command.args(["--address", &server.address().to_string()]).arg("--ledger").arg(ledger);
    command.args(["--round", &round.to_string(), "--pause-ms", &pause_ms.to_string()]);
    command.args(["--refusals", refusals.word(), "--clients", clients.word()]);
    command.spawn().expect("this program can be started")
}

/// The server is gone; so are its clients, soon.
pub fn wait_for_clients(clients: &mut Child) {
    let begun = Instant::now();
    loop {
        if let Some(status) = clients.try_wait().expect("they were started here") {
            assert!(status.success(), "the clients failed: {status}");
            return;
        }
        if begun.elapsed() > CLIENTS_MAX {
            clients.kill().expect("they can be killed");
            panic!("the clients do not see that the server is gone");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
