//! Lines that end in CRLF, out of input that is cut anywhere.
//!
//! A line that lies whole in the input is borrowed from it; only one that a read cut in two is carried over
//! in a buffer, which leaves with the line. Only CRLF ends a line, in every state of every session: that a
//! bare LF is no line end to one party and is one to the next is what smuggling lives on.
//!
//! Invariants: at most `bytes_max` bytes are carried; every input byte is looked at once; what is taken does
//! not depend on how the input was cut; between two lines there is no buffer.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2};

use crate::limits::LINE_DISCARDED_BYTES_MAX;

/// The part of a line that has come so far.
#[derive(Default, Debug)]
pub struct Lines {
    carry: Vec<u8>,
    /// Bytes of this line that came before the input, carried or thrown away.
    seen_bytes: usize,
}

/// What the input gave.
#[derive(PartialEq, Eq, Debug)]
pub enum Taken<'a> {
    /// A line without its CRLF and without any other CR or LF.
    Line(Cow<'a, [u8]>),
    /// A line with a bare CR or LF in it; it was dropped. A syntax error wherever it comes.
    Stray,
    /// A line over the bound; it was dropped through its CRLF.
    TooLong,
    /// A line so long that nobody waits for its end: the connection closes.
    Endless,
    /// The input is used up and the line is not complete.
    More,
}

impl Lines {
    pub const fn new() -> Self {
        Self { carry: Vec::new(), seen_bytes: 0 }
    }

    /// Takes the next line of at most `bytes_max` bytes, CRLF included; says how many bytes of `input` it took.
    pub fn take<'a>(&mut self, input: &'a [u8], bytes_max: usize) -> (usize, Taken<'a>) {
        let Some(end) = self.end_of_line(input) else {
            return (input.len(), self.keep(input, bytes_max));
        };
        let line_bytes = self.seen_bytes + end;
        self.seen_bytes = 0;
        let carry = std::mem::take(&mut self.carry);
        if line_bytes > LINE_DISCARDED_BYTES_MAX {
            return (end, Taken::Endless);
        }
        if line_bytes > bytes_max {
            return (end, Taken::TooLong);
        }
        let mut line = Cow::Borrowed(&input[..end]);
        if !carry.is_empty() {
            let mut joined = carry;
            joined.extend_from_slice(&input[..end]);
            line = Cow::Owned(joined);
        }
        match &mut line {
            Cow::Borrowed(line) => *line = &line[..line.len() - 2],
            Cow::Owned(line) => line.truncate(line.len() - 2),
        }
        match memchr2(b'\r', b'\n', &line) {
            Some(_) => (end, Taken::Stray),
            None => (end, Taken::Line(line)),
        }
    }

    /// Forgets a line that has begun.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// No line has begun.
    pub fn is_empty(&self) -> bool {
        self.seen_bytes == 0
    }

    /// The offset after the first CRLF, whose CR may have come before `input`.
    fn end_of_line(&self, input: &[u8]) -> Option<usize> {
        let is_end = |&lf: &usize| match lf.checked_sub(1) {
            Some(before) => input[before] == b'\r',
            None => self.carry.last() == Some(&b'\r'),
        };
        memchr_iter(b'\n', input).find(is_end).map(|lf| lf + 1)
    }

    /// Carries the beginning of a line, or only its last byte once it is over the bound.
    fn keep<'a>(&mut self, input: &[u8], bytes_max: usize) -> Taken<'a> {
        let Some(last) = input.last() else {
            return Taken::More;
        };
        self.seen_bytes = self.seen_bytes.saturating_add(input.len());
        if self.seen_bytes > LINE_DISCARDED_BYTES_MAX {
            self.clear();
            return Taken::Endless;
        }
        if self.seen_bytes > bytes_max {
            // The last byte may be the CR of the line's end.
            self.carry.clear();
            self.carry.shrink_to(16);
            self.carry.push(*last);
        } else {
            self.carry.extend_from_slice(input);
        }
        Taken::More
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{Lines, Taken};
    use crate::limits::LINE_DISCARDED_BYTES_MAX;

    fn shown(taken: &Taken) -> Option<String> {
        match taken {
            Taken::Line(line) => Some(format!("line {}", line.escape_ascii())),
            Taken::Stray => Some("stray".into()),
            Taken::TooLong => Some("too long".into()),
            Taken::Endless => Some("endless".into()),
            Taken::More => None,
        }
    }

    fn all<'a>(pieces: impl Iterator<Item = &'a [u8]>, bytes_max: usize) -> Vec<String> {
        let mut lines = Lines::new();
        let mut shown_all = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                let (used, taken) = lines.take(piece, bytes_max);
                assert!(used > 0 && lines.carry.len() <= bytes_max);
                piece = &piece[used..];
                shown_all.extend(shown(&taken));
            }
        }
        shown_all
    }

    #[test]
    fn a_whole_line_is_borrowed_and_leaves_no_buffer() {
        let mut lines = Lines::new();
        let (used, taken) = lines.take(b"NOOP\r\nQUIT\r\n", 512);
        assert_eq!((used, taken), (6, Taken::Line(Cow::Borrowed(b"NOOP".as_slice()))));
        assert_eq!(lines.take(b"NO", 512), (2, Taken::More));
        assert_eq!(lines.take(b"OP\r\n", 512), (4, Taken::Line(Cow::Owned(b"NOOP".to_vec()))));
        assert!(lines.is_empty() && lines.carry.capacity() == 0);
    }

    #[test]
    fn what_is_a_line() {
        let table: &[(&[u8], &[&str])] = &[
            (b"\r\n", &["line "]),
            (b"a\nb\r\nc\r\n", &["stray", "line c"]),
            (b"a\rb\r\n", &["stray"]),
            (b"a\r\r\n", &["stray"]),
            (b"\n\r\n", &["stray"]),
            (b"12345678\r\n", &["line 12345678"]),
            (b"123456789\r\nx\r\n", &["too long", "line x"]),
            (b"1234567890\n1234567890\r1234567890\r\nx\r\n", &["too long", "line x"]),
            (b"a\0b\r\n", &["line a\\x00b"]),
        ];
        for (input, expected) in table {
            assert_eq!(all(std::iter::once(*input), 10), *expected, "{}", input.escape_ascii());
            assert_eq!(all(input.chunks(1), 10), *expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn an_endless_line_is_given_up_in_every_split() {
        let mut input = vec![b'x'; LINE_DISCARDED_BYTES_MAX];
        input.extend_from_slice(b"\r\n");
        assert_eq!(all(std::iter::once(input.as_slice()), 10), ["endless"]);
        assert_eq!(all(input.chunks(4096), 10)[0], "endless");
        let exact = &input[2..];
        assert_eq!(all(std::iter::once(exact), 10), ["too long"]);
        assert_eq!(all(exact.chunks(777), 10), ["too long"]);
    }

    proptest! {
        #[test]
        fn no_split_matters(
            input in collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..80),
            step in 1_usize..9,
        ) {
            prop_assert_eq!(all(std::iter::once(input.as_slice()), 12), all(input.chunks(step), 12));
        }
    }
}
