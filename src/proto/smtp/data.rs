//! The content of DATA: where it ends, and which dots are not content (RFC 5321 4.5.2).
//!
//! ```text
//!                 '.'           CR           LF
//!   line start ────────> Dot ───────> DotCr ─────> the end
//!        ↑                │ other       │ other
//!        └── CRLF ── text ┴─────────────┘  the dot is dropped
//! ```
//!
//! One search for `CRLF.` finds everything of interest; what lies between two of them is appended in one piece.
//!
//! Invariants: only the five octets CRLF.CRLF end the content, the first two of which may be those of the DATA
//! command; CR and LF alone never do.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::body::Body;

/// Made once: its set-up would cost more than a search in a small message.
static LINE_WITH_DOT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));

/// Where in the content the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dots {
    #[default]
    LineStart,
    Text,
    Cr,
    /// A dot at the start of a line, held back.
    Dot,
    /// That and a CR, both held back.
    DotCr,
}

impl Dots {
    /// Appends to `body` what of `input` is content. Says how many bytes it took and whether the content ended.
    pub fn take(&mut self, input: &[u8], body: &mut Body) -> (usize, bool) {
        let mut used = 0;
        while let Some(&next) = input.get(used) {
            match (*self, next) {
                (Self::LineStart, b'.') => (*self, used) = (Self::Dot, used + 1),
                (Self::Dot, b'\r') => (*self, used) = (Self::DotCr, used + 1),
                (Self::DotCr, b'\n') => return (used + 1, true),
                (Self::Dot, _) => *self = Self::Text,
                (Self::DotCr, _) => {
                    body.append(b"\r");
                    *self = Self::Cr;
                }
                (Self::Cr, b'\n') => {
                    body.append(b"\n");
                    (*self, used) = (Self::LineStart, used + 1);
                }
                _ => used += self.take_text(&input[used..], body),
            }
        }
        (used, false)
    }

    /// Takes everything up to a line that begins with a dot.
    fn take_text(&mut self, input: &[u8], body: &mut Body) -> usize {
        if let Some(at) = LINE_WITH_DOT.find(input) {
            body.append(&input[..at + 2]);
            *self = Self::Dot;
            return at + 3;
        }
        body.append(input);
        *self = match input {
            [.., b'\r', b'\n'] => Self::LineStart,
            [.., b'\r'] => Self::Cr,
            _ => Self::Text,
        };
        input.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::Dots;
    use crate::proto::smtp::body::{Body, Text};
    use crate::proto::smtp::reply::Reply;

    /// The content up to its end, and the bytes behind it.
    fn taken(text: Text, input: &[u8], step: usize) -> Option<(Result<Vec<u8>, Reply>, usize)> {
        let (mut dots, mut body, mut used) = (Dots::default(), Body::new(Vec::new(), text, 1 << 20), 0);
        for piece in input.chunks(step) {
            let (piece_used, is_end) = dots.take(piece, &mut body);
            used += piece_used;
            if is_end {
                return Some((body.finish(), input.len() - used));
            }
            assert_eq!(piece_used, piece.len());
        }
        None
    }

    /// RFC 5321 4.5.2 by the letter, a line at a time.
    fn expected(input: &[u8]) -> Option<(Vec<u8>, usize)> {
        let (mut content, mut rest) = (Vec::new(), input);
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            let (line, after) = rest.split_at(end + 2);
            rest = after;
            if line == b".\r\n" {
                return Some((content, rest.len()));
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    }

    #[test]
    fn what_ends_data() {
        let ends: &[(&[u8], &[u8], usize)] = &[
            (b".\r\nMAIL", b"", 4),
            (b"a\r\n.\r\n", b"a\r\n", 0),
            (b"\r\n.\r\nx", b"\r\n", 1),
            (b"..\r\n...\r\n.a\r\n.\r\n", b".\r\n..\r\na\r\n", 0),
            (b"a\r\n.\r\n.\r\n", b"a\r\n", 3),
        ];
        for (input, content, left) in ends {
            for step in 1..=input.len() {
                assert_eq!(taken(Text::Strict, input, step), Some((Ok(content.to_vec()), *left)));
            }
        }
    }

    #[test]
    fn what_does_not_end_data() {
        let table: &[&[u8]] = &[
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\rx",
            b"\r\n.\r\r\n",
            b"\r\r\n.\r\r\n",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\0\n.\r\0\n",
            b"\r\n .\r\n",
            b"\r\n.\t\r\n",
            b"\r\n. \r\n",
            b"\x85.\x85",
            b"\xE2\x80\xA8.\xE2\x80\xA8",
            b"\x0b.\x0b",
            b"\x0c.\x0c",
            b"\n\n.\r\n",
        ];
        for middle in table {
            let input = [b"a", *middle, b"MAIL FROM:<evil@a.test>\r\n.\r\n"].concat();
            for step in 1..=input.len() {
                for text in [Text::Strict, Text::Mended, Text::Binary] {
                    let (_, left) = taken(text, &input, step).expect("the real end is there");
                    assert_eq!(left, 0, "{}", middle.escape_ascii());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn as_the_rfc_says_in_every_split(
            input in collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..60),
            step in 1_usize..9,
        ) {
            let input = [input.as_slice(), b"\r\n.\r\n"].concat();
            let kept = taken(Text::Binary, &input, step);
            let expected = expected(&input).map(|(content, left)| (Ok(content), left));
            prop_assert_eq!(kept, expected);
        }
    }
}
