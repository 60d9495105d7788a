//! `loadtest smtp`: sends messages and says how long it took to have them acknowledged.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::command::Outcome;
use crate::cost::{Calls, Meter};
use crate::engine::Waiting;
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::ledger::Durability;
use crate::measure::Seen;
use crate::plan::{Arrivals, Bodies, Rate, Sizes, Template, time};
use crate::record::{Objective, Record, summary};
use crate::say;
use crate::smtp::{
    Connections, Envelope, Greeting, Limit, Load, Login, OnError, Pace, Security, Transfer, new_run,
};

/// The letters are those of Postfix's smtp-source.
#[derive(Args, Clone)]
pub struct Smtp {
    /// host:port, [address]:port, inet:host:port; port 25 if none is given.
    to: String,
    /// Connections at once.
    #[arg(short, long, default_value_t = 1)]
    sessions: usize,
    /// Messages in all.
    #[arg(short, long, value_name = "COUNT", conflicts_with = "duration")]
    messages: Option<u64>,
    /// Send for so long instead: 60s, 2m.
    #[arg(long, value_parser = time)]
    duration: Option<Duration>,
    /// Bytes of a message's body: 4096, 4k, 1k..64k, lognormal:15k,250k, 4k=90,100k=10.
    #[arg(short = 'l', long, visible_alias = "size", default_value = "4k")]
    length: Sizes,
    /// Keep connections for further messages; without it each message has its own.
    #[arg(short = 'd', long)]
    keep: bool,
    /// Ignored: a terminal shows how it goes.
    #[arg(short = 'c', long, hide = true)]
    counter: bool,
    /// The sender.
    #[arg(short, long, default_value = "load@load.test")]
    from: String,
    /// The recipient; %d counts.
    #[arg(short, long, default_value = "user@load.test")]
    target: String,
    /// %d and -N count from 0 below this.
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    /// Recipients of each message.
    #[arg(short, long, default_value_t = 1)]
    recipients: usize,
    /// Append a number to the local part of each recipient.
    #[arg(short = 'N')]
    number: bool,
    /// Name for EHLO.
    #[arg(short = 'M', long, default_value = "load.test")]
    hostname: String,
    /// Speak LMTP.
    #[arg(short = 'L', long)]
    lmtp: bool,
    /// Go on after a message was refused, which is the default.
    #[arg(short = 'A', hide = true)]
    keep_going: bool,
    /// Stop at the first message that is refused.
    #[arg(long, conflicts_with = "keep_going")]
    stop_on_error: bool,
    /// Open loop: so many messages a second (5000/s, 3M/h), whatever the answers take.
    #[arg(long)]
    rate: Option<Rate>,
    /// How the messages of an open loop are spread over time.
    #[arg(long, value_enum, default_value = "constant")]
    arrivals: Arrivals,
    /// Closed loop, which is the default without a rate: each session sends its next message when the last was
    /// answered.
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// All that RFC 2920 allows: MAIL, RCPT and DATA in one send, behind the message before; `group`: only after this
    /// was answered.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "ahead")]
    pipeline: Option<Envelope>,
    /// Send the message in one chunk.
    #[arg(long)]
    bdat: bool,
    /// TLS from the first byte.
    #[arg(long, conflicts_with = "starttls")]
    tls: bool,
    #[arg(long)]
    starttls: bool,
    /// Continue TLS sessions of before.
    #[arg(long)]
    resume: bool,
    /// Believe only these certificates; without it, any.
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Log in: user:password; %d counts by session.
    #[arg(long, value_name = "USER:PASSWORD")]
    auth: Option<String>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Wait for the time of a message actively: from so long before on (100us), or `always`, so that the server never
    /// pays for waking us.
    #[arg(long, default_value = "100us", value_parser = waiting)]
    spin: Waiting,
    /// Messages that wait for a session so long after the schedule's end are dropped.
    #[arg(long, default_value = "10s", value_parser = time)]
    drain: Duration,
    /// How long a reply may take.
    #[arg(long, default_value = "120s", value_parser = time)]
    timeout: Duration,
    /// Write a line for each acknowledged message.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Sync each of these lines.
    #[arg(long, requires = "ledger")]
    ledger_sync: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    pub report: Report,
}

/// What commands that measure have in common.
#[derive(Args, Clone, Default)]
pub struct Report {
    /// Write the record of the run here.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Objectives, such as 'p99<20ms,err<0.01%'; exit status 99 if one is missed.
    #[arg(long)]
    pub slo: Option<Objective>,
    /// Process ids of the server, whose whole trees are measured.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// A path on the device that the server writes to.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Count the server's system calls, too, which slows them down.
    #[arg(long)]
    pub count_calls: bool,
    /// What the server is, for the record.
    #[arg(long)]
    pub label: Option<String>,
    /// What a 250 promises there, for the record.
    #[arg(long, default_value = "")]
    pub durability: String,
}

impl Smtp {
    pub fn run(&self) -> io::Result<Outcome> {
        let record = self.measure()?;
        self.report.finish(record)
    }

    /// Runs once and judges.
    pub fn measure(&self) -> io::Result<Record> {
        let load = self.load()?;
        let mut record = self.report.record("smtp", "message", &self.to);
        let prepared = load.prepare()?;
        let meter = self.report.meter()?;
        let sent = prepared.run()?;
        record.cost = meter.map(Meter::stop).transpose()?;
        sent.fill(&mut record);
        self.report.judge(&mut record);
        Ok(record)
    }

    /// The same at another rate.
    pub fn at_rate(&self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self.clone() }
    }

    /// The same with another number of sessions.
    pub fn with_sessions(&self, sessions: usize) -> Self {
        Self { sessions, ..self.clone() }
    }

    fn load(&self) -> io::Result<Load> {
        let to = address(&self.to, 25)?;
        let host =
            self.to.trim_start_matches("inet:").rsplit_once(':').map_or(self.to.as_str(), |(host, _)| host);
        let trust = self.ca.as_deref().map_or(Trust::Anyone, Trust::Roots);
        let handshake = if self.resume { Handshake::Resumed } else { Handshake::Full };
        let tls = || ClientTls::new(host.trim_matches(['[', ']']), trust, handshake);
        let security = match (self.tls, self.starttls) {
            (true, _) => Security::Tls(tls()?),
            (_, true) => Security::StartTls(tls()?),
            _ => Security::Clear,
        };
        let limit = match (self.messages, self.duration) {
            (_, Some(time)) => Limit::Time(time),
            (count, None) => Limit::Messages(count.unwrap_or(1)),
        };
        let pace = self.rate.map_or(Pace::Closed, |rate| Pace::Open(rate, self.arrivals));
        let seen = match (limit, pace) {
            (Limit::Messages(count), _) => Seen::Operations(count),
            (Limit::Time(time), _) => Seen::Seconds(time.as_secs()),
        };
        let durability = if self.ledger_sync { Durability::Synced } else { Durability::Buffered };
        Ok(Load {
            to,
            sessions: self.sessions.max(1),
            threads: self.threads,
            limit,
            pace,
            connections: if self.keep { Connections::Kept } else { Connections::New },
            envelope: self.pipeline.unwrap_or(Envelope::Stepwise),
            transfer: if self.bdat { Transfer::Bdat } else { Transfer::Data },
            greeting: match self.lmtp {
                true => Greeting::Lhlo(self.hostname.clone()),
                false => Greeting::Ehlo(self.hostname.clone()),
            },
            security,
            login: self.login()?,
            sender: self.from.clone(),
            recipients: match self.number {
                true => Template::numbered(&self.target, self.users),
                false => Template::new(&self.target, self.users),
            },
            recipients_each: self.recipients.max(1),
            bodies: Arc::new(Bodies::new(&self.length, self.seed)),
            run: new_run(),
            seed: self.seed,
            waiting: self.spin,
            ledger: self.ledger.clone().map(|path| (path, durability)),
            reply_max: self.timeout,
            drain_max: self.drain,
            on_error: if self.stop_on_error { OnError::Stop } else { OnError::Count },
            seen,
        })
    }

    fn login(&self) -> io::Result<Option<Login>> {
        let Some(text) = &self.auth else { return Ok(None) };
        let Some((user, password)) = text.split_once(':') else {
            return Err(io::Error::other("--auth takes user:password"));
        };
        Ok(Some(Login { user: Template::new(user, self.users), password: password.to_owned() }))
    }
}

impl Report {
    /// An empty record, labelled.
    pub fn record(&self, command: &str, unit: &str, target: &str) -> Record {
        let label = self.label.as_deref().unwrap_or(target);
        Record::new(command, unit, label, &self.durability)
    }

    /// Measures the server's processes, if they are known.
    pub fn meter(&self) -> io::Result<Option<Meter>> {
        let calls = if self.count_calls { Calls::Counted } else { Calls::NotCounted };
        match self.pid.as_slice() {
            [] => Ok(None),
            pids => Meter::start(pids, self.data.as_deref(), calls).map(Some),
        }
    }

    pub fn judge(&self, record: &mut Record) {
        record.verdict = self.slo.as_ref().map(|objective| objective.judge(record));
    }

    /// Prints, writes, and says how it ended.
    pub fn finish(&self, record: Record) -> io::Result<Outcome> {
        say::text(&summary(&record));
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(outcome(&record))
    }
}

pub fn outcome(record: &Record) -> Outcome {
    match (&record.health.invalid, &record.verdict) {
        (Some(_), _) => Outcome::Invalid,
        (None, Some(verdict)) if !verdict.is_held() => Outcome::Missed,
        _ => Outcome::Fine,
    }
}

/// As smtp-source and smtp-sink write addresses.
pub fn address(text: &str, default_port: u16) -> io::Result<SocketAddr> {
    let text = text.strip_prefix("inet:").unwrap_or(text);
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = match text.to_socket_addrs() {
        Ok(found) => found,
        // Without a port.
        Err(_) => (text.trim_matches(['[', ']']), default_port).to_socket_addrs()?,
    };
    found.next().ok_or_else(|| io::Error::other(format!("{text:?} has no address")))
}

fn waiting(text: &str) -> Result<Waiting, String> {
    match text {
        "always" => Ok(Waiting::Active),
        text => time(text).map(Waiting::Punctual),
    }
}
