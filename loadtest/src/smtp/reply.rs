//! Replies of SMTP servers (RFC 5321, section 4.2), as they come.

/// One line of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub code: u16,
    pub is_last: bool,
    pub text: &'a [u8],
    /// With the end of the line.
    pub bytes: usize,
}

/// What stands at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Line(Line<'a>),
    Partial,
    /// No server of mail says that.
    Garbage,
}

/// No line of a reply is longer.
const LINE_BYTES_MAX: usize = 4096;

pub fn find(input: &[u8]) -> Found<'_> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > LINE_BYTES_MAX { Found::Garbage } else { Found::Partial };
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let (Some(digits), separator) = (line.get(..3), line.get(3)) else {
        return Found::Garbage;
    };
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(separator, None | Some(b' ' | b'-')) {
        return Found::Garbage;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let text = line.get(4..).unwrap_or_default();
    Found::Line(Line { code, is_last: separator != Some(&b'-'), text, bytes: end + 1 })
}

/// The name under which the server knows the message, as most say it: `250 2.0.0 Ok: queued as 4ABC`,
/// `250 OK id=1abc-2`, `250 2.0.0: 1abc Message accepted for delivery`.
pub fn queue_id(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let marked = ["queued as ", "id="].iter().find_map(|mark| text.split_once(mark)).map(|(_, rest)| rest);
    let rest = marked.unwrap_or_else(|| text.trim_start_matches("2.0.0").trim_start_matches([':', ' ']));
    rest.split_whitespace().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Found, find, queue_id};

    #[test]
    fn lines_are_found() {
        let Found::Line(line) = find(b"250-PIPELINING\r\n250 SIZE\r\n") else { panic!("there is a line") };
        assert_eq!((line.code, line.is_last, line.text, line.bytes), (250, false, &b"PIPELINING"[..], 16));
        let Found::Line(line) = find(b"250\n") else { panic!("there is a line") };
        assert_eq!((line.code, line.is_last, line.bytes), (250, true, 4));
        assert_eq!(find(b"250 O"), Found::Partial);
        assert_eq!(find(b"HTTP/1.1 400\r\n"), Found::Garbage);
        assert_eq!(find(&[b'x'; 5000]), Found::Garbage);
    }

    #[test]
    fn queue_ids_are_found() {
        assert_eq!(queue_id(b"2.0.0 Ok: queued as 4AC1F"), "4AC1F");
        assert_eq!(queue_id(b"OK id=1rT-00-2k"), "1rT-00-2k");
        assert_eq!(queue_id(b"2.0.0: 7f3a Message accepted for delivery"), "7f3a");
    }
}
