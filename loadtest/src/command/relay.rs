//! What a relayed message costs: accepted, synced, sent on to a sink, and its outcome written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cost::{Calls, Meter, anonymous_bytes};
use crate::plan::{Bodies, Sizes, Template};
use crate::sink::{Conduct, Sink};
use crate::smtp::{Envelope, Limit, Load};
use crate::target::{self, DEAD_DOMAIN, SINK_DOMAIN, Server, Setup};

#[derive(Args)]
pub struct Relay {
    /// The server's program; by default the one that was built beside this.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Kept-open connections into the server.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Shards of the server; several numbers are measured one after the other.
    #[arg(long, default_values_t = [1])]
    cores: Vec<usize>,
    /// Messages that are queued first for a destination that refuses connections.
    #[arg(long, default_value_t = 0)]
    dead: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// One measurement.
struct Cost {
    cpu_us: f64,
    rate: f64,
    system_calls: Option<f64>,
    syncs: Option<f64>,
}

/// The outcomes of the last messages are written a moment after the sink has answered them.
const SETTLE: Duration = Duration::from_millis(300);

/// In this time a checkpoint is written, too.
const WATCHED: Duration = Duration::from_secs(5);

/// How often is looked what a server's memory is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A message that only waits may be small.
const DEAD_BYTES: usize = 512;

impl Relay {
    pub fn run(&self) -> io::Result<()> {
        let conduct = Conduct { hostname: "sink.test".to_owned(), ..Conduct::default() };
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), conduct, None, 1)?;
        say!(
            "{} messages of {} bytes over {} kept-open connections, through to a sink",
            self.messages,
            self.size,
            self.sessions
        );
        for round in 1..=self.rounds {
            for &cores in &self.cores {
                let name = format!("round {round}, {cores} core(s)");
                let mut server = self.start(cores, &sink)?;
                self.measure(&server, &sink)?.print(&name);
                if self.dead > 0 {
                    let memory_before = anonymous_bytes(server.pid())?;
                    self.fill(&server)?.print(&format!("{name}: queued"), memory_before, self.dead);
                    self.measure(&server, &sink)?.print(&format!("{name}, {} queued elsewhere", self.dead));
                    let took = server.restart_killed()?.as_millis();
                    let watch = Watch::start(server.pid());
                    thread::sleep(WATCHED);
                    watch.stop()?.print(
                        &format!("{name}: {took} ms after kill -9 ready with"),
                        memory_before,
                        self.dead,
                    );
                }
            }
        }
        Ok(())
    }

    fn start(&self, cores: usize, sink: &Sink) -> io::Result<Server> {
        let program = self.server.clone().unwrap_or_else(target::default_program);
        Server::start(&program, Setup { cores, accounts: 0, sink: Some(sink.address()) })
    }

    fn load(&self, server: &Server, domain: &str, messages: usize, size: usize) -> Load {
        let bodies = Arc::new(Bodies::new(&Sizes::Same(size), 1));
        Load {
            recipients: Template::new(&format!("user%d@{domain}"), 100),
            ..Load::plain(server.smtp, self.sessions, Limit::Messages(messages as u64), bodies)
        }
    }

    /// Queues mail that cannot go.
    fn fill(&self, server: &Server) -> io::Result<Memory> {
        let load =
            Load { envelope: Envelope::Group, ..self.load(server, DEAD_DOMAIN, self.dead, DEAD_BYTES) };
        let watch = Watch::start(server.pid());
        load.run()?;
        thread::sleep(WATCHED);
        watch.stop()
    }

    fn measure(&self, server: &Server, sink: &Sink) -> io::Result<Cost> {
        let meter = Meter::start(&[server.pid()], None, Calls::Counted)?;
        let (taken_before, messages) = (sink.taken(), self.messages as u64);
        let began = Instant::now();
        let sent = self.load(server, SINK_DOMAIN, self.messages, self.size).run()?;
        if sent.tally.counts.succeeded != messages {
            return Err(io::Error::other(format!("not all were taken: {:?}", sent.tally.errors)));
        }
        sink.wait(taken_before + messages)?;
        let seconds = began.elapsed().as_secs_f64();
        thread::sleep(SETTLE);
        let cost = meter.stop()?;
        let taken = sink.taken() - taken_before;
        if taken != messages {
            return Err(io::Error::other(format!("{messages} messages went in, {taken} came out")));
        }
        let per_message = |count: u64| count as f64 / self.messages as f64;
        Ok(Cost {
            cpu_us: per_message(cost.cpu_us),
            rate: self.messages as f64 / seconds,
            system_calls: cost.system_calls.map(per_message),
            syncs: cost.syncs.map(per_message),
        })
    }
}

/// Memory of a server's own, in bytes: at last, and at most.
#[derive(Clone, Copy, Default)]
struct Memory {
    last: u64,
    most: u64,
}

/// Looks at a server's memory until it is stopped.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Memory>>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut memory = Memory::default();
            while !ends.load(Ordering::Relaxed) {
                memory.last = anonymous_bytes(pid)?;
                memory.most = memory.most.max(memory.last);
                thread::sleep(LOOK_EVERY);
            }
            Ok(memory)
        });
        Self { is_over, thread }
    }

    fn stop(self) -> io::Result<Memory> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the watch ended early")))
    }
}

impl Memory {
    fn print(self, what: &str, before: u64, messages: usize) {
        let each = |bytes: u64| bytes.saturating_sub(before) as f64 / messages as f64;
        let (last, most) = (each(self.last), each(self.most));
        say!("{what} {messages} messages: {last:.0} bytes of memory each, {most:.0} at most");
    }
}

impl Cost {
    fn print(&self, what: &str) {
        let optional =
            |value: Option<f64>| value.map_or("not counted".to_owned(), |value| format!("{value:.3}"));
        say!(
            "{what}: {:.1} us CPU a relayed message, {:.0} messages/s, {} system calls, {} syncs",
            self.cpu_us,
            self.rate,
            optional(self.system_calls),
            optional(self.syncs)
        );
    }
}
