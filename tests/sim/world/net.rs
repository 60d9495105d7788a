//! A network that is slow, cuts what it carries where it likes, and breaks connections.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use ringpost::io::world::{Door, Stream, Wire};

use super::sim;

/// All that connects.
#[derive(Default)]
pub struct Network {
    doors: RefCell<BTreeMap<SocketAddr, Vec<Rc<Waiting>>>>,
    next_port: Cell<u16>,
    /// Of so many connections one breaks some time; 0 is never.
    pub breaks_one_in: Cell<u64>,
    /// Connections that broke.
    pub broken: Cell<u64>,
}

/// Connections that nobody has accepted yet.
#[derive(Default)]
struct Waiting {
    wires: RefCell<VecDeque<Wire>>,
    waker: Cell<Option<Waker>>,
}

/// Both directions of a connection.
struct Link {
    pipes: [Pipe; 2],
    /// It breaks when so many more bytes have been sent over it.
    breaks_after: Option<u64>,
    is_broken: bool,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// With the moment of their arrival.
    segments: VecDeque<(u64, Vec<u8>)>,
    last_us: u64,
    is_closed: bool,
    reader: Option<Waker>,
}

/// An end of a connection.
struct End {
    link: Arc<Mutex<Link>>,
    side: usize,
}

impl Network {
    pub fn listen(&self, address: SocketAddr) -> Box<dyn Door> {
        let waiting = Rc::new(Waiting::default());
        self.doors.borrow_mut().entry(address).or_default().push(Rc::clone(&waiting));
        Box::new(Entrance(waiting))
    }

    /// Doors that nobody stands at any more are gone.
    pub fn forget_doors(&self) {
        let mut doors = self.doors.borrow_mut();
        doors.values_mut().for_each(|open| open.retain(|door| Rc::strong_count(door) > 1));
        doors.retain(|_, open| !open.is_empty());
    }

    fn port(&self) -> u16 {
        self.next_port.set(self.next_port.get().wrapping_add(1).max(1024));
        self.next_port.get()
    }
}

/// Connects, after a while.
pub async fn dial(to: SocketAddr) -> io::Result<Wire> {
    let sim = sim();
    sim.sleep_us(100 + sim.below(20_000)).await;
    let door = {
        let doors = sim.net.doors.borrow();
        let open = doors.get(&to).filter(|open| !open.is_empty());
        let Some(open) = open else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        Rc::clone(sim.pick(open))
    };
    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), sim.net.port());
    let one_in = sim.net.breaks_one_in.get();
    let breaks_after = (one_in > 0 && sim.one_in(one_in)).then(|| sim.below(6000));
    let link = Link { pipes: Default::default(), breaks_after, is_broken: false };
    let link = Arc::new(Mutex::new(link));
    let end = |side| Box::new(End { link: Arc::clone(&link), side });
    door.wires.borrow_mut().push_back(Wire { stream: end(1), peer: local, local: to });
    if let Some(waker) = door.waker.take() {
        waker.wake();
    }
    Ok(Wire { stream: end(0), peer: to, local })
}

struct Entrance(Rc<Waiting>);

impl Door for Entrance {
    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<Wire>> {
        match self.0.wires.borrow_mut().pop_front() {
            Some(wire) => Poll::Ready(Ok(wire)),
            None => {
                self.0.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl End {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().expect("nothing panics under the lock")
    }
}

impl Link {
    /// What is on its way is lost, and both ends find out.
    fn break_down(&mut self) {
        if !self.is_broken {
            self.is_broken = true;
            let sim = sim();
            sim.net.broken.set(sim.net.broken.get() + 1);
        }
        for pipe in &mut self.pipes {
            pipe.segments.clear();
            pipe.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Stream for End {
    fn poll_receive(&mut self, context: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        let sim = sim();
        let mut link = self.link();
        let is_broken = link.is_broken;
        let pipe = &mut link.pipes[1 - self.side];
        match pipe.segments.front_mut() {
            Some((at, _)) if *at > sim.now_us() => sim.wake_at(*at, context.waker()),
            Some((_, bytes)) => {
                let count = 1 + sim.below(bytes.len() as u64) as usize;
                if count < bytes.len() && sim.one_in(3) {
                    return Poll::Ready(Ok(Some(bytes.drain(..count).collect())));
                }
                return Poll::Ready(Ok(pipe.segments.pop_front().map(|(_, bytes)| bytes)));
            }
            None if is_broken => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None if pipe.is_closed => return Poll::Ready(Ok(None)),
            None => pipe.reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn send(&mut self, bytes: Vec<u8>) {
        let sim = sim();
        let side = self.side;
        let mut link = self.link();
        if bytes.is_empty() || link.is_broken || link.pipes[side].is_closed {
            return;
        }
        if let Some(left) = &mut link.breaks_after {
            let sent = bytes.len() as u64;
            if sent > *left {
                return link.break_down();
            }
            *left -= sent;
        }
        let pipe = &mut link.pipes[side];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = if sim.one_in(3) { 1 + sim.below(rest.len() as u64) as usize } else { rest.len() };
            let at = pipe.last_us.max(sim.now_us() + 50 + sim.below(4000));
            pipe.last_us = at;
            pipe.segments.push_back((at, rest[..count].to_vec()));
            rest = &rest[count..];
        }
        pipe.reader.take().into_iter().for_each(Waker::wake);
    }

    fn poll_sent(&mut self, _context: &Context<'_>) -> Poll<io::Result<()>> {
        match self.link().is_broken {
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => Poll::Ready(Ok(())),
        }
    }

    fn shutdown_write(&mut self) {
        let side = self.side;
        let mut link = self.link();
        link.pipes[side].is_closed = true;
        link.pipes[side].reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown_write();
        // What the other end sends from now on reaches nobody.
        let side = self.side;
        self.link().pipes[1 - side].is_closed = true;
    }
}

/// A connection as a client uses it: lines out, lines in.
pub struct Lines {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Lines {
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(dial(to).await?))
    }

    pub fn over(wire: Wire) -> Self {
        Self { stream: wire.stream, input: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        self.stream.send(bytes.into());
        poll_fn(|context| self.stream.poll_sent(context)).await
    }

    /// A line without its CRLF. A peer that says nothing for long is gone.
    pub async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.receive().await?;
        }
    }

    pub async fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < count {
            self.receive().await?;
        }
        Ok(self.input.drain(..count).collect())
    }

    async fn receive(&mut self) -> io::Result<()> {
        let mut late = sim().sleep_us(400_000_000);
        let received = poll_fn(|context| {
            if let Poll::Ready(received) = self.stream.poll_receive(context) {
                return Poll::Ready(received);
            }
            std::pin::Pin::new(&mut late).poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
        });
        match received.await? {
            Some(bytes) => self.input.extend_from_slice(&bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}
