//! What a sender is told about a message's way: delivery status notifications (RFC 3464, RFC 6522, RFC 6533).
//!
//! ```text
//! multipart/report
//!   text/plain                           what happened, for a person       [`words`]
//!   message/delivery-status              the same, for a program           [`status`]
//!   message/rfc822 | text/rfc822-headers what it is about                  [`returned`]
//! ```
//!
//! The last two have a form for mail whose header is UTF-8 (`message/global…`). It is used when an address is not
//! ASCII, as it is if the notification may travel with SMTPUTF8, else in base64: a sender whose own address is
//! ASCII may have no mailbox for the former.
//!
//! Invariants: every line ends with CRLF and none is longer than RFC 5322 allows, but for those of the original;
//! what a remote server said stands in no place where it could be taken for ours, whatever it is; nothing 8-bit
//! stands in a part that does not say so.

mod returned;
mod status;
mod words;

use super::address::Address;
use super::date::Rfc5322;
use super::envelope::{BodyKind, Envelope, Notify, Recipient};
use super::header::Header;
use super::message_id::ids;
use super::reply::{EnhancedCode, Reply};
use super::time::Timestamp;
use super::transfer::{encode_base64, encode_quoted_printable};
use returned::Returned;

/// Everything that a notification is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our name, in A-labels.
    pub host: &'a str,
    /// Who writes, such as `MAILER-DAEMON@host`.
    pub from: &'a Address,
    pub to: Addressee<'a>,
    /// Of the message that this is about.
    pub envelope: &'a Envelope,
    /// When that message came.
    pub arrived: Timestamp,
    /// When it had to be delivered (BY, RFC 2852).
    pub deliver_by: Option<Timestamp>,
    /// At least one.
    pub fates: &'a [Fate<'a>],
    /// The message, or as much of its beginning as the caller has: its header at least.
    pub original: &'a [u8],
    /// Whether `original` is all of it, and may be returned as such.
    pub extent: Extent,
    /// A longer original is returned as its header.
    pub returned_bytes_max: usize,
    /// Left of the `@` of the Message-ID; unique for this host.
    pub token: &'a str,
    /// Between the parts: letters and digits that nobody can guess, at most 60.
    pub boundary: &'a str,
    pub now: Timestamp,
}

/// Who reads it.
#[derive(Clone, Copy, Debug)]
pub enum Addressee<'a> {
    /// Who sent the message.
    Sender(&'a Address),
    /// It has no sender, being a notification itself (RFC 5321 6.1): a double bounce.
    Postmaster(&'a Address),
}

/// How much of a message there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Whole,
    HeaderOnly,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Fate<'a> {
    pub recipient: &'a Recipient,
    pub action: Action,
    pub status: EnhancedCode,
    /// What another server said. Without one, `why` is all there is.
    pub remote: Option<Remote<'a>>,
    /// What happened here, in words: `no connection to any of the domain's servers`. May be empty.
    pub why: &'a str,
    pub last_attempt: Option<Timestamp>,
    pub retry_until: Option<Timestamp>,
    /// Where our log tells more.
    pub log_id: Option<&'a str>,
}

/// Another server and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    pub host: &'a str,
    pub reply: &'a Reply,
}

/// RFC 3464 2.3.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    /// To a server that sends no notifications.
    Relayed,
    /// To the members of an alias.
    Expanded,
}

/// A notification, ready to be sent from `<>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Composed {
    pub bytes: Vec<u8>,
    pub body: BodyKind,
    pub smtputf8: bool,
}

/// Without NOTIFY it is our choice whether delays are told (RFC 3461 4.1); people like to know.
pub const UNSAID: Notify = Notify { success: false, failure: true, delay: true };

/// Whether a sender who asked for this, or for nothing in particular, is told (RFC 3461 4.1).
pub fn wanted(action: Action, notify: Option<Notify>) -> bool {
    let Notify { success, failure, delay } = notify.unwrap_or(UNSAID);
    match action {
        Action::Failed => failure,
        Action::Delayed => delay,
        Action::Delivered | Action::Relayed | Action::Expanded => success,
    }
}

/// Whether a sender who wants to know for another reason than NOTIFY is told: always, but with NEVER.
pub fn bearable(notify: Option<Notify>) -> bool {
    notify != Some(Notify::default())
}

/// Whether anybody can be told: never about a message from `<>` (RFC 5321 6.1).
pub fn is_answerable(envelope: &Envelope) -> bool {
    envelope.sender.is_some()
}

/// Writes the notification.
pub fn compose(report: &Report<'_>) -> Composed {
    let travel = Travel::of(report);
    let human = words::write(report);
    let machine = status::write(report);
    let returned = Returned::of(report, travel);
    let is_eight_bit = returned.encoding == Transfer::EightBit
        || (travel == Travel::SmtpUtf8 && machine.form == status::Form::Global);
    let mut out = Vec::with_capacity(4096 + human.len() + machine.text.len() + returned.bytes.len());
    head(report, is_eight_bit, &mut out);
    let mut part = Parts { boundary: report.boundary, out: &mut out };
    match human.is_ascii() {
        true => part.add("text/plain; charset=us-ascii", Transfer::SevenBit, human.as_bytes()),
        false => part.add("text/plain; charset=utf-8", Transfer::QuotedPrintable, human.as_bytes()),
    }
    let (media, transfer) = match (machine.form, travel) {
        (status::Form::Ascii, _) => ("message/delivery-status", Transfer::SevenBit),
        (status::Form::Global, Travel::SmtpUtf8) => ("message/global-delivery-status", Transfer::EightBit),
        // RFC 6533 4.5: through a server that may not know SMTPUTF8.
        (status::Form::Global, Travel::Ascii) => ("message/global-delivery-status", Transfer::Base64),
    };
    part.add(media, transfer, machine.text.as_bytes());
    part.add(returned.media, returned.encoding, returned.bytes);
    part.end();
    let body = match is_eight_bit || travel == Travel::SmtpUtf8 {
        true => BodyKind::EightBitMime,
        false => BodyKind::SevenBit,
    };
    Composed { bytes: out, body, smtputf8: travel == Travel::SmtpUtf8 }
}

impl Composed {
    /// From nobody, so that nobody answers (RFC 3461 6.1).
    pub fn envelope(&self, to: &Address) -> Envelope {
        let notify = Some(Notify::default());
        Envelope {
            recipients: vec![Recipient { notify, ..Recipient::new(to.clone()) }],
            body: self.body,
            smtputf8: self.smtputf8,
            ..Envelope::default()
        }
    }
}

impl<'a> Addressee<'a> {
    pub fn address(&self) -> &'a Address {
        match self {
            Self::Sender(address) | Self::Postmaster(address) => address,
        }
    }
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

/// How the notification can get where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Travel {
    Ascii,
    /// An address in its header is not ASCII.
    SmtpUtf8,
}

impl Travel {
    fn of(report: &Report<'_>) -> Self {
        match report.to.address().is_ascii() && report.from.is_ascii() {
            true => Self::Ascii,
            false => Self::SmtpUtf8,
        }
    }
}

/// Content-Transfer-Encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transfer {
    SevenBit,
    EightBit,
    QuotedPrintable,
    Base64,
}

impl Transfer {
    fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }
}

/// The header of the notification itself.
fn head(report: &Report<'_>, is_eight_bit: bool, out: &mut Vec<u8>) {
    let Report { host, from, to, token, boundary, now, .. } = report;
    let mut field = |line: &str| {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    field(&format!("From: Mail Delivery System <{from}>"));
    field(&format!("To: <{}>", to.address()));
    field(&format!("Subject: {}", words::subject(report)));
    field(&format!("Date: {}", Rfc5322(*now)));
    field(&format!("Message-ID: <{token}@{host}>"));
    if let Some(id) = original_id(report.original) {
        field(&format!("In-Reply-To: <{id}>"));
        field(&format!("References: <{id}>"));
    }
    // RFC 3834 5: nobody answers this by a program.
    field("Auto-Submitted: auto-replied");
    field("MIME-Version: 1.0");
    field("Content-Type: multipart/report; report-type=delivery-status;");
    field(&format!("\tboundary=\"{boundary}\""));
    if is_eight_bit {
        field("Content-Transfer-Encoding: 8bit");
    }
    field("");
    field("This is a report in MIME format about a message that you sent.");
}

/// The identifier of the original, if it can stand in a field of ours.
fn original_id(original: &[u8]) -> Option<String> {
    /// So that the line is within RFC 5322 2.1.1.
    const ID_BYTES_MAX: usize = 900;
    let value = Header::of(original).find("Message-ID")?;
    let id = ids(value).into_iter().next()?;
    let is_fit = id.len() <= ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
    is_fit.then(|| String::from_utf8_lossy(&id).into_owned())
}

/// The parts of the multipart, one after the other.
struct Parts<'a> {
    boundary: &'a str,
    out: &'a mut Vec<u8>,
}

impl Parts<'_> {
    fn add(&mut self, media: &str, transfer: Transfer, content: &[u8]) {
        let Self { boundary, out } = self;
        let name = transfer.name();
        let head =
            format!("\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: {name}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        match transfer {
            Transfer::SevenBit | Transfer::EightBit => out.extend_from_slice(content),
            Transfer::QuotedPrintable => encode_quoted_printable(content, out),
            Transfer::Base64 => encode_base64(content, out),
        }
    }

    fn end(self) {
        self.out.extend_from_slice(format!("\r\n--{}--\r\n", self.boundary).as_bytes());
    }
}

/// What somebody else wrote, as it may stand in a line of ours: no line ends, no control characters, none that
/// turn the direction of writing around, at most `bytes_max` bytes.
fn harmless(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for char in text.chars() {
        if out.len() + char.len_utf8() > bytes_max {
            out.push_str("...");
            break;
        }
        out.push(match char {
            // Marks, embeddings, overrides and isolates, and the separators of lines and paragraphs.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            char if char.is_control() => ' ',
            char => char,
        });
    }
    out
}

/// As [`harmless`], in ASCII alone.
fn ascii(text: &str, bytes_max: usize) -> String {
    harmless(text, bytes_max).chars().map(|char| if char.is_ascii() { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
