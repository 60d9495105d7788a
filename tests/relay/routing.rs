//! Where mail goes: MX records in all their shapes, address literals, and what no mail can be sent to.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, MX, TXT};
use hickory_proto::rr::{RData, RecordType};

use crate::dsn::Notification;
use crate::mail::{
    ALICE, Setup, count_mail, is_queued, note, send, wait_for, wait_for_arrivals, wait_for_mail,
    wait_until_done,
};
use crate::names::{Asked, NameServer, Reply, name};
use crate::remote::{Act, Character, PORT, Remote, Verb, own_address};
use crate::server::SMTP;

/// The least that the server keeps an answer for.
const TTL_S: u32 = 5;

/// A zone for tests: records by name.
struct Zone {
    records: Vec<(&'static str, RData)>,
}

impl Zone {
    fn mx(mut self, domain: &'static str, preference: u16, host: &str) -> Self {
        self.records.push((domain, RData::MX(MX::new(preference, name(host)))));
        self
    }

    fn host(mut self, host: &'static str, ip: IpAddr) -> Self {
        self.records.push((host, RData::from(ip)));
        self
    }

    fn alias(mut self, from: &'static str, to: &str) -> Self {
        self.records.push((from, RData::CNAME(CNAME(name(to)))));
        self
    }

    /// The name exists, and nothing of use for mail is known about it.
    fn text(mut self, name: &'static str) -> Self {
        self.records.push((name, RData::TXT(TXT::new(vec!["no mail here".to_owned()]))));
        self
    }

    fn serve(self) -> NameServer {
        NameServer::start(move |asked| self.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> Vec<Reply> {
        let wanted = asked.name();
        if wanted == "servfail.test" {
            return vec![asked.response(ResponseCode::ServFail).into()];
        }
        let of_name: Vec<&RData> =
            self.records.iter().filter(|(name, _)| *name == wanted).map(|(_, data)| data).collect();
        if of_name.is_empty() {
            return vec![asked.response(ResponseCode::NXDomain).into()];
        }
        let fits =
            |data: &&&RData| data.record_type() == asked.kind() || data.record_type() == RecordType::CNAME;
        vec![asked.answer(TTL_S, of_name.iter().filter(fits).map(|data| (*data).clone())).into()]
    }
}

fn zone() -> Zone {
    Zone { records: Vec::new() }
}

#[test]
fn mx_records_lead_to_the_best_host_that_answers() {
    let [best, second] = [(); 2].map(|()| Remote::decent());
    let [left, right] = [(); 2].map(|()| Remote::decent());
    let silent = Remote::start(Character::decent().at(Verb::Connect, Act::Silence));
    let refusing = Remote::start(
        Character::decent().at(Verb::Connect, Act::SayAndClose("554 5.3.2 No mail here".into())),
    );
    let names = zone()
        .mx("best.test", 10, "best.hosts.test")
        .mx("best.test", 20, "second.hosts.test")
        .mx("closed.test", 10, "closed.hosts.test")
        .mx("closed.test", 20, "second.hosts.test")
        .mx("silent.test", 10, "silent.hosts.test")
        .mx("silent.test", 20, "second.hosts.test")
        .mx("refusing.test", 10, "refusing.hosts.test")
        .mx("refusing.test", 20, "second.hosts.test")
        .mx("missing.test", 10, "nowhere.hosts.test")
        .mx("missing.test", 20, "second.hosts.test")
        .mx("equal.test", 10, "left.hosts.test")
        .mx("equal.test", 10, "right.hosts.test")
        .alias("alias.test", "best.test")
        .mx("aliased-mx.test", 10, "aliased.hosts.test")
        .alias("aliased.hosts.test", "best.hosts.test")
        .host("implicit.test", best.address.ip())
        .host("best.hosts.test", best.address.ip())
        .host("second.hosts.test", second.address.ip())
        .host("silent.hosts.test", silent.address.ip())
        .host("refusing.hosts.test", refusing.address.ip())
        .host("closed.hosts.test", own_address().into())
        .host("left.hosts.test", left.address.ip())
        .host("right.hosts.test", right.address.ip())
        .serve();
    let server = Setup::new()
        .resolver(names.address)
        .more("\n[[shaping]]\nmessages_per_connection = 1\n\n[[shaping]]\ndomain = \"silent.test\"\ngreeting_s = 1\n")
        .start();
    let to_best = ["best.test", "alias.test", "aliased-mx.test", "implicit.test"];
    let to_second = ["closed.test", "silent.test", "refusing.test", "missing.test"];
    for domain in to_best.iter().chain(&to_second) {
        send(&server, ALICE, &[&format!("a@{domain}")], &note("by the book"));
    }
    send(&server, ALICE, &[&format!("a@[{}]", best.address.ip())], &note("to a literal"));
    for index in 0..20 {
        send(&server, ALICE, &[&format!("r{index}@equal.test")], &note("to equals"));
    }
    let came = wait_for_arrivals(&server, &best, to_best.len() + 1);
    for domain in to_best {
        assert!(came.iter().any(|arrival| arrival.has(&format!("a@{domain}"))), "{domain}");
    }
    assert!(came.iter().any(|arrival| arrival.has(&format!("a@[{}]", best.address.ip()))));
    let came = wait_for_arrivals(&server, &second, to_second.len());
    for domain in to_second {
        assert!(came.iter().any(|arrival| arrival.has(&format!("a@{domain}"))), "{domain}");
    }
    wait_until_done(&server, "equal.test");
    let shares = [left.arrivals().len(), right.arrivals().len()];
    assert_eq!(shares[0] + shares[1], 20);
    assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
    wait_until_done(&server, "silent.test");
}

#[test]
fn what_dns_forbids_is_returned_and_what_it_does_not_know_waits() {
    let names = zone()
        .mx("null.test", 0, "")
        .mx("self.test", 10, "mail.example.test")
        .text("bare.test")
        .mx("hostless.test", 10, "missing.hosts.test")
        .mx("hostless.test", 20, "bare.test")
        .mx("unsure.test", 10, "missing.hosts.test")
        .mx("unsure.test", 20, "servfail.test")
        .serve();
    let server = Setup::new().resolver(names.address).start();
    let cases = [
        ("a@null.test", "5.1.10"),
        ("a@nowhere.test", "5.1.2"),
        ("a@self.test", "5.4.6"),
        // RFC 5321 5.1: there is nothing that could be tried.
        ("a@bare.test", "5.4.4"),
        ("a@hostless.test", "5.4.4"),
    ];
    let waiting = ["a@servfail.test", "a@unsure.test"];
    let mut seen = Vec::new();
    for recipient in cases.map(|(recipient, _)| recipient) {
        send(&server, ALICE, &[recipient], &note("to nowhere"));
    }
    for recipient in waiting {
        send(&server, ALICE, &[recipient], &note("to somewhere"));
    }
    for bounce in wait_for_mail(&server, ALICE, cases.len()) {
        let bounce = Notification::read(&bounce);
        let fields = &bounce.recipients[0];
        seen.push((fields["final-recipient"].replace("rfc822; ", ""), fields["status"].clone()));
        assert!(!fields.contains_key("remote-mta"));
    }
    seen.sort();
    let mut expected = cases.map(|(to, status)| (to.to_owned(), status.to_owned()));
    expected.sort();
    assert_eq!(seen, expected);
    assert!(waiting.iter().all(|recipient| is_queued(&server, recipient)));
}

/// Routes by sender: their mail is neither returned nor held up for what befalls other mail of its destination.
#[test]
fn who_sends_decides_before_anything_becomes_of_the_mail() {
    let smart = Remote::decent();
    let names = zone().mx("null.test", 0, "").serve();
    let dead = "\n[[route]]\ndomain = \"dead.test\"\nto = [\"127.0.0.1:9\"]\n";
    let own = |domain: &str| {
        let keys = "sender_domain = \"news.test\"\n";
        format!("\n[[route]]\ndomain = \"{domain}\"\nto = [{}]\n{keys}", smart.target())
    };
    let routes = ["null.test", "nowhere.test", "dead.test"].map(own).concat();
    let server = Setup::new().resolver(names.address).more(dead).more(&routes).start();
    // Several of each, so that both shards have some.
    for index in 0..4 {
        for domain in ["null.test", "nowhere.test", "dead.test"] {
            send(&server, ALICE, &[&format!("a{index}@{domain}")], &note("common mail"));
        }
    }
    wait_for_mail(&server, ALICE, 8);
    wait_for("the dead site is left alone", &server, || server.log().contains("mail waits").then_some(()));
    for index in 0..4 {
        for domain in ["null.test", "nowhere.test", "dead.test"] {
            send(&server, "b@news.test", &[&format!("b{index}@{domain}")], &note("by the smart host"));
        }
    }
    let begun = Instant::now();
    let came = wait_for_arrivals(&server, &smart, 12);
    assert!(
        came.iter().all(|arrival| arrival.taken_for[0].starts_with('b')),
        "nobody else's mail goes there"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it did not wait for the dead site: {:?}",
        begun.elapsed()
    );
    assert_eq!(count_mail(&server, ALICE), 8);
}

/// RFC 5321 5.1: a listener on all addresses is found behind each address of the machine, whatever its name there.
#[test]
fn mail_does_not_come_back_by_an_address_of_ours() {
    let port =
        TcpListener::bind("0.0.0.0:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    // An address of this machine that is not the loopback's, if it has one; nothing is sent.
    let outer = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()))
        .map_or(IpAddr::from(own_address()), |address| address.ip());
    let names = zone()
        .mx("ours.test", 10, "us.hosts.test")
        .mx("ours6.test", 10, "us6.hosts.test")
        .mx("outer.test", 10, "outer.hosts.test")
        .host("us.hosts.test", own_address().into())
        .host("us6.hosts.test", Ipv6Addr::LOCALHOST.into())
        .host("outer.hosts.test", outer)
        .serve();
    let listeners: String = ["0.0.0.0", "[::]"]
        .iter()
        .map(|ip| {
            format!("\n[[listener]]\nprotocol = \"smtp\"\naddress = \"{ip}:{port}\"\ntls = \"starttls\"\n")
        })
        .collect();
    let server = Setup::new()
        .also_queue("private_addresses = \"allow\"\n")
        .more(&format!(
            "\n[dns]\nservers = [\"{}\"]\ntimeout_s = 2\nattempts = 1\n\n[[route]]\ndomain = \"*\"\nport = {port}\n",
            names.address
        ))
        .more(&listeners)
        .start();
    let literal = format!("a@[{outer}]");
    let all = ["a@ours.test", "a@ours6.test", "a@outer.test", &*literal];
    all.iter().for_each(|to| send(&server, ALICE, &[to], &note("in a circle")));
    for bounce in wait_for_mail(&server, ALICE, all.len()) {
        let bounce = Notification::read(&bounce);
        assert_eq!(bounce.recipients[0]["status"], "5.4.6", "{:?}", bounce.recipients);
    }
    // Nobody came in from here but the tests.
    assert_eq!(server.log().matches("message accepted").count(), all.len(), "{}", server.log());
}

/// RFC 5321 5.1: as a host of second choice, mail is for the better ones alone, and waits for them.
#[test]
fn hosts_that_are_no_better_than_we_are_not_asked() {
    let worse = Remote::at(SocketAddr::new(own_address().into(), SMTP), Character::decent());
    let silent = own_address();
    let mut server = Setup::new().prepare();
    let names = zone()
        .mx("second.test", 10, "better.hosts.test")
        .mx("second.test", 20, "us.hosts.test")
        .mx("second.test", 30, "worse.hosts.test")
        .host("better.hosts.test", silent.into())
        .host("us.hosts.test", server.address().into())
        .host("worse.hosts.test", worse.address.ip())
        .serve();
    let config = fs::read_to_string(server.config_path()).expect("it was written");
    let config = config.replace("\"127.0.0.1:9\"", &format!("\"{}\"", names.address));
    let route = format!(
        "\n[[route]]\ndomain = \"*\"\nport = {SMTP}\n\n[[shaping]]\ndead_first_s = 1\ndead_max_s = 1\n"
    );
    let config = config.replace("[queue]\n", "[queue]\nprivate_addresses = \"allow\"\n") + &route;
    fs::write(server.config_path(), config).expect("it can be written");
    server.start();
    send(&server, ALICE, &["a@second.test"], &note("for the first"));
    wait_for("its hosts are looked up", &server, || {
        names.asked().iter().any(|asked| asked.name() == "better.hosts.test").then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(is_queued(&server, "a@second.test"), "{}", server.log());
    let better = Remote::at(SocketAddr::new(silent.into(), SMTP), Character::decent());
    wait_for_arrivals(&server, &better, 1);
    wait_until_done(&server, "second.test");
    assert!(worse.ledger().connections.is_empty());
}

/// A host has addresses of both families: the one that answers is used, and a source of one family asks that one alone.
#[test]
fn both_families_of_addresses() {
    let [old, both, silent] = [(); 3].map(|()| own_address());
    let old = Remote::at(SocketAddr::new(old.into(), 0), Character::decent());
    let port = old.address.port();
    let new = Remote::at(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), Character::decent());
    let names = zone()
        .mx("four.test", 10, "four.hosts.test")
        .mx("six.test", 10, "six.hosts.test")
        .mx("bound.test", 10, "bound.hosts.test")
        .host("four.hosts.test", old.address.ip())
        .host("four.hosts.test", "2001:db8:ffff::1".parse().expect("an address that is nobody's"))
        .host("six.hosts.test", silent.into())
        .host("six.hosts.test", Ipv6Addr::LOCALHOST.into())
        .host("bound.hosts.test", old.address.ip())
        .host("bound.hosts.test", Ipv6Addr::LOCALHOST.into())
        .serve();
    let server = Setup::new()
        .also_queue("private_addresses = \"allow\"\n")
        .more(&format!(
            "\n[dns]\nservers = [\"{}\"]\ntimeout_s = 2\nattempts = 1\n\n[[route]]\ndomain = \"*\"\nport = {port}\n",
            names.address
        ))
        .more(&format!("\n[[route]]\ndomain = \"literal.test\"\nto = [{}]\n", new.target()))
        .more(&format!("\n[[route]]\ndomain = \"bound.test\"\nport = {port}\npool = \"four\"\n"))
        .more(&format!("\n[[source]]\nname = \"four\"\naddress = \"{both}\"\n"))
        .more("\n[[pool]]\nname = \"four\"\nsources = [\"four\"]\n\n[[shaping]]\nconnect_s = 2\n")
        .start();
    for domain in ["four.test", "six.test", "literal.test"] {
        send(&server, ALICE, &[&format!("a@{domain}")], &note("to one of two"));
    }
    for index in 0..5 {
        send(&server, ALICE, &[&format!("r{index}@bound.test")], &note("from one family"));
    }
    send(&server, ALICE, &[&format!("b@[IPv6:{}]", Ipv6Addr::LOCALHOST)], &note("to a literal"));
    wait_for_arrivals(&server, &new, 3);
    wait_for_arrivals(&server, &old, 6);
    for to in ["a@six.test", "a@literal.test", "b@[IPv6:::1]"] {
        let arrival = new.arrival_for(to);
        assert!(new.ledger().connections[arrival.connection].peer.is_ipv6());
    }
    old.arrival_for("a@four.test");
    let connections = old.ledger().connections.clone();
    for index in 0..5 {
        let arrival = old.arrival_for(&format!("r{index}@bound.test"));
        assert_eq!(connections[arrival.connection].peer.ip(), IpAddr::from(both));
    }
    wait_until_done(&server, "bound.test");
    assert_eq!(count_mail(&server, ALICE), 0);
}

/// A name server that comes back: what waited for it goes.
#[test]
fn mail_waits_for_dns() {
    let remote = Remote::decent();
    let is_up = Arc::new(AtomicBool::new(false));
    let (up, ip) = (Arc::clone(&is_up), remote.address.ip());
    let zone = zone().mx("a.test", 10, "host.test").host("host.test", ip);
    let names = NameServer::start(move |asked| match up.load(Ordering::Relaxed) {
        true => zone.answer(asked),
        false => vec![asked.response(ResponseCode::ServFail).into()],
    });
    let server = Setup::new().resolver(names.address).start();
    send(&server, ALICE, &["b@a.test"], &note("patience"));
    wait_for("it was asked for", &server, || (!names.asked().is_empty()).then_some(()));
    assert!(is_queued(&server, "b@a.test"));
    is_up.store(true, Ordering::Relaxed);
    // An operator who knows that the trouble is over need not wait for the next look.
    server.signal("HUP");
    wait_for_arrivals(&server, &remote, 1);
}

/// The owner of a domain moves it to another host while its mail waits for the one that is gone.
#[test]
fn mail_that_waits_follows_the_mx_records_when_it_is_tried_again() {
    let remote = Remote::decent();
    let has_moved = Arc::new(AtomicBool::new(false));
    let (moved, gone) = (Arc::clone(&has_moved), own_address());
    let before = zone().mx("a.test", 10, "old.hosts.test").host("old.hosts.test", gone.into());
    let after = zone().mx("a.test", 10, "new.hosts.test").host("new.hosts.test", remote.address.ip());
    let names = NameServer::start(move |asked| match moved.load(Ordering::Relaxed) {
        true => after.answer(asked),
        false => before.answer(asked),
    });
    let server = Setup::new()
        .cores(1)
        .retries(900, 900)
        .resolver(names.address)
        .more("\n[[shaping]]\ndomain = \"a.test\"\nfailures_until_dead = 1\ndead_first_s = 900\n")
        .start();
    send(&server, ALICE, &["first@a.test"], &note("finds out"));
    wait_for("the old host is left alone", &server, || {
        server.log().contains("message deferred").then_some(())
    });
    for index in 0..20 {
        send(&server, ALICE, &[&format!("r{index}@a.test")], &note("waits"));
    }
    has_moved.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(u64::from(TTL_S) + 1));
    server.done(&["queue", "retry", "--everything"]);
    wait_for_arrivals(&server, &remote, 21);
    wait_until_done(&server, "a.test");
}

/// What the old host has promised to take soon may still go there, and nothing else.
#[test]
fn mail_that_waits_goes_by_the_configuration_that_was_read_last() {
    const COUNT: usize = 80;
    let [old, new] = [(); 2].map(|()| Remote::decent());
    let server = Setup::new()
        .cores(1)
        .route("a.test", &old)
        .more("\n[[shaping]]\ndomain = \"a.test\"\nconnections = 1\nmessage_rate = \"5/s\"\n")
        .start();
    for index in 0..COUNT {
        send(&server, ALICE, &[&format!("r{index}@a.test")], &note("waits"));
    }
    let config = fs::read_to_string(server.config_path()).expect("it was written");
    fs::write(server.config_path(), config.replace(&old.target(), &new.target())).expect("written");
    let at_old = wait_for_arrivals(&server, &old, 3).len();
    assert!(at_old < COUNT / 2, "{at_old} have gone already");
    server.signal("HUP");
    wait_until_done(&server, "a.test");
    let later = old.arrivals().len() - at_old;
    assert!(later <= 15, "the old host got {later} more");
    assert_eq!(at_old + later + new.arrivals().len(), COUNT);
}

/// A name server takes its time while the operator gives the mail another way: what it says then is of no interest.
#[test]
fn what_was_looked_up_before_the_configuration_was_read_again_counts_for_nothing() {
    const HELD: Duration = Duration::from_millis(1800);
    let [old, new] = [(); 2].map(|()| Remote::decent());
    let zone = zone().mx("a.test", 10, "old.hosts.test").host("old.hosts.test", old.address.ip());
    let names = NameServer::start(move |asked| {
        if asked.kind() == RecordType::MX {
            std::thread::sleep(HELD);
        }
        zone.answer(asked)
    });
    let server = Setup::new().cores(1).resolver(names.address).start();
    let config = fs::read_to_string(server.config_path()).expect("it was written");
    let route = format!("\n[[route]]\ndomain = \"a.test\"\nto = [{}]\n", new.target());
    send(&server, ALICE, &["first@a.test"], &note("waits for its way"));
    wait_for("the name server is asked", &server, || (!names.asked().is_empty()).then_some(()));
    fs::write(server.config_path(), config + &route).expect("it can be written");
    server.signal("HUP");
    wait_for_arrivals(&server, &new, 1);
    // The answer of the name server has come long ago.
    std::thread::sleep(2 * HELD);
    for index in 0..5 {
        send(&server, ALICE, &[&format!("r{index}@a.test")], &note("by the new way"));
    }
    wait_until_done(&server, "a.test");
    assert_eq!((old.arrivals().len(), new.arrivals().len()), (0, 6));
}

/// Hosts that took mail a moment ago go on taking it while nobody can say where they are.
#[test]
fn mail_that_flows_does_not_stop_for_a_name_server_that_fails() {
    const COUNT: usize = 60;
    let remote = Remote::decent();
    let is_down = Arc::new(AtomicBool::new(false));
    let (down, ip) = (Arc::clone(&is_down), remote.address.ip());
    let zone = zone().mx("a.test", 10, "host.test").host("host.test", ip);
    let names = NameServer::start(move |asked| match down.load(Ordering::Relaxed) {
        true => vec![asked.response(ResponseCode::ServFail).into()],
        false => zone.answer(asked),
    });
    let server = Setup::new()
        .cores(1)
        .resolver(names.address)
        .more("\n[[shaping]]\ndomain = \"a.test\"\nconnections = 1\nmessage_rate = \"4/s\"\n")
        .start();
    for index in 0..COUNT {
        send(&server, ALICE, &[&format!("r{index}@a.test")], &note("flows"));
    }
    wait_for_arrivals(&server, &remote, 3);
    is_down.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(u64::from(TTL_S) + 1));
    let before = names.asked().len();
    // The way is looked up anew.
    server.done(&["queue", "retry", "--everything"]);
    wait_for("the name server is asked", &server, || (names.asked().len() > before).then_some(()));
    wait_for_arrivals(&server, &remote, COUNT);
}

/// SA-15, LP-08: a stranger's MX record does not lead into the network behind the server.
#[test]
fn private_addresses_are_not_for_mx_records() {
    let remote = Remote::decent();
    let names = zone().mx("a.test", 10, "host.test").host("host.test", remote.address.ip()).serve();
    let dns = format!(
        "\n[dns]\nservers = [\"{}\"]\ntimeout_s = 2\nattempts = 1\n\n[[route]]\ndomain = \"*\"\nport = {PORT}\n",
        names.address
    );
    let server = Setup::new().more(&dns).start();
    let literal = format!("a@[{}]", remote.address.ip());
    send(&server, ALICE, &["b@a.test", &literal], &note("to the inside"));
    wait_for("both were looked at", &server, || {
        let log = names.asked().iter().filter(|asked| asked.kind() == RecordType::A).count();
        (log > 0).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(remote.ledger().connections.is_empty());
    // A route is the operator's own word, for its mail alone: nobody else's uses its connections.
    drop(server);
    let inside = format!("\n[[route]]\ndomain = \"inside.test\"\nto = [\"host.test:{PORT}\"]\n");
    let server = Setup::new().more(&dns).more(&inside).start();
    send(&server, ALICE, &["b@inside.test"], &note("to the inside"));
    wait_for_arrivals(&server, &remote, 1);
    send(&server, ALICE, &["b@a.test"], &note("by a stranger's word"));
    wait_for("it is known why it waits", &server, || {
        server.done(&["queue", "list", "--json"]).contains("outside of private networks").then_some(())
    });
    assert_eq!(remote.arrivals().len(), 1);
}
