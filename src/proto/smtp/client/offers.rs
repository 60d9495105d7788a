//! What a peer offers in its reply to EHLO (RFC 5321 4.1.1.1).
//!
//! ```text
//! ehlo-line    = ehlo-keyword *( SP ehlo-param )
//! ```
//!
//! What is not known or not well formed is not there.

use crate::proto::sasl::Mechanism;

/// The extensions of one peer. Nothing at all after HELO.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offers {
    pub pipelining: bool,
    pub starttls: bool,
    pub chunking: bool,
    pub binary_mime: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    /// RFC 1870 4: with no number, or zero, there is no fixed bound.
    pub size: Option<Size>,
    /// Those that we know, in the peer's order.
    pub mechanisms: Vec<Mechanism>,
    /// RFC 2852 2, with the least time for by-mode R.
    pub deliver_by: Option<MinBySeconds>,
    pub mt_priority: bool,
    /// RFC 9422.
    pub limits: Limits,
}

/// SIZE as it was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub bytes_max: Option<u64>,
}

/// DELIVERBY as it was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MinBySeconds(pub i64);

/// LIMITS (RFC 9422 4); `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Transactions in one session.
    pub mails_max: Option<u32>,
    /// Recipients in one transaction.
    pub recipients_max: Option<u32>,
    /// Domains of recipients in one session.
    pub domains_max: Option<u32>,
}

impl Offers {
    /// Reads the lines of a reply without their codes; the first is the peer's name and not looked at.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut offers = Self::default();
        for line in lines.into_iter().skip(1) {
            offers.add(line);
        }
        offers
    }

    fn add(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else {
            return;
        };
        match keyword.to_ascii_uppercase().as_slice() {
            b"PIPELINING" => self.pipelining = true,
            b"STARTTLS" => self.starttls = true,
            b"CHUNKING" => self.chunking = true,
            b"BINARYMIME" => self.binary_mime = true,
            b"8BITMIME" => self.eight_bit_mime = true,
            b"SMTPUTF8" => self.smtputf8 = true,
            b"DSN" => self.dsn = true,
            b"MT-PRIORITY" => self.mt_priority = true,
            b"SIZE" => {
                let bytes_max = words.next().and_then(number).filter(|bytes| *bytes > 0);
                self.size = Some(Size { bytes_max });
            }
            b"DELIVERBY" => {
                let least = words.next().and_then(|word| word.split(|byte| *byte == b',').next());
                let least = least.and_then(number).and_then(|least| i64::try_from(least).ok());
                self.deliver_by = Some(MinBySeconds(least.unwrap_or(0)));
            }
            b"AUTH" => words.for_each(|word| self.add_mechanism(word)),
            b"LIMITS" => words.for_each(|word| self.limits.add(word)),
            _ => {}
        }
    }

    fn add_mechanism(&mut self, word: &[u8]) {
        let new = Mechanism::named(word).filter(|mechanism| !self.mechanisms.contains(mechanism));
        self.mechanisms.extend(new);
    }
}

impl Limits {
    /// `limit-name "=" limit-value`; the three we know have at most six digits and are not zero.
    fn add(&mut self, word: &[u8]) {
        let mut halves = word.splitn(2, |byte| *byte == b'=');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return;
        };
        let value = number(value).filter(|value| (1..=999_999).contains(value));
        let Some(value) = value.and_then(|value| u32::try_from(value).ok()) else {
            return;
        };
        match name.to_ascii_uppercase().as_slice() {
            b"MAILMAX" => self.mails_max = Some(value),
            b"RCPTMAX" => self.recipients_max = Some(value),
            b"RCPTDOMAINMAX" => self.domains_max = Some(value),
            _ => {}
        }
    }
}

/// `1*DIGIT`, or none where it does not fit.
fn number(word: &[u8]) -> Option<u64> {
    let is_number = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(word).ok()?.parse().ok()).flatten()
}
