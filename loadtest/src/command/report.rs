//! Records of runs as a page.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::record::Record;
use crate::report;

#[derive(Args)]
pub struct Report {
    /// What runs wrote with --json.
    #[arg(required = true, value_name = "RUN.json")]
    runs: Vec<PathBuf>,
    /// The page: one HTML file that needs nothing else.
    #[arg(short, long, default_value = "report.html")]
    output: PathBuf,
    #[arg(long, default_value = "Load test")]
    title: String,
}

impl Report {
    pub fn run(&self) -> io::Result<()> {
        let records = self.runs.iter().map(|path| Record::read(path)).collect::<io::Result<Vec<_>>>()?;
        fs::write(&self.output, report::of_records(&self.title, &records))?;
        say!("{}", self.output.display());
        Ok(())
    }
}
