//! How soon a server with mail behind it greets, and what a second processor costs.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::compare::accept::BYTES;
use crate::compare::bench::{Bench, samples};
use crate::compare::disk;
use crate::compare::drive::{Connections, Drive, Until};
use crate::compare::mailbox::{Set, account, bytes_in};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{End, Mode, Running, Server, Setup};
use crate::report::scale::Unit;

/// What happened before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Clean,
    /// SIGKILL amid deliveries.
    Killed,
    /// All that can be made from the log is gone.
    Unindexed,
}

/// Bytes of a message that fills the store.
const STORED_BYTES: usize = 20_480;

/// Load before SIGKILL.
const LOAD: Duration = Duration::from_millis(500);

/// Of what one processor can take at most, so that nothing waits for a processor.
const OFFERED: f64 = 0.4;

const SESSIONS: usize = 32;

pub fn measures(before: Before) -> Vec<Measure> {
    let greeting =
        Measure::new("greeting", "from the start to the first greeting", Unit::Micros, Better::Less);
    match before {
        Before::Clean => vec![greeting.with_goal(Goal::AtMost(100_000.0))],
        Before::Killed => vec![greeting.with_goal(Goal::AtMost(1_000_000.0))],
        Before::Unindexed => vec![
            greeting,
            Measure::new("share", "speed, to that of reading the same files", Unit::Times, Better::More)
                .with_goal(Goal::AtLeast(0.8)),
        ],
    }
}

/// The mailbox that holds so many bytes.
pub fn set(stored: u64) -> Set {
    Set { messages: (stored as usize / STORED_BYTES).max(1), bytes: STORED_BYTES }
}

/// From files that are not in memory.
pub fn measure(bench: &Bench, server: Server, before: Before, stored: u64) -> io::Result<Samples> {
    let set = set(stored);
    let (folder, running) = (set.folder(bench, server), set.start(bench, server)?);
    match before {
        Before::Clean => running.stop(End::Clean)?,
        Before::Killed => {
            // A server of mailboxes alone has nothing under way.
            match running.port("smtp") {
                Ok(to) => kill_amid_deliveries(running, to)?,
                Err(_) => running.stop(End::Killed)?,
            }
        }
        Before::Unindexed => {
            running.stop(End::Clean)?;
            bench.scripts.forget(server, &folder, &account())?;
        }
    }
    disk::evict(&folder)?;
    let setup = Setup {
        accounts: 1,
        names: vec![account().split('@').next().unwrap_or_default().to_owned()],
        ..bench.setup(Mode::Mailbox)
    };
    let running = bench.scripts.start(server, &folder, &setup)?;
    let started_us = running.started_us;
    running.stop(End::Clean)?;
    let mut samples = samples([("greeting", started_us)]);
    if before == Before::Unindexed {
        let read = disk::read_rate(&folder)?;
        let speed = bytes_in(&folder)? as f64 / (started_us / 1e6);
        samples.insert("share".to_owned(), speed / read);
    }
    Ok(samples)
}

fn kill_amid_deliveries(running: Running, to: SocketAddr) -> io::Result<()> {
    let load = thread::spawn(move || deliver(to));
    thread::sleep(LOAD);
    running.stop(End::Killed)?;
    match load.join() {
        // What was under way was not taken.
        Ok(Err(_)) => Ok(()),
        _ => Err(io::Error::other("nothing was under way when the server was killed")),
    }
}

/// For longer than the server lives.
fn deliver(to: SocketAddr) -> io::Result<()> {
    let drive = Drive {
        to,
        sessions: SESSIONS,
        bytes: BYTES,
        recipients: std::sync::Arc::new(vec![crate::compare::server::account(0)]),
        connections: Connections::Kept,
        until: Until::After(2 * LOAD),
    };
    drive.run().map(drop)
}

pub fn scaling_measures() -> Vec<Measure> {
    vec![
        Measure::new("growth", "CPU a message, two executors to one", Unit::Times, Better::Less)
            .with_goal(Goal::AtMost(1.08)),
        Measure::new(
            "sharing",
            "CPU a message, two executors to one that has half of the load",
            Unit::Times,
            Better::Less,
        ),
        Measure::new("one", "CPU a message, one executor", Unit::Micros, Better::Less),
        Measure::new("half", "CPU a message, one executor with half of the load", Unit::Micros, Better::Less),
        Measure::new("two", "CPU a message, two executors", Unit::Micros, Better::Less),
    ]
}

/// The same offered load on one executor and on two, and half of it on one: the less comes in, the fewer messages
/// share a sync. Server and load share all processors.
pub fn measure_scaling(bench: &Bench, server: Server) -> io::Result<Samples> {
    bench.on_all(|| scaling(bench, server))
}

fn scaling(bench: &Bench, server: Server) -> io::Result<Samples> {
    let closed = {
        let setup = Setup { cpus: None, cores: 1, ..bench.setup(Mode::Accept) };
        let running = bench.start_fresh(server, &setup)?;
        let drive = Drive {
            to: running.port("smtp")?,
            sessions: SESSIONS,
            bytes: BYTES,
            recipients: bench.recipients(),
            connections: Connections::Kept,
            until: Until::After(Duration::from_secs_f64(bench.sizes.seconds)),
        };
        let driven = drive.run()?;
        driven.acknowledged as f64 / driven.seconds
    };
    let rate = closed * OFFERED;
    let (one, two) = (cpu_at(bench, server, 1, rate)?, cpu_at(bench, server, 2, rate)?);
    let half = cpu_at(bench, server, 1, rate / 2.0)?;
    let (growth, sharing) = (two / one, two / half);
    Ok(samples([("one", one), ("two", two), ("half", half), ("growth", growth), ("sharing", sharing)]))
}

fn cpu_at(bench: &Bench, server: Server, cores: usize, rate: f64) -> io::Result<f64> {
    let setup = Setup { cpus: None, cores, ..bench.setup(Mode::Accept) };
    let running = bench.start_fresh(server, &setup)?;
    let messages = ((rate * bench.sizes.seconds) as usize).max(SESSIONS);
    let drive = Drive {
        to: running.port("smtp")?,
        sessions: SESSIONS,
        bytes: BYTES,
        recipients: bench.recipients(),
        connections: Connections::Kept,
        until: Until::Messages(messages),
    };
    let (_, cost) = bench.metered(&running, || drive.run_paced(rate))?;
    Ok(cost.cpu_us as f64 / messages as f64)
}
