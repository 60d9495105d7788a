//! Few are asked for often, many seldom: ranks after Zipf.

use crate::plan::random::Random;

/// The exponent: 0 makes all ranks alike, 1 is Zipf's own, and what is larger leaves less to the many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Zipf(pub f64);

impl Zipf {
    /// A rank from 0 below `count`, which is at least 1. Rank `k` has the weight of the integral of `x^-s` from `k + 1`
    /// to `k + 2`, which needs no table, however many there are.
    pub fn draw(self, count: usize, random: &mut Random) -> usize {
        let (end, point) = (count as f64 + 1.0, 1.0 - random.unit());
        let power = 1.0 - self.0;
        let at = match power.abs() < 1e-9 {
            true => end.powf(point),
            false => (1.0 + point * (end.powf(power) - 1.0)).powf(1.0 / power),
        };
        (at as usize).saturating_sub(1).min(count.saturating_sub(1))
    }

    /// What the one of this rank has if the first has `most`; nobody has less than `least`.
    pub fn share(self, rank: usize, least: usize, most: usize) -> usize {
        ((most as f64 / (rank as f64 + 1.0).powf(self.0)) as usize).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::Zipf;
    use crate::plan::random::Random;

    /// How often each of a thousand ranks is drawn.
    fn counts(exponent: f64) -> Vec<u32> {
        let mut random = Random::new(7, 0);
        let mut counts = vec![0; 1000];
        (0..200_000).for_each(|_| counts[Zipf(exponent).draw(1000, &mut random)] += 1);
        counts
    }

    #[test]
    fn ranks_fall_off_as_asked() {
        let even = counts(0.0);
        assert!(even.iter().all(|count| (120..290).contains(count)), "{even:?}");
        // ln 2 of ln 1001 go to the first.
        let zipf = counts(1.0);
        assert!((19_000..21_200).contains(&zipf[0]), "{}", zipf[0]);
        let head: u32 = zipf[..31].iter().sum();
        assert!((97_000..104_000).contains(&head), "{head}");
        let steep = counts(2.0);
        assert!((97_000..103_000).contains(&steep[0]), "{}", steep[0]);
    }

    #[test]
    fn shares_have_a_floor() {
        let shares: Vec<usize> = [0, 1, 9, 999].map(|rank| Zipf(1.0).share(rank, 200, 100_000)).to_vec();
        assert_eq!(shares, [100_000, 50_000, 10_000, 200]);
    }
}
