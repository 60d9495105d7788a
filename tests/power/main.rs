//! Ends that no server can prepare for, SIGKILL and power cuts, and disks in trouble, with a ledger of what was
//! acknowledged.
//!
//! `cargo test --test power` runs a few rounds of each. With a verb it is a program for long runs and for other
//! servers: `cargo test --test power -- kill --rounds 1000`, `cargo test --test power -- cut --server postfix`,
//! `cargo test --test power -- fault --rounds 20`. What is not a kill needs root, FUSE and loop devices; where they
//! are missing, it is skipped.

mod audit;
mod cast;
#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/client.rs"]
mod client;
mod conduct;
mod cut;
mod device;
mod disk;
mod fault;
mod fuse;
mod kill;
mod ledger;
mod load;
mod peers;
#[allow(dead_code, reason = "shared with the simulation")]
#[path = "../sim/random.rs"]
mod random;
#[allow(dead_code, unused_imports, reason = "shared with the tests of relaying")]
#[path = "../relay/remote/mod.rs"]
mod remote;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with the stories of the server")]
mod server;
mod servers;
mod stage;
mod states;
mod trouble;
mod witness;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};

use crate::device::FileSystem;

/// Mounts are seen by this program and what it starts, and end with them.
const NAMESPACE: &str = "RINGPOST_POWER_NAMESPACE";

/// A run of every test takes no more than these.
const KILLS: u64 = 20;
const STATES: &str = "30";
const LYING_STATES: &str = "12";
const FAULTS: usize = 3;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Kills a server under load, again and again.
    Kill(kill::Orders),
    /// Cuts the power of a server under load, and tries what may be left.
    Cut(cut::Orders),
    /// Lets the disk of a server under load fail, fill and come back.
    Fault(fault::Orders),
    /// The clients of one load.
    #[command(hide = true)]
    Client(load::Orders),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_good = match arguments.first() {
        None => all(),
        Some(verb) if ["kill", "cut", "fault", "client", "help", "--help"].contains(&verb.as_str()) => run(),
        // A filter for the names of tests, or a word to their harness: there are no such tests here.
        Some(_) => true,
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What runs with all tests.
fn all() -> bool {
    let seed = u64::from(std::process::id());
    let kills = kill::Orders { rounds: KILLS, seed, span_ms_max: 600 };
    if std::env::var_os(NAMESPACE).is_none() && !kill::run(&kills) {
        return false;
    }
    let orders = cut_orders(&["--states", STATES, "--seed", &seed.to_string()]);
    // A disk that ignores flushes shows that losses would be seen.
    let lying = cut_orders(&["--states", LYING_STATES, "--seed", &seed.to_string(), "--flushes", "ignored"]);
    let tried = in_namespace(orders.fs).and_then(|()| {
        let is_borne = fault::run(&some_faults(seed))?;
        // Neither would losses be overlooked on a disk that forgets writes.
        let is_borne = is_borne && !fault::run(&fault_orders(&["--rounds", "1", "--case", "lying"]))?;
        let (honest, lying) = (cut::run(&orders)?, cut::run(&lying)?);
        Ok(is_borne && honest.findings.broken() == 0 && lying.findings.broken() > 0)
    });
    match tried {
        Ok(is_good) => is_good,
        Err(reason) => {
            eprintln!("skipped: no power cuts and no disks in trouble here: {reason}");
            true
        }
    }
}

fn cut_orders(words: &[&str]) -> cut::Orders {
    match Arguments::parse_from(["power", "cut"].iter().chain(words)).verb {
        Verb::Cut(orders) => orders,
        _ => unreachable!("it was a cut"),
    }
}

/// A few cases, others each time.
fn some_faults(seed: u64) -> fault::Orders {
    let cases = fault::Case::value_variants().iter().filter(|case| case.is_for(cast::Kind::Ringpost));
    let turn = usize::try_from(seed % cases.clone().count() as u64).expect("a small number");
    let cases = cases.clone().chain(cases).skip(turn).take(FAULTS).copied().collect();
    fault::Orders {
        cases,
        ..fault_orders(&["--rounds", "1", "--span-ms", "800", "--seed", &seed.to_string()])
    }
}

fn fault_orders(words: &[&str]) -> fault::Orders {
    match Arguments::parse_from(["power", "fault"].iter().chain(words)).verb {
        Verb::Fault(orders) => orders,
        _ => unreachable!("it was a fault"),
    }
}

fn run() -> bool {
    match Arguments::parse().verb {
        Verb::Kill(orders) => kill::run(&orders),
        Verb::Cut(orders) => in_namespace(orders.fs)
            .and_then(|()| cut::run(&orders))
            .map(|tally| tally.findings.broken() == 0)
            .unwrap_or_else(cannot),
        Verb::Fault(orders) => {
            in_namespace(FileSystem::Ext4).and_then(|()| fault::run(&orders)).unwrap_or_else(cannot)
        }
        Verb::Client(orders) => {
            load::run(&orders).expect("the ledger can be written");
            true
        }
    }
}

fn cannot(reason: String) -> bool {
    eprintln!("not on this machine: {reason}");
    false
}

/// Starts this program over in a namespace of its own, if it is not in one yet. An error is why that cannot be.
fn in_namespace(fs: FileSystem) -> Result<(), String> {
    if std::env::var_os(NAMESPACE).is_some() {
        return Ok(());
    }
    if let Some(obstacle) = obstacle(fs) {
        return Err(obstacle);
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(program).args(std::env::args().skip(1));
    // It returns only if it fails.
    let error = command.env(NAMESPACE, "1").exec();
    Err(format!("unshare: {error}"))
}

/// Why there can be no disk of ours here.
fn obstacle(fs: FileSystem) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("they need root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !std::fs::exists(device).is_ok_and(|exists| exists) {
            return Some(format!("there is no {device}"));
        }
    }
    let private = Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).status();
    if !private.is_ok_and(|status| status.success()) {
        return Some("they need a namespace of mounts".to_owned());
    }
    let program = fs.program();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!is_there).then(|| format!("{program} is not installed"))
}
