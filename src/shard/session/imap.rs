//! IMAP before login, on whatever shard the connection came to.

use std::io;
use std::rc::Rc;

use super::{Engine, Front, bindings, is_trusted, settle};
use crate::config::{Limits, TlsMode};
use crate::io::net::{Conn, Filled};
use crate::io::{clock, random};
use crate::proto::imap::server::{Channel, Event, Outcome, Refusal, Server, Settings};
use crate::proto::sasl::Nonce;
use crate::shard::Shard;
use crate::shard::imap::Session;
use crate::shard::login::{Admitted, NotAdmitted, Tries};

/// Serves a client until it has logged in or gone.
pub async fn serve(shard: Rc<Shard>, front: Front) -> io::Result<()> {
    let settings = settings(&shard.config().limits, front.config.tls);
    let channel = match front.conn.tls() {
        Some(_) => Channel::Tls(bindings(&front.conn)),
        None if is_trusted(&front) => Channel::Trusted,
        None => Channel::Clear,
    };
    let mut engine = Box::new(Server::new(settings, channel, clock::now()));
    let Front { mut conn, counted, .. } = front;
    engine.greet(conn.out());
    let mut tries = Tries::of(conn.peer().ip());
    loop {
        while let Some(event) = next_event(&mut conn, &mut engine) {
            let admitted = match event {
                Event::Close => {
                    conn.flush().await?;
                    conn.close_gently().await;
                    return Ok(());
                }
                Event::StartTls => {
                    conn.start_tls(shard.tls().session()?).await?;
                    engine.handle_tls(bindings(&conn), clock::now());
                    continue;
                }
                Event::Lookup(identity) => {
                    let outcome = match Box::pin(tries.verifier(&shard, &identity)).await {
                        Ok(verifier) => Outcome::Verifier(Some(verifier), Nonce(random::bytes())),
                        Err(reason) => Outcome::Refused(refusal(reason)),
                    };
                    engine.handle_done(outcome, conn.out(), clock::now());
                    continue;
                }
                Event::Rejected(identity) => {
                    tries.reject(&shard, &identity);
                    continue;
                }
                Event::Verify(credentials) => Box::pin(tries.password(&shard, &credentials)).await,
                Event::Admit(identity) => tries.admit(&shard, &identity),
                // Without a login there is no mailbox; the engine does not ask.
                _ => continue,
            };
            match admitted {
                Ok(admitted) => {
                    conn.flush().await?;
                    return settle(&shard, conn, Engine::Imap(engine), (admitted, counted)).await;
                }
                Err(reason) => {
                    let outcome = Outcome::Refused(refusal(reason));
                    engine.handle_done(outcome, conn.out(), clock::now());
                }
            }
        }
        conn.flush().await?;
        conn.set_deadline(engine.deadline());
        match conn.fill().await? {
            Filled::Input => {}
            Filled::End => return Ok(()),
            Filled::Deadline if shard.is_stopping() => {
                engine.handle_shutdown(conn.out(), "The server stops; come back soon");
            }
            Filled::Deadline => engine.handle_timeout(conn.out(), clock::now()),
        }
    }
}

fn settings(limits: &Limits, tls: TlsMode) -> Settings {
    Settings {
        message_bytes_max: limits.message_bytes,
        starttls: tls == TlsMode::Starttls,
        login_s: limits.login_s,
        idle_s: limits.imap_idle_s,
    }
}

/// Goes on after login, on the shard that owns the account.
pub async fn run(
    shard: &Rc<Shard>,
    mut conn: Box<Conn>,
    engine: Box<Server>,
    admitted: &Admitted,
) -> io::Result<()> {
    // Boxed, so that a session that idles for hours does not carry the room for opening an account.
    let Some(seat) = Box::pin(shard.open_seat(admitted.account, admitted.log)).await else {
        let mut engine = engine;
        engine.handle_done(Outcome::Refused(Refusal::Unavailable), conn.out(), clock::now());
        conn.flush().await?;
        conn.close_gently().await;
        return Ok(());
    };
    tracing::info!(peer = %conn.peer(), login = %admitted.login, tls = conn.tls().is_some(), "IMAP login");
    Box::new(Session::new(Rc::clone(shard), conn, engine, seat)).run().await
}

/// Lets the engine take input until it asks for something or has taken all.
fn next_event(conn: &mut Conn, engine: &mut Server) -> Option<Event> {
    loop {
        let (input, out) = conn.input_and_out();
        let taken = engine.handle_bytes(input, out, clock::now());
        conn.consume(taken);
        let event = engine.poll_event();
        if event.is_some() || taken == 0 || conn.input().is_empty() {
            return event;
        }
    }
}

fn refusal(reason: NotAdmitted) -> Refusal {
    match reason {
        NotAdmitted::Wrong => Refusal::Credentials,
        NotAdmitted::Authorization => Refusal::Authorization,
        NotAdmitted::Unavailable => Refusal::Unavailable,
    }
}
