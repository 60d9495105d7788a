//! The ring of a shard's sockets: what is to be received and sent goes to the kernel together, once in each turn; and
//! the place where the shard sleeps.
//!
//! glommio's own way costs a receive, a send and the arming of a poll for each command of each session. Here
//! sessions only queue operations; a task of its own, the driver, hands all of them over with one system call, takes
//! what is complete and wakes those who wait for it. Each turn of the driver is followed by one of all other tasks that
//! are ready. When no other had anything to do, and nothing came, the driver waits in the kernel, for the next
//! completion, another thread's ring of the bell, or the next timer: one system call for the sleep and the waking.
//!
//! ```text
//!   session ── queue ──> slot ──> submission queue ──┐
//!      ^                                             │ driver: one io_uring_enter a turn
//!      └───── wake <──── slot <── completion queue <─┘
//! ```
//!
//! Invariants: whatever an operation in flight points to belongs to its slot, and a slot is emptied only after
//! the last completion; the driver sleeps only when no task is ready; no waker is called while the ring is borrowed;
//! the ring is never closed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::buffers::Buffers;
use super::slots::Slots;
use crate::io::bell::Bell;
use crate::io::executor::{polls, rest, sleep_in_ring, sleeps_in_ring, spawn_vital};
use crate::io::{clock, share, timers, world};

/// Operations that go to the kernel at once; more wait for the next turn.
const SUBMISSIONS: u32 = 512;

/// Completions that the kernel keeps without extra memory.
const COMPLETIONS: u32 = 2048;

/// `IORING_ENTER_GETEVENTS`: completions are made while we are in the kernel for them, and at no other time.
const GET_EVENTS: u32 = 1;

/// So often glommio gets a look at what only it knows of, which is nothing that anyone waits for.
const REST: Duration = Duration::from_millis(50);

/// The name of the operation that hears the bell.
const BELL: u64 = u64::MAX;

thread_local! {
    static OWN: RefCell<Option<Sockets>> = const { RefCell::new(None) };
}

/// The sockets of a shard; clones are the same. In a made world there is no ring.
#[derive(Clone)]
pub struct Sockets(Option<Rc<Shared>>);

struct Shared {
    ring: RefCell<Ring>,
    /// Those who wait for a moment in which nothing is to do.
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
    /// What the bell counted, where the kernel writes it.
    rung: Box<u64>,
    /// The kernel waits for the bell.
    is_hearing: bool,
}

impl Sockets {
    /// The ring of the executor that this is called on, which is made at the first call and lives as long as the
    /// process does.
    pub fn open() -> io::Result<Self> {
        if world::current().is_some() {
            return Ok(Self(None));
        }
        if let Some(own) = OWN.with_borrow(Option::clone) {
            return Ok(own);
        }
        let own = Self(Some(Shared::begin()?));
        OWN.set(Some(own.clone()));
        Ok(own)
    }

    /// Waits until everything that has come in was taken and nothing is to go out.
    pub async fn quiet(&self) {
        let Some(shared) = &self.0 else {
            return;
        };
        let mut is_waiting = false;
        poll_fn(|context| {
            if std::mem::replace(&mut is_waiting, true) {
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
        work(&mut shared.ring.borrow_mut())
    }
}

impl Shared {
    fn begin() -> io::Result<Rc<Self>> {
        let io = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        let buffers = Buffers::register(&io.submitter())?;
        let bell = Bell::hang()?;
        let ring = Ring {
            io,
            buffers,
            slots: Slots::default(),
            waiting: Vec::new(),
            woken: Vec::new(),
            rung: Box::default(),
            is_hearing: false,
        };
        let shared = Rc::new(Self { ring: RefCell::new(ring), quiet: RefCell::default() });
        // Operations in flight point into this memory, and they end only after the ring is closed.
        std::mem::forget(Rc::clone(&shared));
        sleep_in_ring();
        spawn_vital("sockets", drive(Rc::clone(&shared), bell));
        Ok(shared)
    }

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

    fn is_busy(&self) -> bool {
        self.ring.borrow_mut().is_busy()
    }

    /// Wakes those who wait for a quiet moment, which this is no more if there are any.
    fn wake_quiet(&self) -> bool {
        let quiet = self.quiet.take();
        let is_any = !quiet.is_empty();
        quiet.into_iter().for_each(Waker::wake);
        is_any
    }

    /// Sleeps until something is complete, somebody rings or a timer is due.
    fn sleep(&self, bell: &Bell, now: Instant) {
        let span = timers::next().map_or(REST, |at| at.saturating_duration_since(now).min(REST));
        if bell.fall_asleep() {
            self.ring.borrow_mut().wait(bell, span);
        }
        bell.wake_up();
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

    /// Waits for a completion, at most so long.
    fn wait(&mut self, bell: &Bell, span: Duration) {
        if !self.is_hearing {
            self.is_hearing = true;
            let rung: *mut u64 = &mut *self.rung;
            let hear = opcode::Read::new(Fd(bell.descriptor()), rung.cast(), 8).build().user_data(BELL);
            // SAFETY: the ring and the box are never dropped, and the descriptor is the driver's, which drops it only
            // when nothing waits here any more.
            unsafe { self.queue(hear) };
        }
        let span = Timespec::from(span);
        let entered = self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span));
        check_entered(entered);
    }

    fn enter(&mut self) {
        let count = self.io.submission().len();
        let count = u32::try_from(count).expect("the queue has fewer entries");
        // SAFETY: there is no argument; what the queued entries point to was vouched for when they were queued.
        let entered = unsafe { self.io.submitter().enter::<()>(count, 0, GET_EVENTS, None) };
        check_entered(entered);
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
            if completion.user_data() == BELL {
                self.is_hearing = false;
                continue;
            }
            self.complete(completion.user_data(), completion.result(), completion.flags());
        }
        count
    }
}

/// What was not taken stays queued; what was waited for may not have come.
fn check_entered(entered: io::Result<usize>) {
    match entered.map_err(|error| error.raw_os_error()) {
        Ok(_) | Err(Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME)) => {}
        Err(code) => panic!("the ring of the sockets is broken: {code:?}"),
    }
}

/// Drives the ring for as long as the executor runs.
async fn drive(shared: Rc<Shared>, bell: Arc<Bell>) {
    let mut rested = clock::precise();
    while sleeps_in_ring() {
        let before = polls();
        yield_now().await;
        // This task's own poll is one.
        let is_alone = polls() == before + 1;
        let now = clock::precise();
        let woken = share::begin_turn(now) + bell.answer() + timers::fire(now) + shared.turn();
        if now - rested >= REST {
            rested = now;
            rest().await;
        } else if is_alone && woken == 0 && !shared.is_busy() && !shared.wake_quiet() {
            shared.sleep(&bell, now);
        }
    }
    Bell::take_down();
}
