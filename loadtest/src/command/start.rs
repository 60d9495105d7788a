//! How long a server takes from its start to its first 250: after a clean stop, after kill -9, without its index.
//!
//! The server is a command line that stays in the foreground. It is started, and from that moment its SMTP port is
//! tried until it takes a whole message; then it is ended as the next start wants it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::command::Outcome;
use crate::imap::client::resolve;
use crate::record::{Record, duration};

#[derive(Args)]
pub struct Start {
    /// Where its SMTP is: host:port
    server: String,
    /// A recipient that it takes mail for.
    #[arg(long)]
    recipient: String,
    /// Files and folders that it can make again, such as indexes; without them that part is left out.
    #[arg(long)]
    index: Vec<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long)]
    json: Option<PathBuf>,
    /// The server's command line, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// How the server ended before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Clean,
    Killed,
    IndexDeleted,
}

/// A rebuild of an index reads all mail there is.
const START_MAX: Duration = Duration::from_secs(3600);

const TRY_EVERY: Duration = Duration::from_millis(1);

const STOP_MAX: Duration = Duration::from_secs(60);

impl Before {
    fn name(self) -> &'static str {
        match self {
            Self::Clean => "after a clean stop",
            Self::Killed => "after kill -9",
            Self::IndexDeleted => "without its index",
        }
    }
}

impl Start {
    pub fn run(&self) -> io::Result<Outcome> {
        let (host, port) = self.server.rsplit_once(':').ok_or_else(|| io::Error::other("host:port"))?;
        let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port} is no port")))?;
        let address = resolve(host, port)?;
        if TcpStream::connect(address).is_ok() {
            return Err(io::Error::other(format!("something listens at {address} already")));
        }
        let mut record = Record::new("start", "start", &self.command.join(" "), "");
        let began = Instant::now();
        // The first start may have to make everything; it is not measured.
        stop(self.start(address)?.0)?;
        for _ in 0..self.rounds {
            for before in [Before::Clean, Before::Killed, Before::IndexDeleted] {
                if before == Before::IndexDeleted && self.index.is_empty() {
                    continue;
                }
                let took = self.start_after(before, address)?;
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                record.latency.entry(before.name().to_owned()).or_default().record(nanos);
                record.counts.succeeded += 1;
                record.counts.started += 1;
            }
        }
        record.seconds = began.elapsed().as_secs_f64();
        for (name, spectrum) in &record.latency {
            let [low, middle, high] =
                [spectrum.min(), spectrum.percentile(50.0), spectrum.max()].map(duration);
            say!("first 250 {name}: {middle} (from {low} to {high}, {} times)", spectrum.count());
        }
        self.json.as_ref().map_or(Ok(()), |path| record.write(path))?;
        Ok(Outcome::Fine)
    }

    fn start_after(&self, before: Before, address: SocketAddr) -> io::Result<Duration> {
        // Whatever the last start left is brought into the state that is asked for.
        let child = self.start(address)?.0;
        match before {
            Before::Killed => kill(child)?,
            Before::Clean | Before::IndexDeleted => stop(child)?,
        }
        if before == Before::IndexDeleted {
            self.index.iter().try_for_each(remove)?;
        }
        let (child, took) = self.start(address)?;
        stop(child)?;
        Ok(took)
    }

    /// Starts the server and waits for its first 250 for a message.
    fn start(&self, address: SocketAddr) -> io::Result<(Child, Duration)> {
        let began = Instant::now();
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        loop {
            match send(address, &self.recipient) {
                Ok(()) => return Ok((child, began.elapsed())),
                Err(error) if began.elapsed() > START_MAX => return Err(error),
                Err(error) => {
                    if let Some(status) = child.try_wait()? {
                        return Err(io::Error::other(format!("the server ended with {status}: {error}")));
                    }
                    thread::sleep(TRY_EVERY);
                }
            }
        }
    }
}

/// One message, up to its 250.
fn send(address: SocketAddr, recipient: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(START_MAX))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let rcpt = format!("RCPT TO:<{recipient}>\r\n");
    let text = "From: a@load.test\r\nSubject: first\r\n\r\nfirst\r\n.\r\n";
    for (command, code) in [
        ("", "220"),
        ("EHLO load.test\r\n", "250"),
        ("MAIL FROM:<start@load.test>\r\n", "250"),
        (&rcpt, "250"),
        ("DATA\r\n", "354"),
        (text, "250"),
        ("QUIT\r\n", "221"),
    ] {
        reader.get_mut().write_all(command.as_bytes())?;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                _ if line.starts_with(code) => break,
                _ => return Err(io::Error::other(line.trim_end().to_owned())),
            }
        }
    }
    Ok(())
}

fn stop(mut child: Child) -> io::Result<()> {
    rustix::process::kill_process(pid_of(&child)?, rustix::process::Signal::TERM)?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > STOP_MAX {
            child.kill()?;
            return Err(io::Error::other("the server did not stop when it was asked to"));
        }
        thread::sleep(TRY_EVERY);
    }
    Ok(())
}

fn kill(mut child: Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

fn pid_of(child: &Child) -> io::Result<rustix::process::Pid> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without a number"))
}

fn remove(path: &PathBuf) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
