//! Standard error, written by a thread of its own: no shard waits for a disk, a pipe or a terminal that takes nothing.
//!
//! The thread waits a moment for more lines before it writes, so that a busy server pays for a hundred writes a second
//! and not for one a message. What comes faster than it is taken is dropped in the end, and that is told.
//!
//! Invariants: lines come out whole and in the order in which they were written; [`flush`] returns within a bound.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// How long lines wait for others to be written with.
const GATHER: Duration = Duration::from_millis(10);

/// Lines that may wait for whoever reads them; then they are dropped.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// A buffer that a burst made larger is not kept.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// So long an end waits for its last lines to be taken.
const FLUSH_MAX: Duration = Duration::from_secs(1);

static DESK: OnceLock<Desk> = OnceLock::new();

/// Takes whole lines, and does not wait for their way out once [`start`] was called.
pub struct Lines;

/// The thread runs; dropping this flushes.
pub struct Running;

#[derive(Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    /// Lines have come.
    come: Condvar,
    /// All lines that had come are written.
    written: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    dropped: u64,
    /// The thread has lines in hand.
    is_writing: bool,
}

/// Starts the thread; called once. Until then whoever writes waits.
pub fn start() -> io::Result<Running> {
    thread::Builder::new()
        .name("stderr".to_owned())
        .spawn(|| DESK.get_or_init(Desk::default).run(&mut io::stderr()))?;
    Ok(Running)
}

/// Waits until all that was written is out, for at most [`FLUSH_MAX`]: before an end of the process.
pub fn flush() {
    if let Some(desk) = DESK.get() {
        desk.flush(FLUSH_MAX);
    }
}

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match DESK.get() {
            Some(desk) => desk.add(lines),
            None => io::stderr().write_all(lines)?,
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        flush();
    }
}

impl Desk {
    fn add(&self, lines: &[u8]) {
        let mut waiting = self.lock();
        if waiting.text.len() + lines.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.text.is_empty();
        waiting.text.extend_from_slice(lines);
        if is_first && !waiting.is_writing {
            self.come.notify_one();
        }
    }

    /// Writes what comes, for ever.
    fn run(&self, out: &mut impl Write) {
        let mut text = Vec::new();
        loop {
            self.gather(&mut text);
            // Nobody is left to tell of a failure.
            let _ = out.write_all(&text);
            text.clear();
            text.shrink_to(SPARE_BYTES_MAX);
        }
    }

    /// Waits for lines, and a moment for more; takes all of them.
    fn gather(&self, text: &mut Vec<u8>) {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        while waiting.text.is_empty() {
            self.written.notify_all();
            waiting = self.come.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_writing = true;
        drop(waiting);
        thread::sleep(GATHER);
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.text, text);
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            let told = format!(
                "{dropped} lines of the log were dropped here: standard error took them too slowly\n"
            );
            text.extend_from_slice(told.as_bytes());
        }
    }

    fn flush(&self, longest: Duration) {
        let waiting = self.lock();
        let is_under_way = |waiting: &mut Waiting| waiting.is_writing || !waiting.text.is_empty();
        // Whether it was in time changes nothing for who is about to end.
        drop(self.written.wait_timeout_while(waiting, longest, is_under_way));
    }

    /// A thread that panicked while it held the lock left whole lines.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Desk, WAITING_BYTES_MAX};

    const LONG: Duration = Duration::from_secs(10);

    /// Takes a write when it is told to.
    struct Slow {
        go: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().expect("the test goes on");
            self.taken.send(bytes.to_vec()).expect("the test takes it");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn begin() -> (&'static Desk, Sender<()>, Receiver<Vec<u8>>) {
        let desk: &'static Desk = Box::leak(Box::default());
        let ((go, told), (taken, out)) = (channel(), channel());
        thread::spawn(move || desk.run(&mut Slow { go: told, taken }));
        (desk, go, out)
    }

    #[test]
    fn lines_come_out_in_order_and_a_flush_waits_for_them() {
        let (desk, go, out) = begin();
        (0..3).for_each(|number| desk.add(format!("line {number}\n").as_bytes()));
        let began = Instant::now();
        desk.flush(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50), "nobody has taken them");
        (0..4).for_each(|_| go.send(()).expect("the thread lives"));
        desk.flush(LONG);
        let taken: Vec<u8> = out.try_iter().flatten().collect();
        assert_eq!(String::from_utf8_lossy(&taken), "line 0\nline 1\nline 2\n");
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn who_writes_never_waits_and_what_was_dropped_is_counted() {
        let (desk, go, out) = begin();
        let line = vec![b'x'; WAITING_BYTES_MAX / 4];
        (0..10).for_each(|_| desk.add(&line));
        (0..4).for_each(|_| go.send(()).expect("the thread lives"));
        desk.flush(LONG);
        let taken: Vec<u8> = out.try_iter().flatten().collect();
        let text = String::from_utf8_lossy(&taken);
        assert!(
            text.trim_start_matches('x').starts_with("6 lines of the log were dropped"),
            "{}",
            taken.len()
        );
    }
}
