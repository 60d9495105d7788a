//! A message as programs write it, made fit to be submitted.
//!
//! Invariants: what comes out has CRLF line ends and a header that an empty line ends; Bcc is not in it; the body is
//! what was read.

use std::borrow::Cow;
use std::io::{self, BufRead};

use super::arguments::Dots;
use crate::mail::address::Address;
use crate::mail::address_list::{Entry, Mailbox, entries};
use crate::mail::header::{Field, Header};
use crate::mail::line_ends::LineEnds;

/// Where addresses stand that need a domain.
const ADDRESS_FIELDS: [&str; 9] =
    ["From", "Sender", "Reply-To", "To", "Cc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc"];

/// What no recipient is to see, or is not the sender's to say.
const REMOVED_FIELDS: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];

const RECIPIENT_FIELDS: [&str; 3] = ["To", "Cc", "Bcc"];
/// RFC 5322 3.6.6: they count where they are, instead of the others.
const RESENT_FIELDS: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];

/// Who writes, for a message that does not say.
pub struct Author<'a> {
    pub address: &'a str,
    pub name: Option<&'a str>,
}

/// Ready to be submitted.
pub struct Prepared {
    pub message: Vec<u8>,
    /// Those that the header names.
    pub recipients: Vec<String>,
}

/// Reads to the end, or to the dot. `None` if it is more than `bytes_max`; it is read to its end all the same.
pub fn read(input: &mut impl BufRead, dots: Dots, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut ends = LineEnds::default();
    let mut line = Vec::new();
    let mut is_too_large = false;
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if dots == Dots::End && matches!(line.as_slice(), b".\n" | b".\r\n" | b".") {
            break;
        }
        if message.len() + line.len() > bytes_max {
            is_too_large = true;
            message.clear();
        }
        if !is_too_large {
            ends.push(&line, &mut message);
        }
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    Ok((!is_too_large).then_some(message))
}

/// `message` is as [`read`] gave it; `domain` is for addresses that have none.
pub fn prepare(message: &[u8], author: &Author<'_>, domain: &str) -> Prepared {
    let (header, body) = split(message);
    let header = Header::whole(header);
    let mut out = Vec::with_capacity(message.len() + 200);
    let is_resent = header.fields().any(|field| is_one_of(&field, &RESENT_FIELDS));
    let wanted = if is_resent { &RESENT_FIELDS } else { &RECIPIENT_FIELDS };
    let mut recipients = Vec::new();
    for field in header.fields() {
        if is_one_of(&field, wanted) {
            recipients.extend(mailboxes(field.value).map(|mailbox| address(&mailbox, domain)));
        }
        match () {
            () if is_one_of(&field, &REMOVED_FIELDS) => {}
            () if is_one_of(&field, &ADDRESS_FIELDS) && lacks_domain(&field) => {
                qualify(&field, domain, &mut out);
            }
            () => out.extend_from_slice(field.raw),
        }
    }
    if header.find("From").is_none() {
        let name = author.name.map(|name| format!("{} ", phrase(name.as_bytes()))).unwrap_or_default();
        out.extend_from_slice(format!("From: {name}<{}>\r\n", author.address).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Prepared { message: out, recipients }
}

/// An address of the command line, with a domain if it has none.
pub fn qualified(address: &str, domain: &str) -> String {
    match address.rsplit_once('@') {
        Some(_) => address.to_owned(),
        None if address.eq_ignore_ascii_case("postmaster") => address.to_owned(),
        None => Address { local: address.to_owned(), domain: domain.to_owned() }.to_string(),
    }
}

/// The fields at the front, and what follows the empty line. A line that is no field ends the header as well: many
/// programs write a text and nothing else. An mbox line in front is not part of the message.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let mut begin = 0;
    if message.starts_with(b"From ") {
        begin = memchr::memchr(b'\n', message).map_or(message.len(), |at| at + 1);
    }
    let message = &message[begin..];
    let mut at = 0;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        let is_continued = at > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        if line == b"\r\n" {
            return (&message[..at], &message[at + 2..]);
        }
        if !is_continued && !is_field(line) {
            break;
        }
        at += line.len();
    }
    message.split_at(at)
}

/// `ftext`, blanks that were once allowed, and a colon (RFC 5322 3.6.8, 4.5).
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else {
        return false;
    };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

fn is_one_of(field: &Field<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| field.is_named(name))
}

/// Those that name somebody.
fn mailboxes(value: &[u8]) -> impl Iterator<Item = Mailbox<'_>> {
    entries(value).filter_map(|entry| match entry {
        Entry::Mailbox(mailbox) if !mailbox.local.is_empty() => Some(mailbox),
        _ => None,
    })
}

fn lacks_domain(field: &Field<'_>) -> bool {
    mailboxes(field.value).any(|mailbox| mailbox.domain.is_empty())
}

fn address(mailbox: &Mailbox<'_>, domain: &str) -> String {
    let local = String::from_utf8_lossy(&mailbox.local).into_owned();
    let domain = match mailbox.domain.is_empty() {
        true if local.eq_ignore_ascii_case("postmaster") => Cow::Borrowed(""),
        true => Cow::Borrowed(domain),
        false => String::from_utf8_lossy(&mailbox.domain),
    };
    Address { local, domain: domain.to_ascii_lowercase() }.to_string()
}

/// The field anew, each address with a domain.
fn qualify(field: &Field<'_>, domain: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    let mut is_first = true;
    for entry in entries(field.value) {
        let (separator, text) = match &entry {
            Entry::Mailbox(mailbox) if mailbox.local.is_empty() => continue,
            Entry::Mailbox(mailbox) => {
                let local = String::from_utf8_lossy(&mailbox.local).into_owned();
                let place = match mailbox.domain.is_empty() {
                    true => Cow::Borrowed(domain),
                    false => String::from_utf8_lossy(&mailbox.domain),
                };
                let address = Address { local, domain: place.into_owned() };
                match &mailbox.name {
                    Some(name) => (",\r\n\t", format!("{} <{address}>", phrase(name))),
                    None => (",\r\n\t", address.to_string()),
                }
            }
            Entry::GroupStart(name) => (",\r\n\t", format!("{}: ", phrase(name))),
            Entry::GroupEnd => ("", ";".to_owned()),
        };
        if !std::mem::replace(&mut is_first, matches!(entry, Entry::GroupStart(_))) {
            out.extend_from_slice(separator.as_bytes());
        }
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// A display name: words as they are, anything else in quotes.
fn phrase(name: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(name).chars().filter(|char| !char.is_control()).collect();
    let is_plain = |char: char| {
        !char.is_ascii() || char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~ ".contains(char)
    };
    match name.chars().all(is_plain) {
        true => name,
        false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Author, Dots, prepare, qualified, read};
    use crate::mail::header::Header;
    use crate::mail::submission::{Missing, check};

    fn prepared(text: &str) -> (String, Vec<String>) {
        let message = read(&mut text.as_bytes(), Dots::Text, 10_000).expect("read").expect("small enough");
        let author = Author { address: "ann@here.example", name: Some("Ann A. Author") };
        let prepared = prepare(&message, &author, "here.example");
        (String::from_utf8(prepared.message).expect("UTF-8"), prepared.recipients)
    }

    #[test]
    fn lines_and_the_dot() {
        let cases: [(&str, Dots, Option<&str>); 8] = [
            ("a\nb\r\nc", Dots::End, Some("a\r\nb\r\nc\r\n")),
            ("a\n.\nb\n", Dots::End, Some("a\r\n")),
            ("a\n.\nb\n", Dots::Text, Some("a\r\n.\r\nb\r\n")),
            ("a\r\n.\r\nb", Dots::End, Some("a\r\n")),
            ("..\n", Dots::End, Some("..\r\n")),
            (".", Dots::End, Some("")),
            ("", Dots::End, Some("")),
            ("0123456789\n0123456789\n", Dots::End, None),
        ];
        for (text, dots, expected) in cases {
            let message = read(&mut text.as_bytes(), dots, 20).expect("read");
            assert_eq!(message.as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn a_mail_of_cron() {
        let (message, recipients) = prepared(
            "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@here> run-parts\n\
             Content-Type: text/plain; charset=UTF-8\n\ndone: all\n",
        );
        let expected = "From: Cron Daemon <root@here.example>\r\nTo: root@here.example\r\n\
            Subject: Cron <root@here> run-parts\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\ndone: all\r\n";
        assert_eq!((message.as_str(), recipients), (expected, vec!["root@here.example".to_owned()]));
        let missing = check(&Header::of(message.as_bytes())).expect("a sound header");
        assert_eq!(missing, Missing { date: true, message_id: true, ..Missing::default() });
    }

    #[test]
    fn recipients_of_the_header() {
        let (message, recipients) = prepared(
            "To: \"B, ob\" <bob@There.example>,\n carol\nBCC: dave@x.example, friends: eve, f@y.example;\n\
             cc: postmaster\nFrom: ann@here.example\nReturn-Path: <x@y>\n\nText\n",
        );
        assert_eq!(
            recipients,
            [
                "bob@there.example",
                "carol@here.example",
                "dave@x.example",
                "eve@here.example",
                "f@y.example",
                "postmaster"
            ]
        );
        let expected = "To: \"B, ob\" <bob@There.example>,\r\n\tcarol@here.example\r\n\
            cc: postmaster@here.example\r\nFrom: ann@here.example\r\n\r\nText\r\n";
        assert_eq!(message, expected);
        let (_, recipients) =
            prepared("To: a@x.example\nResent-To: b@x.example\nResent-Bcc: c@x.example\n\n");
        assert_eq!(recipients, ["b@x.example", "c@x.example"]);
    }

    #[test]
    fn a_header_that_is_none_and_one_that_ends_early() {
        let from = "From: \"Ann A. Author\" <ann@here.example>\r\n";
        let cases = [
            ("Hello there\nSubject: no field\n", format!("{from}\r\nHello there\r\nSubject: no field\r\n")),
            (
                "Subject: x\nText at once\n\nmore\n",
                format!("Subject: x\r\n{from}\r\nText at once\r\n\r\nmore\r\n"),
            ),
            ("\nText\n", format!("{from}\r\nText\r\n")),
            ("", format!("{from}\r\n")),
            ("Subject: a\n b\n\n", format!("Subject: a\r\n b\r\n{from}\r\n")),
            (
                "From ann Mon Jan 1 00:00:00 2026\nSubject: x\n\nText\n",
                format!("Subject: x\r\n{from}\r\nText\r\n"),
            ),
            (" indented: text\n", format!("{from}\r\n indented: text\r\n")),
        ];
        for (text, expected) in cases {
            assert_eq!(prepared(text).0, expected, "{text:?}");
        }
    }

    #[test]
    fn groups_keep_their_form() {
        let (message, _) = prepared("To: The Team: ann, bob@x.example;, carol\nFrom: a@b\n\n");
        let expected = "To: The Team: ann@here.example,\r\n\tbob@x.example;,\r\n\tcarol@here.example\r\nFrom: a@b\r\n\r\n";
        assert_eq!(message, expected);
    }

    #[test]
    fn addresses_of_the_command_line() {
        for (address, expected) in [
            ("root", "root@here.example"),
            ("bob@x.example", "bob@x.example"),
            ("Postmaster", "Postmaster"),
            ("a b", "\"a b\"@here.example"),
        ] {
            assert_eq!(qualified(address, "here.example"), expected);
        }
    }
}
