//! The ring of a shard's sockets: what is to be received and sent goes to the kernel together, once in each turn.
//!
//! glommio's own way costs a receive, a send and the arming of a poll for each command of each session. Here
//! sessions only queue operations; a task of its own, the driver, hands all of them over with one system call, takes
//! what is complete and wakes those who wait for it. While there is something to do the driver goes from turn to turn;
//! else it sleeps, as a task, until somebody queues an operation or the kernel rings an eventfd that glommio reads.
//!
//! ```text
//!   session ── queue ──> slot ──> submission queue ──┐
//!      ^                                             │ driver: one io_uring_enter a turn
//!      └───── wake <──── slot <── completion queue <─┘
//! ```
//!
//! Invariants: whatever an operation in flight points to belongs to its slot, and a slot is emptied only after
//! the last completion; the driver sleeps only after the eventfd was armed and a look after that found nothing; no
//! waker is called while the ring is borrowed; the ring is never closed.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::yield_now;
use glommio::io::BufferedFile;
use io_uring::{IoUring, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::buffers::Buffers;
use super::slots::Slots;
use crate::io::executor::{sleep, spawn_vital};
use crate::io::world;

/// Operations that go to the kernel at once; more wait for the next turn.
const SUBMISSIONS: u32 = 512;

/// Completions that the kernel keeps without extra memory.
const COMPLETIONS: u32 = 2048;

/// `IORING_ENTER_GETEVENTS`: completions are made while we are in the kernel for them, and at no other time.
const GET_EVENTS: u32 = 1;

/// After so many turns without a rest glommio gets a look at its timers and at wake-ups from other threads.
const TURNS_MAX: u32 = 8;

/// The sockets of a shard; clones are the same. In a made world there is no ring.
#[derive(Clone)]
pub struct Sockets(Option<Rc<Shared>>);

struct Shared {
    ring: RefCell<Ring>,
    /// Set while the driver sleeps.
    driver: Cell<Option<Waker>>,
    /// Those who wait for it to sleep.
    quiet: RefCell<Vec<Waker>>,
}

/// The ring with everything that operations in flight point to.
pub struct Ring {
    io: IoUring,
    pub buffers: Buffers,
    pub slots: Slots,
    /// Operations that found the submission queue full.
    waiting: Vec<squeue::Entry>,
    woken: Vec<Waker>,
}

impl Sockets {
    /// Makes the ring of the executor that this is called on. It lives as long as the process does.
    pub fn open() -> io::Result<Self> {
        if world::current().is_some() {
            return Ok(Self(None));
        }
        let io = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        let buffers = Buffers::register(&io.submitter())?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        io.submitter().register_eventfd(bell.as_raw_fd())?;
        let ring = Ring { io, buffers, slots: Slots::default(), waiting: Vec::new(), woken: Vec::new() };
        let shared =
            Rc::new(Shared { ring: RefCell::new(ring), driver: Cell::default(), quiet: RefCell::default() });
        // Operations in flight point into this memory, and they end only after the ring is closed.
        std::mem::forget(Rc::clone(&shared));
        spawn_vital("sockets", drive(Rc::clone(&shared), bell));
        Ok(Self(Some(shared)))
    }

    /// Waits until everything that has come in was taken and nothing is to go out.
    pub async fn quiet(&self) {
        let Some(shared) = &self.0 else {
            return;
        };
        poll_fn(|context| {
            if shared.is_asleep() {
                return Poll::Ready(());
            }
            shared.quiet.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Works on the ring; what that queues is on its way with the driver's next turn.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Ring) -> T) -> T {
        let shared = self.0.as_ref().expect("a socket of a ring has one");
        let (done, is_queued) = {
            let mut ring = shared.ring.borrow_mut();
            let done = work(&mut ring);
            (done, ring.is_queued())
        };
        if is_queued && let Some(driver) = shared.driver.take() {
            driver.wake();
        }
        done
    }
}

impl Shared {
    /// Hands over what is queued, takes what is complete and wakes those who waited for it; says how much that was.
    fn turn(&self) -> usize {
        let (count, mut woken) = {
            let mut ring = self.ring.borrow_mut();
            if ring.is_busy() {
                ring.enter();
            }
            (ring.reap(), std::mem::take(&mut ring.woken))
        };
        woken.drain(..).for_each(Waker::wake);
        // Its memory serves the next turn.
        self.ring.borrow_mut().woken = woken;
        count
    }

    fn is_asleep(&self) -> bool {
        let driver = self.driver.take();
        let is_asleep = driver.is_some();
        self.driver.set(driver);
        is_asleep
    }

    fn is_busy(&self) -> bool {
        self.ring.borrow_mut().is_busy()
    }

    /// Whether nothing is to do, after a look that the kernel cannot have missed.
    fn is_quiet(&self) -> bool {
        self.ring.borrow_mut().enter();
        self.turn() == 0 && !self.is_busy()
    }
}

impl Ring {
    /// Queues an operation.
    ///
    /// # Safety
    ///
    /// What the entry points to stays where it is until the operation is complete.
    // SAFETY: as above; `slots` queues what belongs to a slot.
    pub unsafe fn queue(&mut self, entry: squeue::Entry) {
        // SAFETY: as for this function.
        if !self.waiting.is_empty() || unsafe { self.io.submission().push(&entry) }.is_err() {
            self.waiting.push(entry);
        }
    }

    /// For somebody to be woken at the end of the turn.
    pub fn wake(&mut self, waker: Option<Waker>) {
        self.woken.extend(waker);
    }

    /// Whether the kernel has to be entered: for what is queued, or for completions that it makes only then.
    fn is_busy(&mut self) -> bool {
        let submission = self.io.submission();
        let in_kernel = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        in_kernel || self.is_queued()
    }

    fn is_queued(&mut self) -> bool {
        !self.waiting.is_empty() || !self.io.submission().is_empty()
    }

    fn enter(&mut self) {
        let count = self.io.submission().len();
        let count = u32::try_from(count).expect("the queue has fewer entries");
        // SAFETY: there is no argument; what the queued entries point to was vouched for when they were queued.
        let entered = unsafe { self.io.submitter().enter::<()>(count, 0, GET_EVENTS, None) };
        match entered.map_err(|error| error.raw_os_error()) {
            // What was not taken stays queued.
            Ok(_) | Err(Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(code) => panic!("the ring of the sockets is broken: {code:?}"),
        }
        let waiting = std::mem::take(&mut self.waiting);
        for entry in waiting {
            // SAFETY: vouched for when it was queued first.
            unsafe { self.queue(entry) };
        }
    }

    fn reap(&mut self) -> usize {
        let mut count = 0;
        while let Some(completion) = { self.io.completion().next() } {
            count += 1;
            self.complete(completion.user_data(), completion.result(), completion.flags());
        }
        count
    }
}

/// Drives the ring for as long as the executor runs.
async fn drive(shared: Rc<Shared>, bell: OwnedFd) {
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open and now owned by the file alone.
    let bell = unsafe { BufferedFile::from_raw_fd(bell.into_raw_fd()) };
    let mut rung = pin!(bell.read_at(0, 8));
    shared.ring.borrow_mut().io.completion().disable_eventfd();
    let mut turns = 0;
    loop {
        if shared.turn() > 0 || shared.is_busy() {
            turns = (turns + 1) % TURNS_MAX;
            match turns {
                0 => sleep(Duration::from_micros(1)).await,
                _ => yield_now().await,
            }
            continue;
        }
        shared.ring.borrow_mut().io.completion().enable_eventfd();
        // What came before the eventfd was armed rang nothing.
        let is_quiet = shared.is_quiet();
        if is_quiet {
            poll_fn(|context| {
                if rung.as_mut().poll(context).is_ready() {
                    rung.set(bell.read_at(0, 8));
                    return Poll::Ready(());
                }
                if shared.ring.borrow_mut().is_queued() {
                    return Poll::Ready(());
                }
                shared.driver.set(Some(context.waker().clone()));
                shared.quiet.take().into_iter().for_each(Waker::wake);
                Poll::Pending
            })
            .await;
            shared.driver.take();
        }
        shared.ring.borrow_mut().io.completion().disable_eventfd();
        if !is_quiet {
            yield_now().await;
        }
    }
}
