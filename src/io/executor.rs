//! Executors: one per core, kept alive and watched.
//!
//! Tasks are glommio's, but for its sleep: an executor that has opened its ring of sockets (`io/net/sockets`) sleeps
//! there, with timers and wake-ups from other threads of our own, since a sleep of glommio's costs a dozen system
//! calls. So that the ring knows when nobody else has anything to do, the polls of all tasks are counted.
//!
//! glommio 0.9 can go to sleep although tasks are ready (it loses the race between a preemption flag and its
//! first look at the queues). A heartbeat in each executor, by a timer of glommio's own, bounds such a sleep to
//! [`HEARTBEAT`], and never creating a queue with `Latency::Matters` makes it rare. A panic in a task would end the
//! executor with all its connections, so that every task runs inside `catch_unwind`. A task without which nothing
//! goes on is vital: its panic ends the process.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::yield_now;
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

use super::timers::Timer;
use super::{clock, share, stderr, world};
use crate::mail::time::Instant;

/// The longest that a lost wake-up can last.
const HEARTBEAT: Duration = Duration::from_millis(10);

/// An executor without a beat for so long is reported as stalled.
const STALL: Duration = Duration::from_secs(2);

/// We use no DMA buffers of glommio's.
const IO_MEMORY_BYTES: usize = 64 << 10;

const RING_DEPTH: usize = 256;

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
    static SLEEP: Cell<Sleep> = const { Cell::new(Sleep::Glommio) };
}

/// Who lets this thread sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Glommio,
    Ring,
    /// The executor is about to end.
    Nobody,
}

/// Counts the beats of one executor.
#[derive(Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

/// The processors that this process may use, in ascending order.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return vec![0];
    };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Runs `body` on an executor of its own, on processor `cpu` or wherever the kernel likes.
pub fn start<F, T>(
    name: &str,
    cpu: Option<usize>,
    body: impl FnOnce(Pulse) -> F + Send + 'static,
) -> Result<(ExecutorJoinHandle<T>, Pulse), GlommioError<()>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let pulse = Pulse::default();
    let beating = pulse.clone();
    let placement = match cpu {
        Some(cpu) => Placement::Fixed(cpu),
        None => Placement::Unbound,
    };
    let handle = LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            let beat = beating.clone();
            spawn_vital("heartbeat", async move { beat.run().await });
            let done = survive("shard", body(beating)).await;
            SLEEP.set(Sleep::Nobody);
            done
        })?;
    Ok((handle, pulse))
}

/// Runs a task on this executor until it ends; a panic in it ends it alone and is reported.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + 'static) {
    // Boxed: a future that waits for one that it was given has room for it twice, and sessions are large.
    let task = Box::pin(task);
    match world::current() {
        Some(world) => world.spawn(name, task),
        None => spawn_surviving(name, task),
    }
}

/// As [`spawn`], for one of many whose work others ask for: it gets its share of the processor (`share`).
pub fn spawn_sharing(name: &'static str, task: impl Future<Output = ()> + 'static) {
    let task = Box::pin(task);
    match world::current() {
        Some(world) => world.spawn(name, task),
        None => spawn_surviving(name, share::fairly(task)),
    }
}

fn spawn_surviving(name: &'static str, task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(async move {
        if AssertUnwindSafe(counted(task)).catch_unwind().await.is_err() {
            tracing::error!(task = name, "a task panicked; it was ended, the server goes on");
        }
    })
    .detach();
}

/// As [`spawn`], for a task that the others cannot do without.
pub fn spawn_vital(name: &'static str, task: impl Future<Output = ()> + 'static) {
    if let Some(world) = world::current() {
        return world.spawn(name, Box::pin(task));
    }
    glommio::spawn_local(survive(name, task)).detach();
}

/// Waits so long.
pub async fn sleep(span: Duration) {
    match world::current() {
        Some(world) => world.sleep(span).await,
        None if SLEEP.get() == Sleep::Ring => Timer::after(span).await,
        None => glommio::timer::sleep(span).await,
    }
}

/// From now on timers are ours, and a task of this executor sleeps in a ring whenever nothing is to do.
pub(super) fn sleep_in_ring() {
    SLEEP.set(Sleep::Ring);
}

/// Whether the ring goes on to be slept in.
pub(super) fn sleeps_in_ring() -> bool {
    SLEEP.get() == Sleep::Ring
}

/// Polls of all tasks of this thread so far: whoever finds that after a turn there was none but his own was alone.
pub(super) fn polls() -> u64 {
    POLLS.get()
}

/// Lets glommio have a look at what only it knows of.
pub(super) async fn rest() {
    glommio::timer::sleep(Duration::from_micros(1)).await;
}

async fn counted<T>(task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    poll_fn(move |context| {
        POLLS.set(POLLS.get() + 1);
        task.as_mut().poll(context)
    })
    .await
}

/// What `task` returns. If it panics there is nothing to go on with.
async fn survive<T>(name: &'static str, task: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(counted(task)).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(
                task = name,
                "a vital task panicked; the server ends, and a start repairs what is half done"
            );
            stderr::flush();
            std::process::abort();
        }
    }
}

impl Pulse {
    async fn run(self) {
        loop {
            // Not `sleep`: our timers are fired by a task, which may be among those that glommio forgot.
            glommio::timer::sleep(HEARTBEAT).await;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches executors from a thread of its own and reports those that make no progress. Never returns.
pub fn watch(pulses: Vec<Pulse>) {
    let mut beats: Vec<u64> = pulses.iter().map(Pulse::beats).collect();
    loop {
        std::thread::sleep(STALL);
        for (shard, (pulse, before)) in pulses.iter().zip(&mut beats).enumerate() {
            let now = pulse.beats();
            if now == *before {
                tracing::warn!(shard, seconds = STALL.as_secs(), "the shard made no progress");
            }
            *before = now;
        }
    }
}

/// Lets others have their turn in the middle of long work.
///
/// A yield lets tasks run that are ready; only a task that waits lets the executor look at its sockets.
pub struct Turns {
    looked: Instant,
}

/// So long sockets may wait for a look while long work goes on.
const LOOK: Duration = Duration::from_millis(2);

impl Turns {
    pub fn begin() -> Self {
        Self { looked: clock::instant() }
    }

    pub async fn give(&mut self) {
        if clock::instant() - self.looked < LOOK {
            return yield_now().await;
        }
        sleep(Duration::from_micros(1)).await;
        self.looked = clock::instant();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{sleep_in_ring, start};
    use crate::io::inbox::Inbox;

    /// Far above [`super::HEARTBEAT`], for a machine with more to do.
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn an_executor_that_fell_asleep_in_glommio_beats_on() {
        let end = Inbox::new();
        let ended = end.clone();
        let (report, begun) = mpsc::channel();
        let body = move |pulse| async move {
            // Nobody drives the ring, as when its driver is the task that glommio forgot.
            sleep_in_ring();
            report.send(pulse).expect("the test waits for it");
            ended.next().await
        };
        let (handle, _) = start("asleep", None, body).expect("an executor");
        let pulse: super::Pulse = begun.recv().expect("it starts");
        let (before, began) = (pulse.beats(), Instant::now());
        while pulse.beats() < before + 3 {
            assert!(began.elapsed() < SOON, "it sleeps on");
            thread::sleep(Duration::from_millis(1));
        }
        end.post(());
        handle.join().expect("the executor ends");
    }
}
