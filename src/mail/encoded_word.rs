//! Encoded words of header fields (RFC 2047).
//!
//! ```text
//! encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="
//! ```
//!
//! Words are read wherever they stand, also where RFC 2047 5 does not allow them, as people send them there.
//! Blanks between two words are not text, and words of one charset that follow each other are decoded
//! together, since senders cut characters in two. A word of an unknown charset stays as it is.
//!
//! Invariant: linear; a failed attempt looks no further than the next `?` that is not its own.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use super::charset;
use super::header::{is_blank, unfold};
use super::transfer::{Encoding, decode as decode_transfer, hex_value};

/// A raw field value as text: unfolded, encoded words decoded, adjacent words joined; what is no word is read
/// as UTF-8 (RFC 6532) or Windows-1252.
pub fn decode(value: &[u8]) -> Cow<'_, str> {
    let value = unfold(value);
    if may_hold_words(&value) {
        return Cow::Owned(decode_words(&value));
    }
    match value {
        Cow::Borrowed(value) => charset::to_utf8(None, value),
        Cow::Owned(value) => Cow::Owned(charset::to_utf8(None, &value).into_owned()),
    }
}

/// Whether what an encoded word begins with is in there.
pub fn may_hold_words(value: &[u8]) -> bool {
    find_beginning(value).is_some()
}

fn find_beginning(value: &[u8]) -> Option<usize> {
    memchr_iter(b'=', value).find(|at| value.get(at + 1) == Some(&b'?'))
}

fn decode_words(value: &[u8]) -> String {
    let mut text = Text::default();
    let (mut from, mut search) = (0, 0);
    while let Some(found) = find_beginning(&value[search..]) {
        let at = search + found;
        let Some(word) = Word::of(&value[at..]) else {
            search = at + 2;
            continue;
        };
        text.push_plain(&value[from..at]);
        text.push_word(&word);
        from = at + word.len;
        search = from;
    }
    text.push_plain(&value[from..]);
    text.end_run();
    text.out
}

/// Text in the making.
#[derive(Default)]
struct Text<'a> {
    out: String,
    /// The words just read, decoded but not yet in UTF-8, and their charset.
    run: Vec<u8>,
    charset: &'a [u8],
    after_word: bool,
}

impl<'a> Text<'a> {
    fn push_plain(&mut self, plain: &[u8]) {
        // RFC 2047 6.2: blanks between two words are dropped. Those at the end of the value are trimmed already.
        if plain.is_empty() || (self.after_word && plain.iter().all(|byte| is_blank(*byte))) {
            return;
        }
        self.end_run();
        self.out.push_str(&charset::to_utf8(None, plain));
        self.after_word = false;
    }

    fn push_word(&mut self, word: &Word<'a>) {
        if !self.charset.eq_ignore_ascii_case(word.charset) {
            self.end_run();
            self.charset = word.charset;
        }
        word.decode(&mut self.run);
        self.after_word = true;
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.out.push_str(&charset::to_utf8(Some(self.charset), &self.run));
            self.run.clear();
        }
    }
}

struct Word<'a> {
    charset: &'a [u8],
    is_base64: bool,
    text: &'a [u8],
    /// All of the word.
    len: usize,
}

impl<'a> Word<'a> {
    /// The word at the front of `value`, which begins with `=?`.
    fn of(value: &'a [u8]) -> Option<Self> {
        let rest = &value[2..];
        let charset = token(rest)?;
        let rest = &rest[charset.len() + 1..];
        let is_base64 = match rest {
            [b'B' | b'b', b'?', ..] => true,
            [b'Q' | b'q', b'?', ..] => false,
            _ => return None,
        };
        let rest = &rest[2..];
        let text = &rest[..memchr(b'?', rest)?];
        let is_closed = rest.get(text.len() + 1) == Some(&b'=');
        // RFC 2231 5: a language may follow the charset.
        let name = charset.split(|byte| *byte == b'*').next().unwrap_or(charset);
        if !is_closed || !charset::is_known(name) {
            return None;
        }
        Some(Self { charset: name, is_base64, text, len: 2 + charset.len() + 3 + text.len() + 2 })
    }

    fn decode(&self, out: &mut Vec<u8>) {
        if self.is_base64 {
            return out.append(&mut decode_transfer(Encoding::Base64, self.text));
        }
        let mut rest = self.text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match (byte, after) {
                (b'_', _) => out.push(b' '),
                (b'=', &[high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex_value(high) << 4 | hex_value(low));
                    rest = &after[2..];
                }
                _ => out.push(byte),
            }
        }
    }
}

/// The charset up to its `?`.
fn token(rest: &[u8]) -> Option<&[u8]> {
    let end = rest.iter().position(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'='))?;
    (end > 0 && rest[end] == b'?').then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::decode;

    #[test]
    fn words() {
        let cases: [(&[u8], &str); 16] = [
            (b" plain ", "plain"),
            (b"=?UTF-8?Q?K=C3=A4se?=", "Käse"),
            (b"=?iso-8859-1?q?K=E4se_auf?= Brot", "Käse auf Brot"),
            (b"=?utf-8?B?S8Okc2U=?=", "Käse"),
            (b"=?utf-8*de?B?S8Okc2U=?=", "Käse"),
            (b"=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
            (b"=?utf-8?Q?a?=\r\n =?utf-8?Q?b?= c", "ab c"),
            (b"=?utf-8?Q?K=C3?= =?UTF-8?Q?=A4se?=", "Käse"),
            (b"=?utf-8?Q?a?= =?iso-8859-1?Q?=E4?=", "aä"),
            (b"=?no-such?Q?a?= b", "=?no-such?Q?a?= b"),
            (b"=?utf-8?X?a?=", "=?utf-8?X?a?="),
            (b"=?utf-8?Q?a", "=?utf-8?Q?a"),
            (b"=?utf-8?B??=", ""),
            (b"=?utf-8?Q?a=ZZ?=", "a=ZZ"),
            (b"x=?utf-8?Q?a?=y", "xay"),
            (b"=?=?utf-8?Q?a?=", "=?a"),
        ];
        for (raw, text) in cases {
            assert_eq!(decode(raw), text, "{}", raw.escape_ascii());
        }
        assert_eq!(decode(b"K\xC3\xA4se"), "Käse");
        assert_eq!(decode(b"K\xE4se"), "Käse");
    }

    #[test]
    fn many_words_are_linear() {
        let mut value = b"=?utf-8?Q?a?= ".repeat(50_000);
        value.extend(b"=?".repeat(200_000));
        value.extend(b"=?a?Q?".repeat(50_000));
        assert!(decode(&value).starts_with("aaaa"));
    }

    proptest! {
        #[test]
        fn nothing_panics(junk in any::<Vec<u8>>(), words in "(=[?](utf-8|x)[?][QB][?][a=3 ?]{0,8}[?]?=?[ a]?){0,5}") {
            decode(&junk);
            decode(words.as_bytes());
        }
    }
}
