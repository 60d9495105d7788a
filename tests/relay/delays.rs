//! Mail that goes later: at a time that its sender chose, after others that are more urgent, when a site is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::mail::{ALICE, Setup, is_queued, note, send, wait_for, wait_for_arrivals, wait_until_done};
use crate::remote::{Act, Character, Remote, Verb};

/// RFC 4865: not before its time, though the server was killed meanwhile, and soon after it.
#[test]
fn a_message_is_held_until_its_time() {
    let remote = Remote::decent();
    let mut server = Setup::new().route("remote.test", &remote).start();
    let begun = Instant::now();
    let account = crate::mail::ALICE;
    // Only users may ask for it (RFC 4865 4).
    let mut smtp = server.submission(account);
    for (command, expected) in [
        (format!("MAIL FROM:<{ALICE}> HOLDFOR=5"), 250),
        ("RCPT TO:<a@remote.test>".to_owned(), 250),
        ("DATA".to_owned(), 354),
    ] {
        let (code, lines) = smtp.command(&command).expect("a reply");
        assert_eq!(code, expected, "{command}: {lines:?}");
    }
    smtp.raw(&crate::client::stuffed(&note("later"))).expect("sent");
    assert_eq!(smtp.reply().expect("a reply").0, 250);
    send(&server, ALICE, &["b@remote.test"], &note("now"));
    wait_for_arrivals(&server, &remote, 1);
    assert_eq!(remote.arrivals()[0].taken_for, ["b@remote.test"]);
    // What was delivered is written down a moment later.
    std::thread::sleep(Duration::from_millis(500));
    server.kill();
    server.start();
    let arrivals = wait_for_arrivals(&server, &remote, 2);
    let waited = arrivals[1].at - begun;
    // Times are kept in whole seconds.
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(20), "{waited:?}");
    assert_eq!(arrivals[1].taken_for, ["a@remote.test"]);
    assert!(!arrivals[1].mail.contains("HOLD"), "{}", arrivals[1].mail);
}

/// RFC 6710: of what waits for one connection, the most urgent goes first.
#[test]
fn urgent_mail_goes_before_the_rest() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    // The first message holds the only connection up, until all others wait.
    let remote = Remote::start(Character::decent().script(move |step| {
        if step.verb == Verb::Mail && step.transaction == 0 {
            let begun = Instant::now();
            while !gate.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        None
    }));
    let server = Setup::new()
        .cores(1)
        .route("remote.test", &remote)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnections = 1\n")
        .start();
    send(&server, ALICE, &["first@remote.test"], &note("first"));
    wait_for("the first is under way", &server, || {
        (!remote.ledger().commands("MAIL").is_empty()).then_some(())
    });
    let mut smtp = server.submission(ALICE);
    for index in 0..60 {
        let priority = if index % 3 == 2 { 4 } else { -4 };
        for (command, expected) in [
            (format!("MAIL FROM:<{ALICE}> MT-PRIORITY={priority}"), 250),
            (format!("RCPT TO:<p{index}@remote.test>"), 250),
            ("DATA".to_owned(), 354),
        ] {
            let (code, lines) = smtp.command(&command).expect("a reply");
            assert_eq!(code, expected, "{command}: {lines:?}");
        }
        smtp.raw(&crate::client::stuffed(&note("waits"))).expect("sent");
        assert_eq!(smtp.reply().expect("a reply").0, 250);
    }
    is_open.store(true, Ordering::Relaxed);
    let arrivals = wait_for_arrivals(&server, &remote, 61);
    let order: Vec<bool> = arrivals[1..]
        .iter()
        .map(|arrival| {
            let number =
                arrival.taken_for[0].trim_start_matches('p').split('@').next().and_then(|n| n.parse().ok());
            let number: usize = number.expect("a number");
            number % 3 == 2
        })
        .collect();
    // A few less urgent ones may have been handed to the site already.
    let urgent_in_front = order[..30].iter().filter(|is_urgent| **is_urgent).count();
    assert_eq!(urgent_in_front, 20, "{order:?}");
}

/// A host that cannot be reached is left alone for a while, then asked by one; then all goes.
#[test]
fn a_dead_site_is_probed_and_then_everything_flows() {
    let address = std::net::SocketAddr::new(crate::remote::own_address().into(), crate::remote::PORT);
    let other = Remote::decent();
    let server = Setup::new()
        .more(&format!("\n[[route]]\ndomain = \"dead.test\"\nto = [\"{address}\"]\n"))
        .more("\n[[shaping]]\ndomain = \"dead.test\"\nfailures_until_dead = 2\ndead_first_s = 2\ndead_max_s = 2\n")
        .route("other.test", &other)
        .start();
    for index in 0..50 {
        send(&server, ALICE, &[&format!("r{index}@dead.test")], &note("for the dead"));
    }
    send(&server, ALICE, &["a@other.test"], &note("for another"));
    wait_for_arrivals(&server, &other, 1);
    wait_for("the site counts as dead", &server, || {
        crate::mail::queue(&server).contains("r0@dead.test").then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_queued(&server, "r49@dead.test"));
    let back = Remote::at(address, Character::decent());
    let begun = Instant::now();
    let arrivals = wait_for_arrivals(&server, &back, 50);
    // A probe every two seconds, then no message waits for a time of its own.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let mut all: Vec<&String> = arrivals.iter().flat_map(|arrival| &arrival.taken_for).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 50);
    wait_until_done(&server, "dead.test");
    assert_eq!(back.arrivals().len(), 50, "none came twice");
}

/// A site that is dead is asked by one connection at a time, not by one for each message.
#[test]
fn a_dead_site_is_not_stormed() {
    let dead =
        Remote::start(Character::decent().at(Verb::Connect, Act::SayAndClose("421 4.3.2 Closed".into())));
    let server = Setup::new()
        .route("dead.test", &dead)
        .more("\n[[shaping]]\ndomain = \"dead.test\"\nfailures_until_dead = 3\ndead_first_s = 2\ndead_max_s = 2\n")
        .start();
    for index in 0..40 {
        send(&server, ALICE, &[&format!("r{index}@dead.test")], &note("knocking"));
    }
    std::thread::sleep(Duration::from_secs(6));
    let knocks = dead.ledger().connections.len();
    // Three and what was under way beside them, then one each two seconds.
    assert!((3..=16).contains(&knocks), "{knocks} connections");
    assert!(is_queued(&server, "r39@dead.test"));
}
