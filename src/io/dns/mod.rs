//! Names looked up: the driver of `proto/dns` on the ring.
//!
//! A [`Resolver`] belongs to a shard, and its clones share what it knows. Whoever asks for what is not known waits
//! for a *flight*: a task that drives one lookup to its end and tells all who wait for it. A flight that has
//! begun goes on without those who asked, so that giving up loses nothing and holds nothing. Each query by UDP has
//! a socket of its own, which the kernel gives a port that nobody can guess, as nobody can guess its number.
//!
//! Invariants: one question has one flight at a time; only so many have queries out, and only so many wait; each
//! flight ends, and tells those who wait, whatever happens to it.

use std::fs;
use std::net::IpAddr;
use std::rc::Rc;

use futures_lite::future::zip;

use crate::config::DnsSettings;
use crate::io::clock;
use crate::proto::dns::{Kind, Known, Question, mail, name};

mod exchange;
mod flight;
mod shared;

pub use crate::proto::dns::{Addresses, DnsFailure, MailHost, MailHosts};
use shared::Shared;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Asks the name servers for this shard. Clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    shared: Rc<Shared>,
}

impl Resolver {
    /// Reads `/etc/resolv.conf`, as far as `settings` leave it something to say, and `/etc/hosts`. A file that
    /// cannot be read says nothing.
    pub fn new(settings: DnsSettings) -> Self {
        let text = |file| fs::read_to_string(file).unwrap_or_default();
        Self { shared: Rc::new(Shared::of(&settings, &text(RESOLV_CONF), &text(HOSTS))) }
    }

    /// The hosts that take mail for `domain`, by preference.
    pub async fn mail_hosts(&self, domain: &str) -> Result<MailHosts, DnsFailure> {
        let question = question(domain, Kind::Mx)?;
        let domain = question.text();
        if name::loopback(&domain).is_some() {
            return Ok(MailHosts::loopback(&domain, clock::instant()));
        }
        MailHosts::of(&domain, &*self.ask(question).await?)
    }

    /// The addresses of `host`.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, DnsFailure> {
        let v4 = question(host, Kind::A)?;
        let v6 = Question { kind: Kind::Aaaa, ..v4.clone() };
        let host = v4.text();
        if let Some(ips) = self.shared.hosts.get(&host) {
            return Ok(Addresses::known(ips, clock::instant()));
        }
        if let Some(ips) = name::loopback(&host) {
            return Ok(Addresses::known(&ips, clock::instant()));
        }
        let (v4, v6) = zip(self.shared.ask(v4), self.shared.ask(v6)).await;
        Addresses::of(
            v4.as_deref().map_err(|why| &**why),
            v6.as_deref().map_err(|why| &**why),
            clock::instant(),
        )
    }

    /// The names that `ip` says it has, maybe none. That they mean `ip` is not said.
    pub async fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, DnsFailure> {
        let question = Question { name: name::reverse(ip), kind: Kind::Ptr };
        mail::names(&*self.ask(question).await?)
    }

    /// The texts of `name`, each with its strings joined.
    pub async fn text(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsFailure> {
        mail::texts(&*self.ask(question(name, Kind::Txt)?).await?)
    }

    async fn ask(&self, question: Question) -> Result<Rc<Known>, DnsFailure> {
        self.shared.ask(question).await.map_err(|why| DnsFailure::Temporary(why.to_string()))
    }
}

/// A name that cannot be one does not exist, and is not asked for.
fn question(text: &str, kind: Kind) -> Result<Question, DnsFailure> {
    let name = name::from_text(text).ok_or(DnsFailure::NoSuchDomain)?;
    Ok(Question { name: name.to_lowercase(), kind })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_lite::future::block_on;

    use super::{Resolver, Shared};
    use crate::config::DnsSettings;

    #[test]
    fn names_of_the_hosts_file_are_not_asked_for() {
        let hosts = "192.0.2.1 mx.test\n2001:db8::1 mx.test\n192.0.2.2 localhost\n";
        let resolver = Resolver { shared: Rc::new(Shared::of(&DnsSettings::default(), "", hosts)) };
        for (host, expected) in [("MX.test.", "192.0.2.1 2001:db8::1"), ("localhost", "192.0.2.2")] {
            let addresses = block_on(resolver.addresses(host)).unwrap();
            let ips: Vec<String> = addresses.ips.iter().map(ToString::to_string).collect();
            assert_eq!(ips.join(" "), expected);
            assert!(!addresses.is_authentic);
        }
    }
}
