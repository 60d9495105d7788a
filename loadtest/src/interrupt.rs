//! What is undone when somebody ends a run early: servers that it started end with it.
//!
//! SIGINT and SIGTERM are noted. Who can end in good order looks at [`is_asked`]; where deeds are registered, a thread
//! does them and ends the process.

use std::process;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

/// The signal that came; 0 before one did.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

static DEEDS: Mutex<Vec<(u64, Deed)>> = Mutex::new(Vec::new());

type Deed = Box<dyn FnOnce() + Send>;

/// As long as it lives, its deed is done if the run is ended early.
pub struct Undo(u64);

const LOOK: Duration = Duration::from_millis(50);

/// From here on SIGINT and SIGTERM do not end the process by themselves.
pub fn listen() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which a handler may do.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

pub fn is_asked() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Does this if SIGINT or SIGTERM comes, and ends the process then with the status that a shell gives to that.
pub fn undo_by(deed: impl FnOnce() + Send + 'static) -> Undo {
    static WATCHED: Once = Once::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    deeds().push((number, Box::new(deed)));
    WATCHED.call_once(|| {
        listen();
        thread::spawn(watch);
    });
    Undo(number)
}

fn watch() {
    while !is_asked() {
        thread::sleep(LOOK);
    }
    // Nobody registers or takes back anything any more: the process ends behind this.
    let mut deeds = deeds();
    deeds.drain(..).for_each(|(_, deed)| deed());
    process::exit(128 + SIGNAL.load(Ordering::Relaxed));
}

fn deeds() -> std::sync::MutexGuard<'static, Vec<(u64, Deed)>> {
    DEEDS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Undo {
    fn drop(&mut self) {
        deeds().retain(|(number, _)| *number != self.0);
    }
}

extern "C" fn note(signal: libc::c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
}
