//! Content transfer encodings (RFC 2045 6): decoding in pieces, lenient on junk, and encoding of what we write.
//!
//! Invariants: how the input is cut changes nothing; what is decoded is never longer than the input; a decoder
//! holds back no more than a few octets and a run of blanks; what was encoded decodes to the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr3;

use super::header::{is_blank, trim};

/// Pieces in which long bodies are decoded when only the length is wanted.
const PIECE_BYTES: usize = 16 << 10;

/// How the body of a part is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// 7bit, 8bit, binary: the octets are the content.
    Identity,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// By the value of Content-Transfer-Encoding; `None` if it is unknown.
    pub fn named(value: &[u8]) -> Option<Self> {
        let name = trim(value);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("7bit") || is("8bit") || is("binary") => Some(Self::Identity),
            () if is("quoted-printable") => Some(Self::QuotedPrintable),
            () if is("base64") => Some(Self::Base64),
            () => None,
        }
    }
}

/// Decodes a body that comes in pieces; the cuts do not matter.
#[derive(Clone, Debug)]
pub enum Decoder {
    Identity,
    QuotedPrintable(QuotedPrintable),
    Base64(Base64),
}

impl Decoder {
    pub fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Identity => Self::Identity,
            Encoding::QuotedPrintable => Self::QuotedPrintable(QuotedPrintable::default()),
            Encoding::Base64 => Self::Base64(Base64::default()),
        }
    }

    /// Appends what `input` decodes to.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Identity => out.extend_from_slice(input),
            Self::QuotedPrintable(decoder) => decoder.push(input, out),
            Self::Base64(decoder) => decoder.push(input, out),
        }
    }

    /// Appends what was held back at the end of the input.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Identity => {}
            Self::QuotedPrintable(decoder) => decoder.finish(out),
            Self::Base64(decoder) => decoder.finish(out),
        }
    }
}

/// The whole of `body`, decoded.
pub fn decode(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut decoder = Decoder::new(encoding);
    decoder.push(body, &mut out);
    decoder.finish(&mut out);
    out
}

/// How many octets [`decode`] gives, without holding them.
pub fn decoded_len(encoding: Encoding, body: &[u8]) -> u64 {
    if encoding == Encoding::Identity {
        return body.len() as u64;
    }
    let mut len = 0;
    for_each_piece(encoding, body, |piece| {
        len += piece.len() as u64;
        true
    });
    len
}

/// Hands the decoded body to `take` piece by piece, until it says `false`.
pub fn for_each_piece(encoding: Encoding, body: &[u8], mut take: impl FnMut(&[u8]) -> bool) {
    let mut decoder = Decoder::new(encoding);
    let mut decoded = Vec::with_capacity(PIECE_BYTES);
    for piece in body.chunks(PIECE_BYTES) {
        decoded.clear();
        decoder.push(piece, &mut decoded);
        if !take(&decoded) {
            return;
        }
    }
    decoded.clear();
    decoder.finish(&mut decoded);
    take(&decoded);
}

/// A line of an encoded body without its CRLF (RFC 2045 6.7 and 6.8).
const ENCODED_LINE_BYTES_MAX: usize = 76;

/// Appends text with CRLF line ends as quoted-printable (RFC 2045 6.7). No line of it begins with a hyphen, as a
/// boundary does.
pub fn encode_quoted_printable(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        if let Some(next_line) = rest.strip_prefix(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (column, rest) = (0, next_line);
            continue;
        }
        rest = behind;
        let ends_line = rest.is_empty() || rest.starts_with(b"\r\n");
        let is_plain = match byte {
            b'=' => false,
            b' ' | b'\t' => !ends_line,
            byte => byte.is_ascii_graphic(),
        };
        // One place is kept for the `=` of a soft line break.
        if column + if is_plain { 1 } else { 3 } >= ENCODED_LINE_BYTES_MAX {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        let is_plain = is_plain && (column > 0 || byte != b'-');
        match is_plain {
            true => out.push(byte),
            false => out.extend([b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        column += if is_plain { 1 } else { 3 };
    }
}

/// Appends octets as lines of base64 (RFC 2045 6.8).
pub fn encode_base64(octets: &[u8], out: &mut Vec<u8>) {
    for line in octets.chunks(ENCODED_LINE_BYTES_MAX / 4 * 3) {
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 2045 6.8. Octets outside of the alphabet are skipped, and the first padding ends the data.
#[derive(Clone, Debug, Default)]
pub struct Base64 {
    bits: u32,
    /// Characters of the group at hand that are in `bits`.
    count: u8,
    ended: bool,
}

impl Base64 {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        for &byte in input {
            match BASE64_VALUES[usize::from(byte)] {
                SKIP => {}
                PADDING => {
                    self.ended = true;
                    return self.finish(out);
                }
                value => self.push_value(value, out),
            }
        }
    }

    fn push_value(&mut self, value: u8, out: &mut Vec<u8>) {
        self.bits = self.bits << 6 | u32::from(value);
        self.count += 1;
        if self.count == 4 {
            let [_, first, second, third] = self.bits.to_be_bytes();
            out.extend_from_slice(&[first, second, third]);
            (self.bits, self.count) = (0, 0);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let [_, first, second, _] = (self.bits << (6 * (4 - u32::from(self.count)))).to_be_bytes();
        match self.count {
            2 => out.push(first),
            3 => out.extend_from_slice(&[first, second]),
            _ => {}
        }
        (self.bits, self.count) = (0, 0);
    }
}

const SKIP: u8 = 0xFF;
const PADDING: u8 = 0xFE;

const BASE64_VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [SKIP; 256];
    let mut index = 0;
    while index < alphabet.len() {
        values[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    values[b'=' as usize] = PADDING;
    values
};

/// RFC 2045 6.7. What is no escape stands for itself; blanks at the end of a line are not content.
#[derive(Clone, Debug, Default)]
pub struct QuotedPrintable {
    state: QuotedState,
    /// Blanks that are content only if something follows them on their line.
    blanks: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum QuotedState {
    #[default]
    Text,
    /// A CR that may begin a line end.
    Return,
    Equals,
    /// `=` and one hexadecimal digit, as it was.
    EqualsDigit(u8),
    /// `=` and then blanks: a soft line break if a line end follows.
    EqualsBlanks,
    /// `=`, blanks and CR.
    EqualsReturn,
}

impl QuotedPrintable {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while at < input.len() {
            at += match self.state {
                QuotedState::Text => self.push_text(&input[at..], out),
                _ => self.push_escape(input[at], out),
            };
        }
    }

    /// Takes text and the octet that ends it.
    fn push_text(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let end = memchr3(b'=', b'\r', b'\n', input).unwrap_or(input.len());
        let text = &input[..end];
        let content = text.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
        if content > 0 {
            out.append(&mut self.blanks);
            out.extend_from_slice(&text[..content]);
        }
        self.blanks.extend_from_slice(&text[content..]);
        match input.get(end) {
            None => return end,
            Some(b'\r') => self.state = QuotedState::Return,
            Some(b'\n') => {
                self.blanks.clear();
                out.push(b'\n');
            }
            Some(_) => {
                out.append(&mut self.blanks);
                self.state = QuotedState::Equals;
            }
        }
        end + 1
    }

    /// Takes one octet inside an escape or line end, or none if it is text again.
    fn push_escape(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        let state = std::mem::take(&mut self.state);
        match (state, byte) {
            (QuotedState::Return, b'\n') => {
                self.blanks.clear();
                out.extend_from_slice(b"\r\n");
            }
            (QuotedState::Equals, digit) if digit.is_ascii_hexdigit() => {
                self.state = QuotedState::EqualsDigit(digit)
            }
            (QuotedState::EqualsDigit(high), low) if low.is_ascii_hexdigit() => {
                out.push(hex_value(high) << 4 | hex_value(low));
            }
            (QuotedState::Equals | QuotedState::EqualsBlanks, b' ' | b'\t') => {
                self.blanks.push(byte);
                self.state = QuotedState::EqualsBlanks;
            }
            (QuotedState::Equals | QuotedState::EqualsBlanks, b'\r') => {
                self.state = QuotedState::EqualsReturn
            }
            (QuotedState::Equals | QuotedState::EqualsBlanks | QuotedState::EqualsReturn, b'\n') => {
                self.blanks.clear();
            }
            (state, _) => {
                self.give_up(state, out);
                return 0;
            }
        }
        1
    }

    /// What was held for an escape is text.
    fn give_up(&mut self, state: QuotedState, out: &mut Vec<u8>) {
        match state {
            QuotedState::Text => {}
            QuotedState::Return => {
                out.append(&mut self.blanks);
                out.push(b'\r');
            }
            QuotedState::Equals | QuotedState::EqualsBlanks => out.push(b'='),
            QuotedState::EqualsDigit(digit) => out.extend_from_slice(&[b'=', digit]),
            QuotedState::EqualsReturn => {
                out.push(b'=');
                out.append(&mut self.blanks);
                out.push(b'\r');
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.state) {
            // An escape of nothing at the very end is a soft line break whose line end was lost.
            QuotedState::Equals | QuotedState::EqualsBlanks | QuotedState::EqualsReturn => {}
            state => self.give_up(state, out),
        }
        self.blanks.clear();
    }
}

/// The value of a hexadecimal digit in any case.
pub fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Decoder, Encoding, decode, decoded_len, encode_base64, encode_quoted_printable};

    #[test]
    fn names() {
        assert_eq!(Encoding::named(b" BASE64 "), Some(Encoding::Base64));
        assert_eq!(Encoding::named(b"8Bit"), Some(Encoding::Identity));
        assert_eq!(Encoding::named(b"x-uuencode"), None);
    }

    #[test]
    fn base64() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"YWJj", b"abc"),
            (b"YW Jj\r\nZA==\r\n", b"abcd"),
            (b"YWJjZA", b"abcd"),
            (b"YWJjZGU=", b"abcde"),
            (b"YQ==junk", b"a"),
            (b"Y", b""),
            (b"!!!", b""),
            (b"=YWJj", b""),
        ];
        for (encoded, plain) in cases {
            assert_eq!(decode(Encoding::Base64, encoded), plain, "{}", encoded.escape_ascii());
        }
    }

    #[test]
    fn quoted_printable() {
        let cases: [(&[u8], &[u8]); 16] = [
            (b"a=3Db=3d", b"a=b="),
            (b"soft=\r\nbreak= \t\r\nagain=\nand", b"softbreakagainand"),
            (b"blank \t\r\nend \t", b"blank\r\nend"),
            (b"a b\tc", b"a b\tc"),
            (b"keep =20\r\n", b"keep  \r\n"),
            (b"bad =XY =4", b"bad =XY =4"),
            (b"bad =4X", b"bad =4X"),
            (b"end=", b"end"),
            (b"= x", b"= x"),
            (b"a=\rb", b"a=\rb"),
            (b"a= \rb", b"a= \rb"),
            (b"a \rb", b"a \rb"),
            (b"\r", b"\r"),
            (b"==41", b"=A"),
            (b"\n\r\n", b"\n\r\n"),
            (b"=E2=82=AC", b"\xE2\x82\xAC"),
        ];
        for (encoded, plain) in cases {
            let decoded = decode(Encoding::QuotedPrintable, encoded);
            assert_eq!(decoded, plain, "{} gave {}", encoded.escape_ascii(), decoded.escape_ascii());
        }
    }

    #[test]
    fn quoted_printable_lines() {
        let mut out = Vec::new();
        encode_quoted_printable("a=b \r\n\r\ngr\u{fc}n\t".as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a=3Db=20\r\n\r\ngr=C3=BCn=09");
        out.clear();
        encode_quoted_printable(&[b'x'; 80], &mut out);
        assert_eq!(out, [&[b'x'; 75][..], b"=\r\n", b"xxxxx"].concat());
        out.clear();
        encode_quoted_printable(&[b'-'; 79], &mut out);
        assert_eq!(out, [&b"=2D"[..], &[b'-'; 72][..], b"=\r\n=2D", b"-----"].concat());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(octets in any::<Vec<u8>>(), text in "[ =\u{e9}a\\.\t\r\n-]{0,200}") {
            for octets in [octets, text.into_bytes()] {
                for encoding in [Encoding::Base64, Encoding::QuotedPrintable] {
                    let mut out = Vec::new();
                    match encoding {
                        Encoding::Base64 => encode_base64(&octets, &mut out),
                        _ => encode_quoted_printable(&octets, &mut out),
                    }
                    assert_eq!(decode(encoding, &out), octets);
                    let is_good = |line: &[u8]| line.len() <= 77 && line.is_ascii() && !line.starts_with(b"-");
                    assert!(out.split(|byte| *byte == b'\n').all(is_good));
                }
            }
        }

        #[test]
        fn cuts_do_not_matter(body in "[=3Da \t\r\n]{0,40}", junk in any::<Vec<u8>>(), cut in 0usize..60) {
            let mut body = body.into_bytes();
            body.extend(junk);
            let (front, back) = body.split_at(cut.min(body.len()));
            for encoding in [Encoding::Identity, Encoding::QuotedPrintable, Encoding::Base64] {
                let mut decoder = Decoder::new(encoding);
                let mut out = Vec::new();
                decoder.push(front, &mut out);
                decoder.push(back, &mut out);
                decoder.finish(&mut out);
                assert_eq!(out, decode(encoding, &body));
                assert_eq!(out.len() as u64, decoded_len(encoding, &body));
                assert!(out.len() <= body.len());
            }
        }
    }
}
