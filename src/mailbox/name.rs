//! Mailbox names: which are taken, and which match a pattern.
//!
//! A name is UTF-8 with `/` between its components. `INBOX` as the first component is meant in any case and stored in
//! capitals; all else is kept as it was given, but composed (NFC, RFC 5198 3): one program writes ä as one character,
//! another as two, and both mean the same mailbox. Matching runs all states of the pattern side by side, 64 to a word,
//! so that no pattern costs more than its length times that of the name.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::Refusal;
use crate::limits::mailbox::{NAME_BYTES_MAX, NAME_DEPTH_MAX};

pub const SEPARATOR: char = '/';
pub const INBOX: &str = "INBOX";

/// The name as it is stored: checked, without a trailing separator, INBOX in capitals.
pub fn canonical(name: &str) -> Result<String, Refusal> {
    // RFC 9051 6.3.4: a trailing separator says that children are coming; ours need no such hint.
    let name = composed(name.strip_suffix(SEPARATOR).unwrap_or(name));
    let name = &*name;
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::Limit("length of a mailbox name"));
    }
    if name.split(SEPARATOR).count() > NAME_DEPTH_MAX {
        return Err(Refusal::Limit("depth of mailboxes"));
    }
    for component in name.split(SEPARATOR) {
        check_component(component)?;
    }
    Ok(folded(name).into_owned())
}

/// The name with INBOX in capitals where it is the first component, to look it up.
pub fn folded(name: &str) -> Cow<'_, str> {
    if !begins_with_inbox(name.as_bytes()) || name.starts_with(INBOX) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{INBOX}{}", &name[INBOX.len()..]))
}

/// The name in NFC.
pub fn composed(name: &str) -> Cow<'_, str> {
    match name.is_ascii() {
        true => Cow::Borrowed(name),
        false => ComposingNormalizerBorrowed::new_nfc().normalize(name),
    }
}

/// The names above this one, the nearest first.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (parent, _) = rest.rsplit_once(SEPARATOR)?;
        rest = parent;
        Some(parent)
    })
}

/// Whether `name` lies below `parent`.
pub fn is_below(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.starts_with(SEPARATOR))
}

fn check_component(component: &str) -> Result<(), Refusal> {
    if component.is_empty() {
        return Err(Refusal::Cannot("a part of the name is empty"));
    }
    if component == "." || component == ".." {
        return Err(Refusal::Cannot("a part of the name is . or .."));
    }
    if component.chars().all(char::is_whitespace) {
        return Err(Refusal::Cannot("a part of the name is blank"));
    }
    // RFC 9051 5.1 and 5.1.2.2: no controls, no line separators; wildcards could not be asked for.
    let forbidden = |c: char| c.is_control() || matches!(c, '%' | '*' | '\u{2028}' | '\u{2029}');
    if component.contains(forbidden) {
        return Err(Refusal::Cannot("the name has a character that is not allowed"));
    }
    Ok(())
}

fn begins_with_inbox(name: &[u8]) -> bool {
    let Some((first, rest)) = name.split_at_checked(INBOX.len()) else {
        return false;
    };
    first.eq_ignore_ascii_case(INBOX.as_bytes()) && (rest.is_empty() || rest[0] == SEPARATOR as u8)
}

/// A LIST pattern: `*` stands for anything, `%` for anything within one component.
#[derive(Clone, Debug)]
pub struct Pattern {
    elements: usize,
    /// For each byte, the elements that are it; the row of a byte that is not there is empty.
    literals: Box<[Vec<u64>; 256]>,
    stars: Vec<u64>,
    percents: Vec<u64>,
    /// More literal bytes than a name can have.
    hopeless: bool,
}

impl Pattern {
    pub fn new(pattern: &str) -> Self {
        let mut this = Self {
            elements: 0,
            literals: Box::new([const { Vec::new() }; 256]),
            stars: Vec::new(),
            percents: Vec::new(),
            hopeless: pattern.bytes().filter(|byte| !matches!(byte, b'*' | b'%')).count() > NAME_BYTES_MAX,
        };
        if this.hopeless {
            return this;
        }
        let elements = without_doubles(pattern.as_bytes());
        this.elements = elements.len();
        let words = elements.len() / 64 + 1;
        this.stars = vec![0; words];
        this.percents = vec![0; words];
        for (index, &element) in elements.iter().enumerate() {
            let set = match element {
                b'*' => &mut this.stars,
                b'%' => &mut this.percents,
                byte => &mut this.literals[usize::from(byte)],
            };
            set.resize(words, 0);
            set[index / 64] |= 1 << (index % 64);
        }
        this
    }

    pub fn matches(&self, name: &str) -> bool {
        if self.hopeless {
            return false;
        }
        let name = name.as_bytes();
        // The five letters match in any case, also where more follow.
        let any_case = if begins_with_inbox(name) { INBOX.len() } else { 0 };
        // Bit `n`: the first `n` elements have matched what was read.
        let mut states = vec![0; self.stars.len()];
        states[0] = 1;
        self.skip_wildcards(&mut states);
        for (index, &byte) in name.iter().enumerate() {
            let other = if index < any_case { byte.to_ascii_lowercase() } else { byte };
            self.read(&mut states, byte, other);
            self.skip_wildcards(&mut states);
        }
        states[self.elements / 64] >> (self.elements % 64) & 1 == 1
    }

    /// A byte, or the same letter in the other case, is matched by a literal or swallowed by a wildcard.
    fn read(&self, states: &mut [u64], byte: u8, other: u8) {
        let literal = &self.literals[usize::from(byte)];
        let literal_other = &self.literals[usize::from(other)];
        let mut carry = 0;
        for (word, state) in states.iter_mut().enumerate() {
            let at = |set: &Vec<u64>| set.get(word).copied().unwrap_or(0);
            let taken = *state & (at(literal) | at(literal_other));
            let mut stay = *state & self.stars[word];
            if byte != SEPARATOR as u8 {
                stay |= *state & self.percents[word];
            }
            *state = taken << 1 | carry | stay;
            carry = taken >> 63;
        }
    }

    /// A wildcard may stand for nothing. No two are adjacent, so one step is enough.
    fn skip_wildcards(&self, states: &mut [u64]) {
        let mut carry = 0;
        for (word, state) in states.iter_mut().enumerate() {
            let wild = *state & (self.stars[word] | self.percents[word]);
            *state |= wild << 1 | carry;
            carry = wild >> 63;
        }
    }
}

/// Wildcards in a row say no more than the strongest of them.
fn without_doubles(pattern: &[u8]) -> Vec<u8> {
    let mut elements: Vec<u8> = Vec::with_capacity(pattern.len());
    for &byte in pattern {
        match (elements.last_mut(), byte) {
            (Some(b'*'), b'*' | b'%') | (Some(b'%'), b'%') => {}
            (Some(last @ b'%'), b'*') => *last = b'*',
            _ => elements.push(byte),
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::{Pattern, canonical, folded, is_below, parents};
    use crate::mailbox::Refusal;

    #[test]
    fn names_are_checked_and_folded() {
        let cannot = [
            "",
            "/",
            "//",
            "a//b",
            "/a",
            ".",
            "..",
            "a/../b",
            "a/ /b",
            "%x",
            "a*",
            "a\0",
            "a\r\n",
            "a\u{7f}",
            "a\u{85}",
            "a\u{2028}",
        ];
        for name in cannot {
            assert!(matches!(canonical(name), Err(Refusal::Cannot(_))), "{name:?}");
        }
        let good = [
            ("a/", "a"),
            ("a/b", "a/b"),
            ("inbox", "INBOX"),
            ("iNbOx/x", "INBOX/x"),
            ("inboxes", "inboxes"),
            ("x/inbox", "x/inbox"),
            ("~root", "~root"),
            ("Entwürfe & mehr", "Entwürfe & mehr"),
            ("Entwu\u{308}rfe/A\u{30a}", "Entw\u{fc}rfe/\u{c5}"),
            ("\u{212b}ngstro\u{308}m/", "\u{c5}ngstr\u{f6}m"),
            ("x/inbo\u{308}x", "x/inb\u{f6}x"),
        ];
        for (given, stored) in good {
            assert_eq!(canonical(given).as_deref(), Ok(stored));
        }
        assert!(matches!(canonical(&"x".repeat(1001)), Err(Refusal::Limit(_))));
        assert!(matches!(canonical(&"x/".repeat(40)), Err(Refusal::Limit(_))));
        assert_eq!(folded("Inbox"), "INBOX");
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert!(is_below("a/b", "a") && !is_below("ab", "a") && !is_below("a", "a"));
    }

    #[test]
    fn patterns_match_as_rfc_9051_says() {
        let table: [(&str, &[&str], &[&str]); 11] = [
            ("*", &["INBOX", "a/b/c", "é"], &[]),
            ("%", &["INBOX", "a"], &["a/b"]),
            ("a/%", &["a/b", "a/é"], &["a", "a/b/c", "b/a"]),
            ("a*c", &["ac", "a/b/c", "abcbc"], &["a/b/d", "c"]),
            ("a%c", &["ac", "abc"], &["a/c", "abcd"]),
            ("%/%", &["a/b"], &["a", "a/b/c"]),
            ("*%b%*", &["ab", "b", "x/b/y"], &["a"]),
            ("inbox", &["INBOX"], &["inboxes", "INBOX/x"]),
            ("InB*", &["INBOX", "INBOX/Sub"], &["Inbetween2"]),
            ("inbox/sub", &["INBOX/sub"], &["INBOX/Sub"]),
            ("", &[], &["a", "INBOX"]),
        ];
        for (pattern, yes, no) in table {
            let compiled = Pattern::new(pattern);
            for name in yes {
                assert!(compiled.matches(name), "{pattern} {name}");
            }
            for name in no {
                assert!(!compiled.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let name = "a".repeat(1000);
        let pattern = Pattern::new(&format!("{}b", "a%*%".repeat(300)));
        for _ in 0..20 {
            assert!(!pattern.matches(&name));
        }
        assert!(!Pattern::new(&"a".repeat(100_000)).matches(&name));
        // The seam between two words of states.
        let long = "ab".repeat(64);
        assert!(Pattern::new(&long).matches(&long));
        assert!(Pattern::new(&format!("{}*", &long[..63])).matches(&long));
    }
}
