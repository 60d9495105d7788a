//! Mail that is not attempted ages too: behind a site that is down, a name that cannot be looked up, a limit.
//!
//! Once a minute, in slices, all that is owed is looked over for what has been waiting too long, or for so long
//! that its sender wants to know; where the sender set a time, that is in the message's record and looked up there.
//! What is found is judged like an attempt that failed. Where nothing follows from its age yet, it is left as it is.
//!
//! Invariant: nobody else has what is judged, and it is given to nobody before what follows is written.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::home::{due_rows, now_s};
use super::job::{Attempt, Report};
use super::way;
use crate::io::executor::{Turns, sleep};
use crate::mail::envelope::ByMode;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::proto::smtp::client::{Failure, Fate, Origin, Phase};
use crate::queue::schedule::Item;
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::store::owed::{DestinationId, Row, State, Way};
use crate::store::{MessageId, Sequence};

const EVERY: Duration = Duration::from_secs(60);

/// Rows that are looked at before others of the shard have their turn.
const ROWS_PER_TURN: usize = 2000;

/// Looks over everything for as long as the shard lives.
pub async fn run(shard: Rc<Shard>) {
    loop {
        sleep(EVERY).await;
        for commit in shard.logs() {
            sweep(&shard, commit).await;
        }
        let is_owed =
            |name: &str| shard.logs().iter().any(|commit| commit.owed().destinations().find(name).is_some());
        shard.outbound().destinations().prune(is_owed);
    }
}

async fn sweep(shard: &Rc<Shard>, commit: &Rc<Commit>) {
    let mut from = Sequence(0);
    let mut turns = Turns::begin();
    loop {
        let (late, next) = late_rows(shard, commit, from);
        for row in late {
            shard.judge_waiting(commit, &row).await;
            turns.give().await;
        }
        let Some(next) = next else {
            return;
        };
        from = next;
        turns.give().await;
    }
}

/// Rows of a slice that may have waited too long, and where the next slice begins.
fn late_rows(shard: &Shard, commit: &Commit, from: Sequence) -> (Vec<Row>, Option<Sequence>) {
    let config = shard.config();
    let now = now_s();
    let owed = commit.owed();
    let schedule = commit.schedule();
    let mut patience = HashMap::new();
    let mut is_late = |row: &&Row| {
        let Way::Remote(DestinationId(destination)) = row.way else {
            return false;
        };
        let is_due = row.due <= now && row.state == State::Waiting;
        if !is_due || schedule.is_out(Item { message: row.message.0, destination }) {
            return false;
        }
        let (warns_s, expires_s) = *patience.entry(destination).or_insert_with(|| {
            let name = owed.destinations().name(DestinationId(destination)).unwrap_or_default();
            way::patience(&config, name, &shard.outbound().destinations().choices(name))
        });
        let age = u64::from(now.saturating_sub(row.received));
        let is_old = age >= expires_s || (!row.warning.is_yes() && age >= warns_s);
        is_old || (row.warning.is_dated() && shard.is_past_its_date(commit, row, now))
    };
    let mut late = Vec::new();
    let look = |row| late.extend(Some(row).filter(&mut is_late).copied());
    let next = each_of_slice(owed.rows_from(from), |row| row.message, look);
    (late, next)
}

/// Looks at the rows of whole messages, of so many as fill a slice. Gives the message that the next one begins with.
fn each_of_slice<R>(
    rows: impl Iterator<Item = R>,
    message_of: impl Fn(&R) -> Sequence,
    mut look: impl FnMut(R),
) -> Option<Sequence> {
    let mut last = None;
    for (count, row) in rows.enumerate() {
        let message = message_of(&row);
        if count >= ROWS_PER_TURN && last != Some(message) {
            return Some(message);
        }
        last = Some(message);
        look(row);
    }
    None
}

impl Shard {
    /// Whether the time that its sender set is over, and nothing followed from that yet.
    fn is_past_its_date(&self, commit: &Commit, row: &Row, now: u32) -> bool {
        let id = MessageId { log: commit.id(), sequence: row.message };
        let Ok((_, message)) = self.reader().taken(id, row.record) else {
            return false;
        };
        let by = message.accepted.and_then(|accepted| accepted.envelope.deliver_by);
        by.is_some_and(|by| by.at <= i64::from(now) && (by.mode == ByMode::Return || !row.warning.is_yes()))
    }

    /// Judges a recipient whose turn does not come, as if it had failed just now for the reason that holds it up.
    async fn judge_waiting(self: &Rc<Self>, commit: &Rc<Commit>, row: &Row) {
        let Way::Remote(DestinationId(destination)) = row.way else {
            return;
        };
        let item = Item { message: row.message.0, destination };
        // Those before it were waited for: it may be held, settled or on its way by now, and from here on it is ours.
        let is_waiting = due_rows(commit, item, now_s()).1.iter().any(|due| due.recipient == row.recipient);
        if !is_waiting || !commit.schedule_mut().claim(item) {
            return;
        }
        let name = commit.owed().destinations().name(DestinationId(destination)).map(str::to_owned);
        let why = name.and_then(|name| self.why_waiting(&name));
        let why = why.unwrap_or_else(|| "Its turn has not come".to_owned());
        let reply = Reply::new(450, EnhancedCode::new(4, 4, 1), why);
        let failure = Failure { reply, phase: Phase::Connect, origin: Origin::Local };
        let fates = vec![(row.recipient, Fate::Failed(failure))];
        let report = Report { log: commit.id(), item, fates, attempt: Arc::new(Attempt::of_age()) };
        match self.follow(&report) {
            // A disk that fails is told of elsewhere; a later round finds the row again.
            Some(ticket) => Rc::clone(self).take_back_after((commit.id(), item), ticket).await,
            // It is where it was before.
            None => commit.schedule_mut().give_back(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS_PER_TURN, each_of_slice};
    use crate::store::Sequence;

    #[test]
    fn a_slice_ends_behind_a_whole_message() {
        let counts = [1, ROWS_PER_TURN, 3 * ROWS_PER_TURN + 1, 2, ROWS_PER_TURN - 2, 1];
        let rows_of = |(message, count)| (0..count).map(move |recipient| (Sequence(message), recipient));
        let rows: Vec<(Sequence, usize)> = (1..).zip(counts).flat_map(rows_of).collect();
        let (mut from, mut looked, mut slices) = (Some(Sequence(0)), Vec::new(), 0);
        while let Some(begin) = from {
            let rest = rows.iter().skip_while(|(message, _)| *message < begin);
            from = each_of_slice(rest, |(message, _)| *message, |row| looked.push(*row));
            slices += 1;
        }
        assert!(looked == rows, "each row once, in order");
        assert_eq!(slices, 4);
    }
}
