//! A hostile crowd beside decent clients: slow, silent, flooding, half-closed and reset connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::client::Smtp;
use crate::server::{IMAP, POP3, SMTP, Server};
use crate::{ALICE, descriptors_of, memory_of, note};

/// Connections, by `RINGPOST_CROWD`; a run of all tests has fewer.
const CROWD: usize = 200;

const DECENT_CLIENTS: usize = 4;
const DECENT_MESSAGES: usize = 60;
const DECENT_PAUSE: Duration = Duration::from_millis(40);

/// Of a message from a decent client, with a debug build on a busy machine.
const P99_MAX: Duration = Duration::from_secs(5);

/// What one of the crowd may cost the server.
const BYTES_MAX: u64 = 48 << 10;

/// When the crowd has gone, so have its descriptors.
const GONE_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_hostile_crowd_costs_decent_clients_little() {
    let named = std::env::var("RINGPOST_CROWD").ok().and_then(|text| text.parse().ok());
    let count: usize = named.unwrap_or(CROWD);
    let server = Server::with_accounts(&[ALICE]);
    let alone = latencies(&server);
    let (descriptors, memory) = (descriptors_of(&server), memory_of(&server));
    let gone = AtomicBool::new(false);
    let (beside, most) = thread::scope(|scope| {
        let mut crowd = Crowd::gather(server.address(), count);
        let gone = &gone;
        scope.spawn(move || {
            while !gone.load(Ordering::Relaxed) {
                crowd.misbehave();
                thread::sleep(Duration::from_millis(100));
            }
        });
        let beside = latencies(&server);
        let most = memory_of(&server);
        gone.store(true, Ordering::Relaxed);
        (beside, most)
    });
    let each = most.saturating_sub(memory) / count as u64;
    println!(
        "{count} hostile connections, {each} bytes each; p50 and p99 of a message: alone {:?} {:?}, beside them {:?} \
         {:?}",
        alone.0, alone.1, beside.0, beside.1
    );
    assert!(beside.1 < P99_MAX, "p99 is {:?}", beside.1);
    assert!(each < BYTES_MAX, "{each} bytes for each");
    let begun = Instant::now();
    while descriptors_of(&server) > descriptors + DECENT_CLIENTS {
        assert!(begun.elapsed() < GONE_MAX, "{} of {descriptors} descriptors", descriptors_of(&server));
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!server.log().contains("panic"), "{}", server.log());
}

/// Median and 99th percentile of what messages of decent clients took; all are taken.
fn latencies(server: &Server) -> (Duration, Duration) {
    let address = server.address();
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..DECENT_CLIENTS).map(|_| scope.spawn(move || decent(address))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client ends well")).collect()
    });
    all.sort();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

fn decent(address: Ipv4Addr) -> Vec<Duration> {
    let mut smtp = Smtp::connect(address, SMTP).expect("SMTP answers");
    let send = |number| {
        let begun = Instant::now();
        let taken = smtp.message("sender@elsewhere.test", &[ALICE], &note(number)).expect("a reply");
        assert!(taken, "every message gets its 250");
        let took = begun.elapsed();
        thread::sleep(DECENT_PAUSE);
        took
    };
    (0..DECENT_MESSAGES).map(send).collect()
}

/// A fifth of each sort, over all protocols.
struct Crowd {
    address: Ipv4Addr,
    /// A byte now and then.
    slow: Vec<TcpStream>,
    /// Say nothing, take nothing.
    _silent: Vec<TcpStream>,
    /// Commands as fast as they are taken, and no look at the replies.
    flooding: Vec<TcpStream>,
    /// Will say no more, and do not go.
    _half_closed: Vec<TcpStream>,
    /// Go with a reset, and come again.
    reset: Vec<TcpStream>,
}

impl Crowd {
    fn gather(address: Ipv4Addr, count: usize) -> Self {
        let some = || -> Vec<TcpStream> { (0..count / 5).map(|number| connect(address, number)).collect() };
        let crowd = Self {
            address,
            slow: some(),
            _silent: some(),
            flooding: some(),
            _half_closed: some(),
            reset: some(),
        };
        for socket in &crowd._half_closed {
            socket.shutdown(Shutdown::Write).expect("the connection is open");
        }
        for socket in crowd.flooding.iter().chain(&crowd.slow) {
            socket.set_nonblocking(true).expect("a socket need not wait");
        }
        crowd
    }

    fn misbehave(&mut self) {
        // The server may have had enough of any of them.
        for socket in &mut self.slow {
            let _ = socket.write(b"N");
        }
        for socket in &mut self.flooding {
            while socket.write(&FLOOD).is_ok_and(|count| count > 0) {}
        }
        let renewed = self.reset.len().min(50);
        for (number, socket) in self.reset.iter_mut().take(renewed).enumerate() {
            let _ = socket.write(b"EHLO reset.test\r\n");
            SockRef::from(&*socket).set_linger(Some(Duration::ZERO)).expect("an option of TCP");
            *socket = connect(self.address, number);
        }
        self.reset.rotate_left(renewed);
    }
}

const FLOOD: [u8; 6 * 512] = {
    let mut flood = [0; 6 * 512];
    let mut index = 0;
    while index < flood.len() {
        flood[index] = b"NOOP\r\n"[index % 6];
        index += 1;
    }
    flood
};

/// A connection that was greeted, to one of the protocols.
fn connect(address: Ipv4Addr, number: usize) -> TcpStream {
    let port = [SMTP, IMAP, POP3][number % 3];
    let mut socket = TcpStream::connect((address, port)).expect("the server accepts");
    let greeted: io::Result<usize> = socket.read(&mut [0; 256]);
    assert!(greeted.expect("a greeting") > 0, "the server greets");
    socket
}
