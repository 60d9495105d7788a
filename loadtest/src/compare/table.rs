//! What was found, as a table for people: Markdown, a page, and JSON with every sample.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::compare::results::Measured;
use crate::compare::row::{Line, Verdict};
use crate::compare::rows::Row;
use crate::compare::server::Server;
use crate::report::bars::{self, RatioRow, Ratios};
use crate::report::charts::growth_of;
use crate::report::date;
use crate::report::page::{Column, Page};
use crate::report::scale::{times, trimmed};
use crate::stats::median;

/// Rows with what was measured of them.
pub struct Table<'a> {
    rows: Vec<(&'a Row, Measured)>,
}

/// As it is written.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    lines: Vec<Line>,
    rows: Vec<&'a Measured>,
}

impl<'a> Table<'a> {
    /// Of rows that have been measured at all.
    pub fn new(rows: Vec<(&'a Row, Measured)>) -> Self {
        Self { rows }
    }

    /// `comparison.json`, `comparison.html` and `comparison.md` in a folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let rows = self.rows.iter().map(|(_, measured)| measured).collect();
        let document = Document { version: 1, lines: self.lines(), rows };
        let json = serde_json::to_string_pretty(&document).map_err(io::Error::other)?;
        fs::write(folder.join("comparison.json"), json + "\n")?;
        fs::write(folder.join("comparison.html"), self.page())?;
        fs::write(folder.join("comparison.md"), self.markdown())
    }

    pub fn lines(&self) -> Vec<Line> {
        self.rows.iter().flat_map(|(row, measured)| lines(row, measured)).collect()
    }

    /// Held, missed, and not measured.
    pub fn verdicts(&self) -> (usize, usize, usize) {
        let lines = self.lines();
        let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
        (count(Verdict::Held), count(Verdict::Missed), count(Verdict::Open))
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from("# Ringpost and its peers\n\n");
        self.write_facts(&mut text).expect("a String takes everything");
        text.push_str(
            "\n| work | measure | ours | best peer | advantage | goal | |\n|---|---|--:|--:|--:|---|---|\n",
        );
        for line in self.lines() {
            let cells = cells(&line).map(|cell| cell.replace('|', "\\|"));
            writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes everything");
        }
        text
    }

    fn write_facts(&self, text: &mut String) -> std::fmt::Result {
        let (held, missed, open) = self.verdicts();
        writeln!(
            text,
            "{held} goals held, {missed} missed, {open} not measured. An advantage is how many times as good"
        )?;
        writeln!(text, "ours is as the peer; below 1x the peer wins. Figures are medians.\n")?;
        for fact in self.facts() {
            writeln!(text, "- {fact}")?;
        }
        Ok(())
    }

    /// Machine, days, commits, commands, servers, failures.
    fn facts(&self) -> Vec<String> {
        [self.machines(), self.runs(), self.servers(), self.failures()].concat()
    }

    fn machines(&self) -> Vec<String> {
        let machines = self.rows.iter().map(|(_, measured)| {
            let machine = &measured.machine;
            format!(
                "Machine: {}, {} processor(s), {} GB of memory, Linux {}",
                machine.processor,
                machine.processors,
                trimmed(machine.memory_bytes as f64 / 1e9),
                machine.kernel
            )
        });
        each_once(machines)
    }

    fn runs(&self) -> Vec<String> {
        let runs = self.rows.iter().map(|(_, measured)| {
            let day = date(measured.started_at);
            let day = day.split(' ').next().unwrap_or_default();
            format!("{day}, commit {}: `{}`, {}", measured.commit, command(&measured.command), measured.sizes)
        });
        each_once(runs)
    }

    fn servers(&self) -> Vec<String> {
        self.sides().map(|(version, promise)| format!("{version}: {promise}")).collect()
    }

    /// Versions, each with what its replies promise.
    fn sides(&self) -> impl Iterator<Item = (String, String)> {
        let sides = self.rows.iter().flat_map(|(_, measured)| measured.servers.values());
        let sides = sides.filter(|side| !side.version.is_empty());
        each_once(sides.map(|side| (side.version.clone(), side.durability.clone()))).into_iter()
    }

    /// Who was not measured in which rows, and why.
    fn failures(&self) -> Vec<String> {
        let mut rows_of: Vec<((&str, String), Vec<&str>)> = Vec::new();
        for (row, measured) in &self.rows {
            for absence in absent(row, measured) {
                match rows_of.iter_mut().find(|(known, _)| *known == absence) {
                    Some((_, rows)) => rows.push(&row.name),
                    None => rows_of.push((absence, vec![&row.name])),
                }
            }
        }
        let words = |((server, reason), rows): &((&str, String), Vec<&str>)| {
            format!("{server} was not measured in {}: {reason}", rows.join(", "))
        };
        rows_of.iter().map(words).collect()
    }

    pub fn page(&self) -> String {
        let mut page = Page::new("Ringpost and its peers");
        let (held, missed, open) = self.verdicts();
        page.paragraph(&format!(
            "{held} goals held, {missed} missed, {open} not measured. An advantage is how many times as good ours is \
             as the best peer, or the peer that the goal names; below 1x the peer wins. Figures are medians."
        ));
        self.machines().iter().for_each(|machine| page.facts(machine));
        self.runs().iter().for_each(|run| page.facts(&run.replace('`', "")));
        page.figure("Advantage over the peer", self.ratios().draw());
        page.facts(
            "A dot is the ratio of the medians, its whisker the interval of 95 %, the upright mark the goal. Shown is \
             what has a goal against a peer, and what a peer is better at.",
        );
        for (title, plot) in self.growth() {
            page.figure(&title, plot);
        }
        page.heading("Everything that was measured");
        self.rows.iter().for_each(|(row, measured)| write_row(&mut page, row, measured));
        page.heading("Who was measured");
        let columns = [("server", Column::Text), ("what a 250 or an OK promises", Column::Text)];
        page.table(
            &columns,
            &self.sides().map(|(version, promise)| vec![version, promise]).collect::<Vec<_>>(),
        );
        page.finish()
    }

    /// Lines with a goal against a peer, and those that a peer wins.
    fn ratios(&self) -> Ratios {
        let rows = self.lines().into_iter().filter_map(|line| {
            let advantage = line.advantage?;
            let (goal, verdict) = match line.goal_times {
                Some(_) if line.verdict == Verdict::Held => (line.goal_times, bars::Verdict::Held),
                Some(_) => (line.goal_times, bars::Verdict::Missed),
                None => (None, bars::Verdict::NoGoal),
            };
            (goal.is_some() || advantage.value < 1.0).then(|| RatioRow {
                name: format!("{}, {}", line.row, line.name),
                rival: line.rival.map(Server::name).unwrap_or_default().to_owned(),
                value: advantage.value,
                // Too few repetitions for an interval have none.
                low: if advantage.high.is_finite() { advantage.low } else { advantage.value },
                high: if advantage.high.is_finite() { advantage.high } else { advantage.value },
                goal,
                verdict,
            })
        });
        Ratios {
            title: "Advantage over the peer".to_owned(),
            label: "how many times as good ours is (logarithmic)".to_owned(),
            rows: rows.collect(),
        }
    }

    /// Where a row measured the same at several sizes: times against sizes.
    fn growth(&self) -> Vec<(String, Option<String>)> {
        let mut operations: BTreeMap<String, BTreeMap<Server, Vec<(f64, f64)>>> = BTreeMap::new();
        for (_, measured) in self.rows.iter().filter(|(row, _)| row.name == "growth") {
            for (server, side) in &measured.servers {
                let names = side.samples.first().map(|samples| samples.keys().cloned().collect());
                let names: Vec<String> = names.unwrap_or_default();
                for name in &names {
                    let Some((operation, Ok(size))) = name.rsplit_once(' ').map(|(o, s)| (o, s.parse()))
                    else {
                        continue;
                    };
                    let values: Vec<f64> =
                        side.samples.iter().filter_map(|samples| samples.get(name).copied()).collect();
                    let curves = operations.entry(operation.to_owned()).or_default();
                    curves.entry(*server).or_default().push((size, median(&values)));
                }
            }
        }
        operations
            .into_iter()
            .map(|(operation, curves)| {
                let named = curves.into_iter().map(|(server, points)| (server.label(), points));
                growth_of(&operation, named.collect())
            })
            .map(|plot| (plot.title.clone(), plot.draw()))
            .collect()
    }
}

/// Without what says where things are kept, and which rows were left.
fn command(line: &str) -> String {
    let mut words = line.split(' ');
    let program = words.next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let mut kept = vec![program];
    while let Some(word) = words.next() {
        match word {
            "--results" | "--output" | "--folder" | "--server" | "--row" => drop(words.next()),
            "--picture" | "--again" => {}
            word => kept.push(word),
        }
    }
    kept.join(" ")
}

/// A table of the row: a line for each measure, a column for each server.
fn write_row(page: &mut Page, row: &Row, measured: &Measured) {
    let lines = lines(row, measured);
    let servers = Server::ALL.map(Server::label);
    let is_measured = |label: &&String| lines.iter().any(|line| line.value_of(label).is_some());
    let servers: Vec<&String> = servers.iter().filter(is_measured).collect();
    let mut columns = vec![("", Column::Text)];
    columns.extend(servers.iter().map(|label| (label.as_str(), Column::Number)));
    columns.extend([("advantage over", Column::Qualified), ("95 % interval", Column::Number)]);
    columns.extend([("goal", Column::Phrase), ("", Column::Text)]);
    let cells: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let mut cells = vec![line.measure.clone()];
            let values = servers.iter().map(|label| line.value_of(label).unwrap_or("").to_owned());
            cells.extend(values);
            cells.extend([over(line), interval(line), line.goal.clone(), line.verdict.word().to_owned()]);
            cells
        })
        .collect();
    page.subheading(&row.work, &row.name);
    page.table(&columns, &cells);
    for (server, reason) in absent(row, measured) {
        page.facts(&format!("{server} was not measured: {reason}"));
    }
}

/// Who is not in the row, or not with figures, and why.
fn absent(row: &Row, measured: &Measured) -> Vec<(&'static str, String)> {
    let is_left_out = |server: &Server| row.left_out.iter().any(|(left_out, _)| left_out == server);
    let failed = measured.servers.iter().filter(|(server, _)| !is_left_out(server));
    let failed = failed.filter_map(|(server, side)| Some((*server, side.failed.clone()?)));
    let left_out = row.left_out.iter().map(|(server, reason)| (*server, (*reason).to_owned()));
    let open = row.servers.iter().filter(|server| !measured.servers.contains_key(server));
    let open = open.map(|server| (*server, "not yet".to_owned()));
    failed.chain(left_out).chain(open).map(|(server, reason)| (server.name(), reason)).collect()
}

fn each_once<T: PartialEq>(facts: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for fact in facts {
        if !once.contains(&fact) {
            once.push(fact);
        }
    }
    once
}

fn lines(row: &Row, measured: &Measured) -> Vec<Line> {
    let samples = measured.samples();
    row.measures.iter().map(|measure| measure.line(&row.name, &row.work, &samples)).collect()
}

fn cells(line: &Line) -> [String; 7] {
    let unit = |value: f64| line.unit.map_or_else(|| trimmed(value), |unit| unit.show(value));
    let interval = Some(interval(line)).filter(|interval| !interval.is_empty());
    let interval = interval.map(|interval| format!(" ({interval})")).unwrap_or_default();
    let advantage = line.advantage.map(|ratio| times(ratio.value) + &interval).unwrap_or_default();
    let peer = line.peer.as_ref().map(|(name, value)| format!("{}, {name}", unit(*value)));
    [
        line.work.clone(),
        line.measure.clone(),
        line.ours.map(unit).unwrap_or_default(),
        peer.unwrap_or_default(),
        advantage,
        line.goal.clone(),
        line.verdict.word().to_owned(),
    ]
}

/// The advantage, and over whom.
fn over(line: &Line) -> String {
    let shown = line.advantage.zip(line.rival);
    shown.map_or_else(String::new, |(ratio, rival)| format!("{} {}", times(ratio.value), rival.name()))
}

/// Where there are repetitions enough for one.
fn interval(line: &Line) -> String {
    let shown = line.advantage.filter(|ratio| ratio.high.is_finite());
    shown.map_or_else(String::new, |ratio| format!("{} to {}", times(ratio.low), times(ratio.high)))
}

/// Which servers a row can be measured on with what is installed.
pub fn names(servers: &[Server]) -> String {
    servers.iter().map(|server| server.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
