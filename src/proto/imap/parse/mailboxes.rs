//! Commands about one mailbox as a whole: SELECT, CREATE, RENAME, STATUS and their like.

use super::{Request, canonical, mailbox, mailbox_name, unknown};
use crate::mail::special_use::SpecialUse;
use crate::proto::imap::command::{Access, Command, Loss, Numbering, Refused, Select, StatusItem};
use crate::proto::imap::lexer::{Fault, Lexed, Lexer};
use crate::proto::imap::reply::Code;

pub fn select(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    open(lexer, Access::ReadWrite)
}

pub fn examine(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    open(lexer, Access::ReadOnly)
}

/// `select = "SELECT" SP mailbox [SP "(" select-param *(SP select-param) ")"]`, `select-param = "CONDSTORE"`
/// (RFC 7162 7). A name that no mailbox can have fails as one that none has: nothing is selected then.
fn open(lexer: &mut Lexer<'_>, access: Access) -> Lexed<Request> {
    lexer.space()?;
    let name = lexer.astring()?;
    let mailbox = mailbox_name(lexer.dialect(), name).map(canonical);
    let mut condstore = false;
    if lexer.eat(b' ') {
        lexer.list(|lexer| match lexer.eat_word("CONDSTORE") && !condstore {
            true => {
                condstore = true;
                Ok(())
            }
            false => unknown("Unknown or repeated parameter"),
        })?;
    }
    let command = match mailbox {
        Ok(mailbox) => Command::Select(Select { mailbox, access }),
        Err(Fault::Refused(code, text)) => Command::Refused(Refused { loses: Loss::Selected, code, text }),
        Err(fault) => return Err(fault),
    };
    Ok(Request::Select { command, condstore })
}

pub fn close(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Command(Command::Close))
}

pub fn unselect(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Command(Command::Unselect))
}

pub fn check(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Command(Command::Noop))
}

pub fn namespace(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Command(Command::Namespace))
}

/// `create = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]`,
/// `create-param = "USE" SP "(" [use-attr *(SP use-attr)] ")"` (RFC 6154 6)
pub fn create(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    let mailbox = one_mailbox(lexer)?;
    let mut special_uses = None;
    if lexer.eat(b' ') {
        lexer.list(|lexer| {
            if !lexer.eat_word("USE") || special_uses.is_some() {
                return unknown("Unknown or repeated parameter");
            }
            lexer.space()?;
            special_uses = Some(lexer.list_or_empty(special_use)?);
            Ok(())
        })?;
    }
    let special_uses = special_uses.unwrap_or_default();
    Ok(Request::Command(Command::Create { mailbox, special_uses }))
}

/// `use-attr = "\All" / "\Archive" / ... / "\" atom`
fn special_use(lexer: &mut Lexer<'_>) -> Lexed<SpecialUse> {
    lexer.expect(b'\\', "Expected a special use")?;
    let name = lexer.atom()?;
    let known = SpecialUse::NAMES.iter().find(|(_, known)| known[1..].eq_ignore_ascii_case(name));
    match known {
        Some((special_use, _)) => Ok(*special_use),
        None => Err(Fault::Refused(Code::UseAttr, "Unknown special use")),
    }
}

pub fn delete(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    one_mailbox(lexer).map(|mailbox| Request::Command(Command::Delete { mailbox }))
}

/// `rename = "RENAME" SP mailbox SP mailbox`
pub fn rename(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    let from = one_mailbox(lexer)?;
    let to = one_mailbox(lexer)?;
    Ok(Request::Command(Command::Rename { from, to }))
}

pub fn subscribe(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    one_mailbox(lexer).map(|mailbox| Request::Command(Command::Subscribe { mailbox }))
}

pub fn unsubscribe(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    one_mailbox(lexer).map(|mailbox| Request::Command(Command::Unsubscribe { mailbox }))
}

fn one_mailbox(lexer: &mut Lexer<'_>) -> Lexed<String> {
    lexer.space()?;
    mailbox(lexer)
}

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`
pub fn status(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    let mailbox = one_mailbox(lexer)?;
    lexer.space()?;
    let items = status_items(lexer)?;
    Ok(Request::Command(Command::Status { mailbox, items }))
}

/// `"(" status-att *(SP status-att) ")"`; what is asked for twice is told once.
pub fn status_items(lexer: &mut Lexer<'_>) -> Lexed<Vec<StatusItem>> {
    let mut items = Vec::new();
    lexer.list(|lexer| {
        let item = status_item(lexer)?;
        if !items.contains(&item) {
            items.push(item);
        }
        Ok(())
    })?;
    Ok(items)
}

fn status_item(lexer: &mut Lexer<'_>) -> Lexed<StatusItem> {
    let name = lexer.word()?;
    let item = StatusItem::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
    item.map(|(item, _)| *item).ok_or(Fault::Syntax("Unknown STATUS item"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse, parse_in};
    use super::super::{Request, head};
    use crate::mail::special_use::SpecialUse;
    use crate::proto::imap::command::{Access, Command, Loss, Refused, Select, StatusItem};
    use crate::proto::imap::lexer::{Dialect, Fault};
    use crate::proto::imap::reply::Code;

    #[test]
    fn selecting() {
        let opened =
            |mailbox: &str, access| Ok(Command::Select(Select { mailbox: mailbox.to_owned(), access }));
        assert_eq!(parse("a SELECT inbox"), opened("INBOX", Access::ReadWrite));
        assert_eq!(parse("a EXAMINE \"a b\""), opened("a b", Access::ReadOnly));
        assert_eq!(parse("a SELECT {5}\r\ninbox (CONDSTORE)"), opened("INBOX", Access::ReadWrite));
        for bad in [
            "a SELECT",
            "a SELECT a b",
            "a SELECT a ()",
            "a SELECT a (X)",
            "a SELECT a (CONDSTORE CONDSTORE)",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let name = "The mailbox name is not valid modified UTF-7";
        let refused = Refused { loses: Loss::Selected, code: Code::Cannot, text: name };
        assert_eq!(parse("a SELECT &Jjo! (CONDSTORE)"), Ok(Command::Refused(refused)));
        assert!(matches!(parse("a EXAMINE &Jjo! (X)"), Err(Fault::Syntax(_))));
        let request = head(b"a SELECT x (condstore)", Dialect::Rev1).and_then(|head| head.request());
        assert!(matches!(request, Ok(Request::Select { condstore: true, .. })));
    }

    #[test]
    fn names_in_both_encodings() {
        let deleted = |mailbox: &str| Ok(Command::Delete { mailbox: mailbox.to_owned() });
        assert_eq!(parse("a DELETE Entw&APw-rfe"), deleted("Entwürfe"));
        assert_eq!(parse_in("a DELETE Entw&APw-rfe", Dialect::Rev2), deleted("Entw&APw-rfe"));
        assert_eq!(parse_in("a DELETE \"Entwürfe\"", Dialect::Rev2), deleted("Entwürfe"));
        let refused = Fault::Refused(Code::Cannot, "The mailbox name is not valid modified UTF-7");
        for bad in ["a DELETE &Jjo!", "a DELETE &U,BTFw-&ZeVnLIqe-", "a DELETE \"Entwürfe\""] {
            assert_eq!(parse(bad), Err(refused.clone()), "{bad}");
        }
    }

    #[test]
    fn creating() {
        let created = |special_uses| Ok(Command::Create { mailbox: "x".to_owned(), special_uses });
        assert_eq!(parse("a CREATE x"), created(vec![]));
        assert_eq!(parse("a CREATE x (USE ())"), created(vec![]));
        assert_eq!(
            parse("a CREATE x (USE (\\Sent \\drafts))"),
            created(vec![SpecialUse::Sent, SpecialUse::Drafts])
        );
        assert_eq!(
            parse("a CREATE x (USE (\\Foo))"),
            Err(Fault::Refused(Code::UseAttr, "Unknown special use"))
        );
        for bad in
            ["a CREATE x (USE)", "a CREATE x (FOO)", "a CREATE x (USE () USE ())", "a CREATE x (USE (Sent))"]
        {
            assert!(matches!(parse(bad), Err(Fault::Syntax(_))), "{bad}");
        }
    }

    #[test]
    fn status_items() {
        let items = vec![StatusItem::Messages, StatusItem::HighestModSeq];
        assert_eq!(
            parse("a STATUS inbox (messages HIGHESTMODSEQ MESSAGES)"),
            Ok(Command::Status { mailbox: "INBOX".to_owned(), items })
        );
        for bad in
            ["a STATUS x", "a STATUS x ()", "a STATUS x (FOO)", "a STATUS x MESSAGES", "a STATUS (MESSAGES)"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for (item, name) in StatusItem::NAMES {
            let command = parse(&format!("a STATUS x ({name})"));
            assert_eq!(command, Ok(Command::Status { mailbox: "x".to_owned(), items: vec![item] }));
        }
    }

    #[test]
    fn two_names() {
        let renamed = Command::Rename { from: "INBOX".to_owned(), to: "old mail".to_owned() };
        assert_eq!(parse("a RENAME Inbox \"old mail\""), Ok(renamed));
        assert!(parse("a RENAME Inbox").is_err());
        assert!(parse("a SUBSCRIBE").is_err());
    }
}
