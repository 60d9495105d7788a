//! The fields of a message: what was promised when it was taken.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{put_timestamp, take_bool, take_timestamp};
use crate::bytes::Slice;
use crate::mail::address::Address;
use crate::mail::envelope::{BodyKind, ByMode, DeliverBy, Envelope, Notify, Recipient, Ret};
use crate::store::AccountId;
use crate::store::fields::{Malformed, Put, Take};
use crate::store::record::{Accepted, Body, Message, Route};

/// Bits of the byte that says what a message record has.
const HAS_ACCEPTED: u8 = 1;
const HAS_FILE: u8 = 2;
/// Anything of what [`put_terms`] puts, so that the many messages without any pay nothing for it.
const HAS_TERMS: u8 = 4;

pub fn put_message(message: &Message, to: &mut impl Put) {
    put_timestamp(message.received, to);
    let accepted = message.accepted.as_deref();
    let has_file = matches!(message.body, Body::File { .. });
    let has_terms = accepted.is_some_and(has_terms);
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    to.put_u8(bit(accepted.is_some(), HAS_ACCEPTED) | bit(has_file, HAS_FILE) | bit(has_terms, HAS_TERMS));
    match message.body {
        Body::Inline { return_path_length, .. } => to.put_u32(return_path_length),
        Body::File { number, length, crc, return_path_length } => {
            to.put_u32(return_path_length);
            to.put_u64(number);
            to.put_u64(length);
            to.put_u32(crc);
        }
    }
    if let Some(accepted) = accepted {
        put_accepted(accepted, to);
        if has_terms {
            put_terms(accepted, to);
        }
    }
}

pub fn take_message(take: &mut Take<'_>, bytes: Slice) -> Result<Message, Malformed> {
    let received = take_timestamp(take)?;
    let has = take.u8()?;
    let is_known = has & !(HAS_ACCEPTED | HAS_FILE | HAS_TERMS) == 0;
    if !is_known || has & (HAS_TERMS | HAS_ACCEPTED) == HAS_TERMS {
        return Err(take.malformed());
    }
    let return_path_length = take.u32()?;
    let body = match has & HAS_FILE != 0 {
        true => Body::File { number: take.u64()?, length: take.u64()?, crc: take.u32()?, return_path_length },
        false => Body::Inline { bytes, return_path_length },
    };
    if u64::from(return_path_length) > body.length() {
        return Err(take.malformed());
    }
    let mut accepted = match has & HAS_ACCEPTED != 0 {
        true => Some(take_accepted(take)?),
        false => None,
    };
    if let Some(accepted) = accepted.as_mut().filter(|_| has & HAS_TERMS != 0) {
        take_terms(take, accepted)?;
    }
    Ok(Message { received, accepted: accepted.map(Arc::new), body })
}

fn put_accepted(accepted: &Accepted, to: &mut impl Put) {
    let envelope = &accepted.envelope;
    assert_eq!(envelope.recipients.len(), accepted.routes.len(), "a route for each recipient");
    to.put_u8(match envelope.body {
        BodyKind::SevenBit => 0,
        BodyKind::EightBitMime => 1,
        BodyKind::BinaryMime => 2,
    });
    to.put_u8(u8::from(envelope.smtputf8));
    to.put_u8(match envelope.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    });
    put_option(envelope.envid.as_deref(), to);
    put_option(accepted.login.as_deref(), to);
    to.put_u8(u8::from(envelope.sender.is_some()));
    if let Some(sender) = &envelope.sender {
        put_address(sender, to);
    }
    to.put_u32(u32::try_from(envelope.recipients.len()).expect("recipients are bounded"));
    for (recipient, route) in envelope.recipients.iter().zip(&accepted.routes) {
        put_recipient(recipient, *route, to);
    }
}

fn take_accepted(take: &mut Take<'_>) -> Result<Accepted, Malformed> {
    let body = match take.u8()? {
        0 => BodyKind::SevenBit,
        1 => BodyKind::EightBitMime,
        2 => BodyKind::BinaryMime,
        _ => return Err(take.malformed()),
    };
    let smtputf8 = take_bool(take)?;
    let ret = match take.u8()? {
        0 => None,
        1 => Some(Ret::Full),
        2 => Some(Ret::Headers),
        _ => return Err(take.malformed()),
    };
    let envid = take_option(take)?;
    let login = take_option(take)?;
    let sender = match take_bool(take)? {
        true => Some(take_address(take)?),
        false => None,
    };
    let count = take.count(RECIPIENT_BYTES_MIN)?;
    let (mut recipients, mut routes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let (recipient, route) = take_recipient(take)?;
        recipients.push(recipient);
        routes.push(route);
    }
    let envelope = Envelope { sender, recipients, body, smtputf8, ret, envid, ..Envelope::default() };
    Ok(Accepted { envelope, routes, login, tenant: None, campaign: None })
}

/// Bits of how a message is to be delivered in time; without the first BY was not given.
const BY_GIVEN: u8 = 1;
const BY_NOTIFY: u8 = 2;
const BY_TRACE: u8 = 4;

const PRIORITIES: RangeInclusive<i8> = -9..=9;

/// Whether the sender asked for more than most do, or somebody is to be billed.
fn has_terms(accepted: &Accepted) -> bool {
    let Envelope { priority, deliver_by, hold_until, .. } = &accepted.envelope;
    let is_timed = deliver_by.is_some() || hold_until.is_some();
    *priority != 0 || is_timed || accepted.tenant.is_some() || accepted.campaign.is_some()
}

fn put_terms(accepted: &Accepted, to: &mut impl Put) {
    let Envelope { priority, deliver_by, hold_until, .. } = &accepted.envelope;
    assert!(PRIORITIES.contains(priority), "RFC 6710 7");
    to.put_u8(priority.cast_unsigned());
    to.put_u8(deliver_by.map_or(0, |by| {
        BY_GIVEN | if by.mode == ByMode::Notify { BY_NOTIFY } else { 0 } | if by.trace { BY_TRACE } else { 0 }
    }));
    if let Some(by) = deliver_by {
        to.put_i64(by.at);
    }
    to.put_u8(u8::from(hold_until.is_some()));
    if let Some(until) = hold_until {
        to.put_i64(*until);
    }
    put_option(accepted.tenant.as_deref(), to);
    put_option(accepted.campaign.as_deref(), to);
}

fn take_terms(take: &mut Take<'_>, accepted: &mut Accepted) -> Result<(), Malformed> {
    let envelope = &mut accepted.envelope;
    envelope.priority = take.u8()?.cast_signed();
    if !PRIORITIES.contains(&envelope.priority) {
        return Err(take.malformed());
    }
    envelope.deliver_by = match take.u8()? {
        0 => None,
        bits if bits & BY_GIVEN != 0 && bits < 8 => Some(DeliverBy {
            at: take.i64()?,
            mode: if bits & BY_NOTIFY != 0 { ByMode::Notify } else { ByMode::Return },
            trace: bits & BY_TRACE != 0,
        }),
        _ => return Err(take.malformed()),
    };
    envelope.hold_until = match take_bool(take)? {
        true => Some(take.i64()?),
        false => None,
    };
    accepted.tenant = take_option(take)?;
    accepted.campaign = take_option(take)?;
    Ok(())
}

/// Two lengths of the address, NOTIFY, ORCPT's presence, the route.
const RECIPIENT_BYTES_MIN: usize = 4 + 4 + 1 + 1 + 1;

/// Bits of NOTIFY as it is kept; without the first the parameter was not given.
const NOTIFY_GIVEN: u8 = 1;
const NOTIFY_SUCCESS: u8 = 2;
const NOTIFY_FAILURE: u8 = 4;
const NOTIFY_DELAY: u8 = 8;

fn put_recipient(recipient: &Recipient, route: Route, to: &mut impl Put) {
    put_address(&recipient.address, to);
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    to.put_u8(recipient.notify.map_or(0, |notify| {
        NOTIFY_GIVEN
            | bit(notify.success, NOTIFY_SUCCESS)
            | bit(notify.failure, NOTIFY_FAILURE)
            | bit(notify.delay, NOTIFY_DELAY)
    }));
    put_option(recipient.orcpt.as_deref(), to);
    match route {
        Route::Remote => to.put_u8(0),
        Route::Local(account) => {
            to.put_u8(1);
            to.put_u32(account.0);
        }
    }
}

fn take_recipient(take: &mut Take<'_>) -> Result<(Recipient, Route), Malformed> {
    let address = take_address(take)?;
    let notify = match take.u8()? {
        0 => None,
        bits if bits & NOTIFY_GIVEN != 0 && bits < 16 => Some(Notify {
            success: bits & NOTIFY_SUCCESS != 0,
            failure: bits & NOTIFY_FAILURE != 0,
            delay: bits & NOTIFY_DELAY != 0,
        }),
        _ => return Err(take.malformed()),
    };
    let orcpt = take_option(take)?;
    let route = match take_bool(take)? {
        false => Route::Remote,
        true => Route::Local(AccountId(take.u32()?)),
    };
    Ok((Recipient { address, notify, orcpt }, route))
}

fn put_address(address: &Address, to: &mut impl Put) {
    to.put_text(&address.local);
    to.put_text(&address.domain);
}

fn take_address(take: &mut Take<'_>) -> Result<Address, Malformed> {
    Ok(Address { local: take.text()?.to_owned(), domain: take.text()?.to_owned() })
}

fn put_option(text: Option<&str>, to: &mut impl Put) {
    to.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        to.put_text(text);
    }
}

fn take_option(take: &mut Take<'_>) -> Result<Option<String>, Malformed> {
    match take_bool(take)? {
        true => Ok(Some(take.text()?.to_owned())),
        false => Ok(None),
    }
}
