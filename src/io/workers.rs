//! Threads for work that would hold up a shard: password hashes, large files, cold pages.
//!
//! A fixed number of threads takes jobs from a bounded queue. When the queue is full the caller is told at
//! once, so that a flood of logins becomes temporary refusals and not a queue without end.
//!
//! [`hire`] gives a thread of its own to whoever has jobs of one kind in an inbox.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::inbox::Inbox;
use super::world;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads; clones share it. The threads end when the last clone is gone.
#[derive(Clone)]
pub struct Workers {
    jobs: SyncSender<Job>,
}

/// Why a job has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoResult {
    /// The queue is full; try again later.
    Busy,
    /// The job panicked.
    Failed,
}

impl Workers {
    /// Starts `threads` threads whose queue holds `waiting_max` jobs. The higher their niceness, from 0 to 19, the more
    /// they leave the processors to others.
    pub fn start(name: &str, threads: usize, waiting_max: usize, niceness: i32) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(waiting_max);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                // To want less is always allowed.
                let _ = rustix::process::setpriority_process(None, niceness);
                work(&queue);
            })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads and waits for what it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoResult> {
        if world::current().is_some() {
            return Ok(job());
        }
        let answer = Inbox::new();
        let answers = answer.clone();
        let job: Job = Box::new(move || answers.post(catch_unwind(AssertUnwindSafe(job)).ok()));
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(NoResult::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(NoResult::Failed),
        }
        answer.next().await.ok_or(NoResult::Failed)
    }
}

/// A thread that works for an inbox until that is closed and empty. In a made world it is a task.
pub struct Hired(Option<JoinHandle<()>>);

/// Gives every job that comes into the inbox to `work`, one after the other. A panic ends the thread, and closes
/// the inbox.
pub fn hire<J: Send + 'static>(
    name: &str,
    inbox: &Inbox<J>,
    mut work: impl FnMut(J) + Send + 'static,
) -> std::io::Result<Hired> {
    let closing = Closing(inbox.clone());
    if let Some(world) = world::current() {
        let (name, place) = (name.to_owned(), world.clone());
        place.spawn(
            "thread",
            Box::pin(async move {
                while let Some(job) = closing.0.next_before_close().await {
                    world.pick_up(&name).await;
                    work(job);
                }
            }),
        );
        return Ok(Hired(None));
    }
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Some(job) = closing.0.wait() {
            work(job);
        }
    });
    thread.map(|thread| Hired(Some(thread)))
}

impl Hired {
    /// Waits for the end of the thread, whose inbox must have been closed.
    pub fn wait(self) {
        if let Some(thread) = self.0 {
            // A panic of the thread was told by its hook.
            let _ = thread.join();
        }
    }
}

/// Nobody works for the inbox any more when this is dropped.
struct Closing<J>(Inbox<J>);

impl<J> Drop for Closing<J> {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_next().is_some() {}
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        job();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::{NoResult, Workers};

    #[test]
    fn results_come_back_and_a_panic_costs_one_job() {
        let workers = Workers::start("test", 1, 4, 0).expect("threads start");
        assert_eq!(block_on(workers.run(|| 6 * 7)), Ok(42));
        assert_eq!(block_on(workers.run(|| -> u32 { panic!("as planned") })), Err(NoResult::Failed));
        assert_eq!(block_on(workers.run(|| 43)), Ok(43));
    }
}
