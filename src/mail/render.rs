//! What IMAP says of a message: ENVELOPE, BODY and BODYSTRUCTURE (RFC 9051 7.5.2), in wire form.
//!
//! ```text
//! ENVELOPE      (date subject from sender reply-to to cc bcc in-reply-to message-id)
//! address       (name route mailbox host)       a group: (NIL NIL name NIL) … (NIL NIL NIL NIL)
//! leaf          (type subtype parameters id description encoding octets [lines] [md5 …])
//! message       (type subtype parameters id description encoding octets envelope body lines [md5 …])
//! multipart     (part… subtype [parameters …])
//! …             disposition language location
//! ```
//!
//! Values are those of the fields, unfolded; RFC 2047 is left to the client. Of a field that is there several
//! times the first counts. Where RFC 9051 has servers decode RFC 2231 parameters, the form of IMAP4rev1 only
//! joins their sections, so that it stays in ASCII and clients of that age can read it.
//!
//! Invariants: the form [`Form::Ascii`] holds octets over 127 in literals alone; NUL, CR and LF never leave
//! inside a string; recursion is as deep as `limits::mime::NESTING_MAX`; past `limits::mime::STRUCTURE_BYTES_MAX`
//! parts are told of in a few octets each, and always in the same.

use std::borrow::Cow;

use memchr::memchr3_iter;

use super::address_list::{Entry, Mailbox, entries};
use super::content::{Extended, disposition, first_token, joined_parameters};
use super::header::{Field, Header, unfold};
use super::mime::{Kind, Part, PartId, Structure};
use crate::limits::mime::STRUCTURE_BYTES_MAX;

/// Longer strings go as literals, since some clients read a line into a buffer.
const QUOTED_BYTES_MAX: usize = 2048;

/// How strings outside of ASCII travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// IMAP4rev1: as literals. `message/global` is a leaf like any other.
    Ascii,
    /// IMAP4rev2 or UTF8=ACCEPT: UTF-8 in quoted strings.
    Utf8,
}

/// Whether a BODYSTRUCTURE in the form [`Form::Ascii`] may be another one in [`Form::Utf8`], and BODY with it: it tells
/// of a `message/global`, which that form takes apart, or of a parameter `name*`, which that form decodes.
pub fn may_differ(body_structure: &[u8]) -> bool {
    const GLOBAL: &[u8] = b"\"global\"";
    let is_global = |at: usize| {
        let from = at.saturating_sub(1);
        body_structure.get(from..from + GLOBAL.len()).is_some_and(|text| text.eq_ignore_ascii_case(GLOBAL))
    };
    // Where a name ends, quoted or in a literal.
    let ends_name = |at: usize| matches!(body_structure.get(at + 1), Some(b'"' | b' '));
    memchr3_iter(b'g', b'G', b'*', body_structure).any(|at| match body_structure[at] {
        b'*' => ends_name(at),
        _ => is_global(at),
    })
}

/// Appends the parenthesised ENVELOPE.
pub fn envelope(header: &Header<'_>, form: Form, out: &mut Vec<u8>) {
    let mut fields = EnvelopeFields::default();
    header.fields().for_each(|field| fields.take(&field));
    fields.render(form, out);
}

/// Appends the value of BODY: no extension data.
pub fn body(structure: &Structure<'_>, form: Form, out: &mut Vec<u8>) {
    Parts { structure, form, has_extensions: false, start: out.len() }.push(PartId::MESSAGE, out);
}

/// Appends the value of BODYSTRUCTURE.
pub fn body_structure(structure: &Structure<'_>, form: Form, out: &mut Vec<u8>) {
    Parts { structure, form, has_extensions: true, start: out.len() }.push(PartId::MESSAGE, out);
}

/// Appends `value` as a string: quoted where it can be, else a literal. NUL, CR and LF become spaces.
pub fn string(value: &[u8], form: Form, out: &mut Vec<u8>) {
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        let replaced = value.iter().map(|&byte| if matches!(byte, 0 | b'\r' | b'\n') { b' ' } else { byte });
        return string(&replaced.collect::<Vec<_>>(), form, out);
    }
    let is_text = value.is_ascii() || (form == Form::Utf8 && std::str::from_utf8(value).is_ok());
    if !is_text || value.len() > QUOTED_BYTES_MAX {
        out.extend_from_slice(format!("{{{}}}\r\n", value.len()).as_bytes());
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    if value.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        for &byte in value {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
    } else {
        out.extend_from_slice(value);
    }
    out.push(b'"');
}

/// A raw field value as a string, NIL without the field.
fn field_string(value: Option<&[u8]>, form: Form, out: &mut Vec<u8>) {
    match value {
        Some(value) => string(&unfold(value), form, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

fn number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The raw values that an ENVELOPE is made of; of several fields with one name, the first.
#[derive(Default)]
pub(super) struct EnvelopeFields<'a> {
    pub(super) date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    sender: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cc: Option<&'a [u8]>,
    bcc: Option<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
}

impl<'a> EnvelopeFields<'a> {
    pub(super) fn take(&mut self, field: &Field<'a>) {
        let is = |name: &str| field.is_named(name);
        let slot = match field.name.len() {
            2 if is("to") => &mut self.to,
            2 if is("cc") => &mut self.cc,
            3 if is("bcc") => &mut self.bcc,
            4 if is("from") => &mut self.from,
            4 if is("date") => &mut self.date,
            6 if is("sender") => &mut self.sender,
            7 if is("subject") => &mut self.subject,
            8 if is("reply-to") => &mut self.reply_to,
            10 if is("message-id") => &mut self.message_id,
            11 if is("in-reply-to") => &mut self.in_reply_to,
            _ => return,
        };
        slot.get_or_insert(field.value);
    }

    pub(super) fn render(&self, form: Form, out: &mut Vec<u8>) {
        out.push(b'(');
        field_string(self.date, form, out);
        out.push(b' ');
        field_string(self.subject, form, out);
        out.push(b' ');
        let from = out.len();
        addresses(self.from, form, out);
        let from = from..out.len();
        // RFC 9051 7.5.2: without Sender or Reply-To, or with an empty one, From stands there again.
        for field in [self.sender, self.reply_to] {
            out.push(b' ');
            if !addresses(field, form, out) {
                out.truncate(out.len() - b"NIL".len());
                out.extend_from_within(from.clone());
            }
        }
        for field in [self.to, self.cc, self.bcc] {
            out.push(b' ');
            addresses(field, form, out);
        }
        for field in [self.in_reply_to, self.message_id] {
            out.push(b' ');
            field_string(field, form, out);
        }
        out.push(b')');
    }
}

/// An address list; NIL, and `false`, if there is none or nothing in it.
fn addresses(value: Option<&[u8]>, form: Form, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(b'(');
    for entry in value.into_iter().flat_map(entries) {
        match entry {
            Entry::Mailbox(mailbox) => address(&mailbox, form, out),
            Entry::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                string(&name, form, out);
                out.extend_from_slice(b" NIL)");
            }
            Entry::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
        }
    }
    let is_empty = out.len() == start + 1;
    if is_empty {
        out.truncate(start);
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b')');
    }
    !is_empty
}

fn address(mailbox: &Mailbox<'_>, form: Form, out: &mut Vec<u8>) {
    out.push(b'(');
    for part in [&mailbox.name, &mailbox.route] {
        match part {
            Some(part) => string(part, form, out),
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
    }
    string(&mailbox.local, form, out);
    out.push(b' ');
    // Never NIL, since that would begin a group.
    string(&mailbox.domain, form, out);
    out.push(b')');
}

struct Parts<'a> {
    structure: &'a Structure<'a>,
    form: Form,
    has_extensions: bool,
    /// Where in the output the structure begins.
    start: usize,
}

impl Parts<'_> {
    fn push(&self, id: PartId, out: &mut Vec<u8>) {
        let part = self.structure.part(id);
        let undescribed = self.is_full(out).then(|| part.without_description());
        let part = undescribed.as_ref().unwrap_or(part);
        out.push(b'(');
        match part.kind {
            Kind::Multipart => self.push_multipart(id, part, out),
            _ => self.push_leaf(id, part, out),
        }
        out.push(b')');
    }

    /// Ten thousand parts with long fields would make an answer as large as the message.
    fn is_full(&self, out: &[u8]) -> bool {
        out.len() - self.start > STRUCTURE_BYTES_MAX
    }

    fn push_multipart(&self, id: PartId, part: &Part<'_>, out: &mut Vec<u8>) {
        for child in self.structure.children(id) {
            self.push(child, out);
        }
        out.push(b' ');
        string(part.media.subtype, self.form, out);
        if self.has_extensions {
            out.push(b' ');
            self.push_parameters(part.media.parameters, out);
            self.push_extensions(part, out);
        }
    }

    fn push_leaf(&self, id: PartId, part: &Part<'_>, out: &mut Vec<u8>) {
        let fields = &part.fields;
        string(part.media.name, self.form, out);
        out.push(b' ');
        string(part.media.subtype, self.form, out);
        out.push(b' ');
        self.push_parameters(part.media.parameters, out);
        out.push(b' ');
        field_string(fields.id, self.form, out);
        out.push(b' ');
        field_string(fields.description, self.form, out);
        out.push(b' ');
        string(part.encoding_name(), self.form, out);
        out.push(b' ');
        number(part.body.len() as u64, out);
        match part.kind {
            Kind::Message if self.form == Form::Utf8 || part.media.is("message", "rfc822") => {
                self.push_message(id, out);
            }
            Kind::Text => {
                out.push(b' ');
                number(self.structure.lines(id), out);
            }
            _ => {}
        }
        if self.has_extensions {
            out.push(b' ');
            field_string(fields.md5, self.form, out);
            self.push_extensions(part, out);
        }
    }

    /// Envelope, body and lines of the message that a part holds.
    fn push_message(&self, id: PartId, out: &mut Vec<u8>) {
        for child in self.structure.children(id) {
            let header = match self.is_full(out) {
                true => Header::of(b""),
                false => self.structure.header(child),
            };
            out.push(b' ');
            envelope(&header, self.form, out);
            out.push(b' ');
            self.push(child, out);
        }
        out.push(b' ');
        number(self.structure.lines(id), out);
    }

    fn push_parameters(&self, rest: &[u8], out: &mut Vec<u8>) {
        let extended = match self.form {
            Form::Ascii => Extended::Joined,
            Form::Utf8 => Extended::Decoded,
        };
        let parameters = joined_parameters(rest, extended);
        if parameters.is_empty() {
            return out.extend_from_slice(b"NIL");
        }
        for (index, parameter) in parameters.iter().enumerate() {
            out.push(if index == 0 { b'(' } else { b' ' });
            string(&parameter.name, self.form, out);
            out.push(b' ');
            string(&parameter.value, self.form, out);
        }
        out.push(b')');
    }

    /// Disposition, language and location.
    fn push_extensions(&self, part: &Part<'_>, out: &mut Vec<u8>) {
        out.push(b' ');
        match part.fields.disposition.and_then(disposition) {
            Some((name, rest)) => {
                out.push(b'(');
                string(name, self.form, out);
                out.push(b' ');
                self.push_parameters(rest, out);
                out.push(b')');
            }
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
        self.push_languages(part.fields.language, out);
        out.push(b' ');
        field_string(part.fields.location, self.form, out);
    }

    /// RFC 3282: one tag as a string, several as a list.
    fn push_languages(&self, value: Option<&[u8]>, out: &mut Vec<u8>) {
        let value = value.map_or(Cow::default(), unfold);
        let tags: Vec<_> = value.split(|byte| *byte == b',').filter_map(first_token).collect();
        match tags[..] {
            [] => out.extend_from_slice(b"NIL"),
            [tag] => string(tag, self.form, out),
            _ => {
                for (index, tag) in tags.iter().enumerate() {
                    out.push(if index == 0 { b'(' } else { b' ' });
                    string(tag, self.form, out);
                }
                out.push(b')');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Form, STRUCTURE_BYTES_MAX, body, body_structure, envelope, may_differ, string};
    use crate::mail::header::Header;
    use crate::mail::mime::Structure;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
    }

    #[test]
    fn strings() {
        let cases: [(&[u8], &str, &str); 7] = [
            (b"", "\"\"", "\"\""),
            (b"a\"b\\c", "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\""),
            (b"a\0b\rc\nd", "\"a b c d\"", "\"a b c d\""),
            (b"=?utf-8?Q?x?=", "\"=?utf-8?Q?x?=\"", "\"=?utf-8?Q?x?=\""),
            ("ä".as_bytes(), "{2}\r\nä", "\"ä\""),
            (b"\xE4", "{1}\\r\\n\\xe4", "{1}\\r\\n\\xe4"),
            ("ä\n\"".as_bytes(), "{4}\r\nä \"", "\"ä \\\"\""),
        ];
        for (value, ascii, utf8) in cases {
            assert_eq!(text(|out| string(value, Form::Ascii, out)), ascii);
            assert_eq!(text(|out| string(value, Form::Utf8, out)), utf8);
        }
        assert!(text(|out| string(&[b'x'; 5000], Form::Utf8, out)).starts_with("{5000}\r\nxxx"));
    }

    #[test]
    fn envelopes() {
        const A: &str = r#"((NIL NIL "a" "b"))"#;
        let cases = [
            ("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)".to_owned()),
            ("From: a@b\r\n", format!("(NIL NIL {A} {A} {A} NIL NIL NIL NIL NIL)")),
            ("From: a@b\r\nSender:\r\nReply-To: c@d\r\n", format!(r#"(NIL NIL {A} {A} ((NIL NIL "c" "d")) NIL NIL NIL NIL NIL)"#)),
            ("Sender: a@b\r\n", format!("(NIL NIL NIL {A} NIL NIL NIL NIL NIL NIL)")),
            ("Subject:\r\nDate: \r\nTo:\r\nCc: ,\r\n", r#"("" "" NIL NIL NIL NIL NIL NIL NIL NIL)"#.to_owned()),
            ("subject: folded\r\n\tand \"quoted\"\r\nSubject: again\r\n",
                "(NIL \"folded\tand \\\"quoted\\\"\" NIL NIL NIL NIL NIL NIL NIL NIL)".to_owned()),
            ("Subject: =?utf-8?Q?K=C3=A4se?=\r\n", r#"(NIL "=?utf-8?Q?K=C3=A4se?=" NIL NIL NIL NIL NIL NIL NIL NIL)"#.to_owned()),
            ("Subject: Käse\r\n", "(NIL {5}\r\nKäse NIL NIL NIL NIL NIL NIL NIL NIL)".to_owned()),
            ("To: Group: a@b, \"C, D\" <c@d>;, e@f\r\n",
                r#"(NIL NIL NIL NIL NIL ((NIL NIL "Group" NIL)(NIL NIL "a" "b")("C, D" NIL "c" "d")(NIL NIL NIL NIL)(NIL NIL "e" "f")) NIL NIL NIL NIL)"#.to_owned()),
            ("Bcc: hidden:;\r\n", r#"(NIL NIL NIL NIL NIL NIL NIL ((NIL NIL "hidden" NIL)(NIL NIL NIL NIL)) NIL NIL)"#.to_owned()),
            ("To: \"a b\"@c, <@x,@y:z@w>, root\r\n",
                r#"(NIL NIL NIL NIL NIL ((NIL NIL "a b" "c")(NIL "@x,@y" "z" "w")(NIL NIL "root" "")) NIL NIL NIL NIL)"#.to_owned()),
            ("Message-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\n <2@x>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n",
                r#"("Tue, 24 Nov 2026 10:00:00 +0000" NIL NIL NIL NIL NIL NIL NIL "<0@x> <2@x>" "<1@x>")"#.to_owned()),
        ];
        for (fields, expected) in cases {
            let header = Header::of(fields.as_bytes());
            assert_eq!(text(|out| envelope(&header, Form::Ascii, out)), expected, "{fields}");
        }
        let header = Header::of("Subject: Käse\r\n".as_bytes());
        assert_eq!(
            text(|out| envelope(&header, Form::Utf8, out)),
            "(NIL \"Käse\" NIL NIL NIL NIL NIL NIL NIL NIL)"
        );
    }

    #[test]
    fn structures() {
        const NONE: &str = "NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL";
        let cases = [
            ("\r\none\r\ntwo", r#"("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 8 2 NIL NIL NIL NIL)"#.to_owned()),
            ("Content-Type: text/html\r\nContent-Transfer-Encoding: Quoted-Printable\r\nContent-ID: <x@y>\r\nContent-Description: a\r\n b\r\nContent-MD5: abc==\r\nContent-Disposition: inline\r\nContent-Language: en\r\nContent-Location: http://x\r\n\r\n",
                r#"("text" "html" NIL "<x@y>" "a b" "Quoted-Printable" 0 0 "abc==" ("inline" NIL) "en" "http://x")"#.to_owned()),
            ("Content-Type: image/png; name=\"a\\\"b\"\r\nContent-Disposition: attachment; filename=x; size=3\r\nContent-Language: en, de\r\nContent-Transfer-Encoding: x-odd\r\n\r\nabc",
                r#"("image" "png" ("name" "a\"b") NIL NIL "x-odd" 3 NIL ("attachment" ("filename" "x" "size" "3")) ("en" "de") NIL)"#.to_owned()),
            ("Content-Type: text/plain; a*0=x; a*1=y; f*0*=utf-8''%C3; f*1*=%A4\r\n\r\n",
                r#"("text" "plain" ("a" "xy" "f*" "utf-8''%C3%A4") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL)"#.to_owned()),
            ("Content-Type: multipart/mixed; boundary=b\r\nContent-Disposition: inline\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf\r\n\r\ny\r\n--b--",
                r#"(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 1 NIL NIL NIL NIL)("application" "pdf" NIL NIL NIL "7BIT" 1 NIL NIL NIL NIL) "mixed" ("boundary" "b") ("inline" NIL) NIL NIL)"#.to_owned()),
            ("Content-Type: multipart/mixed\r\n\r\nlost",
                r#"(("TEXT" "PLAIN" NIL NIL NIL "7BIT" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)"#.to_owned()),
            ("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--",
                r#"(("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 16 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL) "digest" ("boundary" "b") NIL NIL NIL)"#.to_owned()),
            ("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n",
                format!(r#"("message" "rfc822" NIL NIL NIL "base64" 6 ({NONE}) ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL) 1 NIL NIL NIL NIL)"#)),
            ("Content-Type: message/global\r\n\r\n\r\nx", r#"("message" "global" NIL NIL NIL "7BIT" 3 NIL NIL NIL NIL)"#.to_owned()),
        ];
        for (message, expected) in cases {
            let structure = Structure::of(message.as_bytes());
            assert_eq!(text(|out| body_structure(&structure, Form::Ascii, out)), expected, "{message}");
        }
    }

    #[test]
    fn bodies_have_no_extensions() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--";
        let structure = Structure::of(message.as_bytes());
        let expected = r#"(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 1) "mixed")"#;
        assert_eq!(text(|out| body(&structure, Form::Ascii, out)), expected);
    }

    #[test]
    fn the_form_of_rev2() {
        let cases = [
            (
                "Content-Type: Message/GLOBAL\r\n\r\n\r\n",
                r#"("Message" "GLOBAL" NIL NIL NIL "7BIT" 2 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 0 0) 1)"#,
            ),
            (
                "Content-Type: message/global\r\n\r\nSubject: ä\r\n\r\nx",
                r#"("message" "global" NIL NIL NIL "7BIT" 16 (NIL "ä" NIL NIL NIL NIL NIL NIL NIL NIL) ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 1) 3)"#,
            ),
            (
                "Content-Type: text/plain; f*0*=iso-8859-1'de'%E4; f*1=b\r\n\r\n",
                r#"("text" "plain" ("f*" "äb") NIL NIL "7BIT" 0 0)"#,
            ),
        ];
        for (message, expected) in cases {
            let structure = Structure::of(message.as_bytes());
            assert_eq!(text(|out| body(&structure, Form::Utf8, out)), expected, "{message}");
            let mut ascii = Vec::new();
            body_structure(&structure, Form::Ascii, &mut ascii);
            let is_other = expected.to_lowercase().contains("global") || expected.contains("\"f*\"");
            assert_eq!(may_differ(&ascii), is_other, "{message}");
        }
    }

    #[test]
    fn where_the_two_forms_differ_is_known() {
        let table = [
            ("Content-Type: text/plain; a*=utf-8''%C3%A4", true),
            ("Content-Type: text/plain\r\nContent-Disposition: x; a*0*=utf-8''%C3; a*1*=%A4", true),
            ("Content-Type: a/b; a*0=x; a*1=y\r\nContent-Disposition: x; b=\"*.txt\"", false),
            ("Content-Type: application/ogg; go=gg", false),
        ];
        for (header, expected) in table {
            let message = format!("{header}\r\n\r\n");
            let structure = Structure::of(message.as_bytes());
            let (mut ascii, mut utf8) = (Vec::new(), Vec::new());
            body_structure(&structure, Form::Ascii, &mut ascii);
            body_structure(&structure, Form::Utf8, &mut utf8);
            assert_eq!((may_differ(&ascii), ascii != utf8), (expected, expected), "{message}");
        }
        let long = format!("Content-Type: a/b; {}*=utf-8''%C3%A4\r\n\r\n", "x".repeat(3000));
        let mut ascii = Vec::new();
        body_structure(&Structure::of(long.as_bytes()), Form::Ascii, &mut ascii);
        assert!(may_differ(&ascii));
    }

    #[test]
    fn structures_are_bounded() {
        let fields =
            "Content-Type: image/png; a=\"".to_owned() + &"x".repeat(2000) + "\"\r\nContent-ID: y\r\n\r\n";
        let parts = |part: &str| {
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned()
                + &format!("--b\r\n{part}\r\n").repeat(9_000)
        };
        let nested =
            "Content-Type: message/rfc822\r\n\r\nSubject: ".to_owned() + &"x".repeat(2000) + "\r\n\r\n";
        for message in [parts(&fields), parts(&nested)] {
            let out = text(|out| body_structure(&Structure::of(message.as_bytes()), Form::Ascii, out));
            assert!(
                out.len() > STRUCTURE_BYTES_MAX && out.len() < STRUCTURE_BYTES_MAX + (2 << 20),
                "{}",
                out.len()
            );
        }
    }

    /// Reads one parenthesised value as a client does; `None` where it is broken off or has something else in it.
    fn skip_value(mut rest: &[u8]) -> Option<&[u8]> {
        let mut depth = 0_usize;
        loop {
            match rest {
                [b'(', after @ ..] => {
                    depth += 1;
                    rest = after;
                }
                [b')', after @ ..] if depth == 1 => return Some(after),
                [b')', after @ ..] => {
                    depth -= 1;
                    rest = after;
                }
                [b'{', after @ ..] => {
                    let end = after.iter().position(|byte| *byte == b'}')?;
                    let len: usize = std::str::from_utf8(&after[..end]).ok()?.parse().ok()?;
                    rest = after[end + 1..].strip_prefix(b"\r\n")?.get(len..)?;
                }
                [b'"', after @ ..] => {
                    let mut after = after;
                    loop {
                        match after {
                            [b'"', next @ ..] => break rest = next,
                            [b'\\', b'"' | b'\\', next @ ..] | [1..=9 | 11 | 12 | 14..=0x7F, next @ ..] => {
                                after = next
                            }
                            _ => return None,
                        }
                    }
                }
                [b' ' | b'A'..=b'Z' | b'0'..=b'9', after @ ..] => rest = after,
                _ => return None,
            }
        }
    }

    proptest! {
        #[test]
        fn clients_can_read_it(
            pieces in proptest::collection::vec(0usize..14, 0..30), junk in any::<Vec<u8>>(),
        ) {
            const PIECES: [&str; 14] = [
                "From: a\"b <c@d>, e:f@g;\r\n", "Subject: \\ \u{e4} \"x\0\r\n", "To: (a\r\n \"\r\n", "Content-Disposition: a; b=\"\r\n", "\r\n",
                "Content-Type: multipart/mixed; boundary=a\r\n", "Content-Type: message/rfc822\r\n", "Content-Type: text/x; y*0*=z; y*1=\"\u{e4}\"\r\n",
                "--a\r\n", "--a--\r\n", "text", "Content-Language: a, \"b\r\n", "Content-ID: \u{e4}\n\r\n", "Content-Transfer-Encoding: (x) \u{1}\r\n",
            ];
            let mut message: Vec<u8> = pieces.iter().flat_map(|piece| PIECES[*piece].bytes()).collect();
            message.extend(junk);
            let structure = Structure::of(&message);
            for form in [Form::Ascii, Form::Utf8] {
                let mut out = Vec::new();
                envelope(&Header::of(&message), form, &mut out);
                body(&structure, form, &mut out);
                body_structure(&structure, form, &mut out);
                if form == Form::Ascii {
                    let rest = skip_value(&out).and_then(skip_value).and_then(skip_value);
                    assert_eq!(rest, Some(&b""[..]), "{}", out.escape_ascii());
                }
            }
        }
    }
}
