//! The world outside of the process, where it can be replaced: clocks, chance, tasks, threads, sockets, files.
//!
//! Everything that the server takes from the machine goes through `io/`, and every such call asks here first whether
//! the thread lives in a made world. A server does not: the calls go to the kernel. A test gives its thread a [`World`]
//! that follows from a seed, and runs whole shards in it, the same code that serves mail.
//!
//! Invariants: a thread enters a world before it does anything else; files are those of the real file system in every
//! world, which sees each change before it is made and may forbid it, shorten it, or make it itself.

use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Something that one thread waits for.
pub type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// A world that follows its own rules.
pub trait World {
    /// Milliseconds since some moment.
    fn instant_ms(&self) -> u64;

    /// Civil time as Unix milliseconds.
    fn unix_ms(&self) -> i64;

    fn fill_random(&self, bytes: &mut [u8]);

    /// Runs a task until it ends. The name says what kind it is.
    fn spawn(&self, name: &'static str, task: Task<()>);

    fn sleep(&self, span: Duration) -> Task<()>;

    /// Waits until a thread of this name gets to its next job.
    fn pick_up(&self, thread: &str) -> Task<()>;

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Door>>;

    fn dial(&self, to: SocketAddr, from: Option<IpAddr>) -> Task<io::Result<Wire>>;

    /// Sees a change of the file system before it is made.
    fn change(&self, change: &Change<'_>) -> io::Result<Permit>;
}

/// A connection, and the addresses at its ends.
pub struct Wire {
    pub stream: Box<dyn Stream>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// One end of a connection. It is closed when it is dropped.
pub trait Stream: Send {
    /// The next bytes, or `None` at their end.
    fn poll_receive(&mut self, context: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>>;

    /// Begins to send.
    fn send(&mut self, bytes: Vec<u8>);

    /// Waits until what was sent is on its way.
    fn poll_sent(&mut self, context: &Context<'_>) -> Poll<io::Result<()>>;

    /// Nothing more is sent.
    fn shutdown_write(&mut self);
}

/// Where connections come in.
pub trait Door {
    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<Wire>>;
}

/// A change of the file system.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A new empty file, or an old one emptied.
    Create {
        path: &'a Path,
    },
    /// Bytes at an offset; the file may grow.
    Write {
        path: &'a Path,
        offset: u64,
        length: usize,
    },
    /// The data of a file becomes durable, and its length.
    Sync {
        path: &'a Path,
    },
    /// The file gets this length.
    Resize {
        path: &'a Path,
        length: u64,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Remove {
        path: &'a Path,
    },
    MakeDirectory {
        path: &'a Path,
    },
    /// What was created, renamed and removed in a directory becomes durable.
    SyncDirectory {
        path: &'a Path,
    },
    /// What is cached of a file is dropped, so that it is read from the disk again.
    Reread {
        path: &'a Path,
    },
}

/// What may be made of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    All,
    /// Of a write, only so many bytes.
    Bytes(usize),
    /// Nothing more; the world has done it.
    Done,
}

thread_local! {
    static WORLD: OnceCell<Rc<dyn World>> = const { OnceCell::new() };
}

/// Puts this thread into a world, for as long as it lives.
pub fn enter(world: Rc<dyn World>) {
    WORLD.with(|entered| assert!(entered.set(world).is_ok(), "a thread enters one world"));
}

/// The made world that this thread lives in; `None` is the real one.
pub(super) fn current() -> Option<Rc<dyn World>> {
    WORLD.with(|world| world.get().cloned())
}

/// Asks whether a change of the file system may be made.
pub(super) fn permit(change: &Change<'_>) -> io::Result<Permit> {
    WORLD.with(|world| world.get().map_or(Ok(Permit::All), |world| world.change(change)))
}
