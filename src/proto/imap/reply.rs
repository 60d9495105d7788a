//! How a command ended, as a value: status, response code, text (RFC 9051 7.1).

use std::borrow::Cow;

use super::command::Access;
use crate::mail::set::Ranges;

/// The end of a command; the engine writes it as the tagged line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    pub status: Status,
    pub code: Option<Code>,
    /// Never empty, in one line, in ASCII, and not beginning with `[`.
    pub text: Cow<'static, str>,
    /// The access that a successful SELECT has given; elsewhere `None`.
    pub selected: Option<Access>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Ok,
    /// The server could not or would not.
    No,
    /// The client's mistake.
    Bad,
}

/// A response code (RFC 9051 7.1, RFC 5530, RFC 7162 7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Code {
    Alert,
    AlreadyExists,
    AppendUid {
        uid_validity: u32,
        uid: u32,
    },
    AuthenticationFailed,
    AuthorizationFailed,
    BadCharset,
    Cannot,
    ClientBug,
    Closed,
    /// `uids` became `copies`, in ascending order both.
    CopyUid {
        uid_validity: u32,
        uids: Ranges,
        copies: Ranges,
    },
    Corruption,
    ExpungeIssued,
    HasChildren,
    HighestModSeq(u64),
    InUse,
    Limit,
    /// Message numbers or UIDs that a conditional STORE has passed over.
    Modified(Ranges),
    NoModSeq,
    NonExistent,
    NoPerm,
    NotSaved,
    OverQuota,
    PrivacyRequired,
    ReadOnly,
    ReadWrite,
    ServerBug,
    TooBig,
    TryCreate,
    UidNext(u32),
    UidValidity(u32),
    Unavailable,
    UnknownCte,
    Unseen(u32),
    UseAttr,
}

impl Done {
    /// The command succeeded; `text` says which.
    pub fn ok(text: &'static str) -> Self {
        Self { status: Status::Ok, code: None, text: Cow::Borrowed(text), selected: None }
    }

    pub fn no(code: Option<Code>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::No, code, text: text.into(), selected: None }
    }

    pub fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Bad, code: None, text: text.into(), selected: None }
    }

    /// SELECT or EXAMINE succeeded.
    pub fn selected(access: Access) -> Self {
        let code = match access {
            Access::ReadWrite => Code::ReadWrite,
            Access::ReadOnly => Code::ReadOnly,
        };
        Self { selected: Some(access), ..Self::ok("Mailbox selected") }.with(code)
    }

    pub fn with(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }
}
