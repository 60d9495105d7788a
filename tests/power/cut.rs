//! Power cuts on the real kernel: a server under load on a file system whose disk writes everything down, then that
//! disk as it may have been at many moments: mounted, started, audited.
//!
//! Some states are cut off a second time, while the server recovers from the first.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::audit::{Audit, Findings, PATIENCE};
use crate::cast::{Kind, number};
use crate::device::FileSystem;
use crate::disk::{Event, Overlay, now};
use crate::ledger::Ledger;
use crate::load::{Clients, Refusals};
use crate::random::Random;
use crate::stage::{Load, Stage, start_clients, wait_for_clients};
use crate::states::{Cut, Flushes, choose, writes};

/// One of so many states is cut off again.
const AGAIN_ONE_IN: u64 = 4;

#[derive(clap::Args, Clone)]
pub struct Orders {
    #[arg(long, value_enum, default_value = "ringpost")]
    pub server: Kind,
    #[arg(long, value_enum, default_value = "ext4")]
    pub fs: FileSystem,
    /// Crash states in all.
    #[arg(long, default_value_t = 1000)]
    pub states: usize,
    /// Crash states of one load.
    #[arg(long, default_value_t = 100)]
    pub states_per_load: usize,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, value_enum, default_value = "honoured")]
    pub flushes: Flushes,
    /// How long a load lasts.
    #[arg(long, default_value_t = 3000)]
    pub load_ms: u64,
    /// Between two commands of a client.
    #[arg(long, default_value_t = 10)]
    pub pause_ms: u64,
    /// A folder for disks on which something is not as promised.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// What all states together showed.
#[derive(Default)]
pub struct Tally {
    loads: u64,
    states: usize,
    /// Writes that no flush covered, in all states together.
    unflushed: usize,
    acknowledged: usize,
    /// Acknowledgements that were looked for, in all states together.
    held_against: usize,
    fscks: usize,
    pub findings: Findings,
}

/// What happened under one load.
struct Recording {
    history: Vec<Event>,
    end: u64,
    ledger: Ledger,
    /// When each message arrived elsewhere.
    arrivals: Vec<(u64, u64)>,
}

/// An error is why this machine cannot do it.
pub fn run(orders: &Orders) -> Result<Tally, String> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    while tally.states < orders.states {
        let mut stage = Stage::set(orders.server, orders.fs)?;
        let recording = stage.record(orders, tally.loads);
        tally.acknowledged += recording.ledger.acknowledged(recording.end);
        let states = orders.states_per_load.min(orders.states - tally.states);
        stage.try_states(orders, states, &recording, &mut tally);
        tally.fscks += stage.device.fscks;
        tally.loads += 1;
        eprintln!("{} states: {}", tally.states, tally.findings);
    }
    tally.print(orders);
    println!("{} s", begun.elapsed().as_secs());
    Ok(tally)
}

impl Tally {
    /// A row of a table.
    fn print(&self, orders: &Orders) {
        let Self { loads, states, unflushed, acknowledged, held_against, fscks, findings } = self;
        let Findings {
            dead, lost, mended, returned, doubled, corrupted, flags, uids, refused, repeated, ..
        } = findings;
        println!(
            "| server | file system | states | acknowledged | held against | not started | lost (mended) | came back \
             | doubled | damaged | flags lost | other UIDs | not readable | sent on again |"
        );
        println!(
            "| {} | {} | {states} | {acknowledged} | {held_against} | {dead} | {lost} ({mended}) | {returned} \
             | {doubled} | {corrupted} | {flags} | {uids} | {refused} | {repeated} |",
            orders.server, orders.fs
        );
        let each = *unflushed as f64 / *states as f64;
        println!("{loads} loads, {each:.1} unflushed writes in a state, {fscks} states needed fsck");
    }
}

impl Stage {
    /// Lets clients work on the server while the disk writes down what it is asked to do. The disk is then as it was
    /// before.
    fn record(&mut self, orders: &Orders, load: u64) -> Recording {
        self.server.start().expect("the server starts on a new file system");
        let synced = Command::new("sync").arg("-f").arg(self.device.folder()).status();
        assert!(synced.is_ok_and(|status| status.success()), "the file system can be synced");
        {
            let mut disk = self.device.disk();
            disk.settle();
            disk.record();
        }
        let path = self.scratch.path().join("ledger");
        fs::write(&path, "").expect("the ledger is made");
        let load =
            Load { round: load, pause_ms: orders.pause_ms, refusals: Refusals::Final, clients: Clients::All };
        let mut clients = start_clients(self.server.as_ref(), &path, load);
        thread::sleep(Duration::from_millis(orders.load_ms));
        let (history, end) = {
            let mut disk = self.device.disk();
            (disk.take_history(), now())
        };
        self.server.kill();
        wait_for_clients(&mut clients);
        let arrivals = self.arrivals();
        self.device.unmount();
        let ledger = Ledger::read(&path).expect("the ledger can be read");
        Recording { history, end, ledger, arrivals }
    }

    /// Message numbers with the times of their arrival.
    fn arrivals(&self) -> Vec<(u64, u64)> {
        let (instant, time) = (Instant::now(), now());
        let since = |at: Instant| u64::try_from((instant - at).as_nanos()).expect("a moment ago");
        let arrivals = self.remote.arrivals();
        arrivals.iter().filter_map(|it| Some((number(&it.content)?, time - since(it.at)))).collect()
    }

    fn try_states(&mut self, orders: &Orders, count: usize, recording: &Recording, tally: &mut Tally) {
        let history = &recording.history;
        let mut random = Random::new(orders.seed.wrapping_mul(1_000_003).wrapping_add(tally.loads));
        let mut cuts: Vec<usize> = (0..count).map(|_| choose(history, &mut random)).collect();
        cuts.sort_unstable();
        let mut sunk = 0;
        for events in cuts {
            let cut = Cut::after(events, history, orders.flushes);
            let mut random = Random::new(random.next());
            let what = {
                let mut disk = self.device.disk();
                disk.set_overlay(Overlay::new());
                writes(&history[sunk..cut.durable]).for_each(|(offset, bytes)| disk.sink(offset, bytes));
                cut.leave(history, &mut disk, &mut random)
            };
            sunk = sunk.max(cut.durable);
            let left = self.device.disk().overlay();
            let until = cut.at(history, recording.end);
            let findings = self.try_state(orders, recording, until, &mut random);
            if findings.broken() > 0 {
                eprintln!("load {}, state {} ({what}): {findings}", tally.loads, tally.states);
                findings.details.iter().for_each(|detail| eprintln!("    {detail}"));
                self.keep(orders, left, tally);
            }
            tally.states += 1;
            tally.unflushed += cut.unflushed(history);
            tally.held_against += recording.ledger.acknowledged(until);
            tally.findings.add(findings);
        }
    }

    /// Keeps the disk as the cut left it, and the ledger, for whoever wants to look.
    fn keep(&self, orders: &Orders, left: Overlay, tally: &Tally) {
        let Some(folder) = &orders.keep else {
            return;
        };
        let name = format!("{}-{}-{}-{}", orders.server, orders.fs, orders.seed, tally.states);
        let mut disk = self.device.disk();
        disk.set_overlay(left);
        disk.save(&folder.join(format!("{name}.disk"))).expect("the folder takes a disk");
        let ledger = self.scratch.path().join("ledger");
        fs::copy(ledger, folder.join(format!("{name}.ledger"))).expect("the folder takes a ledger");
    }

    /// The disk is as the cut left it: what comes of that.
    fn try_state(
        &mut self,
        orders: &Orders,
        recording: &Recording,
        until: u64,
        random: &mut Random,
    ) -> Findings {
        let arrivals_before = self.remote.ledger().arrivals.len();
        let started = match random.one_in(AGAIN_ONE_IN) {
            true => self.cut_again(random),
            false => Ok(()),
        };
        let findings = match started.and_then(|()| self.come_up()) {
            Err(error) => {
                let mut findings = Findings::default();
                findings.note(|counts| &mut counts.dead, error);
                findings
            }
            Ok(()) => {
                let arrivals = recording.arrivals.iter().filter(|(_, at)| *at < until);
                let arrived: BTreeSet<u64> = arrivals.map(|(number, _)| *number).collect();
                let audit = Audit {
                    server: self.server.as_ref(),
                    ledger: &recording.ledger,
                    until,
                    remote: &self.remote,
                    arrived: &arrived,
                    arrivals_before,
                    patience: match orders.flushes {
                        Flushes::Honoured => PATIENCE,
                        Flushes::Ignored => Duration::from_secs(1),
                    },
                };
                let (findings, _) = audit.run();
                self.server.kill();
                findings
            }
        };
        self.device.unmount_if_mounted();
        findings
    }

    fn come_up(&mut self) -> Result<(), String> {
        self.device.mount()?;
        self.server.start()
    }

    /// Lets the server recover, and cuts the power somewhere within that.
    fn cut_again(&mut self, random: &mut Random) -> Result<(), String> {
        let before = self.device.disk().overlay();
        self.device.disk().record();
        let started = self.come_up();
        let history = self.device.disk().take_history();
        if started.is_ok() {
            self.server.kill();
        }
        self.device.unmount_if_mounted();
        started?;
        let cut = Cut::after(choose(&history, random), &history, Flushes::Honoured);
        let mut disk = self.device.disk();
        disk.set_overlay(before);
        writes(&history[..cut.durable]).for_each(|(offset, bytes)| disk.lay(offset, bytes));
        cut.leave(&history, &mut disk, random);
        Ok(())
    }
}
