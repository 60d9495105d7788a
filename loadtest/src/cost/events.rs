//! System calls and syncs, counted by the kernel's tracepoints for every thread of a tree and all that they start.
//!
//! A sync is counted where the file system does it, since one asked of a ring or by a flag of a write is no system
//! call
//! of its own. For file systems without such a tracepoint the calls are counted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::process::Command;

use crate::cost::Calls;

/// Nothing where the kernel does not let us count.
pub struct Counters {
    calls: Option<Event>,
    file_system_syncs: Option<Event>,
    sync_calls: Option<Event>,
}

#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub system_calls: Option<u64>,
    pub syncs: Option<u64>,
}

/// One or more tracepoints that are counted together, a descriptor for each thread.
struct Event(Vec<File>);

const CALLS: [&str; 1] = ["raw_syscalls/sys_enter"];
const FILE_SYSTEM_SYNCS: [&str; 4] =
    ["ext4/ext4_sync_file_enter", "xfs/xfs_file_fsync", "btrfs/btrfs_sync_file", "f2fs/f2fs_sync_file_enter"];
const SYNC_CALLS: [&str; 4] = [
    "syscalls/sys_enter_fsync",
    "syscalls/sys_enter_fdatasync",
    "syscalls/sys_enter_msync",
    "syscalls/sys_enter_sync_file_range",
];

impl Counters {
    pub fn of(pids: &[u32], calls: Calls) -> Self {
        let threads: Vec<u32> = pids.iter().flat_map(|&pid| threads(pid)).collect();
        let (calls, sync_calls) = match calls {
            Calls::Counted => (Event::open(&CALLS, &threads), Event::open(&SYNC_CALLS, &threads)),
            // These would slow down every call, too.
            Calls::NotCounted => (None, None),
        };
        Self { calls, file_system_syncs: Event::open(&FILE_SYSTEM_SYNCS, &threads), sync_calls }
    }

    pub fn read(&self) -> Counted {
        let count = |event: &Option<Event>| event.as_ref().and_then(Event::count);
        let file_system = count(&self.file_system_syncs);
        // Each kind misses what only the other sees.
        let syncs = file_system.max(count(&self.sync_calls));
        Counted { system_calls: count(&self.calls), syncs }
    }
}

impl Event {
    fn open(names: &[&str], threads: &[u32]) -> Option<Self> {
        let ids: Vec<u64> = names.iter().filter_map(|name| tracepoint(name)).collect();
        let mut files = Vec::new();
        for &id in &ids {
            for &thread in threads {
                // A thread may have ended since it was listed; if none can be counted, nothing is.
                files.extend(open(id, thread));
            }
        }
        (!files.is_empty()).then_some(Self(files))
    }

    fn count(&self) -> Option<u64> {
        let mut sum = 0;
        for mut file in self.0.iter() {
            let mut value = [0; 8];
            file.read_exact(&mut value).ok()?;
            sum += u64::from_ne_bytes(value);
        }
        Some(sum)
    }
}

fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Where the kernel tells of its tracepoints, if it does.
const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Makes them known where a system has not done so: they are a file system that somebody has to mount.
pub fn mount() -> io::Result<()> {
    if ROOTS.iter().any(|root| Path::new(root).join("events").exists()) {
        return Ok(());
    }
    let status = Command::new("mount").args(["-t", "tracefs", "tracefs", ROOTS[0]]).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} cannot be mounted: mount: {status}", ROOTS[0]))),
    }
}

fn tracepoint(name: &str) -> Option<u64> {
    ROOTS
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/events/{name}/id")).ok()?.trim().parse().ok())
}

/// `struct perf_event_attr`, in its first published form.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

const TRACEPOINT: u32 = 2;
const INHERIT: u64 = 1 << 1;
const CLOSE_ON_EXEC: u64 = 1 << 3;

fn open(tracepoint: u64, thread: u32) -> Option<File> {
    let attributes = Attributes {
        kind: TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: tracepoint,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: INHERIT,
        wakeup_events: 0,
        breakpoint_type: 0,
        breakpoint_address: 0,
    };
    let thread = libc::pid_t::try_from(thread).ok()?;
    // SAFETY: the attributes live through the call and say their size; -1 is any processor, and no group.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &attributes, thread, -1, -1, CLOSE_ON_EXEC) };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the kernel gave this descriptor to us alone.
    Some(unsafe { File::from_raw_fd(fd) })
}
