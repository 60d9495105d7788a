//! Mail of a shard that cannot be read: which it is, and how it is set aside.
//!
//! A message that is damaged leaves its mailbox as if it had been expunged, and a note stands in its place, in the same
//! group of records: whoever knew of it learns what happened. Mail that is owed and has its envelope is returned to its
//! sender; of other mail nobody knows whose it is, and it ends. What is left of the bytes has been kept by then.
//!
//! Invariants: only what cannot be read is set aside, which is looked at once more in the same step; doing it again
//! finds nothing to do.

use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::commit::Commit;
use super::deliver::{change, locator};
use super::outbound::damaged::{READS_MAX, unreadable};
use super::outbound::job::Attempt;
use super::outbound::report::Judged;
use crate::bytes::Slice;
use crate::io::clock;
use crate::io::inbox::Inbox;
use crate::mail::digest::Digest;
use crate::mail::flags::Flags;
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;
use crate::mailbox::Change;
use crate::mailbox::plan::{Doomed, Incoming};
use crate::proto::smtp::client::Fate;
use crate::queue::verdict::Verdict;
use crate::store::owed::{Row, Way};
use crate::store::record::{Body, Message, Record, Settled};
use crate::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, RecordPlace, Sequence};

/// Messages that are looked at before others of the shard have their turn.
const MESSAGES_PER_TURN: usize = 64;

/// A question or an order, and where the answer goes.
pub enum Request {
    /// Some messages of a mailbox with UIDs above one.
    CheckMailbox { account: AccountId, mailbox: MailboxId, above: u32, answer: Inbox<Option<CheckedMailbox>> },
    /// Some of what a log owes, from a message on.
    CheckQueue { log: LogId, from: Sequence, answer: Inbox<CheckedQueue> },
    /// The message goes, and the note is put in its place. `false` if it can be read or is gone.
    SetAside {
        account: AccountId,
        mailbox: MailboxId,
        uid: u32,
        note: Vec<u8>,
        answer: Inbox<Result<bool, &'static str>>,
    },
    /// As [`Request::SetAside`], for mail that is owed.
    SetAsideQueued(MessageId, Inbox<Result<bool, &'static str>>),
}

#[derive(Clone, Debug)]
pub struct CheckedMailbox {
    /// The last UID that was looked at.
    pub last: u32,
    /// Octets that were read.
    pub bytes: u64,
    pub damaged: Vec<DamagedMessage>,
}

/// A message of a mailbox that cannot be read.
#[derive(Clone, Debug)]
pub struct DamagedMessage {
    pub uid: u32,
    pub message: Locator,
    pub internal: Timestamp,
    /// The kept header fields, if the index has them.
    pub header: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct CheckedQueue {
    /// Where to go on.
    pub next: Option<Sequence>,
    pub damaged: Vec<DamagedQueued>,
    /// All records up to here were durable.
    pub synced: Sequence,
}

/// Mail that is owed and cannot be read.
#[derive(Clone, Debug)]
pub struct DamagedQueued {
    pub message: Locator,
    /// As an envelope has them; without one, where they go.
    pub recipients: Vec<String>,
    /// Without an envelope.
    pub sender: Option<String>,
    pub received: u32,
}

impl Shard {
    pub async fn answer_damage(self: &Rc<Self>, request: Request) {
        match request {
            Request::CheckMailbox { account, mailbox, above, answer } => {
                answer.post(self.check_mailbox(account, mailbox, above));
            }
            Request::CheckQueue { log, from, answer } => answer.post(self.check_queue(log, from)),
            Request::SetAside { account, mailbox, uid, note, answer } => {
                answer.post(self.set_aside(account, (mailbox, uid), note).await);
            }
            Request::SetAsideQueued(id, answer) => answer.post(self.set_aside_queued(id).await),
        }
    }

    /// `None` if there is nothing above that UID.
    fn check_mailbox(&self, account: AccountId, id: MailboxId, above: u32) -> Option<CheckedMailbox> {
        let seat = self.seat(account)?;
        let account = seat.account();
        let mailbox = account.mailbox(id)?;
        let mut checked = CheckedMailbox { last: above, bytes: 0, damaged: Vec::new() };
        for (uid, message) in mailbox.places_above(above).take(MESSAGES_PER_TURN) {
            checked.last = uid;
            match self.reader().message(&message) {
                Ok(bytes) => checked.bytes += bytes.len() as u64,
                Err(_) => {
                    let Some(row) = mailbox.row(uid) else {
                        continue;
                    };
                    let header = row.digest.get().map(|digest| digest.fields.to_vec()).unwrap_or_default();
                    checked.damaged.push(DamagedMessage { uid, message, internal: row.internal, header });
                }
            }
        }
        (checked.last > above).then_some(checked)
    }

    fn check_queue(&self, log: LogId, from: Sequence) -> CheckedQueue {
        let Some(commit) = self.log(log) else {
            return CheckedQueue::default();
        };
        let mut checked = CheckedQueue { synced: commit.applied(), ..CheckedQueue::default() };
        let mut at = from;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = commit.owed().rows_from(at).next().map(|row| row.message) else {
                return checked;
            };
            let rows: Vec<Row> = commit.owed().of_message(message).copied().collect();
            checked.damaged.extend(self.check_owed(commit, &rows));
            at = message + 1;
        }
        checked.next = Some(at);
        checked
    }

    /// `None` if all of it can be read. The rows are of one message.
    fn check_owed(&self, commit: &Commit, rows: &[Row]) -> Option<DamagedQueued> {
        let Row { message, record, received, .. } = *rows.first()?;
        let id = MessageId { log: commit.id(), sequence: message };
        let Ok((kept, taken)) = self.reader().taken(id, record) else {
            let RecordPlace { segment, offset } = commit.files().moved(message).unwrap_or(record);
            let place = Place::Segment { number: segment, offset };
            let message = Locator { id, place, length: 0, return_path_length: 0 };
            let recipients = rows.iter().map(|row| way_name(commit, row)).collect();
            return Some(DamagedQueued { message, recipients, sender: None, received });
        };
        if self.reader().message(&kept.message).is_ok() {
            return None;
        }
        let envelope = taken.accepted.map(Arc::unwrap_or_clone).unwrap_or_default().envelope;
        let recipient = |row: &Row| envelope.recipients.get(row.recipient as usize);
        let recipients = rows.iter().filter_map(recipient).map(|to| to.address.to_string()).collect();
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(DamagedQueued { message: kept.message, recipients, sender: Some(sender), received })
    }

    async fn set_aside(
        &self,
        account: AccountId,
        (id, uid): (MailboxId, u32),
        note: Vec<u8>,
    ) -> Result<bool, &'static str> {
        let seat = self.seat(account).ok_or("the account is not here")?;
        let row = seat.account().mailbox(id).and_then(|mailbox| {
            let row = mailbox.row(uid)?;
            Some((row.locator, row.internal))
        });
        let Some((message, internal)) = row else {
            return Ok(false);
        };
        if self.reader().message(&message).is_ok() {
            return Ok(false);
        }
        let mut changes = note_in_place(&seat, (id, internal), note);
        let uids: Ranges = [uid].into_iter().collect();
        let plan = seat.account_mut().plan_expunge(id, Doomed::These(&uids));
        changes.extend(plan.map_err(|_| "the mailbox is gone")?.changes);
        match changes.is_empty() {
            true => Ok(false),
            false => seat.commit().append(changes).stored().await.map(|()| true).map_err(|_| UNWRITTEN),
        }
    }

    async fn set_aside_queued(self: &Rc<Self>, id: MessageId) -> Result<bool, &'static str> {
        let commit = Rc::clone(self.log(id.log).ok_or("the log is not here")?);
        let rows: Vec<Row> = commit.owed().of_message(id.sequence).copied().collect();
        if self.check_owed(&commit, &rows).is_none() {
            return Ok(false);
        }
        let Some(record) = rows.first().map(|row| row.record) else {
            return Ok(false);
        };
        let ticket = match self.reader().taken(id, record) {
            Ok(taken) => {
                let failed = |row: &Row| Judged {
                    row: *row,
                    fate: Fate::Failed(unreadable(READS_MAX)),
                    verdict: Verdict::Failed,
                };
                let judged = rows.iter().map(failed).collect();
                self.write_down(&commit, (id, &taken), judged, &Attempt::administrative())
            }
            Err(_) => {
                let settled = |row: &Row| {
                    change(Record::Settled(Settled { message: row.message, recipient: row.recipient }))
                };
                tracing::warn!(message = %id, "set aside; nobody can be told, for its envelope cannot be read");
                Some(commit.append(rows.iter().map(settled).collect()))
            }
        };
        match ticket {
            Some(ticket) => ticket.stored().await.map(|()| true).map_err(|_| UNWRITTEN),
            None => Ok(false),
        }
    }
}

const UNWRITTEN: &str = "the store cannot be written";

/// Records that put a note into a mailbox. None where there is no room for it.
fn note_in_place(
    seat: &super::seat::Seat,
    (mailbox, internal): (MailboxId, Timestamp),
    note: Vec<u8>,
) -> Vec<Change> {
    let now = clock::timestamp();
    let body = Body::Inline { bytes: Slice::from(note), return_path_length: 0 };
    let (message, bytes) = locator(seat.commit().next_message(), &body);
    let digest = bytes.map(|bytes| Arc::new(Digest::of(&bytes)));
    let flags = Flags::default();
    let incoming = Incoming { message, digest, key: None, flags, internal, saved: now.seconds };
    let planned = seat.account_mut().plan_append(mailbox, incoming);
    let Ok(plan) = planned else {
        return Vec::new();
    };
    let record = Record::Message(Message { received: now, accepted: None, body });
    std::iter::once(change(record)).chain(plan.changes).collect()
}

fn way_name(commit: &Commit, row: &Row) -> String {
    match row.way {
        Way::Local(AccountId(account)) => format!("account {account}"),
        Way::Remote(destination) => {
            commit.owed().destinations().name(destination).unwrap_or_default().to_owned()
        }
    }
}
