//! One connection to another server: the client engine with its socket.
//!
//! [`Talk::open`] brings a socket to the point where mail may be sent, TLS and login included. [`Talk::send`] takes a
//! transaction through. [`Talk::idle`] waits in between, for the peer may end it then: by closing, or by saying what
//! nobody asked for.
//!
//! Invariant: nothing is begun on a session that has ended, whether or not its end was already told.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::CountedAddress;
use super::converse::{converse, say_goodbye};
use crate::io::net::Conn;
use crate::io::tls::{ClientTls, TlsSession, Trust};
use crate::io::{clock, random};
use crate::mail::reply::{EnhancedCode, Reply};
use crate::proto::sasl::Nonce;
use crate::proto::smtp::client::{
    Client, Closed, Done, Event, Limits, Origin, Passed, Phase, Security, Settings, Transaction,
};

/// A connection that is ready for mail, or between two transactions.
pub struct Talk {
    conn: Box<Conn>,
    client: Client,
    /// The name under which the peer was looked for.
    host: String,
    tls: ClientTls,
    trust: Trust,
    /// The session has ended, and how.
    over: Option<Closed>,
    /// That were asked for, the last one included.
    transactions: u32,
    _counted: CountedAddress,
}

/// Whom a connection is made to, and how TLS is begun there.
pub struct Peer {
    pub host: String,
    pub tls: ClientTls,
    pub trust: Trust,
    pub begins: Begins,
}

/// When TLS begins, if it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begins {
    Starttls,
    /// With the first byte.
    Implicit,
}

/// How a transaction and its connection went.
pub struct Sent {
    pub done: Done,
    /// The connection has ended, too.
    pub closed: Option<Closed>,
}

impl Talk {
    /// Greets and is greeted, as far as TLS and a login if there is to be one.
    pub async fn open(
        (mut conn, counted): (Box<Conn>, CountedAddress),
        peer: Peer,
        settings: Rc<Settings>,
    ) -> Result<Self, Closed> {
        let Peer { host, tls, trust, begins } = peer;
        let mut security = Security::Clear;
        if begins == Begins::Implicit {
            let session = tls.session(&host, trust);
            security = encrypt(&mut conn, session).await.map_err(|error| not_encrypted(&error))?;
        }
        let client = Client::new(settings, security, Nonce(random::bytes()), clock::instant());
        let mut talk =
            Self { conn, client, host, tls, trust, over: None, transactions: 0, _counted: counted };
        loop {
            match talk.next().await {
                Event::Ready => return Ok(talk),
                Event::Closed(closed) => return Err(closed),
                Event::Done(_) | Event::StartTls => {}
            }
        }
    }

    /// Sends one message to its recipients. Nothing is begun where the session has ended since the last one.
    pub async fn send(&mut self, transaction: Transaction) -> Sent {
        self.transactions += 1;
        if !self.client.is_ready() {
            return Sent { done: untried(), closed: Some(self.idle().await) };
        }
        self.client.begin(transaction, self.conn.out(), clock::instant());
        let done = loop {
            match self.next().await {
                Event::Done(done) => break done,
                // Each transaction is told of before the end.
                Event::Closed(closed) => return Sent { done: untried(), closed: Some(closed) },
                Event::StartTls | Event::Ready => {}
            }
        };
        while !self.client.is_ready() {
            if let Event::Closed(closed) = self.next().await {
                return Sent { done, closed: Some(closed) };
            }
        }
        Sent { done, closed: None }
    }

    /// Waits for the end of a connection that nothing is sent on. Dropping the future loses nothing.
    pub async fn idle(&mut self) -> Closed {
        loop {
            if let Event::Closed(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// Says goodbye.
    pub async fn quit(mut self) {
        if self.client.is_ready() {
            self.client.quit(self.conn.out(), clock::instant());
        }
        self.idle().await;
    }

    /// The session has ended, as was told.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// How many were asked for, whatever came of them.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    pub fn peer(&self) -> SocketAddr {
        self.conn.peer()
    }

    pub fn local(&self) -> SocketAddr {
        self.conn.local()
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the peer said of its limits (RFC 9422).
    pub fn limits(&self) -> Limits {
        self.client.offers().limits
    }

    /// Version and cipher suite of a connection in TLS.
    pub fn security(&self) -> Option<(&'static str, String)> {
        let tls = self.conn.tls()?;
        Some((tls.version()?, tls.cipher()?))
    }

    async fn next(&mut self) -> Event {
        let Self { conn, client, host, tls, trust, over, .. } = self;
        if let Some(closed) = over {
            return Event::Closed(closed.clone());
        }
        let event = converse(client, conn, || tls.session(host, *trust)).await;
        if let Event::Closed(closed) = &event {
            *over = Some(closed.clone());
            say_goodbye(conn).await;
        }
        event
    }
}

/// TLS from the first byte.
async fn encrypt(conn: &mut Conn, session: io::Result<TlsSession>) -> io::Result<Security> {
    conn.start_tls(session?).await?;
    let is_verified = conn.tls().is_some_and(|tls| tls.verify(clock::timestamp()).is_ok());
    Ok(if is_verified { Security::Verified } else { Security::Encrypted })
}

/// Of a transaction that did not come to anything.
pub fn untried() -> Done {
    Done { fates: Vec::new(), dsn: Passed::Passed, deliver_by: Passed::Passed }
}

fn not_encrypted(error: &io::Error) -> Closed {
    let reply = Reply::new(421, EnhancedCode::new(4, 7, 5), format!("TLS failed: {error}"));
    Closed { reply, phase: Phase::Tls, origin: Origin::Local, transactions: 0 }
}
