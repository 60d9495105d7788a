//! The message that a notification is about, or its header.
//!
//! Invariants: what is returned as it is has lines that any server takes; all else is in base64.

use super::{Action, Extent, Report, Transfer, Travel};
use crate::mail::envelope::{BodyKind, Ret};
use crate::mail::header::Header;

/// RFC 5321 4.5.3.1.6, without CRLF.
const LINE_BYTES_MAX: usize = 998;

/// A longer header is cut; nobody reads more.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// The last part.
pub struct Returned<'a> {
    pub media: &'static str,
    pub encoding: Transfer,
    pub bytes: &'a [u8],
}

impl<'a> Returned<'a> {
    pub fn of(report: &Report<'a>, travel: Travel) -> Self {
        let header = Header::of(report.original);
        let header = &report.original[..header.len()];
        // A part deep inside may have such a header, too (RFC 6531 3.2).
        let is_utf8 = !header.is_ascii() || (report.envelope.smtputf8 && !report.original.is_ascii());
        let is_global = is_utf8 && std::str::from_utf8(header).is_ok();
        if is_returned_whole(report) {
            let (media, encoding) = match (is_global, report.original.is_ascii(), travel) {
                (true, _, Travel::SmtpUtf8) => ("message/global", Transfer::EightBit),
                (true, _, Travel::Ascii) => ("message/global", Transfer::Base64),
                (false, false, _) => ("message/rfc822", Transfer::EightBit),
                (false, true, _) => ("message/rfc822", Transfer::SevenBit),
            };
            return Self { media, encoding, bytes: report.original };
        }
        let bytes = cut(header);
        let (media, encoding) = match (is_global, is_mailable(bytes), travel) {
            (true, true, _) if bytes.is_ascii() => ("text/rfc822-headers", Transfer::SevenBit),
            (true, true, Travel::SmtpUtf8) => ("message/global-headers", Transfer::EightBit),
            (true, _, _) => ("message/global-headers", Transfer::Base64),
            (false, true, _) if bytes.is_ascii() => ("text/rfc822-headers", Transfer::SevenBit),
            (false, _, _) => ("text/rfc822-headers", Transfer::Base64),
        };
        Self { media, encoding, bytes }
    }
}

/// RFC 3461 4.3 and 6.2: the whole of it for failures alone, and not if it was not wanted. The content of a binary
/// message cannot be sent on as text.
fn is_returned_whole(report: &Report<'_>) -> bool {
    report.extent == Extent::Whole
        && report.envelope.ret != Some(Ret::Headers)
        && report.envelope.body != BodyKind::BinaryMime
        && report.original.len() <= report.returned_bytes_max
        && report.fates.iter().any(|fate| fate.action == Action::Failed)
        && is_mailable(report.original)
}

/// Whether all lines end with CRLF and are short enough, and none has a NUL.
fn is_mailable(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = match (lines.peek().is_some(), line) {
            (true, [line @ .., b'\r']) => line,
            (true, _) => return false,
            (false, line) => line,
        };
        if line.len() > LINE_BYTES_MAX || memchr::memchr2(b'\r', 0, line).is_some() {
            return false;
        }
    }
    true
}

/// At the end of a line.
fn cut(header: &[u8]) -> &[u8] {
    if header.len() <= HEADER_BYTES_MAX {
        return header;
    }
    let end = memchr::memrchr(b'\n', &header[..HEADER_BYTES_MAX]).map_or(HEADER_BYTES_MAX, |at| at + 1);
    &header[..end]
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES_MAX, cut, is_mailable};

    #[test]
    fn lines_that_any_server_takes() {
        let long = ["x".repeat(998), "x".repeat(999)].map(String::into_bytes);
        let cases: [(&[u8], bool); 9] = [
            (b"", true),
            (b"a\r\n\r\nb", true),
            (b"a\nb", false),
            (b"a\rb\r\n", false),
            (b"a\r", false),
            (b"a\0b\r\n", false),
            (b"\xff\r\n", true),
            (&long[0], true),
            (&long[1], false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_mailable(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_long_header_is_cut_between_lines() {
        let header = "X-Long: words\r\n".repeat(10_000).into_bytes();
        let kept = cut(&header);
        assert!(kept.len() <= HEADER_BYTES_MAX && kept.ends_with(b"\r\n"));
        assert_eq!(kept.len() % 15, 0);
        assert_eq!(cut(&[b'x'; HEADER_BYTES_MAX + 1]).len(), HEADER_BYTES_MAX);
    }
}
