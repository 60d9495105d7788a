//! The arguments of commands (RFC 5321 4.1.1 and 4.1.2), and the parameters of MAIL and RCPT as rows of tables.
//!
//! Invariants: what is kept of a line is within its grammar: no CR, LF, NUL or other control character reaches
//! an envelope; numbers do not overflow; a parameter is there once.

use crate::mail::address::{Address, AddressError, parse_path};
use crate::mail::date::parse_rfc3339_utc;
use crate::mail::envelope::{BodyKind, ByMode, DeliverBy, Notify, Recipient, Ret};

use super::command::{Chunk, Command, Dialect};
use super::reply::Reply;
use super::session::Role;
use super::transaction::Transaction;

/// RFC 3461 4.4.
const ENVID_BYTES_MAX: usize = 100;
/// RFC 3461 4.2.
const ORCPT_BYTES_MAX: usize = 500;
/// RFC 5321 4.5.3.1.2.
const HOST_NAME_BYTES_MAX: usize = 255;

/// A parameter of MAIL or RCPT: its keyword, and what takes its value (`None`: no `=` was there).
struct Parameter<T> {
    keyword: &'static str,
    apply: fn(&mut T, Option<&str>, Dialect) -> Option<()>,
    /// What a value that is none, or a second one, is answered with.
    fault: Reply,
    /// Where it is known; `None` is everywhere.
    role: Option<Role>,
}

impl<T> Parameter<T> {
    const fn new(keyword: &'static str, apply: fn(&mut T, Option<&str>, Dialect) -> Option<()>) -> Self {
        Self { keyword, apply, fault: Reply::BAD_PARAMETER, role: None }
    }
}

const MAIL_PARAMETERS: [Parameter<Transaction>; 10] = [
    Parameter::new("SIZE", |to, value, _| size(to, value)),
    Parameter::new("BODY", |to, value, _| body(to, value)),
    Parameter::new("SMTPUTF8", |to, value, _| smtputf8(to, value)),
    Parameter::new("RET", |to, value, _| ret(to, value)),
    Parameter::new("ENVID", |to, value, _| envid(to, value)),
    Parameter::new("AUTH", |_, value, _| auth_identity(value)),
    Parameter { fault: Reply::BAD_DELIVER_BY, ..Parameter::new("BY", deliver_by) },
    Parameter {
        fault: Reply::BAD_PRIORITY,
        ..Parameter::new("MT-PRIORITY", |to, value, _| priority(to, value))
    },
    Parameter { fault: Reply::BAD_HOLD, role: Some(Role::Submission), ..Parameter::new("HOLDFOR", hold_for) },
    Parameter {
        fault: Reply::BAD_HOLD,
        role: Some(Role::Submission),
        ..Parameter::new("HOLDUNTIL", |to, value, _| hold_until(to, value))
    },
];

const RCPT_PARAMETERS: [Parameter<Recipient>; 2] = [
    Parameter::new("NOTIFY", |to, value, _| notify(to, value)),
    Parameter::new("ORCPT", |to, value, _| orcpt(to, value)),
];

/// `ehlo = "EHLO" SP (Domain / address-literal) CRLF`
pub fn ehlo(argument: &[u8], _: Dialect) -> Result<Command<'_>, Reply> {
    host_name(argument).map(|name| Command::Ehlo { name })
}

pub fn helo(argument: &[u8], _: Dialect) -> Result<Command<'_>, Reply> {
    host_name(argument).map(|name| Command::Helo { name })
}

/// `mail = "MAIL FROM:" ("<>" / Path) [SP params] CRLF`
pub fn mail(argument: &[u8], dialect: Dialect) -> Result<Command<'_>, Reply> {
    let (path, parameters) =
        path(argument, b"FROM:", dialect).ok_or(Reply::BAD_MAIL)?.map_err(|_| Reply::BAD_SENDER)?;
    // Only RCPT has a bare <Postmaster>.
    if path.as_ref().is_some_and(|sender| sender.domain.is_empty()) {
        return Err(Reply::BAD_SENDER);
    }
    let mut transaction = Transaction::default();
    transaction.envelope.sender = path;
    apply(&MAIL_PARAMETERS, parameters, dialect, &mut transaction)?;
    let envelope = &transaction.envelope;
    match &envelope.sender {
        Some(sender) if !sender.is_ascii() && !envelope.smtputf8 => Err(Reply::SENDER_NOT_ASCII),
        _ => Ok(Command::Mail(transaction)),
    }
}

/// `rcpt = "RCPT TO:" ("<Postmaster@" Domain ">" / "<Postmaster>" / Path) [SP params] CRLF`
pub fn rcpt(argument: &[u8], dialect: Dialect) -> Result<Command<'_>, Reply> {
    let (path, parameters) =
        path(argument, b"TO:", dialect).ok_or(Reply::BAD_RCPT)?.map_err(|_| Reply::BAD_RECIPIENT)?;
    let address = path.ok_or(Reply::BAD_RECIPIENT)?;
    if !address.is_ascii() && !dialect.is_smtputf8 {
        return Err(Reply::RECIPIENT_NOT_ASCII);
    }
    let mut recipient = Recipient::new(address);
    apply(&RCPT_PARAMETERS, parameters, dialect, &mut recipient)?;
    match &recipient.orcpt {
        // RFC 6533 3: native UTF-8 only where the transaction allows it.
        Some(orcpt) if !orcpt.is_ascii() && !dialect.is_smtputf8 => Err(Reply::BAD_PARAMETER),
        _ => Ok(Command::Rcpt(recipient)),
    }
}

/// `bdat = "BDAT" SP 1*DIGIT [SP "LAST"] CRLF` (RFC 3030 2)
pub fn bdat(argument: &[u8], _: Dialect) -> Result<Command<'_>, Reply> {
    let mut words = words(argument);
    let bytes = words.next().and_then(number).ok_or(Reply::BAD_CHUNK)?;
    let is_last = match (words.next(), words.next()) {
        (None, None) => false,
        (Some(last), None) if last.eq_ignore_ascii_case(b"LAST") => true,
        _ => return Err(Reply::BAD_CHUNK),
    };
    Ok(Command::Bdat(Chunk { bytes, is_last }))
}

/// `auth = "AUTH" SP mechanism [SP initial-response] CRLF` (RFC 4954 4)
pub fn auth(argument: &[u8], _: Dialect) -> Result<Command<'_>, Reply> {
    let mut words = words(argument);
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(Reply::BAD_AUTH),
    }
}

/// What a host says of itself. The grammar is a domain or an address literal, but names with an underscore or
/// half a literal are about and do no harm: everything that those are made of passes, as one opaque word.
fn host_name(argument: &[u8]) -> Result<&str, Reply> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_name = !argument.is_empty() && argument.len() <= HOST_NAME_BYTES_MAX;
    match std::str::from_utf8(argument) {
        Ok(name) if is_name && name.bytes().all(is_fit) => Ok(name),
        _ => Err(Reply::BAD_HOST_NAME),
    }
}

type Path = Option<Address>;

/// The path after `keyword`, and the parameters after the path. `None`: no keyword, or no bracket after it. Paths are
/// read with UTF-8 allowed, and judged when the parameters are known.
fn path<'a>(
    argument: &'a [u8],
    keyword: &[u8],
    dialect: Dialect,
) -> Option<Result<(Path, &'a [u8]), AddressError>> {
    let (found, mut rest) = argument.split_at_checked(keyword.len())?;
    if !found.eq_ignore_ascii_case(keyword) {
        return None;
    }
    // Spaces after `FROM:` and `TO:` are let pass from our own users.
    if dialect.role == Role::Submission {
        rest = rest.trim_ascii_start();
    }
    if rest.first() != Some(&b'<') {
        return None;
    }
    match parse_path(rest, true) {
        Ok((path, used)) => match rest.get(used..)? {
            [] => Some(Ok((path, &[]))),
            [b' ', parameters @ ..] => Some(Ok((path, parameters))),
            _ => Some(Err(AddressError::Syntax)),
        },
        Err(error) => Some(Err(error)),
    }
}

/// `params = param *(SP param); param = keyword ["=" value]`
fn apply<T>(table: &[Parameter<T>], parameters: &[u8], dialect: Dialect, to: &mut T) -> Result<(), Reply> {
    let mut seen = 0_u32;
    for parameter in words(parameters) {
        if !dialect.is_esmtp {
            return Err(Reply::UNKNOWN_PARAMETER);
        }
        let (keyword, value) = keyword_and_value(parameter)?;
        let is_known = |row: &Parameter<T>| {
            row.keyword.as_bytes().eq_ignore_ascii_case(keyword)
                && row.role.is_none_or(|role| role == dialect.role)
        };
        let index = table.iter().position(is_known).ok_or(Reply::UNKNOWN_PARAMETER)?;
        let row = &table[index];
        if seen & (1 << index) != 0 {
            return Err(row.fault);
        }
        seen |= 1 << index;
        (row.apply)(to, value, dialect).ok_or(row.fault)?;
    }
    Ok(())
}

/// `keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-"); value = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)`
fn keyword_and_value(parameter: &[u8]) -> Result<(&[u8], Option<&str>), Reply> {
    let text = std::str::from_utf8(parameter).map_err(|_| Reply::BAD_PARAMETER)?;
    let (keyword, value) = match text.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (text, None),
    };
    let is_keyword = keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_value = |value: &str| {
        !value.is_empty() && value.bytes().all(|byte| byte > b' ' && byte != b'=' && byte != 127)
    };
    match is_keyword && !keyword.is_empty() && !keyword.starts_with('-') && value.is_none_or(is_value) {
        true => Ok((keyword.as_bytes(), value)),
        false => Err(Reply::BAD_PARAMETER),
    }
}

/// `size-value = 1*20DIGIT` (RFC 1870 6.1)
fn size(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    transaction.declared_bytes = Some(number(value?.as_bytes())?);
    Some(())
}

/// RFC 6152 3, RFC 3030 3
fn body(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    const KINDS: [(&str, BodyKind); 3] = [
        ("7BIT", BodyKind::SevenBit),
        ("8BITMIME", BodyKind::EightBitMime),
        ("BINARYMIME", BodyKind::BinaryMime),
    ];
    let value = value?;
    let (_, kind) = KINDS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(value))?;
    transaction.envelope.body = kind;
    Some(())
}

/// RFC 6531 3.4: without a value.
fn smtputf8(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    transaction.envelope.smtputf8 = true;
    value.is_none().then_some(())
}

/// `ret-value = "FULL" / "HDRS"` (RFC 3461 4.3)
fn ret(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    let value = value?;
    transaction.envelope.ret = match () {
        () if value.eq_ignore_ascii_case("FULL") => Some(Ret::Full),
        () if value.eq_ignore_ascii_case("HDRS") => Some(Ret::Headers),
        () => return None,
    };
    Some(())
}

/// xtext of printable characters (RFC 3461 4.4), kept as it came
fn envid(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    let value = value.filter(|value| value.len() <= ENVID_BYTES_MAX)?;
    let is_printable = xtext(value)?.iter().all(|byte| (b' '..=b'~').contains(byte));
    transaction.envelope.envid = is_printable.then(|| value.to_owned());
    is_printable.then_some(())
}

/// `AUTH=<>` or an address in xtext (RFC 4954 5). It is read so that nonsense is refused; since we do not
/// trust those who send it, it is worth no more than `<>` and is not kept.
fn auth_identity(value: Option<&str>) -> Option<()> {
    match value? {
        "<>" => Some(()),
        identity => Address::parse(std::str::from_utf8(&xtext(identity)?).ok()?).ok().map(|_| ()),
    }
}

/// `by-value = ["-" / "+"] 1*9DIGIT ";" ("N" / "R") ["T"]`, the time above zero with R (RFC 2852 4)
fn deliver_by(transaction: &mut Transaction, value: Option<&str>, dialect: Dialect) -> Option<()> {
    let (time, mode) = value?.split_once(';')?;
    let (sign, digits) = match time.as_bytes() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let seconds = sign * seconds(digits)?;
    let (mode, trace) = match mode.as_bytes() {
        [mode] => (mode, false),
        [mode, b'T' | b't'] => (mode, true),
        _ => return None,
    };
    let mode = match mode {
        b'N' | b'n' => ByMode::Notify,
        b'R' | b'r' if seconds > 0 => ByMode::Return,
        _ => return None,
    };
    transaction.envelope.deliver_by = Some(DeliverBy { at: dialect.at.saturating_add(seconds), mode, trace });
    Some(())
}

/// `priority-value = (["-"] %x31-39) / "0"` (RFC 6710 7)
fn priority(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    transaction.envelope.priority = match value?.as_bytes() {
        [digit @ b'0'..=b'9'] => (digit - b'0').cast_signed(),
        [b'-', digit @ b'1'..=b'9'] => -(digit - b'0').cast_signed(),
        _ => return None,
    };
    transaction.has_priority = true;
    Some(())
}

/// `future-release-interval = %x31-39 *8DIGIT` (RFC 4865 3)
fn hold_for(transaction: &mut Transaction, value: Option<&str>, dialect: Dialect) -> Option<()> {
    let digits = value.filter(|value| !value.starts_with('0'))?.as_bytes();
    hold(transaction, dialect.at.saturating_add(seconds(digits)?))
}

/// A date-time of RFC 3339 in UTC (RFC 4865 3)
fn hold_until(transaction: &mut Transaction, value: Option<&str>) -> Option<()> {
    hold(transaction, parse_rfc3339_utc(value?.as_bytes())?)
}

/// RFC 4865 4.1: one of the two.
fn hold(transaction: &mut Transaction, until: i64) -> Option<()> {
    transaction.envelope.hold_until.replace(until).is_none().then_some(())
}

/// `1*9DIGIT`
fn seconds(digits: &[u8]) -> Option<i64> {
    number(digits).filter(|_| digits.len() <= 9).and_then(|seconds| i64::try_from(seconds).ok())
}

/// `notify-list = "NEVER" / 1#("SUCCESS" / "FAILURE" / "DELAY")` (RFC 3461 4.1)
fn notify(recipient: &mut Recipient, value: Option<&str>) -> Option<()> {
    let value = value?;
    let mut notify = Notify::default();
    if !value.eq_ignore_ascii_case("NEVER") {
        for word in value.split(',') {
            match () {
                () if word.eq_ignore_ascii_case("SUCCESS") => notify.success = true,
                () if word.eq_ignore_ascii_case("FAILURE") => notify.failure = true,
                () if word.eq_ignore_ascii_case("DELAY") => notify.delay = true,
                () => return None,
            }
        }
    }
    recipient.notify = Some(notify);
    Some(())
}

/// `orcpt = addr-type ";" xtext` (RFC 3461 4.2), or the forms of RFC 6533 3 after `utf-8`; kept as it came
fn orcpt(recipient: &mut Recipient, value: Option<&str>) -> Option<()> {
    let value = value.filter(|value| value.len() <= ORCPT_BYTES_MAX)?;
    let (kind, address) = value.split_once(';')?;
    let is_atom = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_address = match kind.eq_ignore_ascii_case("utf-8") {
        true => is_utf8_address(address),
        false => xtext(address).is_some(),
    };
    let is_fit = is_atom && !kind.is_empty() && !address.is_empty() && is_address;
    recipient.orcpt = is_fit.then(|| value.to_owned());
    is_fit.then_some(())
}

/// `utf-8-addr-xtext` and `utf-8-addr-unitext` (RFC 6533 3): characters as they are, or `\x{HEX}`
fn is_utf8_address(address: &str) -> bool {
    let mut parts = address.split('\\');
    let is_plain = |text: &str| text.chars().all(|c| !c.is_control() && !matches!(c, ' ' | '+' | '='));
    let is_escaped = |text: &str| {
        let (digits, rest) = text.strip_prefix("x{")?.split_once('}')?;
        let is_upper_hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        let scalar = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        Some(is_upper_hex && scalar.is_some() && is_plain(rest))
    };
    parts.next().is_some_and(is_plain) && parts.all(|part| is_escaped(part) == Some(true))
}

/// `xtext = *( "!"-"*" / ","-"<" / ">"-"~" / "+" 2HEXDIG )`, hex digits in upper case (RFC 3461 4): decoded
fn xtext(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => 16 * upper_hex(bytes.next()?)? + upper_hex(bytes.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => byte,
            _ => return None,
        });
    }
    Some(decoded)
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// One to twenty digits. What is more than 64 bits hold is more than any limit, too.
fn number(digits: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
        _ => None,
    })
}

/// Words between spaces; several spaces are let pass as one.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{is_utf8_address, number, xtext};

    #[test]
    fn values() {
        let table: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("a+2Bb", Some(b"a+b")),
            ("+00+FF", Some(b"\x00\xFF")),
            ("+2b", None),
            ("+2", None),
            ("+", None),
            ("a b", None),
            ("a=b", None),
            ("\u{fc}", None),
        ];
        for (text, expected) in table {
            assert_eq!(xtext(text).as_deref(), *expected, "{text}");
        }
        for text in ["", "a@b", "\\x{F6}", "a\\x{1F600}b\\x{20}", "\u{f6}@b"] {
            assert!(is_utf8_address(text), "{text}");
        }
        for text in ["\\", "\\x", "\\x{}", "\\x{f6}", "\\x{110000}", "\\x{F6", "a+b", "a b", "\\x{+F6}"] {
            assert!(!is_utf8_address(text), "{text}");
        }
    }

    #[test]
    fn numbers() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"00000000000000000042", Some(42)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", Some(u64::MAX)),
            (b"99999999999999999999", Some(u64::MAX)),
            (b"100000000000000000000", None),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
        ];
        for (digits, expected) in table {
            assert_eq!(number(digits), *expected);
        }
    }
}
