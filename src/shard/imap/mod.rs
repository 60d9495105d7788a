//! IMAP sessions of accounts whose log this shard drives: one file per family of commands.
//!
//! The engine says which command was given; the functions here look at the mailbox through the session's view,
//! write untagged data with the engine's renderers, and end with a [`Done`], which the engine makes the tagged
//! line of. A change is planned, appended and synced before its `Done`. What other sessions did is told at the
//! end of each command, and at once in IDLE.
//!
//! Invariants: no borrow of an account is held across an await; nothing is told of a mailbox but through the
//! view; long answers and searches give way to other sessions after each burst.

mod append;
mod expunge;
mod fetch;
mod list;
mod mailboxes;
mod news;
mod search;
mod select;
mod session;
mod store;
mod transfer;

pub use session::Session;

use crate::mailbox::Refusal;
use crate::proto::imap::reply::{Code, Done};
use crate::shard::commit::NotStored;

/// What a command ends with that could not be carried out.
fn refused(refusal: Refusal) -> Done {
    match refusal {
        Refusal::NonExistent => Done::no(Some(Code::NonExistent), "There is no such mailbox"),
        Refusal::AlreadyExists => Done::no(Some(Code::AlreadyExists), "There is such a mailbox already"),
        Refusal::Cannot(reason) => Done::no(Some(Code::Cannot), reason),
        Refusal::TryCreate => Done::no(Some(Code::TryCreate), "There is no such mailbox; create it first"),
        Refusal::HasChildren => Done::no(Some(Code::HasChildren), "There are mailboxes below it"),
        Refusal::UseAttribute => Done::no(Some(Code::UseAttr), "Another mailbox has this special use"),
        Refusal::OverQuota => Done::no(Some(Code::OverQuota), "The account is full"),
        Refusal::Limit(reason) => Done::no(Some(Code::Limit), reason),
    }
}

/// What a command ends with whose records did not reach the disk.
fn not_stored(_: NotStored) -> Done {
    Done::no(Some(Code::Unavailable), "The change could not be stored; try again later")
}

/// What a command ends with whose mailbox another session has deleted.
fn mailbox_gone() -> Done {
    Done::no(Some(Code::NonExistent), "The mailbox was deleted")
}

/// What a command ends with that names messages by numbers, of which the client does not know yet that they are gone
/// (RFC 5530 3).
fn expunged() -> Done {
    Done::no(Some(Code::ExpungeIssued), "Some messages were expunged by others")
}
