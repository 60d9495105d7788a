//! The ring of sockets against the kernel's own sockets.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use futures_lite::future::{or, poll_once, yield_now};

use super::{Conn, Deadlines, Filled, Listener, Parcel, Reserved, Sockets};
use crate::bytes::{Output, Slice};
use crate::io::executor::{self, sleep};
use crate::io::tls::{ClientTls, ServerTls, Trust};
use crate::io::{clock, ring};

/// Runs `body` on an executor of its own, with sockets.
fn on_a_shard<F, T>(body: impl FnOnce(Sockets) -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    ring::raise_limits();
    let run = |_| async { body(Sockets::open().expect("a ring")).await };
    let (handle, _) = executor::start("sockets", None, run).expect("an executor");
    handle.join().expect("the test on the executor passes")
}

fn listen(sockets: &Sockets) -> Listener {
    let reserved = Reserved::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    Listener::open(reserved, sockets).expect("it listens")
}

async fn accept(listener: &Listener, sockets: &Sockets) -> Conn {
    let accepted = listener.accept().await.expect("a connection");
    Conn::new(accepted, sockets, &Deadlines::default())
}

/// Connects in a thread and does `talk` there.
fn client<T: Send + 'static>(
    to: SocketAddr,
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || talk(TcpStream::connect(to).expect("the listener takes it")))
}

/// What the client's thread returns, while the executor goes on.
async fn ended<T>(peer: thread::JoinHandle<T>) -> T {
    while !peer.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    peer.join().expect("the peer ends")
}

/// Waits until all slots are empty but that of the listener.
async fn settled(sockets: &Sockets, in_use: usize) {
    while sockets.with(|ring| ring.slots.in_use()) != in_use {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn read_to_end(conn: &mut Conn) -> Vec<u8> {
    let mut read = Vec::new();
    while conn.fill().await.expect("the peer is there") == Filled::Input {
        read.extend_from_slice(conn.input());
        conn.consume(conn.input().len());
    }
    read
}

#[test]
fn what_is_said_is_answered_and_the_end_is_seen() {
    on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        let peer = client(listener.address(), |mut stream| {
            let mut heard = [0; 5];
            for _ in 0..1000 {
                stream.write_all(b"hello").expect("sent");
                stream.read_exact(&mut heard).expect("received");
                assert_eq!(&heard, b"hello");
            }
            stream.shutdown(Shutdown::Write).expect("half closed");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("received");
            rest
        });
        let mut conn = accept(&listener, &sockets).await;
        while conn.fill().await.expect("the peer is there") == Filled::Input {
            let (input, out) = conn.input_and_out();
            out.push(input);
            let taken = input.len();
            conn.consume(taken);
            conn.flush().await.expect("sent");
        }
        conn.out().push(b"goodbye");
        conn.flush().await.expect("sent");
        conn.close().await;
        drop(conn);
        assert_eq!(ended(peer).await, b"goodbye");
        settled(&sockets, 1).await;
    });
}

/// Shakes hands, and says its last words and that they are the last in one write; then waits for the other end.
fn part_in_tls(mut stream: TcpStream) {
    let client = ClientTls::open().expect("trust");
    let mut tls = client.session("mail.example.org", Trust::Anyone).expect("a session");
    let (mut out, mut plain, mut part) = (Vec::new(), Vec::new(), [0; 4096]);
    tls.start(&mut out);
    while tls.is_handshaking() {
        stream.write_all(&out).expect("sent");
        out.clear();
        let length = stream.read(&mut part).expect("received");
        tls.feed(&part[..length], &mut plain, &mut out).expect("they agree");
    }
    tls.seal(b"last words", &mut out).expect("sealed");
    tls.close(&mut out);
    stream.write_all(&out).expect("sent");
    while stream.read(&mut part).is_ok_and(|length| length > 0) {}
}

#[test]
fn an_end_that_comes_with_the_last_words_is_seen() {
    on_a_shard(|sockets| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let server = ServerTls::local(folder.path(), "mail.example.org", clock::timestamp());
        let session = server.expect("a certificate").session().expect("a session");
        let listener = listen(&sockets);
        let peer = client(listener.address(), part_in_tls);
        let mut conn = accept(&listener, &sockets).await;
        conn.start_tls(session).await.expect("they agree");
        let late = async {
            sleep(Duration::from_secs(10)).await;
            b"it waits for more".to_vec()
        };
        assert_eq!(or(read_to_end(&mut conn), late).await, b"last words");
        drop(conn);
        ended(peer).await;
    });
}

#[test]
fn a_slow_reader_gets_all_pieces_in_order() {
    on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        let mut burst = Output::new();
        for number in 0..100_u32 {
            burst.push(&number.to_le_bytes());
            burst.push_slice(Slice::from(vec![number as u8; 100_000]));
        }
        let expected = burst.to_vec();
        let peer = client(listener.address(), |mut stream| {
            let mut read = Vec::new();
            let mut part = vec![0; 300_000];
            loop {
                thread::sleep(Duration::from_millis(1));
                match stream.read(&mut part).expect("received") {
                    0 => return read,
                    length => read.extend_from_slice(&part[..length]),
                }
            }
        });
        let mut conn = accept(&listener, &sockets).await;
        std::mem::swap(conn.out(), &mut burst);
        conn.flush().await.expect("sent");
        conn.close().await;
        assert!(ended(peer).await == expected);
    });
}

#[test]
fn a_wait_that_is_given_up_loses_no_byte() {
    on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        let expected: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = expected.clone();
        let peer = client(listener.address(), move |mut stream| {
            for part in sent.chunks(7) {
                stream.write_all(part).expect("sent");
                thread::sleep(Duration::from_micros(50));
            }
        });
        let mut conn = accept(&listener, &sockets).await;
        let mut read = Vec::new();
        loop {
            let given_up = async {
                yield_now().await;
                sleep(Duration::from_micros(20)).await;
                None
            };
            match or(async { Some(conn.fill().await) }, given_up).await {
                None => continue,
                Some(Ok(Filled::Input)) => read.extend_from_slice(conn.input()),
                Some(_) => break,
            }
            conn.consume(conn.input().len());
        }
        assert!(read == expected);
        ended(peer).await;
    });
}

#[test]
fn who_is_dropped_while_waiting_is_closed_and_leaves_no_slot() {
    on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        for number in 0..100 {
            let peer = client(listener.address(), |mut stream| {
                let mut rest = Vec::new();
                // A reset is an end, too.
                let _ = stream.read_to_end(&mut rest);
                rest.len()
            });
            let mut conn = accept(&listener, &sockets).await;
            assert!(poll_once(conn.fill()).await.is_none());
            // What the socket takes still goes out; the rest of the large one does not hold up the end.
            conn.out().push(b"bye");
            conn.flush().await.expect("sent");
            if number % 2 == 0 {
                yield_now().await;
                conn.out().push_slice(Slice::from(vec![b'x'; 32 << 20]));
                assert!(poll_once(conn.flush()).await.is_none());
            }
            drop(conn);
            assert!(ended(peer).await >= 3);
        }
        settled(&sockets, 1).await;
        let address = listener.address();
        assert!(poll_once(listener.accept()).await.is_none());
        drop(listener);
        settled(&sockets, 0).await;
        assert!(TcpStream::connect(address).is_err());
    });
}

#[test]
fn when_all_buffers_are_out_the_others_wait_for_one() {
    on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        let count = super::buffers::BUFFERS_MAX as usize + 50;
        let mut conns = Vec::new();
        let mut peers = Vec::new();
        for number in 0..count as u32 {
            let mut peer = TcpStream::connect(listener.address()).expect("the backlog takes it");
            conns.push(accept(&listener, &sockets).await);
            peer.write_all(&number.to_le_bytes()).expect("sent");
            peers.push(peer);
        }
        // Everybody waits; those that found no buffer go on when another was read.
        for (number, conn) in conns.iter_mut().enumerate() {
            if number + 50 >= count {
                assert!(poll_once(conn.fill()).await.is_none());
                continue;
            }
            assert_eq!(conn.fill().await.expect("the peer is there"), Filled::Input);
        }
        sleep(Duration::from_millis(20)).await;
        // One that starves is gone.
        drop((conns.pop(), peers.pop()));
        for (number, conn) in conns.iter_mut().enumerate() {
            assert_eq!(conn.fill().await.expect("the peer is there"), Filled::Input);
            assert_eq!(conn.input(), (number as u32).to_le_bytes());
            conn.consume(4);
        }
        drop(conns);
        settled(&sockets, 1).await;
    });
}

#[test]
fn a_connection_moves_to_another_shard_with_what_it_has() {
    let (parcel, peer) = on_a_shard(|sockets| async move {
        let listener = listen(&sockets);
        let peer = client(listener.address(), |mut stream| {
            stream.write_all(b"login").expect("sent");
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).expect("received");
            stream.write_all(b"more").expect("sent");
            stream.shutdown(Shutdown::Write).expect("half closed");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("received");
            (heard, rest)
        });
        let mut conn = accept(&listener, &sockets).await;
        assert_eq!(conn.fill().await.expect("the peer is there"), Filled::Input);
        conn.consume(3);
        conn.out().push(b"first");
        conn.flush().await.expect("sent");
        let parcel = conn.pack().await.expect("it is whole");
        settled(&sockets, 1).await;
        (parcel, peer)
    });
    let parcel: Parcel = parcel;
    on_a_shard(|sockets| async move {
        let mut conn = Conn::unpack(parcel, &sockets, &Deadlines::default());
        assert_eq!(read_to_end(&mut conn).await, b"inmore");
        conn.out().push(b"second");
        conn.flush().await.expect("sent");
        conn.close().await;
    });
    assert_eq!(peer.join().expect("the peer ends"), (*b"first", b"second".to_vec()));
}
