//! What a durably accepted message costs, beside a sink that stores nothing.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::cost::{Calls, Meter};
use crate::limits::sync_latency;
use crate::plan::{Arrivals, Bodies, Rate, Sizes, Template};
use crate::record::Spectrum;
use crate::smtp::{Envelope, Limit, Load, Pace};
use crate::target::{self, Server, Setup};
use crate::wire::Wire;
use clap::Args;

#[derive(Args)]
pub struct Accept {
    /// The server's program; by default the one that was built beside this.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Kept-open connections.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    #[arg(long, default_value_t = 40_000)]
    messages: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Local accounts that the messages go to in turn.
    #[arg(long, default_value_t = 100)]
    accounts: usize,
    /// Shards of the server.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// MAIL, RCPT and DATA in one send. Without it the dialogue is that of smtp-source.
    #[arg(long)]
    pipelined: bool,
    /// Rounds; each measures the server and the sink one after the other.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// One measurement.
struct Cost {
    cpu_us: f64,
    machine_cpu_us: f64,
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    system_calls: Option<f64>,
    syncs: Option<f64>,
}

/// At half load.
struct Paced {
    rate: f64,
    /// From the time that a message's data was to be sent at to its 250, in microseconds.
    latency: Spectrum,
    sync_p50_us: u64,
    /// Why the schedule was not kept, if it was not.
    invalid: Option<String>,
}

/// How long half load goes on.
const PACED_SECONDS: f64 = 5.0;

impl Accept {
    pub fn run(&self) -> io::Result<Outcome> {
        let program = self.server.clone().unwrap_or_else(target::default_program);
        say!(
            "{} messages of {} bytes over {} kept-open connections to {} accounts, {} core(s), {}",
            self.messages,
            self.size,
            self.sessions,
            self.accounts,
            self.cores,
            if self.pipelined { "pipelined" } else { "one command at a time" },
        );
        let sink_program = sink_program();
        let mut outcome = Outcome::Fine;
        for round in 1..=self.rounds {
            let (ours, paced) = self.measure_server(&program)?;
            ours.print(&format!("round {round}: synced before 250"));
            paced.print(&format!("round {round}: at half of that rate"));
            if paced.invalid.is_some() {
                outcome = Outcome::Invalid;
            }
            let Some(sink_program) = &sink_program else {
                say!(
                    "round {round}: smtp-sink is not installed (Debian package postfix); nothing to compare with"
                );
                continue;
            };
            let sink = self.measure_sink(sink_program)?;
            sink.print(&format!("round {round}: smtp-sink, stores nothing"));
            say!("round {round}: CPU ours / smtp-sink = {:.2}", ours.cpu_us / sink.cpu_us);
        }
        Ok(outcome)
    }

    fn measure_server(&self, program: &Path) -> io::Result<(Cost, Paced)> {
        let setup = Setup { cores: self.cores, accounts: self.accounts, sink: None };
        let server = Server::start(program, setup)?;
        // Logged in before the load: the hashing of passwords is not what is measured.
        let mut watchers =
            (0..self.accounts).map(|number| watch(server.imap, number)).collect::<io::Result<Vec<_>>>()?;
        let settled = || wait_visible(&mut watchers, self.messages);
        let cost = self.measure(server.pid(), server.smtp, settled)?;
        let paced = self.measure_paced(cost.rate / 2.0, &server)?;
        Ok((cost, paced))
    }

    /// How long an acknowledgement takes at half load, beside a bare sync.
    fn measure_paced(&self, rate: f64, server: &Server) -> io::Result<Paced> {
        let messages = (rate * PACED_SECONDS) as u64;
        // Before and after, since a disk that others use too is not the same at all times.
        let mut sync = sync_latency(server.folder())?;
        // The acknowledgement is what counts, so that a session has its next envelope accepted ahead.
        let load = Load {
            limit: Limit::Messages(messages),
            pace: Pace::Open(Rate(rate), Arrivals::Constant),
            envelope: Envelope::Ahead,
            ..self.load(server.smtp)
        };
        let sent = load.run()?;
        sync.add(&sync_latency(server.folder())?);
        Ok(Paced {
            rate,
            latency: sent.tally.corrected,
            sync_p50_us: sync.percentile(50.0) / 1000,
            invalid: sent.health.invalid,
        })
    }

    fn measure_sink(&self, program: &Path) -> io::Result<Cost> {
        let address = target::free_address()?;
        let sink = Sink::start(program, address)?;
        target::wait_for(address)?;
        self.measure(sink.0.id(), address, || Ok(()))
    }

    fn load(&self, to: SocketAddr) -> Load {
        let bodies = Arc::new(Bodies::new(&Sizes::Same(self.size), 1));
        Load {
            envelope: if self.pipelined { Envelope::Group } else { Envelope::Stepwise },
            recipients: Template::new(&format!("user%d@{}", target::DOMAIN), self.accounts as u64),
            ..Load::plain(to, self.sessions, Limit::Messages(self.messages as u64), bodies)
        }
    }

    /// Drives the load and waits for `settled`; what happens in between is the server's cost.
    fn measure(
        &self,
        pid: u32,
        to: SocketAddr,
        settled: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Cost> {
        let prepared = self.load(to).prepare()?;
        let meter = Meter::start(&[pid], None, Calls::Counted)?;
        let sent = prepared.run()?;
        let acknowledged = sent.tally.counts.succeeded;
        if acknowledged != self.messages as u64 {
            return Err(io::Error::other(format!(
                "{acknowledged} of {} were taken: {:?}",
                self.messages, sent.tally.errors
            )));
        }
        settled()?;
        let cost = meter.stop()?;
        let per_message = |count: u64| count as f64 / acknowledged as f64;
        Ok(Cost {
            cpu_us: per_message(cost.cpu_us),
            machine_cpu_us: per_message(cost.machine_cpu_us),
            rate: acknowledged as f64 / sent.seconds,
            p50_us: sent.tally.ack.percentile(50.0) / 1000,
            p99_us: sent.tally.ack.percentile(99.0) / 1000,
            system_calls: cost.system_calls.map(per_message),
            syncs: cost.syncs.map(per_message),
        })
    }
}

impl Paced {
    fn print(&self, what: &str) {
        if let Some(reason) = &self.invalid {
            return say!("{what}: INVALID: {reason}");
        }
        let at = |percentile: f64| self.latency.percentile(percentile) / 1000;
        let goal = self.sync_p50_us * 3 / 2 + 300;
        let verdict = if at(50.0) <= goal { "held" } else { "missed" };
        say!(
            "{what}, {:.0} messages/s on schedule: answered in {} us (p50), {} us (p99), {} us (p99.9); a bare sync of \
             8 KiB takes {} us (p50), so that the goal of 1.5 syncs + 300 us is {goal} us: {verdict}",
            self.rate,
            at(50.0),
            at(99.0),
            at(99.9),
            self.sync_p50_us,
        );
    }
}

impl Cost {
    fn print(&self, what: &str) {
        let optional =
            |value: Option<f64>| value.map_or("not counted".to_owned(), |value| format!("{value:.3}"));
        say!(
            "{what}: {:.1} us CPU a message ({:.1} on the whole machine), {} system calls, {} syncs; {:.0} messages/s, \
             answered in {} us (p50), {} us (p99)",
            self.cpu_us,
            self.machine_cpu_us,
            optional(self.system_calls),
            optional(self.syncs),
            self.rate,
            self.p50_us,
            self.p99_us,
        );
    }
}

/// An IMAP session of an account.
fn watch(imap: SocketAddr, number: usize) -> io::Result<Wire> {
    let mut wire = Wire::connect(imap)?;
    wire.line()?;
    wire.imap("a", &format!("LOGIN {} \"{}\"", target::account(number), target::PASSWORD))?;
    Ok(wire)
}

/// Waits until every message can be seen by IMAP.
fn wait_visible(watchers: &mut [Wire], messages: usize) -> io::Result<()> {
    let patience = Instant::now() + Duration::from_secs(60);
    let accounts = watchers.len();
    for (number, wire) in watchers.iter_mut().enumerate() {
        let expected = messages / accounts + usize::from(number < messages % accounts);
        loop {
            let lines = wire.imap("b", "STATUS INBOX (MESSAGES)")?;
            let found = lines
                .iter()
                .find_map(|line| line.split("MESSAGES ").nth(1)?.trim_end_matches(')').parse().ok());
            if found == Some(expected) {
                break;
            }
            if Instant::now() > patience {
                return Err(io::Error::other(format!(
                    "account {number} has {found:?} of {expected} messages"
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Postfix's sink.
struct Sink(Child);

impl Sink {
    fn start(program: &Path, address: SocketAddr) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["-u", "nobody", &format!("inet:{address}"), "1024"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sink_program() -> Option<PathBuf> {
    ["/usr/sbin/smtp-sink", "/usr/bin/smtp-sink"].iter().map(PathBuf::from).find(|path| path.exists())
}
