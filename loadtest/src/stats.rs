//! What a few repetitions allow to say: medians, and how sure their ratio is.
//!
//! The interval comes from resampling (bootstrap): the repetitions of each side are drawn again, with replacement, many
//! times; the ratios of the medians of these draws, without the outermost 2.5 % on both ends, are the interval. The
//! draws are pseudo-random from a fixed seed, so that the same samples give the same interval on every machine.

use serde::{Deserialize, Serialize};

/// Ratio of two medians with its interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// What an interval says about two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The interval spans 1, or there is none.
    NotSignificant,
    Less,
    More,
}

/// Enough that the ends of the interval move by less than a percent of its width from seed to seed.
const DRAWS: usize = 4000;

const OUTSIDE: f64 = 0.025;

/// Fewer than this, and resampling cannot but find them alike.
const SAMPLES_MIN: usize = 3;

/// The middle one; of an even number the mean of the middle two; of none, not a number.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

impl Ratio {
    /// `a` to `b`. With fewer than three samples on a side the interval is everything.
    pub fn of(a: &[f64], b: &[f64]) -> Self {
        let value = median(a) / median(b);
        if a.len().min(b.len()) < SAMPLES_MIN {
            return Self { value, low: 0.0, high: f64::INFINITY };
        }
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut ratios: Vec<f64> =
            (0..DRAWS).map(|_| median(&random.draw(a)) / median(&random.draw(b))).collect();
        ratios.sort_by(f64::total_cmp);
        let outside = (DRAWS as f64 * OUTSIDE) as usize;
        Self { value, low: ratios[outside], high: ratios[DRAWS - 1 - outside] }
    }

    pub fn difference(&self) -> Difference {
        match self {
            ratio if ratio.high < 1.0 => Difference::Less,
            ratio if ratio.low > 1.0 => Difference::More,
            _ => Difference::NotSignificant,
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// As many as there are, each of them any of them.
    fn draw(&mut self, samples: &[f64]) -> Vec<f64> {
        let count = samples.len() as u64;
        samples.iter().map(|_| samples[((self.next() >> 16) % count) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Random, Ratio, median};

    /// Samples around `middle`, `spread` wide.
    fn samples(random: &mut Random, count: usize, middle: f64, spread: f64) -> Vec<f64> {
        let unit = |random: &mut Random| (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (0..count).map(|_| middle * (1.0 + spread * (unit(random) + unit(random) - 1.0))).collect()
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_covers_a_known_ratio() {
        let mut random = Random(42);
        let trials = 200;
        let covered = (0..trials)
            .filter(|_| {
                let a = samples(&mut random, 9, 20.0, 0.1);
                let b = samples(&mut random, 9, 100.0, 0.1);
                let ratio = Ratio::of(&a, &b);
                assert_eq!(ratio.difference(), Difference::Less, "{ratio:?}");
                ratio.low <= 0.2 && 0.2 <= ratio.high
            })
            .count();
        // 95 % is what large samples would give; nine of each give about 90 %.
        assert!(covered >= trials * 88 / 100, "{covered} of {trials}");
    }

    #[test]
    fn no_difference_is_not_found_where_there_is_none() {
        let mut random = Random(7);
        let trials = 200;
        let mistaken = (0..trials)
            .filter(|_| {
                let a = samples(&mut random, 7, 50.0, 0.2);
                let b = samples(&mut random, 7, 50.0, 0.2);
                Ratio::of(&a, &b).difference() != Difference::NotSignificant
            })
            .count();
        assert!(mistaken <= trials / 8, "{mistaken} of {trials}");
    }

    #[test]
    fn a_small_difference_is_found_when_the_samples_agree() {
        let ratio = Ratio::of(&[104.0, 105.0, 106.0, 105.0, 104.5], &[100.0, 100.5, 99.5, 100.0, 101.0]);
        assert_eq!(ratio.difference(), Difference::More);
        assert!((ratio.value - 1.05).abs() < 1e-9 && ratio.low > 1.02 && ratio.high < 1.08, "{ratio:?}");
    }

    #[test]
    fn two_samples_prove_nothing() {
        let ratio = Ratio::of(&[1.0, 1.0], &[100.0, 100.0]);
        assert_eq!((ratio.value, ratio.difference()), (0.01, Difference::NotSignificant));
    }
}
