//! A tree of processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Everything that has been a descendant of the roots since the tree is followed.
pub struct Tree {
    members: BTreeMap<u32, Member>,
    /// Of members that have ended and that no member has waited for, as last seen.
    lost: Sum,
}

#[derive(Clone, Copy)]
struct Member {
    /// Tells a process from a later one of the same number.
    started: u64,
    parent: u32,
    used: Sum,
}

/// What processes have used since they began, with the children that they waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub cpu_ns: u64,
    pub major_faults: u64,
    pub written_bytes: u64,
}

/// A scan is repeated until nothing came or went meanwhile, but no more often than this.
const SCANS_MAX: usize = 5;

impl Tree {
    pub fn of(roots: &[u32]) -> io::Result<Self> {
        let mut members = BTreeMap::new();
        for &pid in roots {
            let member = Member::read(pid);
            members
                .insert(pid, member.ok_or_else(|| io::Error::other(format!("there is no process {pid}")))?);
        }
        let mut tree = Self { members, lost: Sum::default() };
        tree.refresh();
        Ok(tree)
    }

    /// Looks again.
    pub fn refresh(&mut self) {
        for _ in 0..SCANS_MAX {
            let before = self.pids();
            self.scan();
            if self.pids() == before {
                return;
            }
        }
    }

    pub fn pids(&self) -> Vec<u32> {
        self.members.keys().copied().collect()
    }

    /// Of all members, those that have ended too.
    pub fn sum(&self) -> Sum {
        self.members.values().fold(self.lost, |sum, member| sum.plus(member.used))
    }

    fn scan(&mut self) {
        let mut wanted: Vec<u32> = self.pids();
        let mut seen: BTreeMap<u32, Member> = BTreeMap::new();
        while let Some(pid) = wanted.pop() {
            let Some(member) = Member::read(pid) else { continue };
            let is_other = self.members.get(&pid).is_some_and(|known| known.started != member.started);
            if is_other || seen.contains_key(&pid) {
                continue;
            }
            seen.insert(pid, member);
            wanted.extend(children(pid));
        }
        for (pid, member) in &self.members {
            // What a living parent has waited for is in the parent's sum.
            if !seen.contains_key(pid) && !seen.contains_key(&member.parent) {
                self.lost = self.lost.plus(member.used);
            }
        }
        self.members = seen;
    }
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            major_faults: self.major_faults + other.major_faults,
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

impl Member {
    /// `None` if there is no such process, or one that only waits to be waited for.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; the third field, the state, follows it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |place: usize| fields.get(place - 3)?.trim().parse::<u64>().ok();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return None;
        }
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let own_ns = process_clock_ns(pid).unwrap_or((number(14)? + number(15)?) * tick_ns);
        let used = Sum {
            cpu_ns: own_ns + (number(16)? + number(17)?) * tick_ns,
            major_faults: number(12)? + number(13)?,
            written_bytes: written_bytes(pid).unwrap_or(0),
        };
        Some(Self { started: number(22)?, parent: u32::try_from(number(4)?).ok()?, used })
    }
}

/// Of every thread: a child belongs to the thread that made it.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// What the kernel charges for pages made dirty, without those that were deleted before they were written.
fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(field("write_bytes:")?.saturating_sub(field("cancelled_write_bytes:")?))
}

/// Processor time of all threads of a process, in nanoseconds, of threads that have ended too.
fn process_clock_ns(pid: u32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: `clock` is a valid place for the answer.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
