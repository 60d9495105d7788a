//! What a restore changes of an account: every UIDVALIDITY (RFC 9051 2.3.1.1).
//!
//! After a backup was made the account lived on, and gave UIDs to messages, and numbers to mailboxes, that the backup
//! knows nothing of. Clients remember those. A floor that is above all of them makes sure that none ever names
//! another message.

use super::account::Account;
use super::{Change, Plan};
use crate::store::MailboxId;
use crate::store::record::{Record, UidValidityRaised};

/// How many mailboxes an account may have made since the backup, should the floor be too low.
pub const RAISE_MIN: u32 = 1 << 20;

impl Account {
    /// A UIDVALIDITY for each mailbox that is above `floor`, and far above all that were in use here.
    pub fn plan_raise(&mut self, floor: u32) -> Plan<()> {
        self.begin_above(floor.max(self.flight.uid_validity.saturating_add(RAISE_MIN)));
        let mailboxes: Vec<MailboxId> = self.mailboxes.keys().copied().collect();
        let mut plan = Plan::nothing(());
        for mailbox in mailboxes {
            self.flight.uid_validity = self.flight.uid_validity.saturating_add(1);
            let uid_validity = self.flight.uid_validity;
            let raised = UidValidityRaised { account: self.id, mailbox, uid_validity };
            plan.changes.push(Change::of(Record::UidValidityRaised(raised)));
        }
        plan
    }

    /// Mailboxes that are made from here on have a UIDVALIDITY above `floor`.
    pub fn begin_above(&mut self, floor: u32) {
        self.flight.uid_validity = self.flight.uid_validity.max(floor);
    }

    /// The last UIDVALIDITY that any mailbox has, had or may be about to have.
    pub fn uid_validity_used(&self) -> u32 {
        self.flight.uid_validity
    }

    pub(super) fn apply_raised(&mut self, raised: &UidValidityRaised) {
        self.uid_validity = self.uid_validity.max(raised.uid_validity);
        self.flight.uid_validity = self.flight.uid_validity.max(self.uid_validity);
        if let Some(mailbox) = self.mailboxes.get_mut(&raised.mailbox) {
            mailbox.uid_validity = raised.uid_validity;
        }
        if let Some(flight) = self.flight.mailboxes.get_mut(&raised.mailbox) {
            flight.uid_validity = raised.uid_validity;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Account, RAISE_MIN};
    use crate::mailbox::Plan;
    use crate::store::AccountId;

    fn carry_out<T>(account: &mut Account, plan: Plan<T>) {
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
    }

    fn validities(account: &Account) -> BTreeSet<u32> {
        account.mailboxes().map(|mailbox| mailbox.uid_validity()).collect()
    }

    #[test]
    fn every_number_is_new_and_what_is_made_later_is_above() {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_new();
        carry_out(&mut account, plan);
        for floor in [1_800_000_000, 0, 1_800_000_000] {
            let before = validities(&account);
            let plan = account.plan_raise(floor);
            carry_out(&mut account, plan);
            let after = validities(&account);
            assert_eq!(after.len(), before.len(), "each has its own");
            assert!(after.first() > Some(&floor.max(before.last().unwrap() + RAISE_MIN)));
            let plan = account.plan_create(&format!("new {floor} {}", after.len()), None).unwrap();
            carry_out(&mut account, plan);
            assert!(validities(&account).last() > after.last());
        }
    }

    #[test]
    fn the_numbers_are_in_the_records_and_the_snapshot() {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_new();
        let mut replayed = Account::new(AccountId(1));
        carry_out(&mut replayed, plan.clone());
        carry_out(&mut account, plan);
        let plan = account.plan_raise(7_000_000);
        // A record that is in a snapshot already may be applied once more.
        carry_out(&mut replayed, plan.clone());
        carry_out(&mut replayed, plan.clone());
        carry_out(&mut account, plan);
        assert_eq!(validities(&replayed), validities(&account));
        assert_eq!(replayed.snapshot(), account.snapshot());
    }

    #[test]
    fn an_account_without_mailboxes_begins_above_the_floor() {
        let mut account = Account::new(AccountId(1));
        account.begin_above(99);
        let plan = account.plan_new();
        carry_out(&mut account, plan);
        assert_eq!(validities(&account).first(), Some(&100));
    }
}
