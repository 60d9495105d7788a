//! Killed again and again while it relays: nothing that was acknowledged is lost, and little comes twice.
//!
//! The client's ledger says what was acknowledged, the remote's what arrived. A recipient's copy may arrive again only
//! if a kill came while its outcome was not yet synced, which it is a moment after the transaction.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Smtp, stuffed};
use crate::dsn::Notification;
use crate::mail::{ALICE, Setup, count_mail, mail_of, note, queue, wait_for, wait_for_mail};
use crate::remote::{Character, Remote};
use crate::server::{SMTP, Server};

const ROUNDS: usize = 20;
const SENDERS: usize = 4;

/// A busy machine's disk has synced an outcome by then.
const SYNC_MAX: Duration = Duration::from_secs(2);

/// Every so many rounds, one lasts longer than a sync.
const LONG_EVERY: usize = 7;

/// Messages that got their 250.
type Acknowledged = Arc<Mutex<Vec<usize>>>;

fn rounds() -> usize {
    let named = std::env::var("RINGPOST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok());
    named.unwrap_or(ROUNDS)
}

#[test]
fn kills_lose_nothing_and_double_little() {
    let [one, other] = [(); 2].map(|()| Remote::start(Character::decent().with("CHUNKING")));
    let mut server = Setup::new()
        .route("one.test", &one)
        .route("other.test", &other)
        .more("\n[[shaping]]\nconnections = 3\n[limits]\ncheckpoint_bytes = 262144\n")
        .start();
    let acknowledged = Acknowledged::default();
    let next = Arc::new(AtomicUsize::new(0));
    let rounds = rounds();
    let mut random = Random(u64::from(std::process::id()) + 1);
    eprintln!("seed {}", random.0);
    let mut kills = Vec::new();
    for round in 0..rounds {
        let span = if round % LONG_EVERY == LONG_EVERY - 1 { SYNC_MAX * 2 } else { random.span() };
        kills.push(send_until_killed(&mut server, &acknowledged, &next, span, |smtp, number| {
            let recipients = recipients(number);
            let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
            smtp.message(ALICE, &recipients, &note(&format!("killed {number}")))
        }));
        server.set_cores(1 + round % 2);
        server.start();
    }
    let acknowledged = acknowledged.lock().expect("the ledger").clone();
    assert!(acknowledged.len() > rounds, "the load was taken");
    wait_for("the queue is empty but for what is refused for now", &server, || {
        let waiting = queue(&server);
        (!waiting.contains("ok") && !waiting.contains("grey") && !waiting.contains("no-")).then_some(())
    });
    let times = arrivals(&[&one, &other]);
    let mut doubles = 0;
    for (recipient, times) in &times {
        for pair in times.windows(2) {
            doubles += 1;
            let cause = kills.iter().find(|kill| pair[0] < **kill && **kill < pair[1]);
            let unsynced = cause.map(|kill| *kill - pair[0]);
            assert!(unsynced.is_some_and(|span| span < SYNC_MAX), "{recipient} again, {unsynced:?}");
        }
    }
    let (bounced, notifications) = bounced(&server);
    let waiting = queue(&server);
    let mut lost = Vec::new();
    for number in &acknowledged {
        for recipient in recipients(*number) {
            let has_ended = times.contains_key(&recipient) || bounced.contains_key(&recipient);
            if !has_ended && !waiting.contains(&recipient) {
                lost.push(recipient);
            }
        }
    }
    assert!(lost.is_empty(), "{lost:?} of {} messages; log:\n{}", acknowledged.len(), server.log());
    eprintln!(
        "{} acknowledged, {doubles} of {} came again, {notifications} notifications",
        acknowledged.len(),
        times.len()
    );
    // What bounced was told once, in the record that settled it.
    let told_again = bounced.values().filter(|times| **times > 1).count();
    assert!(told_again == 0, "{told_again} recipients were told of twice");
}

/// RFC 3461 5.2.3: that mail is in its mailbox is told in the records that settle it, through all kills once.
#[test]
fn deliveries_are_told_once_through_kills() {
    const BOB: &str = "bob@example.test";
    const CAROL: &str = "carol@example.test";
    let mut server =
        Setup::new().account(BOB).account(CAROL).more("[limits]\ncheckpoint_bytes = 262144\n").start();
    let acknowledged = Acknowledged::default();
    let next = Arc::new(AtomicUsize::new(0));
    let mut random = Random(u64::from(std::process::id()) + 1);
    let rounds = rounds().div_ceil(2);
    for round in 0..rounds {
        let span = random.span();
        send_until_killed(&mut server, &acknowledged, &next, span, |smtp, number| {
            for command in [
                format!("MAIL FROM:<{ALICE}> ENVID=n{number}"),
                format!("RCPT TO:<{BOB}> NOTIFY=SUCCESS"),
                format!("RCPT TO:<{CAROL}> NOTIFY=SUCCESS,FAILURE"),
                "DATA".to_owned(),
            ] {
                smtp.command(&command)?;
            }
            smtp.raw(&stuffed(&note(&format!("killed {number}"))))?;
            Ok(smtp.reply()?.0 == 250)
        });
        server.set_cores(1 + round % 2);
        server.start();
    }
    let acknowledged = acknowledged.lock().expect("the ledger").clone();
    assert!(acknowledged.len() > rounds, "the load was taken");
    let told = wait_for("all is told", &server, || {
        let told = told(&server);
        let is_told = |number: &usize| {
            [BOB, CAROL].iter().all(|to| told.contains_key(&(format!("n{number}"), (*to).to_owned())))
        };
        acknowledged.iter().all(is_told).then_some(told)
    });
    let again = told.values().filter(|times| **times > 1).count();
    assert_eq!(again, 0, "deliveries that were told again of {}", told.len());
    for account in [BOB, CAROL] {
        let there: Vec<String> = mail_of(&server, account)
            .iter()
            .map(|mail| {
                let text = String::from_utf8_lossy(mail).into_owned();
                let (_, subject) = text.split_once("Subject: killed ").expect("a subject");
                format!("n{}", subject.split("\r\n").next().expect("a line"))
            })
            .collect();
        let lost = acknowledged.iter().filter(|number| !there.contains(&format!("n{number}")));
        assert_eq!(lost.count(), 0, "acknowledged, and not there");
        let invented = told.keys().filter(|(number, to)| to == account && !there.contains(number));
        assert_eq!(invented.count(), 0, "told, and not there");
    }
}

/// How often Alice was told of each delivery, by ENVID and recipient.
fn told(server: &Server) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    for mail in mail_of(server, ALICE) {
        let notification = Notification::read(&mail);
        for fields in &notification.recipients {
            assert_eq!(fields["action"], "delivered");
            let recipient = fields["final-recipient"].trim_start_matches("rfc822; ").to_owned();
            let message = notification.message["original-envelope-id"].clone();
            *told.entry((message, recipient)).or_default() += 1;
        }
    }
    told
}

/// Four fates for each message, at two sites.
fn recipients(number: usize) -> [String; 4] {
    [
        format!("ok{number}@one.test"),
        format!("ok{number}@other.test"),
        format!("grey1-{number}@other.test"),
        format!("no-{number}@one.test"),
    ]
}

/// When it was killed.
fn send_until_killed(
    server: &mut Server,
    acknowledged: &Acknowledged,
    next: &Arc<AtomicUsize>,
    span: Duration,
    send: fn(&mut Smtp, usize) -> io::Result<bool>,
) -> Instant {
    let address = server.address();
    let stopped = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (acknowledged, next, stopped) =
                (Arc::clone(acknowledged), Arc::clone(next), Arc::clone(&stopped));
            std::thread::spawn(move || {
                let Ok(mut smtp) = Smtp::connect(address, SMTP) else {
                    return;
                };
                while !stopped.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match send(&mut smtp, number) {
                        Ok(true) => acknowledged.lock().expect("the ledger").push(number),
                        Ok(false) | Err(_) => return,
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .collect();
    std::thread::sleep(span);
    server.kill();
    let at = Instant::now();
    stopped.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().expect("a sender ends");
    }
    at
}

/// When each recipient got its message, and when again.
fn arrivals(remotes: &[&Remote]) -> BTreeMap<String, Vec<Instant>> {
    let mut times: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for arrival in remotes.iter().flat_map(|remote| remote.arrivals()) {
        for recipient in arrival.taken_for {
            times.entry(recipient).or_default().push(arrival.at);
        }
    }
    times.values_mut().for_each(|times| times.sort());
    times
}

/// How often the sender was told that a recipient's copy failed, and by how many messages.
fn bounced(server: &Server) -> (BTreeMap<String, usize>, usize) {
    let mut times = BTreeMap::new();
    let count = count_mail(server, ALICE);
    for mail in wait_for_mail(server, ALICE, count) {
        for fields in Notification::read(&mail).recipients {
            let recipient = fields["final-recipient"].trim_start_matches("rfc822; ").to_owned();
            *times.entry(recipient).or_default() += 1;
        }
    }
    (times, count)
}

/// Xorshift.
struct Random(u64);

impl Random {
    /// 100 to 350 ms.
    fn span(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(100 + self.0 % 250)
    }
}
