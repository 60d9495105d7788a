//! Every word the server says, in each of its languages (RFC 6856 3).
//!
//! Invariants: no text begins with `[`, which is for response codes (RFC 2449 8); a first line is under 512
//! octets; nothing a client sent is repeated.

use std::fmt::Write;

use crate::bytes::Output;

/// A language of the replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Language {
    #[default]
    English,
    German,
}

/// RFC 2449 8, RFC 3206.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    Auth,
    InUse,
    SysTemp,
    SysPerm,
}

/// A negative reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub code: Option<Code>,
    pub text: Text,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Text {
    Ready,
    Bye,
    Capabilities,
    Mechanisms,
    Languages,
    LanguageChanged,
    StartTls,
    SendPassword,
    Utf8,
    Done,
    Deleted,
    Listing,
    TopFollows,
    UnknownCommand,
    Syntax,
    WrongState,
    LineTooLong,
    TooManyErrors,
    NotMail,
    TlsUnavailable,
    TlsActive,
    TlsAfterUtf8,
    NeedsTls,
    NoApop,
    NoUser,
    UnknownMechanism,
    Cancelled,
    BadEncoding,
    LoginRefused,
    TooManyLogins,
    InUse,
    TooManyMessages,
    Unavailable,
    UnknownLanguage,
    NoMessage,
    Gone,
    Damaged,
    NotRemoved,
    Busy,
}

impl Language {
    const ALL: [Self; 2] = [Self::English, Self::German];

    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::German => "Deutsch",
        }
    }

    /// The language of a range such as `de`, `de-CH` or `*` (RFC 4647 3.4: lookup, the longest part that fits).
    pub fn matching(range: &[u8]) -> Option<Self> {
        let primary = range.split(|&byte| byte == b'-').next().unwrap_or_default();
        match range {
            b"*" => Some(Self::default()),
            _ => Self::ALL.into_iter().find(|known| known.tag().as_bytes().eq_ignore_ascii_case(primary)),
        }
    }
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::InUse => "IN-USE",
            Self::SysTemp => "SYS/TEMP",
            Self::SysPerm => "SYS/PERM",
        }
    }
}

impl Refusal {
    pub const fn plain(text: Text) -> Self {
        Self { code: None, text }
    }

    pub const fn coded(code: Code, text: Text) -> Self {
        Self { code: Some(code), text }
    }
}

impl Text {
    pub fn spoken(self, language: Language) -> &'static str {
        let (english, german) = self.languages();
        match language {
            Language::English => english,
            Language::German => german,
        }
    }

    fn languages(self) -> (&'static str, &'static str) {
        match self {
            Self::Ready => ("Ringpost is ready", "Ringpost ist bereit"),
            Self::Bye => ("Goodbye", "Auf Wiedersehen"),
            Self::Capabilities => ("What this server can do:", "Was dieser Server kann:"),
            Self::Mechanisms => ("Mechanisms:", "Verfahren:"),
            Self::Languages => ("Languages:", "Sprachen:"),
            Self::LanguageChanged => ("We speak English now", "Wir sprechen jetzt Deutsch"),
            Self::StartTls => ("Begin TLS", "TLS kann beginnen"),
            Self::SendPassword => ("Now the password", "Jetzt das Passwort"),
            Self::Utf8 => ("UTF-8 it is", "Es bleibt bei UTF-8"),
            Self::Done => ("Done", "Erledigt"),
            Self::Deleted => ("Marked for removal at QUIT", "Wird bei QUIT entfernt"),
            Self::Listing => ("Listing follows", "Die Liste folgt"),
            Self::TopFollows => ("Top of the message follows", "Der Anfang der Nachricht folgt"),
            Self::UnknownCommand => ("Unknown command", "Unbekannter Befehl"),
            Self::Syntax => ("This command takes other arguments", "Dieser Befehl hat andere Argumente"),
            Self::WrongState => ("Not at this point of a session", "Nicht an dieser Stelle einer Sitzung"),
            Self::LineTooLong => ("Line too long", "Die Zeile ist zu lang"),
            Self::TooManyErrors => ("Too many errors, goodbye", "Zu viele Fehler, auf Wiedersehen"),
            Self::NotMail => ("This is a POP3 server", "Dies ist ein POP3-Server"),
            Self::TlsUnavailable => ("TLS is not available here", "TLS gibt es hier nicht"),
            Self::TlsActive => ("TLS is active already", "TLS ist schon aktiv"),
            Self::TlsAfterUtf8 => ("STLS comes before UTF8", "STLS kommt vor UTF8"),
            Self::NeedsTls => ("Passwords only under TLS: STLS first", "Passwörter nur unter TLS: erst STLS"),
            Self::NoApop => {
                ("APOP is not offered: use AUTH or USER", "APOP gibt es nicht: bitte AUTH oder USER")
            }
            Self::NoUser => ("USER comes right before PASS", "Vor PASS kommt USER"),
            Self::UnknownMechanism => ("Mechanism not offered", "Dieses Verfahren gibt es nicht"),
            Self::Cancelled => ("Cancelled", "Abgebrochen"),
            Self::BadEncoding => ("Not a valid response", "Keine gültige Antwort"),
            Self::LoginRefused => ("Login or password is wrong", "Name oder Passwort ist falsch"),
            Self::TooManyLogins => {
                ("Login or password is wrong, goodbye", "Name oder Passwort ist falsch, auf Wiedersehen")
            }
            Self::InUse => ("Another session has this maildrop", "Eine andere Sitzung hat dieses Postfach"),
            Self::TooManyMessages => {
                ("Too many messages for one session", "Zu viele Nachrichten für eine Sitzung")
            }
            Self::Unavailable => ("Not possible now, try again later", "Jetzt nicht möglich, bitte später"),
            Self::UnknownLanguage => ("Language not known here", "Diese Sprache ist hier unbekannt"),
            Self::NoMessage => ("No such message", "Diese Nachricht gibt es nicht"),
            Self::Gone => ("Another session has removed it", "Eine andere Sitzung hat sie entfernt"),
            Self::Damaged => ("The message is damaged", "Die Nachricht ist beschädigt"),
            Self::NotRemoved => {
                ("some deleted messages not removed", "einige gelöschte Nachrichten nicht entfernt")
            }
            Self::Busy => ("Too many connections", "Zu viele Verbindungen"),
        }
    }
}

/// The one reply to a connection that there is no room for.
pub fn greet_busy(out: &mut Output) {
    err(out, Refusal::coded(Code::SysTemp, Text::Busy), Language::default());
}

pub(super) fn ok(out: &mut Output, text: Text, language: Language) {
    line(out, format_args!("+OK {}", text.spoken(language)));
}

pub(super) fn err(out: &mut Output, refusal: Refusal, language: Language) {
    let text = refusal.text.spoken(language);
    match refusal.code {
        Some(code) => line(out, format_args!("-ERR [{}] {text}", code.name())),
        None => line(out, format_args!("-ERR {text}")),
    }
}

/// What STAT and a login tell of the maildrop in words.
pub(super) fn maildrop(out: &mut Output, count: usize, octets: u64, language: Language) {
    match (language, count) {
        (Language::English, 1) => line(out, format_args!("+OK 1 message ({octets} octets)")),
        (Language::English, _) => line(out, format_args!("+OK {count} messages ({octets} octets)")),
        (Language::German, 1) => line(out, format_args!("+OK 1 Nachricht ({octets} Oktette)")),
        (Language::German, _) => line(out, format_args!("+OK {count} Nachrichten ({octets} Oktette)")),
    }
}

/// The first line of RETR.
pub(super) fn octets_follow(out: &mut Output, octets: u64, language: Language) {
    match language {
        Language::English => line(out, format_args!("+OK {octets} octets")),
        Language::German => line(out, format_args!("+OK {octets} Oktette")),
    }
}

/// RFC 6856 3.2: a tag, and what its speakers call the language.
pub(super) fn languages(out: &mut Output, language: Language) {
    ok(out, Text::Languages, language);
    Language::ALL.iter().for_each(|each| line(out, format_args!("{} {}", each.tag(), each.name())));
    end_of_lines(out);
}

pub(super) fn line(out: &mut Output, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).expect("an output takes all");
    out.push(b"\r\n");
}

pub(super) fn end_of_lines(out: &mut Output) {
    out.push(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::Language;

    #[test]
    fn language_ranges() {
        let table: [(&[u8], Option<Language>); 7] = [
            (b"en", Some(Language::English)),
            (b"DE", Some(Language::German)),
            (b"de-CH-1996", Some(Language::German)),
            (b"*", Some(Language::English)),
            (b"deu", None),
            (b"", None),
            (b"-de", None),
        ];
        for (range, expected) in table {
            assert_eq!(Language::matching(range), expected, "{}", range.escape_ascii());
        }
    }
}
