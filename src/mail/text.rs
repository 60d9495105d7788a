//! The text of a message as SEARCH sees it (RFC 9051 6.4.4): decoded, in UTF-8, without regard to case.
//!
//! Bodies are decoded piece by piece, so that a search of a large message needs no memory for it; what could
//! be the beginning of the text searched for is kept from one piece to the next.
//!
//! Invariants: linear in the message; a match is found however the pieces fall; ASCII is compared without
//! allocating per word.

use std::borrow::Cow;

use memchr::memmem::{Finder, find};

use super::charset::encoding_of;
use super::encoded_word::decode;
use super::header::Header;
use super::mime::{Kind, Part, Structure};
use super::transfer::{Encoding, for_each_piece};

/// What is searched for.
#[derive(Clone, Debug)]
pub struct Needle {
    folded: String,
    finder: Finder<'static>,
}

impl Needle {
    pub fn new(text: &str) -> Self {
        let folded = fold(text).into_owned();
        let finder = Finder::new(folded.as_bytes()).into_owned();
        Self { folded, finder }
    }

    /// Whether `haystack` holds it in any case; an empty one is everywhere.
    pub fn is_in(&self, haystack: &str) -> bool {
        self.finder.find(fold(haystack).as_bytes()).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }
}

/// Case folded for comparing.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
    }
    // Character by character, since what a word ends in must not change its fold (the Greek sigma).
    Cow::Owned(text.chars().flat_map(fold_char).collect())
}

/// Whether `haystack` holds `needle`, which is folded already.
pub fn contains_folded(haystack: &str, needle: &str) -> bool {
    find(fold(haystack).as_bytes(), needle.as_bytes()).is_some()
}

/// SEARCH HEADER, SUBJECT, FROM, TO, CC, BCC: any field of this name. An empty text asks whether it is there.
pub fn header_contains(header: &Header<'_>, name: &str, needle: &Needle) -> bool {
    header.all(name).any(|value| needle.is_in(&decode(value)))
}

/// SEARCH BODY: the text parts, also those of messages in the message.
pub fn body_contains(structure: &Structure<'_>, needle: &Needle) -> bool {
    if needle.is_empty() {
        return true;
    }
    let mut texts = structure.parts().filter(|(_, part)| part.kind == Kind::Text);
    texts.any(|(id, part)| part_contains(part, structure.body(id), needle))
}

/// SEARCH TEXT: header and body.
pub fn text_contains(structure: &Structure<'_>, needle: &Needle) -> bool {
    let mut parts = structure.parts();
    let in_headers =
        parts.any(|(id, _)| structure.header(id).fields().any(|field| needle.is_in(&decode(field.raw))));
    in_headers || body_contains(structure, needle)
}

fn fold_char(char: char) -> impl Iterator<Item = char> {
    // RFC 5051 2: the title case first, so that characters that share it are equal; the final sigma is one.
    let upper = char.to_uppercase();
    upper.flat_map(char::to_lowercase)
}

/// One text part, decoded from its transfer encoding and its charset as it goes.
fn part_contains(part: &Part<'_>, body: &[u8], needle: &Needle) -> bool {
    let label = part.media.parameter("charset");
    // A body that is encoded in no known way is searched as it lies there.
    let encoding = part.transfer().unwrap_or(Encoding::Identity);
    let mut text = Window { needle, kept: String::new() };
    let mut decoder = None;
    let mut utf8 = String::new();
    let mut is_found = false;
    for_each_piece(encoding, body, |piece| {
        let decoder = decoder.get_or_insert_with(|| encoding_of(label.as_deref(), piece).new_decoder());
        utf8.clear();
        utf8.reserve(decoder.max_utf8_buffer_length(piece.len()).unwrap_or(0));
        let _ = decoder.decode_to_string(piece, &mut utf8, false);
        is_found = text.push(&utf8);
        !is_found
    });
    is_found
}

/// The folded text just read, from which a match may go on.
struct Window<'a> {
    needle: &'a Needle,
    kept: String,
}

impl Window<'_> {
    fn push(&mut self, text: &str) -> bool {
        self.kept.push_str(&fold(text));
        if self.needle.finder.find(self.kept.as_bytes()).is_some() {
            return true;
        }
        let mut done = self.kept.len().saturating_sub(self.needle.folded.len().saturating_sub(1));
        while !self.kept.is_char_boundary(done) {
            done -= 1;
        }
        self.kept.drain(..done);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{Needle, Window, body_contains, contains_folded, fold, header_contains, text_contains};
    use crate::mail::header::Header;
    use crate::mail::mime::Structure;

    const MESSAGE: &[u8] = b"Subject: =?utf-8?Q?K=C3=84se?=\r\n =?utf-8?Q?_auf_Brot?=\r\nX-Empty:\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=FC=DFe aus K=F6=\r\nln\r\n\
        --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+SGVsbG8gV29ybGQ8L3A+\r\n\
        --b\r\nContent-Type: application/octet-stream\r\n\r\nbinary words\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner words\r\n--b--\r\n";

    #[test]
    fn searches() {
        let structure = Structure::of(MESSAGE);
        let cases = [
            ("GRÜSSE", true, true),
            ("grüße aus KÖLN", true, true),
            ("hello world", true, true),
            ("<p>hello", true, true),
            ("inner words", true, true),
            ("binary words", false, false),
            ("preamble", false, false),
            ("käse auf brot", false, true),
            ("Subject: inner", false, true),
            ("iso-8859-1", false, true),
            ("", true, true),
        ];
        for (text, in_body, in_text) in cases {
            let needle = Needle::new(text);
            let found = (body_contains(&structure, &needle), text_contains(&structure, &needle));
            assert_eq!(found, (in_body, in_text), "{text}");
        }
    }

    #[test]
    fn header_searches() {
        let header = Header::of(MESSAGE);
        let cases = [
            ("subject", "käSE AUF", true),
            ("Subject", "", true),
            ("X-Empty", "", true),
            ("X-Empty", "x", false),
            ("X-None", "", false),
            ("Subject", "inner", false),
        ];
        for (name, text, expected) in cases {
            assert_eq!(header_contains(&header, name, &Needle::new(text)), expected, "{name} {text}");
        }
    }

    #[test]
    fn folds() {
        assert_eq!(fold("ΣΊΣΥΦΟΣ"), fold("σίσυφος"));
        assert_eq!(fold("İ"), fold("i\u{307}"));
        assert_eq!(fold("plain"), "plain");
        assert!(contains_folded("Ärger", &fold("ÄRG")));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[aAbBäÄ]{0,30}", needle in "[abä]{1,5}", cut in 0usize..30) {
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let needle = Needle::new(&needle);
            let mut window = Window { needle: &needle, kept: String::new() };
            let found = window.push(&text[..cut]) || window.push(&text[cut..]);
            assert_eq!(found, needle.is_in(&text));
        }
    }
}
