//! The operator's hands: looking at what is queued, and changing what happens to it.
//!
//! [`find`] goes over the rows in memory, in slices; records are read only where a selection asks for what is in them,
//! or the answer shows it. [`list`] and [`summary`] show, [`order`] changes, [`suspend`] keeps back for a time,
//! [`sites`] looks at the sending side, and [`explain`] says how mail for an address would go.
//!
//! Invariants: an answer that may be long is asked for in pages, and none holds up the shard for longer than a slice;
//! mail that is being sent at the moment is left alone and counted as such; what an order is for is given to nobody
//! until the order is durable.

mod explain;
mod find;
mod list;
mod order;
mod sites;
mod summary;
mod suspend;

use std::rc::Rc;

pub use explain::{Explained, Question};
pub use find::inside_of;
pub use list::{Listed, ListedRecipient, Page, Shown};
pub use order::Ordered;
pub use sites::SiteView;
pub use summary::Summary;
pub use suspend::Suspend;

use crate::io::inbox::Inbox;
use crate::mail::time::Instant;
use crate::queue::selection::{Order, Selection};
use crate::queue::suspension::Suspension;
use crate::shard::Shard;
use crate::store::{LogId, MessageId, Sequence};

/// A question or an order, and where the answer goes.
pub enum Request {
    /// At most so many messages of one log, the oldest first, from a sequence on.
    List {
        log: LogId,
        selection: Selection,
        from: Sequence,
        count: usize,
        answer: Inbox<Page>,
    },
    Show(MessageId, Inbox<Option<Box<Shown>>>),
    Summarise(Selection, Inbox<Vec<Summary>>),
    Order(Selection, Order, Inbox<Ordered>),
    /// Answered when it holds here.
    Suspend(Suspend, Inbox<()>),
    /// Mail that sites have fetched goes back to its homes, for those to judge it again.
    GiveBack(Inbox<()>),
    /// Answered when what is suspended is on the disk.
    Remember(Inbox<()>),
    Suspensions(Inbox<Vec<Suspension>>),
    /// One by its number, or all whose selections have what this one names; those that were lifted.
    Resume(Option<u64>, Selection, Inbox<Vec<Suspension>>),
    Sites(Inbox<Vec<SiteView>>),
    Explain(Question, Inbox<Explained>),
    /// What holds up mail for a destination and its site here, as far as this shard knows.
    Hindrances {
        destination: String,
        site: Option<String>,
        answer: Inbox<Vec<String>>,
    },
}

impl Shard {
    pub async fn answer_operator(self: &Rc<Self>, request: Request, now: Instant) {
        match request {
            Request::List { log, selection, from, count, answer } => {
                answer.post(self.list_queued(log, &selection, from, count).await);
            }
            Request::Show(id, answer) => answer.post(self.show_queued(id).map(Box::new)),
            Request::Summarise(selection, answer) => answer.post(self.summarise_queue(&selection).await),
            Request::Order(selection, order, answer) => answer.post(self.order(&selection, &order).await),
            Request::Suspend(suspend, answer) => {
                self.suspend(suspend, now);
                answer.post(());
            }
            Request::GiveBack(answer) => {
                self.give_back_all();
                answer.post(());
            }
            Request::Remember(answer) => {
                self.remember().await;
                answer.post(());
            }
            Request::Suspensions(answer) => answer.post(self.suspensions(now)),
            Request::Resume(id, selection, answer) => answer.post(self.resume(id, &selection).await),
            Request::Sites(answer) => answer.post(self.view_sites(now)),
            Request::Explain(question, answer) => answer.post(self.explain(&question).await),
            Request::Hindrances { destination, site, answer } => {
                answer.post(self.hindrances(&destination, site.as_deref(), now));
            }
        }
    }
}
