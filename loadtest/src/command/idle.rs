//! What a session costs that waits for news, and how soon it hears them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::command::Outcome;
use crate::command::fill::fill_up;
use crate::command::login::{LoginArguments, Target};
use crate::cost::{kernel_bytes, tree_pss_bytes};
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::engine::{Clock, Effort, Ports, Waiting, raise_files, run};
use crate::imap::fill::Pace;
use crate::imap::idle::{Found, Memory, Plan, Run};
use crate::imap::options::Security;
use crate::imap::profile::duration;
use crate::record::{Record, SERVICE, summary};
use crate::say;

#[derive(Args)]
pub struct Idle {
    #[command(flatten)]
    login: LoginArguments,
    /// Sessions; with a %d in --user they are spread over so many users.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    #[arg(long, default_value_t = 1)]
    users: usize,
    /// Messages in the INBOX that all of them have selected.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Messages that come in a second, once all sessions wait.
    #[arg(long, default_value_t = 0.0)]
    notify: f64,
    /// For so long.
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// After so long without work a server has given back the memory it gives back.
    #[arg(long, default_value = "5s", value_parser = duration)]
    settle: Duration,
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Of each message that the INBOX is filled with.
const MESSAGE_BYTES: usize = 512;

/// News later than this do not come.
const PUSH_MAX: Duration = Duration::from_secs(10);

impl Idle {
    pub fn run(&self) -> io::Result<Outcome> {
        raise_files();
        let target = self.login.target()?;
        let users = self.users(&target);
        for (user, _) in &users {
            fill_up(&target.for_user(user), "INBOX", self.messages, MESSAGE_BYTES, Pace::Gentle)?;
        }
        let mut record = Record::new("idle", "notification", target.name(), "");
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let plan = Plan {
            address: target.login.address,
            tls: match target.login.security {
                Security::Plain => None,
                Security::Tls => Some(ClientTls::new("mail.load.test", Trust::Anyone, Handshake::Full)?),
            },
            users,
            sessions: self.sessions,
            notify_rate: self.notify,
            notify_ns: nanos(self.duration),
            settle_ns: nanos(self.settle),
            push_ns_max: nanos(PUSH_MAX),
        };
        let measure = || Ok(Memory { server: tree_pss_bytes(&target.pids)?, kernel: kernel_bytes()? });
        let mut ports = Ports::new(Clock::start())?;
        let mut idle = Run::new(plan, &measure);
        let effort = run(&mut idle, &mut ports, Waiting::default())?;
        let found = idle.into_found()?;
        self.print(&found);
        fill(&mut record, &found, effort, self.sessions);
        if self.notify > 0.0 {
            say::text(&summary(&record));
        }
        found.wrongs.values().for_each(|(count, wrong)| eprintln!("{count} times {wrong}"));
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(match (record.health.is_valid(), found.wrongs.is_empty()) {
            (false, _) => Outcome::Invalid,
            (true, false) => Outcome::Missed,
            (true, true) => Outcome::Fine,
        })
    }

    fn users(&self, target: &Target) -> Vec<(String, String)> {
        let (user, pass) = (&target.login.user, &target.login.pass);
        match user.contains("%d") {
            true => (1..=self.users).map(|n| (user.replace("%d", &n.to_string()), pass.clone())).collect(),
            false => vec![(user.clone(), pass.clone())],
        }
    }

    fn print(&self, found: &Found) {
        say!(
            "{} sessions in IDLE on an INBOX of {} messages: {} bytes of the server's memory each \
             (PSS, from {} to {}), {} bytes of the kernel's for both ends",
            self.sessions,
            self.messages,
            each(found, |memory| memory.server),
            found.before.server,
            found.after.server,
            each(found, |memory| memory.kernel),
        );
    }
}

/// What the counted sessions took, divided among them.
fn each(found: &Found, of: impl Fn(&Memory) -> u64) -> u64 {
    of(&found.after).saturating_sub(of(&found.before)) / found.counted.max(1) as u64
}

fn fill(record: &mut Record, found: &Found, effort: Effort, sessions: usize) {
    record.counts.started = found.notified;
    record.counts.succeeded = found.notified;
    record.counts.failed = found.wrongs.values().map(|(count, _)| *count).sum();
    record.counts.connections = sessions as u64;
    record.rate = found.notified as f64 * 1e9 / found.notify_ns.max(1) as f64;
    record.seconds = effort.elapsed_ns as f64 / 1e9;
    for (name, spectrum) in [
        (SERVICE, &found.push),
        ("push after OK", &found.push_after_ok),
        ("fan-out", &found.fan_out),
        ("append", &found.append),
        ("open", &found.open),
    ] {
        record.latency.insert(name.to_owned(), spectrum.clone());
    }
    let figures = [
        ("server_bytes_per_session", each(found, |memory| memory.server)),
        ("kernel_bytes_per_session", each(found, |memory| memory.kernel)),
        ("sessions", sessions as u64),
    ];
    record.figures.extend(figures.map(|(name, value)| (name.to_owned(), value as f64)));
    record.errors =
        found.wrongs.iter().map(|(rule, (count, _))| (format!("wrong: {}", rule.name()), *count)).collect();
    record.health = effort.health(found.lag.percentile(99.0));
}
