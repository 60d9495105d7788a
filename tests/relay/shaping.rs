//! Limits as the other side measures them: connections, their rate, the rate of messages; and that none waits longer
//! than it must.

use std::time::{Duration, Instant};

use crate::mail::{ALICE, Setup, note, smtp, wait_for_arrivals};
use crate::remote::{Act, Character, Remote, Verb};
use crate::server::Server;

/// A socket may be late by this much, or have been early.
const JITTER: Duration = Duration::from_millis(120);

fn send_many(server: &Server, domain: &str, count: usize) {
    let mut client = smtp(server);
    for index in 0..count {
        assert!(client.message(ALICE, &[&format!("r{index}@{domain}")], &note("shaped")).expect("a reply"));
    }
}

/// The most moments that lie in any span of this length.
fn most_within(times: &[Instant], span: Duration) -> usize {
    let mut times = times.to_vec();
    times.sort();
    let within = |begin: &Instant| times.iter().filter(|at| **at >= *begin && **at - *begin < span).count();
    times.iter().map(within).max().unwrap_or(0)
}

#[test]
fn connections_at_a_time() {
    let remote = Remote::start(Character::decent().at(Verb::End, Act::Late(30, "250 2.0.0 Ok".into())));
    let server = Setup::new()
        .route("remote.test", &remote)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnections = 3\nmessages_per_connection = 4\n")
        .start();
    send_many(&server, "remote.test", 60);
    wait_for_arrivals(&server, &remote, 60);
    let ledger = remote.ledger();
    assert_eq!(ledger.open_most, 3);
    assert!(ledger.connections.len() >= 15);
    assert!(ledger.connections.iter().all(|connection| connection.messages <= 4));
}

#[test]
fn connections_in_a_time() {
    let remote = Remote::decent();
    let server = Setup::new()
        .route("remote.test", &remote)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnection_rate = \"3/s\"\nmessages_per_connection = 1\n")
        .start();
    send_many(&server, "remote.test", 15);
    let begun = Instant::now();
    wait_for_arrivals(&server, &remote, 15);
    let opened: Vec<Instant> =
        remote.ledger().connections.iter().map(|connection| connection.opened).collect();
    assert_eq!(opened.len(), 15);
    assert!(most_within(&opened, Duration::from_secs(1) - JITTER) <= 3);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[test]
fn messages_in_a_time_and_none_waits_for_longer() {
    let remote = Remote::decent();
    let slow = Remote::decent();
    let server = Setup::new()
        .route("remote.test", &remote)
        .route("slow.test", &slow)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nmessage_rate = \"5/s\"\n")
        .more("\n[[shaping]]\ndomain = \"slow.test\"\nmessage_rate = \"1/1500ms\"\n")
        .start();
    send_many(&server, "remote.test", 25);
    send_many(&server, "slow.test", 4);
    let arrivals = wait_for_arrivals(&server, &remote, 25);
    let times: Vec<Instant> = arrivals.iter().map(|arrival| arrival.at).collect();
    assert!(most_within(&times, Duration::from_secs(1) - JITTER) <= 5);
    let lasted = times[24] - times[0];
    assert!(lasted >= Duration::from_secs(4) - JITTER && lasted < Duration::from_secs(7), "{lasted:?}");
    // The next one leaves when it may, not when somebody happens to look.
    let arrivals = wait_for_arrivals(&server, &slow, 4);
    for pair in arrivals.windows(2) {
        let gap = pair[1].at - pair[0].at;
        let exact = Duration::from_millis(1500);
        assert!(gap >= exact - JITTER && gap < exact + Duration::from_millis(700), "{gap:?}");
    }
}

/// The header says whose mail it is; the rate is for all sites and shards together, and for nobody else.
#[test]
fn a_tenant_has_a_rate_over_all_sites() {
    let [left, right] = [(); 2].map(|()| Remote::decent());
    let server = Setup::new()
        .route("left.test", &left)
        .route("right.test", &right)
        .more("\n[[tenant]]\nname = \"acme\"\nmessage_rate = \"10/s\"\n\n[[tenant]]\nname = \"free\"\n")
        .more("\n[tenants]\nheader = \"X-Tenant\"\n")
        .start();
    let send = |tenant: &str, client: &mut crate::client::Smtp, index: usize| {
        let message = [format!("X-Tenant: {tenant}\r\n").into_bytes(), note("of a tenant")].concat();
        for domain in ["left.test", "right.test"] {
            let to = format!("{tenant}{index}@{domain}");
            assert!(client.message(ALICE, &[&to], &message).expect("a reply"));
        }
    };
    // Several connections, so that both shards have mail.
    let mut clients: Vec<_> = (0..8).map(|_| smtp(&server)).collect();
    for index in 0..16 {
        send("acme", &mut clients[index % 8], index);
    }
    let begun = Instant::now();
    for index in 0..16 {
        send("free", &mut clients[index % 8], index);
    }
    crate::mail::wait_for("mail of others is not held up", &server, || {
        let count = |remote: &Remote| {
            remote.arrivals().iter().filter(|arrival| arrival.taken_for[0].starts_with("free")).count()
        };
        (count(&left) + count(&right) == 32).then_some(())
    });
    let freed = begun.elapsed();
    let times: Vec<Instant> = [&left, &right]
        .into_iter()
        .flat_map(|remote| wait_for_arrivals(&server, remote, 32))
        .filter(|arrival| arrival.taken_for[0].starts_with("acme"))
        .map(|arrival| arrival.at)
        .collect();
    assert_eq!(times.len(), 32);
    assert!(most_within(&times, Duration::from_secs(1) - JITTER) <= 10);
    let lasted = *times.iter().max().expect("some") - *times.iter().min().expect("some");
    // A shard has half of the rate; one that has all of the mail takes twice as long.
    assert!(lasted > Duration::from_millis(2500) && lasted < Duration::from_secs(15), "{lasted:?}");
    assert!(freed < lasted, "{freed:?} {lasted:?}");
}
