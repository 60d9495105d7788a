//! What a run costs the server: a whole tree of processes, measured from outside.
//!
//! A [`Meter`] is started with the server's root processes. While it runs, a thread of its own follows the tree,
//! since
//! processes come and go. Processor time comes from a control group of our own into which the tree is moved, where
//! this process may do that; it then misses nothing, and also covers children that nobody waits for. Elsewhere it is
//! summed
//! over `/proc`: processes that live, children that they have waited for, and orphans as last seen.
//! System calls and syncs are counted by the kernel's tracepoints. Counting system calls makes each of them slower,
//! also
//! those of the generator, so it is asked for apart.
//!
//! What cannot be measured is `None`, never a guess.

mod device;
mod events;
mod fence;
mod memory;
mod tree;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use device::Reading;
use events::Counters;
use fence::Fence;
use tree::Tree;

pub use device::DeviceCost;
pub use events::mount as mount_tracepoints;
pub use memory::{anonymous_bytes, kernel_bytes, pss_bytes};

/// What the server spent between start and stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time, of reaped children too.
    pub cpu_us: u64,
    /// How the processor time was found: `control group` or `process tree`.
    pub cpu_from: String,
    /// Processor time of the whole machine meanwhile, interrupts too: the check on what processes are told.
    pub machine_cpu_us: u64,
    /// Proportional share of memory of all processes together, at its highest.
    pub memory_peak_bytes: u64,
    /// The same, at the start.
    pub memory_before_bytes: u64,
    pub processes_max: u64,
    /// Pages that were waited for from the disk.
    pub major_faults: u64,
    pub system_calls: Option<u64>,
    pub syncs: Option<u64>,
    /// Bytes of pages that its processes made dirty, as the kernel charges them.
    pub written_bytes: u64,
    /// The whole device under the server's data, whoever used it.
    pub device: Option<DeviceCost>,
}

/// Whether system calls are counted, which slows them down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    Counted,
    NotCounted,
}

/// Follows a tree of processes until it is stopped.
pub struct Meter {
    sampler: JoinHandle<io::Result<Sampled>>,
    stop: Sender<()>,
    fence: Option<Fence>,
    counters: Counters,
    device: Option<Reading>,
    machine_before_us: u64,
}

/// What the following thread saw.
struct Sampled {
    before: tree::Sum,
    after: tree::Sum,
    memory_before_bytes: u64,
    memory_peak_bytes: u64,
    processes_max: u64,
}

/// How often the tree is looked at.
const TREE_EVERY: Duration = Duration::from_millis(100);

/// Reading a process's memory walks its page tables.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

impl Meter {
    /// Begins to measure `roots` with all their descendants; `data` is a path on the device that they write to.
    pub fn start(roots: &[u32], data: Option<&Path>, calls: Calls) -> io::Result<Self> {
        let tree = Tree::of(roots)?;
        let fence = Fence::around(&tree.pids()).ok();
        let counters = Counters::of(&tree.pids(), calls);
        let device = data.and_then(Reading::of);
        let (stop, stopped) = mpsc::channel();
        let sampler =
            thread::Builder::new().name("meter".to_owned()).spawn(move || follow(tree, &stopped))?;
        Ok(Self { sampler, stop, fence, counters, device, machine_before_us: machine_us()? })
    }

    pub fn stop(self) -> io::Result<Cost> {
        let fenced = self.fence.as_ref().and_then(Fence::cpu_us);
        let counted = self.counters.read();
        let machine_cpu_us = machine_us()?.saturating_sub(self.machine_before_us);
        // The thread may have ended by an error; joining tells.
        let _ = self.stop.send(());
        let sampled = self.sampler.join().map_err(|_| io::Error::other("the meter panicked"))??;
        let (before, after) = (sampled.before, sampled.after);
        let (cpu_us, cpu_from) = match fenced {
            Some(cpu_us) => (cpu_us, "control group"),
            None => (after.cpu_ns.saturating_sub(before.cpu_ns) / 1000, "process tree"),
        };
        Ok(Cost {
            cpu_us,
            cpu_from: cpu_from.to_owned(),
            machine_cpu_us,
            memory_peak_bytes: sampled.memory_peak_bytes,
            memory_before_bytes: sampled.memory_before_bytes,
            processes_max: sampled.processes_max,
            major_faults: after.major_faults.saturating_sub(before.major_faults),
            system_calls: counted.system_calls,
            syncs: counted.syncs,
            written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
            device: self.device.and_then(Reading::since),
        })
    }
}

/// Processor time that `roots` and their descendants have used so far: for single operations, too short for a meter.
pub fn cpu_ns(roots: &[u32]) -> io::Result<u64> {
    Ok(Tree::of(roots)?.sum().cpu_ns)
}

/// Proportional share of memory of `roots` and their descendants together.
pub fn tree_pss_bytes(roots: &[u32]) -> io::Result<u64> {
    Ok(Tree::of(roots)?.pids().iter().filter_map(|&pid| pss_bytes(pid).ok()).sum())
}

/// user nice system idle iowait irq softirq: all but the two kinds of idling.
fn machine_us() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let busy: u64 =
        ticks.iter().take(7).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, n)| n).sum();
    Ok(busy * 1_000_000 / rustix::param::clock_ticks_per_second())
}

fn follow(mut tree: Tree, stopped: &mpsc::Receiver<()>) -> io::Result<Sampled> {
    let before = tree.sum();
    let memory = |tree: &Tree| tree.pids().iter().filter_map(|&pid| pss_bytes(pid).ok()).sum::<u64>();
    let memory_before_bytes = memory(&tree);
    let (mut memory_peak_bytes, mut looked) = (memory_before_bytes, Instant::now());
    let mut processes_max = tree.pids().len() as u64;
    loop {
        let is_last = stopped.recv_timeout(TREE_EVERY) != Err(RecvTimeoutError::Timeout);
        tree.refresh();
        processes_max = processes_max.max(tree.pids().len() as u64);
        if is_last || looked.elapsed() >= MEMORY_EVERY {
            memory_peak_bytes = memory_peak_bytes.max(memory(&tree));
            looked = Instant::now();
        }
        if is_last {
            let after = tree.sum();
            return Ok(Sampled { before, after, memory_before_bytes, memory_peak_bytes, processes_max });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::{Calls, Cost, Meter};

    /// Measures a shell that starts once the meter runs.
    fn cost_of(script: &str) -> Cost {
        let mut shell = Command::new("sh")
            .args(["-c", &format!("read go; {script}; echo done; read end")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let meter = Meter::start(&[shell.id()], None, Calls::Counted).expect("it lives");
        let mut stdin = shell.stdin.take().expect("a pipe");
        stdin.write_all(b"\n").expect("it reads");
        let mut done = String::new();
        let stdout = shell.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut done).expect("it says when it is done");
        let cost = meter.stop().expect("it was measured");
        drop(stdin);
        shell.wait().expect("it ends");
        cost
    }

    #[test]
    fn children_that_have_ended_are_counted() {
        // Half a second of work in a grandchild, and files written and synced.
        let work = "sh -c 'timeout 0.5 sh -c \"while :; do :; done\"'";
        let file = tempfile::tempdir().expect("a folder");
        let path = file.path().join("written");
        let write = format!("dd if=/dev/zero of={} bs=64k count=16 conv=fsync 2>/dev/null", path.display());
        let cost = cost_of(&format!("{work}; {write}"));
        assert!(cost.cpu_us > 50_000, "{cost:?}");
        assert!(cost.processes_max >= 2, "{cost:?}");
        assert!(cost.memory_peak_bytes > 100_000, "{cost:?}");
        // Where the kernel lets us count.
        assert!(cost.system_calls.is_none_or(|calls| calls > 40), "{cost:?}");
        assert!(cost.syncs.is_none_or(|syncs| (1..20).contains(&syncs)), "{cost:?}");
    }

    #[test]
    fn idling_costs_nothing() {
        let cost = cost_of("sleep 1");
        assert!(cost.cpu_us < 200_000, "{cost:?}");
    }
}
