//! From a client's words to the promise: what SMTP and the operator's `sendmail` share.
//!
//! [`judge`] says who gets mail for a recipient, [`owed`] what is promised to whom, and [`Incoming`] takes the
//! message in: small ones in memory, large ones in a file, mended where they are submissions.
//!
//! Invariants: a local recipient that nobody has is refused here and never bounced; nobody is promised a message
//! twice; the identity in the trace field is the message's own, or that of its large file.

use std::rc::Rc;

use super::Shard;
use super::commit::NotStored;
use super::deliver::Promise;
use super::intake::Intake;
use super::logged::Origin;
use crate::auth::{Directory, Resolution, Target};
use crate::config::Config;
use crate::io::{clock, random};
use crate::limits::BODY_IN_MEMORY_BYTES_MAX;
use crate::mail::address::Address;
use crate::mail::dsn::{self, Action};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::header::Header;
use crate::mail::label::label;
use crate::mail::submission::{self, Mending};
use crate::mail::trace::{self, LocalReceived};
use crate::proto::smtp::{MessageRefusal, RecipientVerdict, Role};
use crate::store::record::{Accepted, Route};
use crate::store::{AccountId, MessageId};

/// Stands in the trace field until the log has given the message its identity: as long as one.
pub const ID_PLACEHOLDER: &str = "------------";

/// Whether a client's mail for other domains is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relaying {
    Allowed,
    Denied,
}

/// Who gets mail for this address, or why nobody does. `bytes` is what the client says of its size.
pub fn judge(
    directory: &Directory,
    relaying: Relaying,
    bytes: u64,
    address: &Address,
) -> Result<Vec<Target>, RecipientVerdict> {
    let targets = match directory.resolve(address) {
        Resolution::Local(targets) => targets,
        Resolution::UnknownUser => return Err(RecipientVerdict::UnknownUser),
        Resolution::NotLocal => {
            return match relaying {
                Relaying::Allowed => Ok(vec![Target::Remote(address.clone())]),
                Relaying::Denied => Err(RecipientVerdict::RelayDenied),
            };
        }
    };
    let is_full = targets.iter().all(|target| match target {
        Target::Account(id) => directory.account(*id).is_some_and(|account| !account.has_room_for(bytes)),
        Target::Remote(_) => false,
    });
    if is_full { Err(RecipientVerdict::OverQuota) } else { Ok(targets) }
}

/// What is owed to whom: aliases opened, nobody twice. `targets` are those of the recipients, in their order.
pub fn owed(
    mut envelope: Envelope,
    targets: impl IntoIterator<Item = Vec<Target>>,
    login: Option<String>,
) -> Promise {
    let recipients = std::mem::take(&mut envelope.recipients);
    let is_answerable = dsn::is_answerable(&envelope);
    let (mut owed, mut expanded): (Vec<Recipient>, Vec<Recipient>) =
        (Vec::with_capacity(recipients.len()), Vec::new());
    let mut routes: Vec<Route> = Vec::with_capacity(recipients.len());
    for (mut recipient, targets) in recipients.into_iter().zip(targets) {
        // RFC 3461 5.2.7.3 (c): the sender hears that an alias for several was opened, and of no delivery to them.
        if targets.len() > 1 && dsn::wanted(Action::Expanded, recipient.notify) {
            expanded.extend(is_answerable.then(|| recipient.clone()));
            recipient.notify = recipient.notify.map(|notify| Notify { success: false, ..notify });
        }
        for target in targets {
            let (route, address) = match target {
                Target::Account(id) => (Route::Local(AccountId(id)), recipient.address.clone()),
                Target::Remote(address) => (Route::Remote, address),
            };
            let double = match route {
                Route::Local(_) => routes.iter().position(|of| *of == route),
                Route::Remote => {
                    let all = owed.iter().zip(&routes);
                    all.clone().position(|(other, of)| *of == route && other.address == address)
                }
            };
            match double {
                // Whoever asked for a notice of either gets it, under the name that it asked for.
                Some(first) => {
                    let notify = either(owed[first].notify, recipient.notify);
                    if notify != owed[first].notify {
                        owed[first] = Recipient { address, ..recipient.clone() };
                    }
                    owed[first].notify = notify;
                }
                None => {
                    owed.push(Recipient { address, ..recipient.clone() });
                    routes.push(route);
                }
            }
        }
    }
    envelope.recipients = owed;
    let accepted = Accepted { envelope, routes, login, tenant: None, campaign: None };
    Promise { accepted, expanded }
}

/// What the sender hears of a recipient whom it named twice, once perhaps by an alias: NEVER only if it said so both
/// times.
fn either(one: Option<Notify>, other: Option<Notify>) -> Option<Notify> {
    if one == other {
        return one;
    }
    let [one, other] = [one, other].map(|said| said.unwrap_or(dsn::UNSAID));
    Some(Notify {
        success: one.success || other.success,
        failure: one.failure || other.failure,
        delay: one.delay || other.delay,
    })
}

/// A message that is coming in.
pub struct Incoming {
    intake: Intake,
    /// Where in the message the sender's own bytes begin.
    prefix_length: usize,
    return_path_length: usize,
    /// Where the placeholder of the identity stands.
    id_offset: Option<usize>,
    /// Who sends, for a message that does not say. `None` if nobody is known.
    sender: Option<String>,
    /// Of the message's header.
    labels: Labels,
    origin: Origin,
}

/// Whose mail it is and of which campaign, as its header says.
#[derive(Default)]
struct Labels {
    tenant: Option<String>,
    campaign: Option<String>,
}

impl Incoming {
    /// `prefix` is the trace fields that the message will begin with, the first of which is Return-Path.
    pub fn begin(
        shard: &Shard,
        prefix: &[u8],
        return_path_length: usize,
        sender: Option<String>,
        origin: Origin,
    ) -> Self {
        Self {
            intake: Intake::new(shard.own_log()),
            prefix_length: prefix.len(),
            return_path_length,
            id_offset: memchr::memmem::find(&prefix[return_path_length..], ID_PLACEHOLDER.as_bytes())
                .map(|offset| return_path_length + offset),
            sender,
            labels: Labels::default(),
            origin,
        }
    }

    /// Takes a part that is too large for memory; the first one begins with the prefix.
    pub async fn spill(
        &mut self,
        mut part: Vec<u8>,
        role: Role,
        config: &Config,
    ) -> Result<(), MessageRefusal> {
        if !self.intake.is_large() {
            self.complete_front(&mut part, role, config, None)?;
        }
        self.intake.spill(part).await.map_err(not_stored)
    }

    /// Takes responsibility for the message. `body` is all of it, or what follows what was spilled.
    pub async fn store(
        mut self,
        shard: &Rc<Shard>,
        promise: Promise,
        mut body: Vec<u8>,
        role: Role,
    ) -> Result<MessageId, MessageRefusal> {
        let Promise { mut accepted, expanded } = promise;
        let is_large = self.intake.is_large();
        if !is_large {
            let id = shard.own_log().next_message();
            self.complete_front(&mut body, role, &shard.config(), Some(id))?;
        }
        let labels = std::mem::take(&mut self.labels);
        // Strangers send to local recipients alone, and their fields say nothing.
        if accepted.routes.contains(&Route::Remote) {
            let config = shard.config();
            let of_login = accepted.login.as_deref().and_then(|login| config.outbound.tenant_of(login));
            accepted.tenant = of_login.map(|tenant| tenant.name.clone()).or(labels.tenant);
            accepted.campaign = labels.campaign;
        }
        // Of a small message nothing waits here, so that the identity is still the next one.
        let complete = self.intake.finish(body, self.return_path_length).await.map_err(not_stored)?;
        let body = complete.into_body();
        shard.accept(Promise { accepted, expanded }, body, self.origin).await.map_err(not_stored)
    }

    /// The message's identity goes into its trace field; what a submission lacks goes behind that.
    fn complete_front(
        &mut self,
        message: &mut Vec<u8>,
        role: Role,
        config: &Config,
        id: Option<MessageId>,
    ) -> Result<(), MessageRefusal> {
        let text = id.map_or_else(large_id, |id| id.to_string());
        if let Some(offset) = self.id_offset
            && text.len() == ID_PLACEHOLDER.len()
        {
            message[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        }
        let own = &message[self.prefix_length..];
        let (tenant, campaign) = (&config.outbound.headers.tenant, &config.outbound.headers.campaign);
        if tenant.is_some() || campaign.is_some() {
            let header = Header::of(own);
            let named = |field: &Option<String>| label(&header, field.as_ref()?);
            self.labels = Labels { tenant: named(tenant), campaign: named(campaign) };
        }
        if role != Role::Submission {
            return Ok(());
        }
        let missing = submission::check(&Header::of(own)).map_err(|_| MessageRefusal::BadHeader)?;
        let sender = match self.sender.as_deref() {
            Some(sender) => sender,
            // Nobody could stand in the field.
            None if missing.from || missing.sender => return Err(MessageRefusal::BadHeader),
            None => "",
        };
        let mending = Mending { at: clock::timestamp(), unique: &text, host: &config.hostname, sender };
        let mut fields = Vec::new();
        submission::mend(missing, &mending, &mut fields);
        message.splice(self.prefix_length..self.prefix_length, fields);
        Ok(())
    }
}

/// An identity for the trace field of a message that is written before the log knows of it.
fn large_id() -> String {
    let random = u64::from_le_bytes(random::bytes());
    format!("L{:011X}", random & 0xFFF_FFFF_FFFF)
}

fn not_stored(why: NotStored) -> MessageRefusal {
    match why {
        NotStored::Full => MessageRefusal::NoSpace,
        NotStored::Failed | NotStored::TooLarge => MessageRefusal::Temporary,
    }
}

/// A message of somebody on this machine.
pub struct Submission {
    pub envelope: Envelope,
    /// With CRLF.
    pub message: Vec<u8>,
    /// The user id on this machine, for the trace field.
    pub user: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Submitted {
    /// `None` if there was nobody to whom it could be promised.
    pub id: Option<String>,
    /// Recipients that it is not promised to.
    pub refused: Vec<(Address, RecipientVerdict)>,
}

impl Shard {
    /// Takes responsibility for the message, for those of its recipients that there are.
    pub async fn submit(self: &Rc<Self>, submission: Submission) -> Result<Submitted, MessageRefusal> {
        let Submission { mut envelope, message, user } = submission;
        if self.is_backed_up() {
            return Err(MessageRefusal::NoSpace);
        }
        let directory = self.directory();
        let (mut targets, mut refused) = (Vec::new(), Vec::new());
        let size = message.len() as u64;
        envelope.recipients.retain(|recipient| {
            match judge(&directory, Relaying::Allowed, size, &recipient.address) {
                Ok(found) => targets.push(found),
                Err(verdict) => {
                    refused.push((recipient.address.clone(), verdict));
                    return false;
                }
            }
            true
        });
        if targets.is_empty() {
            return Ok(Submitted { id: None, refused });
        }
        let (incoming, mut body) = self.begin_local(&envelope, user);
        body.extend_from_slice(&message);
        let promise = owed(envelope, targets, None);
        let recipients = promise.accepted.routes.len();
        let sender = promise.accepted.envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = self.store_local(incoming, promise, body).await?;
        tracing::info!(%id, user, from = sender, recipients, size, "message accepted");
        Ok(Submitted { id: Some(id.to_string()), refused })
    }

    /// The trace fields of a message from this machine.
    fn begin_local(&self, envelope: &Envelope, user: u32) -> (Incoming, Vec<u8>) {
        let mut prefix = Vec::new();
        trace::return_path(envelope.sender.as_ref(), &mut prefix);
        let return_path_length = prefix.len();
        let recipient = match envelope.recipients.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        };
        let config = self.config();
        let at = clock::timestamp();
        LocalReceived { host: &config.hostname, user, id: ID_PLACEHOLDER, recipient, at }.render(&mut prefix);
        let origin = Origin { peer: None, protocol: "LOCAL" };
        let sender = envelope.sender.as_ref().map(ToString::to_string);
        (Incoming::begin(self, &prefix, return_path_length, sender, origin), prefix)
    }

    async fn store_local(
        self: &Rc<Self>,
        mut incoming: Incoming,
        promise: Promise,
        mut body: Vec<u8>,
    ) -> Result<MessageId, MessageRefusal> {
        if body.len() > BODY_IN_MEMORY_BYTES_MAX {
            let rest = body.split_off(BODY_IN_MEMORY_BYTES_MAX);
            incoming.spill(std::mem::replace(&mut body, rest), Role::Submission, &self.config()).await?;
            for part in std::mem::take(&mut body).chunks(BODY_IN_MEMORY_BYTES_MAX) {
                incoming.spill(part.to_vec(), Role::Submission, &self.config()).await?;
            }
        }
        incoming.store(self, promise, body, Role::Submission).await
    }
}

#[cfg(test)]
mod tests {
    use super::owed;
    use crate::auth::Target;
    use crate::mail::address::Address;
    use crate::mail::envelope::{Envelope, Notify, Recipient};

    fn address(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    #[test]
    fn an_alias_for_several_is_told_in_the_place_of_their_deliveries() {
        let notify = Notify { success: true, failure: true, delay: false };
        let names = ["one@here.test", "all@here.test", "info@here.test"];
        let recipient = |name| Recipient { notify: Some(notify), ..Recipient::new(address(name)) };
        let mut envelope = Envelope {
            sender: Some(address("ann@here.test")),
            recipients: names.map(recipient).to_vec(),
            ..Envelope::default()
        };
        let far = Target::Remote(address("far@away.test"));
        let targets =
            || [vec![Target::Account(1)], vec![Target::Account(2), far.clone()], vec![Target::Account(3)]];
        let promise = owed(envelope.clone(), targets(), None);
        let told: Vec<_> = promise.expanded.iter().map(|alias| alias.address.to_string()).collect();
        assert_eq!(told, ["all@here.test"]);
        let wishes = promise.accepted.envelope.recipients.iter().map(|recipient| recipient.notify);
        let failure = Some(Notify { success: false, ..notify });
        assert_eq!(wishes.collect::<Vec<_>>(), [Some(notify), failure, failure, Some(notify)]);
        envelope.sender = None;
        assert_eq!(owed(envelope, targets(), None).expanded, []);
    }

    #[test]
    fn who_is_named_twice_hears_what_either_asked_for() {
        let wish = |success, failure, delay| Some(Notify { success, failure, delay });
        let (all, never) = (wish(true, true, true), Some(Notify::default()));
        let owed_to_bob = |team: Option<Notify>, bob: Option<Notify>| {
            let recipient = |name, notify| Recipient { notify, ..Recipient::new(address(name)) };
            let recipients = vec![recipient("team@here.test", team), recipient("bob@here.test", bob)];
            let envelope = Envelope { recipients, ..Envelope::default() };
            let of_team = vec![Target::Account(1), Target::Account(2)];
            let mut all =
                owed(envelope, [of_team, vec![Target::Account(2)]], None).accepted.envelope.recipients;
            assert_eq!(all.len(), 2);
            let bob = all.remove(1);
            (bob.address.local, bob.notify)
        };
        let bob = |notify| ("bob".to_owned(), notify);
        assert_eq!(owed_to_bob(all, all), bob(all));
        assert_eq!(owed_to_bob(wish(true, false, false), all), bob(all));
        assert_eq!(owed_to_bob(wish(true, false, false), None), bob(wish(false, true, true)));
        assert_eq!(owed_to_bob(never, wish(false, true, false)), bob(wish(false, true, false)));
        assert_eq!(owed_to_bob(wish(false, true, false), never).1, wish(false, true, false));
        assert_eq!(owed_to_bob(never, never).1, never);
        assert_eq!(owed_to_bob(None, None).1, None);
    }
}
