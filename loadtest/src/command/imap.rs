//! IMAP sessions that do what imaptest's do, and judge every answer.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::command::Outcome;
use crate::command::mix::Mix;
use crate::cost::{Calls, Meter};
use crate::engine::{Clock, Effort, Ports, Waiting, run};
use crate::imap::client::resolve;
use crate::imap::drive::{Drive, Found};
use crate::imap::options::Options;
use crate::record::{CORRECTED, Record, SERVICE, summary};
use crate::say;

/// Everything but the options of every command is spelt as for imaptest.
#[derive(Args)]
pub struct Imap {
    /// host= port= user=u%d pass= users= clients= msgs= secs= seed= box= copybox= ssl rate= ..., and states as
    /// `append=100,5`; `-` switches all of them off but login, select and logout.
    words: Vec<String>,
    /// Processes of the server, whose cost is measured with that of their children.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// Where the server's data is, for the writes to its device.
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
}

impl Imap {
    pub fn run(&self) -> io::Result<Outcome> {
        let options = Options::parse(self.words.iter().map(String::as_str)).map_err(io::Error::other)?;
        if let Some(profile) = &options.profile {
            return Mix::of_imaptest(&options, profile, self).run();
        }
        let address = resolve(&options.host, options.port)?;
        let (user, rate) = (options.user.clone(), options.rate);
        let mut record = Record::new("imap", "command", &format!("{address} as {user}"), "");
        let meter = match self.pid.as_slice() {
            [] => None,
            pids => Some(Meter::start(pids, self.data.as_deref(), Calls::NotCounted)?),
        };
        let mut ports = Ports::new(Clock::start())?;
        let mut drive = Drive::new(options, address, ports.now())?;
        drive.dial_all(&mut ports)?;
        let effort = run(&mut drive, &mut ports, Waiting::default())?;
        record.cost = meter.map(Meter::stop).transpose()?;
        fill(&mut record, &drive.found, effort, rate);
        say::text(&summary(&record));
        for wrong in &drive.found.wrongs {
            eprintln!("{wrong}");
        }
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(match (record.health.is_valid(), drive.found.wrongs.is_empty()) {
            (false, _) => Outcome::Invalid,
            (true, false) => Outcome::Missed,
            (true, true) => Outcome::Fine,
        })
    }
}

fn fill(record: &mut Record, found: &Found, effort: Effort, rate: Option<f64>) {
    record.counts = found.counts;
    record.seconds = found.elapsed_ns as f64 / 1e9;
    record.rate = found.counts.succeeded as f64 / record.seconds.max(1e-9);
    record.latency = found.latency.clone();
    record.latency.insert(SERVICE.to_owned(), found.service.clone());
    if rate.is_some() {
        record.latency.insert(CORRECTED.to_owned(), found.corrected.clone());
    }
    record.errors = found.errors.clone();
    record.health = effort.health(found.lag.percentile(99.0));
}
