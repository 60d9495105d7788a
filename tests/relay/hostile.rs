//! Servers that mean harm, or are broken: nothing is lost by them, nobody else waits for them, and they get no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dsn::Notification;
use crate::mail::{ALICE, Setup, count_mail, note, queue, resident_kb, send, smtp, wait_for, wait_for_mail};
use crate::remote::{Act, Character, Remote, Verb};
use crate::server::Server;

/// Short, so that a test need not wait as long as a server must.
const SHORT: &str = "\n[[shaping]]\nconnect_s = 1\ngreeting_s = 1\ncommand_s = 1\ndata_s = 1\nblock_s = 1\nend_s = 1\n\
    transaction_s = 3\n";

/// What must come of a message to a hostile server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It waits, and is tried again.
    Waits,
    Bounces,
    Arrives,
    /// Either, for the words could be read in two ways; but nobody says that it arrived.
    WaitsOrBounces,
}

struct Case {
    name: &'static str,
    outcome: Outcome,
    character: Character,
}

fn case(name: &'static str, outcome: Outcome, character: Character) -> Case {
    Case { name, outcome, character }
}

fn say(verb: Verb, text: &str) -> Character {
    Character::decent().at(verb, Act::Say(text.to_owned()))
}

fn bytes(verb: Verb, bytes: &[u8]) -> Character {
    Character::decent().at(verb, Act::Bytes(bytes.to_vec()))
}

/// OC-01 to OC-08 but for what tls.rs and bounces.rs have.
fn cases() -> Vec<Case> {
    use Outcome::{Arrives, Bounces, Waits, WaitsOrBounces};
    let endless = |line: &[u8]| Act::Repeat(line.to_vec(), 200 << 20);
    let decent = Character::decent;
    let extensions = |count: usize| {
        (0..count).fold(decent(), |character, index| character.with(&format!("X-EXTENSION-{index}")))
    };
    vec![
        case("oc01-greeting", Waits, decent().at(Verb::Connect, endless(b"220-wait\r\n"))),
        case("oc01-long-line", Waits, decent().at(Verb::Connect, endless(&[b'2'; 4096]))),
        case("oc01-no-crlf", Waits, bytes(Verb::Connect, b"220 almost")),
        case("oc01-ehlo", Waits, decent().at(Verb::Ehlo, endless(b"250-X-MORE\r\n"))),
        case("oc01-rcpt", Waits, decent().at(Verb::Rcpt, endless(b"250-more to say\r\n"))),
        case("oc01-end", Waits, decent().at(Verb::End, endless(b"250-more to say\r\n"))),
        case("oc02-mixed-codes", WaitsOrBounces, bytes(Verb::Rcpt, b"250-a\r\n550 b\r\n")),
        case("oc02-short", WaitsOrBounces, bytes(Verb::Rcpt, b"25\r\n")),
        case("oc02-no-digits", WaitsOrBounces, bytes(Verb::Rcpt, b"abc def\r\n")),
        case("oc02-empty-lines", WaitsOrBounces, bytes(Verb::Rcpt, b"\r\n\r\n\r\n")),
        case("oc02-code-0", WaitsOrBounces, bytes(Verb::Rcpt, b"000 zero\r\n")),
        case("oc02-code-999", WaitsOrBounces, bytes(Verb::Rcpt, b"999 many\r\n")),
        case("oc02-no-text", Arrives, say(Verb::Rcpt, "250")),
        case("oc02-bare-enhanced", Arrives, say(Verb::Rcpt, "250 2.1.5")),
        case("oc02-bare-permanent", Bounces, say(Verb::Rcpt, "550 5.7.2")),
        case("oc02-8-bit", Arrives, bytes_and_go_on(b"250 caf\xe9 \x01\r\n")),
        case("oc02-contradiction", WaitsOrBounces, say(Verb::Rcpt, "450 5.1.1 temporary or not")),
        case("oc03-250-for-data", WaitsOrBounces, say(Verb::Data, "250 fine already")),
        case("oc03-early-refusal", Bounces, bytes(Verb::Data, b"354 go on\r\n550 5.7.1 changed my mind\r\n")),
        case(
            "oc03-refusal-in-body",
            Waits,
            decent().at(Verb::Data, Act::Interrupt("451 4.3.0 enough".into())),
        ),
        case("oc03-reply-too-late", Waits, decent().at(Verb::End, Act::Late(2500, "451 4.0.0 late".into()))),
        case("oc03-close-without-reply", Waits, decent().at(Verb::End, Act::Close)),
        case(
            "oc03-421-at-end",
            Waits,
            decent().at(Verb::End, Act::SayAndClose("421 4.3.2 going down".into())),
        ),
        case("oc03-554-at-end", Bounces, say(Verb::End, "554 5.6.0 not like this")),
        case("oc04-no-greeting", Waits, decent().at(Verb::Connect, Act::Silence)),
        case("oc04-crawl", Waits, decent().at(Verb::Data, Act::Crawl)),
        case("oc04-silent-at-mail", Waits, decent().at(Verb::Mail, Act::Silence)),
        case("oc04-silent-at-end", Waits, decent().at(Verb::End, Act::Silence)),
        case(
            "oc05-more-replies",
            WaitsOrBounces,
            say(Verb::Mail, "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok"),
        ),
        // The next command's reply is taken for the missing one.
        case("oc05-no-reply-to-rcpt", WaitsOrBounces, bytes(Verb::Rcpt, b"")),
        case("oc05-no-reply-to-mail", WaitsOrBounces, bytes(Verb::Mail, b"")),
        case("oc05-no-reply-to-end", Waits, bytes(Verb::End, b"")),
        case("oc05-unasked", Waits, say(Verb::Connect, "220 hello\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok")),
        case("oc06-endless-extensions", Waits, extensions(10_000)),
        case("oc06-many-extensions", Arrives, extensions(60)),
        case("oc06-size-0", Arrives, decent().without("SIZE 104857600").with("SIZE 0")),
        case("oc06-size-abc", Arrives, decent().without("SIZE 104857600").with("SIZE abc")),
        case("oc06-size-1", Bounces, decent().without("SIZE 104857600").with("SIZE 1")),
        case("oc08-always-421", Waits, decent().at(Verb::Connect, Act::SayAndClose("421 4.3.2 no".into()))),
        case("oc08-always-450", Waits, say(Verb::Mail, "450 4.7.1 no")),
        case(
            "oc08-refused-greeting",
            Waits,
            decent().at(Verb::Connect, Act::SayAndClose("554 5.7.1 no".into())),
        ),
        case("oc08-550-to-mail", Bounces, say(Verb::Mail, "550 5.7.1 not from you")),
        case("oc08-rset", Arrives, say(Verb::Rset, "500 5.5.1 what is that")),
    ]
}

fn bytes_and_go_on(reply: &[u8]) -> Character {
    // A reply with bytes that are no text still takes the recipient.
    let reply: String = reply.iter().map(|byte| char::from(*byte)).collect();
    let reply = reply.trim_end().to_owned();
    Character::decent().at(Verb::Rcpt, Act::Say(reply))
}

/// Takes the flag down, also where a test fails: others wait for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A message every so often to a server that does nothing wrong, for as long as a flag stands; the slowest one's way.
fn flow(server: &Server, good: &Remote, goes_on: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut client = smtp(server);
    for index in 0.. {
        if !goes_on.load(Ordering::Relaxed) {
            break;
        }
        let recipient = format!("r{index}@good.test");
        let begun = Instant::now();
        assert!(client.message(ALICE, &[&recipient], &note("good")).expect("a reply"));
        wait_for("the good server's mail", server, || {
            good.ledger().arrivals.iter().any(|arrival| arrival.has(&recipient)).then_some(())
        });
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    slowest
}

#[test]
fn hostile_servers_harm_nobody_but_themselves() {
    let good = Remote::decent();
    let running: Vec<(Case, Remote)> = cases()
        .into_iter()
        .map(|case| {
            let remote = Remote::start(case.character.clone());
            (case, remote)
        })
        .collect();
    let mut setup = Setup::new().more(SHORT).route("good.test", &good);
    for (case, remote) in &running {
        setup = setup.route(&format!("{}.test", case.name), remote);
    }
    let server = setup.start();
    let before = resident_kb(&server);
    let goes_on = AtomicBool::new(true);
    let (slowest, most) = std::thread::scope(|scope| {
        let stop = Stop(&goes_on);
        let flowing = scope.spawn(|| flow(&server, &good, &goes_on));
        let watching = scope.spawn(|| {
            let mut most = 0;
            while goes_on.load(Ordering::Relaxed) {
                most = most.max(resident_kb(&server));
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        for (case, _) in &running {
            let size =
                if case.name == "oc04-crawl" || case.name == "oc03-refusal-in-body" { 3_000_000 } else { 0 };
            let mut text = note(case.name);
            while text.len() < size {
                text.extend_from_slice(b"one more line of a message that is long\r\n");
            }
            send(&server, ALICE, &[&format!("a@{}.test", case.name)], &text);
        }
        // Long enough for all time limits, twice.
        std::thread::sleep(Duration::from_secs(8));
        drop(stop);
        (flowing.join().expect("mail flows"), watching.join().expect("it can be watched"))
    });
    assert!(slowest < Duration::from_secs(5), "the good server waited {slowest:?}");
    let grown = most.saturating_sub(before);
    eprintln!("the server grew by {grown} KB");
    assert!(grown < 90 << 10, "the server grew by {grown} KB");
    check(&server, &running);
}

/// Every message is where it must be.
fn check(server: &Server, running: &[(Case, Remote)]) {
    let bounced = |name: &str, mail: &[Vec<u8>]| {
        mail.iter().any(|mail| {
            let bounce = Notification::read(mail);
            let wanted = format!("rfc822; a@{name}.test");
            bounce
                .recipients
                .iter()
                .any(|fields| fields["final-recipient"] == wanted && fields["action"] == "failed")
        })
    };
    let count = count_mail(server, ALICE);
    let mail = if count > 0 { wait_for_mail(server, ALICE, count) } else { Vec::new() };
    let waiting = queue(server);
    let mut wrong = Vec::new();
    for (case, remote) in running {
        let recipient = format!("a@{}.test", case.name);
        let arrived = remote.arrivals().iter().filter(|arrival| arrival.has(&recipient)).count();
        let (waits, bounces) = (waiting.contains(&recipient), bounced(case.name, &mail));
        // A connection may serve for several.
        let ledger = remote.ledger();
        let tries = ledger.connections.len().max(ledger.commands("MAIL").len());
        let is_right = match case.outcome {
            Outcome::Waits => waits && !bounces && arrived == 0 && tries >= 2,
            Outcome::Bounces => !waits && bounces && arrived == 0,
            Outcome::Arrives => !waits && !bounces && arrived == 1,
            Outcome::WaitsOrBounces => waits != bounces && arrived == 0,
        };
        if !is_right {
            wrong.push(format!(
                "{} ({:?}): waits {waits}, bounced {bounces}, arrived {arrived}, {tries} tries",
                case.name, case.outcome
            ));
        }
    }
    assert!(wrong.is_empty(), "{}\nqueue:\n{waiting}\nlog:\n{}", wrong.join("\n"), server.log());
}

/// OC-03: a reply that comes after the message was taken, but too late to be heard. That message may come twice, each
/// time for a cause; what stands beside it may not.
#[test]
fn only_what_nobody_confirmed_is_sent_again() {
    let rude = AtomicUsize::new(0);
    let remote = Remote::start(Character::decent().script(move |step| {
        // Taken, and the word about it is lost, twice.
        (step.verb == Verb::End && step.transaction == 1 && rude.fetch_add(1, Ordering::Relaxed) < 2)
            .then(|| Act::Late(1600, "250 2.0.0 taken".into()))
    }));
    let server = Setup::new()
        .cores(1)
        .more(SHORT)
        .more("\n[[shaping]]\ndomain = \"remote.test\"\nconnections = 1\n")
        .route("remote.test", &remote)
        .start();
    for index in 0..12 {
        send(&server, ALICE, &[&format!("r{index}@remote.test")], &note("once"));
    }
    crate::mail::wait_until_done(&server, "remote.test");
    let arrivals = remote.arrivals();
    let doubles = arrivals.len() - 12;
    assert!(doubles <= 2, "{doubles} came twice");
    for index in 0..12 {
        let recipient = format!("r{index}@remote.test");
        assert!(arrivals.iter().any(|arrival| arrival.has(&recipient)), "{recipient}");
    }
    assert_eq!(count_mail(&server, ALICE), 0);
}

/// What a server does between two messages harms neither: saying what nobody asked for, or closing without a word.
#[test]
fn a_session_that_ends_between_two_messages_costs_no_attempt() {
    let chatty = say(Verb::End, "250 2.0.0 taken\r\n250 2.0.0 and by the way");
    let short = Character::decent().at(Verb::End, Act::SayAndClose("250 2.0.0 taken, and that is it".into()));
    let curt = Character::decent().script(|step| {
        (step.verb == Verb::Mail && step.transaction > 0).then(|| Act::SayAndClose("421 4.3.2 enough".into()))
    });
    let remotes = [("chatty", chatty), ("short", short), ("curt", curt)];
    let remotes = remotes.map(|(name, character)| (name, Remote::start(character)));
    let mut setup =
        Setup::new().more("\n[log]\nlevel = \"debug\"\n").more("\n[[shaping]]\nconnections = 1\n");
    for (name, remote) in &remotes {
        setup = setup.route(&format!("{name}.test"), remote);
    }
    let server = setup.start();
    for (name, remote) in &remotes {
        let mut client = smtp(&server);
        for index in 0..8 {
            let to = format!("r{index}@{name}.test");
            assert!(client.message(ALICE, &[&to], &note("between")).expect("a reply"));
        }
        crate::mail::wait_until_done(&server, &format!("{name}.test"));
        assert_eq!(remote.arrivals().len(), 8, "{name}");
    }
    let failures = server.done(&["events", "--type", "TransientFailure"]);
    assert_eq!(failures, "");
}

/// OC-10: two hundred domains at one host that says nothing.
#[test]
fn a_tarpit_for_many_domains_holds_nobody_else_up() {
    let tarpit = Remote::start(Character::decent().at(Verb::Connect, Act::Silence));
    let good = Remote::decent();
    let mut setup = Setup::new().route("good.test", &good);
    for index in 0..200 {
        setup = setup.route(&format!("tar{index}.test"), &tarpit);
    }
    let server = setup.start();
    let mut client = smtp(&server);
    for index in 0..200 {
        for recipient in 0..3 {
            let to = format!("a{recipient}@tar{index}.test");
            assert!(client.message(ALICE, &[&to], &note("stuck")).expect("a reply"));
        }
    }
    let goes_on = Arc::new(AtomicBool::new(true));
    let stop = Arc::clone(&goes_on);
    let timer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        stop.store(false, Ordering::Relaxed);
    });
    let slowest = flow(&server, &good, &goes_on);
    timer.join().expect("a timer ends");
    assert!(slowest < Duration::from_secs(3), "the good server waited {slowest:?}");
    // All these domains are one site.
    let most = tarpit.ledger().open_most;
    assert!(most <= 20, "{most} connections to one host");
}
