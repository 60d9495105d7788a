//! A mix of users over SMTP, IMAP and POP3, at several loads, judged by the profile's gates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::command::Outcome;
use crate::cost::{Calls, Meter};
use crate::engine::tls::{ClientTls, Handshake, Trust};
use crate::engine::{Clock, Effort, Ports, Waiting, go_first, raise_files, run};
use crate::imap::client::{Login, resolve};
use crate::imap::fill::{self, Pace};
use crate::imap::options::{Options, Security};
use crate::imap::profile::{Profile, duration};
use crate::mix::drive::{Drive, Found, Places};
use crate::mix::imap::folder;
use crate::mix::smtp::Dialect;
use crate::record::{Record, duration as spelt, summary};
use crate::say;

#[derive(Args)]
pub struct Mix {
    /// The profile, as imaptest's; loadtest/profiles/ has some.
    #[arg(long)]
    profile: PathBuf,
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Of all users.
    #[arg(long, default_value = "")]
    pass: String,
    /// So many users, not as many as the profile says.
    #[arg(long)]
    users: Option<usize>,
    /// Percentages, one run after the other.
    #[arg(long, value_delimiter = ',', default_value = "100")]
    load: Vec<u32>,
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    #[arg(long)]
    smtp_port: Option<u16>,
    #[arg(long)]
    imap_port: Option<u16>,
    #[arg(long)]
    pop3_port: Option<u16>,
    /// Of IMAP with TLS from the first byte; with both of these, the profile's share of users has TLS.
    #[arg(long, requires = "pop3s_port")]
    imaps_port: Option<u16>,
    #[arg(long, requires = "imaps_port")]
    pop3s_port: Option<u16>,
    /// Processes of the server, whose cost is measured with that of their children.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Where the server's data is, for the writes to its device.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Fills mailboxes up first, to the size that the profile gives each.
    #[arg(long)]
    fill: bool,
    /// Where records are written, with the load in front of the extension.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Connections that fill a mailbox, where many messages do not go in one command.
const FILLING: usize = 16;

impl Mix {
    /// What `profile=` means to imaptest.
    pub fn of_imaptest(options: &Options, profile: &Path, imap: &super::imap::Imap) -> Self {
        Self {
            profile: profile.to_owned(),
            host: options.host.clone(),
            pass: options.pass.clone(),
            users: None,
            load: vec![100],
            duration: options.duration,
            smtp_port: None,
            imap_port: Some(options.port),
            pop3_port: None,
            imaps_port: None,
            pop3s_port: None,
            pid: imap.pid.clone(),
            data: imap.data.clone(),
            fill: false,
            json: imap.json.clone(),
        }
    }

    pub fn run(&self) -> io::Result<Outcome> {
        let text = fs::read_to_string(&self.profile)?;
        let mut profile = Profile::parse(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", self.profile.display())))?;
        profile.users_total = self.users.unwrap_or(profile.users_total);
        self.make_folders(&profile)?;
        if self.fill {
            self.fill(&profile)?;
        }
        let mut outcome = Outcome::Fine;
        for &load in &self.load {
            say!("load {load} %, {} users", profile.users_total);
            match self.run_at(&profile, load)? {
                Outcome::Fine => {}
                worse => outcome = worse,
            }
        }
        Ok(outcome)
    }

    fn run_at(&self, profile: &Profile, load: u32) -> io::Result<Outcome> {
        let target = format!("{} at {load} % with {} users", self.host, profile.users_total);
        let mut record = Record::new("mix", "operation", &target, "");
        let meter = match self.pid.as_slice() {
            [] => None,
            pids => Some(Meter::start(pids, self.data.as_deref(), Calls::NotCounted)?),
        };
        raise_files();
        let mut ports = Ports::new(Clock::start())?;
        let duration_ns = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        let share = f64::from(load) / 100.0;
        let mut drive = Drive::new(profile.clone(), self.places(profile)?, share, duration_ns);
        drive.invite(&mut ports);
        // Its users are as much as the load says, however busy the server is.
        go_first();
        let effort = run(&mut drive, &mut ports, Waiting::default())?;
        record.cost = meter.map(Meter::stop).transpose()?;
        fill(&mut record, &drive.found, effort);
        say::text(&summary(&record));
        drive.found.wrongs.iter().for_each(|what| eprintln!("{what}"));
        let are_held = record.health.is_valid() && judge(profile, &mut record);
        if let Some(path) = &self.json {
            record.write(&with_load(path, load))?;
        }
        Ok(match (record.health.is_valid(), are_held && drive.found.wrongs.is_empty()) {
            (false, _) => Outcome::Invalid,
            (true, false) => Outcome::Missed,
            (true, true) => Outcome::Fine,
        })
    }

    fn places(&self, profile: &Profile) -> io::Result<Places> {
        let at = |given: Option<u16>, from_profile: Option<u16>, usual: u16| {
            resolve(&self.host, given.or(from_profile).unwrap_or(usual))
        };
        let tls = match (self.imaps_port, self.pop3s_port) {
            (Some(imaps), Some(pop3s)) => {
                let tls = ClientTls::new("mail.load.test", Trust::Anyone, Handshake::Resumed)?;
                Some((tls, resolve(&self.host, imaps)?, resolve(&self.host, pop3s)?))
            }
            _ => None,
        };
        let (dialect, inbound) = match (self.smtp_port.or(profile.smtp_port), profile.lmtp_port) {
            (None, Some(lmtp)) => (Dialect::Lmtp, lmtp),
            (smtp, _) => (Dialect::Smtp, smtp.unwrap_or(25)),
        };
        Ok(Places {
            smtp: resolve(&self.host, inbound)?,
            dialect,
            imap: at(self.imap_port, profile.imap_port, 143)?,
            pop3: at(self.pop3_port, profile.pop3_port, 110)?,
            tls,
            pass: self.pass.clone(),
        })
    }

    fn login(&self, profile: &Profile, number: usize) -> io::Result<Login> {
        let user = &profile.users[0];
        Ok(Login {
            address: self.places(profile)?.imap,
            security: Security::Plain,
            user: user.user_name(user.username_start + number),
            pass: self.pass.clone(),
        })
    }

    /// What is moved needs a place to go to.
    fn make_folders(&self, profile: &Profile) -> io::Result<()> {
        for number in 0..profile.users_total {
            let mut client = self.login(profile, number)?.open()?;
            let folders = profile.habits.folders;
            // From an earlier run the last is there, and all others with it.
            let last = format!("STATUS {} (MESSAGES)", folder(folders - 1));
            if client.command(&last, |_| Ok(())).is_err() {
                for name in (0..folders).map(folder) {
                    let _ = client.command(&format!("CREATE {name}"), |_| Ok(()));
                }
            }
            client.logout()?;
        }
        Ok(())
    }

    /// The first user has the largest mailbox.
    fn fill(&self, profile: &Profile) -> io::Result<()> {
        let Some((least, most)) = profile.mailbox_messages else {
            return Err(io::Error::other("the profile does not say mailbox_messages"));
        };
        for number in 0..profile.users_total {
            let login = self.login(profile, number)?;
            let (first, end) = (fill::count(&login, "INBOX")?, profile.user_zipf.share(number, least, most));
            if first >= end {
                continue;
            }
            let (mailbox, message_bytes) = ("INBOX".to_owned(), profile.size.median);
            let pace = Pace::Fast { connections: FILLING };
            fill::Fill { login, mailbox, first, end, message_bytes, pace }.run(&|_| ())?;
        }
        Ok(())
    }
}

/// More failures than this, and how fast the rest was says little.
const ERRORS_MAX: f64 = 0.01;

/// Whether every gate is held, and little failed; what was found goes into the figures.
fn judge(profile: &Profile, record: &mut Record) -> bool {
    let errors = record.error_share();
    let mut are_held = errors <= ERRORS_MAX;
    let verdict = if are_held { "held" } else { "missed" };
    say!("errors: {:.2} % of {:.0} %: {verdict}", errors * 100.0, ERRORS_MAX * 100.0);
    for gate in &profile.gates {
        let name = format!("gate {} p{}", gate.name, gate.quantile * 100.0);
        let most = u64::try_from(gate.most.as_nanos()).unwrap_or(u64::MAX);
        let Some(found) = record.latency.get(&gate.name) else {
            say!("{name}: missed, for nothing of it happened");
            are_held = false;
            continue;
        };
        let found = found.percentile(gate.quantile * 100.0);
        are_held &= found <= most;
        let verdict = if found <= most { "held" } else { "missed" };
        say!("{name}: {} of {}: {verdict}", spelt(found), spelt(most));
        record.figures.insert(format!("{name} ms"), found as f64 / 1e6);
    }
    are_held
}

fn fill(record: &mut Record, found: &Found, effort: Effort) {
    record.counts = found.counts;
    record.seconds = found.elapsed_ns as f64 / 1e9;
    record.rate = found.counts.succeeded as f64 / record.seconds.max(1e-9);
    record.latency = found.latency.clone();
    let sessions_per_hour = found.sessions as f64 / record.seconds.max(1e-9) * 3600.0;
    record.figures.insert("sessions_per_hour".to_owned(), sessions_per_hour);
    record.errors = found.errors.clone();
    record.health = effort.health(found.lag.percentile(99.0));
}

/// `run.json` at 80 % is `run-80.json`.
fn with_load(path: &Path, load: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{load}.json"))
}
