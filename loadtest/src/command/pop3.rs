//! POP3 sessions that fetch and delete, spelt as for rabid.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::command::Outcome;
use crate::cost::{Calls, Meter};
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::engine::{Clock, Effort, Ports, Waiting, run};
use crate::imap::client::resolve;
use crate::imap::profile::duration;
use crate::ledger::{Durability, Writer};
use crate::pop3::drive::{Drive, Found, Load};
use crate::pop3::session::{Listing, Plan};
use crate::record::{Record, SERVICE, summary};
use crate::say;

#[derive(Args)]
pub struct Pop3 {
    /// host:port
    server: String,
    /// A file with one user and password a line, with a space between them.
    users: Option<PathBuf>,
    /// A single user, instead of the file.
    #[arg(long)]
    user: Option<String>,
    #[arg(long, default_value = "")]
    pass: String,
    /// Sessions begun a minute; without it, as many as can be.
    #[arg(short = 'r')]
    per_minute: Option<u32>,
    /// Sessions at once.
    #[arg(short = 'p', default_value_t = 1)]
    sessions: usize,
    /// Messages fetched in a session at most.
    #[arg(short = 'c', default_value_t = 1_000_000)]
    messages: usize,
    /// Percentage of messages fetched, and of these the percentage deleted: `80:20`.
    #[arg(short = 'd', default_value = "100:0", value_parser = shares)]
    shares: (u32, u32),
    /// Percentage of sessions that use TLS, at --tls-port.
    #[arg(short = 's', default_value_t = 0)]
    tls_percent: u32,
    #[arg(long, default_value_t = 995)]
    tls_port: u16,
    /// Commands under way in a session at once; 1 waits for each reply.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// No UIDL and LIST before the messages.
    #[arg(long)]
    no_listing: bool,
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Ends after so many sessions.
    #[arg(long)]
    total: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes of the server, whose cost is measured with that of their children.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Where the server's data is, for the writes to its device.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Writes down each copy that came, for `verify`.
    #[arg(long)]
    ledger: Option<PathBuf>,
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Pop3 {
    pub fn run(&self) -> io::Result<Outcome> {
        let mut record = Record::new("pop3", "command", &self.server, "");
        let load = self.load()?;
        let meter = match self.pid.as_slice() {
            [] => None,
            pids => Some(Meter::start(pids, self.data.as_deref(), Calls::NotCounted)?),
        };
        let plan = Plan {
            window: self.window.max(1),
            messages: self.messages,
            download_percent: self.shares.0,
            delete_percent: self.shares.1,
            listing: if self.no_listing { Listing::None } else { Listing::Full },
        };
        let mut ports = Ports::new(Clock::start())?;
        let mut drive = Drive::new(load, plan, ports.now());
        let open = |path: &PathBuf| Writer::open(path, Durability::Buffered);
        drive.ledger = self.ledger.as_ref().map(open).transpose()?;
        let effort = run(&mut drive, &mut ports, Waiting::default())?;
        record.cost = meter.map(Meter::stop).transpose()?;
        fill(&mut record, &drive.found, effort);
        say::text(&summary(&record));
        drive.found.wrongs.iter().for_each(|what| eprintln!("{what}"));
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(match (record.health.is_valid(), drive.found.wrongs.is_empty()) {
            (false, _) => Outcome::Invalid,
            (true, false) => Outcome::Missed,
            (true, true) => Outcome::Fine,
        })
    }

    fn load(&self) -> io::Result<Load> {
        let (host, port) = self.server.rsplit_once(':').unwrap_or((&self.server, "110"));
        let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port} is no port")))?;
        Ok(Load {
            address: resolve(host, port)?,
            tls: Some(ClientTls::new("mail.load.test", Trust::Anyone, Handshake::Full)?),
            tls_address: resolve(host, self.tls_port)?,
            tls_percent: self.tls_percent,
            users: self.read_users()?,
            sessions: self.sessions.max(1),
            interval_ns: self.per_minute.map(|count| 60_000_000_000 / u64::from(count.max(1))),
            duration_ns: u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX),
            sessions_total: self.total,
            seed: self.seed,
        })
    }

    fn read_users(&self) -> io::Result<Vec<(String, String)>> {
        match (&self.user, &self.users) {
            (Some(user), _) => Ok(vec![(user.clone(), self.pass.clone())]),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)?;
                let user = |line: &str| {
                    let (name, pass) = line.trim().split_once(' ')?;
                    Some((name.to_owned(), pass.to_owned()))
                };
                Ok(text.lines().filter_map(user).collect())
            }
            (None, None) => Err(io::Error::other("a file of users, or --user")),
        }
    }
}

fn fill(record: &mut Record, found: &Found, effort: Effort) {
    record.counts = found.counts;
    record.seconds = found.elapsed_ns as f64 / 1e9;
    record.rate = found.counts.succeeded as f64 / record.seconds.max(1e-9);
    record.latency = found.latency.clone();
    record.latency.insert("session".to_owned(), found.session.clone());
    if let Some(retrieved) = found.latency.get("RETR") {
        record.latency.insert(SERVICE.to_owned(), retrieved.clone());
        let count = retrieved.count() as f64;
        record.figures.insert("messages_per_second".to_owned(), count / record.seconds.max(1e-9));
        if let Some(cost) = &record.cost {
            record.figures.insert("cpu_us_per_message".to_owned(), cost.cpu_us as f64 / count.max(1.0));
        }
    }
    record.figures.insert("sessions".to_owned(), found.sessions as f64);
    record.errors = found.errors.clone();
    record.health = effort.health(found.lag.percentile(99.0));
}

/// `80:20`, or `80`.
fn shares(text: &str) -> Result<(u32, u32), String> {
    let (download, delete) = text.split_once(':').unwrap_or((text, "0"));
    let percent = |word: &str| match word.trim_end_matches('%').parse() {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(format!("{word} is no percentage")),
    };
    Ok((percent(download)?, percent(delete)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_are_spelt_as_for_rabid() {
        assert_eq!(super::shares("80:20"), Ok((80, 20)));
        assert_eq!(super::shares("35"), Ok((35, 0)));
        assert!(super::shares("101").is_err());
    }
}
