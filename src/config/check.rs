//! From what the text says to what it means, or to what is wrong with it.
//!
//! Invariant: when no problem was added, every value of the [`Config`] is within its type's promise.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;

use crate::config::document::{
    DnsKeys, Document, DomainKeys, LimitsKeys, ListenerKeys, Problems, RelayKeys, TlsKeys, TopKeys,
};
use crate::config::network::{Network, NetworkError};
use crate::config::outbound;
use crate::config::{Config, DnsSettings, Limits, Listener, Protocol, TlsFiles, TlsMode};
use crate::limits::{self, imap, pop3, server, smtp, store};

/// More executors than any machine has cores for is a typing error.
const CORES_MAX: i64 = 1024;

/// A timeout of more than a day is none.
const IDLE_S_MAX: i64 = 86_400;

/// What the document means. The listeners of `fallback` stand in where the document names none.
pub fn config(
    document: Document,
    machine_name: &str,
    fallback: impl FnOnce() -> Vec<Listener>,
    problems: &mut Problems<'_>,
) -> Config {
    let Document { top, listeners, tls, limits, domains, relay, outbound, dns, log } = document;
    let TopKeys { data, user, hostname, cores } = top;
    let limits = self::limits(&limits.unwrap_or_default(), problems);
    Config {
        data: data.map_or_else(|| "./ringpost-data".into(), |data| path(&data, "data", problems)),
        user: user.map(|user| self::user(&user, problems)),
        hostname: hostname.map_or_else(|| machine_name.to_owned(), |name| self::hostname(&name, problems)),
        cores: cores.and_then(|cores| self::cores(&cores, problems)),
        listeners: listeners.map_or_else(fallback, |all| self::listeners(&all, problems)),
        tls: tls.map(|tls| tls_files(&tls, problems)),
        domains: self::domains(&domains, problems),
        relay_allow: relay_allow(&relay.unwrap_or_default(), problems),
        outbound: outbound::check::outbound(outbound, limits.segment_bytes, problems),
        limits,
        dns: self::dns(&dns.unwrap_or_default(), problems),
        log_level: log.and_then(|log| log.level).unwrap_or_default(),
    }
}

/// A domain name in the form in which it is looked up (lower case, A-labels, no trailing dot), or why it is none.
pub fn domain(text: &str) -> Result<String, &'static str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.parse::<IpAddr>().is_ok() || text.starts_with('[') {
        return Err("an IP address stands in its place");
    }
    let ascii = idna::domain_to_ascii(text).map_err(|_| "it has characters that a name cannot have")?;
    // RFC 1035 2.3.4: 255 octets on the wire are 253 as text.
    if ascii.len() > 253 {
        return Err("it is longer than 253 characters");
    }
    for label in ascii.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("between two dots stand 1 to 63 characters");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err("it has characters other than letters, digits and hyphens");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a part of it begins or ends with a hyphen");
        }
    }
    Ok(ascii)
}

pub fn path(text: &Spanned<String>, key: &str, problems: &mut Problems<'_>) -> PathBuf {
    if text.get_ref().is_empty() {
        problems.add(text.span(), format!("`{key}`: found an empty string, expected a path"));
    }
    PathBuf::from(text.get_ref())
}

/// Whether there is such a user is found out by who becomes it.
fn user(name: &Spanned<String>, problems: &mut Problems<'_>) -> String {
    let found = name.get_ref();
    let is_name_byte = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'/';
    if found.is_empty() || found.starts_with('-') || !found.bytes().all(is_name_byte) {
        let expected = "the name of a user of this machine, such as \"ringpost\"";
        problems.add(name.span(), format!("`user`: found {found:?}, expected {expected}"));
    }
    found.clone()
}

fn hostname(name: &Spanned<String>, problems: &mut Problems<'_>) -> String {
    domain_or_problem(name, "hostname", "mail.example.org", problems).unwrap_or_default()
}

pub fn domain_or_problem(
    name: &Spanned<String>,
    key: &str,
    example: &str,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let why = match domain(name.get_ref()) {
        Ok(domain) => return Some(domain),
        Err(why) => why,
    };
    let found = name.get_ref();
    problems.add(name.span(), format!("`{key}`: {found:?} is no domain name such as \"{example}\": {why}"));
    None
}

fn cores(cores: &Spanned<i64>, problems: &mut Problems<'_>) -> Option<NonZeroUsize> {
    let count = number(cores, "cores", 1..=CORES_MAX, problems);
    usize::try_from(count).ok().and_then(NonZeroUsize::new)
}

/// `value` if it lies in `range`; else a problem, and the nearest end of the range.
pub fn number(
    value: &Spanned<i64>,
    key: &str,
    range: RangeInclusive<i64>,
    problems: &mut Problems<'_>,
) -> i64 {
    let found = *value.get_ref();
    if !range.contains(&found) {
        let (least, most) = (range.start(), range.end());
        problems.add(value.span(), format!("`{key}`: found {found}, expected {least} to {most}"));
    }
    found.clamp(*range.start(), *range.end())
}

fn listeners(all: &[ListenerKeys], problems: &mut Problems<'_>) -> Vec<Listener> {
    let mut checked: Vec<Listener> = Vec::new();
    for keys in all {
        let Some(listener) = listener(keys, problems) else {
            continue;
        };
        let is_taken = checked.iter().any(|other| other.address == listener.address);
        if is_taken && listener.address.port() != 0 {
            let address = listener.address;
            let text = format!("`address`: another listener has {address} already, expected one of its own");
            problems.add(keys.address.span(), text);
        }
        checked.push(listener);
    }
    checked
}

fn listener(keys: &ListenerKeys, problems: &mut Problems<'_>) -> Option<Listener> {
    let tls = keys.tls.as_ref().map_or_else(TlsMode::default, |tls| *tls.get_ref());
    let plaintext_login = keys.plaintext_login.as_ref().is_some_and(|login| *login.get_ref());
    let is_mail_in = matches!(keys.protocol, Protocol::Smtp | Protocol::Submission);
    if let Some(login) = keys.plaintext_login.as_ref()
        && plaintext_login
        && is_mail_in
    {
        let text = "`plaintext_login`: only \"imap\" and \"pop3\" can allow it; SMTP takes passwords under TLS \
                    alone";
        problems.add(login.span(), text);
    }
    if keys.protocol == Protocol::Submission
        && tls == TlsMode::None
        && let Some(tls) = &keys.tls
    {
        let text = "`tls`: found \"none\", expected \"starttls\" or \"implicit\": users log in to submit, and only \
                    under TLS";
        problems.add(tls.span(), text);
    }
    let address = socket_address(&keys.address, problems)?;
    Some(Listener { protocol: keys.protocol, address, tls, plaintext_login })
}

fn socket_address(text: &Spanned<String>, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let found = text.get_ref();
    if let Ok(address) = found.parse() {
        return Some(address);
    }
    let hint = match found {
        _ if found.parse::<Ipv6Addr>().is_ok() => "an IPv6 address stands in brackets with a port after it",
        _ if found.parse::<IpAddr>().is_ok() => "the port is missing",
        _ if found.starts_with(':') => "the address is missing; \"0.0.0.0\" is every IPv4 address",
        _ if found.starts_with("localhost") => {
            "names are not looked up; \"127.0.0.1\" and \"[::1]\" are this machine"
        }
        _ => "expected an IP address and a port",
    };
    problems.add(
        text.span(),
        format!("`address`: found {found:?}: {hint}, as in \"127.0.0.1:2525\" or \"[::1]:2525\""),
    );
    None
}

fn tls_files(keys: &TlsKeys, problems: &mut Problems<'_>) -> TlsFiles {
    let certificate = path(&keys.certificate, "certificate", problems);
    TlsFiles { certificate, key: path(&keys.key, "key", problems) }
}

fn limits(keys: &LimitsKeys, problems: &mut Problems<'_>) -> Limits {
    let mut limit = |value: &Option<Spanned<i64>>, key: &str, least: u64, most: u64, default: u64| {
        let (least, most) = (signed(least), signed(most));
        let found = value.as_ref().map(|value| number(value, key, least..=most, problems));
        found.and_then(|found| u64::try_from(found).ok()).unwrap_or(default)
    };
    let day = IDLE_S_MAX.unsigned_abs();
    let account_bytes = limit(&keys.account_bytes, "account_bytes", 0, u64::MAX, 0);
    Limits {
        message_bytes: limit(
            &keys.message_bytes,
            "message_bytes",
            smtp::MESSAGE_BYTES_LEAST,
            limits::MESSAGE_BYTES_MOST,
            limits::MESSAGE_BYTES_MAX,
        ),
        recipients: index(limit(
            &keys.recipients,
            "recipients",
            smtp::RECIPIENTS_LEAST as u64,
            smtp::RECIPIENTS_MAX as u64,
            smtp::RECIPIENTS_MAX as u64,
        )),
        sessions: index(limit(&keys.sessions, "sessions", 1, server::SESSIONS_MOST, server::SESSIONS_MAX)),
        sessions_per_address: index(limit(
            &keys.sessions_per_address,
            "sessions_per_address",
            1,
            server::SESSIONS_MOST,
            server::SESSIONS_PER_ADDRESS_MAX,
        )),
        session_memory_bytes: index(limit(
            &keys.session_memory_bytes,
            "session_memory_bytes",
            server::SESSION_MEMORY_BYTES_LEAST,
            server::SESSION_MEMORY_BYTES_MOST,
            server::SESSION_MEMORY_BYTES_MAX,
        )),
        smtp_idle_s: limit(&keys.smtp_idle_s, "smtp_idle_s", smtp::IDLE_S, day, smtp::IDLE_S),
        pop3_idle_s: limit(&keys.pop3_idle_s, "pop3_idle_s", pop3::IDLE_S, day, pop3::IDLE_S),
        imap_idle_s: limit(&keys.imap_idle_s, "imap_idle_s", 30 * 60, day, imap::IDLE_S),
        login_s: limit(&keys.login_s, "login_s", 10, 600, server::LOGIN_S),
        checkpoint_bytes: limit(
            &keys.checkpoint_bytes,
            "checkpoint_bytes",
            store::CHECKPOINT_BYTES_LEAST,
            store::CHECKPOINT_BYTES_MOST,
            store::CHECKPOINT_BYTES,
        ),
        segment_bytes: limit(
            &keys.segment_bytes,
            "segment_bytes",
            store::SEGMENT_BYTES_LEAST,
            store::SEGMENT_BYTES_MOST,
            store::SEGMENT_BYTES_MAX,
        ),
        reserve_bytes: limit(
            &keys.reserve_bytes,
            "reserve_bytes",
            0,
            store::RESERVE_BYTES_MOST,
            store::RESERVE_BYTES,
        ),
        clean_bytes_per_s: limit(
            &keys.clean_bytes_per_s,
            "clean_bytes_per_s",
            store::CLEAN_BYTES_PER_S_LEAST,
            store::CLEAN_BYTES_PER_S_MOST,
            store::CLEAN_BYTES_PER_S,
        ),
        account_bytes: (account_bytes != 0).then_some(account_bytes),
    }
}

pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count that is within the bounds of `limits`, all of which fit.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn domains(all: &[DomainKeys], problems: &mut Problems<'_>) -> Vec<String> {
    let mut checked = Vec::new();
    for keys in all {
        if let Some(name) = domain_or_problem(&keys.name, "name", "example.org", problems) {
            add_once(&mut checked, name, keys.name.span(), problems);
        }
    }
    checked
}

fn add_once(names: &mut Vec<String>, name: String, span: Range<usize>, problems: &mut Problems<'_>) {
    if names.contains(&name) {
        problems.add(span, format!("{name:?} is there twice, expected each domain once"));
        return;
    }
    names.push(name);
}

fn relay_allow(keys: &RelayKeys, problems: &mut Problems<'_>) -> Vec<Network> {
    let mut networks = Vec::new();
    for text in &keys.allow {
        let found = text.get_ref();
        let problem = match found.parse() {
            Ok(network) => {
                networks.push(network);
                continue;
            }
            Err(NetworkError::HostBits(meant)) => format!("expected \"{meant}\", or a longer prefix"),
            Err(NetworkError::Prefix) => "expected at most 32 bits after the slash, 128 for IPv6".to_owned(),
            Err(NetworkError::Address) => {
                "expected an address and bits, as in \"192.0.2.0/24\" or \"::1/128\"".to_owned()
            }
        };
        problems.add(text.span(), format!("`allow`: found {found:?}, {problem}"));
    }
    networks
}

fn dns(keys: &DnsKeys, problems: &mut Problems<'_>) -> DnsSettings {
    let mut servers = Vec::new();
    for text in &keys.servers {
        match parse_name_server(text.get_ref()) {
            Some(server) => servers.push(server),
            None => problems.add(
                text.span(),
                format!(
                    "`servers`: found {:?}, expected an IP address and perhaps a port, as in \"127.0.0.1\" or \
                     \"[::1]:53\"",
                    text.get_ref()
                ),
            ),
        }
    }
    if let Some(surplus) = keys.servers.get(limits::dns::SERVERS_MAX) {
        let most = limits::dns::SERVERS_MAX;
        problems.add(surplus.span(), format!("`servers`: expected at most {most} name servers"));
    }
    let mut number = |value: &Option<Spanned<i64>>, key, most: u64| {
        let found = value.as_ref().map(|value| number(value, key, 1..=signed(most), problems))?;
        u64::try_from(found).ok()
    };
    DnsSettings {
        servers,
        timeout_s: number(&keys.timeout_s, "timeout_s", limits::dns::TIMEOUT_S_MOST),
        attempts: number(&keys.attempts, "attempts", limits::dns::ATTEMPTS_MOST),
    }
}

/// `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1` or `[2001:db8::1]:53`.
fn parse_name_server(text: &str) -> Option<SocketAddr> {
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) => SocketAddr::new(text.parse().ok()?, limits::dns::PORT),
    };
    (address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::{domain, parse_name_server};

    #[test]
    fn domains() {
        let long = format!("{}.example", "a".repeat(64));
        let table = [
            ("Example.ORG", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("localhost", Some("localhost")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("a_b.example", None),
            ("-a.example", None),
            ("a..example", None),
            ("", None),
            (".", None),
            ("192.0.2.1", None),
            ("[192.0.2.1]", None),
            ("a b", None),
            ("user@example.org", None),
            (long.as_str(), None),
        ];
        for (text, expected) in table {
            assert_eq!(domain(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn name_servers() {
        let table = [
            ("127.0.0.1:5353", Some("127.0.0.1:5353")),
            ("127.0.0.1", Some("127.0.0.1:53")),
            ("::1", Some("[::1]:53")),
            ("[::1]:53", Some("[::1]:53")),
            ("127.0.0.1:0", None),
            ("ns.example.net", None),
            ("ns.example.net:53", None),
            ("", None),
        ];
        for (text, expected) in table {
            let found = parse_name_server(text).map(|server| server.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
