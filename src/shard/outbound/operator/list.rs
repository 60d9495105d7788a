//! Messages that wait, for an operator to look at.

use std::rc::Rc;
use std::sync::Arc;

use super::find::{Found, Records, Sought, Ways, inside_of, name_of, state_of};
use crate::io::clock;
use crate::io::executor::Turns;
use crate::mail::envelope::{Envelope, Ret};
use crate::mail::header::Header;
use crate::queue::selection::{Outside, Selection, State};
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::shard::outbound::damaged::UNREADABLE;
use crate::shard::outbound::home::now_s;
use crate::store::owed::{Row, Way};
use crate::store::{LogId, MessageId, Sequence};

/// Of a header that is shown.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Messages of one log, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub listed: Vec<Listed>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Sequence>,
}

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
    /// Empty for a mailbox of this server.
    pub destination: String,
    pub site: Option<String>,
    pub state: State,
    pub attempts: u32,
    /// Unix seconds.
    pub due: i64,
    /// Why it is still here: what holds up its destination, or what was answered last.
    pub why: String,
}

/// Everything about one message.
#[derive(Clone, Debug)]
pub struct Shown {
    pub listed: Listed,
    /// What the sender asked for: SMTP parameters as they came.
    pub wishes: Vec<String>,
    /// The last answer to each listed recipient; empty where there was none.
    pub replies: Vec<String>,
    /// `None` if the message cannot be read.
    pub header: Option<Vec<u8>>,
}

impl Shard {
    pub async fn list_queued(
        self: &Rc<Self>,
        log: LogId,
        selection: &Selection,
        from: Sequence,
        count: usize,
    ) -> Page {
        let mut page = Page { listed: Vec::new(), next: Some(from) };
        let Some(commit) = self.log(log).cloned() else {
            return Page::default();
        };
        let sought = Sought { selection, ways: Ways::All, records: Records::Always };
        let mut turns = Turns::begin();
        while let Some(at) = page.next.filter(|_| page.listed.len() < count) {
            let (mut found, next) = self.find(&commit, sought, at);
            page.next = next;
            let room = count - page.listed.len();
            if found.len() > room {
                page.next = Some(found[room].id.sequence);
                found.truncate(room);
            }
            page.listed.extend(found.iter().map(|found| self.listed(&commit, found)));
            turns.give().await;
        }
        page
    }

    /// `None` if nothing is owed of it.
    pub fn show_queued(&self, id: MessageId) -> Option<Shown> {
        let commit = self.log(id.log)?;
        let rows: Vec<Row> = commit.owed().of_message(id.sequence).copied().collect();
        let taken = self.reader().taken(id, rows.first()?.record).ok();
        let header = taken.as_ref().and_then(|(kept, _)| {
            let bytes = self.read(&kept.message)?;
            let bytes = &bytes[kept.message.return_path_length as usize..];
            Some(bytes[..Header::of(bytes).len().min(HEADER_BYTES_MAX)].to_vec())
        });
        let accepted = taken.as_ref().and_then(|(_, message)| message.accepted.as_ref());
        let wishes = accepted.map(|accepted| wishes(&accepted.envelope)).unwrap_or_default();
        let reply = |row: &Row| self.last_reply(commit, row).unwrap_or_default();
        let replies = rows.iter().map(reply).collect();
        let listed = self.listed(commit, &Found { id, taken, rows });
        Some(Shown { listed, wishes, replies, header })
    }

    fn listed(&self, commit: &Commit, found: &Found) -> Listed {
        let first = found.rows.first().copied().unwrap_or_default();
        let accepted = found.taken.as_ref().and_then(|(_, message)| message.accepted.as_ref());
        let sender = accepted.and_then(|accepted| accepted.envelope.sender.as_ref());
        let recipients = found.rows.iter().map(|row| self.listed_recipient(commit, found, row));
        let received = found.taken.as_ref().map(|(_, message)| message.received.seconds);
        Listed {
            id: found.id,
            bytes: found.taken.as_ref().map_or(0, |(kept, _)| kept.message.length),
            received: received.unwrap_or(i64::from(first.received)),
            sender: sender.map(ToString::to_string).unwrap_or_default(),
            tenant: accepted.and_then(|accepted| accepted.tenant.clone()),
            campaign: accepted.and_then(|accepted| accepted.campaign.clone()),
            recipients: recipients.collect(),
        }
    }

    fn listed_recipient(&self, commit: &Commit, found: &Found, row: &Row) -> ListedRecipient {
        let now = now_s();
        let accepted = found.taken.as_ref().and_then(|(_, message)| message.accepted.as_ref());
        let address = accepted.and_then(|accepted| accepted.envelope.recipients.get(row.recipient as usize));
        let unreadable = || match row.way {
            Way::Local(account) => format!("account {}", account.0),
            Way::Remote(_) => "unreadable".to_owned(),
        };
        let name = name_of(&commit.owed(), row).to_owned();
        let site = found.taken.as_ref().and_then(|(_, message)| self.site_of(commit, row, message));
        let state = state_of(commit, row, now);
        let why = match (row.way, state) {
            _ if found.taken.is_none() => {
                self.last_reply(commit, row).or_else(|| Some(UNREADABLE.to_owned()))
            }
            (Way::Local(_), State::Deferred) => Some("its sender wants it kept until then".to_owned()),
            (Way::Local(_), _) => Some("on its way to a mailbox here".to_owned()),
            (_, State::Held | State::Deferred) => self.last_reply(commit, row),
            _ => self
                .suspended(found, row, (&name, site.as_slice()))
                .or_else(|| self.outbound().destinations().why_waiting(&name))
                .or_else(|| self.last_reply(commit, row)),
        };
        ListedRecipient {
            address: address.map_or_else(unreadable, |found| found.address.to_string()),
            destination: name,
            site: site.map(|site| site.to_string()),
            state,
            attempts: u32::from(row.attempts),
            due: i64::from(row.due),
            why: why.unwrap_or_default(),
        }
    }

    /// Why it was put off last, from the record that says so.
    fn last_reply(&self, commit: &Commit, row: &Row) -> Option<String> {
        let deferred = self.reader().deferral(commit.id(), row.deferral()?)?;
        Some(deferred.reply)
    }

    /// By which words of an operator a copy is kept back for a time.
    fn suspended(&self, found: &Found, row: &Row, (name, sites): (&str, &[Arc<str>])) -> Option<String> {
        let suspensions = self.outbound().suspensions().borrow();
        let message = found.taken.as_ref().map(|(_, message)| message).filter(|_| !suspensions.is_empty())?;
        let id = found.id.to_string();
        let outside = Outside {
            id: &id,
            destination: name,
            sites,
            state: State::Ready,
            age_s: u64::from(now_s().saturating_sub(row.received)),
        };
        let inside = inside_of(message, row.recipient, None)?;
        let suspension = suspensions.holding(&outside, &inside, clock::instant())?;
        Some(format!("suspended: {}", suspension.reason))
    }
}

fn wishes(envelope: &Envelope) -> Vec<String> {
    let mut wishes = Vec::new();
    wishes.extend(envelope.envid.as_ref().map(|envid| format!("ENVID={envid}")));
    wishes.extend(
        envelope.ret.map(|ret| format!("RET={}", if matches!(ret, Ret::Full) { "FULL" } else { "HDRS" })),
    );
    if envelope.priority != 0 {
        wishes.push(format!("MT-PRIORITY={}", envelope.priority));
    }
    wishes.extend(envelope.hold_until.map(|until| format!("HOLDUNTIL={until}")));
    wishes.extend(envelope.deliver_by.map(|by| format!("BY={}", by.at)));
    if envelope.smtputf8 {
        wishes.push("SMTPUTF8".to_owned());
    }
    wishes
}
