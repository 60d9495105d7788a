//! Encryption: as much as there is, as much as is asked for, and logins under it alone.

use crate::mail::{ALICE, Setup, is_queued, note, send, wait_for, wait_for_arrivals};
use crate::remote::tls::{Authority, self_signed};
use crate::remote::{Act, Character, Remote, Verb};

#[test]
fn encryption_is_as_good_as_it_must_be() {
    let authority = Authority::new();
    let folder = tempfile::TempDir::new().expect("a folder");
    let bundle = folder.path().join("authorities.pem");
    authority.write(&bundle);
    let ip = |remote: &Remote| remote.address.ip().to_string();
    let own = Remote::start(Character::decent().tls(self_signed("wrong.test")));
    let clear = Remote::decent();
    let garbage = || {
        let script = Act::Garble("220 2.0.0 Go ahead".into(), b"this is not TLS at all\r\n".to_vec());
        Remote::start(
            Character::decent()
                .tls(self_signed("x.test"))
                .script(move |step| (step.verb == Verb::Starttls).then(|| script.clone())),
        )
    };
    let unready = || {
        let act = Act::Say("454 4.7.0 TLS not available".into());
        Remote::start(Character::decent().tls(self_signed("x.test")).at(Verb::Starttls, act))
    };
    let (garbage, garbage_required) = (garbage(), garbage());
    let (unready, unready_required) = (unready(), unready());
    let address = std::net::SocketAddr::new(crate::remote::own_address().into(), crate::remote::PORT);
    let good = Remote::at(address, Character::decent().tls(authority.server(&address.ip().to_string())));
    let wrong_name = Remote::start(Character::decent().tls(authority.server("other.test")));
    assert_ne!(ip(&good), ip(&wrong_name));
    let server = Setup::new()
        .environment("SSL_CERT_FILE", bundle.to_str().expect("a path of plain letters"))
        .route("own.test", &own)
        .route("clear.test", &clear)
        .route("garbage.test", &garbage)
        .route("unready.test", &unready)
        .route_with("own-required.test", &own, "tls = \"required\"\n")
        .route_with("clear-required.test", &clear, "tls = \"required\"\n")
        .route_with("garbage-required.test", &garbage_required, "tls = \"required\"\n")
        .route_with("unready-required.test", &unready_required, "tls = \"required\"\n")
        .route_with("own-verified.test", &own, "tls = \"verified\"\n")
        .route_with("good-verified.test", &good, "tls = \"verified\"\n")
        .route_with("wrong-verified.test", &wrong_name, "tls = \"verified\"\n")
        .route_with("good-never.test", &good, "tls = \"never\"\n")
        .start();
    let all = [
        ("own", Some(true)),
        ("clear", Some(false)),
        ("garbage", Some(false)),
        ("unready", Some(false)),
        ("own-required", Some(true)),
        ("clear-required", None),
        ("garbage-required", None),
        ("unready-required", None),
        ("own-verified", None),
        ("good-verified", Some(true)),
        ("wrong-verified", None),
        ("good-never", Some(false)),
    ];
    let remotes =
        [&own, &clear, &garbage, &unready, &garbage_required, &unready_required, &good, &wrong_name];
    for (domain, _) in all {
        send(&server, ALICE, &[&format!("a@{domain}.test")], &note("secret"));
    }
    let find = |recipient: &str| {
        let arrivals = remotes.iter().flat_map(|remote| remote.arrivals());
        arrivals.into_iter().find(|arrival| arrival.has(recipient)).map(|arrival| arrival.is_encrypted)
    };
    for (domain, expected) in all.iter().filter(|(_, expected)| expected.is_some()) {
        let recipient = format!("a@{domain}.test");
        let is_encrypted = wait_for(domain, &server, || find(&recipient));
        assert_eq!(Some(is_encrypted), *expected, "{domain}");
    }
    // The others had their time, and a retry.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    for (domain, _) in all.iter().filter(|(_, expected)| expected.is_none()) {
        let recipient = format!("a@{domain}.test");
        assert!(find(&recipient).is_none(), "{domain}");
        assert!(is_queued(&server, &recipient), "{domain}");
    }
    for remote in [&garbage_required, &unready_required, &wrong_name] {
        assert!(remote.ledger().commands("MAIL").is_empty());
    }
}

/// TL-20: what was in the pipe in front of the handshake is not heard as if it were under it.
#[test]
fn words_smuggled_in_front_of_tls_are_not_believed() {
    let script = Act::Bytes(b"220 2.0.0 Go ahead\r\n250 injected\r\n".to_vec());
    let remote = Remote::start(Character::decent().tls(self_signed("x.test")).at(Verb::Starttls, script));
    let server = Setup::new().route_with("a.test", &remote, "tls = \"required\"\n").start();
    send(&server, ALICE, &["b@a.test"], &note("smuggled"));
    wait_for("it was tried twice", &server, || {
        (remote.ledger().commands("STARTTLS").len() >= 2).then_some(())
    });
    assert!(remote.ledger().commands("MAIL").is_empty());
    assert!(is_queued(&server, "b@a.test"));
}

#[test]
fn a_smart_host_is_logged_in_to_under_tls_alone() {
    let smart =
        Remote::start(Character::decent().tls(self_signed("smart.test")).login("relay-user", "s3cret pass"));
    let other =
        Remote::start(Character::decent().tls(self_signed("smart.test")).login("relay-user", "another"));
    // OC-06: one that asks for a password in the clear, and one that nobody gave a password for.
    let open = Remote::start(Character::decent().login("relay-user", "s3cret pass"));
    let greedy =
        Remote::start(Character::decent().tls(self_signed("greedy.test")).login("relay-user", "s3cret pass"));
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret pass\n").expect("written");
    let keys = format!("username = \"relay-user\"\npassword_file = {file:?}\ntls = \"required\"\n");
    let server = Setup::new()
        .route_with("*", &smart, &keys)
        .route_with("other.test", &other, &keys)
        .route_with("open.test", &open, &keys)
        .route("greedy.test", &greedy)
        .start();
    for domain in ["a.test", "b.test", "other.test", "open.test", "greedy.test"] {
        send(&server, ALICE, &[&format!("a@{domain}")], &note("by the smart host"));
    }
    let arrivals = wait_for_arrivals(&server, &smart, 2);
    for arrival in &arrivals {
        assert!(arrival.is_encrypted);
        assert_eq!(arrival.login.as_deref(), Some("relay-user"));
    }
    wait_for("the others were tried", &server, || {
        (!other.ledger().commands("AUTH").is_empty()
            && !open.ledger().connections.is_empty()
            && !greedy.ledger().commands("MAIL").is_empty())
        .then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(is_queued(&server, "a@other.test"), "a wrong password is ours to mend");
    assert!(open.ledger().commands("AUTH").is_empty(), "no password in the clear");
    assert!(greedy.ledger().commands("AUTH").is_empty(), "no password without being told to");
    assert!(open.arrivals().is_empty() && other.arrivals().is_empty() && greedy.arrivals().is_empty());
}
