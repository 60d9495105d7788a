//! A connection for a site: one host after another, address by address, until one takes mail (RFC 5321 5.1).
//!
//! A host that is this server itself ends the list: those behind it are no better and would send the mail back.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::talk::{Begins, Peer, Talk};
use super::way::{Host, Way};
use crate::io::clock;
use crate::io::net::{Conn, dial};
use crate::io::random;
use crate::io::tls::Trust;
use crate::limits::outbound::{ADDRESSES_PER_HOST_MAX, CONNECTIONS_PER_ADDRESS_MAX, HOSTS_MAX};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::proto::smtp::client::{Closed, Phase, TlsPolicy};
use crate::queue::job::{FailureKind, OpenFailure};
use crate::queue::policy::{SourceId, Tls};
use crate::shard::Shard;

/// Tries the hosts of a way; the failure is the last one's.
pub async fn open(shard: &Rc<Shard>, way: &Way, source: SourceId) -> Result<Talk, OpenFailure> {
    let seed = u64::from_le_bytes(random::bytes());
    let mut failure = failure(FailureKind::Unreachable, "No host could be tried");
    for (index, host) in way.hosts_in_order(seed).into_iter().take(HOSTS_MAX).enumerate() {
        let addresses = match addresses(shard, way, &host, source).await {
            Ok(addresses) => addresses,
            Err(why) => {
                failure = why;
                continue;
            }
        };
        if addresses.iter().any(|ip| shard.is_us(SocketAddr::new(*ip, host.port))) {
            // With a better host before it, that one's failure counts, and it may pass.
            return Err(if index == 0 { ourselves(&host) } else { failure });
        }
        for address in addresses {
            match try_address(shard, way, source, (&host, address)).await {
                Ok(talk) => return Ok(talk),
                Err(why) => {
                    tracing::debug!(site = &*way.site, host = host.name, %address, reply = %why.reply, "no mail there");
                    let is_ours = why.kind == FailureKind::SourceUnusable;
                    failure = why;
                    if is_ours {
                        return Err(failure);
                    }
                }
            }
        }
    }
    Err(failure)
}

/// The addresses of a host that may be connected to.
async fn addresses(
    shard: &Shard,
    way: &Way,
    host: &Host,
    source: SourceId,
) -> Result<Vec<IpAddr>, OpenFailure> {
    let found = match host.name.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => {
            let found = shard.outbound().resolver().addresses(&host.name).await;
            found.map_err(|error| failure(FailureKind::Unreachable, error.to_string()))?.ips
        }
    };
    let config = shard.config();
    let is_allowed = |ip: &IpAddr| way.may_connect(&config, *ip);
    let mut allowed: Vec<IpAddr> = found.into_iter().filter(is_allowed).collect();
    if allowed.is_empty() {
        let why = format!("{} has no address outside of private networks", host.name);
        return Err(failure(FailureKind::Unreachable, why));
    }
    if let Some(from) = way.source_address(&config, source) {
        allowed.retain(|ip| ip.is_ipv4() == from.is_ipv4());
        if allowed.is_empty() {
            let why = format!("{} has no address that {from} could connect to", host.name);
            return Err(failure(FailureKind::Unreachable, why));
        }
    }
    allowed.truncate(ADDRESSES_PER_HOST_MAX);
    Ok(allowed)
}

async fn try_address(
    shard: &Rc<Shard>,
    way: &Way,
    source: SourceId,
    (host, ip): (&Host, IpAddr),
) -> Result<Talk, OpenFailure> {
    let config = shard.config();
    let to = SocketAddr::new(ip, host.port);
    let shaping = way.shaping(&config, source);
    let ehlo = way.ehlo(&config, source);
    let mut policy = shaping.tls;
    loop {
        let Some(counted) = shard.outbound().count(ip, CONNECTIONS_PER_ADDRESS_MAX) else {
            return Err(failure(FailureKind::Unreachable, format!("There are too many connections to {ip}")));
        };
        let from = way.source_address(&config, source);
        let deadline = clock::instant() + shaping.timeouts.connect;
        let accepted = dial(to, from, deadline).await.map_err(|error| dial_failure(&error, to, from))?;
        let conn = Box::new(Conn::new(accepted, &shard.sockets, &shard.deadlines));
        let trust = if policy == Tls::Verified { Trust::Verified } else { Trust::Anyone };
        let peer = Peer { host: host.name.clone(), tls: shard.outbound().tls(), trust, begins: way.begins };
        let settings = Rc::new(way.settings(&ehlo, policy, &shaping));
        match Talk::open((conn, counted), peer, settings).await {
            Ok(talk) => return Ok(talk),
            // TLS that does not come about is worth no less than none, where none is asked for (RFC 7435).
            Err(closed)
                if matches!(closed.phase, Phase::StartTls | Phase::Tls)
                    && policy == Tls::Opportunistic
                    && way.begins == Begins::Starttls =>
            {
                tracing::info!(host = host.name, %ip, reply = %closed.reply, "TLS failed; in the clear then");
                policy = Tls::Never;
            }
            Err(closed) => return Err(closed_failure(closed)),
        }
    }
}

/// The policy of the engine for one of ours.
pub fn tls_policy(tls: Tls) -> TlsPolicy {
    match tls {
        Tls::Never => TlsPolicy::Never,
        Tls::Opportunistic => TlsPolicy::Opportunistic,
        Tls::Required | Tls::Verified => TlsPolicy::Required,
    }
}

fn dial_failure(error: &io::Error, to: SocketAddr, from: Option<IpAddr>) -> OpenFailure {
    let kind = match error.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse if from.is_some() => {
            FailureKind::SourceUnusable
        }
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        _ => FailureKind::Unreachable,
    };
    failure(kind, format!("Connecting to {to} failed: {error}"))
}

/// A host that refuses to talk may only be out of order: its mail waits for the others, or for another time.
fn closed_failure(closed: Closed) -> OpenFailure {
    let Closed { reply, phase, .. } = closed;
    let kind = match phase {
        Phase::StartTls | Phase::Tls => FailureKind::Tls,
        _ if reply.is_permanent() => FailureKind::GreetingPermanent,
        _ => FailureKind::GreetingTransient,
    };
    let reply = match reply.is_permanent() {
        true => Reply { code: 450, enhanced: Some(EnhancedCode::new(4, 4, 0)), ..reply },
        false => reply,
    };
    OpenFailure { kind, reply }
}

/// 5.4.6: routing loop detected (RFC 3463 3.5).
fn ourselves(host: &Host) -> OpenFailure {
    let reply = Reply::new(554, EnhancedCode::new(5, 4, 6), format!("{} is this server itself", host.name));
    OpenFailure { kind: FailureKind::Unreachable, reply }
}

/// 4.4.1: no answer from host (RFC 3463 3.5).
fn failure(kind: FailureKind, why: impl Into<String>) -> OpenFailure {
    OpenFailure { kind, reply: Reply::new(450, EnhancedCode::new(4, 4, 1), why) }
}
