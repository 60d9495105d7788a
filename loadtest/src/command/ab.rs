//! The same load on two targets in turn, and what tells them apart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::ab::{self, Side};
use crate::command::Outcome;
use crate::record::Record;

/// For example `loadtest ab --a 127.0.0.1:2525 --b 127.0.0.1:2526 -- smtp -s 64 --duration 10s TARGET`.
#[derive(Args)]
pub struct Ab {
    /// What stands for TARGET in the runs of A; more than one argument in quotes.
    #[arg(long)]
    a: String,
    #[arg(long)]
    b: String,
    /// Runs of each.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// A page of the result.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The result for programs.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A command of loadtest that measures, with TARGET where its target stands.
    #[arg(last = true, required = true)]
    load: Vec<String>,
}

/// In the arguments of the load.
const TARGET: &str = "TARGET";

impl Ab {
    pub fn run(&self) -> io::Result<Outcome> {
        if self.load.iter().all(|word| word != TARGET) {
            return Err(io::Error::other("the load names no TARGET"));
        }
        let folder = tempfile::tempdir()?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for run in 0..self.reps * 2 {
            let side = ab::turn(run);
            let record = self.measure(side, &folder.path().join(format!("{run}.json")))?;
            say!("{} of {}: {side:?}, {:.0}/s", run + 1, self.reps * 2, record.rate);
            match side {
                Side::A => a.push(record),
                Side::B => b.push(record),
            }
        }
        let compared = ab::compare(&a, &b);
        for line in &compared {
            let cells = line.cells();
            say!("{:<18} {:>12} {:>12}  {:<28} {}", cells[0], cells[1], cells[2], cells[3], cells[4]);
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&compared).map_err(io::Error::other)?;
            fs::write(path, text + "\n")?;
        }
        if let Some(path) = &self.output {
            fs::write(path, ab::page([&self.a, &self.b], &compared, self.reps))?;
        }
        Ok(if compared.is_empty() { Outcome::Invalid } else { Outcome::Fine })
    }

    /// By a process of its own, so that nothing is left over from the run before.
    fn measure(&self, side: Side, json: &Path) -> io::Result<Record> {
        let target = if side == Side::A { &self.a } else { &self.b };
        let mut command = Command::new(std::env::current_exe()?);
        for word in &self.load {
            match word.as_str() {
                TARGET => command.args(target.split_whitespace()),
                word => command.arg(word),
            };
        }
        command.arg("--json").arg(json).stdout(Stdio::null());
        let status = command.status()?;
        if !json.exists() {
            return Err(io::Error::other(format!("{side:?} {target}: {status}, and no result")));
        }
        Record::read(json)
    }
}
