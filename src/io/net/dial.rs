//! Connections that we make.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use futures_lite::FutureExt;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::listener::Accepted;
use super::socket::Handle;
use super::watch::Watch;
use crate::io::executor::sleep;
use crate::io::{clock, world};
use crate::mail::time::Instant;

/// Connects to `to`, from the address `from` if it is given, until `deadline`. Both addresses are of one family.
pub async fn dial(to: SocketAddr, from: Option<IpAddr>, deadline: Instant) -> io::Result<Accepted> {
    if let Some(world) = world::current() {
        let late = async {
            sleep(deadline - clock::instant()).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        return world.dial(to, from).or(late).await.map(Accepted::of);
    }
    let socket = fresh_socket(to, from)?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let watch = Watch::writable(socket.try_clone()?.into())?;
    let late = async {
        sleep(deadline - clock::instant()).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    watch.ready().or(late).await?;
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    // The ring of the sockets waits itself; a socket that does not block would not let it.
    socket.set_nonblocking(false)?;
    Ok(Accepted { socket: Handle::Descriptor(socket.into()), peer: to, local })
}

fn fresh_socket(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Socket> {
    let kind = Type::STREAM.cloexec().nonblocking();
    let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        // The port is chosen when the peer is known, so that one port serves connections to many peers.
        set_bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

fn set_bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call, which reads `length` bytes of `on` and keeps no pointer.
    let outcome = unsafe {
        let on = (&raw const on).cast::<libc::c_void>();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on, length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::dial;
    use crate::io::clock;
    use crate::io::executor;
    use crate::io::net::{Conn, Deadlines, Filled, Sockets};

    const SOON: Duration = Duration::from_secs(10);

    fn run<T: Send + 'static>(body: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        let (handle, _) = executor::start("dial", None, |_| async move { body().await }).expect("it starts");
        handle.join().expect("it ends")
    }

    #[test]
    fn from_the_address_that_is_wanted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
        let to = listener.local_addr().expect("it is bound");
        let peer = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().expect("somebody comes");
            stream.write_all(b"220 hello\r\n").expect("it is taken");
            from
        });
        let wanted = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
        let (local, greeting) = run(async move || {
            let accepted = dial(to, Some(wanted), clock::instant() + SOON).await.expect("it connects");
            let mut conn = Conn::new(accepted, &Sockets::open().expect("a ring"), &Deadlines::default());
            assert_eq!(conn.fill().await.expect("the greeting comes"), Filled::Input);
            (conn.local(), conn.input().to_vec())
        });
        assert_eq!(greeting, b"220 hello\r\n");
        assert_eq!((local.ip(), local), (wanted, peer.join().expect("it ends")));
        assert_ne!(local.port(), 0);
    }

    #[test]
    fn what_goes_wrong_is_told_in_time() {
        // Bound and not listening.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket is to be had");
        closed.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback is there");
        let to = closed.local_addr().expect("it is bound").as_socket().expect("it is of the internet");
        let refused = run(async move || dial(to, None, clock::instant() + SOON).await.err());
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));

        // A queue that is full takes no more connections.
        closed.listen(0).expect("it can listen");
        let late = run(async move || {
            let mut kept = Vec::new();
            loop {
                match dial(to, None, clock::instant() + Duration::from_millis(300)).await {
                    Ok(accepted) => kept.push(accepted),
                    Err(error) => return (error.kind(), kept.len()),
                }
            }
        });
        assert_eq!(late.0, ErrorKind::TimedOut);
        assert!(late.1 < 10, "{} connections were made", late.1);

        let foreign = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let error = run(async move || dial(to, Some(foreign), clock::instant() + SOON).await.err());
        assert!(error.is_some(), "an address of another family cannot be bound");
    }
}
