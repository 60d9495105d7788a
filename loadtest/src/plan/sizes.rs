//! How large messages are.
//!
//! ```text
//! sizes = size                         all the same
//!       / size ".." size               any size between, all as likely
//!       / "lognormal:" median "," p95  as people's mail is
//!       / size "=" weight *("," size "=" weight)
//! ```

use std::str::FromStr;

use crate::plan::random::Random;

#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    Same(usize),
    Between(usize, usize),
    LogNormal { median: f64, sigma: f64 },
    Weighted(Vec<(usize, f64)>),
}

/// No message of a distribution is larger.
const BYTES_MAX: f64 = 32.0 * 1024.0 * 1024.0;

/// Of a normal distribution, 95 % lie below so many standard deviations above its middle.
const P95: f64 = 1.6449;

impl Sizes {
    pub fn draw(&self, random: &mut Random) -> usize {
        match self {
            Self::Same(bytes) => *bytes,
            Self::Between(least, most) => least + random.below(most - least + 1),
            Self::LogNormal { median, sigma } => {
                // Box and Muller.
                let normal =
                    (-2.0 * random.unit().ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos();
                (median * (sigma * normal).exp()).min(BYTES_MAX) as usize
            }
            Self::Weighted(rows) => {
                let mut at = random.unit() * rows.iter().map(|(_, weight)| weight).sum::<f64>();
                let row = rows.iter().find(|(_, weight)| {
                    at -= weight;
                    at <= 0.0
                });
                row.or(rows.last()).map_or(0, |(bytes, _)| *bytes)
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, p95) = rest.split_once(',').ok_or("lognormal:MEDIAN,P95")?;
            let (median, p95) = (bytes(median)? as f64, bytes(p95)? as f64);
            return match p95 > median && median >= 1.0 {
                true => Ok(Self::LogNormal { median, sigma: (p95 / median).ln() / P95 }),
                false => Err("95 % are below the second size, so it is above the first".to_owned()),
            };
        }
        if let Some((least, most)) = text.split_once("..") {
            let (least, most) = (bytes(least)?, bytes(most)?);
            return match least <= most {
                true => Ok(Self::Between(least, most)),
                false => Err(format!("{text:?} ends before it begins")),
            };
        }
        if text.contains('=') {
            let rows: Result<Vec<_>, String> = text.split(',').map(weighted).collect();
            return Ok(Self::Weighted(rows?));
        }
        Ok(Self::Same(bytes(text)?))
    }
}

fn weighted(row: &str) -> Result<(usize, f64), String> {
    let (size, weight) = row.split_once('=').ok_or_else(|| format!("{row:?} has no weight"))?;
    match weight.parse::<f64>() {
        Ok(weight) if weight > 0.0 => Ok((bytes(size)?, weight)),
        _ => Err(format!("{weight:?} is no weight")),
    }
}

/// `4096`, `4k`, `1M`: a k is 1024.
pub fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches("i");
    let (digits, factor) = match digits.strip_suffix('k') {
        Some(digits) => (digits, 1 << 10),
        None => digits.strip_suffix('m').map_or((digits, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<usize>().map(|number| number * factor).map_err(|_| format!("{text:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::Sizes;
    use crate::plan::random::Random;

    fn drawn(text: &str) -> Vec<usize> {
        let sizes: Sizes = text.parse().expect("sizes");
        let mut random = Random::new(3, 0);
        let mut all: Vec<usize> = (0..10_000).map(|_| sizes.draw(&mut random)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn sizes_are_as_asked_for() {
        assert!(drawn("4k").iter().all(|&bytes| bytes == 4096));
        let between = drawn("100..200");
        assert_eq!((between[0], between[9999]), (100, 200));
        let lognormal = drawn("lognormal:15k,250k");
        assert!((14_000..17_000).contains(&lognormal[5000]), "{}", lognormal[5000]);
        assert!((220_000..290_000).contains(&lognormal[9500]), "{}", lognormal[9500]);
        let weighted = drawn("4k=90,100KB=10");
        let small = weighted.iter().filter(|&&bytes| bytes == 4096).count();
        assert!((8_800..9_200).contains(&small), "{small}");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "four", "5..3", "lognormal:9k", "lognormal:9k,3k", "4k=0", "4k=1,5"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
