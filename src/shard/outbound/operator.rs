//! The operator's hands: looking at what is queued, and changing what happens to it.
//!
//! Everything is answered from the rows in memory, in slices; records are read only where a selection asks for what
//! is in them, or the answer shows it. Mail that is being sent at the moment is left alone and counted as such.
//!
//! Suspensions are kept in memory: they hold back what they select when it would be given out, and end by themselves.

use std::cell::RefCell;
use std::rc::Rc;

use super::home::now_s;
use super::job::Attempt;
use super::report::Judged;
use crate::io::clock;
use crate::io::executor::Turns;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::Instant;
use crate::mailbox::Change;
use crate::proto::smtp::client::{Failure, Fate, Origin, Phase};
use crate::queue::schedule::Item;
use crate::queue::selection::{Inside, Order, Outside, Selection, State};
use crate::queue::verdict::Verdict;
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::shard::deliver::change;
use crate::store::owed::{DestinationId, Row, Way};
use crate::store::record::{Deferred, Message, Rebound, Record, Selected, Warning};
use crate::store::{Kept, MessageId, Sequence};

/// Rows that are looked at before others of the shard have their turn.
const ROWS_PER_TURN: usize = 1000;

/// A message with the recipients that were selected.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: MessageId,
    pub bytes: u64,
    /// Unix seconds.
    pub received: i64,
    pub sender: String,
    pub tenant: Option<String>,
    pub campaign: Option<String>,
    pub recipients: Vec<ListedRecipient>,
}

#[derive(Clone, Debug)]
pub struct ListedRecipient {
    pub address: String,
    pub destination: String,
    pub site: Option<String>,
    pub state: State,
    pub attempts: u32,
    /// Unix seconds.
    pub due: i64,
    /// Why it is still here: what was answered last, or what holds up its destination.
    pub why: String,
}

/// What one log owes to one destination.
#[derive(Clone, Debug, Default)]
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

/// How many recipients an order was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ordered {
    pub changed: u64,
    /// Left alone: being sent at the moment.
    pub active: u64,
}

/// Mail that is not given out for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspension {
    /// As the operator calls it.
    pub id: u64,
    pub selection: Selection,
    pub until: Instant,
    pub reason: String,
}

/// The suspensions that hold on a shard.
#[derive(Default)]
pub struct Suspensions(RefCell<Vec<Suspension>>);

impl Suspensions {
    pub fn add(&self, suspension: Suspension) {
        self.0.borrow_mut().push(suspension);
    }

    /// Whether there was such a one.
    pub fn lift(&self, id: u64) -> bool {
        let mut all = self.0.borrow_mut();
        let before = all.len();
        all.retain(|suspension| suspension.id != id);
        all.len() < before
    }

    /// Those that hold now.
    pub fn all(&self, now: Instant) -> Vec<Suspension> {
        let mut all = self.0.borrow_mut();
        all.retain(|suspension| suspension.until > now);
        all.clone()
    }

    /// Until when a recipient's copy is held back.
    pub fn until(&self, outside: &Outside<'_>, inside: &Inside<'_>, now: Instant) -> Option<Instant> {
        let all = self.0.borrow();
        let holding = all.iter().filter(|suspension| {
            let selection = &suspension.selection;
            suspension.until > now && selection.matches_outside(outside) && selection.matches_inside(inside)
        });
        holding.map(|suspension| suspension.until).max()
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A message of which some recipients were selected.
struct Found {
    id: MessageId,
    taken: Option<(Kept, Message)>,
    rows: Vec<Row>,
}

impl Shard {
    /// At most so many messages of those selected, oldest first.
    pub async fn list_queued(self: &Rc<Self>, selection: &Selection, count_max: usize) -> Vec<Listed> {
        let mut listed = Vec::new();
        let mut turns = Turns::begin();
        for commit in self.logs() {
            let mut from = Some(Sequence(0));
            while let Some(at) = from.filter(|_| listed.len() < count_max) {
                let (found, next) = self.find(commit, selection, at, true);
                listed.extend(found.iter().map(|found| self.listed(commit, found)));
                from = next;
                turns.give().await;
            }
        }
        listed.sort_by_key(|message| message.received);
        listed.truncate(count_max);
        listed
    }

    /// Carries out an order for all that is selected.
    pub async fn order(self: &Rc<Self>, selection: &Selection, order: &Order) -> Ordered {
        let mut ordered = Ordered::default();
        let mut turns = Turns::begin();
        for commit in self.logs() {
            let mut from = Some(Sequence(0));
            while let Some(at) = from {
                let reads = matches!(order, Order::Bounce { .. });
                let (found, next) = self.find(commit, selection, at, reads);
                let mut last = None;
                for found in found {
                    let (rows, active): (Vec<Row>, Vec<Row>) = found
                        .rows
                        .iter()
                        .partition(|row| item_of(row).is_none_or(|item| !commit.schedule().is_out(item)));
                    ordered.active += active.len() as u64;
                    ordered.changed += rows.len() as u64;
                    last = self.order_one(commit, Found { rows, ..found }, order).or(last);
                }
                if let Some(ticket) = last {
                    // What is not written is as before; the disk's trouble is told of elsewhere.
                    let _ = ticket.stored().await;
                }
                from = next;
                turns.give().await;
            }
        }
        self.outbound().alarm().ring();
        ordered
    }

    fn order_one(
        self: &Rc<Self>,
        commit: &Rc<Commit>,
        found: Found,
        order: &Order,
    ) -> Option<Rc<crate::shard::commit::Ticket>> {
        let Found { id, taken, rows } = found;
        if rows.is_empty() {
            return None;
        }
        let message = id.sequence;
        let recipients: Vec<u32> = rows.iter().map(|row| row.recipient).collect();
        let change = match order {
            Order::Hold => change(Record::Held(Selected { message, recipients })),
            Order::Release => change(Record::Released(Selected { message, recipients })),
            Order::Rebind { destination } => {
                change(Record::Rebound(Rebound { message, recipients, destination: destination.clone() }))
            }
            Order::Retry => return Some(commit.append_lazily(retry(message, &rows))),
            Order::Bounce { reason } => {
                let reply = Reply::new(550, EnhancedCode::new(5, 7, 1), reason.clone());
                let failure = Failure { reply, phase: Phase::Connect, origin: Origin::Local };
                let judged = rows.into_iter().map(|row| Judged {
                    row,
                    fate: Fate::Failed(failure.clone()),
                    verdict: Verdict::Failed,
                });
                let taken = taken?;
                return self.write_down(commit, (id, &taken), judged.collect(), &Attempt::administrative());
            }
        };
        Some(commit.append(vec![change]))
    }

    /// What this shard's logs owe, destination by destination.
    pub async fn summarise_queue(self: &Rc<Self>) -> Vec<Summary> {
        let mut summaries = Vec::new();
        let mut turns = Turns::begin();
        for commit in self.logs() {
            let mut of_log: std::collections::HashMap<u32, Summary> = std::collections::HashMap::new();
            let mut from = Some(Sequence(0));
            while let Some(at) = from {
                from = self.count(commit, at, &mut of_log);
                turns.give().await;
            }
            summaries.extend(of_log.into_values());
        }
        summaries
    }

    fn count(
        &self,
        commit: &Commit,
        from: Sequence,
        summaries: &mut std::collections::HashMap<u32, Summary>,
    ) -> Option<Sequence> {
        let (owed, now) = (commit.owed(), now_s());
        let mut rows = owed.rows_from(from).peekable();
        let (mut looked, mut last) = (0, from);
        // A message is counted in one slice, so that the next one begins with another.
        while let Some(row) = rows.next_if(|row| looked < ROWS_PER_TURN || row.message == last) {
            (looked, last) = (looked + 1, row.message);
            let Way::Remote(DestinationId(number)) = row.way else {
                continue;
            };
            let summary = summaries.entry(number).or_insert_with(|| {
                let name = owed.destinations().name(DestinationId(number)).unwrap_or_default();
                let destinations = self.outbound().destinations();
                Summary {
                    destination: name.to_owned(),
                    site: destinations.site(name),
                    oldest: i64::from(row.received),
                    why: destinations.why_waiting(name),
                    ..Summary::default()
                }
            });
            summary.recipients += 1;
            match state_of(commit, row, now) {
                State::Deferred => {
                    summary.deferred += 1;
                    let due = i64::from(row.due);
                    summary.next_due = Some(summary.next_due.map_or(due, |next| next.min(due)));
                }
                State::Ready => summary.ready += 1,
                State::Active => summary.active += 1,
                State::Held => summary.held += 1,
            }
        }
        rows.next().map(|row| row.message)
    }

    /// Selected recipients in a slice, by message, and where the next slice begins.
    fn find(
        &self,
        commit: &Commit,
        selection: &Selection,
        from: Sequence,
        reads: bool,
    ) -> (Vec<Found>, Option<Sequence>) {
        let (slice, next) = self.slice(commit, selection, from);
        let mut found = Vec::with_capacity(slice.len());
        for (sequence, mut rows) in slice {
            let id = MessageId { log: commit.id(), sequence };
            let taken = match reads || selection.looks_inside() {
                true => rows.first().and_then(|row| self.reader().taken(id, row.record).ok()),
                false => None,
            };
            if selection.looks_inside() {
                rows.retain(|row| {
                    let inside = taken.as_ref().and_then(|(_, message)| inside_of(message, row.recipient));
                    inside.is_some_and(|inside| selection.matches_inside(&inside))
                });
            }
            if !rows.is_empty() {
                found.push(Found { id, taken, rows });
            }
        }
        (found, next)
    }

    /// Rows that match by what can be seen from outside.
    fn slice(
        &self,
        commit: &Commit,
        selection: &Selection,
        from: Sequence,
    ) -> (Vec<(Sequence, Vec<Row>)>, Option<Sequence>) {
        let (owed, now) = (commit.owed(), now_s());
        let destination =
            selection.domain.as_ref().map(|name| owed.destinations().find(&name.to_ascii_lowercase()));
        if destination == Some(None) {
            return (Vec::new(), None);
        }
        let mut rows = owed.rows_from(from).peekable();
        let mut found: Vec<(Sequence, Vec<Row>)> = Vec::new();
        let (mut looked, mut last) = (0, from);
        while let Some(row) = rows.next_if(|row| looked < ROWS_PER_TURN || row.message == last) {
            (looked, last) = (looked + 1, row.message);
            let Way::Remote(number) = row.way else {
                continue;
            };
            if destination.is_some_and(|wanted| wanted != Some(number)) {
                continue;
            }
            let name = owed.destinations().name(number).unwrap_or_default();
            let site = selection.site.as_ref().and_then(|_| self.outbound().destinations().site(name));
            let id = match selection.ids.is_empty() {
                true => String::new(),
                false => MessageId { log: commit.id(), sequence: row.message }.to_string(),
            };
            let outside = Outside {
                id: &id,
                destination: name,
                site: site.as_deref(),
                state: state_of(commit, row, now),
                age_s: u64::from(now.saturating_sub(row.received)),
            };
            if selection.matches_outside(&outside) {
                match found.last_mut() {
                    Some((last, rows)) if *last == row.message => rows.push(*row),
                    _ => found.push((row.message, vec![*row])),
                }
            }
        }
        (found, rows.next().map(|row| row.message))
    }

    fn listed(&self, commit: &Commit, found: &Found) -> Listed {
        let now = now_s();
        let (first, accepted) = (
            found.rows.first().copied().unwrap_or_default(),
            found.taken.as_ref().and_then(|(_, message)| message.accepted.as_ref()),
        );
        let envelope = accepted.map(|accepted| &accepted.envelope);
        let recipient = |row: &Row| {
            let address = envelope.and_then(|envelope| envelope.recipients.get(row.recipient as usize));
            let name = match row.way {
                Way::Remote(number) => {
                    commit.owed().destinations().name(number).unwrap_or_default().to_owned()
                }
                Way::Local(_) => String::new(),
            };
            let deferral = row.deferral().and_then(|place| self.reader().deferral(commit.id(), place));
            let why = deferral.map(|deferral| deferral.reply);
            let why = why.or_else(|| self.outbound().destinations().why_waiting(&name));
            ListedRecipient {
                address: address.map_or_else(|| "unreadable".to_owned(), |found| found.address.to_string()),
                site: self.outbound().destinations().site(&name),
                destination: name,
                state: state_of(commit, row, now),
                attempts: u32::from(row.attempts),
                due: i64::from(row.due),
                why: why.unwrap_or_default(),
            }
        };
        Listed {
            id: found.id,
            bytes: found.taken.as_ref().map_or(0, |(kept, _)| kept.message.length),
            received: i64::from(first.received),
            sender: envelope
                .and_then(|envelope| envelope.sender.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            tenant: accepted.and_then(|accepted| accepted.tenant.clone()),
            campaign: accepted.and_then(|accepted| accepted.campaign.clone()),
            recipients: found.rows.iter().map(recipient).collect(),
        }
    }
}

/// What an order to try again writes: attempts and reasons stay.
fn retry(message: Sequence, rows: &[Row]) -> Vec<Change> {
    let due = clock::timestamp().seconds;
    let deferred = |row: &Row| Deferred {
        message,
        recipients: vec![row.recipient],
        attempts: u16::from(row.attempts),
        due,
        warning: Warning::NotSent,
        reply: String::new(),
    };
    rows.iter().map(|row| change(Record::Deferred(deferred(row)))).collect()
}

fn item_of(row: &Row) -> Option<Item> {
    match row.way {
        Way::Remote(DestinationId(destination)) => Some(Item { message: row.message.0, destination }),
        Way::Local(_) => None,
    }
}

/// What a recipient's copy waits for.
pub fn state_of(commit: &Commit, row: &Row, now: u32) -> State {
    if row.state == crate::store::owed::State::Held {
        return State::Held;
    }
    if item_of(row).is_some_and(|item| commit.schedule().is_out(item)) {
        return State::Active;
    }
    if row.due <= now { State::Ready } else { State::Deferred }
}

/// What the record says about a recipient.
pub fn inside_of(message: &Message, recipient: u32) -> Option<Inside<'_>> {
    let accepted = message.accepted.as_ref()?;
    Some(Inside {
        sender: accepted.envelope.sender.as_ref(),
        recipient: &accepted.envelope.recipients.get(recipient as usize)?.address,
        tenant: accepted.tenant.as_deref(),
        campaign: accepted.campaign.as_deref(),
    })
}
