//! A queue between threads: into a shard, to a thread that does work, and back with what came of it.
//!
//! Any thread may post; one task or one thread takes. The lock is held for a push or a swap, never while anything
//! runs.
//!
//! Invariants: what is posted is taken once, in the order of posting; who waits is woken by the next post.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_lite::future::{block_on, yield_now};

use super::bell::Sleeper;
use super::executor::spawn;

pub struct Inbox<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    waiting: VecDeque<T>,
    taker: Option<Sleeper>,
    is_closed: bool,
}

impl<T> Inbox<T> {
    pub fn new() -> Self {
        let shared = Shared { waiting: VecDeque::new(), taker: None, is_closed: false };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds to the queue and wakes who takes from it.
    pub fn post(&self, item: T) {
        if let Some(taker) = self.push(item) {
            taker.wake();
        }
    }

    /// As [`Inbox::post`], but who takes is woken only after the tasks that are ready here have had their turn: what
    /// they post goes with one wake-up. Called within an executor.
    pub fn post_with_turn(&self, item: T) {
        if let Some(taker) = self.push(item) {
            spawn("wake-up", async move {
                yield_now().await;
                taker.wake();
            });
        }
    }

    /// Nothing more comes: who works for the inbox ends when all is taken. What is posted later is lost.
    pub fn close(&self) {
        let taker = {
            let mut shared = self.lock();
            shared.is_closed = true;
            shared.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    /// Waits until something is there, and takes all of it, in the order of posting.
    pub async fn take(&self) -> VecDeque<T> {
        poll_fn(|context| self.poll_take(context)).await
    }

    /// Waits for the oldest one and takes it alone. Dropping the future loses nothing.
    pub async fn next(&self) -> T {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Inbox::next`], for a thread that has nothing else to do. `None` once the inbox is closed and empty.
    pub fn wait(&self) -> Option<T> {
        block_on(self.next_before_close())
    }

    /// As [`Inbox::wait`], for a task.
    pub async fn next_before_close(&self) -> Option<T> {
        poll_fn(|context| {
            let mut shared = self.lock();
            match shared.waiting.pop_front() {
                None if !shared.is_closed => {
                    shared.taker = Some(Sleeper::of(context));
                    Poll::Pending
                }
                taken => Poll::Ready(taken),
            }
        })
        .await
    }

    /// The oldest one, if one is there.
    pub fn try_next(&self) -> Option<T> {
        self.lock().waiting.pop_front()
    }

    /// As [`Inbox::next`], for futures written by hand. Only the last task that polled is woken.
    pub fn poll_next(&self, context: &Context<'_>) -> Poll<T> {
        let mut shared = self.lock();
        match shared.waiting.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                shared.taker = Some(Sleeper::of(context));
                Poll::Pending
            }
        }
    }

    /// As [`Inbox::take`], for futures written by hand. Only the last task that polled is woken.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<VecDeque<T>> {
        let mut shared = self.lock();
        if shared.waiting.is_empty() {
            shared.taker = Some(Sleeper::of(context));
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut shared.waiting))
    }

    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds to the queue; says who is to be woken.
    fn push(&self, item: T) -> Option<Sleeper> {
        let mut shared = self.lock();
        if shared.is_closed {
            return None;
        }
        shared.waiting.push_back(item);
        shared.taker.take()
    }

    /// A thread that panicked while it held the lock left the queue whole: a push or a swap cannot stop half way.
    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use futures_lite::future::yield_now;

    use super::Inbox;
    use crate::io::executor;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_posted_in_a_turn_wakes_once() {
        let body = |_| async {
            let inbox = Inbox::new();
            let woken = Arc::<Woken>::default();
            let waker = Waker::from(Arc::clone(&woken));
            let context = Context::from_waker(&waker);
            assert!(inbox.poll_take(&context).is_pending());
            (0..3).for_each(|number| inbox.post_with_turn(number));
            assert_eq!(woken.0.load(Ordering::Relaxed), 0);
            while woken.0.load(Ordering::Relaxed) == 0 {
                yield_now().await;
            }
            let Poll::Ready(taken) = inbox.poll_take(&context) else {
                panic!("they are there");
            };
            assert_eq!((taken.len(), woken.0.load(Ordering::Relaxed)), (3, 1));
        };
        let (thread, _) = executor::start("test", None, body).expect("an executor");
        thread.join().expect("the executor ends");
    }

    #[test]
    fn what_is_posted_is_taken_in_order() {
        let inbox = Inbox::new();
        let poster = inbox.clone();
        let thread = std::thread::spawn(move || (0..100).for_each(|number| poster.post(number)));
        let mut taken = Vec::new();
        while taken.len() < 100 {
            taken.extend(futures_lite::future::block_on(inbox.take()));
        }
        thread.join().expect("the posting thread ends");
        assert!(taken.iter().copied().eq(0..100));
    }

    #[test]
    fn a_thread_takes_what_is_left_and_ends_when_the_inbox_is_closed() {
        let (jobs, answers) = (Inbox::new(), Inbox::new());
        let worker = std::thread::spawn({
            let (jobs, answers) = (jobs.clone(), answers.clone());
            move || {
                while let Some(job) = jobs.wait() {
                    answers.post(job * 2);
                }
            }
        });
        (0..3).for_each(|number| jobs.post(number));
        let doubled = futures_lite::future::block_on(async {
            [answers.next().await, answers.next().await, answers.next().await]
        });
        assert_eq!((doubled, answers.try_next()), ([0, 2, 4], None));
        jobs.post(50);
        jobs.close();
        worker.join().expect("the thread ends");
        assert_eq!(answers.try_next(), Some(100));
    }
}
