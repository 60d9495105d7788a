//! What is kept of a message at delivery: ENVELOPE, BODYSTRUCTURE and header fields, made once.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::mail::digest::Digest;

const HEADER: &str = "Return-Path: <sender@elsewhere.example>\r\n\
    Received: from mail.elsewhere.example (192.0.2.1) by mail.example.org with ESMTPS id 1;\r\n\
    \x20Tue, 24 Nov 2026 10:00:00 +0000\r\n\
    From: =?utf-8?q?J=C3=BCrgen?= <sender@elsewhere.example>\r\nTo: Alice <alice@example.org>, bob@example.org\r\n\
    Subject: =?utf-8?b?R3LDvMOfZQ==?= from a benchmark\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
    Message-ID: <1@elsewhere.example>\r\nReferences: <0@example.org>\r\nMIME-Version: 1.0\r\n";

fn plain() -> Vec<u8> {
    let text = "A line of text of the usual length, as people and programs write them.\r\n".repeat(50);
    format!("{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}").into_bytes()
}

/// Text and HTML, and an attachment of `size` bytes in base64.
fn with_attachment(size: usize) -> Vec<u8> {
    let base64 = format!("{}\r\n", "QUJD".repeat(19)).repeat(size / 57);
    format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=outer\r\n\r\n\
         --outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n\
         --inner\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello.\r\n\
         --inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello.</p>\r\n--inner--\r\n\
         --outer\r\nContent-Type: application/pdf; name=\"report.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"report.pdf\"\r\n\r\n{base64}--outer--\r\n"
    )
    .into_bytes()
}

fn mime_digest(criterion: &mut Criterion) {
    let messages = [
        ("plain_of_4_kib", plain(), "(\"TEXT\" \"PLAIN\""),
        ("attachment_of_100_kib", with_attachment(100 << 10), "\"APPLICATION\" \"PDF\""),
        ("attachment_of_1_mib", with_attachment(1 << 20), "\"MIXED\""),
    ];
    let mut group = criterion.benchmark_group("mime_digest");
    for (name, message, part) in &messages {
        let digest = Digest::of(message);
        let structure = String::from_utf8_lossy(&digest.body_structure).to_ascii_uppercase();
        assert!(structure.contains(part), "{name}: {structure}");
        assert!(String::from_utf8_lossy(&digest.envelope).contains("<1@elsewhere.example>"), "{name}");
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| Digest::of(black_box(message))));
    }
    group.finish();
}

criterion_group!(benches, mime_digest);
criterion_main!(benches);
