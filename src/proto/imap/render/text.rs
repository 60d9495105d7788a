//! The smallest pieces of a response: numbers, strings, sets, names. They are written without `fmt`, whose
//! machinery costs more than the bytes where a mailbox is listed.

use super::list::Names;
use crate::mail::mutf7;
use crate::mail::set::Ranges;
use crate::proto::imap::lexer::is_astring_char;

/// A string is quoted up to this length, and a literal beyond it.
const QUOTED_BYTES_MAX: usize = 1024;

/// Decimal digits.
pub fn number(text: &mut Vec<u8>, mut number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return text.extend_from_slice(&digits[at..]);
        }
    }
}

/// `2:4,7`, or nothing for an empty set.
pub fn ranges(text: &mut Vec<u8>, ranges: &Ranges) {
    for (index, &(from, to)) in ranges.ranges().iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        number(text, from.into());
        if from != to {
            text.push(b':');
            number(text, to.into());
        }
    }
}

/// `{342}` and CRLF.
pub fn literal_head(text: &mut Vec<u8>, len: usize) {
    text.push(b'{');
    number(text, len as u64);
    text.extend_from_slice(b"}\r\n");
}

/// A mailbox name: an atom where it can be, else quoted, else a literal. INBOX is always an atom.
pub fn mailbox(text: &mut Vec<u8>, name: &str, names: Names) {
    match names {
        Names::ModifiedUtf7 if !name.is_ascii() || name.contains('&') => {
            astring(text, mutf7::encode(name).as_bytes())
        }
        _ => astring(text, name.as_bytes()),
    }
}

fn astring(text: &mut Vec<u8>, value: &[u8]) {
    // An atom NIL could be taken for no value.
    let is_atom = !value.is_empty() && value.iter().all(|&byte| is_astring_char(byte));
    match is_atom && !value.eq_ignore_ascii_case(b"NIL") {
        true => text.extend_from_slice(value),
        false => string(text, value),
    }
}

/// A quoted string, or a literal for what cannot be quoted.
pub fn string(text: &mut Vec<u8>, value: &[u8]) {
    let is_quotable = |byte: &u8| !matches!(byte, 0 | b'\r' | b'\n');
    if value.len() > QUOTED_BYTES_MAX || !value.iter().all(is_quotable) {
        literal_head(text, value.len());
        return text.extend_from_slice(value);
    }
    text.push(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.push(b'"');
}

/// Words between parentheses, in the order of the iterator.
pub fn list<'a>(text: &mut Vec<u8>, words: impl IntoIterator<Item = &'a str>) {
    text.push(b'(');
    let empty = text.len();
    for word in words {
        if text.len() > empty {
            text.push(b' ');
        }
        text.extend_from_slice(word.as_bytes());
    }
    text.push(b')');
}

#[cfg(test)]
mod tests {
    use super::{Names, list, mailbox, number, ranges, string};
    use crate::mail::set::Ranges;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 99, 100, 12345, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|text| number(text, value)), value.to_string());
        }
    }

    #[test]
    fn sets_and_lists() {
        let set: Ranges = [2, 3, 4, 7].into_iter().collect();
        assert_eq!(written(|text| ranges(text, &set)), "2:4,7");
        assert_eq!(written(|text| list(text, ["a", "b"])), "(a b)");
        assert_eq!(written(|text| list(text, [])), "()");
    }

    #[test]
    fn strings() {
        for (value, expected) in
            [("", "\"\""), ("a b", "\"a b\""), ("a\"\\", "\"a\\\"\\\\\""), ("a\r\nb", "{4}\r\na\r\nb")]
        {
            assert_eq!(written(|text| string(text, value.as_bytes())), expected);
        }
        assert!(written(|text| string(text, &[b'x'; 2000])).starts_with("{2000}\r\n"));
    }

    #[test]
    fn mailbox_names() {
        for (name, rev1, rev2) in [
            ("INBOX", "INBOX", "INBOX"),
            ("a b", "\"a b\"", "\"a b\""),
            ("", "\"\"", "\"\""),
            ("nil", "\"nil\"", "\"nil\""),
            ("a%b", "\"a%b\"", "\"a%b\""),
            ("a]b", "a]b", "a]b"),
            ("a&b", "a&-b", "a&b"),
            ("Entwürfe", "Entw&APw-rfe", "\"Entwürfe\""),
        ] {
            assert_eq!(written(|text| mailbox(text, name, Names::ModifiedUtf7)), rev1);
            assert_eq!(written(|text| mailbox(text, name, Names::Utf8)), rev2);
        }
    }
}
