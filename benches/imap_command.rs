//! IMAP command lines through the engine: taken apart, given to the driver as values, ended with their tagged line.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Output;
use ringpost::mail::time::{Instant, Now, Timestamp};
use ringpost::proto::imap::command::Access;
use ringpost::proto::imap::reply::Done;
use ringpost::proto::imap::server::{Channel, Event, Outcome, Server, Settings};

const NOW: Now =
    Now { instant: Instant(1), timestamp: Timestamp { seconds: 1_767_225_600, zone_minutes: 0 } };

const COMMANDS: [(&str, &str); 6] = [
    ("noop", "a1 NOOP"),
    ("list_envelopes", "a2 UID FETCH 1:* (FLAGS UID RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)"),
    (
        "fetch_header_fields",
        "a3 UID FETCH 4711 (UID BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID References)]<0.2048>)",
    ),
    ("store_flags", "a4 UID STORE 1,3:9,200:* +FLAGS.SILENT (\\Seen $Forwarded)"),
    (
        "search_return",
        "a5 UID SEARCH RETURN (MIN MAX COUNT) UNSEEN OR FROM \"alice\" SUBJECT \"a benchmark\" SINCE 1-Jan-2026",
    ),
    (
        "list_status",
        "a6 LIST (SUBSCRIBED) \"\" (\"INBOX\" \"Archive/%\") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))",
    ),
];

/// Gives the engine all of `input`; every command it asks for succeeds. Says how many there were.
fn converse(engine: &mut Server, mut input: &[u8], out: &mut Output) -> usize {
    let mut commands = 0;
    loop {
        let taken = engine.handle_bytes(input, out, NOW);
        input = &input[taken..];
        match engine.poll_event() {
            Some(Event::Verify(_)) => engine.handle_done(Outcome::LoggedIn, out, NOW),
            Some(Event::Command { command, .. }) => {
                commands += 1;
                let done = match black_box(command) {
                    ringpost::proto::imap::command::Command::Select(_) => Done::selected(Access::ReadWrite),
                    _ => Done::ok("Done"),
                };
                engine.handle_done(Outcome::Done(done), out, NOW);
            }
            Some(other) => panic!("nothing else is asked: {other:?}"),
            None if taken == 0 || input.is_empty() => return commands,
            None => {}
        }
    }
}

fn imap_command(criterion: &mut Criterion) {
    let settings = Settings { message_bytes_max: 50 << 20, starttls: false, login_s: 60, idle_s: 1860 };
    let mut engine = Server::new(settings, Channel::Trusted, NOW);
    let mut out = Output::new();
    assert_eq!(converse(&mut engine, b"l LOGIN alice secret\r\ns SELECT INBOX\r\n", &mut out), 1);
    let mut group = criterion.benchmark_group("imap_command");
    group.throughput(Throughput::Elements(1));
    for (name, command) in COMMANDS {
        let line = format!("{command}\r\n");
        out.clear();
        converse(&mut engine, line.as_bytes(), &mut out);
        let reply = String::from_utf8(out.to_vec()).expect("replies are text");
        assert!(reply.starts_with(&format!("{} OK", &command[..2])), "{command}: {reply}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                converse(&mut engine, black_box(line.as_bytes()), &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, imap_command);
criterion_main!(benches);
