//! What a target works: the processor time of the thread, which a busy machine changes little.

/// So far. `/proc` has it only as of the last tick.
pub fn spent_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec` at the pointer, which is valid for that.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "Linux counts it");
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("it only grows")
}
