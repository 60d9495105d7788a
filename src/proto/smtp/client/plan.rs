//! What a transaction can ask of a peer that offers what it offers, decided before the first byte.
//!
//! What this peer cannot take fails here, without a word to it: the whole message, or the one recipient whose
//! address it could not understand.

use memchr::memmem;

use crate::bytes::Slice;
use crate::mail::address::Address;
use crate::mail::envelope::BodyKind;
use crate::mail::reply::EnhancedCode;

use super::event::{Failure, Fate, Phase};
use super::offers::{Limits, Offers};
use super::settings::{Chunking, EightBit, Settings};
use super::transaction::{ByMode, Transaction};

/// How a message is sent to one peer.
#[derive(Debug)]
pub(super) struct Plan {
    pub charset: Charset,
    pub carriage: Carriage,
    /// For each recipient what is settled already.
    pub fates: Vec<Option<Fate>>,
}

/// What the envelope is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Charset {
    /// Domains as A-labels.
    Ascii,
    /// With SMTPUTF8.
    Utf8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carriage {
    Data,
    /// One BDAT with all of it.
    Chunk,
}

impl Plan {
    /// `domains` are those of the session's recipients so far (RFC 9422 4.3).
    pub fn of(
        transaction: &Transaction,
        offers: &Offers,
        settings: &Settings,
        domains: &mut Vec<String>,
    ) -> Result<Self, Failure> {
        check_size(transaction, offers)?;
        check_deliver_by(transaction, offers)?;
        let charset = charset(transaction, offers);
        let refused = match charset {
            Charset::Ascii => check_charset(transaction).err(),
            Charset::Utf8 => None,
        };
        if refused.is_none() {
            check_octets(transaction, offers, settings.eight_bit)?;
        }
        let is_binary = transaction.body == BodyKind::BinaryMime;
        let carriage = match offers.chunking && (is_binary || settings.chunking == Chunking::WhenOffered) {
            true => Carriage::Chunk,
            false => Carriage::Data,
        };
        let fates = fates(transaction, (charset, refused.as_ref()), offers.limits, domains);
        Ok(Self { charset, carriage, fates })
    }
}

impl Charset {
    /// The address as it goes on the wire; `None` if this charset has no form of it.
    pub fn path(self, address: &Address) -> Option<String> {
        if self == Self::Utf8 || address.is_ascii() {
            return Some(address.to_string());
        }
        let domain = address.ascii_domain().filter(|_| address.local.is_ascii())?;
        Some(Address { local: address.local.clone(), domain }.to_string())
    }
}

/// RFC 1870 6.1 would have the peer say so.
fn check_size(transaction: &Transaction, offers: &Offers) -> Result<(), Failure> {
    let bytes_max = offers.size.and_then(|size| size.bytes_max).unwrap_or(u64::MAX);
    match transaction.message_bytes() > bytes_max {
        true => Err(refusal(552, (5, 3, 4), "the message is larger than the server takes")),
        false => Ok(()),
    }
}

/// RFC 2852 4.1.4.1: with by-mode R only to a server that keeps to it, and in time.
fn check_deliver_by(transaction: &Transaction, offers: &Offers) -> Result<(), Failure> {
    let Some(asked) = transaction.deliver_by.filter(|asked| asked.mode == ByMode::Return) else {
        return Ok(());
    };
    match offers.deliver_by {
        None => Err(refusal(554, (5, 3, 3), "the server does not offer DELIVERBY")),
        Some(least) if asked.remaining_s < least.0.max(1) => {
            Err(refusal(554, (5, 4, 7), "the time left is shorter than the server takes"))
        }
        Some(_) => Ok(()),
    }
}

/// RFC 6531 3.1, 3.2: SMTPUTF8 where addresses or header fields need it. A domain alone does not: it has A-labels.
fn charset(transaction: &Transaction, offers: &Offers) -> Charset {
    let recipients = transaction.recipients.iter().map(|recipient| &recipient.address);
    let mut addresses = transaction.sender.iter().chain(recipients);
    let is_needed = is_header_utf8(transaction) || addresses.any(|address| !address.is_ascii());
    if is_needed && offers.smtputf8 { Charset::Utf8 } else { Charset::Ascii }
}

/// RFC 6531 3.5: why nobody can have the message without SMTPUTF8: for its sender's address, or for its header. A
/// recipient whose own address is the reason hears of that.
fn check_charset(transaction: &Transaction) -> Result<(), Failure> {
    if transaction.sender.as_ref().is_some_and(|sender| Charset::Ascii.path(sender).is_none()) {
        return Err(no_smtputf8());
    }
    match is_header_utf8(transaction) {
        true => Err(refusal(554, (5, 6, 9), "the header is in UTF-8 and the server does not offer SMTPUTF8")),
        false => Ok(()),
    }
}

fn is_header_utf8(transaction: &Transaction) -> bool {
    transaction.smtputf8 && !is_header_ascii(&transaction.message)
}

/// RFC 3030 3, RFC 6152 3: we convert nothing.
fn check_octets(transaction: &Transaction, offers: &Offers, eight_bit: EightBit) -> Result<(), Failure> {
    match transaction.body {
        BodyKind::BinaryMime if offers.chunking && offers.binary_mime => Ok(()),
        BodyKind::BinaryMime => {
            Err(refusal(554, (5, 6, 3), "the message is binary and the server does not offer BINARYMIME"))
        }
        _ if offers.eight_bit_mime || eight_bit == EightBit::SendAnyway => Ok(()),
        _ if transaction.message.iter().all(|part| part.is_ascii()) => Ok(()),
        _ => Err(refusal(554, (5, 6, 3), "the message is 8-bit and the server does not offer 8BITMIME")),
    }
}

/// `refused` is why the whole message cannot go.
fn fates(
    transaction: &Transaction,
    (charset, refused): (Charset, Option<&Failure>),
    limits: Limits,
    domains: &mut Vec<String>,
) -> Vec<Option<Fate>> {
    let mut left = limits.recipients_max.unwrap_or(u32::MAX);
    let fate = |address: &Address| {
        if charset.path(address).is_none() {
            return Some(Fate::Failed(no_smtputf8()));
        }
        if let Some(refused) = refused {
            return Some(Fate::Failed(refused.clone()));
        }
        if left == 0 || !admit(address, limits, domains) {
            return Some(Fate::NotTried);
        }
        left -= 1;
        None
    };
    transaction.recipients.iter().map(|recipient| &recipient.address).map(fate).collect()
}

/// Counts the domain of `address`, unless it would be one too many.
fn admit(address: &Address, limits: Limits, domains: &mut Vec<String>) -> bool {
    let Some(domains_max) = limits.domains_max else {
        return true;
    };
    if domains.contains(&address.domain) {
        return true;
    }
    let has_room = domains.len() < domains_max as usize;
    if has_room {
        domains.push(address.domain.clone());
    }
    has_room
}

/// Whether the header has no octet over 127. The parts may meet in the empty line.
fn is_header_ascii(parts: &[Slice]) -> bool {
    let mut is_line_begun = false;
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !is_line_begun && part.starts_with(b"\r\n") {
            return true;
        }
        let end = memmem::find(part, b"\r\n\r\n");
        if !part[..end.unwrap_or(part.len())].is_ascii() {
            return false;
        }
        if end.is_some() {
            return true;
        }
        is_line_begun = !part.ends_with(b"\r\n");
    }
    true
}

fn no_smtputf8() -> Failure {
    refusal(553, (5, 6, 7), "the address is not ASCII and the server does not offer SMTPUTF8")
}

fn refusal(code: u16, (class, subject, detail): (u8, u16, u16), text: &str) -> Failure {
    Failure::local(code, EnhancedCode::new(class, subject, detail), text, Phase::Mail)
}

#[cfg(test)]
mod tests {
    use super::{Charset, is_header_ascii};
    use crate::bytes::Slice;
    use crate::mail::address::Address;

    #[test]
    fn paths_of_both_charsets() {
        let table = [
            ("a@b.test", Some("a@b.test")),
            ("a@b\u{fc}.test", Some("a@xn--b-eha.test")),
            ("\u{fc}@b.test", None),
            ("\"a b\"@b.test", Some("\"a b\"@b.test")),
        ];
        for (text, ascii) in table {
            let address = Address::parse(text).expect(text);
            assert_eq!(Charset::Ascii.path(&address).as_deref(), ascii);
            assert_eq!(Charset::Utf8.path(&address).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_header_ends_wherever_its_parts_meet() {
        let table: &[(&[&str], bool)] = &[
            (&[], true),
            (&["A: b\r\n", "C: d\r\n\r\n\u{fc}\r\n"], true),
            (&["A: b\r\n", "\r\n\u{fc}\r\n"], true),
            (&["\r\n\u{fc}"], true),
            (&["A: b\r\n", "C: \u{fc}\r\n\r\nx\r\n"], false),
            (&["A: b", "\r\nC: \u{fc}\r\n\r\n"], false),
            (&["A: b\r\n", "", "\u{fc}"], false),
        ];
        for (parts, expected) in table {
            let parts: Vec<Slice> = parts.iter().map(|part| Slice::from(part.as_bytes().to_vec())).collect();
            assert_eq!(is_header_ascii(&parts), *expected, "{parts:?}");
        }
    }
}
