//! Which hosts take mail for a domain (RFC 5321 5.1, RFC 7505).

use std::fmt;
use std::net::IpAddr;

use crate::mail::time::Instant;

/// The hosts that take mail for a domain: at least one, best preference first, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailHosts {
    /// Hosts of equal preference stand in any order.
    pub hosts: Vec<MailHost>,
    /// The domain has no MX record and stands for itself (RFC 5321 5.1).
    pub is_implicit: bool,
    /// A validating resolver on this machine vouches for it (DNSSEC).
    pub is_authentic: bool,
    /// From when on it has to be asked for again.
    pub expires: Instant,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailHost {
    pub preference: u16,
    /// Lower case, A-labels, no trailing dot.
    pub name: String,
}

/// The addresses of a host: at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// In the order in which they were given.
    pub ips: Vec<IpAddr>,
    /// A validating resolver on this machine vouches for all of them (DNSSEC).
    pub is_authentic: bool,
    pub expires: Instant,
}

/// Why there is nobody to send to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DnsFailure {
    /// The name does not exist, or cannot be a name.
    NoSuchDomain,
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// There are MX records, and none names a host.
    NoUsableHost,
    /// The host exists and has no address.
    NoAddress,
    /// Nobody gave an answer that counts; which server said what.
    Temporary(String),
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDomain => f.write_str("the name does not exist in DNS"),
            Self::NullMx => f.write_str("the domain takes no mail (null MX)"),
            Self::NoUsableHost => f.write_str("none of the domain's MX records names a host"),
            Self::NoAddress => f.write_str("the host has no address in DNS"),
            Self::Temporary(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for DnsFailure {}
