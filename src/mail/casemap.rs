//! i;unicode-casemap, by which SORT and THREAD compare (RFC 5051, RFC 5256 2 and 4).
//!
//! A string is prepared once: each character becomes its title case, as `UnicodeData.txt` has it, and that is taken
//! apart as far as it can be (NFKD). Prepared strings are compared octet by octet.
//!
//! Invariant: ASCII is mapped without tables, in one pass.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;

/// The string as it is compared.
pub fn casemapped(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            true => Cow::Owned(text.to_ascii_uppercase()),
            false => Cow::Borrowed(text),
        };
    }
    let mut mapped = String::with_capacity(text.len() * 2);
    mapped.extend(decomposed(text.chars().map(title)));
    Cow::Owned(mapped)
}

/// NFKD.
pub(super) fn decomposed(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(chars)
}

/// The title case, where it is one character and stands in `UnicodeData.txt`. It is the upper case but for a few, and
/// a character whose upper case is several has none there.
fn title(char: char) -> char {
    match char {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        // Georgian is all lower case but where all is capitals.
        '\u{10d0}'..='\u{10ff}' => char,
        // Greek with an iota below it, which is not written as one.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(char) + 8).unwrap_or(char)
        }
        '\u{1fb3}' => '\u{1fbc}',
        '\u{1fc3}' => '\u{1fcc}',
        '\u{1ff3}' => '\u{1ffc}',
        _ => {
            let mut upper = char.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(upper), None) => upper,
                _ => char,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::casemapped;

    #[test]
    fn strings_as_they_are_compared() {
        let table = [
            ("", ""),
            ("ALL CAPS 1_", "ALL CAPS 1_"),
            ("Az_{}", "AZ_{}"),
            // RFC 5051 2: the example.
            ("\u{1c4}", "Dz\u{30c}"),
            ("\u{1c6}", "Dz\u{30c}"),
            ("\u{e4}\u{c4}a\u{308}", "A\u{308}A\u{308}A\u{308}"),
            // No title case in UnicodeData.txt, though one in SpecialCasing.txt.
            ("stra\u{df}e", "STRA\u{df}E"),
            ("\u{fb01}", "fi"),
            ("\u{1f80}", "\u{391}\u{313}\u{345}"),
            ("\u{1fb3}", "\u{391}\u{345}"),
            ("\u{3c3}\u{3c2}\u{3a3}", "\u{3a3}\u{3a3}\u{3a3}"),
            ("\u{10d0}", "\u{10d0}"),
            ("\u{131}i\u{130}", "III\u{307}"),
            ("\u{212a}\u{2122}\u{a0}x", "KTM X"),
            // Hangul comes apart, too.
            ("\u{ac00}", "\u{1100}\u{1161}"),
        ];
        for (text, expected) in table {
            assert_eq!(casemapped(text), expected, "{text}");
        }
    }
}
