//! A mail server on loopback that takes mail, keeps a ledger of it, and does wrong what its script says.
//!
//! Left alone it is a decent server whose recipients have fates by their names, see [`fate`]. A script is asked
//! at every step, from the greeting on, and may do something else instead. Threads and sockets end with the [`Remote`].

mod character;
mod fate;
mod ledger;
mod session;
#[allow(dead_code, reason = "shared with the tests of other people's programs")]
pub mod tls;

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use character::{Act, Character, Verb};
pub use ledger::{Arrival, Carrier, Ledger};
use session::Session;

/// The port of all hosts that are found through MX records: a route can name one port for all.
pub const PORT: u16 = 2626;

/// How soon the listening thread sees that it is to stop.
const LOOK: Duration = Duration::from_millis(5);

/// More connections than that at a time are closed as they come.
const CONNECTIONS_MAX: usize = 300;

/// Runs until it is dropped.
pub struct Remote {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

/// What the sessions of a remote share.
pub struct Shared {
    character: Character,
    ledger: Mutex<Ledger>,
    is_stopping: AtomicBool,
}

impl Remote {
    /// On an address of its own.
    pub fn start(character: Character) -> Self {
        Self::at(SocketAddr::new(own_address().into(), PORT), character)
    }

    /// As [`Remote::start`], without anything special about it.
    pub fn decent() -> Self {
        Self::start(Character::decent())
    }

    pub fn at(address: SocketAddr, character: Character) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).expect("a socket need not wait");
        let address = listener.local_addr().expect("it is bound");
        let shared =
            Arc::new(Shared { character, ledger: Mutex::default(), is_stopping: AtomicBool::new(false) });
        let for_thread = Arc::clone(&shared);
        let listening = Some(thread::spawn(move || listen(&listener, &for_thread)));
        Self { address, shared, listening }
    }

    /// `"127.1.2.3:2626"`, as a route names it.
    pub fn target(&self) -> String {
        format!("\"{}\"", self.address)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// The messages so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.ledger().arrivals.clone()
    }

    /// The message for the recipient; there must be one.
    pub fn arrival_for(&self, recipient: &str) -> Arrival {
        let all = self.arrivals();
        let mut found: Vec<Arrival> = all.into_iter().filter(|arrival| arrival.has(recipient)).collect();
        assert_eq!(found.len(), 1, "messages for {recipient}");
        found.remove(0)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.listening.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the remote server panicked");
        }
    }
}

impl Shared {
    pub fn character(&self) -> &Character {
        &self.character
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no session panics with the ledger")
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions: Vec<(JoinHandle<()>, TcpStream)> = Vec::new();
    while !shared.is_stopping() {
        match listener.accept() {
            Ok((socket, peer)) => {
                sessions.retain(|(thread, _)| !thread.is_finished());
                if sessions.len() < CONNECTIONS_MAX {
                    sessions.extend(begin(socket, peer, shared));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(LOOK),
            Err(error) => panic!("accept: {error}"),
        }
    }
    for (thread, socket) in sessions {
        // It may have been closed by then.
        let _ = socket.shutdown(Shutdown::Both);
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking(), "a session of the remote server panicked");
    }
}

fn begin(
    socket: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<(JoinHandle<()>, TcpStream)> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    let (other, to_end) = (socket.try_clone()?, socket.try_clone()?);
    let number = shared.ledger().open(peer, Instant::now());
    let shared = Arc::clone(shared);
    let thread = thread::spawn(move || {
        // However the connection ends, the ledger has what it brought.
        let _ = Session::new(socket, number, &shared).run();
        // The listening thread holds the socket, too.
        let _ = to_end.shutdown(Shutdown::Both);
        shared.ledger().close(number, Instant::now());
    });
    Ok((thread, other))
}

/// A loopback address that nobody else in this process or a neighbour's has.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(128).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, high, middle, _] = (number / 254 * 256).to_be_bytes();
    let low = u8::try_from(1 + number % 254).expect("at most 254");
    // Those from 127.64.0.0 on are the servers' under test.
    Ipv4Addr::new(127, (high & 31) + 1, middle, low)
}
