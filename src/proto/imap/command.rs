//! What a client asks for, as values: the driver executes these without knowing their spelling.
//!
//! Mailbox names are UTF-8, decoded from modified UTF-7 where the session still speaks it, with `INBOX` in
//! capitals as the first component however it was written; `/` separates components. Whether a name may be
//! used is the mailbox's to say. Patterns of LIST are decoded too and otherwise as they came.

use crate::mail::flags::{Flags, FlagsAction};
use crate::mail::query::{SearchKey, SearchReturn, SortKey, ThreadBy};
use crate::mail::section::{Partial, Section};
use crate::mail::set::NumberSet;
use crate::mail::special_use::SpecialUse;
use crate::mail::time::Timestamp;
use crate::proto::imap::reply::Code;

/// A command that needs the mailboxes. All others are answered by the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// NOOP, and CHECK, which has nothing else to do here: a chance to tell what happened.
    Noop,
    /// CONDSTORE was enabled while a mailbox is selected; the engine has sent ENABLED.
    Enable,
    Select(Select),
    Create {
        mailbox: String,
        special_uses: Vec<SpecialUse>,
    },
    Delete {
        mailbox: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Subscribe {
        mailbox: String,
    },
    Unsubscribe {
        mailbox: String,
    },
    List(List),
    Lsub {
        reference: String,
        pattern: String,
    },
    Namespace,
    Status {
        mailbox: String,
        items: Vec<StatusItem>,
    },
    /// Leaves the mailbox and expunges without a word, if it may be written.
    Close,
    Unselect,
    /// Of UID EXPUNGE, the UIDs.
    Expunge {
        uids: Option<NumberSet>,
    },
    Search(Search),
    Sort(Sort),
    Thread(Thread),
    Fetch(Fetch),
    Store(Store),
    Copy(Transfer),
    Move(Transfer),
    Refused(Refused),
}

/// A command that ends in NO for what it says, and not without a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub loses: Loss,
    pub code: Code,
    pub text: &'static str,
}

/// What a session has no more after a command that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The mailbox that was selected: SELECT and EXAMINE leave it first (RFC 9051 6.3.2).
    Selected,
    /// The saved result: a search that was to be saved leaves nothing (RFC 5182 2.1).
    Saved,
}

/// Whether numbers in a command and its answer are message sequence numbers or UIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbering {
    Sequence,
    Uid,
}

/// How a mailbox is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// SELECT or EXAMINE. CONDSTORE as a parameter is the engine's affair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Select {
    pub mailbox: String,
    pub access: Access,
}

/// LIST in its base and its extended form (RFC 5258).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    pub reference: String,
    pub patterns: Vec<String>,
    pub selection: ListSelection,
    pub returned: ListReturn,
    /// It has options or several patterns. Only the base form with an empty pattern asks for the root.
    pub extended: bool,
}

/// Which mailboxes LIST tells of (RFC 5258 3.1, RFC 6154 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListSelection {
    pub subscribed: bool,
    pub remote: bool,
    pub recursive_match: bool,
    pub special_use: bool,
}

/// What LIST tells of a mailbox (RFC 5258 3.2, RFC 5819, RFC 6154 2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListReturn {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    /// A STATUS line with these items after each line of LIST. Empty: none.
    pub status: Vec<StatusItem>,
}

/// What STATUS tells (RFC 9051 6.3.11, RFC 7162 3.1.7, RFC 7889 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusItem {
    Messages,
    /// RFC 3501 only.
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    HighestModSeq,
    AppendLimit,
}

/// SEARCH and UID SEARCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    pub numbering: Numbering,
    /// `None`: no RETURN was given. An empty RETURN has become `all`.
    pub returns: Option<SearchReturn>,
    pub key: SearchKey,
    /// MODSEQ is among the keys: the answer names the highest mod-sequence of the matches (RFC 7162 3.1.5).
    pub tells_modseq: bool,
}

/// SORT and UID SORT (RFC 5256 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sort {
    pub numbering: Numbering,
    /// `None`: no RETURN was given (RFC 5267 3). An empty RETURN has become `all`.
    pub returns: Option<SearchReturn>,
    /// Never empty.
    pub by: Vec<SortKey>,
    pub key: SearchKey,
    pub tells_modseq: bool,
}

/// THREAD and UID THREAD (RFC 5256 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    pub numbering: Numbering,
    pub by: ThreadBy,
    pub key: SearchKey,
}

/// FETCH and UID FETCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    pub numbering: Numbering,
    pub numbers: NumberSet,
    /// Never empty. As asked for: what UID and CHANGEDSINCE imply is added by the plan of the answer.
    pub items: Vec<FetchItem>,
    /// Only messages with a higher mod-sequence (RFC 7162 3.1.4.1).
    pub changed_since: Option<u64>,
}

/// What FETCH tells of a message. Macros are taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchItem {
    Flags,
    Uid,
    InternalDate,
    Size,
    Envelope,
    Body,
    BodyStructure,
    ModSeq,
    /// RFC 8514.
    SaveDate,
    /// BODY[...] and the three of RFC822.
    Section(FetchSection),
    /// BINARY[...] (RFC 3516 4.2).
    Binary(FetchBinary),
    /// BINARY.SIZE[...]
    BinarySize(FetchBinary),
}

/// A section of the message as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchSection {
    pub section: Section,
    pub partial: Option<Partial>,
    /// It is not a PEEK.
    pub sets_seen: bool,
    /// What the answer calls it: `BODY[1.MIME]<0>`, `RFC822.HEADER`.
    pub label: String,
}

/// The decoded content of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchBinary {
    /// Empty: the whole message.
    pub part: Vec<u32>,
    pub partial: Option<Partial>,
    pub sets_seen: bool,
    /// What the answer calls it.
    pub label: String,
}

/// STORE and UID STORE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    pub numbering: Numbering,
    pub numbers: NumberSet,
    /// RFC 7162 3.1.3.
    pub unchanged_since: Option<u64>,
    pub action: FlagsAction,
    pub flags: Flags,
    /// `.SILENT`: the new flags are not told back.
    pub silent: bool,
}

/// COPY and MOVE, with and without UID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    pub numbering: Numbering,
    pub numbers: NumberSet,
    pub mailbox: String,
}

/// What stands before the message of an APPEND.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendStart {
    pub mailbox: String,
    pub flags: Flags,
    /// `None`: now.
    pub internal: Option<Timestamp>,
    /// Octets that the client will send; bare line ends that are completed add to it.
    pub size: u64,
}

impl Command {
    /// EXPUNGE may be sent while it runs (RFC 9051 7.5.1).
    pub fn allows_expunge(&self) -> bool {
        let numbering = match self {
            Self::Fetch(Fetch { numbering, .. })
            | Self::Store(Store { numbering, .. })
            | Self::Search(Search { numbering, .. })
            | Self::Sort(Sort { numbering, .. })
            | Self::Thread(Thread { numbering, .. }) => *numbering,
            Self::Refused(_) => return false,
            _ => return true,
        };
        numbering == Numbering::Uid
    }

    /// Bytes of memory that its arguments take, once they are taken apart. Names and patterns are no longer than
    /// they were in the command, whose length is bounded.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Search(Search { key, .. }) | Self::Thread(Thread { key, .. }) => key.held_bytes(),
            Self::Sort(Sort { key, by, .. }) => key.held_bytes() + size_of_val(&**by),
            Self::Fetch(fetch) => {
                fetch.numbers.held_bytes() + fetch.items.iter().map(FetchItem::held_bytes).sum::<usize>()
            }
            Self::Store(Store { numbers, .. })
            | Self::Copy(Transfer { numbers, .. })
            | Self::Move(Transfer { numbers, .. })
            | Self::Expunge { uids: Some(numbers) } => numbers.held_bytes(),
            _ => 0,
        }
    }

    /// What it finds is to be saved (RFC 5182).
    pub fn saves(&self) -> bool {
        match self {
            Self::Search(Search { returns, .. }) | Self::Sort(Sort { returns, .. }) => {
                returns.is_some_and(|returns| returns.save)
            }
            _ => false,
        }
    }

    /// It makes the client one that knows mod-sequences (RFC 7162 3.1).
    pub(super) fn enables_condstore(&self) -> bool {
        match self {
            Self::Status { items, .. } => items.contains(&StatusItem::HighestModSeq),
            Self::List(list) => list.returned.status.contains(&StatusItem::HighestModSeq),
            Self::Search(search) => search.tells_modseq,
            Self::Sort(sort) => sort.tells_modseq,
            Self::Fetch(fetch) => fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq),
            Self::Store(store) => store.unchanged_since.is_some(),
            _ => false,
        }
    }
}

impl FetchItem {
    fn held_bytes(&self) -> usize {
        let beside = match self {
            Self::Section(item) => item.section.held_bytes() + item.label.len(),
            Self::Binary(item) | Self::BinarySize(item) => size_of_val(&*item.part) + item.label.len(),
            _ => 0,
        };
        size_of::<Self>() + beside
    }
}

impl StatusItem {
    /// Each item with its name.
    pub const NAMES: [(Self, &'static str); 9] = [
        (Self::Messages, "MESSAGES"),
        (Self::Recent, "RECENT"),
        (Self::UidNext, "UIDNEXT"),
        (Self::UidValidity, "UIDVALIDITY"),
        (Self::Unseen, "UNSEEN"),
        (Self::Deleted, "DELETED"),
        (Self::Size, "SIZE"),
        (Self::HighestModSeq, "HIGHESTMODSEQ"),
        (Self::AppendLimit, "APPENDLIMIT"),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }
}
