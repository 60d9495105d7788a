//! The connections and timers of one loop, on one epoll.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use crate::engine::connection::{Connection, Input, Phase};
use crate::engine::timers::Timers;
use crate::engine::tls::ClientTls;
use crate::engine::{Clock, Work};

/// A connection or a listener; a number is not used again while the run lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u64);

pub struct Ports {
    epoll: OwnedFd,
    clock: Clock,
    slots: Vec<Slot>,
    free: Vec<u32>,
    timers: Timers,
    /// Whose, and what.
    events: Vec<(u64, epoll::EventFlags)>,
    listeners: HashMap<PortId, TcpListener>,
    /// Ports that may have input although no event will say so.
    released: Vec<PortId>,
    input: Vec<u8>,
    raw: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// Events of one question to the kernel; the schedule is looked at between any two.
const EVENTS_MAX: usize = 64;

/// The most that is read from a connection at once.
const INPUT_BYTES: usize = 256 << 10;

/// Connections taken from a listener before others have their turn.
const ACCEPTS_MAX: usize = 64;

const LISTENER: u64 = 1 << 63;

impl PortId {
    fn new(slot: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// A place in a table that is no larger than the highest number of ports open at once.
    pub fn place(self) -> usize {
        self.slot()
    }
}

impl Ports {
    pub fn new(clock: Clock) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock,
            slots: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            events: Vec::with_capacity(EVENTS_MAX),
            listeners: HashMap::new(),
            released: Vec::new(),
            input: vec![0; INPUT_BYTES],
            raw: vec![0; INPUT_BYTES / 2],
        })
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Connects to `address`, from an address of this machine if one is given.
    pub fn dial(&mut self, address: SocketAddr, from: Option<SocketAddr>) -> io::Result<PortId> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            net::bind(&socket, &from)?;
        }
        match net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.add(Connection::new(TcpStream::from(socket), Phase::Dialling))
    }

    /// Takes connections at `address`; loops of other threads may do so, too.
    pub fn listen(&mut self, address: SocketAddr, backlog: i32) -> io::Result<PortId> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        net::bind(&socket, &address)?;
        net::listen(&socket, backlog)?;
        let id = PortId(LISTENER | self.listeners.len() as u64);
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(id.0), epoll::EventFlags::IN)?;
        self.listeners.insert(id, TcpListener::from(socket));
        Ok(id)
    }

    /// The address that a listener was given.
    pub fn local_address(&self, listener: PortId) -> Option<SocketAddr> {
        self.listeners.get(&listener)?.local_addr().ok()
    }

    /// Sends parts, at most four, with one system call. A port that is gone takes nothing: its end is an event.
    pub fn send(&mut self, port: PortId, parts: &[&[u8]]) {
        if let Some(connection) = self.connection(port)
            && connection.send(parts).is_err()
        {
            // Reading finds the same error, and tells the work.
            connection.may_have_input = true;
            self.released.push(port);
        }
    }

    /// Whether the other side has been slow to take what was sent.
    pub fn has_unsent(&self, port: PortId) -> bool {
        self.peek(port).is_some_and(Connection::has_unsent)
    }

    /// Speaks TLS from here on, as a client; `handle_opened` says when the handshake is over.
    pub fn begin_client_tls(&mut self, port: PortId, tls: &ClientTls) -> io::Result<()> {
        let client =
            ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
        self.connection(port).map_or(Ok(()), |connection| connection.begin_tls(client.into()))
    }

    /// The same as a server.
    pub fn begin_server_tls(&mut self, port: PortId, tls: &Arc<ServerConfig>) -> io::Result<()> {
        let server = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
        self.connection(port).map_or(Ok(()), |connection| connection.begin_tls(server.into()))
    }

    /// How TLS began on this port, if it did.
    pub fn handshake_kind(&self, port: PortId) -> Option<HandshakeKind> {
        self.peek(port)?.handshake_kind()
    }

    /// Closes at once; `handle_closed` is not called.
    pub fn close(&mut self, port: PortId) {
        if self.peek(port).is_none() {
            return;
        }
        let slot = &mut self.slots[port.slot()];
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1) & 0x7fff_ffff;
        self.free.push(port.slot() as u32);
    }

    /// Closes without leaving a trace in the kernel's tables: what load generators do to not run out of ports.
    pub fn reset(&mut self, port: PortId) {
        if let Some(connection) = self.connection(port) {
            // If it cannot be set, the port waits in the tables a minute.
            let _ = sockopt::set_socket_linger(&connection.stream, Some(Duration::ZERO));
        }
        self.close(port);
    }

    /// Closes when everything is sent.
    pub fn end(&mut self, port: PortId) {
        match self.connection(port) {
            Some(connection) if connection.has_unsent() => connection.is_ending = true,
            _ => self.close(port),
        }
    }

    /// Reads of any connection take no more than this at once.
    pub fn read_at_most(&mut self, bytes: usize) {
        self.input.truncate(bytes.max(2));
        self.raw.truncate(bytes.max(2) / 2);
    }

    /// Leaves what comes in the kernel's buffers until [`Ports::release`].
    pub fn hold(&mut self, port: PortId) {
        if let Some(connection) = self.connection(port) {
            connection.is_held = true;
        }
    }

    pub fn release(&mut self, port: PortId) {
        if let Some(connection) = self.connection(port) {
            connection.is_held = false;
            self.released.push(port);
        }
    }

    /// The work gets `token` when the time has come.
    pub fn wake_at(&mut self, at: u64, token: u64) {
        self.timers.add(at, token);
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        // What was released can be read at once.
        if self.released.is_empty() { self.timers.next() } else { Some(0) }
    }

    pub(super) fn run_timers(&mut self, work: &mut impl Work, now: u64) {
        while let Some(token) = self.timers.pop_due(now) {
            work.handle_timer(self, token, now);
        }
        for port in std::mem::take(&mut self.released) {
            self.handle_readable(work, port);
        }
    }

    /// How many events there are, after at most `patience`.
    pub(super) fn wait(&mut self, patience: Option<Duration>) -> io::Result<usize> {
        let timeout = patience.map(|patience| Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        });
        let mut space = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        self.events.clear();
        match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((events, _)) => {
                let noted = events.iter().map(|event| {
                    let (data, flags) = (event.data, event.flags);
                    (data.u64(), flags)
                });
                self.events.extend(noted);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.len())
    }

    /// Hands out the events; what is due meanwhile is started on time.
    pub(super) fn dispatch(&mut self, work: &mut impl Work, mut due: Option<u64>) {
        let events = std::mem::take(&mut self.events);
        for &(id, flags) in &events {
            if due.is_some_and(|at| at <= self.now()) {
                let now = self.now();
                due = work.poll_due(self, now);
            }
            let port = PortId(id);
            match id & LISTENER {
                0 => self.handle_event(work, port, flags),
                _ => self.handle_connections(work, port),
            }
        }
        self.events = events;
    }

    fn handle_event(&mut self, work: &mut impl Work, port: PortId, flags: epoll::EventFlags) {
        let Some(connection) = self.connection(port) else { return };
        if connection.phase == Phase::Dialling {
            match sockopt::socket_error(&connection.stream) {
                Ok(Ok(())) => connection.phase = Phase::Open,
                Ok(Err(error)) | Err(error) => return self.drop_port(work, port, Some(error.into())),
            }
            let now = self.now();
            work.handle_opened(self, port, now);
        }
        let Some(connection) = self.connection(port) else { return };
        if flags.contains(epoll::EventFlags::OUT) && connection.has_unsent() {
            match connection.flush() {
                Ok(()) if connection.is_ending && !connection.has_unsent() => return self.close(port),
                Ok(()) => {}
                Err(error) => return self.drop_port(work, port, Some(error)),
            }
        }
        let readable = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP;
        if flags.intersects(readable | epoll::EventFlags::ERR) {
            if let Some(connection) = self.connection(port) {
                connection.may_have_input = true;
                // Its end is read after the last bytes, which a short read would hide.
                connection.is_ended_by_peer |=
                    flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP);
            }
            self.handle_readable(work, port);
        }
    }

    /// Reads until the socket is empty, the work closes it, or holds it.
    fn handle_readable(&mut self, work: &mut impl Work, port: PortId) {
        let (mut input, mut raw) = (std::mem::take(&mut self.input), std::mem::take(&mut self.raw));
        let mut is_fresh = false;
        while let Some(connection) = self.connection(port) {
            if connection.is_held {
                break;
            }
            if connection.has_unused() && !connection.may_have_input {
                let unused = connection.take_unused();
                self.hand_over(work, port, &unused, &[]);
                break;
            }
            if !connection.may_have_input && !connection.is_ended_by_peer {
                break;
            }
            match connection.read(&mut input, &mut raw) {
                // What came together with the end of a handshake.
                Ok(Input::Dry) if is_fresh && connection.has_unused() => {
                    let unused = connection.take_unused();
                    self.hand_over(work, port, &unused, &[]);
                    break;
                }
                Ok(Input::Dry) => break,
                Ok(Input::Bytes(0)) => {}
                Ok(Input::Bytes(count)) => {
                    let unused = connection.take_unused();
                    self.hand_over(work, port, &unused, &input[..count]);
                }
                Ok(Input::Shaken) => {
                    is_fresh = true;
                    let now = self.now();
                    work.handle_opened(self, port, now);
                }
                Ok(Input::Ended) => {
                    self.drop_port(work, port, None);
                    break;
                }
                Err(error) => {
                    self.drop_port(work, port, Some(error));
                    break;
                }
            }
        }
        (self.input, self.raw) = (input, raw);
    }

    /// What was kept before, then what is fresh.
    fn hand_over(&mut self, work: &mut impl Work, port: PortId, kept: &[u8], fresh: &[u8]) {
        let now = self.now();
        let joined;
        let bytes = match kept {
            [] => fresh,
            kept => {
                joined = [kept, fresh].concat();
                &joined
            }
        };
        let used = work.handle_bytes(self, port, bytes, now);
        if let Some(connection) = self.connection(port) {
            connection.keep(&bytes[used..]);
        }
    }

    fn handle_connections(&mut self, work: &mut impl Work, listener: PortId) {
        for _ in 0..ACCEPTS_MAX {
            let Some(socket) = self.listeners.get(&listener) else { return };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // What cannot be accepted now is an event again.
            let Ok(socket) = net::accept_with(socket, flags) else { return };
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            if let Ok(port) = self.add(Connection::new(TcpStream::from(socket), Phase::Open)) {
                let now = self.now();
                work.handle_accepted(self, port, listener, now);
            }
        }
    }

    fn add(&mut self, connection: Connection) -> io::Result<PortId> {
        let place = self.free.pop().unwrap_or(self.slots.len() as u32);
        if place as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[place as usize];
        let port = PortId::new(place, slot.generation);
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &connection.stream, epoll::EventData::new_u64(port.0), flags)?;
        slot.connection = Some(Box::new(connection));
        Ok(port)
    }

    fn drop_port(&mut self, work: &mut impl Work, port: PortId, error: Option<io::Error>) {
        self.close(port);
        let now = self.now();
        work.handle_closed(self, port, error, now);
    }

    fn peek(&self, port: PortId) -> Option<&Connection> {
        let slot = self.slots.get(port.slot())?;
        slot.connection.as_deref().filter(|_| PortId::new(port.slot() as u32, slot.generation) == port)
    }

    fn connection(&mut self, port: PortId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(port.slot())?;
        let is_current = PortId::new(port.slot() as u32, slot.generation) == port;
        slot.connection.as_deref_mut().filter(|_| is_current)
    }
}

impl From<PortId> for u64 {
    /// A token for timers.
    fn from(port: PortId) -> Self {
        port.0
    }
}

impl From<u64> for PortId {
    /// The port of such a token.
    fn from(token: u64) -> Self {
        Self(token)
    }
}
