//! From values to places on an axis, and which values an axis names.

use crate::record::duration;

/// What the values of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanos,
    Micros,
    Seconds,
    PerSecond,
    Bytes,
    Count,
    /// A ratio: 1 is alike.
    Times,
}

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear {
        max: f64,
    },
    Log {
        min: f64,
        max: f64,
    },
    /// Percentiles by their nines: 90, 99, 99.9, ... stand as far from each other.
    Nines {
        max: f64,
    },
}

impl Unit {
    /// A value with its unit, in few digits.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Nanos => time(value),
            Self::Micros => time(value * 1e3),
            Self::Seconds => time(value * 1e9),
            Self::PerSecond => format!("{}/s", short(value)),
            Self::Bytes => bytes(value),
            Self::Count => short(value),
            Self::Times => times(value),
        }
    }
}

impl Scale {
    /// From 0 to a round number at or above all values.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let max = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_step(max / 5.0);
        Self::Linear { max: (max / step).ceil() * step }
    }

    /// Whole decades around all values that a logarithm has.
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            return Self::Log { min: 1.0, max: 10.0 };
        }
        let (min, mut max) = (power_below(low), power_below(high));
        if max < high || max <= min {
            max *= 10.0;
        }
        Self::Log { min, max }
    }

    /// From 0 at the beginning of the axis to 1 at its end.
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { max } => value / max,
            Self::Log { min, max } => (value / min).ln() / (max / min).ln(),
            Self::Nines { max } => nines(value) / nines(max),
        };
        place.clamp(0.0, 1.0)
    }

    /// The values that are named, with their names.
    pub fn ticks(self, unit: Unit) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self {
            Self::Linear { max } => {
                let step = round_step(max / 5.0);
                (0..=(max / step).round() as u32).map(|number| f64::from(number) * step).collect()
            }
            Self::Log { min, max } => decades(min, max),
            Self::Nines { max } => {
                let named = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
                let shown = named.into_iter().filter(|percentile| *percentile <= max);
                return shown.map(|percentile| (percentile, format!("{percentile} %"))).collect();
            }
        };
        values.into_iter().map(|value| (value, unit.show(value))).collect()
    }
}

/// 0 for the 0th percentile, 1 for the 90th, 2 for the 99th.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// Powers of ten, and halves between them while these are few.
fn decades(min: f64, max: f64) -> Vec<f64> {
    let mut values = Vec::new();
    let few = max / min < 1e3 * 1.01;
    let mut power = min;
    while power <= max * 1.01 {
        values.push(power);
        if few {
            values.extend([power * 2.0, power * 5.0].into_iter().filter(|value| *value <= max * 1.01));
        }
        power *= 10.0;
    }
    values
}

fn power_below(value: f64) -> f64 {
    10_f64.powf(value.log10().floor())
}

/// 1, 2, 2.5 or 5 times a power of ten, at or above.
fn round_step(least: f64) -> f64 {
    let power = power_below(least);
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power * 10.0)
}

fn time(nanos: f64) -> String {
    match nanos {
        0.0 => "0".to_owned(),
        nanos if nanos < 1e3 => format!("{} ns", trimmed(nanos)),
        nanos if nanos < 1e6 => format!("{} us", trimmed(nanos / 1e3)),
        nanos if nanos < 1e9 => format!("{} ms", trimmed(nanos / 1e6)),
        nanos if nanos < 6e11 => format!("{} s", trimmed(nanos / 1e9)),
        nanos => duration(nanos as u64),
    }
}

/// A number in three digits, thousands as k and millions as M.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{}G", trimmed(value / 1e9)),
        size if size >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        size if size >= 1e4 => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn bytes(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} GB", trimmed(value / 1e9)),
        value if value >= 1e6 => format!("{} MB", trimmed(value / 1e6)),
        value if value >= 1e3 => format!("{} KB", trimmed(value / 1e3)),
        value => format!("{} B", trimmed(value)),
    }
}

/// How many times: small ones as a fraction, which people can picture.
pub fn times(value: f64) -> String {
    match value {
        value if value >= 0.95 || value <= 0.0 => format!("{}x", trimmed(value)),
        value if value >= 0.3 => format!("{}x", trimmed(value)),
        value => format!("1/{}", trimmed(1.0 / value)),
    }
}

/// Three digits that count, without zeroes at the end.
pub fn trimmed(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        size => (2.0 - size.log10().floor()) as usize,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{Scale, Unit, short, times, trimmed};

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (1234.0, "1234"), (12.34, "12.3"), (0.05, "0.05"), (0.00123, "0.00123")]
        {
            assert_eq!(trimmed(value), text);
        }
        assert_eq!((short(15_000.0), short(2_500_000.0)), ("15k".to_owned(), "2.5M".to_owned()));
        assert_eq!(
            (times(0.04), times(0.5), times(15.0)),
            ("1/25".to_owned(), "0.5x".to_owned(), "15x".to_owned())
        );
        assert_eq!(Unit::Nanos.show(1_500_000.0), "1.5 ms");
        assert_eq!(Unit::Bytes.show(4300.0), "4.3 KB");
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_round_number() {
        let scale = Scale::linear([3.0, 870.0].into_iter());
        assert_eq!(scale, Scale::Linear { max: 1000.0 });
        let ticks = scale.ticks(Unit::Count);
        assert_eq!(ticks.first().map(|tick| tick.1.as_str()), Some("0"));
        assert_eq!(ticks.last().map(|tick| tick.0), Some(1000.0));
        assert_eq!(scale.place(500.0), 0.5);
    }

    #[test]
    fn a_logarithmic_axis_has_whole_decades() {
        assert_eq!(Scale::log([3.0, 870.0].into_iter()), Scale::Log { min: 1.0, max: 1000.0 });
        assert_eq!(Scale::log([1000.0, 1e6].into_iter()), Scale::Log { min: 1000.0, max: 1e6 });
        assert_eq!(Scale::log([5.0].into_iter()), Scale::Log { min: 1.0, max: 10.0 });
        assert_eq!(Scale::log([0.0, f64::NAN].into_iter()), Scale::Log { min: 1.0, max: 10.0 });
        let place = Scale::Log { min: 1.0, max: 100.0 }.place(10.0);
        assert!((place - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nines_are_evenly_spaced() {
        let scale = Scale::Nines { max: 99.99 };
        assert!((scale.place(99.0) - 0.5).abs() < 1e-9);
        assert_eq!(scale.place(0.0), 0.0);
        let names: Vec<String> = scale.ticks(Unit::Count).into_iter().map(|tick| tick.1).collect();
        assert_eq!(names, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
