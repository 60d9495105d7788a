//! The message as it gathers behind its trace fields, and what may be wrong with it.
//!
//! The buffer that the driver began becomes the message: content is appended to it as it stands on the wire,
//! once. Two vector scans tell whether a piece is clean: one for line ends that are not CRLF, one for NUL.
//!
//! Invariants: after a fault nothing is kept; a body that is handed on holds only CRLF line ends unless it is
//! binary; the verdict does not depend on how the pieces were cut.

use memchr::memchr;

use crate::limits::{BODY_IN_MEMORY_BYTES_MAX, smtp::RECEIVED_FIELDS_MAX};
use crate::mail::header::Header;
use crate::mail::line_ends::has_stray;
use crate::mail::trace::received_count;

use super::reply::Reply;

/// What a CR or LF on its own means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Text {
    /// The message is refused: strangers do not get to choose what a line is.
    Strict,
    /// It is made a CRLF: a client of ours wrote it so (RFC 6409 8 lets us mend).
    Mended,
    /// It is content, and so is NUL: BODY=BINARYMIME (RFC 3030).
    Binary,
}

/// A message that is being received.
#[derive(Debug)]
pub struct Body {
    buffer: Vec<u8>,
    text: Text,
    bytes_max: u64,
    /// Content so far, as it came.
    bytes: u64,
    /// Where the header begins in `buffer`, until it has been looked at.
    header_at: Option<usize>,
    /// The byte before the next one; a body begins like a line.
    last: u8,
    /// Why it will be refused.
    fault: Option<Reply>,
}

impl Body {
    /// A body behind `prefix`, of at most `bytes_max` bytes of content.
    pub fn new(prefix: Vec<u8>, text: Text, bytes_max: u64) -> Self {
        let header_at = Some(prefix.len());
        Self { buffer: prefix, text, bytes_max, bytes: 0, header_at, last: b'\n', fault: None }
    }

    /// Adds content. Of several faults the first one in the content counts, so that cuts do not matter.
    pub fn append(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else {
            return;
        };
        if self.fault.is_none() {
            let left = usize::try_from(self.bytes_max.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
            self.append_checked(&piece[..left.min(piece.len())]);
            if piece.len() > left {
                self.refuse(Reply::TOO_LARGE);
            }
        }
        self.bytes += piece.len() as u64;
        self.last = last;
    }

    /// Keeps nothing from here on; the message will be refused with the first reason that was found.
    pub fn refuse(&mut self, reason: Reply) {
        self.fault = self.fault.or(Some(reason));
        self.buffer = Vec::new();
        self.header_at = None;
    }

    /// There is no room for another byte, and the body is still worth keeping.
    pub fn must_spill(&mut self) -> bool {
        if self.room_bytes() > 0 {
            return false;
        }
        self.look_at_header();
        self.fault.is_none()
    }

    /// What is in memory, to be put elsewhere.
    pub fn spill(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Goes on in a buffer of the driver's.
    pub fn resume(&mut self, spare: Vec<u8>) {
        self.buffer = spare;
        self.buffer.clear();
    }

    /// The end of the message: the last of it, or what is wrong.
    pub fn finish(mut self) -> Result<Vec<u8>, Reply> {
        if self.last == b'\r' {
            match self.text {
                Text::Strict => self.refuse(Reply::BARE_LINE_END),
                Text::Mended => self.buffer.push(b'\n'),
                Text::Binary => {}
            }
        }
        self.look_at_header();
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.buffer),
        }
    }

    /// How many bytes of input may be appended before the body must be spilled.
    pub fn room_bytes(&self) -> usize {
        match self.fault {
            Some(_) => usize::MAX,
            None => BODY_IN_MEMORY_BYTES_MAX.saturating_sub(self.buffer.len()),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn fault(&self) -> Option<Reply> {
        self.fault
    }

    fn append_checked(&mut self, piece: &[u8]) {
        if self.text == Text::Binary {
            return self.buffer.extend_from_slice(piece);
        }
        let nul = memchr(0, piece);
        let is_stray = has_stray(self.last, &piece[..nul.unwrap_or(piece.len())]);
        match (is_stray, self.text) {
            (true, Text::Strict) => self.refuse(Reply::BARE_LINE_END),
            _ if nul.is_some() => self.refuse(Reply::NUL_IN_TEXT),
            (true, _) => mend(self.last, piece, &mut self.buffer),
            (false, _) => self.buffer.extend_from_slice(piece),
        }
    }

    /// RFC 5321 6.3. A header that goes on after the first part has had its chance to show a loop.
    fn look_at_header(&mut self) {
        let Some(from) = self.header_at.take() else {
            return;
        };
        if received_count(&Header::of(&self.buffer[from..])) > RECEIVED_FIELDS_MAX {
            self.refuse(Reply::LOOP);
        }
    }
}

/// Appends `piece` with a CRLF for each CR or LF that stands alone.
fn mend(mut before: u8, piece: &[u8], buffer: &mut Vec<u8>) {
    for &byte in piece {
        match (before, byte) {
            (b'\r', b'\n') => buffer.push(b'\n'),
            (b'\r', _) => buffer.extend_from_slice(&[b'\n', byte]),
            (_, b'\n') => buffer.extend_from_slice(b"\r\n"),
            _ => buffer.push(byte),
        }
        before = byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{Body, Reply, Text};

    fn gathered<'a>(text: Text, pieces: impl Iterator<Item = &'a [u8]>) -> Result<String, Reply> {
        let mut body = Body::new(b"P:".to_vec(), text, 100);
        pieces.for_each(|piece| body.append(piece));
        body.finish().map(|bytes| bytes.escape_ascii().to_string())
    }

    #[test]
    fn line_ends() {
        let table: &[(&[u8], Result<&str, Reply>, &str)] = &[
            (b"a\r\n\r\nb\r\n", Ok("P:a\\r\\n\\r\\nb\\r\\n"), "P:a\\r\\n\\r\\nb\\r\\n"),
            (b"", Ok("P:"), "P:"),
            (b"a", Ok("P:a"), "P:a"),
            (b"a\nb", Err(Reply::BARE_LINE_END), "P:a\\r\\nb"),
            (b"a\rb", Err(Reply::BARE_LINE_END), "P:a\\r\\nb"),
            (b"\n", Err(Reply::BARE_LINE_END), "P:\\r\\n"),
            (b"a\r", Err(Reply::BARE_LINE_END), "P:a\\r\\n"),
            (b"\r\r\n", Err(Reply::BARE_LINE_END), "P:\\r\\n\\r\\n"),
            (b"\r\n\n", Err(Reply::BARE_LINE_END), "P:\\r\\n\\r\\n"),
            (b"\n\r", Err(Reply::BARE_LINE_END), "P:\\r\\n\\r\\n"),
        ];
        for (content, strict, mended) in table {
            let strict = strict.map(str::to_owned);
            assert_eq!(gathered(Text::Strict, std::iter::once(*content)), strict);
            assert_eq!(gathered(Text::Strict, content.chunks(1)), strict);
            assert_eq!(gathered(Text::Mended, std::iter::once(*content)).as_deref(), Ok(*mended));
            assert_eq!(gathered(Text::Mended, content.chunks(1)).as_deref(), Ok(*mended));
        }
    }

    #[test]
    fn size_and_nul() {
        let table: &[(Text, &[u8], bool)] = &[
            (Text::Strict, b"a\0", false),
            (Text::Mended, b"a\0", false),
            (Text::Binary, b"a\0\n\r", true),
            (Text::Strict, &[b'x'; 100], true),
            (Text::Strict, &[b'x'; 101], false),
        ];
        for (text, content, is_kept) in table {
            assert_eq!(gathered(*text, content.chunks(7)).is_ok(), *is_kept);
        }
    }

    #[test]
    fn a_loop_shows_in_the_header_alone() {
        let fields = "received: from a by b; now\r\n".repeat(101);
        let cases = [
            (fields.clone(), true),
            (fields[28..].to_owned(), false),
            (format!("A: b\r\n\r\n{fields}"), false),
        ];
        for (content, is_loop) in cases {
            let mut body = Body::new(b"Received: by us\r\n".to_vec(), Text::Strict, 1 << 20);
            body.append(content.as_bytes());
            assert_eq!(body.finish() == Err(Reply::LOOP), is_loop);
        }
    }

    proptest! {
        #[test]
        fn no_split_matters(
            content in collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 0..120),
            step in 1_usize..9,
        ) {
            for text in [Text::Strict, Text::Mended, Text::Binary] {
                let whole = gathered(text, std::iter::once(content.as_slice()));
                prop_assert_eq!(&whole, &gathered(text, content.chunks(step)));
                if let (Ok(kept), Text::Mended) = (whole, text) {
                    let kept = kept.replace("\\r\\n", "");
                    assert!(!kept.contains("\\r") && !kept.contains("\\n"));
                }
            }
        }
    }
}
