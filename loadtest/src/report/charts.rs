//! Which charts records make: what they share goes into one drawing, what only one has into its own.

use std::collections::BTreeMap;

use crate::record::{ACK, CORRECTED, Record, SERVICE};
use crate::report::bars::Stack;
use crate::report::plot::{Axis, Marks, Plot, Series};
use crate::report::scale::{Scale, Unit};

/// The figure that says how large the mailbox was, in records about one.
pub const MAILBOX_MESSAGES: &str = "mailbox_messages";

/// Latency and its percentiles, as far as there were operations for them.
pub fn percentiles(records: &[Record]) -> Plot {
    let mut series = Vec::new();
    for record in records.iter().filter(|record| !record.figures.contains_key(MAILBOX_MESSAGES)) {
        let names: Vec<&String> = record.latency.keys().collect();
        for (name, spectrum) in &record.latency {
            if spectrum.count() == 0 || !is_shown(name, &names) {
                continue;
            }
            let points = percentile_points(spectrum.count())
                .map(|percentile| (percentile, spectrum.percentile(percentile) as f64));
            series.push(Series {
                name: format!("{}, {name}", told_apart(record, records)),
                points: points.collect(),
                marks: Marks::Hidden,
            });
        }
    }
    let most = series.iter().flat_map(|line| &line.points).map(|point| point.0).fold(99.0, f64::max);
    let values: Vec<f64> = series.iter().flat_map(|line| &line.points).map(|point| point.1).collect();
    Plot {
        title: "Latency by percentile".to_owned(),
        x: Axis {
            label: "operations that took no longer".to_owned(),
            scale: Scale::Nines { max: most },
            unit: Unit::Count,
        },
        y: Axis { label: "latency".to_owned(), scale: Scale::log(values.into_iter()), unit: Unit::Nanos },
        series,
    }
}

/// Where an intended start is known, what counts from the real one is left out of the drawing.
fn is_shown(name: &str, all: &[&String]) -> bool {
    let has = |wanted: &str| all.iter().any(|name| *name == wanted);
    match name {
        SERVICE => !has(CORRECTED),
        ACK => !has(CORRECTED) && !has(SERVICE),
        _ => true,
    }
}

/// From 0 on in steps of a tenth of a nine, as long as at least two operations stand above.
fn percentile_points(count: u64) -> impl Iterator<Item = f64> {
    let nines_max = ((count as f64 / 2.0).log10()).clamp(1.0, 6.0);
    (0..=(nines_max * 10.0) as u32).map(|tenth| 100.0 * (1.0 - 10_f64.powf(-f64::from(tenth) / 10.0)))
}

/// Operations a second, second by second.
pub fn rate_over_time(records: &[Record]) -> Plot {
    let series: Vec<Series> = records
        .iter()
        .filter(|record| record.series.len() > 1)
        .map(|record| Series {
            name: told_apart(record, records),
            points: record
                .series
                .iter()
                .map(|moment| (moment.second as f64, moment.succeeded as f64))
                .collect(),
            marks: Marks::Hidden,
        })
        .collect();
    over_time("Rate over time", "operations", Unit::PerSecond, series)
}

/// The 99th percentile, second by second.
pub fn latency_over_time(records: &[Record]) -> Plot {
    let series: Vec<Series> = records
        .iter()
        .filter(|record| record.series.len() > 1)
        .map(|record| Series {
            name: told_apart(record, records),
            points: record.series.iter().map(|moment| (moment.second as f64, moment.p99_ns as f64)).collect(),
            marks: Marks::Hidden,
        })
        .collect();
    over_time("Latency over time", "latency, 99th percentile of each second", Unit::Nanos, series)
}

fn over_time(title: &str, label: &str, unit: Unit, series: Vec<Series>) -> Plot {
    let points = || series.iter().flat_map(|line| line.points.clone());
    let x = Scale::linear(points().map(|point| point.0));
    let y = Scale::linear(points().map(|point| point.1));
    Plot {
        title: title.to_owned(),
        x: Axis { label: "time since the start".to_owned(), scale: x, unit: Unit::Seconds },
        y: Axis { label: label.to_owned(), scale: y, unit },
        series,
    }
}

/// Where records of one server ran at several rates: median and 99th percentile against the rate.
pub fn latency_by_rate(records: &[Record]) -> Plot {
    let mut by_target: BTreeMap<(String, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for record in records {
        let Some(spectrum) = record.main_latency().filter(|spectrum| spectrum.count() > 0) else {
            continue;
        };
        if record.figures.contains_key(MAILBOX_MESSAGES) {
            continue;
        }
        for (percentile, name) in [(50.0, "p50"), (99.0, "p99")] {
            let points = by_target.entry((record.what.target.clone(), name)).or_default();
            points.push((record.rate, spectrum.percentile(percentile) as f64));
        }
    }
    by_target.retain(|_, points| points.len() > 1);
    let series =
        curves(by_target.into_iter().map(|((target, name), points)| (format!("{target}, {name}"), points)));
    let points = || series.iter().flat_map(|line| line.points.clone());
    let x = Scale::linear(points().map(|point| point.0));
    let y = Scale::log(points().map(|point| point.1));
    Plot {
        title: "Latency by rate".to_owned(),
        x: Axis { label: "operations that succeeded".to_owned(), scale: x, unit: Unit::PerSecond },
        y: Axis { label: "latency".to_owned(), scale: y, unit: Unit::Nanos },
        series,
    }
}

/// Where records say how large the mailbox was: the median of each operation against that size, a drawing for each.
pub fn growth(records: &[Record]) -> Vec<Plot> {
    let mut by_operation: BTreeMap<String, BTreeMap<String, Vec<(f64, f64)>>> = BTreeMap::new();
    for record in records {
        let Some(messages) = record.figures.get(MAILBOX_MESSAGES) else {
            continue;
        };
        for (operation, spectrum) in record.latency.iter().filter(|(_, spectrum)| spectrum.count() > 0) {
            let targets = by_operation.entry(operation.clone()).or_default();
            let points = targets.entry(record.what.target.clone()).or_default();
            points.push((*messages, spectrum.percentile(50.0) as f64));
        }
    }
    let plots = by_operation
        .into_iter()
        .map(|(operation, targets)| growth_of(&operation, targets.into_iter().collect()));
    plots.collect()
}

/// Both axes logarithmic: what grows with the mailbox rises by a decade for a decade, what does not stays level.
pub fn growth_of(operation: &str, targets: Vec<(String, Vec<(f64, f64)>)>) -> Plot {
    let series = curves(targets.into_iter());
    let points = || series.iter().flat_map(|line| line.points.clone());
    let (x, y) = (Scale::log(points().map(|point| point.0)), Scale::log(points().map(|point| point.1)));
    Plot {
        title: format!("{operation} in a growing mailbox"),
        x: Axis { label: "messages in the mailbox".to_owned(), scale: x, unit: Unit::Count },
        y: Axis { label: "time, median".to_owned(), scale: y, unit: Unit::Nanos },
        series,
    }
}

fn curves(named: impl Iterator<Item = (String, Vec<(f64, f64)>)>) -> Vec<Series> {
    named
        .map(|(name, mut points)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { name, points, marks: Marks::Shown }
        })
        .collect()
}

/// Where the machine's processor time went for each operation.
pub fn cost_stack(records: &[Record]) -> Stack {
    let rows = records.iter().filter(|record| record.counts.succeeded > 0).filter_map(|record| {
        let cost = record.cost.as_ref()?;
        let server = record.each(cost.cpu_us);
        let generator = record.each(record.health.cpu_us + record.health.spin_us);
        let rest = (record.each(cost.machine_cpu_us) - server - generator).max(0.0);
        Some((told_apart(record, records), vec![server, generator, rest]))
    });
    Stack {
        title: "Processor time for each operation".to_owned(),
        label: "processor time for each operation".to_owned(),
        unit: Unit::Micros,
        parts: ["server", "generator", "the rest of the machine"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// The name with the rate, where several runs have the same.
fn told_apart(record: &Record, all: &[Record]) -> String {
    let name = name_of(record);
    match all.iter().filter(|other| name_of(other) == name).count() {
        0 | 1 => name,
        _ => format!("{name} at {}", Unit::PerSecond.show(record.rate)),
    }
}

/// The server, and the command if that is not told by the page.
pub fn name_of(record: &Record) -> String {
    match record.what.target.as_str() {
        "" => record.what.command.clone(),
        target => target.to_owned(),
    }
}
