//! One query and what comes back, by UDP or TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd};

use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpStream, UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};

use crate::io::executor::sleep;
use crate::limits;
use crate::proto::dns::{Ask, Carrier, Lookup, Received};

/// Whether the server was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Answer,
    Silence,
}

/// Sends `ask`, and gives `lookup` what comes back, or tells it that nothing does.
pub async fn exchange(ask: &Ask, lookup: &mut Lookup) -> Ended {
    let answered = async {
        match ask.carrier {
            Carrier::Udp => by_udp(ask, lookup).await,
            Carrier::Tcp => by_tcp(ask, lookup).await,
        }
        .map(|()| Ended::Answer)
    };
    let late = async {
        sleep(ask.timeout).await;
        Ok(Ended::Silence)
    };
    match or(answered, late).await {
        Ok(Ended::Answer) => return Ended::Answer,
        Ok(Ended::Silence) => lookup.handle_silence(),
        Err(error) => lookup.handle_error(&error.to_string()),
    }
    Ended::Silence
}

/// Waits until a datagram of the server's answers the query; others may write in its name.
async fn by_udp(ask: &Ask, lookup: &mut Lookup) -> io::Result<()> {
    let socket = connected(ask.server)?;
    socket.send(&ask.message).await?;
    let mut buffer = vec![0; limits::dns::UDP_BUFFER_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if lookup.handle_message(&buffer[..length]) == Received::Taken {
            return Ok(());
        }
    }
}

/// A socket of its own, on a port that the kernel draws: another's datagrams do not come in.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    socket.bind(&any.into())?;
    socket.connect(&server.into())?;
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open and now owned by the socket alone; every test of
    // `tests/dns.rs` leans on it.
    Ok(unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) })
}

/// RFC 1035 4.2.2: two octets of length, then the message. Room is made for what has come, not for what is promised.
async fn by_tcp(ask: &Ask, lookup: &mut Lookup) -> io::Result<()> {
    let mut stream = TcpStream::connect(ask.server).await?;
    let length = u16::try_from(ask.message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), ask.message.as_slice()].concat();
    stream.write_all(&framed).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut message = Vec::new();
    (&mut stream).take(u64::from(u16::from_be_bytes(length))).read_to_end(&mut message).await?;
    // By TCP everything is taken.
    lookup.handle_message(&message);
    Ok(())
}
