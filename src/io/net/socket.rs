//! One socket of a shard's ring.

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;

use super::slots::{Kind, Sending};
use super::sockets::Sockets;
use crate::bytes::Output;
use crate::io::world::Stream;

/// A connected or listening socket. Dropping it ends what is in flight and closes it.
pub struct Socket(Option<Kept>);

/// Where a socket is kept.
enum Kept {
    Ring {
        sockets: Sockets,
        slot: u32,
    },
    /// In a made world.
    Made(RefCell<Box<dyn Stream>>),
}

/// A socket that no shard has yet.
pub enum Handle {
    Descriptor(OwnedFd),
    Made(Box<dyn Stream>),
}

/// Bytes that were received; their buffer goes back when they are dropped.
pub struct Received(Buffer);

enum Buffer {
    Ring { sockets: Sockets, number: u16, bytes: *const u8, length: usize },
    Made(Vec<u8>),
}

impl Socket {
    pub fn stream(sockets: &Sockets, handle: Handle) -> Self {
        Self(Some(match handle {
            Handle::Descriptor(socket) => Kept::ring(sockets, socket, Kind::Stream),
            Handle::Made(stream) => Kept::Made(RefCell::new(stream)),
        }))
    }

    pub fn listener(sockets: &Sockets, socket: OwnedFd) -> Self {
        Self(Some(Kept::ring(sockets, socket, Kind::Listener)))
    }

    /// The next bytes, or `None` at the end of the stream. What comes when nobody polls any more is kept.
    pub fn poll_receive(&self, context: &Context<'_>) -> Poll<io::Result<Option<Received>>> {
        match self.kept() {
            Kept::Ring { sockets, slot } => sockets.with(|ring| {
                let received = ready!(ring.poll_receive(*slot, context))?;
                Poll::Ready(Ok(received.map(|(number, length)| {
                    let bytes = ring.buffers.address(number);
                    Received(Buffer::Ring { sockets: sockets.clone(), number, bytes, length })
                })))
            }),
            Kept::Made(stream) => {
                let received = ready!(stream.borrow_mut().poll_receive(context))?;
                Poll::Ready(Ok(received.map(|bytes| Received(Buffer::Made(bytes)))))
            }
        }
    }

    pub fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        match self.kept() {
            Kept::Ring { sockets, slot } => sockets.with(|ring| ring.poll_accept(*slot, context)),
            Kept::Made(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Begins to send; the burst before must have been sent.
    pub fn send(&self, burst: Output) {
        match self.kept() {
            Kept::Ring { sockets, slot } => sockets.with(|ring| ring.send(*slot, burst)),
            Kept::Made(stream) => {
                stream.borrow_mut().send(burst.to_vec());
            }
        }
    }

    /// Waits for the burst that is being sent. Its failure is told here, now and ever after.
    pub fn poll_sent(&self, context: &Context<'_>) -> Poll<io::Result<Sending>> {
        match self.kept() {
            Kept::Ring { sockets, slot } => sockets.with(|ring| ring.poll_sent(*slot, context)),
            Kept::Made(stream) => stream.borrow_mut().poll_sent(context).map_ok(|()| Sending::Done),
        }
    }

    /// Closes the sending side. What is being sent is lost.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let (sockets, slot) = match self.kept() {
            Kept::Ring { sockets, slot } => (sockets, *slot),
            Kept::Made(stream) => {
                stream.borrow_mut().shutdown_write();
                return Ok(());
            }
        };
        let descriptor = sockets.with(|ring| ring.descriptor(slot));
        // SAFETY: the slot owns the descriptor, and stays at least as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(descriptor.as_raw_fd()) };
        rustix::net::shutdown(socket, Shutdown::Write).map_err(io::Error::from)
    }

    /// The same socket for another shard. Nothing may be in flight.
    pub fn into_handle(mut self) -> io::Result<Handle> {
        let (sockets, slot) = match self.0.take().expect("a socket is kept until it is dropped") {
            Kept::Made(stream) => return Ok(Handle::Made(stream.into_inner())),
            Kept::Ring { sockets, slot } => (sockets, slot),
        };
        let descriptor = sockets.with(|ring| {
            assert!(!ring.is_receiving(slot) && !ring.is_sending(slot), "nothing is in flight");
            ring.descriptor(slot)
        });
        // SAFETY: the slot owns the descriptor until it is left below.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned();
        sockets.with(|ring| ring.leave(slot));
        descriptor.map(Handle::Descriptor)
    }

    fn kept(&self) -> &Kept {
        self.0.as_ref().expect("a socket is kept until it is dropped")
    }
}

impl Kept {
    fn ring(sockets: &Sockets, socket: OwnedFd, kind: Kind) -> Self {
        Self::Ring { slot: sockets.with(|ring| ring.adopt(socket, kind)), sockets: sockets.clone() }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(Kept::Ring { sockets, slot }) = &self.0 {
            sockets.with(|ring| ring.leave(*slot));
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the kernel has filled so many bytes of the buffer, which is ours until it is given back in
            // `drop`, and whose memory stays for as long as the process does.
            Buffer::Ring { bytes, length, .. } => unsafe { std::slice::from_raw_parts(*bytes, *length) },
            Buffer::Made(bytes) => bytes,
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Buffer::Ring { sockets, number, .. } = &self.0 {
            sockets.with(|ring| ring.give(*number));
        }
    }
}
