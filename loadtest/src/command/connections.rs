//! New connections: greeted and left, with a TLS handshake, with a login.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::command::Outcome;
use crate::connect::{Found, Plan, Protocol, Run};
use crate::cost::{Calls, Meter};
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::engine::{Clock, Effort, Ports, Waiting, run};
use crate::imap::client::resolve;
use crate::imap::profile::duration;
use crate::record::{Health, Record, SERVICE, summary};
use crate::say;

#[derive(Args)]
pub struct Connections {
    #[arg(value_enum)]
    protocol: Protocol,
    /// host:port
    server: String,
    /// TLS from the first byte; any certificate is taken.
    #[arg(long, value_enum)]
    tls: Option<Shake>,
    /// Logs in too, over IMAP and POP3; a %d is replaced by 1, 2 and so on up to --users.
    #[arg(long)]
    user: Option<String>,
    #[arg(long, default_value_t = 1)]
    users: usize,
    #[arg(long, default_value = "")]
    pass: String,
    /// Connections under way at once.
    #[arg(short = 's', long, default_value_t = 16)]
    sessions: usize,
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Processes of the server, whose cost is measured with that of their children.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shake {
    Full,
    Resumed,
}

impl Connections {
    pub fn run(&self) -> io::Result<Outcome> {
        let mut record = Record::new("connections", "connection", &self.server, "");
        let plan = self.plan()?;
        let meter = match self.pid.as_slice() {
            [] => None,
            pids => Some(Meter::start(pids, None, Calls::NotCounted)?),
        };
        let mut ports = Ports::new(Clock::start())?;
        let mut work = Run::new(plan, ports.now());
        let effort = run(&mut work, &mut ports, Waiting::default())?;
        record.cost = meter.map(Meter::stop).transpose()?;
        fill(&mut record, &work.found, effort);
        say::text(&summary(&record));
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(if record.health.is_valid() { Outcome::Fine } else { Outcome::Invalid })
    }

    fn plan(&self) -> io::Result<Plan> {
        let (host, port) = self.server.rsplit_once(':').ok_or_else(|| io::Error::other("host:port"))?;
        let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port} is no port")))?;
        if self.user.is_some() && self.protocol == Protocol::Smtp {
            return Err(io::Error::other("logins are measured over IMAP and POP3"));
        }
        let named = |user: &String| {
            let count = if user.contains("%d") { self.users } else { 1 };
            (1..=count).map(|n| (user.replace("%d", &n.to_string()), self.pass.clone())).collect()
        };
        let handshake = match self.tls {
            Some(Shake::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        };
        let tls = self.tls.map(|_| ClientTls::new("mail.load.test", Trust::Anyone, handshake));
        Ok(Plan {
            address: resolve(host, port)?,
            protocol: self.protocol,
            tls: tls.transpose()?,
            users: self.user.as_ref().map(named).unwrap_or_default(),
            at_once: self.sessions.max(1),
            duration_ns: u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

fn fill(record: &mut Record, found: &Found, effort: Effort) {
    record.counts = found.counts;
    record.seconds = found.elapsed_ns as f64 / 1e9;
    record.rate = found.counts.succeeded as f64 / record.seconds.max(1e-9);
    record.latency.insert(SERVICE.to_owned(), found.whole.clone());
    record.latency.insert("greeting".to_owned(), found.greeting.clone());
    let share = found.resumed as f64 / found.counts.succeeded.max(1) as f64;
    record.figures.insert("resumed_share".to_owned(), share);
    record.errors = found.errors.clone();
    record.health = Health {
        lag_p99_ns: 0,
        cpu_us: effort.cpu_ns / 1000,
        spin_us: effort.spin_ns / 1000,
        queued_us: effort.queued_ns / 1000,
        cpu_share: effort.cpu_ns as f64 / effort.elapsed_ns.max(1) as f64,
        threads: 1,
        invalid: None,
    }
    .judge();
}
