//! What the `[[route]]` sections mean.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use toml::Spanned;

use super::check::{self, Names, pattern, pool_id, tenant_name};
use super::keys::RouteKeys;
use crate::config::check::{number, path};
use crate::config::document::Problems;
use crate::queue::policy::{Credentials, PoolId, RetryPolicy, Tls, TlsBegins};
use crate::queue::route::{Host, Protocol, Route, RouteMatch, Target, Way};

const SMTP_PORT: u16 = 25;

/// LMTP has no port of its own, only one that it must not use; this is the one that is asked for most.
const LMTP_PORT: u16 = 24;

/// In the order of the text.
pub fn routes(
    all: &[RouteKeys],
    default: &RetryPolicy,
    names: &Names,
    problems: &mut Problems<'_>,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for keys in all {
        let route = route(keys, default, names, problems);
        if routes.iter().any(|other| other.matches.is_same(&route.matches)) {
            let text = format!("another route is for {} already, expected one", route.matches);
            problems.add(anchor(keys), text);
        }
        routes.push(route);
    }
    routes
}

fn route(keys: &RouteKeys, default: &RetryPolicy, names: &Names, problems: &mut Problems<'_>) -> Route {
    let credentials = credentials(keys, problems);
    Route {
        matches: RouteMatch {
            domain: pattern(&keys.domain, "domain", problems),
            mx: pattern(&keys.mx, "mx", problems),
            sender_domain: pattern(&keys.sender_domain, "sender_domain", problems),
            tenant: tenant_name(&keys.tenant, names, problems),
        },
        way: way(keys, problems),
        protocol: keys.protocol.as_ref().map(|protocol| *protocol.get_ref()).unwrap_or_default(),
        tls: tls(keys, credentials.is_some(), problems),
        tls_begins: keys.tls_begins.as_ref().map(|begins| *begins.get_ref()).unwrap_or_default(),
        credentials,
        pool: pool(keys, names, problems),
        retry: retry(keys, default, problems),
    }
}

fn pool(keys: &RouteKeys, names: &Names, problems: &mut Problems<'_>) -> Option<PoolId> {
    keys.pool.as_ref().and_then(|pool| pool_id(pool, names, problems))
}

/// Where a problem with the section as a whole is shown: at its first key of those that most have.
fn anchor(keys: &RouteKeys) -> std::ops::Range<usize> {
    let texts = [
        &keys.domain,
        &keys.mx,
        &keys.sender_domain,
        &keys.tenant,
        &keys.username,
        &keys.password_file,
        &keys.pool,
    ];
    let spans = texts.into_iter().flatten().map(Spanned::span).chain(keys.to.iter().map(Spanned::span));
    spans.chain(keys.tls.iter().map(Spanned::span)).min_by_key(|span| span.start).unwrap_or_default()
}

fn way(keys: &RouteKeys, problems: &mut Problems<'_>) -> Way {
    let is_lmtp = keys.protocol.as_ref().is_some_and(|protocol| *protocol.get_ref() == Protocol::Lmtp);
    let said = keys.port.as_ref().map(|port| number(port, "port", 1..=i64::from(u16::MAX), problems));
    let usual = if is_lmtp { LMTP_PORT } else { SMTP_PORT };
    let port = said.and_then(|port| u16::try_from(port).ok()).unwrap_or(usual);
    let Some(to) = &keys.to else {
        if let Some(weights) = &keys.weights {
            problems.add(weights.span(), "`weights`: there is no `to` that they could be for");
        }
        if let Some(protocol) = keys.protocol.as_ref().filter(|_| is_lmtp) {
            problems
                .add(protocol.span(), "`protocol`: \"lmtp\" needs hosts in `to`; MX records are for SMTP");
        }
        return Way::Mx { port };
    };
    if to.get_ref().is_empty() {
        problems.add(to.span(), "`to`: found an empty list, expected at least one host");
    }
    let targets: Vec<Target> = to.get_ref().iter().filter_map(|text| target(text, port, problems)).collect();
    // RFC 2033 5.
    if is_lmtp && targets.iter().any(|target| target.port == SMTP_PORT) {
        problems
            .add(to.span(), "`to`: found port 25, expected another: it is SMTP's, and LMTP must not use it");
    }
    let weights = check::weights(&keys.weights, to.get_ref().len(), "to", problems);
    if weights.is_empty() {
        return Way::Hosts(targets);
    }
    let weight = |index: usize| weights.get(index).copied().unwrap_or(NonZeroU32::MIN);
    Way::Shared(targets.into_iter().enumerate().map(|(index, target)| (target, weight(index))).collect())
}

fn credentials(keys: &RouteKeys, problems: &mut Problems<'_>) -> Option<Credentials> {
    match (&keys.username, &keys.password_file) {
        (Some(username), Some(file)) => {
            if keys.to.is_none() {
                let text =
                    "`username`: a login is for the hosts in `to`, not for whatever host an MX record names";
                problems.add(username.span(), text);
            }
            let password_file = path(file, "password_file", problems);
            Some(Credentials { username: username.get_ref().clone(), password_file })
        }
        (Some(username), None) => {
            problems.add(username.span(), "`username`: it needs a `password_file` beside it");
            None
        }
        (None, Some(file)) => {
            problems.add(file.span(), "`password_file`: it needs a `username` beside it");
            None
        }
        (None, None) => None,
    }
}

fn tls(keys: &RouteKeys, has_login: bool, problems: &mut Problems<'_>) -> Option<Tls> {
    let begins = keys.tls_begins.as_ref().map(|begins| *begins.get_ref()).unwrap_or_default();
    let Some(tls) = &keys.tls else {
        // A password goes only to a host that has shown who it is, unless the operator says otherwise.
        let implied = if has_login { Some(Tls::Verified) } else { None };
        return implied.or((begins == TlsBegins::Implicit).then_some(Tls::Required));
    };
    let is_certain = matches!(tls.get_ref(), Tls::Required | Tls::Verified);
    if has_login && !is_certain {
        let text = "`tls`: expected \"required\" or \"verified\" where there is a `username`: a password goes under \
                    TLS alone";
        problems.add(tls.span(), text);
    } else if begins == TlsBegins::Implicit && !is_certain {
        problems.add(
            tls.span(),
            "`tls`: expected \"required\" or \"verified\" where it begins with the first byte",
        );
    }
    Some(*tls.get_ref())
}

fn retry(keys: &RouteKeys, default: &RetryPolicy, problems: &mut Problems<'_>) -> Option<RetryPolicy> {
    let waits = [&keys.retry_first_s, &keys.retry_max_s, &keys.warn_after_s, &keys.expire_after_s];
    if waits.iter().all(|wait| wait.is_none()) {
        return None;
    }
    let mut retry = default.clone();
    check::set_waits(&mut retry, waits, problems);
    Some(retry)
}

/// `host`, `host:port`, `192.0.2.1:port` or `[IPv6]:port`.
fn target(text: &Spanned<String>, port: u16, problems: &mut Problems<'_>) -> Option<Target> {
    let found = text.get_ref().as_str();
    let target = parse_target(found, port);
    if target.is_none() {
        let example = "as in \"mx.example.net\", \"192.0.2.1:2526\" or \"[2001:db8::1]:25\"";
        problems.add(
            text.span(),
            format!("`to`: found {found:?}, expected a host and perhaps a port, {example}"),
        );
    }
    target
}

/// `port` is for a host that has none of its own.
fn parse_target(text: &str, port: u16) -> Option<Target> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0)
            .then(|| Target { host: Host::Address(address.ip()), port: address.port() });
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Some(Target { host: Host::Address(address), port });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, port),
    };
    Some(Target { host: Host::Name(crate::config::domain_name(name).ok()?), port })
}

#[cfg(test)]
mod tests {
    use super::{Host, Target, parse_target};

    #[test]
    fn targets() {
        let name = |name: &str| Host::Name(name.to_owned());
        let address = |address: &str| Host::Address(address.parse().unwrap());
        let table = [
            ("127.0.0.1:2526", Some((address("127.0.0.1"), 2526))),
            ("127.0.0.1", Some((address("127.0.0.1"), 25))),
            ("[::1]:2526", Some((address("::1"), 2526))),
            ("[::1]", Some((address("::1"), 25))),
            ("::1", Some((address("::1"), 25))),
            ("MX.example.net", Some((name("mx.example.net"), 25))),
            ("mx.example.net:587", Some((name("mx.example.net"), 587))),
            ("mx.example.net:0", None),
            ("mx.example.net:99999", None),
            ("127.0.0.1:0", None),
            ("", None),
            (":25", None),
            ("[mx.example.net]", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(host, port)| Target { host, port });
            assert_eq!(parse_target(text, 25), expected, "{text}");
        }
    }
}
