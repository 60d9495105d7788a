//! The comparison with the peers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::compare;
use crate::compare::bench::{Bench, Sizes};
use crate::compare::results::Results;
use crate::compare::rows::{self, Row};
use crate::compare::server::Scripts;
use crate::compare::table::{Table, names};
use crate::target::default_program;

#[derive(Args)]
pub struct Compare {
    /// Smaller mailboxes, fewer repetitions: under 20 minutes on two processors.
    #[arg(long, conflicts_with = "tiny")]
    quick: bool,
    /// As small as it can be: shows that every row works, and nothing else.
    #[arg(long)]
    tiny: bool,
    /// Only these rows.
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// Names the rows and the servers in them.
    #[arg(long)]
    list: bool,
    /// Measures rows that are done once more.
    #[arg(long)]
    again: bool,
    /// Keeps mailboxes behind the last row that is measured on them: more room on the disk, and a repeated row is
    /// measured sooner.
    #[arg(long)]
    keep: bool,
    /// Makes the table from what has been measured, and measures nothing.
    #[arg(long)]
    table: bool,
    /// Where rows are kept; by default in target/compare, apart for each kind of sizes.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Where the table goes.
    #[arg(long, value_name = "DIR", default_value = "docs/benchmarks")]
    output: PathBuf,
    /// Makes a picture of the page's beginning, too, by headless Chromium.
    #[arg(long)]
    picture: bool,
    /// Where servers and data sets live, on the disk that is to be measured. All users must be able to get there.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/ringpost-compare")]
    folder: PathBuf,
    /// The server's program; by default the one that was built beside this.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

impl Compare {
    pub fn run(&self) -> io::Result<()> {
        let sizes = self.sizes();
        let all = rows::all(&sizes);
        let wanted = self.wanted(&all)?;
        if self.list {
            wanted.iter().for_each(|row| say!("{}: {} ({})", row.name, row.work, names(&row.servers)));
            return Ok(());
        }
        let default = PathBuf::from("target/compare").join(sizes.name);
        let results = Results::open(self.results.as_ref().unwrap_or(&default))?;
        if !self.table {
            self.measure(sizes, &results, &wanted)?;
        }
        let rows = all.iter().filter_map(|row| Some((row, results.read(&row.name)?))).collect();
        let table = Table::new(rows);
        table.write(&self.output)?;
        if self.picture {
            self.draw()?;
        }
        let (held, missed, open) = table.verdicts();
        say!("{held} goals held, {missed} missed, {open} not measured: {}", self.output.display());
        Ok(())
    }

    /// `comparison.png` beside the page.
    fn draw(&self) -> io::Result<()> {
        let folder = self.output.canonicalize()?;
        let status = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--window-size=1040,1250",
            ])
            .arg(format!("--screenshot={}", folder.join("comparison.png").display()))
            .arg(format!("file://{}", folder.join("comparison.html").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("chromium: {status}"))),
        }
    }

    fn sizes(&self) -> Sizes {
        match (self.quick, self.tiny) {
            (true, _) => Sizes::quick(),
            (_, true) => Sizes::tiny(),
            _ => Sizes::full(),
        }
    }

    fn wanted<'a>(&self, all: &'a [Row]) -> io::Result<Vec<&'a Row>> {
        if let Some(unknown) = self.row.iter().find(|name| all.iter().all(|row| row.name != **name)) {
            return Err(io::Error::other(format!("there is no row {unknown}; --list names them")));
        }
        Ok(all.iter().filter(|row| self.row.is_empty() || self.row.contains(&row.name)).collect())
    }

    fn measure(&self, sizes: Sizes, results: &Results, wanted: &[&Row]) -> io::Result<()> {
        let program = self.server.clone().unwrap_or_else(default_program);
        let program = program.canonicalize().map_err(|error| {
            io::Error::other(format!("{}: {error}; build it with cargo build --release", program.display()))
        })?;
        let scripts = Scripts { folder: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"), program };
        let bench = Bench::open(sizes, scripts, &self.folder)?;
        let mut installed = Vec::new();
        for (at, row) in wanted.iter().enumerate() {
            for server in &row.servers {
                if !installed.contains(server) {
                    bench.scripts.install(*server)?;
                    installed.push(*server);
                }
            }
            if self.again {
                results.forget(&row.name)?;
            }
            let began = Instant::now();
            compare::complete(&bench, results, row)?;
            say!("{}: {:.0} s", row.name, began.elapsed().as_secs_f64());
            if !self.keep {
                let others = wanted[at + 1..].iter().copied();
                let sets = rows::last_of(row, others, &bench.sizes);
                sets.into_iter().try_for_each(|set| set.remove(&bench.folder))?;
            }
        }
        bench.end()
    }
}
