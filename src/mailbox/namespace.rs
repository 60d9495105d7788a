//! CREATE, DELETE, RENAME, SUBSCRIBE as plans (RFC 9051 6.3.4-6.3.8).
//!
//! A mailbox with children that is deleted leaves its name behind as one that only has children: nothing can be
//! selected there, LIST shows it as \NonExistent, it can be created again, renamed with its children, but not deleted
//! before they are.

use super::account::{Account, Usage};
use super::flight::MailboxFlight;
use super::name::{self, INBOX, SEPARATOR};
use super::{Change, Plan, Refusal};
use crate::limits::mailbox::{MAILBOXES_MAX, NAME_BYTES_MAX, NAME_DEPTH_MAX, SUBSCRIPTIONS_MAX};
use crate::mail::set::Ranges;
use crate::store::MailboxId;
use crate::store::record::{MailboxCreated, MailboxDeleted, MailboxRenamed, Record, SpecialUse, Subscribed};

/// What every account begins with.
const FIRST_MAILBOXES: [(&str, Option<SpecialUse>); 6] = [
    (INBOX, None),
    ("Drafts", Some(SpecialUse::Drafts)),
    ("Sent", Some(SpecialUse::Sent)),
    ("Junk", Some(SpecialUse::Junk)),
    ("Trash", Some(SpecialUse::Trash)),
    ("Archive", Some(SpecialUse::Archive)),
];

impl Account {
    /// INBOX and the mailboxes every account begins with, subscribed. Nothing if there is an INBOX.
    pub fn plan_new(&mut self) -> Plan<()> {
        let mut plan = Plan::nothing(());
        if self.planned(INBOX).is_some() {
            return plan;
        }
        for (name, special_use) in FIRST_MAILBOXES {
            if self.planned(name).is_none() {
                self.create_one(name, special_use, &mut plan.changes);
                plan.changes.push(Change::of(Record::Subscribed(self.subscription(name.to_owned()))));
            }
        }
        plan
    }

    /// With the parents that are missing.
    pub fn plan_create(
        &mut self,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<Plan<MailboxId>, Refusal> {
        let name = name::canonical(name)?;
        if self.planned(&name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        // RFC 6154 3: two mailboxes for one use would confuse whoever looks for it.
        if special_use.is_some()
            && self.mailboxes.values().any(|mailbox| mailbox.special_use() == special_use)
        {
            return Err(Refusal::UseAttribute);
        }
        self.check_room_for_mailboxes(&name)?;
        let mut changes = Vec::new();
        self.create_parents(&name, &mut changes);
        let answer = self.create_one(&name, special_use, &mut changes);
        Ok(Plan { changes, answer })
    }

    /// Children stay (RFC 9051 6.3.5), and so does the subscription.
    pub fn plan_delete(&mut self, name: &str) -> Result<Plan<()>, Refusal> {
        let name = self.known_name(name);
        if name == INBOX {
            return Err(Refusal::Cannot("INBOX stays"));
        }
        let Some(id) = self.planned(&name) else {
            return Err(if self.has_planned_children(&name) {
                Refusal::HasChildren
            } else {
                Refusal::NonExistent
            });
        };
        self.flight.doomed.insert(id);
        self.plan_name(name, None);
        let record = Record::MailboxDeleted(MailboxDeleted { account: self.id, mailbox: id });
        Ok(Plan { changes: vec![Change::of(record)], answer: () })
    }

    /// Children come along; the mailboxes keep their numbers and UIDVALIDITY. INBOX is emptied into a new mailbox
    /// instead, and its children stay (RFC 9051 6.3.6). `now` in Unix seconds is then the save date.
    pub fn plan_rename(&mut self, from: &str, to: &str, now: i64) -> Result<Plan<()>, Refusal> {
        let from = self.known_name(from);
        let moved = self.planned_children(&from);
        let own = self.planned(&from);
        if own.is_none() && moved.is_empty() {
            return Err(Refusal::NonExistent);
        }
        let to = name::canonical(to)?;
        if from == to || self.planned(&to).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if from == INBOX {
            return self.rename_inbox(&to, now);
        }
        if name::is_below(&to, &from) {
            return Err(Refusal::Cannot("a mailbox cannot move into itself"));
        }
        self.check_room_for_mailboxes(&to)?;
        let mut renames = Vec::with_capacity(moved.len() + 1);
        renames.extend(own.map(|id| (id, from.clone(), to.clone())));
        for (old, id) in moved {
            let new = format!("{to}{}", &old[from.len()..]);
            self.check_moved(&new, &from)?;
            renames.push((id, old, new));
        }
        let mut changes = Vec::new();
        self.create_parents(&to, &mut changes);
        for (_, old, _) in &renames {
            self.plan_name(old.clone(), None);
            // Two entries are made for one record.
            self.flight.names_pending -= 1;
        }
        for (id, _, new) in renames {
            self.plan_name(new.clone(), Some(id));
            let record = MailboxRenamed { account: self.id, mailbox: id, name: new };
            changes.push(Change::of(Record::MailboxRenamed(record)));
        }
        Ok(Plan { changes, answer: () })
    }

    /// Only what is there can be put on the list; it stays there when the mailbox goes (RFC 9051 6.3.7).
    pub fn plan_subscribe(&mut self, name: &str) -> Result<Plan<()>, Refusal> {
        let name = self.known_name(name);
        if self.subscriptions.contains(&name) {
            return Ok(Plan::nothing(()));
        }
        if self.planned(&name).is_none() && !self.has_planned_children(&name) {
            return Err(Refusal::NonExistent);
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Refusal::Limit("subscriptions"));
        }
        let record = Record::Subscribed(self.subscription(name));
        Ok(Plan { changes: vec![Change::of(record)], answer: () })
    }

    /// Of what is not subscribed nothing is to be done. The record is made all the same: a subscription may
    /// be on its way.
    pub fn plan_unsubscribe(&mut self, name: &str) -> Result<Plan<()>, Refusal> {
        let name = self.known_name(name);
        if name.len() > NAME_BYTES_MAX {
            return Ok(Plan::nothing(()));
        }
        let record = Record::Unsubscribed(self.subscription(name));
        Ok(Plan { changes: vec![Change::of(record)], answer: () })
    }

    /// The name by which something is known here: as it was given, else composed.
    fn known_name(&self, given: &str) -> String {
        let name = name::folded(given);
        let is_known = |name: &str| {
            self.planned(name).is_some()
                || self.subscriptions.contains(name)
                || self.has_planned_children(name)
        };
        match name.is_ascii() || is_known(&name) {
            true => name.into_owned(),
            false => name::composed(&name).into_owned(),
        }
    }

    /// The mailbox that will have this name when everything in flight is applied.
    pub(super) fn planned(&self, name: &str) -> Option<MailboxId> {
        match self.flight.names.get(name) {
            Some(planned) => *planned,
            None => self.names.get(name).copied(),
        }
    }

    fn rename_inbox(&mut self, to: &str, now: i64) -> Result<Plan<()>, Refusal> {
        let Some(inbox) = self.planned(INBOX) else {
            return Err(Refusal::NonExistent);
        };
        let created = self.plan_create(to, None)?;
        let moved = self.plan_move(inbox, &Ranges::from_unordered(vec![(1, u32::MAX)]), created.answer, now);
        let mut changes = created.changes;
        match moved {
            Ok(plan) => changes.extend(plan.changes),
            Err(refusal) => {
                self.abandon(&changes);
                return Err(refusal);
            }
        }
        Ok(Plan { changes, answer: () })
    }

    fn create_parents(&mut self, name: &str, changes: &mut Vec<Change>) {
        let missing: Vec<_> = name::parents(name).filter(|parent| self.planned(parent).is_none()).collect();
        for parent in missing.into_iter().rev() {
            self.create_one(parent, None, changes);
        }
    }

    fn create_one(
        &mut self,
        name: &str,
        special_use: Option<SpecialUse>,
        changes: &mut Vec<Change>,
    ) -> MailboxId {
        let id = MailboxId(self.flight.mailbox_next);
        self.flight.mailbox_next += 1;
        self.flight.uid_validity += 1;
        self.flight.unborn.insert(id, special_use);
        self.flight.mailboxes.insert(id, MailboxFlight::unborn(self.flight.uid_validity));
        self.plan_name(name.to_owned(), Some(id));
        changes.push(Change::of(Record::MailboxCreated(MailboxCreated {
            account: self.id,
            mailbox: id,
            name: name.to_owned(),
            uid_validity: self.flight.uid_validity,
            special_use,
        })));
        id
    }

    fn plan_name(&mut self, name: String, mailbox: Option<MailboxId>) {
        self.flight.names.insert(name, mailbox);
        self.flight.names_pending += 1;
    }

    fn subscription(&self, name: String) -> Subscribed {
        Subscribed { account: self.id, name }
    }

    /// Names below `parent` with their mailboxes, as they will be.
    fn planned_children(&self, parent: &str) -> Vec<(String, MailboxId)> {
        let prefix = format!("{parent}{SEPARATOR}");
        let visible = self.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let visible = visible.filter(|(name, _)| !self.flight.names.contains_key(*name));
        let planned =
            self.flight.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let planned = planned.filter_map(|(name, id)| id.map(|id| (name.clone(), id)));
        visible.map(|(name, &id)| (name.clone(), id)).chain(planned).collect()
    }

    fn has_planned_children(&self, parent: &str) -> bool {
        !self.planned_children(parent).is_empty()
    }

    fn check_room_for_mailboxes(&self, name: &str) -> Result<(), Refusal> {
        let missing = name::parents(name).filter(|parent| self.planned(parent).is_none()).count() + 1;
        if self.mailboxes.len() + self.flight.unborn.len() + missing > MAILBOXES_MAX {
            return Err(Refusal::Limit("mailboxes"));
        }
        if u32::MAX - self.flight.mailbox_next < NAME_DEPTH_MAX as u32
            || u32::MAX - self.flight.uid_validity < NAME_DEPTH_MAX as u32
        {
            return Err(Refusal::Limit("mailboxes that ever were"));
        }
        Ok(())
    }

    /// A child must not land on a name in use (the old ones among its own kind do not count), nor grow too
    /// long.
    fn check_moved(&self, name: &str, from: &str) -> Result<(), Refusal> {
        if name.len() > NAME_BYTES_MAX || name.split(SEPARATOR).count() > NAME_DEPTH_MAX {
            return Err(Refusal::Limit("length of a mailbox name"));
        }
        let taken = self.planned(name).is_some() && !name::is_below(name, from) && name != from;
        if taken { Err(Refusal::AlreadyExists) } else { Ok(()) }
    }
}

impl Usage {
    pub(super) fn add(&mut self, more: Usage) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.messages = self.messages.saturating_add(more.messages);
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Plan, Refusal, SpecialUse};
    use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
    use crate::mail::set::Ranges;
    use crate::mailbox::plan::{Doomed, StoreFlags};
    use crate::mailbox::test_mail::{deliver, incoming};
    use crate::store::record::{MailboxCreated, Record};
    use crate::store::{AccountId, MailboxId};

    fn done<T>(account: &mut Account, plan: Result<Plan<T>, Refusal>) -> T {
        let plan = plan.expect("planned");
        plan.changes.iter().for_each(|change| account.apply(&change.record, change.digest.as_ref()));
        plan.answer
    }

    fn new_account() -> Account {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_new();
        done(&mut account, Ok(plan));
        account
    }

    fn names(account: &Account) -> Vec<&str> {
        account.names.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_new_account_has_its_mailboxes_once() {
        let mut account = new_account();
        assert_eq!(names(&account), ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);
        assert!(account.names.keys().all(|name| account.is_subscribed(name)));
        assert_eq!(account.named("Junk").and_then(|junk| junk.special_use()), Some(SpecialUse::Junk));
        assert!(account.plan_new().changes.is_empty());
    }

    #[test]
    fn names_are_refused_as_they_must() {
        let mut account = new_account();
        let plan = account.plan_create("a/b", None);
        done(&mut account, plan);
        let create = |account: &mut Account, name: &str| account.plan_create(name, None).map(|_| ()).err();
        assert_eq!(create(&mut account, "inbox"), Some(Refusal::AlreadyExists));
        assert_eq!(create(&mut account, "a/b/"), Some(Refusal::AlreadyExists));
        assert_eq!(account.plan_create("t2", Some(SpecialUse::Trash)).err(), Some(Refusal::UseAttribute));
        assert!(matches!(account.plan_delete("inbox").err(), Some(Refusal::Cannot(_))));
        assert_eq!(account.plan_delete("none").err(), Some(Refusal::NonExistent));
        assert_eq!(account.plan_subscribe("none").err(), Some(Refusal::NonExistent));
        let rename = |account: &mut Account, from: &str, to: &str| account.plan_rename(from, to, 0).err();
        assert_eq!(rename(&mut account, "none", "x"), Some(Refusal::NonExistent));
        assert_eq!(rename(&mut account, "a", "Sent"), Some(Refusal::AlreadyExists));
        assert!(matches!(rename(&mut account, "a", "a/c"), Some(Refusal::Cannot(_))));
        assert!(
            account.flight.names.is_empty() && account.flight.names_pending == 0,
            "a refusal leaves nothing"
        );
    }

    #[test]
    fn both_ways_to_write_a_name_mean_one_mailbox() {
        const TWO: &str = "Entwu\u{308}rfe";
        const ONE: &str = "Entw\u{fc}rfe";
        let mut account = new_account();
        let plan = account.plan_create(TWO, None);
        let id = done(&mut account, plan);
        assert_eq!(account.named(TWO).map(|mailbox| mailbox.name()), Some(ONE));
        assert_eq!(account.named(ONE).map(|mailbox| mailbox.id()), Some(id));
        assert_eq!(account.plan_create(ONE, None).err(), Some(Refusal::AlreadyExists));
        let plan = account.plan_subscribe(TWO);
        done(&mut account, plan);
        assert!(account.is_subscribed(ONE) && account.is_subscribed(TWO));
        let plan = account.plan_rename(TWO, "Alt/Entwu\u{308}rfe", 0);
        done(&mut account, plan);
        assert!(account.named("Alt/Entw\u{fc}rfe").is_some());
        let plan = account.plan_unsubscribe(TWO);
        done(&mut account, plan);
        assert!(!account.is_subscribed(ONE));
        let plan = account.plan_delete("Alt/Entwu\u{308}rfe");
        done(&mut account, plan);
        assert!(account.named("Alt/Entw\u{fc}rfe").is_none());
    }

    #[test]
    fn a_name_that_was_stored_as_it_came_stays_reachable() {
        const TWO: &str = "Entwu\u{308}rfe";
        let mut account = new_account();
        let stored = |mailbox: u32, name: &str| {
            let (mailbox, name) = (MailboxId(mailbox), name.to_owned());
            let (account, uid_validity) = (AccountId(1), 100 + mailbox.0);
            Record::MailboxCreated(MailboxCreated { account, mailbox, name, uid_validity, special_use: None })
        };
        account.apply(&stored(100, TWO), None);
        account.apply(&stored(101, &format!("{TWO}/Alt")), None);
        assert_eq!(account.named(TWO).map(|mailbox| mailbox.id()), Some(MailboxId(100)));
        assert!(account.named("Entw\u{fc}rfe").is_none());
        let plan = account.plan_rename(TWO, TWO, 0);
        done(&mut account, plan);
        assert_eq!(account.named(TWO).map(|mailbox| mailbox.name()), Some("Entw\u{fc}rfe"));
        assert_eq!(account.named("Entw\u{fc}rfe/Alt").map(|mailbox| mailbox.id()), Some(MailboxId(101)));
    }

    #[test]
    fn a_parent_goes_and_its_children_stay() {
        let mut account = new_account();
        let plan = account.plan_create("a/b/c", None);
        done(&mut account, plan);
        let first = account.named("a").expect("a parent").uid_validity();
        let plan = account.plan_delete("a");
        done(&mut account, plan);
        assert!(account.named("a").is_none() && account.named("a/b/c").is_some());
        assert_eq!(account.plan_delete("a").err(), Some(Refusal::HasChildren));
        let plan = account.plan_rename("a", "z/y", 0);
        done(&mut account, plan);
        assert!(account.named("z/y/b/c").is_some() && account.named("z").is_some());
        assert!(account.named("z/y").is_none(), "it was not there to be moved");
        let plan = account.plan_create("a", None);
        done(&mut account, plan);
        assert!(account.named("a").expect("again").uid_validity() > first);
    }

    #[test]
    fn renames_take_children_along_and_may_swap_names() {
        let mut account = new_account();
        for name in ["a/x", "b/y"] {
            let plan = account.plan_create(name, None);
            done(&mut account, plan);
        }
        let id = account.named("a/x").map(|mailbox| mailbox.id());
        // All in flight at once.
        let plans = [("a", "t"), ("b", "a"), ("t", "b")].map(|(from, to)| account.plan_rename(from, to, 0));
        for plan in plans {
            done(&mut account, plan);
        }
        assert_eq!(account.named("b/x").map(|mailbox| mailbox.id()), id);
        assert!(account.named("a/y").is_some() && account.named("t").is_none());
        assert!(account.flight.names.is_empty());
    }

    #[test]
    fn inbox_is_emptied_into_its_new_name() {
        let mut account = new_account();
        let inbox = account.named("INBOX").expect("it is there").id();
        let plan = account.plan_create("INBOX/child", None);
        done(&mut account, plan);
        (1..4).for_each(|minute| deliver(&mut account, inbox, minute, b"Subject: x\r\n\r\n"));
        let mut flags = Flags::system(SystemFlags::SEEN);
        flags.add_keyword("work");
        let uids: Ranges = [2].into_iter().collect();
        let store =
            StoreFlags { uids: &uids, action: FlagsAction::Add, flags: &flags, unchanged_since: None };
        let plan = account.plan_store(inbox, store);
        done(&mut account, plan);
        let plan = account.plan_rename("inbox", "old/mail", 99);
        done(&mut account, plan);
        let old = account.named("old/mail").expect("just made");
        assert_eq!((old.counts().messages, old.counts().unseen), (3, 2));
        let row = old.row(2).expect("moved");
        assert_eq!((row.saved, row.keywords, old.keywords()), (99, 1, &["work".to_owned()][..]));
        assert!(row.digest.get().is_some());
        assert_eq!(
            account.named("INBOX").map(|inbox| (inbox.counts().messages, inbox.uid_next())),
            Some((0, 4))
        );
        assert!(account.named("INBOX/child").is_some());
        assert_eq!(account.usage().messages, 3);
    }

    #[test]
    fn what_is_in_flight_counts_and_what_is_abandoned_does_not() {
        let mut account = new_account();
        let plan = account.plan_create("a/b", None).expect("new");
        assert_eq!(account.plan_create("a", None).err(), Some(Refusal::AlreadyExists));
        assert!(account.named("a/b").is_none(), "nothing planned is visible");
        let message = account.plan_append(plan.answer, incoming(1, b"\r\n")).expect("it will be there");
        account.abandon(&message.changes);
        account.abandon(&plan.changes);
        assert_eq!(account.plan_append(plan.answer, incoming(1, b"\r\n")).err(), Some(Refusal::NonExistent));
        let again = account.plan_create("a", None).expect("it never was");
        assert!(again.answer > plan.answer, "numbers are not used again");
        done(&mut account, Ok(again));

        let doomed = account.plan_delete("a").expect("it is there");
        let id = account.named("a").expect("still visible").id();
        assert_eq!(account.plan_append(id, incoming(1, b"\r\n")).err(), Some(Refusal::NonExistent));
        assert_eq!(account.plan_expunge(id, Doomed::Deleted).err(), Some(Refusal::NonExistent));
        account.abandon(&doomed.changes);
        let plan = account.plan_append(id, incoming(1, b"\r\n"));
        done(&mut account, plan);
        assert_eq!(account.named("a").map(|mailbox| mailbox.counts().messages), Some(1));
    }

    #[test]
    fn quota_counts_what_is_on_its_way() {
        let mut account = new_account();
        let inbox = account.named("INBOX").expect("it is there").id();
        account.set_quota(crate::mailbox::account::Quota { bytes_max: Some(10), messages_max: Some(3) });
        let one = account.plan_append(inbox, incoming(1, b"12345\r\n")).expect("room");
        assert_eq!(account.plan_append(inbox, incoming(2, b"12\r\n")).err(), Some(Refusal::OverQuota));
        account.abandon(&one.changes);
        assert!(account.has_room_for(10) && !account.has_room_for(11));
        let mut promised = incoming(3, b"1234567890123\r\n");
        promised.key = Some((promised.message.id, 0));
        let plan = account.plan_deliver(inbox, promised.clone()).expect("promised").expect("new");
        done(&mut account, Ok(plan));
        assert!(account.plan_deliver(inbox, promised.clone()).expect("promised").is_none());
        // Planned with its promise, its key is not compared before it is applied.
        promised.key = Some((promised.message.id, 1));
        let new = account.plan_deliver_new(inbox, promised.clone()).expect("promised");
        assert!(!account.is_delivered((promised.message.id, 1)));
        account.abandon(&new.changes);
        assert!(account.flight.keys.is_empty() && account.flight.key_places.is_empty());
        let all = Ranges::from_unordered(vec![(1, 9)]);
        assert_eq!(account.plan_copy(inbox, &all, inbox, 0).err(), Some(Refusal::OverQuota));
        assert_eq!(account.plan_move(inbox, &all, inbox, 0).map(|plan| plan.changes.len()), Ok(2));
    }
}
