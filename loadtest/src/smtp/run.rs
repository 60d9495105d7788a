//! A run: threads, a common beginning, and what they counted together.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use crate::engine::{self, Clock, Effort, Ports};
use crate::measure::{Beat, Live, Tally};
use crate::plan::Share;
use crate::record::{Health, Moment, Record};
use crate::smtp::Load;
use crate::smtp::generator::{Generator, Shared};

/// Connections that are kept are open; nothing has been sent.
pub struct Prepared {
    threads: Vec<JoinHandle<io::Result<(Tally, Effort)>>>,
    beats: Receiver<Beat>,
    barrier: Arc<Barrier>,
    begin: Arc<AtomicU64>,
    clock: Clock,
    load: Arc<Load>,
}

/// What was sent.
pub struct Sent {
    pub tally: Tally,
    pub seconds: f64,
    pub series: Vec<Moment>,
    pub health: Health,
}

/// What a thread is given.
struct Start {
    load: Arc<Load>,
    shared: Arc<Shared>,
    share: Share,
    beats: Sender<Beat>,
    clock: Clock,
    barrier: Arc<Barrier>,
    begin: Arc<AtomicU64>,
}

/// The schedule begins a moment after everybody has been told.
const SOON_NS: u64 = 2_000_000;

impl Load {
    pub fn prepare(self) -> io::Result<Prepared> {
        let load = Arc::new(self);
        let threads = load.threads.clamp(1, load.sessions.max(1));
        let (shared, clock) = (Arc::new(Shared::default()), Clock::start());
        let (barrier, begin) = (Arc::new(Barrier::new(threads + 1)), Arc::new(AtomicU64::new(0)));
        let (sender, beats) = mpsc::channel();
        let mut handles = Vec::new();
        for index in 0..threads {
            let start = Start {
                load: Arc::clone(&load),
                shared: Arc::clone(&shared),
                share: Share { index: index as u64, of: threads as u64 },
                beats: sender.clone(),
                clock,
                barrier: Arc::clone(&barrier),
                begin: Arc::clone(&begin),
            };
            handles.push(thread::Builder::new().name(format!("smtp-{index}")).spawn(move || start.run())?);
        }
        barrier.wait();
        Ok(Prepared { threads: handles, beats, barrier, begin, clock, load })
    }

    /// Prepares and runs.
    pub fn run(self) -> io::Result<Sent> {
        self.prepare()?.run()
    }
}

impl Start {
    fn run(self) -> io::Result<(Tally, Effort)> {
        let waiting = self.load.waiting;
        let tally = Tally::told_to(self.beats);
        let made = Generator::new(self.load, self.shared, self.share, tally)
            .and_then(|generator| Ok((generator, Ports::new(self.clock)?)));
        let connected = made.and_then(|(mut generator, mut ports)| {
            generator.connect(&mut ports);
            engine::run(&mut generator, &mut ports, waiting)?;
            Ok((generator, ports))
        });
        // Whether or not it could connect: the others wait for this thread, too.
        self.barrier.wait();
        self.barrier.wait();
        let (mut generator, mut ports) = connected?;
        generator.begin(self.begin.load(Ordering::Acquire));
        let effort = engine::run(&mut generator, &mut ports, waiting)?;
        generator.end(&mut ports)?;
        Ok((std::mem::take(&mut generator.tally), effort))
    }
}

impl Prepared {
    /// Sends everything; returns when all is answered.
    pub fn run(self) -> io::Result<Sent> {
        let begin = self.clock.now() + SOON_NS;
        self.begin.store(begin, Ordering::Release);
        let mut live = Live::new(self.load.seen);
        self.barrier.wait();
        // It ends when the last thread has said its last.
        for beat in self.beats {
            live.take(&beat);
        }
        let (mut tally, mut efforts) = (Tally::default(), Vec::new());
        let mut failure = None;
        for thread in self.threads {
            match thread.join().map_err(|_| io::Error::other("a generator panicked"))? {
                Ok((counted, effort)) => {
                    tally.add(&counted);
                    efforts.push(effort);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let seconds = efforts.iter().map(|effort| effort.elapsed_ns).max().unwrap_or(0) as f64 / 1e9;
        let health = health(&tally, &efforts);
        Ok(Sent { tally, seconds, series: live.end(), health })
    }
}

impl Sent {
    pub fn fill(&self, record: &mut Record) {
        self.tally.fill(record, self.seconds);
        record.series.clone_from(&self.series);
        record.health = self.health.clone();
    }
}

fn health(tally: &Tally, efforts: &[Effort]) -> Health {
    let sum = |part: fn(&Effort) -> u64| efforts.iter().map(part).sum::<u64>();
    let share = |effort: &Effort| effort.cpu_ns as f64 / effort.elapsed_ns.max(1) as f64;
    Health {
        lag_p99_ns: tally.lag.percentile(99.0),
        cpu_us: sum(|effort| effort.cpu_ns) / 1000,
        spin_us: sum(|effort| effort.spin_ns) / 1000,
        queued_us: sum(|effort| effort.queued_ns) / 1000,
        // One that is saturated delays its own sessions, however idle the others are.
        cpu_share: efforts.iter().map(share).fold(0.0, f64::max),
        threads: efforts.len() as u64,
        invalid: None,
    }
    .judge()
}
