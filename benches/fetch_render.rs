//! The answers to `FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE)` and to the header fields that a mail client lists a
//! folder by, for 10,000 messages, from rows to wire bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Output;
use ringpost::mail::digest::{Digest, KeptNames};
use ringpost::mail::flags::SystemFlags;
use ringpost::mail::header::{Header, subset};
use ringpost::mail::section::{Section, SectionText};
use ringpost::mail::set::{Bound, NumberSet};
use ringpost::mail::time::Timestamp;
use ringpost::proto::imap::command::{Fetch, FetchItem, FetchSection, Numbering};
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

/// What a mail client asks for, of which most messages have about half.
const LISTED: [&str; 14] = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "References",
    "In-Reply-To",
    "Newsgroups",
    "Priority",
    "X-Priority",
    "Content-Type",
];

const LISTED_MESSAGE: &[u8] = b"Return-Path: <sender@example.org>\r\n\
    Received: from mx.example.org (mx.example.org [192.0.2.7])\r\n\tby mail.load.test with ESMTPS id 7;\r\n\
    \tTue, 24 Nov 2026 10:00:00 +0000\r\n\
    From: \"Sender 7\" <sender@example.org>\r\n\
    To: Recipient 7 <recipient@load.test>, office@load.test\r\nCc: list@lists.load.test\r\n\
    Subject: =?utf-8?q?N=C3=BAmero?= 7: what was said about it\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
    Message-ID: <7.load@example.org>\r\nIn-Reply-To: <6.load@example.org>\r\n\
    References: <5.load@example.org> <6.load@example.org>\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\r\nbody\r\n";

fn render_fields(out: &mut Output, names: &KeptNames, item: &FetchSection, kept: &[u8]) {
    let mut places = Vec::new();
    for _ in 0..ROWS {
        fetch::fields(out, item, names, kept, &mut places);
    }
}

fn header_fields(criterion: &mut Criterion) {
    let kept = Digest::of(LISTED_MESSAGE).fields;
    let listed = LISTED.map(str::to_owned).to_vec();
    let fields = subset(&Header::of(LISTED_MESSAGE), &listed);
    let section = Section { part: Vec::new(), text: SectionText::HeaderFields(listed) };
    let names = KeptNames::asked_by(&section).expect("all of them are kept");
    let item =
        FetchSection { section, partial: None, label: "BODY[HEADER.FIELDS]".to_owned(), sets_seen: false };
    let one = [format!("BODY[HEADER.FIELDS] {{{}}}\r\n", fields.len()).as_bytes(), &fields, b" "].concat();
    let mut out = Output::new();
    render_fields(&mut out, &names, &item, &kept);
    assert!(out.to_vec() == one.repeat(ROWS as usize));

    let mut group = criterion.benchmark_group("fetch_render");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.bench_function("header_fields", |bencher| {
        bencher.iter(|| {
            out.clear();
            render_fields(&mut out, black_box(&names), black_box(&item), black_box(&kept));
            out.len()
        });
    });
    group.finish();
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

criterion_group!(benches, fetch_render, header_fields);
criterion_main!(benches);
