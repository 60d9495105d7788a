//! The words of a command: atoms, strings, numbers, lists (RFC 9051 9).
//!
//! A [`Lexer`] walks over a complete command: its lines and its literals as they came, without the last CRLF.
//! What has no escapes is borrowed from there.
//!
//! Invariants: every byte is passed once, so work is linear; a fault leaves nothing half done, since nothing
//! is done before the end of the command is reached.

use std::borrow::Cow;

use memchr::memchr;

use super::reply::Code;
use crate::mail::set::{Bound, NumberSet};

/// Tags are read again at each literal of a command; clients count with a few letters and digits.
const TAG_BYTES_MAX: usize = 128;

/// What stands in the way of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// BAD: it does not follow the grammar.
    Syntax(&'static str),
    /// NO: it does, but it cannot be.
    Refused(Code, &'static str),
}

pub type Lexed<T> = Result<T, Fault>;

/// Which protocol the session speaks; IMAP4rev2 must be enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    #[default]
    Rev1,
    Rev2,
}

/// A position in a command.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
}

impl<'a> Lexer<'a> {
    pub fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self { bytes, at: 0, dialect }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes `byte` if it is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub fn expect(&mut self, byte: u8, otherwise: &'static str) -> Lexed<()> {
        match self.eat(byte) {
            true => Ok(()),
            false => Err(Fault::Syntax(otherwise)),
        }
    }

    /// Exactly one space stands between arguments.
    pub fn space(&mut self) -> Lexed<()> {
        self.expect(b' ', "Expected a space and another argument")
    }

    /// Passes all that is left.
    pub fn skip_rest(&mut self) {
        self.at = self.bytes.len();
    }

    pub fn end(&self) -> Lexed<()> {
        match self.is_at_end() {
            true => Ok(()),
            false => Err(Fault::Syntax("Unexpected text at the end of the command")),
        }
    }

    /// `1*<any byte for which is_part>`; may be empty.
    fn run(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// `tag = 1*<any ASTRING-CHAR except "+">`
    pub fn tag(&mut self) -> Lexed<&'a str> {
        let tag = self.run(|byte| is_astring_char(byte) && byte != b'+');
        match tag.len() > TAG_BYTES_MAX {
            true => Err(Fault::Syntax("Tag too long")),
            false => ascii(tag, "A command begins with a tag"),
        }
    }

    /// `atom = 1*ATOM-CHAR`
    pub fn atom(&mut self) -> Lexed<&'a str> {
        ascii(self.run(is_atom_char), "Expected an atom")
    }

    /// A name of letters, digits, `.` and `-`: what keywords of the grammar are made of.
    pub fn word(&mut self) -> Lexed<&'a str> {
        let word = self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
        ascii(word, "Expected a keyword")
    }

    /// Passes a word if it is next, in any case.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let before = self.at;
        let is_next = self.word().is_ok_and(|next| next.eq_ignore_ascii_case(word));
        if !is_next {
            self.at = before;
        }
        is_next
    }

    /// `number = 1*DIGIT`, below 2^32
    pub fn number(&mut self) -> Lexed<u32> {
        u32::try_from(self.number64()?).map_err(|_| Fault::Syntax("Number out of range"))
    }

    /// `nz-number = digit-nz *DIGIT`
    pub fn number_nonzero(&mut self) -> Lexed<u32> {
        match self.number()? {
            0 => Err(Fault::Syntax("Zero is not allowed here")),
            number => Ok(number),
        }
    }

    /// `number64 = 1*DIGIT`, below 2^63
    pub fn number64(&mut self) -> Lexed<u64> {
        let digits = ascii(self.run(|byte| byte.is_ascii_digit()), "Expected a number")?;
        let number = digits.parse::<u64>().ok().filter(|&number| number <= i64::MAX as u64);
        number.ok_or(Fault::Syntax("Number out of range"))
    }

    /// `string = quoted / literal`
    pub fn string(&mut self) -> Lexed<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => Err(Fault::Syntax("Expected a string")),
        }
    }

    /// `astring = 1*ASTRING-CHAR / string`
    pub fn astring(&mut self) -> Lexed<Cow<'a, [u8]>> {
        match self.run(is_astring_char) {
            b"" => self.string(),
            word => Ok(Cow::Borrowed(word)),
        }
    }

    /// `list-mailbox = 1*list-char / string`, `list-char = ATOM-CHAR / "%" / "*" / "]"`
    pub fn list_mailbox(&mut self) -> Lexed<Cow<'a, [u8]>> {
        match self.run(|byte| is_astring_char(byte) || matches!(byte, b'%' | b'*')) {
            b"" => self.string(),
            word => Ok(Cow::Borrowed(word)),
        }
    }

    /// `nstring = string / "NIL"`
    pub fn nstring(&mut self) -> Lexed<Option<Cow<'a, [u8]>>> {
        match self.eat_word("NIL") {
            true => Ok(None),
            false => self.string().map(Some),
        }
    }

    /// An astring as text.
    pub fn text(&mut self) -> Lexed<String> {
        utf8(self.astring()?)
    }

    /// A string or an atom, where a number or a date may stand in quotes or not.
    pub fn quoted_or_atom(&mut self) -> Lexed<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            _ => self.atom().map(|atom| Cow::Borrowed(atom.as_bytes())),
        }
    }

    /// `"(" item *(SP item) ")"`
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Lexed<T>) -> Lexed<Vec<T>> {
        self.expect(b'(', "Expected a list in parentheses")?;
        let mut items = vec![item(self)?];
        while self.eat(b' ') {
            items.push(item(self)?);
        }
        self.expect(b')', "Expected a closing parenthesis")?;
        Ok(items)
    }

    /// `"(" [item *(SP item)] ")"`
    pub fn list_or_empty<T>(&mut self, item: impl FnMut(&mut Self) -> Lexed<T>) -> Lexed<Vec<T>> {
        match self.bytes[self.at..].starts_with(b"()") {
            true => {
                self.at += 2;
                Ok(Vec::new())
            }
            false => self.list(item),
        }
    }

    /// `sequence-set = (seq-number / seq-range) ["," sequence-set] / "$"`
    pub fn number_set(&mut self) -> Lexed<NumberSet> {
        if self.eat(b'$') {
            return Ok(NumberSet::Saved);
        }
        let mut ranges = Vec::new();
        loop {
            let from = self.bound()?;
            let to = if self.eat(b':') { self.bound()? } else { from };
            ranges.push((from, to));
            if !self.eat(b',') {
                return Ok(NumberSet::Ranges(ranges));
            }
        }
    }

    /// `seq-number = nz-number / "*"`
    fn bound(&mut self) -> Lexed<Bound> {
        match self.eat(b'*') {
            true => Ok(Bound::Last),
            false => self.number_nonzero().map(Bound::Number),
        }
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`, `QUOTED-CHAR = <any TEXT-CHAR except quoted-specials> / "\"
    /// quoted-specials / UTF8-2 / UTF8-3 / UTF8-4`. UTF-8 is taken from every client: passwords come so.
    pub fn quoted(&mut self) -> Lexed<Cow<'a, [u8]>> {
        self.expect(b'"', "Expected a quoted string")?;
        let plain = self.run(is_quoted_char);
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut value = plain.to_vec();
        while self.eat(b'\\') {
            let Some(escaped @ (b'"' | b'\\')) = self.peek() else {
                return Err(Fault::Syntax("Only a quote or a backslash can be escaped"));
            };
            self.at += 1;
            value.push(escaped);
            value.extend_from_slice(self.run(is_quoted_char));
        }
        self.expect(b'"', "Expected a closing quote")?;
        Ok(Cow::Owned(value))
    }

    /// `literal = "{" number64 ["+"] "}" CRLF *CHAR8`
    fn literal(&mut self) -> Lexed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let line = memchr(b'\r', rest).map_or(rest, |end| &rest[..end]);
        let literal = Literal::at_end(line).filter(|literal| literal.head_bytes == line.len());
        let Some(literal) = literal else {
            return Err(Fault::Syntax("Malformed literal"));
        };
        let from = self.at + literal.head_bytes + 2;
        let to = usize::try_from(literal.size).unwrap_or(usize::MAX).saturating_add(from);
        let Some(value) = self.bytes.get(from..to) else {
            return Err(Fault::Syntax("Malformed literal"));
        };
        self.at = to;
        match memchr(0, value) {
            Some(_) => Err(Fault::Syntax("NUL in a literal")),
            None => Ok(value),
        }
    }
}

/// What stands at the end of a line that a literal follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Literal {
    /// Octets that follow the line.
    pub size: u64,
    pub sync: Sync,
    /// `~{n}`: the octets may be NUL (RFC 3516 4.4).
    pub binary: bool,
    /// From the brace, or its tilde, to the closing brace.
    pub head_bytes: usize,
}

/// Whether the client waits before it sends a literal (RFC 7888).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    Waits,
    /// `{n+}`
    Sends,
}

impl Literal {
    /// Digits that a size has at most.
    const DIGITS_MAX: usize = 20;
    /// The longest head: `~{18446744073709551615+}`.
    pub const HEAD_BYTES_MAX: usize = Self::DIGITS_MAX + 4;

    /// The literal that a line announces with its last bytes. `line` is without CRLF.
    pub fn at_end(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(b"}")?;
        let (rest, sync) = match rest.strip_suffix(b"+") {
            Some(rest) => (rest, Sync::Sends),
            None => (rest, Sync::Waits),
        };
        let digits =
            rest.iter().rev().take(Self::DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > Self::DIGITS_MAX {
            return None;
        }
        let (rest, digits) = rest.split_at(rest.len() - digits);
        let rest = rest.strip_suffix(b"{")?;
        let binary = rest.last() == Some(&b'~');
        let size = digits
            .iter()
            .fold(0_u64, |size, digit| size.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        let head_bytes = line.len() - rest.len() + usize::from(binary);
        Some(Self { size, sync, binary, head_bytes })
    }
}

/// `ATOM-CHAR = <any CHAR except "(" / ")" / "{" / SP / CTL / "%" / "*" / DQUOTE / "\" / "]">`
pub fn is_atom_char(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// `ASTRING-CHAR = ATOM-CHAR / "]"`
pub fn is_astring_char(byte: u8) -> bool {
    is_atom_char(byte) || byte == b']'
}

fn is_quoted_char(byte: u8) -> bool {
    !matches!(byte, 0 | b'\r' | b'\n' | b'"' | b'\\')
}

/// Text in UTF-8.
pub fn utf8(bytes: Cow<'_, [u8]>) -> Lexed<String> {
    String::from_utf8(bytes.into_owned()).map_err(|_| Fault::Syntax("Text is not UTF-8"))
}

/// ASCII bytes as text; what is empty is a fault.
fn ascii<'a>(bytes: &'a [u8], otherwise: &'static str) -> Lexed<&'a str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err(Fault::Syntax(otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Fault, Lexer, Literal, Sync};

    fn lexer(text: &str) -> Lexer<'_> {
        Lexer::new(text.as_bytes(), Dialect::Rev1)
    }

    #[test]
    fn heads_of_literals() {
        type Head = (u64, Sync, bool, usize);
        let table: [(&str, Option<Head>); 14] = [
            ("A LOGIN {5}", Some((5, Sync::Waits, false, 3))),
            ("{0}", Some((0, Sync::Waits, false, 3))),
            ("x {12+}", Some((12, Sync::Sends, false, 5))),
            ("x ~{12+}", Some((12, Sync::Sends, true, 6))),
            ("x ~{3}", Some((3, Sync::Waits, true, 4))),
            ("{99999999999999999999}", Some((u64::MAX, Sync::Waits, false, 22))),
            ("{000000000000000000001}", None),
            ("{}", None),
            ("{+}", None),
            ("{5-}", None),
            ("{5} ", None),
            ("5}", None),
            ("}", None),
            ("", None),
        ];
        for (line, expected) in table {
            let found = Literal::at_end(line.as_bytes());
            let found = found.map(|found| (found.size, found.sync, found.binary, found.head_bytes));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn strings() {
        let table: [(&str, Option<&str>); 15] = [
            ("INBOX", Some("INBOX")),
            ("a]b", Some("a]b")),
            ("\"\"", Some("")),
            ("\"a b\"", Some("a b")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            ("\"ä\"", Some("ä")),
            ("{3}\r\na b", Some("a b")),
            ("{3+}\r\n{1}", Some("{1}")),
            ("{0}\r\n", Some("")),
            (r#""a\b""#, None),
            ("\"open", None),
            ("\"open\\", None),
            ("{4}\r\nabc", None),
            ("{1}\r\n\0", None),
            ("~{1}\r\na", None),
        ];
        for (text, expected) in table {
            let mut lexer = lexer(text);
            let value = lexer.text().ok().filter(|_| lexer.is_at_end());
            // `~` is an atom character, so that a literal8 is an atom with something behind it.
            assert_eq!(value.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("4294967295", Ok(u32::MAX)),
            ("4294967296", Err("Number out of range")),
            ("99999999999999999999999", Err("Number out of range")),
            ("x", Err("Expected a number")),
        ] {
            assert_eq!(lexer(text).number(), expected.map_err(Fault::Syntax), "{text}");
        }
        assert_eq!(lexer("9223372036854775807").number64(), Ok(i64::MAX as u64));
        assert!(lexer("9223372036854775808").number64().is_err());
        assert!(lexer("0").number_nonzero().is_err());
    }

    #[test]
    fn sets() {
        for good in ["1", "*", "1:*", "*:1", "4,2:1,7:*", "$"] {
            let mut lexer = lexer(good);
            assert!(lexer.number_set().is_ok() && lexer.is_at_end(), "{good}");
        }
        for bad in ["", "0", "1:", ":1", "1,", ",1", "a", "1:2:3", "1,$", "$,1", "4294967296"] {
            let mut lexer = lexer(bad);
            assert!(lexer.number_set().is_err() || !lexer.is_at_end(), "{bad}");
        }
    }

    #[test]
    fn lists() {
        let number = |lexer: &mut Lexer<'_>| lexer.number();
        assert_eq!(lexer("(1 2 3)").list(number), Ok(vec![1, 2, 3]));
        assert!(lexer("()").list(number).is_err());
        assert_eq!(lexer("()").list_or_empty(number), Ok(vec![]));
        for bad in ["(1  2)", "( 1)", "(1 )", "(1", "1", "(1,2)"] {
            assert!(lexer(bad).list(number).is_err(), "{bad}");
        }
    }
}
