//! The fields of records about how the log is kept.

use super::queue::{put_deferred, take_deferred};
use super::{put_mailbox, take_mailbox};
use crate::bytes::Slice;
use crate::store::fields::{Malformed, Put, Take};
use crate::store::record::{Part, PartKind, Piece, ReasonMoved};
use crate::store::{RecordPlace, Sequence};

pub fn put_reason_moved(moved: &ReasonMoved, to: &mut impl Put) {
    to.put_u32(moved.from.segment);
    to.put_u32(moved.from.offset);
    put_deferred(&moved.deferred, to);
}

pub fn take_reason_moved(take: &mut Take<'_>) -> Result<ReasonMoved, Malformed> {
    let from = RecordPlace { segment: take.u32()?, offset: take.u32()? };
    Ok(ReasonMoved { from, deferred: take_deferred(take)? })
}

/// The bytes of the part are the body.
pub fn put_part(part: &Part, to: &mut impl Put) {
    to.put_u64(part.snapshot.0);
    to.put_u8(match part.kind {
        PartKind::Account => 0,
        PartKind::Chunk => 1,
        PartKind::State => 2,
        PartKind::Owed => 3,
        PartKind::Places => 4,
    });
    put_mailbox(part.account, part.mailbox, to);
    to.put_u64(part.sequence.0);
    to.put_u8(match part.piece {
        Piece::More => 0,
        Piece::Last => 1,
    });
}

pub fn take_part(take: &mut Take<'_>, bytes: Slice) -> Result<Part, Malformed> {
    let snapshot = Sequence(take.u64()?);
    let kind = match take.u8()? {
        0 => PartKind::Account,
        1 => PartKind::Chunk,
        2 => PartKind::State,
        3 => PartKind::Owed,
        4 => PartKind::Places,
        _ => return Err(take.malformed()),
    };
    let (account, mailbox) = take_mailbox(take)?;
    let sequence = Sequence(take.u64()?);
    let piece = match take.u8()? {
        0 => Piece::More,
        1 => Piece::Last,
        _ => return Err(take.malformed()),
    };
    Ok(Part { snapshot, kind, account, mailbox, sequence, piece, bytes })
}
