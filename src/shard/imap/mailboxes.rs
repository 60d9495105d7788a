//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

use std::borrow::Cow;

use super::session::Session;
use super::{not_stored, refused};
use crate::io::clock;
use crate::mail::special_use::SpecialUse;
use crate::mailbox::{Plan, Refusal, name};
use crate::proto::imap::render::list::{ListLine, list};
use crate::proto::imap::reply::{Code, Done, Status};

impl Session {
    pub(super) async fn create(&mut self, name: &str, special_uses: &[SpecialUse]) -> Done {
        if special_uses.len() > 1 {
            return Done::no(Some(Code::UseAttr), "A mailbox has one special use at most");
        }
        let planned = self.seat.account_mut().plan_create(name, special_uses.first().copied());
        let done = self.carry_out(planned, "Mailbox created").await;
        self.tell_composed(&done, name, name);
        done
    }

    pub(super) async fn delete(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_delete(name);
        let done = self.carry_out(planned, "Mailbox deleted").await;
        if done.status == Status::Ok && self.has_lost_its_mailbox() {
            // Who deletes what it has selected need not be sent away for it.
            self.selected = None;
            self.engine.handle_deselected(self.conn.out());
        }
        done
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Done {
        let planned = self.seat.account_mut().plan_rename(from, to, clock::timestamp().seconds);
        let done = self.carry_out(planned, "Mailbox renamed").await;
        self.tell_composed(&done, from, to);
        done
    }

    pub(super) async fn subscribe(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_subscribe(name);
        self.carry_out(planned, "Subscribed").await
    }

    pub(super) async fn unsubscribe(&mut self, name: &str) -> Done {
        let planned = self.seat.account_mut().plan_unsubscribe(name);
        self.carry_out(planned, "Unsubscribed").await
    }

    /// RFC 9051 6.3.9.7: a client that wrote a name in another way than we keep it is told how that is.
    fn tell_composed(&mut self, done: &Done, given: &str, new: &str) {
        let is_other = [given, new].iter().any(|name| matches!(name::composed(name), Cow::Owned(_)));
        if done.status != Status::Ok || !is_other || !self.engine.enabled().rev2 {
            return;
        }
        let account = self.seat.account();
        if let Some(mailbox) = account.named(new.trim_end_matches(name::SEPARATOR)) {
            let line = ListLine {
                name: mailbox.name(),
                attributes: &[],
                child_info_subscribed: false,
                old_name: Some(given),
            };
            list(self.conn.out(), &line, self.engine.names());
        }
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
