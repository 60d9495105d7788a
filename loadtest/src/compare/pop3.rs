//! POP3: messages one after the other and in a burst, and the list of a large maildrop.

use std::io;
use std::time::Instant;

use crate::compare::bench::{Bench, samples};
use crate::compare::mailbox::{LISTED_BYTES, Set, account};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{PASSWORD, Running, Server};
use crate::report::scale::Unit;
use crate::wire::Wire;

const BYTES: usize = 4096;

/// Messages that are fetched at most.
const FETCHED_MAX: usize = 5000;

/// Commands in one send.
const BURST: usize = 100;

pub fn measures() -> Vec<Measure> {
    let rate = |name: &str, what: &str, goal: f64| {
        Measure::new(name, what, Unit::PerSecond, Better::More).with_goal(Goal::Times(goal))
    };
    vec![
        rate("pipelined", "RETR of 4 KiB, 100 in a burst", 4.0),
        rate("sequential", "RETR of 4 KiB, one after the other", 2.5),
        Measure::new("cpu", "RETR in a burst, CPU a message", Unit::Micros, Better::Less),
        Measure::new("uidl", "UIDL of the large maildrop", Unit::Nanos, Better::Less)
            .with_goal(Goal::Times(5.0)),
    ]
}

pub fn measure(bench: &Bench, server: Server) -> io::Result<Samples> {
    let read = Set { messages: bench.sizes.searched[0].0, bytes: BYTES };
    let (sequential, pipelined, cpu) = {
        let running = read.start(bench, server)?;
        let count = read.messages.min(FETCHED_MAX);
        // Everything is in memory from here on.
        fetch(&running, count, BURST)?;
        let sequential = fetch(&running, count, 1)?;
        let (pipelined, cost) = bench.metered(&running, || fetch(&running, count, BURST))?;
        (count as f64 / sequential, count as f64 / pipelined, cost.cpu_us as f64 / count as f64)
    };
    let listed = Set { messages: bench.sizes.listed, bytes: LISTED_BYTES };
    let running = listed.start(bench, server)?;
    uidl(&running, listed.messages)?;
    let uidl = uidl(&running, listed.messages)?;
    Ok(samples([("sequential", sequential), ("pipelined", pipelined), ("cpu", cpu), ("uidl", uidl)]))
}

fn open(running: &Running) -> io::Result<Wire> {
    let mut wire = Wire::connect(running.port("pop3")?)?;
    expect_ok(&mut wire)?;
    for command in [format!("USER {}\r\n", account()), format!("PASS {PASSWORD}\r\n")] {
        wire.send(command.as_bytes())?;
        expect_ok(&mut wire)?;
    }
    Ok(wire)
}

/// Fetches the first messages, so many to a burst; gives the seconds.
fn fetch(running: &Running, count: usize, burst: usize) -> io::Result<f64> {
    let mut wire = open(running)?;
    let began = Instant::now();
    let mut first = 1;
    while first <= count {
        let last = (first + burst - 1).min(count);
        let commands: String = (first..=last).map(|number| format!("RETR {number}\r\n")).collect();
        wire.send(commands.as_bytes())?;
        for number in first..=last {
            expect_ok(&mut wire)?;
            let bytes = until_dot(&mut wire, |_| Ok(()))?;
            if bytes < BYTES {
                return Err(io::Error::other(format!("message {number} has {bytes} bytes")));
            }
        }
        first = last + 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    quit(wire)?;
    Ok(seconds)
}

/// Gives the nanoseconds.
fn uidl(running: &Running, messages: usize) -> io::Result<f64> {
    let mut wire = open(running)?;
    let began = Instant::now();
    wire.send(b"UIDL\r\n")?;
    expect_ok(&mut wire)?;
    let mut listed = 0;
    until_dot(&mut wire, |_| {
        listed += 1;
        Ok(())
    })?;
    let nanos = began.elapsed().as_nanos() as f64;
    quit(wire)?;
    match listed == messages {
        true => Ok(nanos),
        false => Err(io::Error::other(format!("UIDL told of {listed} messages of {messages}"))),
    }
}

fn quit(mut wire: Wire) -> io::Result<()> {
    wire.send(b"QUIT\r\n")?;
    expect_ok(&mut wire)
}

fn expect_ok(wire: &mut Wire) -> io::Result<()> {
    let line = wire.line()?;
    match line.starts_with(b"+OK") {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(line).into_owned())),
    }
}

/// Gives how many bytes stood before the dot.
fn until_dot(wire: &mut Wire, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
    let mut bytes = 0;
    loop {
        let line = wire.line()?;
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes += line.len();
        each(line)?;
    }
}
