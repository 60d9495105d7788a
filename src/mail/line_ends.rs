//! Bare CR and LF made into CRLF.
//!
//! Only CRLF ends a line in what we keep and send, save in what comes as BINARYMIME, which is kept as it is. Strangers
//! who send anything else are refused; what comes from our own users by submission, APPEND or import is mended here.
//!
//! Invariants: the output holds no CR and no LF alone; how the input is cut changes nothing; what is right
//! already stays as it is.

use memchr::{memchr_iter, memchr2};

/// Mends a message that comes in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineEnds {
    /// The last octet was a CR, for which a whole line end has been written.
    after_return: bool,
}

/// Whether the last line of a message has its CRLF. A message without any line lacks none.
pub fn is_ended(message: &[u8]) -> bool {
    message.is_empty() || message.ends_with(b"\r\n")
}

impl LineEnds {
    /// Appends `input` with its line ends mended.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        if std::mem::take(&mut self.after_return) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_return = input.is_empty();
        }
        while let Some(at) = memchr2(b'\r', b'\n', rest) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"\r\n");
            let after = &rest[at + 1..];
            rest = match rest[at] {
                b'\r' => {
                    self.after_return = after.is_empty();
                    after.strip_prefix(b"\n").unwrap_or(after)
                }
                _ => after,
            };
        }
        out.extend_from_slice(rest);
    }
}

/// Whether any CR or LF of `piece` is not half of a CRLF, behind `before`; a CR at its end is not judged yet.
///
/// Compares each byte with the one before it and gathers the verdicts without a branch, which the compiler
/// turns into vector code; a search per line would cost more than the copy.
pub fn has_stray(before: u8, piece: &[u8]) -> bool {
    let is_stray = |before: u8, byte: u8| (before == b'\r') != (byte == b'\n');
    let (Some(&first), Some(rest)) = (piece.first(), piece.get(1..)) else {
        return false;
    };
    let pairs = piece.iter().zip(rest);
    is_stray(before, first) | (pairs.fold(0, |found, (&a, &b)| found | u8::from(is_stray(a, b))) != 0)
}

/// Whether every CR and LF is one of a CRLF.
pub fn is_canonical(message: &[u8]) -> bool {
    let lone_feed = memchr_iter(b'\n', message).any(|at| at == 0 || message[at - 1] != b'\r');
    let lone_return = || memchr_iter(b'\r', message).any(|at| message.get(at + 1) != Some(&b'\n'));
    !lone_feed && !lone_return()
}

/// The whole of `message` with its line ends mended.
pub fn canonical(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32);
    LineEnds::default().push(message, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{LineEnds, canonical, is_canonical};

    #[test]
    fn mended() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b"a\r\nb\r\n", b"a\r\nb\r\n"),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\rb\r", b"a\r\nb\r\n"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n"),
            (b"\n\r", b"\r\n\r\n"),
        ];
        for (message, expected) in cases {
            assert_eq!(canonical(message), expected, "{}", message.escape_ascii());
            assert_eq!(is_canonical(message), message == expected);
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(message in "[a\r\n]{0,20}", cuts in proptest::collection::vec(0usize..20, 0..4)) {
            let message = message.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.sort_unstable();
            cuts.push(message.len());
            let (mut line_ends, mut out, mut from) = (LineEnds::default(), Vec::new(), 0);
            for cut in cuts {
                line_ends.push(&message[from..cut], &mut out);
                from = cut;
            }
            assert_eq!(out, canonical(message));
            assert!(is_canonical(&out));
        }
    }
}
