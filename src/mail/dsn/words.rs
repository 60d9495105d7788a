//! What happened, for a person: to whom, what the other server said, what to do about it.
//!
//! Invariants: no line begins with what somebody else wrote, and none of ours is longer than 76 characters, but
//! for addresses; whatever was said, the text keeps to CRLF.

use std::fmt::Write;

use super::{Action, Addressee, Fate, Report, harmless};
use crate::mail::date::Rfc5322;
use crate::mail::encoded_word;
use crate::mail::header::Header;
use crate::mail::reply::EnhancedCode;

const LINE_CHARS: usize = 76;

/// More recipients than this are told to programs alone.
const FATES_SHOWN_MAX: usize = 50;

/// Of what a remote server said.
const SAID_BYTES_MAX: usize = 1024;

/// Of the subject and other fields of the original.
const FIELD_BYTES_MAX: usize = 200;

/// The Subject of the notification.
pub fn subject(report: &Report<'_>) -> &'static str {
    match (report.to, leading(report.fates)) {
        (Addressee::Postmaster(_), _) => "Double bounce: a message without a sender was not delivered",
        (_, Action::Failed) => "Your message was not delivered",
        (_, Action::Delayed) => "Your message is delayed",
        (_, Action::Delivered) => "Your message was delivered",
        (_, Action::Relayed) => "Your message was passed on",
        (_, Action::Expanded) => "Your message was passed on to several people",
    }
}

/// The text, with CRLF.
pub fn write(report: &Report<'_>) -> String {
    let mut text = Text(String::new());
    text.paragraph("", &format!("This is the mail server {}.", report.host));
    if let Addressee::Postmaster(_) = report.to {
        text.paragraph(
            "",
            "A message without a sender, most likely a notification like this one, could not be delivered. \
             Nobody else is told; you get this as postmaster.",
        );
    }
    const ORDER: [Action; 5] =
        [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];
    let mut left = FATES_SHOWN_MAX;
    for action in ORDER {
        let mut fates = report.fates.iter().filter(|fate| fate.action == action).peekable();
        if fates.peek().is_none() {
            continue;
        }
        if let Addressee::Sender(_) = report.to {
            text.paragraph("", opening(action));
        }
        for fate in fates.by_ref().take(left) {
            left -= 1;
            describe(fate, &mut text);
        }
        let unsaid = fates.count();
        if unsaid > 0 {
            text.paragraph(
                "  ",
                &format!("and {unsaid} more, who are listed in the next part of this report"),
            );
        }
    }
    about(report, &mut text);
    text.0
}

/// What the notification is about first of all.
fn leading(fates: &[Fate<'_>]) -> Action {
    let has = |action| fates.iter().any(|fate| fate.action == action);
    let order = [Action::Failed, Action::Delayed, Action::Expanded, Action::Relayed];
    order.into_iter().find(|action| has(*action)).unwrap_or(Action::Delivered)
}

fn opening(action: Action) -> &'static str {
    match action {
        Action::Failed => {
            "The message described below could not be delivered to the following recipients. It will not be \
             tried again; if it matters, please send it again once the reason is gone."
        }
        Action::Delayed => {
            "The message described below has not reached the following recipients yet. You need not do \
             anything: it is still being tried, and you will be told if it cannot be delivered in the end."
        }
        Action::Delivered => "As you asked to be told: the message described below is in the mailboxes of",
        Action::Relayed => {
            "As you asked to be told: the message described below was taken by the next server for the \
             following recipients. That server does not report deliveries, so that nothing more may follow."
        }
        Action::Expanded => {
            "As you asked to be told: the message described below was passed on to all who read mail for the \
             following addresses. Their deliveries are not reported."
        }
    }
}

fn describe(fate: &Fate<'_>, text: &mut Text) {
    text.line(&format!("  {}", fate.recipient.address));
    if let Some(remote) = fate.remote {
        let host = harmless(remote.host, 255);
        let verb = if fate.status.class == 2 { "The server" } else { "The answer of the server" };
        text.line(&format!("    {verb} {host}{}", if fate.status.class == 2 { " said:" } else { " was:" }));
        let code = match remote.reply.enhanced {
            Some(enhanced) => format!("{} {enhanced}", remote.reply.code),
            None => remote.reply.code.to_string(),
        };
        for (index, line) in remote.reply.text.split('\n').enumerate() {
            let line = harmless(line, SAID_BYTES_MAX);
            match index {
                0 => text.wrapped("      ", &format!("{code} {line}")),
                _ => text.wrapped("      ", &line),
            }
        }
    } else if !fate.why.is_empty() {
        text.wrapped("    ", &format!("What happened: {}", harmless(fate.why, SAID_BYTES_MAX)));
    }
    if matches!(fate.action, Action::Failed | Action::Delayed)
        && let Some(advice) = advice(fate.status)
    {
        text.wrapped("    ", advice);
    }
    if let Some(until) = fate.retry_until {
        text.wrapped("    ", &format!("It will be tried until {}.", Rfc5322(until)));
    }
    text.line("");
}

/// What a status means for whoever sent the message (RFC 3463 3, RFC 5248).
fn advice(status: EnhancedCode) -> Option<&'static str> {
    let EnhancedCode { class, subject, detail } = status;
    let advice = match (subject, detail) {
        (1, 1 | 6) => "There is no such mailbox. Please check the part of the address before the @.",
        (1, 2) => "There is no such mail domain. Please check the part of the address behind the @.",
        (1, 3) => "The address is not written as addresses are. Please check it.",
        (1, 10) => "The domain says that it takes no mail at all. Please check the address.",
        (1, 7 | 8) | (7, 27) => "The address that you send from is not accepted there.",
        (2, 1) => "The mailbox is closed. Please reach its owner in another way.",
        (2, 2) => "The mailbox is full. Its owner has to make room; please try again later.",
        (2, 3) | (3, 4) => "The message is too large for them. Please send a smaller one, or a link.",
        (4, 6) => "The message went in a circle. Their postmaster has to look into it.",
        (4, 7) => "There was no success within the time that messages are tried for.",
        (4, _) | (3, _) if class == 4 => "Their server could not be used. That may pass.",
        (4, _) => "Their server could not be reached.",
        (6, 7 | 9) => "Their server cannot take addresses or headers with letters beyond ASCII.",
        (7, 10 | 30) => "You asked for an encrypted way, and there is none that can be trusted.",
        (7, _) if class == 5 => {
            "Their rules do not let the message in. What they say above may tell why; their postmaster can help."
        }
        _ => return None,
    };
    Some(advice)
}

/// Which message this is about.
fn about(report: &Report<'_>, text: &mut Text) {
    text.line("The message:");
    let header = Header::of(report.original);
    for name in ["Subject", "From", "Date"] {
        let Some(value) = header.find(name) else {
            continue;
        };
        let value = harmless(encoded_word::decode(value).trim(), FIELD_BYTES_MAX);
        text.wrapped("  ", &format!("{name}: {value}"));
    }
    text.line(&format!("  Received here: {}", Rfc5322(report.arrived)));
    if let Some(by) = report.deliver_by {
        text.line(&format!("  To be delivered by: {}", Rfc5322(by)));
    }
}

struct Text(String);

impl Text {
    /// Words of ours, and an empty line.
    fn paragraph(&mut self, indent: &str, words: &str) {
        self.wrapped(indent, words);
        self.line("");
    }

    fn wrapped(&mut self, indent: &str, words: &str) {
        for line in wrap(words, LINE_CHARS - indent.len()) {
            self.line(&format!("{indent}{line}"));
        }
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{}\r\n", line.trim_end());
    }
}

/// Lines of at most so many characters, cut between words; a longer word is cut too. At least one line.
pub fn wrap(words: &str, chars_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(words);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((limit, _)) = text.char_indices().nth(chars_max) else {
            rest = None;
            return Some(text);
        };
        // A blank right behind the limit ends the line as well; one at the front would give an empty line.
        let window = limit + usize::from(text[limit..].starts_with(' '));
        let blank = text[..window].rfind(' ').filter(|at| !text[..*at].trim().is_empty());
        let (line, behind) = match blank {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => text.split_at(limit),
        };
        rest = Some(behind);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::wrap;

    #[test]
    fn wrapped_words() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[""]),
            ("one two three", &["one two", "three"]),
            ("one two threefour", &["one two", "threefou", "r"]),
            ("abcdefgh", &["abcdefgh"]),
            ("abcdefgh i", &["abcdefgh", "i"]),
            (" abcdefghij", &[" abcdefg", "hij"]),
            (
                "\u{e9}\u{e9}\u{e9}\u{e9} \u{e9}\u{e9}\u{e9}\u{e9}",
                &["\u{e9}\u{e9}\u{e9}\u{e9}", "\u{e9}\u{e9}\u{e9}\u{e9}"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(wrap(text, 8).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_keep_to_the_limit_and_lose_no_word(text in "[a\u{e9}  ]{0,60}", chars_max in 1_usize..20) {
            let lines: Vec<&str> = wrap(&text, chars_max).collect();
            assert!(lines.iter().all(|line| line.chars().count() <= chars_max), "{lines:?}");
            let letters = |text: &str| text.chars().filter(|char| *char != ' ').collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
