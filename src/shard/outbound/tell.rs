//! Telling a sender: a notification as a new message for whoever sent the one it is about.

use std::rc::Rc;

use super::job::Attempt;
use crate::auth::{Directory, Resolution, Target};
use crate::bytes::Slice;
use crate::io::{clock, random};
use crate::limits::outbound::DSN_SEGMENT_SHARE;
use crate::mail::address::Address;
use crate::mail::dsn::{self, Action, Addressee, Extent, Fate, Remote};
use crate::mail::envelope::{Envelope, Notify, Recipient, Ret};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::Timestamp;
use crate::mail::trace;
use crate::proto::smtp::client::Origin;
use crate::shard::Shard;
use crate::store::record::{Accepted, Body, Message, Route};
use crate::store::{AccountId, Kept, Locator, MessageId};

/// What there is to tell of a recipient.
pub struct Told<'a> {
    /// Number in the envelope.
    pub recipient: u32,
    pub action: Action,
    pub status: EnhancedCode,
    pub reply: &'a Reply,
    pub origin: Origin,
    /// Until when it is tried, in Unix seconds (RFC 3464 2.3.9).
    pub retry_until: Option<i64>,
    pub wish: Wish,
}

/// Who wants to hear it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Senders who said so with NOTIFY (RFC 3461 4.1).
    Notify,
    /// All but those who said NEVER (RFC 2852 4.1.4).
    DeliverBy,
}

/// The notification about a message, if one is wanted and there is anybody to read it.
pub fn tell(
    shard: &Rc<Shard>,
    (id, (kept, message)): (MessageId, &(Kept, Message)),
    told: &[Told<'_>],
    attempt: &Attempt,
) -> Option<(Accepted, Body)> {
    let envelope = &message.accepted.as_ref()?.envelope;
    let about = About { envelope, attempt, received: message.received, log_id: &id.to_string() };
    about.tell(shard, told, &kept.message, || shard.read(&kept.message))
}

/// The notification that recipients have the message in their mailboxes (RFC 3461 5.2.3), if one is wanted.
pub fn tell_delivered(
    shard: &Rc<Shard>,
    message: (MessageId, &(Kept, Message)),
    recipients: &[u32],
) -> Option<(Accepted, Body)> {
    let done = done();
    let told = recipients.iter().map(|number| Told::done(*number, Action::Delivered, &done));
    tell(shard, message, &told.collect::<Vec<_>>(), &Attempt::none())
}

/// The notification about a message that is being taken: what is done of it with that. `envelope` is the message's,
/// but for its recipients, each of which has one of the `actions`: delivered, or an alias that was opened for several
/// (RFC 3461 5.2.7.3).
pub fn tell_taken(
    shard: &Rc<Shard>,
    (message, body): (&Locator, &Body),
    envelope: &Envelope,
    actions: &[Action],
) -> Option<(Accepted, Body)> {
    let (done, attempt) = (done(), Attempt::none());
    let log_id = message.id.to_string();
    let about = About { envelope, attempt: &attempt, received: clock::timestamp(), log_id: &log_id };
    let told = (0..).zip(actions).map(|(number, action)| Told::done(number, *action, &done));
    about.tell(shard, &told.collect::<Vec<_>>(), message, || match body {
        Body::Inline { bytes, .. } => Some(bytes.clone()),
        Body::File { .. } => shard.read(message),
    })
}

impl<'a> Told<'a> {
    /// Of a recipient of whom all is done, and no other server had to do with it.
    fn done(recipient: u32, action: Action, done: &'a Reply) -> Self {
        let (status, reply, origin) = (done.status(), done, Origin::Local);
        Self { recipient, action, status, reply, origin, retry_until: None, wish: Wish::Notify }
    }
}

/// Stands for what another server would have said.
fn done() -> Reply {
    Reply::new(250, EnhancedCode::new(2, 0, 0), "")
}

/// What all recipients of a notification have in common.
struct About<'a> {
    envelope: &'a Envelope,
    attempt: &'a Attempt,
    received: Timestamp,
    log_id: &'a str,
}

impl<'a> About<'a> {
    /// `read` gives the bytes of the message, if they are to be had.
    fn tell(
        &self,
        shard: &Rc<Shard>,
        told: &[Told<'a>],
        message: &Locator,
        read: impl FnOnce() -> Option<Slice>,
    ) -> Option<(Accepted, Body)> {
        let Self { envelope, log_id, .. } = *self;
        let asked = |told: &&Told<'_>| {
            let recipient = envelope.recipients.get(told.recipient as usize);
            recipient.is_some_and(|recipient| match told.wish {
                Wish::Notify => dsn::wanted(told.action, recipient.notify),
                Wish::DeliverBy => dsn::bearable(recipient.notify),
            })
        };
        let told: Vec<&Told<'_>> = told.iter().filter(asked).collect();
        if told.is_empty() {
            return None;
        }
        let Some((address, readers)) = readers(&shard.directory(), envelope, &told) else {
            tracing::warn!(message = log_id, "nobody can be told what became of it");
            return None;
        };
        // What cannot be read any more is told of without its header.
        let (original, extent) = match read() {
            Some(whole) if envelope.ret == Some(Ret::Headers) => (whole, Extent::HeaderOnly),
            Some(whole) => (whole, Extent::Whole),
            None => (Slice::from(Vec::new()), Extent::HeaderOnly),
        };
        let front = original.len().min(message.return_path_length as usize);
        let original = original.part(front..original.len());
        let config = shard.config();
        // The configuration may have been read again; segments are as they were at the start.
        let segment_bytes = shard.log(message.id.log).map_or(0, |commit| commit.segment_bytes_max());
        let returned_bytes_max = config.outbound.dsn_return_bytes.min(segment_bytes / DSN_SEGMENT_SHARE);
        let now = clock::timestamp();
        let fates: Vec<Fate<'_>> = told.iter().filter_map(|told| self.fate(told, now)).collect();
        let from = Address { local: "MAILER-DAEMON".to_owned(), domain: config.hostname.clone() };
        let composed = dsn::compose(&dsn::Report {
            host: &config.hostname,
            from: &from,
            to: match envelope.sender {
                Some(_) => Addressee::Sender(&address),
                None => Addressee::Postmaster(&address),
            },
            envelope,
            arrived: self.received,
            deliver_by: envelope.deliver_by.map(|by| Timestamp { seconds: by.at, zone_minutes: 0 }),
            fates: &fates,
            original: &original,
            extent,
            returned_bytes_max: usize::try_from(returned_bytes_max).unwrap_or(usize::MAX),
            token: &format!("{log_id}.{}", unguessable(8)),
            boundary: &unguessable(16),
            now,
        });
        let mut bytes = Vec::new();
        trace::return_path(None, &mut bytes);
        let return_path_length = u32::try_from(bytes.len()).expect("a Return-Path of nobody is short");
        bytes.extend_from_slice(&composed.bytes);
        let (recipients, routes) = readers.into_iter().unzip();
        let envelope = Envelope {
            sender: None,
            recipients,
            body: composed.body,
            smtputf8: composed.smtputf8,
            ..Envelope::default()
        };
        let accepted = Accepted { envelope, routes, ..Accepted::default() };
        Some((accepted, Body::Inline { bytes: Slice::from(bytes), return_path_length }))
    }

    fn fate(&self, told: &Told<'a>, now: Timestamp) -> Option<Fate<'a>> {
        let host = self.attempt.host.as_deref();
        let remote = host.filter(|_| told.origin == Origin::Peer);
        Some(Fate {
            recipient: self.envelope.recipients.get(told.recipient as usize)?,
            action: told.action,
            status: told.status,
            remote: remote.map(|host| Remote { host, reply: told.reply }),
            why: match told.origin {
                Origin::Peer => "",
                Origin::Local => &told.reply.text,
            },
            last_attempt: Some(now),
            retry_until: told.retry_until.map(|seconds| Timestamp { seconds, zone_minutes: 0 }),
            log_id: Some(self.log_id),
        })
    }
}

/// Who is told under which address, and where that mail goes, aliases opened: the sender; of a failed notification the
/// postmaster, and only here, so that no notification runs in circles (RFC 5321 6.1).
fn readers(
    directory: &Directory,
    envelope: &Envelope,
    told: &[&Told<'_>],
) -> Option<(Address, Vec<(Recipient, Route)>)> {
    let is_failure = told.iter().any(|told| told.action == Action::Failed);
    let postmaster = || Address { local: "postmaster".to_owned(), domain: String::new() };
    // RFC 3461 6: a notification asks for none itself. Of what does not reach a postmaster elsewhere nobody is told.
    let (address, notify) = match &envelope.sender {
        Some(sender) => (sender.clone(), None),
        None if is_failure => (postmaster(), Some(Notify::default())),
        None => return None,
    };
    let targets = match directory.resolve(&address) {
        Resolution::Local(targets) => targets,
        Resolution::NotLocal if envelope.sender.is_some() => vec![Target::Remote(address.clone())],
        Resolution::NotLocal | Resolution::UnknownUser => Vec::new(),
    };
    let reader = |target| {
        let (address, route) = match target {
            Target::Account(id) => (address.clone(), Route::Local(AccountId(id))),
            Target::Remote(other) => (other, Route::Remote),
        };
        (Recipient { notify, ..Recipient::new(address) }, route)
    };
    let readers: Vec<(Recipient, Route)> = targets.into_iter().map(reader).collect();
    (!readers.is_empty()).then_some((address, readers))
}

/// So many random bytes as hexadecimal digits.
fn unguessable(bytes: usize) -> String {
    let random: [u8; 16] = random::bytes();
    random.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
