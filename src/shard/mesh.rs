//! How shards talk: small typed letters, never awaited.
//!
//! What a letter asks for is durable in the sender's log before it is sent, so that a letter lost in a crash
//! is written again by recovery. An answer is another letter.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::auth::directory::Directory;
use crate::config::Config;
use crate::io::inbox::Inbox;
use crate::io::tls::ServerTls;
use crate::queue::schedule::Item;
use crate::store::record::Accepted;
use crate::store::{Locator, LogId, MessageId, Sequence};

use super::clean::Declared;
use super::control::Request;
use super::outbound::destinations::Blocked;
use super::outbound::home::{Jobs, Pull, Work};
use super::outbound::job::Report;
use super::outbound::slots::SlotLetter;
use super::session::Moved;

/// What one shard says to another.
pub enum Letter {
    /// A synced message for an account whose log the receiver drives.
    Deliver(Deliver),
    /// A delivery is synced where it was asked for, or will never be possible.
    Delivered(Delivered),
    /// A home has mail for a site of the receiver's.
    Work(Box<Work>),
    /// A site has room for mail of the receiver's.
    Pull(Pull),
    /// The answer to a pull.
    Jobs(Jobs),
    /// What became of an attempt at a message of the receiver's.
    Report(Box<Report>),
    /// Whoever had a message is done with it; all that was reported of it came before.
    Back { log: LogId, item: Item },
    /// Mail for a destination of the receiver's waits at its site, and why; or goes again.
    Blocked(Blocked),
    /// About a source's connections over all sites.
    Slot(SlotLetter),
    /// An operator wants a site tried at once that is being left alone.
    TryNow(Arc<str>),
    /// A session that logged in to an account of the receiver's.
    Session(Box<Moved>),
    /// Accounts, aliases and domains have changed.
    Directory(Arc<Directory>, Inbox<()>),
    /// Certificates and configuration were read again.
    Reload(Arc<Config>, ServerTls),
    /// Which messages of a log do the receiver's mailboxes have? A part of the answer at a time.
    Declare(LogId, Inbox<Declared>),
    /// A question of the operator's.
    Control(Request),
    /// Finish what was promised and end.
    Stop,
}

/// A local recipient's copy of a message.
pub struct Deliver {
    pub message: Locator,
    pub recipient: u32,
    /// What was promised about the message.
    pub accepted: Arc<Accepted>,
    /// Number of the account in the directory.
    pub account: u32,
    /// Every message of that log below this is settled; what was remembered about them can be forgotten.
    pub low_water: Sequence,
    /// In UTC, when the message was accepted.
    pub received_seconds: i64,
    /// Whoever sent the message wants to hear of its delivery.
    pub tells_sender: bool,
    /// The sender's last cut.
    pub cut: u32,
}

/// The answer to a [`Deliver`].
pub struct Delivered {
    pub log: LogId,
    pub message: MessageId,
    pub recipient: u32,
    /// False if there is no such account any more: the message stays in the queue.
    pub kept: bool,
    /// As in the [`Deliver`].
    pub tells_sender: bool,
    /// The sender's last cut.
    pub cut: u32,
}

/// Which of so many shards drives a log.
pub fn driver_of(log: LogId, shards: usize) -> usize {
    usize::from(log.0) % shards
}

/// The inboxes of all shards, as one of them sees them.
#[derive(Clone)]
pub struct Mesh {
    inboxes: Rc<[Inbox<Letter>]>,
    own: usize,
    /// Deliveries that were asked for and not answered yet.
    unanswered: Rc<Cell<usize>>,
}

impl Mesh {
    pub fn new(inboxes: &[Inbox<Letter>], own: usize) -> Self {
        assert!(own < inboxes.len(), "a shard has an inbox of its own");
        Self { inboxes: inboxes.into(), own, unanswered: Rc::default() }
    }

    pub fn post(&self, shard: usize, letter: Letter) {
        self.inboxes[shard].post_with_turn(letter);
    }

    /// Asks a shard for a delivery; the answer has to be counted with [`Mesh::answered`].
    pub fn ask(&self, shard: usize, deliver: Deliver) {
        self.unanswered.set(self.unanswered.get() + 1);
        self.post(shard, Letter::Deliver(deliver));
    }

    /// An answer came to what was asked.
    pub fn answered(&self) {
        self.unanswered.set(self.unanswered.get() - 1);
    }

    pub fn inbox_of(&self, shard: usize) -> &Inbox<Letter> {
        &self.inboxes[shard]
    }

    pub fn own_inbox(&self) -> &Inbox<Letter> {
        &self.inboxes[self.own]
    }

    /// Which shard drives a log.
    pub fn driver_of(&self, log: LogId) -> usize {
        driver_of(log, self.inboxes.len())
    }

    pub fn is_own(&self, log: LogId) -> bool {
        self.driver_of(log) == self.own
    }

    pub fn own(&self) -> usize {
        self.own
    }

    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Deliveries that this shard waits for, whether they wait in an inbox or for a disk.
    pub fn unanswered(&self) -> usize {
        self.unanswered.get()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Deliver, Mesh};
    use crate::io::inbox::Inbox;
    use crate::store::{Locator, LogId, MessageId, Place, Sequence};

    #[test]
    fn what_was_asked_counts_until_it_is_answered() {
        let inboxes = [Inbox::new(), Inbox::new()];
        let mesh = Mesh::new(&inboxes, 0);
        let id = MessageId { log: LogId(0), sequence: Sequence(1) };
        let place = Place::Segment { number: 1, offset: 0 };
        let message = Locator { id, place, length: 1, return_path_length: 0 };
        let deliver = || Deliver {
            message,
            recipient: 0,
            accepted: Arc::default(),
            account: 1,
            low_water: Sequence(1),
            received_seconds: 0,
            tells_sender: false,
            cut: 0,
        };
        mesh.ask(1, deliver());
        mesh.ask(0, deliver());
        // The other shard has taken its letter and is not done with it.
        assert!(inboxes[1].try_next().is_some());
        assert_eq!(mesh.unanswered(), 2);
        mesh.answered();
        assert_eq!(mesh.unanswered(), 1);
    }
}
