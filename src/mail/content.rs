//! Structured MIME fields: Content-Type, Content-Disposition and their parameters (RFC 2045 5, 2183, 2231).
//!
//! ```text
//! content   = type "/" subtype *(";" parameter)
//! parameter = attribute "=" ( token / quoted-string )
//! ```
//!
//! A value without quotes ends at a blank, a comment or a semicolon, whatever else it holds: senders write
//! `boundary=----=_Part` and mean it. What does not parse is skipped up to the next semicolon.
//!
//! Invariants: at most `limits::mime::PARAMETERS_MAX` parameters, joined in less than quadratic time; for one
//! field all readers see the same parameters, and of two with one name the first counts.

use std::borrow::Cow;

use super::address_list::{comment_len, quoted_len, unquote};
use super::charset;
use super::header::compare_names;
use super::transfer::hex_value;
use crate::limits::mime::PARAMETERS_MAX;

/// The value of a Content-Type field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaType<'a> {
    /// As spelt.
    pub name: &'a [u8],
    pub subtype: &'a [u8],
    /// What follows, for [`parameters`].
    pub parameters: &'a [u8],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter<'a> {
    /// As spelt.
    pub name: Cow<'a, [u8]>,
    /// Without quotes.
    pub value: Cow<'a, [u8]>,
}

/// What becomes of values that RFC 2231 encodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extended {
    /// Sections are joined, and the value stays percent-encoded with its charset in front: one parameter that
    /// every reader of RFC 2231 understands, in ASCII.
    Joined,
    /// Sections are joined and decoded to UTF-8, as RFC 9051 7.5.2 asks.
    Decoded,
}

impl<'a> MediaType<'a> {
    /// RFC 2045 5.2: what there is without the field.
    pub const PLAIN: MediaType<'static> =
        MediaType { name: b"TEXT", subtype: b"PLAIN", parameters: b";CHARSET=US-ASCII" };
    /// RFC 2046 5.1.5: what there is without the field in a digest.
    pub const RFC822: MediaType<'static> =
        MediaType { name: b"MESSAGE", subtype: b"RFC822", parameters: b"" };
    /// Bytes that are not looked into.
    pub const OPAQUE: MediaType<'static> =
        MediaType { name: b"APPLICATION", subtype: b"OCTET-STREAM", parameters: b"" };

    /// `None` if it is not of the grammar.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let rest = skip_blanks(value);
        let (name, rest) = token(rest)?;
        let rest = skip_blanks(rest).strip_prefix(b"/")?;
        let (subtype, parameters) = token(skip_blanks(rest))?;
        Some(Self { name, subtype, parameters })
    }

    pub fn is(&self, name: &str, subtype: &str) -> bool {
        self.is_a(name) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// Whether the type, apart from the subtype, is this.
    pub fn is_a(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The first parameter of this name, as it is.
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut all = parameters(self.parameters);
        all.find(|parameter| parameter.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|parameter| parameter.value)
    }
}

/// The type of a Content-Disposition and what follows it, for [`parameters`].
pub fn disposition(value: &[u8]) -> Option<(&[u8], &[u8])> {
    token(skip_blanks(value))
}

/// The token that a value begins with.
pub fn first_token(value: &[u8]) -> Option<&[u8]> {
    token(skip_blanks(value)).map(|(token, _)| token)
}

/// The parameters one by one, as they are spelt.
pub fn parameters(rest: &[u8]) -> impl Iterator<Item = Parameter<'_>> {
    let mut rest = rest;
    let all = std::iter::from_fn(move || {
        loop {
            rest = after_semicolon(rest)?;
            if let Some((parameter, after)) = parameter(rest) {
                rest = after;
                return Some(parameter);
            }
        }
    });
    all.take(PARAMETERS_MAX)
}

/// The parameters with the sections of RFC 2231 joined, each at the place of its first section.
pub fn joined_parameters(rest: &[u8], extended: Extended) -> Vec<Parameter<'_>> {
    let all: Vec<_> = parameters(rest).collect();
    if !all.iter().any(|parameter| parameter.name.contains(&b'*')) {
        return all;
    }
    let mut out = Vec::with_capacity(all.len());
    let mut sections = Vec::new();
    for (order, parameter) in all.into_iter().enumerate() {
        match Section::of(order, parameter) {
            Ok(section) => sections.push(section),
            Err(parameter) => out.push((order, parameter)),
        }
    }
    sections.sort_by(Section::compare);
    for group in sections.chunk_by(|left, right| compare_names(left.base(), right.base()).is_eq()) {
        let order = group.iter().map(|section| section.order).min().unwrap_or_default();
        out.push((order, join(group, extended)));
    }
    out.sort_by_key(|(order, _)| *order);
    out.into_iter().map(|(_, parameter)| parameter).collect()
}

/// `name*`, `name*0`, `name*0*` (RFC 2231 3 and 4).
struct Section<'a> {
    /// Its place among all parameters.
    order: usize,
    base_len: usize,
    number: u32,
    is_extended: bool,
    parameter: Parameter<'a>,
}

impl<'a> Section<'a> {
    fn of(order: usize, parameter: Parameter<'a>) -> Result<Self, Parameter<'a>> {
        let Some(base_len) = parameter.name.iter().position(|byte| *byte == b'*') else {
            return Err(parameter);
        };
        let rest = &parameter.name[base_len + 1..];
        let digits = rest.strip_suffix(b"*").unwrap_or(rest);
        let is_number = digits.len() <= 4 && digits.iter().all(u8::is_ascii_digit);
        let is_well_formed = match rest {
            b"" => true,
            _ => is_number && (digits == b"0" || !digits.starts_with(b"0")) && !digits.is_empty(),
        };
        if !is_well_formed || base_len == 0 {
            return Err(parameter);
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        let is_extended = rest.is_empty() || rest.len() > digits.len();
        Ok(Self { order, base_len, number, is_extended, parameter })
    }

    fn base(&self) -> &[u8] {
        &self.parameter.name[..self.base_len]
    }

    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let by_name = compare_names(self.base(), other.base());
        by_name.then(self.number.cmp(&other.number)).then(self.order.cmp(&other.order))
    }
}

/// One parameter of the sections of one name, which are in order. A gap ends the value, a double is left out.
fn join<'a>(group: &[Section<'a>], extended: Extended) -> Parameter<'a> {
    let mut next = group[0].number;
    let mut used = Vec::with_capacity(group.len());
    for section in group {
        if section.number == next {
            used.push(section);
            next += 1;
        }
    }
    let base = group[0].base();
    if !used.iter().any(|section| section.is_extended) {
        let value = used.iter().flat_map(|section| section.parameter.value.iter().copied()).collect();
        return Parameter { name: Cow::Owned(base.to_vec()), value: Cow::Owned(value) };
    }
    let name = Cow::Owned([base, b"*"].concat());
    let value = match extended {
        Extended::Joined => join_encoded(&used),
        Extended::Decoded => decode_joined(&used),
    };
    Parameter { name, value: Cow::Owned(value) }
}

fn join_encoded(sections: &[&Section<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    if !sections[0].is_extended {
        out.extend_from_slice(b"''");
    }
    for section in sections {
        for &byte in section.parameter.value.iter() {
            // RFC 2231 7, attribute-char: what a section without encoding holds may have to be encoded now.
            let is_plain = byte.is_ascii_graphic() && !b"*'%()<>@,;:\\\"/[]?=".contains(&byte);
            match section.is_extended || is_plain {
                true => out.push(byte),
                false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
    }
    out
}

fn decode_joined(sections: &[&Section<'_>]) -> Vec<u8> {
    let (mut octets, mut label) = (Vec::new(), None);
    for (index, section) in sections.iter().enumerate() {
        let mut value = &section.parameter.value[..];
        if !section.is_extended {
            octets.extend_from_slice(value);
            continue;
        }
        if index == 0 {
            // charset ' language ' value; without the quotes it is all value.
            let mut fields = value.splitn(3, |byte| *byte == b'\'');
            if let (Some(charset), Some(_), Some(rest)) = (fields.next(), fields.next(), fields.next()) {
                (label, value) = (Some(charset), rest);
            }
        }
        percent_decode(value, &mut octets);
    }
    charset::to_utf8(label, &octets).into_owned().into_bytes()
}

fn percent_decode(value: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < value.len() {
        match value[at..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_value(high) << 4 | hex_value(low));
                at += 3;
            }
            _ => {
                out.push(value[at]);
                at += 1;
            }
        }
    }
}

/// What follows the next semicolon; quoted strings and comments are passed over whole.
fn after_semicolon(rest: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        at += match rest.get(at)? {
            b';' => return Some(&rest[at + 1..]),
            b'"' => quoted_len(&rest[at..]),
            b'(' => comment_len(&rest[at..]),
            _ => 1,
        };
    }
}

/// A parameter at the front of `rest`, and what follows it.
fn parameter(rest: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let (name, rest) = token(skip_blanks(rest))?;
    let rest = skip_blanks(skip_blanks(rest).strip_prefix(b"=")?);
    let (value, rest) = match rest.first() {
        Some(b'"') => {
            let (quoted, rest) = rest.split_at(quoted_len(rest));
            (unquoted(quoted), rest)
        }
        _ => {
            let is_end = |byte: &u8| matches!(byte, b';' | b'(' | b' ' | b'\t' | b'\r' | b'\n' | b'"');
            let (value, rest) = rest.split_at(rest.iter().position(is_end).unwrap_or(rest.len()));
            (Cow::Borrowed(value), rest)
        }
    };
    Some((Parameter { name: Cow::Borrowed(name), value }, rest))
}

/// The value of a quoted string that may lack its end.
fn unquoted(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inside = &quoted[1..];
    let inside = inside.strip_suffix(b"\"").unwrap_or(inside);
    if !inside.iter().any(|byte| matches!(byte, b'\\' | b'\r' | b'"')) {
        return Cow::Borrowed(inside);
    }
    let mut value = Vec::with_capacity(quoted.len());
    unquote(quoted, &mut value);
    Cow::Owned(value)
}

/// RFC 2045 5.1: printable ASCII without the tspecials.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(byte);
    let len = text.iter().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (len > 0).then(|| text.split_at(len))
}

/// Without blanks, line ends and comments at the front.
fn skip_blanks(text: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b' ' | b'\t' | b'\r' | b'\n' => 1,
            b'(' => comment_len(&text[at..]),
            _ => break,
        };
    }
    &text[at..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Extended, MediaType, disposition, joined_parameters, parameters};

    fn shown(value: &str, extended: Extended) -> String {
        let (_, rest) = disposition(value.as_bytes()).expect("a token first");
        let all = joined_parameters(rest, extended).into_iter().map(|parameter| {
            let [name, value] = [parameter.name, parameter.value].map(|part| part.escape_ascii().to_string());
            format!("{name}={value}")
        });
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn media_types() {
        let cases: [(&str, Option<(&str, &str)>); 10] = [
            ("text/plain", Some(("text", "plain"))),
            (" Text / (odd) HTML ; charset=x", Some(("Text", "HTML"))),
            ("(c)\r\n multipart/mixed", Some(("multipart", "mixed"))),
            ("text", None),
            ("text/", None),
            ("/plain", None),
            ("", None),
            ("text/plain junk", Some(("text", "plain"))),
            ("te\u{e4}xt/plain", None),
            ("application/vnd.x+json", Some(("application", "vnd.x+json"))),
        ];
        for (value, expected) in cases {
            let parsed = MediaType::parse(value.as_bytes());
            let expected = expected.map(|(name, subtype)| (name.as_bytes(), subtype.as_bytes()));
            assert_eq!(parsed.map(|media| (media.name, media.subtype)), expected, "{value}");
        }
    }

    #[test]
    fn plain_parameters() {
        let cases = [
            ("a; b=c", "b=c"),
            ("a;b=c;d=e", "b=c d=e"),
            ("a; charset=us-ascii (Plain text)", "charset=us-ascii"),
            ("a; b = \"x;y\" ; c=\"q\\\"q\"", "b=x;y c=q\\\"q"),
            ("a; boundary=----=_Part_1", "boundary=----=_Part_1"),
            ("a; b=c d; e=f", "b=c e=f"),
            ("a; b; c=d", "c=d"),
            ("a; =x; c=d", "c=d"),
            ("a;;; c=d;", "c=d"),
            ("a junk \"; x=y\" ; c=d", "c=d"),
            ("a; b=\"unclosed; c=d", "b=unclosed; c=d"),
            ("a; b=", "b="),
            ("a; b=\"\"", "b="),
            ("a; b=\"fold\r\n ed\"", "b=fold ed"),
            ("a; b=1; b=2", "b=1 b=2"),
            ("a; name==?utf-8?Q?x?=", "name==?utf-8?Q?x?="),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value, Extended::Joined), expected, "{value}");
            assert_eq!(shown(value, Extended::Decoded), expected, "{value}");
        }
    }

    #[test]
    fn extended_parameters() {
        let cases = [
            ("a; baz*0=\"one \"; x=y; baz*1=two", "baz=one two x=y", "baz=one two x=y"),
            ("a; baz*1=two; baz*0=one", "baz=onetwo", "baz=onetwo"),
            ("a; f*=utf-8''K%C3%A4se", "f*=utf-8\\'\\'K%C3%A4se", "f*=K\\xc3\\xa4se"),
            ("a; f*=iso-8859-1'de'K%E4se", "f*=iso-8859-1\\'de\\'K%E4se", "f*=K\\xc3\\xa4se"),
            (
                "a; f*0*=utf-8''K%C3; f*1*=%A4se; f*2=\" %x\"",
                "f*=utf-8\\'\\'K%C3%A4se%20%25x",
                "f*=K\\xc3\\xa4se %x",
            ),
            ("a; f*0=x; f*1*=%20y", "f*=\\'\\'x%20y", "f*=x y"),
            ("a; f*0=x; f*2=y", "f=x", "f=x"),
            ("a; f*0=x; f*0=y; F*1=z", "f=xz", "f=xz"),
            ("a; f*00=x", "f*00=x", "f*00=x"),
            ("a; *0=x; f*x=y", "*0=x f*x=y", "*0=x f*x=y"),
            ("a; f*=%ZZ", "f*=%ZZ", "f*=%ZZ"),
            ("a; f=1; f*=utf-8''2", "f=1 f*=utf-8\\'\\'2", "f=1 f*=2"),
        ];
        for (value, joined, decoded) in cases {
            assert_eq!(shown(value, Extended::Joined), joined, "{value}");
            assert_eq!(shown(value, Extended::Decoded), decoded, "{value}");
        }
    }

    #[test]
    fn many_sections_are_bounded() {
        let many: String = (0..100_000).map(|number| format!("; f*{}=x", number % 10_000)).collect();
        assert_eq!(joined_parameters(many.as_bytes(), Extended::Joined)[0].value.len(), 1000);
        assert_eq!(parameters(&b";".repeat(500_000)).count(), 0);
        assert_eq!(parameters(&b";(".repeat(500_000)).count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_panics(junk in any::<Vec<u8>>(), near in "a/b[;a*01=\"%' (\r\n\\\\]{0,24}") {
            for value in [&junk[..], near.as_bytes()] {
                MediaType::parse(value);
                joined_parameters(value, Extended::Joined);
                joined_parameters(value, Extended::Decoded);
            }
        }
    }
}
