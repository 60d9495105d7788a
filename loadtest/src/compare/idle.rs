//! What a session in IDLE takes of the server's memory.
//!
//! A server takes memory in pieces, some of them of megabytes, and gives some back late: a hundred sessions more may
//! seem to take nothing, or less. So sessions that do not count come first, then as many as the row wants, and more if
//! need be, until a line through what was read on the way rises by an amount that is known to a tenth. What cannot be
//! known so is not given.

use std::io;
use std::thread;
use std::time::Duration;

use crate::compare::bench::{Bench, Sizes, samples};
use crate::compare::mailbox::{LISTED_BYTES, Set, account, login};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{Mode, Running, Server, Setup};
use crate::cost::tree_pss_bytes;
use crate::engine::raise_files;
use crate::imap::answer::Answer;
use crate::imap::client::{Client, Login};
use crate::imap::options::Security;
use crate::report::scale::Unit;

/// Sessions before those that count, at most; fewer where few count.
const BEFORE_MAX: usize = 1000;

/// Readings while the sessions of a row are opened.
const READINGS: usize = 8;

/// Standard error of what a session takes, as a share of it.
const ERROR_MAX: f64 = 0.1;

/// A server that gives back more than this share of its memory at once has ended something that is not of the sessions.
const GIVEN_BACK_MIN: f64 = 0.125;

/// So many times the sessions of a row are opened at most, and so many in all.
const MORE_MAX: usize = 24;
const SESSIONS_MAX: usize = 12_000;

/// Until a server has given back what it gives back, and hibernates what it hibernates.
const SETTLE: Duration = Duration::from_secs(2);

/// Readings of memory: sessions, bytes.
#[derive(Clone, Debug)]
struct Growth {
    readings: Vec<(f64, f64)>,
}

impl Growth {
    fn from(sessions: usize, bytes: u64) -> Self {
        Self { readings: vec![(sessions as f64, bytes as f64)] }
    }

    /// Behind memory that was given back, counting begins again.
    fn read(&mut self, sessions: usize, bytes: u64) {
        let (sessions, bytes) = (sessions as f64, bytes as f64);
        if self.readings.last().is_some_and(|(_, last)| bytes < last * (1.0 - GIVEN_BACK_MIN)) {
            self.readings.clear();
        }
        self.readings.push((sessions, bytes));
    }

    /// Sessions that counted.
    fn sessions(&self) -> f64 {
        match (self.readings.first(), self.readings.last()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0.0,
        }
    }

    /// Bytes of a session, once they are known well enough.
    fn each(&self) -> Option<f64> {
        let (each, error) = self.line()?;
        (each > 0.0 && error <= each * ERROR_MAX).then_some(each)
    }

    /// The slope of the line of least squares, and its standard error.
    fn line(&self) -> Option<(f64, f64)> {
        let count = self.readings.len() as f64;
        if count < READINGS as f64 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| self.readings.iter().map(of).sum::<f64>() / count;
        let (mean_sessions, mean_bytes) = (mean(|reading| reading.0), mean(|reading| reading.1));
        let centred = || self.readings.iter().map(|(x, y)| (x - mean_sessions, y - mean_bytes));
        let spread: f64 = centred().map(|(x, _)| x * x).sum();
        let slope = centred().map(|(x, y)| x * y).sum::<f64>() / spread;
        let left: f64 = centred().map(|(x, y)| (y - slope * x).powi(2)).sum();
        Some((slope, (left / (count - 2.0) / spread).sqrt()))
    }
}

pub fn measures(sessions: usize, security: Security) -> Vec<Measure> {
    let bound = if security == Security::Plain { 4096.0 } else { 24.0 * 1024.0 };
    let what = format!("memory of one of {sessions} sessions or more in IDLE");
    vec![
        Measure::new("memory", &what, Unit::Bytes, Better::Less).with_goal(Goal::AtMost(bound)),
        Measure::new("times", &what, Unit::Bytes, Better::Less)
            .with_goal(Goal::TimesOf(100.0, Server::DovecotMaildir)),
        Measure::new("sessions", "sessions until that was known", Unit::Count, Better::Less).uncompared(),
    ]
}

/// What all sessions have selected.
pub fn set(sizes: &Sizes) -> Set {
    Set { messages: sizes.grown[0], bytes: LISTED_BYTES }
}

pub fn measure(bench: &Bench, server: Server, sessions: usize, security: Security) -> io::Result<Samples> {
    raise_files();
    let set = set(&bench.sizes);
    // Filled by a server of the usual size; then one that takes so many sessions.
    drop(set.start(bench, server)?);
    let before = (2 * sessions).min(BEFORE_MAX);
    let most = (before + MORE_MAX * sessions).min(SESSIONS_MAX).max(before + sessions);
    let setup = Setup {
        accounts: 1,
        names: vec![account().split('@').next().unwrap_or_default().to_owned()],
        connections: most + 100,
        ..bench.setup(Mode::Mailbox)
    };
    let running = bench.scripts.start(server, &set.folder(bench, server), &setup)?;
    let port = if security == Security::Plain { "imap" } else { "imaps" };
    let login = Login { address: running.port(port)?, security, ..login(&running)? };
    // What has not gone to sleep yet is not to be read.
    let pause = if server == Server::DovecotHibernate { SETTLE } else { Duration::ZERO };
    let growth = open(&running, &login, before..before + sessions, most, pause)?;
    let mut samples = samples([("sessions", growth.sessions())]);
    samples.extend(
        growth.each().into_iter().flat_map(|each| [("memory".to_owned(), each), ("times".to_owned(), each)]),
    );
    Ok(samples)
}

/// Opens sessions up to the beginning of `counted`, and then to its end, or to `most` until growth is seen.
fn open(
    running: &Running,
    login: &Login,
    counted: std::ops::Range<usize>,
    most: usize,
    pause: Duration,
) -> io::Result<Growth> {
    let mut open: Vec<Client> = (0..counted.start).map(|_| idle(login)).collect::<io::Result<_>>()?;
    let memory = || tree_pss_bytes(&[running.pid]);
    thread::sleep(SETTLE);
    let mut growth = Growth::from(open.len(), memory()?);
    let step = (counted.len() / READINGS).max(1);
    while open.len() < counted.end || (growth.each().is_none() && open.len() < most) {
        for _ in 0..step {
            open.push(idle(login)?);
        }
        thread::sleep(pause);
        growth.read(open.len(), memory()?);
    }
    Ok(growth)
}

fn idle(login: &Login) -> io::Result<Client> {
    let mut client = login.open()?;
    client.command("SELECT INBOX", |_| Ok(()))?;
    client.send(b"i IDLE\r\n")?;
    while !client.answer(|answer| Ok(matches!(answer, Answer::Continue)))? {}
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::Growth;

    const MIB: u64 = 1 << 20;

    /// Memory in pieces of 2 MiB of which some are given back soon, for 3,000 bytes a session, beside a buffer of
    /// 20 MiB that is given back after so many sessions.
    fn reading(sessions: usize, given_back_after: usize) -> u64 {
        let pieces = (sessions as u64 * 3000).div_ceil(2 * MIB) + [0, 1, 1, 0][sessions / 31 % 4];
        let buffer = if sessions < given_back_after { 20 * MIB } else { 0 };
        30 * MIB + buffer + pieces * 2 * MIB
    }

    fn grown(readings: usize, given_back_after: usize) -> Growth {
        let mut growth = Growth::from(1000, reading(1000, given_back_after));
        let counts = (1..=readings).map(|reading| 1000 + 31 * reading);
        counts.for_each(|sessions| growth.read(sessions, reading(sessions, given_back_after)));
        growth
    }

    #[test]
    fn too_few_sessions_show_nothing_rather_than_no_bytes_or_a_piece() {
        assert_eq!(grown(16, 0).each(), None);
        assert_eq!(Growth::from(1000, 5).each(), None);
        let mut idle = Growth::from(0, MIB);
        (1..100).for_each(|sessions| idle.read(sessions, MIB));
        assert_eq!(idle.each(), None);
    }

    #[test]
    fn enough_sessions_show_what_one_takes() {
        let each = grown(150, 0).each().expect("it is known");
        assert!((2700.0..3300.0).contains(&each), "{each}");
    }

    #[test]
    fn what_is_given_back_is_not_taken_off() {
        let found = grown(240, 3000);
        let each = found.each().expect("it is known");
        assert!((2700.0..3300.0).contains(&each), "{each}");
        assert!(found.sessions() < 5500.0, "{}", found.sessions());
        // From end to end, 20 MiB would be missing.
        assert!(reading(1000 + 31 * 140, 3000) < reading(1000, 3000));
    }

    #[test]
    fn a_process_for_each_is_known_at_once() {
        let mut growth = Growth::from(0, 10 * MIB);
        (1..8).for_each(|sessions| growth.read(sessions, (10 + sessions as u64) * MIB));
        assert!((growth.each().expect("it is known") - MIB as f64).abs() < 1.0);
    }
}
