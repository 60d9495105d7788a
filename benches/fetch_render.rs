//! The answer to `FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE)` for 10,000 messages, from rows to wire bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Output;
use ringpost::mail::digest::Digest;
use ringpost::mail::flags::SystemFlags;
use ringpost::mail::set::{Bound, NumberSet};
use ringpost::mail::time::Timestamp;
use ringpost::proto::imap::command::{Fetch, FetchItem, Numbering};
use ringpost::proto::imap::render::fetch::{self, FetchPlan, FetchRow, RowFlags};
use ringpost::proto::imap::server::Enabled;

const ROWS: u32 = 10_000;

fn render(out: &mut Output, plan: &FetchPlan, digest: &Digest) {
    let at = Timestamp { seconds: 1_767_225_600, zone_minutes: 0 };
    for number in 1..=ROWS {
        let row = FetchRow {
            number,
            uid: number,
            modseq: u64::from(number),
            flags: RowFlags { system: SystemFlags::SEEN, ..RowFlags::default() },
            size: 4096,
            internal: at,
            saved: Some(at),
            envelope: &digest.envelope,
            body: &digest.body,
            body_structure: &digest.body_structure,
        };
        fetch::row(out, plan, &row);
    }
}

fn fetch_render(criterion: &mut Criterion) {
    let digest = Digest::of(
        b"From: Sender <sender@elsewhere.example>\r\nTo: Alice <alice@example.org>\r\nSubject: a benchmark\r\n\
          Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@elsewhere.example>\r\n\r\nbody\r\n",
    );
    let command = Fetch {
        numbering: Numbering::Sequence,
        numbers: NumberSet::Ranges(vec![(Bound::Number(1), Bound::Last)]),
        items: vec![FetchItem::Flags, FetchItem::Uid, FetchItem::Size, FetchItem::Envelope],
        changed_since: None,
    };
    let plan = FetchPlan::new(&command, Enabled::default());
    let mut out = Output::new();
    render(&mut out, &plan, &digest);
    let text = String::from_utf8(out.to_vec()).expect("it is text");
    let last = text.lines().last().expect("there are rows");
    assert_eq!(text.lines().count(), ROWS as usize);
    let head = "* 10000 FETCH (FLAGS (\\Seen) UID 10000 RFC822.SIZE 4096 ENVELOPE (\"Tue, 24 Nov 2026";
    assert!(last.starts_with(head), "{last}");

    let mut group = criterion.benchmark_group("fetch_render");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.bench_function("flags_uid_size_envelope", |bencher| {
        bencher.iter(|| {
            out.clear();
            render(&mut out, black_box(&plan), black_box(&digest));
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, fetch_render);
criterion_main!(benches);
