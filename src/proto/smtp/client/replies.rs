//! Replies of a server, out of input that is cut anywhere (RFC 5321 4.2).
//!
//! ```text
//! Reply-line = *( Reply-code "-" [ textstring ] LF-end ) Reply-code [ SP textstring ] LF-end
//! LF-end     = [ CR ] LF
//! ```
//!
//! A server may say anything. The first line of a reply must begin with a code and end there or go on with a blank
//! or a hyphen; behind such a line, one that does not is text, until the last line comes. Lines may have different
//! codes of one class, and the last one rules; where the classes differ nobody can tell what the server meant, and
//! the reply is unreadable. A bare LF ends a line: nothing of a reply is passed on as lines. Other control characters
//! and octets over 127 are text, and become harmless in [`Reply::of_lines`].
//!
//! Invariants: what is kept of a reply is bounded; what is taken does not depend on how the input was cut; an
//! unreadable reply ends the session, since what follows it may answer anything.

use memchr::memchr;

use crate::limits::smtp::client::{REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX};
use crate::mail::reply::Reply;

/// The part of a reply that has come so far.
#[derive(Default, Debug)]
pub(super) struct Replies {
    /// The line that is not complete.
    line: Vec<u8>,
    /// What the complete lines say behind their codes, each with an LF.
    text: Vec<u8>,
    lines: usize,
    /// The class of the first line.
    class: Option<u16>,
    /// All bytes of this reply.
    bytes: usize,
}

/// A complete reply.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub code: u16,
    text: Vec<u8>,
}

/// What the input gave.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Answer(Answer),
    /// In words, why nobody can tell what the server means.
    Unreadable(&'static str),
    More,
}

/// The class of a reply: what its first digit means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Positive,
    /// Go on.
    Intermediate,
    Transient,
    Permanent,
}

enum Line<'a> {
    Last { code: u16, text: &'a [u8] },
    Continued { code: u16, text: &'a [u8] },
    Odd,
}

impl Replies {
    /// Takes what belongs to the next reply; says how many bytes of `input` it took.
    pub fn take(&mut self, input: &[u8]) -> (usize, Taken) {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let end = memchr(b'\n', rest);
            let length = end.map_or(rest.len(), |at| at + 1);
            used += length;
            self.bytes += length;
            if self.bytes > REPLY_BYTES_MAX {
                return (used, Taken::Unreadable("a reply without an end"));
            }
            let room = REPLY_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&rest[..end.unwrap_or(length).min(room)]);
            if end.is_none() {
                break;
            }
            match self.handle_line() {
                Taken::More => {}
                taken => return (used, taken),
            }
        }
        (used, Taken::More)
    }

    /// Nothing of a reply has come.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn handle_line(&mut self) -> Taken {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.lines += 1;
        if self.lines > REPLY_LINES_MAX {
            return Taken::Unreadable("a reply of too many lines");
        }
        let (code, text) = match Line::of(&line) {
            Line::Last { code, text } | Line::Continued { code, text } => (code, text),
            Line::Odd if self.class.is_none() => return Taken::Unreadable("not a reply"),
            Line::Odd => {
                self.push_text(&line);
                return Taken::More;
            }
        };
        if *self.class.get_or_insert(code / 100) != code / 100 {
            return Taken::Unreadable("a reply with codes of two classes");
        }
        self.push_text(text);
        match Line::of(&line) {
            Line::Last { code, .. } => Taken::Answer(Answer { code, text: std::mem::take(self).text }),
            _ => Taken::More,
        }
    }

    fn push_text(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.text.push(b'\n');
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let Some((digits, rest)) = line.split_first_chunk::<3>() else {
            return Self::Odd;
        };
        if !digits.iter().all(u8::is_ascii_digit) || !matches!(digits[0], b'2'..=b'5') {
            return Self::Odd;
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        match rest.split_first() {
            None => Self::Last { code, text: rest },
            Some((b' ', text)) => Self::Last { code, text },
            Some((b'-', text)) => Self::Continued { code, text },
            Some(_) => Self::Odd,
        }
    }
}

impl Answer {
    pub fn class(&self) -> Class {
        match self.code / 100 {
            2 => Class::Positive,
            3 => Class::Intermediate,
            4 => Class::Transient,
            _ => Class::Permanent,
        }
    }

    /// What each line says behind its code.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        text.split(|byte| *byte == b'\n')
    }

    pub fn reply(&self) -> Reply {
        Reply::of_lines(self.code, self.lines())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert, prop_assert_eq};

    use super::{Replies, Taken};
    use crate::limits::smtp::client::{REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX};

    /// All replies, up to one that cannot be read.
    fn all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let mut replies = Replies::default();
        let mut shown = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                let (used, taken) = replies.take(piece);
                assert!(used > 0 && replies.line.len() <= REPLY_LINE_BYTES_MAX);
                assert!(replies.text.len() <= REPLY_BYTES_MAX + REPLY_LINES_MAX);
                piece = &piece[used..];
                match taken {
                    Taken::Answer(answer) => shown.push(answer.reply().to_string()),
                    Taken::Unreadable(why) => {
                        shown.push(why.into());
                        return shown;
                    }
                    Taken::More => {}
                }
            }
        }
        shown
    }

    #[test]
    fn what_servers_say() {
        let table: &[(&[u8], &[&str])] = &[
            (b"250 ok\r\n", &["250 ok"]),
            (b"250\r\n", &["250"]),
            (b"250 \r\n", &["250"]),
            (b"250 5.7.2\r\n", &["250 5.7.2"]),
            (b"550 5.7.2\r\n", &["550 5.7.2"]),
            (b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n", &["250 mx PIPELINING DSN"]),
            (b"250-\r\n250\r\n", &["250  "]),
            (b"550-5.1.1 no\r\n550 5.1.1 body\r\n", &["550 5.1.1 no body"]),
            // Bare line feeds end lines; other controls are blanks.
            (b"250-a\n250 b\n220 c\r\n", &["250 a b", "220 c"]),
            (b"250 a\rb\0c\r\r\n", &["250 a b c "]),
            (b"250 gr\xfc\r\n", &["250 gr\u{fffd}"]),
            // The last code of a class rules.
            (b"250-a\r\n251 b\r\n", &["251 a b"]),
            (b"250-a\r\n550 b\r\n", &["a reply with codes of two classes"]),
            (b"450-a\r\n550 b\r\n", &["a reply with codes of two classes"]),
            // Odd lines are text inside of a reply, and nothing outside.
            (b"250-mx\r\n250SIZE\r\n25\r\n\r\n250 DSN\r\n", &["250 mx 250SIZE 25  DSN"]),
            (b"250mx\r\n", &["not a reply"]),
            (b"25\r\n", &["not a reply"]),
            (b"\r\n", &["not a reply"]),
            (b"2x0 ok\r\n", &["not a reply"]),
            (b"150 ok\r\n", &["not a reply"]),
            (b"650 ok\r\n", &["not a reply"]),
            (b"HTTP/1.1 400 Bad Request\r\n", &["not a reply"]),
            // Without a hyphen these are two.
            (b"250 a\r\n250 b\r\n", &["250 a", "250 b"]),
        ];
        for (input, expected) in table {
            assert_eq!(all(std::iter::once(*input)), *expected, "{}", input.escape_ascii());
            assert_eq!(all(input.chunks(1)), *expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn floods_end() {
        let lines = "220-spam\r\n".repeat(REPLY_LINES_MAX + 1);
        assert_eq!(all(std::iter::once(lines.as_bytes())), ["a reply of too many lines"]);
        let exact = format!("{}220 at last\r\n", "220-spam\r\n".repeat(REPLY_LINES_MAX - 1));
        assert!(all(exact.as_bytes().chunks(7))[0].starts_with("220 spam"));
        let line = [b"220 ".to_vec(), vec![b'x'; 10 << 20]].concat();
        assert_eq!(all(line.chunks(4096)), ["a reply without an end"]);
        assert_eq!(all(std::iter::once(line.as_slice())), ["a reply without an end"]);
        let long = [b"220 ".to_vec(), vec![b'x'; 20_000], b"\r\n220 next\r\n".to_vec()].concat();
        assert_eq!(all(long.chunks(999))[1], "220 next");
    }

    proptest! {
        #[test]
        fn no_split_matters(
            input in collection::vec(
                prop_oneof![
                    Just(b"250-".to_vec()),
                    Just(b"250 ".to_vec()),
                    Just(b"\r\n".to_vec()),
                    Just(b"4".to_vec()),
                    collection::vec(any::<u8>(), 0..4),
                ],
                0..40,
            ),
            step in 1_usize..9,
        ) {
            let input = input.concat();
            let whole = all(std::iter::once(input.as_slice()));
            prop_assert!(whole.iter().all(|reply| reply.chars().all(|char| !char.is_control())));
            prop_assert_eq!(whole, all(input.chunks(step)));
        }
    }
}
