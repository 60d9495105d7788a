//! APPEND.

use super::session::Session;
use super::{not_stored, refused};
use crate::io::clock;
use crate::mail::digest::Digest;
use crate::mailbox::Refusal;
use crate::mailbox::plan::Incoming;
use crate::proto::imap::command::AppendStart;
use crate::proto::imap::reply::{Code, Done};
use crate::proto::imap::server::Outcome;
use crate::shard::deliver::{change, locator};
use crate::shard::intake::Intake;
use crate::store::record::{Message, Record};
use std::sync::Arc;

/// The message of an APPEND that is coming in.
pub(super) struct Appending {
    start: AppendStart,
    intake: Intake,
}

impl Session {
    /// Refuses before the client sends the message where that can be known (RFC 9051 6.3.12).
    pub(super) fn append_start(&mut self, start: AppendStart) -> Outcome {
        let account = self.seat.account();
        if account.named(&start.mailbox).is_none() {
            return Outcome::Done(refused(Refusal::TryCreate));
        }
        if !account.has_room_for(start.size) {
            return Outcome::Done(refused(Refusal::OverQuota));
        }
        drop(account);
        let intake = Intake::new(self.seat.commit());
        self.appending = Some(Box::new(Appending { start, intake }));
        Outcome::AppendAccepted { prefix: Vec::new() }
    }

    pub(super) async fn append_full(&mut self) -> Outcome {
        let part = self.engine.take_body();
        let Some(appending) = &mut self.appending else {
            return Outcome::Done(Done::no(Some(Code::ServerBug), "No message is coming in"));
        };
        match appending.intake.spill(part).await {
            Ok(()) => Outcome::BodyTaken,
            Err(error) => {
                self.appending = None;
                Outcome::Done(not_stored(error))
            }
        }
    }

    pub(super) async fn append_end(&mut self) -> Done {
        let last = self.engine.take_body();
        let Some(appending) = self.appending.take() else {
            return Done::no(Some(Code::ServerBug), "No message is coming in");
        };
        let Appending { start, intake } = *appending;
        let complete = match intake.finish(last, 0).await {
            Ok(complete) => complete,
            Err(error) => return not_stored(error),
        };
        let now = clock::timestamp();
        let commit = self.seat.commit();
        let (message, bytes) = locator(commit.next_message(), complete.body());
        let bytes = bytes.or_else(|| self.shard.read(&message));
        let incoming = Incoming {
            message,
            digest: bytes.map(|bytes| Arc::new(Digest::of(&bytes))),
            key: None,
            flags: start.flags,
            internal: start.internal.unwrap_or(now),
            saved: now.seconds,
        };
        let planned = {
            let mut account = self.seat.account_mut();
            match account.named(&start.mailbox).map(|mailbox| mailbox.id()) {
                Some(mailbox) => account.plan_append(mailbox, incoming),
                None => Err(Refusal::TryCreate),
            }
        };
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        let record = Record::Message(Message { received: now, accepted: None, body: complete.into_body() });
        plan.changes.insert(0, change(record));
        match self.seat.carry_out(plan).await {
            Ok(placed) => {
                let code = Code::AppendUid { uid_validity: placed.uid_validity, uid: placed.uid };
                Done::ok("Message appended").with(code)
            }
            Err(error) => not_stored(error),
        }
    }
}
