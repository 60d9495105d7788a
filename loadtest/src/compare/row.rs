//! Rows of the comparison as values: what is measured on whom, and what it has to show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::server::Server;
use crate::report::scale::Unit;
use crate::stats::{Ratio, median};

/// Samples of one repetition: a value for each measure that could be taken.
pub type Samples = BTreeMap<String, f64>;

/// One thing that a row measures.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Among those of its row.
    pub name: String,
    /// For people.
    pub what: String,
    pub unit: Unit,
    pub better: Better,
    pub goal: Goal,
    pub rivals: Rivals,
}

/// Who may be the best peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rivals {
    Everyone,
    /// Who has synced when it says 250, as ours has. The others are shown.
    Synced,
    /// What is measured is nobody's merit.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

/// What ours is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Shown, without a verdict.
    None,
    /// So many times as good as the best peer, whatever better means.
    Times(f64),
    /// So many times as good as one peer.
    TimesOf(f64, Server),
    /// In the unit of the measure.
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Held,
    Missed,
    /// There is no goal.
    Shown,
    /// Ours or the peer has not been measured.
    Open,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub row: String,
    pub work: String,
    /// As its row names it, and for people.
    pub name: String,
    pub measure: String,
    pub ours: Option<f64>,
    /// The best of them, or the one that the goal names.
    pub peer: Option<(String, f64)>,
    /// How many times as good ours is, more than 1 being better.
    pub advantage: Option<Ratio>,
    pub goal: String,
    pub verdict: Verdict,
    /// Medians of everyone, as shown, by their labels.
    pub all: Vec<(String, String)>,
    /// Whose value `peer` is.
    #[serde(skip)]
    pub rival: Option<Server>,
    #[serde(skip)]
    pub unit: Option<Unit>,
    #[serde(skip)]
    pub goal_times: Option<f64>,
}

impl Measure {
    pub fn new(name: &str, what: &str, unit: Unit, better: Better) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            unit,
            better,
            goal: Goal::None,
            rivals: Rivals::Everyone,
        }
    }

    pub fn with_goal(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    pub fn uncompared(mut self) -> Self {
        self.rivals = Rivals::Nobody;
        self
    }

    pub fn among_synced(mut self) -> Self {
        self.rivals = Rivals::Synced;
        self
    }

    /// Judges what was measured: for each server the samples of all its repetitions.
    pub fn line(&self, row: &str, work: &str, samples: &BTreeMap<Server, Vec<Samples>>) -> Line {
        let of = |server: Server| -> Vec<f64> {
            let repetitions = samples.get(&server).map_or(&[][..], Vec::as_slice);
            repetitions.iter().filter_map(|samples| samples.get(&self.name).copied()).collect()
        };
        let ours = of(Server::Ringpost);
        let peer = self.peer(samples.keys().copied(), &of);
        let advantage = peer
            .map(|peer| self.advantage(&ours, &of(peer)))
            .filter(|ratio| !ours.is_empty() && ratio.value.is_finite());
        let ours_median = (!ours.is_empty()).then(|| median(&ours));
        let shown = |server: Server| -> Option<(String, String)> {
            let values = of(server);
            (!values.is_empty()).then(|| (server.label(), self.unit.show(median(&values))))
        };
        Line {
            row: row.to_owned(),
            work: work.to_owned(),
            name: self.name.clone(),
            measure: self.what.clone(),
            ours: ours_median,
            peer: peer.map(|peer| (peer.label(), median(&of(peer)))),
            advantage,
            goal: self.goal.words(self.unit),
            verdict: self.goal.judge(ours_median, advantage.map(|ratio| ratio.value)),
            all: Server::ALL.into_iter().filter_map(shown).collect(),
            rival: peer,
            unit: Some(self.unit),
            goal_times: self.goal.times(),
        }
    }

    /// The peer that ours is compared with: the one that the goal names, else the best.
    fn peer(
        &self,
        servers: impl Iterator<Item = Server>,
        of: &impl Fn(Server) -> Vec<f64>,
    ) -> Option<Server> {
        let is_rival = |server: &Server| match self.rivals {
            Rivals::Everyone => true,
            Rivals::Synced => server.syncs(),
            Rivals::Nobody => false,
        };
        let measured = servers
            .filter(|server| *server != Server::Ringpost && is_rival(server) && !of(*server).is_empty());
        if let Goal::TimesOf(_, wanted) = self.goal {
            return measured.into_iter().find(|server| *server == wanted);
        }
        let value = |server: &Server| median(&of(*server));
        match self.better {
            Better::Less => measured.min_by(|a, b| value(a).total_cmp(&value(b))),
            Better::More => measured.max_by(|a, b| value(a).total_cmp(&value(b))),
        }
    }

    fn advantage(&self, ours: &[f64], theirs: &[f64]) -> Ratio {
        match self.better {
            Better::Less => Ratio::of(theirs, ours),
            Better::More => Ratio::of(ours, theirs),
        }
    }
}

impl Line {
    /// As shown, of the server with this label.
    pub fn value_of(&self, label: &str) -> Option<&str> {
        self.all.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str())
    }
}

impl Goal {
    fn judge(self, ours: Option<f64>, advantage: Option<f64>) -> Verdict {
        let is_held = match self {
            Self::None => return Verdict::Shown,
            Self::Times(times) | Self::TimesOf(times, _) => advantage.map(|advantage| advantage >= times),
            Self::AtMost(bound) => ours.map(|ours| ours <= bound),
            Self::AtLeast(bound) => ours.map(|ours| ours >= bound),
        };
        match is_held {
            Some(true) => Verdict::Held,
            Some(false) => Verdict::Missed,
            None => Verdict::Open,
        }
    }

    fn words(self, unit: Unit) -> String {
        match self {
            Self::None => String::new(),
            Self::Times(times) => format!(">= {times}x the best"),
            Self::TimesOf(times, server) => format!(">= {times}x {}", server.name()),
            Self::AtMost(bound) => format!("<= {}", unit.show(bound)),
            Self::AtLeast(bound) => format!(">= {}", unit.show(bound)),
        }
    }

    fn times(self) -> Option<f64> {
        match self {
            Self::Times(times) | Self::TimesOf(times, _) => Some(times),
            _ => None,
        }
    }
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::Shown => "",
            Self::Open => "not measured",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Better, Goal, Line, Measure, Samples, Verdict};
    use crate::compare::server::Server;
    use crate::report::scale::Unit;

    fn line(measure: &Measure, measured: &[(Server, &[f64])]) -> Line {
        let samples: BTreeMap<Server, Vec<Samples>> = measured
            .iter()
            .map(|(server, values)| {
                let samples = values.iter().map(|value| Samples::from([(measure.name.clone(), *value)]));
                (*server, samples.collect())
            })
            .collect();
        measure.line("row", "work", &samples)
    }

    fn cpu(goal: Goal) -> Measure {
        Measure::new("cpu", "CPU", Unit::Micros, Better::Less).with_goal(goal)
    }

    #[test]
    fn a_goal_is_held_against_the_best_peer() {
        let rate = Measure::new("rate", "rate", Unit::PerSecond, Better::More).with_goal(Goal::Times(15.0));
        let measured: [(Server, &[f64]); 3] = [
            (Server::Ringpost, &[16_000.0, 15_000.0, 15_500.0]),
            (Server::Postfix, &[1000.0, 1010.0, 990.0]),
            (Server::Exim, &[100.0, 100.0, 100.0]),
        ];
        let held = line(&rate, &measured);
        assert_eq!(held.verdict, Verdict::Held);
        assert_eq!(held.peer, Some(("Postfix (synced)".to_owned(), 1000.0)));
        assert_eq!(held.advantage.map(|ratio| ratio.value), Some(15.5));
        let missed = line(&rate.with_goal(Goal::Times(16.0)), &measured);
        assert_eq!(missed.verdict, Verdict::Missed);
    }

    #[test]
    fn less_is_better_for_costs() {
        let measured: [(Server, &[f64]); 3] =
            [(Server::Ringpost, &[60.0]), (Server::Postfix, &[1500.0]), (Server::OpenSmtpd, &[900.0])];
        let best = line(&cpu(Goal::Times(20.0)), &measured);
        assert_eq!(
            (best.peer, best.verdict),
            (Some(("OpenSMTPD (not synced)".to_owned(), 900.0)), Verdict::Missed)
        );
        let named = line(&cpu(Goal::TimesOf(25.0, Server::Postfix)), &measured);
        assert_eq!(
            (named.peer, named.verdict),
            (Some(("Postfix (synced)".to_owned(), 1500.0)), Verdict::Held)
        );
    }

    #[test]
    fn a_row_where_a_peer_wins_says_so() {
        let lost = line(&cpu(Goal::Times(1.0)), &[(Server::Ringpost, &[200.0]), (Server::Postfix, &[100.0])]);
        assert_eq!((lost.advantage.map(|ratio| ratio.value), lost.verdict), (Some(0.5), Verdict::Missed));
    }

    #[test]
    fn absolute_goals_need_no_peer() {
        let ours: [(Server, &[f64]); 1] = [(Server::Ringpost, &[0.04])];
        assert_eq!(line(&cpu(Goal::AtMost(0.05)), &ours).verdict, Verdict::Held);
        assert_eq!(line(&cpu(Goal::AtMost(0.03)), &ours).verdict, Verdict::Missed);
        assert_eq!(line(&cpu(Goal::AtLeast(0.05)), &ours).verdict, Verdict::Missed);
        assert_eq!(line(&cpu(Goal::None), &ours).verdict, Verdict::Shown);
    }

    #[test]
    fn what_was_not_measured_is_open() {
        assert_eq!(line(&cpu(Goal::Times(2.0)), &[(Server::Ringpost, &[1.0])]).verdict, Verdict::Open);
        assert_eq!(line(&cpu(Goal::AtMost(2.0)), &[(Server::Postfix, &[1.0])]).verdict, Verdict::Open);
    }
}
