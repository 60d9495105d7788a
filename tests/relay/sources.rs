//! Addresses that mail leaves from: each its share, and none that this machine does not have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::mail::{ALICE, Setup, is_queued, note, send, smtp, wait_for, wait_for_arrivals, wait_until_done};
use crate::remote::{Act, Character, PORT, Remote, Verb, own_address};
use crate::server::Server;

fn source(name: &str, address: impl ToString) -> String {
    let address = address.to_string();
    format!("\n[[source]]\nname = \"{name}\"\naddress = \"{address}\"\nehlo = \"{name}.example.test\"\n")
}

/// How many messages left from an address.
fn from(remote: &Remote, address: Ipv4Addr) -> usize {
    let ledger = remote.ledger();
    let of = |number: usize| ledger.connections[number].peer.ip() == IpAddr::from(address);
    ledger.arrivals.iter().filter(|arrival| of(arrival.connection)).count()
}

fn send_many(server: &Server, domain: &str, count: usize) {
    let mut client = smtp(server);
    for index in 0..count {
        assert!(client.message(ALICE, &[&format!("r{index}@{domain}")], &note("shared")).expect("a reply"));
    }
}

/// A day of the calendar (UTC), so many days from today.
fn day(days: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let days = i64::try_from(now / 86_400).expect("it fits") + days;
    // The calendar of days since the first of March of the year 0.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[test]
fn sources_share_mail_by_weight_and_say_their_names() {
    let remote = Remote::decent();
    let [large, small] = [(); 2].map(|()| own_address());
    let server = Setup::new()
        .cores(1)
        .more(&source("large", large))
        .more(&source("small", small))
        .more("\n[[pool]]\nname = \"both\"\nsources = [\"large\", \"small\"]\nweights = [3, 1]\n")
        .route_with("remote.test", &remote, "pool = \"both\"\n")
        .start();
    let mut client = smtp(&server);
    for index in 0..80 {
        assert!(
            client.message(ALICE, &[&format!("r{index}@remote.test")], &note("shared")).expect("a reply")
        );
    }
    let arrivals = wait_for_arrivals(&server, &remote, 80);
    let connections = remote.ledger().connections.clone();
    let from = |address: std::net::Ipv4Addr| {
        let address = IpAddr::from(address);
        arrivals.iter().filter(|arrival| connections[arrival.connection].peer.ip() == address).count()
    };
    let shares = [from(large), from(small)];
    assert_eq!(shares[0] + shares[1], 80, "{shares:?}");
    assert!((50..=70).contains(&shares[0]), "{shares:?}");
    for connection in connections {
        let name = if connection.peer.ip() == IpAddr::from(large) { "large" } else { "small" };
        assert_eq!(connection.commands[0], format!("EHLO {name}.example.test"));
    }
}

#[test]
fn a_source_that_is_not_of_this_machine_is_passed_over() {
    let remote = Remote::start(Character::decent());
    let here = own_address();
    let server = Setup::new()
        .more(&source("here", here))
        .more(&source("not-here", "192.0.2.77"))
        .more("\n[[pool]]\nname = \"both\"\nsources = [\"not-here\", \"here\"]\nweights = [9, 1]\n")
        .route_with("remote.test", &remote, "pool = \"both\"\n")
        .start();
    let mut client = smtp(&server);
    for index in 0..20 {
        assert!(
            client.message(ALICE, &[&format!("r{index}@remote.test")], &note("shared")).expect("a reply")
        );
    }
    wait_for_arrivals(&server, &remote, 20);
    let connections = remote.ledger().connections.clone();
    assert!(
        connections.iter().all(|connection| connection.peer.ip() == IpAddr::from(here)),
        "{connections:?}"
    );
    assert_eq!(crate::mail::count_mail(&server, ALICE), 0);
}

/// A new address sends its few, the others the rest; one whose day is to come sends nothing.
#[test]
fn a_new_address_begins_with_little() {
    let remote = Remote::decent();
    let later = Remote::decent();
    let [old, new, future] = [(); 3].map(|()| own_address());
    let warming = |start: &str| format!("warm_up_start = \"{start}\"\nwarm_up = [100]\nwarm_up_days = 3\n");
    let mut server = Setup::new()
        .cores(1)
        .more(&source("old", old))
        .more(&(source("new", new) + &warming(&day(0))))
        .more(&(source("future", future) + &warming(&day(2))))
        .more("\n[[pool]]\nname = \"mixed\"\nsources = [\"new\", \"old\"]\nweights = [9, 1]\n")
        .more("\n[[pool]]\nname = \"later\"\nsources = [\"future\"]\n")
        .route_with("remote.test", &remote, "pool = \"mixed\"\n")
        .route_with("later.test", &later, "pool = \"later\"\n")
        .start();
    send(&server, ALICE, &["a@later.test"], &note("not yet"));
    send_many(&server, "remote.test", 40);
    wait_for_arrivals(&server, &remote, 40);
    // A fiftieth of the day's hundred at once, the others spread over the day.
    let begun = from(&remote, new);
    assert!((1..=2).contains(&begun), "{begun}");
    assert_eq!(from(&remote, old), 40 - begun);
    wait_for("it says what it waits for", &server, || {
        server.done(&["queue", "explain", "a@later.test"]).contains("warming up").then_some(())
    });
    assert!(is_queued(&server, "a@later.test") && later.ledger().connections.is_empty());
    // A restart in the middle of the day is no second morning.
    wait_until_done(&server, "remote.test");
    server.stop();
    server.start();
    send_many(&server, "remote.test", 20);
    wait_for_arrivals(&server, &remote, 60);
    let after = from(&remote, new);
    assert_eq!(after, begun, "a token comes each quarter of an hour");
}

/// A host that has had enough of one address gets its mail from others for a while, this message included.
#[test]
fn a_rule_sends_mail_by_another_pool() {
    let remote = Remote::start(Character::decent().script(|step| {
        let is_first = step.connection == 0 && step.transaction == 0 && step.verb == Verb::Mail;
        is_first.then(|| Act::Say("451 4.7.650 This address is rate limited, see list.test".into()))
    }));
    let other = Remote::decent();
    let [usual, spare] = [(); 2].map(|()| own_address());
    let rule = "\n[[rule]]\nname = \"listed\"\nsays = 'see list\\.test'\naction = \"switch-pool\"\n\
        pool = \"spare\"\nduration_s = 3600\n";
    let server = Setup::new()
        .cores(1)
        .more(&source("usual", usual))
        .more(&source("spare", spare))
        .more("\n[[pool]]\nname = \"usual\"\nsources = [\"usual\"]\n")
        .more("\n[[pool]]\nname = \"spare\"\nsources = [\"spare\"]\n")
        .route_with("remote.test", &remote, "pool = \"usual\"\n")
        .route_with("other.test", &other, "pool = \"usual\"\n")
        .more(rule)
        .start();
    send(&server, ALICE, &["first@remote.test"], &note("refused at first"));
    wait_for_arrivals(&server, &remote, 1);
    send_many(&server, "remote.test", 10);
    send_many(&server, "other.test", 5);
    wait_for_arrivals(&server, &remote, 11);
    wait_for_arrivals(&server, &other, 5);
    assert_eq!((from(&remote, usual), from(&remote, spare)), (0, 11));
    assert_eq!((from(&other, usual), from(&other, spare)), (5, 0), "other sites are not concerned");
    let events = server.done(&["events", "--type", "Automation"]);
    assert_eq!(events.lines().count(), 1, "{events}");
    assert!(events.contains("rule listed"), "{events}");
}

/// The limit of a source holds over all sites and shards; who waits comes to its turn, though others have work.
#[test]
fn a_source_has_so_many_connections_over_all_sites() {
    let remotes: Vec<Remote> = (0..6)
        .map(|_| Remote::start(Character::decent().at(Verb::End, Act::Late(40, "250 2.0.0 Ok".into()))))
        .collect();
    let address = own_address();
    let mut setup = Setup::new()
        .more(&(source("narrow", address) + "connections = 3\n"))
        .more("\n[[pool]]\nname = \"narrow\"\nsources = [\"narrow\"]\n\n[[shaping]]\nidle_s = 1\n");
    for (index, remote) in remotes.iter().enumerate() {
        setup = setup.route_with(&format!("r{index}.test"), remote, "pool = \"narrow\"\n");
    }
    let server = setup.start();
    let mut clients: Vec<_> = (0..6).map(|_| smtp(&server)).collect();
    for round in 0..12 {
        for (index, client) in clients.iter_mut().enumerate() {
            let to = format!("m{round}@r{index}.test");
            assert!(client.message(ALICE, &[&to], &note("through the narrow")).expect("a reply"));
        }
    }
    for remote in &remotes {
        wait_for_arrivals(&server, remote, 12);
    }
    let mut moments = Vec::new();
    for remote in &remotes {
        for connection in &remote.ledger().connections {
            assert_eq!(connection.peer.ip(), IpAddr::from(address));
            moments.push((connection.opened, 1));
            moments.extend(connection.closed.map(|closed| (closed, -1)));
        }
    }
    // Who ends a connection knows it a moment before the other side.
    moments.sort();
    let mut open = 0;
    let most = moments
        .iter()
        .map(|(_, step)| {
            open += step;
            open
        })
        .max();
    assert!((2..=4).contains(&most.unwrap_or(0)), "{most:?}");
    // It is seen by who asks, and the server ends though somebody may wait.
    assert!(server.done(&["queue", "explain", "a@r0.test"]).contains("at most 3 connections"));
}

/// Who waits for the only connection of a source gets it after a turn, though another site is never without work.
#[test]
fn a_site_without_an_end_of_work_gives_way() {
    let mut addresses = [(); 2].map(|()| SocketAddr::new(own_address().into(), PORT));
    // Sites are looked through by their names: the one that has nothing to give comes first.
    addresses.sort_by_key(SocketAddr::to_string);
    let waiting = Remote::at(addresses[0], Character::decent());
    let slow = Character::decent().at(Verb::End, Act::Late(100, "250 2.0.0 Ok".into()));
    let busy = Remote::at(addresses[1], slow);
    let server = Setup::new()
        .cores(1)
        .more(&(source("narrow", own_address()) + "connections = 1\n"))
        .more("\n[[pool]]\nname = \"narrow\"\nsources = [\"narrow\"]\n")
        .more("\n[[shaping]]\nconnections = 1\nmessages_per_connection = 10_000\n")
        .route_with("busy.test", &busy, "pool = \"narrow\"\n")
        .route_with("waiting.test", &waiting, "pool = \"narrow\"\n")
        .start();
    // More than all patience.
    send_many(&server, "busy.test", 700);
    wait_for_arrivals(&server, &busy, 1);
    send(&server, ALICE, &["a@waiting.test"], &note("its turn comes"));
    wait_for_arrivals(&server, &waiting, 1);
    assert_eq!(waiting.ledger().connections.len(), 1, "what it was given it used");
    assert!(busy.arrivals().len() < 700);
}
