//! What this machine says in `/etc/resolv.conf` and `/etc/hosts`.
//!
//! Both are read as the C library reads them: a line that makes no sense is passed over, a word that is not known
//! means nothing to us.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::name;
use super::servers::Rotation;
use crate::limits;

/// What `/etc/resolv.conf` says; what it does not say is at its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvConf {
    /// At least one.
    pub servers: Vec<SocketAddr>,
    pub timeout_s: u64,
    pub attempts: u64,
    pub rotation: Rotation,
}

/// The names of `/etc/hosts`.
#[derive(Default, Debug)]
pub struct Hosts {
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl ResolvConf {
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            timeout_s: limits::dns::TIMEOUT_S,
            attempts: limits::dns::ATTEMPTS,
            rotation: Rotation::FirstIsBest,
        };
        for line in text.lines() {
            let mut words = line.split([';', '#']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        conf.servers.truncate(limits::dns::SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), limits::dns::PORT));
        }
        conf
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u64>()) {
            ("timeout", Ok(seconds)) => self.timeout_s = seconds.clamp(1, limits::dns::TIMEOUT_S_MOST),
            ("attempts", Ok(count)) => self.attempts = count.clamp(1, limits::dns::ATTEMPTS_MOST),
            ("rotate", _) => self.rotation = Rotation::InTurn,
            _ => {}
        }
    }
}

impl Hosts {
    /// A name may stand on several lines; a line is an address and its names.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(ip) = words.next().and_then(|word| without_scope(word).parse().ok()) else {
                continue;
            };
            for host in words.filter_map(name::from_text).filter_map(|name| name::host(&name)) {
                let ips = hosts.addresses.entry(host).or_default();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
        hosts
    }

    /// The addresses of `host`, which is in lower case.
    pub fn get(&self, host: &str) -> Option<&[IpAddr]> {
        self.addresses.get(host).map(Vec::as_slice)
    }
}

/// The server that a word means; one without a port has that of DNS.
fn server(word: &str) -> Option<SocketAddr> {
    let ip = without_scope(word).parse().ok()?;
    Some(SocketAddr::new(ip, limits::dns::PORT))
}

/// `fe80::1%eth0` without its interface, which only the system could number.
fn without_scope(word: &str) -> &str {
    word.split('%').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Hosts, ResolvConf, Rotation};

    #[test]
    fn resolv_conf() {
        let table: [(&str, &[&str], u64, u64, Rotation); 6] = [
            ("", &["127.0.0.1:53"], 5, 2, Rotation::FirstIsBest),
            (
                "# by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t2001:db8::53 ; second\n\
                 options ndots:2 timeout:2 attempts:4 rotate\n",
                &["192.0.2.1:53", "[2001:db8::53]:53"],
                2,
                4,
                Rotation::InTurn,
            ),
            ("nameserver fe80::1%eth0", &["[fe80::1]:53"], 5, 2, Rotation::FirstIsBest),
            (
                "nameserver\nnameserver x\nnameservers 192.0.2.1\noptions timeout:0 attempts:999 timeout",
                &["127.0.0.1:53"],
                1,
                10,
                Rotation::FirstIsBest,
            ),
            ("options timeout:x attempts:", &["127.0.0.1:53"], 5, 2, Rotation::FirstIsBest),
            ("\0\u{feff}\r\n nameserver 192.0.2.9\r\n", &["192.0.2.9:53"], 5, 2, Rotation::FirstIsBest),
        ];
        for (text, servers, timeout_s, attempts, rotation) in table {
            let conf = ResolvConf::parse(text);
            let found: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
            assert_eq!(found, servers, "{text}");
            assert_eq!(
                (conf.timeout_s, conf.attempts, conf.rotation),
                (timeout_s, attempts, rotation),
                "{text}"
            );
        }
        assert_eq!(ResolvConf::parse(&"nameserver 192.0.2.1\n".repeat(99)).servers.len(), 8);
    }

    #[test]
    fn hosts() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # loopback\n192.0.2.1 MX.test. mx b_d ;x\n\
             192.0.2.2 mx.test\n192.0.2.1 mx.test\nnonsense mx.test\n#192.0.2.3 mx.test\n",
        );
        let ips = |host: &str| -> Option<Vec<String>> {
            hosts.get(host).map(|ips| ips.iter().map(IpAddr::to_string).collect())
        };
        assert_eq!(ips("mx.test").unwrap(), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(ips("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(ips("mx").unwrap(), ["192.0.2.1"]);
        assert!(ips(";x").is_none() && ips("other.test").is_none());
    }
}
