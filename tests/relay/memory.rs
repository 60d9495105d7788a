//! What a restart does not forget: what operators suspended, what rules did, and who is dead.

use std::time::Duration;

use crate::mail::{ALICE, Setup, is_queued, note, send, wait_for, wait_for_arrivals, wait_until_done};
use crate::remote::{Act, Character, Remote, Verb};

/// Long enough for all that would be sent at a start.
const A_WHILE: Duration = Duration::from_secs(3);

#[test]
fn a_suspension_outlives_a_kill() {
    let remote = Remote::decent();
    let mut server = Setup::new().route("remote.test", &remote).start();
    let suspend =
        ["queue", "suspend", "--domain", "remote.test", "--duration", "1h", "--reason", "they asked"];
    server.done(&suspend);
    send(&server, ALICE, &["a@remote.test"], &note("kept back"));
    server.kill();
    // Another number of shards knows it, too.
    server.set_cores(3);
    server.start();
    std::thread::sleep(A_WHILE);
    assert!(is_queued(&server, "a@remote.test") && remote.ledger().connections.is_empty());
    let list = server.done(&["queue", "suspend", "--list"]);
    assert!(list.contains("they asked") && list.contains("remote.test"), "{list}");
    // The next one has a number of its own.
    let other = server.done(&["queue", "suspend", "--tenant", "acme", "--duration", "1h"]);
    assert_eq!(server.done(&["queue", "suspend", "--list"]).matches("they asked").count(), 1, "{other}");
    server.done(&["queue", "resume", "--domain", "remote.test"]);
    wait_for_arrivals(&server, &remote, 1);
    server.kill();
    server.set_cores(1);
    server.start();
    let list = server.done(&["queue", "suspend", "--list"]);
    assert!(!list.contains("they asked") && list.contains("acme"), "{list}");
    let names: Vec<_> = std::fs::read_dir(server.data().join("outbound"))
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["00.json"], "those of shards that are no more are gone");
    send(&server, ALICE, &["b@remote.test"], &note("goes"));
    wait_until_done(&server, "remote.test");
}

/// One file of several is lost, or is no JSON: the others say the same.
#[test]
fn a_damaged_note_costs_no_start() {
    let remote = Remote::decent();
    let mut server = Setup::new().route("remote.test", &remote).start();
    server.done(&["queue", "suspend", "--domain", "remote.test", "--duration", "1h"]);
    server.kill();
    std::fs::write(server.data().join("outbound/00.json"), "{\"suspensions\": [").expect("written");
    server.start();
    assert!(server.log().contains("what was known before the restart is lost"), "{}", server.log());
    assert!(server.done(&["queue", "suspend", "--list"]).contains("remote.test"));
}

#[test]
fn dead_hosts_and_what_rules_did_are_known_after_a_restart() {
    let dead =
        Remote::start(Character::decent().at(Verb::Connect, Act::SayAndClose("421 4.3.2 Closed".into())));
    let angry = Remote::start(Character::decent().script(|step| {
        (step.verb == Verb::Mail).then(|| Act::Say("451 4.7.1 You are blocked for an hour".into()))
    }));
    let touchy = Remote::start(Character::decent().script(|step| {
        let is_first = step.connection == 0 && step.transaction == 0 && step.verb == Verb::Mail;
        is_first.then(|| Act::Say("451 4.7.28 Slow down, please".into()))
    }));
    let rule = |name: &str, says: &str, action: &str| {
        format!("\n[[rule]]\nname = \"{name}\"\nsays = '{says}'\n{action}\nduration_s = 3600\n")
    };
    let mut server = Setup::new()
        .route("dead.test", &dead)
        .route("angry.test", &angry)
        .route("touchy.test", &touchy)
        .more("\n[[shaping]]\ndomain = \"dead.test\"\nfailures_until_dead = 1\ndead_first_s = 900\n")
        .more(&rule("blocked", "you are blocked", "action = \"suspend\""))
        .more(&rule("busy", "slow down", "action = \"slow\"\nrate = \"1/5s\""))
        .start();
    for domain in ["dead.test", "angry.test", "touchy.test"] {
        send(&server, ALICE, &[&format!("a@{domain}")], &note("met before"));
    }
    wait_for_arrivals(&server, &touchy, 1);
    let is_known = |domain: &str, why: &str| {
        server.done(&["queue", "explain", &format!("a@{domain}")]).contains(why).then_some(())
    };
    wait_for("the host counts as dead", &server, || is_known("dead.test", "no connection"));
    wait_for("the rule has acted", &server, || is_known("angry.test", "suspended: blocked"));
    let before = [dead.ledger().connections.len(), angry.ledger().connections.len()];
    server.stop();
    server.start();
    for index in 0..20 {
        for domain in ["dead.test", "angry.test"] {
            send(&server, ALICE, &[&format!("r{index}@{domain}")], &note("after the restart"));
        }
    }
    for index in 0..3 {
        send(&server, ALICE, &[&format!("r{index}@touchy.test")], &note("slowly"));
    }
    std::thread::sleep(A_WHILE);
    assert_eq!([dead.ledger().connections.len(), angry.ledger().connections.len()], before);
    let explained = server.done(&["queue", "explain", "a@dead.test"]);
    assert!(explained.contains("no connection: 450 4.4.1"), "{explained}");
    // Without the rule all three would be there long since, and one after the other otherwise.
    let arrivals = wait_for_arrivals(&server, &touchy, 4);
    let last = &arrivals[arrivals.len() - 3..];
    let gaps: Vec<Duration> = last.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(4500)), "{gaps:?}");
    // Whoever knows better has it tried at once.
    server.done(&["queue", "retry", "--domain", "dead.test"]);
    wait_for("it is tried", &server, || (dead.ledger().connections.len() > before[0]).then_some(()));
}
