//! Address lists of header fields (RFC 5322 3.4 and 4.4), as best they can be read.
//!
//! One pass from left to right. What stands before `<` is a name, what stands before `@` ends in a local
//! part, `:` opens a group and `;` closes it; comments are skipped by counting. Where the grammar is broken
//! the reading goes on at the next comma, and nothing is ever refused.
//!
//! Invariants: linear; each group that starts ends; at most `limits::mime::ENVELOPE_ADDRESSES_MAX` entries
//! and one end of group.

use std::borrow::Cow;

use super::header::{trim, unfold};
use crate::limits::mime::ENVELOPE_ADDRESSES_MAX;

/// One element of a list, in the order of the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry<'a> {
    Mailbox(Mailbox<'a>),
    /// The name of a group; its members follow.
    GroupStart(Cow<'a, [u8]>),
    GroupEnd,
}

/// A mailbox as the field spells it: raw octets, quotes and comments taken off.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mailbox<'a> {
    /// The display name, or else a comment beside the address.
    pub name: Option<Cow<'a, [u8]>>,
    /// The source route, `@a,@b`.
    pub route: Option<Cow<'a, [u8]>>,
    pub local: Cow<'a, [u8]>,
    /// Empty where the field has none.
    pub domain: Cow<'a, [u8]>,
}

/// The entries of a raw field value; at most `limits::mime::ENVELOPE_ADDRESSES_MAX`.
pub fn entries(value: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut reader = Reader { input: value, at: 0, in_group: false, comment: None };
    let mut count = 0;
    std::iter::from_fn(move || {
        count += 1;
        if count > ENVELOPE_ADDRESSES_MAX {
            return std::mem::take(&mut reader.in_group).then_some(Entry::GroupEnd);
        }
        reader.entry()
    })
}

/// The first mailbox, which SORT goes by (RFC 5256 3).
pub fn first_mailbox(value: &[u8]) -> Option<Mailbox<'_>> {
    entries(value).find_map(|entry| match entry {
        Entry::Mailbox(mailbox) => Some(mailbox),
        _ => None,
    })
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    in_group: bool,
    /// The last comment inside or beside the address at hand, without its parentheses.
    comment: Option<&'a [u8]>,
}

impl<'a> Reader<'a> {
    fn entry(&mut self) -> Option<Entry<'a>> {
        loop {
            self.comment = None;
            self.skip_blanks();
            match self.peek() {
                None => return std::mem::take(&mut self.in_group).then_some(Entry::GroupEnd),
                Some(b',') => self.at += 1,
                Some(b';') => {
                    self.at += 1;
                    if std::mem::take(&mut self.in_group) {
                        return Some(Entry::GroupEnd);
                    }
                }
                Some(_) => {
                    if let Some(entry) = self.element() {
                        return Some(entry);
                    }
                }
            }
        }
    }

    /// A mailbox or the beginning of a group; `None` if there was nothing but junk.
    fn element(&mut self) -> Option<Entry<'a>> {
        let start = self.at;
        let last_word = self.skip_words();
        let words = &self.input[start..self.at];
        match self.peek() {
            Some(b'<') => Some(Entry::Mailbox(self.angle(words))),
            Some(b':') => {
                self.at += 1;
                self.in_group = true;
                Some(Entry::GroupStart(phrase(words)))
            }
            Some(b'@') => Some(Entry::Mailbox(self.bare(start, last_word))),
            _ => self.local_only(words).map(Entry::Mailbox),
        }
    }

    /// `words <route:local@domain>`, at the bracket.
    fn angle(&mut self, words: &'a [u8]) -> Mailbox<'a> {
        self.at += 1;
        self.skip_blanks();
        let route = (self.peek() == Some(b'@')).then(|| {
            let route = self.until(b":>");
            self.at += usize::from(self.peek() == Some(b':'));
            compact(route)
        });
        let local = compact(self.until(b"@>"));
        let domain = match self.peek() {
            Some(b'@') => {
                self.at += 1;
                compact(self.until(b">,"))
            }
            _ => Cow::default(),
        };
        self.at += usize::from(self.peek() == Some(b'>'));
        self.until(b",;");
        let name = Some(phrase(words)).filter(|name| !name.is_empty());
        Mailbox { name: name.or_else(|| self.comment_name()), route, local, domain }
    }

    /// `local@domain` without brackets, at the `@`; `local` is the last word.
    fn bare(&mut self, start: usize, last_word: usize) -> Mailbox<'a> {
        let local = compact(&self.input[last_word..self.at]);
        let before = phrase(&self.input[start..last_word]);
        self.at += 1;
        self.skip_blanks();
        let from = self.at;
        self.skip_domain();
        let domain = compact(&self.input[from..self.at]);
        self.until(b",;<");
        if self.peek() == Some(b'<') {
            // `joe@example.com <joe@example.com>`: what looked like an address was a name after all.
            return self.angle(&self.input[start..self.at]);
        }
        let name = Some(before).filter(|name| !name.is_empty());
        Mailbox { name: name.or_else(|| self.comment_name()), route: None, local, domain }
    }

    /// Words without any address: the whole is taken for a local part.
    fn local_only(&mut self, words: &'a [u8]) -> Option<Mailbox<'a>> {
        let local = phrase(words);
        if local.is_empty() {
            // A stray `>`, or a comment alone. Something is passed over, so that the reading goes on.
            self.at += usize::from(!matches!(self.peek(), None | Some(b',' | b';')));
            return None;
        }
        Some(Mailbox { name: self.comment_name(), local, ..Mailbox::default() })
    }

    fn comment_name(&self) -> Option<Cow<'a, [u8]>> {
        self.comment.map(unfold).filter(|name| !name.is_empty())
    }

    /// Goes on to the next octet that gives words their meaning. Says where the last word begins; dots join words.
    fn skip_words(&mut self) -> usize {
        let (mut last_word, mut after_blank, mut after_dot) = (self.at, false, false);
        while let Some(byte) = self.peek() {
            match byte {
                b'<' | b'@' | b',' | b';' => break,
                b':' if !self.in_group => break,
                b' ' | b'\t' | b'\r' | b'\n' => {
                    after_blank = true;
                    self.at += 1;
                    continue;
                }
                b'(' => {
                    after_blank = true;
                    self.skip_comment();
                    continue;
                }
                _ => {}
            }
            if after_blank && !after_dot && byte != b'.' {
                last_word = self.at;
            }
            (after_blank, after_dot) = (false, byte == b'.');
            self.skip_one();
        }
        last_word
    }

    /// A domain or literal ends at a blank that no dot is beside.
    fn skip_domain(&mut self) {
        let mut after_dot = true;
        while let Some(byte) = self.peek() {
            match byte {
                b',' | b';' | b'<' | b'>' => return,
                b' ' | b'\t' | b'\r' | b'\n' | b'(' => {
                    self.skip_blanks();
                    if !after_dot && self.peek() != Some(b'.') {
                        return;
                    }
                    continue;
                }
                b'[' => self.skip_literal(),
                _ => self.at += 1,
            }
            after_dot = byte == b'.';
        }
    }

    fn skip_literal(&mut self) {
        let rest = &self.input[self.at..];
        let len = rest.iter().position(|byte| matches!(byte, b']' | b',' | b'>'));
        self.at += len.map_or(rest.len(), |len| len + usize::from(rest[len] == b']'));
    }

    /// What lies before the next of `ends`; quoted strings and comments are passed over whole.
    fn until(&mut self, ends: &[u8]) -> &'a [u8] {
        let from = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                _ if ends.contains(&byte) => break,
                b'(' => self.skip_comment(),
                _ => self.skip_one(),
            }
        }
        &self.input[from..self.at]
    }

    /// Passes over a quoted string or one octet.
    fn skip_one(&mut self) {
        if self.peek() != Some(b'"') {
            self.at += 1;
            return;
        }
        self.at += quoted_len(&self.input[self.at..]);
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'(' => self.skip_comment(),
                _ => return,
            }
        }
    }

    fn skip_comment(&mut self) {
        let len = comment_len(&self.input[self.at..]);
        let inside = &self.input[self.at + 1..self.at + len];
        self.comment = Some(inside.strip_suffix(b")").unwrap_or(inside));
        self.at += len;
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }
}

/// How long the quoted string at the front is; all of it if it does not end.
pub(super) fn quoted_len(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// How long the comment at the front is, with those nested in it; all of it if it does not end.
pub(super) fn comment_len(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        match text[at] {
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// A name: quotes and comments off, blanks and folding one space each.
fn phrase(words: &[u8]) -> Cow<'_, [u8]> {
    let words = trim(words);
    let is_plain =
        |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'"' | b'(' | b'\\' | b'\t' | b'\r' | b'\n'));
    if is_plain(words) && !words.windows(2).any(|pair| pair == b"  ") {
        return Cow::Borrowed(words);
    }
    match words {
        [b'"', inside @ .., b'"'] if is_plain(inside) => Cow::Borrowed(inside),
        _ => Cow::Owned(spelled_out(words, Some(b' '))),
    }
}

/// A local part, domain or route: quotes, comments and blanks off.
fn compact(text: &[u8]) -> Cow<'_, [u8]> {
    let text = trim(text);
    let is_plain = |byte: &u8| !matches!(byte, b'"' | b'(' | b'\\' | b' ' | b'\t' | b'\r' | b'\n');
    match text.iter().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(spelled_out(text, None)),
    }
}

/// Without quotes and comments; blanks between words become `joint`, those in quotes stay.
fn spelled_out(text: &[u8], joint: Option<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut blank) = (0, false);
    while at < text.len() {
        let len = match text[at] {
            b'"' => quoted_len(&text[at..]),
            b'(' => comment_len(&text[at..]),
            _ => 1,
        };
        let piece = &text[at..at + len];
        at += len;
        if matches!(piece[0], b'(' | b' ' | b'\t' | b'\r' | b'\n') {
            blank = true;
            continue;
        }
        if std::mem::take(&mut blank) && !out.is_empty() {
            out.extend(joint);
        }
        match piece[0] {
            b'"' => unquote(piece, &mut out),
            byte => out.push(byte),
        }
    }
    out
}

/// The value of a quoted string, its folding undone.
pub(super) fn unquote(quoted: &[u8], out: &mut Vec<u8>) {
    let inside = &quoted[1..];
    let mut at = 0;
    while at < inside.len() {
        match inside[at] {
            b'"' => return,
            b'\\' if at + 1 < inside.len() => {
                at += 1;
                out.push(inside[at]);
            }
            b'\r' if inside.get(at + 1) == Some(&b'\n') => at += 1,
            byte => out.push(byte),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Entry, Mailbox, entries, first_mailbox};
    use crate::limits::mime::ENVELOPE_ADDRESSES_MAX;

    /// `name|route|local|domain`, groups as `[name:` and `;]`.
    fn read(value: &[u8]) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        let shown = entries(value).map(|entry| match entry {
            Entry::Mailbox(Mailbox { name, route, local, domain }) => {
                let [name, route] = [name, route].map(|part| part.map_or("-".to_owned(), |part| text(&part)));
                format!("{name}|{route}|{}|{}", text(&local), text(&domain))
            }
            Entry::GroupStart(name) => format!("[{}:", text(&name)),
            Entry::GroupEnd => ";]".to_owned(),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lists() {
        let cases = [
            ("a@b", "-|-|a|b"),
            (" a@b, c@d ", "-|-|a|b -|-|c|d"),
            ("Joe Q. Public <john.q.public@example.com>", "Joe Q. Public|-|john.q.public|example.com"),
            (
                "\"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
                "Giant; \\\"Big\\\" Box|-|sysservices|example.net",
            ),
            ("\"A, B\" <a@b>, c@d", "A, B|-|a|b -|-|c|d"),
            ("a@b (Joe Public)", "Joe Public|-|a|b"),
            ("(before) a@b", "before|-|a|b"),
            ("Name <a@b> (comment)", "Name|-|a|b"),
            ("<a@b> (comment)", "comment|-|a|b"),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete|-|pete|silly.test"),
            (
                "A Group:Ed Jones <joe@a.test>,joe@where.test,John <jdoe@one.test>;",
                "[A Group: Ed Jones|-|joe|a.test -|-|joe|where.test John|-|jdoe|one.test ;]",
            ),
            ("Undisclosed recipients:;", "[Undisclosed recipients: ;]"),
            ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", "[Hidden recipients: ;]"),
            ("A: b@c, d@e; , f@g", "[A: -|-|b|c -|-|d|e ;] -|-|f|g"),
            ("A: b@c", "[A: -|-|b|c ;]"),
            ("A: B: c@d;;", "[A: B:|-|c|d ;]"),
            (
                "Mary Smith <@node.test:mary@example.net>, , jdoe@test . example",
                "Mary Smith|@node.test|mary|example.net -|-|jdoe|test.example",
            ),
            ("<@a,@b:c@d>", "-|@a,@b|c|d"),
            ("John Doe <jdoe@machine(comment).  example>", "John Doe|-|jdoe|machine.example"),
            ("\"joe blow\"@d", "-|-|joe blow|d"),
            ("<\"a>b\\\"\"@d>", "-|-|a>b\\\"|d"),
            ("a . b @ c . d", "-|-|a.b|c.d"),
            ("a@[IPv6:::1]", "-|-|a|[IPv6:::1]"),
            ("joe@x.test <joe@x.test>", "joe@x.test|-|joe|x.test"),
            ("John Smith joe@x.test", "John Smith|-|joe|x.test"),
            ("root", "-|-|root|"),
            ("two words", "-|-|two words|"),
            ("root (Charlie)", "Charlie|-|root|"),
            ("<root>", "-|-|root|"),
            ("<>", "-|-||"),
            ("=?utf-8?Q?a?= <>", "=?utf-8?Q?a?=|-||"),
            ("=?utf-8?Q?a?=\r\n =?utf-8?Q?b?= <a@b>", "=?utf-8?Q?a?= =?utf-8?Q?b?=|-|a|b"),
            (",,,,", ""),
            ("", ""),
            ("(only)", ""),
            (">", "-|-|>|"),
            ("a@b c@d", "-|-|a|b"),
            ("a@b; c@d", "-|-|a|b -|-|c|d"),
            ("<a@b, c@d", "-|-|a|b -|-|c|d"),
            ("<a@b> junk <c@d>, e@f", "-|-|a|b -|-|e|f"),
            ("\"never closed <a@b>, c@d", "-|-|never closed <a@b>, c@d|"),
            ("<@good,@x:b@evil>", "-|@good,@x|b|evil"),
            ("a@", "-|-|a|"),
            ("@b", "-|-||b"),
            ("<a@b>x, c@d", "-|-|a|b -|-|c|d"),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(read(b"K\xE4se <k@d>"), "K\\xe4se|-|k|d");
    }

    #[test]
    fn hostile_lists_are_linear_and_bounded() {
        assert_eq!(entries(&b"(".repeat(200_000)).count(), 0);
        assert_eq!(entries(&b"\"".repeat(200_001)).count(), 0);
        assert_eq!(entries(&b"a@b,".repeat(ENVELOPE_ADDRESSES_MAX + 5)).count(), ENVELOPE_ADDRESSES_MAX);
        let mut group = b"g:".to_vec();
        group.extend(b"a@b,".repeat(ENVELOPE_ADDRESSES_MAX + 5));
        assert_eq!(entries(&group).last(), Some(Entry::GroupEnd));
        assert_eq!(entries(&b"a:".repeat(100_000)).count(), 3);
        for hostile in [&b"<"[..], b"@", b";", b">", b"a b ", b"<@", b"[", b"\\", b"a@b<"] {
            entries(&hostile.repeat(20_000)).count();
        }
    }

    #[test]
    fn the_first_mailbox() {
        assert_eq!(&*first_mailbox(b"g: Joe <joe@d>;").expect("one").local, b"joe");
        assert_eq!(first_mailbox(b"g:;"), None);
    }

    proptest! {
        #[test]
        fn groups_are_balanced(junk in any::<Vec<u8>>(), near in "[a@<>,;:()\"\\\\ .\\[\\]]{0,24}") {
            for value in [&junk[..], near.as_bytes()] {
                let mut open = false;
                for entry in entries(value) {
                    match entry {
                        Entry::GroupStart(_) => assert!(!std::mem::replace(&mut open, true)),
                        Entry::GroupEnd => assert!(std::mem::replace(&mut open, false)),
                        Entry::Mailbox(_) => {}
                    }
                }
                assert!(!open);
            }
        }
    }
}
