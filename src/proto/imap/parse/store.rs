//! STORE, COPY, MOVE, EXPUNGE: what changes messages.

use super::{Request, flag, flag_list, mailbox, unknown};
use crate::mail::flags::{Flags, FlagsAction};
use crate::proto::imap::command::{Command, Numbering, Store, Transfer};
use crate::proto::imap::lexer::{Lexed, Lexer};

/// `store = "STORE" SP sequence-set [SP "(" store-modifier ")"] SP store-att-flags`,
/// `store-modifier = "UNCHANGEDSINCE" SP mod-sequence-valzer` (RFC 7162 7)
pub fn store(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let numbers = lexer.number_set()?;
    lexer.space()?;
    let mut unchanged_since = None;
    if lexer.peek() == Some(b'(') {
        lexer.list(|lexer| {
            if !lexer.eat_word("UNCHANGEDSINCE") || unchanged_since.is_some() {
                return unknown("Unknown or repeated modifier");
            }
            lexer.space()?;
            unchanged_since = Some(lexer.number64()?);
            Ok(())
        })?;
        lexer.space()?;
    }
    let (action, silent) = store_item(lexer)?;
    lexer.space()?;
    let flags = store_flags(lexer)?;
    let store = Store { numbering, numbers, unchanged_since, action, flags, silent };
    Ok(Request::Command(Command::Store(store)))
}

/// `store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))`
fn store_item(lexer: &mut Lexer<'_>) -> Lexed<(FlagsAction, bool)> {
    let action = if lexer.eat(b'+') {
        FlagsAction::Add
    } else if lexer.eat(b'-') {
        FlagsAction::Remove
    } else {
        FlagsAction::Replace
    };
    match lexer.word()?.to_ascii_uppercase().as_str() {
        "FLAGS" => Ok((action, false)),
        "FLAGS.SILENT" => Ok((action, true)),
        _ => unknown("Expected FLAGS"),
    }
}

fn store_flags(lexer: &mut Lexer<'_>) -> Lexed<Flags> {
    if lexer.peek() == Some(b'(') {
        return flag_list(lexer);
    }
    let mut flags = Flags::default();
    flag(lexer, &mut flags)?;
    while lexer.eat(b' ') {
        flag(lexer, &mut flags)?;
    }
    Ok(flags)
}

pub fn copy(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    transfer(lexer, numbering).map(|transfer| Request::Command(Command::Copy(transfer)))
}

pub fn move_(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    transfer(lexer, numbering).map(|transfer| Request::Command(Command::Move(transfer)))
}

/// `copy = "COPY" SP sequence-set SP mailbox`, and `move` likewise (RFC 6851 4)
fn transfer(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Transfer> {
    lexer.space()?;
    let numbers = lexer.number_set()?;
    lexer.space()?;
    let mailbox = mailbox(lexer)?;
    Ok(Transfer { numbering, numbers, mailbox })
}

/// `"EXPUNGE"`, or `"UID" SP "EXPUNGE" SP sequence-set` (RFC 4315 2.1)
pub fn expunge(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    let mut uids = None;
    if numbering == Numbering::Uid {
        lexer.space()?;
        uids = Some(lexer.number_set()?);
    }
    Ok(Request::Command(Command::Expunge { uids }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use crate::mail::set::NumberSet;
    use crate::proto::imap::command::{Command, Store};
    use crate::proto::imap::lexer::Fault;

    fn shown(text: &str) -> Option<String> {
        let set = |numbers: &NumberSet| match numbers {
            NumberSet::Saved => "$".to_owned(),
            ranges => ranges.resolve(100).to_string(),
        };
        Some(match parse(text).ok()? {
            Command::Store(Store { numbering, numbers, unchanged_since, action, flags, silent }) => format!(
                "{numbering:?} {} {unchanged_since:?} {action:?} {} {:?} {silent}",
                set(&numbers),
                flags.system.0,
                flags.keywords
            ),
            Command::Copy(transfer) | Command::Move(transfer) => {
                format!("{:?} {} {}", transfer.numbering, set(&transfer.numbers), transfer.mailbox)
            }
            Command::Expunge { uids } => format!("{:?}", uids.as_ref().map(set)),
            command => format!("{command:?}"),
        })
    }

    #[test]
    fn changes() {
        let table: &[(&str, Option<&str>)] = &[
            ("a STORE 1:3 FLAGS (\\Seen)", Some("Sequence 1:3 None Replace 8 [] false")),
            ("a STORE 1 FLAGS ()", Some("Sequence 1 None Replace 0 [] false")),
            ("a UID STORE $ +flags.silent \\Deleted Foo foo", Some("Uid $ None Add 4 [\"Foo\"] true")),
            (
                "a STORE * (UNCHANGEDSINCE 0) -FLAGS.SILENT ($Junk)",
                Some("Sequence 100 Some(0) Remove 0 [\"$Junk\"] true"),
            ),
            ("a STORE 1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) FLAGS ()", None),
            ("a STORE 1 (FOO 1) FLAGS ()", None),
            ("a STORE 1 () FLAGS ()", None),
            ("a STORE 1 FLAGS", None),
            ("a STORE 1 FLAGS ", None),
            ("a STORE 1 FLAGS (\\Recent)", None),
            ("a STORE 1 FLAGS (\\*)", None),
            ("a STORE 1 +-FLAGS (\\Seen)", None),
            ("a STORE 0 FLAGS (\\Seen)", None),
            ("a COPY 2:4 inbox", Some("Sequence 2:4 INBOX")),
            ("a UID MOVE 2:* \"x y\"", Some("Uid 2:100 x y")),
            ("a MOVE 2", None),
            ("a EXPUNGE", Some("None")),
            ("a EXPUNGE 1", None),
            ("a UID EXPUNGE 3,4", Some("Some(\"3:4\")")),
            ("a UID EXPUNGE", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn flags_are_bounded() {
        let many: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
        let stored = parse(&format!("a STORE 1 FLAGS ({})", many.join(" ")));
        assert!(matches!(stored, Err(Fault::Refused(..))));
        let stored = parse(&format!("a STORE 1 FLAGS ({})", "k".repeat(200)));
        assert!(matches!(stored, Err(Fault::Refused(..))));
    }

    #[test]
    fn expunges_hide_behind_numbers() {
        for (text, allowed) in [
            ("a FETCH 1 FLAGS", false),
            ("a UID FETCH 1 FLAGS", true),
            ("a STORE 1 FLAGS ()", false),
            ("a SEARCH ALL", false),
            ("a UID SEARCH ALL", true),
            ("a SORT (DATE) UTF-8 ALL", false),
            ("a THREAD REFERENCES UTF-8 ALL", false),
            ("a COPY 1 x", true),
            ("a CHECK", true),
        ] {
            assert_eq!(parse(text).map(|command| command.allows_expunge()), Ok(allowed), "{text}");
        }
    }
}
