//! One query and what comes back, by UDP or TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use futures_lite::future::or;

use crate::io::clock;
use crate::io::executor::sleep;
use crate::io::net::{Conn, Deadlines, Filled, Sockets, Watch, dial};
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
    let watch = Watch::readable(socket.try_clone()?.into())?;
    socket.send(&ask.message)?;
    let mut buffer = vec![0; limits::dns::UDP_BUFFER_BYTES];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if lookup.handle_message(&buffer[..length]) == Received::Taken => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => watch.ready().await?,
            Err(error) => return Err(error),
        }
    }
}

/// A socket of its own, on a port that the kernel draws: another's datagrams do not come in.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket)
}

/// RFC 1035 4.2.2: two octets of length, then the message. Room is made for what has come, not for what is promised.
async fn by_tcp(ask: &Ask, lookup: &mut Lookup) -> io::Result<()> {
    let accepted = dial(ask.server, None, clock::instant() + ask.timeout).await?;
    let mut conn = Conn::new(accepted, &Sockets::open()?, &Deadlines::default());
    let length = u16::try_from(ask.message.len()).map_err(io::Error::other)?;
    conn.out().text_mut().extend_from_slice(&length.to_be_bytes());
    conn.out().text_mut().extend_from_slice(&ask.message);
    conn.flush().await?;
    let mut message = Vec::new();
    while read_to(&mut conn, &mut message, 2).await? {}
    let Some(&length) = message.first_chunk() else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let end = 2 + usize::from(u16::from_be_bytes(length));
    while read_to(&mut conn, &mut message, end).await? {}
    // By TCP everything is taken.
    lookup.handle_message(&message[2..]);
    Ok(())
}

/// Reads on, up to so many bytes in all. False if they are there, or will never be.
async fn read_to(conn: &mut Conn, message: &mut Vec<u8>, end: usize) -> io::Result<bool> {
    if message.len() >= end || conn.fill().await? != Filled::Input {
        return Ok(false);
    }
    let taken = conn.input().len().min(end - message.len());
    message.extend_from_slice(&conn.input()[..taken]);
    conn.consume(taken);
    Ok(true)
}
