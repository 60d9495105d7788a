//! How another thread wakes a task of a shard that sleeps in its ring of sockets (`io/net/sockets`).
//!
//! glommio would be woken through a ring of its own, and each time go through a dozen system calls before the task and
//! the sleep after it. Here the waker is put beside the bell of the task's shard, which calls it in its next turn, and
//! the bell is rung, with one write to an eventfd, only if the shard sleeps.
//!
//! Invariants: a waker is called once, on the thread of its task; a shard that falls asleep has called all wakers that
//! were there before, and whoever comes later finds it asleep.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use rustix::event::{EventfdFlags, eventfd};

thread_local! {
    static OWN: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

/// The bell of one shard.
pub struct Bell {
    is_asleep: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    descriptor: OwnedFd,
}

/// A task that waits for another thread, and the bell of its own.
pub struct Sleeper {
    waker: Waker,
    bell: Option<Arc<Bell>>,
}

impl Bell {
    /// Hangs a bell for the tasks of this thread, which answers it from now on.
    pub fn hang() -> io::Result<Arc<Self>> {
        let bell = Arc::new(Self {
            is_asleep: AtomicBool::new(false),
            wakers: Mutex::default(),
            descriptor: eventfd(0, EventfdFlags::CLOEXEC)?,
        });
        OWN.set(Some(Arc::clone(&bell)));
        Ok(bell)
    }

    /// Nobody answers it any more: tasks of this thread are woken as the executor does it.
    pub fn take_down() {
        OWN.set(None);
    }

    /// Wakes all tasks that the bell was rung for; how many there were.
    pub fn answer(&self) -> usize {
        let wakers = std::mem::take(&mut *self.lock());
        let count = wakers.len();
        wakers.into_iter().for_each(Waker::wake);
        count
    }

    /// From now on who rings writes to the descriptor. False if somebody rang before that, and there is no sleep.
    pub fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        self.lock().is_empty()
    }

    pub fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Readable when the bell was rung for a shard that slept.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    fn ring(&self, waker: Waker) {
        self.lock().push(waker);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // The counter of an eventfd that is read after each sleep does not overflow; it could fail in no other way.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// A thread that panicked while it held the lock left the list whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleeper {
    /// The task that polls, on its own thread.
    pub fn of(context: &Context<'_>) -> Self {
        Self { waker: context.waker().clone(), bell: OWN.with_borrow(Option::clone) }
    }

    /// From any thread.
    pub fn wake(self) {
        match self.bell {
            Some(bell) if !is_own(&bell) => bell.ring(self.waker),
            _ => self.waker.wake(),
        }
    }
}

fn is_own(bell: &Arc<Bell>) -> bool {
    OWN.with_borrow(|own| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, bell)))
}
