//! `loadtest sweep`: the same load at other rates, with other numbers of sessions or on larger mailboxes.
//!
//! A range is walked in steps of equal ratio. For rates, the knee is then looked for by bisection between the highest
//! rate that held the objective and the next that did not. Every run is a record of its own, for the report.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::command::Outcome;
use crate::command::growth::Growth;
use crate::command::smtp::Smtp;
use crate::plan::Rate;
use crate::record::{Objective, Record, duration};

#[derive(Args)]
pub struct Sweep {
    #[command(subcommand)]
    over: Over,
}

#[derive(Subcommand)]
enum Over {
    /// Messages a second by SMTP: finds the rate up to which the objective holds.
    Rate(Box<Walk>),
    /// Connections at once by SMTP.
    Sessions(Box<Walk>),
    /// Messages in a mailbox: how operations of IMAP and POP3 grow with it.
    Mailbox(Box<Growth>),
}

#[derive(Args)]
struct Walk {
    /// From..to, such as 1k..20k.
    range: Range,
    /// Steps through the range, each the same multiple of the one before.
    #[arg(long, default_value_t = 5)]
    steps: u32,
    /// Between the last rate that holds and the first that does not.
    #[arg(long, default_value_t = 4)]
    bisections: u32,
    /// A folder for the records, one of each run.
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,
    #[command(flatten)]
    smtp: Smtp,
}

/// What a walk changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Rate,
    Sessions,
}

/// Such as 1k..20k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    least: f64,
    most: f64,
}

/// What a run at one point was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Yes,
    No,
    /// The generator was not up to it, so that nobody knows; nothing above it is asked for.
    Unknown,
}

impl Sweep {
    pub fn run(&self) -> io::Result<Outcome> {
        match &self.over {
            Over::Rate(walk) => walk.run(Changed::Rate),
            Over::Sessions(walk) => walk.run(Changed::Sessions),
            Over::Mailbox(growth) => growth.run(),
        }
    }
}

impl Walk {
    fn run(&self, changed: Changed) -> io::Result<Outcome> {
        if self.smtp.report.json.is_some() {
            return Err(io::Error::other("there is a record of each run: say --records FOLDER, not --json"));
        }
        let default: Objective = "p99<100ms,err<0.1%".parse().map_err(io::Error::other)?;
        let objective = self.smtp.report.slo.clone().unwrap_or(default);
        // Between two numbers of sessions there is seldom anything to find.
        let bisections = if changed == Changed::Rate { self.bisections } else { 0 };
        let knee = self.range.knee(self.steps, bisections, |at| {
            let record = self.measure(changed, at, &objective)?;
            let held = held(&record);
            say!("{}", row(at, &record, held));
            Ok(held)
        })?;
        match knee {
            Some(at) => say!("the objective holds up to {at:.0} {}", changed.unit()),
            None => say!("the objective does not hold anywhere in the range"),
        }
        Ok(if knee.is_some() { Outcome::Fine } else { Outcome::Missed })
    }

    fn measure(&self, changed: Changed, at: f64, objective: &Objective) -> io::Result<Record> {
        let (smtp, point) = match changed {
            Changed::Rate => (self.smtp.at_rate(Rate(at)), "offered_rate"),
            Changed::Sessions => (self.smtp.with_sessions(at.round() as usize), "sessions"),
        };
        let mut record = smtp.measure()?;
        record.verdict = Some(objective.judge(&record));
        record.figures.insert(point.to_owned(), at);
        if let Some(folder) = &self.records {
            std::fs::create_dir_all(folder)?;
            record.write(&folder.join(format!("{point}-{at:.0}.json")))?;
        }
        Ok(record)
    }
}

impl Changed {
    fn unit(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::Sessions => "sessions",
        }
    }
}

fn held(record: &Record) -> Held {
    match (&record.health.invalid, &record.verdict) {
        (Some(_), _) => Held::Unknown,
        (None, Some(verdict)) if !verdict.is_held() => Held::No,
        _ => Held::Yes,
    }
}

fn row(at: f64, record: &Record, held: Held) -> String {
    if let Some(reason) = &record.health.invalid {
        return format!("{at:>8.0}  INVALID: {reason}");
    }
    let at_percentile = |at: f64| record.main_latency().map_or(0, |spectrum| spectrum.percentile(at));
    let verdict = match (held, &record.verdict) {
        (Held::No, Some(verdict)) => format!("missed: {}", verdict.missed.join("; ")),
        _ => "held".to_owned(),
    };
    format!(
        "{at:>8.0}  {:>8.0}/s  p50 {:>9}  p99 {:>9}  p99.9 {:>9}  {verdict}",
        record.rate,
        duration(at_percentile(50.0)),
        duration(at_percentile(99.0)),
        duration(at_percentile(99.9)),
    )
}

impl Range {
    /// Points of equal ratio, the ends among them.
    pub fn points(self, steps: u32) -> impl Iterator<Item = f64> {
        let steps = steps.max(2);
        let ratio = (self.most / self.least).powf(1.0 / f64::from(steps - 1));
        (0..steps).map(move |step| self.least * ratio.powi(step as i32))
    }

    /// The highest point that holds, as far as steps and bisections tell.
    pub fn knee(
        self,
        steps: u32,
        bisections: u32,
        mut holds: impl FnMut(f64) -> io::Result<Held>,
    ) -> io::Result<Option<f64>> {
        let (mut good, mut bad) = (None, None);
        for at in self.points(steps) {
            match holds(at)? {
                Held::Yes => good = Some(at),
                Held::No => {
                    bad = Some(at);
                    break;
                }
                Held::Unknown => break,
            }
        }
        let (Some(mut low), Some(mut high)) = (good, bad) else { return Ok(good) };
        for _ in 0..bisections {
            let at = (low + high) / 2.0;
            match holds(at)? {
                Held::Yes => low = at,
                Held::No | Held::Unknown => high = at,
            }
        }
        Ok(Some(low))
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").ok_or("write for example 1k..20k")?;
        let (least, most) = (least.parse::<Rate>()?.0, most.parse::<Rate>()?.0);
        match least < most {
            true => Ok(Self { least, most }),
            false => Err(format!("{text:?} ends before it begins")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Range};

    #[test]
    fn the_knee_is_found() {
        let range: Range = "1k..16k/s".parse().expect("a range");
        let mut asked = Vec::new();
        let knee = range.knee(5, 6, |at| {
            asked.push(at.round());
            Ok(if at < 5300.0 { Held::Yes } else { Held::No })
        });
        let knee = knee.expect("nothing fails").expect("there is one");
        assert!((5200.0..5300.0).contains(&knee), "{knee} {asked:?}");
        assert_eq!(asked[..4], [1000.0, 2000.0, 4000.0, 8000.0]);
        assert_eq!(range.knee(3, 3, |_| Ok(Held::No)).expect("nothing fails"), None);
        // What the generator cannot do is no knee of the server.
        let unknown = range.knee(5, 3, |at| Ok(if at < 3000.0 { Held::Yes } else { Held::Unknown }));
        assert_eq!(unknown.expect("nothing fails").map(f64::round), Some(2000.0));
    }
}
