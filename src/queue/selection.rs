//! Which mail an operator means, and what is to happen to it.
//!
//! Invariant: a selection that names nothing selects nothing; everything has to be asked for by that word.

use std::fmt;
use std::sync::Arc;

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
    /// Those that mail for the destination goes to; who sends it, or for whom, may decide which.
    pub sites: &'a [Arc<str>],
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
    /// The one of its destination's sites that it goes to, where what is in the record decides that.
    pub site: Option<&'a str>,
}

/// What is to happen to selected mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// It is due now.
    Retry,
    /// It waits until it is released.
    Hold {
        reason: Option<String>,
    },
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

/// A recipient's copy as an order finds it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub state: State,
    pub destination: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

/// What an order does to a recipient's copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Changes,
    /// It is so already, or the order is not for such mail.
    None,
    /// It is being sent at the moment, and is left alone.
    TooLate,
}

impl Order {
    pub fn effect(&self, copy: &Standing<'_>) -> Effect {
        let changes = match self {
            // What was never tried and is not due is to leave later, as its sender asked (RFC 4865).
            Self::Retry => match copy.state {
                State::Ready => true,
                State::Deferred => copy.attempts > 0,
                State::Active | State::Held => false,
            },
            Self::Hold { .. } => copy.state != State::Held,
            Self::Release => copy.state == State::Held,
            Self::Bounce { .. } => true,
            Self::Rebind { destination } => !destination.eq_ignore_ascii_case(copy.destination),
        };
        match (copy.state, changes) {
            (State::Active, _) if *self != Self::Release => Effect::TooLate,
            (_, true) => Effect::Changes,
            (_, false) => Effect::None,
        }
    }
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Held => "held",
        }
    }
}

impl Selection {
    /// Of all there is.
    pub fn all() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether it selects nothing, as nothing was named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether more than what is outside has to be looked at.
    pub fn looks_inside(&self) -> bool {
        [&self.tenant, &self.campaign, &self.sender, &self.recipient].iter().any(|named| named.is_some())
    }

    /// Whether `other` names all that this one names, in the same words.
    pub fn is_part_of(&self, other: &Self) -> bool {
        let same = |named: &Option<String>, of: &Option<String>| {
            named.as_ref().is_none_or(|name| of.as_ref().is_some_and(|of| of.eq_ignore_ascii_case(name)))
        };
        same(&self.domain, &other.domain)
            && same(&self.site, &other.site)
            && same(&self.tenant, &other.tenant)
            && same(&self.campaign, &other.campaign)
            && same(&self.sender, &other.sender)
            && same(&self.recipient, &other.recipient)
            && self.ids.iter().all(|id| other.ids.contains(id))
            && self.state.is_none_or(|state| other.state == Some(state))
            && self.older_s.is_none_or(|age| other.older_s == Some(age))
            && self.younger_s.is_none_or(|age| other.younger_s == Some(age))
    }

    pub fn matches_outside(&self, outside: &Outside<'_>) -> bool {
        let is_named = |named: &Option<String>, value: &str| {
            named.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(value))
        };
        !self.is_empty()
            && (self.ids.is_empty() || self.ids.iter().any(|id| id.eq_ignore_ascii_case(outside.id)))
            && is_named(&self.domain, outside.destination)
            && self
                .site
                .as_ref()
                .is_none_or(|name| outside.sites.iter().any(|site| site.eq_ignore_ascii_case(name)))
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
            && self.site.as_ref().zip(inside.site).is_none_or(|(name, site)| site.eq_ignore_ascii_case(name))
            && is_named(&self.tenant, inside.tenant)
            && is_named(&self.campaign, inside.campaign)
    }
}

impl fmt::Display for Selection {
    /// As it is written on the command line, without the dashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            ("domain", &self.domain),
            ("site", &self.site),
            ("tenant", &self.tenant),
            ("campaign", &self.campaign),
            ("sender", &self.sender),
            ("recipient", &self.recipient),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some(format!("{name} {}", text.as_ref()?)));
        let ids = (!self.ids.is_empty()).then(|| self.ids.join(" "));
        let state = self.state.map(|state| format!("state {}", state.name()));
        let older = self.older_s.map(|seconds| format!("older {seconds}s"));
        let younger = self.younger_s.map(|seconds| format!("younger {seconds}s"));
        let words: Vec<String> =
            ids.into_iter().chain(texts).chain(state).chain(older).chain(younger).collect();
        match words.is_empty() {
            true => f.write_str(if self.everything { "everything" } else { "nothing" }),
            false => f.write_str(&words.join(", ")),
        }
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
    use std::sync::Arc;

    use super::{Effect, Inside, Order, Outside, Selection, Standing, State};
    use crate::mail::address::Address;

    const OUTSIDE: Outside<'_> = Outside {
        id: "000000000A2C",
        destination: "example.org",
        sites: &[],
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
        let sites: [Arc<str>; 2] = ["mx.example.org".into(), "smart.example.net".into()];
        let table: [(Selection, bool); 11] = [
            (Selection { domain: Some("Example.ORG".to_owned()), ..Selection::default() }, true),
            (Selection { domain: Some("example.com".to_owned()), ..Selection::default() }, false),
            (Selection { site: Some("mx.example.org".to_owned()), ..Selection::default() }, true),
            (Selection { site: Some("SMART.example.net".to_owned()), ..Selection::default() }, true),
            (Selection { site: Some("mx.example.com".to_owned()), ..Selection::default() }, false),
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
            let outside = Outside { sites: &sites, ..OUTSIDE };
            assert_eq!(selection.matches_outside(&outside), expected, "{selection:?}");
        }
    }

    #[test]
    fn what_is_inside() {
        let [sender, recipient] =
            ["news@example.com", "Bob@example.org"].map(|text| Address::parse(text).unwrap());
        let inside = Inside {
            sender: Some(&sender),
            recipient: &recipient,
            tenant: Some("acme"),
            campaign: None,
            site: None,
        };
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
        let of_site = Selection { site: Some("mx.example.org".to_owned()), ..Selection::default() };
        // Where nothing in the record decides, what is outside has.
        for (site, expected) in
            [(None, true), (Some("MX.example.org"), true), (Some("smart"), false), (Some(""), false)]
        {
            assert_eq!(of_site.matches_inside(&Inside { site, ..inside }), expected, "{site:?}");
        }
    }

    #[test]
    fn what_an_order_does() {
        use Effect::{Changes, None, TooLate};
        use State::{Active, Deferred, Held, Ready};
        let rebind = |to: &str| Order::Rebind { destination: to.to_owned() };
        let hold = || Order::Hold { reason: Option::None };
        let bounce = || Order::Bounce { reason: "spam".to_owned() };
        let table = [
            (Order::Retry, Ready, 0, Changes),
            (Order::Retry, Deferred, 1, Changes),
            // It leaves when its sender said.
            (Order::Retry, Deferred, 0, None),
            (Order::Retry, Held, 3, None),
            (Order::Retry, Active, 1, TooLate),
            (hold(), Ready, 0, Changes),
            (hold(), Held, 0, None),
            (hold(), Active, 0, TooLate),
            (Order::Release, Held, 0, Changes),
            (Order::Release, Ready, 0, None),
            (Order::Release, Active, 0, None),
            (bounce(), Held, 0, Changes),
            (bounce(), Active, 0, TooLate),
            (rebind("relay.test"), Held, 0, Changes),
            (rebind("Example.org"), Ready, 0, None),
        ];
        for (order, state, attempts, expected) in table {
            let copy = Standing { state, destination: "example.org", attempts };
            assert_eq!(order.effect(&copy), expected, "{order:?} {copy:?}");
        }
    }

    #[test]
    fn one_selection_may_be_part_of_another() {
        let named = |domain: &str, tenant: Option<&str>| Selection {
            domain: Some(domain.to_owned()),
            tenant: tenant.map(str::to_owned),
            ..Selection::default()
        };
        let both = named("example.org", Some("acme"));
        for (selection, expected) in [
            (Selection::all(), true),
            (named("Example.org", None), true),
            (both.clone(), true),
            (named("example.org", Some("other")), false),
            (Selection { state: Some(State::Held), ..Selection::default() }, false),
        ] {
            assert_eq!(selection.is_part_of(&both), expected, "{selection}");
        }
        assert!(!both.is_part_of(&named("example.org", None)));
    }

    #[test]
    fn selections_in_words() {
        let selection = Selection {
            ids: vec!["A1".to_owned()],
            domain: Some("example.org".to_owned()),
            state: Some(State::Held),
            older_s: Some(60),
            ..Selection::default()
        };
        assert_eq!(selection.to_string(), "A1, domain example.org, state held, older 60s");
        assert_eq!(Selection::all().to_string(), "everything");
        assert_eq!(Selection::default().to_string(), "nothing");
    }
}
