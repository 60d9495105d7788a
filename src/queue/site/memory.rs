//! What a site has to remember through a restart, and remembers again.

use std::rc::Rc;

use super::{Site, Switch};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::Instant;
use crate::queue::job::{FailureKind, Job, OpenFailure};
use crate::queue::lane::{Lane, NEVER, Suspension};
use crate::queue::memory::{KeptDeath, KeptLane, KeptPause, KeptSite, KeptSlowness, KeptSwitch, Moment};

impl<J: Job> Site<J> {
    /// Who was found dead, and what rules did for a time.
    pub fn remember(&self, now: Moment) -> KeptSite {
        let switches = self.switches.iter().filter(|switch| switch.until > now.instant);
        let switch = |switch: &Switch| KeptSwitch {
            from: switch.from,
            to: switch.to,
            until_ms: now.unix_of(switch.until),
        };
        KeptSite {
            lanes: self.lanes.iter().filter_map(|lane| lane.remember(now)).collect(),
            switches: switches.map(switch).collect(),
        }
    }

    /// As it was before a restart. A source or a pool that is not in the plan any more is forgotten.
    pub fn recall(&mut self, kept: &KeptSite, now: Moment) {
        for lane in &kept.lanes {
            if let Some(known) = self.lane_from(lane.source) {
                known.recall(lane, now);
            }
        }
        for KeptSwitch { from, to, until_ms } in kept.switches.iter().copied() {
            let until = now.instant_of(until_ms);
            let is_planned = self.plan.pools.iter().any(|pool| pool.id() == to);
            if until > now.instant && is_planned {
                self.switch_pool(from, to, until);
            }
        }
    }
}

impl<J: Job> Lane<J> {
    fn remember(&self, now: Moment) -> Option<KeptLane> {
        let is_ahead = |at: &Instant| *at > now.instant && *at < NEVER;
        let dead = self.health.death().map(|(until, back_off)| KeptDeath {
            until_ms: now.unix_of(until),
            back_off_ms: u64::try_from(back_off.as_millis()).unwrap_or(u64::MAX),
            why: self.last_failure.as_ref().map_or(String::new(), |failure| failure.reply.text.clone()),
        });
        let suspension = self.suspension.as_ref().filter(|suspension| is_ahead(&suspension.ends()));
        let suspended = suspension.map(|suspension| KeptPause {
            until_ms: now.unix_of(suspension.ends()),
            reason: suspension.reason.clone(),
        });
        let slowed = self.slowed_to().filter(|(_, until)| is_ahead(until));
        let slowed =
            slowed.map(|(rate, until)| KeptSlowness { until_ms: now.unix_of(until), rate: rate.to_string() });
        let has_any = dead.is_some() || suspended.is_some() || slowed.is_some();
        has_any.then_some(KeptLane { source: self.source, dead, suspended, slowed })
    }

    fn recall(&mut self, kept: &KeptLane, now: Moment) {
        let KeptLane { dead, suspended, slowed, .. } = kept;
        if let Some(KeptDeath { until_ms, back_off_ms, why }) = dead {
            let back_off = std::time::Duration::from_millis(*back_off_ms).min(self.shaping.dead_max);
            // However far the clock was set: no longer than it may be left alone at a time.
            let until = now.instant_of(*until_ms).min(now.instant + back_off);
            self.health.recall_death(until, back_off, self.shaping.failures_until_dead.get());
            let reply = Reply::new(450, EnhancedCode::new(4, 4, 1), why.clone());
            self.last_failure = Some(Rc::new(OpenFailure { kind: FailureKind::Unreachable, reply }));
        }
        if let Some(KeptPause { until_ms, reason }) = suspended {
            let until = now.instant_of(*until_ms);
            if until > now.instant {
                self.suspension = Some(Suspension { until: Some(until), reason: reason.clone() });
            }
        }
        if let Some(KeptSlowness { until_ms, rate }) = slowed
            && let Ok(rate) = rate.parse()
        {
            let until = now.instant_of(*until_ms);
            if until > now.instant {
                self.slow(rate, until, now.instant);
            }
        }
    }
}
