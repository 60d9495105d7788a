//! A shard's end of the event log: a buffer that is handed over once a turn.
//!
//! Invariants: posting takes no lock and, once the buffers have grown, allocates nothing; what was posted is handed
//! over when the tasks that are ready now have had their turn, when a buffer is full, and when the shard ends.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::io::executor::spawn;
use crate::io::inbox::Inbox;
use crate::queue::event::Event;

/// A buffer of this size is handed over at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A buffer that a burst made larger is not kept.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// Lines that may wait for a slow disk; then they are dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Where lines are handed in; clones lead to the same writer, from any thread.
#[derive(Clone)]
pub struct EventDoor {
    pub(super) batches: Inbox<Batch>,
    pub(super) counters: Arc<Counters>,
}

/// Whole lines.
pub(super) struct Batch {
    pub lines: Vec<u8>,
    /// Where the buffer goes afterwards.
    spares: Inbox<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub waiting_bytes: AtomicUsize,
    pub dropped: AtomicU64,
}

/// What a shard posts its events to; clones share a buffer.
#[derive(Clone)]
pub struct EventLog(Rc<Sheet>);

struct Sheet {
    door: EventDoor,
    lines: RefCell<Lines>,
    spares: Inbox<Vec<u8>>,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl EventLog {
    pub fn new(door: EventDoor) -> Self {
        Self(Rc::new(Sheet { door, lines: RefCell::default(), spares: Inbox::new() }))
    }

    /// Adds the event. Called within an executor.
    pub fn post(&self, event: &Event<'_>) {
        match self.0.add(event) {
            Added::First => {
                let sheet = Rc::clone(&self.0);
                // It runs behind the tasks that are ready now, and their events go with this one.
                spawn("event lines", async move { sheet.hand_over() });
            }
            Added::More => {}
            Added::Full => self.0.hand_over(),
        }
    }

    /// Lines that were lost since the start, for want of space or time.
    pub fn dropped(&self) -> u64 {
        self.0.door.dropped()
    }
}

/// How the buffer is after a line more.
enum Added {
    First,
    More,
    Full,
}

impl Sheet {
    fn add(&self, event: &Event<'_>) -> Added {
        let mut lines = self.lines.borrow_mut();
        event.write(&mut lines.bytes);
        lines.count += 1;
        match lines.count {
            _ if lines.bytes.len() >= BUFFER_BYTES => Added::Full,
            1 => Added::First,
            _ => Added::More,
        }
    }

    fn hand_over(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.count == 0 {
            return;
        }
        let count = std::mem::take(&mut lines.count);
        if self.door.counters.waiting_bytes.load(Ordering::Relaxed) > WAITING_BYTES_MAX {
            self.door.counters.dropped.fetch_add(count, Ordering::Relaxed);
            lines.bytes.clear();
            return;
        }
        let spare = self.spares.try_next().unwrap_or_default();
        let full = std::mem::replace(&mut lines.bytes, spare);
        self.door.counters.waiting_bytes.fetch_add(full.len(), Ordering::Relaxed);
        self.door.batches.post(Batch { lines: full, spares: self.spares.clone() });
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl EventDoor {
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }
}

impl Batch {
    /// Gives the buffer back.
    pub fn done(self) {
        let Self { mut lines, spares, .. } = self;
        if lines.capacity() <= SPARE_BYTES_MAX {
            lines.clear();
            spares.post(lines);
        }
    }
}
