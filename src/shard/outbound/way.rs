//! Which hosts the mail for a destination goes to, and by which manners: what the configuration and the MX records
//! say together.
//!
//! A route may depend on who sends a message and for which tenant, so that a destination may have several ways. What
//! of a message decides is its [`Choice`]; most configurations ask for nothing of it, and no message is looked into.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::open::tls_policy;
use super::talk::Begins;
use crate::config::Config;
use crate::config::outbound::{PrivateAddresses, SiteAsk};
use crate::io::dns::{DnsFailure, MailHost};
use crate::limits::outbound::HOSTS_MAX;
use crate::mail::address::literal_address;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::proto::sasl::Secret;
use crate::proto::smtp::client::{
    self, EightBit, Failure, Login, LoginOver, Origin, Phase, Settings, Timeouts,
};
use crate::queue::plan::Plan;
use crate::queue::policy::{self, Pool, PoolId, RetryPolicy, Shaping, Source, SourceId, Tls, TlsBegins};
use crate::queue::retry::{DeliverBy, Life};
use crate::queue::route::{self, Ask, Found, Protocol, Route};
use crate::shard::Shard;
use crate::store::record::Message;

/// A way that could not be found is sought again so much later.
const SOUGHT_AGAIN: Duration = Duration::from_secs(120);

/// SMTP's port.
const PORT: u16 = 25;

/// What of a message decides about its way. Empty where the configuration does not ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    sender_domain: String,
    tenant: Option<String>,
}

impl Choice {
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }
}

/// See the module.
pub struct Way {
    /// The site that these hosts are.
    pub site: Arc<str>,
    pub begins: Begins,
    pub pool: PoolId,
    /// For the shaping of the site.
    destination: String,
    tenant: Option<String>,
    hosts: Vec<Ranked>,
    /// The operator named the hosts; no address is forbidden.
    is_named: bool,
    route: Option<Route>,
    login: Option<Login>,
}

/// A host and when its turn is.
#[derive(Clone)]
struct Ranked {
    /// Lower ones first.
    preference: u16,
    /// Its share among equals.
    weight: NonZeroU32,
    host: Host,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// A name to be looked up, or an address.
    pub name: String,
    pub port: u16,
}

/// Why there is no way.
pub enum Unroutable {
    /// It may be found after a while.
    Later(String, Duration),
    /// The mail can go nowhere.
    Never(Failure),
}

impl Choice {
    /// Of mail with this sender and tenant.
    pub fn of(config: &Config, sender_domain: &str, tenant: Option<&str>) -> Self {
        let sender_domain = if minds_senders(config) { sender_domain } else { "" };
        let tenant = tenant.filter(|_| minds_tenants(config));
        Self { sender_domain: sender_domain.to_owned(), tenant: tenant.map(str::to_owned) }
    }
}

/// What of this message decides.
pub fn choose(config: &Config, message: &Message) -> Choice {
    let Some(accepted) = &message.accepted else {
        return Choice::default();
    };
    let sender = accepted.envelope.sender.as_ref().filter(|_| minds_senders(config));
    let sender_domain = sender.and_then(|sender| sender.ascii_domain()).unwrap_or_default();
    Choice::of(config, &sender_domain, accepted.tenant.as_deref())
}

/// Whether anything of a message decides about its way.
pub fn is_chosen(config: &Config) -> bool {
    minds_senders(config) || minds_tenants(config)
}

/// Whether mail of this choice goes where common mail for the destination does. What depends on MX records does not
/// show.
pub fn is_common(config: &Config, destination: &str, choice: &Choice) -> bool {
    let outbound = &config.outbound;
    let route = |sender_domain, tenant| {
        outbound.routes.find(&Ask { domain: destination, sender_domain, tenant, mx: None })
    };
    let is_same_route = match (route(&choice.sender_domain, choice.tenant()), route("", None)) {
        (Found::Route(own), Found::Route(common)) => std::ptr::eq(own, common),
        (Found::Direct, Found::Direct) => true,
        _ => false,
    };
    is_same_route
        && outbound.site_name("", destination, choice.tenant()) == outbound.site_name("", destination, None)
}

/// Looks up the way of mail for a destination.
pub async fn find(shard: &Rc<Shard>, destination: &str, choice: &Choice) -> Result<Arc<Way>, Unroutable> {
    let config = shard.config();
    let Choice { sender_domain, tenant } = choice;
    let ask = Ask { domain: destination, sender_domain, tenant: tenant.as_deref(), mx: None };
    let mut known: Option<Vec<MailHost>> = None;
    let mut names = Vec::new();
    if config.outbound.routes.find(&ask) == Found::NeedsMx {
        let hosts = mail_hosts(shard, destination).await?;
        names = hosts.iter().map(|host| host.name.clone()).collect();
        known = Some(hosts);
    }
    let ask = Ask { mx: known.is_some().then_some(&*names), ..ask };
    let route = match config.outbound.routes.find(&ask) {
        Found::Route(route) => Some(route),
        Found::Direct | Found::NeedsMx => None,
    };
    let (hosts, is_named): (Vec<Ranked>, bool) = match route.map(|route| &route.way) {
        Some(route::Way::Hosts(targets)) => {
            let ranked =
                (0..).zip(targets).map(|(preference, target)| ranked(target, preference, NonZeroU32::MIN));
            (ranked.collect(), true)
        }
        Some(route::Way::Shared(targets)) => {
            (targets.iter().map(|(target, weight)| ranked(target, 0, *weight)).collect(), true)
        }
        by_mx => {
            let port = match by_mx {
                Some(route::Way::Mx { port }) => *port,
                _ => PORT,
            };
            let hosts = match known {
                Some(hosts) => hosts,
                None => mail_hosts(shard, destination).await?,
            };
            let hosts = not_us(hosts, &config.hostname)?;
            check_hosts(shard, destination, &hosts, port).await?;
            (hosts.into_iter().map(|host| of_mx(host, port)).collect(), false)
        }
    };
    let login = match route.and_then(|route| route.credentials.as_ref()) {
        Some(credentials) => Some(login(shard, credentials).await?),
        None => None,
    };
    let of_tenant = tenant.as_deref().and_then(|name| config.outbound.tenant(name));
    let pool = config.outbound.pool_for(route, of_tenant);
    let site = site_name(route, &hosts, is_named);
    let site = config.outbound.site_name(&site, destination, tenant.as_deref());
    Ok(Arc::new(Way {
        site: site.into(),
        begins: match route.map(|route| route.tls_begins) {
            Some(TlsBegins::Implicit) => Begins::Implicit,
            _ => Begins::Starttls,
        },
        pool,
        destination: destination.to_owned(),
        tenant: tenant.clone(),
        hosts,
        is_named,
        route: route.cloned(),
        login,
    }))
}

/// How patiently a message is tried.
pub fn retry(config: &Config, message: &Message, destination: &str) -> RetryPolicy {
    retry_of(config, destination, &choose(config, message)).clone()
}

/// The least ages, in seconds, at which a sender of mail for a destination is warned and the mail returned, where mail
/// of these choices waits for it.
pub fn patience(config: &Config, destination: &str, choices: &[Choice]) -> (u64, u64) {
    let of_choice = |choice| {
        let RetryPolicy { warn_after, expire_after, .. } = retry_of(config, destination, choice);
        (warn_after.unwrap_or(Duration::MAX).as_secs(), expire_after.as_secs())
    };
    let shorter = |(warns, expires): (u64, u64), (other_warns, other_expires): (u64, u64)| {
        (warns.min(other_warns), expires.min(other_expires))
    };
    if !is_chosen(config) {
        return of_choice(&Choice::default());
    }
    choices.iter().map(of_choice).reduce(shorter).unwrap_or_else(|| config.outbound.shortest_patience())
}

fn retry_of<'a>(config: &'a Config, destination: &str, choice: &Choice) -> &'a RetryPolicy {
    let Choice { sender_domain, tenant } = choice;
    let ask = Ask { domain: destination, sender_domain, tenant: tenant.as_deref(), mx: None };
    let route = match config.outbound.routes.find(&ask) {
        Found::Route(route) => Some(route),
        Found::Direct | Found::NeedsMx => None,
    };
    config.outbound.retry_for(route)
}

/// What a message itself says about its times.
pub fn life(message: &Message) -> Life {
    let envelope = message.accepted.as_ref().map(|accepted| &accepted.envelope);
    let deliver_by = envelope.and_then(|envelope| envelope.deliver_by);
    Life {
        received: message.received.seconds,
        release: envelope.and_then(|envelope| envelope.hold_until),
        deliver_by: deliver_by.map(|by| DeliverBy { at: by.at, mode: by.mode }),
    }
}

impl Way {
    /// What the site of this way must know of the configuration.
    pub fn plan(&self, config: &Config) -> Plan {
        let hosts = self.host_names();
        let pools: Vec<PoolId> = config.outbound.pools.iter().map(Pool::id).collect();
        config.outbound.plan_for(&self.ask(&hosts), &pools)
    }

    /// The hosts in the order of their preference; of equal ones each is in front as often as its weight says.
    pub fn hosts_in_order(&self, seed: u64) -> Vec<Host> {
        let mut random = seed;
        let mut keyed: Vec<(u16, f64, &Ranked)> = self
            .hosts
            .iter()
            .map(|ranked| {
                random = splitmix(random);
                (ranked.preference, wait(random, ranked.weight), ranked)
            })
            .collect();
        keyed.sort_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
        keyed.into_iter().map(|(_, _, ranked)| ranked.host.clone()).collect()
    }

    /// Names of strangers must not lead into the networks behind this server.
    pub fn may_connect(&self, config: &Config, ip: IpAddr) -> bool {
        self.is_named || config.outbound.private_addresses == PrivateAddresses::Allow || is_public(ip)
    }

    pub fn shaping(&self, config: &Config, source: SourceId) -> Shaping {
        let hosts = self.host_names();
        config.outbound.shaping_for(&self.ask(&hosts), Some(source))
    }

    fn ask<'a>(&'a self, hosts: &'a [String]) -> SiteAsk<'a> {
        let (domain, tenant, route) = (&*self.destination, self.tenant.as_deref(), self.route.as_ref());
        SiteAsk { hosts, domain, tenant, route }
    }

    /// As rules and shaping match them.
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|ranked| ranked.host.name.clone()).collect()
    }

    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    fn protocol(&self) -> Protocol {
        self.route.as_ref().map_or(Protocol::Smtp, |route| route.protocol)
    }

    pub fn ehlo(&self, config: &Config, source: SourceId) -> String {
        let named = source_of(config, source).and_then(|source| source.ehlo.clone());
        named.unwrap_or_else(|| config.hostname.clone())
    }

    pub fn source_address(&self, config: &Config, source: SourceId) -> Option<IpAddr> {
        source_of(config, source)?.address
    }

    pub fn source_name(&self, config: &Config, source: SourceId) -> String {
        source_of(config, source).map_or_else(String::new, |source| source.name.clone())
    }

    pub fn pool_name(&self, config: &Config, pool: PoolId) -> String {
        config.outbound.pool(pool).map_or_else(String::new, |pool| pool.name.clone())
    }

    pub fn settings(&self, ehlo: &str, tls: Tls, shaping: &Shaping) -> Settings {
        Settings {
            protocol: match self.protocol() {
                Protocol::Smtp => client::Protocol::Smtp,
                Protocol::Lmtp => client::Protocol::Lmtp,
            },
            tls: tls_policy(tls),
            login: self.login.clone(),
            eight_bit: match shaping.eight_bit {
                policy::EightBit::Refuse => EightBit::Refuse,
                policy::EightBit::AsIs => EightBit::SendAnyway,
            },
            timeouts: timeouts(&shaping.timeouts),
            ..Settings::new(ehlo)
        }
    }

    pub fn protocol_name(&self) -> &'static str {
        match self.protocol() {
            Protocol::Smtp => "ESMTP",
            Protocol::Lmtp => "LMTP",
        }
    }
}

fn source_of(config: &Config, source: SourceId) -> Option<&Source> {
    config.outbound.source(source)
}

fn timeouts(of: &policy::Timeouts) -> Timeouts {
    Timeouts {
        greeting: of.greeting,
        hello: of.command,
        mail: of.command,
        rcpt: of.command,
        data: of.data,
        block: of.block,
        eod: of.end,
        rset: of.command,
        transaction: of.transaction,
        ..Timeouts::default()
    }
}

/// Hosts of the MX records, or the host that an address literal is.
async fn mail_hosts(shard: &Rc<Shard>, destination: &str) -> Result<Vec<MailHost>, Unroutable> {
    if let Some(ip) = literal_address(destination) {
        return Ok(vec![MailHost { preference: 0, name: ip.to_string() }]);
    }
    let failure = match shard.outbound().resolver().mail_hosts(destination).await {
        Ok(found) => return Ok(found.hosts),
        Err(failure) => failure,
    };
    let (code, enhanced) = match failure {
        DnsFailure::Temporary(why) => return Err(Unroutable::Later(why, SOUGHT_AGAIN)),
        DnsFailure::NoSuchDomain => (550, EnhancedCode::new(5, 1, 2)),
        // RFC 7505 4.
        DnsFailure::NullMx => (556, EnhancedCode::new(5, 1, 10)),
        DnsFailure::NoUsableHost | DnsFailure::NoAddress => (550, EnhancedCode::new(5, 4, 4)),
    };
    Err(never(code, enhanced, format!("{destination}: {failure}")))
}

/// RFC 5321 5.1: where we are one of the hosts, it and all that are no better than it are not for us to ask.
fn not_us(hosts: Vec<MailHost>, hostname: &str) -> Result<Vec<MailHost>, Unroutable> {
    let ours = hosts.iter().filter(|host| host.name.eq_ignore_ascii_case(hostname));
    let Some(preference) = ours.map(|host| host.preference).min() else {
        return Ok(hosts);
    };
    let better: Vec<MailHost> = hosts.into_iter().filter(|host| host.preference < preference).collect();
    match better.is_empty() {
        true => Err(in_a_circle()),
        false => Ok(better),
    }
}

/// RFC 5321 5.1: the best hosts must not be this server by their addresses, and one of all must have an address. Worse
/// hosts that are this server are found out when it is their turn.
async fn check_hosts(
    shard: &Shard,
    destination: &str,
    hosts: &[MailHost],
    port: u16,
) -> Result<(), Unroutable> {
    let best = hosts.iter().map(|host| host.preference).min();
    let mut may_be_reached = false;
    for (index, host) in hosts.iter().enumerate() {
        let is_best = Some(host.preference) == best && index < HOSTS_MAX;
        if may_be_reached && !is_best {
            break;
        }
        let found = match host.name.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![ip]),
            Err(_) => shard.outbound().resolver().addresses(&host.name).await.map(|found| found.ips),
        };
        match found {
            Ok(ips) if is_best && ips.iter().any(|ip| shard.is_us(SocketAddr::new(*ip, port))) => {
                return Err(in_a_circle());
            }
            Err(DnsFailure::NoAddress | DnsFailure::NoSuchDomain) => {}
            // What cannot be looked up now may have an address, and is not known to be us.
            Ok(_) | Err(_) => may_be_reached = true,
        }
    }
    if may_be_reached {
        return Ok(());
    }
    let text = format!("{destination}: none of the hosts that take its mail has an address in DNS");
    Err(never(550, EnhancedCode::new(5, 4, 4), text))
}

fn in_a_circle() -> Unroutable {
    let text = "The MX records of the domain lead back to this server".to_owned();
    never(554, EnhancedCode::new(5, 4, 6), text)
}

fn never(code: u16, enhanced: EnhancedCode, text: String) -> Unroutable {
    let reply = Reply::new(code, enhanced, text);
    Unroutable::Never(Failure { reply, phase: Phase::Connect, origin: Origin::Local })
}

/// The first line of the file is the password. A thread reads it that the shard does not wait for.
async fn login(shard: &Shard, credentials: &policy::Credentials) -> Result<Login, Unroutable> {
    let file = credentials.password_file.clone();
    let later = |why: String| {
        let file = credentials.password_file.display();
        Unroutable::Later(format!("{file} cannot be read: {why}"), SOUGHT_AGAIN)
    };
    let read = shard.hashing.run(move || std::fs::read_to_string(file)).await;
    let text = read.map_err(|_| later("too much is to be done".to_owned()))?;
    let text = text.map_err(|error| later(error.to_string()))?;
    let password = text.lines().next().unwrap_or_default().to_owned();
    Ok(Login {
        name: credentials.username.clone(),
        password: Secret::from(password.into_bytes()),
        over: LoginOver::AnyChannel,
    })
}

fn ranked(target: &route::Target, preference: u16, weight: NonZeroU32) -> Ranked {
    let name = match &target.host {
        route::Host::Address(ip) => ip.to_string(),
        route::Host::Name(name) => name.clone(),
    };
    Ranked { preference, weight, host: Host { name, port: target.port } }
}

fn of_mx(host: MailHost, port: u16) -> Ranked {
    Ranked { preference: host.preference, weight: NonZeroU32::MIN, host: Host { name: host.name, port } }
}

/// A site is its hosts as they are tried, and what is asked of them: whatever treats the same hosts otherwise is a
/// site of its own.
///
/// ```text
/// mx1.example,mx2.example+mx3.example      found in DNS: the first, then the other two alike
/// gate.example:25                          named by the operator, with the port, and maybe in a private network
/// a.example:25=3+b.example:25              by shares
/// ```
fn site_name(route: Option<&Route>, hosts: &[Ranked], is_named: bool) -> String {
    let mut names: Vec<(u16, String)> =
        hosts.iter().map(|ranked| (ranked.preference, name_in_site(ranked, is_named))).collect();
    names.sort_unstable();
    let alike = names.chunk_by(|left, right| left.0 == right.0);
    let alike = alike.map(|names| names.iter().map(|(_, name)| &**name).collect::<Vec<_>>().join("+"));
    let mut name = alike.collect::<Vec<_>>().join(",");
    let port = hosts.first().map_or(PORT, |ranked| ranked.host.port);
    if !is_named && port != PORT {
        name.push_str(&format!(" port={port}"));
    }
    if let Some(route) = route {
        if route.protocol == Protocol::Lmtp {
            name.insert_str(0, "lmtp:");
        }
        if let Some(credentials) = &route.credentials {
            name = format!("{}@{name}", credentials.username);
        }
        if let Some(tls) = route.tls {
            name.push_str(&format!(" tls={}", format!("{tls:?}").to_lowercase()));
        }
    }
    name
}

/// A host in the name of a site.
fn name_in_site(ranked: &Ranked, is_named: bool) -> String {
    let Host { name, port } = &ranked.host;
    let mut text = match name.contains(':') {
        true => format!("[{name}]"),
        false => name.clone(),
    };
    if is_named {
        text.push_str(&format!(":{port}"));
    }
    if ranked.weight > NonZeroU32::MIN {
        text.push_str(&format!("={}", ranked.weight));
    }
    text
}

/// Whether a route asks who the sender is.
fn minds_senders(config: &Config) -> bool {
    config.outbound.routes.iter().any(|route| !route.matches.sender_domain.is_any())
}

/// Whether anything depends on the tenant.
fn minds_tenants(config: &Config) -> bool {
    !config.outbound.tenants.is_empty()
        || config.outbound.routes.iter().any(|route| route.matches.tenant.is_some())
}

/// A time to wait, the shorter the greater the weight: of several, each is the first in proportion to its weight, for
/// these times are those of events that come so often (the exponential distribution).
fn wait(random: u64, weight: NonZeroU32) -> f64 {
    let [a, b, c, d, ..] = random.to_be_bytes();
    let part = (f64::from(u32::from_be_bytes([a, b, c, d])) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -part.ln() / f64::from(weight.get())
}

/// A well mixed number from another (the finaliser of SplitMix64).
fn splitmix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Not of this machine, a private network, a link, or anything else that no MX record should name (RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_broadcast()
                || ip.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            let is_local = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_local)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use super::{
        Begins, Choice, Host, MailHost, PoolId, Ranked, Unroutable, Way, is_public, not_us, patience,
        site_name,
    };
    use crate::config::Config;

    #[test]
    fn addresses_behind_the_server_are_not_for_strangers() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ];
        for ip in private {
            assert!(!is_public(ip.parse::<IpAddr>().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:4860:4860::8888"] {
            assert!(is_public(ip.parse::<IpAddr>().unwrap()), "{ip}");
        }
    }

    /// Hosts with their preferences and weights.
    fn hosts(rows: &[(u16, u32, &str)], port: u16) -> Vec<Ranked> {
        let ranked = |&(preference, weight, name): &(u16, u32, &str)| Ranked {
            preference,
            weight: NonZeroU32::new(weight).unwrap(),
            host: Host { name: name.to_owned(), port },
        };
        rows.iter().map(ranked).collect()
    }

    #[test]
    fn a_site_is_its_hosts_as_they_are_tried() {
        let found = |rows: &[(u16, u32, &str)], port| site_name(None, &hosts(rows, port), false);
        let named = |rows: &[(u16, u32, &str)], port| site_name(None, &hosts(rows, port), true);
        let table = [
            (found(&[(10, 1, "b"), (20, 1, "a")], 25), "b,a"),
            (found(&[(20, 1, "a"), (5, 1, "b")], 25), "b,a"),
            (found(&[(10, 1, "a"), (20, 1, "b")], 25), "a,b"),
            (found(&[(10, 1, "b"), (10, 1, "a"), (20, 1, "c")], 25), "a+b,c"),
            (found(&[(10, 1, "a")], 2525), "a port=2525"),
            (found(&[(0, 1, "2001:db8::1")], 25), "[2001:db8::1]"),
            (named(&[(0, 1, "2001:db8::1")], 25), "[2001:db8::1]:25"),
            (named(&[(0, 1, "a")], 25), "a:25"),
            (named(&[(0, 1, "a")], 2525), "a:2525"),
            (named(&[(0, 3, "b"), (0, 1, "a")], 25), "a:25+b:25=3"),
        ];
        for (name, expected) in table {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn equal_hosts_have_their_shares() {
        for (weights, expected) in [([3, 1], 0.75), ([9, 1], 0.9), ([1, 1], 0.5), ([4000, 2000], 2.0 / 3.0)] {
            let [heavy, light] = weights;
            let way = Way {
                site: "a+b".into(),
                begins: Begins::Starttls,
                pool: PoolId::default(),
                destination: "there.test".to_owned(),
                tenant: None,
                hosts: hosts(&[(0, light, "b"), (0, heavy, "a"), (1, 1_000_000, "later")], 25),
                is_named: true,
                route: None,
                login: None,
            };
            let in_front = |seed: &u64| way.hosts_in_order(*seed)[0].name == "a";
            let share = (0..20_000).filter(in_front).count() as f64 / 20_000.0;
            assert!((share - expected).abs() < 0.02, "{weights:?}: {share}");
            assert!((0..100).all(|seed| way.hosts_in_order(seed)[2].name == "later"));
        }
    }

    #[test]
    fn each_destination_has_the_patience_of_the_mail_that_waits_for_it() {
        let routes = |keys: &str, senders: &[&str]| {
            let hasty =
                format!("[[route]]\ndomain = \"hasty.test\"\nwarn_after_s = 0\nexpire_after_s = 60\n{keys}");
            let config = Config::parse(&hasty, "here.example").expect("a configuration");
            let choices: Vec<_> = senders.iter().map(|sender| Choice::of(&config, sender, None)).collect();
            ["hasty.test", "calm.test"].map(|name| patience(&config, name, &choices))
        };
        let [hour, day] = [3600, 24 * 3600];
        let calm = (4 * hour, 5 * day);
        assert_eq!(routes("", &[]), [(u64::MAX, 60), calm]);
        let of_a = "sender_domain = \"a.test\"\n";
        assert_eq!(routes(of_a, &["b.test"]), [calm; 2]);
        assert_eq!(routes(of_a, &["a.test"]), [(u64::MAX, 60), calm]);
        assert_eq!(routes(of_a, &["a.test", "b.test"]), [(4 * hour, 60), calm]);
        // Nothing is known yet.
        assert_eq!(routes(of_a, &[]), [(4 * hour, 60); 2]);
    }

    #[test]
    fn what_is_no_better_than_we_is_not_asked() {
        let host = |preference, name: &str| MailHost { preference, name: name.to_owned() };
        let hosts = vec![host(5, "a.test"), host(10, "Us.test"), host(10, "b.test"), host(20, "c.test")];
        let kept = not_us(hosts.clone(), "us.test").unwrap_or_default();
        assert_eq!(kept, [host(5, "a.test")]);
        assert_eq!(not_us(hosts.clone(), "else.test").unwrap_or_default(), hosts);
        let loop_found = not_us(hosts, "a.test");
        assert!(matches!(loop_found, Err(Unroutable::Never(failure)) if failure.reply.code == 554));
    }
}
