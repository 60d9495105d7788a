//! Commands with their literals, out of input that is cut anywhere.
//!
//! A command of one line that lies whole in the input is borrowed from it; anything else is gathered: lines
//! with their CRLF and the octets of the literals between them. At each literal the session decides whether
//! its octets are gathered, refused, or taken by the session itself (the message of an APPEND).
//!
//! ```text
//!   Line ──CRLF──> Command                                Skipping ──CRLF──> Line
//!    │ ^                                                     │  ^
//!    │ └────────── Octets <──accept── Asked ──refuse {n+}──> SkippingOctets
//!    └──{n} CRLF──> Asked ──stream──> Line
//! ```
//!
//! What is skipped was answered when the skipping began. A literal that does not wait for an answer is skipped
//! with its octets also where the line is known to be bad, so that they are never read as commands (RFC 7888 3).
//!
//! Invariants: every input byte is looked at once; at most `line_bytes_max` bytes of lines and what the session
//! accepts of literals are held; between two commands there is no buffer.

use memchr::memchr_iter;

use super::lexer::{Literal, Sync};
use crate::limits::LINE_DISCARDED_BYTES_MAX;

/// The part of a command that has come so far.
#[derive(Default, Debug)]
pub struct Framing {
    /// Lines and literals; while a line is skipped, the end of that line.
    text: Vec<u8>,
    /// Where the current line begins in `text`.
    line_start: usize,
    /// Bytes of all lines of this command, of which `text` has those that are not skipped.
    lines_bytes: usize,
    literals_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Line,
    /// The session has been asked about a literal.
    Asked(Literal),
    Octets {
        left: usize,
    },
    Skipping,
    SkippingOctets {
        left: u64,
    },
}

/// What the input gave.
#[derive(PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// The input is used up or was skipped.
    More,
    /// A whole command without its last CRLF. When it is handled, the session calls `clear`.
    Command(&'a [u8]),
    /// A line ended in a literal's head; `text` is the command up to it, with literals of so many bytes. The
    /// session calls `accept`, `refuse` or `stream`.
    Literal { text: &'a [u8], literal: Literal, literals_bytes: usize },
    /// The command's lines are over the bound and the rest is skipped; `text` is its beginning.
    TooLong { text: &'a [u8] },
    /// A line that is skipped has no end.
    Endless,
}

impl Framing {
    /// Bytes of the command so far.
    pub fn held_bytes(&self) -> usize {
        self.text.len()
    }

    /// Takes what it can of `input` and says how many bytes that was.
    pub fn take<'a>(&'a mut self, input: &'a [u8], line_bytes_max: usize) -> (usize, Frame<'a>) {
        match self.state {
            State::Line => self.take_line(input, line_bytes_max),
            State::Asked(_) => (0, Frame::More),
            State::Octets { left } => (self.take_octets(input, left), Frame::More),
            State::Skipping => self.skip_line(input),
            State::SkippingOctets { left } => (self.skip_octets(input, left), Frame::More),
        }
    }

    /// The literal is gathered.
    pub fn accept(&mut self) {
        if let State::Asked(literal) = self.state {
            let left = usize::try_from(literal.size).unwrap_or(usize::MAX);
            self.literals_bytes = self.literals_bytes.saturating_add(left);
            self.state = State::Octets { left };
            self.finish_octets(left);
        }
    }

    /// The command has been answered; what the client sends of it all the same is skipped.
    pub fn refuse(&mut self) {
        if let State::Asked(literal) = self.state {
            self.clear();
            if literal.sync == Sync::Sends {
                self.skip(literal.size);
            }
        }
    }

    /// The session takes the octets itself; what is left of the line comes as the next command.
    pub fn stream(&mut self) {
        self.clear();
    }

    /// Skips so many octets and the rest of the line behind them.
    pub fn skip(&mut self, octets: u64) {
        self.clear();
        self.state = State::SkippingOctets { left: octets };
        if octets == 0 {
            self.state = State::Skipping;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is held in memory.
    #[cfg(test)]
    pub fn buffer_bytes(&self) -> usize {
        self.text.capacity()
    }

    fn take_line<'a>(&'a mut self, input: &'a [u8], bytes_max: usize) -> (usize, Frame<'a>) {
        let room = bytes_max.saturating_sub(self.lines_bytes);
        let window = &input[..input.len().min(room)];
        let Some(end) = self.end_of_line(window) else {
            return self.keep_line(window, room);
        };
        self.lines_bytes += end;
        if self.text.is_empty() {
            let line = &input[..end - 2];
            if Literal::at_end(line).is_none() {
                return (end, Frame::Command(line));
            }
        }
        self.text.extend_from_slice(&input[..end]);
        (end, self.finish_line())
    }

    /// A line in `text` is complete.
    fn finish_line(&mut self) -> Frame<'_> {
        let line = &self.text[self.line_start..self.text.len() - 2];
        if let Some(literal) = Literal::at_end(line) {
            self.state = State::Asked(literal);
            let head = self.text.len() - 2 - literal.head_bytes;
            let literals_bytes = self.literals_bytes;
            return Frame::Literal { text: &self.text[..head], literal, literals_bytes };
        }
        Frame::Command(&self.text[..self.text.len() - 2])
    }

    /// No line ends in `window`, which is all that there is room for.
    fn keep_line<'a>(&'a mut self, window: &'a [u8], room: usize) -> (usize, Frame<'a>) {
        self.text.extend_from_slice(window);
        self.lines_bytes += window.len();
        if window.len() < room {
            return (window.len(), Frame::More);
        }
        self.state = State::Skipping;
        (window.len(), Frame::TooLong { text: &self.text })
    }

    fn take_octets(&mut self, input: &[u8], left: usize) -> usize {
        let taken = input.len().min(left);
        self.text.extend_from_slice(&input[..taken]);
        self.finish_octets(left - taken);
        taken
    }

    fn finish_octets(&mut self, left: usize) {
        self.state = State::Octets { left };
        if left == 0 {
            self.state = State::Line;
            self.line_start = self.text.len();
        }
    }

    fn skip_line<'a>(&'a mut self, input: &[u8]) -> (usize, Frame<'a>) {
        let end = self.end_of_line(input);
        let taken = end.unwrap_or(input.len());
        self.keep_tail(&input[..taken]);
        self.lines_bytes = self.lines_bytes.saturating_add(taken);
        if self.lines_bytes > LINE_DISCARDED_BYTES_MAX {
            return (taken, Frame::Endless);
        }
        if end.is_none() {
            return (taken, Frame::More);
        }
        let literal = Literal::at_end(&self.text[self.line_start..self.text.len() - 2]);
        match literal.filter(|literal| literal.sync == Sync::Sends) {
            Some(literal) => self.skip(literal.size),
            // One that waits has got its answer.
            None => self.clear(),
        }
        (taken, Frame::More)
    }

    /// Keeps of the line that is skipped as much as the head of a literal, and CRLF, can take.
    fn keep_tail(&mut self, skipped: &[u8]) {
        const TAIL_BYTES: usize = Literal::HEAD_BYTES_MAX + 2;
        let from = skipped.len().saturating_sub(TAIL_BYTES);
        self.text.extend_from_slice(&skipped[from..]);
        let surplus = self.text.len().saturating_sub(TAIL_BYTES).max(self.line_start);
        self.text.drain(..surplus);
        self.text.shrink_to(2 * TAIL_BYTES);
        self.line_start = 0;
    }

    fn skip_octets(&mut self, input: &[u8], left: u64) -> usize {
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.skip(left - taken as u64);
        taken
    }

    /// The offset after the first CRLF, whose CR may have come before `input`.
    fn end_of_line(&self, input: &[u8]) -> Option<usize> {
        let is_end = |&lf: &usize| match lf.checked_sub(1) {
            Some(before) => input[before] == b'\r',
            None => self.text[self.line_start..].last() == Some(&b'\r'),
        };
        memchr_iter(b'\n', input).find(is_end).map(|lf| lf + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{Frame, Framing};
    use crate::proto::imap::lexer::Sync;

    /// What comes of pieces where small literals are accepted, others refused, and nobody waits to send.
    fn framed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let mut framing = Framing::default();
        let mut shown = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                let (taken, frame) = framing.take(piece, 40);
                piece = &piece[taken..];
                let mut next: fn(&mut Framing) = |_| ();
                match frame {
                    Frame::More => {}
                    Frame::Endless => unreachable!("the input is short"),
                    Frame::TooLong { text } => shown.push(format!("too long {}", text.escape_ascii())),
                    Frame::Command(text) => {
                        shown.push(format!("command {}", text.escape_ascii()));
                        next = Framing::clear;
                    }
                    Frame::Literal { text, literal, literals_bytes } => {
                        let waits = if literal.sync == Sync::Waits { "?" } else { "" };
                        shown.push(format!(
                            "{} {literals_bytes} + {}{waits}",
                            text.escape_ascii(),
                            literal.size
                        ));
                        next = if literal.size < 5 { Framing::accept } else { Framing::refuse };
                    }
                }
                next(&mut framing);
            }
        }
        shown
    }

    #[test]
    fn commands_with_literals() {
        let table: &[(&[u8], &[&str])] = &[
            (b"a NOOP\r\nb\r\n\r\n", &["command a NOOP", "command b", "command "]),
            (b"a {2}\r\nxy z\r\n", &["a  0 + 2?", "command a {2}\\r\\nxy z"]),
            (
                b"a {2+}\r\n\r\n {0+}\r\n b\r\n",
                &["a  0 + 2", "a {2+}\\r\\n\\r\\n  2 + 0", "command a {2+}\\r\\n\\r\\n {0+}\\r\\n b"],
            ),
            (b"a {9}\r\nb\r\n", &["a  0 + 9?", "command b"]),
            (b"a {9+}\r\n12345678\n c\r\nb\r\n", &["a  0 + 9", "command b"]),
            (b"a {9+}\r\n123456789 {7+}\r\n1234567\r\nb\r\n", &["a  0 + 9", "command b"]),
            (b"a {9+}\r\n123456789 {7}\r\nb\r\n", &["a  0 + 9", "command b"]),
            // What looks like a head across the end of a literal is none.
            (b"a {2+}\r\n{1}\r\n", &["a  0 + 2", "command a {2+}\\r\\n{1}"]),
            (b"a\nb\rc\r\n", &["command a\\nb\\rc"]),
        ];
        for (input, expected) in table {
            assert_eq!(framed(std::iter::once(*input)), *expected, "{}", input.escape_ascii());
            assert_eq!(framed(input.chunks(1)), *expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn lines_have_a_bound() {
        let exact = [b"x".repeat(38), b"\r\nb\r\n".to_vec()].concat();
        let over = [b"x".repeat(39), b"\r\nb\r\n".to_vec()].concat();
        let literal = [b"x".repeat(60), b"{3+}\r\n\r\n\n\r\nb\r\n".to_vec()].concat();
        for step in [1, 3, 100] {
            assert_eq!(
                framed(exact.chunks(step)),
                [format!("command {}", "x".repeat(38)), "command b".into()]
            );
            assert_eq!(
                framed(over.chunks(step)),
                [format!("too long {}\\r", "x".repeat(39)), "command b".into()]
            );
            assert_eq!(framed(literal.chunks(step))[1..], ["command b"]);
        }
    }

    proptest! {
        #[test]
        fn no_split_matters(
            pieces in collection::vec(
                prop_oneof![
                    Just(b"\r\n".to_vec()),
                    Just(b"{3+}\r\n".to_vec()),
                    Just(b"{7+}\r\n".to_vec()),
                    Just(b"{2}\r\n".to_vec()),
                    collection::vec(any::<u8>(), 0..20),
                ],
                0..20,
            ),
            step in 1_usize..9,
        ) {
            let input = pieces.concat();
            prop_assert_eq!(framed(std::iter::once(input.as_slice())), framed(input.chunks(step)));
        }
    }
}
