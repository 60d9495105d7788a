//! The rings that glommio makes: their setup flags, and whether this machine lets us have any.
//!
//! glommio 0.9 makes its rings without flags and has no way to ask for some. Two of them save about a third of
//! the CPU time of a request: COOP_TASKRUN (completions wait for our next system call and interrupt nobody)
//! and SINGLE_ISSUER (one thread submits, which is how an executor works). Its liburing is linked statically, so
//! the linker's `--wrap` (see `build.rs`) leads its calls of `io_uring_queue_init_params` to the function
//! below, and `__real_…` to the original.
//!
//! Invariant: a ring that the kernel would give without our flags is given, if need be without them.

use std::ffi::{c_int, c_uint, c_void};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Linux 5.19 and 6.0.
const COOP_TASKRUN: u32 = 1 << 8;
const SINGLE_ISSUER: u32 = 1 << 12;

/// Linux 6.1; the ring of the sockets (`io/net/sockets.rs`) cannot do without it.
const DEFER_TASKRUN: u32 = 1 << 13;

/// glommio refuses to start an executor with less.
pub const MEMLOCK_BYTES_LEAST: u64 = 512 << 10;

/// As many descriptors as any number of sessions that we have tried needs.
const FILES_WANTED: u64 = 1 << 20;

static RINGS: AtomicUsize = AtomicUsize::new(0);
static RINGS_WITH_FLAGS: AtomicUsize = AtomicUsize::new(0);

/// The front of the kernel's `struct io_uring_params` (linux/io_uring.h); what follows is passed through.
#[repr(C)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
}

/// The size of the whole, which the kernel reads and writes.
const PARAMS_BYTES: usize = 120;

/// What this process may have after [`raise_limits`]; `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub files: Option<u64>,
    pub memlock_bytes: Option<u64>,
}

/// Why executors cannot run here. Each says what to do about it.
#[derive(Debug)]
pub enum RingError {
    /// The kernel has no io_uring.
    Absent,
    /// Somebody has forbidden it.
    Forbidden,
    /// The kernel's io_uring is too old.
    Old,
    /// Less memory may be locked than rings need.
    Memlock {
        bytes: u64,
    },
    Other(io::Error),
}

/// How many rings were made, and how many of them with our flags.
pub fn made() -> (usize, usize) {
    (RINGS.load(Ordering::Relaxed), RINGS_WITH_FLAGS.load(Ordering::Relaxed))
}

/// Raises the soft limits of descriptors and locked memory as far as this process may.
pub fn raise_limits() -> Limits {
    Limits {
        files: raise(Resource::Nofile, Some(FILES_WANTED)),
        memlock_bytes: raise(Resource::Memlock, None),
    }
}

/// Makes a ring and drops it, so that the reason is known before executors fail for it.
pub fn check(limits: Limits) -> Result<(), RingError> {
    if let Some(bytes) = limits.memlock_bytes
        && bytes < MEMLOCK_BYTES_LEAST
    {
        return Err(RingError::Memlock { bytes });
    }
    let mut params = [0_u8; PARAMS_BYTES];
    // As in `Params`: the flags are the third word.
    params[8..12].copy_from_slice(&(SINGLE_ISSUER | DEFER_TASKRUN).to_ne_bytes());
    // SAFETY: the kernel reads and writes at most `PARAMS_BYTES` at the pointer, which lives through the call.
    let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2_u32, params.as_mut_ptr()) };
    let Ok(descriptor @ 0..) = c_int::try_from(made) else {
        return Err(RingError::of(io::Error::last_os_error(), limits));
    };
    // SAFETY: the descriptor was made above and nobody else knows it.
    unsafe { libc::close(descriptor) };
    Ok(())
}

impl RingError {
    fn of(error: io::Error, limits: Limits) -> Self {
        match (error.raw_os_error(), limits.memlock_bytes) {
            (Some(libc::ENOSYS), _) => Self::Absent,
            (Some(libc::EPERM | libc::EACCES), _) => Self::Forbidden,
            (Some(libc::EINVAL), _) => Self::Old,
            (Some(libc::ENOMEM), Some(bytes)) => Self::Memlock { bytes },
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str(
                "this kernel has no io_uring; Ringpost needs Linux 6.1 or newer with CONFIG_IO_URING",
            ),
            Self::Old => f.write_str("the io_uring of this kernel is too old; Ringpost needs Linux 6.1 or newer"),
            Self::Forbidden => f.write_str(
                "io_uring is forbidden here: set the sysctl kernel.io_uring_disabled to 0, and in a container use \
                 a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Self::Memlock { bytes } => write!(
                f,
                "only {} KiB of memory may be locked and rings need {}: raise it with `ulimit -l`, with \
                 LimitMEMLOCK=8M in the systemd unit, or with --ulimit memlock=8388608 for a container",
                bytes / 1024,
                MEMLOCK_BYTES_LEAST / 1024
            ),
            Self::Other(error) => write!(f, "no ring can be made: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

/// Sets the soft limit to `wanted`, or to the hard limit; moves that too if it is lower and we may.
fn raise(resource: Resource, wanted: Option<u64>) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    if is_at_least(current, wanted) {
        return current;
    }
    let target = if is_at_least(maximum, wanted) { wanted } else { maximum };
    let attempts = [Rlimit { current: wanted, maximum: wanted }, Rlimit { current: target, maximum }];
    // With enough under the hard limit there is no reason to move it.
    let skipped = usize::from(is_at_least(maximum, wanted));
    let reached = attempts.into_iter().skip(skipped).any(|limit| setrlimit(resource, limit).is_ok());
    if reached { getrlimit(resource).current } else { current }
}

fn is_at_least(limit: Option<u64>, wanted: Option<u64>) -> bool {
    match (limit, wanted) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(limit), Some(wanted)) => limit >= wanted,
    }
}

// SAFETY: the declaration is liburing's own; `--wrap` gives the original this name.
unsafe extern "C" {
    fn __real_io_uring_queue_init_params(entries: c_uint, ring: *mut c_void, params: *mut Params) -> c_int;
}

/// Stands in front of liburing's function of that name and adds our flags to what was asked for.
///
/// # Safety
///
/// As for the original: `ring` and `params` are liburing's structures, alive and used by nobody else.
// SAFETY: the name is claimed by this crate alone; the test below makes a ring through it.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_io_uring_queue_init_params(
    entries: c_uint,
    ring: *mut c_void,
    params: *mut Params,
) -> c_int {
    RINGS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller vouches for `params`, whose first fields are those of `Params`.
    let asked = unsafe { (*params).flags };
    // SAFETY: as above; the arguments go on to the original as they came.
    let made = unsafe {
        (*params).flags = asked | COOP_TASKRUN | SINGLE_ISSUER;
        __real_io_uring_queue_init_params(entries, ring, params)
    };
    if made >= 0 {
        RINGS_WITH_FLAGS.fetch_add(1, Ordering::Relaxed);
        return made;
    }
    // An older kernel, perhaps: as glommio asked for it. liburing clears `ring` itself before each attempt.
    // SAFETY: as above.
    unsafe {
        (*params).flags = asked;
        __real_io_uring_queue_init_params(entries, ring, params)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Limits, RingError, check, made, raise_limits};
    use crate::io::executor;

    #[test]
    fn executors_get_their_rings_through_us() {
        let limits = raise_limits();
        check(limits).unwrap();
        let before = made();
        let (handle, _) = executor::start("ring", None, |_| async { 7 }).unwrap();
        assert_eq!(handle.join().unwrap(), 7);
        let after = made();
        assert!(after.0 > before.0, "the linker wrapped the function");
        assert!(after.1 > before.1, "this kernel takes the flags");
    }

    #[test]
    fn limits_only_rise() {
        let first = raise_limits();
        assert_eq!(raise_limits(), first);
        assert!(first.files.is_none_or(|files| files >= 256));
    }

    #[test]
    fn reasons_say_what_to_do() {
        let limits = Limits { files: None, memlock_bytes: Some(64 << 10) };
        let table = [
            (libc::ENOSYS, "Linux 6.1"),
            (libc::EINVAL, "too old"),
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOMEM, "only 64 KiB"),
            (libc::EMFILE, "no ring can be made"),
        ];
        for (code, expected) in table {
            let text = RingError::of(io::Error::from_raw_os_error(code), limits).to_string();
            assert!(text.contains(expected), "{text}");
        }
        assert!(check(limits).unwrap_err().to_string().contains("LimitMEMLOCK"));
    }
}
