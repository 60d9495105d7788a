//! How mail leaves: the sections about routes, sources, limits, rules and tenants, and the answers they give.
//!
//! `keys` has the sections as the text has them; `check`, `routes`, `sections` and `rules` make the policies of
//! `queue` of them; `shaping` lays its sections over each other; `explain` says in words what holds for an address.
//!
//! Invariants: a pool, source or tenant that is named anywhere exists; the pool and the source `default` always do;
//! no two of a kind have the same name, nor the same id.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

pub mod check;
mod explain;
pub mod keys;
mod routes;
mod rules;
mod sections;
pub mod shaping;
#[cfg(test)]
mod tests;

use crate::queue::classify::Classifier;
use crate::queue::event::EventSettings;
use crate::queue::plan::Plan;
use crate::queue::policy::{Pool, PoolId, RetryPolicy, Shaping, Source, SourceId, Tenant};
use crate::queue::route::{Ask, Found, Route, Routes};
use crate::queue::rule::Rule;

use shaping::{ShapingAsk, ShapingTable};

/// All that an operator may decide about outbound mail, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// For mail whose route has none of its own.
    pub retry: RetryPolicy,
    /// Of the message, in a report that it did not arrive; of a longer one the header is returned.
    pub dsn_return_bytes: u64,
    pub routes: Routes,
    /// The unbound one among them.
    pub sources: Vec<Source>,
    /// The default one among them.
    pub pools: Vec<Pool>,
    pub shaping: ShapingTable,
    /// In the order of the text.
    pub rules: Vec<Rule>,
    pub tenants: Vec<Tenant>,
    pub headers: Headers,
    pub classes: Classifier,
    pub events: Events,
    pub private_addresses: PrivateAddresses,
}

/// Whether MX records may lead to addresses that are not public.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateAddresses {
    /// Whoever may send to any domain could reach what stands behind this server.
    #[default]
    Refuse,
    Allow,
}

/// Header fields of submitted mail that say whose it is. `None`: no field does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    /// With the name of a tenant.
    pub tenant: Option<String>,
    /// With the name of a campaign, for reports.
    pub campaign: Option<String>,
}

/// Where the stream of events is written, and how much of it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Events {
    /// `None`: `events` in the data directory.
    pub dir: Option<PathBuf>,
    /// A file of this size, or of this age, is followed by another.
    pub rotate_bytes: u64,
    pub rotate: Duration,
    /// Files beyond this size together, or older than this, are deleted; `None`: never.
    pub keep_bytes: Option<u64>,
    pub keep: Option<Duration>,
    /// Mail for accounts here has events, too.
    pub local: bool,
}

/// A site, whose policies are sought.
#[derive(Clone, Copy, Debug)]
pub struct SiteAsk<'a> {
    /// The hosts of the MX records, or of the route.
    pub hosts: &'a [String],
    /// One of the domains that lead there, and the tenant of the mail.
    pub domain: &'a str,
    pub tenant: Option<&'a str>,
    pub route: Option<&'a Route>,
}

impl Events {
    /// For a server with this data directory.
    pub fn settings(&self, data: &Path) -> EventSettings {
        EventSettings {
            dir: self.dir.clone().unwrap_or_else(|| data.join("events")),
            rotate_bytes: self.rotate_bytes,
            rotate_s: self.rotate.as_secs(),
            keep_bytes: self.keep_bytes.unwrap_or(u64::MAX),
            keep_s: self.keep.map_or(u64::MAX, |keep| keep.as_secs()),
        }
    }
}

impl Outbound {
    /// The one whose login this is.
    pub fn tenant_of(&self, login: &str) -> Option<&Tenant> {
        let has_login =
            |tenant: &&Tenant| tenant.logins.iter().any(|known| known.eq_ignore_ascii_case(login));
        self.tenants.iter().find(has_login)
    }

    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    pub fn route_for(&self, ask: &Ask<'_>) -> Found<'_> {
        self.routes.find(ask)
    }

    /// The route's, else the tenant's, else the default.
    pub fn pool_for(&self, route: Option<&Route>, tenant: Option<&Tenant>) -> PoolId {
        let of_route = route.and_then(|route| route.pool);
        of_route.or_else(|| tenant.and_then(|tenant| tenant.pool)).unwrap_or_default()
    }

    pub fn retry_for<'a>(&'a self, route: Option<&'a Route>) -> &'a RetryPolicy {
        route.and_then(|route| route.retry.as_ref()).unwrap_or(&self.retry)
    }

    /// The name of a site, which tells it from all others: what it is called by its hosts, and whose it is alone.
    pub fn site_name(&self, hosts_name: &str, domain: &str, tenant: Option<&str>) -> String {
        let apart = self.shaping.apart(domain, tenant);
        let mut name = hosts_name.to_owned();
        if let Some(domain) = apart.domain {
            name.push_str(&format!(" for {domain}"));
        }
        if let Some(tenant) = apart.tenant {
            name.push_str(&format!(" of {tenant}"));
        }
        name
    }

    /// What holds at a site for one source; without one, for the site as a whole.
    pub fn shaping_for(&self, ask: &SiteAsk<'_>, source: Option<SourceId>) -> Shaping {
        let &SiteAsk { hosts, domain, tenant, route } = ask;
        let mut shaping = self.shaping.shaping(&ShapingAsk { hosts, domain, tenant, source });
        shaping.tls = route.and_then(|route| route.tls).unwrap_or(shaping.tls);
        shaping
    }

    /// What a site has to know to send mail of these pools.
    pub fn plan_for(&self, ask: &SiteAsk<'_>, pools: &[PoolId]) -> Plan {
        let whole = Rc::new(self.shaping_for(ask, None));
        let known = self.pools.iter().filter(|pool| pools.contains(&pool.id())).cloned().collect();
        Plan::new(Rc::clone(&whole), known, |source| {
            if self.shaping.names_source(source) {
                Rc::new(self.shaping_for(ask, Some(source)))
            } else {
                Rc::clone(&whole)
            }
        })
    }

    /// The least ages, in seconds, at which any sender is warned and any mail returned.
    pub fn shortest_patience(&self) -> (u64, u64) {
        let all = || self.routes.iter().filter_map(|route| route.retry.as_ref()).chain([&self.retry]);
        let warns = all().filter_map(|retry| retry.warn_after).min().unwrap_or(Duration::MAX);
        let expires = all().map(|retry| retry.expire_after).min().unwrap_or(Duration::MAX);
        (warns.as_secs(), expires.as_secs())
    }

    pub fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.iter().find(|source| source.id() == id)
    }

    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.id() == id)
    }
}
