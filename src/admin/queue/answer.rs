//! The server's end of `ringpost queue`: what is asked of all shards, and put together.
//!
//! Lists are fetched page by page from each log and merged by age, so that an answer of any length holds a few pages
//! in memory, and no shard works for longer than a page at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use super::words::{
    MessageView, Meta, OrderedCounts, QueueReply, QueueRequest, QueueRow, RecipientView, SiteRow, SummaryRow,
    SuspensionRow,
};
use crate::admin::backend::ShardBackend;
use crate::admin::control::Refusal;
use crate::io::clock;
use crate::io::inbox::Inbox;
use crate::mail::address::Address;
use crate::queue::event::queue_name;
use crate::queue::selection::{Order, Selection};
use crate::queue::suspension::{Does, Suspension};
use crate::shard::control;
use crate::shard::outbound::operator::{
    Explained, Listed, ListedRecipient, Ordered, Page, Question, Request, Shown, SiteView, Summary, Suspend,
};
use crate::store::{LogId, MessageId, Sequence};

/// Messages that are fetched from a log at once.
const PAGE: usize = 100;

/// An order that takes longer may find some mail given out again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Takes each line of an answer.
pub type Each<'a> = &'a mut dyn FnMut(QueueReply) -> io::Result<()>;

impl ShardBackend {
    pub fn answer_queue(&self, request: QueueRequest, each: Each<'_>) -> Result<(), Refusal> {
        match request {
            QueueRequest::List { selection, count } => self.list(&selection, count, each),
            QueueRequest::Show { id } => self.show(&id, each),
            QueueRequest::Summary { selection } => {
                let summaries = self.summaries(&selection);
                tell(summaries.into_iter().map(|summary| QueueReply::Summary(summary_row(summary))), each)
            }
            QueueRequest::Sites => {
                let sites = self.ask_queue_all(Request::Sites).into_iter().flatten();
                tell(sites.map(|site| QueueReply::Site(site_row(site))), each)
            }
            QueueRequest::Order { selection, order } => self.give_order(&selection, &order, each),
            QueueRequest::Suspend { selection, seconds, reason, does } => {
                let (id, span) = (self.fresh_suspension(), Duration::from_secs(seconds));
                let suspend = Suspend { id, selection, span, reason, does };
                self.suspend(&suspend);
                self.ask_queue_all(Request::Remember);
                let suspensions = self.suspensions().into_iter().filter(|suspension| suspension.id == id);
                tell_suspensions(suspensions, each)
            }
            QueueRequest::Suspensions => tell_suspensions(self.suspensions().into_iter(), each),
            QueueRequest::Resume { id, selection } => {
                let lifted = self.ask_queue_all(|answer| Request::Resume(id, selection.clone(), answer));
                self.ask_queue_all(Request::Remember);
                tell_suspensions(lifted.into_iter().next().unwrap_or_default().into_iter(), each)
            }
            QueueRequest::Explain { recipient, sender, tenant } => {
                let question = question(&recipient, sender.as_deref(), tenant)?;
                tell(self.explain(question).into_iter().map(QueueReply::Line), each)
            }
        }
    }

    fn list(&self, selection: &Selection, count: u64, each: Each<'_>) -> Result<(), Refusal> {
        let mut logs = Vec::new();
        for log in self.logs()? {
            logs.push(LogPages { log, page: VecDeque::new(), next: Some(Sequence(0)) });
        }
        let mut left = if count == 0 { u64::MAX } else { count };
        loop {
            logs.iter_mut().for_each(|log| self.fill(log, selection, left));
            let oldest =
                logs.iter_mut().min_by_key(|log| log.page.front().map_or(i64::MAX, |one| one.received));
            let Some(message) = oldest.and_then(|log| log.page.pop_front()) else {
                return Ok(());
            };
            if left == 0 {
                return each(QueueReply::More).map_err(Refusal::unavailable);
            }
            left -= 1;
            tell(rows(message).map(QueueReply::Row), &mut *each)?;
        }
    }

    /// Sees to it that the oldest message of the log is there, if there is any.
    fn fill(&self, pages: &mut LogPages, selection: &Selection, left: u64) {
        while pages.page.is_empty()
            && let Some(from) = pages.next
        {
            let count = usize::try_from(left.saturating_add(1)).unwrap_or(PAGE).min(PAGE);
            let Page { listed, next } = self.ask_queue(self.driver_of(pages.log), |answer| Request::List {
                log: pages.log,
                selection: selection.clone(),
                from,
                count,
                answer,
            });
            pages.page = listed.into();
            pages.next = next;
        }
    }

    fn show(&self, id: &str, each: Each<'_>) -> Result<(), Refusal> {
        let message = MessageId::parse(id)
            .and_then(|id| self.ask_queue(self.driver_of(id.log), |answer| Request::Show(id, answer)));
        let message = message.ok_or_else(|| {
            Refusal::wrong(format!(
                "{id} is not in the queue; `ringpost events --id {id}` tells what became of it"
            ))
        })?;
        each(QueueReply::Message(Box::new(view(*message)))).map_err(Refusal::unavailable)
    }

    fn summaries(&self, selection: &Selection) -> Vec<Summary> {
        let parts = self.ask_queue_all(|answer| Request::Summarise(selection.clone(), answer));
        let mut all = BTreeMap::<String, Summary>::new();
        for part in parts.into_iter().flatten() {
            match all.get_mut(&part.destination) {
                Some(known) => known.add(part),
                None => drop(all.insert(part.destination.clone(), part)),
            }
        }
        let mut all: Vec<Summary> = all.into_values().collect();
        all.sort_by_key(|summary| Reverse(summary.recipients));
        all
    }

    fn give_order(&self, selection: &Selection, order: &Order, each: Each<'_>) -> Result<(), Refusal> {
        if selection.is_empty() {
            return Err(Refusal::wrong("an order that names no messages is for none"));
        }
        let pause = self.pause_for(selection, order);
        let parts = self.ask_queue_all(|answer| Request::Order(selection.clone(), order.clone(), answer));
        if let Some(id) = pause {
            self.ask_queue_all(|answer| Request::Resume(Some(id), Selection::default(), answer));
        }
        let mut all = Ordered::default();
        parts.into_iter().for_each(|part| all.add(part));
        let Ordered { matched, changed, active } = all;
        tracing::info!(matched, changed, active, "an operator's order: {} {selection}", word(order));
        each(QueueReply::Ordered(OrderedCounts { matched, changed, active })).map_err(Refusal::unavailable)
    }

    /// Sites fetch mail ahead. What an order is for is taken back from them, and not given out again while the order is
    /// carried out, so that only what is on a connection is left alone.
    fn pause_for(&self, selection: &Selection, order: &Order) -> Option<u64> {
        if matches!(order, Order::Retry | Order::Release) {
            return None;
        }
        let id = self.fresh_suspension();
        // By what does not change while a message waits.
        let selection =
            Selection { everything: true, state: None, older_s: None, younger_s: None, ..selection.clone() };
        let reason = "an order is being carried out".to_owned();
        self.suspend(&Suspend { id, selection, span: PAUSE_MAX, reason, does: Does::Suspend });
        Some(id)
    }

    fn suspend(&self, suspend: &Suspend) {
        self.ask_queue_all(|answer| Request::Suspend(suspend.clone(), answer));
        // By now every home knows: what sites had fetched is judged again.
        self.ask_queue_all(Request::GiveBack);
    }

    fn fresh_suspension(&self) -> u64 {
        self.next_suspension(self.suspensions().iter().map(|known| known.id).max().unwrap_or(0))
    }

    fn suspensions(&self) -> Vec<Suspension> {
        self.ask_queue(0, Request::Suspensions)
    }

    fn explain(&self, question: Question) -> Vec<String> {
        let explained = self.ask_queue(0, |answer| Request::Explain(question, answer));
        let Explained { mut lines, destination, site } = explained;
        let Some(destination) = destination else {
            return lines;
        };
        let selection = Selection { domain: Some(destination.clone()), ..Selection::default() };
        let queued = self.summaries(&selection).into_iter().next().unwrap_or_default();
        lines.push(format!(
            "queued: {} recipients: {} ready, {} deferred, {} active, {} held",
            queued.recipients, queued.ready, queued.deferred, queued.active, queued.held
        ));
        let hindrances = self.ask_queue_all(|answer| Request::Hindrances {
            destination: destination.clone(),
            site: site.clone(),
            answer,
        });
        let mut hindrances: Vec<String> = hindrances.into_iter().flatten().collect();
        hindrances.sort_unstable();
        hindrances.dedup();
        match hindrances.is_empty() {
            true => lines.push("held up by: nothing".to_owned()),
            false => lines.extend(hindrances.into_iter().map(|why| format!("held up by: {why}"))),
        }
        lines
    }

    fn ask_queue<T>(&self, shard: usize, request: impl FnOnce(Inbox<T>) -> Request) -> T {
        self.ask(shard, |answer| control::Request::Queue(request(answer)))
    }

    fn ask_queue_all<T>(&self, request: impl Fn(Inbox<T>) -> Request) -> Vec<T> {
        self.ask_all(|answer| control::Request::Queue(request(answer)))
    }
}

/// What was fetched of a log and is not told yet.
struct LogPages {
    log: LogId,
    page: VecDeque<Listed>,
    next: Option<Sequence>,
}

fn tell(replies: impl Iterator<Item = QueueReply>, each: Each<'_>) -> Result<(), Refusal> {
    let mut replies = replies;
    replies.try_for_each(each).map_err(Refusal::unavailable)
}

fn tell_suspensions(suspensions: impl Iterator<Item = Suspension>, each: Each<'_>) -> Result<(), Refusal> {
    let now = clock::instant();
    let row = |suspension: Suspension| SuspensionRow {
        id: suspension.id,
        does: suspension.does,
        selection: suspension.selection.to_string(),
        reason: suspension.reason,
        duration: (suspension.until - now).as_secs(),
    };
    tell(suspensions.map(|suspension| QueueReply::Suspension(row(suspension))), each)
}

fn question(recipient: &str, sender: Option<&str>, tenant: Option<String>) -> Result<Question, Refusal> {
    let parse = |text: &str| {
        Address::parse(text)
            .map_err(|_| Refusal::wrong(format!("{text:?} is not an address of the form user@domain")))
    };
    let sender = sender.map(parse).transpose()?;
    Ok(Question { recipient: parse(recipient)?, sender, tenant })
}

fn rows(message: Listed) -> impl Iterator<Item = QueueRow> {
    let Listed { id, bytes, received, sender, tenant, campaign, recipients } = message;
    let id = id.to_string();
    let meta = Meta { tenant, campaign };
    recipients.into_iter().map(move |recipient: ListedRecipient| QueueRow {
        id: id.clone(),
        sender: sender.clone(),
        recipient: recipient.address,
        queue: queue_name(meta.campaign.as_deref(), meta.tenant.as_deref(), &recipient.destination)
            .into_owned(),
        domain: recipient.destination,
        site: recipient.site,
        size: bytes,
        created: received,
        state: recipient.state,
        num_attempts: recipient.attempts,
        due: recipient.due,
        reason: recipient.why,
        meta: meta.clone(),
    })
}

fn view(message: Shown) -> MessageView {
    let Shown { listed, wishes, replies, header } = message;
    let (id, sender, size, created) =
        (listed.id.to_string(), listed.sender.clone(), listed.bytes, listed.received);
    let meta = Meta { tenant: listed.tenant.clone(), campaign: listed.campaign.clone() };
    let recipients = rows(listed).zip(replies).map(|(row, response)| RecipientView { row, response });
    MessageView {
        id,
        sender,
        size,
        created,
        meta,
        parameters: wishes,
        recipients: recipients.collect(),
        header: header.map(|header| String::from_utf8_lossy(&header).into_owned()),
    }
}

fn summary_row(summary: Summary) -> SummaryRow {
    SummaryRow {
        domain: summary.destination,
        site: summary.site,
        count: summary.recipients,
        ready: summary.ready,
        deferred: summary.deferred,
        active: summary.active,
        held: summary.held,
        oldest: summary.oldest,
        next_due: summary.next_due,
        reason: summary.why,
    }
}

fn site_row(site: SiteView) -> SiteRow {
    SiteRow {
        site: site.name,
        connections: site.connections,
        busy: site.busy,
        ready: site.fetched,
        delivered: site.delivered,
        deferred: site.deferred,
        failed: site.failed,
        reason: site.why,
        seconds: site.wait_s,
    }
}

fn word(order: &Order) -> &'static str {
    match order {
        Order::Retry => "retry",
        Order::Hold { .. } => "hold",
        Order::Release => "release",
        Order::Bounce { .. } => "bounce",
        Order::Rebind { .. } => "rebind",
    }
}
