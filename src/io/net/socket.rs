//! One socket of a shard's ring.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::net::Shutdown;

use super::slots::{Kind, Sending};
use super::sockets::Sockets;
use crate::bytes::Output;

/// A connected or listening socket. Dropping it ends what is in flight and closes it.
pub struct Socket {
    sockets: Sockets,
    slot: u32,
}

/// Bytes that were received; their buffer goes back when they are dropped.
pub struct Received {
    sockets: Sockets,
    number: u16,
    bytes: *const u8,
    length: usize,
}

impl Socket {
    pub fn stream(sockets: &Sockets, socket: OwnedFd) -> Self {
        Self { slot: sockets.with(|ring| ring.adopt(socket, Kind::Stream)), sockets: sockets.clone() }
    }

    pub fn listener(sockets: &Sockets, socket: OwnedFd) -> Self {
        Self { slot: sockets.with(|ring| ring.adopt(socket, Kind::Listener)), sockets: sockets.clone() }
    }

    /// The next bytes, or `None` at the end of the stream. What comes when nobody polls any more is kept.
    pub fn poll_receive(&self, context: &Context<'_>) -> Poll<io::Result<Option<Received>>> {
        self.sockets.with(|ring| {
            let received = std::task::ready!(ring.poll_receive(self.slot, context))?;
            Poll::Ready(Ok(received.map(|(number, length)| Received {
                bytes: ring.buffers.address(number),
                sockets: self.sockets.clone(),
                number,
                length,
            })))
        })
    }

    pub fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        self.sockets.with(|ring| ring.poll_accept(self.slot, context))
    }

    /// Begins to send; the burst before must have been sent.
    pub fn send(&self, burst: Output) {
        self.sockets.with(|ring| ring.send(self.slot, burst));
    }

    /// Waits for the burst that is being sent. Its failure is told here, now and ever after.
    pub fn poll_sent(&self, context: &Context<'_>) -> Poll<io::Result<Sending>> {
        self.sockets.with(|ring| ring.poll_sent(self.slot, context))
    }

    /// Closes the sending side. What is being sent is lost.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let descriptor = self.sockets.with(|ring| ring.descriptor(self.slot));
        // SAFETY: the slot owns the descriptor, and stays at least as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(descriptor.as_raw_fd()) };
        rustix::net::shutdown(socket, Shutdown::Write).map_err(io::Error::from)
    }

    /// Another descriptor of the same socket, for another shard. Nothing may be in flight.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let descriptor = self.sockets.with(|ring| {
            assert!(!ring.is_receiving(self.slot) && !ring.is_sending(self.slot), "nothing is in flight");
            ring.descriptor(self.slot)
        });
        // SAFETY: as above.
        unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.sockets.with(|ring| ring.leave(self.slot));
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel has filled so many bytes of the buffer, which is ours until it is given back in `drop`,
        // and whose memory stays for as long as the process does.
        unsafe { std::slice::from_raw_parts(self.bytes, self.length) }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.sockets.with(|ring| ring.give(self.number));
    }
}
