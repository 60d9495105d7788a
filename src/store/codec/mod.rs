//! Records as bytes and back.
//!
//! Every kind has a number that is never used again for another, and a version; both stand in the header of the
//! frame. The layouts are drawn in `docs/storage.md`. The body of a message comes last, so that it is one
//! contiguous range which the frame header alone locates.
//!
//! Invariants: what `encode` writes `decode` reads back equal; `fields_length` is what `encode` puts; no input makes
//! `decode` panic or take more memory than a few times its own size.

mod message;
mod queue;
mod upkeep;

use message::{put_message, take_message};
use queue::{
    put_deferred, put_rebound, put_released, put_selected, take_deferred, take_rebound, take_released,
    take_selected,
};
use upkeep::{put_part, put_reason_moved, take_part, take_reason_moved};

use super::fields::{Count, Malformed, Put, Take};
use super::record::{
    AccountPurged, Based, Body, Delivered, Expunged, FlagsChanged, KeywordAdded, MailboxCreated,
    MailboxDeleted, MailboxRenamed, Moved, Part, Record, Released, Settled, SpecialUse, Subscribed,
    UidValidityRaised,
};
use super::{AccountId, Locator, LogId, MailboxId, MessageId, Place, Sequence};
use crate::bytes::Slice;
use crate::mail::flags::{FlagsAction, SystemFlags};
use crate::mail::set::Ranges;
use crate::mail::time::Timestamp;

/// The version of all layouts below.
pub const VERSION: u8 = 1;

/// The first record of every start; it is the log's own and never handed out.
pub const OPENED: u8 = 1;

pub const MESSAGE: u8 = 2;
const DELIVERED: u8 = 3;
const FLAGS_CHANGED: u8 = 4;
const EXPUNGED: u8 = 5;
const KEYWORD_ADDED: u8 = 6;
const MAILBOX_CREATED: u8 = 7;
const MAILBOX_RENAMED: u8 = 8;
const MAILBOX_DELETED: u8 = 9;
const SUBSCRIBED: u8 = 10;
const UNSUBSCRIBED: u8 = 11;
const ACCOUNT_PURGED: u8 = 12;
const SETTLED: u8 = 13;
const DEFERRED: u8 = 14;
const HELD: u8 = 15;
const RELEASED: u8 = 16;
/// With the time of it.
const RELEASED_AT: u8 = 23;
const REBOUND: u8 = 17;
pub const MOVED: u8 = 18;
const REASON_MOVED: u8 = 19;
/// With chunks of the third version or an older one.
const OLDER_PART: u8 = 20;
/// So that a server that would not know its chunks refuses the log.
const PART: u8 = 24;
const BASED: u8 = 21;
const UID_VALIDITY_RAISED: u8 = 22;

/// The number of the record's kind.
pub fn kind(record: &Record) -> u8 {
    match record {
        Record::Message(_) => MESSAGE,
        Record::Delivered(_) => DELIVERED,
        Record::FlagsChanged(_) => FLAGS_CHANGED,
        Record::Expunged(_) => EXPUNGED,
        Record::KeywordAdded(_) => KEYWORD_ADDED,
        Record::MailboxCreated(_) => MAILBOX_CREATED,
        Record::MailboxRenamed(_) => MAILBOX_RENAMED,
        Record::MailboxDeleted(_) => MAILBOX_DELETED,
        Record::Subscribed(_) => SUBSCRIBED,
        Record::Unsubscribed(_) => UNSUBSCRIBED,
        Record::AccountPurged(_) => ACCOUNT_PURGED,
        Record::Settled(_) => SETTLED,
        Record::Deferred(_) => DEFERRED,
        Record::Held(_) => HELD,
        Record::Released(Released { at: None, .. }) => RELEASED,
        Record::Released(Released { at: Some(_), .. }) => RELEASED_AT,
        Record::Rebound(_) => REBOUND,
        Record::Moved(_) => MOVED,
        Record::ReasonMoved(_) => REASON_MOVED,
        Record::Part(_) => PART,
        Record::Based(_) => BASED,
        Record::UidValidityRaised(_) => UID_VALIDITY_RAISED,
    }
}

/// The bytes that the record keeps beside its fields.
pub fn body(record: &Record) -> Option<&Slice> {
    match record {
        Record::Message(message) | Record::Moved(Moved { content: message, .. }) => match &message.body {
            Body::Inline { bytes, .. } => Some(bytes),
            Body::File { .. } => None,
        },
        Record::Part(Part { bytes, .. }) => Some(bytes),
        _ => None,
    }
}

/// Bytes of the fields, without the body.
pub fn fields_length(record: &Record) -> usize {
    let mut count = Count::default();
    encode(record, &mut count);
    count.0
}

/// Puts the fields; the body goes behind them.
pub fn encode(record: &Record, to: &mut impl Put) {
    match record {
        Record::Message(message) => put_message(message, to),
        Record::Delivered(delivered) => put_delivered(delivered, to),
        Record::FlagsChanged(changed) => put_flags_changed(changed, to),
        Record::Expunged(Expunged { account, mailbox, modseq, uids }) => {
            put_mailbox(*account, *mailbox, to);
            to.put_u64(*modseq);
            put_ranges(uids, to);
        }
        Record::KeywordAdded(KeywordAdded { account, mailbox, bit, name }) => {
            put_mailbox(*account, *mailbox, to);
            to.put_u8(*bit);
            to.put_text(name);
        }
        Record::MailboxCreated(MailboxCreated { account, mailbox, name, uid_validity, special_use }) => {
            put_mailbox(*account, *mailbox, to);
            to.put_u32(*uid_validity);
            to.put_u8(special_use.map_or(0, special_use_number));
            to.put_text(name);
        }
        Record::MailboxRenamed(MailboxRenamed { account, mailbox, name }) => {
            put_mailbox(*account, *mailbox, to);
            to.put_text(name);
        }
        Record::MailboxDeleted(MailboxDeleted { account, mailbox }) => put_mailbox(*account, *mailbox, to),
        Record::Subscribed(Subscribed { account, name })
        | Record::Unsubscribed(Subscribed { account, name }) => {
            to.put_u32(account.0);
            to.put_text(name);
        }
        Record::AccountPurged(AccountPurged { account }) => to.put_u32(account.0),
        Record::Settled(Settled { message, recipient }) => {
            to.put_u64(message.0);
            to.put_u32(*recipient);
        }
        Record::Deferred(deferred) => put_deferred(deferred, to),
        Record::Held(selected) => put_selected(selected, to),
        Record::Released(released) => put_released(released, to),
        Record::Rebound(rebound) => put_rebound(rebound, to),
        Record::Moved(moved) => {
            to.put_u64(moved.message.0);
            put_message(&moved.content, to);
        }
        Record::ReasonMoved(moved) => put_reason_moved(moved, to),
        Record::Part(part) => put_part(part, to),
        Record::Based(based) => to.put_u64(based.snapshot.0),
        Record::UidValidityRaised(UidValidityRaised { account, mailbox, uid_validity }) => {
            put_mailbox(*account, *mailbox, to);
            to.put_u32(*uid_validity);
        }
    }
}

/// Reads a record back from its fields and what lies behind them.
pub fn decode(kind: u8, fields: &[u8], body: Slice) -> Result<Record, Malformed> {
    let mut take = Take::new(fields);
    let record = match kind {
        MESSAGE => Record::Message(take_message(&mut take, body)?),
        DELIVERED => Record::Delivered(take_delivered(&mut take)?),
        FLAGS_CHANGED => Record::FlagsChanged(take_flags_changed(&mut take)?),
        EXPUNGED => {
            let (account, mailbox) = take_mailbox(&mut take)?;
            Record::Expunged(Expunged {
                account,
                mailbox,
                modseq: take.u64()?,
                uids: take_ranges(&mut take)?,
            })
        }
        KEYWORD_ADDED => {
            let (account, mailbox) = take_mailbox(&mut take)?;
            let (bit, name) = (take.u8()?, take.text()?.to_owned());
            Record::KeywordAdded(KeywordAdded { account, mailbox, bit, name })
        }
        MAILBOX_CREATED => Record::MailboxCreated(take_mailbox_created(&mut take)?),
        MAILBOX_RENAMED => {
            let (account, mailbox) = take_mailbox(&mut take)?;
            Record::MailboxRenamed(MailboxRenamed { account, mailbox, name: take.text()?.to_owned() })
        }
        MAILBOX_DELETED => {
            let (account, mailbox) = take_mailbox(&mut take)?;
            Record::MailboxDeleted(MailboxDeleted { account, mailbox })
        }
        SUBSCRIBED => Record::Subscribed(take_subscribed(&mut take)?),
        UNSUBSCRIBED => Record::Unsubscribed(take_subscribed(&mut take)?),
        ACCOUNT_PURGED => Record::AccountPurged(AccountPurged { account: AccountId(take.u32()?) }),
        SETTLED => Record::Settled(Settled { message: Sequence(take.u64()?), recipient: take.u32()? }),
        DEFERRED => Record::Deferred(take_deferred(&mut take)?),
        HELD => Record::Held(take_selected(&mut take)?),
        RELEASED => Record::Released(take_released(&mut take)?),
        RELEASED_AT => {
            let released = take_released(&mut take)?;
            Record::Released(Released { at: Some(take.i64()?), ..released })
        }
        REBOUND => Record::Rebound(take_rebound(&mut take)?),
        MOVED => {
            let message = Sequence(take.u64()?);
            Record::Moved(Moved { message, content: take_message(&mut take, body)? })
        }
        REASON_MOVED => Record::ReasonMoved(take_reason_moved(&mut take)?),
        PART | OLDER_PART => Record::Part(take_part(&mut take, body)?),
        BASED => Record::Based(Based { snapshot: Sequence(take.u64()?) }),
        UID_VALIDITY_RAISED => {
            let (account, mailbox) = take_mailbox(&mut take)?;
            Record::UidValidityRaised(UidValidityRaised { account, mailbox, uid_validity: take.u32()? })
        }
        _ => return Err(take.malformed()),
    };
    match take.left() {
        0 => Ok(record),
        _ => Err(take.malformed()),
    }
}

/// The message that a frame of a kind is of, from its sequence and the beginning of its fields. `None` if it is of
/// another kind.
pub fn message_of(kind: u8, sequence: Sequence, fields: &[u8]) -> Option<Sequence> {
    match kind {
        MESSAGE => Some(sequence),
        MOVED => Take::new(fields).u64().ok().map(Sequence),
        _ => None,
    }
}

fn put_delivered(delivered: &Delivered, to: &mut impl Put) {
    put_mailbox(delivered.account, delivered.mailbox, to);
    to.put_u32(delivered.uid);
    to.put_u64(delivered.modseq);
    put_locator(&delivered.message, to);
    to.put_u8(delivered.flags.0);
    to.put_u64(delivered.keywords);
    put_timestamp(delivered.internal, to);
    to.put_i64(delivered.saved);
    to.put_u8(u8::from(delivered.key.is_some()));
    if let Some((message, recipient)) = delivered.key {
        put_message_id(message, to);
        to.put_u32(recipient);
    }
}

fn take_delivered(take: &mut Take<'_>) -> Result<Delivered, Malformed> {
    let (account, mailbox) = take_mailbox(take)?;
    Ok(Delivered {
        account,
        mailbox,
        uid: take.u32()?,
        modseq: take.u64()?,
        message: take_locator(take)?,
        flags: SystemFlags(take.u8()?),
        keywords: take.u64()?,
        internal: take_timestamp(take)?,
        saved: take.i64()?,
        key: match take_bool(take)? {
            true => Some((take_message_id(take)?, take.u32()?)),
            false => None,
        },
    })
}

fn put_flags_changed(changed: &FlagsChanged, to: &mut impl Put) {
    put_mailbox(changed.account, changed.mailbox, to);
    to.put_u64(changed.modseq);
    to.put_u8(match changed.action {
        FlagsAction::Replace => 0,
        FlagsAction::Add => 1,
        FlagsAction::Remove => 2,
    });
    to.put_u8(changed.flags.0);
    to.put_u64(changed.keywords);
    put_ranges(&changed.uids, to);
}

fn take_flags_changed(take: &mut Take<'_>) -> Result<FlagsChanged, Malformed> {
    let (account, mailbox) = take_mailbox(take)?;
    Ok(FlagsChanged {
        account,
        mailbox,
        modseq: take.u64()?,
        action: match take.u8()? {
            0 => FlagsAction::Replace,
            1 => FlagsAction::Add,
            2 => FlagsAction::Remove,
            _ => return Err(take.malformed()),
        },
        flags: SystemFlags(take.u8()?),
        keywords: take.u64()?,
        uids: take_ranges(take)?,
    })
}

fn take_mailbox_created(take: &mut Take<'_>) -> Result<MailboxCreated, Malformed> {
    let (account, mailbox) = take_mailbox(take)?;
    let uid_validity = take.u32()?;
    let special_use = match take.u8()? {
        0 => None,
        number => Some(special_use_of(number).ok_or(take.malformed())?),
    };
    Ok(MailboxCreated { account, mailbox, name: take.text()?.to_owned(), uid_validity, special_use })
}

fn take_subscribed(take: &mut Take<'_>) -> Result<Subscribed, Malformed> {
    Ok(Subscribed { account: AccountId(take.u32()?), name: take.text()?.to_owned() })
}

/// Special uses with their numbers, from 1.
const SPECIAL_USES: [SpecialUse; 7] = [
    SpecialUse::All,
    SpecialUse::Archive,
    SpecialUse::Drafts,
    SpecialUse::Flagged,
    SpecialUse::Junk,
    SpecialUse::Sent,
    SpecialUse::Trash,
];

fn special_use_number(special_use: SpecialUse) -> u8 {
    match special_use {
        SpecialUse::All => 1,
        SpecialUse::Archive => 2,
        SpecialUse::Drafts => 3,
        SpecialUse::Flagged => 4,
        SpecialUse::Junk => 5,
        SpecialUse::Sent => 6,
        SpecialUse::Trash => 7,
    }
}

fn special_use_of(number: u8) -> Option<SpecialUse> {
    SPECIAL_USES.get(usize::from(number).checked_sub(1)?).copied()
}

fn put_mailbox(account: AccountId, mailbox: MailboxId, to: &mut impl Put) {
    to.put_u32(account.0);
    to.put_u32(mailbox.0);
}

fn take_mailbox(take: &mut Take<'_>) -> Result<(AccountId, MailboxId), Malformed> {
    Ok((AccountId(take.u32()?), MailboxId(take.u32()?)))
}

fn put_message_id(id: MessageId, to: &mut impl Put) {
    to.put_u16(id.log.0);
    to.put_u64(id.sequence.0);
}

fn take_message_id(take: &mut Take<'_>) -> Result<MessageId, Malformed> {
    Ok(MessageId { log: LogId(take.u16()?), sequence: Sequence(take.u64()?) })
}

/// All places have the same length, so that the length of a record is known before its place is.
fn put_locator(locator: &Locator, to: &mut impl Put) {
    put_message_id(locator.id, to);
    let (kind, number, offset) = match locator.place {
        Place::Segment { number, offset } => (0, u64::from(number), offset),
        Place::File { number } => (1, number, 0),
    };
    to.put_u8(kind);
    to.put_u64(number);
    to.put_u32(offset);
    to.put_u64(locator.length);
    to.put_u32(locator.return_path_length);
}

fn take_locator(take: &mut Take<'_>) -> Result<Locator, Malformed> {
    let id = take_message_id(take)?;
    let (kind, number, offset) = (take.u8()?, take.u64()?, take.u32()?);
    let place = match (kind, u32::try_from(number)) {
        (0, Ok(number)) => Place::Segment { number, offset },
        (1, _) => Place::File { number },
        _ => return Err(take.malformed()),
    };
    Ok(Locator { id, place, length: take.u64()?, return_path_length: take.u32()? })
}

fn put_timestamp(timestamp: Timestamp, to: &mut impl Put) {
    to.put_i64(timestamp.seconds);
    to.put_i16(timestamp.zone_minutes);
}

fn take_timestamp(take: &mut Take<'_>) -> Result<Timestamp, Malformed> {
    Ok(Timestamp { seconds: take.i64()?, zone_minutes: take.i16()? })
}

fn take_bool(take: &mut Take<'_>) -> Result<bool, Malformed> {
    match take.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(take.malformed()),
    }
}

fn put_ranges(ranges: &Ranges, to: &mut impl Put) {
    to.put_u32(u32::try_from(ranges.ranges().len()).expect("fewer ranges than numbers"));
    for &(from, through) in ranges.ranges() {
        to.put_u32(from);
        to.put_u32(through);
    }
}

fn take_ranges(take: &mut Take<'_>) -> Result<Ranges, Malformed> {
    let count = take.count(8)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let (from, through) = (take.u32()?, take.u32()?);
        if from > through {
            return Err(take.malformed());
        }
        ranges.push((from, through));
    }
    Ok(Ranges::from_unordered(ranges))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{Strategy, any, proptest};
    use proptest::{option, prop_assert_eq};

    use super::{MESSAGE, OLDER_PART, PART, SPECIAL_USES, body, decode, encode, fields_length, kind};
    use crate::bytes::Slice;
    use crate::mail::address::Address;
    use crate::mail::envelope::{BodyKind, ByMode, DeliverBy, Envelope, Notify, Recipient, Ret};
    use crate::mail::flags::{FlagsAction, SystemFlags};
    use crate::mail::time::Timestamp;
    use crate::store::record::{
        Accepted, AccountPurged, Based, Body, Deferred, Delivered, Expunged, FlagsChanged, KeywordAdded,
        MailboxCreated, MailboxDeleted, MailboxRenamed, Message, Moved, Part, PartKind, Piece, ReasonMoved,
        Rebound, Record, Released, Route, Selected, Settled, Subscribed, UidValidityRaised, Warning,
    };
    use crate::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, RecordPlace, Sequence};

    const ACCOUNT: AccountId = AccountId(0x0102_0304);
    const MAILBOX: MailboxId = MailboxId(u32::MAX);
    const ID: MessageId = MessageId { log: LogId(65535), sequence: Sequence(1 << 62) };
    const TIME: Timestamp = Timestamp { seconds: -1, zone_minutes: -720 };

    fn accepted() -> Accepted {
        let address = |local: &str| Address { local: local.to_owned(), domain: "bücher.example".to_owned() };
        let notify = Notify { success: true, failure: false, delay: true };
        let full = Recipient {
            address: address("a b"),
            notify: Some(notify),
            orcpt: Some("rfc822;a+20b@example".to_owned()),
        };
        let envelope = Envelope {
            sender: Some(address("")),
            recipients: vec![full, Recipient::new(address("second"))],
            body: BodyKind::BinaryMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ314159".to_owned()),
            priority: -9,
            deliver_by: Some(DeliverBy { at: -5, mode: ByMode::Notify, trace: true }),
            hold_until: Some(i64::MAX),
        };
        Accepted {
            envelope,
            routes: vec![Route::Local(ACCOUNT), Route::Remote],
            login: Some("me".to_owned()),
            tenant: Some("acme".to_owned()),
            campaign: Some("spring 2026".to_owned()),
        }
    }

    fn delivered(place: Place) -> Record {
        Record::Delivered(Delivered {
            account: ACCOUNT,
            mailbox: MAILBOX,
            uid: 1,
            modseq: 2,
            message: Locator { id: ID, place, length: 3, return_path_length: 4 },
            key: matches!(place, Place::File { .. }).then_some((ID, 5)),
            flags: SystemFlags::ALL,
            keywords: 6,
            internal: TIME,
            saved: -7,
        })
    }

    /// At least one of every kind.
    fn records() -> Vec<Record> {
        let inline =
            Body::Inline { bytes: Slice::from(&b"Return-Path: <>\r\n\r\nbody"[..]), return_path_length: 17 };
        let file = Body::File { number: 9, length: 1 << 40, crc: 0xffff_ffff, return_path_length: 0 };
        let null = Accepted::default();
        let uids = [1, 2, 3, 9, u32::MAX].into_iter().collect();
        let name = "Ärger/2024".to_owned();
        let (account, mailbox, modseq) = (ACCOUNT, MAILBOX, 1 << 63);
        let subscribed = Subscribed { account, name: name.clone() };
        let (message, recipients) = (Sequence(1 << 62), vec![0, u32::MAX]);
        let moved = |accepted, body| {
            Record::Moved(Moved { message, content: Message { received: TIME, accepted, body } })
        };
        let selected = Selected { message, recipients: recipients.clone() };
        let released = |at| Record::Released(Released { message, recipients: vec![0, u32::MAX], at });
        let mut records = vec![
            Record::Message(Message {
                received: TIME,
                accepted: Some(Arc::new(accepted())),
                body: inline.clone(),
            }),
            moved(Some(Arc::new(accepted())), inline.clone()),
            moved(None, file.clone()),
            Record::Message(Message { received: TIME, accepted: None, body: inline }),
            Record::Message(Message { received: TIME, accepted: Some(Arc::new(null)), body: file }),
            delivered(Place::Segment { number: u32::MAX, offset: 8 }),
            delivered(Place::File { number: u64::MAX }),
            Record::Expunged(Expunged { account, mailbox, modseq, uids }),
            Record::KeywordAdded(KeywordAdded { account, mailbox, bit: 63, name: "$Junk".to_owned() }),
            Record::MailboxRenamed(MailboxRenamed { account, mailbox, name: name.clone() }),
            Record::MailboxDeleted(MailboxDeleted { account, mailbox }),
            Record::Subscribed(subscribed.clone()),
            Record::Unsubscribed(subscribed),
            Record::AccountPurged(AccountPurged { account }),
            Record::UidValidityRaised(UidValidityRaised { account, mailbox, uid_validity: u32::MAX }),
            Record::Settled(Settled { message: Sequence(3), recipient: 4 }),
            Record::Held(selected),
            released(None),
            released(Some(-1)),
            Record::Rebound(Rebound { message, recipients, destination: "elsewhere.example".to_owned() }),
        ];
        let deferred = |warning| Deferred {
            message,
            recipients: vec![7],
            attempts: 65535,
            due: -1,
            warning,
            reply: "451 4.3.0 später".to_owned(),
        };
        records.extend([Warning::NotSent, Warning::Sent].map(|warning| Record::Deferred(deferred(warning))));
        let from = RecordPlace { segment: 1 << 31, offset: 4160 };
        records.push(Record::ReasonMoved(ReasonMoved { from, deferred: deferred(Warning::Sent) }));
        records.push(Record::Based(Based { snapshot: message }));
        let kinds = [PartKind::Account, PartKind::Chunk, PartKind::State, PartKind::Owed, PartKind::Places];
        records.extend(kinds.into_iter().zip([Piece::More, Piece::Last].into_iter().cycle()).map(
            |(kind, piece)| {
                let (snapshot, sequence, bytes) = (message, Sequence(9), Slice::from(&b"state"[..]));
                Record::Part(Part { snapshot, kind, account, mailbox, sequence, piece, bytes })
            },
        ));
        records.extend([FlagsAction::Replace, FlagsAction::Add, FlagsAction::Remove].map(|action| {
            let (flags, keywords, uids) = (SystemFlags::SEEN, 1, [7].into_iter().collect());
            Record::FlagsChanged(FlagsChanged { account, mailbox, modseq, action, flags, keywords, uids })
        }));
        records.extend(SPECIAL_USES.into_iter().map(Some).chain([None]).map(|special_use| {
            let (name, uid_validity) = (name.clone(), 8);
            Record::MailboxCreated(MailboxCreated { account, mailbox, name, uid_validity, special_use })
        }));
        records
    }

    fn fields(record: &Record) -> Vec<u8> {
        let mut fields = Vec::new();
        encode(record, &mut fields);
        fields
    }

    fn body_of(record: &Record) -> Slice {
        body(record).cloned().unwrap_or(Slice::from(&b""[..]))
    }

    #[test]
    fn every_record_is_read_back_as_it_was() {
        for record in records() {
            let fields = fields(&record);
            assert_eq!(fields.len(), fields_length(&record));
            let again = decode(kind(&record), &fields, body_of(&record)).expect("it was just written");
            assert_eq!(format!("{again:?}"), format!("{record:?}"));
            assert_eq!(*body_of(&again), *body_of(&record));
        }
    }

    #[test]
    fn parts_as_older_servers_wrote_them_are_read() {
        for record in records().into_iter().filter(|record| kind(record) == PART) {
            let again = decode(OLDER_PART, &fields(&record), body_of(&record)).expect("it is a part");
            assert_eq!(format!("{again:?}"), format!("{record:?}"));
        }
    }

    #[test]
    fn the_length_of_a_delivery_does_not_depend_on_its_place() {
        let [segment, file] = [Place::UNPLACED, Place::File { number: 1 }].map(|place| {
            let Record::Delivered(delivered) = delivered(place) else {
                unreachable!("it is a delivery");
            };
            fields_length(&Record::Delivered(Delivered { key: None, ..delivered }))
        });
        assert_eq!(segment, file);
    }

    #[test]
    fn no_cut_of_a_record_is_a_record() {
        for record in records() {
            let fields = fields(&record);
            for length in 0..fields.len() {
                let cut = decode(kind(&record), &fields[..length], body_of(&record));
                assert!(cut.is_err(), "{record:?} cut at {length}");
            }
            let longer = [&fields[..], b"x"].concat();
            assert!(decode(kind(&record), &longer, body_of(&record)).is_err(), "{record:?} and more");
        }
    }

    #[test]
    fn a_message_without_terms_is_as_short_as_before_there_were_any() {
        let record = |accepted| {
            let body = Body::Inline { bytes: Slice::from(&b""[..]), return_path_length: 0 };
            Record::Message(Message { received: TIME, accepted: Some(Arc::new(accepted)), body })
        };
        let plain = fields(&record(Accepted::default()));
        // Time, has, Return-Path, body, smtputf8, ret, ENVID, login, sender, recipients.
        assert_eq!(plain.len(), 10 + 1 + 4 + 3 + 1 + 1 + 1 + 4);
        assert_eq!(plain[10], 1);
        let tenant = fields(&record(Accepted { tenant: Some(String::new()), ..Accepted::default() }));
        assert_eq!((tenant.len(), tenant[10]), (plain.len() + 1 + 1 + 1 + 5 + 1, 5));
        // Terms of a message that nobody was promised anything about are nonsense.
        let nonsense = [&tenant[..10], &[4, 0, 0, 0, 0], &tenant[plain.len()..]].concat();
        assert!(decode(MESSAGE, &nonsense, Slice::from(&b""[..])).is_err());
    }

    fn terms() -> impl Strategy<Value = Accepted> {
        let by = (any::<i64>(), any::<bool>(), any::<bool>()).prop_map(|(at, notify, trace)| DeliverBy {
            at,
            mode: if notify { ByMode::Notify } else { ByMode::Return },
            trace,
        });
        let label = || option::of("[ -~]{0,20}");
        (-9..=9_i8, option::of(by), option::of(any::<i64>()), label(), label()).prop_map(
            |(priority, deliver_by, hold_until, tenant, campaign)| {
                let envelope = Envelope { priority, deliver_by, hold_until, ..Envelope::default() };
                Accepted { envelope, tenant, campaign, ..Accepted::default() }
            },
        )
    }

    proptest! {
        #[test]
        fn terms_are_read_back_as_they_were(accepted in terms()) {
            let body = Body::Inline { bytes: Slice::from(&b""[..]), return_path_length: 0 };
            let record = Record::Message(Message { received: TIME, accepted: Some(Arc::new(accepted)), body });
            let fields = fields(&record);
            prop_assert_eq!(fields.len(), fields_length(&record));
            let again = decode(MESSAGE, &fields, body_of(&record)).expect("it was just written");
            prop_assert_eq!(format!("{again:?}"), format!("{record:?}"));
        }

        #[test]
        fn damaged_fields_never_panic(number in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let records = records();
            let record = number.get(&records);
            let mut fields = fields(record);
            let at = at.index(fields.len());
            fields[at] = byte;
            drop(decode(kind(record), &fields, body_of(record)));
        }

        #[test]
        fn any_bytes_never_panic(kind in any::<u8>(), fields in proptest::collection::vec(any::<u8>(), 0..200).no_shrink()) {
            drop(decode(kind, &fields, Slice::from(&b""[..])));
        }
    }
}
