//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

use super::session::Session;
use super::{not_stored, refused};
use crate::io::clock;
use crate::mail::special_use::SpecialUse;
use crate::mailbox::{Plan, Refusal};
use crate::proto::imap::reply::{Code, Done};

impl Session {
    pub(super) async fn create(&mut self, name: &str, special_uses: &[SpecialUse]) -> Done {
        if special_uses.len() > 1 {
            return Done::no(Some(Code::UseAttr), "A mailbox has one special use at most");
        }
        let planned = self.seat.account_mut().plan_create(name, special_uses.first().copied());
        self.carry_out(planned, "Mailbox created").await
    }

    pub(super) async fn delete(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_delete(name);
        self.carry_out(planned, "Mailbox deleted").await
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Done {
        let planned = self.seat.account_mut().plan_rename(from, to, clock::timestamp().seconds);
        self.carry_out(planned, "Mailbox renamed").await
    }

    pub(super) async fn subscribe(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_subscribe(name);
        self.carry_out(planned, "Subscribed").await
    }

    pub(super) async fn unsubscribe(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_unsubscribe(name);
        self.carry_out(planned, "Unsubscribed").await
    }

    async fn carry_out<T>(&mut self, planned: Result<Plan<T>, Refusal>, text: &'static str) -> Done {
        let plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return refused(refusal),
        };
        match self.seat.carry_out(plan).await {
            Ok(_) => Done::ok(text),
            Err(error) => not_stored(error),
        }
    }
}
