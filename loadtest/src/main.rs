//! Load from outside: drives a mail server over sockets and says what it cost the server.
//!
//! This crate knows no line of the server. It starts the program it is given, or is pointed at one that runs,
//! and reads the costs from `/proc` and, where it is installed, from `perf stat`.

mod accept;
mod cost;
mod idle;
mod list;
mod pace;
mod relay;
mod server;
mod sink;
mod smtp;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures a mail server from outside.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durably accepted messages: CPU, system calls and syncs for each, beside a sink that stores nothing.
    Accept(accept::Accept),
    /// FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE) of a large mailbox: CPU for each message, time to the first byte.
    List(list::List),
    /// Sessions in IDLE: memory for each.
    Idle(idle::Idle),
    /// Messages relayed to a sink: CPU, system calls and syncs for each, also beside a queue for a dead destination.
    Relay(relay::Relay),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Accept(accept) => accept.run(),
        Command::List(list) => list.run(),
        Command::Idle(idle) => idle.run(),
        Command::Relay(relay) => relay.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
