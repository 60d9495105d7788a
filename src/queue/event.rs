//! What happened to a message, as one line of JSON for the operator's programs.
//!
//! Names of types and fields are those that KumoMTA gave its log records, so that what reads those reads these.
//! What does not apply is left out.
//!
//! Invariants: an event is one line, whatever the strings in it; writing one allocates nothing but the room in
//! the buffer of the caller.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::mail::date::Rfc3339Millis;
use crate::mail::reply::{EnhancedCode, Reply};

/// Where events are kept, and for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventSettings {
    pub dir: PathBuf,
    /// A file of this size is closed, and the next one begun.
    pub rotate_bytes: u64,
    /// A file of this age too.
    pub rotate_s: u64,
    /// Of all files together; above it the oldest ones go.
    pub keep_bytes: u64,
    /// Files that were last written so long ago go.
    pub keep_s: u64,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// We took responsibility for a message.
    Reception,
    /// Another server did, or a mailbox has it.
    Delivery,
    /// An attempt failed and will be repeated.
    TransientFailure,
    /// An attempt failed for good.
    Bounce,
    /// It was tried for as long as it may be.
    Expiration,
    /// The sender was told that it takes longer.
    Delayed,
    /// An operator ended it.
    AdminBounce,
    /// An operator sent it another way.
    AdminRebind,
    /// We refused a command of a client.
    Rejection,
    /// A rule of shaping acted on what a site answered.
    Automation,
}

/// One event. Only `kind` and `at_ms` are always there; [`Event::new`] leaves the others out.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub kind: EventKind,
    /// Unix time in milliseconds.
    pub at_ms: i64,
    pub id: Option<&'a dyn Display>,
    /// Empty for `<>`.
    pub sender: Option<&'a dyn Display>,
    pub recipient: Option<&'a dyn Display>,
    /// `campaign:tenant@domain`, as far as there are such.
    pub queue: Option<&'a str>,
    pub site: Option<&'a str>,
    /// Bytes of the message.
    pub size: Option<u64>,
    pub response: Option<Response<'a>>,
    pub peer: Option<PeerAddress<'a>>,
    /// When the message came, in Unix seconds.
    pub created_s: Option<i64>,
    pub attempts: Option<u32>,
    pub bounce_class: Option<&'a str>,
    pub egress_pool: Option<&'a str>,
    pub egress_source: Option<&'a str>,
    /// From which address of ours.
    pub source_address: Option<SocketAddr>,
    pub tenant: Option<&'a str>,
    pub campaign: Option<&'a str>,
    /// `ESMTP`, `LMTP`, `Local`.
    pub delivery_protocol: Option<&'a str>,
    pub reception_protocol: Option<&'a str>,
    pub node: Option<&'a str>,
    pub session: Option<&'a dyn Display>,
    pub tls: Option<TlsPeer<'a>>,
}

/// What was answered, and to what.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Response<'a> {
    pub code: u16,
    #[serde(rename = "enhanced_code", skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<EnhancedCode>,
    pub content: &'a str,
    /// The one that was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'a str>,
}

/// The other end.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PeerAddress<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr: Option<IpAddr>,
}

/// How the other end was talked to.
#[derive(Clone, Copy, Debug)]
pub struct TlsPeer<'a> {
    pub cipher: &'a str,
    pub version: &'a str,
    /// The subject of its certificate.
    pub subject: Option<&'a str>,
}

impl EventKind {
    pub const ALL: [Self; 10] = [
        Self::Reception,
        Self::Delivery,
        Self::TransientFailure,
        Self::Bounce,
        Self::Expiration,
        Self::Delayed,
        Self::AdminBounce,
        Self::AdminRebind,
        Self::Rejection,
        Self::Automation,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reception => "Reception",
            Self::Delivery => "Delivery",
            Self::TransientFailure => "TransientFailure",
            Self::Bounce => "Bounce",
            Self::Expiration => "Expiration",
            Self::Delayed => "Delayed",
            Self::AdminBounce => "AdminBounce",
            Self::AdminRebind => "AdminRebind",
            Self::Rejection => "Rejection",
            Self::Automation => "Automation",
        }
    }

    /// By its name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

impl<'a> Event<'a> {
    pub fn new(kind: EventKind, at_ms: i64) -> Self {
        Self {
            kind,
            at_ms,
            id: None,
            sender: None,
            recipient: None,
            queue: None,
            site: None,
            size: None,
            response: None,
            peer: None,
            created_s: None,
            attempts: None,
            bounce_class: None,
            egress_pool: None,
            egress_source: None,
            source_address: None,
            tenant: None,
            campaign: None,
            delivery_protocol: None,
            reception_protocol: None,
            node: None,
            session: None,
            tls: None,
        }
    }

    /// Appends the line with its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("a vector takes all bytes, and all keys are strings");
        out.push(b'\n');
    }
}

impl<'a> Response<'a> {
    pub fn of(reply: &'a Reply, command: Option<&'a str>) -> Self {
        Self { code: reply.code, enhanced: reply.enhanced, content: &reply.text, command }
    }
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Fields(serializer.serialize_map(None)?);
        fields.put("type", self.kind.name())?;
        fields.put_some("id", self.id.map(Shown))?;
        fields.put_some("sender", self.sender.map(Shown))?;
        fields.put_some("recipient", self.recipient.map(Shown))?;
        fields.put_some("queue", self.queue)?;
        fields.put_some("site", self.site)?;
        fields.put_some("size", self.size)?;
        fields.put_some("response", self.response)?;
        fields.put_some("peer_address", self.peer)?;
        fields.put("timestamp", &self.at_ms.div_euclid(1000))?;
        fields.put("event_time", &Shown(&Rfc3339Millis(self.at_ms)))?;
        fields.put_some("created", self.created_s)?;
        fields.put_some("num_attempts", self.attempts)?;
        fields.put_some("bounce_classification", self.bounce_class)?;
        fields.put_some("egress_pool", self.egress_pool)?;
        fields.put_some("egress_source", self.egress_source)?;
        fields.put_some("source_address", self.source_address.map(|address| SourceAddress { address }))?;
        if self.tenant.is_some() || self.campaign.is_some() {
            fields.put("meta", &Meta { tenant: self.tenant, campaign: self.campaign })?;
        }
        fields.put_some("delivery_protocol", self.delivery_protocol)?;
        fields.put_some("reception_protocol", self.reception_protocol)?;
        fields.put_some("nodeid", self.node)?;
        fields.put_some("session_id", self.session.map(Shown))?;
        fields.put_some("tls_cipher", self.tls.map(|tls| tls.cipher))?;
        fields.put_some("tls_protocol_version", self.tls.map(|tls| tls.version))?;
        fields.put_some("tls_peer_subject_name", self.tls.and_then(|tls| tls.subject))?;
        fields.0.end()
    }
}

struct Fields<M>(M);

impl<M: SerializeMap> Fields<M> {
    fn put(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), M::Error> {
        self.0.serialize_entry(name, value)
    }

    fn put_some(&mut self, name: &'static str, value: Option<impl Serialize>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.put(name, &value))
    }
}

/// `campaign:tenant@domain`, as far as there are such; empty without a domain.
pub fn queue_name<'a>(campaign: Option<&str>, tenant: Option<&str>, domain: &'a str) -> Cow<'a, str> {
    if domain.is_empty() || (campaign.is_none() && tenant.is_none()) {
        return Cow::Borrowed(domain);
    }
    let campaign = campaign.map(|campaign| format!("{campaign}:")).unwrap_or_default();
    let tenant = tenant.map(|tenant| format!("{tenant}@")).unwrap_or_default();
    Cow::Owned(format!("{campaign}{tenant}{domain}"))
}

/// As a string, written straight into the buffer.
struct Shown<'a>(&'a dyn Display);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// KumoMTA wraps the address, since other kinds of it have more to say.
#[derive(Serialize)]
struct SourceAddress {
    address: SocketAddr,
}

#[derive(Serialize)]
struct Meta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Event, EventKind, PeerAddress, Response, TlsPeer};
    use crate::mail::address::Address;
    use crate::mail::reply::{EnhancedCode, Reply};

    fn read(event: &Event<'_>) -> Value {
        let mut line = Vec::new();
        event.write(&mut line);
        assert_eq!(memchr::memchr_iter(b'\n', &line).collect::<Vec<_>>(), [line.len() - 1]);
        serde_json::from_slice(&line).expect("a line is JSON")
    }

    #[test]
    fn names_of_queues() {
        for (campaign, tenant, domain, expected) in [
            (None, None, "x.test", "x.test"),
            (None, Some("acme"), "x.test", "acme@x.test"),
            (Some("spring"), Some("acme"), "x.test", "spring:acme@x.test"),
            (None, Some("acme"), "", ""),
        ] {
            assert_eq!(super::queue_name(campaign, tenant, domain), expected);
        }
    }

    #[test]
    fn names_are_those_of_kumomta() {
        let reply = Reply::new(250, EnhancedCode::new(2, 0, 0), "taken\nas \"7\"");
        let address = Address::parse("bob@example.org").expect("an address");
        let event = Event {
            id: Some(&"00010000002A"),
            sender: Some(&""),
            recipient: Some(&address),
            queue: Some("spring:acme@example.org"),
            site: Some("mx.example.org"),
            size: Some(4096),
            response: Some(Response::of(&reply, Some("."))),
            peer: Some(PeerAddress { name: Some("mx.example.org"), addr: "192.0.2.1".parse().ok() }),
            created_s: Some(1_790_000_000),
            attempts: Some(2),
            bounce_class: Some("InvalidRecipient"),
            egress_pool: Some("pool"),
            egress_source: Some("ip-1"),
            source_address: "192.0.2.9:4025".parse().ok(),
            tenant: Some("acme"),
            delivery_protocol: Some("ESMTP"),
            reception_protocol: Some("HTTP"),
            node: Some("mail.example.test"),
            session: Some(&"s1"),
            tls: Some(TlsPeer { cipher: "TLS_AES_128_GCM_SHA256", version: "TLSv1.3", subject: None }),
            ..Event::new(EventKind::Delivery, 1_790_000_001_250)
        };
        let expected = json!({
            "type": "Delivery", "id": "00010000002A", "sender": "", "recipient": "bob@example.org",
            "queue": "spring:acme@example.org", "site": "mx.example.org", "size": 4096,
            "response": {
                "code": 250, "enhanced_code": {"class": 2, "subject": 0, "detail": 0},
                "content": "taken\nas \"7\"", "command": "."
            },
            "peer_address": {"name": "mx.example.org", "addr": "192.0.2.1"},
            "timestamp": 1_790_000_001, "event_time": "2026-09-21T14:13:21.250Z", "created": 1_790_000_000,
            "num_attempts": 2, "bounce_classification": "InvalidRecipient",
            "egress_pool": "pool", "egress_source": "ip-1", "source_address": {"address": "192.0.2.9:4025"},
            "meta": {"tenant": "acme"}, "delivery_protocol": "ESMTP", "reception_protocol": "HTTP",
            "nodeid": "mail.example.test", "session_id": "s1",
            "tls_cipher": "TLS_AES_128_GCM_SHA256", "tls_protocol_version": "TLSv1.3"
        });
        assert_eq!(read(&event), expected);
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let event = Event::new(EventKind::Automation, 999);
        let expected =
            json!({"type": "Automation", "timestamp": 0, "event_time": "1970-01-01T00:00:00.999Z"});
        assert_eq!(read(&event), expected);
    }

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::named(&kind.name().to_lowercase()), Some(kind));
        }
        assert_eq!(EventKind::named("Deliver"), None);
    }
}
