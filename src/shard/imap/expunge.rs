//! EXPUNGE and UID EXPUNGE.

use super::session::Session;
use super::{mailbox_gone, not_stored, refused};
use crate::mail::set::NumberSet;
use crate::mailbox::plan::Doomed;
use crate::mailbox::view::Numbering;
use crate::proto::imap::command::Access;
use crate::proto::imap::reply::{Code, Done};

impl Session {
    /// What is gone is told with the news at the end of the command.
    pub(super) async fn expunge(&mut self, uids: Option<&NumberSet>) -> Done {
        let Some((mailbox, access)) = self.selected_mailbox() else {
            return mailbox_gone();
        };
        if access == Access::ReadOnly {
            return Done::no(Some(Code::Cannot), "The mailbox is open for reading only");
        }
        let spans = match uids.map(|uids| self.resolve(uids, Numbering::Uid)) {
            None => None,
            Some(Ok(spans)) => Some(spans),
            Some(Err(done)) => return done,
        };
        let doomed = match &spans {
            None => Doomed::Deleted,
            Some(spans) => Doomed::DeletedAmong(spans),
        };
        let planned = self.seat.account_mut().plan_expunge(mailbox, doomed);
        let plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        match self.seat.carry_out(plan).await {
            Ok(_) => Done::ok("Expunged"),
            Err(error) => not_stored(error),
        }
    }
}
