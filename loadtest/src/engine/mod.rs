//! One thread, one event loop, many connections: what drives every generator and the sink.
//!
//! A [`Work`] is the dialogue with all its sessions; it decides. [`Ports`] are its connections, plain or TLS, and its
//! timers; they carry out. [`run`] brings the two together: it starts what is due, waits for the network, and hands
//! each event to the work with the time at which it was seen. Several threads are several loops that share nothing.
//!
//! A loop must wake when the schedule says so, not when the kernel finds it convenient. So it sleeps until shortly
//! before and then asks again and again ([`Waiting`]); that time is measured apart, since it is no work.
//!
//! Times are nanoseconds since the run's [`Clock`] was made, the same for all threads.

mod connection;
mod ports;
mod timers;
pub mod tls;

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::record::Health;

pub use ports::{PortId, Ports};

/// Where the times of a run begin.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

/// A dialogue over many connections.
///
/// Whatever arrives for a port that was closed meanwhile is not delivered.
pub trait Work {
    /// Starts whatever is due at `now`, and says when the next thing will be, if the clock decides that.
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64>;

    /// A port that was dialled is open, or its TLS handshake is over.
    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, now: u64);

    /// A client has connected to `listener`.
    fn handle_accepted(&mut self, ports: &mut Ports, port: PortId, listener: PortId, now: u64) {
        let _ = (listener, now);
        ports.close(port);
    }

    /// Bytes have come; says how many were used. The others come again, with what follows them.
    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize;

    /// The port is gone: the other side closed it (`None`), or it broke.
    fn handle_closed(&mut self, ports: &mut Ports, port: PortId, error: Option<io::Error>, now: u64);

    /// A time that was asked for by [`Ports::wake_at`] has come.
    fn handle_timer(&mut self, ports: &mut Ports, token: u64, now: u64) {
        let _ = (ports, token, now);
    }

    /// The loop ends.
    fn is_done(&self) -> bool;
}

/// How a loop waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It sleeps, except shortly before something is due.
    Punctual(Duration),
    /// It never sleeps, so that the server never pays for waking it.
    Active,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::Punctual(Duration::from_micros(100))
    }
}

/// What a loop spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Processor time of the thread, without waiting actively.
    pub cpu_ns: u64,
    /// Active waiting.
    pub spin_ns: u64,
    /// Ready to run, while others had the processor; 0 where the kernel does not say.
    pub queued_ns: u64,
    pub elapsed_ns: u64,
}

impl Effort {
    /// Whether one thread kept up, with the 99th percentile of its lag.
    pub fn health(&self, lag_p99_ns: u64) -> Health {
        Health {
            lag_p99_ns,
            cpu_us: self.cpu_ns / 1000,
            spin_us: self.spin_ns / 1000,
            queued_us: self.queued_ns / 1000,
            cpu_share: self.cpu_ns as f64 / self.elapsed_ns.max(1) as f64,
            threads: 1,
            invalid: None,
        }
        .judge()
    }
}

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// As many descriptors as this process may have.
pub fn raise_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is refused, dialling tells.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Drives `work` until it is done.
pub fn run(work: &mut impl Work, ports: &mut Ports, waiting: Waiting) -> io::Result<Effort> {
    wake_on_time();
    let (began, cpu_began, queued_began) = (ports.now(), thread_cpu_ns(), thread_queued_ns());
    let mut spin_ns = 0;
    loop {
        let now = ports.now();
        let due = work.poll_due(ports, now);
        ports.run_timers(work, now);
        if work.is_done() {
            break;
        }
        let due = due.into_iter().chain(ports.next_timer()).min();
        let patience = patience(waiting, due, ports.now());
        let asked = ports.now();
        let came = ports.wait(patience)?;
        if came == 0 {
            // An answer without an event, to a question that could not wait, is time spent waiting actively.
            let is_active = patience == Some(Duration::ZERO);
            spin_ns += if is_active { ports.now() - asked } else { 0 };
            continue;
        }
        ports.dispatch(work, due);
    }
    let elapsed_ns = ports.now() - began;
    let cpu_ns = (thread_cpu_ns() - cpu_began).saturating_sub(spin_ns);
    let queued_ns = thread_queued_ns() - queued_began;
    Ok(Effort { cpu_ns, spin_ns, queued_ns, elapsed_ns })
}

/// How long to sleep; nothing due is as long as it takes.
fn patience(waiting: Waiting, due: Option<u64>, now: u64) -> Option<Duration> {
    match waiting {
        Waiting::Active => Some(Duration::ZERO),
        Waiting::Punctual(early) => {
            due.map(|at| Duration::from_nanos(at.saturating_sub(now)).saturating_sub(early))
        }
    }
}

/// The kernel may wake a sleeper 50 us late to save power; the schedule wants it on time.
fn wake_on_time() {
    // SAFETY: it takes a number and changes nothing but this thread's timers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

/// Puts this thread before all that is not of the real-time class, where that is allowed; not the threads it makes.
///
/// For a generator that works little and must be on time: one that never slept would leave the server nothing.
pub fn go_first() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: `first` lives as long as the call, which changes nothing but this thread's place in the queue.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &first) };
}

/// Time that the thread was ready to run and did not (proc(5), schedstat).
fn thread_queued_ns() -> u64 {
    let said = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    said.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
