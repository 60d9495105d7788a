//! Which hosts take mail for a domain (RFC 5321 5.1, RFC 7505), at which addresses, and why there are none.
//!
//! Invariants: what is `Ok` names at least one host or address; a host's name is a host name and stands once. A
//! domain with MX records is never served by its own address. A name server's failure is `Temporary` and nothing
//! else is.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::answer::{Data, Found};
use super::cache::Known;
use super::name;
use crate::limits;
use crate::mail::time::Instant;

/// One family of addresses could not be asked for: what the other has given is asked for again soon.
const HALF_KNOWN: Duration = Duration::from_secs(60);

/// What this machine says itself is read again with the configuration.
const KNOWN_BEFORE: Duration = Duration::from_secs(limits::dns::TTL_S_MIN as u64);

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

impl MailHosts {
    /// What is known about the MX records of `domain`, which is a host name.
    pub fn of(domain: &str, known: &Known) -> Result<Self, DnsFailure> {
        let Known { answer, expires } = known;
        let hosts = match &answer.found {
            Found::NoSuchName => return Err(DnsFailure::NoSuchDomain),
            Found::Nothing => return Ok(Self::itself(domain, answer.is_authentic, *expires)),
            Found::Data(records) => usable(records)?,
        };
        Ok(Self { hosts, is_implicit: false, is_authentic: answer.is_authentic, expires: *expires })
    }

    /// A domain that has no MX record takes its mail itself.
    fn itself(domain: &str, is_authentic: bool, expires: Instant) -> Self {
        let hosts = vec![MailHost { preference: 0, name: domain.to_owned() }];
        Self { hosts, is_implicit: true, is_authentic, expires }
    }

    /// This machine, under a name that is not asked for.
    pub fn loopback(domain: &str, now: Instant) -> Self {
        Self::itself(domain, false, now + KNOWN_BEFORE)
    }
}

/// The hosts that MX records name.
fn usable(records: &[Data]) -> Result<Vec<MailHost>, DnsFailure> {
    // RFC 7505 3: only alone does the root mean anything.
    if let [Data::Mail { exchange, .. }] = records
        && exchange.is_root()
    {
        return Err(DnsFailure::NullMx);
    }
    let host = |record: &Data| match record {
        Data::Mail { preference, exchange } => {
            name::host(exchange).map(|name| MailHost { preference: *preference, name })
        }
        _ => None,
    };
    let mut hosts: Vec<MailHost> = Vec::new();
    for host in records.iter().filter_map(host) {
        match hosts.iter_mut().find(|known| known.name == host.name) {
            Some(known) => known.preference = known.preference.min(host.preference),
            None => hosts.push(host),
        }
    }
    hosts.sort_by_key(|host| host.preference);
    hosts.truncate(limits::dns::HOSTS_MAX);
    if hosts.is_empty() { Err(DnsFailure::NoUsableHost) } else { Ok(hosts) }
}

impl Addresses {
    /// What is known about both families; if one could not be asked for, the other has to do.
    pub fn of(v4: Result<&Known, &str>, v6: Result<&Known, &str>, now: Instant) -> Result<Self, DnsFailure> {
        let mut addresses = Self { ips: Vec::new(), is_authentic: true, expires: Instant(u64::MAX) };
        let mut unknown: Vec<&str> = Vec::new();
        let mut missing = 0;
        for family in [v4, v6] {
            match family {
                Err(why) => unknown.push(why),
                Ok(known) => {
                    missing += usize::from(known.answer.found == Found::NoSuchName);
                    addresses.add(known);
                }
            }
        }
        if !unknown.is_empty() {
            addresses.expires = addresses.expires.min(now + HALF_KNOWN);
        }
        match unknown.is_empty() {
            _ if !addresses.ips.is_empty() => Ok(addresses),
            false => Err(DnsFailure::Temporary(unknown.join("; "))),
            true if missing == 2 => Err(DnsFailure::NoSuchDomain),
            true => Err(DnsFailure::NoAddress),
        }
    }

    /// Addresses that were known before anybody was asked.
    pub fn known(ips: &[IpAddr], now: Instant) -> Self {
        Self { ips: ips.to_vec(), is_authentic: false, expires: now + KNOWN_BEFORE }
    }

    fn add(&mut self, known: &Known) {
        self.expires = self.expires.min(known.expires);
        let Found::Data(records) = &known.answer.found else {
            return;
        };
        self.is_authentic &= known.answer.is_authentic;
        for record in records {
            if let Data::Address(ip) = record
                && self.ips.len() < limits::dns::HOSTS_MAX
                && !self.ips.contains(ip)
            {
                self.ips.push(*ip);
            }
        }
    }
}

/// The names that an address has, as far as they are host names, maybe none.
pub fn names(known: &Known) -> Result<Vec<String>, DnsFailure> {
    let pointer = |record: &Data| match record {
        Data::Pointer(name) => name::host(name),
        _ => None,
    };
    let mut names: Vec<String> = found(known)?.iter().filter_map(pointer).collect();
    names.truncate(limits::dns::HOSTS_MAX);
    Ok(names)
}

/// The texts that a name has; none is an answer, too.
pub fn texts(known: &Known) -> Result<Vec<Vec<u8>>, DnsFailure> {
    let text = |record: &Data| match record {
        Data::Text(text) => Some(text.clone()),
        _ => None,
    };
    Ok(found(known)?.iter().filter_map(text).collect())
}

fn found(known: &Known) -> Result<&[Data], DnsFailure> {
    match &known.answer.found {
        Found::Data(records) => Ok(records),
        Found::Nothing => Ok(&[]),
        Found::NoSuchName => Err(DnsFailure::NoSuchDomain),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::{Addresses, Data, DnsFailure, Found, Known, MailHosts, names};
    use crate::mail::time::Instant;
    use crate::proto::dns::Answer;

    fn known(found: Found) -> Known {
        let answer = Answer { found, is_authentic: true, ttl_s: Some(60) };
        Known { answer, expires: Instant(60_000) }
    }

    /// Preferences and names.
    type Hosts<'a> = &'a [(u16, &'a str)];

    /// Any bytes may be in a name, but a dot.
    fn name(text: &str) -> Name {
        Name::from_labels(text.split_terminator('.').map(str::as_bytes)).unwrap()
    }

    fn mail(records: Hosts<'_>) -> Result<Vec<(u16, String)>, DnsFailure> {
        let record = |(preference, exchange): &(u16, &str)| Data::Mail {
            preference: *preference,
            exchange: name(exchange),
        };
        let known = known(Found::Data(records.iter().map(record).collect()));
        let hosts = MailHosts::of("example.org", &known)?;
        assert!(!hosts.is_implicit && hosts.is_authentic && hosts.expires == Instant(60_000));
        Ok(hosts.hosts.into_iter().map(|host| (host.preference, host.name)).collect())
    }

    #[test]
    fn mx_records() {
        let table: [(Hosts<'_>, Result<Hosts<'_>, DnsFailure>); 10] = [
            (&[(10, "MX.example.org.")], Ok(&[(10, "mx.example.org")])),
            (&[(20, "b.test."), (10, "a.test.")], Ok(&[(10, "a.test"), (20, "b.test")])),
            (&[(10, "a.test."), (20, "A.test."), (5, "a.TEST.")], Ok(&[(5, "a.test")])),
            (&[(0, "")], Err(DnsFailure::NullMx)),
            (&[(10, "")], Err(DnsFailure::NullMx)),
            (&[(0, ""), (10, "a.test.")], Ok(&[(10, "a.test")])),
            (&[(0, ""), (10, "")], Err(DnsFailure::NoUsableHost)),
            (&[(0, "192.0.2.1."), (10, "a.test.")], Ok(&[(10, "a.test")])),
            (&[(0, "192.0.2.1."), (10, "a b.test.")], Err(DnsFailure::NoUsableHost)),
            (&[(0, "localhost.")], Ok(&[(0, "localhost")])),
        ];
        for (records, expected) in table {
            let expected = expected.map(|hosts| {
                hosts.iter().map(|(preference, name)| (*preference, (*name).to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(mail(records), expected, "{records:?}");
        }
    }

    #[test]
    fn hosts_are_bounded_and_the_best_stay() {
        let names: Vec<String> = (0..1000).map(|index| format!("mx{index}.test.")).collect();
        let records: Vec<(u16, &str)> =
            (0..1000).rev().map(|index| (index, &*names[index as usize])).collect();
        let hosts = mail(&records).unwrap();
        assert_eq!((hosts.len(), hosts[0].0, hosts[99].0), (100, 0, 99));
    }

    #[test]
    fn domains_without_mx_records() {
        let hosts = MailHosts::of("example.org", &known(Found::Nothing)).unwrap();
        assert!(hosts.is_implicit);
        assert_eq!((hosts.hosts.len(), hosts.hosts[0].name.as_str()), (1, "example.org"));
        let missing = MailHosts::of("example.org", &known(Found::NoSuchName));
        assert_eq!(missing, Err(DnsFailure::NoSuchDomain));
    }

    #[test]
    fn both_families_make_the_addresses() {
        let some = |ip: &str| Ok(known(Found::Data(vec![Data::Address(ip.parse().unwrap())])));
        let nothing = || Ok(known(Found::Nothing));
        let missing = || Ok(known(Found::NoSuchName));
        let silent = |server: &str| Err(format!("{server} gave no answer"));
        let table = [
            (some("192.0.2.1"), some("2001:db8::1"), Ok(("192.0.2.1 2001:db8::1", 60_000))),
            (some("192.0.2.1"), nothing(), Ok(("192.0.2.1", 60_000))),
            (nothing(), some("2001:db8::1"), Ok(("2001:db8::1", 60_000))),
            (some("192.0.2.1"), silent("a"), Ok(("192.0.2.1", 60_000))),
            (nothing(), nothing(), Err(DnsFailure::NoAddress)),
            (missing(), missing(), Err(DnsFailure::NoSuchDomain)),
            (nothing(), missing(), Err(DnsFailure::NoAddress)),
            (nothing(), silent("a"), Err(DnsFailure::Temporary("a gave no answer".to_owned()))),
            (missing(), silent("a"), Err(DnsFailure::Temporary("a gave no answer".to_owned()))),
            (
                silent("a"),
                silent("b"),
                Err(DnsFailure::Temporary("a gave no answer; b gave no answer".to_owned())),
            ),
        ];
        for (v4, v6, expected) in table {
            let addresses = Addresses::of(
                v4.as_ref().map_err(|why: &String| &**why),
                v6.as_ref().map_err(|why| &**why),
                Instant(0),
            )
            .map(|addresses| {
                let ips: Vec<String> = addresses.ips.iter().map(ToString::to_string).collect();
                (ips.join(" "), addresses.expires.0)
            });
            let expected = expected.map(|(ips, expires)| (ips.to_owned(), expires));
            assert_eq!(addresses, expected, "{v4:?} {v6:?}");
        }
        let v4 = known(Found::Data(vec![Data::Address("192.0.2.1".parse().unwrap())]));
        let v4 = Known { expires: Instant(9_000_000), ..v4 };
        let half = Addresses::of(Ok(&v4), Err("silent"), Instant(0)).unwrap();
        assert_eq!(half.expires, Instant(60_000));
    }

    /// SA-13: what a stranger's zone says about an address stands in logs and trace fields.
    #[test]
    fn names_of_an_address_are_host_names() {
        let pointer = |text: &str| Data::Pointer(name(text));
        let records = ["a\0b.test.", "a;$b.test.", "Host.test.", ""];
        let all = known(Found::Data(records.into_iter().map(pointer).collect()));
        assert_eq!(names(&all).unwrap(), ["host.test"]);
        let bad = known(Found::Data(vec![pointer("a\nb.test.")]));
        assert!(names(&bad).unwrap().is_empty());
        assert!(names(&known(Found::Nothing)).unwrap().is_empty());
        assert_eq!(names(&known(Found::NoSuchName)), Err(DnsFailure::NoSuchDomain));
    }
}
