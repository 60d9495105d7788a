//! A logged-in session: what it holds, and the loop that drives it.

use std::rc::Rc;

use futures_lite::future::or;

use super::mailbox_gone;
use crate::io::clock;
use crate::io::net::{Conn, Filled};
use crate::io::share::{breathe, is_long};
use crate::limits;
use crate::mail::set::{NumberSet, Ranges};
use crate::mailbox::saved::Saved;
use crate::mailbox::view::{self, View};
use crate::proto::imap::command::{Access, Command, Loss, Numbering, Refused};
use crate::proto::imap::render::state;
use crate::proto::imap::reply::{Code, Done};
use crate::proto::imap::server::{Event, Outcome, Server};
use crate::shard::Shard;
use crate::shard::notify::Bell;
use crate::shard::seat::Seat;
use crate::store::MailboxId;

/// An IMAP session on the shard that owns its account.
pub struct Session {
    pub(super) shard: Rc<Shard>,
    pub(super) conn: Box<Conn>,
    pub(super) engine: Box<Server>,
    pub(super) seat: Rc<Seat>,
    pub(super) selected: Option<Selected>,
    /// The message of an APPEND that is coming in.
    pub(super) appending: Option<Box<super::append::Appending>>,
}

/// The mailbox that is selected.
pub(super) struct Selected {
    pub(super) view: View,
    pub(super) bell: Rc<Bell>,
    pub(super) saved: Saved,
    pub(super) access: Access,
}

/// What woke a session.
enum Woken {
    Conn(Filled),
    Bell,
}

impl Session {
    pub fn new(shard: Rc<Shard>, conn: Box<Conn>, engine: Box<Server>, seat: Rc<Seat>) -> Self {
        Self { shard, conn, engine, seat, selected: None, appending: None }
    }

    /// Serves the client until it goes, is sent away, or the server stops.
    pub async fn run(mut self: Box<Self>) -> std::io::Result<()> {
        // The login that brought the session here still waits for its answer.
        self.engine.handle_done(Outcome::LoggedIn, self.conn.out(), clock::now());
        self.seat.welcome(&self.conn);
        loop {
            self.look_at_account();
            if !self.take_input().await? {
                break;
            }
            self.conn.flush().await?;
            self.conn.set_deadline(self.engine.deadline());
            if self.seat.is_gone() {
                continue;
            }
            match self.wait().await? {
                Woken::Conn(Filled::Input) => {}
                Woken::Conn(Filled::End) => break,
                Woken::Conn(Filled::Deadline) if self.shard.is_stopping() => {
                    self.engine.handle_shutdown(self.conn.out(), "The server stops; come back soon");
                }
                Woken::Conn(Filled::Deadline) if self.seat.is_gone() => {}
                Woken::Conn(Filled::Deadline) => self.engine.handle_timeout(self.conn.out(), clock::now()),
                Woken::Bell => self.tell_idle(),
            }
        }
        self.conn.flush().await?;
        self.conn.close_gently().await;
        Ok(())
    }

    /// Lets the engine take what was received and does what it asks for. False when the session is over.
    async fn take_input(&mut self) -> std::io::Result<bool> {
        loop {
            let (input, out) = self.conn.input_and_out();
            let taken = self.engine.handle_bytes(input, out, clock::now());
            self.conn.consume(taken);
            let Some(event) = self.engine.poll_event() else {
                if taken == 0 || self.conn.input().is_empty() {
                    return Ok(true);
                }
                breathe().await;
                continue;
            };
            if !self.handle(event).await? {
                return Ok(false);
            }
            // A client that sends many commands ahead takes their answers before we make more; one that is gone by then
            // is noticed.
            if self.conn.out().len() >= limits::imap::OUTPUT_BURST_BYTES || is_long() {
                self.conn.flush().await?;
                breathe().await;
            }
            self.look_at_account();
            if self.room_bytes() == 0 {
                tracing::warn!(peer = %self.conn.peer(), held = self.held_bytes(), "an IMAP session holds too much");
                self.engine.handle_shutdown(self.conn.out(), "[LIMIT] The session holds too much memory");
            }
        }
    }

    /// Nobody goes on with an account that was removed.
    fn look_at_account(&mut self) {
        if self.seat.is_gone() {
            self.engine.handle_shutdown(self.conn.out(), "The account was removed");
        }
    }

    async fn handle(&mut self, event: Event) -> std::io::Result<bool> {
        let done = match event {
            Event::Close => return Ok(false),
            Event::Command { command, announce_modseq } => {
                if announce_modseq {
                    self.announce_modseq();
                }
                let done = match command.held_bytes() <= self.room_bytes() {
                    // Boxed, so that an idle session does not carry the room that the largest command needs.
                    true => Box::pin(self.execute(command)).await,
                    false => {
                        if command.saves() {
                            self.clear_saved();
                        }
                        too_much("The command needs more memory than a session may hold")
                    }
                };
                self.tell_news();
                done
            }
            Event::AppendStart(start) => {
                let outcome = self.append_start(start);
                self.engine.handle_done(outcome, self.conn.out(), clock::now());
                return Ok(true);
            }
            Event::AppendFull => {
                let outcome = Box::pin(self.append_full()).await;
                self.engine.handle_done(outcome, self.conn.out(), clock::now());
                return Ok(true);
            }
            Event::AppendEnd => {
                let done = Box::pin(self.append_end()).await;
                self.tell_news();
                done
            }
            Event::AppendCancelled => {
                self.appending = None;
                return Ok(true);
            }
            Event::IdleStart => {
                self.tell_news();
                return Ok(true);
            }
            Event::IdleEnd => {
                self.tell_news();
                Done::ok("Idle ended")
            }
            // A session that is logged in has no use for these; the engine does not ask.
            Event::Rejected(_) => return Ok(true),
            Event::StartTls | Event::Verify(_) | Event::Lookup(_) | Event::Admit(_) => {
                Done::bad("Not after login")
            }
        };
        self.engine.handle_done(Outcome::Done(done), self.conn.out(), clock::now());
        self.look_at_mailbox();
        Ok(true)
    }

    /// What is selected is gone: behind the answer to its command the client is sent away, so that it learns of it and
    /// begins anew (RFC 2180 3.3).
    fn look_at_mailbox(&mut self) {
        if self.has_lost_its_mailbox() && !self.seat.is_gone() {
            self.engine.handle_shutdown(self.conn.out(), "The mailbox was deleted");
        }
    }

    async fn execute(&mut self, command: Command) -> Done {
        match command {
            Command::Noop => Done::ok("Nothing done"),
            Command::Enable => Done::ok("Enabled"),
            Command::Select(select) => self.select(&select),
            Command::Create { mailbox, special_uses } => self.create(&mailbox, &special_uses).await,
            Command::Delete { mailbox } => self.delete(&mailbox).await,
            Command::Rename { from, to } => self.rename(&from, &to).await,
            Command::Subscribe { mailbox } => self.subscribe(&mailbox).await,
            Command::Unsubscribe { mailbox } => self.unsubscribe(&mailbox).await,
            Command::List(list) => self.list(&list),
            Command::Lsub { reference, pattern } => self.lsub(&reference, &pattern),
            Command::Namespace => self.namespace(),
            Command::Status { mailbox, items } => self.status(&mailbox, &items),
            Command::Close => self.close().await,
            Command::Unselect => self.unselect(),
            Command::Expunge { uids } => self.expunge(uids.as_ref()).await,
            Command::Search(search) => self.search(&search).await,
            Command::Sort(sort) => self.sort(&sort).await,
            Command::Thread(thread) => self.thread(&thread).await,
            Command::Fetch(fetch) => self.fetch(&fetch).await,
            Command::Store(store) => self.store(&store).await,
            Command::Copy(transfer) => self.copy(&transfer).await,
            Command::Move(transfer) => self.move_messages(&transfer).await,
            Command::Refused(Refused { loses, code, text }) => {
                match loses {
                    Loss::Selected => self.selected = None,
                    Loss::Saved => self.clear_saved(),
                }
                Done::no(Some(code), text)
            }
        }
    }

    /// Waits for input; in IDLE also for news.
    async fn wait(&mut self) -> std::io::Result<Woken> {
        let bell = self.selected.as_ref().filter(|_| self.engine.is_idle()).map(|selected| &selected.bell);
        let input = async { self.conn.fill().await.map(Woken::Conn) };
        match bell {
            None => input.await,
            Some(bell) => {
                let rung = async {
                    bell.rung().await;
                    Ok(Woken::Bell)
                };
                or(input, rung).await
            }
        }
    }

    fn tell_idle(&mut self) {
        self.tell_news();
        self.look_at_mailbox();
    }

    /// RFC 7162 3.1: a client that enables CONDSTORE with a mailbox selected is told where it stands.
    fn announce_modseq(&mut self) {
        let Some((mailbox, _)) = self.selected_mailbox() else {
            return;
        };
        let account = self.seat.account();
        if let Some(mailbox) = account.mailbox(mailbox) {
            let code = Code::HighestModSeq(mailbox.highest_modseq());
            state::ok(self.conn.out(), Some(&code), "The latest change");
        }
    }

    /// Bytes of memory that the session may still come to hold.
    pub(super) fn room_bytes(&self) -> usize {
        self.shard.session_memory_bytes().saturating_sub(self.held_bytes())
    }

    fn held_bytes(&self) -> usize {
        let known = |selected: &Selected| selected.view.held_bytes() + selected.saved.held_bytes();
        self.conn.held_bytes() + self.engine.held_bytes() + self.selected.as_ref().map_or(0, known)
    }

    pub(super) fn selected_mailbox(&self) -> Option<(MailboxId, Access)> {
        let selected = self.selected.as_ref()?;
        Some((selected.view.mailbox(), selected.access))
    }

    /// The messages that a set names, as spans of UIDs.
    pub(super) fn resolve(&mut self, set: &NumberSet, numbering: view::Numbering) -> Result<Ranges, Done> {
        let Selected { view, saved, .. } = self.selected.as_mut().ok_or_else(mailbox_gone)?;
        let account = self.seat.account();
        let mailbox = account.mailbox(view.mailbox()).ok_or_else(mailbox_gone)?;
        let look = view.look(mailbox);
        look.resolve(set, numbering, saved).map_err(|_| Done::bad("There is no message with this number"))
    }
}

/// RFC 5530 3
pub(super) fn too_much(text: &'static str) -> Done {
    Done::no(Some(Code::Limit), text)
}

pub(super) fn numbering(numbering: Numbering) -> view::Numbering {
    match numbering {
        Numbering::Sequence => view::Numbering::Sequence,
        Numbering::Uid => view::Numbering::Uid,
    }
}
