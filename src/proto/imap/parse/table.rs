//! The commands, one row each, and the extensions that CAPABILITY lists.

use super::{Request, append, fetch, list, mailboxes, search, session, store};
use crate::proto::imap::command::Numbering;
use crate::proto::imap::lexer::{Lexed, Lexer};

/// A command.
#[derive(Debug)]
pub struct Row {
    pub verb: &'static str,
    pub states: States,
    /// The name may stand behind UID.
    pub uid: Uid,
    pub parse: Parse,
    /// What CAPABILITY must list for it; the base protocol needs nothing.
    pub capability: Option<&'static str>,
}

/// Reads the arguments.
pub type Parse = fn(&mut Lexer<'_>, Numbering) -> Lexed<Request>;

/// Where a command may be given (RFC 9051 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum States {
    Any,
    NotAuthenticated,
    /// Also when a mailbox is selected.
    Authenticated,
    Selected,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uid {
    Never,
    Possible,
}

use States::{Any, Authenticated, NotAuthenticated, Selected};

/// The commands, those that clients give often first.
pub const COMMANDS: [Row; 32] = [
    Row::new("FETCH", Selected, fetch::fetch).or_uid(),
    Row::new("NOOP", Any, session::noop),
    Row::new("IDLE", Authenticated, session::idle).of("IDLE"),
    Row::new("STORE", Selected, store::store).or_uid(),
    Row::new("SEARCH", Selected, search::search).or_uid(),
    Row::new("SELECT", Authenticated, mailboxes::select),
    Row::new("EXAMINE", Authenticated, mailboxes::examine),
    Row::new("STATUS", Authenticated, mailboxes::status),
    Row::new("LIST", Authenticated, list::list),
    Row::new("LSUB", Authenticated, list::lsub),
    Row::new("COPY", Selected, store::copy).or_uid(),
    Row::new("MOVE", Selected, store::move_).or_uid().of("MOVE"),
    Row::new("APPEND", Authenticated, append::append),
    Row::new("EXPUNGE", Selected, store::expunge).or_uid(),
    Row::new("SORT", Selected, search::sort).or_uid().of("SORT"),
    Row::new("THREAD", Selected, search::thread).or_uid().of("THREAD=REFERENCES"),
    Row::new("CLOSE", Selected, mailboxes::close),
    Row::new("UNSELECT", Selected, mailboxes::unselect).of("UNSELECT"),
    Row::new("CHECK", Selected, mailboxes::check),
    Row::new("CREATE", Authenticated, mailboxes::create),
    Row::new("DELETE", Authenticated, mailboxes::delete),
    Row::new("RENAME", Authenticated, mailboxes::rename),
    Row::new("SUBSCRIBE", Authenticated, mailboxes::subscribe),
    Row::new("UNSUBSCRIBE", Authenticated, mailboxes::unsubscribe),
    Row::new("NAMESPACE", Authenticated, mailboxes::namespace).of("NAMESPACE"),
    Row::new("CAPABILITY", Any, session::capability),
    Row::new("LOGIN", NotAuthenticated, session::login),
    Row::new("AUTHENTICATE", NotAuthenticated, session::authenticate),
    Row::new("STARTTLS", NotAuthenticated, session::starttls).of("STARTTLS"),
    Row::new("ENABLE", Authenticated, session::enable).of("ENABLE"),
    Row::new("ID", Any, session::id).of("ID"),
    Row::new("LOGOUT", Any, session::logout),
];

impl Row {
    const fn new(verb: &'static str, states: States, parse: Parse) -> Self {
        Self { verb, states, uid: Uid::Never, parse, capability: None }
    }

    const fn or_uid(self) -> Self {
        Self { uid: Uid::Possible, ..self }
    }

    const fn of(self, capability: &'static str) -> Self {
        Self { capability: Some(capability), ..self }
    }

    /// Its last literal is a message, which is not gathered.
    pub fn takes_message(&self) -> bool {
        self.verb == "APPEND"
    }

    /// The row of a verb, in any case.
    pub fn find(verb: &str, numbering: Numbering) -> Option<&'static Self> {
        static ROWS: &[Row] = &COMMANDS;
        let row = ROWS.iter().find(|row| row.verb.eq_ignore_ascii_case(verb))?;
        (numbering == Numbering::Sequence || row.uid == Uid::Possible).then_some(row)
    }
}

/// When CAPABILITY lists an extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    Always,
    /// Before login, where TLS can begin.
    BeforeTls,
    /// Before login, where no password may cross the connection.
    InTheClear,
    /// Before login, where one may: each mechanism.
    Mechanisms,
    AfterLogin,
    /// After login, with the largest message as its value.
    AppendLimit,
}

use Listed::{AfterLogin, Always, AppendLimit, BeforeTls, InTheClear, Mechanisms};

/// What CAPABILITY lists, in order.
pub const EXTENSIONS: [(&str, Listed); 31] = [
    ("IMAP4rev1", Always),
    ("IMAP4rev2", Always),
    ("ENABLE", Always),
    ("ID", Always),
    ("IDLE", Always),
    ("LITERAL+", Always),
    ("SASL-IR", Always),
    ("STARTTLS", BeforeTls),
    ("LOGINDISABLED", InTheClear),
    ("AUTH", Mechanisms),
    ("APPENDLIMIT", AppendLimit),
    ("BINARY", AfterLogin),
    ("CHILDREN", AfterLogin),
    ("CONDSTORE", AfterLogin),
    ("CREATE-SPECIAL-USE", AfterLogin),
    ("ESEARCH", AfterLogin),
    ("ESORT", AfterLogin),
    ("LIST-EXTENDED", AfterLogin),
    ("LIST-STATUS", AfterLogin),
    ("MOVE", AfterLogin),
    ("NAMESPACE", AfterLogin),
    ("SAVEDATE", AfterLogin),
    ("SEARCHRES", AfterLogin),
    ("SORT", AfterLogin),
    ("SPECIAL-USE", AfterLogin),
    ("STATUS=SIZE", AfterLogin),
    ("THREAD=ORDEREDSUBJECT", AfterLogin),
    ("THREAD=REFERENCES", AfterLogin),
    ("UIDPLUS", AfterLogin),
    ("UNSELECT", AfterLogin),
    ("WITHIN", AfterLogin),
];

/// A command of an extension is only there if CAPABILITY lists the extension.
const _: () = {
    let mut index = 0;
    while index < COMMANDS.len() {
        if let Some(capability) = COMMANDS[index].capability {
            assert!(is_listed(capability));
        }
        index += 1;
    }
};

const fn is_listed(capability: &str) -> bool {
    let mut index = 0;
    while index < EXTENSIONS.len() {
        let listed = EXTENSIONS[index].0.as_bytes();
        if listed.len() == capability.len() && is_same(listed, capability.as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is_same(left: &[u8], right: &[u8]) -> bool {
    let mut index = 0;
    while index < left.len() && left[index] == right[index] {
        index += 1;
    }
    index == left.len()
}

#[cfg(test)]
mod tests {
    use super::COMMANDS;

    #[test]
    fn no_verb_has_two_rows() {
        let mut verbs: Vec<_> = COMMANDS.iter().map(|row| row.verb).collect();
        verbs.sort_unstable();
        verbs.dedup();
        assert_eq!(verbs.len(), COMMANDS.len());
    }
}
