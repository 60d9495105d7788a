//! Mail that is taken, synced, sent on to a sink and gone; and what of it the device has to write.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::compare::bench::{Bench, SETTLE, add, samples};
use crate::compare::drive::{Connections, Drive, Until};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{Mode, Running, Server, Setup};
use crate::cost::{Calls, Meter};
use crate::report::scale::Unit;

const SESSIONS: usize = 20;

/// The sink takes mail for every domain; this one belongs to nobody.
const DOMAIN: &str = "sink.test";

/// Which way mail goes whose writes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Relayed,
    Delivered,
}

pub fn measures() -> Vec<Measure> {
    vec![
        Measure::new("cpu", "CPU a message", Unit::Micros, Better::Less)
            .with_goal(Goal::TimesOf(15.0, Server::Postfix)),
        Measure::new("rate", "messages a second", Unit::PerSecond, Better::More)
            .with_goal(Goal::Times(8.0))
            .among_synced(),
        Measure::new("syncs", "syncs a message", Unit::Count, Better::Less).among_synced(),
    ]
}

pub fn measure(bench: &Bench, server: Server, bytes: usize) -> io::Result<Samples> {
    let running = bench.start_fresh(server, &Setup { accounts: 0, ..bench.setup(Mode::Relay) })?;
    let messages = share(server, bench.sizes.relayed);
    // Connections to the sink, and processes that make them.
    relay(bench, &running, bytes, messages.div_ceil(10))?;
    let began = Instant::now();
    let (seconds, cost) = bench.metered(&running, || {
        relay(bench, &running, bytes, messages)?;
        Ok(began.elapsed().as_secs_f64())
    })?;
    let each = |count: u64| count as f64 / messages as f64;
    let mut samples = samples([("cpu", each(cost.cpu_us)), ("rate", messages as f64 / seconds)]);
    add(&mut samples, "syncs", cost.syncs.map(each));
    Ok(samples)
}

/// A cost for each message needs no more of them than make it steady; who is slow would take all day.
fn share(server: Server, messages: usize) -> usize {
    let part = match server {
        Server::Ringpost => 1,
        Server::Postfix => 5,
        _ => 40,
    };
    (messages / part).max(20)
}

/// Returns when the sink has them all.
fn relay(bench: &Bench, running: &Running, bytes: usize, messages: usize) -> io::Result<()> {
    let before = bench.sink.taken();
    let drive = Drive {
        to: running.port("smtp")?,
        sessions: SESSIONS.min(messages),
        bytes,
        recipients: Arc::new((0..100).map(|number| format!("user{number}@{DOMAIN}")).collect()),
        connections: Connections::Kept,
        until: Until::Messages(messages),
    };
    drive.run()?;
    bench.sink.wait(before + messages as u64)
}

pub fn written_measures(way: Way, bytes: usize) -> Vec<Measure> {
    let bound = match (way, bytes) {
        (Way::Delivered, _) => 1.6,
        (Way::Relayed, 4096) => 1.15,
        (Way::Relayed, _) => 1.03,
    };
    let measures = vec![
        Measure::new("steady", "device bytes a message byte", Unit::Times, Better::Less)
            .with_goal(Goal::AtMost(bound)),
        Measure::new("growth", "the same while the store grows", Unit::Times, Better::Less),
    ];
    // What is relayed before the kernel writes it is never written by who does not sync.
    measures.into_iter().map(Measure::among_synced).collect()
}

/// The same load twice: while files are made, and when there are some to use again.
pub fn measure_written(bench: &Bench, server: Server, way: Way, bytes: usize) -> io::Result<Samples> {
    let mode = if way == Way::Relayed { Mode::Relay } else { Mode::Mailbox };
    let running = bench.start_fresh(server, &bench.setup(mode))?;
    let all = (bench.sizes.written / bytes as u64) as usize;
    let messages = share(server, all).max(20);
    let growth = written(bench, &running, way, bytes, messages)?;
    let steady = written(bench, &running, way, bytes, messages)?;
    let per_byte = |written: u64| written as f64 / (messages * bytes) as f64;
    Ok(samples([("growth", per_byte(growth)), ("steady", per_byte(steady))]))
}

/// Bytes that went to the device, with all that was still to be written at the end, and nothing from before.
fn written(bench: &Bench, running: &Running, way: Way, bytes: usize, messages: usize) -> io::Result<u64> {
    rustix::fs::sync();
    let meter = Meter::start(&[running.pid], Some(&bench.folder), Calls::NotCounted)?;
    match way {
        Way::Relayed => relay(bench, running, bytes, messages)?,
        Way::Delivered => {
            let drive = Drive {
                to: running.port("smtp")?,
                sessions: 64,
                bytes,
                recipients: bench.recipients(),
                connections: Connections::Kept,
                until: Until::Messages(messages),
            };
            drive.run()?;
        }
    }
    std::thread::sleep(SETTLE);
    rustix::fs::sync();
    let device = meter.stop()?.device;
    device.map(|device| device.written_bytes).ok_or_else(|| io::Error::other("the device is not known"))
}
