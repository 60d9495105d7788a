//! The resolver on its executor against name servers that say what they should not (SA-13), or nothing (SA-14).

mod server;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::{poll_once, zip};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, MX, PTR, SOA, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use ringpost::config::DnsSettings;
use ringpost::io::dns::{DnsFailure, MailHosts, Resolver};
use ringpost::io::executor;
use server::{Asked, Carrier, NameServer, Reply, name};

/// So long a server that answers may take on a busy machine.
const PATIENT_S: u64 = 20;

/// So long one is waited for that does not, and others beside it must have answered.
const HASTY_S: u64 = 2;

/// Runs `body` with a resolver that asks `servers`, all of which answer.
fn resolve<F, T>(servers: &[SocketAddr], body: impl FnOnce(Resolver) -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    resolve_within(PATIENT_S, servers, body)
}

/// Runs `body` with a resolver that asks each of `servers` once, for so many seconds.
fn resolve_within<F, T>(
    timeout_s: u64,
    servers: &[SocketAddr],
    body: impl FnOnce(Resolver) -> F + Send + 'static,
) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let settings = DnsSettings { servers: servers.to_vec(), timeout_s: Some(timeout_s), attempts: Some(1) };
    let (handle, _) = executor::start("dns", None, |_| async move { body(Resolver::new(settings)).await })
        .expect("an executor starts");
    handle.join().expect("the executor ends well")
}

fn mail_hosts(server: &NameServer, domain: &'static str) -> Result<MailHosts, DnsFailure> {
    resolve(&[server.address], move |resolver| async move { resolver.mail_hosts(domain).await })
}

fn names(hosts: Result<MailHosts, DnsFailure>) -> Vec<String> {
    let hosts = hosts.unwrap_or_else(|failure| panic!("{failure}"));
    hosts.hosts.into_iter().map(|host| host.name).collect()
}

fn temporary<T: std::fmt::Debug>(failed: Result<T, DnsFailure>) -> String {
    match failed {
        Err(DnsFailure::Temporary(why)) => why,
        other => panic!("{other:?} is not temporary"),
    }
}

fn mx(preference: u16, exchange: &str) -> RData {
    RData::MX(MX::new(preference, name(exchange)))
}

fn ip(text: &str) -> RData {
    RData::from(text.parse::<IpAddr>().expect("tests use addresses that are some"))
}

/// An answer of its own for each kind of record.
fn one_of_each(asked: &Asked) -> Vec<Reply> {
    let data = match asked.kind() {
        RecordType::A => ip("192.0.2.1"),
        RecordType::AAAA => ip("2001:db8::1"),
        RecordType::MX => mx(10, "mx.test"),
        RecordType::PTR => RData::PTR(PTR(name("Host.test"))),
        RecordType::TXT => RData::TXT(TXT::from_bytes(vec![b"one ", b"text"])),
        _ => return vec![asked.response(ResponseCode::NotImp).into()],
    };
    vec![asked.answer(60, [data]).into()]
}

#[test]
fn each_kind_is_asked_for_and_found() {
    let server = NameServer::start(one_of_each);
    let (hosts, addresses, reverse, text) = resolve(&[server.address], |resolver| async move {
        let reverse = resolver.reverse(Ipv4Addr::new(192, 0, 2, 7).into()).await;
        let addresses = resolver.addresses("mx.test").await;
        (resolver.mail_hosts("A.test").await, addresses, reverse, resolver.text("_dmarc.a.test").await)
    });
    assert_eq!(names(hosts), ["mx.test"]);
    let ips: Vec<String> = addresses.unwrap().ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(reverse.unwrap(), ["host.test"]);
    assert_eq!(text.unwrap(), [b"one text"]);
    let mut asked: Vec<_> = server.asked().iter().map(|asked| (asked.name(), asked.kind())).collect();
    asked.sort();
    let expected = [
        ("7.2.0.192.in-addr.arpa", RecordType::PTR),
        ("_dmarc.a.test", RecordType::TXT),
        ("a.test", RecordType::MX),
        ("mx.test", RecordType::A),
        ("mx.test", RecordType::AAAA),
    ];
    assert_eq!(asked, expected.map(|(name, kind)| (name.to_owned(), kind)));
}

/// SA-13: another number, another port, another question come before the answer.
#[test]
fn forged_answers_are_passed_over() {
    let server = NameServer::start(|asked| {
        let forged = asked.answer(60, [mx(0, "evil.test")]);
        let mut number = forged.clone();
        number.metadata.id = number.metadata.id.wrapping_add(1);
        let mut question = forged.clone();
        question.queries[0].set_name(name("b.test"));
        let elsewhere = Reply::FromElsewhere(forged.to_vec().expect("the message can be written"));
        let noise = Reply::Bytes(vec![0xff; 700]);
        let good = asked.answer(60, [mx(10, "mx.test")]);
        vec![number.into(), elsewhere, question.into(), noise, Reply::Bytes(Vec::new()), good.into()]
    });
    assert_eq!(names(mail_hosts(&server, "a.test")), ["mx.test"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn numbers_and_ports_are_drawn_anew() {
    let server = NameServer::start(one_of_each);
    resolve(&[server.address], |resolver| async move {
        for index in 0..32 {
            resolver.mail_hosts(&format!("d{index}.test")).await.expect("the server answers");
        }
    });
    let distinct = |of: fn(&Asked) -> u16| {
        let all: std::collections::BTreeSet<u16> = server.asked().iter().map(of).collect();
        all.len()
    };
    // Of 28,000 ports and 65,536 numbers, 32 draws rarely meet.
    assert!(distinct(|asked| asked.peer.port()) > 24);
    assert!(distinct(|asked| asked.message.metadata.id) > 24);
}

/// SA-13: TC leads to TCP, and there come 64 KB with thousands of records.
#[test]
fn a_large_answer_comes_by_tcp() {
    let server = NameServer::start(|asked| {
        if asked.carrier == Carrier::Udp {
            let mut cut = asked.response(ResponseCode::NoError);
            cut.metadata.truncation = true;
            return vec![cut.into()];
        }
        let records = (0..1900).map(|index| mx(index, &format!("mx{index}.test")));
        let message = asked.answer(60, records).to_vec().expect("the message can be written");
        assert!(message.len() > 50_000, "{}", message.len());
        vec![Reply::Bytes(message)]
    });
    let hosts = names(mail_hosts(&server, "a.test"));
    assert_eq!((hosts.len(), hosts[0].as_str()), (100, "mx0.test"));
    let carriers: Vec<Carrier> = server.asked().iter().map(|asked| asked.carrier).collect();
    assert_eq!(carriers, [Carrier::Udp, Carrier::Tcp]);
}

/// By TCP: no answer, half of one, one to another question, noise, a length and nothing more.
#[test]
fn tcp_that_breaks_off_is_temporary() {
    let scripts: [fn(&Asked) -> Vec<Reply>; 5] = [
        |_| Vec::new(),
        |asked| {
            let whole = asked.answer(60, [mx(10, "mx.test")]).to_vec().expect("the message can be written");
            vec![Reply::Unframed([&[0, 200], &whole[..20]].concat())]
        },
        |asked| {
            let mut other = asked.answer(60, [mx(10, "mx.test")]);
            other.queries[0].set_name(name("b.test"));
            vec![other.into()]
        },
        |_| vec![Reply::Bytes(vec![0xa5; 65_535])],
        |_| vec![Reply::Unframed(vec![0xff, 0xff])],
    ];
    for script in scripts {
        let server = NameServer::start(move |asked| {
            if asked.carrier == Carrier::Tcp {
                return script(asked);
            }
            let mut cut = asked.response(ResponseCode::NoError);
            cut.metadata.truncation = true;
            vec![cut.into()]
        });
        let why = temporary(resolve_within(HASTY_S, &[server.address], |resolver| async move {
            resolver.mail_hosts("a.test").await
        }));
        assert!(why.starts_with(&format!("MX of a.test: {} ", server.address)), "{why}");
        assert_eq!(server.asked().len(), 2, "{why}");
    }
}

/// SA-13: under the right number and question, a compression loop and other rubbish.
#[test]
fn answers_that_cannot_be_read_lead_to_the_next_server() {
    let broken = NameServer::start(|asked| {
        let mut bytes = asked.response(ResponseCode::NoError).to_vec().expect("the message can be written");
        bytes[7] = 1;
        let owner = 0xc000 | u16::try_from(bytes.len()).expect("the message is short");
        bytes.extend_from_slice(&owner.to_be_bytes());
        bytes.extend_from_slice(b"\0\x0f\0\x01\0\0\0\x3c\0\x04\0\x0a\xc0\x0c");
        vec![Reply::Bytes(bytes)]
    });
    let good = NameServer::start(one_of_each);
    let hosts =
        resolve(
            &[broken.address, good.address],
            |resolver| async move { resolver.mail_hosts("a.test").await },
        );
    assert_eq!(names(hosts), ["mx.test"]);
    let why = temporary(mail_hosts(&broken, "a.test"));
    assert_eq!(why, format!("MX of a.test: {} sent what is no answer", broken.address));
}

#[test]
fn what_servers_say_leads_to_the_next_and_is_told() {
    let refusing = NameServer::start(|asked| vec![asked.response(ResponseCode::Refused).into()]);
    let failing = NameServer::start(|asked| vec![asked.response(ResponseCode::ServFail).into()]);
    let good = NameServer::start(one_of_each);
    let servers = [refusing.address, failing.address];
    let why = temporary(resolve(&servers, |resolver| async move { resolver.mail_hosts("a.test").await }));
    let [one, other] = servers;
    assert_eq!(why, format!("MX of a.test: {one} said REFUSED; {other} said SERVFAIL"));
    let servers = [refusing.address, failing.address, good.address];
    let hosts = resolve(&servers, |resolver| async move { resolver.mail_hosts("a.test").await });
    assert_eq!(names(hosts), ["mx.test"]);
}

/// SA-14: the first server is dead, and only the first lookup waits for it.
#[test]
fn a_silent_server_is_waited_for_once() {
    let silent = NameServer::start(|_| Vec::new());
    let good = NameServer::start(one_of_each);
    let waits = resolve_within(HASTY_S, &[silent.address, good.address], |resolver| async move {
        let mut waits = Vec::new();
        for index in 0..4 {
            let begun = Instant::now();
            resolver.mail_hosts(&format!("d{index}.test")).await.expect("the second server answers");
            waits.push(begun.elapsed());
        }
        waits
    });
    assert!(waits[0] >= Duration::from_secs(HASTY_S), "{waits:?}");
    assert_eq!((silent.asked().len(), good.asked().len()), (1, 4), "{waits:?}");
}

#[test]
fn nobody_listens() {
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
    let why = temporary(resolve(&[free], |resolver| async move { resolver.mail_hosts("a.test").await }));
    assert!(why.starts_with(&format!("MX of a.test: {free} cannot be reached (")), "{why}");
}

/// SA-14: hundreds of lookups and a dead server. All end, few are out at a time, and the shard goes on.
#[test]
fn a_dead_server_starves_nobody() {
    const LOOKUPS: usize = 600;
    let server = NameServer::start(|_| Vec::new());
    let address = server.address;
    let (early, failures, beats) = resolve_within(1, &[address], move |resolver| async move {
        static FAILURES: AtomicUsize = AtomicUsize::new(0);
        let begun = Instant::now();
        for index in 0..LOOKUPS {
            let resolver = resolver.clone();
            executor::spawn("test", async move {
                let failed = resolver.mail_hosts(&format!("d{index}.test")).await;
                assert!(matches!(failed, Err(DnsFailure::Temporary(_))), "{failed:?}");
                FAILURES.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut turns = executor::Turns::begin();
        let (mut beats, mut early) = (0, 0);
        while FAILURES.load(Ordering::Relaxed) < LOOKUPS && begun.elapsed() < Duration::from_secs(60) {
            turns.give().await;
            beats += 1;
            let so_far = server.asked().len();
            if begun.elapsed() < Duration::from_millis(900) {
                early = so_far;
            }
        }
        (early, FAILURES.load(Ordering::Relaxed), beats)
    });
    assert_eq!(failures, LOOKUPS);
    assert!(early <= 256, "{early} queries were out at a time");
    assert!(beats > 100, "the shard had only {beats} turns");
}

#[test]
fn who_asks_the_same_shares_one_query() {
    let server = NameServer::start(|asked| {
        std::thread::sleep(Duration::from_millis(100));
        one_of_each(asked)
    });
    let hosts = resolve(&[server.address], |resolver| async move {
        let other = resolver.clone();
        let pair = zip(resolver.mail_hosts("a.test"), other.mail_hosts("A.TEST.")).await;
        (pair, resolver.mail_hosts("a.test").await)
    });
    let ((one, other), kept) = hosts;
    assert!(one == other && other == kept);
    assert_eq!(names(kept), ["mx.test"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn giving_up_loses_nothing() {
    let server = NameServer::start(|asked| {
        std::thread::sleep(Duration::from_millis(100));
        one_of_each(asked)
    });
    let hosts = resolve(&[server.address], |resolver| async move {
        {
            let given_up = pin!(resolver.mail_hosts("a.test"));
            assert!(poll_once(given_up).await.is_none());
        }
        resolver.mail_hosts("a.test").await
    });
    assert_eq!(names(hosts), ["mx.test"]);
    assert_eq!(server.asked().len(), 1);
}

/// Whoever gave up before there was a turn for the query causes none.
#[test]
fn nobody_is_asked_for_those_who_are_gone() {
    let server = NameServer::start(|asked| match asked.name().as_str() {
        "a.test" => one_of_each(asked),
        _ => Vec::new(),
    });
    let hosts = resolve_within(HASTY_S, &[server.address], |resolver| async move {
        for index in 0..400 {
            let domain = format!("d{index}.test");
            let given_up = pin!(resolver.mail_hosts(&domain));
            assert!(poll_once(given_up).await.is_none());
        }
        resolver.mail_hosts("a.test").await
    });
    assert_eq!(names(hosts), ["mx.test"]);
    assert_eq!(server.asked().len(), 256 + 1);
}

/// A server that cannot even be sent to: the lookup ends before anybody waits for it.
#[test]
fn a_lookup_may_end_at_once() {
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 53));
    let failed = resolve(&[nowhere], |resolver| async move {
        let first = resolver.mail_hosts("a.test").await;
        (first, resolver.mail_hosts("a.test").await)
    });
    assert!(temporary(failed.0).contains("cannot be reached"));
    assert!(temporary(failed.1).contains("cannot be reached"));
}

/// RFC 2308: what does not exist is known for as long as its zone says, and a failure is not kept.
#[test]
fn what_is_kept() {
    let server = NameServer::start(|asked| {
        let code = match asked.name().as_str() {
            "missing.test" => ResponseCode::NXDomain,
            "failing.test" => ResponseCode::ServFail,
            _ => ResponseCode::NoError,
        };
        let mut message = asked.response(code);
        if code != ResponseCode::ServFail {
            let zone = RData::SOA(SOA::new(name("ns.test"), name("admin.test"), 1, 2, 3, 4, 300));
            message.add_authority(Record::from_rdata(name("test"), 300, zone));
        }
        vec![message.into()]
    });
    let all = resolve(&[server.address], |resolver| async move {
        let mut all = Vec::new();
        for domain in ["missing.test", "failing.test", "empty.test"].repeat(2) {
            all.push(resolver.mail_hosts(domain).await);
        }
        all
    });
    assert_eq!((&all[0], &all[3]), (&Err(DnsFailure::NoSuchDomain), &Err(DnsFailure::NoSuchDomain)));
    assert!(matches!(all[4], Err(DnsFailure::Temporary(_))));
    let hosts = all[5].clone().unwrap();
    assert!(hosts.is_implicit && all[2] == all[5]);
    assert_eq!(names(Ok(hosts)), ["empty.test"]);
    let count = |domain: &str| server.asked().iter().filter(|asked| asked.name() == domain).count();
    assert_eq!((count("missing.test"), count("failing.test"), count("empty.test")), (1, 2, 1));
}

#[test]
fn one_family_of_addresses_is_enough() {
    let server = NameServer::start(|asked| match asked.kind() {
        RecordType::A => one_of_each(asked),
        _ => Vec::new(),
    });
    let addresses =
        resolve_within(
            HASTY_S,
            &[server.address],
            |resolver| async move { resolver.addresses("mx.test").await },
        )
        .unwrap();
    assert_eq!(addresses.ips, [IpAddr::from([192, 0, 2, 1])]);
}

/// The target of an MX record must not be an alias (RFC 5321 5.1), and often is.
#[test]
fn aliases_are_followed_by_the_next_query() {
    let server = NameServer::start(|asked| match asked.name().as_str() {
        "mx.test" => vec![asked.answer(60, [RData::CNAME(CNAME(name("host.example")))]).into()],
        "host.example" => one_of_each(asked),
        _ => Vec::new(),
    });
    let addresses =
        resolve(&[server.address], |resolver| async move { resolver.addresses("mx.test").await }).unwrap();
    assert_eq!(addresses.ips.len(), 2);
    assert_eq!(server.asked().len(), 4);
}

/// SA-13: names with octets that no host has, and one that is an address.
#[test]
fn names_from_strangers_are_host_names() {
    let server = NameServer::start(|asked| {
        let hostile = ["a\0b.test", "a;$(id).test", "a\r\nb.test", "192.0.2.1", "", "-.test"];
        let data: Vec<RData> = match asked.kind() {
            RecordType::PTR => hostile.iter().map(|text| RData::PTR(PTR(name(text)))).collect(),
            _ => hostile.iter().map(|text| mx(10, text)).collect(),
        };
        vec![asked.answer(60, data).into()]
    });
    let (reverse, hosts) = resolve(&[server.address], |resolver| async move {
        (resolver.reverse(Ipv4Addr::LOCALHOST.into()).await, resolver.mail_hosts("a.test").await)
    });
    assert_eq!(reverse, Ok(Vec::new()));
    assert_eq!(hosts, Err(DnsFailure::NoUsableHost));
}

/// RFC 6761 6.3; and what cannot be a name.
#[test]
fn names_that_nobody_is_asked_for() {
    let server = NameServer::start(one_of_each);
    let (hosts, addresses, bad) = resolve(&[server.address], |resolver| async move {
        let bad = (resolver.mail_hosts("a b").await, resolver.addresses("192.0.2.1").await);
        (resolver.mail_hosts("localhost").await, resolver.addresses("mx.localhost.").await, bad)
    });
    assert_eq!(names(hosts), ["localhost"]);
    assert!(addresses.unwrap().ips.iter().all(IpAddr::is_loopback));
    assert_eq!(bad, (Err(DnsFailure::NoSuchDomain), Err(DnsFailure::NoSuchDomain)));
    assert!(server.asked().is_empty());
}
