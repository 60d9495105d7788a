//! Waiting for a socket that is used by other calls than those of the ring.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;

use super::slots::Kind;
use super::sockets::Sockets;

/// Waits for a socket, of which it owns a descriptor.
pub struct Watch {
    sockets: Sockets,
    slot: u32,
}

impl Watch {
    /// For a socket that is to be read, on the ring of this executor.
    pub fn readable(socket: OwnedFd) -> io::Result<Self> {
        Self::new(socket, libc::POLLIN)
    }

    /// For a socket that is to be written, or that connects.
    pub fn writable(socket: OwnedFd) -> io::Result<Self> {
        Self::new(socket, libc::POLLOUT)
    }

    fn new(socket: OwnedFd, events: libc::c_short) -> io::Result<Self> {
        let sockets = Sockets::open()?;
        let kind = Kind::Watched(u32::from(events.unsigned_abs()));
        let slot = sockets.with(|ring| ring.adopt(socket, kind));
        Ok(Self { sockets, slot })
    }

    /// Waits until the next call may do something, if only fail.
    pub async fn ready(&self) -> io::Result<()> {
        poll_fn(|context| self.sockets.with(|ring| ring.poll_ready(self.slot, context))).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.sockets.with(|ring| ring.leave(self.slot));
    }
}
