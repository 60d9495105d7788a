//! Mail whose turn does not come: what is looked over once a minute, and what nobody else may do to it meanwhile.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mail::{ALICE, Setup, count_mail, note, send, smtp, wait_for, wait_for_mail, wait_until_done};
use crate::remote::{PORT, Remote, own_address};
use crate::server::Server;

/// From the start of a server until what waits was looked over for the first time.
const LOOKED_OVER: Duration = Duration::from_secs(64);

/// Nobody listens there, which is known after the first message.
fn dead(domain: &str) -> String {
    let address = std::net::SocketAddr::new(own_address().into(), PORT);
    format!(
        "\n[[route]]\ndomain = \"{domain}\"\nto = [\"{address}\"]\n\n[[shaping]]\ndomain = \"{domain}\"\n\
         failures_until_dead = 1\ndead_first_s = 900\n"
    )
}

/// Sends what finds out that nobody is there.
fn find_out(server: &Server, recipient: &str) {
    send(server, ALICE, &[recipient], &note("finds out"));
    let deferred = || server.done(&["events", "--type", "TransientFailure"]);
    wait_for("the host counts as dead", server, || deferred().contains(recipient).then_some(()));
}

fn rows(server: &Server, filters: &[&str]) -> Vec<Value> {
    let lines = server.done(&[&["queue", "list", "--json", "--count", "0"], filters].concat());
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Each of them is held or comes back, as the answer to the order says.
#[test]
fn what_is_held_while_others_are_returned_is_not_returned() {
    const COUNT: usize = 1000;
    let server = Setup::new()
        .cores(1)
        .retries(900, 900)
        .also_queue("warn_after_s = 0\nexpire_after_s = 30\n")
        .more(&dead("dead.test"))
        .start();
    find_out(&server, "first@dead.test");
    let mut client = smtp(&server);
    for index in 0..COUNT {
        assert!(client.message(ALICE, &[&format!("r{index}@dead.test")], &note("waits")).expect("a reply"));
    }
    wait_for_first(&server);
    let answer = server.done(&["queue", "hold", "--everything"]);
    let held: usize = answer.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!((1..COUNT).contains(&held), "some are held, some were returned before: {answer}");
    // What goes on behind the order goes on to its end.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(rows(&server, &["--state", "held"]).len(), held, "{answer}");
    assert_eq!(count_mail(&server, ALICE), 1 + COUNT - held);
}

/// Waits until the first notification is there, for longer than [`wait_for`] does.
fn wait_for_first(server: &Server) {
    let begun = Instant::now();
    let mut imap = server.imap(ALICE);
    while imap.ok("SELECT INBOX").expect("INBOX opens").iter().any(|response| response.text == "* 0 EXISTS") {
        assert!(begun.elapsed() < 2 * LOOKED_OVER, "nothing comes back; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A route whose mail is given less time changes nothing for the rest.
#[test]
fn mail_that_has_time_is_not_put_off_for_mail_that_has_none() {
    let hasty =
        dead("hasty.test").replace("\n\n", "\nsender_domain = \"example.test\"\nwarn_after_s = 2\n\n");
    let server = Setup::new().retries(900, 900).more(&hasty).more(&dead("calm.test")).start();
    for domain in ["hasty.test", "calm.test"] {
        find_out(&server, &format!("first@{domain}"));
        for index in 0..4 {
            send(&server, ALICE, &[&format!("r{index}@{domain}")], &note("waits"));
        }
    }
    std::thread::sleep(LOOKED_OVER);
    // The first of them is warned of when it is tried next.
    wait_for_mail(&server, ALICE, 4);
    let calm = rows(&server, &["--domain", "calm.test", "--state", "ready"]);
    assert_eq!(calm.len(), 4, "{calm:?}");
    assert!(calm.iter().all(|row| row["num_attempts"] == 0), "{calm:?}");
}

/// However long it was held, it is tried again for as long as new mail.
#[test]
fn what_is_released_is_not_older_for_having_been_held() {
    const EXPIRES: Duration = Duration::from_secs(8);
    let remote = Remote::decent();
    let server = Setup::new()
        .also_queue("warn_after_s = 0\nexpire_after_s = 8\n")
        .route("remote.test", &remote)
        .start();
    let tries = || remote.ledger().commands("RCPT").len();
    send(&server, ALICE, &["later1@remote.test"], &note("is held"));
    wait_for("it was tried", &server, || (tries() > 0).then_some(()));
    // It may be on a connection at the moment.
    wait_for("it is held", &server, || {
        server.done(&["queue", "hold", "--everything"]).starts_with("1 ").then_some(())
    });
    std::thread::sleep(EXPIRES + Duration::from_secs(1));
    let before = tries();
    server.done(&["queue", "release", "--everything"]);
    wait_for("it is tried several times", &server, || (tries() >= before + 3).then_some(()));
    wait_for_mail(&server, ALICE, 1);
    wait_until_done(&server, "remote.test");
}
