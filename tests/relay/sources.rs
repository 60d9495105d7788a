//! Addresses that mail leaves from: each its share, and none that this machine does not have.

use std::net::IpAddr;

use crate::mail::{ALICE, Setup, note, smtp, wait_for_arrivals};
use crate::remote::{Character, Remote, own_address};

fn source(name: &str, address: impl ToString) -> String {
    let address = address.to_string();
    format!("\n[[source]]\nname = \"{name}\"\naddress = \"{address}\"\nehlo = \"{name}.example.test\"\n")
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
