//! Listening sockets, one set per shard; the kernel spreads connections over the shards.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket;
use super::sockets::Sockets;

/// Connections that the kernel completes before anyone accepts them.
const BACKLOG: i32 = 4096;

pub struct Listener {
    socket: socket::Socket,
    address: SocketAddr,
}

/// A fresh connection.
pub struct Accepted {
    pub socket: OwnedFd,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

impl Listener {
    /// Fails if anyone listens there. [`Listener::bind`] cannot tell: with `SO_REUSEPORT` a second server of the
    /// same user would get half of the connections, and nobody would be told.
    pub fn check_free(address: SocketAddr) -> io::Result<()> {
        fresh_socket(address)?.bind(&address.into())
    }

    /// Binds with `SO_REUSEPORT`, so that every shard listens for itself.
    pub fn bind(address: SocketAddr, sockets: &Sockets) -> io::Result<Self> {
        let socket = fresh_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket: socket::Socket::listener(sockets, socket.into()), address })
    }

    /// The next connection. Errors such as EMFILE pass; the caller waits a little and asks again.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            let socket = poll_fn(|context| self.socket.poll_accept(context)).await?;
            // Who is gone already has no address, and must not make the others wait.
            let peer = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
            if let Some(peer) = peer {
                return Ok(Accepted { socket, peer, local: self.address });
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// `SO_REUSEADDR` lets it bind while connections of an earlier server end, but not where another listens.
fn fresh_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
