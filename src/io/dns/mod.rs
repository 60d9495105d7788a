//! Names looked up: the driver of `proto/dns` on the ring.

use std::net::IpAddr;
use std::rc::Rc;

use crate::config::DnsSettings;
pub use crate::proto::dns::{Addresses, DnsFailure, MailHost, MailHosts};

/// Asks the name servers for this shard. Clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    settings: Rc<DnsSettings>,
}

impl Resolver {
    pub fn new(settings: DnsSettings) -> Self {
        Self { settings: Rc::new(settings) }
    }

    /// The hosts that take mail for `domain`, by preference.
    pub async fn mail_hosts(&self, domain: &str) -> Result<MailHosts, DnsFailure> {
        Err(self.unanswered(domain))
    }

    /// The addresses of `host`.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, DnsFailure> {
        Err(self.unanswered(host))
    }

    /// The names that `ip` says it has.
    pub async fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, DnsFailure> {
        Err(self.unanswered(&ip.to_string()))
    }

    fn unanswered(&self, name: &str) -> DnsFailure {
        DnsFailure::Temporary(format!("{name}: none of {} servers was asked", self.settings.servers.len()))
    }
}
