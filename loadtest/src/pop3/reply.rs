//! Replies of a POP3 server: one line, or a line and text up to a lone dot.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// What follows `+OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Line,
    Text,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub is_ok: bool,
    /// Behind `+OK` or `-ERR`.
    pub line: &'a [u8],
    /// With the dots that were added on the way, without the one that ends it.
    pub text: &'a [u8],
}

/// Bytes come in, whole replies go out.
#[derive(Default)]
pub struct Reader {
    input: Vec<u8>,
    start: usize,
    /// Up to where the end of a text was looked for.
    scanned: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub struct NoReply;

impl Reader {
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > self.input.len() / 2 {
            self.input.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next reply, if all of it is there; an error has no text, whatever was asked for.
    pub fn poll(&mut self, shape: Shape) -> Result<Option<Reply<'_>>, NoReply> {
        let rest = &self.input[self.start..];
        let Some(end) = memchr(b'\n', rest) else {
            return Ok(None);
        };
        let line = rest[..end].strip_suffix(b"\r").ok_or(NoReply)?;
        let (is_ok, words) = match (line.strip_prefix(b"+OK"), line.strip_prefix(b"-ERR")) {
            (Some(words), _) => (true, words),
            (_, Some(words)) => (false, words),
            _ => return Err(NoReply),
        };
        let words = words.trim_ascii();
        let text_start = self.start + end + 1;
        if shape == Shape::Line || !is_ok {
            let line = self.range_of(words);
            self.start = text_start;
            return Ok(Some(Reply { is_ok, line: &self.input[line], text: b"" }));
        }
        // The line end before the text may be that of the dot that ends an empty one.
        let from = self.scanned.max(text_start - 2);
        let Some(found) = memmem::find(&self.input[from..], b"\r\n.\r\n") else {
            self.scanned = from.max(self.input.len().saturating_sub(4));
            return Ok(None);
        };
        let (line, text_end) = (self.range_of(words), (from + found + 2).max(text_start));
        (self.start, self.scanned) = (from + found + 5, from + found + 5);
        Ok(Some(Reply { is_ok, line: &self.input[line], text: &self.input[text_start..text_end] }))
    }

    /// Where `part` of the input lies in it.
    fn range_of(&self, part: &[u8]) -> std::ops::Range<usize> {
        let start = part.as_ptr() as usize - self.input.as_ptr() as usize;
        start..start + part.len()
    }
}

/// Takes back the dots that were added to lines that begin with one.
pub fn unstuffed(text: &[u8]) -> Cow<'_, [u8]> {
    let starts_with_dot = text.first() == Some(&b'.');
    if !starts_with_dot && memmem::find(text, b"\r\n.").is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = if starts_with_dot { &text[1..] } else { text };
    while let Some(place) = memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(&rest[..place + 2]);
        rest = &rest[place + 3..];
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK hello\r\n+OK 5 octets\r\na\r\n..b\r\n.\r\n+OK\r\n.\r\n-ERR no\r\n";
    const SHAPES: [Shape; 4] = [Shape::Line, Shape::Text, Shape::Text, Shape::Text];

    #[test]
    fn replies_are_the_same_however_they_are_cut() {
        for cut in 1..STREAM.len() {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for piece in STREAM.chunks(cut) {
                reader.extend(piece);
                while let Some(shape) = SHAPES.get(found.len())
                    && let Some(reply) = reader.poll(*shape).expect("the stream is well formed")
                {
                    found.push((reply.is_ok, reply.line.to_vec(), unstuffed(reply.text).into_owned()));
                }
            }
            let expected: [(bool, &[u8], &[u8]); 4] = [
                (true, b"hello", b""),
                (true, b"5 octets", b"a\r\n.b\r\n"),
                (true, b"", b""),
                (false, b"no", b""),
            ];
            let expected: Vec<_> =
                expected.iter().map(|(ok, line, text)| (*ok, line.to_vec(), text.to_vec())).collect();
            assert_eq!(found, expected, "cut every {cut} bytes");
        }
    }

    #[test]
    fn what_is_no_reply_is_told() {
        let mut reader = Reader::default();
        reader.extend(b"OK\r\n");
        assert_eq!(reader.poll(Shape::Line), Err(NoReply));
    }
}
