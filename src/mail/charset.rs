//! Text in any charset to UTF-8.
//!
//! Labels are those of the WHATWG list, which holds the names that mail uses. US-ASCII counts as no label:
//! what is sent under it is often UTF-8 or Windows-1252, and both hold ASCII.
//!
//! Invariant: every sequence of octets gives text.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Whether text in this charset can be read.
pub fn is_known(label: &[u8]) -> bool {
    named(label).is_some()
}

/// Whether 0A is the end of a line wherever it stands in text of this charset. It is half of a character in UTF-16, and
/// of charsets that are unknown nobody can say; without one, text is taken for ASCII.
pub fn has_plain_line_ends(label: Option<&[u8]>) -> bool {
    let is_plain = |encoding: &Encoding| encoding != UTF_16LE && encoding != UTF_16BE;
    label.is_none_or(|label| is_ascii_label(label) || named(label).is_some_and(is_plain))
}

/// `bytes` as UTF-8. Without a charset, or with one that is unknown or US-ASCII, UTF-8 is tried and else
/// Windows-1252 taken. What cannot be decoded becomes U+FFFD.
pub fn to_utf8<'a>(label: Option<&[u8]>, bytes: &'a [u8]) -> Cow<'a, str> {
    encoding_of(label, bytes).decode_with_bom_removal(bytes).0
}

/// `bytes` as UTF-8 if the charset is known and every octet fits it: for the strings of SEARCH.
pub fn to_utf8_strict<'a>(label: &[u8], bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    if is_ascii_label(label) && !bytes.is_ascii() {
        return None;
    }
    named(label)?.decode_without_bom_handling_and_without_replacement(bytes)
}

/// What [`to_utf8`] decodes by; `beginning` is what there is of the text, perhaps cut inside a character.
pub(super) fn encoding_of(label: Option<&[u8]>, beginning: &[u8]) -> &'static Encoding {
    let declared = label.filter(|label| !is_ascii_label(label)).and_then(named);
    declared.unwrap_or_else(|| match std::str::from_utf8(beginning) {
        Err(error) if error.error_len().is_some() => WINDOWS_1252,
        _ => UTF_8,
    })
}

fn named(label: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label)
}

fn is_ascii_label(label: &[u8]) -> bool {
    label.eq_ignore_ascii_case(b"us-ascii") || label.eq_ignore_ascii_case(b"ascii")
}

#[cfg(test)]
mod tests {
    use super::{is_known, to_utf8, to_utf8_strict};

    #[test]
    fn labels_and_guesses() {
        let cases = [
            (None, &b"plain"[..], "plain"),
            (None, "käse".as_bytes(), "käse"),
            (None, b"k\xE4se", "käse"),
            (Some(&b"us-ascii"[..]), "käse".as_bytes(), "käse"),
            (Some(b"ISO-8859-1"), b"k\xE4se", "käse"),
            (Some(b"no-such"), b"k\xE4se", "käse"),
            (Some(b"utf-8"), b"k\xFFse", "k\u{FFFD}se"),
            (Some(b"iso-2022-jp"), b"\x1B$B$3\x1B(B", "こ"),
        ];
        for (label, bytes, text) in cases {
            assert_eq!(to_utf8(label, bytes), text);
        }
        assert!(is_known(b"Shift_JIS") && !is_known(b"x") && !is_known(b"") && !is_known(&[b'a'; 10_000]));
    }

    #[test]
    fn search_strings_must_fit_their_charset() {
        assert_eq!(to_utf8_strict(b"UTF-8", "ä".as_bytes()).as_deref(), Some("ä"));
        assert_eq!(to_utf8_strict(b"UTF-8", b"\xE4"), None);
        assert_eq!(to_utf8_strict(b"US-ASCII", b"\xE4"), None);
        assert_eq!(to_utf8_strict(b"iso-8859-1", b"\xE4").as_deref(), Some("ä"));
        assert_eq!(to_utf8_strict(b"no-such", b"a"), None);
    }
}
