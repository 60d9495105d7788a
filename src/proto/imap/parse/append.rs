//! APPEND, whose message does not come with the command but behind it.

use super::{Request, flag, mailbox, unknown};
use crate::limits::mailbox::KEYWORDS_MAX;
use crate::mail::date;
use crate::mail::flags::Flags;
use crate::proto::imap::command::{AppendStart, Numbering};
use crate::proto::imap::lexer::{Fault, Lexed, Lexer};
use crate::proto::imap::reply::Code;

/// What the literal at the end of an APPEND is, so far as it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendHead {
    /// The name of the mailbox.
    Name,
    /// The message; its size is not known here.
    Message(AppendStart),
}

/// An APPEND that is complete without a message.
pub fn append(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    unknown("APPEND needs a message as a literal")
}

/// `append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal`, of which the lexer holds what is
/// between the verb and the literal's head
pub fn append_head(mut lexer: Lexer<'_>) -> Lexed<AppendHead> {
    lexer.space()?;
    if lexer.is_at_end() {
        return Ok(AppendHead::Name);
    }
    let mut start =
        AppendStart { mailbox: mailbox(&mut lexer)?, flags: Default::default(), internal: None, size: 0 };
    lexer.space()?;
    if lexer.peek() == Some(b'(') {
        start.flags = flag_list_that_fits(&mut lexer)?;
        lexer.space()?;
    }
    if lexer.peek() == Some(b'"') {
        let written = lexer.quoted()?;
        let internal = date::parse_imap_date_time(&written);
        start.internal = Some(internal.ok_or(Fault::Syntax("Malformed date and time"))?);
        lexer.space()?;
    }
    lexer.end()?;
    Ok(AppendHead::Message(start))
}

/// The flags of a message that is to be taken: a keyword that is one too many, or too long, keeps it out no more than
/// one for which the mailbox has no room.
fn flag_list_that_fits(lexer: &mut Lexer<'_>) -> Lexed<Flags> {
    let mut flags = Flags::default();
    lexer.list_or_empty(|lexer| match flag(lexer, &mut flags) {
        Err(Fault::Refused(Code::Limit, _)) => {
            flags.keywords.truncate(KEYWORDS_MAX);
            Ok(())
        }
        taken => taken,
    })?;
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::super::head;
    use super::AppendHead;
    use crate::proto::imap::lexer::Dialect;

    fn shown(text: &str) -> Option<String> {
        let appended = head(text.as_bytes(), Dialect::Rev1).and_then(|head| head.append()).ok()?;
        Some(match appended {
            AppendHead::Name => "name".to_owned(),
            AppendHead::Message(start) => {
                let zone = start.internal.map(|internal| internal.zone_minutes);
                format!("{} {} {:?} {zone:?}", start.mailbox, start.flags.system.0, start.flags.keywords)
            }
        })
    }

    #[test]
    fn what_the_literal_is() {
        let table: &[(&str, Option<&str>)] = &[
            ("a APPEND ", Some("name")),
            ("a APPEND inbox ", Some("INBOX 0 [] None")),
            ("a APPEND {5}\r\ninbox ", Some("INBOX 0 [] None")),
            ("a APPEND \"a b\" (\\Seen \\Flagged $Junk) ", Some("a b 10 [\"$Junk\"] None")),
            ("a APPEND x () ", Some("x 0 [] None")),
            ("a APPEND x \"17-Jul-1996 02:44:25 -0700\" ", Some("x 0 [] Some(-420)")),
            ("a APPEND x (\\Draft) \" 7-Jul-1996 02:44:25 +0000\" ", Some("x 16 [] Some(0)")),
            ("a APPEND", None),
            ("a APPEND inbox", None),
            ("a APPEND inbox x ", None),
            ("a APPEND inbox (\\Recent) ", None),
            ("a APPEND inbox (\\Foo) ", None),
            ("a APPEND inbox \"yesterday\" ", None),
            ("a APPEND inbox \"17-Jul-1996 02:44:25 -0700\"", None),
            ("a APPEND inbox \"17-Jul-1996 02:44:25 -0700\" (\\Seen) ", None),
            ("a APPEND &&& ", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn keywords_that_do_not_fit_keep_no_message_out() {
        let many: Vec<String> = (0..70).map(|number| format!("k{number}")).collect();
        let long = "x".repeat(101);
        let text = format!("a APPEND INBOX ({long} {} K3 \\Seen) ", many.join(" "));
        let appended = head(text.as_bytes(), Dialect::Rev1).and_then(|head| head.append());
        let Ok(AppendHead::Message(start)) = appended else {
            panic!("a message");
        };
        assert_eq!((start.flags.system.0, &start.flags.keywords[..]), (8, &many[..64]));
    }
}
