//! A connection: plain bytes in, bursts of replies out, TLS or not.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::future::yield_now;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::deadline::{Deadline, Deadlines};
use super::listener::Accepted;
use crate::bytes::{Output, Pool, Pooled};
use crate::io::clock;
use crate::io::tls::TlsSession;
use crate::limits;
use crate::mail::time::Instant;

/// Slices that one send gathers; more go in the next.
const GATHERED_MAX: usize = 32;

/// Ciphertext that is gathered before it is sent.
const SEALED_BYTES: usize = 64 << 10;

/// A connection that moved so many bytes without having to wait lets others have their turn.
const TURN_BYTES: usize = 256 << 10;

/// A connection of this shard.
pub struct Conn {
    deadline: Rc<Deadline>,
    stream: TcpStream,
    tls: Option<Box<TlsSession>>,
    input: Input,
    out: Output,
    /// Answers of TLS itself that were not sent yet; they go before everything else.
    sealed: Vec<u8>,
    /// Bytes moved since others had their turn.
    turn_bytes: usize,
    pool: Pool,
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
    Buffer { buffer: Pooled, range: Range<usize> },
    Bytes { bytes: Vec<u8>, from: usize },
}

/// A connection on its way to another shard. Its replies have been sent.
pub struct Parcel {
    socket: OwnedFd,
    tls: Option<Box<TlsSession>>,
    input: Vec<u8>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Conn {
    pub fn new(accepted: Accepted, pool: &Pool, deadlines: &Deadlines) -> Self {
        let Accepted { stream, peer, local } = accepted;
        Self {
            deadline: deadlines.watch(),
            stream,
            tls: None,
            input: Input::Empty,
            out: Output::new(),
            sealed: Vec::new(),
            turn_bytes: 0,
            pool: pool.clone(),
            peer,
            local,
        }
    }

    /// Puts a connection together on the shard it was sent to.
    pub fn unpack(parcel: Parcel, pool: &Pool, deadlines: &Deadlines) -> Self {
        let Parcel { socket, tls, input, peer, local } = parcel;
        // SAFETY: `into_raw_fd` gives up the descriptor, which is open and now owned by the stream alone.
        let stream = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
        let mut conn = Self::new(Accepted { stream, peer, local }, pool, deadlines);
        conn.tls = tls;
        if !input.is_empty() {
            conn.input = Input::Bytes { bytes: input, from: 0 };
        }
        conn
    }

    /// Takes the connection apart. No read may be in flight and the replies must have been flushed.
    pub fn pack(self) -> io::Result<Parcel> {
        assert!(self.out.is_empty() && self.sealed.is_empty(), "a connection moves after its replies");
        let input = self.input().to_vec();
        // SAFETY: the stream owns the descriptor and lives until the end of this function.
        let socket = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }.try_clone_to_owned()?;
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
            Input::Buffer { buffer, range } => &buffer[range.clone()],
            Input::Bytes { bytes, from } => &bytes[*from..],
        }
    }

    /// Bytes of memory that the connection holds now: input, replies, and what TLS needs.
    pub fn held_bytes(&self) -> usize {
        let input = match &self.input {
            Input::Empty => 0,
            Input::Buffer { buffer, .. } => buffer.len(),
            Input::Bytes { bytes, .. } => bytes.len(),
        };
        let tls = self.tls.as_ref().map_or(0, |_| limits::TLS_SESSION_BYTES);
        input + self.out.held_bytes() + self.sealed.len() + tls
    }

    /// Input and replies at once, as an engine wants them.
    pub fn input_and_out(&mut self) -> (&[u8], &mut Output) {
        let input = match &self.input {
            Input::Empty => &[][..],
            Input::Buffer { buffer, range } => &buffer[range.clone()],
            Input::Bytes { bytes, from } => &bytes[*from..],
        };
        (input, &mut self.out)
    }

    /// Takes `count` bytes of the input; the buffer goes back when all are taken.
    pub fn consume(&mut self, count: usize) {
        let left = match &mut self.input {
            Input::Empty => 0,
            Input::Buffer { range, .. } => {
                range.start += count;
                range.len()
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

    /// Sends all replies in as few sends as it takes.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send_pending().await?;
        if self.out.is_empty() {
            return Ok(());
        }
        // The burst goes with its memory: a connection that waits for hours keeps no room for replies.
        let out = std::mem::take(&mut self.out);
        match self.tls {
            None => self.send_gathered(&out).await?,
            Some(_) => self.send_sealed(&out).await?,
        }
        drop(out);
        self.give_way().await;
        Ok(())
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
        session.start(&mut self.sealed);
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
            tls.close(&mut self.sealed);
        }
        // The peer may be gone already; there is nobody to tell.
        let _ = self.send_pending().await;
        let _ = self.stream.shutdown(std::net::Shutdown::Write).await;
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
        self.give_way().await;
        self.send_pending().await?;
        let Some((buffer, length)) = self.receive().await? else {
            return Ok(Filled::Deadline);
        };
        self.turn_bytes += length;
        if length == 0 {
            return Ok(Filled::End);
        }
        let Some(tls) = &mut self.tls else {
            self.input = Input::Buffer { buffer, range: 0..length };
            return Ok(Filled::Input);
        };
        let mut plain = Vec::new();
        let outcome = tls.feed(&buffer[..length], &mut plain, &mut self.sealed);
        drop(buffer);
        if !plain.is_empty() {
            self.input = Input::Bytes { bytes: plain, from: 0 };
        }
        // Input is kept before anything is awaited: whoever waits may give up at any await.
        self.send_pending().await?;
        let open = outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(if open || !self.input().is_empty() { Filled::Input } else { Filled::End })
    }

    /// One read. The buffer is on loan only from the moment in which there are bytes for it.
    async fn receive(&mut self) -> io::Result<Option<(Pooled, usize)>> {
        let Self { stream, pool, deadline, .. } = self;
        poll_fn(|context| {
            let mut buffer = pool.take();
            if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                return Poll::Ready(read.map(|length| Some((buffer, length))));
            }
            deadline.poll_passed(context).map(|()| Ok(None))
        })
        .await
    }

    /// Sends the answers of TLS itself. What was not sent when the future is dropped goes next time.
    async fn send_pending(&mut self) -> io::Result<()> {
        while !self.sealed.is_empty() {
            let sent = send_some(&mut self.stream, &self.deadline, &self.sealed).await?;
            self.sealed.drain(..sent);
        }
        self.sealed = Vec::new();
        Ok(())
    }

    /// Lets others have their turn after many bytes: a fast peer would keep the shard for itself.
    async fn give_way(&mut self) {
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            yield_now().await;
        }
    }

    async fn send_gathered(&mut self, out: &Output) -> io::Result<()> {
        let mut chunks = out.chunks().map(|chunk| chunk.bytes()).peekable();
        let mut gathered: Vec<IoSlice<'_>> = Vec::new();
        while let Some(first) = chunks.next() {
            if chunks.peek().is_none() && gathered.is_empty() {
                return self.send(first).await;
            }
            gathered.push(IoSlice::new(first));
            if gathered.len() < GATHERED_MAX && chunks.peek().is_some() {
                continue;
            }
            self.send_slices(&mut gathered).await?;
            gathered.clear();
        }
        Ok(())
    }

    /// Sends the slices with one system call, and what the socket does not take now piece by piece.
    async fn send_slices(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // SAFETY: the stream owns the descriptor and is borrowed for the whole call.
        let socket = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut rest = &mut *slices;
        IoSlice::advance_slices(&mut rest, sent);
        for slice in rest {
            self.send(slice).await?;
        }
        Ok(())
    }

    async fn send_sealed(&mut self, out: &Output) -> io::Result<()> {
        let mut sealed = Vec::new();
        for chunk in out.chunks() {
            for piece in chunk.bytes().chunks(SEALED_BYTES) {
                let tls = self.tls.as_mut().expect("only a connection in TLS seals");
                tls.seal(piece, &mut sealed)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if sealed.len() >= SEALED_BYTES {
                    self.send(&sealed).await?;
                    sealed.clear();
                }
            }
        }
        if sealed.is_empty() { Ok(()) } else { self.send(&sealed).await }
    }

    /// Sends all of `bytes`; each piece that the peer takes renews its time.
    async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.turn_bytes += bytes.len();
        while !bytes.is_empty() {
            let sent = send_some(&mut self.stream, &self.deadline, bytes).await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

/// Sends what the peer takes of `bytes`, which has to be something within its time. The deadline that was set for
/// input holds again afterwards.
async fn send_some(stream: &mut TcpStream, deadline: &Deadline, bytes: &[u8]) -> io::Result<usize> {
    let mut stalled = None;
    let sent = poll_fn(|context| {
        if let Poll::Ready(sent) = Pin::new(&mut *stream).poll_write(context, bytes) {
            return Poll::Ready(sent);
        }
        stalled.get_or_insert_with(|| deadline.stall(clock::instant() + limits::SEND_STALL));
        deadline.poll_passed(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await?;
    drop(stalled);
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}
