//! Which lines are shown.

use std::borrow::Cow;

use serde::Deserialize;

use super::Events;
use crate::admin::span;
use crate::mail::address::domain_key;
use crate::mail::date::parse_rfc3339;
use crate::mail::time::Timestamp;
use crate::queue::event::EventKind;

/// A point in time, as an operator names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Ago { seconds: i64 },
    At(Timestamp),
}

impl When {
    /// `90`, `45s`, `30m`, `2h`, `7d`, `1w`, or an RFC 3339 time.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(at) = parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        span::seconds(text)
            .map(|seconds| Self::Ago { seconds })
            .ok_or_else(|| "neither a span such as 2h nor a time such as 2026-11-24T10:00:00Z".to_owned())
    }

    fn seconds(self, now: Timestamp) -> i64 {
        match self {
            Self::Ago { seconds } => now.seconds.saturating_sub(seconds),
            Self::At(at) => at.seconds,
        }
    }
}

/// What is read of a line; everything else in it is skipped.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender: Option<Cow<'a, str>>,
    #[serde(borrow)]
    recipient: Option<Cow<'a, str>>,
    #[serde(borrow)]
    queue: Option<Cow<'a, str>>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    tenant: Option<Cow<'a, str>>,
}

/// All that must hold of a line.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    kinds: Vec<EventKind>,
    since_s: Option<i64>,
    /// As domains are compared.
    domain: Option<String>,
    sender: Option<String>,
    recipient: Option<String>,
    tenant: Option<String>,
    id: Option<String>,
}

impl Filter {
    pub fn new(events: &Events, now: Timestamp) -> Self {
        Self {
            kinds: events.kinds.clone(),
            since_s: events.since.map(|when| when.seconds(now)),
            domain: events.domain.as_deref().map(|domain| domain_key(domain.trim_start_matches('@'))),
            sender: events.sender.clone(),
            recipient: events.recipient.clone(),
            tenant: events.tenant.clone(),
            id: events.id.clone(),
        }
    }

    /// In Unix seconds.
    pub fn since_s(&self) -> Option<i64> {
        self.since_s
    }

    /// A line that cannot be read is shown only if all are.
    pub fn takes(&self, line: &[u8]) -> bool {
        let Self { kinds, since_s, domain, sender, recipient, tenant, id } = self;
        let is_open = kinds.is_empty()
            && since_s.is_none()
            && [domain, sender, recipient, tenant, id].into_iter().all(Option::is_none);
        is_open || serde_json::from_slice(line).is_ok_and(|line| self.takes_line(&line))
    }

    fn takes_line(&self, line: &Line<'_>) -> bool {
        let tenant = line.meta.as_ref().and_then(|meta| meta.tenant.as_deref());
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.name() == line.kind))
            && self.since_s.is_none_or(|since| line.timestamp.is_some_and(|at| at >= since))
            && self.domain.as_deref().is_none_or(|domain| is_of_domain(line, domain))
            && self.sender.as_deref().is_none_or(|wanted| is_address(line.sender.as_deref(), wanted))
            && self.recipient.as_deref().is_none_or(|wanted| is_address(line.recipient.as_deref(), wanted))
            && self.tenant.as_deref().is_none_or(|wanted| tenant == Some(wanted))
            && self.id.as_deref().is_none_or(|wanted| line.id.as_deref() == Some(wanted))
    }
}

/// By the recipient; an event without one belongs to its queue, whose name ends with the domain.
fn is_of_domain(line: &Line<'_>, domain: &str) -> bool {
    let name = line.recipient.as_deref().or(line.queue.as_deref());
    name.is_some_and(|name| domain_key(domain_of(name)) == domain)
}

/// The address, in any case, or `@` and its domain. `<>` and nothing are the null sender.
fn is_address(address: Option<&str>, wanted: &str) -> bool {
    let Some(address) = address else {
        return false;
    };
    match wanted.strip_prefix('@') {
        Some(domain) => domain_key(domain_of(address)) == domain_key(domain),
        None if wanted == "<>" => address.is_empty(),
        None => address.to_lowercase() == wanted.to_lowercase(),
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::{Filter, When};
    use crate::mail::time::Timestamp;
    use crate::queue::event::EventKind;

    const LINE: &str = r#"{"type":"Bounce","id":"A1","sender":"ann@here.example","recipient":"Bob@There.example",
        "queue":"c:acme@there.example","timestamp":1000,"meta":{"tenant":"acme"},"response":{"code":550}}"#;

    #[test]
    fn spans_and_times() {
        let cases = [
            ("90", Some(910)),
            ("45s", Some(955)),
            ("2m", Some(880)),
            ("1h", Some(-2600)),
            ("1w", Some(1000 - 604_800)),
            ("1970-01-01T00:00:05Z", Some(5)),
            ("h", None),
            ("-2h", None),
            ("2 h", None),
            ("yesterday", None),
            ("99999999999999999d", None),
        ];
        for (text, expected) in cases {
            let seconds = When::parse(text).ok().map(|when| when.seconds(Timestamp::utc(1000)));
            assert_eq!(seconds, expected, "{text}");
        }
    }

    #[test]
    fn all_that_is_given_must_match() {
        let some = |text: &str| Some(text.to_owned());
        let open = Filter::default();
        let cases = [
            (open.clone(), true),
            (Filter { kinds: vec![EventKind::Delivery, EventKind::Bounce], ..open.clone() }, true),
            (Filter { kinds: vec![EventKind::Delivery], ..open.clone() }, false),
            (Filter { since_s: Some(1000), ..open.clone() }, true),
            (Filter { since_s: Some(1001), ..open.clone() }, false),
            (Filter { domain: some("there.example"), ..open.clone() }, true),
            (Filter { domain: some("here.example"), ..open.clone() }, false),
            (Filter { sender: some("ANN@here.example"), ..open.clone() }, true),
            (Filter { sender: some("@here.example"), ..open.clone() }, true),
            (Filter { sender: some("<>"), ..open.clone() }, false),
            (Filter { recipient: some("bob@there.example"), ..open.clone() }, true),
            (Filter { recipient: some("eve@there.example"), ..open.clone() }, false),
            (Filter { tenant: some("acme"), id: some("A1"), ..open.clone() }, true),
            (Filter { tenant: some("acme"), id: some("A2"), ..open.clone() }, false),
            (Filter { tenant: some("c"), ..open.clone() }, false),
        ];
        for (filter, expected) in cases {
            assert_eq!(filter.takes(LINE.as_bytes()), expected, "{filter:?}");
        }
    }

    #[test]
    fn lines_without_the_field_and_lines_that_are_none() {
        let filter = Filter { sender: Some("<>".to_owned()), ..Filter::default() };
        assert!(filter.takes(br#"{"type":"Bounce","sender":""}"#));
        assert!(!filter.takes(br#"{"type":"Automation"}"#));
        assert!(!filter.takes(b"junk") && Filter::default().takes(b"junk"));
        let queue = Filter { domain: Some("x.example".to_owned()), ..Filter::default() };
        assert!(queue.takes(br#"{"type":"Automation","queue":"t@x.example"}"#));
        assert!(queue.takes(br#"{"type":"Automation","queue":"X.example"}"#));
    }
}
