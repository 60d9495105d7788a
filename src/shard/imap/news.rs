//! What other sessions did, told to this one.

use super::session::{Selected, Session};
use crate::bytes::Output;
use crate::mail::flags::SystemFlags;
use crate::mail::time::Timestamp;
use crate::mailbox::mailbox::Mailbox;
use crate::mailbox::view::{Expunges, Message};
use crate::proto::imap::command::Access;
use crate::proto::imap::render::fetch::{FetchRow, FlagsNews, RowFlags, flags_changed};
use crate::proto::imap::render::state::{self, NewKeywords};
use crate::proto::imap::server::Enabled;

impl Session {
    /// Writes what is due now: expunges only where the protocol allows them.
    pub(super) fn tell_news(&mut self) {
        let Some(selected) = &mut self.selected else {
            return;
        };
        let account = self.seat.account();
        let Some(mailbox) = account.mailbox(selected.view.mailbox()) else {
            return;
        };
        let expunges = if self.engine.may_expunge() { Expunges::Told } else { Expunges::Withheld };
        let updates = selected.view.poll(mailbox, expunges);
        let enabled = self.engine.enabled();
        let out = self.conn.out();
        for &number in &updates.expunged {
            state::expunge(out, number);
        }
        if let Some(count) = updates.exists {
            state::exists(out, count);
        }
        if let Some(count) = updates.recent
            && !enabled.rev2
        {
            state::recent(out, count);
        }
        if updates.keywords {
            keywords(out, mailbox, selected.access);
        }
        let news = FlagsNews { uid: true, modseq: enabled.condstore, flags: true };
        let Selected { view, .. } = selected;
        let names = keyword_names(mailbox);
        let look = view.look(mailbox);
        for &(number, uid) in &updates.flags {
            let message = Message { msn: number, uid, recent: look.is_recent(uid), row: mailbox.row(uid) };
            if let Some(row) = flags_row(&message, &names, enabled) {
                flags_changed(out, &row, news);
            }
        }
    }

    /// Whether the mailbox that was selected is still there.
    pub(super) fn has_lost_its_mailbox(&self) -> bool {
        let Some(selected) = &self.selected else {
            return false;
        };
        self.seat.account().mailbox(selected.view.mailbox()).is_none()
    }
}

/// Tells of new keywords, if there are any, before some message is told with them.
pub(super) fn tell_keywords(out: &mut Output, selected: &mut Selected, mailbox: &Mailbox) {
    if selected.view.poll_keywords(mailbox) {
        keywords(out, mailbox, selected.access);
    }
}

fn keywords(out: &mut Output, mailbox: &Mailbox, access: Access) {
    state::flags(out, SystemFlags::ALL, &keyword_names(mailbox));
    permanent_flags(out, mailbox, access);
}

/// The mailbox's keyword table as the renderers take it.
pub(super) fn keyword_names(mailbox: &Mailbox) -> Vec<&str> {
    mailbox.keywords().iter().map(String::as_str).collect()
}

/// PERMANENTFLAGS: none where nothing may be changed (RFC 9051 7.1).
pub(super) fn permanent_flags(out: &mut Output, mailbox: &Mailbox, access: Access) {
    match access {
        Access::ReadOnly => state::permanent_flags(out, SystemFlags::NONE, &[], NewKeywords::Refused),
        Access::ReadWrite => {
            let new = match mailbox.takes_new_keywords() {
                true => NewKeywords::Allowed,
                false => NewKeywords::Refused,
            };
            state::permanent_flags(out, SystemFlags::ALL, &keyword_names(mailbox), new);
        }
    }
}

/// A row for responses that tell flags and nothing that needs a digest. IMAP4rev2 knows no \Recent (RFC 9051 2.3.2).
pub(super) fn flags_row<'a>(
    message: &Message<'a>,
    names: &'a [&'a str],
    enabled: Enabled,
) -> Option<FetchRow<'a>> {
    let row = message.row?;
    Some(FetchRow {
        number: message.msn,
        uid: message.uid,
        modseq: row.modseq,
        flags: RowFlags {
            system: row.flags,
            keywords: row.keywords,
            names,
            recent: message.recent && !enabled.rev2,
            changed: false,
        },
        size: row.locator.length,
        internal: row.internal,
        saved: Some(Timestamp { seconds: row.saved, zone_minutes: 0 }),
        envelope: &[],
        body: &[],
        body_structure: &[],
    })
}
