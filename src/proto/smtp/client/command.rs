//! Every command that a transaction says, as it goes on the wire.

use std::fmt::Write;

use crate::bytes::Output;
use crate::mail::envelope::{BodyKind, Notify, Recipient, Ret};

use super::offers::Offers;
use super::plan::Charset;
use super::transaction::{ByMode, DeliverBy, Transaction};

const IN_MEMORY: &str = "writing to memory does not fail";

/// ```text
/// "MAIL FROM:" Reverse-path [SP Mail-parameters]
/// ```
pub(super) fn mail(transaction: &Transaction, offers: &Offers, charset: Charset, out: &mut Output) {
    let sender = transaction.sender.as_ref().and_then(|sender| charset.path(sender)).unwrap_or_default();
    write!(out, "MAIL FROM:<{sender}>").expect(IN_MEMORY);
    if offers.size.is_some() {
        write!(out, " SIZE={}", transaction.message_bytes()).expect(IN_MEMORY);
    }
    match transaction.body {
        BodyKind::SevenBit => {}
        BodyKind::EightBitMime if !offers.eight_bit_mime => {}
        BodyKind::EightBitMime => out.push(b" BODY=8BITMIME"),
        BodyKind::BinaryMime => out.push(b" BODY=BINARYMIME"),
    }
    if charset == Charset::Utf8 {
        out.push(b" SMTPUTF8");
    }
    if offers.dsn {
        match transaction.ret {
            None => {}
            Some(Ret::Full) => out.push(b" RET=FULL"),
            Some(Ret::Headers) => out.push(b" RET=HDRS"),
        }
        if let Some(envid) = &transaction.envid {
            write!(out, " ENVID={envid}").expect(IN_MEMORY);
        }
    }
    if let Some(deliver_by) = transaction.deliver_by.filter(|_| offers.deliver_by.is_some()) {
        by(deliver_by, out);
    }
    if let Some(priority) = transaction.priority.filter(|_| offers.mt_priority) {
        write!(out, " MT-PRIORITY={priority}").expect(IN_MEMORY);
    }
    out.push(b"\r\n");
}

/// ```text
/// "RCPT TO:" Forward-path [SP Rcpt-parameters]
/// ```
pub(super) fn rcpt(
    recipient: &Recipient,
    transaction: &Transaction,
    offers: &Offers,
    charset: Charset,
    out: &mut Output,
) {
    let path = charset.path(&recipient.address).expect("the plan lets only those through that have one");
    write!(out, "RCPT TO:<{path}>").expect(IN_MEMORY);
    if offers.dsn {
        if let Some(wanted) = notify_wanted(recipient.notify, transaction, offers) {
            notify(wanted, out);
        }
        if let Some(given) = &recipient.orcpt {
            orcpt(given, charset, out);
        }
    }
    out.push(b"\r\n");
}

/// RFC 2852 4.1.4.2: where the peer would forget the time, it is to tell of delays.
fn notify_wanted(given: Option<Notify>, transaction: &Transaction, offers: &Offers) -> Option<Notify> {
    let by = transaction.deliver_by.filter(|by| by.mode == ByMode::Notify && offers.deliver_by.is_none());
    match (by, given) {
        (None, given) => given,
        (Some(_), None) => Some(Notify { success: false, failure: true, delay: true }),
        (Some(_), Some(never)) if never == Notify::default() => given,
        (Some(_), Some(notify)) => Some(Notify { delay: true, ..notify }),
    }
}

fn notify(wanted: Notify, out: &mut Output) {
    let names = [(wanted.success, "SUCCESS"), (wanted.failure, "FAILURE"), (wanted.delay, "DELAY")];
    let names: Vec<&str> = names.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name).collect();
    let list = if names.is_empty() { "NEVER".to_owned() } else { names.join(",") };
    write!(out, " NOTIFY={list}").expect(IN_MEMORY);
}

/// As it came. Without SMTPUTF8 a character beyond ASCII is `"\x{" HEXPOINT "}"` (RFC 6533 3).
fn orcpt(given: &str, charset: Charset, out: &mut Output) {
    out.push(b" ORCPT=");
    for character in given.chars() {
        match charset == Charset::Utf8 || character.is_ascii() {
            true => write!(out, "{character}").expect(IN_MEMORY),
            false => write!(out, "\\x{{{:X}}}", u32::from(character)).expect(IN_MEMORY),
        }
    }
}

/// `"BY=" by-time ";" by-mode [by-trace]`, with a time of at most nine digits (RFC 2852 4).
fn by(asked: DeliverBy, out: &mut Output) {
    let seconds = asked.remaining_s.clamp(-999_999_999, 999_999_999);
    let mode = match asked.mode {
        ByMode::Return => 'R',
        ByMode::Notify => 'N',
    };
    let trace = if asked.trace { "T" } else { "" };
    write!(out, " BY={seconds};{mode}{trace}").expect(IN_MEMORY);
}
