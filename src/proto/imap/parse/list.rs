//! LIST and LSUB (RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154).

use super::mailboxes::status_items;
use super::{Request, mailbox_name, unknown};
use crate::proto::imap::command::{Command, List, ListReturn, ListSelection, Numbering};
use crate::proto::imap::lexer::{Lexed, Lexer};

/// `list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP "RETURN" SP list-return-opts]`
pub fn list(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let mut extended = lexer.peek() == Some(b'(');
    let mut selection = ListSelection::default();
    if extended {
        selection = selection_options(lexer)?;
        lexer.space()?;
    }
    let reference = reference(lexer)?;
    lexer.space()?;
    extended |= lexer.peek() == Some(b'(');
    let patterns = patterns(lexer)?;
    let mut returned = ListReturn::default();
    if lexer.eat(b' ') {
        if !lexer.eat_word("RETURN") {
            return unknown("Expected RETURN");
        }
        lexer.space()?;
        returned = return_options(lexer)?;
        extended = true;
    }
    Ok(Request::Command(Command::List(List { reference, patterns, selection, returned, extended })))
}

/// `lsub = "LSUB" SP mailbox SP list-mailbox` (RFC 3501 9)
pub fn lsub(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let reference = reference(lexer)?;
    lexer.space()?;
    let pattern = pattern(lexer)?;
    Ok(Request::Command(Command::Lsub { reference, pattern }))
}

fn reference(lexer: &mut Lexer<'_>) -> Lexed<String> {
    let reference = lexer.astring()?;
    mailbox_name(lexer.dialect(), reference)
}

/// `mbox-or-pat = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"`
fn patterns(lexer: &mut Lexer<'_>) -> Lexed<Vec<String>> {
    match lexer.peek() {
        Some(b'(') => lexer.list(pattern),
        _ => pattern(lexer).map(|pattern| vec![pattern]),
    }
}

fn pattern(lexer: &mut Lexer<'_>) -> Lexed<String> {
    let pattern = lexer.list_mailbox()?;
    mailbox_name(lexer.dialect(), pattern)
}

/// `list-select-opts = "(" [list-select-opt *(SP list-select-opt)] ")"`
fn selection_options(lexer: &mut Lexer<'_>) -> Lexed<ListSelection> {
    let mut selection = ListSelection::default();
    lexer.list_or_empty(|lexer| {
        match lexer.word()?.to_ascii_uppercase().as_str() {
            "SUBSCRIBED" => selection.subscribed = true,
            "REMOTE" => selection.remote = true,
            "RECURSIVEMATCH" => selection.recursive_match = true,
            "SPECIAL-USE" => selection.special_use = true,
            _ => return unknown("Unknown selection option"),
        }
        Ok(())
    })?;
    // RFC 5258 3.1, RFC 6154 6: it needs an option that says what the descendants must be, and CHILDINFO can say only
    // that they are subscribed.
    match selection.recursive_match && !selection.subscribed {
        true => unknown("RECURSIVEMATCH needs SUBSCRIBED"),
        false => Ok(selection),
    }
}

/// `list-return-opts = "(" [return-option *(SP return-option)] ")"`
fn return_options(lexer: &mut Lexer<'_>) -> Lexed<ListReturn> {
    let mut returned = ListReturn::default();
    lexer.list_or_empty(|lexer| {
        match lexer.word()?.to_ascii_uppercase().as_str() {
            "SUBSCRIBED" => returned.subscribed = true,
            "CHILDREN" => returned.children = true,
            "SPECIAL-USE" => returned.special_use = true,
            "STATUS" => {
                lexer.space()?;
                returned.status = status_items(lexer)?;
            }
            _ => return unknown("Unknown return option"),
        }
        Ok(())
    })?;
    Ok(returned)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use crate::proto::imap::command::{Command, List, ListReturn, ListSelection, StatusItem};

    fn base(reference: &str, pattern: &str) -> List {
        List {
            reference: reference.to_owned(),
            patterns: vec![pattern.to_owned()],
            selection: ListSelection::default(),
            returned: ListReturn::default(),
            extended: false,
        }
    }

    #[test]
    fn base_and_extended() {
        let subscribed = ListSelection { subscribed: true, recursive_match: true, ..Default::default() };
        let status = vec![StatusItem::Unseen, StatusItem::Size];
        let table = [
            ("a LIST \"\" \"\"", base("", "")),
            ("a LIST \"\" *", base("", "*")),
            ("a LIST work/ %&AOQ-", base("work/", "%ä")),
            ("a LIST () \"\" inbox", List { extended: true, ..base("", "inbox") }),
            (
                "a LIST (SUBSCRIBED RecursiveMatch) \"\" *",
                List { selection: subscribed, extended: true, ..base("", "*") },
            ),
            (
                "a LIST \"\" (INBOX \"Sent*\")",
                List { patterns: vec!["INBOX".into(), "Sent*".into()], extended: true, ..base("", "") },
            ),
            (
                "a LIST \"\" % RETURN (CHILDREN STATUS (UNSEEN SIZE) SPECIAL-USE)",
                List {
                    returned: ListReturn { children: true, special_use: true, status, subscribed: false },
                    extended: true,
                    ..base("", "%")
                },
            ),
            ("a LIST \"\" % RETURN ()", List { extended: true, ..base("", "%") }),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(Command::List(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_list() {
        for bad in [
            "a LIST",
            "a LIST \"\"",
            "a LIST \"\" ()",
            "a LIST (RECURSIVEMATCH) \"\" *",
            "a LIST (RECURSIVEMATCH REMOTE) \"\" *",
            "a LIST (SPECIAL-USE RECURSIVEMATCH) \"\" *",
            "a LIST (FOO) \"\" *",
            "a LIST \"\" * RETURN",
            "a LIST \"\" * RETURN (FOO)",
            "a LIST \"\" * RETURN (STATUS)",
            "a LIST \"\" * FOO ()",
            "a LIST * *",
            "a LSUB \"\"",
            "a LSUB \"\" (a b)",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
