//! What a process costs: processor time, memory, system calls, syncs.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Processor time of all threads of a process, in nanoseconds, threads that have ended included.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: `clock` is a valid place for the answer.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return Err(io::Error::other("the process has no clock; is it running?"));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Processor time that the whole machine has spent, in nanoseconds: the check on what a process is told.
pub fn machine_cpu_ns() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq: all but the two kinds of idling.
    let busy: u64 =
        ticks.iter().take(7).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, n)| n).sum();
    Ok(busy * 10_000_000)
}

/// The proportional share of memory of a process, in bytes.
pub fn memory_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no Pss in smaps_rollup"))
}

/// Kernel memory of sockets and slabs of the whole machine, in bytes.
pub fn kernel_memory_bytes() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kib = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok((kib("Slab:") + kib("KernelStack:")) * 1024)
}

/// Counts system calls and syncs of a process from outside, by `perf stat`.
pub struct Counters {
    perf: Child,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub system_calls: u64,
    pub syncs: u64,
}

const CALLS: &str = "raw_syscalls:sys_enter";
const SYNCS: [&str; 2] = ["syscalls:sys_enter_fdatasync", "syscalls:sys_enter_fsync"];

impl Counters {
    /// `None` where perf is not installed or may not count.
    pub fn start(pid: u32) -> Option<Self> {
        let events = [CALLS, SYNCS[0], SYNCS[1]].join(",");
        let perf = Command::new("perf")
            .args(["stat", "-x", ";", "-e", &events, "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        // It needs a moment to attach.
        std::thread::sleep(Duration::from_millis(300));
        Some(Self { perf })
    }

    pub fn stop(self) -> Option<Counted> {
        let pid = libc::pid_t::try_from(self.perf.id()).ok()?;
        // SAFETY: the process is our child and has not been waited for, so the number is its own.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let output = self.perf.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let count = |event: &str| -> Option<u64> {
            let line = text.lines().find(|line| line.contains(event))?;
            line.split(';').next()?.parse().ok()
        };
        let syncs = SYNCS.iter().filter_map(|event| count(event)).sum();
        Some(Counted { system_calls: count(CALLS)?, syncs })
    }
}
