//! Commands from bytes to values, one family per file.
//!
//! [`Head`] is what every command begins with; it names the row of [`table`] that knows the rest. A parser's
//! doc comment is its grammar in ABNF. Names are told apart in any case.
//!
//! Invariants: parsing is a pure function of the command's bytes and the session's dialect; recursion happens
//! only in search keys and is bounded by `limits::imap::NESTING_MAX`.

mod append;
mod fetch;
mod list;
mod mailboxes;
mod search;
mod session;
mod store;
pub mod table;

use std::borrow::Cow;

use super::command::{Command, Numbering};
use super::lexer::{Dialect, Fault, Lexed, Lexer, utf8};
use super::reply::Code;
use crate::limits;
use crate::mail::flags::{Flags, SystemFlags};
use crate::mail::mutf7;
use crate::proto::sasl::Secret;
use table::Row;

pub use append::{AppendHead, append_head};

/// A command, as the session sees it.
#[derive(Debug)]
pub enum Request {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Authenticate { mechanism: String, initial: Option<String> },
    Login { login: String, password: Secret },
    Enable { rev2: bool, condstore: bool },
    Idle,
    Select { command: Command, condstore: bool },
    Command(Command),
}

/// The beginning of a command, and the place where its arguments begin.
#[derive(Debug)]
pub struct Head<'a> {
    pub row: &'static Row,
    numbering: Numbering,
    rest: Lexer<'a>,
}

/// The tag, if it is one, and the position behind it.
pub fn tag(text: &[u8]) -> Option<&str> {
    Lexer::new(text, Dialect::Rev1).tag().ok()
}

/// `command = tag SP ["UID" SP] verb`. The verb must be complete.
pub fn head(text: &[u8], dialect: Dialect) -> Lexed<Head<'_>> {
    let mut lexer = Lexer::new(text, dialect);
    lexer.tag()?;
    lexer.space()?;
    let mut numbering = Numbering::Sequence;
    if lexer.eat_word("UID") {
        lexer.space()?;
        numbering = Numbering::Uid;
    }
    let row = Row::find(lexer.word()?, numbering).ok_or(Fault::Syntax("Unknown command"))?;
    Ok(Head { row, numbering, rest: lexer })
}

impl Head<'_> {
    /// The whole command.
    pub fn request(mut self) -> Lexed<Request> {
        let request = (self.row.parse)(&mut self.rest, self.numbering)?;
        self.rest.end()?;
        Ok(request)
    }

    /// An APPEND up to a literal.
    pub fn append(self) -> Lexed<AppendHead> {
        append_head(self.rest)
    }
}

/// `mailbox = "INBOX" / astring`
fn mailbox(lexer: &mut Lexer<'_>) -> Lexed<String> {
    let name = lexer.astring()?;
    mailbox_name(lexer.dialect(), name).map(canonical)
}

/// A name or pattern in the encoding of the session (RFC 3501 5.1.3, RFC 9051 5.1).
fn mailbox_name(dialect: Dialect, name: Cow<'_, [u8]>) -> Lexed<String> {
    match dialect {
        Dialect::Rev2 => utf8(name),
        Dialect::Rev1 => mutf7::decode(&name)
            .map_err(|_| Fault::Refused(Code::Cannot, "The mailbox name is not valid modified UTF-7")),
    }
}

/// The first component INBOX counts in any case (RFC 9051 5.1).
fn canonical(mut name: String) -> String {
    const INBOX: &str = "INBOX";
    let is_inbox = name.get(..INBOX.len()).is_some_and(|first| first.eq_ignore_ascii_case(INBOX));
    if is_inbox && matches!(name.as_bytes().get(INBOX.len()), None | Some(b'/')) {
        name.replace_range(..INBOX.len(), INBOX);
    }
    name
}

/// `flag-list = "(" [flag *(SP flag)] ")"`
fn flag_list(lexer: &mut Lexer<'_>) -> Lexed<Flags> {
    let mut flags = Flags::default();
    lexer.list_or_empty(|lexer| flag(lexer, &mut flags))?;
    Ok(flags)
}

/// `flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword`. `\Recent` and flags that
/// nobody knows cannot be set.
fn flag(lexer: &mut Lexer<'_>, flags: &mut Flags) -> Lexed<()> {
    if !lexer.eat(b'\\') {
        return add_keyword(flags, keyword(lexer)?);
    }
    let name = lexer.atom()?;
    let known = SystemFlags::NAMES.iter().find(|(_, known)| known[1..].eq_ignore_ascii_case(name));
    let (known, _) = known.ok_or(Fault::Syntax("Unknown or unsettable system flag"))?;
    flags.system |= *known;
    Ok(())
}

/// `flag-keyword = atom`
fn keyword<'a>(lexer: &mut Lexer<'a>) -> Lexed<&'a str> {
    let keyword = lexer.atom()?;
    match keyword.len() > limits::mailbox::KEYWORD_BYTES_MAX {
        true => Err(Fault::Refused(Code::Limit, "Keyword too long")),
        false => Ok(keyword),
    }
}

fn add_keyword(flags: &mut Flags, keyword: &str) -> Lexed<()> {
    flags.add_keyword(keyword);
    match flags.keywords.len() > limits::mailbox::KEYWORDS_MAX {
        true => Err(Fault::Refused(Code::Limit, "Too many keywords")),
        false => Ok(()),
    }
}

/// What nobody knows is a fault.
fn unknown<T>(what: &'static str) -> Lexed<T> {
    Err(Fault::Syntax(what))
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use proptest::sample::select;

    use super::table::COMMANDS;
    use super::{Request, canonical, head, tag};
    use crate::proto::imap::command::Command;
    use crate::proto::imap::lexer::{Dialect, Fault};

    /// The command of this text in IMAP4rev1.
    pub fn parse(text: &str) -> Result<Command, Fault> {
        parse_in(text, Dialect::Rev1)
    }

    pub fn parse_in(text: &str, dialect: Dialect) -> Result<Command, Fault> {
        parse_bytes(text.as_bytes(), dialect)
    }

    pub fn parse_bytes(text: &[u8], dialect: Dialect) -> Result<Command, Fault> {
        match head(text, dialect)?.request()? {
            Request::Command(command) | Request::Select { command, .. } => Ok(command),
            request => panic!("{request:?}"),
        }
    }

    #[test]
    fn inbox_is_one_name() {
        for (name, expected) in [
            ("inbox", "INBOX"),
            ("InBox/Work", "INBOX/Work"),
            ("inboxes", "inboxes"),
            ("Work/inbox", "Work/inbox"),
            ("inbö", "inbö"),
            ("", ""),
        ] {
            assert_eq!(canonical(name.to_owned()), expected);
        }
    }

    #[test]
    fn tags_and_verbs() {
        assert_eq!(tag(b"a1 NOOP"), Some("a1"));
        assert_eq!(tag(b"a]1"), Some("a]1"));
        for bad in ["", " ", "+ x", "(a", "\"a\" x", "{1}"] {
            assert_eq!(tag(bad.as_bytes()), None, "{bad}");
        }
        for good in ["a NOOP", "a noop", "a UID FETCH 1 FLAGS", "a uid expunge 1", "+"] {
            assert_eq!(head(good.as_bytes(), Dialect::Rev1).is_ok(), good != "+", "{good}");
        }
        for bad in ["a", "a ", "a  NOOP", "a UID NOOP", "a UID", "a UID ", "a FOO", "a UID UID FETCH 1 FLAGS"]
        {
            assert!(head(bad.as_bytes(), Dialect::Rev1).is_err(), "{bad}");
        }
        assert_eq!(parse("a CHECK"), Ok(Command::Noop));
        assert!(parse("a CHECK ").is_err());
    }

    const WORDS: &[&str] = &[
        " ",
        " ",
        " ",
        " ",
        "(",
        ")",
        "\"",
        "\\",
        "[",
        "]",
        "<",
        ">",
        ".",
        ",",
        ":",
        "*",
        "$",
        "+",
        "-",
        "1",
        "0",
        "9999999999",
        "INBOX",
        "\"\"",
        "{2}\r\nab",
        "{3+}\r\n\r\n\0",
        "{9}\r\n",
        "FLAGS",
        "BODY",
        "BODY.PEEK",
        "BINARY.SIZE",
        "HEADER.FIELDS",
        "MIME",
        "RETURN",
        "CHARSET UTF-8",
        "OR",
        "NOT",
        "UID",
        "SINCE",
        "1-Jan-2020",
        "MODSEQ",
        "REFERENCES",
        "(DATE)",
        "(CHANGEDSINCE 1)",
        "USE",
        "\\Seen",
        "\\Sent",
        "&AOQ-",
        "&",
        "NIL",
        "\u{e4}",
    ];

    proptest! {
        #[test]
        fn no_arguments_panic(
            row in 0..COMMANDS.len(),
            uid in any::<bool>(),
            words in collection::vec(
                prop_oneof![9 => select(WORDS).prop_map(|word| word.as_bytes().to_vec()), 1 => collection::vec(any::<u8>(), 1..3)],
                0..12,
            ),
        ) {
            let verb = COMMANDS[row].verb;
            let text = [format!("a {}{verb} ", if uid { "UID " } else { "" }).into_bytes(), words.concat()].concat();
            for dialect in [Dialect::Rev1, Dialect::Rev2] {
                let _ = head(&text, dialect).and_then(|head| head.request());
                let _ = head(&text, dialect).and_then(|head| head.append());
            }
        }
    }
}
