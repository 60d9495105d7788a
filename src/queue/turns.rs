//! Which source of a pool is next, so that each gets its weight's share: smooth weighted round robin.
//!
//! Each candidate's credit grows by its weight; the one with the most is chosen, and pays what all got. Sources that
//! cannot send at the moment take no part and gather no credit, so that they do not flood the site afterwards.
//!
//! Invariant: while the same candidates stand, of each `sum of weights` choices each gets its weight.

use super::policy::{Member, SourceId};

/// The credit of each source of one pool.
#[derive(Default)]
pub struct Turns {
    credits: Vec<(SourceId, i64)>,
}

impl Turns {
    /// One of `candidates`; `None` if there is none.
    pub fn choose(&mut self, candidates: impl Iterator<Item = Member>) -> Option<SourceId> {
        let mut best: Option<(usize, i64)> = None;
        let mut total = 0;
        for member in candidates {
            let weight = i64::from(member.weight.get());
            total += weight;
            let place = self.place(member.source);
            let credit = &mut self.credits[place].1;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((place, *credit));
            }
        }
        let (place, _) = best?;
        let (source, credit) = &mut self.credits[place];
        *credit -= total;
        Some(*source)
    }

    fn place(&mut self, source: SourceId) -> usize {
        let found = self.credits.iter().position(|(known, _)| *known == source);
        found.unwrap_or_else(|| {
            self.credits.push((source, 0));
            self.credits.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{Member, SourceId, Turns};

    #[test]
    fn shares_follow_the_weights_and_are_spread() {
        let member =
            |name, weight| Member { source: SourceId::of(name), weight: NonZeroU32::new(weight).unwrap() };
        let all = [member("a", 5), member("b", 1), member("c", 1)];
        let mut turns = Turns::default();
        let mut order = |candidates: &[Member]| turns.choose(candidates.iter().copied()).unwrap();
        let chosen: Vec<SourceId> = (0..14).map(|_| order(&all)).collect();
        let expected = ["a", "a", "b", "a", "c", "a", "a"].map(SourceId::of);
        assert_eq!(chosen[..7], expected);
        assert_eq!(chosen[7..], expected);
        assert!((0..20).all(|_| order(&all[1..2]) == SourceId::of("b")));
        assert_eq!(order(&all), SourceId::of("a"), "who stood aside does not come back all at once");
        assert_eq!(turns.choose(std::iter::empty()), None);
    }
}
