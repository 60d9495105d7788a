//! Message identifiers and how they name ancestors (RFC 5322 3.6.4, RFC 5256 3).
//!
//! ```text
//! msg-id = [CFWS] "<" id-left "@" id-right ">" [CFWS]
//! ```
//!
//! What stands between the brackets counts, without folding and without the quotes of a quoted left side, so
//! that all spellings of an identifier are equal; case counts. Anything else in the field is passed over.
//!
//! Invariant: linear.

use memchr::{memchr, memchr2};

use super::address_list::{quoted_len, unquote};
use super::header::Header;

/// What threading needs of a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ThreadIds {
    /// Its own identifier, normalised, without angle brackets.
    pub id: Option<Box<[u8]>>,
    /// Its ancestors, oldest first: those of References, else the first of In-Reply-To.
    pub ancestors: Vec<Box<[u8]>>,
}

/// The identifiers of a raw field value, normalised, without angle brackets; what is none is skipped.
pub fn ids(value: &[u8]) -> Vec<Box<[u8]>> {
    iter(value).collect()
}

/// From the fields Message-ID, References and In-Reply-To.
pub fn thread_ids(header: &Header<'_>) -> ThreadIds {
    let first = |name| header.find(name).and_then(|value| iter(value).next());
    let mut ancestors = header.find("References").map(ids).unwrap_or_default();
    if ancestors.is_empty() {
        // RFC 5256 3: of In-Reply-To only the first, as what follows may be anything.
        ancestors.extend(first("In-Reply-To"));
    }
    ThreadIds { id: first("Message-ID"), ancestors }
}

fn iter(value: &[u8]) -> impl Iterator<Item = Box<[u8]>> + '_ {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[memchr(b'<', rest)? + 1..];
            let len = inside_len(rest);
            let inside = &rest[..len];
            rest = &rest[len..];
            if let (Some(b'>'), Some(id)) = (rest.first(), normalised(inside)) {
                return Some(id);
            }
        }
    })
}

/// How far it is to the bracket that ends an identifier, or to one that begins another.
fn inside_len(rest: &[u8]) -> usize {
    let quoted = match rest.first() {
        Some(b'"') => quoted_len(rest),
        _ => 0,
    };
    let end = |from: usize| memchr2(b'<', b'>', &rest[from..]).map(|at| from + at);
    // A quote that does not end is no quote.
    end(quoted).or_else(|| end(0)).unwrap_or(rest.len())
}

fn normalised(inside: &[u8]) -> Option<Box<[u8]>> {
    let mut id = Vec::with_capacity(inside.len());
    let mut rest = inside;
    if inside.first() == Some(&b'"') {
        let (quoted, after) = inside.split_at(quoted_len(inside));
        if after.first() == Some(&b'@') {
            unquote(quoted, &mut id);
            rest = after;
        }
    }
    id.extend(rest.iter().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')));
    let at = memchr(b'@', &id)?;
    (at > 0 && at + 1 < id.len()).then(|| id.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{ids, thread_ids};
    use crate::mail::header::Header;

    fn read(value: &[u8]) -> String {
        ids(value).iter().map(|id| id.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn identifiers() {
        let cases = [
            ("<a@b>", "a@b"),
            (" <a@b>\r\n\t<c@d><e@f>", "a@b c@d e@f"),
            ("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>", "01KF8JCEOCBS0045PS@xxx.yyy.com"),
            ("<\"a>\\\"b\"@c>", "a>\\\"b@c"),
            ("<a@\r\n b>", "a@b"),
            ("Your message of Monday <a@b> (thanks)", "a@b"),
            ("a@b", ""),
            ("<>", ""),
            ("<a>", ""),
            ("<@b>", ""),
            ("<a@>", ""),
            ("<a@b <c@d>", "c@d"),
            ("<\"a@b> <c@d>", "\\\"a@b c@d"),
            ("<A@B> <a@b>", "A@B a@b"),
            ("<a@[IPv6:::1]>", "a@[IPv6:::1]"),
            ("<a@b", ""),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(ids(&b"<a@b>".repeat(100_000)).len(), 100_000);
        assert_eq!(ids(&b"<\"".repeat(20_000)).len(), 0);
        assert_eq!(ids(&b"<".repeat(100_000)).len(), 0);
    }

    #[test]
    fn ancestors() {
        let cases = [
            ("References: <a@x> <b@x>\r\nIn-Reply-To: <c@x>\r\nMessage-ID: <d@x>\r\n", "d@x: a@x b@x"),
            ("References: junk\r\nIn-Reply-To: <c@x> <e@x>\r\nMessage-Id: junk\r\n", "-: c@x"),
            ("Subject: none\r\n", "-: "),
        ];
        for (header, expected) in cases {
            let found = thread_ids(&Header::of(header.as_bytes()));
            let text = |id: &[u8]| id.escape_ascii().to_string();
            let ancestors: Vec<_> = found.ancestors.iter().map(|id| text(id)).collect();
            let id = found.id.map_or("-".to_owned(), |id| text(&id));
            assert_eq!(format!("{id}: {}", ancestors.join(" ")), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(junk in any::<Vec<u8>>(), near in "[<>\"@a \\\\]{0,20}") {
            ids(&junk);
            ids(near.as_bytes());
        }
    }
}
