//! What is queued, destination by destination.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::find::{Records, Sought, Ways, name_of, state_of};
use crate::io::clock;
use crate::io::executor::Turns;
use crate::queue::selection::{Outside, Selection, State};
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::shard::outbound::home::now_s;
use crate::shard::outbound::way;
use crate::store::Sequence;
use crate::store::owed::{Row, Way};

/// What some logs owe to one destination.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub destination: String,
    pub site: Option<String>,
    pub recipients: u64,
    pub deferred: u64,
    pub ready: u64,
    pub active: u64,
    pub held: u64,
    /// Unix seconds; of the oldest message.
    pub oldest: i64,
    /// Unix seconds; when the next is due that waits for its time.
    pub next_due: Option<i64>,
    pub why: Option<String>,
}

impl Summary {
    fn count(&mut self, state: State, row: &Row) {
        self.recipients += 1;
        self.oldest = self.oldest.min(i64::from(row.received));
        match state {
            State::Deferred => {
                self.deferred += 1;
                let due = i64::from(row.due);
                self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
            }
            State::Ready => self.ready += 1,
            State::Active => self.active += 1,
            State::Held => self.held += 1,
        }
    }

    /// With what others owe to the same destination.
    pub fn add(&mut self, other: Self) {
        self.recipients += other.recipients;
        self.deferred += other.deferred;
        self.ready += other.ready;
        self.active += other.active;
        self.held += other.held;
        self.oldest = self.oldest.min(other.oldest);
        self.next_due = self.next_due.into_iter().chain(other.next_due).min();
        self.site = self.site.take().or(other.site);
        self.why = self.why.take().or(other.why);
    }
}

impl Shard {
    /// What this shard's logs owe.
    pub async fn summarise_queue(self: &Rc<Self>, selection: &Selection) -> Vec<Summary> {
        let sought = Sought { selection, ways: Ways::Remote, records: Records::AsNeeded };
        let mut summaries: HashMap<String, Summary> = HashMap::new();
        let mut turns = Turns::begin();
        for commit in self.logs() {
            // By numbers within a slice: names are many bytes, rows are many.
            let mut of_log: HashMap<u32, String> = HashMap::new();
            let mut from = Some(Sequence(0));
            while let Some(at) = from {
                let (found, next) = self.find(commit, sought, at);
                of_log.clear();
                let now = now_s();
                for row in found.iter().flat_map(|found| &found.rows) {
                    self.count(commit, (row, now), &mut of_log, &mut summaries);
                }
                from = next;
                turns.give().await;
            }
        }
        summaries.into_values().collect()
    }

    fn count(
        &self,
        commit: &Commit,
        (row, now): (&Row, u32),
        names: &mut HashMap<u32, String>,
        summaries: &mut HashMap<String, Summary>,
    ) {
        let Way::Remote(number) = row.way else {
            return;
        };
        let name = names.entry(number.0).or_insert_with(|| name_of(&commit.owed(), row).to_owned());
        let state = state_of(commit, row, now);
        if let Some(summary) = summaries.get_mut(name) {
            return summary.count(state, row);
        }
        let destinations = self.outbound().destinations();
        let mut summary = Summary {
            destination: name.clone(),
            why: self.why_waiting(name),
            site: destinations.sites(name).first().map(ToString::to_string),
            oldest: i64::from(row.received),
            ..Summary::default()
        };
        summary.count(state, row);
        summaries.insert(name.clone(), summary);
    }

    /// Why mail for a destination waits, as far as this shard knows.
    pub fn why_waiting(&self, name: &str) -> Option<String> {
        let destinations = self.outbound().destinations();
        let sites = destinations.sites(name);
        // Where a message decides about its site, the words about one say nothing of all.
        let of_all = if way::is_chosen(&self.config()) { &[] } else { &*sites };
        self.suspended_as_a_whole(name, of_all).or_else(|| destinations.why_waiting(name))
    }

    /// By which words of an operator all mail for a destination, at these sites, is kept back.
    pub fn suspended_as_a_whole(&self, name: &str, sites: &[Arc<str>]) -> Option<String> {
        let suspensions = self.outbound().suspensions().borrow();
        let outside = Outside { id: "", destination: name, sites, state: State::Ready, age_s: 0 };
        let found = suspensions.holding_all(&outside, clock::instant())?;
        Some(format!("suspended: {}", found.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;
    use crate::queue::selection::State;
    use crate::store::owed::Row;

    fn summary(rows: &[(State, u32, u32)]) -> Summary {
        let mut summary = Summary { oldest: i64::MAX, ..Summary::default() };
        for &(state, received, due) in rows {
            let mut row = Row::default();
            (row.received, row.due) = (received, due);
            summary.count(state, &row);
        }
        summary
    }

    #[test]
    fn the_logs_of_all_shards_add_up() {
        let mut one = summary(&[(State::Deferred, 10, 90), (State::Deferred, 12, 80), (State::Held, 11, 0)]);
        let other = Summary {
            why: Some("a reason".to_owned()),
            ..summary(&[(State::Active, 5, 0), (State::Ready, 7, 0), (State::Deferred, 9, 85)])
        };
        one.add(other);
        let expected = Summary {
            recipients: 6,
            deferred: 3,
            ready: 1,
            active: 1,
            held: 1,
            oldest: 5,
            next_due: Some(80),
            why: Some("a reason".to_owned()),
            ..Summary::default()
        };
        assert_eq!(one, expected);
        let mut none_due = summary(&[(State::Ready, 1, 1)]);
        none_due.add(summary(&[(State::Held, 2, 2)]));
        assert_eq!(none_due.next_due, None);
    }
}
