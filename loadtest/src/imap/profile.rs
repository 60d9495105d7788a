//! A profile: what users and their clients do all day, in the file format of imaptest's `profile.conf`.
//!
//! ```text
//! total_user_count = 500            settings of the whole
//! user aggressive {                 who gets how much mail and what becomes of it
//!   count = 10%
//!   mail_inbox_delivery_interval = 5s
//! }
//! client Thunderbird {              with what programs they look at it
//!   count = 80%
//!   imap_idle = yes
//! }
//! ```
//!
//! A few keys are ours: ports by protocol, how large messages are, how many recipients they have, folders, who and what
//! is asked for more often than others, and the gates that a run must hold. An unknown key is an error, with its line.

use std::fmt;
use std::time::Duration;

use crate::plan::Zipf;

#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub users_total: usize,
    /// First logins are spread over this time.
    pub ramp_up: Duration,
    pub lmtp_port: Option<u16>,
    pub smtp_port: Option<u16>,
    pub imap_port: Option<u16>,
    pub pop3_port: Option<u16>,
    pub tls_percent: u32,
    pub size: Sizes,
    pub recipients: Vec<Recipients>,
    /// Some get more mail than others.
    pub user_zipf: Zipf,
    /// Messages that users have at least and that the first of them has, before anything begins.
    pub mailbox_messages: Option<(usize, usize)>,
    pub habits: Habits,
    pub gates: Vec<Gate>,
    pub users: Vec<User>,
    pub clients: Vec<Client>,
}

/// Which folders and messages are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Beside the INBOX, at least one.
    pub folders: usize,
    pub folder_zipf: Zipf,
    /// From the newest on.
    pub message_zipf: Zipf,
}

/// Sizes of messages: log-normal, given by what half and 95 % of them do not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    pub median: usize,
    pub p95: usize,
    pub max: usize,
}

/// So many percent of the messages have so many recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipients {
    pub percent: u32,
    pub least: usize,
    pub most: usize,
}

/// `imap_p95 = 5s`: what is measured, at which quantile, and what it must not pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    pub name: String,
    pub quantile: f64,
    pub most: Duration,
}

/// A kind of user; zero or `None` for what they never do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub name: String,
    pub percent: u32,
    pub username_format: String,
    pub username_start: usize,
    pub delivery_interval: Option<Duration>,
    pub send_interval: Option<Duration>,
    pub write_time: Duration,
    pub session_length: Option<Duration>,
    pub action_delay: Duration,
    pub action_repeat_delay: Duration,
    pub read_percent: u32,
    pub delete_percent: u32,
    pub move_percent: u32,
    pub move_filter_percent: u32,
    pub reply_percent: u32,
    pub search_percent: u32,
    /// Opens one that has been opened before.
    pub reread_percent: u32,
    /// Looks into a folder.
    pub browse_percent: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Imap,
    Pop3,
}

/// A kind of mail program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    pub name: String,
    pub percent: u32,
    pub protocol: Protocol,
    pub connections: usize,
    pub idle_percent: u32,
    /// What it asks of messages it has not seen.
    pub fetch_immediate: String,
    /// What it asks of a message that its user opens.
    pub fetch_manual: String,
    pub login_interval: Duration,
    /// POP3: how many of its sessions leave the mail on the server, in percent.
    pub keep_percent: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub struct BadProfile {
    pub line: usize,
    pub reason: String,
}

enum Block {
    Top,
    User(User),
    Client(Client),
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            users_total: 0,
            ramp_up: Duration::ZERO,
            lmtp_port: None,
            smtp_port: None,
            imap_port: None,
            pop3_port: None,
            tls_percent: 0,
            size: Sizes { median: 4 << 10, p95: 4 << 10, max: 4 << 10 },
            recipients: vec![Recipients { percent: 100, least: 1, most: 1 }],
            user_zipf: Zipf(0.0),
            mailbox_messages: None,
            habits: Habits { folders: 1, folder_zipf: Zipf(0.0), message_zipf: Zipf(0.0) },
            gates: Vec::new(),
            users: Vec::new(),
            clients: Vec::new(),
        }
    }
}

impl Profile {
    pub fn parse(text: &str) -> Result<Self, BadProfile> {
        let mut profile = Self::default();
        let mut block = Block::Top;
        let mut lines = 0;
        for (index, line) in text.lines().enumerate() {
            lines = index + 1;
            let line = line.split('#').next().unwrap_or_default().trim();
            let bad = |reason: String| BadProfile { line: index + 1, reason };
            match (line, block) {
                ("", open) => block = open,
                ("}", Block::Top) => return Err(bad("} without a block".to_owned())),
                ("}", Block::User(user)) => {
                    profile.users.push(user);
                    block = Block::Top;
                }
                ("}", Block::Client(client)) => {
                    profile.clients.push(client);
                    block = Block::Top;
                }
                (line, open) => block = profile.take(line, open).map_err(bad)?,
            }
        }
        let bad = |reason: &str| BadProfile { line: lines, reason: reason.to_owned() };
        match block {
            Block::Top => profile.check().map_err(bad),
            Block::User(_) | Block::Client(_) => Err(bad("the block is not closed")),
        }
    }

    fn take(&mut self, line: &str, block: Block) -> Result<Block, String> {
        if let Some(heading) = line.strip_suffix('{') {
            return match (block, heading.trim().split_once(' ').unwrap_or((heading.trim(), ""))) {
                (Block::Top, ("user", name)) => Ok(Block::User(User {
                    name: name.trim().to_owned(),
                    username_start: 1,
                    ..User::default()
                })),
                (Block::Top, ("client", name)) => Ok(Block::Client(Client {
                    name: name.trim().to_owned(),
                    connections: 1,
                    ..Client::default()
                })),
                (Block::Top, (other, _)) => Err(format!("{other} is neither user nor client")),
                _ => Err("a block within a block".to_owned()),
            };
        }
        let (key, value) = line.split_once('=').ok_or("neither a block nor key = value")?;
        let (key, value) = (key.trim(), value.trim());
        match block {
            Block::Top => self.set(key, value).map(|()| Block::Top),
            Block::User(mut user) => user.set(key, value).map(|()| Block::User(user)),
            Block::Client(mut client) => client.set(key, value).map(|()| Block::Client(client)),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "total_user_count" => self.users_total = number(value)?,
            "rampup_time" => self.ramp_up = duration(value)?,
            "lmtp_port" => self.lmtp_port = Some(number(value)?),
            "smtp_port" => self.smtp_port = Some(number(value)?),
            "imap_port" => self.imap_port = Some(number(value)?),
            "pop3_port" => self.pop3_port = Some(number(value)?),
            // Connections are opened as their work comes; there is nothing to bound.
            "lmtp_max_parallel_count" => drop(number::<usize>(value)?),
            "tls_percentage" => self.tls_percent = percentage(value)?,
            "message_size_median" => self.size.median = bytes(value)?,
            "message_size_p95" => self.size.p95 = bytes(value)?,
            "message_size_max" => self.size.max = bytes(value)?,
            "recipients" => self.recipients = recipients(value)?,
            "user_zipf" => self.user_zipf = zipf(value)?,
            "mailbox_messages" => self.mailbox_messages = Some(range(value)?),
            "folder_count" => self.habits.folders = number::<usize>(value)?.max(1),
            "folder_zipf" => self.habits.folder_zipf = zipf(value)?,
            "message_zipf" => self.habits.message_zipf = zipf(value)?,
            _ => match key.strip_prefix("gate_").and_then(|gate| gate.rsplit_once("_p")) {
                Some((name, percent)) => self.gates.push(gate(name, percent, value)?),
                None => return Err(format!("{key} is not known")),
            },
        }
        Ok(())
    }

    fn check(self) -> Result<Self, &'static str> {
        let hundred = |percents: &mut dyn Iterator<Item = u32>| percents.sum::<u32>() == 100;
        match &self {
            profile if profile.users_total == 0 => Err("total_user_count is not given"),
            profile if !hundred(&mut profile.users.iter().map(|user| user.percent)) => {
                Err("the counts of user blocks are not 100% together")
            }
            profile if !hundred(&mut profile.clients.iter().map(|client| client.percent)) => {
                Err("the counts of client blocks are not 100% together")
            }
            profile if profile.users.iter().any(|user| user.username_format.is_empty()) => {
                Err("a user block without username_format")
            }
            profile if !hundred(&mut profile.recipients.iter().map(|row| row.percent)) => {
                Err("the shares of recipients are not 100% together")
            }
            profile if profile.size.median > profile.size.p95 || profile.size.p95 > profile.size.max => {
                Err("message sizes: median, p95 and max do not rise")
            }
            _ => Ok(self),
        }
    }
}

impl User {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "count" => self.percent = percentage(value)?,
            "username_format" => value.clone_into(&mut self.username_format),
            "username_start_index" => self.username_start = number(value)?,
            "mail_inbox_delivery_interval" => self.delivery_interval = interval(value)?,
            "mail_send_interval" => self.send_interval = interval(value)?,
            "mail_write_duration" => self.write_time = duration(value)?,
            "mail_session_length" => self.session_length = interval(value)?,
            "mail_action_delay" => self.action_delay = duration(value)?,
            "mail_action_repeat_delay" => self.action_repeat_delay = duration(value)?,
            "mail_inbox_read_percentage" => self.read_percent = percentage(value)?,
            "mail_inbox_delete_percentage" => self.delete_percent = percentage(value)?,
            "mail_inbox_move_percentage" => self.move_percent = percentage(value)?,
            "mail_inbox_move_filter_percentage" => self.move_filter_percent = percentage(value)?,
            "mail_inbox_reply_percentage" => self.reply_percent = percentage(value)?,
            "mail_inbox_search_percentage" => self.search_percent = percentage(value)?,
            "mail_inbox_reread_percentage" => self.reread_percent = percentage(value)?,
            "mail_folder_browse_percentage" => self.browse_percent = percentage(value)?,
            "mail_spam_delivery_interval" if interval(value)?.is_none() => {}
            "mail_spam_delivery_interval" => return Err("mail goes to the INBOX alone".to_owned()),
            _ => return Err(format!("{key} is not known in a user block")),
        }
        Ok(())
    }

    /// The name of the user with this index: `%n`, or `%03n` filled up to three places with zeroes.
    pub fn user_name(&self, index: usize) -> String {
        let Some((before, rest)) = self.username_format.split_once('%') else {
            return self.username_format.clone();
        };
        let Some((padding, after)) = rest.split_once('n') else {
            return self.username_format.clone();
        };
        let digits = index.to_string();
        let mut padding = padding.chars();
        let fill = padding.next().unwrap_or('0');
        let width = padding.as_str().parse().unwrap_or(0);
        let missing = usize::saturating_sub(width, digits.len());
        let filled: String = std::iter::repeat_n(fill, missing).collect();
        format!("{before}{filled}{digits}{after}")
    }
}

impl Client {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "count" => self.percent = percentage(value)?,
            "connection_max_count" => self.connections = number(value)?,
            "imap_idle" => self.idle_percent = if yes(value)? { 100 } else { 0 },
            "imap_idle_percentage" => self.idle_percent = percentage(value)?,
            "imap_fetch_immediate" => value.clone_into(&mut self.fetch_immediate),
            "imap_fetch_manual" => value.clone_into(&mut self.fetch_manual),
            "login_interval" => self.login_interval = duration(value)?,
            "pop3_keep_mails" => self.keep_percent = if yes(value)? { 100 } else { 0 },
            "pop3_keep_percentage" => self.keep_percent = percentage(value)?,
            "protocol" => {
                self.protocol = match value {
                    "imap" => Protocol::Imap,
                    "pop3" => Protocol::Pop3,
                    other => return Err(format!("{other} is no protocol")),
                };
            }
            _ => return Err(format!("{key} is not known in a client block")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value} is no number in range"))
}

fn yes(value: &str) -> Result<bool, String> {
    match value {
        "yes" | "1" => Ok(true),
        "no" | "0" => Ok(false),
        _ => Err(format!("{value} is neither yes nor no")),
    }
}

fn percentage(value: &str) -> Result<u32, String> {
    match number(value.trim_end_matches('%').trim())? {
        percent @ 0..=100 => Ok(percent),
        _ => Err("a percentage is at most 100".to_owned()),
    }
}

/// `5s`, `3 min`, `200ms`, `1h`; a bare number is seconds.
pub fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let count: f64 = number(&value[..digits])?;
    let seconds = match value[digits..].trim() {
        "" | "s" | "sec" | "secs" => 1.0,
        "ms" | "msec" | "msecs" => 1e-3,
        "m" | "min" | "mins" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        unit => return Err(format!("{unit} is no unit of time")),
    };
    Ok(Duration::from_secs_f64(count * seconds))
}

/// Zero is never.
fn interval(value: &str) -> Result<Option<Duration>, String> {
    Ok(Some(duration(value)?).filter(|interval| !interval.is_zero()))
}

/// `15k`, `10M`, `512`.
pub fn bytes(value: &str) -> Result<usize, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match value[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        unit => return Err(format!("{unit} is no unit of size")),
    };
    number::<usize>(digits)?.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// `1:75 2-5:20 6-50:5`
fn recipients(value: &str) -> Result<Vec<Recipients>, String> {
    let row = |word: &str| -> Result<Recipients, String> {
        let (words, percent) = word.split_once(':').ok_or("each share is count:percent")?;
        let (least, most) = range(words)?;
        Ok(Recipients { percent: percentage(percent)?, least, most })
    };
    value.split_whitespace().map(row).collect()
}

/// `2-5`, or `3`; at least one.
fn range(value: &str) -> Result<(usize, usize), String> {
    let (least, most) = value.split_once('-').unwrap_or((value, value));
    let (least, most) = (number(least.trim())?, number(most.trim())?);
    match least >= 1 && least <= most {
        true => Ok((least, most)),
        false => Err(format!("{value} is no range")),
    }
}

/// The exponent.
fn zipf(value: &str) -> Result<Zipf, String> {
    match number(value)? {
        exponent @ 0.0..=4.0 => Ok(Zipf(exponent)),
        _ => Err(format!("{value} is no exponent from 0 to 4")),
    }
}

fn gate(name: &str, percent: &str, value: &str) -> Result<Gate, String> {
    // p999 is 99.9 %.
    let (whole, part) = percent.split_at_checked(2).ok_or("a gate ends with _p and two digits or more")?;
    let percent: f64 = number(&format!("{whole}.{part}0"))?;
    Ok(Gate { name: name.to_owned(), quantile: percent / 100.0, most: duration(value)? })
}

impl fmt::Display for BadProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for BadProfile {}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        total_user_count = 500\n\
        rampup_time = 5 # seconds\n\
        recipients = 1:75 2-5:20 6-50:5\n\
        message_size_median = 15k\n message_size_p95 = 250k\n message_size_max = 10M\n\
        gate_imap_p95 = 5s\n gate_smtp_p999 = 50ms\n\n\
        user aggressive {\n username_format = t_%03n@x.test\n username_start_index = 501\n count = 10%\n\
        mail_inbox_delivery_interval = 5s\n mail_send_interval = 0\n mail_session_length = 3 min\n}\n\
        user normal {\n username_format = t%n\n count = 90\n}\n\
        client Thunderbird {\n count = 95%\n connection_max_count = 2\n imap_idle = yes\n\
        imap_fetch_manual = RFC822.SIZE BODY[]\n}\n\
        client {\n count = 5%\n protocol = pop3\n pop3_keep_mails = no\n login_interval = 7s\n}\n";

    #[test]
    fn a_profile_says_what_it_says() {
        let profile = Profile::parse(TEXT).expect("the profile is right");
        assert_eq!((profile.users_total, profile.ramp_up), (500, Duration::from_secs(5)));
        assert_eq!(profile.recipients[1], Recipients { percent: 20, least: 2, most: 5 });
        assert_eq!(profile.size, Sizes { median: 15 << 10, p95: 250 << 10, max: 10 << 20 });
        assert_eq!(profile.gates[1].name, "smtp");
        assert!((profile.gates[1].quantile - 0.999).abs() < 1e-9);
        let user = &profile.users[0];
        assert_eq!((user.name.as_str(), user.percent, user.send_interval), ("aggressive", 10, None));
        assert_eq!(user.session_length, Some(Duration::from_secs(180)));
        assert_eq!(
            (user.user_name(7), user.user_name(1234)),
            ("t_007@x.test".into(), "t_1234@x.test".into())
        );
        assert_eq!(profile.users[1].user_name(7), "t7");
        assert_eq!((profile.clients[0].connections, profile.clients[0].idle_percent), (2, 100));
        assert_eq!(profile.clients[1].protocol, Protocol::Pop3);
    }

    #[test]
    fn what_is_published_can_be_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
        let files = std::fs::read_dir(folder).expect("there are profiles");
        let mut count = 0;
        for file in files.flatten() {
            let text = std::fs::read_to_string(file.path()).expect("it is text");
            let profile = Profile::parse(&text).unwrap_or_else(|error| panic!("{:?}: {error}", file.path()));
            assert!(!profile.gates.is_empty() && profile.users[0].delivery_interval.is_some());
            count += 1;
        }
        assert!(count >= 2);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = |from: &str, to: &str| Profile::parse(&TEXT.replacen(from, to, 1)).map(|_| ());
        let at = |line, reason: &str| Err(BadProfile { line, reason: reason.to_owned() });
        let last = TEXT.lines().count();
        assert_eq!(wrong("rampup_time", "rampup"), at(2, "rampup is not known"));
        assert_eq!(wrong("6-50:5", "6-50:6"), at(last, "the shares of recipients are not 100% together"));
        assert_eq!(wrong("5s\n", "5 fortnights\n"), at(7, "fortnights is no unit of time"));
        assert_eq!(wrong("user normal {", "user normal"), at(18, "neither a block nor key = value"));
        assert_eq!(
            wrong("count = 90", "count = 80"),
            at(last, "the counts of user blocks are not 100% together")
        );
        assert_eq!(
            wrong("login_interval = 7s\n}", "login_interval = 7s"),
            at(last - 1, "the block is not closed")
        );
    }
}
