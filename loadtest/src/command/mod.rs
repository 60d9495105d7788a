//! The commands, one a file.

mod ab;
mod accept;
mod compare;
mod fill;
mod idle;
mod imap;
mod limits;
mod list;
mod login;
mod operations;
mod pop3;
mod relay;
mod report;

use std::io;

use clap::{Parser, Subcommand};

/// Measures a mail server from outside.
#[derive(Parser)]
#[command(name = "loadtest", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durably accepted messages: CPU, system calls and syncs for each, beside a sink that stores nothing.
    Accept(accept::Accept),
    /// FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE) of a large mailbox: CPU for each message, time to the first byte.
    List(list::List),
    /// Sessions in IDLE: memory for each, and how soon each hears of a message.
    Idle(idle::Idle),
    /// IMAP sessions that do what imaptest's do, spelt the same, and judge every answer.
    Imap(imap::Imap),
    /// POP3 sessions that fetch and delete, spelt as for rabid, and judge every answer.
    Pop3(pop3::Pop3),
    /// Makes a mailbox of so many messages.
    Fill(fill::Fill),
    /// Fixed operations on a mailbox of a given size: time, first byte, CPU.
    Operations(operations::Operations),
    /// What this machine can do: syncs, loopback, memory, TLS, disk.
    Limits(limits::Limits),
    /// The same load on two targets in turn, and what tells them apart.
    Ab(ab::Ab),
    /// This project and its peers side by side, with a table of what was found.
    Compare(compare::Compare),
    /// Records of runs as one self-contained HTML page.
    Report(report::Report),
    /// Messages relayed to a sink: CPU, system calls and syncs for each, also beside a queue for a dead destination.
    Relay(relay::Relay),
}

/// How a command ended that ran to its end; the number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine = 0,
    /// The generator was not up to it: there is no result.
    Invalid = 3,
    /// An objective was missed, as in k6.
    Missed = 99,
}

impl Arguments {
    pub fn run(&self) -> io::Result<Outcome> {
        match &self.command {
            Command::Accept(accept) => accept.run()?,
            Command::List(list) => list.run()?,
            Command::Idle(idle) => return idle.run(),
            Command::Imap(imap) => return imap.run(),
            Command::Pop3(pop3) => return pop3.run(),
            Command::Fill(fill) => fill.run()?,
            Command::Operations(operations) => operations.run()?,
            Command::Limits(limits) => limits.run()?,
            Command::Ab(ab) => return ab.run(),
            Command::Compare(compare) => compare.run()?,
            Command::Report(report) => report.run()?,
            Command::Relay(relay) => relay.run()?,
        }
        Ok(Outcome::Fine)
    }
}
