//! `loadtest sink`: takes mail and keeps none, as well or as badly as asked.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::command::Outcome;
use crate::command::smtp::address;
use crate::interrupt;
use crate::ledger::Durability;
use crate::plan::{bytes, time};
use crate::sink::{self, Chance, Conduct, Delay, Fate, Place, Replies};

/// The letters are those of Postfix's smtp-sink. Places are connect, ehlo, mail, rcpt, data, dot (the end of data).
#[derive(Args)]
pub struct Sink {
    /// `[host]:port`, `inet:host:port`.
    address: String,
    /// Ignored: the kernel's queue of connections is long enough.
    #[arg(hide = true)]
    backlog: Option<u32>,
    /// Name in the greeting.
    #[arg(short = 'H', long, default_value = "sink.test")]
    hostname: String,
    /// Connections at once; more are told 421.
    #[arg(short, long, value_name = "COUNT")]
    max_connections: Option<usize>,
    /// End after so many messages.
    #[arg(short = 'M', long, value_name = "COUNT")]
    messages: Option<u64>,
    /// End after so many connections.
    #[arg(short = 'n', long, value_name = "COUNT")]
    sessions: Option<u64>,
    /// End after so long.
    #[arg(long, value_parser = time)]
    duration: Option<Duration>,
    /// Share of `[place:]percent` that is accepted; the rest is refused with 4xx, if nothing else is said.
    #[arg(long, value_name = "PERCENT")]
    accept: Option<f64>,
    /// `[place:]percent` of 4xx.
    #[arg(long, value_name = "CHANCE")]
    tempfail: Vec<Chance>,
    /// `[place:]percent` of 5xx.
    #[arg(long, value_name = "CHANCE")]
    permfail: Vec<Chance>,
    /// `[place:]percent` of connections closed without an answer.
    #[arg(long, value_name = "CHANCE")]
    drop: Vec<Chance>,
    /// `[place:]time`, or `[place:]from..to`, before an answer.
    #[arg(long, value_name = "DELAY")]
    latency: Vec<Delay>,
    /// Seconds before the answer to the end of data.
    #[arg(short = 'w', value_name = "SECONDS")]
    wait: Option<u64>,
    /// Answers to choose refusals from: lines such as "dot 451 4.7.1 Greylisted".
    #[arg(long, value_name = "FILE")]
    responses: Option<PathBuf>,
    /// Bytes a second that are read of each connection.
    #[arg(long, value_parser = bytes)]
    slow_read: Option<usize>,
    /// Refuse these commands with 4xx: connect,mail,...
    #[arg(short = 'r', value_name = "PLACES", value_delimiter = ',')]
    soft: Vec<Place>,
    /// Refuse these with 5xx.
    #[arg(short = 'f', value_name = "PLACES", value_delimiter = ',')]
    hard: Vec<Place>,
    /// Disconnect at these.
    #[arg(short = 'q', value_name = "PLACES", value_delimiter = ',')]
    quit: Vec<Place>,
    /// Do not list PIPELINING.
    #[arg(short = 'p')]
    no_pipelining: bool,
    /// Do not list 8BITMIME.
    #[arg(short = '8')]
    no_8bitmime: bool,
    /// Speak LMTP; the sink does whenever a client says LHLO.
    #[arg(short = 'L', hide = true)]
    lmtp: bool,
    /// Show a counter.
    #[arg(short = 'c')]
    counter: bool,
    #[arg(short = 'v', hide = true)]
    verbose: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write a line for each copy that came.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Sync each of these lines before the answer.
    #[arg(long, requires = "ledger")]
    ledger_sync: bool,
}

impl Sink {
    pub fn run(&self) -> io::Result<Outcome> {
        interrupt::listen();
        let durability = if self.ledger_sync { Durability::Synced } else { Durability::Buffered };
        let ledger = self.ledger.clone().map(|path| (path, durability));
        let sink = sink::Sink::start(address(&self.address, 25)?, self.conduct()?, ledger, self.threads)?;
        say!("ready at {}", sink.address());
        let began = Instant::now();
        while !self.is_over(&sink, began) {
            thread::sleep(Duration::from_millis(20));
            if self.counter {
                eprint!("\r{}", sink.taken());
            }
        }
        print(&sink, began.elapsed());
        sink.stop()?;
        Ok(Outcome::Fine)
    }

    fn is_over(&self, sink: &sink::Sink, began: Instant) -> bool {
        let connections = sink.counts().connections.load(Ordering::Relaxed);
        interrupt::is_asked()
            || self.messages.is_some_and(|most| sink.taken() >= most)
            || self.sessions.is_some_and(|most| connections >= most)
            || self.duration.is_some_and(|most| began.elapsed() >= most)
    }

    fn conduct(&self) -> io::Result<Conduct> {
        let mut fates = Vec::new();
        let sure = |place: &Place| Chance { place: *place, percent: 100.0 };
        fates.extend(self.quit.iter().map(|place| (Fate::Drop, sure(place))));
        fates.extend(self.soft.iter().map(|place| (Fate::Temporary, sure(place))));
        fates.extend(self.hard.iter().map(|place| (Fate::Permanent, sure(place))));
        for (fate, chances) in
            [(Fate::Drop, &self.drop), (Fate::Temporary, &self.tempfail), (Fate::Permanent, &self.permfail)]
        {
            fates.extend(chances.iter().map(|chance| (fate, *chance)));
        }
        if let Some(accept) = self.accept.filter(|_| self.tempfail.is_empty() && self.permfail.is_empty()) {
            fates.push((Fate::Temporary, Chance { place: Place::Dot, percent: 100.0 - accept }));
        }
        let mut delays = self.latency.clone();
        delays.extend(self.wait.map(Duration::from_secs).map(|time| Delay {
            place: Place::Dot,
            least: time,
            most: time,
        }));
        let mut hidden = Vec::new();
        hidden.extend(self.no_pipelining.then_some("PIPELINING"));
        hidden.extend(self.no_8bitmime.then_some("8BITMIME"));
        Ok(Conduct {
            hostname: self.hostname.clone(),
            fates,
            delays,
            replies: self.responses.as_deref().map(Replies::read).transpose()?.unwrap_or_default(),
            read_rate: self.slow_read,
            hidden,
            connections_max: self.max_connections,
        })
    }
}

fn print(sink: &sink::Sink, time: Duration) {
    let counts = sink.counts();
    let (messages, bytes) = (sink.taken(), counts.bytes.load(Ordering::Relaxed));
    say!(
        "{messages} messages ({} copies, {:.1} MB) over {} connections in {:.1} s; {} corrupted, {} without a mark",
        counts.copies.load(Ordering::Relaxed),
        bytes as f64 / 1e6,
        counts.connections.load(Ordering::Relaxed),
        time.as_secs_f64(),
        counts.corrupted.load(Ordering::Relaxed),
        counts.unmarked.load(Ordering::Relaxed),
    );
    for (what, count) in counts.refused() {
        say!("{what}: {count}");
    }
}
