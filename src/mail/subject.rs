//! The base subject, by which SORT and THREAD go (RFC 5256 2.1).
//!
//! ```text
//! subj-leader  = ( *subj-blob subj-refwd ) / WSP
//! subj-refwd   = ( "re" / ( "fw" [ "d" ] ) ) *WSP [ subj-blob ] ":"
//! subj-blob    = "[" *BLOBCHAR "]" *WSP
//! subj-trailer = "(fwd)" / WSP
//! ```
//!
//! Invariant: linear. A run of blobs is read once: if no reply mark follows it, none follows its tail.

use super::encoded_word::decode;

/// A subject without the marks of replies and forwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BaseSubject {
    /// In UTF-8 as written; compare it by `casemap`.
    pub text: String,
    pub is_reply_or_forward: bool,
}

/// Of a raw Subject value.
pub fn base_subject(value: &[u8]) -> BaseSubject {
    // Step 1: text in UTF-8, blanks one space each.
    let text = decode(value);
    let text =
        text.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    let mut is_reply_or_forward = false;
    loop {
        rest = strip_trailers(rest, &mut is_reply_or_forward);
        rest = strip_leaders(rest, &mut is_reply_or_forward);
        // Step 6.
        let inside = strip_prefix_ignoring_case(rest, "[fwd:").and_then(|rest| rest.strip_suffix(']'));
        let Some(inside) = inside else {
            break;
        };
        is_reply_or_forward = true;
        rest = inside;
    }
    BaseSubject { text: rest.to_owned(), is_reply_or_forward }
}

/// Step 2.
fn strip_trailers<'a>(text: &'a str, is_marked: &mut bool) -> &'a str {
    const FORWARDED: &str = "(fwd)";
    let mut rest = text.trim_end_matches(' ');
    while let Some((front, back)) =
        rest.len().checked_sub(FORWARDED.len()).and_then(|at| rest.split_at_checked(at))
    {
        if !back.eq_ignore_ascii_case(FORWARDED) {
            break;
        }
        *is_marked = true;
        rest = front.trim_end_matches(' ');
    }
    rest
}

/// Steps 3 to 5.
fn strip_leaders<'a>(text: &'a str, is_marked: &mut bool) -> &'a str {
    let mut rest = text.trim_start_matches(' ');
    loop {
        let mut after_blobs = rest;
        // The last place before which a blob may go, since something is left.
        let mut base = rest;
        while let Some(after) = strip_blob(after_blobs) {
            after_blobs = after;
            if !after.is_empty() {
                base = after;
            }
        }
        match strip_reply_mark(after_blobs) {
            Some(after) => {
                *is_marked = true;
                rest = after.trim_start_matches(' ');
            }
            None => return base,
        }
    }
}

fn strip_blob(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('[')?;
    let end = inside.find(['[', ']'])?;
    inside[end..].strip_prefix(']').map(|rest| rest.trim_start_matches(' '))
}

fn strip_reply_mark(text: &str) -> Option<&str> {
    let marks = ["re", "fwd", "fw"];
    let rest = marks.iter().find_map(|mark| strip_prefix_ignoring_case(text, mark))?;
    let rest = rest.trim_start_matches(' ');
    strip_blob(rest).unwrap_or(rest).strip_prefix(':')
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::base_subject;

    #[test]
    fn subjects() {
        let cases = [
            ("", "", false),
            ("Hello", "Hello", false),
            (" Hello \t\r\n  world ", "Hello world", false),
            ("Re: Hello", "Hello", true),
            ("re:re: FW: fwd :Hello", "Hello", true),
            ("Re[2]: Hello", "Hello", true),
            ("Re [list] : Hello", "Hello", true),
            ("[list] Re: [list] Hello", "Hello", true),
            ("[list] Hello", "Hello", false),
            ("[a] [b]Hello", "Hello", false),
            ("[only]", "[only]", false),
            ("[a][only]", "[only]", false),
            ("Re: [only]", "[only]", true),
            ("Hello (fwd)", "Hello", true),
            ("Hello(FWD) (fwd) ", "Hello", true),
            ("[Fwd: Hello]", "Hello", true),
            ("[fwd: Re: [x] Hello (fwd)]", "Hello", true),
            ("[Fwd: [Fwd: Hello]]", "Hello", true),
            ("Re: [fwd: Hello]", "Hello", true),
            ("Re:", "", true),
            ("Regarding: x", "Regarding: x", false),
            ("Re [unclosed: x", "Re [unclosed: x", false),
            ("[a[b] Hello", "[a[b] Hello", false),
            ("=?utf-8?Q?Re:_K=C3=A4se?=", "Käse", true),
            ("Aw: Hello", "Aw: Hello", false),
        ];
        for (value, text, is_reply_or_forward) in cases {
            let base = base_subject(value.as_bytes());
            assert_eq!(
                (base.text.as_str(), base.is_reply_or_forward),
                (text, is_reply_or_forward),
                "{value}"
            );
        }
    }

    #[test]
    fn long_subjects_are_linear() {
        for piece in ["[a]", "re:", "[a]re:", "(fwd)", "[fwd:", "re [", "[ ", "]"] {
            base_subject(piece.repeat(100_000).as_bytes());
        }
        let nested = ["[fwd:".repeat(50_000), "]".repeat(50_000)].concat();
        assert!(base_subject(nested.as_bytes()).is_reply_or_forward);
    }

    proptest! {
        #[test]
        fn the_base_of_a_base_is_itself(near in "([Rr]e|fwd?|\\[|\\]|:| |x|ä|\\(fwd\\)){0,10}", junk in any::<Vec<u8>>()) {
            base_subject(&junk);
            let base = base_subject(near.as_bytes()).text;
            assert_eq!(base_subject(base.as_bytes()).text, base);
        }
    }
}
