//! Header blocks, read where they lie (RFC 5322 2.2).
//!
//! A header ends at its first empty line, or with the message. A field goes on while lines begin with a space
//! or a tab. A line without a colon is a field without a name: it stays where it is and answers to nothing.
//!
//! Invariants: the raw bytes of all fields, one after the other, are the block up to the bound of
//! `limits::mime::HEADER_BYTES_MAX`; only CRLF ends a line; nothing is copied to find a field.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use memchr::{memchr, memmem, memrchr};

use crate::limits::mime::HEADER_BYTES_MAX;

/// The header block at the front of a message or part.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The fields, without the empty line.
    block: &'a [u8],
    /// The empty line is there.
    closed: bool,
}

/// A field where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Without whitespace before the colon; empty for a line that has no colon.
    pub name: &'a [u8],
    /// What follows the colon, folding included, without the last CRLF.
    pub value: &'a [u8],
    /// All of it, with its line ends.
    pub raw: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header at the front of `message`: up to and with the first empty line, or all of it.
    pub fn of(message: &'a [u8]) -> Self {
        if message.starts_with(b"\r\n") {
            return Self { block: &[], closed: true };
        }
        match memmem::find(message, b"\r\n\r\n") {
            Some(at) => Self { block: &message[..at + 2], closed: true },
            None => Self { block: message, closed: false },
        }
    }

    /// A block whose end is known: all of `bytes`, which end with the empty line if there is one.
    pub fn whole(bytes: &'a [u8]) -> Self {
        match bytes {
            b"\r\n" => Self { block: &[], closed: true },
            _ if bytes.ends_with(b"\r\n\r\n") => Self { block: &bytes[..bytes.len() - 2], closed: true },
            _ => Self { block: bytes, closed: false },
        }
    }

    /// The fields as they lie there; those of them that are looked at.
    pub fn block(&self) -> &'a [u8] {
        looked_at(self.block)
    }

    /// Where the body begins.
    pub fn len(&self) -> usize {
        self.block.len() + if self.closed { 2 } else { 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an empty line ends it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The fields in order; those that end within `limits::mime::HEADER_BYTES_MAX`.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        self.raw_fields().map(Field::of)
    }

    /// The same, not taken apart.
    pub fn raw_fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = looked_at(self.block);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (raw, after) = rest.split_at(field_len(rest));
            rest = after;
            Some(raw)
        })
    }

    /// The raw value of the first field of this name, in any case.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The raw values of all fields of this name, in any case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields().filter(move |field| field.is_named(name)).map(|field| field.value)
    }
}

impl<'a> Field<'a> {
    /// Takes the bytes of one field apart.
    pub fn of(raw: &'a [u8]) -> Self {
        let text = raw.strip_suffix(b"\r\n").unwrap_or(raw);
        let nameless = Self { name: &[], value: text, raw };
        let Some(colon) = memchr(b':', text) else {
            return nameless;
        };
        // RFC 5322 4.5: whitespace before the colon is obsolete and means nothing.
        let name = trim_end(&text[..colon]);
        if memchr(b'\n', name).is_some() {
            return nameless;
        }
        Self { name, value: &text[colon + 1..], raw }
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The named fields in the header's order, as they are, and the empty line if the header has one (RFC 9051 6.4.5.1).
pub fn subset(header: &Header<'_>, names: &[String]) -> Vec<u8> {
    let names = FieldNames::of(names);
    gather(header, |field| names.contain(field.name))
}

/// All fields but the named ones.
pub fn subset_not(header: &Header<'_>, names: &[String]) -> Vec<u8> {
    let names = FieldNames::of(names);
    gather(header, |field| !names.contain(field.name))
}

/// The fields that `wanted` says, and the empty line if the header has one.
fn gather(header: &Header<'_>, wanted: impl Fn(&Field<'_>) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in header.fields().filter(wanted) {
        out.extend_from_slice(field.raw);
    }
    if header.closed {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A raw value without its folding (RFC 5322 2.2.3) and without whitespace around it.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut from = 0;
    for at in memmem::find_iter(value, b"\r\n") {
        out.extend_from_slice(&value[from..at]);
        from = at + 2;
    }
    out.extend_from_slice(&value[from..]);
    Cow::Owned(out)
}

/// Without spaces, tabs and line ends on both sides.
pub fn trim(text: &[u8]) -> &[u8] {
    let from = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    trim_end(&text[from..])
}

/// The place of `inner` in `outer`, of which it is a part.
pub fn range_in(outer: &[u8], inner: &[u8]) -> Range<usize> {
    let start = inner.as_ptr() as usize - outer.as_ptr() as usize;
    assert!(start + inner.len() <= outer.len(), "not a part of it");
    start..start + inner.len()
}

/// Where the line that begins at `from` ends, its CRLF included; the end of `text` if it has none.
pub fn line_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = memchr(b'\n', &text[at..]) {
        at += found + 1;
        if at - from >= 2 && text[at - 2] == b'\r' {
            return at;
        }
    }
    text.len()
}

pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) fn trim_end(text: &[u8]) -> &[u8] {
    let to = text.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &text[..to]
}

/// How long the field at the front of `rest` is.
pub(super) fn field_len(rest: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at = line_end(rest, at);
        if !rest.get(at).copied().is_some_and(is_blank) {
            return at;
        }
    }
}

/// The part of a block whose fields count: whole fields within the bound.
fn looked_at(block: &[u8]) -> &[u8] {
    if block.len() <= HEADER_BYTES_MAX {
        return block;
    }
    let mut to = HEADER_BYTES_MAX;
    while let Some(at) = memrchr(b'\n', &block[..to]) {
        let next_begins_a_field = block.get(at + 1).is_some_and(|byte| !is_blank(*byte));
        if next_begins_a_field && at > 0 && block[at - 1] == b'\r' {
            return &block[..at + 1];
        }
        to = at;
    }
    &[]
}

/// Names of fields to look up, in any case: sorted, since a client may send thousands.
struct FieldNames {
    /// In lower case, the short ones first.
    names: Vec<Vec<u8>>,
    /// A bit for each length that there is: most fields of a message are dismissed by theirs.
    lengths: u64,
}

impl FieldNames {
    fn of(names: &[String]) -> Self {
        let mut names: Vec<Vec<u8>> =
            names.iter().map(|name| name.to_ascii_lowercase().into_bytes()).collect();
        names.sort_unstable_by(|left, right| left.len().cmp(&right.len()).then_with(|| left.cmp(right)));
        let lengths = names.iter().fold(0, |lengths, name| lengths | Self::bit(name.len()));
        Self { names, lengths }
    }

    fn contain(&self, name: &[u8]) -> bool {
        if name.is_empty() || self.lengths & Self::bit(name.len()) == 0 {
            return false;
        }
        let order = |known: &Vec<u8>| {
            let lower = name.iter().map(u8::to_ascii_lowercase);
            known.len().cmp(&name.len()).then_with(|| known.iter().copied().cmp(lower))
        };
        self.names.binary_search_by(order).is_ok()
    }

    /// The lengths that it has no place for share the last.
    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

/// The order of names without regard to case.
pub fn compare_names(left: &[u8], right: &[u8]) -> Ordering {
    let lower = |name: &[u8], index: usize| name[index].to_ascii_lowercase();
    let common = left.len().min(right.len());
    let differing = (0..common).map(|index| lower(left, index).cmp(&lower(right, index)));
    let differing = differing.into_iter().find(|order| order.is_ne());
    differing.unwrap_or_else(|| left.len().cmp(&right.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Header, subset, subset_not, unfold};
    use crate::limits::mime::HEADER_BYTES_MAX;

    const ODD: &[u8] = b"From mbox line\r\nSubject : a\r\n\tb\r\nno colon\r\n more: of it\r\n: nameless\r\nsubject:c\nd\r\n\r\nbody: x\r\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn fields_and_odd_lines() {
        let header = Header::of(ODD);
        assert_eq!(&ODD[header.len()..], b"body: x\r\n");
        let found: Vec<_> = header.fields().map(|field| (field.name, field.value)).collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"", b"From mbox line"),
            (b"Subject", b" a\r\n\tb"),
            (b"", b"no colon\r\n more: of it"),
            (b"", b" nameless"),
            (b"subject", b"c\nd"),
        ];
        assert_eq!(found, expected);
        assert_eq!(header.find("SUBJECT"), Some(&b" a\r\n\tb"[..]));
        assert_eq!(header.all("subject").count(), 2);
    }

    #[test]
    fn subsets_keep_order_folding_and_the_empty_line() {
        let header = Header::of(ODD);
        assert_eq!(subset(&header, &names(&["x", "SUBJECT"])), b"Subject : a\r\n\tb\r\nsubject:c\nd\r\n\r\n");
        assert_eq!(subset(&header, &names(&["x"])), b"\r\n");
        assert_eq!(subset(&header, &names(&[""])), b"\r\n");
        let others = b"From mbox line\r\nno colon\r\n more: of it\r\n: nameless\r\n\r\n";
        assert_eq!(subset_not(&header, &names(&["subject"])), others);
        // Neither body nor empty line: none is made up.
        assert_eq!(subset(&Header::of(b"A: 1\r\nB: 2\r\n"), &names(&["b"])), b"B: 2\r\n");
        assert_eq!(subset(&Header::of(b"A: 1\r\nB: 2"), &names(&["c"])), b"");
    }

    #[test]
    fn ends_of_headers() {
        let cases: [(&[u8], usize, bool); 6] = [
            (b"", 0, false),
            (b"\r\n", 2, true),
            (b"\r\nA: 1\r\n\r\n", 2, true),
            (b"A: 1\r\n\r\n", 8, true),
            (b"A: 1\r\n", 6, false),
            (b"A: 1\n\nB: 2\r\n", 12, false),
        ];
        for (message, len, closed) in cases {
            let header = Header::of(message);
            assert_eq!((header.len(), header.is_closed()), (len, closed), "{message:?}");
            let again = Header::whole(&message[..len]);
            assert_eq!((again.len(), again.is_closed()), (len, closed), "{message:?}");
        }
    }

    #[test]
    fn fields_beyond_the_bound_do_not_count() {
        let mut message = b"A: 1\r\nB:".to_vec();
        message.extend(b" x\r\n".repeat(HEADER_BYTES_MAX / 4));
        message.extend(b"C: 3\r\n\r\n");
        let header = Header::of(&message);
        assert_eq!(header.len(), message.len());
        assert_eq!(header.fields().map(|field| field.name).collect::<Vec<_>>(), [b"A"]);
    }

    #[test]
    fn unfolding() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b" a b\t", b"a b"), (b" a\r\n b\r\n\tc", b"a b\tc"), (b"\r\n a", b"a"), (b" \r\n ", b"")];
        for (raw, text) in cases {
            assert_eq!(&*unfold(raw), text);
        }
    }

    proptest! {
        #[test]
        fn fields_make_up_the_block(message in "([A-C]: ?[a\r\n \t:]{0,6}\r\n){0,6}[\r\na :]{0,6}") {
            let header = Header::of(message.as_bytes());
            let mut all: Vec<u8> = header.fields().flat_map(|field| field.raw.to_vec()).collect();
            if header.is_closed() {
                all.extend(b"\r\n");
            }
            assert_eq!(&all, &message.as_bytes()[..header.len()]);
        }

        #[test]
        fn a_subset_and_its_complement_are_the_header(bytes in "([A-Ca-c]: ?[a\r\n \t:]{0,6}\r\n){0,6}", odd in any::<Vec<u8>>()) {
            let mut message = bytes.into_bytes();
            message.extend(odd);
            let header = Header::of(&message);
            let chosen = names(&["a", "B"]);
            let empty_line = if header.is_closed() { 2 } else { 0 };
            let both = subset(&header, &chosen).len() + subset_not(&header, &chosen).len();
            assert_eq!(both, header.len() + empty_line);
        }
    }
}
