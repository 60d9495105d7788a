//! A control group of our own around a tree of processes, for its processor time alone.
//!
//! Version 2 counts processor time in every group, whether or not a controller is enabled there, so nothing is
//! limited and nothing is switched on. The processes go back to where they came from at the end.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Fence {
    folder: PathBuf,
    /// Where the first root came from.
    origin: PathBuf,
}

/// Several meters may run in one process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Fence {
    /// Fails where there is no version 2, or no right to make groups and move processes.
    pub fn around(pids: &[u32]) -> io::Result<Self> {
        let mount = mount()?;
        let first = pids.first().ok_or_else(|| io::Error::other("there is no process"))?;
        let origin = mount.join(group_of(*first)?.trim_start_matches('/'));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = mount.join(format!("loadtest-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let fence = Self { folder, origin };
        for pid in pids {
            fs::write(fence.folder.join("cgroup.procs"), pid.to_string())?;
        }
        // Children that were born meanwhile stand outside; they are few, but they would be missed.
        match fence.cpu_us() {
            Some(_) => Ok(fence),
            None => Err(io::Error::other("the group does not count processor time")),
        }
    }

    /// Processor time since the fence stands, in microseconds.
    pub fn cpu_us(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.folder.join("cpu.stat")).ok()?;
        stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in members.split_whitespace() {
            // A process that has ended needs no move.
            let _ = fs::write(self.origin.join("cgroup.procs"), pid);
        }
        // If it is not empty, it stays, and does no harm.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn mount() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    found.ok_or_else(|| io::Error::other("there are no control groups of version 2"))
}

fn group_of(pid: u32) -> io::Result<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let found = groups.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
    found.ok_or_else(|| io::Error::other("the process is in no control group of version 2"))
}
