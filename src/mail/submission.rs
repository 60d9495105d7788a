//! What a submission server checks and mends in a header (RFC 6409 6 and 8, RFC 5322 3.6).
//!
//! What is missing is put in front of what the user wrote; what is there is never changed. A header that two
//! readers could read in two ways is refused.
//!
//! Invariant: what [`check`] calls missing and [`mend`] adds is no longer missing.

use super::address_list::{Entry, Mailbox, entries};
use super::date::{Rfc5322, parse_rfc5322};
use super::header::Header;
use super::message_id::ids;
use super::time::Timestamp;

/// Which fields a submitted message lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    pub date: bool,
    pub message_id: bool,
    pub from: bool,
    /// From names several people, and nobody says which of them sends (RFC 5322 3.6.2).
    pub sender: bool,
}

/// What cannot be mended: 554 5.6.0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// A field that may be there once is there again.
    Repeated(&'static str),
    /// From is there and names nobody.
    BadFrom,
}

/// What the missing fields are made of.
#[derive(Clone, Copy, Debug)]
pub struct Mending<'a> {
    pub at: Timestamp,
    /// Left of the `@` of a Message-ID; unique for this host.
    pub unique: &'a str,
    /// Our name, right of the `@`.
    pub host: &'a str,
    /// Who sends, for From and Sender; an address if one of them is missing.
    pub sender: &'a str,
}

/// RFC 5322 3.6: fields that a message has at most once.
const SINGLE_FIELDS: [&str; 12] = [
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
];

/// What is missing, or what is wrong.
pub fn check(header: &Header<'_>) -> Result<Missing, HeaderError> {
    let mut values = [None; SINGLE_FIELDS.len()];
    for field in header.fields() {
        let Some(index) = SINGLE_FIELDS.iter().position(|name| field.is_named(name)) else {
            continue;
        };
        if values[index].replace(field.value).is_some() {
            return Err(HeaderError::Repeated(SINGLE_FIELDS[index]));
        }
    }
    let [date, from, sender, _, _, _, _, message_id, ..] = values;
    let authors = from.map_or(0, |value| authors(value).take(2).count());
    if from.is_some() && authors == 0 {
        return Err(HeaderError::BadFrom);
    }
    Ok(Missing {
        // RFC 6409 8.2 and 8.3 let a field that is not valid be replaced; ours stands in front of a missing one only.
        date: date.is_none(),
        message_id: message_id.is_none(),
        from: from.is_none(),
        sender: authors > 1 && sender.is_none(),
    })
}

/// Whether Date and Message-ID, where they are, can be read.
pub fn is_readable(header: &Header<'_>) -> bool {
    let date = header.find("Date").is_none_or(|value| parse_rfc5322(value).is_some());
    date && header.find("Message-ID").is_none_or(|value| !ids(value).is_empty())
}

/// The mailboxes of a raw From value that have a local part and a domain.
pub fn authors(value: &[u8]) -> impl Iterator<Item = Mailbox<'_>> {
    entries(value).filter_map(|entry| match entry {
        Entry::Mailbox(mailbox) if !mailbox.local.is_empty() && !mailbox.domain.is_empty() => Some(mailbox),
        _ => None,
    })
}

/// Appends the missing fields, to be put in front of the header.
pub fn mend(missing: Missing, with: &Mending<'_>, out: &mut Vec<u8>) {
    let Mending { at, unique, host, sender } = with;
    let mut add = |is_missing: bool, field: String| {
        if is_missing {
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    };
    add(missing.date, format!("Date: {}", Rfc5322(*at)));
    add(missing.from, format!("From: <{sender}>"));
    add(missing.sender, format!("Sender: <{sender}>"));
    add(missing.message_id, format!("Message-ID: <{unique}@{host}>"));
}

#[cfg(test)]
mod tests {
    use super::{HeaderError, Mending, Missing, check, is_readable, mend};
    use crate::mail::header::Header;
    use crate::mail::time::Timestamp;

    const MENDING: Mending<'_> = Mending {
        at: Timestamp { seconds: 0, zone_minutes: 0 },
        unique: "1.2",
        host: "mx.test",
        sender: "a@b",
    };

    #[test]
    fn missing_fields_are_put_in_front() {
        let cases = [
            ("", "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nFrom: <a@b>\r\nMessage-ID: <1.2@mx.test>\r\n"),
            ("From: a@b\r\nDate: x\r\n", "Message-ID: <1.2@mx.test>\r\n"),
            ("From: a@b, c@d\r\nDate: x\r\nMessage-ID: <x@y>\r\n", "Sender: <a@b>\r\n"),
            (
                "From: a@b, c@d\r\nSender: c@d\r\nDate: x\r\nmessage-id: <x@y>\r\nTo: x\r\nReceived: 1\r\nReceived: 2\r\n",
                "",
            ),
        ];
        for (header, expected) in cases {
            let missing = check(&Header::of(header.as_bytes())).expect(header);
            let mut out = Vec::new();
            mend(missing, &MENDING, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{header}");
            out.extend_from_slice(header.as_bytes());
            assert_eq!(check(&Header::of(&out)), Ok(Missing::default()), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_mended() {
        let cases = [
            ("From: a@b\r\nfrom: c@d\r\n", HeaderError::Repeated("From")),
            ("Subject: 1\r\nSUBJECT : 2\r\n", HeaderError::Repeated("Subject")),
            ("From:\r\n", HeaderError::BadFrom),
            ("From: nobody\r\n", HeaderError::BadFrom),
            ("From: g:;\r\n", HeaderError::BadFrom),
        ];
        for (header, error) in cases {
            assert_eq!(check(&Header::of(header.as_bytes())), Err(error), "{header}");
        }
    }

    #[test]
    fn readable_fields() {
        let cases = [
            ("", true),
            ("Date: 1 Jan 2026\r\nMessage-ID: <a@b>\r\n", true),
            ("Date: today\r\n", false),
            ("Message-ID: a@b\r\n", false),
        ];
        for (header, readable) in cases {
            assert_eq!(is_readable(&Header::of(header.as_bytes())), readable, "{header}");
        }
    }
}
