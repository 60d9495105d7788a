//! What a log says: the records, as values.
//!
//! Every change of state is one of these, and state is nothing but their fold: what a session does live and
//! what a start replays are the same `apply`. Records that belong together are appended together and land in
//! one batch, which is valid whole or not at all.

use std::sync::Arc;

use super::{AccountId, Locator, MailboxId, MessageId, RecordPlace, Sequence};
use crate::bytes::Slice;
use crate::mail::envelope::Envelope;
use crate::mail::flags::{FlagsAction, SystemFlags};
use crate::mail::set::Ranges;
pub use crate::mail::special_use::SpecialUse;
use crate::mail::time::Timestamp;

#[derive(Clone, Debug)]
pub enum Record {
    Message(Message),
    Delivered(Delivered),
    FlagsChanged(FlagsChanged),
    Expunged(Expunged),
    KeywordAdded(KeywordAdded),
    MailboxCreated(MailboxCreated),
    MailboxRenamed(MailboxRenamed),
    MailboxDeleted(MailboxDeleted),
    Subscribed(Subscribed),
    Unsubscribed(Subscribed),
    AccountPurged(AccountPurged),
    UidValidityRaised(UidValidityRaised),
    Settled(Settled),
    Deferred(Deferred),
    Held(Selected),
    Released(Released),
    Rebound(Rebound),
    Moved(Moved),
    ReasonMoved(ReasonMoved),
    Part(Part),
    Based(Based),
}

/// A message that was taken: its bytes and, if it came by SMTP, what is owed to whom.
#[derive(Clone, Debug)]
pub struct Message {
    pub received: Timestamp,
    /// `None` for a message that a client or an import put into a mailbox. Shared with who waits for its sync.
    pub accepted: Option<Arc<Accepted>>,
    pub body: Body,
}

/// The promise behind a 250: every route is delivered, bounced or held.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// Its recipients are those after alias expansion, without doubles.
    pub envelope: Envelope,
    /// One for each recipient of the envelope, in its order.
    pub routes: Vec<Route>,
    /// The login that submitted the message.
    pub login: Option<String>,
    /// Whose mail this is, where several customers share the server; as `mail::label` reads it.
    pub tenant: Option<String>,
    /// The sender's name for all messages of one sending.
    pub campaign: Option<String>,
}

/// Where a recipient's copy goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    Local(AccountId),
    Remote,
}

/// The bytes of a message, `Return-Path` and trace fields in front.
#[derive(Clone, Debug)]
pub enum Body {
    /// Held in memory, to be written into the record.
    Inline { bytes: Slice, return_path_length: u32 },
    /// Already synced in a file of its own. `crc` is over the whole file.
    File { number: u64, length: u64, crc: u32, return_path_length: u32 },
}

impl Body {
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline { bytes, .. } => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    pub fn return_path_length(&self) -> u32 {
        match self {
            Self::Inline { return_path_length, .. } | Self::File { return_path_length, .. } => {
                *return_path_length
            }
        }
    }
}

/// A message has come into a mailbox: by delivery, APPEND, COPY, MOVE or import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub uid: u32,
    pub modseq: u64,
    pub message: Locator,
    /// The promise that this keeps: the accepted message and the number of the recipient in its envelope.
    pub key: Option<(MessageId, u32)>,
    pub flags: SystemFlags,
    /// Bits of the mailbox's keyword table.
    pub keywords: u64,
    pub internal: Timestamp,
    /// When it came into this mailbox, in Unix seconds (RFC 8514).
    pub saved: i64,
}

/// The flags of messages were changed; a delta, so that order alone decides what holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlagsChanged {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub modseq: u64,
    pub action: FlagsAction,
    pub flags: SystemFlags,
    pub keywords: u64,
    pub uids: Ranges,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expunged {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub modseq: u64,
    pub uids: Ranges,
}

/// A keyword got a bit in the mailbox's table; it keeps it for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeywordAdded {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub bit: u8,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxCreated {
    pub account: AccountId,
    pub mailbox: MailboxId,
    /// In UTF-8, components separated by `/`; `INBOX` in capitals.
    pub name: String,
    /// From the account's counter, which only grows.
    pub uid_validity: u32,
    pub special_use: Option<SpecialUse>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxRenamed {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxDeleted {
    pub account: AccountId,
    pub mailbox: MailboxId,
}

/// A name was put on the subscription list, or taken off it; the mailbox need not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    pub account: AccountId,
    pub name: String,
}

/// After a restore: what the mailbox's UIDs mean is said under another number from here on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UidValidityRaised {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub uid_validity: u32,
}

/// Everything of the account is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountPurged {
    pub account: AccountId,
}

/// Nothing more is owed to this recipient of a message of the same log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    pub message: Sequence,
    pub recipient: u32,
}

/// Recipients of a message of the same log are to be tried again, not before a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deferred {
    pub message: Sequence,
    /// Numbers of recipients in the envelope.
    pub recipients: Vec<u32>,
    /// How often they have been tried by now.
    pub attempts: u16,
    /// Unix seconds.
    pub due: i64,
    pub warning: Warning,
    /// Why: what the other server said, or what stands for it. Empty where an operator moved the time.
    pub reply: String,
}

/// Whether the sender has been told that the message is late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning {
    NotSent,
    Sent,
}

/// Some recipients of a message of the same log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    pub message: Sequence,
    /// Numbers of recipients in the envelope.
    pub recipients: Vec<u32>,
}

/// Recipients of a message of the same log that were held go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    pub message: Sequence,
    /// Numbers of recipients in the envelope.
    pub recipients: Vec<u32>,
    /// From when on they age, in Unix seconds. `None`, as earlier versions wrote it: from when the message came.
    pub at: Option<i64>,
}

/// Recipients of a message of the same log go by the way of another destination from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rebound {
    pub message: Sequence,
    /// Numbers of recipients in the envelope.
    pub recipients: Vec<u32>,
    /// A domain, in lower case and A-labels, or an address literal.
    pub destination: String,
}

/// A message of the same log was written again, so that the segment that it was in can be freed. It keeps its
/// identity, which is the sequence of its first record; nothing is owed anew.
#[derive(Clone, Debug)]
pub struct Moved {
    pub message: Sequence,
    pub content: Message,
}

/// The last reason why recipients were put off was written again, for the same purpose. Nothing else of them changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReasonMoved {
    /// Where it was until now.
    pub from: RecordPlace,
    pub deferred: Deferred,
}

/// A piece of a snapshot: state of the log that was made by records before, so that those need not be kept.
#[derive(Clone, Debug)]
pub struct Part {
    /// The snapshot's name: replay goes on behind this record.
    pub snapshot: Sequence,
    pub kind: PartKind,
    pub account: AccountId,
    pub mailbox: MailboxId,
    /// The state is as of this record.
    pub sequence: Sequence,
    pub piece: Piece,
    pub bytes: Slice,
}

/// What a part is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartKind {
    /// An account without its messages, in the form of `mailbox`.
    Account,
    /// Rows of a mailbox that the next `State` of it needs: a chunk without texts.
    Chunk,
    /// What may change of the messages of a mailbox, in the form of `mailbox`.
    State,
    /// Some of what is owed, in the form of `store::owed`.
    Owed,
    /// Where some messages are, in the form of `store::places`.
    Places,
}

/// Large parts come in pieces, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    More,
    Last,
}

/// The header of the segment that this record begins names a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Based {
    pub snapshot: Sequence,
}

impl Record {
    /// Whether anything remembers where a record of this kind is, beside messages.
    pub fn has_place(&self) -> bool {
        matches!(self, Self::Deferred(_) | Self::Moved(_) | Self::ReasonMoved(_))
    }

    /// Whether it is about messages of a mailbox, not about the mailbox or anything else.
    pub fn is_of_messages(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::FlagsChanged(_) | Self::Expunged(_) | Self::KeywordAdded(_))
    }

    /// The account and mailbox that it is about.
    pub fn subject(&self) -> Option<(AccountId, Option<MailboxId>)> {
        match self {
            Self::Message(_)
            | Self::Settled(_)
            | Self::Deferred(_)
            | Self::Held(_)
            | Self::Released(_)
            | Self::Rebound(_)
            | Self::Moved(_)
            | Self::ReasonMoved(_)
            | Self::Part(_)
            | Self::Based(_) => None,
            Self::Delivered(record) => Some((record.account, Some(record.mailbox))),
            Self::FlagsChanged(record) => Some((record.account, Some(record.mailbox))),
            Self::Expunged(record) => Some((record.account, Some(record.mailbox))),
            Self::KeywordAdded(record) => Some((record.account, Some(record.mailbox))),
            Self::MailboxCreated(record) => Some((record.account, Some(record.mailbox))),
            Self::MailboxRenamed(record) => Some((record.account, Some(record.mailbox))),
            Self::MailboxDeleted(record) => Some((record.account, Some(record.mailbox))),
            Self::Subscribed(record) | Self::Unsubscribed(record) => Some((record.account, None)),
            Self::AccountPurged(record) => Some((record.account, None)),
            Self::UidValidityRaised(record) => Some((record.account, Some(record.mailbox))),
        }
    }

    /// The account that it is about.
    pub fn account(&self) -> Option<AccountId> {
        self.subject().map(|(account, _)| account)
    }

    /// Whether it is about how the log is kept, and says nothing of any mail.
    pub fn is_upkeep(&self) -> bool {
        matches!(self, Self::Moved(_) | Self::ReasonMoved(_) | Self::Part(_) | Self::Based(_))
    }
}
