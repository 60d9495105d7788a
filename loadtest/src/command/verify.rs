//! `loadtest verify`: what was promised, against what came.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::command::Outcome;
use crate::ledger::{Reader, Verification};
use crate::record::{Objective, Record};

/// Ledgers of senders and of receivers, in any order.
#[derive(Args)]
pub struct Verify {
    #[arg(required = true, value_name = "LEDGER")]
    ledgers: Vec<PathBuf>,
    /// What must hold; exit status 99 if it does not.
    #[arg(long, default_value = "missing==0,corrupted==0,unexpected==0")]
    slo: Objective,
    /// Take the record of the run from here, and write it back with what was found.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Verify {
    pub fn run(&self) -> io::Result<Outcome> {
        let mut reader = Reader::default();
        for ledger in &self.ledgers {
            reader.read(ledger)?;
        }
        let verification = reader.verify();
        print(&verification);
        let mut record = match &self.json {
            Some(path) => Record::read(path)?,
            None => Record::new("verify", "copy", "", ""),
        };
        record.ledger = Some(verification.counts);
        let verdict = self.slo.judge(&record);
        match verdict.is_held() {
            true => say!("objective held: {}", verdict.objective),
            false => say!("objective missed: {}", verdict.missed.join("; ")),
        }
        let outcome = if verdict.is_held() { Outcome::Fine } else { Outcome::Missed };
        if let Some(path) = &self.json {
            record.verdict = Some(verdict);
            record.write(path)?;
        }
        Ok(outcome)
    }
}

fn print(verification: &Verification) {
    let counts = &verification.counts;
    say!("acknowledged   {:>12}", counts.acknowledged);
    say!("received       {:>12}", counts.received);
    say!("missing        {:>12}", counts.missing);
    say!("duplicated     {:>12}", counts.duplicated);
    say!("corrupted      {:>12}", counts.corrupted);
    say!("reordered      {:>12}", counts.reordered);
    say!("unexpected     {:>12}", counts.unexpected);
    say!("unacknowledged {:>12}", counts.unacknowledged);
    if verification.torn > 0 {
        say!("{} line(s) of the ledgers were not whole", verification.torn);
    }
    for (run, number) in &verification.missing {
        say!("missing: message {number} of run {run}");
    }
}
