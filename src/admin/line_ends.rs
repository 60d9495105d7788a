//! Line ends: CRLF inside, LF in other programs' files.

use memchr::{memchr2, memmem};

/// `bytes` with CRLF at the end of every line, whatever ended them before.
pub fn to_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    let mut rest = bytes;
    while let Some(end) = memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(b"\r\n");
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    out.extend_from_slice(rest);
    out
}

/// `bytes` with LF in place of each CRLF.
pub fn to_lf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for pair in memmem::find_iter(bytes, b"\r\n") {
        out.extend_from_slice(&bytes[from..pair]);
        from = pair + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::{to_crlf, to_lf};

    #[test]
    fn both_ways() {
        let table: [(&[u8], &[u8], &[u8]); 7] = [
            (b"", b"", b""),
            (b"a", b"a", b"a"),
            (b"a\nb\n", b"a\r\nb\r\n", b"a\nb\n"),
            (b"a\r\nb\r\n", b"a\r\nb\r\n", b"a\nb\n"),
            (b"a\rb\n\r", b"a\r\nb\r\n\r\n", b"a\nb\n\n"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n", b"\n\n\n"),
            (b"\n", b"\r\n", b"\n"),
        ];
        for (bytes, crlf, lf) in table {
            assert_eq!(to_crlf(bytes), crlf, "{bytes:?}");
            assert_eq!(to_lf(&to_crlf(bytes)), lf, "{bytes:?}");
        }
        assert_eq!(to_lf(b"a\rb\nc\r\n"), b"a\rb\nc\n");
    }
}
