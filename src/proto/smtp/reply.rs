//! Every reply of the server, in one place (RFC 5321 4.2, RFC 2034, RFC 3463, RFC 5248).
//!
//! The class of the enhanced code is the first digit of the reply; greeting, EHLO and 3xx have none.

use std::fmt::{self, Write};

use crate::bytes::Output;
use crate::proto::sasl::Failure;

use super::event::{LoginVerdict, MessageRefusal, RecipientVerdict, SenderVerdict};

/// A line of the server without its CRLF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply(&'static str);

macro_rules! replies {
    ($($name:ident = $line:literal;)*) => {
        impl Reply {
            $(pub const $name: Self = Self($line);)*

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

replies! {
    // Done.
    OK = "250 2.0.0 Ok";
    SENDER_OK = "250 2.1.0 Sender ok";
    RECIPIENT_OK = "250 2.1.5 Recipient ok";
    CANNOT_VERIFY = "252 2.5.0 Cannot verify, but mail will be taken and tried";
    BYE = "221 2.0.0 Bye";
    START_TLS = "220 2.0.0 Ready to start TLS";
    LOGGED_IN = "235 2.7.0 Logged in";
    START_DATA = "354 End data with <CRLF>.<CRLF>";

    // The client's mistakes.
    UNKNOWN_COMMAND = "500 5.5.1 Command not recognized";
    LINE_TOO_LONG = "500 5.5.2 Line too long";
    STRAY_LINE_END = "500 5.5.2 Only CRLF ends a line";
    CONTROL_CHARACTER = "500 5.5.2 Control character in command";
    AUTH_LINE_TOO_LONG = "500 5.5.6 Line of the authentication exchange too long";
    NO_ARGUMENT_ALLOWED = "501 5.5.4 No argument allowed";
    ARGUMENT_REQUIRED = "501 5.5.4 Argument required";
    BAD_HOST_NAME = "501 5.5.4 A host name or address literal is required";
    BAD_MAIL = "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]";
    BAD_RCPT = "501 5.5.4 Syntax: RCPT TO:<address> [parameters]";
    BAD_PARAMETER = "501 5.5.4 Bad value of a parameter, or the parameter is there twice";
    BAD_PRIORITY = "501 5.5.2 MT-PRIORITY is a number from -9 to 9, once";
    BAD_DELIVER_BY = "501 5.5.4 Syntax: BY=seconds;R or BY=seconds;N, with T behind it for a trace, once";
    BAD_HOLD = "501 5.5.4 HOLDFOR or HOLDUNTIL names a time to come within what EHLO says, once";
    HELD_TOO_LONG = "501 5.5.4 The message would be held beyond the time it must be delivered by";
    BAD_CHUNK = "501 5.5.4 Syntax: BDAT octets [LAST]";
    BAD_SENDER = "501 5.1.7 Bad sender address";
    BAD_RECIPIENT = "501 5.1.3 Bad recipient address";
    BAD_AUTH = "501 5.5.4 Syntax: AUTH mechanism [initial-response]";
    BAD_BASE64 = "501 5.5.2 Cannot decode this as base64";
    BAD_AUTH_MESSAGE = "501 5.5.2 Not a message of this mechanism";
    AUTH_CANCELLED = "501 5.7.0 Authentication cancelled";
    NOT_IMPLEMENTED = "502 5.5.1 Command not implemented";
    EHLO_FIRST = "503 5.5.1 Send EHLO first";
    MAIL_FIRST = "503 5.5.1 Send MAIL first";
    TRANSACTION_OPEN = "503 5.5.1 Not inside a transaction";
    CHUNKS_OPEN = "503 5.5.1 This transaction goes on with BDAT";
    BINARY_NEEDS_CHUNKS = "503 5.5.1 BINARYMIME goes with BDAT";
    TLS_ACTIVE = "503 5.5.1 TLS is already active";
    ALREADY_LOGGED_IN = "503 5.5.1 Already authenticated";
    UNKNOWN_MECHANISM = "504 5.5.4 Mechanism not supported";
    DELIVER_BY_TOO_SHORT = "555 5.5.4 Less time to deliver in than EHLO says";
    UNKNOWN_PARAMETER = "555 5.5.4 Parameter not recognized";
    NO_RECIPIENTS = "554 5.5.1 No valid recipients";

    // Access.
    TLS_REQUIRED = "530 5.7.0 Must issue a STARTTLS command first";
    AUTH_REQUIRED = "530 5.7.0 Authentication required";
    AUTH_NEEDS_TLS = "538 5.7.11 Encryption required for authentication";
    BAD_CREDENTIALS = "535 5.7.8 Authentication credentials invalid";
    MECHANISM_TOO_WEAK = "534 5.7.9 Authentication mechanism is too weak";
    ACCOUNT_DISABLED = "525 5.7.13 User account disabled";
    AUTH_UNAVAILABLE = "454 4.7.0 Temporary authentication failure";
    EXPAND_DENIED = "550 5.7.2 Lists are not expanded here";

    // Envelope.
    SENDER_NOT_OWNED = "550 5.7.1 This sender address does not belong to you";
    SENDER_DENIED = "550 5.7.1 Not accepted from this client";
    SENDER_UNKNOWN_DOMAIN = "550 5.1.8 Sender's domain does not exist";
    SENDER_NOT_ASCII = "550 5.6.7 Non-ASCII address needs SMTPUTF8";
    RECIPIENT_NOT_ASCII = "553 5.6.7 Non-ASCII address needs SMTPUTF8";
    UNKNOWN_USER = "550 5.1.1 No such user here";
    UNKNOWN_DOMAIN = "550 5.1.2 No such domain";
    RELAY_DENIED = "550 5.7.1 Relaying denied";
    MAILBOX_DISABLED = "550 5.2.1 Mailbox disabled";
    OVER_QUOTA = "452 4.2.2 Mailbox full";
    TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients";
    NO_SPACE = "452 4.3.1 Insufficient system storage";
    TEMPORARY = "451 4.3.0 Temporary failure, try again later";

    // The message.
    TOO_LARGE = "552 5.3.4 Message too big";
    BARE_LINE_END = "554 5.6.0 Bare CR or LF in message";
    NUL_IN_TEXT = "554 5.6.0 NUL in message";
    BAD_HEADER = "554 5.6.0 Message header is broken";
    LOOP = "554 5.4.6 Too many Received fields, this is a mail loop";
    MESSAGE_DENIED = "550 5.7.1 Message not accepted";

    // The end.
    SHUTTING_DOWN = "421 4.3.2 Shutting down";
    BUSY = "421 4.3.2 Too many connections";
    IDLE = "421 4.4.2 Idle for too long";
    TOO_MANY_ERRORS = "421 4.7.0 Too many errors";
    TOO_MANY_LOGINS = "421 4.7.0 Too many failed logins";
    TOO_MANY_MAILS = "421 4.7.0 Too many transactions in one session";
    NOT_SMTP = "421 4.7.0 This is an SMTP server";
}

impl Reply {
    pub fn code(self) -> u16 {
        self.0.bytes().take(3).fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
    }

    /// The whole line.
    pub fn line(self) -> &'static str {
        self.0
    }

    pub fn is_refusal(self) -> bool {
        self.0.as_bytes()[0] >= b'4'
    }

    /// The client speaks another language, rather than being refused something. `MAIL_FIRST` is none: it is
    /// what a pipelining client gets for each RCPT behind a MAIL that failed.
    pub fn is_protocol_error(self) -> bool {
        self != Self::MAIL_FIRST && matches!(self.code(), 500..=504 | 555)
    }

    pub fn write(self, out: &mut Output) {
        out.push(self.0.as_bytes());
        out.push(b"\r\n");
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<SenderVerdict> for Reply {
    fn from(verdict: SenderVerdict) -> Self {
        match verdict {
            SenderVerdict::Accepted | SenderVerdict::Capped { .. } => Self::SENDER_OK,
            SenderVerdict::NotOwned => Self::SENDER_NOT_OWNED,
            SenderVerdict::Denied => Self::SENDER_DENIED,
            SenderVerdict::UnknownDomain => Self::SENDER_UNKNOWN_DOMAIN,
            SenderVerdict::NoSpace => Self::NO_SPACE,
            SenderVerdict::Temporary => Self::TEMPORARY,
        }
    }
}

impl From<RecipientVerdict> for Reply {
    fn from(verdict: RecipientVerdict) -> Self {
        match verdict {
            RecipientVerdict::Accepted => Self::RECIPIENT_OK,
            RecipientVerdict::UnknownUser => Self::UNKNOWN_USER,
            RecipientVerdict::UnknownDomain => Self::UNKNOWN_DOMAIN,
            RecipientVerdict::RelayDenied => Self::RELAY_DENIED,
            RecipientVerdict::Disabled => Self::MAILBOX_DISABLED,
            RecipientVerdict::OverQuota => Self::OVER_QUOTA,
            RecipientVerdict::TooMany => Self::TOO_MANY_RECIPIENTS,
            RecipientVerdict::Temporary => Self::TEMPORARY,
        }
    }
}

impl From<MessageRefusal> for Reply {
    fn from(refusal: MessageRefusal) -> Self {
        match refusal {
            MessageRefusal::Temporary => Self::TEMPORARY,
            MessageRefusal::NoSpace => Self::NO_SPACE,
            MessageRefusal::BadHeader => Self::BAD_HEADER,
            MessageRefusal::Denied => Self::MESSAGE_DENIED,
        }
    }
}

impl From<&LoginVerdict> for Reply {
    fn from(verdict: &LoginVerdict) -> Self {
        match verdict {
            LoginVerdict::Accepted { .. } => Self::LOGGED_IN,
            LoginVerdict::Refused => Self::BAD_CREDENTIALS,
            LoginVerdict::Weak => Self::MECHANISM_TOO_WEAK,
            LoginVerdict::Disabled => Self::ACCOUNT_DISABLED,
            LoginVerdict::Unavailable => Self::AUTH_UNAVAILABLE,
        }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Cancelled => Self::AUTH_CANCELLED,
            Failure::Encoding => Self::BAD_BASE64,
            Failure::Malformed => Self::BAD_AUTH_MESSAGE,
            Failure::Rejected => Self::BAD_CREDENTIALS,
        }
    }
}

pub fn greeting(hostname: &str, out: &mut Output) {
    line(out, format_args!("220 {hostname} ESMTP Ringpost"));
}

pub fn helo(hostname: &str, out: &mut Output) {
    line(out, format_args!("250 {hostname}"));
}

pub fn challenge(text: &str, out: &mut Output) {
    line(out, format_args!("334 {text}"));
}

pub fn chunk_taken(bytes: u64, out: &mut Output) {
    line(out, format_args!("250 2.0.0 {bytes} octets received"));
}

/// RFC 6710 4.1
pub fn lowered(priority: i8, out: &mut Output) {
    line(out, format_args!("250 2.3.6 {priority} is the new priority of the message"));
}

pub fn queued(id: &str, out: &mut Output) {
    line(out, format_args!("250 2.0.0 Ok: queued as {id}"));
}

pub fn help(verbs: impl Iterator<Item = &'static str>, out: &mut Output) {
    out.push(b"214 2.0.0");
    for verb in verbs {
        out.push(b" ");
        out.push(verb.as_bytes());
    }
    out.push(b"\r\n");
}

fn line(out: &mut Output, text: fmt::Arguments) {
    write!(out, "{text}\r\n").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::Reply;

    #[test]
    fn enhanced_codes_agree_with_their_replies() {
        for reply in Reply::ALL {
            let mut words = reply.line().splitn(3, ' ');
            let (Some(code), Some(status), Some(text)) = (words.next(), words.next(), words.next()) else {
                panic!("{reply:?} is short");
            };
            assert_eq!(code, reply.code().to_string());
            assert!(reply.line().len() <= 510 && !text.is_empty() && reply.line().is_ascii());
            let numbers: Vec<Option<u16>> = status.split('.').map(|part| part.parse().ok()).collect();
            match code.starts_with('3') {
                true => assert_eq!(numbers, [None]),
                false => assert!(
                    matches!(numbers[..], [Some(class), Some(_), Some(_)] if class == reply.code() / 100)
                ),
            }
        }
    }
}
