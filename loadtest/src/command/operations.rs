//! Fixed operations on a mailbox of a given size: time, first byte, the server's processor time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::command::fill::fill_up;
use crate::command::login::LoginArguments;
use crate::cost::cpu_ns;
use crate::imap::fill::Pace;
use crate::imap::operations::{Bench, Measured, Operation, median};
use crate::record::Record;
use crate::report::charts::MAILBOX_MESSAGES;

#[derive(Args)]
pub struct Operations {
    #[command(flatten)]
    login: LoginArguments,
    #[arg(long = "box", default_value = "INBOX")]
    mailbox: String,
    /// Fills the mailbox up to so many first; without it, it is taken as it is.
    #[arg(long)]
    messages: Option<usize>,
    /// Of each message that is missing.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Operation>,
    /// Drops the kernel's caches before each operation that reads the whole mailbox, as root.
    #[arg(long)]
    cold: bool,
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Operations {
    pub fn run(&self) -> io::Result<()> {
        let target = self.login.target()?;
        if let Some(messages) = self.messages {
            let pace = Pace::Fast { connections: self.connections };
            fill_up(&target, &self.mailbox, messages, self.bytes, pace)?;
        }
        let bench = Bench {
            login: target.login.clone(),
            mailbox: self.mailbox.clone(),
            rounds: self.rounds,
            cpu_ns: &|| cpu_ns(&target.pids),
            before_listing: if self.cold { &drop_caches } else { &|| Ok(()) },
        };
        let wanted = if self.only.is_empty() { Operation::all() } else { &self.only };
        let found = bench.run(wanted)?;
        if let Some(path) = &self.json {
            self.record(target.name(), &found).write(path)?;
        }
        say!(
            "{:<16} {:>9} {:>12} {:>12} {:>12} {:>14}",
            "operation",
            "messages",
            "first, ms",
            "median, ms",
            "1st byte, ms",
            "server CPU, us"
        );
        for (operation, measured) in &found {
            print(*operation, measured);
        }
        Ok(())
    }
}

impl Operations {
    fn record(&self, target: &str, found: &BTreeMap<Operation, Measured>) -> Record {
        let mut record = Record::new("operations", "operation", target, "");
        // Of the first, which was the mailbox's own size.
        if let Some(measured) = found.values().next() {
            record.figures.insert(MAILBOX_MESSAGES.to_owned(), measured.messages as f64);
        }
        for (operation, measured) in found {
            let name = operation.name();
            let spectrum = record.latency.entry(name.to_owned()).or_default();
            measured.whole_ns.iter().for_each(|ns| spectrum.record(*ns));
            record.counts.succeeded += measured.times() as u64;
            record.counts.started += measured.times() as u64;
            let first_ns = measured.whole_ns.first().copied().unwrap_or(0);
            for (what, value) in [
                ("messages", measured.messages as f64),
                ("cpu_us", measured.cpu_us_each()),
                ("first_byte_us", median(&measured.first_byte_ns) as f64 / 1e3),
                ("median_us", median(&measured.whole_ns) as f64 / 1e3),
                ("first_us", first_ns as f64 / 1e3),
            ] {
                record.figures.insert(format!("{name} {what}"), value);
            }
        }
        record
    }
}

fn print(operation: Operation, measured: &Measured) {
    let ms = |ns: u64| ns as f64 / 1e6;
    say!(
        "{:<16} {:>9} {:>12.3} {:>12.3} {:>12.3} {:>14.1}",
        operation.name(),
        measured.messages,
        ms(measured.whole_ns.first().copied().unwrap_or(0)),
        ms(median(&measured.whole_ns)),
        ms(median(&measured.first_byte_ns)),
        measured.cpu_us_each(),
    );
}

/// What was written is on the disk first, or the kernel would keep it.
fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}
