//! A whole pipelined transaction with a message of 4 KiB through the SMTP engine: commands in, replies out, the
//! message in one buffer behind its trace fields.

use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Output;
use ringpost::mail::time::{Instant, Now, Timestamp};
use ringpost::proto::smtp::{Event, Outcome, Policy, RecipientVerdict, Role, SenderVerdict, Server};

const NOW: Now = Now { instant: Instant(1), timestamp: Timestamp { seconds: 0, zone_minutes: 0 } };
const PREFIX: &[u8] = b"Return-Path: <sender@elsewhere.example>\r\nReceived: from there by here\r\n";

fn policy() -> Rc<Policy> {
    Rc::new(Policy {
        hostname: "mail.example.org".to_owned(),
        role: Role::Relay,
        is_tls_available: false,
        message_bytes_max: 50 << 20,
        recipients_max: 100,
        idle_s: 300,
        mails_max: None,
        hold_s_max: 0,
        deliver_by_s_min: 0,
        mechanisms: Vec::new(),
    })
}

/// Gives the engine all of `input` and accepts whatever it asks; says how long the stored message was.
fn converse(engine: &mut Server, mut input: &[u8], out: &mut Output) -> usize {
    let mut stored = 0;
    loop {
        let taken = engine.handle_bytes(input, out, NOW);
        input = &input[taken..];
        let mut asked = false;
        while let Some(event) = engine.poll_event() {
            let outcome = match event {
                Event::Sender { .. } => Outcome::Sender(SenderVerdict::Accepted),
                Event::Recipient { .. } => Outcome::Recipient(RecipientVerdict::Accepted),
                Event::Begin { .. } => Outcome::Begin { prefix: PREFIX.to_vec() },
                Event::Message { body, .. } => {
                    stored = body.len();
                    Outcome::Message(Ok("000000000001".to_owned()))
                }
                other => panic!("nothing else is asked: {other:?}"),
            };
            asked = true;
            engine.handle_done(outcome, out, NOW.instant);
        }
        if !asked && (taken == 0 || input.is_empty()) {
            return stored;
        }
    }
}

fn smtp_session(criterion: &mut Criterion) {
    let mut message = b"From: <sender@elsewhere.example>\r\nSubject: a benchmark\r\n\r\n".to_vec();
    while message.len() < 4 << 10 {
        message
            .extend_from_slice(b"A line of text of the usual length, as people and programs write them.\r\n");
    }
    let envelope = "MAIL FROM:<sender@elsewhere.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    let input = [envelope.as_bytes(), &message, b".\r\n"].concat();

    let mut out = Output::new();
    let mut engine = Server::new(policy(), None, &mut out, NOW.instant);
    converse(&mut engine, b"EHLO client.example\r\n", &mut out);
    out.clear();
    assert_eq!(converse(&mut engine, &input, &mut out), PREFIX.len() + message.len());
    let replies = String::from_utf8(out.to_vec()).expect("replies are text");
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "354", "250"]);

    let mut group = criterion.benchmark_group("smtp_session");
    group.throughput(Throughput::Elements(1));
    group.bench_function("transaction_of_4_kib", |bencher| {
        bencher.iter(|| {
            out.clear();
            converse(&mut engine, black_box(&input), &mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, smtp_session);
criterion_main!(benches);
