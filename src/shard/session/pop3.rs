//! POP3 sessions: before login where the connection came to, after it at the owner of the account.

use std::io;
use std::rc::Rc;

use super::{Engine, Front, bindings, is_trusted, settle};
use crate::config::{Limits, TlsMode};
use crate::io::net::{Conn, Filled};
use crate::io::share::breathe;
use crate::io::{clock, random};
use crate::limits::pop3::OUTPUT_BURST_BYTES;
use crate::mail::line_ends;
use crate::mail::set::Ranges;
use crate::mailbox::plan::Doomed;
use crate::proto::pop3::{
    Channel, CommitVerdict, Event, LoginVerdict, Maildrop, MessageFailure, OpenFailure, Outcome, Server, Tls,
};
use crate::proto::sasl::Nonce;
use crate::shard::Shard;
use crate::shard::login::{Admitted, NotAdmitted, Tries};
use crate::shard::seat::Seat;

const INBOX: &str = "INBOX";

/// Serves a client until it has logged in or gone.
pub async fn serve(shard: Rc<Shard>, front: Front) -> io::Result<()> {
    let channel = channel(&shard.config().limits, &front);
    let Front { mut conn, counted, .. } = front;
    let mut engine = Box::new(Server::new(channel, conn.out(), clock::instant()));
    let mut admitted = None;
    let mut tries = Tries::of(conn.peer().ip());
    loop {
        while let Some(event) = next_event(&mut conn, &mut engine) {
            let checked = match event {
                Event::Close => return close(conn).await,
                Event::StartTls => {
                    conn.start_tls(shard.tls().session()?).await?;
                    engine.handle_tls(bindings(&conn), clock::instant());
                    continue;
                }
                Event::Verifier(identity) => {
                    let outcome = match Box::pin(tries.verifier(&shard, &identity)).await {
                        Ok(verifier) => {
                            Outcome::Verifier { verifier: Some(verifier), nonce: Nonce(random::bytes()) }
                        }
                        Err(reason) => Outcome::Login(verdict(reason)),
                    };
                    engine.handle_done(outcome, conn.out(), clock::instant());
                    continue;
                }
                Event::Rejected(identity) => {
                    tries.reject(&shard, &identity);
                    continue;
                }
                Event::Open => {
                    conn.flush().await?;
                    let Some(admitted) = admitted.take() else {
                        return close(conn).await;
                    };
                    return settle(&shard, conn, Engine::Pop3(engine), (admitted, counted)).await;
                }
                Event::Password(credentials) => Box::pin(tries.password(&shard, &credentials)).await,
                Event::Proved(identity) => tries.admit(&shard, &identity),
                // Without a login there is no maildrop; the engine does not ask.
                Event::Retrieve { .. } | Event::Commit(_) => continue,
            };
            let verdict = checked.as_ref().map_or_else(|reason| verdict(*reason), |_| LoginVerdict::Accepted);
            admitted = checked.ok();
            engine.handle_done(Outcome::Login(verdict), conn.out(), clock::instant());
        }
        if !wait(&shard, &mut conn, &mut engine).await? {
            return Ok(());
        }
    }
}

fn channel(limits: &Limits, front: &Front) -> Channel {
    Channel {
        tls: match front.config.tls {
            _ if front.conn.tls().is_some() => Tls::Active(bindings(&front.conn)),
            TlsMode::Starttls => Tls::Offered,
            _ => Tls::Unavailable,
        },
        takes_clear_passwords: is_trusted(front),
        login_s: limits.login_s,
        idle_s: limits.pop3_idle_s,
    }
}

/// Goes on after login, on the shard that owns the account.
pub async fn run(
    shard: &Rc<Shard>,
    mut conn: Box<Conn>,
    mut engine: Box<Server>,
    admitted: &Admitted,
) -> io::Result<()> {
    let seat = shard.open_seat(admitted.account, admitted.log).await;
    tracing::info!(peer = %conn.peer(), login = %admitted.login, tls = conn.tls().is_some(), "POP3 login");
    let opened = seat.as_ref().ok_or(OpenFailure::Unavailable).and_then(|seat| open(shard, &conn, seat));
    let failure = opened.as_ref().err().copied();
    engine.handle_done(Outcome::Opened(opened), conn.out(), clock::instant());
    if let Some(failure) = failure {
        tracing::warn!(login = %admitted.login, ?failure, "a maildrop is not opened");
        // Another login would belong to another shard.
        return close(conn).await;
    }
    let is_gone = || seat.as_ref().is_some_and(|seat| seat.is_gone());
    seat.iter().for_each(|seat| seat.welcome(&conn));
    loop {
        while let Some(event) = next_event(&mut conn, &mut engine) {
            let outcome = match event {
                Event::Close => return close(conn).await,
                Event::Retrieve { uid, .. } => {
                    let seat = seat.as_ref().ok_or(MessageFailure::Unavailable);
                    Outcome::Message(seat.and_then(|seat| retrieve(shard, seat, uid)))
                }
                Event::Commit(uids) => Outcome::Committed(match &seat {
                    Some(seat) => commit(seat, &uids).await,
                    None => CommitVerdict::Failed,
                }),
                _ => continue,
            };
            engine.handle_done(outcome, conn.out(), clock::instant());
            send_rest(&mut conn, &mut engine).await?;
            breathe().await;
        }
        // RFC 1939 has no last word for who is sent away.
        if is_gone() {
            return close(conn).await;
        }
        if !wait(shard, &mut conn, &mut engine).await? {
            return Ok(());
        }
        if is_gone() {
            return close(conn).await;
        }
    }
}

/// The INBOX as it is now. A message that was not looked at yet since it came is read here: what its last line lacks
/// is sent, and so counts.
fn open(shard: &Shard, conn: &Conn, seat: &Seat) -> Result<Maildrop, OpenFailure> {
    let account = seat.account();
    let inbox = account.named(INBOX).ok_or(OpenFailure::Unavailable)?;
    // What comes on top is bounded: a line, and a burst of a reply.
    let held_bytes = conn.held_bytes() + OUTPUT_BURST_BYTES + Maildrop::held_bytes_of(inbox.uids().len());
    if held_bytes > shard.session_memory_bytes() {
        return Err(OpenFailure::TooLarge);
    }
    let messages = inbox.places().map(|(uid, locator, is_ended)| {
        let is_ended = is_ended.or_else(|| shard.read(&locator).map(|message| line_ends::is_ended(&message)));
        let missing = if is_ended == Some(false) { 2 } else { 0 };
        (uid, locator.length + missing)
    });
    Ok(Maildrop::new(inbox.uid_validity(), messages))
}

fn retrieve(shard: &Shard, seat: &Seat, uid: u32) -> Result<crate::bytes::Slice, MessageFailure> {
    let account = seat.account();
    let row = account.named(INBOX).and_then(|inbox| inbox.row(uid)).ok_or(MessageFailure::Gone)?;
    shard.read(&row.locator).ok_or(MessageFailure::Damaged)
}

/// Removes the marked messages, those that are still there, before QUIT gets its +OK.
async fn commit(seat: &Seat, uids: &Ranges) -> CommitVerdict {
    let planned = {
        let mut account = seat.account_mut();
        let inbox = account.named(INBOX).map(|inbox| inbox.id());
        inbox.map(|inbox| account.plan_expunge(inbox, Doomed::These(uids)))
    };
    let Some(Ok(plan)) = planned else {
        return CommitVerdict::Failed;
    };
    match seat.carry_out(plan).await {
        Ok(_) => CommitVerdict::Durable,
        Err(_) => CommitVerdict::Failed,
    }
}

/// Sends a long response to its end, burst by burst.
async fn send_rest(conn: &mut Conn, engine: &mut Server) -> io::Result<()> {
    while engine.is_sending() {
        conn.flush().await?;
        engine.poll_more(conn.out(), clock::instant());
    }
    Ok(())
}

/// Sends what is due and waits for input. False when the client is gone.
async fn wait(shard: &Shard, conn: &mut Conn, engine: &mut Server) -> io::Result<bool> {
    send_rest(conn, engine).await?;
    conn.flush().await?;
    if !conn.input().is_empty() {
        breathe().await;
        return Ok(true);
    }
    conn.set_deadline(engine.deadline());
    match conn.fill().await? {
        Filled::Input => Ok(true),
        Filled::End => Ok(false),
        Filled::Deadline if shard.is_stopping() => {
            conn.close_gently().await;
            Ok(false)
        }
        Filled::Deadline => {
            engine.handle_timeout(clock::instant());
            Ok(true)
        }
    }
}

async fn close(mut conn: Box<Conn>) -> io::Result<()> {
    conn.flush().await?;
    conn.close_gently().await;
    Ok(())
}

/// Lets the engine take input until it asks for something, has a long response to send, or has taken all.
fn next_event(conn: &mut Conn, engine: &mut Server) -> Option<Event> {
    loop {
        let (input, out) = conn.input_and_out();
        let taken = engine.handle_bytes(input, out, clock::instant());
        conn.consume(taken);
        let event = engine.poll_event();
        if event.is_some() || taken == 0 || conn.input().is_empty() || engine.is_sending() {
            return event;
        }
    }
}

fn verdict(reason: NotAdmitted) -> LoginVerdict {
    match reason {
        NotAdmitted::Wrong | NotAdmitted::Authorization => LoginVerdict::Refused,
        NotAdmitted::Unavailable => LoginVerdict::Unavailable,
    }
}
