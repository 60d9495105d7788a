//! What happened, for a program: the fields of RFC 3464 2, with addresses as RFC 6533 4.1 has them.
//!
//! Invariants: each field is one line, or folded by us; the blocks are one empty line apart; in the ASCII form all
//! is ASCII.

use std::fmt::Write;

use super::words::wrap;
use super::{Fate, Report, ascii, harmless};
use crate::mail::date::Rfc5322;
use crate::mail::transfer::hex_value;

/// A folded line, as RFC 5322 2.1.1 wishes.
const LINE_BYTES: usize = 76;

/// Of what a remote server said.
const DIAGNOSTIC_BYTES_MAX: usize = 1024;

/// Behind so many recipients, what servers said is left short: a report on a thousand must stay small.
const TALKATIVE_FATES_MAX: usize = 100;
const SHORT_DIAGNOSTIC_BYTES_MAX: usize = 120;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Ascii,
    /// An address is not ASCII.
    Global,
}

pub struct Status {
    pub form: Form,
    pub text: String,
}

pub fn write(report: &Report<'_>) -> Status {
    let mut fields = String::new();
    per_message(report, &mut fields);
    for (index, fate) in report.fates.iter().enumerate() {
        fields.push_str("\r\n");
        let bytes_max = match index < TALKATIVE_FATES_MAX {
            true => DIAGNOSTIC_BYTES_MAX,
            false => SHORT_DIAGNOSTIC_BYTES_MAX,
        };
        per_recipient(fate, bytes_max, &mut fields);
    }
    let form = if fields.is_ascii() { Form::Ascii } else { Form::Global };
    Status { form, text: fields }
}

fn per_message(report: &Report<'_>, out: &mut String) {
    if let Some(envid) = &report.envelope.envid {
        field("Original-Envelope-Id", &ascii(&from_xtext(envid), 1000), out);
    }
    field("Reporting-MTA", &format!("dns; {}", report.host), out);
    field("Arrival-Date", &Rfc5322(report.arrived).to_string(), out);
    if let Some(by) = report.deliver_by {
        // RFC 2852 4.4
        field("Deliver-By-Date", &Rfc5322(by).to_string(), out);
    }
}

fn per_recipient(fate: &Fate<'_>, diagnostic_bytes_max: usize, out: &mut String) {
    let Fate { recipient, action, status, remote, why, .. } = fate;
    if let Some(orcpt) = &recipient.orcpt {
        field("Original-Recipient", &original_recipient(orcpt), out);
    }
    let kind = if recipient.address.is_ascii() { "rfc822" } else { "utf-8" };
    field("Final-Recipient", &format!("{kind}; {}", recipient.address), out);
    field("Action", action.name(), out);
    field("Status", &status.to_string(), out);
    match remote {
        Some(remote) => {
            field("Remote-MTA", &format!("dns; {}", ascii(remote.host, 255)), out);
            // RFC 3464 2.3.6: the reply with its codes.
            let said = remote.reply.to_string();
            folded("Diagnostic-Code", &format!("smtp; {}", ascii(&said, diagnostic_bytes_max)), out);
        }
        None if !why.is_empty() => {
            folded("Diagnostic-Code", &format!("X-Ringpost; {}", ascii(why, diagnostic_bytes_max)), out);
        }
        None => {}
    }
    if let Some(at) = fate.last_attempt {
        field("Last-Attempt-Date", &Rfc5322(at).to_string(), out);
    }
    if let Some(id) = fate.log_id {
        field("Final-Log-ID", &ascii(id, 200), out);
    }
    if let Some(until) = fate.retry_until {
        field("Will-Retry-Until", &Rfc5322(until).to_string(), out);
    }
}

fn field(name: &str, value: &str, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{name}: {value}\r\n");
}

fn folded(name: &str, value: &str, out: &mut String) {
    let text = format!("{name}: {value}");
    for (index, line) in wrap(&text, LINE_BYTES).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
}

/// `type;xtext` as `type; address`. An address that decodes to what cannot stand in a field stays as it came.
fn original_recipient(orcpt: &str) -> String {
    let (kind, encoded) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
    let decoded = match kind.eq_ignore_ascii_case("utf-8") {
        true => from_escapes(encoded),
        false => from_xtext(encoded),
    };
    let is_fit = harmless(&decoded, usize::MAX) == decoded && !decoded.is_empty();
    let kind = kind.to_ascii_lowercase();
    format!("{}; {}", ascii(&kind, 64), if is_fit { decoded } else { ascii(encoded, 500) })
}

/// RFC 3461 4; what is no xtext comes out as it is.
fn from_xtext(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let hex = match (byte, behind) {
            (b'+', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = &behind[2..];
                Some(hex_value(*high) << 4 | hex_value(*low))
            }
            _ => None,
        };
        decoded.push(hex.unwrap_or(byte));
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// RFC 6533 3: `\x{HEX}` becomes the character.
fn from_escapes(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once("\\x{") {
        decoded.push_str(before);
        let char = escape.split_once('}').and_then(|(digits, behind)| {
            let scalar = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() <= 6)?;
            Some((char::from_u32(scalar)?, behind))
        });
        rest = match char {
            Some((char, behind)) => {
                decoded.push(char);
                behind
            }
            None => {
                decoded.push_str("\\x{");
                escape
            }
        };
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::{from_escapes, from_xtext, original_recipient};

    #[test]
    fn decoded_forms() {
        assert_eq!(from_xtext("a+2Bb+3Dc"), "a+b=c");
        assert_eq!(from_xtext("a+b+2"), "a+b+2");
        assert_eq!(from_xtext("a+FF"), "a+FF");
        assert_eq!(from_escapes("gr\\x{FC}n@\\x{6D4B}.example"), "gr\u{fc}n@\u{6d4b}.example");
        assert_eq!(from_escapes("\\x{110000}\\x{FC"), "\\x{110000}\\x{FC");
    }

    #[test]
    fn no_original_recipient_ends_its_field() {
        assert_eq!(original_recipient("RFC822;bob+2Btag@example.org"), "rfc822; bob+tag@example.org");
        assert_eq!(original_recipient("rfc822;a+0D+0AStatus:+202.0.0"), "rfc822; a+0D+0AStatus:+202.0.0");
        assert_eq!(original_recipient("utf-8;\\x{FC}@x.example"), "utf-8; \u{fc}@x.example");
        assert_eq!(original_recipient("utf-8;\\x{202E}x"), "utf-8; \\x{202E}x");
    }
}
