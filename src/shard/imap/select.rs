//! SELECT, EXAMINE, CLOSE, UNSELECT.

use super::news::{keyword_names, permanent_flags};
use super::session::{Selected, Session};
use super::{not_stored, refused};
use crate::mail::flags::SystemFlags;
use crate::mailbox::Refusal;
use crate::mailbox::plan::Doomed;
use crate::mailbox::saved::Saved;
use crate::mailbox::view::{self, View};
use crate::proto::imap::command::{Access, Select};
use crate::proto::imap::render::list::{Attribute, ListLine, list};
use crate::proto::imap::render::state;
use crate::proto::imap::reply::{Code, Done};

impl Session {
    pub(super) fn select(&mut self, select: &Select) -> Done {
        // The engine has said so.
        self.selected = None;
        let account = self.seat.account();
        let Some(mailbox) = account.named(&select.mailbox) else {
            return refused(Refusal::NonExistent);
        };
        let mut view = View::open(mailbox, view_access(select.access));
        let look = view.look(mailbox);
        let enabled = self.engine.enabled();
        let out = self.conn.out();
        state::flags(out, SystemFlags::ALL, &keyword_names(mailbox));
        state::exists(out, look.exists());
        if !enabled.rev2 {
            state::recent(out, look.recent());
            if let Some(number) = look.first_unseen() {
                state::ok(out, Some(&Code::Unseen(number)), "First message that was not seen");
            }
        } else {
            let below = format!("{}/", mailbox.name());
            let has_children = account.mailboxes().any(|other| other.name().starts_with(&below));
            let attribute = if has_children { Attribute::HasChildren } else { Attribute::HasNoChildren };
            let line = ListLine {
                name: mailbox.name(),
                attributes: &[attribute],
                child_info_subscribed: false,
                // RFC 9051 6.3.2
                old_name: Some(&*select.mailbox).filter(|given| mailbox.name() != *given),
            };
            list(out, &line, self.engine.names());
        }
        permanent_flags(out, mailbox, select.access);
        state::ok(out, Some(&Code::UidValidity(mailbox.uid_validity())), "UIDs are valid");
        state::ok(out, Some(&Code::UidNext(mailbox.uid_next())), "The next UID");
        state::ok(out, Some(&Code::HighestModSeq(mailbox.highest_modseq())), "The latest change");
        let bell = self.shard.bells.hang(self.seat.id(), mailbox.id());
        drop(account);
        self.selected = Some(Selected { view, bell, saved: Saved::default(), access: select.access });
        Done::selected(select.access)
    }

    pub(super) fn unselect(&mut self) -> Done {
        self.selected = None;
        Done::ok("Mailbox left")
    }

    /// Expunges without a word, if the mailbox may be written (RFC 9051 6.4.1).
    pub(super) async fn close(&mut self) -> Done {
        if let Some((mailbox, Access::ReadWrite)) = self.selected_mailbox() {
            let planned = self.seat.account_mut().plan_expunge(mailbox, Doomed::Deleted);
            match planned {
                Ok(plan) => {
                    if let Err(error) = self.seat.carry_out(plan).await {
                        return not_stored(error);
                    }
                }
                // Another session has deleted it, and what was in it.
                Err(Refusal::NonExistent) => {}
                Err(refusal) => return refused(refusal),
            }
        }
        self.selected = None;
        Done::ok("Mailbox closed")
    }
}

pub(super) fn view_access(access: Access) -> view::Access {
    match access {
        Access::ReadWrite => view::Access::ReadWrite,
        Access::ReadOnly => view::Access::ReadOnly,
    }
}
