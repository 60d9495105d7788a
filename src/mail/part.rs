//! What a client asks of a message by section (RFC 9051 6.4.5.1).
//!
//! Numbers count the parts of a multipart. A message that is no multipart has one part, its body; so has a
//! message in a message. HEADER and TEXT of a numbered part are those of the message that it holds, MIME is
//! the header of the part itself.
//!
//! Invariant: a range that is given lies in the message.

use std::ops::Range;

use super::charset::has_plain_line_ends;
use super::header::{Header, subset, subset_not};
use super::mime::{Kind, Part, PartId, Structure};
use super::section::{Section, SectionText};
use super::transfer::{Encoding, for_each_piece};

/// Told for a NUL where none may be told (RFC 9051 9, CHAR8).
pub const NUL_STAND_IN: u8 = 0x80;

/// The bytes of a section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SectionBytes {
    /// They lie in the message.
    Range(Range<usize>),
    /// A subset of a header.
    Owned(Vec<u8>),
}

/// Why BINARY has no answer (RFC 3516 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BinaryError {
    /// There is no such part.
    Missing,
    /// A multipart or message has no content of its own.
    NotALeaf,
    /// NO [UNKNOWN-CTE].
    UnknownEncoding,
}

/// The content of a leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Nothing was encoded.
    Range(Range<usize>),
    Owned(Vec<u8>),
}

impl SectionBytes {
    pub fn bytes<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(range) => &message[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Decoded {
    pub fn bytes<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(range) => &message[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The bytes of `section`; `None` (NIL) if there is no such part.
pub fn section_bytes(structure: &Structure<'_>, section: &Section) -> Option<SectionBytes> {
    let id = find(structure, &section.part)?;
    let part = structure.part(id);
    let is_whole_message = section.part.is_empty();
    match section.text {
        SectionText::Whole if is_whole_message => Some(SectionBytes::Range(0..structure.message().len())),
        SectionText::Whole => Some(SectionBytes::Range(part.body.clone())),
        SectionText::Mime if is_whole_message => None,
        SectionText::Mime => Some(SectionBytes::Range(part.header.clone())),
        SectionText::Header => Some(SectionBytes::Range(message_of(structure, section)?.header.clone())),
        SectionText::Text => Some(SectionBytes::Range(message_of(structure, section)?.body.clone())),
        SectionText::HeaderFields(ref names) => {
            let header = structure.header(message_id_of(structure, section)?);
            Some(SectionBytes::Owned(subset(&header, names)))
        }
        SectionText::HeaderFieldsNot(ref names) => {
            let header = structure.header(message_id_of(structure, section)?);
            Some(SectionBytes::Owned(subset_not(&header, names)))
        }
    }
}

/// As [`section_bytes`] for a section of the message itself, whose parts do not matter; `None` for one of a part.
pub fn message_bytes(message: &[u8], section: &Section) -> Option<SectionBytes> {
    if !section.part.is_empty() {
        return None;
    }
    let header = || Header::of(message);
    match &section.text {
        SectionText::Whole => Some(SectionBytes::Range(0..message.len())),
        SectionText::Header => Some(SectionBytes::Range(0..header().len())),
        SectionText::Text => Some(SectionBytes::Range(header().len()..message.len())),
        SectionText::HeaderFields(names) => Some(SectionBytes::Owned(subset(&header(), names))),
        SectionText::HeaderFieldsNot(names) => Some(SectionBytes::Owned(subset_not(&header(), names))),
        SectionText::Mime => None,
    }
}

/// How long the header is that HEADER, TEXT and fields of a section are found by; 0 if there is no such message.
pub fn header_len(structure: &Structure<'_>, section: &Section) -> usize {
    message_of(structure, section).map_or(0, |part| part.header.len())
}

/// The part that the numbers of `BODY[1.2.3]` name; the message itself if there are none.
pub fn find(structure: &Structure<'_>, numbers: &[u32]) -> Option<PartId> {
    let mut at = PartId::MESSAGE;
    // Whether `at` stands for a message whose body is still to be numbered.
    let mut is_message = true;
    for &number in numbers {
        if !is_message && structure.part(at).kind == Kind::Message {
            at = structure.children(at).next()?;
            is_message = true;
        }
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        at = match structure.part(at).kind {
            Kind::Multipart => structure.children(at).nth(index)?,
            _ if is_message && index == 0 => at,
            _ => return None,
        };
        is_message = false;
    }
    Some(at)
}

/// `BINARY[part]`; without numbers, the whole message as it is.
pub fn binary(structure: &Structure<'_>, numbers: &[u32]) -> Result<Decoded, BinaryError> {
    if numbers.is_empty() {
        return Ok(Decoded::Range(0..structure.message().len()));
    }
    let (id, encoding) = leaf(structure, numbers)?;
    let part = structure.part(id);
    if encoding == Encoding::Identity {
        return Ok(Decoded::Range(part.body.clone()));
    }
    let mut decoded = Vec::with_capacity(part.body.len());
    for_each_content_piece(structure, id, encoding, |piece| decoded.extend_from_slice(piece));
    Ok(Decoded::Owned(decoded))
}

/// `BINARY.SIZE[part]`: the length of what [`binary`] gives, without holding it.
pub fn binary_len(structure: &Structure<'_>, numbers: &[u32]) -> Result<u64, BinaryError> {
    if numbers.is_empty() {
        return Ok(structure.message().len() as u64);
    }
    let (id, encoding) = leaf(structure, numbers)?;
    if encoding == Encoding::Identity {
        return Ok(structure.part(id).body.len() as u64);
    }
    let mut len = 0;
    for_each_content_piece(structure, id, encoding, |piece| len += piece.len() as u64);
    Ok(len)
}

fn leaf(structure: &Structure<'_>, numbers: &[u32]) -> Result<(PartId, Encoding), BinaryError> {
    let id = find(structure, numbers).ok_or(BinaryError::Missing)?;
    let part = structure.part(id);
    match part.kind {
        Kind::Multipart | Kind::Message => Err(BinaryError::NotALeaf),
        Kind::Text | Kind::Basic => Ok((id, part.transfer().ok_or(BinaryError::UnknownEncoding)?)),
    }
}

/// The decoded content in pieces. RFC 3516 6: the lines of text end in CRLF whatever was encoded, where its charset has
/// lines of octets.
fn for_each_content_piece(
    structure: &Structure<'_>,
    id: PartId,
    encoding: Encoding,
    mut take: impl FnMut(&[u8]),
) {
    let part = structure.part(id);
    let charset = part.media.parameter("charset");
    let is_mended = part.kind == Kind::Text && has_plain_line_ends(charset.as_deref());
    let mut last = 0;
    for_each_piece(encoding, structure.body(id), |piece| {
        if !is_mended {
            take(piece);
            return true;
        }
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let before_end = text.last().copied().unwrap_or(last);
            take(text);
            if text.len() < line.len() {
                take(if before_end == b'\r' { b"\n" } else { b"\r\n" });
            }
            last = *line.last().expect("pieces of a split hold something");
        }
        true
    });
}

/// The message that HEADER and TEXT of a section are of: the message itself, or the one in the part.
fn message_id_of(structure: &Structure<'_>, section: &Section) -> Option<PartId> {
    let id = find(structure, &section.part)?;
    match section.part.is_empty() {
        true => Some(id),
        false if structure.part(id).kind == Kind::Message => structure.children(id).next(),
        false => None,
    }
}

fn message_of<'a>(structure: &'a Structure<'_>, section: &Section) -> Option<&'a Part<'a>> {
    message_id_of(structure, section).map(|id| structure.part(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{BinaryError, binary, binary_len, message_bytes, section_bytes};
    use crate::mail::mime::Structure;
    use crate::mail::section::{Section, SectionText};

    const MESSAGE: &[u8] = b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n\
        --b\r\nX-Part: 1\r\n\r\none\r\n\
        --b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\ntwo.one\r\n--c\r\n\r\ntwo.two\r\n--c--\r\n\
        --b\r\nContent-Type: message/rfc822\r\nX-Part: 3\r\n\r\nSubject: single\r\nX-Other: x\r\n\r\nthree.one\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n--d\r\n\r\nfour.one\r\n\
        --d\r\nContent-Type: message/rfc822\r\n\r\nSubject: deep\r\n\r\nfour.two.one\r\n--d--\r\n--b--\r\n";

    fn section(part: &[u32], text: SectionText) -> Section {
        Section { part: part.to_vec(), text }
    }

    fn shown(message: &[u8], section: &Section) -> String {
        let structure = Structure::of(message);
        let found = section_bytes(&structure, section);
        if let Some(alone) = message_bytes(message, section) {
            assert_eq!(Some(alone), found, "{section:?}");
        }
        found.map_or("NIL".to_owned(), |found| found.bytes(message).escape_ascii().to_string())
    }

    #[test]
    fn numbers() {
        let cases: [(&[u32], &str); 22] = [
            (&[1], "one"),
            (&[2, 1], "two.one"),
            (&[2, 2], "two.two"),
            (&[2], "--c\\r\\n\\r\\ntwo.one\\r\\n--c\\r\\n\\r\\ntwo.two\\r\\n--c--"),
            (&[3], "Subject: single\\r\\nX-Other: x\\r\\n\\r\\nthree.one"),
            (&[3, 1], "three.one"),
            (&[4, 1], "four.one"),
            (&[4, 2], "Subject: deep\\r\\n\\r\\nfour.two.one"),
            (&[4, 2, 1], "four.two.one"),
            (&[0], "NIL"),
            (&[5], "NIL"),
            (&[1, 1], "NIL"),
            (&[2, 3], "NIL"),
            (&[2, 1, 1], "NIL"),
            (&[3, 2], "NIL"),
            (&[3, 1, 1], "NIL"),
            (&[4, 3], "NIL"),
            (&[4, 2, 2], "NIL"),
            (&[4, 2, 1, 1], "NIL"),
            (&[1, 0], "NIL"),
            (&[u32::MAX], "NIL"),
            (&[4, 0], "NIL"),
        ];
        for (part, expected) in cases {
            assert_eq!(shown(MESSAGE, &section(part, SectionText::Whole)), expected, "{part:?}");
        }
    }

    #[test]
    fn the_message_itself_needs_no_structure() {
        let texts = [
            SectionText::Whole,
            SectionText::Header,
            SectionText::Text,
            SectionText::HeaderFields(vec!["to".to_owned()]),
            SectionText::HeaderFieldsNot(vec!["to".to_owned()]),
        ];
        let messages: [&[u8]; 7] =
            [b"", b"\r\n", b"To: b", b"To: b\r\n", b"To: b\r\n\r\n", b"\r\nTo: b\r\n\r\n", MESSAGE];
        for message in messages {
            for text in &texts {
                assert_ne!(shown(message, &section(&[], text.clone())), "NIL");
                assert!(message_bytes(message, &section(&[], text.clone())).is_some());
            }
        }
    }

    #[test]
    fn texts_of_parts() {
        let fields =
            |names: &[&str]| SectionText::HeaderFields(names.iter().map(|name| (*name).to_owned()).collect());
        let fields_not = |names: &[&str]| {
            SectionText::HeaderFieldsNot(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let cases: [(&[u32], SectionText, &str); 15] = [
            (
                &[],
                SectionText::Header,
                "Subject: outer\\r\\nContent-Type: multipart/mixed; boundary=b\\r\\n\\r\\n",
            ),
            (&[], SectionText::Mime, "NIL"),
            (&[], fields(&["SUBJECT"]), "Subject: outer\\r\\n\\r\\n"),
            (&[], fields_not(&["content-type"]), "Subject: outer\\r\\n\\r\\n"),
            (&[1], SectionText::Mime, "X-Part: 1\\r\\n\\r\\n"),
            (&[1], SectionText::Header, "NIL"),
            (&[1], SectionText::Text, "NIL"),
            (&[2], SectionText::Text, "NIL"),
            (&[2, 1], SectionText::Mime, "\\r\\n"),
            (&[3], SectionText::Mime, "Content-Type: message/rfc822\\r\\nX-Part: 3\\r\\n\\r\\n"),
            (&[3], SectionText::Header, "Subject: single\\r\\nX-Other: x\\r\\n\\r\\n"),
            (&[3], SectionText::Text, "three.one"),
            (&[3], fields_not(&["subject"]), "X-Other: x\\r\\n\\r\\n"),
            (&[4, 2], fields(&["subject"]), "Subject: deep\\r\\n\\r\\n"),
            (&[9], fields(&["subject"]), "NIL"),
        ];
        for (part, text, expected) in cases {
            assert_eq!(shown(MESSAGE, &section(part, text.clone())), expected, "{part:?} {text:?}");
        }
    }

    #[test]
    fn a_message_without_parts_has_one() {
        let message = b"Subject: x\r\n\r\nbody";
        let cases: [(&[u32], SectionText, &str); 7] = [
            (&[], SectionText::Whole, "Subject: x\\r\\n\\r\\nbody"),
            (&[], SectionText::Text, "body"),
            (&[1], SectionText::Whole, "body"),
            (&[1], SectionText::Mime, "Subject: x\\r\\n\\r\\n"),
            (&[1], SectionText::Header, "NIL"),
            (&[2], SectionText::Whole, "NIL"),
            (&[1, 1], SectionText::Whole, "NIL"),
        ];
        for (part, text, expected) in cases {
            assert_eq!(shown(message, &section(part, text.clone())), expected, "{part:?} {text:?}");
        }
        let forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody";
        assert_eq!(shown(forwarded, &section(&[1], SectionText::Header)), "Subject: in\\r\\n\\r\\n");
        assert_eq!(shown(forwarded, &section(&[1, 1], SectionText::Whole)), "body");
        assert_eq!(shown(forwarded, &section(&[1, 1, 1], SectionText::Whole)), "NIL");
        for (message, header) in [(&b""[..], ""), (b"a: b\r\n", "a: b\\r\\n"), (b"\r\n", "\\r\\n")] {
            assert_eq!(shown(message, &section(&[], SectionText::Header)), header);
            assert_eq!(shown(message, &section(&[], SectionText::Text)), "");
            assert_eq!(shown(message, &section(&[1], SectionText::Whole)), "");
        }
    }

    #[test]
    fn decoded_parts() {
        let message = |encoding: &str, kind: &str, body: &str| {
            format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}")
        };
        let cases = [
            ("7bit", "text/plain", "a=3D\r\n", Ok("a=3D\\r\\n")),
            ("Quoted-Printable", "text/plain", "a=3D=\r\nb\r\n", Ok("a=b\\r\\n")),
            ("base64 (x)", "image/png", "AAEK/w==", Ok("\\x00\\x01\\n\\xff")),
            ("base64", "text/plain", "YQpiDQpjCg==", Ok("a\\r\\nb\\r\\nc\\r\\n")),
            ("base64", "text/plain; charset=iso-2022-jp", "YQpi", Ok("a\\r\\nb")),
            ("base64", "text/plain; charset=utf-16le", "YQAKAA==", Ok("a\\x00\\n\\x00")),
            ("base64", "text/plain; charset=\"UTF-32BE\"", "AAAACg==", Ok("\\x00\\x00\\x00\\n")),
            ("x-uue", "text/plain", "a", Err(BinaryError::UnknownEncoding)),
            ("7bit", "message/rfc822", "a", Err(BinaryError::NotALeaf)),
        ];
        for (encoding, kind, body, expected) in cases {
            let message = message(encoding, kind, body);
            let structure = Structure::of(message.as_bytes());
            let found = binary(&structure, &[1]);
            let len = binary_len(&structure, &[1]);
            let shown = found.map(|decoded| decoded.bytes(message.as_bytes()).to_vec());
            assert_eq!(len, shown.as_ref().map(|bytes| bytes.len() as u64).map_err(|error| *error));
            assert_eq!(
                shown.map(|bytes| bytes.escape_ascii().to_string()),
                expected.map(str::to_owned),
                "{message}"
            );
        }
        let structure = Structure::of(MESSAGE);
        assert_eq!(binary(&structure, &[2]), Err(BinaryError::NotALeaf));
        assert_eq!(binary(&structure, &[7]), Err(BinaryError::Missing));
        assert_eq!(binary_len(&structure, &[]), Ok(MESSAGE.len() as u64));
    }

    proptest! {
        #[test]
        fn lengths_agree(body in "[=0A-F \r\n\t]{0,40}", junk in any::<Vec<u8>>(), is_base64 in any::<bool>()) {
            let encoding = if is_base64 { "base64" } else { "quoted-printable" };
            let mut message = format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}").into_bytes();
            message.extend(junk);
            let structure = Structure::of(&message);
            let decoded = binary(&structure, &[1]).expect("a leaf");
            assert_eq!(binary_len(&structure, &[1]), Ok(decoded.bytes(&message).len() as u64));
        }
    }
}
