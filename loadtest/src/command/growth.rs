//! `loadtest sweep mailbox`: what grows with a mailbox, and what does not.
//!
//! The mailbox is filled up from point to point of the range, and the same operations are measured at each, over IMAP
//! and, where it is spoken, over POP3. What is the same at all sizes has a growth of 1. A record is written of each
//! point, so that the report draws the curves.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::command::Outcome;
use crate::command::fill::fill_up;
use crate::command::login::{LoginArguments, Target};
use crate::command::sweep::Range;
use crate::cost::cpu_ns;
use crate::imap::fill::{self, Pace};
use crate::imap::operations::{Bench, Operation};
use crate::pop3::session::{Listing, Plan, Verb};
use crate::pop3::visit;
use crate::record::{Objective, Record, Spectrum, duration};
use crate::report::charts::MAILBOX_MESSAGES;

#[derive(Args)]
pub struct Growth {
    /// From..to messages, such as 1k..1M; sizes below what the mailbox holds already are left out.
    range: Range,
    /// Sizes, each the same multiple of the one before.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    #[command(flatten)]
    login: LoginArguments,
    /// Where the same mailbox is a maildrop; of a server that is started here it is known.
    #[arg(long)]
    pop3_port: Option<u16>,
    /// Over POP3 it is always the INBOX.
    #[arg(long = "box", default_value = "INBOX")]
    mailbox: String,
    /// Of each message.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// That fill it.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these operations of IMAP.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Operation>,
    /// What must hold, such as 'SELECT growth<1.5'; exit status 99 if it does not.
    #[arg(long)]
    slo: Option<Objective>,
    /// A folder for the records, one of each size.
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,
}

/// Times of operations by their names.
type Times = BTreeMap<String, Spectrum>;

/// Of POP3, what goes through the whole maildrop and what does not.
const VERBS: [Verb; 4] = [Verb::Pass, Verb::Stat, Verb::Uidl, Verb::Retr];

/// Messages that a session fetches.
const FETCHED: usize = 20;

impl Growth {
    pub fn run(&self) -> io::Result<Outcome> {
        let target = self.login.target()?;
        let mut found: Vec<(usize, Times)> = Vec::new();
        let held = fill::count(&target.login, &self.mailbox)?;
        for messages in self.range.points(self.steps).map(|at| at.round() as usize) {
            if messages < held {
                say!("{messages} messages: left out, since the mailbox holds {held} already");
                continue;
            }
            let pace = Pace::Fast { connections: self.connections };
            fill_up(&target, &self.mailbox, messages, self.bytes, pace)?;
            let times = self.measure(&target)?;
            self.write(&target, messages, &times)?;
            say!("{messages} messages");
            for (name, spectrum) in &times {
                say!("  {name:<16} {:>10}", duration(spectrum.percentile(50.0)));
            }
            found.push((messages, times));
        }
        match found.len() {
            0 | 1 => Err(io::Error::other(
                "what grows takes two sizes to be seen; empty the mailbox, or take another",
            )),
            _ => Ok(self.judge(&target, &found)),
        }
    }

    fn measure(&self, target: &Target) -> io::Result<Times> {
        let bench = Bench {
            login: target.login.clone(),
            mailbox: self.mailbox.clone(),
            rounds: self.rounds,
            cpu_ns: &|| cpu_ns(&target.pids),
            before_listing: &|| Ok(()),
        };
        let wanted = if self.only.is_empty() { Operation::all() } else { &self.only };
        let mut times = Times::new();
        for (operation, measured) in bench.run(wanted)? {
            let spectrum = times.entry(operation.name().to_owned()).or_default();
            measured.whole_ns.iter().for_each(|ns| spectrum.record(*ns));
        }
        if let Some(pop3) = self.pop3(target) {
            self.measure_pop3(target, pop3, &mut times)?;
        }
        Ok(times)
    }

    fn pop3(&self, target: &Target) -> Option<SocketAddr> {
        let given = self.pop3_port.map(|port| SocketAddr::new(target.login.address.ip(), port));
        given.or(target.pop3).filter(|_| self.mailbox.eq_ignore_ascii_case("INBOX"))
    }

    fn measure_pop3(&self, target: &Target, pop3: SocketAddr, times: &mut Times) -> io::Result<()> {
        for _ in 0..self.rounds {
            let plan = Plan {
                window: 1,
                messages: FETCHED,
                download_percent: 100,
                delete_percent: 0,
                listing: Listing::Full,
            };
            let found = visit(pop3, &target.login.user, &target.login.pass, plan)?;
            for verb in VERBS {
                if let Some(spectrum) = found.latency.get(verb.name()) {
                    times.entry(format!("POP3 {}", verb.name())).or_default().add(spectrum);
                }
            }
        }
        Ok(())
    }

    fn write(&self, target: &Target, messages: usize, times: &Times) -> io::Result<()> {
        let Some(folder) = &self.records else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let mut record = Record::new("sweep mailbox", "operation", target.name(), "");
        record.latency.clone_from(times);
        record.counts.succeeded = times.values().map(Spectrum::count).sum();
        record.counts.started = record.counts.succeeded;
        record.figures.insert(MAILBOX_MESSAGES.to_owned(), messages as f64);
        record.write(&folder.join(format!("mailbox-{messages}.json")))
    }

    /// Prints how each operation grew, and says whether that is what was asked for.
    fn judge(&self, target: &Target, found: &[(usize, Times)]) -> Outcome {
        let ([(least, first), ..], Some((most, last))) = (found, found.last()) else {
            return Outcome::Missed;
        };
        let mut record = Record::new("sweep mailbox", "operation", target.name(), "");
        say!("growth from {least} to {most} messages");
        for (name, spectrum) in last {
            let before = first.get(name).map_or(0, |spectrum| spectrum.percentile(50.0));
            let growth = spectrum.percentile(50.0) as f64 / before.max(1) as f64;
            say!("  {name:<16} {growth:>9.2}x");
            record.figures.insert(format!("{name} growth"), growth);
        }
        let Some(verdict) = self.slo.as_ref().map(|slo| slo.judge(&record)) else { return Outcome::Fine };
        match verdict.is_held() {
            true => {
                say!("objective held: {}", verdict.objective);
                Outcome::Fine
            }
            false => {
                say!("objective missed: {}", verdict.missed.join("; "));
                Outcome::Missed
            }
        }
    }
}
