//! What happens on a connection: an engine between the socket and the rest of the shard.
//!
//! SMTP sessions stay on the shard that accepted them. IMAP and POP3 sessions move to the owner of their
//! account once, at login: socket, TLS state, engine and unread input travel as [`Moved`].

mod imap;
mod pop3;
mod smtp;

use std::io;
use std::rc::Rc;

use super::login::Admitted;
use super::{Session, Shard};
use crate::config::{self, Protocol, TlsMode};
use crate::io::net::{Conn, Counted, Parcel};
use crate::proto::sasl::Bindings;

/// A connection with what its listener says about it.
pub struct Front {
    pub conn: Box<Conn>,
    pub config: config::Listener,
    pub counted: Counted,
}

/// A session on its way to the owner of its account. The login still waits for its answer.
pub struct Moved {
    pub parcel: Parcel,
    pub engine: Engine,
    pub admitted: Admitted,
    pub counted: Counted,
}

/// The engines whose sessions move.
pub enum Engine {
    Imap(Box<crate::proto::imap::server::Server>),
    Pop3(Box<crate::proto::pop3::Server>),
}

/// Serves a fresh connection to its end.
pub async fn serve(shard: Rc<Shard>, mut front: Front) {
    let peer = front.conn.peer();
    let _session = shard.count_session();
    let served = async {
        if front.config.tls == TlsMode::Implicit {
            front.conn.start_tls(shard.tls().session()?).await?;
        }
        match front.config.protocol {
            Protocol::Smtp | Protocol::Submission => smtp::serve(Rc::clone(&shard), front).await,
            Protocol::Imap => imap::serve(Rc::clone(&shard), front).await,
            Protocol::Pop3 => pop3::serve(Rc::clone(&shard), front).await,
        }
    };
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "connection lost");
    }
}

/// Goes on with a session that came from another shard.
pub async fn resume(shard: Rc<Shard>, moved: Moved, session: Session) {
    let Moved { parcel, engine, admitted, counted } = moved;
    let _session = (session, counted);
    let conn = Box::new(Conn::unpack(parcel, &shard.sockets, &shard.deadlines));
    let peer = conn.peer();
    let served = match engine {
        Engine::Imap(engine) => imap::run(&shard, conn, engine, &admitted).await,
        Engine::Pop3(engine) => pop3::run(&shard, conn, engine, &admitted).await,
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection lost");
    }
}

/// Sends a connection away that is one too many.
pub async fn refuse(mut conn: Box<Conn>, protocol: Protocol) {
    conn.out().push(match protocol {
        Protocol::Smtp | Protocol::Submission => b"421 4.3.2 Too many connections, try again later\r\n",
        Protocol::Imap => b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n",
        Protocol::Pop3 => b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
    });
    // Whoever is gone already needs no refusal.
    let _ = conn.flush().await;
    conn.close().await;
}

/// Hands a logged-in session to the shard that drives the account's log, which may be this one.
async fn settle(
    shard: &Rc<Shard>,
    conn: Box<Conn>,
    engine: Engine,
    login: (Admitted, Counted),
) -> io::Result<()> {
    let (admitted, counted) = login;
    let owner = shard.mesh.driver_of(admitted.log);
    let moved = Moved { parcel: conn.pack().await?, engine, admitted, counted };
    shard.mesh.post(owner, super::mesh::Letter::Session(Box::new(moved)));
    Ok(())
}

/// What binds SASL to the connection's TLS; empty in the clear.
fn bindings(conn: &Conn) -> Bindings {
    let Some(tls) = conn.tls() else {
        return Bindings::default();
    };
    Bindings { exporter: tls.exporter(), server_end_point: tls.server_end_point().map(<[u8]>::to_vec) }
}

/// Whether a password may cross the connection in the clear: loopback counts as secure, as in Dovecot.
fn is_trusted(front: &Front) -> bool {
    front.config.plaintext_login || front.conn.peer().ip().to_canonical().is_loopback()
}
