//! Which shaping holds for a site: all `[[shaping]]` sections that match, the most exact one on top.
//!
//! A section says only what is to be different. For each key the most exact matching section that has it wins: first
//! by `domain`, among equals by `mx`, then one that names the tenant, then one that names the source. What nobody
//! says is the default.
//!
//! Invariant: the answer depends on the domain or the tenant only where [`ShapingTable::apart`] says so; all others
//! that lead to the same hosts share one site, whose limits are then the same for each of them.

use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::queue::pattern::Pattern;
use crate::queue::policy::{EightBit, Rate, Shaping, SourceId, Tls};

/// All sections, the least exact first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShapingTable {
    sections: Vec<Section>,
}

/// What one section says, and about what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    pub matches: ShapingMatch,
    pub sets: Overlay,
}

/// Which mail a section is for. In the order of their weight.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ShapingMatch {
    /// Of the recipient.
    pub domain: Pattern,
    /// All hosts of the site.
    pub mx: Pattern,
    pub tenant: Option<String>,
    /// The name of the source.
    pub source: Option<String>,
}

/// What is different from the shaping below.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overlay {
    pub connections: Option<NonZeroU32>,
    pub site_connections: Option<NonZeroU32>,
    pub connection_rate: Option<RateKey>,
    pub message_rate: Option<RateKey>,
    pub messages_per_connection: Option<NonZeroU32>,
    pub recipients_per_message: Option<NonZeroU32>,
    pub idle: Option<Duration>,
    pub failures_until_dead: Option<NonZeroU32>,
    pub dead_first: Option<Duration>,
    pub dead_max: Option<Duration>,
    pub tls: Option<Tls>,
    pub eight_bit: Option<EightBit>,
    pub connect: Option<Duration>,
    pub greeting: Option<Duration>,
    pub command: Option<Duration>,
    pub data: Option<Duration>,
    pub block: Option<Duration>,
    pub end: Option<Duration>,
    pub transaction: Option<Duration>,
}

/// A rate, or none although a less exact section has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateKey {
    None,
    Rate(Rate),
}

/// Whose shaping is sought.
#[derive(Clone, Copy, Debug)]
pub struct ShapingAsk<'a> {
    pub hosts: &'a [String],
    pub domain: &'a str,
    pub tenant: Option<&'a str>,
    /// `None`: for the site as a whole.
    pub source: Option<SourceId>,
}

/// What must not share a site with others that lead to the same hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Apart<'a> {
    /// The domain, if a section names it.
    pub domain: Option<&'a str>,
    /// The tenant, if a section names it.
    pub tenant: Option<&'a str>,
}

impl ShapingTable {
    /// In the order of the text; no two for the same mail.
    pub fn new(mut sections: Vec<Section>) -> Self {
        sections.sort_by(|left, right| left.matches.cmp(&right.matches));
        Self { sections }
    }

    pub fn shaping(&self, ask: &ShapingAsk<'_>) -> Shaping {
        let mut shaping = Shaping::default();
        for section in self.sections.iter().filter(|section| section.matches.matches(ask)) {
            section.sets.lay_over(&mut shaping);
        }
        shaping
    }

    pub fn apart<'a>(&self, domain: &'a str, tenant: Option<&'a str>) -> Apart<'a> {
        let all = || self.sections.iter().map(|section| &section.matches);
        let names_domain = all().any(|matches| !matches.domain.is_any() && matches.domain.matches(domain));
        let names_tenant =
            all().any(|matches| matches.tenant.is_some() && matches.tenant.as_deref() == tenant);
        Apart { domain: names_domain.then_some(domain), tenant: tenant.filter(|_| names_tenant) }
    }

    /// Some section is for this source.
    pub fn names_source(&self, source: SourceId) -> bool {
        self.sections.iter().any(|section| section.matches.source_id() == Some(source))
    }

    /// The sections that match, the most exact last.
    pub fn matching<'a>(&'a self, ask: &'a ShapingAsk<'a>) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |section| section.matches.matches(ask))
    }
}

impl ShapingMatch {
    fn matches(&self, ask: &ShapingAsk<'_>) -> bool {
        let is_tenant = self.tenant.is_none() || self.tenant.as_deref() == ask.tenant;
        let is_source = self.source.is_none() || self.source_id() == ask.source;
        is_tenant && is_source && self.domain.matches(ask.domain) && self.mx.matches_all(ask.hosts)
    }

    fn source_id(&self) -> Option<SourceId> {
        self.source.as_deref().map(SourceId::of)
    }

    /// Whether both are for just the same mail.
    pub fn is_same(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl std::fmt::Display for ShapingMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        if !self.domain.is_any() {
            words.push(format!("domain {}", self.domain));
        }
        if !self.mx.is_any() {
            words.push(format!("mx {}", self.mx));
        }
        words.extend(self.tenant.iter().map(|tenant| format!("tenant {tenant}")));
        words.extend(self.source.iter().map(|source| format!("source {source}")));
        if words.is_empty() { f.write_str("all mail") } else { f.write_str(&words.join(", ")) }
    }
}

impl RateKey {
    fn rate(self) -> Option<Rate> {
        match self {
            Self::None => None,
            Self::Rate(rate) => Some(rate),
        }
    }
}

impl Overlay {
    fn lay_over(&self, shaping: &mut Shaping) {
        fn set<T: Copy>(value: &mut T, key: Option<T>) {
            *value = key.unwrap_or(*value);
        }
        set(&mut shaping.connections, self.connections);
        set(&mut shaping.site_connections, self.site_connections);
        set(&mut shaping.connection_rate, self.connection_rate.map(RateKey::rate));
        set(&mut shaping.message_rate, self.message_rate.map(RateKey::rate));
        set(&mut shaping.messages_per_connection, self.messages_per_connection);
        set(&mut shaping.recipients_per_message, self.recipients_per_message);
        set(&mut shaping.idle, self.idle);
        set(&mut shaping.failures_until_dead, self.failures_until_dead);
        set(&mut shaping.dead_first, self.dead_first);
        set(&mut shaping.dead_max, self.dead_max);
        set(&mut shaping.tls, self.tls);
        set(&mut shaping.eight_bit, self.eight_bit);
        let timeouts = &mut shaping.timeouts;
        set(&mut timeouts.connect, self.connect);
        set(&mut timeouts.greeting, self.greeting);
        set(&mut timeouts.command, self.command);
        set(&mut timeouts.data, self.data);
        set(&mut timeouts.block, self.block);
        set(&mut timeouts.end, self.end);
        set(&mut timeouts.transaction, self.transaction);
    }
}
