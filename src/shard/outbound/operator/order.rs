//! Orders: what an operator says about selected mail, written down like everything else that happens to it.
//!
//! What an order is for is claimed in the schedule before its records are appended and given back when they are
//! durable, so that nobody sends it meanwhile.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::find::{Found, Records, Sought, Ways, item_of, name_of, state_of};
use crate::io::clock;
use crate::io::executor::Turns;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mailbox::Change;
use crate::proto::smtp::client::{Failure, Fate, Origin, Phase};
use crate::queue::event::{Event, EventKind};
use crate::queue::schedule::Item;
use crate::queue::selection::{Effect, Order, Selection, Standing};
use crate::queue::verdict::Verdict;
use crate::shard::Shard;
use crate::shard::commit::{Commit, Ticket};
use crate::shard::deliver::change;
use crate::shard::outbound::home::now_s;
use crate::shard::outbound::job::Attempt;
use crate::shard::outbound::report::Judged;
use crate::store::owed::Row;
use crate::store::record::{Deferred, Message, Rebound, Record, Released, Selected, Warning};
use crate::store::{MessageId, Sequence};

/// What is said of mail that was held with a reason.
const HELD: &str = "held by an operator: ";

/// How many recipients an order was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ordered {
    pub matched: u64,
    pub changed: u64,
    /// Left alone: being sent at the moment.
    pub active: u64,
}

impl Ordered {
    pub fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.changed += other.changed;
        self.active += other.active;
    }
}

/// What waits for its records to be durable.
#[derive(Default)]
struct Writing {
    tickets: Vec<Rc<Ticket>>,
    claimed: Vec<Item>,
    /// Whoever says "retry" wants an attempt, though a site is left alone after failures or was not found.
    destinations: BTreeSet<String>,
}

impl Shard {
    /// Carries out an order for all that is selected.
    pub async fn order(self: &Rc<Self>, selection: &Selection, order: &Order) -> Ordered {
        let mut ordered = Ordered::default();
        for commit in self.logs() {
            ordered.add(self.order_from(commit, selection, order, Sequence(0)).await);
        }
        ordered
    }

    /// As [`Shard::order`], for messages of one log from a sequence on.
    pub async fn order_from(
        self: &Rc<Self>,
        commit: &Rc<Commit>,
        selection: &Selection,
        order: &Order,
        from: Sequence,
    ) -> Ordered {
        let records = match order {
            Order::Bounce { .. } | Order::Rebind { .. } => Records::Always,
            _ => Records::AsNeeded,
        };
        let sought = Sought { selection, ways: Ways::Remote, records };
        let mut ordered = Ordered::default();
        let mut from = Some(from);
        let mut turns = Turns::begin();
        // What was answered a moment ago would count as being sent until that is written down, and be passed over. If
        // it is lost, its mail is tried again anyway.
        let _ = commit.barrier().await;
        turns.give().await;
        while let Some(at) = from {
            let (found, next) = self.find(commit, sought, at);
            let mut writing = Writing::default();
            for found in found {
                ordered.add(self.order_one(commit, found, order, &mut writing));
            }
            let Writing { tickets, claimed, destinations } = writing;
            for ticket in tickets {
                // What is not written is as before; the disk's trouble is told of elsewhere.
                let _ = ticket.stored().await;
            }
            claimed.into_iter().for_each(|item| self.take_back(commit.id(), item));
            destinations.iter().for_each(|name| self.try_now(name));
            self.outbound().alarm().ring();
            from = next;
            turns.give().await;
        }
        ordered
    }

    fn order_one(
        self: &Rc<Self>,
        commit: &Rc<Commit>,
        found: Found,
        order: &Order,
        writing: &mut Writing,
    ) -> Ordered {
        let mut ordered = Ordered { matched: found.rows.len() as u64, ..Ordered::default() };
        let mut rows = found.rows.clone();
        let now = now_s();
        rows.retain(|row| {
            let owed = commit.owed();
            let (state, destination) = (state_of(commit, row, now), name_of(&owed, row));
            let effect = order.effect(&Standing { state, destination, attempts: u32::from(row.attempts) });
            ordered.active += u64::from(effect == Effect::TooLate);
            effect == Effect::Changes
        });
        if rows.is_empty() {
            return ordered;
        }
        if *order == Order::Retry {
            writing.destinations.extend(rows.iter().map(|row| name_of(&commit.owed(), row).to_owned()));
            // What is due already needs no record to be offered again.
            let (due, later): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| row.due <= now);
            for row in &due {
                let mut schedule = commit.schedule_mut();
                item_of(row).into_iter().for_each(|item| schedule.insert(item, row.due));
            }
            ordered.changed += due.len() as u64;
            rows = later;
            if rows.is_empty() {
                return ordered;
            }
        }
        let ticket = self.write_order(commit, Found { rows: rows.clone(), ..found }, order);
        let Some(ticket) = ticket else {
            // Nothing that could be written down: what cannot be read is ended only where it is held.
            return ordered;
        };
        ordered.changed += rows.len() as u64;
        let mut items: Vec<Item> = rows.iter().filter_map(item_of).collect();
        items.dedup();
        items.retain(|item| commit.schedule_mut().claim(*item));
        writing.claimed.extend(items);
        writing.tickets.push(ticket);
        ordered
    }

    fn write_order(self: &Rc<Self>, commit: &Rc<Commit>, found: Found, order: &Order) -> Option<Rc<Ticket>> {
        let Found { id, taken, rows } = found;
        let message = id.sequence;
        let selected = || Selected { message, recipients: rows.iter().map(|row| row.recipient).collect() };
        let changes = match order {
            Order::Hold { reason } => {
                let reasons = reason
                    .iter()
                    .flat_map(|reason| put_off(message, &rows, None, &format!("{HELD}{reason}")));
                std::iter::once(change(Record::Held(selected()))).chain(reasons.collect::<Vec<_>>()).collect()
            }
            Order::Release => {
                let mut changes = self.forget_reasons(commit, message, &rows);
                let Selected { message, recipients } = selected();
                let at = Some(clock::timestamp().seconds);
                changes.push(change(Record::Released(Released { message, recipients, at })));
                changes
            }
            Order::Rebind { destination } => {
                self.log_rebind(commit, (id, &taken.as_ref()?.1), &rows, destination);
                let recipients = selected().recipients;
                let rebound = Rebound { message, recipients, destination: destination.clone() };
                let tried: Vec<Row> = rows.iter().filter(|row| row.attempts > 0).copied().collect();
                // The other way is tried at once.
                let mut changes = put_off(message, &tried, Some(clock::timestamp().seconds), "");
                changes.push(change(Record::Rebound(rebound)));
                changes
            }
            Order::Retry => put_off(message, &rows, Some(clock::timestamp().seconds), ""),
            Order::Bounce { reason } => {
                let reply = Reply::new(550, EnhancedCode::new(5, 7, 1), reason.clone());
                let failure = Failure { reply, phase: Phase::Connect, origin: Origin::Local };
                let judged = rows.iter().map(|row| Judged {
                    row: *row,
                    fate: Fate::Failed(failure.clone()),
                    verdict: Verdict::Failed,
                });
                let Some(taken) = taken else {
                    return self.end_unreadable(commit, id, &rows);
                };
                return self.write_down(commit, (id, &taken), judged.collect(), &Attempt::administrative());
            }
        };
        Some(commit.append(changes))
    }

    /// What was held with a reason is not shown with it any longer.
    fn forget_reasons(&self, commit: &Commit, message: Sequence, rows: &[Row]) -> Vec<Change> {
        let was_told = |row: &&Row| {
            let deferral = row.deferral().and_then(|place| self.reader().deferral(commit.id(), place));
            deferral.is_some_and(|deferral| deferral.reply.starts_with(HELD))
        };
        let told: Vec<Row> = rows.iter().filter(was_told).copied().collect();
        put_off(message, &told, None, "released by an operator")
    }

    fn log_rebind(&self, commit: &Commit, (id, message): (MessageId, &Message), rows: &[Row], to: &str) {
        let Some(accepted) = &message.accepted else {
            return;
        };
        let config = self.config();
        let sender = accepted.envelope.sender.as_ref();
        for row in rows {
            let Some(recipient) = accepted.envelope.recipients.get(row.recipient as usize) else {
                continue;
            };
            let from = name_of(&commit.owed(), row).to_owned();
            tracing::info!(%id, to = %recipient.address, from, "rebound to {to} by an operator");
            self.outbound().events().post(&Event {
                id: Some(&id),
                sender: sender.map(|sender| sender as &dyn std::fmt::Display).or(Some(&"")),
                recipient: Some(&recipient.address),
                queue: Some(to),
                size: Some(message.body.length() - u64::from(message.body.return_path_length())),
                created_s: Some(message.received.seconds),
                attempts: Some(u32::from(row.attempts)),
                tenant: accepted.tenant.as_deref(),
                campaign: accepted.campaign.as_deref(),
                node: Some(&config.hostname),
                ..Event::new(EventKind::AdminRebind, clock::unix_ms())
            });
        }
    }
}

/// Another time or another reason for recipients of a message; attempts, and what is not named, stay.
fn put_off(message: Sequence, rows: &[Row], due: Option<i64>, reply: &str) -> Vec<Change> {
    let deferred = |row: &Row| Deferred {
        message,
        recipients: vec![row.recipient],
        attempts: u16::from(row.attempts),
        due: due.unwrap_or(i64::from(row.due)),
        warning: Warning::NotSent,
        reply: reply.to_owned(),
    };
    rows.iter().map(|row| change(Record::Deferred(deferred(row)))).collect()
}

#[cfg(test)]
mod tests {
    use super::put_off;
    use crate::store::Sequence;
    use crate::store::owed::Row;
    use crate::store::record::Record;

    #[test]
    fn attempts_and_what_is_not_named_stay() {
        let mut row = Row::default();
        (row.recipient, row.attempts, row.due) = (3, 7, 100);
        let rows = [row];
        for (due, expected) in [(None, 100), (Some(50), 50)] {
            let changes = put_off(Sequence(9), &rows, due, "a reason");
            let [change] = &changes[..] else { panic!("one for each row") };
            let Record::Deferred(deferred) = &change.record else { panic!("{:?}", change.record) };
            assert_eq!((deferred.message, &deferred.recipients[..]), (Sequence(9), &[3][..]));
            assert_eq!((deferred.attempts, deferred.due, deferred.reply.as_str()), (7, expected, "a reason"));
        }
    }
}
