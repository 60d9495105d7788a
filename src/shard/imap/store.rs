//! STORE and UID STORE.

use super::news::{flags_row, keyword_names, tell_keywords};
use super::session::{Session, numbering};
use super::{expunged, mailbox_gone, not_stored, refused};
use crate::mail::set::Ranges;
use crate::mailbox::plan::{StoreFlags, Stored};
use crate::proto::imap::command::{Access, Numbering, Store};
use crate::proto::imap::render::fetch::{FlagsNews, flags_changed};
use crate::proto::imap::reply::{Code, Done};

impl Session {
    pub(super) async fn store(&mut self, store: &Store) -> Done {
        let Some((mailbox, access)) = self.selected_mailbox() else {
            return mailbox_gone();
        };
        if access == Access::ReadOnly {
            return Done::no(Some(Code::Cannot), "The mailbox is open for reading only");
        }
        let spans = match self.resolve(&store.numbers, numbering(store.numbering)) {
            Ok(spans) => spans,
            Err(done) => return done,
        };
        let wanted = StoreFlags {
            uids: &spans,
            action: store.action,
            flags: &store.flags,
            unchanged_since: store.unchanged_since,
        };
        let planned = self.seat.account_mut().plan_store(mailbox, wanted);
        let plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        match self.seat.carry_out(plan).await {
            Ok(stored) => self.stored(store, &spans, &stored),
            Err(error) => not_stored(error),
        }
    }

    /// Echoes the flags, and tells what was passed over (RFC 7162 3.1.3, RFC 2180 4.2).
    fn stored(&mut self, store: &Store, named: &Ranges, stored: &Stored) -> Done {
        let enabled = self.engine.enabled();
        let Some(selected) = &mut self.selected else {
            return mailbox_gone();
        };
        if let Some(modseq) = stored.modseq {
            selected.view.silence(modseq);
        }
        let account = self.seat.account();
        let Some(mailbox) = account.mailbox(selected.view.mailbox()) else {
            return mailbox_gone();
        };
        tell_keywords(self.conn.out(), selected, mailbox);
        let look = selected.view.look(mailbox);
        let names = keyword_names(mailbox);
        let uid = enabled.condstore || store.numbering == Numbering::Uid || enabled.rev2;
        let news = FlagsNews { uid, modseq: enabled.condstore, flags: !store.silent };
        if news.flags || news.modseq {
            let rows =
                look.messages(&stored.passed, 0).filter_map(|message| flags_row(&message, &names, enabled));
            rows.for_each(|row| flags_changed(self.conn.out(), &row, news));
        }
        // RFC 9051 6.4.9: a UID that is not there is passed over.
        let is_gone = store.numbering == Numbering::Sequence && look.has_expunged(named);
        let done = match (is_gone, store.silent) {
            (false, _) => Done::ok("Flags stored"),
            (true, false) => expunged(),
            // What is there has its flags, and the client has not asked what came of them (RFC 2180 4.2.1).
            (true, true) => {
                Done::ok("Flags stored, but of messages that others expunged").with(Code::ExpungeIssued)
            }
        };
        if stored.modified.is_empty() {
            return done;
        }
        let modified = match store.numbering {
            Numbering::Uid => stored.modified.clone(),
            Numbering::Sequence => look.to_numbers(&stored.modified),
        };
        let text = match is_gone {
            true => "Some messages were changed by others, and some expunged",
            false => "Some messages were changed by others",
        };
        Done { text: text.into(), ..done }.with(Code::Modified(modified))
    }
}
