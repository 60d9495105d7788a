//! What the targets begin with: the cases of `tests/hostile` for the sessions, small samples for the parsers, and every
//! input that ever broke one.

use std::path::Path;

use crate::bytes::unescaped;
use crate::case;

/// Of one case; the generator makes more of them.
const VARIANTS_MAX: usize = 4;
const BYTES_MAX: usize = 2000;

const PARSERS: [(&str, &[&str]); 16] = [
    (
        "mail message",
        &[
            "Subject: a\r\n\r\nb\r\n",
            "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a--\r\n",
            "Content-Type: message/rfc822\r\n\r\nSubject: b\r\n\r\nc\r\n",
            "From: A: b@c, d@e;\r\nTo: \"x\" <y@z> (c)\r\nDate: 1 Jan 2026 00:00:00 +0000\r\n\r\n",
            "References: <a@b> <c@d>\r\n\r\n",
            "Content-Type: a/b; name*0=a; name*1*=u''%41\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n",
        ],
    ),
    (
        "mail address",
        &["<a@b.test>", "<\"a b\"@[IPv6:::1]>", "<@a,@b:c@d>", "a@b", "<postmaster>", "<\u{e4}@\u{f6}.test>"],
    ),
    (
        "mail addresses",
        &["a@b, \"c\" <d@e> (f)", "A: b@c, <d@e>;, x", "<@r:a@b>", "=?utf-8?q?a?= <b@c>", "((a)\"(\\\\"],
    ),
    (
        "mail media type",
        &[
            "text/plain; charset=\"utf-8\"",
            "a/b; x*0=1; x*1*=u''%41; x*2=\"3\"",
            "multipart/mixed; boundary=\"a b\"",
        ],
    ),
    (
        "mail date",
        &[
            "Thu, 1 Jan 2026 00:00:00 +0000 (x)",
            " 1-Jan-2026 00:00:00 -2359",
            "2026-01-01T00:00:00.123Z",
            "1-Jan-2026",
        ],
    ),
    (
        "mail encoded words",
        &["=?utf-8?q?=C3=BC?= =?utf-8?b?w7w=?=", "=?utf-7?b?QQ==?=", "=?x?q??=", "=?=?=?="],
    ),
    ("mail subject", &["Re: [x] Fwd: a (fwd)", "[Fwd: [Fwd: a]]", "Re[2]: =?utf-8?q?b?="]),
    ("mail ids", &["<a@b> <c@d>", "<\"a b\"@c> (x) d <e>", "<<<>>>"]),
    ("mail mutf7", &["&Jjo-", "a&-b", "&2D3eAA-", "&AAA-", "&"]),
    ("mail reply", &["250 2.0.0 Ok", "550-5.1.1 a", "421"]),
    (
        "dns message",
        &[
            "\\x12\\x34\\x81\\x80\\x00\\x01\\x00\\x01\\x00\\x00\\x00\\x00\\x07\
             example\\x04test\\x00\\x00\\x0f\\x00\\x01\\xc0\\x0c\\x00\\x0f\
             \\x00\\x01\\x00\\x00\\x00\\x3c\\x00\\x09\\x00\\x0a\\x04mail\\xc0\\x0c",
            "\\x12\\x34\\x81\\x83\\x00\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x07\
             example\\x04test\\x00\\x00\\x01\\x00\\x01\\xc0\\x0c",
        ],
    ),
    (
        "store record",
        &[
            "\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00",
            "\\x03\\x01\\x02\\x03\\x04\\x05\\x06\\x07\\x08",
            "\\x05a",
        ],
    ),
    ("store frame", &["\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"]),
    ("store segment", &["RPS1\\x01\\x00\\{60:\\x00}", "\\{8192:\\x00}RPS1", "\\{64:\\xff}"]),
    ("store chunk", &["\\{64:\\x00}", "\\{64:\\xff}"]),
    (
        "config",
        &[
            "data = \"x\"\n[[listener]]\nprotocol = \"smtp\"\naddress = \"127.0.0.1:1\"\n",
            "[queue]\nretry_first_s = 1\n",
            "[[route]]\ndomain = \"a\"\nto = [\"b:1\"]\n",
        ],
    ),
];

const CLIENT: [&str; 5] = [
    "\\x00220 a\\r\\n250 a\\r\\n250 b\\r\\n250 c\\r\\n250 d\\r\\n354 e\\r\\n250 f\\r\\n221 g\\r\\n",
    "\\x02\\x03\\x05250 2.1.0 b\\r\\n550 5.1.1 c\\r\\n250 d\\r\\n354 e\\r\\n250 f\\r\\n",
    "\\x00250-a\\r\\n250-b\\r\\n250 c\\r\\n421 d\\r\\n",
    "\\x00250 a\\r\\n451 b\\r\\n452 c\\r\\n554 d\\r\\n",
    "\\x01\\x01220-\\xff\\r\\n25\\r\\n250\\r\\n250 5.7.2\\r\\nx\\n",
];

/// The seeds of a target, of which there is at least one.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let escaped = |texts: &[&str]| texts.iter().map(|text| unescaped(text, target)).collect();
    match target.split_once(' ') {
        Some(("client", _)) => escaped(&CLIENT),
        Some(("smtp" | "submission" | "imap" | "pop3", _)) => of_session(target),
        _ => {
            let known = match target {
                "mail header" | "mail parts" => "mail message",
                known => known,
            };
            let found = PARSERS.iter().find(|(name, _)| *name == known);
            escaped(found.unwrap_or_else(|| panic!("no seeds for {target}")).1)
        }
    }
}

/// What the cases for the port say, with two cuts.
fn of_session(target: &str) -> Vec<Vec<u8>> {
    let port = target.split(' ').next().unwrap_or_default();
    let port = if port == "smtp" { "relay" } else { port };
    let cases = case::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/cases"));
    let variants = cases
        .iter()
        .filter(|case| case.on == port)
        .flat_map(|case| case.variants().into_iter().take(VARIANTS_MAX))
        .filter(|variant| variant.say.len() < BYTES_MAX);
    variants.map(|variant| [b"\x02\x03\x20", variant.say.as_slice()].concat()).collect()
}
