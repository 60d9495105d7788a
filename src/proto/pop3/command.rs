//! The commands as rows of a table, and what CAPA says, which is printed from it (RFC 2449 5).
//!
//! ```text
//!   command = keyword *(SP argument) CRLF        keyword in any case, one space each
//! ```
//!
//! Blanks at the end of a line are overlooked, but for PASS: everything behind its one space is the password
//! (RFC 1939 7).

use crate::proto::sasl::Mechanism;

/// A command with its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command<'a> {
    Apop,
    Auth { mechanism: &'a [u8], initial: Option<&'a [u8]> },
    AuthList,
    Capa,
    Dele(u32),
    Lang(&'a [u8]),
    LangList,
    List(u32),
    ListAll,
    Noop,
    Pass(&'a [u8]),
    Quit,
    Retr(u32),
    Rset,
    Stat,
    Stls,
    Top { number: u32, lines: u64 },
    Uidl(u32),
    UidlAll,
    User(&'a str),
    Utf8,
}

/// The states of RFC 1939 in which a command may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum States {
    Authorization,
    Transaction,
    Both,
}

/// A row of the table.
pub(super) struct Row {
    verb: &'static str,
    pub states: States,
    parse: for<'a> fn(&'a [u8]) -> Option<Command<'a>>,
    capability: Capability,
}

/// The line of CAPA that a command has.
#[derive(Clone, Copy)]
enum Capability {
    /// Of RFC 1939 itself.
    None,
    Always(&'static str),
    /// Where passwords may cross the channel.
    User,
    /// Where there are mechanisms.
    Sasl,
    Stls,
}

/// What depends on the channel.
pub(super) struct Offer {
    pub mechanisms: Vec<Mechanism>,
    pub takes_passwords: bool,
    pub can_start_tls: bool,
}

const ROWS: [Row; 17] = {
    use Capability::{Always, None, Sasl, Stls, User};
    use States::{Authorization, Both, Transaction};
    [
        row("CAPA", Both, |line| alone(line, Command::Capa), None),
        row("USER", Authorization, user, User),
        row("PASS", Authorization, |line| Some(Command::Pass(line)), None),
        row("APOP", Authorization, |_| Some(Command::Apop), None),
        row("AUTH", Authorization, auth, Sasl),
        row("STLS", Authorization, |line| alone(line, Command::Stls), Stls),
        row("UTF8", Authorization, |line| alone(line, Command::Utf8), Always("UTF8 USER")),
        row("LANG", Both, lang, Always("LANG")),
        row("STAT", Transaction, |line| alone(line, Command::Stat), None),
        row("LIST", Transaction, |line| number_or(line, Command::List, Command::ListAll), None),
        row("UIDL", Transaction, |line| number_or(line, Command::Uidl, Command::UidlAll), Always("UIDL")),
        row("RETR", Transaction, |line| number(trimmed(line)).map(Command::Retr), None),
        row("TOP", Transaction, top, Always("TOP")),
        row("DELE", Transaction, |line| number(trimmed(line)).map(Command::Dele), None),
        row("RSET", Transaction, |line| alone(line, Command::Rset), None),
        row("NOOP", Transaction, |line| alone(line, Command::Noop), None),
        row("QUIT", Both, |line| alone(line, Command::Quit), None),
    ]
};

/// Capabilities that are no commands. Mail stays until somebody removes it: EXPIRE NEVER.
const FEATURES: [&str; 5] =
    ["PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "IMPLEMENTATION Ringpost"];

const fn row(
    verb: &'static str,
    states: States,
    parse: for<'a> fn(&'a [u8]) -> Option<Command<'a>>,
    capability: Capability,
) -> Row {
    Row { verb, states, parse, capability }
}

impl Row {
    /// The row of a line, and the rest of the line: what stands behind the space, or `None` without one.
    pub fn of(line: &[u8]) -> Option<(&'static Self, Option<&[u8]>)> {
        let (verb, rest) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line, None),
        };
        let row = ROWS.iter().find(|row| row.verb.as_bytes().eq_ignore_ascii_case(verb))?;
        Some((row, rest))
    }

    /// The command, if its arguments are right.
    pub fn command<'a>(&self, rest: Option<&'a [u8]>) -> Option<Command<'a>> {
        // Without its space PASS has no argument at all; an empty password is one.
        if rest.is_none() && self.verb == "PASS" {
            return None;
        }
        (self.parse)(rest.unwrap_or_default())
    }

    /// Its lines may be as long as those of an exchange: they carry passwords and initial responses.
    pub fn takes_long_lines(&self) -> bool {
        matches!(self.verb, "PASS" | "AUTH")
    }
}

impl States {
    pub fn has(self, state: Self) -> bool {
        self == Self::Both || self == state
    }
}

/// The lines of CAPA.
pub(super) fn capabilities(offer: &Offer) -> impl Iterator<Item = String> {
    let of_commands = ROWS.iter().filter_map(|row| match row.capability {
        Capability::None => None,
        Capability::Always(line) => Some(line.to_owned()),
        Capability::User => offer.takes_passwords.then(|| "USER".to_owned()),
        Capability::Stls => offer.can_start_tls.then(|| "STLS".to_owned()),
        Capability::Sasl => {
            let names: Vec<&str> = offer.mechanisms.iter().map(|mechanism| mechanism.name()).collect();
            (!names.is_empty()).then(|| format!("SASL {}", names.join(" ")))
        }
    });
    of_commands.chain(FEATURES.iter().map(|&line| line.to_owned()))
}

/// The first line of a browser, or of somebody who makes a browser talk to us: nothing good follows.
pub(super) fn is_foreign(line: &[u8]) -> bool {
    const VERBS: [&[u8]; 6] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT "];
    VERBS.iter().any(|verb| line.starts_with(verb))
}

fn alone<'a>(line: &'a [u8], command: Command<'a>) -> Option<Command<'a>> {
    trimmed(line).is_empty().then_some(command)
}

fn user(line: &[u8]) -> Option<Command<'_>> {
    // RFC 6856 2.2: names that are not UTF-8 are refused.
    let name = std::str::from_utf8(trimmed(line)).ok()?;
    (!name.is_empty() && !name.chars().any(char::is_control)).then_some(Command::User(name))
}

/// `AUTH [mechanism [initial-response]]` (RFC 5034 4); alone it asks for the list, as it did before CAPA.
fn auth(line: &[u8]) -> Option<Command<'_>> {
    let mut words = trimmed(line).split(|&byte| byte == b' ');
    match (words.next().unwrap_or_default(), words.next(), words.next()) {
        (b"", None, _) => Some(Command::AuthList),
        (b"", Some(_), _) | (_, _, Some(_)) | (_, Some(b""), _) => None,
        (mechanism, initial, None) => Some(Command::Auth { mechanism, initial }),
    }
}

fn lang(line: &[u8]) -> Option<Command<'_>> {
    match trimmed(line) {
        b"" => Some(Command::LangList),
        range if range.contains(&b' ') => None,
        range => Some(Command::Lang(range)),
    }
}

/// `TOP number lines`, both of them (RFC 1939 7).
fn top(line: &[u8]) -> Option<Command<'_>> {
    let line = trimmed(line);
    let space = memchr::memchr(b' ', line)?;
    let lines = digits(&line[space + 1..])?;
    Some(Command::Top { number: number(&line[..space])?, lines })
}

fn number_or<'a>(line: &[u8], one: fn(u32) -> Command<'a>, all: Command<'a>) -> Option<Command<'a>> {
    match trimmed(line) {
        b"" => Some(all),
        text => number(text).map(one),
    }
}

/// A message number; one beyond all that there can be is still a number.
fn number(text: &[u8]) -> Option<u32> {
    digits(text).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let fold = |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| text.iter().fold(0, fold))
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::{Command, Row};

    #[test]
    fn lines_and_their_commands() {
        use Command::{Auth, AuthList, LangList, List, ListAll, Pass, Quit, Retr, Stat, Top, User};
        let plain = |initial| Auth { mechanism: b"PLAIN", initial };
        let table: &[(&[u8], Option<Command>)] = &[
            (b"STAT", Some(Stat)),
            (b"stat  ", Some(Stat)),
            (b"STAT 1", None),
            (b" STAT", None),
            (b"LIST", Some(ListAll)),
            (b"LIST ", Some(ListAll)),
            (b"list 007", Some(List(7))),
            (b"LIST  7", None),
            (b"LIST -1", None),
            (b"LIST +1", None),
            (b"LIST 1 2", None),
            (b"LIST 99999999999999999999999", Some(List(u32::MAX))),
            (b"RETR", None),
            (b"RETR 1", Some(Retr(1))),
            (b"TOP 1", None),
            (b"TOP 1 0", Some(Top { number: 1, lines: 0 })),
            (b"TOP 1 -1", None),
            (b"TOP  1 1", None),
            (b"TOP 1 4294967296 ", Some(Top { number: 1, lines: 1 << 32 })),
            (b"TOP 1 2 3", None),
            (b"USER", None),
            (b"USER ", None),
            (b"USER b\x00b", None),
            (b"USER b\xFFb", None),
            (b"USER bob@example.org ", Some(User("bob@example.org"))),
            (b"PASS", None),
            (b"PASS ", Some(Pass(b""))),
            (b"pass  two words ", Some(Pass(b" two words "))),
            (b"AUTH", Some(AuthList)),
            (b"AUTH PLAIN", Some(plain(None))),
            (b"AUTH PLAIN =", Some(plain(Some(b"=")))),
            (b"AUTH  PLAIN", None),
            (b"AUTH PLAIN a b", None),
            (b"LANG", Some(LangList)),
            (b"LANG en de", None),
            (b"QUIT", Some(Quit)),
            (b"QUIT now", None),
            (b"XQUIT", None),
            (b"", None),
        ];
        for (line, expected) in table {
            let command = Row::of(line).and_then(|(row, rest)| row.command(rest));
            assert_eq!(command, *expected, "{}", line.escape_ascii());
        }
    }
}
