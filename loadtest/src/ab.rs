//! Two sides of an experiment: what differs between them, and whether that is more than chance.
//!
//! Runs alternate in the order A B B A, so that a machine that grows slower or faster is as unkind to one side as to
//! the other. What is said of a figure is the ratio of the medians with its interval of 95 %; where that spans 1, the
//! two are not told apart.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::report::bars::{RatioRow, Ratios, Verdict};
use crate::report::page::{Column, Page};
use crate::report::scale::{Unit, times};
use crate::stats::{Difference, Ratio, median};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// A figure that both sides have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub figure: String,
    pub a: f64,
    pub b: f64,
    /// A to B.
    pub ratio: Ratio,
    #[serde(skip)]
    unit: Option<Unit>,
}

/// A figure of a record, if it was measured.
type Figure = (&'static str, Unit, fn(&Record) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("rate", Unit::PerSecond, |record| Some(record.rate)),
    ("p50", Unit::Nanos, |record| percentile(record, 50.0)),
    ("p99", Unit::Nanos, |record| percentile(record, 99.0)),
    ("p99.9", Unit::Nanos, |record| percentile(record, 99.9)),
    ("CPU each", Unit::Micros, |record| Some(record.each(record.cost.as_ref()?.cpu_us))),
    ("system calls each", Unit::Count, |record| Some(record.each(record.cost.as_ref()?.system_calls?))),
    ("syncs each", Unit::Count, |record| Some(record.each(record.cost.as_ref()?.syncs?))),
    ("peak memory", Unit::Bytes, |record| Some(record.cost.as_ref()?.memory_peak_bytes as f64)),
];

fn percentile(record: &Record, percentile: f64) -> Option<f64> {
    let spectrum = record.main_latency().filter(|spectrum| spectrum.count() > 0)?;
    Some(spectrum.percentile(percentile) as f64)
}

/// A B B A A B B A ...: who is next after so many runs.
pub fn turn(runs: usize) -> Side {
    match runs % 4 {
        0 | 3 => Side::A,
        _ => Side::B,
    }
}

/// Every figure that valid runs of both sides have.
pub fn compare(a: &[Record], b: &[Record]) -> Vec<Compared> {
    let compared = FIGURES.iter().filter_map(|(figure, unit, of)| {
        let values = |records: &[Record]| -> Vec<f64> {
            records.iter().filter(|record| record.health.is_valid()).filter_map(of).collect()
        };
        let (a, b) = (values(a), values(b));
        let ratio = Ratio::of(&a, &b);
        // A figure that is zero on a side has no ratio, and one that was not measured no median.
        (ratio.value.is_finite() && ratio.value > 0.0).then(|| Compared {
            figure: (*figure).to_owned(),
            a: median(&a),
            b: median(&b),
            ratio,
            unit: Some(*unit),
        })
    });
    compared.collect()
}

impl Compared {
    /// What may be said.
    pub fn words(&self) -> String {
        let percent = (self.ratio.value - 1.0).abs() * 100.0;
        match self.ratio.difference() {
            Difference::NotSignificant => "no significant difference".to_owned(),
            Difference::Less => format!("A is {percent:.1} % less"),
            Difference::More => format!("A is {percent:.1} % more"),
        }
    }

    pub fn cells(&self) -> Vec<String> {
        let show = |value| self.unit.unwrap_or(Unit::Count).show(value);
        let Ratio { value, low, high } = self.ratio;
        let interval = match high.is_finite() {
            true => format!("{value:.3} ({low:.3} to {high:.3})"),
            false => format!("{value:.3} (too few runs)"),
        };
        vec![self.figure.clone(), show(self.a), show(self.b), interval, self.words()]
    }
}

/// A beside B as a page.
pub fn page(names: [&str; 2], compared: &[Compared], runs: usize) -> String {
    let mut page = Page::new(&format!("A: {}, B: {}", names[0], names[1]));
    page.facts(&format!(
        "{runs} runs of each, in the order A B B A; medians, ratios with their interval of 95 %."
    ));
    let rows = compared.iter().map(|compared| RatioRow {
        rival: String::new(),
        name: compared.figure.clone(),
        value: compared.ratio.value,
        low: if compared.ratio.high.is_finite() { compared.ratio.low } else { compared.ratio.value },
        high: if compared.ratio.high.is_finite() { compared.ratio.high } else { compared.ratio.value },
        goal: None,
        verdict: Verdict::NoGoal,
    });
    let ratios = Ratios {
        title: "A beside B".to_owned(),
        label: "A to B (logarithmic)".to_owned(),
        rows: rows.collect(),
    };
    page.figure("A beside B", ratios.draw());
    let columns = [
        ("figure", Column::Text),
        ("A", Column::Number),
        ("B", Column::Number),
        ("A to B", Column::Number),
        ("", Column::Text),
    ];
    page.table(&columns, &compared.iter().map(Compared::cells).collect::<Vec<_>>());
    let better = compared.iter().filter(|compared| compared.ratio.difference() != Difference::NotSignificant);
    let told: Vec<String> =
        better.map(|compared| format!("{} {}", compared.figure, times(compared.ratio.value))).collect();
    page.paragraph(&match told.is_empty() {
        true => "Nothing tells A from B.".to_owned(),
        false => format!("What tells A from B: {}.", told.join(", ")),
    });
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::{Side, compare, page, turn};
    use crate::record::Record;

    /// Runs whose latencies and rate are around these, a little different each time.
    fn runs(rate: f64, micros: u64, wobble: &[f64]) -> Vec<Record> {
        let run = |wobble: &f64| {
            let mut record = Record::new("smtp", "message", "", "");
            record.rate = rate * wobble;
            let spectrum = record.latency.entry("corrected".to_owned()).or_default();
            (1..=1000_u32)
                .for_each(|part| spectrum.record((micros as f64 * f64::from(part) * 1e3 * wobble) as u64));
            record
        };
        wobble.iter().map(run).collect()
    }

    const CALM: [f64; 5] = [1.0, 1.01, 0.99, 1.005, 0.995];
    const WILD: [f64; 5] = [1.0, 1.4, 0.7, 1.2, 0.8];

    #[test]
    fn runs_alternate_so_that_drift_is_shared() {
        let order: Vec<Side> = (0..8).map(turn).collect();
        let [a, b] = [Side::A, Side::B];
        assert_eq!(order, [a, b, b, a, a, b, b, a]);
    }

    #[test]
    fn a_known_difference_is_found_with_its_size() {
        let compared = compare(&runs(1200.0, 10, &CALM), &runs(1000.0, 10, &CALM));
        let rate = compared.iter().find(|compared| compared.figure == "rate").expect("both have a rate");
        assert!((rate.ratio.value - 1.2).abs() < 1e-9);
        assert!(rate.ratio.low > 1.15 && rate.ratio.high < 1.25, "{rate:?}");
        assert_eq!(rate.words(), "A is 20.0 % more");
    }

    #[test]
    fn chance_is_called_chance() {
        let compared = compare(&runs(1010.0, 10, &WILD), &runs(1000.0, 10, &WILD));
        let rate = compared.iter().find(|compared| compared.figure == "rate").expect("both have a rate");
        assert_eq!(rate.words(), "no significant difference");
        let page = page(["one", "other"], &compared, 5);
        crate::report::check_well_formed(&page);
        assert!(page.contains("no significant difference"));
    }

    #[test]
    fn what_a_side_lacks_is_not_compared() {
        let compared = compare(&runs(1.0, 1, &CALM), &runs(1.0, 1, &CALM));
        assert!(compared.iter().all(|compared| compared.figure != "CPU each"), "{compared:?}");
        let mut invalid = runs(1.0, 1, &CALM);
        invalid.iter_mut().for_each(|record| record.health.invalid = Some("late".to_owned()));
        assert!(compare(&invalid, &runs(1.0, 1, &CALM)).is_empty());
    }
}
