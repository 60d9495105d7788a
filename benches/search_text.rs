//! SEARCH TEXT of a word that no message has, in a message of 4 KiB as most are: a subject in encoded words, folded
//! fields, a body of plain lines.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::mail::mime::Structure;
use ringpost::mail::text::{Needle, text_contains};

fn message() -> Vec<u8> {
    let header = "Return-Path: <sender@example.org>\r\n\
        Received: from mx.example.org (mx.example.org [192.0.2.7])\r\n\tby mail.load.test with ESMTPS id 7;\r\n\
        \tTue, 24 Nov 2026 10:00:00 +0000\r\n\
        From: \"Sender 7\" <sender@example.org>\r\n\
        To: Recipient 7 <recipient@load.test>, office@load.test\r\nCc: list@lists.load.test\r\n\
        Subject: =?utf-8?q?N=C3=BAmero?= 7: what was said\r\n about it\r\n\
        Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <7.load@example.org>\r\n\
        In-Reply-To: <6.load@example.org>\r\nReferences: <5.load@example.org> <6.load@example.org>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n";
    let line = "A line of text of the usual Length, as People and programs write them.\r\n";
    let mut message = header.as_bytes().to_vec();
    while message.len() < 4096 {
        message.extend_from_slice(line.as_bytes());
    }
    message
}

fn search_text(criterion: &mut Criterion) {
    let message = message();
    let is_found = |text: &str| text_contains(&Structure::of(&message), &Needle::new(text));
    for text in [
        "nÚmero 7: WHAT was said about it",
        "usual length, as people",
        "[192.0.2.7])\tby mail",
        "CHARSET=utf",
    ] {
        assert!(is_found(text), "{text}");
    }
    for text in ["Zwiebel", "=?utf-8", "list@lists.load.testsubject", "elsewhere"] {
        assert!(!is_found(text), "{text}");
    }
    let needle = Needle::new("Zwiebel");
    let mut group = criterion.benchmark_group("search_text");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("plain_of_4_kib", |bencher| {
        bencher.iter(|| text_contains(&Structure::of(black_box(&message)), &needle));
    });
    group.finish();
}

criterion_group!(benches, search_text);
criterion_main!(benches);
