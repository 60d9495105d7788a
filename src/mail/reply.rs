//! What a server answers (RFC 5321 4.2), with the enhanced code that says why (RFC 3463).
//!
//! A reply from outside is text that somebody else wrote: it is bounded and has no control characters by the time
//! it is one of these, so that it can stand in a record, a log line or a report.

use std::fmt;

/// Bytes of a reply's text that are kept; servers that say more repeat themselves.
const TEXT_BYTES_MAX: usize = 1024;

/// The answer to a command, or what stands for one where none came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// 200..=599.
    pub code: u16,
    pub enhanced: Option<EnhancedCode>,
    /// Without the codes; lines are separated by `\n`.
    pub text: String,
}

/// `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize)]
pub struct EnhancedCode {
    /// 2, 4 or 5.
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl EnhancedCode {
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// The code at the front of `text` and what follows it behind one blank; `None` if it begins otherwise.
    ///
    /// ```text
    /// status-code = ("2" / "4" / "5") "." 1*3DIGIT "." 1*3DIGIT
    /// ```
    pub fn take(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some((Self { class, subject, detail }, rest))
    }
}

/// One to three digits.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

impl Reply {
    /// A reply of our own making; `text` is one line.
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self { code, enhanced: Some(enhanced), text: text.into() }
    }

    /// A reply from outside: what each of its lines says behind the three digits and the hyphen or blank. The
    /// enhanced code, which every line should repeat (RFC 2034 4), is taken off each.
    pub fn of_lines<'a>(code: u16, lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut enhanced = None;
        let mut text = String::new();
        for (index, line) in lines.into_iter().enumerate() {
            let line = String::from_utf8_lossy(line);
            let taken = EnhancedCode::take(&line).filter(|(taken, _)| u16::from(taken.class) == code / 100);
            let rest = match taken {
                Some((taken, rest)) if enhanced.is_none() || enhanced == Some(taken) => {
                    enhanced = Some(taken);
                    rest
                }
                _ => &line,
            };
            if index > 0 {
                text.push('\n');
            }
            text.extend(rest.chars().map(|char| if char.is_control() { ' ' } else { char }));
            if text.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        truncate(&mut text);
        Self { code, enhanced, text }
    }

    /// 4yz, which may go otherwise another time.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// The enhanced code, or the general one of the reply's class.
    pub fn status(&self) -> EnhancedCode {
        let class = match self.code / 100 {
            2 | 3 => 2,
            4 => 4,
            _ => 5,
        };
        self.enhanced.unwrap_or(EnhancedCode { class, subject: 0, detail: 0 })
    }
}

/// Cuts to the bound, between two characters.
fn truncate(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Display for Reply {
    /// On one line, as a log or a person wants it: `550 5.1.1 No such user`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text.replace('\n', " ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{EnhancedCode, Reply, TEXT_BYTES_MAX};

    fn reply(code: u16, lines: &[&str]) -> Reply {
        Reply::of_lines(code, lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn the_enhanced_code_is_taken_off_every_line() {
        let taken = reply(550, &["5.1.1 no such", "5.1.1 user"]);
        assert_eq!(taken.enhanced, Some(EnhancedCode::new(5, 1, 1)));
        assert_eq!(taken.text, "no such\nuser");
        assert_eq!(taken.to_string(), "550 5.1.1 no such user");
    }

    #[test]
    fn a_code_without_text_is_a_code_and_one_of_another_class_is_text() {
        let bare = reply(550, &["5.7.2"]);
        assert_eq!((bare.enhanced, bare.text.as_str()), (Some(EnhancedCode::new(5, 7, 2)), ""));
        let other = reply(450, &["5.7.2 hm"]);
        assert_eq!((other.enhanced, other.text.as_str()), (None, "5.7.2 hm"));
        for text in ["5.7", "5.7.1.1", "3.0.0", "5..1", "5.1.1000 x", ""] {
            assert_eq!(EnhancedCode::take(text), None, "{text}");
        }
    }

    #[test]
    fn what_came_from_outside_is_bounded_and_printable() {
        let long = reply(421, &["\u{1b}[2J\r\u{e9}"; 1000]);
        assert!(long.text.len() <= TEXT_BYTES_MAX);
        assert!(!long.text.chars().any(|char| char.is_control() && char != '\n'));
        let raw = Reply::of_lines(451, [&b"\xff\xfe gr\xfcn"[..]]);
        assert!(raw.text.ends_with("gr\u{fffd}n"));
        assert_eq!(raw.status(), EnhancedCode::new(4, 0, 0));
    }
}
