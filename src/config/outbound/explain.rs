//! What holds for mail to an address, in lines for an operator.

use std::time::Duration;

use super::shaping::ShapingAsk;
use super::{Outbound, SiteAsk};
use crate::queue::policy::{Pool, Rate, Shaping, Source};
use crate::queue::route::{Ask, Found, Way};

impl Outbound {
    /// Why mail goes as it does: route, hosts, pool, limits and retries, each with its reason.
    pub fn explain(&self, ask: &Ask<'_>) -> Vec<String> {
        let mut lines = self.routes.explain(ask);
        let route = match self.routes.find(ask) {
            Found::Route(route) => Some(route),
            _ => None,
        };
        let hosts = match route.map(|route| &route.way) {
            Some(Way::Hosts(targets)) => targets.iter().map(|target| target.host.to_string()).collect(),
            Some(Way::Shared(targets)) => targets.iter().map(|(target, _)| target.host.to_string()).collect(),
            _ => ask.mx.unwrap_or_default().to_vec(),
        };
        let tenant = ask.tenant.and_then(|name| self.tenant(name));
        let why = match (route.and_then(|route| route.pool), tenant.and_then(|tenant| tenant.pool)) {
            (Some(_), _) => "by the route",
            (None, Some(_)) => "by the tenant",
            (None, None) => "nothing names another",
        };
        let pool = self.pool(self.pool_for(route, tenant));
        lines.extend(pool.map(|pool| format!("pool: {} ({why}): {}", pool.name, self.members(pool))));
        let site = SiteAsk { hosts: &hosts, domain: ask.domain, tenant: ask.tenant, route };
        let of_pool = pool.into_iter().flat_map(|pool| &pool.members).map(|member| member.source);
        for source in of_pool.filter_map(|id| self.source(id)) {
            lines.extend(self.explain_shaping(&site, source));
        }
        let retry = self.retry_for(route);
        let by = if route.is_some_and(|route| route.retry.is_some()) { "by the route" } else { "by [queue]" };
        let warn =
            retry.warn_after.map_or_else(|| "never".to_owned(), |after| format!("after {}", words(after)));
        lines.push(format!(
            "retry ({by}): first after {}, doubling to {}, sender warned {warn}, returned after {}",
            words(retry.first),
            words(retry.max),
            words(retry.expire_after)
        ));
        if let Some(rate) = tenant.and_then(|tenant| tenant.message_rate) {
            lines.push(format!("tenant: at most {rate} to all destinations"));
        }
        lines
    }

    fn members(&self, pool: &Pool) -> String {
        let word = |member: &crate::queue::policy::Member| {
            let name = self.source(member.source).map_or("?", |source| source.name.as_str());
            format!("{name} (weight {})", member.weight)
        };
        pool.members.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn explain_shaping(&self, site: &SiteAsk<'_>, source: &Source) -> Vec<String> {
        let SiteAsk { hosts, domain, tenant, .. } = *site;
        let ask = ShapingAsk { hosts, domain, tenant, source: Some(source.id()) };
        let by: Vec<String> =
            self.shaping.matching(&ask).map(|section| section.matches.to_string()).collect();
        let by = if by.is_empty() { "defaults".to_owned() } else { by.join("; then ") };
        let address = source.address.map_or_else(|| "any address".to_owned(), |address| address.to_string());
        let limits = limits(&self.shaping_for(site, Some(source.id())));
        let mut lines = vec![format!("source {} from {address}, shaping for {by}: {limits}", source.name)];
        if let Some(rate) = source.message_rate {
            lines.push(format!("source {}: at most {rate} to all sites", source.name));
        }
        if let Some(connections) = source.connections {
            lines.push(format!("source {}: at most {connections} connections to all sites", source.name));
        }
        if source.warm_up.is_some() {
            lines.push(format!("source {}: warming up", source.name));
        }
        lines
    }
}

fn limits(shaping: &Shaping) -> String {
    let rate = |rate: Option<Rate>| rate.map_or_else(|| "no limit".to_owned(), |rate| rate.to_string());
    format!(
        "{} connections ({} of the site), connection rate {}, message rate {}, {} messages a connection, {} \
         recipients a message, TLS {}",
        shaping.connections,
        shaping.site_connections,
        rate(shaping.connection_rate),
        rate(shaping.message_rate),
        shaping.messages_per_connection,
        shaping.recipients_per_message,
        format!("{:?}", shaping.tls).to_lowercase()
    )
}

/// `90 s`, `5 min`, `4 h`, `5 d`: in the largest unit that divides it.
fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}
