//! What is kept of a message so that listing it does not parse it again.
//!
//! Made once per delivered message, on the way into the mailbox: one scan for the parts, one walk over the
//! header for envelope, kept fields and date.
//!
//! Invariants: `fields` is a header block that answers HEADER.FIELDS for kept names byte for byte as the
//! message would; the same message always gives the same digest.

use std::ops::Range;

use memchr::{memchr, memchr_iter};

use super::date::parse_rfc5322;
use super::header::{Field, compare_names, is_blank, trim_end};
use super::line_ends;
use super::mime::{PartId, Structure};
use super::part::NUL_STAND_IN;
use super::render::{EnvelopeFields, Form, body, body_structure};
use super::section::{Section, SectionText};
use super::text;
use super::time::Timestamp;

/// Made once per delivered message; wire forms as IMAP4rev1 wants them (`render::Form::Ascii`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    /// `(date subject from …)`.
    pub envelope: Vec<u8>,
    /// The value of BODY.
    pub body: Vec<u8>,
    /// The value of BODYSTRUCTURE.
    pub body_structure: Vec<u8>,
    /// The fields of [`KEPT_FIELDS`] in the message's order, as FETCH tells them, and the empty line if the header has
    /// one: a header block.
    pub fields: Vec<u8>,
    /// The Date field.
    pub sent: Option<Timestamp>,
    /// See [`line_ends::is_ended`].
    pub is_ended: bool,
    /// See [`text::is_plain`].
    pub is_plain: bool,
}

impl Digest {
    pub fn of(message: &[u8]) -> Self {
        Self::of_structure(&Structure::of(message))
    }

    /// Of a message that is parsed already.
    pub fn of_structure(structure: &Structure<'_>) -> Self {
        let header = structure.header(PartId::MESSAGE);
        let mut envelope_fields = EnvelopeFields::default();
        let mut fields = Vec::with_capacity(header.len().min(2048));
        for field in header.fields().filter(is_kept) {
            envelope_fields.take(&field);
            fields.extend_from_slice(field.raw);
        }
        // As FETCH tells them from the message; a NUL comes with BINARYMIME alone.
        if memchr(0, &fields).is_some() {
            fields.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = NUL_STAND_IN);
        }
        if header.is_closed() {
            fields.extend_from_slice(b"\r\n");
        }
        let mut digest = Self {
            envelope: Vec::with_capacity(512),
            body: Vec::with_capacity(256),
            body_structure: Vec::with_capacity(384),
            fields,
            sent: envelope_fields.date.and_then(parse_rfc5322),
            is_ended: line_ends::is_ended(structure.message()),
            is_plain: text::is_plain(structure),
        };
        envelope_fields.render(Form::Ascii, &mut digest.envelope);
        body(structure, Form::Ascii, &mut digest.body);
        body_structure(structure, Form::Ascii, &mut digest.body_structure);
        digest
    }
}

/// Fields that clients list with, in lower case, sorted. All of ENVELOPE are among them.
pub const KEPT_FIELDS: &[&str] = &[
    "auto-submitted",
    "bcc",
    "cc",
    "content-class",
    "content-description",
    "content-disposition",
    "content-id",
    "content-language",
    "content-transfer-encoding",
    "content-type",
    "date",
    "delivered-to",
    "disposition-notification-to",
    "followup-to",
    "from",
    "importance",
    "in-reply-to",
    "keywords",
    "lines",
    "list-archive",
    "list-help",
    "list-id",
    "list-owner",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "mail-followup-to",
    "mail-reply-to",
    "mailing-list",
    "message-id",
    "mime-version",
    "newsgroups",
    "organization",
    "precedence",
    "priority",
    "references",
    "reply-to",
    "resent-cc",
    "resent-date",
    "resent-from",
    "resent-message-id",
    "resent-sender",
    "resent-to",
    "return-path",
    "return-receipt-to",
    "sender",
    "sensitivity",
    "subject",
    "thread-index",
    "thread-topic",
    "to",
    "user-agent",
    "x-beenthere",
    "x-confirm-reading-to",
    "x-draft-info",
    "x-forwarded-message-id",
    "x-k9mail-identity",
    "x-label",
    "x-loop",
    "x-mailer",
    "x-mailing-list",
    "x-mozilla-draft-info",
    "x-mozilla-keys",
    "x-mozilla-status",
    "x-mozilla-status2",
    "x-msmail-priority",
    "x-original-to",
    "x-priority",
    "x-spam-flag",
    "x-spam-level",
    "x-spam-score",
    "x-spam-status",
    "x-tuid",
    "x-uniform-type-identifier",
    "x-universally-unique-identifier",
];

/// Whether fields of this name are in [`Digest::fields`].
pub fn kept(name: &str) -> bool {
    is_kept_name(name.as_bytes())
}

/// Names of kept fields that somebody wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptNames {
    /// See [`key`]; each once.
    keys: Vec<u32>,
}

impl KeptNames {
    /// What the section asks for, if [`Digest::fields`] alone answers for it.
    pub fn asked_by(section: &Section) -> Option<Self> {
        match &section.text {
            SectionText::HeaderFields(names) if section.part.is_empty() => Self::of(names),
            _ => None,
        }
    }

    fn of(names: &[String]) -> Option<Self> {
        if !names.iter().all(|name| kept(name)) {
            return None;
        }
        let mut keys: Vec<u32> = names.iter().map(|name| key(name.as_bytes())).collect();
        keys.sort_unstable();
        keys.dedup();
        Some(Self { keys })
    }

    /// Where the fields of these names lie in `fields`, which are a digest's, and the empty line behind them; what
    /// touches is one range. Gives the length of all.
    pub fn find_in(&self, fields: &[u8], ranges: &mut Vec<Range<usize>>) -> usize {
        ranges.clear();
        let (mut at, mut length) = (0, 0);
        let mut take = |end: usize| {
            if self.contain(&fields[at..end]) {
                length += end - at;
                match ranges.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => ranges.push(at..end),
                }
            }
            at = end;
        };
        // All line ends in one go, since lines are short.
        for end in memchr_iter(b'\n', fields).map(|feed| feed + 1) {
            let goes_on = fields.get(end).copied().is_some_and(is_blank);
            if fields[..end].ends_with(b"\r\n") && !goes_on {
                take(end);
            }
        }
        if !fields.is_empty() && !fields.ends_with(b"\r\n") {
            take(fields.len());
        }
        length
    }

    /// Of a digest's fields, which have names all but the empty line.
    fn contain(&self, field: &[u8]) -> bool {
        match field.iter().position(|byte| *byte == b':') {
            Some(colon) => self.keys.contains(&key(trim_end(&field[..colon]))),
            None => true,
        }
    }
}

/// What tells the names of kept fields apart at a glance, in any case: the length and three octets. Of other names it
/// says nothing.
fn key(name: &[u8]) -> u32 {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else {
        return 0;
    };
    let sixth_last = name[name.len().saturating_sub(6)];
    // All are shorter than 256, and of letters and hyphens: this bit is what their cases differ in.
    u32::from_be_bytes([name.len() as u8, first | 0x20, sixth_last | 0x20, last | 0x20])
}

fn is_kept(field: &Field<'_>) -> bool {
    is_kept_name(field.name)
}

fn is_kept_name(name: &[u8]) -> bool {
    KEPT_FIELDS.binary_search_by(|known| compare_names(known.as_bytes(), name)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::{any, proptest};

    use super::{Digest, KEPT_FIELDS, KeptNames, NUL_STAND_IN, kept, key};
    use crate::mail::header::{Header, subset};
    use crate::mail::time::Timestamp;

    const MESSAGE: &[u8] =
        b"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y; now\r\nsubject: one\r\n two\r\n\
        Date: Tue, 24 Nov 2026 11:00:00 +0100\r\nX-Other: z\r\nFROM: a@b\r\n\r\nHello\r\n";

    #[test]
    fn a_digest() {
        let digest = Digest::of(MESSAGE);
        let from = "((NIL NIL \"a\" \"b\"))";
        let date = "Tue, 24 Nov 2026 11:00:00 +0100";
        let envelope = format!("(\"{date}\" \"one two\" {from} {from} {from} NIL NIL NIL NIL NIL)");
        assert_eq!(String::from_utf8_lossy(&digest.envelope), envelope);
        let body = "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 7 1";
        assert_eq!(String::from_utf8_lossy(&digest.body), format!("{body})"));
        assert_eq!(String::from_utf8_lossy(&digest.body_structure), format!("{body} NIL NIL NIL NIL)"));
        let fields =
            format!("Return-Path: <a@b>\r\nsubject: one\r\n two\r\nDate: {date}\r\nFROM: a@b\r\n\r\n");
        assert_eq!(String::from_utf8_lossy(&digest.fields), fields);
        assert!(digest.is_ended && !Digest::of(&MESSAGE[..MESSAGE.len() - 1]).is_ended);
        assert!(digest.is_plain && !Digest::of("Subject: ä\r\n\r\n".as_bytes()).is_plain);
        assert_eq!(digest.sent, Some(Timestamp { seconds: 1_795_514_400, zone_minutes: 60 }));
        let digest = Digest::of(b"To: a\0b\r\nX-Other: \0\r\n\r\n\0");
        assert_eq!(digest.fields, b"To: a\x80b\r\n\r\n");
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(KEPT_FIELDS.is_sorted());
        assert!(KEPT_FIELDS.iter().all(|name| kept(&name.to_uppercase())));
        assert!(!kept("received") && !kept("") && !kept("x") && !kept("toto"));
        let keys: HashSet<u32> = KEPT_FIELDS.iter().map(|name| key(name.as_bytes())).collect();
        assert_eq!(keys.len(), KEPT_FIELDS.len(), "two names have one key");
        assert!(KEPT_FIELDS.iter().all(|name| key(name.to_uppercase().as_bytes()) == key(name.as_bytes())));
    }

    proptest! {
        #[test]
        fn kept_fields_answer_for_the_message(
            fields in "((To|X-A|from|Cc|Sub)[ ]?:? [a\r\n ]{0,4}\r\n){0,6}(\r\nTo: x)?", junk in any::<Vec<u8>>(),
        ) {
            let mut message = fields.into_bytes();
            message.extend(junk);
            let digest = Digest::of(&message);
            let names = ["TO".to_owned(), "from".to_owned(), "From".to_owned()];
            let mut expected = subset(&Header::of(&message), &names);
            expected.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = NUL_STAND_IN);
            assert_eq!(subset(&Header::of(&digest.fields), &names), expected);
            let mut ranges = Vec::new();
            let length = KeptNames::of(&names).expect("both are").find_in(&digest.fields, &mut ranges);
            let found: Vec<u8> = ranges.iter().flat_map(|range| &digest.fields[range.clone()]).copied().collect();
            assert_eq!((found.len(), &found), (length, &expected));
            assert!(ranges.is_sorted_by(|one, next| one.end < next.start));
        }
    }
}
