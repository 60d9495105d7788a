//! Which mail an operator means, and what is to happen to it.
//!
//! Invariant: a selection that names nothing selects nothing; everything has to be asked for by that word.

use serde::{Deserialize, Serialize};

use crate::mail::address::Address;

/// All that is named must hold; of several ids one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Queue ids.
    pub ids: Vec<String>,
    /// The destination: the recipient's domain, or what it was rebound to.
    pub domain: Option<String>,
    /// The site that the destination's mail goes to.
    pub site: Option<String>,
    pub tenant: Option<String>,
    pub campaign: Option<String>,
    /// An address, a domain as `@example.org`, or `<>`.
    pub sender: Option<String>,
    /// An address, or a domain as `@example.org`.
    pub recipient: Option<String>,
    pub state: Option<State>,
    /// Accepted at least so many seconds ago.
    pub older_s: Option<u64>,
    /// Accepted at most so many seconds ago.
    pub younger_s: Option<u64>,
    pub everything: bool,
}

/// What a recipient's copy waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its time.
    Deferred,
    /// Its turn.
    Ready,
    /// It is being sent.
    Active,
    /// An operator.
    Held,
}

/// What there is to see of a recipient's copy without its record.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    pub id: &'a str,
    pub destination: &'a str,
    pub site: Option<&'a str>,
    pub state: State,
    pub age_s: u64,
}

/// What is in the record.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    pub sender: Option<&'a Address>,
    pub recipient: &'a Address,
    pub tenant: Option<&'a str>,
    pub campaign: Option<&'a str>,
}

/// What is to happen to selected mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// It is due now.
    Retry,
    /// It waits until it is released.
    Hold,
    Release,
    /// It is returned to its senders, with these words.
    Bounce {
        reason: String,
    },
    /// It goes to another destination.
    Rebind {
        destination: String,
    },
}

impl Selection {
    /// Whether it selects nothing, as nothing was named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether more than what is outside has to be looked at.
    pub fn looks_inside(&self) -> bool {
        [&self.tenant, &self.campaign, &self.sender, &self.recipient].iter().any(|named| named.is_some())
    }

    pub fn matches_outside(&self, outside: &Outside<'_>) -> bool {
        let is_named = |named: &Option<String>, value: &str| {
            named.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(value))
        };
        !self.is_empty()
            && (self.ids.is_empty() || self.ids.iter().any(|id| id.eq_ignore_ascii_case(outside.id)))
            && is_named(&self.domain, outside.destination)
            && is_named(&self.site, outside.site.unwrap_or_default())
            && self.state.is_none_or(|state| state == outside.state)
            && self.older_s.is_none_or(|age| outside.age_s >= age)
            && self.younger_s.is_none_or(|age| outside.age_s <= age)
    }

    pub fn matches_inside(&self, inside: &Inside<'_>) -> bool {
        let is_named = |named: &Option<String>, value: Option<&str>| match named {
            None => true,
            Some(name) => value.is_some_and(|value| value == name),
        };
        let sender = self.sender.as_ref().is_none_or(|pattern| match inside.sender {
            None => pattern == "<>",
            Some(sender) => is_like(sender, pattern),
        });
        sender
            && self.recipient.as_ref().is_none_or(|pattern| is_like(inside.recipient, pattern))
            && is_named(&self.tenant, inside.tenant)
            && is_named(&self.campaign, inside.campaign)
    }
}

/// An address as it was written, or any in a domain.
fn is_like(address: &Address, pattern: &str) -> bool {
    match pattern.strip_prefix('@') {
        Some(domain) => address.domain.eq_ignore_ascii_case(domain),
        None => Address::parse(pattern).is_ok_and(|named| named.is_same(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Inside, Outside, Selection, State};
    use crate::mail::address::Address;

    const OUTSIDE: Outside<'_> = Outside {
        id: "000000000A2C",
        destination: "example.org",
        site: Some("mx.example.org"),
        state: State::Deferred,
        age_s: 100,
    };

    #[test]
    fn nothing_named_is_nothing_selected() {
        assert!(!Selection::default().matches_outside(&OUTSIDE));
        let all = Selection { everything: true, ..Selection::default() };
        assert!(all.matches_outside(&OUTSIDE) && !all.looks_inside());
    }

    #[test]
    fn what_is_outside() {
        let table: [(Selection, bool); 9] = [
            (Selection { domain: Some("Example.ORG".to_owned()), ..Selection::default() }, true),
            (Selection { domain: Some("example.com".to_owned()), ..Selection::default() }, false),
            (Selection { site: Some("mx.example.org".to_owned()), ..Selection::default() }, true),
            (Selection { site: Some("".to_owned()), ..Selection::default() }, false),
            (Selection { state: Some(State::Held), ..Selection::default() }, false),
            (Selection { older_s: Some(100), ..Selection::default() }, true),
            (Selection { older_s: Some(101), ..Selection::default() }, false),
            (Selection { younger_s: Some(99), ..Selection::default() }, false),
            (
                Selection { ids: vec!["x".to_owned(), "000000000a2c".to_owned()], ..Selection::default() },
                true,
            ),
        ];
        for (selection, expected) in table {
            assert_eq!(selection.matches_outside(&OUTSIDE), expected, "{selection:?}");
        }
    }

    #[test]
    fn what_is_inside() {
        let [sender, recipient] =
            ["news@example.com", "Bob@example.org"].map(|text| Address::parse(text).unwrap());
        let inside =
            Inside { sender: Some(&sender), recipient: &recipient, tenant: Some("acme"), campaign: None };
        let of = |sender: &str, recipient: &str| Selection {
            sender: (!sender.is_empty()).then(|| sender.to_owned()),
            recipient: (!recipient.is_empty()).then(|| recipient.to_owned()),
            ..Selection::default()
        };
        for (selection, expected) in [
            (of("@EXAMPLE.com", ""), true),
            (of("news@example.com", "Bob@Example.org"), true),
            (of("", "bob@example.org"), false),
            (of("<>", ""), false),
            (Selection { tenant: Some("acme".to_owned()), ..Selection::default() }, true),
            (Selection { campaign: Some("spring".to_owned()), ..Selection::default() }, false),
        ] {
            assert!(selection.looks_inside());
            assert_eq!(selection.matches_inside(&inside), expected, "{selection:?}");
        }
        assert!(of("<>", "").matches_inside(&Inside { sender: None, ..inside }));
    }
}
