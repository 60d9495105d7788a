//! What an account makes of records that its log has lost.
//!
//! Nobody knows what they said. Each may have given a UID, a mod-sequence, a number of a mailbox or a UIDVALIDITY, so
//! that as many of each are left out: clients see a gap, and never another message under a UID they know. They are told
//! that flags may have changed and that whatever is absent may have vanished, which makes them look.
//!
//! Invariant: the same records and the same losses make the same account, however often they are read.

use super::account::Account;
use super::journal::{FlagNotes, History};
use super::mailbox::Mailbox;
use super::name::INBOX;
use crate::store::MailboxId;
use crate::store::record::MailboxCreated;

impl Account {
    /// So many records of the log are lost.
    pub fn allow_for(&mut self, lost: u64) {
        if lost == 0 {
            return;
        }
        let lost_u32 = u32::try_from(lost).unwrap_or(u32::MAX);
        let raise = |number: &mut u32| *number = number.saturating_add(lost_u32);
        raise(&mut self.mailbox_next);
        raise(&mut self.uid_validity);
        self.flight.mailbox_next = self.flight.mailbox_next.max(self.mailbox_next);
        self.flight.uid_validity = self.flight.uid_validity.max(self.uid_validity);
        for mailbox in self.mailboxes.values_mut() {
            mailbox.uid_next = mailbox.uid_next.saturating_add(lost_u32);
            mailbox.doubt(mailbox.modseq.saturating_add(lost).saturating_add(1));
        }
        self.settle_names();
    }

    /// Makes a mailbox whose making is lost, so that what was done in it afterwards has a place. Its name is lost, too,
    /// unless it was the first one, and so is its UIDVALIDITY.
    pub fn remake(&mut self, id: MailboxId, lost: u64) {
        let lost = u32::try_from(lost).unwrap_or(u32::MAX);
        self.uid_validity = self.uid_validity.saturating_add(lost).saturating_add(1);
        self.flight.uid_validity = self.flight.uid_validity.max(self.uid_validity);
        let is_inbox = id == MailboxId(1) && self.named(INBOX).is_none();
        let name = if is_inbox { INBOX.to_owned() } else { self.free_name("Recovered", id) };
        let (account, uid_validity) = (self.id, self.uid_validity);
        let created =
            MailboxCreated { account, mailbox: id, name: name.clone(), uid_validity, special_use: None };
        self.names.insert(name, id);
        self.mailboxes.insert(id, Mailbox::created(&created));
    }

    /// Whether a mailbox with this number was made at some time, or can have been.
    pub fn has_counted(&self, id: MailboxId) -> bool {
        id.0 < self.mailbox_next
    }

    /// Numbers below this one that no mailbox had yet.
    pub fn unmade_below(&self, id: MailboxId) -> impl Iterator<Item = MailboxId> {
        (self.mailbox_next..id.0).map(MailboxId)
    }

    /// Where the record is lost that gave or took a name, two mailboxes can have the same: the older one gets another.
    fn settle_names(&mut self) {
        let is_hidden = |mailbox: &&Mailbox| self.names.get(mailbox.name()) != Some(&mailbox.id());
        let hidden: Vec<MailboxId> =
            self.mailboxes.values().filter(is_hidden).map(|mailbox| mailbox.id()).collect();
        for id in hidden {
            let old = self.mailboxes.get(&id).map(|mailbox| mailbox.name.clone()).unwrap_or_default();
            let name = if self.names.contains_key(&old) { self.free_name(&old, id) } else { old };
            self.names.insert(name.clone(), id);
            if let Some(mailbox) = self.mailboxes.get_mut(&id) {
                mailbox.name = name;
            }
        }
    }

    fn free_name(&self, stem: &str, MailboxId(number): MailboxId) -> String {
        let candidates = (0..).map(|turn| match turn {
            0 => format!("{stem} {number}"),
            turn => format!("{stem} {number}-{turn}"),
        });
        let is_free = |name: &String| !self.names.contains_key(name);
        let mut free = candidates.filter(is_free);
        free.next().expect("there are more numbers than mailboxes")
    }
}

impl Mailbox {
    /// From this mod-sequence on everything is known; before it anything may have happened.
    fn doubt(&mut self, modseq: u64) {
        self.modseq = modseq;
        self.contents.messages.modseqs.fill(modseq);
        self.contents.history = History { floor: modseq, ..History::default() };
        self.flag_notes = FlagNotes::begin_at(modseq);
    }
}

#[cfg(test)]
mod tests {
    use crate::mail::flags::Flags;
    use crate::mail::time::Timestamp;
    use crate::mailbox::account::Account;
    use crate::mailbox::plan::Incoming;
    use crate::store::record::Record;
    use crate::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, Sequence};

    fn account() -> Account {
        let mut account = Account::new(AccountId(3));
        let plan = account.plan_new();
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        account
    }

    fn deliver(account: &mut Account, mailbox: MailboxId, sequence: u64) -> Record {
        let id = MessageId { log: LogId(0), sequence: Sequence(sequence) };
        let place = Place::Segment { number: 1, offset: 8192 };
        let message = Locator { id, place, length: 9, return_path_length: 0 };
        let (flags, internal) = (Flags::default(), Timestamp::default());
        let incoming = Incoming { message, digest: None, key: None, flags, internal, saved: 0 };
        let plan = account.plan_append(mailbox, incoming).expect("there is room");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        plan.changes[0].record.clone()
    }

    #[test]
    fn what_lost_records_may_have_given_is_not_given_again() {
        let mut whole = account();
        let inbox = whole.named("INBOX").expect("just made").id();
        let first = deliver(&mut whole, inbox, 10);
        let mut account = account();
        account.apply(&first, None);
        // Five records are lost: four deliveries, and one that made a mailbox.
        (11..15).for_each(|sequence| drop(deliver(&mut whole, inbox, sequence)));
        let plan = whole.plan_create("More", None).expect("a new name");
        plan.changes.iter().for_each(|change| whole.apply(&change.record, None));
        let (seen, more) = (whole.mailbox(inbox).expect("made"), whole.named("More").expect("made"));
        account.allow_for(5);
        let mailbox = account.mailbox(inbox).expect("made");
        assert!(mailbox.uid_next() >= seen.uid_next());
        assert!(mailbox.highest_modseq() > seen.highest_modseq());
        assert_eq!(mailbox.changed_since(seen.highest_modseq()).collect::<Vec<_>>(), [1]);
        assert_eq!(mailbox.vanished_since(seen.highest_modseq()).ranges().first(), Some(&(2, 6)));
        let plan = account.plan_create("Other", None).expect("a new name");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let other = account.named("Other").expect("just made");
        assert!(other.id() > more.id() && other.uid_validity() > more.uid_validity());
    }

    #[test]
    fn a_mailbox_whose_making_is_lost_keeps_its_mail() {
        let mut whole = account();
        let plan = whole.plan_create("Work", None).expect("a new name");
        plan.changes.iter().for_each(|change| whole.apply(&change.record, None));
        let work = plan.answer;
        let delivered = deliver(&mut whole, work, 10);
        let mut account = account();
        account.remake(work, 1);
        account.apply(&delivered, None);
        account.allow_for(1);
        let mailbox = account.named(&format!("Recovered {}", work.0)).expect("it is there");
        assert_eq!((mailbox.id(), mailbox.uids()), (work, &[1][..]));
        assert!(mailbox.uid_validity() > whole.mailbox(work).expect("made").uid_validity());
    }

    #[test]
    fn two_mailboxes_of_one_name_are_both_there() {
        let mut account = account();
        let plan = account.plan_create("Work", None).expect("a new name");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        // It was renamed, which is lost, and another one was made under its name.
        let mut made = plan.changes[0].record.clone();
        if let Record::MailboxCreated(created) = &mut made {
            created.mailbox = MailboxId(created.mailbox.0 + 1);
            created.uid_validity += 1;
        }
        account.apply(&made, None);
        account.allow_for(1);
        let names: Vec<&str> = account.mailboxes().map(|mailbox| mailbox.name()).collect();
        let old = format!("Work {}", plan.answer.0);
        assert!(names.contains(&"Work") && names.contains(&old.as_str()), "{names:?}");
        assert!(names.iter().all(|name| account.named(name).is_some()));
    }
}
