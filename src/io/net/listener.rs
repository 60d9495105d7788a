//! Listening sockets, one set per shard; the kernel spreads connections over the shards.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket::{Handle, Socket as Kept};
use super::sockets::Sockets;
use crate::io::world::{self, Door, Wire};

/// Connections that the kernel completes before anyone accepts them.
const BACKLOG: i32 = 4096;

/// The system takes io_uring's sockets down a little after the process that had them is gone, by SIGKILL as well.
const LOOKS: usize = 100;
const LOOK: Duration = Duration::from_millis(20);

/// An address of ours, for one shard, where nobody is let in yet.
pub struct Reserved {
    address: SocketAddr,
    /// `None` in a made world, where there is nothing to be had before a shard listens.
    socket: Option<Socket>,
}

pub struct Listener {
    door: Entrance,
    address: SocketAddr,
}

/// Where connections come in.
enum Entrance {
    Socket(Kept),
    Made(Box<dyn Door>),
}

/// A fresh connection.
pub struct Accepted {
    pub socket: Handle,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

impl Reserved {
    /// Fails if anyone listens there and goes on to. [`Reserved::bind`] cannot tell: with `SO_REUSEPORT` a second
    /// server of the same user would get half of the connections, and nobody would be told.
    pub fn check_free(address: SocketAddr) -> io::Result<()> {
        for _ in 0..LOOKS {
            match fresh_socket(address)?.bind(&address.into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(LOOK),
                bound => return bound,
            }
        }
        fresh_socket(address)?.bind(&address.into())
    }

    /// Binds with `SO_REUSEPORT`, so that every shard listens for itself. Who connects is refused until it does.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        if world::current().is_some() {
            return Ok(Self { address, socket: None });
        }
        let socket = fresh_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        Ok(Self { address, socket: Some(socket) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener {
    /// Listens where an address was reserved.
    pub fn open(reserved: Reserved, sockets: &Sockets) -> io::Result<Self> {
        let Reserved { address, socket } = reserved;
        if let Some(world) = world::current() {
            return Ok(Self { door: Entrance::Made(world.listen(address)?), address });
        }
        let socket = socket.ok_or(io::ErrorKind::NotConnected)?;
        socket.listen(BACKLOG)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { door: Entrance::Socket(Kept::listener(sockets, socket.into())), address })
    }

    /// The next connection. Errors such as EMFILE pass; the caller waits a little and asks again.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let socket = match &self.door {
            Entrance::Socket(socket) => socket,
            Entrance::Made(door) => {
                return poll_fn(|context| door.poll_accept(context)).await.map(Accepted::of);
            }
        };
        loop {
            let socket = poll_fn(|context| socket.poll_accept(context)).await?;
            // Who is gone already has no address, and must not make the others wait.
            let peer = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
            if let Some(peer) = peer {
                return Ok(Accepted { socket: Handle::Descriptor(socket), peer, local: self.address });
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Accepted {
    /// A connection of a made world.
    pub(super) fn of(wire: Wire) -> Self {
        let Wire { stream, peer, local } = wire;
        Self { socket: Handle::Made(stream), peer, local }
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::Reserved;

    #[test]
    fn an_address_is_free_once_its_last_owner_is_gone() {
        let owner = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = owner.local_addr().expect("it is bound");
        let taken = Reserved::check_free(address).expect_err("somebody listens");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let leaving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(owner);
        });
        Reserved::check_free(address).expect("nobody listens any more");
        leaving.join().expect("it left");
    }
}
