//! COPY and MOVE.

use super::session::{Selected, Session, numbering};
use super::{expunged, mailbox_gone, not_stored, refused};
use crate::io::clock;
use crate::mail::set::Ranges;
use crate::mailbox::Refusal;
use crate::mailbox::plan::Copied;
use crate::proto::imap::command::{Access, Numbering, Transfer};
use crate::proto::imap::render::state;
use crate::proto::imap::reply::{Code, Done};
use crate::store::MailboxId;

impl Session {
    /// All or nothing (RFC 9051 6.4.7).
    pub(super) async fn copy(&mut self, transfer: &Transfer) -> Done {
        let (from, spans, to) = match self.ends(transfer).await {
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
        let (from, spans, to) = match self.ends(transfer).await {
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

    /// The mailbox and messages it goes from, and the mailbox it goes to. Where message numbers name something that
    /// others have expunged, nothing goes (RFC 2180 4.4.1), and the client hears of the expunges first.
    async fn ends(&mut self, transfer: &Transfer) -> Result<(MailboxId, Ranges, MailboxId), Done> {
        let (from, _) = self.selected_mailbox().ok_or_else(mailbox_gone)?;
        let spans = self.resolve(&transfer.numbers, numbering(transfer.numbering))?;
        let to = self.seat.account().named(&transfer.mailbox).map(|mailbox| mailbox.id());
        let to = to.ok_or_else(|| refused(Refusal::TryCreate))?;
        if transfer.numbering == Numbering::Sequence {
            self.check_are_there(from, &spans).await?;
        }
        Ok((from, spans, to))
    }

    async fn check_are_there(&mut self, from: MailboxId, spans: &Ranges) -> Result<(), Done> {
        let (is_gone, is_doomed) = {
            let Selected { view, .. } = self.selected.as_mut().ok_or_else(mailbox_gone)?;
            let account = self.seat.account();
            let mailbox = account.mailbox(from).ok_or_else(mailbox_gone)?;
            (view.look(mailbox).has_expunged(spans), account.has_doomed(from, spans))
        };
        if is_doomed {
            // What is under way can be told with the answer once it is done.
            self.seat.commit().barrier().await.map_err(not_stored)?;
        }
        match is_gone || is_doomed {
            true => Err(expunged()),
            false => Ok(()),
        }
    }
}

fn copy_uid(copied: Copied) -> Option<Code> {
    let Copied { uid_validity, source, target } = copied;
    (!source.is_empty()).then_some(Code::CopyUid { uid_validity, uids: source, copies: target })
}
