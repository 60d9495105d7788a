//! Work per byte: eight times the input may take eight times the work and some, and not sixty-four times.
//!
//! Measured is the least of several runs.

use crate::bytes::unescaped;
use crate::targets::TARGETS;
use crate::work;

/// Bytes of the smaller input; the larger one has [`FACTOR`] times as many.
const BYTES: usize = 12 << 10;
const FACTOR: usize = 8;
/// Work that is linear has 8, with what caches do to it at most 16; quadratic has 64.
const GROWTH_MAX: u64 = 24;
const RUNS: usize = 3;
/// Less than this is noise.
const NOISE_NS: u64 = 20_000_000;

/// A target, what stands in front once, and what is repeated.
const SHAPES: [(&str, &str, &str); 57] = [
    ("mail message", "", "To: a@b\r\n"),
    ("mail message", "", "x"),
    ("mail message", "", "\r\n"),
    ("mail message", "", "a:\r\n"),
    ("mail message", "To: x", "\r\n y"),
    ("mail message", "To: ", "a@b,"),
    ("mail message", "To: ", "("),
    ("mail message", "To: ", "\""),
    ("mail message", "To: ", "<"),
    ("mail message", "To: ", "A: "),
    ("mail message", "To: ", "=?utf-8?q?a?= "),
    ("mail message", "References: ", "<a@b> "),
    ("mail message", "Subject: ", "Re: "),
    ("mail message", "Subject: ", "[a] "),
    ("mail message", "Subject: ", "[fwd: "),
    ("mail message", "Content-Type: multipart/mixed; boundary=a\r\n\r\n", "--a\r\n\r\n"),
    ("mail message", "Content-Type: multipart/mixed; boundary=a\r\n\r\n", "--ab\r\n"),
    ("mail message", "Content-Type: multipart/mixed; boundary=a\r\n\r\n", "--"),
    ("mail message", "", "Content-Type: message/rfc822\r\n\r\n"),
    ("mail message", "", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"),
    ("mail message", "Content-Type: text/plain", "; a=b"),
    ("mail message", "Content-Type: text/plain", "; a*0=b"),
    ("mail message", "Content-Type: text/plain; ", "a*1*=utf-8''%41;"),
    ("mail message", "Content-Disposition: ", "(\\\\"),
    ("mail parts", "Content-Transfer-Encoding: base64\r\n\r\n", "YWFh"),
    ("mail parts", "Content-Transfer-Encoding: base64\r\n\r\n", "!"),
    ("mail parts", "Content-Transfer-Encoding: quoted-printable\r\n\r\n", "= "),
    ("mail parts", "Content-Transfer-Encoding: quoted-printable\r\n\r\n", " \t"),
    ("mail addresses", "", "(("),
    ("mail addresses", "", "a b "),
    ("mail addresses", "", "a@b;,"),
    ("mail addresses", "", "<@a,"),
    ("mail media type", "a/b", ";x*0*=a"),
    ("mail media type", "a/b", ";\"\\\\"),
    ("mail media type", "a/b", ";x*9=a;x*8=b"),
    ("mail date", "", "("),
    ("mail date", "", " 1"),
    ("mail encoded words", "", "=?utf-8?q?a?= "),
    ("mail encoded words", "", "=?"),
    ("mail encoded words", "=?utf-8?b?", "YQ"),
    ("mail subject", "", "re: "),
    ("mail subject", "", "[a]"),
    ("mail subject", "", "a (fwd)"),
    ("mail subject", "", "[fwd: "),
    ("mail ids", "", "<"),
    ("mail ids", "", "<a@"),
    ("mail mutf7", "", "&Jjo-"),
    ("mail mutf7", "&", "Jjo"),
    (
        "dns message",
        "\\x12\\x34\\x81\\x80\\x00\\x01\\xff\\xff\\x00\\x00\\x00\\x00\\x07example\\x04test\\x00\\x00\\x0f\\x00\\x01",
        "\\xc0\\x0c",
    ),
    ("config", "", "a=[\n"),
    ("smtp new", "\\x00", "EHLO a\\r\\n"),
    ("smtp hello", "\\x00", "NOOP\\r\\n"),
    ("smtp data", "\\x00", ".\\n"),
    ("smtp data", "\\x00", "\\r\\n.a"),
    ("smtp recipient", "\\x00", "RCPT TO:<meant@here.test>\\r\\n"),
    ("imap login", "\\x00", "a LIST \"\" *\\r\\n"),
    ("imap selected", "\\x00", "a SEARCH 1:*,2\\r\\n"),
];

fn least_ns(run: fn(&[u8]), input: &[u8]) -> u64 {
    let times = (0..RUNS).map(|_| {
        let before = work::spent_ns();
        run(input);
        work::spent_ns() - before
    });
    times.min().expect("there are runs")
}

#[test]
fn work_grows_with_the_input_and_not_with_its_square() {
    let mut failures = Vec::new();
    for (name, prefix, unit) in SHAPES {
        let target = TARGETS.iter().find(|target| target.name == name).expect("it is a target");
        let unit = unescaped(unit, name);
        let input = |bytes: usize| [unescaped(prefix, name), unit.repeat(bytes / unit.len())].concat();
        let small = least_ns(target.run, &input(BYTES));
        let large = least_ns(target.run, &input(BYTES * FACTOR));
        println!(
            "{name} {prefix:?} {:?}: {} us, {} us",
            unit.escape_ascii().to_string(),
            small / 1000,
            large / 1000
        );
        if large > small * GROWTH_MAX + NOISE_NS {
            failures.push(format!("{name} {prefix:?} {}: {small} ns, then {large} ns", unit.escape_ascii()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
