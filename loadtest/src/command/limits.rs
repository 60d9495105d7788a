//! What this machine can do, in less than a minute.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use tempfile::TempDir;

use crate::limits::{Bound, Part};
use crate::record::{Record, duration};

#[derive(Args)]
pub struct Limits {
    /// The folder whose disk is measured.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Measures only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Writes what was measured as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Limits {
    pub fn run(&self) -> io::Result<()> {
        let began = Instant::now();
        let folder = TempDir::with_prefix_in("limits-", &self.folder)?;
        let mut record = Record::new("limits", "figure", "this machine", "");
        for part in Part::ALL.into_iter().filter(|part| self.only.is_empty() || self.only.contains(part)) {
            say!("{}", part.title());
            for bound in part.measure(folder.path())? {
                print(&bound);
                record.counts.succeeded += 1;
                record.figures.insert(format!("{} ({})", bound.what, bound.unit), bound.value);
                record.latency.extend(bound.latency.map(|latency| (bound.what, latency)));
            }
        }
        record.seconds = began.elapsed().as_secs_f64();
        say!("measured in {:.0} s", record.seconds);
        self.json.as_ref().map_or(Ok(()), |path| record.write(path))
    }
}

fn print(bound: &Bound) {
    let latency = bound.latency.as_ref().map(|latency| {
        let [p50, p99, max] =
            [latency.percentile(50.0), latency.percentile(99.0), latency.max()].map(duration);
        format!("{p50:>11} {p99:>11} {max:>11}")
    });
    let (value, latency) = (human(bound.value), latency.unwrap_or_default());
    say!("  {:<48} {value:>10} {:<7}{latency}", bound.what, bound.unit);
}

/// Three digits that matter.
fn human(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
