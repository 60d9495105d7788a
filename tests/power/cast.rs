//! Who takes part: the servers that are tried, the accounts on them, and the clients.

use std::fmt;

use clap::ValueEnum;

/// Every message to a local recipient goes to both.
pub const SHARED: [usize; 2] = [0, 1];

/// Accounts that a client each works on, one command at a time.
pub const WORKERS: [usize; 3] = [2, 3, 4];

/// Clients that send to [`SHARED`].
pub const SENDERS: [usize; 2] = [10, 11];

/// Clients that send to elsewhere.
pub const RELAYERS: [usize; 2] = [12, 13];

/// The domain that is elsewhere.
pub const ELSEWHERE: &str = "elsewhere.test";

pub const SENDER: &str = "sender@example.test";

/// The accounts that have to be made.
pub fn accounts() -> impl Iterator<Item = usize> {
    SHARED.into_iter().chain(WORKERS)
}

pub fn name(account: usize) -> String {
    format!("account{account}@example.test")
}

/// How mail is handed in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Smtp,
    Lmtp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    Ringpost,
    /// Into maildirs, and on to elsewhere.
    Postfix,
    DovecotMaildir,
    /// As the others of Dovecot, with `mail_fsync = always` instead of what it does unless told otherwise.
    DovecotMaildirAlways,
    DovecotSdbox,
    DovecotSdboxAlways,
}

impl Kind {
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Ringpost | Self::Postfix => Dialect::Smtp,
            _ => Dialect::Lmtp,
        }
    }

    pub fn relays(self) -> bool {
        matches!(self, Self::Ringpost | Self::Postfix)
    }

    /// Whether there is IMAP and POP3.
    pub fn has_mailboxes(self) -> bool {
        self != Self::Postfix
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ringpost => "ringpost",
            Self::Postfix => "postfix",
            Self::DovecotMaildir => "dovecot-maildir",
            Self::DovecotMaildirAlways => "dovecot-maildir-always",
            Self::DovecotSdbox => "dovecot-sdbox",
            Self::DovecotSdboxAlways => "dovecot-sdbox-always",
        })
    }
}

/// The message of a number, the same at any time.
pub fn text(number: u64) -> Vec<u8> {
    // Some are large enough to lie in a file of their own.
    let size = if number % 40 == 7 { 300_000 } else { 300 + 131 * (number % 40) };
    let mut text = format!(
        "From: Sender <{SENDER}>\r\nTo: somebody <to@example.test>\r\nSubject: number {number} end\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@example.test>\r\n\r\n\
         .a line that begins with a dot\r\n..and one with two\r\n\r\n"
    );
    let mut line = 0;
    while (text.len() as u64) < size {
        text.push_str(&format!("line {line} of message {number}, and more of the same to fill it up\r\n"));
        line += 1;
    }
    text.into_bytes()
}

/// The number of a stored message, if its header has one.
pub fn number(stored: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(&stored[..stored.len().min(4096)]);
    text.split("Subject: number ").nth(1)?.split(" end\r\n").next()?.parse().ok()
}

/// What was sent, whole, behind the trace that servers put in front.
pub fn is_whole(stored: &[u8], number: u64) -> bool {
    stored
        .strip_suffix(text(number).as_slice())
        .is_some_and(|trace| trace.is_empty() || trace.ends_with(b"\r\n"))
}
