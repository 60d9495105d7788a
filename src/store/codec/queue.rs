//! The fields of what happens to owed mail on its way: put off, held, sent another way.

use crate::store::Sequence;
use crate::store::fields::{Malformed, Put, Take};
use crate::store::record::{Deferred, Rebound, Released, Selected, Warning};

pub fn put_deferred(deferred: &Deferred, to: &mut impl Put) {
    put_recipients(deferred.message, &deferred.recipients, to);
    to.put_u16(deferred.attempts);
    to.put_i64(deferred.due);
    to.put_u8(match deferred.warning {
        Warning::NotSent => 0,
        Warning::Sent => 1,
    });
    to.put_text(&deferred.reply);
}

pub fn take_deferred(take: &mut Take<'_>) -> Result<Deferred, Malformed> {
    let (message, recipients) = take_recipients(take)?;
    Ok(Deferred {
        message,
        recipients,
        attempts: take.u16()?,
        due: take.i64()?,
        warning: match take.u8()? {
            0 => Warning::NotSent,
            1 => Warning::Sent,
            _ => return Err(take.malformed()),
        },
        reply: take.text()?.to_owned(),
    })
}

pub fn put_selected(selected: &Selected, to: &mut impl Put) {
    put_recipients(selected.message, &selected.recipients, to);
}

pub fn take_selected(take: &mut Take<'_>) -> Result<Selected, Malformed> {
    let (message, recipients) = take_recipients(take)?;
    Ok(Selected { message, recipients })
}

pub fn put_released(released: &Released, to: &mut impl Put) {
    put_recipients(released.message, &released.recipients, to);
    released.at.into_iter().for_each(|at| to.put_i64(at));
}

/// Without the time, which stands behind it in records of one of the kinds.
pub fn take_released(take: &mut Take<'_>) -> Result<Released, Malformed> {
    let (message, recipients) = take_recipients(take)?;
    Ok(Released { message, recipients, at: None })
}

pub fn put_rebound(rebound: &Rebound, to: &mut impl Put) {
    put_recipients(rebound.message, &rebound.recipients, to);
    to.put_text(&rebound.destination);
}

pub fn take_rebound(take: &mut Take<'_>) -> Result<Rebound, Malformed> {
    let (message, recipients) = take_recipients(take)?;
    Ok(Rebound { message, recipients, destination: take.text()?.to_owned() })
}

fn put_recipients(message: Sequence, recipients: &[u32], to: &mut impl Put) {
    to.put_u64(message.0);
    to.put_u32(u32::try_from(recipients.len()).expect("recipients are bounded"));
    recipients.iter().for_each(|&recipient| to.put_u32(recipient));
}

fn take_recipients(take: &mut Take<'_>) -> Result<(Sequence, Vec<u32>), Malformed> {
    let message = Sequence(take.u64()?);
    let count = take.count(size_of::<u32>())?;
    let recipients = (0..count).map(|_| take.u32()).collect::<Result<_, _>>()?;
    Ok((message, recipients))
}
