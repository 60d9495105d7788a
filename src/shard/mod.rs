//! A shard: one per core, the only place where engines, mailboxes, logs and sockets meet.
//!
//! [`accept`] makes a [`session`] of each connection; a session drives a protocol engine. Mail that comes in goes
//! through [`submit`] to [`deliver`], which appends it to the shard's log through [`commit`]; what is synced becomes
//! visible in the accounts ([`seat`]) and rings the [`notify`] bells. Shards talk through the [`mesh`].
//!
//! ```text
//!   accept ──> session/{smtp,pop3,imap} ──> deliver ──> commit ──> seat ──> notify
//!                       │  ^                   │ ^
//!                       v  │                   v │
//!                     imap/*                  mesh  <──> other shards
//! ```
//!
//! Invariants: nothing here decides what a protocol or a mailbox does, it asks and carries out; no borrow of
//! shared state is held across an await; a reply that promises something is written after the sync; a panic while
//! mailboxes, debts or a log are being changed ends the process ([`state`]).

pub mod accept;
mod alarm;
pub mod checkpoint;
pub mod clean;
pub mod commit;
pub mod control;
pub mod cut;
pub mod damage;
pub mod deliver;
mod hold;
pub mod imap;
pub mod intake;
mod logged;
pub mod login;
pub mod mesh;
pub mod notify;
pub mod outbound;
pub mod remake;
pub mod restore;
pub mod seat;
pub mod server;
pub mod session;
pub mod start;
mod state;
pub mod submit;
mod told;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::auth::cache::Tag;
use crate::auth::throttle::Stranger;
use crate::auth::{Directory, LoginCache, Throttle};
use crate::bytes::Slice;
use crate::config::Config;
use crate::io::disk::reader::Reader;
use crate::io::net::{Census, Deadlines, Sockets};
use crate::io::tls::ServerTls;
use crate::io::workers::Workers;
use crate::limits;
use crate::mailbox::search::Bodies;
use crate::store::{AccountId, Locator, LogId};
use checkpoint::Keeper;
use clean::Cleaner;
use commit::Commit;
use cut::Cuts;
use hold::Held;
use login::Turns;
use mesh::Mesh;
use notify::Bells;
use outbound::Outbound;
use seat::{Seat, Seats};
use told::Telling;

/// Everything that the tasks of one shard share.
pub struct Shard {
    pub mesh: Mesh,
    pub bells: Rc<Bells>,
    pub deadlines: Deadlines,
    pub sockets: Sockets,
    pub census: Census,
    pub hashing: Workers,
    reader: Reader,
    outbound: Outbound,
    config: RefCell<Arc<Config>>,
    tls: RefCell<ServerTls>,
    directory: RefCell<Arc<Directory>>,
    /// The logs this shard drives. It accepts mail into the first.
    logs: Vec<Rc<Commit>>,
    /// Of the same logs.
    keepers: Vec<Rc<Keeper>>,
    /// Of the same logs.
    cleaners: Vec<Rc<Cleaner>>,
    seats: Rc<Seats>,
    throttle: RefCell<Throttle>,
    logins: RefCell<LoginCache>,
    /// Passwords that are hashed now, with their logins.
    hashed_now: Turns<Tag>,
    /// Strangers of whose attempts one is judged now.
    judged_now: Turns<Stranger>,
    stopping: Cell<bool>,
    /// Sessions that are being served here.
    sessions: Cell<usize>,
    held: Held,
    telling: Telling,
    cuts: Cuts,
}

impl Shard {
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub fn tls(&self) -> ServerTls {
        self.tls.borrow().clone()
    }

    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.borrow())
    }

    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The log that mail is accepted into here.
    pub fn own_log(&self) -> &Rc<Commit> {
        &self.logs[0]
    }

    pub fn log(&self, id: LogId) -> Option<&Rc<Commit>> {
        self.logs.iter().find(|commit| commit.id() == id)
    }

    pub fn logs(&self) -> &[Rc<Commit>] {
        &self.logs
    }

    /// The account, if this shard owns it and it has been opened.
    pub fn seat(&self, account: AccountId) -> Option<Rc<Seat>> {
        self.seats.seat(account)
    }

    /// The whole message. What cannot be read is logged here.
    pub fn read(&self, message: &Locator) -> Option<Slice> {
        match self.reader.message(message) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::error!(message = %message.id, %error, "a message cannot be read");
                None
            }
        }
    }

    pub fn bodies(&self) -> impl Bodies + '_ {
        MessageBodies(self)
    }

    pub fn message_bytes_max(&self) -> u64 {
        self.config.borrow().limits.message_bytes
    }

    /// What one session may hold.
    pub fn session_memory_bytes(&self) -> usize {
        self.config.borrow().limits.session_memory_bytes
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// More deliveries wait for their owners than a new message should be added to.
    pub fn is_backed_up(&self) -> bool {
        self.mesh.unanswered() > limits::DELIVERIES_UNANSWERED_MAX
    }

    /// Counts a session for as long as the answer lives.
    pub fn count_session(self: &Rc<Self>) -> Session {
        self.sessions.set(self.sessions.get() + 1);
        Session(Rc::clone(self))
    }
}

/// A session that is being served.
pub struct Session(Rc<Shard>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get() - 1);
    }
}

/// The messages of all logs, for a search.
struct MessageBodies<'a>(&'a Shard);

impl Bodies for MessageBodies<'_> {
    fn message(&self, locator: &Locator) -> Option<Slice> {
        self.0.read(locator)
    }
}
