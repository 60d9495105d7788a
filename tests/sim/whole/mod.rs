//! The whole server in a world made from a seed: its shards, engines, mailboxes, queue and store, its clients and the
//! server that it relays to.
//!
//! Clients send, read and throw away mail while the server is cut off from power, killed, stopped, and its disk fails
//! and fills. Then the weather clears, what is under way comes to its end, and everything that was ever promised is
//! looked for, before one more power cut and behind it.

mod backup;
mod guess;
mod imap;
mod ledger;
mod patience;
mod server;
mod smtp;
mod stop;

use std::cell::Cell;
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::world::disk::{Failure, Fault};
use crate::world::{CLIENTS, Sim};
use imap::Imap;
use ledger::Ledger;
use server::{ACCOUNTS, End, Server, State};

pub use server::{directory, prepare};

/// How long the clients go on.
const WORK_US: u64 = 10_000_000;

/// The same where one fault is tried after the other.
const FAULT_WORK_US: u64 = 1_500_000;

/// How long a store is worked on until it is copied, and again.
const STORE_SPAN_US: u64 = 700_000;

/// After it the queue must be empty.
const SETTLED_US: u64 = 1_800_000_000;

/// More than any seed takes; one that takes more is in a loop.
const STEPS_MAX: u64 = 20_000_000;

/// What a run is made of besides its seed.
#[derive(Clone, Copy, Default)]
pub struct Plan {
    /// What is wrong with the server, if anything.
    pub mutant: Option<&'static crate::mutants::Mutant>,
    /// A short time of work in which nothing happens but perhaps this, at this change of the file system.
    pub fault: Option<Option<(u64, Fault)>>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub trace: u64,
    pub acknowledged: u64,
    pub lives: u32,
    pub faults: u64,
    /// Changes of the file system until the clients ended.
    pub changes: u64,
}

/// Runs a seed on a thread of its own. What broke a rule is the error.
pub fn run(seed: u64, plan: Plan) -> Result<Report, String> {
    prepare();
    let thread = thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20);
    let running = thread.spawn(move || Run::begin(seed, plan).finish()).expect("a thread");
    running.join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Makes a store with a bit of everything under `root`: as it is in the end, in `data`, and as it was before, in
/// `older`.
pub fn make_store(seed: u64, root: &Path) {
    prepare();
    let root = root.to_owned();
    let making = thread::spawn(move || {
        let run = Run::begin(seed, Plan::default());
        run.people_the_world();
        run.calm();
        for name in ["older", "data"] {
            run.pass(STORE_SPAN_US);
            copy(&run.sim.disk.data(), &root.join(name));
        }
        run.end(End::Kill);
    });
    making.join().expect("nothing goes wrong");
}

/// Tells a story to a server that has just started, in a world without bad luck. `limits` are lines of that section
/// of its configuration.
fn with_server<T: Send + 'static>(limits: &'static str, story: impl FnOnce(&Run) -> T + Send + 'static) -> T {
    prepare();
    let telling = thread::spawn(move || {
        let run = Run::configured(1, Plan::default(), limits);
        run.calm();
        run.until("it serves", SETTLED_US, |run| run.server.state() == State::Up);
        let told = story(&run);
        run.end(End::Kill);
        told
    });
    telling.join().expect("the story is told to its end")
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("it can be copied")),
        }
    }
}

/// A run under way.
struct Run {
    sim: Rc<Sim>,
    server: Server,
    ledger: Rc<Ledger>,
    /// Ends of lives, and faults of connections: each may have hidden an outcome.
    ends: Rc<Cell<u64>>,
    plan: Plan,
    seed: u64,
    _folder: tempfile::TempDir,
}

impl Run {
    fn begin(seed: u64, plan: Plan) -> Self {
        Self::configured(seed, plan, "")
    }

    fn configured(seed: u64, plan: Plan, limits: &str) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let server = Server::new(folder.path(), limits);
        let sim = Sim::begin(seed, &folder.path().join("world"));
        if let Some(mutant) = plan.mutant {
            mutant.infect(&sim);
        }
        Self { sim, server, ledger: Rc::default(), ends: Rc::default(), plan, seed, _folder: folder }
    }

    fn finish(self) -> Report {
        self.people_the_world();
        self.server.start();
        match self.plan.fault {
            None => self.work(),
            Some(fault) => self.work_with(fault),
        }
        self.ledger.is_over.set(true);
        let changes = self.sim.disk.changes();
        self.calm();
        self.until("clients end", SETTLED_US, |run| run.ledger.busy.get() == 0);
        self.settle();
        self.audit();
        // What is there now stays there.
        self.end(End::PowerCut);
        self.until("it starts again", SETTLED_US, |run| run.server.state() == State::Up);
        self.audit();
        self.end(End::Kill);
        Report {
            trace: self.sim.trace(),
            acknowledged: self.ledger.acknowledged.get(),
            lives: self.server.lives(),
            faults: self.sim.disk.faults(),
            changes,
        }
    }

    fn people_the_world(&self) {
        let (sim, ledger) = (&self.sim, &self.ledger);
        let (ends, network) = (Rc::clone(&self.ends), Rc::clone(sim));
        let excuses = move || ends.get() + network.net.broken.get() + network.disk.faults();
        let door = sim.net.listen(([127, 0, 2, 1], 25).into());
        sim.spawn(CLIENTS, "remote", smtp::remote(door, Rc::clone(ledger), Rc::new(excuses)));
        for _ in 0..3 {
            sim.spawn(CLIENTS, "sender", smtp::send(Rc::clone(ledger)));
        }
        for account in ["alice", "bob"] {
            sim.spawn(CLIENTS, "reader", imap::read(account, Rc::clone(ledger)));
        }
        sim.spawn(CLIENTS, "popper", imap::pop("dave", Rc::clone(ledger)));
        sim.net.breaks_one_in.set(*sim.pick(&[0, 4, 10, 30]));
    }

    /// Things happen until it has been enough.
    fn work(&self) {
        let sim = &self.sim;
        let end = sim.now_us() + WORK_US;
        let gap = *sim.pick(&[700_000, 2_000_000, 5_000_000]);
        let mut next = sim.now_us() + sim.below(gap);
        while sim.now_us() < end {
            self.step();
            if sim.now_us() >= next {
                self.happen();
                next = sim.now_us() + sim.below(gap);
            }
        }
    }

    /// Nothing happens but one fault, once or from then on.
    fn work_with(&self, fault: Option<(u64, Fault)>) {
        self.sim.net.breaks_one_in.set(0);
        self.sim.disk.set_weather(|weather| weather.fails_at = fault);
        self.pass(FAULT_WORK_US);
        let is_of_space = |what: Failure| matches!(what, Failure::Full | Failure::Quota);
        let is_full = fault.is_some_and(|(_, fault)| is_of_space(fault.what) && fault.is_lasting);
        if is_full && self.server.state() == State::Up {
            self.ledger.is_over.set(true);
            self.until("clients end", SETTLED_US, |run| run.ledger.busy.get() == 0);
            self.ledger.busy.set(1);
            let ledger = Rc::clone(&self.ledger);
            self.sim.spawn(CLIENTS, "deleter", async move {
                let deleted = imap::delete_one("alice", &ledger).await;
                rule!("a full disk can be emptied", deleted.is_ok(), "{deleted:?}");
                ledger.busy.set(0);
            });
            self.until("a message is deleted", SETTLED_US, |run| run.ledger.busy.get() == 0);
        }
    }

    fn pass(&self, span_us: u64) {
        let end = self.sim.now_us() + span_us;
        while self.sim.now_us() < end {
            self.step();
        }
    }

    fn happen(&self) {
        let sim = &self.sim;
        match sim.below(10) {
            0..3 => sim.disk.set_weather(|weather| {
                weather.cut_at = Some(sim.disk.changes() + 1 + sim.below(40));
            }),
            3 | 4 => self.end(End::Kill),
            5 => {
                self.server.stop();
                let until = sim.now_us() + sim.below(12_000_000);
                while sim.now_us() < until && !sim.disk.is_dead() {
                    self.step();
                }
                self.end(if sim.one_in(3) { End::PowerCut } else { End::Kill });
            }
            6 => sim.disk.set_weather(|weather| weather.syncs = *sim.pick(&[5, 40])),
            7 => sim.disk.set_weather(|weather| weather.short = 3),
            8 => sim.disk.set_weather(|weather| match sim.below(3) {
                0 => weather.is_full = true,
                1 => weather.writes = 30,
                _ => *weather = Default::default(),
            }),
            _ => sim.disk.set_weather(|weather| *weather = Default::default()),
        }
    }

    /// Nothing fails any more.
    fn calm(&self) {
        self.sim.disk.set_weather(|weather| *weather = Default::default());
        self.sim.net.breaks_one_in.set(0);
    }

    fn step(&self) {
        assert!(self.sim.steps() < STEPS_MAX, "[progress] it never ends");
        if let Some(mutant) = self.plan.mutant {
            mutant.meddle(&self.server.inboxes());
        }
        let goes_on = self.sim.step();
        if self.sim.disk.is_dead() {
            self.end(End::PowerCut);
        }
        match self.server.state() {
            State::Down => self.server.start(),
            State::Failed => self.start_over(),
            State::Starting | State::Up => assert!(goes_on, "[progress] nobody waits for anything"),
        }
    }

    /// A disk that fails may keep the server from starting; a healthy one may not.
    fn start_over(&self) {
        let weather = self.sim.disk.weather.get();
        let is_bad = weather.syncs + weather.writes > 0 || weather.is_full || weather.fails_at.is_some();
        rule!("it starts", is_bad, "seed {}: a healthy disk, and the server does not start", self.seed);
        self.sim.disk.set_weather(|weather| *weather = Default::default());
        self.end(End::Kill);
    }

    fn end(&self, how: End) {
        self.ends.set(self.ends.get() + 1);
        self.server.end(&self.sim, how);
        if let Some(mutant) = self.plan.mutant {
            mutant.tamper(&self.sim);
        }
    }

    fn until(&self, what: &str, span_us: u64, is_so: impl Fn(&Self) -> bool) {
        let end = self.sim.now_us() + span_us;
        while !is_so(self) {
            self.step();
            assert!(self.sim.now_us() < end, "[progress] not in time: {what}");
        }
    }

    /// Lets the queue empty itself, and looks at the mailboxes now and then.
    fn settle(&self) {
        let end = self.sim.now_us() + SETTLED_US;
        self.until("it serves", SETTLED_US, |run| run.server.state() == State::Up);
        loop {
            self.look();
            let missing = self.ledger.missing();
            if missing.is_empty() || self.ledger.is_rotten.get() {
                return;
            }
            rule!("what was taken arrives", self.sim.now_us() < end, "seed {}: {missing:?}", self.seed);
            self.pass(10_000_000);
        }
    }

    /// Everything that was promised is there, and only that.
    fn audit(&self) {
        self.look();
        self.ledger.check_doubles();
        let missing = self.ledger.missing();
        let is_lost = !missing.is_empty() && !self.ledger.is_rotten.get();
        rule!("what was taken arrives", !is_lost, "seed {}: {missing:?}", self.seed);
    }

    /// Reads all mail of all accounts.
    fn look(&self) {
        for (account, _) in ACCOUNTS {
            self.ledger.busy.set(1);
            let ledger = Rc::clone(&self.ledger);
            self.sim.spawn(CLIENTS, "auditor", async move {
                let read = read_all(account, &ledger).await;
                assert!(read.is_ok(), "[progress] the mail of {account} cannot be read: {read:?}");
                ledger.busy.set(0);
            });
            self.until("all mail is read", SETTLED_US, |run| run.ledger.busy.get() == 0);
        }
    }
}

async fn read_all(account: &str, ledger: &Ledger) -> std::io::Result<()> {
    let mut imap = Imap::log_in(account).await?;
    for mailbox in ["INBOX", "Other"] {
        let Some(uids) = imap.open(ledger, mailbox).await? else {
            continue;
        };
        for uid in uids {
            imap.fetch(ledger, uid).await?;
        }
    }
    imap.log_out().await
}

/// How many seeds, and from which on: `RINGPOST_SIM_SEEDS=10000`, `RINGPOST_SIM_SEED=42` or `42..50`.
fn seeds() -> Range<u64> {
    let named = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().ok();
    let some = named("RINGPOST_SIM_SEED").and_then(|text| match text.split_once("..") {
        Some((first, end)) => Some(number(first)?..number(end)?),
        None => number(&text).map(|seed| seed..seed + 1),
    });
    some.unwrap_or_else(|| 0..named("RINGPOST_SIM_SEEDS").and_then(|text| number(&text)).unwrap_or(60))
}

/// Seeds of one process. A world that was killed keeps its memory and its mappings, since nothing of it may run again.
const SEEDS_OF_PROCESS: u64 = 300;

/// What the seeds came to: how many, acknowledgements, starts, faults.
type Figures = [u64; 4];

/// Runs the seeds in processes of their own, one after the other.
fn run_in_parts(seeds: Range<u64>) -> Figures {
    let mut all = Figures::default();
    for first in seeds.clone().step_by(SEEDS_OF_PROCESS as usize) {
        let part = format!("{first}..{}", seeds.end.min(first + SEEDS_OF_PROCESS));
        let output = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "--nocapture", "whole::nothing_that_was_promised_is_lost_whatever_happens"])
            .env("RINGPOST_SIM_SEED", part)
            .output()
            .expect("this program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let figures = said.lines().find(|line| line.contains(" seeds: ")).filter(|_| output.status.success());
        let Some(figures) = figures else {
            panic!("{said}{}", String::from_utf8_lossy(&output.stderr));
        };
        let numbers = figures.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        all.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    all
}

/// Runs the seeds, as many at a time as there are processors.
fn run_all(seeds: Range<u64>) -> Vec<Report> {
    let (next, broken) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || -> Result<Vec<Report>, String> {
        let mut reports = Vec::new();
        while !broken.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                break;
            }
            let report = run(seed, Plan::default()).inspect_err(|_| broken.store(true, Ordering::Relaxed));
            reports.push(report.map_err(|broken| format!("RINGPOST_SIM_SEED={seed}: {broken}"))?);
        }
        Ok(reports)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let ended: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panics with nothing")).collect()
    });
    let reports: Result<Vec<_>, String> = ended.into_iter().collect();
    reports.unwrap_or_else(|broken| panic!("{broken}")).concat()
}

#[test]
fn nothing_that_was_promised_is_lost_whatever_happens() {
    let seeds = seeds();
    let [count, acknowledged, lives, faults] = match seeds.end - seeds.start > SEEDS_OF_PROCESS {
        true => run_in_parts(seeds),
        false => {
            run_all(seeds).iter().fold(Figures::default(), |[count, acknowledged, lives, faults], report| {
                [
                    count + 1,
                    acknowledged + report.acknowledged,
                    lives + u64::from(report.lives),
                    faults + report.faults,
                ]
            })
        }
    };
    println!("{count} seeds: {acknowledged} acknowledgements, {lives} starts, {faults} faults of the disk");
    assert!(acknowledged > 10 * count, "the clients got something done");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 11] {
        let traces: Vec<u64> = (0..2)
            .map(|_| {
                run(seed, Plan::default()).map_or_else(|broken| panic!("{broken}"), |report| report.trace)
            })
            .collect();
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}
