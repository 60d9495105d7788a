//! LIST, LSUB, STATUS, NAMESPACE.

use super::refused;
use super::session::Session;
use crate::mailbox::Refusal;
use crate::mailbox::list::{ListQuery, Listed};
use crate::mailbox::mailbox::Mailbox;
use crate::proto::imap::command::{List, StatusItem};
use crate::proto::imap::render::list::{self, Attribute, ListLine};
use crate::proto::imap::reply::Done;

impl Session {
    pub(super) fn list(&mut self, command: &List) -> Done {
        let names = self.engine.names();
        if !command.extended && command.patterns.iter().all(String::is_empty) {
            let line = ListLine {
                name: "",
                attributes: &[Attribute::NoSelect],
                child_info_subscribed: false,
                old_name: None,
            };
            list::list(self.conn.out(), &line, names);
            return Done::ok("List completed");
        }
        let query = ListQuery {
            patterns: command
                .patterns
                .iter()
                .map(|pattern| format!("{}{pattern}", command.reference))
                .collect(),
            subscribed: command.selection.subscribed,
            special_use: command.selection.special_use,
            recursive: command.selection.recursive_match,
        };
        let account = self.seat.account();
        for listed in account.list(&query) {
            let attributes = attributes(&listed, command);
            let line = ListLine {
                name: listed.name,
                attributes: &attributes,
                child_info_subscribed: listed.childinfo,
                old_name: None,
            };
            list::list(self.conn.out(), &line, names);
            let mailbox = listed.mailbox.and_then(|id| account.mailbox(id));
            if let Some(mailbox) = mailbox
                && !command.returned.status.is_empty()
            {
                let values = status_values(mailbox, &command.returned.status, self.shard.message_bytes_max());
                list::status(self.conn.out(), mailbox.name(), &values, names);
            }
        }
        Done::ok("List completed")
    }

    pub(super) fn lsub(&mut self, reference: &str, pattern: &str) -> Done {
        let names = self.engine.names();
        let pattern = format!("{reference}{pattern}");
        let account = self.seat.account();
        for listed in account.list_subscribed(&pattern) {
            let attributes: &[Attribute] = if listed.subscribed { &[] } else { &[Attribute::NoSelect] };
            list::lsub(self.conn.out(), listed.name, attributes, names);
        }
        Done::ok("Lsub completed")
    }

    pub(super) fn status(&mut self, name: &str, items: &[StatusItem]) -> Done {
        let account = self.seat.account();
        let Some(mailbox) = account.named(name) else {
            return refused(Refusal::NonExistent);
        };
        let values = status_values(mailbox, items, self.shard.message_bytes_max());
        list::status(self.conn.out(), mailbox.name(), &values, self.engine.names());
        Done::ok("Status completed")
    }

    pub(super) fn namespace(&mut self) -> Done {
        list::namespace(self.conn.out());
        Done::ok("Namespace completed")
    }
}

/// The values of STATUS for a mailbox.
fn status_values(
    mailbox: &Mailbox,
    items: &[StatusItem],
    append_limit: u64,
) -> Vec<(StatusItem, Option<u64>)> {
    let counts = mailbox.counts();
    let value = |item| match item {
        StatusItem::Messages => u64::from(counts.messages),
        StatusItem::Recent => u64::from(mailbox.recent()),
        StatusItem::UidNext => u64::from(mailbox.uid_next()),
        StatusItem::UidValidity => u64::from(mailbox.uid_validity()),
        StatusItem::Unseen => u64::from(counts.unseen),
        StatusItem::Deleted => u64::from(counts.deleted),
        StatusItem::Size => counts.size,
        StatusItem::HighestModSeq => mailbox.highest_modseq(),
        StatusItem::AppendLimit => append_limit,
    };
    items.iter().map(|&item| (item, Some(value(item)))).collect()
}

fn attributes(listed: &Listed<'_>, command: &List) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    if listed.mailbox.is_none() {
        // It implies \NoSelect, which older clients know (RFC 5258 3).
        attributes.push(Attribute::NonExistent);
        if !command.extended {
            attributes.push(Attribute::NoSelect);
        }
    }
    attributes.push(if listed.has_children { Attribute::HasChildren } else { Attribute::HasNoChildren });
    let tells_subscribed = command.selection.subscribed || command.returned.subscribed;
    if tells_subscribed && listed.subscribed {
        attributes.push(Attribute::Subscribed);
    }
    attributes.extend(listed.special_use.map(Attribute::For));
    attributes
}
