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
            let (program, arguments) = measured.command.split_once(' ').unwrap_or((&measured.command, ""));
            let command = format!("{} {arguments}", program.rsplit('/').next().unwrap_or_default());
            format!("{day}, commit {}: `{command}`, {}", measured.commit, measured.sizes)
        });
        each_once(runs)
    }

    fn servers(&self) -> Vec<String> {
        let sides = self.rows.iter().flat_map(|(_, measured)| measured.servers.values());
        let sides = sides.filter(|side| !side.version.is_empty());
        each_once(sides.map(|side| format!("{}: {}", side.version, side.durability)))
    }

    fn failures(&self) -> Vec<String> {
        let sides = self.rows.iter().flat_map(|(row, measured)| {
            measured.servers.iter().map(|(server, side)| (&row.name, server, side))
        });
        let failures = sides.filter_map(|(row, server, side)| {
            let reason = side.failed.as_ref()?;
            Some(format!("{} was not measured in {row}: {reason}", server.name()))
        });
        each_once(failures)
    }

    pub fn page(&self) -> String {
        let mut page = Page::new("Ringpost and its peers");
        let (held, missed, open) = self.verdicts();
        page.paragraph(&format!(
            "{held} goals held, {missed} missed, {open} not measured. An advantage is how many times as good ours is \
             as the best peer, or the peer that the goal names; below 1x the peer wins."
        ));
        self.machines().iter().for_each(|machine| page.facts(machine));
        page.facts(&self.servers().join("; "));
        let ratios = self.ratios();
        page.figure("Advantage over the peer", ratios.draw());
        page.facts("A bar is the median, its whisker the interval of 95 %, the upright mark the goal.");
        for (title, plot) in self.growth() {
            page.figure(&title, plot);
        }
        page.heading("Everything that was measured");
        let columns = [
            ("work", Column::Text),
            ("measure", Column::Text),
            ("ours", Column::Number),
            ("best peer", Column::Number),
            ("advantage", Column::Number),
            ("goal", Column::Text),
            ("", Column::Text),
            ("all medians", Column::Text),
        ];
        let rows: Vec<Vec<String>> = self
            .lines()
            .iter()
            .map(|line| {
                let mut row = cells(line).to_vec();
                let all = line.all.iter().map(|(name, value)| format!("{name} {value}"));
                row.push(all.collect::<Vec<_>>().join(", "));
                row
            })
            .collect();
        page.table(&columns, &rows);
        page.heading("How it was measured");
        for fact in [self.runs(), self.failures()].concat() {
            page.facts(&fact.replace('`', ""));
        }
        page.finish()
    }

    /// Lines with a goal against a peer.
    fn ratios(&self) -> Ratios {
        let rows = self.lines().into_iter().filter_map(|line| {
            let (goal, advantage) = (line.goal_times?, line.advantage?);
            Some(RatioRow {
                name: format!("{}, {}", line.row, line.name),
                value: advantage.value,
                // Too few repetitions for an interval have none.
                low: if advantage.high.is_finite() { advantage.low } else { advantage.value },
                high: if advantage.high.is_finite() { advantage.high } else { advantage.value },
                goal: Some(goal),
                verdict: match line.verdict {
                    Verdict::Held => bars::Verdict::Held,
                    _ => bars::Verdict::Missed,
                },
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
                let named = curves.into_iter().map(|(server, points)| (server.name().to_owned(), points));
                growth_of(&operation, named.collect())
            })
            .map(|plot| (plot.title.clone(), plot.draw()))
            .collect()
    }
}

fn each_once(facts: impl Iterator<Item = String>) -> Vec<String> {
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
    let peer = line.peer.as_ref().map(|(name, value)| format!("{} ({name})", unit(*value)));
    let advantage = line.advantage.map(|ratio| match ratio.high.is_finite() {
        true => format!("{} ({} to {})", times(ratio.value), times(ratio.low), times(ratio.high)),
        false => times(ratio.value),
    });
    [
        line.work.clone(),
        line.measure.clone(),
        line.ours.map(unit).unwrap_or_default(),
        peer.unwrap_or_default(),
        advantage.unwrap_or_default(),
        line.goal.clone(),
        line.verdict.word().to_owned(),
    ]
}

/// Which servers a row can be measured on with what is installed.
pub fn names(servers: &[Server]) -> String {
    servers.iter().map(|server| server.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
