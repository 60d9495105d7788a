//! STORE and UID STORE.

use super::news::{flags_row, keyword_names};
use super::session::{Session, numbering};
use super::{mailbox_gone, not_stored, refused};
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
            Ok(stored) => self.stored(store, &stored),
            Err(error) => not_stored(error),
        }
    }

    /// Echoes the flags, and tells what was passed over (RFC 7162 3.1.3).
    fn stored(&mut self, store: &Store, stored: &Stored) -> Done {
        let condstore = self.engine.enabled().condstore;
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
        let look = selected.view.look(mailbox);
        let names = keyword_names(mailbox);
        let uid = condstore || store.numbering == Numbering::Uid || self.engine.enabled().rev2;
        let news = FlagsNews { uid, modseq: condstore, flags: !store.silent };
        let mut gone = false;
        if news.flags || news.modseq {
            for message in look.messages(&stored.passed, 0) {
                match flags_row(&message, &names) {
                    Some(row) => flags_changed(self.conn.out(), &row, news),
                    None => gone = true,
                }
            }
        }
        if !stored.modified.is_empty() {
            let modified = match store.numbering {
                Numbering::Uid => stored.modified.clone(),
                Numbering::Sequence => look.to_numbers(&stored.modified),
            };
            return Done::ok("Some messages were changed by others").with(Code::Modified(modified));
        }
        match gone {
            true => Done::no(Some(Code::ExpungeIssued), "Some messages were expunged by others"),
            false => Done::ok("Flags stored"),
        }
    }
}
