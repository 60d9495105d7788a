//! Objectives, such as `p99<20ms,err<0.01%,missing==0`, and whether a record holds them.
//!
//! ```text
//! objectives = objective *("," objective)
//! objective  = name ("<" / "<=" / "==" / ">=" / ">") value
//! name       = [latency "."] "p" percentile / [latency "."] ("min" / "mean" / "max")
//!            / "rate" / "err" / "dropped" / "cpu" / "syscalls" / "syncs"
//!            / "missing" / "duplicated" / "corrupted" / "reordered" / "unexpected" / a figure of the record
//! value      = number ["ns" / "us" / "ms" / "s" / "%" / "/s"]
//! ```
//!
//! `cpu` is the server's time for each operation, in microseconds where no unit is given; `syscalls` and `syncs` are
//! for each, too; `err` is the share that failed or was dropped. What was not measured is missed: an objective nobody
//! looked at is not held.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::record::Record;

#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    bounds: Vec<Bound>,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Bound {
    name: String,
    relation: Relation,
    /// In nanoseconds if a time, else a plain number.
    value: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// What became of the objectives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub objective: String,
    /// Those that do not hold, each with what was measured.
    pub missed: Vec<String>,
}

impl Verdict {
    pub fn is_held(&self) -> bool {
        self.missed.is_empty()
    }
}

impl Objective {
    pub fn judge(&self, record: &Record) -> Verdict {
        let missed = self.bounds.iter().filter_map(|bound| bound.miss(record)).collect();
        Verdict { objective: self.text.clone(), missed }
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bounds: Result<Vec<_>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        Ok(Self { bounds: bounds?, text: text.to_owned() })
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let relations = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("==", Relation::Equal),
            ("<", Relation::Less),
            (">", Relation::More),
        ];
        let found = relations.iter().find_map(|(sign, relation)| {
            let (name, value) = text.split_once(sign)?;
            Some((name.trim(), *relation, value.trim()))
        });
        let Some((name, relation, value)) = found.filter(|(name, ..)| !name.is_empty()) else {
            return Err(format!("{text:?} is no objective; write for example p99<20ms"));
        };
        Ok(Self { name: name.to_owned(), relation, value: value_of(name, value)?, text: text.to_owned() })
    }
}

impl Bound {
    /// What to say if it does not hold.
    fn miss(&self, record: &Record) -> Option<String> {
        let Some(measured) = measure(record, &self.name) else {
            return Some(format!("{}: {} was not measured", self.text, self.name));
        };
        let holds = match self.relation {
            Relation::Less => measured < self.value,
            Relation::AtMost => measured <= self.value,
            Relation::Equal => measured == self.value,
            Relation::AtLeast => measured >= self.value,
            Relation::More => measured > self.value,
        };
        let is_time =
            self.name.split('.').next_back().is_some_and(is_statistic) || percentile(&self.name).is_some();
        let shown = match is_time {
            true => crate::record::duration(measured as u64),
            false if measured.fract() == 0.0 => format!("{measured}"),
            false => format!("{measured:.3}"),
        };
        (!holds).then(|| format!("{}: it is {shown}", self.text))
    }
}

/// What a name is compared with: in the unit that [`measure`] gives it.
fn value_of(name: &str, text: &str) -> Result<f64, String> {
    let (value, unit) = number(text)?;
    let is_time = matches!(unit, "ns" | "us" | "ms" | "s");
    let takes_time = is_statistic(name.rsplit('.').next().unwrap_or(name)) || percentile(name).is_some();
    let fits = match (unit, name) {
        ("", _) => true,
        (_, "cpu") => is_time,
        ("/s", name) => name == "rate",
        ("%", name) => !takes_time && name != "rate",
        // A figure has its unit in its name, and is compared with a plain number.
        _ => takes_time,
    };
    match (fits, name) {
        (false, _) => Err(format!("{name} is not measured in {unit:?}")),
        // It is measured in microseconds.
        (true, "cpu") if is_time => Ok(value / 1e3),
        (true, _) => Ok(value),
    }
}

/// A number and its unit, times in nanoseconds.
fn number(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let value: f64 = digits.parse().map_err(|_| format!("{text:?} is no number"))?;
    let unit = unit.trim();
    let factor = match unit {
        "" | "ns" | "/s" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "%" => 0.01,
        other => return Err(format!("{other:?} is no unit")),
    };
    Ok((value * factor, unit))
}

fn is_statistic(name: &str) -> bool {
    matches!(name, "min" | "mean" | "max")
}

/// `ack.p99.9` is the latency `ack`, if named, and the percentile 99.9.
fn percentile(name: &str) -> Option<(Option<&str>, f64)> {
    let (latency, rest) = match name.strip_prefix('p') {
        Some(rest) if rest.parse::<f64>().is_ok() => (None, rest),
        _ => {
            let (latency, rest) = name.split_once(".p")?;
            (Some(latency), rest)
        }
    };
    Some((latency, rest.parse().ok()?))
}

fn measure(record: &Record, name: &str) -> Option<f64> {
    let spectrum = |latency: Option<&str>| {
        let found = match latency {
            Some(latency) => record.latency.get(latency),
            None => record.main_latency(),
        };
        found.filter(|spectrum| spectrum.count() > 0)
    };
    if let Some((latency, at)) = percentile(name) {
        return Some(spectrum(latency)?.percentile(at) as f64);
    }
    let (latency, statistic) = match name.rsplit_once('.') {
        Some((latency, statistic)) => (Some(latency), statistic),
        None => (None, name),
    };
    let cost = record.cost.as_ref();
    let ledger = record.ledger.as_ref();
    match statistic {
        "min" => Some(spectrum(latency)?.min() as f64),
        "mean" => Some(spectrum(latency)?.mean()),
        "max" => Some(spectrum(latency)?.max() as f64),
        "rate" => Some(record.rate),
        "err" => Some(record.error_share()),
        "dropped" => Some(record.counts.dropped as f64),
        "cpu" => Some(record.each(cost?.cpu_us)),
        "syscalls" => Some(record.each(cost?.system_calls?)),
        "syncs" => Some(record.each(cost?.syncs?)),
        "missing" => Some(ledger?.missing as f64),
        "duplicated" => Some(ledger?.duplicated as f64),
        "corrupted" => Some(ledger?.corrupted as f64),
        "reordered" => Some(ledger?.reordered as f64),
        "unexpected" => Some(ledger?.unexpected as f64),
        other => record.figures.get(other).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::Objective;
    use crate::cost::Cost;
    use crate::record::{LedgerCounts, Record};

    fn missed(record: &Record, objective: &str) -> usize {
        objective.parse::<Objective>().expect("an objective").judge(record).missed.len()
    }

    #[test]
    fn objectives_are_held_or_missed() {
        let mut record = Record::new("smtp", "message", "", "");
        let spectrum = record.latency.entry("corrected".to_owned()).or_default();
        (1..=1000).for_each(|ms| spectrum.record(ms * 1_000_000));
        record.latency.entry("ack".to_owned()).or_default().record(5_000_000);
        record.ledger = Some(LedgerCounts { missing: 1, ..LedgerCounts::default() });
        record.rate = 500.0;
        for (objective, expected) in [
            ("p99<995ms", 0),
            ("p99<985ms", 1),
            ("p99.9<=1002ms,p50<600ms", 0),
            ("ack.p99<6ms,ack.max<4ms", 1),
            ("missing==0", 1),
            ("missing<=1,duplicated==0", 0),
            ("rate>499/s,err<0.01%", 0),
            ("cpu<100", 1),
            ("dropped==0", 0),
            ("service.p50<1s", 1),
        ] {
            assert_eq!(missed(&record, objective), expected, "{objective}");
        }
    }

    #[test]
    fn processor_time_has_a_unit_or_is_microseconds() {
        let mut record = Record::new("smtp", "message", "", "");
        record.counts.succeeded = 10;
        record.cost = Some(Cost { cpu_us: 800, ..Cost::default() });
        for (objective, expected) in
            [("cpu<81", 0), ("cpu<79", 1), ("cpu<81us", 0), ("cpu<79us,cpu<0.081ms", 1)]
        {
            assert_eq!(missed(&record, objective), expected, "{objective}");
        }
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        for text in ["", "p99", "<3", "p99<fast", "p99<3h", "p99<5%", "err<1ms", "rate>3%", "missing==1s"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
