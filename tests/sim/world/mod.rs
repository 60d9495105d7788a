//! A world that follows from a seed: an executor whose tasks take turns by lot, a clock that moves when they do, a
//! network and a disk with faults.
//!
//! Everything happens on one thread. Tasks belong to a *life*, which is inherited by those they spawn: life 0 is that
//! of the clients, each start of the server begins another, and a crash drops all tasks of one. When no task is ready
//! the clock jumps to the next moment that somebody waits for.

pub mod disk;
pub mod net;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringpost::io::world::{self, Change, Door, Permit, Task, Wire, World};

use crate::random::Random;
use disk::Disk;
use net::Network;

/// Civil time when a world begins, in Unix milliseconds.
const BEGINNING_MS: i64 = 1_780_000_000_000;

/// The life of everybody but the server.
pub const CLIENTS: u32 = 0;

thread_local! {
    static SIM: RefCell<Option<Rc<Sim>>> = const { RefCell::new(None) };
}

/// The world of this thread.
pub fn sim() -> Rc<Sim> {
    SIM.with(|sim| sim.borrow().clone()).expect("the thread has entered its world")
}

/// Everything that is not the code under test.
pub struct Sim {
    now_us: Cell<u64>,
    random: RefCell<Random>,
    tasks: RefCell<Tasks>,
    ready: Arc<Mutex<Vec<u64>>>,
    /// By the moment, and a number that makes it one.
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    life: Cell<u32>,
    pub net: Network,
    pub disk: Disk,
    trace: Cell<u64>,
    /// Where what happens is written down: the file that `RINGPOST_SIM_TRACE` names.
    book: Option<RefCell<BufWriter<File>>>,
    steps: Cell<u64>,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
    dead: Vec<u32>,
}

struct Entry {
    life: u32,
    name: &'static str,
    /// Not here while it is polled.
    task: Option<Task<()>>,
    waker: Waker,
}

/// Puts the number of a task among those that are ready.
struct Wakes {
    number: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().expect("nothing panics under the lock");
        if !ready.contains(&self.number) {
            ready.push(self.number);
        }
    }
}

impl Sim {
    /// Makes the world of a seed, with its disk under `root`, and puts this thread into it.
    pub fn begin(seed: u64, root: &Path) -> Rc<Self> {
        let sim = Rc::new(Self {
            now_us: Cell::new(1_000_000),
            random: RefCell::new(Random::new(seed ^ 0x5eed)),
            tasks: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            life: Cell::new(CLIENTS),
            net: Network::default(),
            disk: Disk::new(root),
            trace: Cell::new(0xcbf2_9ce4_8422_2325),
            book: std::env::var_os("RINGPOST_SIM_TRACE")
                .map(|path| RefCell::new(BufWriter::new(File::create(path).expect("a file for the trace")))),
            steps: Cell::new(0),
        });
        SIM.with(|here| *here.borrow_mut() = Some(Rc::clone(&sim)));
        world::enter(Rc::new(Nature(Rc::clone(&sim))));
        sim
    }

    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    pub fn now_ms(&self) -> u64 {
        self.now_us.get() / 1000
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    pub fn one_in(&self, in_how_many: u64) -> bool {
        self.below(in_how_many) == 0
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Mixes what happened into the hash that two runs of a seed must share.
    pub fn note(&self, bytes: &[u8]) {
        if let Some(book) = &self.book {
            let line = String::from_utf8_lossy(bytes);
            writeln!(book.borrow_mut(), "{} {line}", self.now_us()).expect("the trace is written");
        }
        let now = self.now_us().to_le_bytes();
        let mixed = now.iter().chain(bytes).fold(self.trace.get(), |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.trace.set(mixed);
    }

    pub fn trace(&self) -> u64 {
        self.trace.get()
    }

    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The life that runs.
    pub fn life(&self) -> u32 {
        self.life.get()
    }

    pub fn spawn(&self, life: u32, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.add(life, name, Box::pin(task));
    }

    fn add(&self, life: u32, name: &'static str, task: Task<()>) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks.dead.contains(&life) {
            drop(tasks);
            return;
        }
        let number = tasks.next;
        tasks.next += 1;
        let waker = Waker::from(Arc::new(Wakes { number, ready: Arc::clone(&self.ready) }));
        waker.wake_by_ref();
        tasks.by_number.insert(number, Entry { life, name, task: Some(task), waker });
    }

    /// Drops all tasks of a life, and everything that only they hold.
    pub fn end_life(&self, life: u32) {
        let gone: Vec<Entry> = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.dead.push(life);
            let (gone, kept) =
                std::mem::take(&mut tasks.by_number).into_iter().partition(|(_, entry)| entry.life == life);
            tasks.by_number = kept;
            let gone: BTreeMap<u64, Entry> = gone;
            gone.into_values().collect()
        };
        let before = self.life.replace(life);
        drop(gone);
        self.life.set(before);
        self.net.forget_doors();
    }

    /// Lets one task have its turn, or lets time pass. False if nobody waits for anything.
    pub fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        let number = {
            let mut ready = self.ready.lock().expect("nothing panics under the lock");
            match ready.len() {
                0 => None,
                count => Some(ready.swap_remove(self.below(count as u64) as usize)),
            }
        };
        match number {
            Some(number) => {
                self.poll(number);
                true
            }
            None => self.pass_time(),
        }
    }

    fn poll(&self, number: u64) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            let entry = tasks.by_number.get_mut(&number);
            entry.and_then(|entry| Some((entry.task.take()?, entry.waker.clone(), entry.life, entry.name)))
        };
        let Some((mut task, waker, life, name)) = taken else {
            return;
        };
        self.now_us.set(self.now_us.get() + 1 + self.below(20));
        self.note(name.as_bytes());
        let before = self.life.replace(life);
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            drop(task);
            self.tasks.borrow_mut().by_number.remove(&number);
        } else if let Some(entry) = self.tasks.borrow_mut().by_number.get_mut(&number) {
            entry.task = Some(task);
        }
        self.life.set(before);
    }

    fn pass_time(&self) -> bool {
        let first = self.timers.borrow_mut().pop_first();
        let Some(((at, _), waker)) = first else {
            return false;
        };
        self.now_us.set(self.now_us.get().max(at));
        waker.wake();
        true
    }

    /// Wakes at a moment.
    pub fn wake_at(&self, at_us: u64, waker: &Waker) {
        let mut timers = self.timers.borrow_mut();
        let mut number = 0;
        while timers.contains_key(&(at_us, number)) {
            number += 1;
        }
        timers.insert((at_us, number), waker.clone());
    }

    pub fn sleep_us(&self, span_us: u64) -> Sleep {
        Sleep { until_us: self.now_us.get() + span_us }
    }
}

/// Ready when its moment has come.
pub struct Sleep {
    until_us: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sim = sim();
        if sim.now_us() >= self.until_us {
            return Poll::Ready(());
        }
        sim.wake_at(self.until_us, context.waker());
        Poll::Pending
    }
}

/// What the server sees of the world.
struct Nature(Rc<Sim>);

impl World for Nature {
    fn instant_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn unix_ms(&self) -> i64 {
        BEGINNING_MS + self.0.now_ms() as i64
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let made = self.0.random.borrow_mut().bytes(bytes.len());
        bytes.copy_from_slice(&made);
    }

    fn spawn(&self, name: &'static str, task: Task<()>) {
        self.0.add(self.0.life(), name, task);
    }

    fn sleep(&self, span: Duration) -> Task<()> {
        let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4);
        Box::pin(self.0.sleep_us(span_us))
    }

    fn pick_up(&self, _thread: &str) -> Task<()> {
        let span_us = match self.0.below(20) {
            0 => self.0.below(60_000),
            _ => self.0.below(3000),
        };
        Box::pin(self.0.sleep_us(span_us))
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Door>> {
        Ok(self.0.net.listen(address))
    }

    fn dial(&self, to: SocketAddr, _from: Option<IpAddr>) -> Task<io::Result<Wire>> {
        Box::pin(net::dial(to))
    }

    fn change(&self, change: &Change<'_>) -> io::Result<Permit> {
        self.0.disk.change(change)
    }
}
