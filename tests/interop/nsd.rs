//! `nsd`: a name server that people run, its zones read from files, and what the resolver makes of them.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::config::DnsSettings;
use ringpost::io::dns::{Addresses, DnsFailure, MailHosts, Resolver};
use ringpost::io::executor;
use tempfile::TempDir;

use crate::program::available;

const START_MAX: Duration = Duration::from_secs(60);

/// What stands in front of each zone; `nx` and `empty` answers hold for the last number of seconds.
const HEAD: &str = "$TTL 300\n@ SOA ns.example. admin.example. 1 3600 600 86400 120\n@ NS ns.example.\n";

const EXAMPLE: &str = "\
    @ MX 20 mx2\n@ MX 10 mx1\n@ MX 20 mx3.Elsewhere.test.\n\
    mx1 A 192.0.2.1\nmx1 AAAA 2001:db8::1\n\
    mx2 CNAME mx1\n\
    mx3 AAAA 2001:db8::3\n\
    null MX 0 .\n\
    mixed MX 0 .\nmixed MX 5 mx1\n\
    bare A 192.0.2.9\n\
    text TXT \"v=spf1\" \" -all\"\n\
    alias CNAME @\n\
    away CNAME other.test.\n\
    lost CNAME a.nowhere.\n\
    literal MX 10 192.0.2.1.\n\
    delegated NS ns.delegated\nns.delegated A 192.0.2.53\n";

/// Runs until it is dropped.
struct Nsd {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// What was asked for, and what came.
struct Seen {
    mail: Vec<Result<MailHosts, DnsFailure>>,
    addresses: Vec<Result<Addresses, DnsFailure>>,
    reverse: Result<Vec<String>, DnsFailure>,
    text: Result<Vec<Vec<u8>>, DnsFailure>,
}

impl Nsd {
    fn start() -> Self {
        let folder = TempDir::new().expect("there is room for a folder");
        let address = free_address();
        let many: String = (0..100).map(|index| format!("many MX {index} mx{index}.example.\n")).collect();
        let zones = [
            ("example", format!("{HEAD}{EXAMPLE}{many}")),
            ("other.test", format!("{HEAD}@ MX 10 mx.other.test.\n")),
            ("2.0.192.in-addr.arpa", format!("{HEAD}1 PTR MX1.example.\n1 PTR a\\;b.example.\n")),
            ("broken.test", "@ SOA nonsense\n".to_owned()),
        ];
        let (ip, port) = (address.ip(), address.port());
        let path = folder.path().display();
        let mut conf = format!(
            "server:\n ip-address: {ip}@{port}\n username: \"\"\n chroot: \"\"\n \
             zonesdir: \"{path}\"\n database: \"\"\n pidfile: \"{path}/pid\"\n xfrdfile: \"{path}/xfrd\"\n \
             xfrdir: \"{path}\"\n \
             zonelistfile: \"{path}/list\"\n server-count: 1\n rrl-ratelimit: 0\nremote-control:\n \
             control-enable: no\n"
        );
        for (zone, text) in zones {
            fs::write(folder.path().join(zone), text).expect("the folder can be written to");
            conf.push_str(&format!("zone:\n name: \"{zone}\"\n zonefile: \"{zone}\"\n"));
        }
        let file = folder.path().join("nsd.conf");
        fs::write(&file, conf).expect("the folder can be written to");
        let mut command = Command::new("nsd");
        command.arg("-d").arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("nsd is installed");
        let mut nsd = Self { child, address, _folder: folder };
        nsd.wait_until_it_listens();
        nsd
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait().expect("nsd was started here").is_some() {
                let mut said = String::new();
                let stderr = self.child.stderr.as_mut().expect("standard error is a pipe");
                stderr.read_to_string(&mut said).expect("nsd writes text");
                panic!("nsd ended:\n{said}");
            }
            assert!(begun.elapsed() < START_MAX, "nsd does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Nsd {
    /// It ends its children when it is asked to end, and only then.
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        // It may have ended already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = udp.local_addr().expect("a bound socket has an address");
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn ask(server: SocketAddr, domains: &'static [&'static str], hosts: &'static [&'static str]) -> Seen {
    let settings = DnsSettings { servers: vec![server], timeout_s: Some(20), attempts: Some(1) };
    let (handle, _) = executor::start("dns", None, move |_| async move {
        let resolver = Resolver::new(settings);
        let mut seen = Seen {
            mail: Vec::new(),
            addresses: Vec::new(),
            reverse: resolver.reverse([192, 0, 2, 1].into()).await,
            text: resolver.text("text.example").await,
        };
        for domain in domains {
            seen.mail.push(resolver.mail_hosts(domain).await);
        }
        for host in hosts {
            seen.addresses.push(resolver.addresses(host).await);
        }
        seen
    })
    .expect("an executor starts");
    handle.join().expect("the executor ends well")
}

/// Preferences and names, those of equal preference by name.
fn written(hosts: &Result<MailHosts, DnsFailure>) -> String {
    let hosts = match hosts {
        Ok(hosts) => hosts,
        Err(failure) => return failure.to_string(),
    };
    let mut all: Vec<String> =
        hosts.hosts.iter().map(|host| format!("{} {}", host.preference, host.name)).collect();
    all.sort();
    if hosts.is_implicit { format!("implicit {}", all.join(", ")) } else { all.join(", ") }
}

#[test]
fn zones_of_a_real_name_server() {
    if !available("nsd") {
        return;
    }
    let nsd = Nsd::start();
    let domains = &[
        "example",
        "null.example",
        "mixed.example",
        "bare.example",
        "alias.example",
        "away.example",
        "literal.example",
        "missing.example",
        "lost.example",
        "broken.test",
        "x.delegated.example",
        "other.org",
    ];
    let hosts =
        &["mx1.example", "mx2.example", "mx3.example", "bare.example", "text.example", "missing.example"];
    let seen = ask(nsd.address, domains, hosts);
    let server = nsd.address;
    let expected = [
        "10 mx1.example, 20 mx2.example, 20 mx3.elsewhere.test".to_owned(),
        "the domain takes no mail (null MX)".to_owned(),
        "5 mx1.example".to_owned(),
        "implicit 0 bare.example".to_owned(),
        "10 mx1.example, 20 mx2.example, 20 mx3.elsewhere.test".to_owned(),
        "10 mx.other.test".to_owned(),
        "none of the domain's MX records names a host".to_owned(),
        "the name does not exist in DNS".to_owned(),
        format!("MX of lost.example: {server} said REFUSED"),
        format!("MX of broken.test: {server} said SERVFAIL"),
        format!("MX of x.delegated.example: {server} does not look names up for others"),
        format!("MX of other.org: {server} said REFUSED"),
    ];
    assert_eq!(seen.mail.iter().map(written).collect::<Vec<_>>(), expected);

    let addresses: Vec<Result<String, DnsFailure>> = seen
        .addresses
        .into_iter()
        .map(|found| {
            found.map(|found| found.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let expected = [
        Ok("192.0.2.1 2001:db8::1".to_owned()),
        Ok("192.0.2.1 2001:db8::1".to_owned()),
        Ok("2001:db8::3".to_owned()),
        Ok("192.0.2.9".to_owned()),
        Err(DnsFailure::NoAddress),
        Err(DnsFailure::NoSuchDomain),
    ];
    assert_eq!(addresses, expected);
    assert_eq!(seen.reverse.unwrap(), ["mx1.example"]);
    assert_eq!(seen.text.unwrap(), [b"v=spf1 -all"]);
}

/// A hundred MX records do not fit in 1232 octets.
#[test]
fn an_answer_too_large_for_udp_comes_whole() {
    if !available("nsd") {
        return;
    }
    let nsd = Nsd::start();
    let hosts = ask(nsd.address, &["many.example"], &[]).mail.remove(0).unwrap().hosts;
    let names: Vec<String> = hosts.into_iter().map(|host| host.name).collect();
    assert_eq!(names, (0..100).map(|index| format!("mx{index}.example")).collect::<Vec<_>>());
}
