//! Mail that an operator keeps back, or has returned, for a time: what it is, until when, and why.
//!
//! Each is a selection of what does not change while a message waits for one destination: its domain, site, sender,
//! tenant or campaign. It is asked about when a message would be given out.
//!
//! Invariant: what has ended holds nothing, whether it was forgotten yet or not.

use serde::{Deserialize, Serialize};

use super::selection::{Inside, Outside, Selection};
use crate::mail::time::Instant;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspension {
    /// As the operator calls it.
    pub id: u64,
    pub selection: Selection,
    pub until: Instant,
    pub reason: String,
    pub does: Does,
}

/// What becomes of the mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// It waits.
    Suspend,
    /// It is returned to its senders, and so is what comes meanwhile.
    Bounce,
}

/// Those that hold, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Suspensions(Vec<Suspension>);

impl Suspensions {
    pub fn add(&mut self, suspension: Suspension) {
        self.0.push(suspension);
    }

    /// Those of an operator's choice hold no longer; which they were.
    pub fn lift(&mut self, is_meant: impl Fn(&Suspension) -> bool) -> Vec<Suspension> {
        self.0.extract_if(.., |suspension| is_meant(suspension)).collect()
    }

    /// Forgets those that have ended.
    pub fn tidy(&mut self, now: Instant) {
        self.0.retain(|suspension| suspension.until > now);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, id: u64) -> bool {
        self.0.iter().any(|suspension| suspension.id == id)
    }

    /// Those that hold now.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = &Suspension> {
        self.0.iter().filter(move |suspension| suspension.until > now)
    }

    /// The one that keeps a recipient's copy back for the longest time.
    pub fn holding(&self, outside: &Outside<'_>, inside: &Inside<'_>, now: Instant) -> Option<&Suspension> {
        let holds = |suspension: &&Suspension| {
            let selection = &suspension.selection;
            selection.matches_outside(outside) && selection.matches_inside(inside)
        };
        self.iter(now).filter(holds).max_by_key(|suspension| suspension.until)
    }

    /// As [`Suspensions::holding`], of those for which one need not look into a message.
    pub fn holding_all(&self, outside: &Outside<'_>, now: Instant) -> Option<&Suspension> {
        let holds = |suspension: &&Suspension| {
            let selection = &suspension.selection;
            !selection.looks_inside() && selection.matches_outside(outside)
        };
        self.iter(now).filter(holds).max_by_key(|suspension| suspension.until)
    }
}

#[cfg(test)]
mod tests {
    use super::{Does, Suspension, Suspensions};
    use crate::mail::address::Address;
    use crate::mail::time::Instant;
    use crate::queue::selection::{Inside, Outside, Selection, State};

    const OUTSIDE: Outside<'_> =
        Outside { id: "", destination: "example.org", sites: &[], state: State::Ready, age_s: 1 };

    fn suspension(id: u64, selection: Selection, until: u64) -> Suspension {
        Suspension {
            id,
            selection,
            until: Instant(until),
            reason: format!("reason {id}"),
            does: Does::Suspend,
        }
    }

    fn named(domain: Option<&str>, tenant: Option<&str>) -> Selection {
        Selection {
            domain: domain.map(str::to_owned),
            tenant: tenant.map(str::to_owned),
            ..Selection::default()
        }
    }

    #[test]
    fn the_longest_of_those_that_hold() {
        let mut all = Suspensions::default();
        all.add(suspension(1, named(Some("example.org"), None), 100));
        all.add(suspension(2, named(Some("example.org"), Some("acme")), 200));
        all.add(suspension(3, named(Some("example.com"), None), 300));
        let recipient = Address::parse("bob@example.org").unwrap();
        let inside =
            |tenant| Inside { sender: None, recipient: &recipient, tenant, campaign: None, site: None };
        let holding = |all: &Suspensions, tenant, now| {
            all.holding(&OUTSIDE, &inside(tenant), Instant(now)).map(|found| found.id)
        };
        assert_eq!(holding(&all, None, 0), Some(1));
        assert_eq!(holding(&all, Some("acme"), 0), Some(2));
        assert_eq!(all.holding_all(&OUTSIDE, Instant(0)).map(|found| found.id), Some(1));
        // Its time is over when it comes.
        assert_eq!(holding(&all, None, 99), Some(1));
        assert_eq!(holding(&all, None, 100), None);
        assert_eq!(holding(&all, Some("acme"), 150), Some(2));
        assert_eq!(all.iter(Instant(150)).count(), 2);
        all.tidy(Instant(250));
        assert_eq!((all.has(2), all.has(3)), (false, true));
    }

    #[test]
    fn lifted_by_number_or_by_what_they_say() {
        let mut all = Suspensions::default();
        (1..=3).for_each(|id| all.add(suspension(id, named(Some("example.org"), None), 100)));
        all.add(suspension(4, named(None, Some("acme")), 100));
        let ids = |lifted: Vec<Suspension>| lifted.iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(all.lift(|one| one.id == 2)), [2]);
        assert_eq!(ids(all.lift(|one| one.id == 2)), [0_u64; 0]);
        assert_eq!(ids(all.lift(|one| named(Some("example.org"), None).is_part_of(&one.selection))), [1, 3]);
        assert_eq!(ids(all.lift(|one| Selection::all().is_part_of(&one.selection))), [4]);
        assert!(all.is_empty());
    }
}
