//! What an operator can do to mail on its way out: every verb of `ringpost queue`, on mail that cannot leave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::flow::wait_for;
use crate::server::Server;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// Nobody listens there.
const DEAD_ROUTE: &str = "[[route]]\ndomain = \"*\"\nto = [\"127.0.0.1:9\"]\n";

/// In ASCII, for every server to take.
fn message(number: usize, size: usize) -> Vec<u8> {
    let head = format!(
        "From: <{ALICE}>\r\nSubject: message {number}\r\nMessage-ID: <{number}@example.test>\r\n\r\n"
    );
    let line = "words and more words, none of them new\r\n";
    let lines = size.saturating_sub(head.len()) / line.len() + 1;
    (head + &line.repeat(lines)).into_bytes()
}

/// A line of `queue list --json`, as far as it is looked at.
struct Row(String);

impl Row {
    /// A string or number of the object.
    fn field(&self, name: &str) -> &str {
        let from = self.0.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {}", self.0));
        let value = &self.0[from + name.len() + 3..];
        match value.strip_prefix('"') {
            Some(text) => text.split('"').next().unwrap_or_default(),
            None => value.split([',', '}']).next().unwrap_or_default(),
        }
    }
}

fn rows(server: &Server, arguments: &[&str]) -> Vec<Row> {
    let text = server.done(&[&["queue", "list", "--json", "--count", "0"], arguments].concat());
    text.lines().map(|line| Row(line.to_owned())).collect()
}

/// Exit status, standard output and standard error.
fn outcome(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = server.command(arguments, b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Waits until rows are as they should be.
fn until(server: &Server, arguments: &[&str], is_so: impl Fn(&[Row]) -> bool) -> Vec<Row> {
    let begun = Instant::now();
    loop {
        let output = server.command(&[&["queue", "list", "--json", "--count", "0"], arguments].concat(), b"");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<Row> = text.lines().map(|line| Row(line.to_owned())).collect();
        if is_so(&rows) {
            return rows;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{text}\nlog:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_all(state: &'static str, count: usize) -> impl Fn(&[Row]) -> bool {
    move |rows| rows.len() == count && rows.iter().all(|row| row.field("state") == state)
}

/// A server that has tried a message for each of these addresses, and failed.
fn with_deferred(recipients: &[&str]) -> Server {
    let server = Server::configured(&[ALICE, BOB], DEAD_ROUTE);
    let mut smtp = server.submission(ALICE);
    for (number, recipient) in recipients.iter().enumerate() {
        assert!(smtp.message(ALICE, &[recipient], &message(number, 500)).expect("a reply"));
    }
    until(&server, &[], is_all("deferred", recipients.len()));
    server
}

#[test]
fn the_list_shows_what_waits_and_filters_pick() {
    let server = with_deferred(&["eve@one.test", "joe@two.test", "ann@one.test"]);
    let all = rows(&server, &[]);
    let recipients: Vec<&str> = all.iter().map(|row| row.field("recipient")).collect();
    assert_eq!(recipients, ["eve@one.test", "joe@two.test", "ann@one.test"], "the oldest first");
    let first = &all[0];
    assert_eq!(
        (first.field("sender"), first.field("queue"), first.field("domain")),
        (ALICE, "one.test", "one.test")
    );
    assert_eq!((first.field("num_attempts"), first.field("state")), ("1", "deferred"));
    assert_eq!(first.field("site"), "127.0.0.1:9");
    assert!(
        !first.field("reason").is_empty() && first.field("size").parse::<u32>().is_ok_and(|size| size >= 500)
    );
    let due: i64 = first.field("due").parse().expect("a number");
    let created: i64 = first.field("created").parse().expect("a number");
    assert!((200..400).contains(&(due - created)), "the first retry after about 300 s: {}", due - created);

    let id = all[1].field("id");
    let cases: [(&[&str], usize); 14] = [
        (&["--domain", "one.test"], 2),
        (&["--domain", "ONE.TEST"], 2),
        (&["--domain", "one.test", "--recipient", "eve@one.test"], 1),
        (&["--recipient", "@two.test"], 1),
        (&["--sender", ALICE], 3),
        (&["--sender", "@example.test"], 3),
        (&["--sender", "<>"], 0),
        (&["--site", "127.0.0.1:9"], 3),
        (&["--state", "deferred", "--younger", "1h"], 3),
        (&["--state", "held"], 0),
        (&["--older", "1h"], 0),
        (&["--tenant", "acme"], 0),
        (&[id], 1),
        (&[id, "--domain", "one.test"], 0),
    ];
    for (filters, count) in cases {
        let (code, out, error) = outcome(&server, &[&["queue", "list", "--json"], filters].concat());
        assert_eq!(out.lines().count(), count, "{filters:?}");
        assert_eq!(
            (code, error.as_str()),
            if count > 0 { (Some(0), "") } else { (Some(1), "nothing matches\n") }
        );
    }
    let (_, table, error) = outcome(&server, &["queue", "list", "--count", "2"]);
    assert!(table.starts_with("ID ") && table.contains("<alice@example.test> -> joe@two.test"), "{table}");
    assert!(table.lines().count() == 3 && error.contains("--count 0"), "{table}{error}");
}

/// Who sends decides where mail for the same destination goes, and the words of an operator hold for that site alone.
#[test]
fn a_site_is_where_a_message_itself_goes() {
    const CAROL: &str = "carol@other.test";
    let routes =
        format!("{DEAD_ROUTE}\n[[route]]\nsender_domain = \"other.test\"\nto = [\"127.0.0.1:10\"]\n");
    let server = Server::configured(&[ALICE, CAROL], &routes);
    let send = |sender: &str, recipient: &str| {
        let mut smtp = server.submission(sender);
        assert!(smtp.message(sender, &[recipient], &message(1, 500)).expect("a reply"));
    };
    send(ALICE, "eve@one.test");
    send(CAROL, "joe@one.test");
    until(&server, &[], is_all("deferred", 2));
    for (site, recipient) in [("127.0.0.1:9", "eve@one.test"), ("127.0.0.1:10", "joe@one.test")] {
        let found = rows(&server, &["--site", site]);
        let found: Vec<_> = found.iter().map(|row| (row.field("recipient"), row.field("site"))).collect();
        assert_eq!(found, [(recipient, site)]);
    }
    server.done(&[
        "queue",
        "suspend",
        "--site",
        "127.0.0.1:10",
        "--reason",
        "they asked",
        "--duration",
        "1h",
    ]);
    send(ALICE, "ann@one.test");
    send(CAROL, "bob@one.test");
    // What was tried before says why it failed; mail that goes to the other site is not concerned.
    let is_suspended = |row: &Row| row.field("reason") == "suspended: they asked";
    let found = until(&server, &[], |rows| rows.len() == 4 && rows.iter().any(is_suspended));
    let suspended = found.iter().filter(|row| is_suspended(row)).map(|row| row.field("recipient"));
    assert_eq!(suspended.collect::<Vec<_>>(), ["bob@one.test"]);
    assert!(
        !server.done(&["queue", "summary"]).contains("suspended"),
        "not all of the destination's mail is"
    );
    server.done(&["queue", "bounce", "--site", "127.0.0.1:9", "--reason", "moved"]);
    let left = until(&server, &["--domain", "one.test"], |rows| rows.len() == 2);
    assert!(left.iter().all(|row| row.field("sender") == CAROL), "the other site's mail stays");
}

#[test]
fn one_message_and_the_sums() {
    let server = with_deferred(&["eve@one.test", "joe@two.test", "ann@one.test"]);
    let id = rows(&server, &["--domain", "two.test"])[0].field("id").to_owned();
    let shown = server.done(&["queue", "show", &id]);
    for words in [
        "sender       <alice@example.test>",
        "recipient    joe@two.test",
        "tried once",
        "last answer",
        "Subject: ",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let json = Row(server.done(&["queue", "show", &id, "--json"]));
    assert_eq!((json.field("id"), json.field("recipient")), (id.as_str(), "joe@two.test"));
    let (code, _, error) = outcome(&server, &["queue", "show", "00000000FFFF"]);
    assert!(code == Some(1) && error.contains("ringpost events --id 00000000FFFF"), "{error}");

    let summary = server.done(&["queue", "summary"]);
    let lines: Vec<&str> = summary.lines().collect();
    assert!(lines[0].starts_with("DESTINATION") && lines[1].starts_with("one.test "), "{summary}");
    assert!(lines[2].starts_with("two.test ") && lines[1].contains("127.0.0.1:9"), "{summary}");
    let json = server.done(&["queue", "summary", "--json", "--domain", "one.test"]);
    let row = Row(json);
    assert_eq!((row.field("domain"), row.field("count"), row.field("deferred")), ("one.test", "2", "2"));

    let explained = server.done(&["queue", "explain", "someone@one.test"]);
    for words in [
        "destination: one.test",
        "route: for domain *",
        "site: 127.0.0.1:9",
        "pool: default",
        "retry (by [queue])",
        "queued: 2 recipients",
    ] {
        assert!(explained.contains(words), "{words} in {explained}");
    }
    assert!(server.done(&["queue", "explain", BOB]).contains("an address of this server"));
    let top = server.done(&["queue", "top", "--once"]);
    assert!(top.starts_with("SITE") && top.contains("127.0.0.1:9"), "{top}");
    let site = Row(server.done(&["queue", "top", "--json"]));
    assert_eq!((site.field("site"), site.field("delivered")), ("127.0.0.1:9", "0"));
    assert!(site.field("deferred").parse::<u32>().is_ok_and(|deferred| deferred >= 1), "{}", site.0);
}

#[test]
fn orders_must_say_for_what() {
    let server = with_deferred(&["eve@one.test"]);
    for verb in [
        &["retry"][..],
        &["hold"],
        &["release"],
        &["bounce", "--reason", "x"],
        &["rebind", "--to", "two.test"],
        &["suspend"],
        &["resume"],
    ] {
        let (code, _, error) = outcome(&server, &[&["queue"], verb].concat());
        assert!(code == Some(1) && error.contains("--everything"), "{verb:?}: {error}");
        if verb != ["suspend"] && verb != ["resume"] {
            let (code, _, error) = outcome(&server, &[&["queue"], verb, &["--domain", "none.test"]].concat());
            assert_eq!((code, error.as_str()), (Some(1), "nothing matches\n"), "{verb:?}");
        }
    }
    assert_eq!(rows(&server, &[])[0].field("state"), "deferred");
    let (code, _, error) =
        outcome(&server, &["queue", "bounce", "--older", "1s", "--reason", "x", "--duration", "1h"]);
    assert!(code == Some(1) && error.contains("--duration"), "{error}");
    let (code, _, error) = outcome(&server, &["queue", "resume", "7"]);
    assert!(code == Some(1) && error.contains("no such suspension"), "{error}");
}

#[test]
fn held_mail_stays_held_through_a_restart_until_it_is_released() {
    let mut server = with_deferred(&["eve@one.test", "joe@two.test"]);
    let hold = ["queue", "hold", "--domain", "one.test", "--reason", "is it spam?"];
    assert_eq!(server.done(&hold), "1 recipient is held\n");
    let held = rows(&server, &["--state", "held"]);
    assert_eq!(held[0].field("reason"), "held by an operator: is it spam?");
    assert_eq!(server.done(&hold), "0 recipients are held\n", "it is held already");
    server.kill();
    server.start();
    assert_eq!(server.done(&["queue", "retry", "--everything"]), "1 recipient is tried now\n");
    until(&server, &["--domain", "two.test"], |rows| rows[0].field("num_attempts") == "2");
    let held = rows(&server, &["--state", "held"]);
    assert_eq!((held.len(), held[0].field("num_attempts")), (1, "1"));
    assert_eq!(server.done(&["queue", "release", "--sender", "@example.test"]), "1 recipient is released\n");
    let released = rows(&server, &["--domain", "one.test"]);
    assert_eq!(
        (released[0].field("state"), released[0].field("reason")),
        ("deferred", "released by an operator")
    );
}

#[test]
fn what_a_site_has_fetched_is_taken_back_for_an_order() {
    let server = Server::configured(&[ALICE], DEAD_ROUTE);
    let mut smtp = server.submission(ALICE);
    for number in 0..3 {
        assert!(smtp.message(ALICE, &["eve@one.test"], &message(number, 500)).expect("a reply"));
    }
    // The site has them, and looks for a connection for some seconds.
    until(&server, &[], |rows| rows.iter().any(|row| row.field("state") != "ready"));
    assert_eq!(server.done(&["queue", "hold", "--everything"]), "3 recipients are held\n");
    assert!(is_all("held", 3)(&rows(&server, &[])));
    assert_eq!(server.done(&["queue", "suspend", "--list"]), "", "the pause for the order is over");
    server.done(&["queue", "release", "--everything"]);
    until(&server, &[], is_all("deferred", 3));
}

#[test]
fn what_is_returned_comes_back_with_the_reason_and_leaves_an_event() {
    let server = with_deferred(&["eve@one.test", "joe@two.test"]);
    let id = rows(&server, &["--domain", "two.test"])[0].field("id").to_owned();
    let bounced = server.done(&["queue", "bounce", &id, "--reason", "sent by mistake"]);
    assert_eq!(bounced, "1 recipient is returned to the sender\n");
    wait_for(&server, ALICE, 1);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let report = String::from_utf8_lossy(&imap.bodies().expect("bodies")[0]).into_owned();
    assert!(report.contains("sent by mistake") && report.contains("joe@two.test"), "{report}");
    assert_eq!(until(&server, &[], |rows| rows.len() == 1)[0].field("recipient"), "eve@one.test");
    let events = server.done(&["events", "--type", "AdminBounce"]);
    assert!(events.lines().count() == 1 && events.contains(&id), "{events}");
}

#[test]
fn what_matches_and_comes_later_is_returned_while_the_order_stands() {
    let server = with_deferred(&["eve@one.test"]);
    let output = server.done(&[
        "queue",
        "bounce",
        "--domain",
        "two.test",
        "--reason",
        "no such domain",
        "--duration",
        "1h",
    ]);
    assert!(output.starts_with("1  returned, ") && output.ends_with("nothing matches yet\n"), "{output}");
    let mut smtp = server.submission(ALICE);
    assert!(smtp.message(ALICE, &["joe@two.test"], &message(7, 500)).expect("a reply"));
    wait_for(&server, ALICE, 1);
    let list = server.done(&["queue", "suspend", "--list"]);
    assert!(list.contains("returned") && list.contains("domain two.test  no such domain"), "{list}");
    assert_eq!(server.done(&["queue", "resume", "--domain", "two.test"]), "1  resumed  domain two.test\n");
    assert!(smtp.message(ALICE, &["joe@two.test"], &message(8, 500)).expect("a reply"));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(rows(&server, &["--domain", "two.test"]).len(), 1, "it waits like any other");
}

/// Takes one message as a server that says yes to everything would; what it got.
fn take_one(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(b"220 there.test ESMTP\r\n").expect("a greeting");
    let (mut got, mut buffer, mut in_message) = (String::new(), [0; 4096], false);
    let mut at = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        got.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some(end) = got[at..].find("\r\n") {
            let line = got[at..at + end].to_owned();
            at += end + 2;
            let reply = match (in_message, line.split(' ').next().unwrap_or_default()) {
                (true, ".") => {
                    in_message = false;
                    "250 2.0.0 taken"
                }
                (true, _) => continue,
                (_, "DATA") => {
                    in_message = true;
                    "354 go on"
                }
                (_, "QUIT") => "221 2.0.0 bye",
                _ => "250 fine",
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).expect("a reply");
            if reply.starts_with("250 2.0.0") {
                return got;
            }
        }
    }
    panic!("nothing was sent: {got}");
}

#[test]
fn what_is_suspended_waits_and_goes_as_soon_as_it_is_resumed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let more = format!("[[route]]\ndomain = \"one.test\"\nto = [\"127.0.0.1:{port}\"]\n");
    let server = Server::configured(&[ALICE], &more);
    let suspended = server.done(&[
        "queue",
        "suspend",
        "--domain",
        "one.test",
        "--duration",
        "1h",
        "--reason",
        "they asked",
    ]);
    assert!(
        suspended.starts_with("1  suspended, ") && suspended.contains("domain one.test  they asked"),
        "{suspended}"
    );
    let mut smtp = server.submission(ALICE);
    assert!(smtp.message(ALICE, &["eve@one.test"], &message(1, 500)).expect("a reply"));
    let rows = until(&server, &[], is_all("ready", 1));
    std::thread::sleep(Duration::from_millis(1500));
    let rows = until(&server, &[rows[0].field("id")], is_all("ready", 1));
    assert_eq!((rows[0].field("reason"), rows[0].field("num_attempts")), ("suspended: they asked", "0"));
    assert!(server.done(&["queue", "summary"]).contains("suspended: they asked"));
    assert!(server.done(&["queue", "explain", "x@one.test"]).contains("held up by: suspended: they asked"));
    listener.set_nonblocking(true).expect("it is a socket");
    assert!(listener.accept().is_err(), "nobody has connected");
    listener.set_nonblocking(false).expect("it is a socket");
    let lifted = server.done(&["queue", "resume", "1"]);
    assert_eq!(lifted, "1  resumed  domain one.test\n");
    let begun = Instant::now();
    assert!(take_one(&listener).contains("RCPT TO:<eve@one.test>"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    until(&server, &[], <[Row]>::is_empty);
    assert_eq!(server.done(&["queue", "suspend", "--list"]), "");
    let delivered = Row(server.done(&["queue", "top", "--json"]));
    assert_eq!((delivered.field("delivered"), delivered.field("failed")), ("1", "0"));
}

#[test]
fn rebound_mail_goes_the_other_way_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let more = format!("{DEAD_ROUTE}\n[[route]]\ndomain = \"backup.test\"\nto = [\"127.0.0.1:{port}\"]\n");
    let server = Server::configured(&[ALICE], &more);
    let mut smtp = server.submission(ALICE);
    assert!(smtp.message(ALICE, &["eve@one.test"], &message(1, 500)).expect("a reply"));
    until(&server, &[], is_all("deferred", 1));
    let rebound = server.done(&["queue", "rebind", "--domain", "one.test", "--to", "Backup.test"]);
    assert_eq!(rebound, "1 recipient is sent by way of backup.test\n");
    assert!(take_one(&listener).contains("RCPT TO:<eve@one.test>"));
    until(&server, &[], <[Row]>::is_empty);
    let events = server.done(&["events", "--type", "AdminRebind"]);
    assert!(events.contains("\"queue\":\"backup.test\"") && events.contains("eve@one.test"), "{events}");
}

#[test]
fn a_retry_is_tried_at_once_though_the_site_is_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let more = format!(
        "[[route]]\ndomain = \"*\"\nto = [\"127.0.0.1:{port}\"]\n[[shaping]]\nfailures_until_dead = 1\n\
         dead_first_s = 3600\ndead_max_s = 3600\n"
    );
    let server = Server::configured(&[ALICE], &more);
    let mut smtp = server.submission(ALICE);
    for number in 0..3 {
        assert!(smtp.message(ALICE, &["eve@one.test"], &message(number, 500)).expect("a reply"));
    }
    until(&server, &[], |rows| rows.iter().any(|row| row.field("state") == "deferred"));
    // Why a site is left alone is told by its own shard, which may come a moment after the state of a message.
    let begun = Instant::now();
    while !server.done(&["queue", "summary"]).contains("no connection") {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.done(&["queue", "summary"]));
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port again");
    let id = until(&server, &["--state", "deferred"], |rows| !rows.is_empty())[0].field("id").to_owned();
    assert_eq!(server.done(&["queue", "retry", &id]), "1 recipient is tried now\n");
    assert!(take_one(&listener).contains("RCPT TO:<eve@one.test>"));
}

#[test]
fn without_a_server_the_store_is_opened() {
    let mut server = with_deferred(&["eve@one.test", "joe@two.test", "ann@three.test"]);
    server.stop();
    assert_eq!(rows(&server, &[]).len(), 3);
    assert!(server.done(&["queue", "summary", "--domain", "two.test"]).contains("two.test"));
    let id = rows(&server, &["--domain", "one.test"])[0].field("id").to_owned();
    assert!(server.done(&["queue", "show", &id]).contains("eve@one.test"));
    assert_eq!(server.done(&["queue", "hold", &id]), "1 recipient is held\n");
    assert_eq!(rows(&server, &["--state", "held"]).len(), 1);
    assert_eq!(server.done(&["queue", "release", &id]), "1 recipient is released\n");
    assert_eq!(server.done(&["queue", "retry", &id]), "1 recipient is tried now\n");
    assert_eq!(rows(&server, &["--state", "ready"])[0].field("id"), id);
    let rebound = server.done(&["queue", "rebind", "--domain", "two.test", "--to", "backup.test"]);
    assert_eq!(rebound, "1 recipient is sent by way of backup.test\n");
    assert_eq!(rows(&server, &["--domain", "backup.test"])[0].field("recipient"), "joe@two.test");
    let bounced = server.done(&["queue", "bounce", "--domain", "three.test", "--reason", "no more"]);
    assert_eq!(bounced, "1 recipient is returned to the sender\n");
    let events = server.done(&["events", "--type", "AdminBounce"]);
    assert!(events.contains("ann@three.test") && events.contains("no more"), "{events}");
    assert!(server.done(&["queue", "explain", "x@one.test"]).contains("no server runs"));
    for verb in [&["top"][..], &["suspend", "--domain", "one.test"], &["suspend", "--list"], &["resume", "1"]]
    {
        let (code, _, error) = outcome(&server, &[&["queue"], verb].concat());
        assert!(code == Some(3) && error.contains("no server runs"), "{verb:?}: {error}");
    }
    let (code, _, error) = outcome(&server, &["queue", "retry", "--site", "127.0.0.1:9"]);
    assert!(code == Some(3) && error.contains("--domain"), "{error}");
    server.start();
    wait_for(&server, ALICE, 1);
    // The site was found dead before, and is left alone until somebody says otherwise; one of its messages is tried
    // then.
    until(&server, &[], |rows| {
        let is_done = rows.len() == 2 && rows.iter().all(|row| row.field("num_attempts") != "1");
        if !is_done {
            server.done(&["queue", "retry", "--everything"]);
        }
        is_done
    });
}

#[test]
fn a_queue_of_thousands_is_listed_whole_and_changed_as_one() {
    const MESSAGES: usize = 3000;
    let server = Server::configured(&[ALICE], &format!("[relay]\nallow = [\"127.0.0.0/8\"]\n{DEAD_ROUTE}"));
    server.done(&["queue", "suspend", "--everything", "--duration", "1h"]);
    let senders: Vec<_> = (0..4)
        .map(|client| {
            let mut smtp = server.smtp();
            std::thread::spawn(move || {
                for number in (client..MESSAGES).step_by(4) {
                    let recipient = format!("user{number}@site{}.test", number % 3);
                    assert!(
                        smtp.message("news@example.net", &[&recipient], &message(number, 300))
                            .expect("a reply")
                    );
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("all were taken"));
    let all = rows(&server, &[]);
    let mut recipients: Vec<&str> = all.iter().map(|row| row.field("recipient")).collect();
    recipients.sort_unstable();
    recipients.dedup();
    assert_eq!(recipients.len(), MESSAGES, "each once");
    let created: Vec<&str> = all.iter().map(|row| row.field("created")).collect();
    assert!(created.is_sorted(), "the oldest first, whichever shard took it");
    assert_eq!(server.done(&["queue", "list"]).lines().count(), 101);
    let held = server.done(&["queue", "hold", "--domain", "site1.test"]);
    assert_eq!(held, format!("{} recipients are held\n", MESSAGES / 3));
    let summary = server.done(&["queue", "summary", "--json"]);
    for line in summary.lines() {
        let row = Row(line.to_owned());
        let held = if row.field("domain") == "site1.test" { "1000" } else { "0" };
        assert_eq!((row.field("count"), row.field("held")), ("1000", held));
    }
    let recipient = server.done(&["queue", "list", "--json", "--recipient", "user2999@site2.test"]);
    assert_eq!(recipient.lines().count(), 1);
    server.done(&["queue", "release", "--everything"]);
    server.done(&["queue", "resume", "--everything"]);
    let bounced = server.done(&["queue", "bounce", "--domain", "site1.test", "--reason", "enough"]);
    assert!(bounced.contains("recipients are returned"), "{bounced}");
    let left = until(&server, &["--domain", "site0.test"], |rows| {
        rows.iter().any(|row| row.field("state") == "deferred")
    });
    assert_eq!(left.len(), MESSAGES / 3);
}
