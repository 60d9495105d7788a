//! Mail that is taken, synced, sent on to a sink and gone.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::compare::bench::{Bench, add, samples};
use crate::compare::drive::{Connections, Drive, Until};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{Mode, Running, Server, Setup};
use crate::report::scale::Unit;

const SESSIONS: usize = 20;

/// The sink takes mail for every domain; this one belongs to nobody.
const DOMAIN: &str = "sink.test";

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
    // Connections to the sink and processes that make them; files that a log grows into, until it uses old ones again.
    relay(bench, &running, bytes, messages)?;
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
pub fn relay(bench: &Bench, running: &Running, bytes: usize, messages: usize) -> io::Result<()> {
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
