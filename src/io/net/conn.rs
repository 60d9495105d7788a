//! A connection: plain bytes in, bursts of replies out, TLS or not.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use super::deadline::{Deadline, Deadlines};
use super::listener::Accepted;
use super::slots::Sending;
use super::socket::{Handle, Received, Socket};
use super::sockets::Sockets;
use crate::bytes::Output;
use crate::io::clock;
use crate::io::tls::TlsSession;
use crate::limits;
use crate::mail::time::Instant;

/// Ciphertext that is gathered before it is sent.
const SEALED_BYTES: usize = 64 << 10;

/// A burst up to this size is left with the ring; whoever sends more waits until the peer has taken it.
const LEFT_BYTES_MAX: usize = 16 << 10;

/// A connection of this shard.
pub struct Conn {
    deadline: Rc<Deadline>,
    socket: Socket,
    tls: Option<Box<TlsSession>>,
    input: Input,
    out: Output,
    /// Answers of TLS itself that were not sent yet; they go before everything else.
    sealed: Output,
    peer: SocketAddr,
    local: SocketAddr,
}

/// How a wait for input ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    Input,
    /// The peer sends no more.
    End,
    /// The deadline passed first; the connection is as it was.
    Deadline,
}

/// What was received and not yet taken.
enum Input {
    Empty,
    Buffer { buffer: Received, from: usize },
    Bytes { bytes: Vec<u8>, from: usize },
}

/// A connection on its way to another shard. Its replies have been sent.
pub struct Parcel {
    socket: Handle,
    tls: Option<Box<TlsSession>>,
    input: Vec<u8>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Conn {
    pub fn new(accepted: Accepted, sockets: &Sockets, deadlines: &Deadlines) -> Self {
        let Accepted { socket, peer, local } = accepted;
        Self {
            deadline: deadlines.watch(),
            socket: Socket::stream(sockets, socket),
            tls: None,
            input: Input::Empty,
            out: Output::new(),
            sealed: Output::new(),
            peer,
            local,
        }
    }

    /// Puts a connection together on the shard it was sent to.
    pub fn unpack(parcel: Parcel, sockets: &Sockets, deadlines: &Deadlines) -> Self {
        let Parcel { socket, tls, input, peer, local } = parcel;
        let mut conn = Self::new(Accepted { socket, peer, local }, sockets, deadlines);
        conn.tls = tls;
        if !input.is_empty() {
            conn.input = Input::Bytes { bytes: input, from: 0 };
        }
        conn
    }

    /// Takes the connection apart when its replies are sent. No read may be in flight.
    pub async fn pack(mut self) -> io::Result<Parcel> {
        self.flush().await?;
        self.sent().await?;
        let input = self.input().to_vec();
        let socket = self.socket.into_handle()?;
        Ok(Parcel { socket, tls: self.tls, input, peer: self.peer, local: self.local })
    }

    /// Waits for input when there is none. Dropping the future loses nothing.
    pub async fn fill(&mut self) -> io::Result<Filled> {
        while self.input().is_empty() {
            match self.fill_once().await? {
                Filled::Input => {}
                ended => return Ok(ended),
            }
        }
        Ok(Filled::Input)
    }

    /// What was received and not yet taken.
    pub fn input(&self) -> &[u8] {
        match &self.input {
            Input::Empty => &[],
            Input::Buffer { buffer, from } => &buffer[*from..],
            Input::Bytes { bytes, from } => &bytes[*from..],
        }
    }

    /// Bytes of memory that the connection holds now: input, replies, and what TLS needs.
    pub fn held_bytes(&self) -> usize {
        let input = match &self.input {
            Input::Empty => 0,
            Input::Buffer { .. } => limits::RECEIVE_BUFFER_BYTES,
            Input::Bytes { bytes, .. } => bytes.len(),
        };
        let tls = self.tls.as_ref().map_or(0, |_| limits::TLS_SESSION_BYTES);
        input + self.out.held_bytes() + self.sealed.held_bytes() + tls
    }

    /// Input and replies at once, as an engine wants them.
    pub fn input_and_out(&mut self) -> (&[u8], &mut Output) {
        let input = match &self.input {
            Input::Empty => &[][..],
            Input::Buffer { buffer, from } => &buffer[*from..],
            Input::Bytes { bytes, from } => &bytes[*from..],
        };
        (input, &mut self.out)
    }

    /// Takes `count` bytes of the input; the buffer goes back when all are taken.
    pub fn consume(&mut self, count: usize) {
        let left = match &mut self.input {
            Input::Empty => 0,
            Input::Buffer { buffer, from } => {
                *from += count;
                buffer.len() - *from
            }
            Input::Bytes { bytes, from } => {
                *from += count;
                bytes.len() - *from
            }
        };
        if left == 0 {
            self.input = Input::Empty;
        }
    }

    /// The replies that the next flush sends.
    pub fn out(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Sends all replies in as few sends as it takes. A small burst may still be on its way afterwards: the next one,
    /// and the end of the connection, wait for it.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send_pending().await?;
        if self.out.is_empty() {
            return Ok(());
        }
        self.sent().await?;
        // The burst goes with its memory: a connection that waits for hours keeps no room for replies.
        let out = std::mem::take(&mut self.out);
        if out.is_sent_as_it_lies() {
            return self.send_burst(out).await;
        }
        for burst in out.into_bursts() {
            self.send_burst(burst).await?;
        }
        Ok(())
    }

    async fn send_burst(&mut self, out: Output) -> io::Result<()> {
        match self.tls {
            None => self.send(out).await,
            Some(_) => self.send_sealed(&out).await,
        }
    }

    /// Sends what is due, then speaks TLS and shakes hands, within the time that a login may take. What came in the
    /// clear behind the command that began TLS was put there by somebody else, or by a client that cannot be
    /// trusted with TLS: the connection ends (RFC 3207 6, RFC 2595 4).
    pub async fn start_tls(&mut self, mut session: TlsSession) -> io::Result<()> {
        assert!(self.tls.is_none(), "TLS begins once");
        if !self.input().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "input in the clear behind STARTTLS"));
        }
        self.flush().await?;
        session.start(self.sealed.text_mut());
        self.tls = Some(Box::new(session));
        self.handshake().await
    }

    async fn handshake(&mut self) -> io::Result<()> {
        self.deadline.set(Some(clock::instant() + limits::HANDSHAKE));
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            match self.fill_once().await? {
                Filled::Input => {}
                Filled::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Filled::Deadline => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }

    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_deref()
    }

    /// Says goodbye in TLS and closes the sending side.
    pub async fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close(self.sealed.text_mut());
        }
        // The peer may be gone already; there is nobody to tell.
        let _ = self.send_pending().await;
        let _ = self.sent().await;
        let _ = self.socket.shutdown_write();
    }

    /// As [`Conn::close`]; then takes what is still on its way, within bounds: a socket that is closed with input
    /// unread is reset, and a reset takes our last words away before the peer has read them.
    pub async fn close_gently(&mut self) {
        self.close().await;
        self.input = Input::Empty;
        self.deadline.set(Some(clock::instant() + limits::LINGER));
        let mut left_bytes = limits::LINGER_BYTES_MAX;
        while let Ok(Some(Some(buffer))) = self.receive().await {
            left_bytes = left_bytes.saturating_sub(buffer.len());
            if left_bytes == 0 {
                return;
            }
        }
    }

    /// From now on it is woken with these, too.
    pub fn join(&self, deadlines: &Deadlines) {
        deadlines.watch_too(&self.deadline);
    }

    /// The time at which waiting for input ends.
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.deadline.set(at);
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// One read and what TLS makes of it, which may be nothing.
    async fn fill_once(&mut self) -> io::Result<Filled> {
        self.send_pending().await?;
        // The end may have come with what was taken last.
        if self.tls.as_ref().is_some_and(|tls| tls.is_over()) {
            return Ok(Filled::End);
        }
        let Some(received) = self.receive().await? else {
            return Ok(Filled::Deadline);
        };
        let Some(buffer) = received else {
            return Ok(Filled::End);
        };
        let Some(tls) = &mut self.tls else {
            self.input = Input::Buffer { buffer, from: 0 };
            return Ok(Filled::Input);
        };
        let mut plain = Vec::new();
        let outcome = tls.feed(&buffer, &mut plain, self.sealed.text_mut());
        drop(buffer);
        if !plain.is_empty() {
            self.input = Input::Bytes { bytes: plain, from: 0 };
        }
        // Input is kept before anything is awaited: whoever waits may give up at any await.
        self.send_pending().await?;
        let open = outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(if open || !self.input().is_empty() { Filled::Input } else { Filled::End })
    }

    /// One read: what came, or that the stream has ended; nothing if the deadline passed first.
    async fn receive(&mut self) -> io::Result<Option<Option<Received>>> {
        let Self { socket, deadline, .. } = self;
        poll_fn(|context| match socket.poll_receive(context) {
            Poll::Ready(received) => Poll::Ready(received.map(Some)),
            Poll::Pending => deadline.poll_passed(context).map(|()| Ok(None)),
        })
        .await
    }

    /// Sends the answers of TLS itself. What was not sent when the future is dropped goes next time.
    async fn send_pending(&mut self) -> io::Result<()> {
        if self.sealed.is_empty() {
            self.sealed = Output::new();
            return Ok(());
        }
        self.sent().await?;
        self.socket.send(std::mem::take(&mut self.sealed));
        Ok(())
    }

    async fn send_sealed(&mut self, out: &Output) -> io::Result<()> {
        let mut sealed = Output::new();
        for chunk in out.chunks() {
            for piece in chunk.bytes().chunks(SEALED_BYTES) {
                let tls = self.tls.as_mut().expect("only a connection in TLS seals");
                tls.seal(piece, sealed.text_mut())
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if sealed.len() >= SEALED_BYTES {
                    self.send(std::mem::take(&mut sealed)).await?;
                }
            }
        }
        if sealed.is_empty() { Ok(()) } else { self.send(sealed).await }
    }

    /// Sends a burst behind the one before.
    async fn send(&mut self, burst: Output) -> io::Result<()> {
        self.sent().await?;
        let is_left = burst.len() <= LEFT_BYTES_MAX;
        self.socket.send(burst);
        if is_left { Ok(()) } else { self.sent().await }
    }

    /// Waits until the peer has taken what is being sent. Each piece of it renews the peer's time; the deadline that
    /// was set for input holds again afterwards.
    async fn sent(&self) -> io::Result<()> {
        loop {
            let mut stalled = None;
            let sending = poll_fn(|context| {
                if let Poll::Ready(sending) = self.socket.poll_sent(context) {
                    return Poll::Ready(sending);
                }
                stalled.get_or_insert_with(|| self.deadline.stall(clock::instant() + limits::SEND_STALL));
                self.deadline.poll_passed(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            });
            if sending.await? == Sending::Done {
                return Ok(());
            }
        }
    }
}
