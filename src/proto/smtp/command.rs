//! The table of verbs: when each may be said, and how its argument reads.

use memchr::memchr;

use crate::mail::envelope::Recipient;

use super::parse;
use super::reply::Reply;
use super::session::Role;
use super::transaction::Transaction;

/// A command with its argument understood.
#[derive(Debug)]
pub enum Command<'a> {
    Ehlo { name: &'a str },
    Helo { name: &'a str },
    Mail(Transaction),
    Rcpt(Recipient),
    Data,
    Bdat(Chunk),
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth { mechanism: &'a [u8], initial: Option<&'a [u8]> },
}

impl Command<'_> {
    /// Brings no message any further.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Ehlo { .. } | Self::Helo { .. } | Self::Rset | Self::Noop => true,
            Self::Vrfy | Self::Expn | Self::Help => true,
            Self::Bdat(chunk) => chunk.bytes == 0 && !chunk.is_last,
            Self::Mail(_) | Self::Rcpt(_) | Self::Data | Self::Quit | Self::StartTls | Self::Auth { .. } => {
                false
            }
        }
    }
}

/// The argument of BDAT (RFC 3030 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub bytes: u64,
    pub is_last: bool,
}

/// Where a session stands between two commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Before EHLO.
    New = 1,
    Ready = 2,
    /// After MAIL.
    Mail = 4,
    /// After the first BDAT.
    Chunks = 8,
}

/// A set of stages.
#[derive(Clone, Copy)]
pub struct Stages(u8);

/// What an argument is read by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialect {
    /// EHLO was said, so that MAIL and RCPT may have parameters.
    pub is_esmtp: bool,
    /// The transaction has SMTPUTF8.
    pub is_smtputf8: bool,
    pub role: Role,
    /// Civil time in Unix seconds.
    pub at: i64,
}

/// A row of the table.
pub struct Row {
    pub verb: &'static str,
    pub stages: Stages,
    /// On submission only after TLS and AUTH.
    pub needs_login: bool,
    pub parse: for<'a> fn(&'a [u8], Dialect) -> Result<Command<'a>, Reply>,
}

impl Stages {
    const ANY: Self = Self(15);
    const READY: Self = Self(Stage::Ready as u8);
    const MAIL: Self = Self(Stage::Mail as u8);

    pub fn contains(self, stage: Stage) -> bool {
        self.0 & stage as u8 != 0
    }
}

/// The busiest first. BDAT may be said at any stage: its octets follow it and must be dealt with.
const TABLE: [Row; 14] = [
    Row { verb: "RCPT", stages: Stages::MAIL, needs_login: true, parse: parse::rcpt },
    Row { verb: "MAIL", stages: Stages::READY, needs_login: true, parse: parse::mail },
    Row { verb: "DATA", stages: Stages::MAIL, needs_login: true, parse: |arg, _| bare(arg, Command::Data) },
    Row { verb: "BDAT", stages: Stages::ANY, needs_login: false, parse: parse::bdat },
    Row { verb: "EHLO", stages: Stages::ANY, needs_login: false, parse: parse::ehlo },
    Row { verb: "QUIT", stages: Stages::ANY, needs_login: false, parse: |arg, _| bare(arg, Command::Quit) },
    Row { verb: "RSET", stages: Stages::ANY, needs_login: false, parse: |arg, _| bare(arg, Command::Rset) },
    Row { verb: "AUTH", stages: Stages::READY, needs_login: false, parse: parse::auth },
    Row {
        verb: "STARTTLS",
        stages: Stages::READY,
        needs_login: false,
        parse: |arg, _| bare(arg, Command::StartTls),
    },
    Row { verb: "HELO", stages: Stages::ANY, needs_login: false, parse: parse::helo },
    Row { verb: "NOOP", stages: Stages::ANY, needs_login: false, parse: |_, _| Ok(Command::Noop) },
    Row { verb: "HELP", stages: Stages::ANY, needs_login: false, parse: |_, _| Ok(Command::Help) },
    Row { verb: "VRFY", stages: Stages::ANY, needs_login: true, parse: |arg, _| some(arg, Command::Vrfy) },
    Row { verb: "EXPN", stages: Stages::ANY, needs_login: true, parse: |arg, _| some(arg, Command::Expn) },
];

/// The row of a line, and the line's argument without white space around it.
pub fn find(line: &[u8]) -> Option<(&'static Row, &[u8])> {
    let (verb, argument) = match memchr(b' ', line) {
        Some(space) => (&line[..space], &line[space..]),
        None => (line.trim_ascii_end(), &[][..]),
    };
    let row = TABLE.iter().find(|row| row.verb.as_bytes().eq_ignore_ascii_case(verb))?;
    Some((row, argument.trim_ascii()))
}

pub fn verbs() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.verb)
}

/// Verbs of old that nobody needs; known, so that they are answered 502 and not 500 (RFC 5321 4.2.4).
pub fn is_unimplemented(line: &[u8]) -> bool {
    const VERBS: [&[u8]; 5] = [b"ETRN", b"TURN", b"SEND", b"SOML", b"SAML"];
    let verb = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))
}

/// A line of another protocol: a browser was made to talk to us, or a port scan does. Nobody who speaks SMTP
/// says this, and whoever sends it does not wait for replies.
pub fn is_foreign(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE"];
    let word = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let is_field = word.len() > 1 && word.ends_with(b":");
    is_field || word.starts_with(b"SSH-") || METHODS.contains(&word)
}

fn bare<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, Reply> {
    match argument {
        b"" => Ok(command),
        _ => Err(Reply::NO_ARGUMENT_ALLOWED),
    }
}

fn some<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, Reply> {
    match argument {
        b"" => Err(Reply::ARGUMENT_REQUIRED),
        _ => Ok(command),
    }
}

#[cfg(test)]
mod tests {
    use super::{find, is_foreign};

    #[test]
    fn verbs_are_whole_words_in_any_case() {
        type Found = Option<(&'static str, &'static [u8])>;
        let table: &[(&[u8], Found)] = &[
            (b"noop", Some(("NOOP", b""))),
            (b"Quit  ", Some(("QUIT", b""))),
            (b"MAIL FROM:<a@b>\t ", Some(("MAIL", b"FROM:<a@b>"))),
            (b"MAILFROM:<a@b>", None),
            (b"MAIL\tFROM:<a@b>", None),
            (b" NOOP", None),
            (b"", None),
            (b"NOOPS", None),
        ];
        for (line, expected) in table {
            assert_eq!(find(line).map(|(row, argument)| (row.verb, argument)), *expected);
        }
    }

    #[test]
    fn foreign_lines() {
        for line in [&b"GET / HTTP/1.1"[..], b"Host: x", b"SSH-2.0-x", b"Subject: x"] {
            assert!(is_foreign(line));
        }
        for line in [&b"FOO"[..], b":", b"", b"MAIL FROM:<a:b>", b"get"] {
            assert!(!is_foreign(line));
        }
    }
}
