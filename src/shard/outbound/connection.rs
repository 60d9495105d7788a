//! A connection of a site: brought up, used for one message after another, and closed when the site says so.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures_lite::FutureExt;

use super::automation::Place;
use super::damaged::unreadable;
use super::job::{Attempt, Cause, Job};
use super::open;
use super::sites::Link;
use super::slots::Right;
use super::talk::{Sent, Talk, untried};
use super::way::Way;
use crate::io::clock;
use crate::mail::envelope::Envelope;
use crate::mail::reply::Reply;
use crate::mail::time::Instant;
use crate::proto::smtp::client::{Closed, DeliverBy, Done, Failure, Fate, Origin, Transaction};
use crate::queue::job::{PeerLimits, SendOutcome};
use crate::queue::policy::SourceId;
use crate::shard::Shard;

/// What a site tells a connection.
pub enum Command {
    /// Send to the first so many recipients.
    Send(Box<Job>, usize),
    Close,
    /// Others wait for the source: end between two messages, though the site has not said so.
    Yield,
}

/// Where the next command lies.
pub struct Desk {
    command: RefCell<Option<Command>>,
    waiting: Cell<Option<Waker>>,
    source: SourceId,
    slot: Cell<Held>,
}

/// What the connection has of its source's limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    /// There is no limit, or the connection waits for its slot.
    Nothing,
    Since(Instant),
    /// It is for others soon.
    Promised,
    /// The connection ends between two messages.
    Over,
}

impl Desk {
    pub fn new(source: SourceId) -> Self {
        Self { command: RefCell::default(), waiting: Cell::default(), source, slot: Cell::new(Held::Nothing) }
    }

    pub fn source(&self) -> SourceId {
        self.source
    }

    /// It has its slot from now on.
    pub fn hold(&self, now: Instant) {
        self.slot.set(Held::Since(now));
    }

    /// Since when it has had a slot of its source, if that is not promised to others.
    pub fn held_since(&self) -> Option<Instant> {
        match self.slot.get() {
            Held::Since(since) => Some(since),
            Held::Nothing | Held::Promised | Held::Over => None,
        }
    }

    /// The slot is for others when the connection has had its turn.
    pub fn promise(&self) {
        self.slot.set(Held::Promised);
    }

    /// Whether the connection has nothing to do.
    pub fn is_idle(&self) -> bool {
        let waiting = self.waiting.take();
        let is_waiting = waiting.is_some();
        self.waiting.set(waiting);
        is_waiting && self.command.borrow().is_none()
    }

    /// Ends the connection between two messages, once it has done what the site has told it.
    pub fn end_soon(&self) {
        self.slot.set(Held::Over);
        self.wake();
    }

    pub fn put(&self, command: Command) {
        *self.command.borrow_mut() = Some(command);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Dropping the future loses nothing.
    async fn next(&self) -> Command {
        poll_fn(|context| match self.command.borrow_mut().take() {
            Some(command) => Poll::Ready(command),
            None if self.slot.get() == Held::Over => Poll::Ready(Command::Yield),
            None => {
                self.waiting.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// What comes next on a connection without a transaction.
enum Next {
    Command(Command),
    Closed(Closed),
}

/// The life of a connection.
pub async fn run(shard: Rc<Shard>, link: Link, (way, source): (Arc<Way>, SourceId), desk: Rc<Desk>) {
    let right = shard.source_slot(&desk).await;
    if matches!(right, Right::None) {
        return link.closed();
    }
    let mut talk = match open::open(&shard, &way, source).await {
        Ok(talk) => talk,
        Err(mut failure) => {
            let place = Place { link: &link, way: &way, source, pool: way.pool, domain: "" };
            shard.hear(&place, &mut failure.reply);
            return link.open_failed(failure);
        }
    };
    let limits = talk.limits();
    link.opened(PeerLimits { messages: limits.mails_max, recipients: limits.recipients_max });
    loop {
        let command = async { Next::Command(desk.next().await) };
        let closed = async { Next::Closed(talk.idle().await) };
        match command.or(closed).await {
            Next::Command(Command::Yield) => {
                // The site knows first, so that it has nothing more to send here.
                link.closed();
                talk.quit().await;
                return drop(right);
            }
            Next::Command(Command::Close) => {
                talk.quit().await;
                return link.closed();
            }
            Next::Closed(closed) => {
                tracing::debug!(site = &**link.site(), reply = %closed.reply, "an idle connection was closed");
                return link.closed();
            }
            Next::Command(Command::Send(job, recipients_max)) => {
                let (outcome, leftover) =
                    send(&shard, (&mut talk, &link), (&way, source), *job, recipients_max).await;
                if outcome == SendOutcome::ConnectionLost {
                    return link.lost(leftover);
                }
                link.sent(outcome, leftover);
                if talk.is_over() {
                    return link.closed();
                }
            }
        }
    }
}

/// Sends a message to the first recipients of a job, and reports to its home; gives back what was not tried.
async fn send(
    shard: &Rc<Shard>,
    (talk, link): (&mut Talk, &Link),
    (way, source): (&Way, SourceId),
    job: Job,
    recipients_max: usize,
) -> (SendOutcome, Option<Job>) {
    let count = job.numbers.len().min(recipients_max.max(1));
    let Some(transaction) = transaction(shard, &job, count) else {
        // It cannot be read: its home is told, and the connection is as good as before.
        let attempt = Arc::new(attempt(shard, (talk, link), (way, source), &job, &untried()));
        let fate = Fate::Failed(unreadable(job.attempts + 1));
        let fates: Vec<_> = job.numbers.iter().map(|&number| (number, fate.clone())).collect();
        link.count(&fates);
        job.home.report(fates, &attempt);
        return (SendOutcome::Transient, None);
    };
    let Sent { done, closed } = talk.send(transaction).await;
    let attempt = Arc::new(attempt(shard, (talk, link), (way, source), &job, &done));
    let mut fates = done.fates;
    fates.resize(count, Fate::NotTried);
    // What was said once about many recipients is heard once.
    let mut heard: Vec<(Fate, Fate)> = Vec::new();
    for (fate, recipient) in fates.iter_mut().zip(&job.envelope.recipients) {
        if let Some((_, before)) = heard.iter().find(|(said, _)| said == fate) {
            *fate = before.clone();
            continue;
        }
        let (said, domain) = (fate.clone(), &*recipient.address.domain);
        shard.hear_fate(&Place { link, way, source, pool: job.pool, domain }, fate);
        heard.push((said, fate.clone()));
    }
    // A host that answers and then closes is one that takes a message at a time.
    let outcome = match closed.is_some() && !fates.iter().any(is_answer) {
        true => SendOutcome::ConnectionLost,
        false => outcome_of(&fates),
    };
    let mut reports = Vec::with_capacity(count);
    let mut untried = Vec::new();
    for (index, fate) in fates.into_iter().enumerate() {
        match fate {
            Fate::NotTried => untried.push(index),
            fate => reports.push((job.numbers[index], fate)),
        }
    }
    untried.extend(count..job.numbers.len());
    if reports.is_empty()
        && let Some(closed) = closed
    {
        // The connection ended before anything was decided. If it had served others before, that says nothing about
        // this message, which goes by another one. Else it is an attempt that failed for all, or it would be repeated
        // for ever.
        let has_served = talk.transactions() > 1;
        let failure = Failure { reply: closed.reply, phase: closed.phase, origin: closed.origin };
        let mut fate = Fate::Failed(as_transient(failure));
        let domain = job.envelope.recipients.first().map_or("", |recipient| &*recipient.address.domain);
        shard.hear_fate(&Place { link, way, source, pool: job.pool, domain }, &mut fate);
        if !has_served {
            reports = job.numbers.iter().map(|&number| (number, fate.clone())).collect();
            untried.clear();
        }
    }
    link.count(&reports);
    job.home.report(reports, &attempt);
    (outcome, rest(job, &untried))
}

/// The job with those of its recipients that were not tried.
fn rest(mut job: Job, untried: &[usize]) -> Option<Job> {
    if untried.is_empty() {
        return None;
    }
    job.numbers = untried.iter().map(|&index| job.numbers[index]).collect();
    let recipients = &job.envelope.recipients;
    job.envelope.recipients = untried.iter().map(|&index| recipients[index].clone()).collect();
    Some(job)
}

/// `None` if the message cannot be read.
fn transaction(shard: &Shard, job: &Job, count: usize) -> Option<Transaction> {
    let message = shard.read(&job.message)?;
    let Envelope { sender, recipients, body, smtputf8, ret, envid, priority, deliver_by, .. } = &job.envelope;
    let now = clock::timestamp().seconds;
    let deliver_by =
        deliver_by.map(|by| DeliverBy { remaining_s: by.at - now, mode: by.mode, trace: by.trace });
    Some(Transaction {
        sender: sender.clone(),
        recipients: recipients[..count].to_vec(),
        body: *body,
        smtputf8: *smtputf8,
        ret: *ret,
        envid: envid.clone(),
        deliver_by,
        priority: (*priority != 0).then_some(*priority),
        // The Return-Path in front is for mailboxes.
        message: vec![message.part(job.message.return_path_length as usize..message.len())],
    })
}

fn attempt(
    shard: &Shard,
    (talk, link): (&Talk, &Link),
    (way, source): (&Way, SourceId),
    job: &Job,
    done: &Done,
) -> Attempt {
    let config = shard.config();
    Attempt {
        cause: Cause::Delivery,
        site: Arc::clone(link.site()),
        pool: way.pool_name(&config, job.pool),
        source: way.source_name(&config, source),
        protocol: way.protocol_name(),
        host: Some(talk.host().to_owned()),
        peer: Some(talk.peer()),
        local: Some(talk.local()),
        tls: talk.security(),
        dsn: done.dsn,
        deliver_by: done.deliver_by,
    }
}

/// A word of the host about a recipient, and not about the connection (RFC 5321 3.8).
fn is_answer(fate: &Fate) -> bool {
    match fate {
        Fate::Accepted(_) => true,
        Fate::Failed(failure) => failure.origin == Origin::Peer && failure.reply.code != 421,
        Fate::NotTried => false,
    }
}

/// What the site learns of a transaction.
fn outcome_of(fates: &[Fate]) -> SendOutcome {
    let mut outcome = SendOutcome::Permanent;
    for fate in fates {
        match fate {
            Fate::Accepted(_) => return SendOutcome::Ok,
            Fate::Failed(failure) if failure.reply.is_transient() => outcome = SendOutcome::Transient,
            Fate::Failed(_) | Fate::NotTried => {}
        }
    }
    outcome
}

/// A connection that ends says nothing about a recipient for good.
fn as_transient(failure: Failure) -> Failure {
    match failure.reply.is_permanent() {
        true => Failure { reply: Reply { code: 451, enhanced: None, ..failure.reply }, ..failure },
        false => failure,
    }
}
