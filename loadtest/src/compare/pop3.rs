//! POP3: messages one after the other and many at once, and the list of a large maildrop.

use std::io;

use crate::compare::bench::{Bench, Sizes, samples};
use crate::compare::mailbox::{LISTED_BYTES, Set, account};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{PASSWORD, Running, Server};
use crate::pop3::drive::Found;
use crate::pop3::session::{Listing, Plan, Verb};
use crate::pop3::visit;
use crate::record::Spectrum;
use crate::report::scale::Unit;

const BYTES: usize = 4096;

/// Messages that are fetched at most.
const FETCHED_MAX: usize = 5000;

/// Commands under way at once.
const WINDOW: usize = 100;

pub fn measures() -> Vec<Measure> {
    let rate = |name: &str, what: &str, goal: f64| {
        Measure::new(name, what, Unit::PerSecond, Better::More).with_goal(Goal::Times(goal))
    };
    vec![
        rate("pipelined", "RETR of 4 KiB, 100 at once", 4.0),
        rate("sequential", "RETR of 4 KiB, one after the other", 2.5),
        Measure::new("cpu", "RETR, 100 at once, CPU a message", Unit::Micros, Better::Less),
        Measure::new("uidl", "UIDL of the large maildrop", Unit::Nanos, Better::Less)
            .with_goal(Goal::Times(5.0)),
    ]
}

/// What is fetched, and what is listed.
pub fn sets(sizes: &Sizes) -> [Set; 2] {
    let read = Set { messages: sizes.searched[0].0, bytes: BYTES };
    [read, Set { messages: sizes.listed, bytes: LISTED_BYTES }]
}

pub fn measure(bench: &Bench, server: Server) -> io::Result<Samples> {
    let [read, listed] = sets(&bench.sizes);
    let (sequential, pipelined, cpu) = {
        let running = read.start(bench, server)?;
        let count = read.messages.min(FETCHED_MAX);
        // Everything is in memory from here on.
        fetch(&running, count, WINDOW)?;
        let sequential = fetch(&running, count, 1)?;
        let (pipelined, cost) = bench.metered(&running, || fetch(&running, count, WINDOW))?;
        (count as f64 / sequential, count as f64 / pipelined, cost.cpu_us as f64 / count as f64)
    };
    let running = listed.start(bench, server)?;
    uidl(&running)?;
    let uidl = uidl(&running)?;
    Ok(samples([("sequential", sequential), ("pipelined", pipelined), ("cpu", cpu), ("uidl", uidl)]))
}

/// Fetches the first messages; gives the seconds, without those of the login.
fn fetch(running: &Running, count: usize, window: usize) -> io::Result<f64> {
    let found = session(running, Plan { window, messages: count, listing: Listing::None, ..PLAN })?;
    let fetched = found.latency.get(Verb::Retr.name()).map_or(0, Spectrum::count);
    let bytes = found.counts.bytes;
    if fetched != count as u64 || bytes < (count * BYTES) as u64 {
        return Err(io::Error::other(format!("{fetched} messages of {count} came, {bytes} bytes")));
    }
    let login: u64 = [Verb::User, Verb::Pass, Verb::Stat].iter().map(|verb| took(&found, *verb)).sum();
    Ok(found.session.max().saturating_sub(login) as f64 / 1e9)
}

/// Gives the nanoseconds. That every message is told of once, the session sees to.
fn uidl(running: &Running) -> io::Result<f64> {
    session(running, Plan { listing: Listing::Full, ..PLAN }).map(|found| took(&found, Verb::Uidl) as f64)
}

const PLAN: Plan =
    Plan { window: 1, messages: 0, download_percent: 100, delete_percent: 0, listing: Listing::None };

fn session(running: &Running, plan: Plan) -> io::Result<Found> {
    visit(running.port("pop3")?, &account(), PASSWORD, plan)
}

/// Nanoseconds of a command that is given once.
fn took(found: &Found, verb: Verb) -> u64 {
    found.latency.get(verb.name()).map_or(0, Spectrum::max)
}
