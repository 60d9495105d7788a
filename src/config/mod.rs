//! The configuration: TOML text in, a [`Config`] that cannot be invalid out.
//!
//! `document` cuts the text into sections and reads each with serde, so that one mistake does not hide the
//! next; `check` turns what was read into the types below; `default.toml` is the embedded default, the text
//! that `ringpost init` fills in, and the reference that `docs/configuration.md` repeats key by key.
//!
//! Invariants: whoever holds a `Config` checks nothing again: addresses are parsed, names are in the form in
//! which they are looked up, every limit is within its bounds. A key that is not known is an error. Every
//! problem names its line, its column, what was found and what was expected. Nothing here opens a socket, and
//! only `load` and `machine_name` read a file.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

mod check;
mod document;
mod network;
pub mod outbound;
#[cfg(test)]
mod reference;

pub use network::Network;
pub use outbound::Outbound;

use document::Problems;

/// The commented default: what `serve` runs on without a file, and what `init` fills in.
pub const DEFAULT_TEXT: &str = include_str!("default.toml");

/// Where `init` writes and `config check` looks when no file is named.
pub const FILE_NAME: &str = "ringpost.toml";

/// All that an operator may decide, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The data directory, as written: relative to the working directory.
    pub data: PathBuf,
    /// Whom a process becomes that is started as root; it may not exist here.
    pub user: Option<String>,
    /// The name in banners, EHLO and Received; the machine's own if the file says none. Lower case, A-labels.
    pub hostname: String,
    /// Executors to start; `None` is one per allowed CPU.
    pub cores: Option<NonZeroUsize>,
    /// At least one; no two on the same address (port 0 excepted).
    pub listeners: Vec<Listener>,
    /// `None`: the local CA under the data directory.
    pub tls: Option<TlsFiles>,
    pub limits: Limits,
    /// Domains that are local even before they have an account; lower case, A-labels, each once.
    pub domains: Vec<String>,
    /// Clients that may send to other domains without logging in. Empty by default.
    pub relay_allow: Vec<Network>,
    /// How mail leaves.
    pub outbound: Outbound,
    pub dns: DnsSettings,
    pub log_level: LogLevel,
}

/// One address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub tls: TlsMode,
    /// IMAP and POP3: passwords are taken in the clear from anywhere, not from loopback alone.
    pub plaintext_login: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Smtp,
    Submission,
    Imap,
    Pop3,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    None,
    /// On STARTTLS or STLS.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
}

/// A certificate of the operator's, PEM files both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Bounds that the operator may move; `crate::limits` has their defaults and reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest message: SIZE, APPENDLIMIT.
    pub message_bytes: u64,
    /// Recipients of one message.
    pub recipients: usize,
    /// Sessions of the whole server.
    pub sessions: usize,
    /// Sessions of one client address (IPv4) or /64 (IPv6); loopback is not counted.
    pub sessions_per_address: usize,
    /// What one session may hold in memory for commands, literals and replies that wait.
    pub session_memory_bytes: usize,
    /// Seconds without a command before the session ends; at least what the RFCs ask for.
    pub smtp_idle_s: u64,
    pub pop3_idle_s: u64,
    pub imap_idle_s: u64,
    /// Seconds until an IMAP or POP3 client must have logged in.
    pub login_s: u64,
    /// Mail one account may keep; `None` is no bound.
    pub account_bytes: Option<u64>,
    /// Bytes appended to a log after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// The largest segment of a log.
    pub segment_bytes: u64,
    /// What each log keeps ready for what makes room.
    pub reserve_bytes: u64,
    /// How fast what is live is written again.
    pub clean_bytes_per_s: u64,
}

/// Whom to ask about names, and how long. What is not said here is as `/etc/resolv.conf` has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DnsSettings {
    /// In the order in which they are asked; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Seconds that one server has for one answer; at least 1.
    pub timeout_s: Option<u64>,
    /// Rounds through the servers that give no answer; at least 1.
    pub attempts: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// One mistake in a configuration text. Lines and columns start at 1; columns count characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    /// What was found and what was expected.
    pub text: String,
}

/// Why there is no [`Config`].
#[derive(Debug)]
pub enum ConfigError {
    Unreadable {
        file: PathBuf,
        error: io::Error,
    },
    /// At least one problem, in the order of the text.
    Invalid {
        file: PathBuf,
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads and checks `file`; without one, the embedded default.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Ok(Self::embedded(&machine_name()));
        };
        let text = fs::read_to_string(file)
            .map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        Self::parse(&text, &machine_name())
            .map_err(|problems| ConfigError::Invalid { file: file.to_owned(), problems })
    }

    /// The configuration that `text` describes; `machine_name` stands in for a missing `hostname`.
    pub fn parse(text: &str, machine_name: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::of(text);
        let document = document::read(text, &mut problems);
        let fallback = || Self::embedded(machine_name).listeners;
        let config = check::config(document, machine_name, fallback, &mut problems);
        let problems = problems.into_sorted();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// What the server runs on without a file.
    pub fn embedded(machine_name: &str) -> Self {
        Self::parse(DEFAULT_TEXT, machine_name).expect("a test parses the embedded default")
    }
}

/// A domain name in the form in which it is looked up (lower case, A-labels, no trailing dot), or why it is none.
pub fn domain_name(text: &str) -> Result<String, &'static str> {
    check::domain(text)
}

/// The machine's own name, or `localhost` where it has none that could be a domain.
pub fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    check::domain(name.trim()).unwrap_or_else(|_| "localhost".to_owned())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

impl fmt::Display for ConfigError {
    /// A line for each problem, `FILE:LINE:COLUMN: what is wrong`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                write!(
                    f,
                    "{}: cannot be read ({error}); name another file with --config, or make one with `ringpost init`",
                    file.display()
                )
            }
            Self::Invalid { file, problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    write!(f, "{newline}{}:{problem}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use super::{Config, ConfigError, DEFAULT_TEXT, DnsSettings, Limits, LogLevel, Protocol, TlsMode};
    use crate::limits;

    #[test]
    fn the_embedded_default() {
        let config = Config::embedded("here.example");
        let expected = [
            (Protocol::Smtp, 2525, TlsMode::Starttls),
            (Protocol::Submission, 2587, TlsMode::Starttls),
            (Protocol::Submission, 2465, TlsMode::Implicit),
            (Protocol::Imap, 2143, TlsMode::Starttls),
            (Protocol::Imap, 2993, TlsMode::Implicit),
            (Protocol::Pop3, 2110, TlsMode::Starttls),
            (Protocol::Pop3, 2995, TlsMode::Implicit),
        ];
        let mut listeners = config.listeners.iter();
        for (protocol, port, tls) in expected {
            for ip in ["127.0.0.1", "[::1]"] {
                let listener = listeners.next().unwrap();
                let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
                assert_eq!((listener.protocol, listener.address, listener.tls), (protocol, address, tls));
                assert!(!listener.plaintext_login);
            }
        }
        assert!(listeners.next().is_none());
        assert_eq!(config.data, Path::new("./ringpost-data"));
        assert_eq!(
            (config.hostname.as_str(), config.cores, config.log_level),
            ("here.example", None, LogLevel::Info)
        );
        assert!(config.tls.is_none() && config.domains.is_empty() && config.user.is_none());
        assert!(config.relay_allow.is_empty() && config.outbound.routes.is_empty());
        assert_eq!(config.dns, DnsSettings::default());
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("", "here").unwrap(), Config::parse(DEFAULT_TEXT, "here").unwrap());
        let Limits { message_bytes, recipients, imap_idle_s, account_bytes, .. } =
            Config::parse("", "here").unwrap().limits;
        assert_eq!((message_bytes, recipients), (limits::MESSAGE_BYTES_MAX, limits::smtp::RECIPIENTS_MAX));
        assert_eq!((imap_idle_s, account_bytes), (limits::imap::IDLE_S, None));
    }

    #[test]
    fn a_full_file() {
        let text = r#"
            data = "/var/lib/ringpost"
            user = "ringpost"
            hostname = "MAIL.Example.Org."
            cores = 4
            [[listener]]
            protocol = "imap"
            address = "[2001:db8::1]:143"
            tls = "none"
            plaintext_login = true
            [tls]
            certificate = "c.pem"
            key = "k.pem"
            [limits]
            message_bytes = 0x100000
            account_bytes = 5_000_000_000
            [[domain]]
            name = "Example.org"
            [[domain]]
            name = "bücher.example"
            [relay]
            allow = ["127.0.0.0/8", "::1"]
            [[route]]
            domain = "relay.test"
            to = ["127.0.0.1:2526", "mx.example.net"]
            [[route]]
            domain = "*"
            to = ["[::1]:2526"]
            [dns]
            servers = ["192.0.2.53", "[::1]:5353"]
            attempts = 3
            [log]
            level = "debug"
        "#;
        let config = Config::parse(text, "here").unwrap();
        assert_eq!((config.hostname.as_str(), config.cores.map(usize::from)), ("mail.example.org", Some(4)));
        assert_eq!(config.user.as_deref(), Some("ringpost"));
        assert!(config.listeners.len() == 1 && config.listeners[0].plaintext_login);
        assert_eq!(
            (config.limits.message_bytes, config.limits.account_bytes),
            (1 << 20, Some(5_000_000_000))
        );
        assert_eq!(config.domains, ["example.org", "xn--bcher-kva.example"]);
        assert!(config.relay_allow[1].contains("::1".parse().unwrap()));
        let routes: Vec<String> = config.outbound.routes.iter().map(ToString::to_string).collect();
        assert_eq!(
            routes,
            ["for domain relay.test: to 127.0.0.1:2526, mx.example.net:25", "for domain *: to [::1]:2526"]
        );
        let servers = ["192.0.2.53:53", "[::1]:5353"].map(|server| server.parse().unwrap());
        assert_eq!(config.dns, DnsSettings { servers: servers.to_vec(), timeout_s: None, attempts: Some(3) });
        assert_eq!(config.log_level, LogLevel::Debug);
    }

    /// Each text with all that is said about it.
    #[test]
    fn problems_say_where_and_what() {
        let table: [(&str, &[&str]); 29] = [
            ("dta = \"x\"", &["1:1: unknown key `dta` at the top of the file; did you mean `data`?"]),
            ("data = 5", &["1:8: `data`: found integer `5`, expected a string"]),
            ("data = \"\"", &["1:8: `data`: found an empty string, expected a path"]),
            (
                "user = \"a:b\"",
                &[
                    "1:8: `user`: found \"a:b\", expected the name of a user of this machine, such as \"ringpost\"",
                ],
            ),
            ("cores = \"two\"", &["1:9: `cores`: found string \"two\", expected a whole number"]),
            ("cores = 0", &["1:9: `cores`: found 0, expected 1 to 1024"]),
            (
                "[log]\nlevel = \"loud\"",
                &["2:9: `level`: found `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`"],
            ),
            ("[log]\ndata = \"x\"", &["2:1: `data` belongs at the top of the file, above the first section"]),
            (
                "recipients = 200",
                &["1:1: unknown key `recipients` at the top of the file; it belongs in `limits`"],
            ),
            (
                "frobnicate = 1",
                &[
                    "1:1: unknown key `frobnicate` at the top of the file; expected one of data, user, hostname, \
                 cores, listener, tls, limits, domain, relay, queue, route, source, pool, shaping, rule, tenant, tenants, \
                 bounce_class, events, dns, log",
                ],
            ),
            (
                "hostname = \"a b\"",
                &["1:12: `hostname`: \"a b\" is no domain name such as \"mail.example.org\": it has \
                     characters other than letters, digits and hyphens"],
            ),
            (
                "[listener]\nprotocol = \"smtp\"",
                &["1:1: `listener` is a list of sections: write [[listener]] above its keys"],
            ),
            ("log = 3", &["1:7: found a whole number where the section `log` was expected"]),
            ("[[listener]]\nprotocol = \"smtp\"", &["1:1: the section `listener` needs the key `address`"]),
            (
                "[[listener]]\nprotocol = \"smtps\"\naddress = \"x\"",
                &["2:12: `protocol`: found `smtps`, expected one of `smtp`, `submission`, `imap`, `pop3`"],
            ),
            (
                "[[listener]]\nprotocol = \"smtp\"\naddress = \"localhost:25\"",
                &[
                    "3:11: `address`: found \"localhost:25\": names are not looked up; \"127.0.0.1\" and \"[::1]\" \
                     are this \
                 machine, as in \"127.0.0.1:2525\" or \"[::1]:2525\"",
                ],
            ),
            (
                "[[listener]]\nprotocol = \"smtp\"\naddress = \"::1\"",
                &[
                    "3:11: `address`: found \"::1\": an IPv6 address stands in brackets with a port after it, as in \
                 \"127.0.0.1:2525\" or \"[::1]:2525\"",
                ],
            ),
            (
                "[[listener]]\nprotocol = \"submission\"\naddress = \"[::1]:25\"\ntls = \"none\"\n\
                 plaintext_login = true",
                &[
                    "4:7: `tls`: found \"none\", expected \"starttls\" or \"implicit\": users log in to \
                     submit, and only under TLS",
                    "5:19: `plaintext_login`: only \"imap\" and \"pop3\" can allow it; SMTP takes \
                     passwords under TLS alone",
                ],
            ),
            (
                "[[listener]]\nprotocol = \"smtp\"\naddress = \"[::1]:25\"\n\
                 [[listener]]\nprotocol = \"imap\"\naddress = \"[0::1]:25\"",
                &["6:11: `address`: another listener has [::1]:25 already, expected one of its own"],
            ),
            ("[tls]\nkey = \"k\"", &["1:1: the section `tls` needs the key `certificate`"]),
            (
                "[limits]\nimap_idle_s = 60\nrecipients = -1\n",
                &[
                    "2:15: `imap_idle_s`: found 60, expected 1800 to 86400",
                    "3:14: `recipients`: found -1, expected 100 to 1000",
                ],
            ),
            (
                "[limits]\nrecipient = 100\nsessions = \"x\"\nlogin_s = true",
                &[
                    "2:1: unknown key `recipient` in `limits`; did you mean `recipients`?",
                    "3:12: `sessions`: found string \"x\", expected a whole number",
                    "4:11: `login_s`: found boolean `true`, expected a whole number",
                ],
            ),
            (
                "[[domain]]\nname = \"a.example\"\n[[domain]]\nname = \"A.example.\"",
                &["4:8: \"a.example\" is there twice, expected each domain once"],
            ),
            (
                "[relay]\nallow = [\"10.0.0.1/8\", \"all\", \"::/200\"]",
                &[
                    "2:10: `allow`: found \"10.0.0.1/8\", expected \"10.0.0.0/8\", or a longer prefix",
                    "2:24: `allow`: found \"all\", expected an address and bits, as in \"192.0.2.0/24\" or \"::1/128\"",
                    "2:31: `allow`: found \"::/200\", expected at most 32 bits after the slash, 128 for IPv6",
                ],
            ),
            (
                "[relay]\nallow = \"127.0.0.0/8\"",
                &["2:9: `allow`: found string \"127.0.0.0/8\", expected a list"],
            ),
            (
                "[[route]]\ndomain = \"a.example\"\nto = []",
                &["3:6: `to`: found an empty list, expected at least one host"],
            ),
            (
                "[[route]]\ndomain = \"a.example\"\nto = [\"a b\"]",
                &["3:7: `to`: found \"a b\", expected a host and perhaps a port, as in \"mx.example.net\", \
                     \"192.0.2.1:2526\" \
                 or \"[2001:db8::1]:25\""],
            ),
            (
                "[dns]\nservers = [\"ns.example.net\"]\ntimeout_s = 0\nattempts = 99",
                &[
                    "2:12: `servers`: found \"ns.example.net\", expected an IP address and perhaps a port, as in \
                     \"127.0.0.1\" or \"[::1]:53\"",
                    "3:13: `timeout_s`: found 0, expected 1 to 60",
                    "4:12: `attempts`: found 99, expected 1 to 10",
                ],
            ),
            ("data = \"ä\" x\n", &["1:12: unexpected key or value, expected newline, `#`"]),
        ];
        for (text, expected) in table {
            let problems = Config::parse(text, "here").unwrap_err();
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(lines, expected, "{text}");
        }
    }

    #[test]
    fn files() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("c.toml");
        assert!(matches!(Config::load(Some(&path)), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&path, "cores = 0\n\nlogg = 1").unwrap();
        let text = Config::load(Some(&path)).unwrap_err().to_string();
        let file = path.display();
        assert_eq!(
            text,
            format!(
                "{file}:1:9: `cores`: found 0, expected 1 to 1024\n\
                 {file}:3:1: unknown key `logg` at the top of the file; did you mean `log`?"
            )
        );
        assert!(!Config::load(None).unwrap().hostname.is_empty());
    }
}
