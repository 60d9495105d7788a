//! The text of a message as SEARCH sees it (RFC 9051 6.4.4): decoded, in UTF-8, without regard to case.
//!
//! Bodies are decoded piece by piece, so that a search of a large message needs no memory for it; what could
//! be the beginning of the text searched for is kept from one piece to the next.
//!
//! Most mail is ASCII that nothing was done to, and does not hold what is searched for. That is found out on the
//! bytes as they lie there; only what may be a match, or is not as plain, is decoded.
//!
//! Invariants: linear in the message; a match is found however the pieces fall; ASCII is compared without
//! allocating per word.

use std::borrow::Cow;
use std::cell::RefCell;

use memchr::memmem::{Finder, find, find_iter};
use memchr::{memchr, memchr3};

use super::casemap::decomposed;
use super::charset::encoding_of;
use super::encoded_word::{decode, may_hold_words};
use super::header::{Header, field_len, is_space};
use super::mime::{Kind, Part, Structure};
use super::transfer::{Encoding, for_each_piece};

/// What is searched for.
#[derive(Clone, Debug)]
pub struct Needle {
    folded: String,
    finder: Finder<'static>,
    /// With one space for blanks, as fields are looked into.
    field_finder: Finder<'static>,
    /// Of its longest piece without blanks, which lies in one piece wherever the whole is found, also in a folded
    /// field.
    piece_finder: Finder<'static>,
}

/// As much is folded at a time.
const PLAIN_BYTES: usize = 64 << 10;

thread_local! {
    /// Where bytes are folded that mean what they say: one place for all needles, since a search may have thousands.
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The place for plain bytes, empty. What is done with it must not ask for it again.
fn with_plain<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    PLAIN.with_borrow_mut(|plain| {
        plain.clear();
        work(plain)
    })
}

impl Needle {
    pub fn new(text: &str) -> Self {
        let folded = fold(text).into_owned();
        let finder = Finder::new(folded.as_bytes()).into_owned();
        let field_finder = Finder::new(evenly_spaced(&folded).as_bytes()).into_owned();
        let pieces = folded.split(BLANKS);
        let piece = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
        let piece_finder = Finder::new(piece.as_bytes()).into_owned();
        Self { folded, finder, field_finder, piece_finder }
    }

    /// Whether it is in these bytes, if they are ASCII. `None` if they are not.
    fn is_in_ascii(&self, haystack: &[u8]) -> Option<bool> {
        haystack.is_ascii().then(|| self.finds_in_ascii(&self.finder, haystack))
    }

    /// Whether one of its finders finds what it looks for.
    fn finds_in_ascii(&self, finder: &Finder<'_>, haystack: &[u8]) -> bool {
        let overlap = finder.needle().len().saturating_sub(1);
        with_plain(|plain| {
            for piece in haystack.chunks(PLAIN_BYTES) {
                plain.extend(piece.iter().map(u8::to_ascii_lowercase));
                if finder.find(plain).is_some() {
                    return true;
                }
                let done = plain.len().saturating_sub(overlap);
                plain.drain(..done);
            }
            finder.needle().is_empty()
        })
    }

    /// Whether `haystack` holds it in any case; an empty one is everywhere.
    pub fn is_in(&self, haystack: &str) -> bool {
        self.finder.find(fold(haystack).as_bytes()).is_some()
    }

    /// Whether a field, or its value, holds it in any case. How many blanks there are and of which kind is decided by
    /// whoever folds it (RFC 5322 2.2.3), so that here all are as good as one space.
    fn is_in_field(&self, field: &[u8]) -> bool {
        let text = decode(field);
        self.field_finder.find(evenly_spaced(&fold(&text)).as_bytes()).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    fn spans_lines(&self) -> bool {
        self.folded.contains(['\r', '\n'])
    }
}

/// What fields are folded at.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_evenly_spaced(text: &[u8]) -> bool {
    memchr3(b'\t', b'\r', b'\n', text).is_none() && find(text, b"  ").is_none()
}

/// With one space in the place of blanks that follow each other.
fn evenly_spaced(text: &str) -> Cow<'_, str> {
    if is_evenly_spaced(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut even = String::with_capacity(text.len());
    for char in text.chars() {
        match BLANKS.contains(&char) {
            true if even.ends_with(' ') => {}
            true => even.push(' '),
            false => even.push(char),
        }
    }
    Cow::Owned(even)
}

/// Folded for searching: what i;unicode-casemap has as equal (RFC 5051) is equal, and so is what several letters are
/// written for (`ss` for a sharp s).
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
    }
    let mut folded = String::with_capacity(text.len() + text.len() / 2);
    let mut rest = text;
    while !rest.is_empty() {
        let (ascii, other) = rest.split_at(rest.find(|char: char| !char.is_ascii()).unwrap_or(rest.len()));
        folded.extend(ascii.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
        let (other, after) = other.split_at(other.find(|char: char| char.is_ascii()).unwrap_or(other.len()));
        // Character by character, since what a word ends in must not change its fold (the Greek sigma).
        folded.extend(decomposed(other.chars()).flat_map(fold_char));
        rest = after;
    }
    Cow::Owned(folded)
}

/// SEARCH HEADER, SUBJECT, FROM, TO, CC, BCC: any field of this name. An empty text asks whether it is there.
pub fn header_contains(header: &Header<'_>, name: &str, needle: &Needle) -> bool {
    header.all(name).any(|value| needle.is_in_field(value))
}

/// SEARCH BODY: the text parts, also those of messages in the message.
pub fn body_contains(structure: &Structure<'_>, needle: &Needle) -> bool {
    if needle.is_empty() {
        return true;
    }
    let mut texts = structure.parts().filter(|(_, part)| part.kind == Kind::Text);
    texts.any(|(id, part)| part_contains(part, structure.body(id), needle))
}

/// Whether a message is text as it lies: ASCII, without encoded words, and no text part of it is encoded or in a
/// charset in which ASCII is something else.
pub fn is_plain(structure: &Structure<'_>) -> bool {
    let message = structure.message();
    let is_read_as_it_lies = |(id, part): (_, &Part<'_>)| {
        let encoding = part.transfer().unwrap_or(Encoding::Identity);
        let charset = encoding_of(part.media.parameter("charset").as_deref(), structure.body(id));
        encoding == Encoding::Identity && charset.is_ascii_compatible()
    };
    let mut texts = structure.parts().filter(|(_, part)| part.kind == Kind::Text);
    message.is_ascii() && !may_hold_words(message) && texts.all(is_read_as_it_lies)
}

/// Whether neither header nor body can hold the text, whatever is decoded: it is not there as the message lies, not
/// in the encoded words of its header, and nothing else in it stands for other bytes. Costs less than to look at the
/// parts, and least where the message is known to be plain ([`is_plain`]); `false` says nothing.
pub fn is_plainly_without(message: &[u8], needle: &Needle, is_known_plain: bool) -> bool {
    if is_known_plain {
        return !needle.finds_in_ascii(&needle.piece_finder, message);
    }
    if message.len() > PLAIN_BYTES || !message.is_ascii() {
        return false;
    }
    with_plain(|plain| {
        plain.extend(message.iter().map(u8::to_ascii_lowercase));
        let header = Header::of(message);
        let has_words = |field: &&[u8]| may_hold_words(field);
        needle.piece_finder.find(plain).is_none()
            && !may_hold_words(&plain[header.len()..])
            && is_read_as_it_lies(plain)
            && !header.raw_fields().filter(has_words).any(|field| needle.is_in_field(field))
    })
}

/// Whether no part of a message, in lower case, is encoded or in a charset in which ASCII is something else.
fn is_read_as_it_lies(message: &[u8]) -> bool {
    thread_local! {
        static CONTENT: Finder<'static> = Finder::new(b"content-t");
    }
    let is_plain = |at: usize| {
        let field = &message[at..][..field_len(&message[at..])];
        let is_one_of = |value: &[u8], plain: &[&[u8]]| plain.iter().any(|plain| value.starts_with(plain));
        match field.strip_prefix(b"content-transfer-encoding") {
            // RFC 5322 4.5: blanks before the colon mean nothing.
            Some(rest) => rest
                .trim_ascii_start()
                .strip_prefix(b":")
                .is_some_and(|value| is_one_of(value.trim_ascii_start(), &[b"7bit", b"8bit", b"binary"])),
            None => find_iter(field, b"charset").all(|at| {
                let value = field[at + b"charset".len()..].strip_prefix(b"=").unwrap_or_default();
                let value = value.strip_prefix(b"\"").unwrap_or(value);
                is_one_of(value, &[b"us-ascii", b"utf-8", b"iso-8859-", b"windows-125"])
            }),
        }
    };
    CONTENT.with(|content| content.find_iter(message).all(is_plain))
}

/// SEARCH TEXT: header and body.
pub fn text_contains(structure: &Structure<'_>, needle: &Needle) -> bool {
    let mut parts = structure.parts();
    parts.any(|(id, _)| any_field_contains(&structure.header(id), needle)) || body_contains(structure, needle)
}

/// Fields that are as plain as most are folded together, and looked into once.
fn any_field_contains(header: &Header<'_>, needle: &Needle) -> bool {
    with_plain(|plain| {
        for field in header.raw_fields() {
            match is_plain_field(field) {
                true => push_evenly_spaced(plain, field),
                false if needle.is_in_field(field) => return true,
                false => {}
            }
        }
        // Blanks at the ends of a field do not count, so that what was found is looked at again.
        needle.field_finder.find(plain).is_some()
            && header.raw_fields().any(|field| needle.is_in_field(field))
    })
}

/// ASCII without encoded words.
fn is_plain_field(field: &[u8]) -> bool {
    field.is_ascii() && !may_hold_words(field)
}

/// Appends a field in lower case, with one space for blanks, and a line end behind it.
fn push_evenly_spaced(plain: &mut Vec<u8>, field: &[u8]) {
    let field = field.strip_suffix(b"\r\n").unwrap_or(field);
    if is_evenly_spaced(field) {
        plain.extend(field.iter().map(u8::to_ascii_lowercase));
        return plain.push(b'\n');
    }
    let from = plain.len();
    for byte in field {
        match is_space(*byte) {
            true if plain[from..].last() == Some(&b' ') => {}
            true => plain.push(b' '),
            false => plain.push(byte.to_ascii_lowercase()),
        }
    }
    plain.push(b'\n');
}

fn fold_char(char: char) -> impl Iterator<Item = char> {
    // By the upper case, so that characters that share it are equal; the final sigma is one.
    let upper = char.to_uppercase();
    upper.flat_map(char::to_lowercase)
}

/// One text part, decoded from its transfer encoding and its charset as it goes.
fn part_contains(part: &Part<'_>, body: &[u8], needle: &Needle) -> bool {
    let label = part.media.parameter("charset");
    // A body that is encoded in no known way is searched as it lies there.
    let encoding = part.transfer().unwrap_or(Encoding::Identity);
    if let Some(is_found) = plain_body_contains(encoding, label.as_deref(), body, needle) {
        return is_found;
    }
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

/// Whether a body as it lies there holds the text; `None` where only its decoded form can tell.
fn plain_body_contains(
    encoding: Encoding,
    charset: Option<&[u8]>,
    body: &[u8],
    needle: &Needle,
) -> Option<bool> {
    if !encoding_of(charset, body).is_ascii_compatible() {
        return None;
    }
    match encoding {
        Encoding::Identity => needle.is_in_ascii(body),
        // Without an equals sign nothing is encoded, but blanks at the ends of lines do not count.
        Encoding::QuotedPrintable if memchr(b'=', body).is_none() && !needle.spans_lines() => {
            needle.is_in_ascii(body).filter(|is_found| !is_found)
        }
        _ => None,
    }
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
    use proptest::prelude::{prop, proptest};

    use super::{
        Needle, PLAIN_BYTES, Window, any_field_contains, body_contains, decode, fold, header_contains,
        is_plain, is_plainly_without, plain_body_contains, text_contains,
    };
    use crate::mail::casemap::casemapped;
    use crate::mail::header::Header;
    use crate::mail::mime::Structure;
    use crate::mail::transfer::{self, Encoding};

    const MESSAGE: &[u8] = b"Subject: =?utf-8?Q?K=C3=84se?=\r\n =?utf-8?Q?_auf_Brot?=\r\nX-Empty:\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=FC=DFe aus K=F6=\r\nln\r\n\
        --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+SGVsbG8gV29ybGQ8L3A+\r\n\
        --b\r\nContent-Type: application/octet-stream\r\n\r\nbinary words\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner words\r\n--b--\r\n";

    const PIECES: &[&str] = &[
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "a",
        "b",
        "AB",
        " ",
        "=",
        "=61",
        "YWI=",
        "=?us-ascii?q?=61b?=",
        "ä",
        "A: ",
        "Content-Type: text/plain",
        "; charset=utf-8",
        "; charset=utf-16le",
        "; charset=\"us-ascii\"",
        "\0",
        "Content-Type: multipart/mixed; boundary=-",
        "Content-Type: message/rfc822",
        "--",
        "---",
        "Content-Transfer-Encoding: ",
        "Content-Transfer-Encoding",
        ": ",
        "7bit",
        "base64",
        "quoted-printable",
    ];

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
    fn matches_across_the_pieces_of_plain_text() {
        for at in [0, PLAIN_BYTES - 1, PLAIN_BYTES, 2 * PLAIN_BYTES - 3, 3 * PLAIN_BYTES - 5] {
            let mut haystack = vec![b'x'; 3 * PLAIN_BYTES];
            haystack[at..at + 5].copy_from_slice(b"aBcDe");
            assert_eq!(Needle::new("abcDE").is_in_ascii(&haystack), Some(true), "{at}");
            assert_eq!(Needle::new("abcDEf").is_in_ascii(&haystack), Some(false), "{at}");
        }
        let long = "a".repeat(3 * PLAIN_BYTES);
        assert_eq!(Needle::new(&long).is_in_ascii(long.as_bytes()), Some(true));
        assert_eq!(Needle::new(&long).is_in_ascii(&long.as_bytes()[1..]), Some(false));
    }

    #[test]
    fn what_is_encoded_is_not_plainly_without() {
        let is_without = |message: &str| {
            let (bytes, needle) = (message.as_bytes(), Needle::new("word"));
            let is_known_plain = is_plain(&Structure::of(bytes));
            assert!(!is_known_plain || is_plainly_without(bytes, &needle, true) != message.contains("WoRd"));
            assert!(!is_known_plain || !message.contains("=?") && message.is_ascii());
            is_plainly_without(bytes, &needle, false)
        };
        let plain = "Subject: a\r\nContent-Type: text/plain; charset=\"US-ASCII\"\r\n\
            Content-Transfer-Encoding: 7bit\r\n\r\nbody\r\n";
        assert!(is_without(plain));
        assert!(is_without("A: b\r\n\r\n"));
        assert!(is_without("A: =?utf-8?q?w=C3=B6rd?=\r\n\r\nb\r\n"));
        for (from, to) in [
            ("body", "a WoRd"),
            ("Subject: a", "Subject: =?us-ascii?q?w=6frd?="),
            ("body", "=?us-ascii?q?none?="),
            ("7bit", "base64"),
            ("7bit", "\r\n quoted-printable"),
            ("Encoding: 7bit", "Encoding : base64"),
            ("Encoding: 7bit", "Encoding\r\n : quoted-printable"),
            ("US-ASCII", "utf-16"),
            ("charset=", "charset*="),
            ("charset=", "charset ="),
            ("charset=\"US-ASCII\"", "x=y;\r\n charset=unicode"),
            ("body", "b\u{f6}dy"),
        ] {
            let message = plain.replace(from, to);
            assert!(message != plain && !is_without(&message), "{message}");
        }
        assert!(is_plain(&Structure::of(plain.as_bytes())));
        assert!(!is_plain(&Structure::of(plain.replace("7bit", "base64").as_bytes())));
        assert!(!is_plain(&Structure::of(plain.replace("US-ASCII", "utf-16le").as_bytes())));
        // A blank may be a folded line's end, the rest may not.
        for (text, expected) in
            [("a b", false), ("b z", true), ("b word", true), ("a\tword b", true), (" ", false)]
        {
            for is_known_plain in [false, true] {
                let is_without = is_plainly_without(plain.as_bytes(), &Needle::new(text), is_known_plain);
                assert_eq!(is_without, expected, "{text:?}");
            }
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
    fn all_blanks_of_a_field_are_as_good_as_one_space() {
        let header = Header::of(b"Subject: a\r\n\tB  c\r\n   \r\n =?utf-8?q?d=09=C3=84?=\r\nTo: x y\r\n\r\n");
        for text in ["a b c d \u{e4}", "A\tb", "c  D", "b\r\n c", " b "] {
            let needle = Needle::new(text);
            assert!(header_contains(&header, "Subject", &needle), "{text:?}");
            assert!(any_field_contains(&header, &needle), "{text:?}");
        }
        assert!(header_contains(&header, "To", &Needle::new("x\t\ty")));
        for text in ["ab", "bc", "a bc", "c a", "\u{e4} "] {
            assert!(!header_contains(&header, "Subject", &Needle::new(text)), "{text:?}");
        }
        // What is no field is searched as it is.
        let body = Structure::of(b"Subject: x\r\n\r\na\tb\r\n");
        assert!(body_contains(&body, &Needle::new("a\tB")) && !body_contains(&body, &Needle::new("a b")));
    }

    #[test]
    fn fields_are_searched_one_by_one() {
        let header = Header::of(
            b"Received: from a\r\n\tby B; now\r\nSubject: =?utf-8?q?=C3=A4?=\r\n x\r\nTo: a@b\r\nCc: c\xc3\xa4 \r\n\r\n",
        );
        for text in ["A\tBY b; now", "\u{c4} X", "to: A@b", "cc: c\u{e4}", "received: from"] {
            assert!(any_field_contains(&header, &Needle::new(text)), "{text}");
        }
        for text in ["utf-8", "nowsubject", "now\r\nsubject", "a@bcc", "c\u{e4} ", "x\r\nto"] {
            assert!(!any_field_contains(&header, &Needle::new(text)), "{text}");
        }
        assert!(any_field_contains(&Header::of(b"A: b \r\n"), &Needle::new("a: b")));
        assert!(!any_field_contains(&Header::of(b"A: b \r\n"), &Needle::new("b ")));
    }

    #[test]
    fn folds() {
        assert_eq!(fold("ΣΊΣΥΦΟΣ"), fold("σίσυφος"));
        assert_eq!(fold("İ"), fold("i\u{307}"));
        assert_eq!(fold("plain"), "plain");
        for (one, other) in [
            ("K\u{c4}se", "ka\u{308}SE"),
            ("\u{212a}\u{2122}", "ktm"),
            ("\u{fb01}x", "FIX"),
            ("Stra\u{df}e", "STRASSE"),
            ("\u{1c4}", "dz\u{30c}"),
            ("a\u{a0}b", "A B"),
            ("\u{ff76}\u{ff9e}", "\u{30ac}"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
        assert!(fold("Ärger").contains(&*fold("ÄRG")));
    }

    proptest! {
        /// Of pieces that mean something in a message.
        #[test]
        fn what_is_plainly_without_is_without(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14), needle in "[abAB6ä \r\n]{1,3}",
        ) {
            let (message, needle) = (pieces.concat(), Needle::new(&needle));
            let structure = Structure::of(message.as_bytes());
            let is_without = is_plainly_without(message.as_bytes(), &needle, is_plain(&structure))
                || is_plainly_without(message.as_bytes(), &needle, false);
            assert!(!(is_without && text_contains(&structure, &needle)), "{message:?}");
        }

        #[test]
        fn plain_text_is_searched_as_decoded_text_is(
            text in "[aAbB\r\n=?ä ]{0,40}", needle in "[abAB ä\r\n]{0,4}",
        ) {
            let needle = Needle::new(&needle);
            if let Some(is_found) = needle.is_in_ascii(text.as_bytes()) {
                assert_eq!(is_found, needle.is_in(&text));
            }
            let header = Header::of(text.as_bytes());
            let in_field = |field: &[u8]| needle.is_in_field(field);
            assert_eq!(any_field_contains(&header, &needle), header.raw_fields().any(in_field));
            let as_it_is = |field: &[u8]| needle.is_in(&decode(field));
            assert!(!header.raw_fields().any(as_it_is) || any_field_contains(&header, &needle));
            for encoding in [Encoding::Identity, Encoding::QuotedPrintable] {
                let plain = plain_body_contains(encoding, None, text.as_bytes(), &needle);
                let decoded = transfer::decode(encoding, text.as_bytes());
                let decoded = String::from_utf8_lossy(&decoded);
                assert!(plain.is_none_or(|plain| plain == needle.is_in(&decoded)), "{decoded:?}");
            }
        }

        #[test]
        fn what_casemap_has_as_equal_is_equal(one in "\\PC{1,2}", other in "\\PC{1,2}") {
            assert_eq!(fold(&one), fold(&casemapped(&one)));
            assert!(casemapped(&one) != casemapped(&other) || fold(&one) == fold(&other));
        }

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
