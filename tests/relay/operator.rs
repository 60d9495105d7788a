//! What an operator sees of relaying, and rules that act on what servers say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::mail::{
    ALICE, Setup, is_queued, note, queue, send, smtp, wait_for, wait_for_arrivals, wait_until_done,
};
use crate::remote::{Act, Character, Remote, Verb};
use crate::server::Server;

/// Lines of the event log, as fields.
fn events(server: &Server) -> Vec<serde_json::Value> {
    let lines = server.done(&["events"]);
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Types of the events about a recipient, in their order.
fn types(server: &Server, recipient: &str) -> Vec<String> {
    let mine = events(server).into_iter().filter(|event| event["recipient"] == recipient);
    mine.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
}

#[test]
fn events_tell_the_story_of_each_recipient() {
    let remote = Remote::decent();
    let server = Setup::new()
        .also_queue("warn_after_s = 2\nexpire_after_s = 4\n")
        .route("remote.test", &remote)
        .start();
    let all = ["ok1@remote.test", "no1@remote.test", "grey1@remote.test", "later1@remote.test"];
    send(&server, ALICE, &all, &note("with a story"));
    wait_until_done(&server, "remote.test");
    wait_for("the last event is written", &server, || {
        types(&server, "later1@remote.test").contains(&"Expiration".to_owned()).then_some(())
    });
    assert_eq!(types(&server, "ok1@remote.test"), ["Reception", "Delivery"]);
    assert_eq!(types(&server, "no1@remote.test"), ["Reception", "Bounce"]);
    assert_eq!(types(&server, "grey1@remote.test"), ["Reception", "TransientFailure", "Delivery"]);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    types(&server, "later1@remote.test").into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1);
    assert_eq!((counts["Reception"], counts["Expiration"], counts["Delayed"]), (1, 1, 1), "{counts:?}");
    assert!(counts["TransientFailure"] >= 2, "{counts:?}");
    let all = events(&server);
    let bounce = all.iter().find(|event| event["type"] == "Bounce").expect("a bounce");
    assert_eq!(bounce["response"]["code"], 550);
    assert_eq!(bounce["response"]["content"], "No such mailbox");
    assert_eq!(bounce["sender"], ALICE);
    assert_eq!(bounce["peer_address"]["addr"], remote.address.ip().to_string());
    assert!(bounce["bounce_classification"].is_string(), "{bounce}");
}

/// A server that asks for less gets less, while others get all.
#[test]
fn a_rule_slows_down_what_is_asked_to() {
    let touchy = Remote::start(Character::decent().script(|step| {
        let is_first = step.connection == 0 && step.transaction == 0 && step.verb == Verb::Mail;
        is_first.then(|| Act::SayAndClose("421 4.7.28 Our system has detected an unusual rate".into()))
    }));
    let other = Remote::decent();
    let server = Setup::new()
        .route("touchy.test", &touchy)
        .route("other.test", &other)
        .more("\n[[shaping]]\ndomain = \"touchy.test\"\nconnections = 1\n")
        .more(
            "\n[[rule]]\nname = \"unusual\"\nsays = \"unusual rate\"\naction = \"slow\"\n\
             rate = \"1/1s\"\nduration_s = 60\n",
        )
        .start();
    let mut client = smtp(&server);
    for domain in ["touchy.test", "other.test"] {
        for index in 0..6 {
            assert!(client.message(ALICE, &[&format!("r{index}@{domain}")], &note("slow")).expect("a reply"));
        }
    }
    wait_for_arrivals(&server, &other, 6);
    let arrivals = wait_for_arrivals(&server, &touchy, 6);
    for pair in arrivals[1..].windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(850), "{:?}", pair[1].at - pair[0].at);
    }
    let times: Vec<Instant> = other.arrivals().iter().map(|arrival| arrival.at).collect();
    assert!(times[5] - times[0] < Duration::from_secs(2));
    let automation =
        events(&server).into_iter().find(|event| event["type"] == "Automation").expect("an event");
    assert!(automation.to_string().contains("unusual"), "{automation}");
}

#[test]
fn a_rule_suspends_what_is_not_wanted() {
    let closed =
        Remote::start(Character::decent().at(Verb::Rcpt, Act::Say("450 4.7.0 You are blocked".into())));
    let hard =
        Remote::start(Character::decent().at(Verb::Rcpt, Act::Say("550 5.0.0 Try again in an hour".into())));
    let soft = Remote::start(Character::decent().at(Verb::Rcpt, Act::Say("450 4.0.0 User unknown".into())));
    let server = Setup::new()
        .route("closed.test", &closed)
        .route("hard.test", &hard)
        .route("soft.test", &soft)
        .more("\n[[rule]]\nname = \"blocked\"\nsays = \"you are blocked\"\naction = \"suspend\"\nduration_s = 4\n")
        .more("\n[[rule]]\nname = \"not-really\"\nsays = \"try again\"\naction = \"defer\"\n")
        .more("\n[[rule]]\nname = \"in-truth\"\nsays = \"user unknown\"\naction = \"bounce\"\n")
        .start();
    for domain in ["closed.test", "hard.test", "soft.test"] {
        send(&server, ALICE, &[&format!("a@{domain}")], &note("ruled"));
    }
    wait_for("it was tried", &server, || (!closed.ledger().commands("RCPT").is_empty()).then_some(()));
    let first = Instant::now();
    send(&server, ALICE, &["b@closed.test"], &note("meanwhile"));
    crate::mail::wait_for_mail(&server, ALICE, 1);
    assert!(!is_queued(&server, "a@soft.test") && is_queued(&server, "a@hard.test"), "{}", queue(&server));
    wait_for("it is tried after the suspension", &server, || {
        (closed.ledger().commands("RCPT").len() >= 2).then_some(())
    });
    assert!(first.elapsed() >= Duration::from_secs(3), "{:?}", first.elapsed());
}
