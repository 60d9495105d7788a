//! A hostile crowd beside decent clients: slow, silent, flooding, half-closed and reset connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::client::Smtp;
use crate::server::{IMAP, PASSWORD, POP3, SMTP, Server};
use crate::{ALICE, descriptors_of, memory_of, note};

/// Connections, by `RINGPOST_CROWD`; a run of all tests has fewer.
const CROWD: usize = 500;

const DECENT_CLIENTS: usize = 4;
const DECENT_MESSAGES: usize = 150;
const DECENT_PAUSE: Duration = Duration::from_millis(20);

/// The 99th percentile of what a decent client's message takes beside the crowd, as a multiple of what it takes alone.
/// Without optimisation all work of the server takes ten times as long, and that of the disk does not.
const RATIO_MAX: f64 = if cfg!(debug_assertions) { 10.0 } else { 4.0 };

/// Disks and schedulers have moments of their own, which are no multiple of anything.
const NOISE: Duration = Duration::from_millis(20);

/// What one of the crowd may cost the server.
const BYTES_MAX: u64 = 48 << 10;

/// When the crowd has gone, so have its descriptors.
const GONE_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_hostile_crowd_costs_decent_clients_little() {
    let named = std::env::var("RINGPOST_CROWD").ok().and_then(|text| text.parse().ok());
    let count: usize = named.unwrap_or(CROWD);
    let server = Server::with_accounts(&[ALICE]);
    // Once for what is made at the first use.
    latencies(&server);
    let before = latencies(&server);
    let (descriptors, memory) = (descriptors_of(&server), memory_of(&server));
    let gone = AtomicBool::new(false);
    let (beside, most, met) = thread::scope(|scope| {
        let mut crowd = Crowd::gather(server.address(), count);
        let gone = &gone;
        let misbehaving = scope.spawn(move || {
            give_way();
            while !gone.load(Ordering::Relaxed) {
                crowd.misbehave();
                thread::sleep(Duration::from_millis(50));
            }
            crowd.met
        });
        let beside = latencies(&server);
        let most = memory_of(&server);
        gone.store(true, Ordering::Relaxed);
        (beside, most, misbehaving.join().expect("the crowd ends well"))
    });
    let begun = Instant::now();
    while descriptors_of(&server) > descriptors + DECENT_CLIENTS {
        assert!(begun.elapsed() < GONE_MAX, "{} of {descriptors} descriptors", descriptors_of(&server));
        thread::sleep(Duration::from_millis(50));
    }
    let alone = Latencies::of_all([before, latencies(&server)]);
    let each = most.saturating_sub(memory) / count as u64;
    let ratio = beside.p99.as_secs_f64() / alone.p99.as_secs_f64();
    println!(
        "{count} hostile connections, {each} bytes each, {} MB of commands, {} sent away; p50 and p99 of a message: \
         alone {:?} {:?}, beside them {:?} {:?}, ratio of the p99 {ratio:.2}",
        met.flood_bytes >> 20,
        met.sent_away,
        alone.p50,
        alone.p99,
        beside.p50,
        beside.p99
    );
    let bearable = alone.p99.mul_f64(RATIO_MAX).max(alone.p99 + NOISE);
    assert!(beside.p99 <= bearable, "p99 is {:?} beside the crowd, {:?} alone", beside.p99, alone.p99);
    assert!(each < BYTES_MAX, "{each} bytes for each");
    assert!(!server.log().contains("panic"), "{}", server.log());
}

/// What messages of decent clients took; all are taken.
struct Latencies {
    all: Vec<Duration>,
    p50: Duration,
    p99: Duration,
}

impl Latencies {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self { p50: all[all.len() / 2], p99: all[all.len() * 99 / 100], all }
    }

    fn of_all(several: [Self; 2]) -> Self {
        Self::of(several.into_iter().flat_map(|latencies| latencies.all).collect())
    }
}

/// The crowd is elsewhere: its own work must not take the processors from those whose time is measured.
fn give_way() {
    rustix::process::setpriority_process(None, 19).expect("a thread may want less");
}

fn latencies(server: &Server) -> Latencies {
    let address = server.address();
    let all: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..DECENT_CLIENTS).map(|_| scope.spawn(move || decent(address))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client ends well")).collect()
    });
    Latencies::of(all)
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
    /// Commands as fast as they are taken; half of them take no reply. Those who are sent away come again.
    flooding: Vec<Flood>,
    /// Will say no more, and do not go.
    _half_closed: Vec<TcpStream>,
    /// Go with a reset, and come again.
    reset: Vec<TcpStream>,
    met: Met,
}

/// What became of those who flood.
#[derive(Clone, Copy, Default)]
struct Met {
    flood_bytes: usize,
    sent_away: usize,
}

struct Flood {
    socket: TcpStream,
    number: usize,
    commands: Vec<u8>,
    /// Of the commands, what was taken.
    at: usize,
}

impl Crowd {
    fn gather(address: Ipv4Addr, count: usize) -> Self {
        let some = || -> Vec<TcpStream> { (0..count / 5).map(|number| connect(address, number)).collect() };
        let crowd = Self {
            address,
            slow: some(),
            _silent: some(),
            flooding: (0..count / 5).map(|number| Flood::begin(address, number)).collect(),
            _half_closed: some(),
            reset: some(),
            met: Met::default(),
        };
        for socket in &crowd._half_closed {
            socket.shutdown(Shutdown::Write).expect("the connection is open");
        }
        for socket in &crowd.slow {
            socket.set_nonblocking(true).expect("a socket need not wait");
        }
        crowd
    }

    fn misbehave(&mut self) {
        // The server may have had enough of any of them.
        for socket in &mut self.slow {
            let _ = socket.write(b"N");
        }
        let mut renewed = 0;
        for flood in &mut self.flooding {
            let is_there = flood.go_on(&mut self.met.flood_bytes);
            if !is_there && renewed < RENEWED_MAX {
                renewed += 1;
                *flood = Flood::begin(self.address, flood.number);
            }
        }
        self.met.sent_away += renewed;
        let renewed = self.reset.len().min(RENEWED_MAX);
        for (number, socket) in self.reset.iter_mut().take(renewed).enumerate() {
            let _ = socket.write(b"EHLO reset.test\r\n");
            SockRef::from(&*socket).set_linger(Some(Duration::ZERO)).expect("an option of TCP");
            *socket = connect(self.address, number);
        }
        self.reset.rotate_left(renewed);
    }
}

/// Connections that are made again in one go.
const RENEWED_MAX: usize = 50;

impl Flood {
    /// Over IMAP as a user who has logged in, over SMTP and POP3 as a stranger.
    fn begin(address: Ipv4Addr, number: usize) -> Self {
        let mut socket = connect(address, number);
        let command: &[u8] = match port(number) {
            IMAP => {
                let login = format!("a LOGIN {ALICE} \"{PASSWORD}\"\r\nb SELECT INBOX\r\n");
                socket.write_all(login.as_bytes()).expect("the server reads");
                [&b"c NOOP\r\n"[..], b"d LIST \"\" *\r\n"][number / 3 % 2]
            }
            SMTP => b"NOOP\r\n",
            _ => b"CAPA\r\n",
        };
        socket.set_nonblocking(true).expect("a socket need not wait");
        Self { socket, number, commands: command.repeat(500), at: 0 }
    }

    /// Says as much as is taken. False when the server has sent it away.
    fn go_on(&mut self, flood_bytes: &mut usize) -> bool {
        let takes_replies = self.number.is_multiple_of(2);
        for _ in 0..ROUNDS_MAX {
            let mut replies = [0; 16 << 10];
            while takes_replies && self.socket.read(&mut replies).is_ok_and(|count| count > 0) {}
            match self.socket.write(&self.commands[self.at..]) {
                Ok(count) => {
                    *flood_bytes += count;
                    self.at = (self.at + count) % self.commands.len();
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Writes of one that floods before it is the next one's turn.
const ROUNDS_MAX: usize = 50;

fn port(number: usize) -> u16 {
    [SMTP, IMAP, POP3][number % 3]
}

/// A connection that was greeted, to one of the protocols.
fn connect(address: Ipv4Addr, number: usize) -> TcpStream {
    let mut socket = TcpStream::connect((address, port(number))).expect("the server accepts");
    // What it has sent and is not taken yet is memory of the crowd's machines, and not of this one, which has so much.
    SockRef::from(&socket).set_send_buffer_size(16 << 10).expect("an option of TCP");
    let greeted: io::Result<usize> = socket.read(&mut [0; 256]);
    assert!(greeted.expect("a greeting") > 0, "the server greets");
    socket
}
