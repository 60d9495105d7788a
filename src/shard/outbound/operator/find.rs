//! Which rows a selection means, slice by slice.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::queue::schedule::Item;
use crate::queue::selection::{Inside, Outside, Selection, State};
use crate::shard::Shard;
use crate::shard::commit::Commit;
use crate::shard::outbound::home::now_s;
use crate::shard::outbound::way::{self, Choice};
use crate::store::owed::{self, DestinationId, Row, Way};
use crate::store::record::Message;
use crate::store::{Kept, MessageId, Sequence};

/// Rows that are looked at before others of the shard have their turn.
pub const ROWS_PER_TURN: usize = 1000;

/// Messages whose records are read before others have their turn.
pub const RECORDS_PER_TURN: usize = 64;

/// A message of which some recipients were selected.
pub struct Found {
    pub id: MessageId,
    /// Its record, where it was asked for and can be read.
    pub taken: Option<(Kept, Message)>,
    pub rows: Vec<Row>,
}

/// Which rows, and what is needed of their messages.
#[derive(Clone, Copy)]
pub struct Sought<'a> {
    pub selection: &'a Selection,
    pub ways: Ways,
    pub records: Records,
}

/// Whose copies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// Those that go elsewhere.
    Remote,
    /// Those for mailboxes of this server too.
    All,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Only where the selection asks for what is in them.
    AsNeeded,
    Always,
}

/// The rows of a message that match from outside.
type Outer = (Sequence, Vec<Row>);

impl Shard {
    /// Selected recipients in a slice, by message, and where the next slice begins.
    pub fn find(
        &self,
        commit: &Commit,
        sought: Sought<'_>,
        from: Sequence,
    ) -> (Vec<Found>, Option<Sequence>) {
        let selection = sought.selection;
        let looks = selection.looks_inside() || (selection.site.is_some() && way::is_chosen(&self.config()));
        let reads = looks || sought.records == Records::Always;
        let messages_max = if reads { RECORDS_PER_TURN } else { ROWS_PER_TURN };
        let (slice, next) = match selection.ids.is_empty() {
            true => self.slice(commit, sought, from, messages_max),
            false => self.named(commit, sought, from, messages_max),
        };
        let mut found = Vec::with_capacity(slice.len());
        for (sequence, mut rows) in slice {
            let id = MessageId { log: commit.id(), sequence };
            let taken = match reads {
                true => rows.first().and_then(|row| self.reader().taken(id, row.record).ok()),
                false => None,
            };
            if looks {
                let message = taken.as_ref().map(|(_, message)| message);
                rows.retain(|row| {
                    message.is_some_and(|message| self.matches_within(commit, selection, row, message))
                });
            }
            if !rows.is_empty() {
                found.push(Found { id, taken, rows });
            }
        }
        (found, next)
    }

    fn matches_within(&self, commit: &Commit, selection: &Selection, row: &Row, message: &Message) -> bool {
        let site = selection.site.as_ref().map(|_| self.site_of(commit, row, message).unwrap_or_default());
        let inside = inside_of(message, row.recipient, site.as_deref());
        inside.is_some_and(|inside| selection.matches_inside(&inside))
    }

    /// Where this copy goes, if that is known: its own way is looked up when its turn comes.
    pub fn site_of(&self, commit: &Commit, row: &Row, message: &Message) -> Option<Arc<str>> {
        let (config, destinations) = (self.config(), self.outbound().destinations());
        let (owed, choice) = (commit.owed(), way::choose(&config, message));
        let name = name_of(&owed, row);
        let of_all = || {
            let is_common = way::is_common(&config, name, &choice);
            is_common.then(|| destinations.site_of(name, &Choice::default())).flatten()
        };
        destinations.site_of(name, &choice).or_else(of_all)
    }

    /// Rows that match by what can be seen from outside.
    fn slice(
        &self,
        commit: &Commit,
        sought: Sought<'_>,
        from: Sequence,
        messages_max: usize,
    ) -> (Vec<Outer>, Option<Sequence>) {
        let (owed, now) = (commit.owed(), now_s());
        if let Some(domain) = &sought.selection.domain
            && owed.destinations().find(&domain.to_ascii_lowercase()).is_none()
        {
            return (Vec::new(), None);
        }
        let mut rows = owed.rows_from(from).peekable();
        let mut found: Vec<Outer> = Vec::new();
        let (mut looked, mut last) = (0, from);
        // A message is looked at in one slice, so that the next one begins with another.
        while let Some(row) =
            rows.next_if(|row| row.message == last || (looked < ROWS_PER_TURN && found.len() < messages_max))
        {
            (looked, last) = (looked + 1, row.message);
            if self.matches(commit, sought, row, now) {
                match found.last_mut() {
                    Some((message, rows)) if *message == row.message => rows.push(*row),
                    _ => found.push((row.message, vec![*row])),
                }
            }
        }
        (found, rows.next().map(|row| row.message))
    }

    /// As [`Shard::slice`], of the messages that the selection names.
    fn named(
        &self,
        commit: &Commit,
        sought: Sought<'_>,
        from: Sequence,
        messages_max: usize,
    ) -> (Vec<Outer>, Option<Sequence>) {
        let (owed, now) = (commit.owed(), now_s());
        let ids = sought.selection.ids.iter().filter_map(|id| MessageId::parse(id));
        let of_log = ids.filter(|id| id.log == commit.id() && id.sequence >= from);
        let mut sequences = of_log.map(|id| id.sequence).collect::<BTreeSet<_>>().into_iter();
        let rows_of = |sequence: Sequence| {
            let rows = owed.of_message(sequence).filter(|row| self.matches(commit, sought, row, now));
            (sequence, rows.copied().collect::<Vec<_>>())
        };
        let found = sequences.by_ref().take(messages_max).map(rows_of);
        let found = found.filter(|(_, rows)| !rows.is_empty()).collect();
        (found, sequences.next())
    }

    fn matches(&self, commit: &Commit, sought: Sought<'_>, row: &Row, now: u32) -> bool {
        let Sought { selection, ways, .. } = sought;
        if ways == Ways::Remote && matches!(row.way, Way::Local(_)) {
            return false;
        }
        let owed = commit.owed();
        let name = name_of(&owed, row);
        let sites = match &selection.site {
            Some(_) => self.outbound().destinations().sites(name),
            None => Vec::new(),
        };
        let id = match selection.ids.is_empty() {
            true => String::new(),
            false => MessageId { log: commit.id(), sequence: row.message }.to_string(),
        };
        selection.matches_outside(&Outside {
            id: &id,
            destination: name,
            sites: &sites,
            state: state_of(commit, row, now),
            age_s: u64::from(now.saturating_sub(row.received)),
        })
    }
}

/// The destination of a row; empty for a mailbox of this server.
pub fn name_of<'a>(owed: &'a owed::Owed, row: &Row) -> &'a str {
    match row.way {
        Way::Remote(number) => owed.destinations().name(number).unwrap_or_default(),
        Way::Local(_) => "",
    }
}

pub fn item_of(row: &Row) -> Option<Item> {
    match row.way {
        Way::Remote(DestinationId(destination)) => Some(Item { message: row.message.0, destination }),
        Way::Local(_) => None,
    }
}

/// What a recipient's copy waits for.
pub fn state_of(commit: &Commit, row: &Row, now: u32) -> State {
    if row.state == owed::State::Held {
        return State::Held;
    }
    if item_of(row).is_some_and(|item| commit.schedule().is_out(item)) {
        return State::Active;
    }
    if row.due <= now { State::Ready } else { State::Deferred }
}

/// What the record says about a recipient.
pub fn inside_of<'a>(message: &'a Message, recipient: u32, site: Option<&'a str>) -> Option<Inside<'a>> {
    let accepted = message.accepted.as_ref()?;
    Some(Inside {
        sender: accepted.envelope.sender.as_ref(),
        recipient: &accepted.envelope.recipients.get(recipient as usize)?.address,
        tenant: accepted.tenant.as_deref(),
        campaign: accepted.campaign.as_deref(),
        site,
    })
}
