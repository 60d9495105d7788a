//! What a host's behaviour says about how much of us it wants: a window of connections, and whether it is alive.
//!
//! The window begins small, grows by one for each round of transactions that went well, and shrinks by one with
//! each failure, as Postfix's queue manager does it.
//!
//! A host that refuses several times in a row, with nothing that went well between, counts as dead and is left alone
//! for a time. Then a single connection tries it. If that fails, the time is doubled; only a transaction, not the
//! connection alone, brings the host back to life and the time back to its first value. Neither a limit nor a
//! suspension nor another configuration changes that.
//!
//! Invariants: the window lies within 1 and its maximum; while a host is dead no connection to it is begun, while it
//! is tried at most one.

use std::time::Duration;

use crate::limits::outbound::{CONNECTIONS_FIRST, REOPEN_FIRST, REOPEN_MAX};
use crate::mail::time::Instant;
use crate::queue::policy::Shaping;

/// The parts in which the window grows.
const UNIT: u32 = 1000;

/// How many connections at a time the other side has shown to bear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// In `UNIT`ths of a connection.
    size: u32,
    max: u32,
}

impl Window {
    pub fn new(max: u32) -> Self {
        Self { size: CONNECTIONS_FIRST.min(max) * UNIT, max: max * UNIT }
    }

    /// Another maximum; what was learnt stays.
    pub fn set_max(&mut self, max: u32) {
        self.max = max * UNIT;
        self.size = self.size.min(self.max);
    }

    pub fn handle_success(&mut self) {
        // As many successes as connections are one round, and make one connection more.
        let part = (UNIT / (self.size / UNIT).max(1)).max(1);
        self.size = (self.size + part).min(self.max);
    }

    pub fn handle_failure(&mut self) {
        self.size = self.size.saturating_sub(UNIT).max(UNIT.min(self.max));
    }

    pub fn connections(&self) -> u32 {
        self.size / UNIT
    }
}

/// Whether the other side is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Failures with no success between.
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Alive,
    /// Some failures, not yet enough; no new connection before this time.
    Shaken { until: Instant },
    /// Left alone, for so long this time. From `until` on one connection may try.
    Dead { until: Instant, back_off: Duration },
}

/// What may be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// As many connections as the window has.
    Window,
    /// One, to see whether anybody is there.
    Probe,
    /// None before this time.
    NotBefore(Instant),
}

impl Health {
    /// No connection came about, or it broke before anything went through it.
    pub fn handle_failure(&mut self, shaping: &Shaping, now: Instant) {
        // Connections that were begun together fail together, and say it once.
        if let State::Shaken { until } | State::Dead { until, .. } = self.state
            && now < until
        {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.state = match self.state {
            State::Dead { back_off, .. } => dead((back_off * 2).min(shaping.dead_max), now),
            _ if self.failures >= shaping.failures_until_dead.get() => dead(shaping.dead_first, now),
            _ => {
                let doublings = (self.failures - 1).min(16);
                let pause = (REOPEN_FIRST * (1 << doublings)).min(REOPEN_MAX).min(shaping.dead_first);
                State::Shaken { until: now + pause }
            }
        };
    }

    /// A transaction came to its end, with whatever reply.
    pub fn handle_success(&mut self) {
        *self = Self::default();
    }

    /// An operator wants it tried: whatever pause there is ends now. What was learnt stays.
    pub fn end_pause(&mut self, now: Instant) {
        if let State::Shaken { until } | State::Dead { until, .. } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    pub fn allowance(&self, now: Instant) -> Allowance {
        match self.state {
            State::Alive => Allowance::Window,
            State::Shaken { until } | State::Dead { until, .. } if now < until => Allowance::NotBefore(until),
            State::Shaken { .. } => Allowance::Window,
            State::Dead { .. } => Allowance::Probe,
        }
    }

    /// Until when it is left alone, and for how long this time, if it was found dead.
    pub fn death(&self) -> Option<(Instant, Duration)> {
        match self.state {
            State::Dead { until, back_off } => Some((until, back_off)),
            State::Alive | State::Shaken { .. } => None,
        }
    }

    /// It was found dead before a restart, after at least so many failures.
    pub fn recall_death(&mut self, until: Instant, back_off: Duration, failures: u32) {
        *self = Self { failures: failures.max(1), state: State::Dead { until, back_off } };
    }

    /// It was found dead, and nothing has gone through since.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }

    /// When what went wrong says nothing any more: so long after the last pause as the longest one takes. `None` if
    /// nothing did.
    pub fn fades(&self, shaping: &Shaping) -> Option<Instant> {
        match self.state {
            State::Alive => None,
            State::Shaken { until } | State::Dead { until, .. } => Some(until + shaping.dead_max),
        }
    }
}

fn dead(back_off: Duration, now: Instant) -> State {
    State::Dead { until: now + back_off, back_off }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Allowance, Health, Window};
    use crate::mail::time::Instant;
    use crate::queue::policy::Shaping;

    #[test]
    fn the_window_grows_by_one_a_round() {
        let mut window = Window::new(20);
        assert_eq!(window.connections(), 5);
        let mut rounds = Vec::new();
        for _ in 0..4 {
            // Thousandths are lost to rounding at some sizes, so that a round may take one more.
            let before = window.connections();
            let mut successes = 0;
            while window.connections() == before {
                window.handle_success();
                successes += 1;
            }
            rounds.push(successes);
        }
        assert_eq!(rounds, [5, 7, 6, 8]);
        window.handle_failure();
        assert_eq!(window.connections(), 8);
        window.set_max(3);
        assert_eq!(window.connections(), 3);
    }

    proptest! {
        #[test]
        fn the_window_keeps_its_bounds(max in 1..50u32, went_well in prop::collection::vec(any::<bool>(), 0..500)) {
            let mut window = Window::new(max);
            for well in went_well {
                if well { window.handle_success() } else { window.handle_failure() }
                prop_assert!((1..=max).contains(&window.connections()));
            }
        }
    }

    #[test]
    fn a_dead_host_is_left_alone_for_longer_and_longer() {
        let shaping = Shaping::default();
        let mut health = Health::default();
        let mut now = Instant(1_000_000);
        for wait_s in [1, 2] {
            health.handle_failure(&shaping, now);
            let until = now + Duration::from_secs(wait_s);
            assert_eq!(health.allowance(now), Allowance::NotBefore(until));
            assert_eq!(health.allowance(until), Allowance::Window);
            now = until;
        }
        let minutes = [1, 2, 4, 8, 16, 30, 30];
        for wait in minutes {
            health.handle_failure(&shaping, now);
            // The rest of a round of connections that failed together.
            health.handle_failure(&shaping, now);
            let until = now + Duration::from_secs(wait * 60);
            assert_eq!(health.allowance(Instant(until.0 - 1)), Allowance::NotBefore(until));
            assert_eq!(health.allowance(until), Allowance::Probe);
            assert_eq!(health.fades(&shaping), Some(until + shaping.dead_max));
            now = until;
        }
        health.handle_success();
        assert_eq!(health.allowance(now), Allowance::Window);
        assert_eq!(health.fades(&shaping), None);
    }
}
