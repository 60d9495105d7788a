//! DELIVERBY (RFC 2852): who hears that mail went on, that it is late, and that it came too late.

use crate::dsn::{Fields, Notification};
use crate::mail::{ALICE, Setup, is_queued, note, send_with, wait_for, wait_for_arrivals, wait_for_mail};
use crate::remote::{Act, Character, PORT, Remote, Verb, own_address};

/// Recipients that Alice was told of, with what of, in order.
fn told(server: &crate::server::Server, notifications: usize) -> Vec<(String, String, String)> {
    let mail = wait_for_mail(server, ALICE, notifications);
    let fields: Vec<Fields> = mail.iter().flat_map(|mail| Notification::read(mail).recipients).collect();
    let of = |fields: &Fields| {
        let recipient = fields["final-recipient"].replace("rfc822; ", "");
        (recipient, fields["action"].clone(), fields["status"].clone())
    };
    let mut all: Vec<_> = fields.iter().map(of).collect();
    all.sort();
    all
}

fn expected(all: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    all.iter().map(|(to, action, status)| ((*to).into(), (*action).into(), (*status).into())).collect()
}

/// RFC 2852 4.1.4, 4.1.4.2: NOTIFY does not ask for it, and only NEVER keeps it away.
#[test]
fn a_sender_hears_that_mail_goes_where_its_time_is_not_known() {
    let knows = Remote::start(Character::decent().with("DELIVERBY 30"));
    let forgets = Remote::decent();
    let bare = Remote::start(Character::offering(&[]));
    let server = Setup::new()
        .route("knows.test", &knows)
        .route("forgets.test", &forgets)
        .route("bare.test", &bare)
        .start();
    let to = |domain: &str| {
        ["", " NOTIFY=FAILURE", " NOTIFY=SUCCESS", " NOTIFY=NEVER"]
            .iter()
            .enumerate()
            .map(|(index, notify)| format!("<r{index}@{domain}>{notify}"))
            .collect::<Vec<_>>()
    };
    let send_to = |mail: &str, domain: &str| {
        let to = to(domain);
        send_with(&server, mail, &crate::mail::refs(&to), &note("in time"));
    };
    // A host that knows of deadlines and of notifications sees to it all.
    send_to(&format!("<{ALICE}> BY=300;N"), "knows.test");
    send_to(&format!("<{ALICE}> BY=300;N"), "forgets.test");
    let relayed = |domain: &str, status| {
        let of = |index| (format!("r{index}@{domain}"), "relayed".to_owned(), String::from(status));
        [0, 1, 2].map(of)
    };
    assert_eq!(told(&server, 1), relayed("forgets.test", "2.0.0"));
    let rcpt = &wait_for_arrivals(&server, &forgets, 1)[0].rcpt;
    assert!(rcpt[0].contains("NOTIFY=FAILURE,DELAY") && rcpt[1].contains("NOTIFY=FAILURE,DELAY"), "{rcpt:?}");
    assert!(rcpt[2].contains("NOTIFY=SUCCESS,DELAY") && rcpt[3].contains("NOTIFY=NEVER"), "{rcpt:?}");
    let mail = &wait_for_arrivals(&server, &knows, 1)[0].mail;
    let seconds: i64 = mail
        .split_once(" BY=")
        .and_then(|(_, rest)| rest.split_once(";N"))
        .and_then(|(seconds, _)| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{mail}"));
    assert!((240..=300).contains(&seconds), "{mail}");
    // A trace is told of wherever it goes.
    send_to(&format!("<{ALICE}> BY=300;RT"), "knows.test");
    let mut both = [relayed("forgets.test", "2.0.0"), relayed("knows.test", "2.0.0")].concat();
    both.sort();
    assert_eq!(told(&server, 2), both);
    assert!(knows.arrivals()[1].mail.contains(";RT"), "{}", knows.arrivals()[1].mail);
    // The time is over already: nothing is lost by a host that does not know it, and SUCCESS alone asks.
    send_to(&format!("<{ALICE}> BY=-5;N"), "forgets.test");
    wait_for_arrivals(&server, &forgets, 2);
    send_to(&format!("<{ALICE}> BY=-5;NT"), "bare.test");
    both.extend(relayed("bare.test", "2.0.0"));
    both.sort();
    assert_eq!(told(&server, 3), both);
}

/// RFC 2852 4.1.4.1: with R only to a host that keeps to it.
#[test]
fn mail_that_must_come_back_in_time_goes_to_nobody_who_forgets() {
    let forgets = Remote::decent();
    let slow = Remote::start(Character::decent().with("DELIVERBY 3600"));
    let server = Setup::new().route("forgets.test", &forgets).route("slow.test", &slow).start();
    let to = ["<a@forgets.test>", "<a@slow.test>", "<b@slow.test> NOTIFY=NEVER"];
    send_with(&server, &format!("<{ALICE}> BY=120;R"), &to, &note("in time or not at all"));
    let all = [("a@forgets.test", "failed", "5.3.3"), ("a@slow.test", "failed", "5.4.7")];
    assert_eq!(told(&server, 2), expected(&all));
    for mail in wait_for_mail(&server, ALICE, 2) {
        let message = Notification::read(&mail).message;
        assert!(message.contains_key("deliver-by-date") && message.contains_key("arrival-date"));
    }
    assert!(forgets.arrivals().is_empty() && slow.arrivals().is_empty());
}

/// RFC 2852 4.1.3: the sender hears of it when the time is over, whether or not an attempt is made then; R ends it.
#[test]
fn time_that_is_over_is_told_of() {
    let later = Remote::decent();
    let busy =
        Remote::start(Character::decent().at(Verb::Connect, Act::SayAndClose("421 4.3.2 Busy".into())));
    let dead = std::net::SocketAddr::new(own_address().into(), PORT);
    let server = Setup::new()
        .retries(300, 300)
        .route("later.test", &later)
        .route("busy.test", &busy)
        .more(&format!("\n[[route]]\ndomain = \"dead.test\"\nto = [\"{dead}\"]\n"))
        .more("\n[[shaping]]\ndomain = \"dead.test\"\nfailures_until_dead = 1\ndead_first_s = 900\n")
        .start();
    // The host is found to be dead by this one; the others wait where nobody tries.
    send_with(&server, &format!("<{ALICE}>"), &["<first@dead.test>"], &note("finds out"));
    wait_for("the host counts as dead", &server, || server.log().contains("message deferred").then_some(()));
    let to =
        ["<later1@later.test>", "<later2@later.test> NOTIFY=FAILURE", "<later3@later.test> NOTIFY=DELAY"];
    send_with(&server, &format!("<{ALICE}> BY=4;N"), &to, &note("soon"));
    send_with(&server, &format!("<{ALICE}> BY=4;N"), &["<n@dead.test>"], &note("soon"));
    send_with(&server, &format!("<{ALICE}> BY=60;R"), &["<r@busy.test>"], &note("soon or never"));
    let first = [("later1@later.test", "delayed", "4.4.7"), ("later3@later.test", "delayed", "4.4.7")];
    assert_eq!(told(&server, 1), expected(&first));
    // What waits behind a dead host is looked over once a minute; the other is tried once more at its end.
    std::thread::sleep(std::time::Duration::from_secs(64));
    let mut all = vec![("n@dead.test", "delayed", "4.4.7"), ("r@busy.test", "failed", "5.4.7")];
    all.extend(first);
    all.sort_unstable();
    assert_eq!(told(&server, 3), expected(&all));
    assert!(is_queued(&server, "n@dead.test") && !is_queued(&server, "r@busy.test"));
    assert!(is_queued(&server, "later1@later.test"));
}
