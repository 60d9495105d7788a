//! What an operator asks of a shard: what is queued, what accounts hold, messages in and out.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::clean::{Cleaner, Cycle};
use super::commit::{NotStored, Ticket};
use super::damage;
use super::deliver::{change, locator};
use super::intake::{Complete, Intake};
use super::outbound::operator;
use super::seat::Seat;
use super::submit::{Submission, Submitted};
use crate::bytes::Slice;
use crate::io::clock;
use crate::io::disk::copy::Extent;
use crate::io::inbox::Inbox;
use crate::limits::BODY_IN_MEMORY_BYTES_MAX;
use crate::mail::digest::Digest;
use crate::mail::flags::Flags;
use crate::mail::time::Timestamp;
use crate::mailbox::Refusal;
use crate::mailbox::plan::Incoming;
use crate::proto::smtp::MessageRefusal;
use crate::store::record::{AccountPurged, Message, Record};
use crate::store::{AccountId, LogId, MailboxId};

/// A question and where its answer goes.
pub enum Request {
    /// Of the mail that waits.
    Queue(operator::Request),
    /// Puts messages into mailboxes, which are made if they are not there, in this order.
    Append(Append, Inbox<Result<(), Stopped>>),
    /// Takes responsibility for a message of somebody on this machine.
    Submit(Submission, Inbox<Result<Submitted, MessageRefusal>>),
    /// The mailboxes of an account.
    Mailboxes(AccountId, Inbox<Vec<MailboxSummary>>),
    /// UIDs of a mailbox above one, at most so many.
    Messages {
        account: AccountId,
        mailbox: String,
        above: u32,
        count: usize,
        answer: Inbox<Vec<Held>>,
    },
    /// Removes everything of an account; answered, when that is durable, with the last UIDVALIDITY that it gave.
    Purge(AccountId, LogId, Inbox<Option<u32>>),
    Figures(Inbox<Figures>),
    /// Cleans all logs of the shard.
    Clean(Inbox<Vec<Cleaned>>),
    /// Keeps all files as they are from the first on until the second; the third is told if that cannot be.
    Pin(Inbox<()>, Inbox<()>, Inbox<()>),
    /// The files of the shard's logs as of the cut with this number.
    FilesAt(u32, Inbox<Result<Vec<Extent>, String>>),
    /// Gives every mailbox of the shard a UIDVALIDITY above this one; says how many accounts there are.
    RaiseUidValidity(u32, Inbox<Result<u64, String>>),
    /// Of mail that cannot be read.
    Damage(damage::Request),
    /// Makes a log do without these segments, whatever that takes.
    Evict(LogId, BTreeSet<u32>, Inbox<Result<Cycle, String>>),
}

/// Messages for mailboxes of one account.
pub struct Append {
    pub account: AccountId,
    pub log: LogId,
    pub messages: Vec<NewMail>,
}

pub struct NewMail {
    pub mailbox: String,
    pub flags: Flags,
    pub internal: Timestamp,
    pub bytes: Vec<u8>,
}

/// Why not all messages of an [`Append`] are in.
pub struct Stopped {
    /// So many of the first are in and durable, and none of the others.
    pub taken: usize,
    /// Of the next one.
    pub why: String,
}

#[derive(Clone, Debug)]
pub struct MailboxSummary {
    pub id: MailboxId,
    pub name: String,
    pub messages: u32,
    pub bytes: u64,
}

/// A message in a mailbox.
#[derive(Clone, Debug)]
pub struct Held {
    pub uid: u32,
    pub flags: Flags,
    pub internal: Timestamp,
    /// `None` if it cannot be read.
    pub bytes: Option<Slice>,
}

/// What one shard holds.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    pub logs: u64,
    pub accounts: u64,
    pub messages: u64,
    pub message_bytes: u64,
    pub queued: u64,
    pub sessions: u64,
    /// Since the start.
    pub records: u64,
    pub syncs: u64,
    pub space: Vec<Space>,
}

/// What a log takes on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub log: LogId,
    pub used_bytes: u64,
    pub used_segments: u64,
    pub ready_bytes: u64,
    pub old_bytes: u64,
    /// Since the start: bytes of messages that were taken, and all bytes that were written.
    pub taken_bytes: u64,
    pub written_bytes: u64,
    pub last: Cycle,
}

/// How the cleaning of a log went.
pub type Cleaned = (LogId, Result<Cycle, String>);

impl Shard {
    pub async fn answer(self: Rc<Self>, request: Request) {
        match request {
            Request::Queue(request) => self.answer_operator(request, clock::instant()).await,
            Request::Append(append, answer) => answer.post(self.append(append).await),
            Request::Submit(submission, answer) => answer.post(self.submit(submission).await),
            Request::Mailboxes(account, answer) => answer.post(self.mailboxes(account)),
            Request::Messages { account, mailbox, above, count, answer } => {
                answer.post(self.messages(account, &mailbox, above, count));
            }
            Request::Purge(account, log, answer) => answer.post(self.purge(account, log).await),
            Request::Figures(answer) => answer.post(self.figures()),
            Request::Clean(answer) => answer.post(self.clean().await),
            Request::Pin(pinned, release, lost) => self.pin(pinned, release, lost).await,
            Request::FilesAt(cut, answer) => answer.post(self.files_at(cut).await),
            Request::RaiseUidValidity(floor, answer) => answer.post(self.raise_uid_validity(floor).await),
            Request::Damage(request) => self.answer_damage(request).await,
            Request::Evict(log, segments, answer) => {
                let cleaner = self.cleaners.iter().find(|cleaner| cleaner.commit().id() == log);
                match cleaner {
                    Some(cleaner) => cleaner.evict(segments, answer),
                    None => answer.post(Err("the log is not here".to_owned())),
                }
            }
        }
    }

    /// All are appended before the first is waited for, so that they share their syncs and keep their order.
    async fn append(&self, append: Append) -> Result<(), Stopped> {
        let Append { account, log, messages } = append;
        let Some(seat) = self.open_seat(account, log).await else {
            return Err(Stopped { taken: 0, why: "the account's log cannot be written".to_owned() });
        };
        let (mut tickets, mut put) = (Vec::with_capacity(messages.len()), Ok(()));
        for mail in messages {
            put = self.put(&seat, mail, &mut tickets).await;
            if put.is_err() {
                break;
            }
        }
        for (taken, ticket) in tickets.iter().enumerate() {
            ticket.stored().await.map_err(|error| Stopped { taken, why: not_stored(error).to_owned() })?;
        }
        put.map_err(|why| Stopped { taken: tickets.len(), why })
    }

    /// Appends a message behind those with these tickets, and not at all once one of them is lost: what is in are the
    /// first of all.
    async fn put(&self, seat: &Seat, mail: NewMail, tickets: &mut Vec<Rc<Ticket>>) -> Result<(), String> {
        let NewMail { mailbox, flags, internal, bytes } = mail;
        let exists = seat.account().named(&mailbox).is_some();
        if !exists {
            create(seat, &mailbox).await?;
        }
        let complete = self.body(seat, bytes).await?;
        // Whatever loses one loses those behind it.
        if let Some(why) = tickets.last().and_then(|last| last.lost()) {
            return Err(not_stored(why).to_owned());
        }
        let now = clock::timestamp();
        let (message, bytes) = locator(seat.commit().next_message(), complete.body());
        let bytes = bytes.or_else(|| self.read(&message));
        let incoming = Incoming {
            message,
            digest: bytes.map(|bytes| Arc::new(Digest::of(&bytes))),
            key: None,
            flags,
            internal,
            saved: now.seconds,
        };
        let planned = {
            let mut account = seat.account_mut();
            let id = account.named(&mailbox).map(|mailbox| mailbox.id()).ok_or("the mailbox was deleted")?;
            account.plan_append(id, incoming)
        };
        let mut plan = planned.map_err(|refusal| refusal_text(refusal).to_owned())?;
        let record = Record::Message(Message { received: now, accepted: None, body: complete.into_body() });
        plan.changes.insert(0, change(record));
        tickets.push(seat.commit().append(plan.changes));
        Ok(())
    }

    /// What is large goes into a file of its own here, too: a segment need not have room for it.
    async fn body(&self, seat: &Seat, bytes: Vec<u8>) -> Result<Complete, String> {
        let mut intake = Intake::new(seat.commit());
        if bytes.len() <= BODY_IN_MEMORY_BYTES_MAX {
            return Ok(intake.finish(bytes, 0).await.map_err(not_stored)?);
        }
        if !seat.account().has_room_for(bytes.len() as u64) {
            return Err(refusal_text(Refusal::OverQuota).to_owned());
        }
        intake.spill(bytes).await.map_err(not_stored)?;
        Ok(intake.finish(Vec::new(), 0).await.map_err(not_stored)?)
    }

    fn mailboxes(&self, account: AccountId) -> Vec<MailboxSummary> {
        let Some(seat) = self.seat(account) else {
            return Vec::new();
        };
        let account = seat.account();
        let summary = |mailbox: &crate::mailbox::mailbox::Mailbox| {
            let counts = mailbox.counts();
            let (id, name) = (mailbox.id(), mailbox.name().to_owned());
            MailboxSummary { id, name, messages: counts.messages, bytes: counts.size }
        };
        account.mailboxes().map(summary).collect()
    }

    fn messages(&self, account: AccountId, mailbox: &str, above: u32, count: usize) -> Vec<Held> {
        let Some(seat) = self.seat(account) else {
            return Vec::new();
        };
        let account = seat.account();
        let Some(mailbox) = account.named(mailbox) else {
            return Vec::new();
        };
        let uids = mailbox.uids();
        let from = uids.partition_point(|&uid| uid <= above);
        let rows = uids[from..].iter().take(count).filter_map(|&uid| mailbox.row(uid));
        let held = |row: crate::mailbox::Row<'_>| {
            let mut flags = Flags::system(row.flags);
            for (bit, keyword) in mailbox.keywords().iter().enumerate() {
                if row.keywords >> bit & 1 == 1 {
                    flags.add_keyword(keyword);
                }
            }
            Held { uid: row.uid, flags, internal: row.internal, bytes: self.read(&row.locator) }
        };
        rows.map(held).collect()
    }

    async fn purge(&self, account: AccountId, log: LogId) -> Option<u32> {
        let purged = Record::AccountPurged(AccountPurged { account });
        self.log(log)?.append(vec![change(purged)]).stored().await.ok()?;
        Some(self.seats.seat(account).map_or(0, |seat| seat.account().uid_validity_used()))
    }

    async fn clean(&self) -> Vec<Cleaned> {
        let mut cleaned = Vec::new();
        for cleaner in &self.cleaners {
            let answer = Inbox::new();
            cleaner.ask(answer.clone());
            cleaned.push((cleaner.commit().id(), answer.next().await));
        }
        cleaned
    }

    async fn raise_uid_validity(&self, floor: u32) -> Result<u64, String> {
        let seats = self.seats.all();
        let accounts = seats.len() as u64;
        let mut tickets: Vec<Rc<Ticket>> = Vec::new();
        for seat in seats {
            let plan = seat.account_mut().plan_raise(floor);
            if !plan.changes.is_empty() {
                tickets.push(seat.commit().append(plan.changes));
            }
        }
        for ticket in tickets {
            ticket.stored().await.map_err(|_| "the store cannot be written")?;
        }
        Ok(accounts)
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures {
            logs: self.logs().len() as u64,
            queued: self.logs().iter().map(|commit| commit.owed().count() as u64).sum(),
            sessions: self.sessions.get() as u64,
            records: self.logs().iter().map(|commit| commit.records()).sum(),
            syncs: self.logs().iter().map(|commit| commit.syncs()).sum(),
            space: self.cleaners.iter().map(|cleaner| space(cleaner)).collect(),
            ..Figures::default()
        };
        for seat in self.seats.all() {
            let usage = seat.account().usage();
            figures.accounts += 1;
            figures.messages += usage.messages;
            figures.message_bytes += usage.bytes;
        }
        figures
    }
}

fn space(cleaner: &Cleaner) -> Space {
    let commit = cleaner.commit();
    let (used_bytes, used_segments) = commit.used();
    Space {
        log: commit.id(),
        used_bytes,
        used_segments,
        ready_bytes: commit.ready_bytes(),
        old_bytes: commit.files().spare().0,
        taken_bytes: commit.taken_bytes(),
        written_bytes: commit.bytes() + commit.files().prepared_bytes(),
        last: cleaner.last(),
    }
}

/// Makes a mailbox that does not exist yet.
async fn create(seat: &Seat, mailbox: &str) -> Result<(), String> {
    let planned = seat.account_mut().plan_create(mailbox, None);
    let created = match planned {
        Ok(plan) => seat.carry_out(plan).await.map(drop),
        // Someone else, such as another message of the same batch, makes it at this moment.
        Err(Refusal::AlreadyExists) => seat.commit().barrier().await,
        Err(refusal) => return Err(format!("mailbox {mailbox}: {}", refusal_text(refusal))),
    };
    created.map_err(|why| not_stored(why).to_owned())
}

fn not_stored(why: NotStored) -> &'static str {
    match why {
        NotStored::Full => "there is no space on the disk",
        NotStored::Failed => "the store cannot be written",
        NotStored::TooLarge => "the message is larger than segment_bytes in [limits]",
    }
}

fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NonExistent | Refusal::TryCreate => "there is no such mailbox",
        Refusal::AlreadyExists => "it exists already",
        Refusal::Cannot(reason) | Refusal::Limit(reason) => reason,
        Refusal::HasChildren => "there are mailboxes below it",
        Refusal::UseAttribute => "the special use is taken",
        Refusal::OverQuota => "the account is full",
    }
}
