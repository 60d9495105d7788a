//! What is to be known again after a restart of what operators ordered and sites have shown: as it is kept.
//!
//! Times are Unix milliseconds, since the clock of the engines begins anew with each process. Each shard keeps its own
//! part; what of two parts is about the same thing is put together so that less is allowed, never more: a start with
//! another number of shards, and one after a crash between two files, are no worse than any other.
//!
//! Invariant: what is over is left out, when it is kept and when it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::{PoolId, SourceId};
use super::selection::Selection;
use super::suspension::{Does, Suspension};
use crate::mail::time::Instant;

/// One moment on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub unix_ms: i64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    pub suspensions: Vec<KeptSuspension>,
    pub days: Vec<KeptDay>,
    /// By the site's name.
    pub sites: BTreeMap<String, KeptSite>,
}

/// By an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSuspension {
    pub id: u64,
    pub selection: Selection,
    pub until_ms: i64,
    pub reason: String,
    pub does: Does,
}

/// What a source that is warming up has used of a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptDay {
    pub source: SourceId,
    /// Days since 1970-01-01.
    pub day: i64,
    /// When it could begin anew with all that may be saved up.
    pub full_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeptSite {
    pub lanes: Vec<KeptLane>,
    pub switches: Vec<KeptSwitch>,
}

/// What a source has met with at a site.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptLane {
    pub source: SourceId,
    pub dead: Option<KeptDeath>,
    pub suspended: Option<KeptPause>,
    pub slowed: Option<KeptSlowness>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptDeath {
    pub until_ms: i64,
    pub back_off_ms: u64,
    /// What was said, or stands for it.
    pub why: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptPause {
    pub until_ms: i64,
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSlowness {
    pub until_ms: i64,
    /// As operators write it.
    pub rate: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSwitch {
    pub from: PoolId,
    pub to: PoolId,
    pub until_ms: i64,
}

impl Moment {
    pub fn unix_of(&self, at: Instant) -> i64 {
        let span = i128::from(at.0) - i128::from(self.instant.0);
        i64::try_from(i128::from(self.unix_ms) + span).unwrap_or(i64::MAX)
    }

    /// What is over already is now.
    pub fn instant_of(&self, unix_ms: i64) -> Instant {
        let span = u64::try_from(unix_ms.saturating_sub(self.unix_ms)).unwrap_or(0);
        Instant(self.instant.0.saturating_add(span))
    }
}

impl Memory {
    /// Adds another part.
    pub fn add(&mut self, other: Self) {
        for suspension in other.suspensions {
            if !self.suspensions.iter().any(|known| known.id == suspension.id) {
                self.suspensions.push(suspension);
            }
        }
        for day in other.days {
            match self.days.iter_mut().find(|known| known.source == day.source) {
                Some(known) if (known.day, known.full_ms) < (day.day, day.full_ms) => *known = day,
                Some(_) => {}
                None => self.days.push(day),
            }
        }
        for (name, site) in other.sites {
            self.sites.entry(name).or_insert(site);
        }
        self.suspensions.sort_unstable_by_key(|suspension| suspension.id);
    }
}

impl KeptSuspension {
    pub fn of(suspension: &Suspension, now: Moment) -> Self {
        let Suspension { id, selection, until, reason, does } = suspension.clone();
        Self { id, selection, until_ms: now.unix_of(until), reason, does }
    }

    /// `None` if it is over.
    pub fn recall(&self, now: Moment) -> Option<Suspension> {
        let Self { id, selection, until_ms, reason, does } = self.clone();
        let until = now.instant_of(until_ms);
        (until > now.instant).then_some(Suspension { id, selection, until, reason, does })
    }
}

impl KeptSite {
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.switches.is_empty()
    }

    /// There is nothing left that holds.
    pub fn is_over(&self, unix_ms: i64) -> bool {
        let lanes = self.lanes.iter().flat_map(|lane| {
            let dead = lane.dead.as_ref().map(|dead| dead.until_ms);
            let suspended = lane.suspended.as_ref().map(|suspended| suspended.until_ms);
            dead.into_iter().chain(suspended).chain(lane.slowed.as_ref().map(|slowed| slowed.until_ms))
        });
        let mut ends = lanes.chain(self.switches.iter().map(|switch| switch.until_ms));
        ends.all(|until| until <= unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::{KeptDay, KeptSuspension, Memory, Moment};
    use crate::mail::time::Instant;
    use crate::queue::policy::SourceId;
    use crate::queue::selection::Selection;
    use crate::queue::suspension::Does;

    const NOW: Moment = Moment { instant: Instant(5_000), unix_ms: 1_000_000 };

    fn suspension(id: u64, until_ms: i64) -> KeptSuspension {
        let (selection, reason) = (Selection::default(), "reason".to_owned());
        KeptSuspension { id, selection, until_ms, reason, does: Does::Suspend }
    }

    #[test]
    fn times_mean_the_same_in_another_process() {
        let kept = suspension(1, NOW.unix_of(Instant(65_000)));
        let later = Moment { instant: Instant(10), unix_ms: 1_020_000 };
        assert_eq!(kept.recall(later).map(|known| known.until), Some(Instant(40_010)));
        assert_eq!(kept.recall(Moment { unix_ms: 1_060_000, ..later }), None);
    }

    #[test]
    fn parts_are_put_together_on_the_safe_side() {
        let day = |day, full_ms| KeptDay { source: SourceId::of("one"), day, full_ms };
        let part = |ids: &[u64], days| Memory {
            suspensions: ids.iter().map(|id| suspension(*id, 9)).collect(),
            days: vec![days],
            ..Memory::default()
        };
        let mut whole = part(&[2, 3], day(7, 50));
        whole.add(part(&[1, 2], day(7, 80)));
        whole.add(part(&[], day(6, 99)));
        assert_eq!(whole.suspensions.iter().map(|known| known.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(whole.days, [day(7, 80)]);
    }
}
