//! COPY and MOVE.

use super::session::{Session, numbering};
use super::{mailbox_gone, not_stored, refused};
use crate::io::clock;
use crate::mail::set::Ranges;
use crate::mailbox::Refusal;
use crate::mailbox::plan::Copied;
use crate::proto::imap::command::{Access, Transfer};
use crate::proto::imap::render::state;
use crate::proto::imap::reply::{Code, Done};
use crate::store::MailboxId;

impl Session {
    /// All or nothing (RFC 9051 6.4.7).
    pub(super) async fn copy(&mut self, transfer: &Transfer) -> Done {
        let (from, spans, to) = match self.ends(transfer) {
            Ok(ends) => ends,
            Err(done) => return done,
        };
        let now = clock::timestamp().seconds;
        let planned = self.seat.account_mut().plan_copy(from, &spans, to, now);
        let plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        match self.seat.carry_out(plan).await {
            Ok(copied) => match copy_uid(copied) {
                Some(code) => Done::ok("Copied").with(code),
                None => Done::ok("Nothing to copy"),
            },
            Err(error) => not_stored(error),
        }
    }

    /// COPYUID comes before the expunges, in an untagged OK (RFC 6851 4.3).
    pub(super) async fn move_messages(&mut self, transfer: &Transfer) -> Done {
        let (from, spans, to) = match self.ends(transfer) {
            Ok(ends) => ends,
            Err(done) => return done,
        };
        if self.selected_mailbox().is_some_and(|(_, access)| access == Access::ReadOnly) {
            return Done::no(Some(Code::Cannot), "The mailbox is open for reading only");
        }
        let now = clock::timestamp().seconds;
        let planned = self.seat.account_mut().plan_move(from, &spans, to, now);
        let plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        match self.seat.carry_out(plan).await {
            Ok(copied) => {
                if let Some(code) = copy_uid(copied) {
                    state::ok(self.conn.out(), Some(&code), "Moved");
                }
                Done::ok("Moved")
            }
            Err(error) => not_stored(error),
        }
    }

    /// The mailbox and messages it goes from, and the mailbox it goes to.
    fn ends(&mut self, transfer: &Transfer) -> Result<(MailboxId, Ranges, MailboxId), Done> {
        let (from, _) = self.selected_mailbox().ok_or_else(mailbox_gone)?;
        let spans = self.resolve(&transfer.numbers, numbering(transfer.numbering))?;
        let account = self.seat.account();
        let to = account.named(&transfer.mailbox).ok_or_else(|| refused(Refusal::TryCreate))?;
        Ok((from, spans, to.id()))
    }
}

fn copy_uid(copied: Copied) -> Option<Code> {
    let Copied { uid_validity, source, target } = copied;
    (!source.is_empty()).then_some(Code::CopyUid { uid_validity, uids: source, copies: target })
}
