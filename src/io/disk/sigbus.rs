//! What happens when a mapped sector cannot be read: the kernel sends SIGBUS to whoever touched it.
//!
//! The handler looks the address up among our mappings. If it is one of them, it puts a page of zeroes there, marks
//! the mapping and lets the thread go on: checksums then say which message is damaged, and [`has_lost_pages`] says it
//! of bytes that were checked earlier. Any other address goes to whoever handled the signal before.
//!
//! Invariants: the handler uses atomics and system calls alone; a mapping is in the table for exactly as long as it
//! is mapped.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings of the whole process: those that readers keep, and those that slices still hold. As many as Linux gives a
/// process unless told otherwise (`vm.max_map_count`), so that this table is never what a shard runs out of.
const MAPPINGS_MAX: usize = 1 << 16;

/// The smallest page there is; a sector lies in one.
const PAGE_BYTES: usize = 4096;

/// Zeroes, which take no memory before they are used.
static TABLE: [Entry; MAPPINGS_MAX] = [const { Entry::new() }; MAPPINGS_MAX];

/// Entries from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// How many pages were ever lost; zero spares everyone the search.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Whoever handled the signal before us. Set before our handler can run.
static BEFORE: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

struct Entry {
    /// 0: free, 1: being filled in.
    start: AtomicUsize,
    end: AtomicUsize,
    is_marked: AtomicBool,
}

/// A mapping's place in the table, given back on drop. Drop it before the mapping.
#[derive(Debug)]
pub struct Watched(usize);

impl Entry {
    const fn new() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0), is_marked: AtomicBool::new(false) }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start > 1 && (start..self.end.load(Ordering::Acquire)).contains(&address)
    }
}

impl Watched {
    /// Watches over mapped memory, which begins on a page.
    pub fn new(mapped: &[u8]) -> io::Result<Self> {
        install()?;
        let start = mapped.as_ptr().addr();
        let claim =
            |entry: &Entry| entry.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let number = TABLE.iter().position(claim).ok_or(io::Error::from_raw_os_error(libc::ENOMEM))?;
        // Before there is anything to be found in it.
        USED.fetch_max(number + 1, Ordering::AcqRel);
        let entry = &TABLE[number];
        entry.is_marked.store(false, Ordering::Relaxed);
        entry.end.store((start + mapped.len()).next_multiple_of(PAGE_BYTES), Ordering::Release);
        entry.start.store(start, Ordering::Release);
        Ok(Self(number))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        TABLE[self.0].start.store(0, Ordering::Release);
    }
}

fn used() -> &'static [Entry] {
    &TABLE[..USED.load(Ordering::Acquire)]
}

/// How many pages of mappings could not be read since the start of the process.
pub fn lost_pages() -> usize {
    LOST.load(Ordering::Acquire)
}

/// Whether these bytes lie in a mapping of which a page could not be read: then they may be zeroes, and must be
/// checked again before they go anywhere.
pub fn has_lost_pages(bytes: &[u8]) -> bool {
    LOST.load(Ordering::Acquire) > 0
        && used()
            .iter()
            .any(|entry| entry.holds(bytes.as_ptr().addr()) && entry.is_marked.load(Ordering::Acquire))
}

/// Puts the handler in its place, once in a process.
fn install() -> io::Result<()> {
    let before = BEFORE.get_or_init(|| {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: reads the present action into memory that is ours and large enough.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) };
        match asked {
            // SAFETY: the call above filled it in; and zeroes are a valid `sigaction` too.
            0 => Ok(unsafe { before.assume_init() }),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
        }
    });
    if let Err(number) = before {
        return Err(io::Error::from_raw_os_error(*number));
    }
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let number = *INSTALLED.get_or_init(|| {
        // SAFETY: zeroes are a valid `sigaction`: no flags, an empty mask.
        let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        ours.sa_sigaction = handle as extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) as usize;
        // SAFETY: `handle` has the signature that SA_SIGINFO asks for and calls only what a handler may call.
        match unsafe { libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) } {
            0 => 0,
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
        }
    });
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid `siginfo_t` to a handler that asked for it with SA_SIGINFO, and SIGBUS has an
    // address in it.
    let address = unsafe { (*info).si_addr() }.addr();
    match used().iter().find(|entry| entry.holds(address)) {
        Some(entry) if replace_page(address & !(PAGE_BYTES - 1)) => {
            entry.is_marked.store(true, Ordering::Release);
            LOST.fetch_add(1, Ordering::AcqRel);
        }
        _ => pass_on(signal, info, context),
    }
}

/// Maps zeroes over a page of one of our mappings.
fn replace_page(page: usize) -> bool {
    let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    // SAFETY: the page lies inside a mapping that is in the table, and so is mapped by us, for reading: nothing else
    // can lie there. Whoever reads it finds zeroes where the device gave nothing; no reference to it is to bytes
    // that were read before, since those could not be.
    let mapped =
        unsafe { libc::mmap(ptr::without_provenance_mut(page), PAGE_BYTES, protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Not ours: as if we were not here.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(Ok(before)) = BEFORE.get() else {
        return;
    };
    if before.sa_sigaction == libc::SIG_DFL || before.sa_sigaction == libc::SIG_IGN {
        // SAFETY: puts back what was there; the access is tried again and ends the process.
        unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        return;
    }
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: the kernel would have called it in the same way: SA_SIGINFO says that this is its signature.
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(before.sa_sigaction) };
        handler(signal, info, context);
    } else {
        // SAFETY: without SA_SIGINFO this is its signature.
        let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(before.sa_sigaction) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Watched, has_lost_pages};
    use crate::io::disk::mapping::map;
    use crate::limits::store::MAPPINGS_MAX as MAPPINGS_OF_SHARD;

    #[test]
    fn a_page_that_is_gone_reads_as_zeroes_and_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, vec![b'x'; 3 * 4096]).expect("written");
        let mapped = map(&path).expect("mapped");
        let other = map(&path).expect("mapped");
        assert!(!has_lost_pages(&mapped));
        // The nearest thing to a bad sector that can be made here: a page beyond the end of its file.
        fs::File::options().write(true).open(&path).expect("opened").set_len(4096).expect("cut");
        assert_eq!((mapped[0], mapped[4096], mapped[3 * 4096 - 1]), (b'x', 0, 0));
        assert!(has_lost_pages(&mapped) && has_lost_pages(&mapped.part(10..20)));
        assert!(!has_lost_pages(&other) && !has_lost_pages(b"elsewhere"));
    }

    /// A machine with many processors has as many readers, each with its mappings.
    #[test]
    fn more_are_watched_than_many_shards_map() {
        let bytes = vec![0; 1];
        let all: Vec<Watched> =
            (0..64 * MAPPINGS_OF_SHARD).map(|_| Watched::new(&bytes).expect("room")).collect();
        assert_eq!(all.len(), 64 * MAPPINGS_OF_SHARD);
    }
}
