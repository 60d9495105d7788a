//! What became of an attempt, written down at the message's home: settled, put off or given up, and its sender told.
//!
//! Everything that follows from one report is one group of records: a recipient is never settled without the
//! notification that says why. The notification is a message like any other, which enters where all enter, at
//! `deliver`: the only loop.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::job::{Attempt, Cause, Report};
use super::tell::{Told, Wish, tell};
use super::way;
use crate::io::executor::spawn;
use crate::io::{clock, random};
use crate::mail::dsn::Action;
use crate::mail::envelope::{ByMode, DeliverBy};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mailbox::Change;
use crate::proto::smtp::client::{Failure, Fate, Origin, Passed, Phase};
use crate::queue::policy::RetryPolicy;
use crate::queue::retry::Life;
use crate::queue::schedule::Item;
use crate::queue::verdict::{self, Past, Sender, Verdict};
use crate::shard::Shard;
use crate::shard::commit::{Commit, Ticket};
use crate::shard::deliver::change;
use crate::store::owed::{Row, Way};
use crate::store::record::{Deferred, Message, Record, Settled, Warning};
use crate::store::{Kept, LogId, MessageId, Sequence};

/// An item whose outcome could not be written is offered again so much later.
const UNWRITTEN_RETRY_S: u32 = 60;

/// A recipient with what follows for it.
pub struct Judged {
    pub row: Row,
    pub fate: Fate,
    pub verdict: Verdict,
}

impl Shard {
    /// Writes down what became of an attempt; what is still under way of its message comes later.
    pub fn take_report(self: &Rc<Self>, report: &Report) {
        if let Some(ticket) = self.follow(report) {
            let shard = Rc::clone(self);
            let written = Rc::clone(&ticket);
            self.outbound().writing().borrow_mut().insert((report.log, report.item), ticket);
            self.outbound().begin_outcome();
            spawn("outcome", async move {
                // Lost or not, it is waited for no longer.
                let _ = written.stored().await;
                shard.end_outcome();
            });
        }
    }

    fn end_outcome(&self) {
        for (log, line) in self.outbound().finish_outcome() {
            if let Some(commit) = self.log(log) {
                commit.schedule_mut().refresh(line);
            }
            self.outbound().alarm().ring();
        }
    }

    /// Nobody has the item any more. It is offered again when what was reported is written.
    pub fn take_home(self: &Rc<Self>, log: LogId, item: Item) {
        let ticket = self.outbound().writing().borrow_mut().remove(&(log, item));
        match ticket {
            Some(ticket) => spawn("outcome", Rc::clone(self).take_back_after((log, item), ticket)),
            None => {
                self.take_back(log, item);
                self.outbound().alarm().ring();
            }
        }
    }

    /// Follows an attempt. What follows is durable when the ticket says so; `None` if there is nothing to write.
    pub fn follow(self: &Rc<Self>, report: &Report) -> Option<Rc<Ticket>> {
        let commit = Rc::clone(self.log(report.log)?);
        let id = MessageId { log: report.log, sequence: Sequence(report.item.message) };
        let rows: Vec<Row> = commit.owed().of_message(id.sequence).copied().collect();
        let record = rows.first()?.record;
        let taken = match self.reader().taken(id, record) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(message = %id, %error, "a record cannot be read");
                return self.follow_blindly(&commit, report, &rows);
            }
        };
        let judged = self.judge(report, &rows, &taken.1);
        self.write_down(&commit, (id, &taken), judged, &report.attempt)
    }

    /// What follows for each recipient that is still owed the message. An operator may have been faster.
    fn judge(&self, report: &Report, rows: &[Row], message: &Message) -> Vec<Judged> {
        let config = self.config();
        let policy = way::retry(&config, message, &self.destination_name(report));
        let now = clock::timestamp().seconds;
        let judge = |(number, fate): &(u32, Fate)| {
            let row = *rows.iter().find(|row| row.recipient == *number)?;
            let verdict = judge_one(&row, fate, message, (&policy, now))?;
            let is_quiet = matches!(verdict, Verdict::Later { sender: Sender::NotBothered, .. });
            // Who only waited has failed at nothing, and waits on where it is.
            let is_judged = !(is_quiet && report.attempt.cause == Cause::Age);
            is_judged.then(|| Judged { row, fate: fate.clone(), verdict })
        };
        report.fates.iter().filter_map(judge).collect()
    }

    fn destination_name(&self, report: &Report) -> String {
        let commit = self.log(report.log);
        let name = commit.and_then(|commit| {
            let owed = commit.owed();
            let id = crate::store::owed::DestinationId(report.item.destination);
            owed.destinations().name(id).map(str::to_owned)
        });
        name.unwrap_or_default()
    }

    /// Appends what was judged, with the notifications that it calls for.
    pub fn write_down(
        self: &Rc<Self>,
        commit: &Rc<Commit>,
        (id, taken): (MessageId, &(Kept, Message)),
        judged: Vec<Judged>,
        attempt: &Attempt,
    ) -> Option<Rc<Ticket>> {
        if judged.is_empty() {
            return None;
        }
        let changes = records(id.sequence, &judged);
        self.log_attempt(id, &taken.1, &judged, attempt);
        let deadline = taken.1.accepted.as_ref().and_then(|accepted| accepted.envelope.deliver_by);
        let deadline = Deadline { by: deadline, now: clock::timestamp().seconds };
        let told: Vec<Told<'_>> = judged.iter().flat_map(|judged| told(judged, attempt, deadline)).collect();
        let notification = tell(self, (id, taken), &told, attempt);
        let Some((accepted, body)) = notification else {
            return Some(commit.append_soon(changes));
        };
        let promised = self.promise(commit, changes, accepted, body);
        let ticket = Rc::clone(&promised.ticket);
        let shard = Rc::clone(self);
        spawn("notification", async move {
            // What is lost here was never durable: the recipients are owed as before.
            let _ = promised.kept(&shard).await;
        });
        Some(ticket)
    }

    /// The envelope is not to be had: recipients that have the message are settled, the others put aside.
    fn follow_blindly(&self, commit: &Rc<Commit>, report: &Report, rows: &[Row]) -> Option<Rc<Ticket>> {
        let of_number = |number: &u32| rows.iter().find(|row| row.recipient == *number).copied();
        let (mut settled, mut aside) = (Vec::new(), Vec::new());
        for (number, fate) in &report.fates {
            let Some(row) = of_number(number) else {
                continue;
            };
            let (message, recipient) = (row.message, row.recipient);
            match fate {
                Fate::Accepted(_) => settled.push(change(Record::Settled(Settled { message, recipient }))),
                Fate::Failed(_) | Fate::NotTried => aside.push(row),
            }
        }
        let written = (!settled.is_empty()).then(|| commit.append_soon(settled));
        // What is appended later is durable later, so that its ticket stands for both.
        let id = MessageId { log: report.log, sequence: Sequence(report.item.message) };
        (!aside.is_empty()).then(|| self.put_aside(commit, id, &aside)).or(written)
    }

    /// The item is not out any more: what is still owed of it is offered again at its time.
    pub fn take_back(&self, log: LogId, item: Item) {
        let Some(commit) = self.log(log) else {
            return;
        };
        let mut schedule = commit.schedule_mut();
        schedule.give_back(item);
        let owed = commit.owed();
        for row in owed.of_message(Sequence(item.message)) {
            if row.way == Way::Remote(crate::store::owed::DestinationId(item.destination)) {
                schedule.insert(item, row.due);
            }
        }
    }

    /// As [`Shard::take_back`], once the outcome that `ticket` stands for is written.
    pub async fn take_back_after(self: Rc<Self>, (log, item): (LogId, Item), ticket: Rc<Ticket>) {
        if ticket.stored().await.is_ok() {
            self.take_back(log, item);
        } else if let Some(commit) = self.log(log) {
            // Whoever has the message may get it twice; with a disk that fails that is not tried at once.
            let mut schedule = commit.schedule_mut();
            schedule.give_back(item);
            let now = u32::try_from(clock::timestamp().seconds).unwrap_or(u32::MAX);
            schedule.insert(item, now.saturating_add(UNWRITTEN_RETRY_S));
        }
        self.outbound().alarm().ring();
    }
}

fn judge_one(
    row: &Row,
    fate: &Fate,
    message: &Message,
    (policy, now): (&RetryPolicy, i64),
) -> Option<Verdict> {
    let attempt = match fate {
        Fate::Accepted(_) => verdict::Attempt::Taken,
        Fate::Failed(failure) if failure.reply.is_permanent() => verdict::Attempt::Permanent,
        Fate::Failed(_) => verdict::Attempt::Transient,
        Fate::NotTried => return None,
    };
    // What was held is younger than its message.
    let life = Life { received: i64::from(row.received), ..way::life(message) };
    let past = Past { life, attempts: u32::from(row.attempts), is_warned: row.warning.is_yes() };
    Some(past.judge(attempt, policy, now, u64::from_le_bytes(random::bytes())))
}

/// Settled recipients one by one; those that are put off together, together.
fn records(message: Sequence, judged: &[Judged]) -> Vec<Change> {
    let mut changes = Vec::with_capacity(judged.len());
    let mut later: BTreeMap<(u16, String), Deferred> = BTreeMap::new();
    for Judged { row, fate, verdict } in judged {
        let recipient = row.recipient;
        let Verdict::Later { at, sender } = *verdict else {
            changes.push(change(Record::Settled(Settled { message, recipient })));
            continue;
        };
        let attempts = u16::from(row.attempts) + 1;
        let reply = reply_of(fate).map(Reply::to_string).unwrap_or_default();
        let deferred = later.entry((attempts, reply.clone())).or_insert_with(|| Deferred {
            message,
            recipients: Vec::new(),
            attempts,
            due: at,
            warning: Warning::NotSent,
            reply,
        });
        deferred.recipients.push(recipient);
        if let Sender::Warned { .. } = sender {
            deferred.warning = Warning::Sent;
        }
    }
    changes.extend(later.into_values().map(|deferred| change(Record::Deferred(deferred))));
    changes
}

/// The time that a sender may have set, and what time it is.
#[derive(Clone, Copy)]
struct Deadline {
    by: Option<DeliverBy>,
    now: i64,
}

impl Deadline {
    /// It is over, and this is what is to be done then.
    fn is_over(&self, mode: ByMode) -> bool {
        self.by.is_some_and(|by| by.mode == mode && by.at <= self.now)
    }

    /// Whether the sender is told that a server has the message that will not tell it more (RFC 2852 4.1.4.2), or
    /// that any server has it (4.1.4).
    fn wants_relayed(&self, passed: Passed) -> bool {
        let Some(by) = self.by else {
            return false;
        };
        let is_forgotten = passed == Passed::NotOffered && by.mode == ByMode::Notify && self.now < by.at;
        by.trace || is_forgotten
    }
}

/// What the sender may be told about a recipient; whether it is wanted is seen to later.
fn told<'a>(judged: &'a Judged, attempt: &'a Attempt, deadline: Deadline) -> Option<Told<'a>> {
    let reply = reply_of(&judged.fate)?;
    let (action, status, retry_until) = match judged.verdict {
        Verdict::Delivered => (Action::Relayed, reply.status(), None),
        Verdict::Failed => (Action::Failed, reply.status(), None),
        Verdict::Expired if deadline.is_over(ByMode::Return) => (Action::Failed, TOO_LATE, None),
        Verdict::Expired => (Action::Failed, EXPIRED, None),
        Verdict::Later { sender: Sender::NotBothered, .. } => return None,
        Verdict::Later { sender: Sender::Warned { until }, .. } => {
            let status = if deadline.is_over(ByMode::Notify) { EXPIRED } else { reply.status() };
            (Action::Delayed, status, Some(until))
        }
    };
    let wish = match judged.verdict {
        Verdict::Delivered if deadline.wants_relayed(attempt.deliver_by) => Wish::DeliverBy,
        // Who passes the wish on leaves it to the other server (RFC 3461 5.2.1).
        Verdict::Delivered if attempt.dsn == Passed::Passed => return None,
        _ => Wish::Notify,
    };
    let recipient = judged.row.recipient;
    Some(Told { recipient, action, status, reply, origin: origin(&judged.fate), retry_until, wish })
}

/// RFC 3463 3.5: X.4.7, delivery time expired.
const EXPIRED: EnhancedCode = EnhancedCode::new(4, 4, 7);

/// RFC 2852 4.1.3: the time that its sender set is over.
const TOO_LATE: EnhancedCode = EnhancedCode::new(5, 4, 7);

pub fn reply_of(fate: &Fate) -> Option<&Reply> {
    match fate {
        Fate::Accepted(reply) | Fate::Failed(Failure { reply, .. }) => Some(reply),
        Fate::NotTried => None,
    }
}

pub fn phase_of(fate: &Fate) -> Option<Phase> {
    match fate {
        Fate::Accepted(_) => Some(Phase::Eod),
        Fate::Failed(failure) => Some(failure.phase),
        Fate::NotTried => None,
    }
}

fn origin(fate: &Fate) -> Origin {
    match fate {
        Fate::Accepted(_) => Origin::Peer,
        Fate::Failed(failure) => failure.origin,
        Fate::NotTried => Origin::Local,
    }
}
