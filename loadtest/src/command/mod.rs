//! The commands, one a file.

mod ab;
mod accept;
mod collect;
mod compare;
mod connections;
mod fill;
mod growth;
mod idle;
mod imap;
mod limits;
mod list;
mod login;
mod mix;
mod operations;
mod pop3;
mod relay;
mod report;
mod sink;
mod smtp;
mod start;
mod sweep;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::Path;

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
    /// Sends messages: rate, latency, cost, a ledger of what was acknowledged.
    Smtp(Box<smtp::Smtp>),
    /// Takes mail and keeps none: fast, slow, unwilling or broken.
    Sink(Box<sink::Sink>),
    /// The same load at rising rates, with more sessions or on larger mailboxes: where an objective breaks, what grows.
    Sweep(Box<sweep::Sweep>),
    /// Compares ledgers: what was acknowledged, and what came.
    Verify(verify::Verify),
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
    /// Reads mailboxes by IMAP and writes what came into a ledger, for verify.
    Collect(collect::Collect),
    /// New connections: greeted and left, with a TLS handshake, with a login.
    Connections(connections::Connections),
    /// From a server's start to its first 250: after a clean stop, after kill -9, without its index.
    Start(start::Start),
    /// A mix of users over SMTP, IMAP and POP3, at several loads, judged by gates.
    Mix(mix::Mix),
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

/// Called by another's name, the program takes another's arguments: a link is enough.
const ALIASES: [(&str, &str); 2] = [("smtp-source", "smtp"), ("smtp-sink", "sink")];

impl Arguments {
    /// From the command line.
    pub fn take() -> Self {
        Self::parse_from(aliased(std::env::args_os().collect()))
    }

    pub fn run(&self) -> io::Result<Outcome> {
        match &self.command {
            Command::Smtp(smtp) => return smtp.run(),
            Command::Sink(sink) => return sink.run(),
            Command::Sweep(sweep) => return sweep.run(),
            Command::Verify(verify) => return verify.run(),
            Command::Accept(accept) => return accept.run(),
            Command::List(list) => list.run()?,
            Command::Idle(idle) => return idle.run(),
            Command::Imap(imap) => return imap.run(),
            Command::Pop3(pop3) => return pop3.run(),
            Command::Collect(collect) => return collect.run(),
            Command::Connections(connections) => return connections.run(),
            Command::Start(start) => return start.run(),
            Command::Mix(mix) => return mix.run(),
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

fn aliased(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let called = arguments.first().and_then(|name| Path::new(name).file_name()?.to_str().map(str::to_owned));
    let command = ALIASES.iter().find(|(alias, _)| Some(*alias) == called.as_deref());
    if let Some((_, command)) = command {
        arguments.insert(1, OsString::from(command));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, aliased};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lines_for_smtp_source_and_smtp_sink_are_understood() {
        for line in [
            "/usr/sbin/smtp-source -c -d -s 20 -m 1000 -l 4096 -f a@x.test -t b@y.test -r 2 -N 127.0.0.1:2525",
            "smtp-source -L -M mx.test inet:127.0.0.1:2525",
            "smtp-sink -c -m 100 -M 1000 -w 1 -q rcpt -r mail -f data inet:127.0.0.1:2525 1024",
            "loadtest smtp -d --rate 5000/s --arrivals poisson --pipeline=group --duration 10s localhost",
            "loadtest smtp -d --pipeline --spin always --size lognormal:15k,250k [::1]:25",
        ] {
            let arguments = aliased(line.split(' ').map(Into::into).collect());
            assert!(Arguments::try_parse_from(arguments).is_ok(), "{line}");
        }
    }
}
