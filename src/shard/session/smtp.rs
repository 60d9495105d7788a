//! SMTP sessions: mail exchange and submission.
//!
//! A session stays on the shard that accepted it. Recipients are resolved in the shared snapshot of the
//! directory; the complete message goes to `deliver`, and its 250 out when the log has synced it.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::{Front, bindings};
use crate::auth::Target;
use crate::config::{Protocol as Listening, TlsMode};
use crate::io::net::{Conn, Filled};
use crate::io::share::breathe;
use crate::io::{clock, random};
use crate::limits;
use crate::mail::address::Address;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::trace::{self, Dialect, Protocol, Received};
use crate::proto::sasl::{Credentials, Identity, Mechanism, Nonce};
use crate::proto::smtp::{
    Event, LoginVerdict, MessageRefusal, Outcome, Policy, RecipientVerdict, Role, SenderVerdict, Server,
    Session, Tls, Transaction,
};
use crate::shard::Shard;
use crate::shard::deliver::Promise;
use crate::shard::logged::Origin;
use crate::shard::login::{Admitted, NotAdmitted, Tries};
use crate::shard::submit::{self, ID_PLACEHOLDER, Incoming, Relaying, owed};
use crate::store::record::Accepted;

/// Room for the trace fields and a message as most are, so that it does not move while it grows.
const MESSAGE_BYTES: usize = 6 << 10;

/// A session with what its engine does not know.
struct Smtp {
    shard: Rc<Shard>,
    conn: Box<Conn>,
    engine: Server,
    role: Role,
    peer: IpAddr,
    /// The account that has logged in.
    login: Option<Admitted>,
    tries: Tries,
    /// Where the accepted recipients of the open transaction go, in their order.
    targets: Vec<Vec<Target>>,
    /// What the recipients of the open transaction take, here and in the engine.
    recipients_bytes: usize,
    /// The message that is coming in.
    incoming: Option<Incoming>,
}

/// What an event leaves to be done that needs the whole session.
enum Step {
    Done(Outcome),
    Continue,
    Spill(Vec<u8>),
    Store(Envelope, Vec<u8>),
    Password(Credentials),
    Verifier(Identity),
    StartTls,
    Close,
}

/// Serves a client to its end.
pub async fn serve(shard: Rc<Shard>, front: Front) -> io::Result<()> {
    let Front { mut conn, config, counted } = front;
    let _counted = counted;
    let role = match config.protocol {
        Listening::Submission => Role::Submission,
        _ => Role::Relay,
    };
    let server_config = shard.config();
    let policy = Policy {
        hostname: server_config.hostname.clone(),
        role,
        is_tls_available: config.tls == TlsMode::Starttls,
        message_bytes_max: server_config.limits.message_bytes,
        recipients_max: server_config.limits.recipients,
        idle_s: server_config.limits.smtp_idle_s,
        mails_max: None,
        hold_s_max: limits::smtp::HOLD_S_MAX,
        deliver_by_s_min: limits::smtp::DELIVER_BY_S_MIN,
        mechanisms: Mechanism::ALL.to_vec(),
    };
    let tls = tls_facts(&conn);
    let engine = Server::new(Rc::new(policy), tls, conn.out(), clock::instant());
    let peer = conn.peer().ip();
    let smtp = Smtp {
        shard,
        conn,
        engine,
        role,
        peer,
        login: None,
        tries: Tries::of(peer),
        targets: Vec::new(),
        recipients_bytes: 0,
        incoming: None,
    };
    smtp.run().await
}

impl Smtp {
    async fn run(mut self) -> io::Result<()> {
        loop {
            if !self.take_input().await? {
                self.conn.flush().await?;
                self.conn.close_gently().await;
                return Ok(());
            }
            self.conn.flush().await?;
            self.conn.set_deadline(self.engine.deadline());
            match self.conn.fill().await? {
                Filled::Input => {}
                Filled::End => return Ok(()),
                Filled::Deadline if self.shard.is_stopping() => self.engine.shut_down(self.conn.out()),
                Filled::Deadline => self.engine.handle_timeout(self.conn.out(), clock::instant()),
            }
        }
    }

    /// Lets the engine take all input and answers its questions. False when the session is over.
    async fn take_input(&mut self) -> io::Result<bool> {
        loop {
            let (input, out) = self.conn.input_and_out();
            let taken = self.engine.handle_bytes(input, out, clock::now());
            self.conn.consume(taken);
            let mut asked = false;
            while let Some(step) = self.next_step() {
                asked = true;
                let outcome = match step {
                    Step::Done(outcome) => outcome,
                    Step::Continue => continue,
                    Step::Spill(part) => Box::pin(self.spill(part)).await,
                    Step::Store(envelope, body) => {
                        Outcome::Message(Box::pin(self.store(envelope, body)).await)
                    }
                    Step::Password(credentials) => {
                        let checked = Box::pin(self.tries.password(&self.shard, &credentials)).await;
                        Outcome::Login(self.log_in(checked))
                    }
                    Step::Verifier(identity) => {
                        match Box::pin(self.tries.verifier(&self.shard, &identity)).await {
                            Ok(verifier) => {
                                Outcome::Verifier { verifier: Some(verifier), nonce: Nonce(random::bytes()) }
                            }
                            Err(reason) => Outcome::Login(verdict(reason)),
                        }
                    }
                    Step::StartTls => {
                        self.start_tls().await?;
                        continue;
                    }
                    Step::Close => return Ok(false),
                };
                self.engine.handle_done(outcome, self.conn.out(), clock::instant());
            }
            if !asked && (taken == 0 || self.conn.input().is_empty()) {
                return Ok(true);
            }
            breathe().await;
        }
    }

    /// The engine's next question, answered where that takes no waiting.
    fn next_step(&mut self) -> Option<Step> {
        let Self { shard, engine, role, peer, login, tries, targets, recipients_bytes, incoming, conn } =
            self;
        let step = match engine.poll_event()? {
            Event::Sender { transaction, .. } => {
                targets.clear();
                *recipients_bytes = 0;
                let verdict = judge_sender(shard, *role, *peer, login.as_ref(), transaction);
                Step::Done(Outcome::Sender(verdict))
            }
            Event::Recipient { transaction, recipient, .. } => {
                let (mut verdict, found) =
                    judge_recipient(shard, *peer, login.as_ref(), transaction, recipient);
                if let Some(found) = found {
                    let bytes = *recipients_bytes + bytes_for(recipient, &found);
                    let room = shard.session_memory_bytes() - limits::smtp::TRANSACTION_RESERVE_BYTES;
                    match bytes <= room {
                        true => {
                            *recipients_bytes = bytes;
                            targets.push(found);
                        }
                        // The client sends to the rest in another transaction (RFC 5321 4.5.3.1.10).
                        false => verdict = RecipientVerdict::TooMany,
                    }
                }
                Step::Done(Outcome::Recipient(verdict))
            }
            Event::Begin { session, transaction } => {
                let (begun, prefix) = begin(shard, conn, session, transaction);
                *incoming = Some(begun);
                Step::Done(Outcome::Begin { prefix })
            }
            Event::BodyFull(part) => Step::Spill(part),
            Event::Message { envelope, body } => Step::Store(envelope, body),
            Event::Aborted => {
                *incoming = None;
                Step::Continue
            }
            Event::StartTls => Step::StartTls,
            Event::Password(credentials) => Step::Password(credentials),
            Event::Verifier(identity) => Step::Verifier(identity.clone()),
            Event::Rejected(identity) => {
                tries.reject(shard, &identity);
                Step::Continue
            }
            Event::Proved(identity) => {
                let admitted = tries.admit(shard, &identity);
                Step::Done(Outcome::Login(self.log_in(admitted)))
            }
            Event::Refused(refusal) => {
                let address = refusal.address.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::info!(%peer, verb = refusal.verb, reply = refusal.reply.line(), address, "refused");
                shard.log_rejection(*peer, &refusal);
                Step::Continue
            }
            Event::Close => Step::Close,
        };
        Some(step)
    }

    fn log_in(&mut self, admitted: Result<Admitted, NotAdmitted>) -> LoginVerdict {
        match admitted {
            Ok(admitted) => {
                tracing::info!(peer = %self.peer, login = %admitted.login, "SMTP login");
                let login = admitted.login.clone();
                self.login = Some(admitted);
                LoginVerdict::Accepted { login }
            }
            Err(reason) => verdict(reason),
        }
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        self.conn.start_tls(self.shard.tls().session()?).await?;
        let tls = tls_facts(&self.conn).ok_or(io::ErrorKind::InvalidData)?;
        self.engine.handle_tls(tls, clock::instant());
        Ok(())
    }

    async fn spill(&mut self, part: Vec<u8>) -> Outcome {
        let Some(incoming) = &mut self.incoming else {
            return Outcome::Refuse(MessageRefusal::Temporary);
        };
        match incoming.spill(part, self.role, &self.shard.config()).await {
            Ok(()) => Outcome::Continue { spare: Vec::new() },
            Err(refusal) => {
                self.incoming = None;
                Outcome::Refuse(refusal)
            }
        }
    }

    /// Keeps the message. The log line is written when it is safe, before the client knows.
    async fn store(&mut self, envelope: Envelope, body: Vec<u8>) -> Result<String, MessageRefusal> {
        let incoming = self.incoming.take().ok_or(MessageRefusal::Temporary)?;
        let size = body.len();
        let promise = self.promise(envelope);
        let Accepted { envelope, routes, .. } = &promise.accepted;
        let (recipients, priority) = (routes.len(), envelope.priority);
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = incoming.store(&self.shard, promise, body, self.role).await?;
        tracing::info!(%id, peer = %self.peer, from = sender, recipients, size, priority, "message accepted");
        Ok(id.to_string())
    }

    /// What is owed to whom.
    fn promise(&mut self, envelope: Envelope) -> Promise {
        let login = self.login.as_ref().map(|admitted| admitted.login.clone());
        owed(envelope, self.targets.drain(..), login)
    }
}

fn verdict(reason: NotAdmitted) -> LoginVerdict {
    match reason {
        NotAdmitted::Wrong | NotAdmitted::Authorization => LoginVerdict::Refused,
        NotAdmitted::Unavailable => LoginVerdict::Unavailable,
    }
}

/// Whether this sender may be used: on submission it must be the login's own (RFC 6409 6.1).
fn judge_sender(
    shard: &Shard,
    role: Role,
    peer: IpAddr,
    login: Option<&Admitted>,
    transaction: &Transaction,
) -> SenderVerdict {
    if shard.is_backed_up() {
        return SenderVerdict::NoSpace;
    }
    match (role, login, &transaction.envelope.sender) {
        // It was removed meanwhile.
        (_, Some(login), _) if !shard.directory().is_open(login.account.0) => SenderVerdict::Denied,
        // On port 25 too: a login there is no way around the check.
        (_, Some(login), Some(sender)) => match shard.directory().may_send_as(login.account.0, sender) {
            true => SenderVerdict::Accepted,
            false => SenderVerdict::NotOwned,
        },
        (_, Some(_), None) => SenderVerdict::Accepted,
        (Role::Submission, None, _) => SenderVerdict::Denied,
        (Role::Relay, None, _) if is_relay_client(shard, peer) => SenderVerdict::Accepted,
        // RFC 6710 4.1: a stranger may put his mail behind that of others, not in front.
        (Role::Relay, None, _) => SenderVerdict::Capped { priority_max: 0 },
    }
}

/// Whether this client may send to anywhere without a login.
fn is_relay_client(shard: &Shard, peer: IpAddr) -> bool {
    shard.config().relay_allow.iter().any(|network| network.contains(peer))
}

/// Who gets mail for this recipient, or why nobody does.
fn judge_recipient(
    shard: &Shard,
    peer: IpAddr,
    login: Option<&Admitted>,
    transaction: &Transaction,
    recipient: &Recipient,
) -> (RecipientVerdict, Option<Vec<Target>>) {
    let is_ours = login.is_some_and(|login| shard.directory().is_open(login.account.0));
    let relaying = match is_ours || is_relay_client(shard, peer) {
        true => Relaying::Allowed,
        false => Relaying::Denied,
    };
    let bytes = transaction.declared_bytes.unwrap_or(0);
    match submit::judge(&shard.directory(), relaying, bytes, &recipient.address) {
        Ok(targets) => (RecipientVerdict::Accepted, Some(targets)),
        Err(verdict) => (verdict, None),
    }
}

/// What a recipient takes until the message is stored: itself, where it goes, and a copy of it for each of those.
fn bytes_for(recipient: &Recipient, targets: &[Target]) -> usize {
    let beside = |target: &Target| match target {
        Target::Account(_) => 0,
        Target::Remote(address) => 2 * (address.local.len() + address.domain.len()),
    };
    let targets_bytes = size_of_val(targets) + targets.iter().map(beside).sum::<usize>();
    recipient.held_bytes() * (1 + targets.len()) + targets_bytes
}

/// The trace fields that the message will begin with.
fn begin(shard: &Shard, conn: &Conn, session: &Session, transaction: &Transaction) -> (Incoming, Vec<u8>) {
    let Envelope { sender, recipients, smtputf8, priority, .. } = &transaction.envelope;
    let mut prefix = Vec::with_capacity(MESSAGE_BYTES);
    trace::return_path(sender.as_ref(), &mut prefix);
    let return_path_length = prefix.len();
    let only: Option<&Address> = match recipients.as_slice() {
        [only] => Some(&only.address),
        _ => None,
    };
    let greeting = session.greeting.as_ref();
    let dialect = match greeting.is_some_and(|greeting| greeting.is_esmtp) {
        true => Dialect::Esmtp,
        false => Dialect::Smtp,
    };
    let received = Received {
        greeting: greeting.map_or(&b""[..], |greeting| greeting.name.as_bytes()),
        reverse_name: None,
        client: conn.peer().ip(),
        host: &shard.config().hostname,
        protocol: Protocol {
            dialect,
            tls: session.tls.is_some(),
            authenticated: session.login.is_some(),
            smtputf8: *smtputf8,
        },
        id: ID_PLACEHOLDER,
        recipient: only,
        cipher: session.tls.as_ref().map(|tls| tls.cipher.as_str()),
        priority: transaction.has_priority.then_some(*priority),
        at: clock::timestamp(),
    };
    received.render(&mut prefix);
    let origin = Origin { peer: Some(conn.peer().ip()), protocol: received.protocol.keyword() };
    // Of a message from nobody, such as a receipt, its author is still who logged in.
    let author = sender.as_ref().map(ToString::to_string).or_else(|| session.login.clone());
    let incoming = Incoming::begin(shard, &prefix, return_path_length, author, origin);
    (incoming, prefix)
}

fn tls_facts(conn: &Conn) -> Option<Tls> {
    let tls = conn.tls()?;
    Some(Tls { cipher: tls.cipher().unwrap_or_default(), bindings: bindings(conn) })
}
