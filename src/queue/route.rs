//! Which way a message goes: by the MX records of its destination, or to hosts that the operator names.
//!
//! Of the routes that match, the most exact one is taken: first by `domain` (a name, then the longest `*.name`, then
//! `*`), among equals by `mx` in the same way, then by `sender_domain`, then one that names the tenant before one that
//! names none. No two routes are equal in all four, so there is always one answer. Without any, the MX records say.
//!
//! Invariant: a route with credentials never goes without TLS.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::pattern::Pattern;
use super::policy::{Credentials, PoolId, RetryPolicy, Tls, TlsBegins};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub matches: RouteMatch,
    pub way: Way,
    pub protocol: Protocol,
    pub credentials: Option<Credentials>,
    /// `None`: what shaping says.
    pub tls: Option<Tls>,
    pub tls_begins: TlsBegins,
    pub pool: Option<PoolId>,
    /// `None`: that of the whole queue.
    pub retry: Option<RetryPolicy>,
}

/// Which mail a route is for. In the order of their weight.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RouteMatch {
    pub domain: Pattern,
    /// All hosts of the destination's MX records.
    pub mx: Pattern,
    /// The null sender's is empty, which only `*` matches.
    pub sender_domain: Pattern,
    pub tenant: Option<String>,
}

/// How the hosts are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the MX records of the destination.
    Mx { port: u16 },
    /// At least one, in order of preference.
    Hosts(Vec<Target>),
    /// At least one; each gets its share of the connections.
    Shared(Vec<(Target, NonZeroU32)>),
}

/// A host to send to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    Address(IpAddr),
    /// To be looked up; lower case, A-labels.
    Name(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// Whose route is sought.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Of the recipient.
    pub domain: &'a str,
    /// Empty for the null sender.
    pub sender_domain: &'a str,
    pub tenant: Option<&'a str>,
    /// The hosts of the MX records; `None` while they have not been looked up.
    pub mx: Option<&'a [String]>,
}

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'a> {
    Route(&'a Route),
    /// No route: the MX records say.
    Direct,
    /// It depends on the MX records: ask again with them.
    NeedsMx,
}

/// All routes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    /// The most exact first.
    routes: Vec<Route>,
}

impl Routes {
    /// In any order; no two for the same mail.
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by(|left, right| right.matches.cmp(&left.matches));
        Self { routes }
    }

    pub fn find(&self, ask: &Ask<'_>) -> Found<'_> {
        let found = self.routes.iter().find(|route| route.matches.may_match(ask));
        match found {
            Some(route) if ask.mx.is_none() && !route.matches.mx.is_any() => Found::NeedsMx,
            Some(route) => Found::Route(route),
            None => Found::Direct,
        }
    }

    /// Why `find` answers as it does: a line for each route, the chosen one first.
    pub fn explain(&self, ask: &Ask<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        match self.find(ask) {
            Found::Route(route) => lines.push(format!("route: {route}")),
            Found::Direct => lines.push("route: none matches; by the MX records of the domain".to_owned()),
            Found::NeedsMx => lines.push("route: depends on the MX records of the domain".to_owned()),
        }
        let is_chosen = |route: &&Route| self.find(ask) == Found::Route(route);
        for route in self.routes.iter().filter(|route| !is_chosen(route)) {
            let why = route.matches.mismatch(ask).unwrap_or_else(|| "it is less exact".to_owned());
            lines.push(format!("not the route for {}: {why}", route.matches));
        }
        lines
    }

    /// The most exact first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl RouteMatch {
    /// It does, or it would with the right MX records where they are not known.
    fn may_match(&self, ask: &Ask<'_>) -> bool {
        self.mismatch(ask).is_none()
    }

    /// What about the mail is not as the route says.
    fn mismatch(&self, ask: &Ask<'_>) -> Option<String> {
        if !self.domain.matches(ask.domain) {
            return Some(format!("the domain is {}", ask.domain));
        }
        if let Some(hosts) = ask.mx
            && !self.mx.matches_all(hosts)
        {
            return Some(format!("the MX hosts are {}", hosts.join(", ")));
        }
        let is_null = ask.sender_domain.is_empty();
        if !self.sender_domain.is_any() && (is_null || !self.sender_domain.matches(ask.sender_domain)) {
            let sender = ask.sender_domain;
            return Some(if is_null {
                "it has no sender".into()
            } else {
                format!("the sender is of {sender}")
            });
        }
        if self.tenant.is_some() && self.tenant.as_deref() != ask.tenant {
            return Some(format!("the tenant is {}", ask.tenant.unwrap_or("none")));
        }
        None
    }

    /// Whether both are for just the same mail.
    pub fn is_same(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}", self.domain)?;
        if !self.mx.is_any() {
            write!(f, ", mx {}", self.mx)?;
        }
        if !self.sender_domain.is_any() {
            write!(f, ", sender domain {}", self.sender_domain)?;
        }
        match &self.tenant {
            Some(tenant) => write!(f, ", tenant {tenant}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Route {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for {}: {}", self.matches, self.way)?;
        if self.protocol == Protocol::Lmtp {
            f.write_str(" by LMTP")?;
        }
        if let Some(tls) = self.tls {
            write!(f, ", TLS {}", format!("{tls:?}").to_lowercase())?;
        }
        match &self.credentials {
            Some(credentials) => write!(f, ", as {}", credentials.username),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, words: Vec<String>| write!(f, "to {}", words.join(", "));
        match self {
            Self::Mx { port } => write!(f, "to the MX hosts, port {port}"),
            Self::Hosts(targets) => list(f, targets.iter().map(Target::to_string).collect()),
            Self::Shared(targets) => {
                let word = |(target, weight): &(Target, NonZeroU32)| format!("{target} (weight {weight})");
                list(f, targets.iter().map(word).collect())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Found, Pattern, Protocol, Route, RouteMatch, Routes, TlsBegins, Way};

    fn pattern(text: &str) -> Pattern {
        match text.strip_prefix("*.") {
            Some(domain) => Pattern::under(domain),
            None if text == "*" => Pattern::Any,
            None => Pattern::Exactly(text.to_owned()),
        }
    }

    /// The port tells the routes apart.
    fn routes(rows: &[(&str, &str, &str, &str)]) -> Routes {
        let route = |(port, &(domain, mx, sender_domain, tenant)): (u16, &(&str, &str, &str, &str))| Route {
            matches: RouteMatch {
                domain: pattern(domain),
                mx: pattern(mx),
                sender_domain: pattern(sender_domain),
                tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
            },
            way: Way::Mx { port },
            protocol: Protocol::Smtp,
            credentials: None,
            tls: None,
            tls_begins: TlsBegins::Starttls,
            pool: None,
            retry: None,
        };
        Routes::new((0..).zip(rows).map(route).collect())
    }

    fn port(found: Found<'_>) -> Option<u16> {
        match found {
            Found::Route(Route { way: Way::Mx { port }, .. }) => Some(*port),
            _ => None,
        }
    }

    #[test]
    fn the_most_exact_route_wins() {
        let routes = routes(&[
            ("*", "*", "*", ""),
            ("a.example", "*", "*", ""),
            ("*.example", "*", "*", "acme"),
            ("*.b.example", "*", "*", ""),
            ("*", "*.google.com", "*", ""),
            ("*", "*", "sender.example", ""),
            ("*", "*", "sender.example", "acme"),
            ("a.example", "*", "*", "acme"),
        ]);
        let google = ["x.google.com".to_owned()];
        let other = ["mx.other.example".to_owned()];
        type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a [String], u16);
        let table: [Row<'_>; 10] = [
            ("a.example", "", None, &other, 1),
            ("a.example", "sender.example", Some("acme"), &google, 7),
            ("c.example", "", Some("acme"), &other, 2),
            ("c.example", "", Some("else"), &other, 0),
            ("c.b.example", "", Some("acme"), &other, 3),
            ("c.test", "", None, &google, 4),
            ("c.test", "sender.example", Some("acme"), &google, 4),
            ("c.test", "sender.example", Some("acme"), &other, 6),
            ("c.test", "sender.example", None, &other, 5),
            ("c.test", "", None, &[], 0),
        ];
        for (domain, sender_domain, tenant, mx, expected) in table {
            let ask = Ask { domain, sender_domain, tenant, mx: Some(mx) };
            assert_eq!(port(routes.find(&ask)), Some(expected), "{ask:?}");
        }
    }

    #[test]
    fn mx_records_are_asked_for_only_where_they_decide() {
        let routes = routes(&[("*", "*.google.com", "*", ""), ("a.example", "*", "*", "")]);
        let ask = |domain| Ask { domain, sender_domain: "", tenant: None, mx: None };
        assert_eq!(port(routes.find(&ask("a.example"))), Some(1));
        assert_eq!(routes.find(&ask("b.example")), Found::NeedsMx);
        let none = Ask { mx: Some(&[]), ..ask("b.example") };
        assert_eq!(routes.find(&none), Found::Direct);
        assert_eq!(Routes::default().find(&ask("b.example")), Found::Direct);
    }

    #[test]
    fn reasons() {
        let routes = routes(&[
            ("*", "*", "*", ""),
            ("a.example", "*", "*", ""),
            ("*.example", "*", "sender.example", "acme"),
            ("b.example", "*", "*", ""),
        ]);
        let mx = ["mx.test".to_owned()];
        let ask = Ask { domain: "a.example", sender_domain: "", tenant: None, mx: Some(&mx) };
        assert_eq!(
            routes.explain(&ask),
            [
                "route: for domain a.example: to the MX hosts, port 1",
                "not the route for domain b.example: the domain is a.example",
                "not the route for domain *.example, sender domain sender.example, tenant acme: it has no sender",
                "not the route for domain *: it is less exact",
            ]
        );
    }
}
