//! An open loop of SMTP sessions: messages at a constant rate, whatever the answers take.
//!
//! Each message has its time before the run begins, and its latency counts from that time to the 250: a stall of the
//! server is felt by every message that should have been sent meanwhile. What counts is the acknowledgement, so a
//! session has its next envelope accepted ahead and sends only the data at the time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::smtp::{Load, expect, histogram, message};

/// The file that is synced is written in full before, as a segment of the log is.
const FILE_BYTES: usize = 16 << 20;

/// What one sync covers.
const SYNCED_BYTES: usize = 8 << 10;

const SYNCS: usize = 500;

impl Load {
    /// Sends everything at `rate` messages a second.
    pub fn run_paced(&self, rate: f64) -> io::Result<Histogram<u64>> {
        let began = Instant::now() + Duration::from_millis(100);
        let sessions: Vec<_> = (0..self.sessions)
            .map(|session| {
                let load = self.clone();
                thread::spawn(move || load.paced_session(session, rate, began))
            })
            .collect();
        let mut latency = histogram();
        for session in sessions {
            let ended = session.join().map_err(|_| io::Error::other("a session panicked"))?;
            latency.add(ended?).map_err(io::Error::other)?;
        }
        Ok(latency)
    }

    /// Sends every n-th message, n being the number of sessions.
    fn paced_session(&self, session: usize, rate: f64, began: Instant) -> io::Result<Histogram<u64>> {
        wake_on_time();
        let mut latency = histogram();
        let mut wire = self.connect()?;
        for number in (session..self.messages).step_by(self.sessions) {
            let data = message(number, self.size);
            self.open(&mut wire, &self.recipients[number % self.recipients.len()])?;
            let intended = began + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            wire.send(&data)?;
            expect(wire.reply()?, 250)?;
            latency.saturating_record(u64::try_from(intended.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        wire.send(b"QUIT\r\n")?;
        Ok(latency)
    }
}

/// What a bare write and sync takes on the disk of `folder`, in microseconds.
pub fn sync_latency(folder: &Path) -> io::Result<Histogram<u64>> {
    let path = folder.join("sync");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let bytes = [b'x'; SYNCED_BYTES];
    let mut latency = histogram();
    for number in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&bytes, (number * SYNCED_BYTES) as u64)?;
        file.sync_data()?;
        latency.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    std::fs::remove_file(path)?;
    Ok(latency)
}

/// The kernel may wake a sleeper 50 us late to save power; the schedule wants it on time.
fn wake_on_time() {
    // SAFETY: it takes a number and changes nothing but this thread's timers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}
