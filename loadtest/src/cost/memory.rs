//! Memory of processes and of the kernel.

use std::fs;
use std::io;

/// The proportional share of memory of a process.
pub fn pss_bytes(pid: u32) -> io::Result<u64> {
    of_rollup(pid, "Pss:")
}

/// Memory of a process's own: not what it has mapped of files, which the kernel keeps or drops as it sees fit.
pub fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    of_rollup(pid, "Anonymous:")
}

fn of_rollup(pid: u32, name: &str) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in smaps_rollup")))
}

/// Kernel memory of sockets and slabs of the whole machine.
pub fn kernel_bytes() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kib = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok((kib("Slab:") + kib("KernelStack:")) * 1024)
}
