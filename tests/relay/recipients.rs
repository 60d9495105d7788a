//! Recipients of one message: together as far as they may be, each with a fate of its own, through kills.

use std::collections::BTreeSet;

use crate::dsn::Notification;
use crate::mail::{
    ALICE, Setup, note, queue, recipients, refs, send, wait_for, wait_for_arrivals, wait_for_mail,
    wait_until_done,
};
use crate::remote::{Character, Remote};

#[test]
fn a_message_goes_once_for_all_recipients_and_connections_are_used_again() {
    let remote = Remote::decent();
    let server = Setup::new()
        .cores(1)
        .route("remote.test", &remote)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnections = 1\nidle_s = 60\n")
        .start();
    let all = recipients("r", "remote.test", 20);
    send(&server, ALICE, &refs(&all), &note("for twenty"));
    for index in 1..10 {
        send(&server, ALICE, &[&format!("single{index}@remote.test")], &note(&format!("note {index}")));
    }
    let arrivals = wait_for_arrivals(&server, &remote, 10);
    let first = arrivals.iter().find(|arrival| arrival.has("r0@remote.test")).expect("the first message");
    assert_eq!(first.taken_for.len(), 20);
    let connections = remote.ledger().connections.clone();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert_eq!(connections[0].messages, 10);
}

#[test]
fn limits_on_recipients_and_messages_are_kept() {
    let said = Remote::start(Character::decent().with("LIMITS RCPTMAX=5 MAILMAX=2"));
    let set = Remote::decent();
    let server = Setup::new()
        .route("said.test", &said)
        .route("set.test", &set)
        .more(
            "\n[[shaping]]\ndomain = \"set.test\"\nrecipients_per_message = 4\nmessages_per_connection = 2\n",
        )
        .start();
    for (remote, domain, most) in [(&said, "said.test", 5), (&set, "set.test", 4)] {
        let all = recipients("r", domain, 18);
        send(&server, ALICE, &refs(&all), &note("for many"));
        wait_until_done(&server, domain);
        let arrivals = remote.arrivals();
        assert!(arrivals.iter().all(|arrival| arrival.taken_for.len() <= most), "{domain}");
        assert_eq!(arrivals.len(), 18_usize.div_ceil(most), "{domain}");
        let taken: BTreeSet<&String> = arrivals.iter().flat_map(|arrival| &arrival.taken_for).collect();
        assert_eq!(taken.len(), 18);
        let connections = remote.ledger().connections.clone();
        assert!(connections.iter().all(|connection| connection.messages <= 2), "{connections:?}");
    }
}

/// A host that takes only some recipients of a transaction (452, RFC 5321 4.5.3.1.10) gets the others at once.
#[test]
fn too_many_recipients_for_a_host_are_no_failure() {
    use crate::remote::{Act, Verb};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let in_transaction = AtomicUsize::new(0);
    let remote = Remote::start(Character::decent().script(move |step| match step.verb {
        Verb::Mail => {
            in_transaction.store(0, Ordering::Relaxed);
            None
        }
        Verb::Rcpt if in_transaction.fetch_add(1, Ordering::Relaxed) >= 3 => {
            Some(Act::Say("452 4.5.3 Too many recipients".into()))
        }
        _ => None,
    }));
    let server = Setup::new()
        .route("remote.test", &remote)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnections = 1\n")
        .start();
    let all = recipients("r", "remote.test", 10);
    send(&server, ALICE, &refs(&all), &note("for ten"));
    wait_until_done(&server, "remote.test");
    let arrivals = remote.arrivals();
    let taken: Vec<&String> = arrivals.iter().flat_map(|arrival| &arrival.taken_for).collect();
    assert_eq!(taken.len(), 10);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 10);
}

#[test]
fn each_recipient_has_a_fate_of_its_own_through_kills() {
    let remote = Remote::decent();
    let mut server = Setup::new().route("remote.test", &remote).prepare();
    server.start();
    let all = ["ok1", "no1", "grey2a", "later1", "ok2", "no2", "full1", "grey1b"]
        .map(|local| format!("{local}@remote.test"));
    send(&server, ALICE, &refs(&all), &note("mixed"));
    wait_for_arrivals(&server, &remote, 1);
    let first = remote.arrivals().remove(0);
    assert_eq!(first.taken_for, ["ok1@remote.test", "ok2@remote.test"]);
    wait_for("the outcome is written", &server, || {
        (!queue(&server).contains("ok2@remote.test")).then_some(())
    });
    server.kill();
    server.start();
    // Those that were greylisted come in later, each once.
    wait_for("greylisted recipients", &server, || {
        let ledger = remote.ledger();
        let has = |name: &str| ledger.arrivals.iter().any(|arrival| arrival.has(name));
        (has("grey2a@remote.test") && has("grey1b@remote.test")).then_some(())
    });
    wait_for("the outcome is written", &server, || {
        (!queue(&server).contains("grey2a@remote.test")).then_some(())
    });
    server.kill();
    server.start();
    let waiting = queue(&server);
    for (recipient, waits) in all.iter().zip([false, false, false, true, false, false, true, false]) {
        assert_eq!(waiting.contains(recipient.as_str()), waits, "{recipient} in:\n{waiting}");
    }
    // A minute's worth of refusals has happened in between; nobody has it twice, and one bounce tells of two.
    let arrivals = remote.arrivals();
    for recipient in ["ok1", "ok2", "grey2a", "grey1b"] {
        let times =
            arrivals.iter().filter(|arrival| arrival.has(&format!("{recipient}@remote.test"))).count();
        assert_eq!(times, 1, "{recipient}");
    }
    let mail = wait_for_mail(&server, ALICE, 1);
    let bounce = Notification::read(&mail[0]);
    assert_eq!(bounce.recipients.len(), 2);
    assert_eq!(bounce.verdict("no1@remote.test"), ("failed", "5.1.1"));
    assert_eq!(bounce.verdict("no2@remote.test"), ("failed", "5.1.1"));
    let ledger = remote.ledger();
    assert_eq!(ledger.asked["no1@remote.test"], 1);
    assert!(ledger.asked["later1@remote.test"] > 1);
}

#[test]
fn lmtp_says_for_each_recipient_what_became_of_it() {
    let remote = Remote::start(Character::decent().lmtp());
    let server = Setup::new().route_with("remote.test", &remote, "protocol = \"lmtp\"\n").start();
    let all = ["ok1", "endno1", "no1", "endlater1", "ok2"].map(|local| format!("{local}@remote.test"));
    send(&server, ALICE, &refs(&all), &note("by lmtp"));
    let arrivals = wait_for_arrivals(&server, &remote, 1);
    assert_eq!(arrivals[0].taken_for, ["ok1@remote.test", "ok2@remote.test"]);
    assert!(remote.ledger().connections[0].commands[0].starts_with("LHLO "));
    let mut verdicts = BTreeSet::new();
    for mail in wait_for_mail(&server, ALICE, 1) {
        let bounce = Notification::read(&mail);
        for recipient in &bounce.recipients {
            verdicts.insert(format!("{} {}", recipient["final-recipient"], recipient["status"]));
        }
    }
    let expected = ["rfc822; endno1@remote.test 5.2.2", "rfc822; no1@remote.test 5.1.1"];
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), expected);
    wait_for("the locked mailbox is tried again", &server, || {
        (remote.ledger().asked["endlater1@remote.test"] >= 3).then_some(())
    });
    assert!(queue(&server).contains("endlater1@remote.test"));
    let times = remote.arrivals().iter().filter(|arrival| arrival.has("ok1@remote.test")).count();
    assert_eq!(times, 1);
}
