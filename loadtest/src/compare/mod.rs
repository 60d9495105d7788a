//! The comparison: this project and its peers on one machine, row by row, and a table of what was found.
//!
//! A row is work of one kind. It is measured on each of its servers in turn, each repetition with a server of its own,
//! in an order that turns from round to round; results are kept after each repetition, so that an interrupted
//! comparison goes on where it stood. A server that cannot be measured is named with the reason; the row stays.
//!
//! | file | what |
//! |---|---|
//! | `server` | drives the scripts of `peers/` |
//! | `bench` | sizes, folders, sink, which processors |
//! | `row`, `rows` | goals and verdicts as values; the rows |
//! | `accept`, `relay`, `written`, `start` | mail that is taken and sent on, what is written of it, a start |
//! | `mailbox`, `listing`, `pop3`, `sessions`, `idle` | mail that is read, and who comes for it or waits |
//! | `results`, `table` | what was measured; what is shown of it |

mod accept;
pub mod bench;
mod disk;
mod drive;
mod idle;
mod listing;
mod mailbox;
mod pop3;
mod relay;
pub mod results;
pub mod row;
pub mod rows;
pub mod server;
mod sessions;
mod start;
pub mod table;
mod written;

use std::io;
use std::process::Command;

use crate::record::seconds_since_1970;
use bench::Bench;
use drive::Invalid;
use results::{Measured, Results};
use row::Samples;
use rows::Row;
use server::Server;

/// Measures what is still missing of a row. A part of one that is of another commit is measured again: samples of two
/// would go under one name.
pub fn complete(bench: &Bench, results: &Results, row: &Row) -> io::Result<Measured> {
    let (commit, sizes, repetitions) = (commit(), bench.sizes.words(), bench.sizes.repetitions);
    let is_of_now = |kept: &Measured| {
        kept.sizes == sizes && (kept.commit == commit || kept.next(&row.servers, repetitions).is_none())
    };
    let kept = results.read(&row.name).filter(is_of_now);
    let mut measured =
        kept.unwrap_or_else(|| Measured::new(&row.name, &commit, &sizes, seconds_since_1970()));
    while let Some(server) = measured.next(&row.servers, bench.sizes.repetitions) {
        let round = measured.servers.get(&server).map_or(0, |side| side.samples.len()) + 1;
        say!("{}: {}, {round} of {}", row.name, server.name(), bench.sizes.repetitions);
        measure_once(bench, row, server, &mut measured)?;
        results.write(&measured)?;
    }
    Ok(measured)
}

/// Repetitions whose load was not what it should have been are made again, so many times.
const TRIES: usize = 4;

fn measure_validly(bench: &Bench, row: &Row, server: Server) -> io::Result<Samples> {
    for _ in 1..TRIES {
        match row.measure(bench, server) {
            Err(error) if Invalid::is(&error) => eprintln!("{}: {}: again: {error}", row.name, server.name()),
            found => return found,
        }
    }
    row.measure(bench, server)
}

/// One repetition; what fails on a peer, or was never valid, ends that side; what fails on ours ends the comparison.
fn measure_once(bench: &Bench, row: &Row, server: Server, measured: &mut Measured) -> io::Result<()> {
    let found = measure_validly(bench, row, server);
    let side = measured.servers.entry(server).or_default();
    if side.version.is_empty() {
        side.version = bench.scripts.version(server)?;
        side.durability = bench.scripts.durability(server)?;
    }
    match found {
        Ok(samples) => side.samples.push(samples),
        Err(error) if server == Server::Ringpost && !Invalid::is(&error) => {
            return Err(io::Error::other(format!("{}: {error}", row.name)));
        }
        Err(error) => {
            eprintln!("{}: {}: {error}", row.name, server.name());
            side.failed = Some(error.to_string());
        }
    }
    Ok(())
}

/// The commit that is checked out, marked if anything is changed.
fn commit() -> String {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=10"])
        .output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
