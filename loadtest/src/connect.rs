//! Connections that do next to nothing: how many a server takes, shakes hands with and logs in, a second.
//!
//! Each connection is opened, greeted, perhaps encrypted before and logged in after, and left with the protocol's own
//! goodbye; then the next one begins. So many are under way at once.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;

use rustls::HandshakeKind;

use crate::engine::tls::ClientTls;
use crate::engine::{PortId, Ports, Work};
use crate::record::{Counts, Spectrum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Smtp,
    Imap,
    Pop3,
}

pub struct Plan {
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// TLS from the first byte.
    pub tls: Option<ClientTls>,
    /// Logs in as the first of these, then the second, and so on; none says goodbye at once.
    pub users: Vec<(String, String)>,
    pub at_once: usize,
    pub duration_ns: u64,
}

pub struct Run {
    plan: Plan,
    open: HashMap<PortId, Visit>,
    begun: u64,
    began: u64,
    end: u64,
    is_over: bool,
    pub found: Found,
}

#[derive(Default)]
pub struct Found {
    pub counts: Counts,
    /// From the dial to the goodbye's answer.
    pub whole: Spectrum,
    /// From the dial to the greeting, with TLS.
    pub greeting: Spectrum,
    pub resumed: u64,
    pub errors: BTreeMap<String, u64>,
    pub elapsed_ns: u64,
}

struct Visit {
    began: u64,
    number: u64,
    is_shaken: bool,
    /// How many replies have been waited for.
    step: usize,
    line: Vec<u8>,
}

/// What is still under way at the end has this time.
const GRACE_NS: u64 = 5_000_000_000;

impl Protocol {
    /// What is sent once the reply before it is there; the last is the goodbye.
    fn says(self, step: usize, user: Option<&(String, String)>) -> Option<String> {
        let script = match (self, user) {
            (Self::Smtp, _) => vec!["QUIT\r\n".to_owned()],
            (Self::Pop3, None) => vec!["QUIT\r\n".to_owned()],
            (Self::Pop3, Some((name, pass))) => {
                vec![format!("USER {name}\r\n"), format!("PASS {pass}\r\n"), "QUIT\r\n".to_owned()]
            }
            (Self::Imap, None) => vec!["x LOGOUT\r\n".to_owned()],
            (Self::Imap, Some((name, pass))) => {
                vec![format!("x LOGIN \"{name}\" \"{pass}\"\r\n"), "x LOGOUT\r\n".to_owned()]
            }
        };
        script.into_iter().nth(step)
    }

    /// Whether a line is the reply that is waited for: `None` if it is only on the way to it.
    fn judge(self, step: usize, line: &[u8]) -> Option<bool> {
        match self {
            Self::Smtp if line.get(3) == Some(&b'-') => None,
            Self::Smtp => Some(line.starts_with(b"2")),
            Self::Pop3 => Some(line.starts_with(b"+OK")),
            Self::Imap if step == 0 => Some(line.starts_with(b"* OK")),
            Self::Imap if line.starts_with(b"*") => None,
            Self::Imap => Some(line.starts_with(b"x OK")),
        }
    }
}

impl Run {
    pub fn new(plan: Plan, now: u64) -> Self {
        let end = now.saturating_add(plan.duration_ns);
        Self {
            plan,
            open: HashMap::new(),
            begun: 0,
            began: now,
            end,
            is_over: false,
            found: Found::default(),
        }
    }

    fn fail(&mut self, what: String) {
        self.found.counts.failed += 1;
        *self.found.errors.entry(what).or_default() += 1;
    }

    fn begin(&mut self, ports: &mut Ports, now: u64) {
        self.begun += 1;
        self.found.counts.started += 1;
        match ports.dial(self.plan.address, None) {
            Ok(port) => {
                self.found.counts.connections += 1;
                let visit =
                    Visit { began: now, number: self.begun, is_shaken: false, step: 0, line: Vec::new() };
                self.open.insert(port, visit);
            }
            Err(error) => self.fail(format!("connection: {error}")),
        }
    }

    fn handle_line(&mut self, ports: &mut Ports, port: PortId, line: &[u8], now: u64) {
        let users = &self.plan.users;
        let Some(visit) = self.open.get_mut(&port) else {
            return;
        };
        let user = match users.len() as u64 {
            0 => None,
            count => users.get(usize::try_from(visit.number % count).unwrap_or(0)),
        };
        match self.plan.protocol.judge(visit.step, line) {
            None => {}
            Some(false) => {
                self.close(ports, port);
                self.fail(String::from_utf8_lossy(line).trim_end().chars().take(80).collect());
            }
            Some(true) => {
                if visit.step == 0 {
                    self.found.greeting.record(now - visit.began);
                }
                visit.step += 1;
                match self.plan.protocol.says(visit.step - 1, user) {
                    Some(command) => ports.send(port, &[command.as_bytes()]),
                    None => {
                        self.found.whole.record(now - visit.began);
                        self.found.counts.succeeded += 1;
                        self.close(ports, port);
                    }
                }
            }
        }
    }

    /// Without leaving it in the kernel's tables for a minute.
    fn close(&mut self, ports: &mut Ports, port: PortId) {
        if ports.handshake_kind(port) == Some(HandshakeKind::Resumed) {
            self.found.resumed += 1;
        }
        self.open.remove(&port);
        ports.reset(port);
    }
}

impl Work for Run {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        while now < self.end && self.open.len() < self.plan.at_once {
            let before = self.found.counts.failed;
            self.begin(ports, now);
            if self.found.counts.failed > before {
                break;
            }
        }
        if now >= self.end && (self.open.is_empty() || now >= self.end + GRACE_NS) && !self.is_over {
            self.is_over = true;
            self.found.elapsed_ns = now - self.began;
            self.found.counts.dropped = self.open.len() as u64;
        }
        let end = if now < self.end { self.end } else { self.end + GRACE_NS };
        Some(end.min(now + 100_000_000))
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, _now: u64) {
        let Some(visit) = self.open.get_mut(&port) else {
            return;
        };
        if let Some(tls) = self.plan.tls.as_ref().filter(|_| !visit.is_shaken) {
            visit.is_shaken = true;
            if let Err(error) = ports.begin_client_tls(port, tls) {
                self.close(ports, port);
                self.fail(format!("TLS: {error}"));
            }
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        for byte in bytes {
            let Some(visit) = self.open.get_mut(&port) else {
                break;
            };
            visit.line.push(*byte);
            if *byte == b'\n' {
                let line = std::mem::take(&mut visit.line);
                self.handle_line(ports, port, &line, now);
            }
        }
        bytes.len()
    }

    fn handle_closed(&mut self, _: &mut Ports, port: PortId, error: Option<io::Error>, _: u64) {
        if self.open.remove(&port).is_some() {
            self.fail(
                error.map_or("closed by the server".to_owned(), |error| format!("connection: {error}")),
            );
        }
    }

    fn is_done(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_greeted_and_left() {
        let user = ("u".to_owned(), "p".to_owned());
        let talk = |protocol: Protocol, user: Option<&(String, String)>, replies: &[&str]| {
            let mut step = 0;
            for reply in replies {
                match protocol.judge(step, reply.as_bytes()) {
                    Some(true) => step += 1,
                    Some(false) => return None,
                    None => {}
                }
            }
            Some(protocol.says(step - 1, user).is_none())
        };
        assert_eq!(talk(Protocol::Smtp, None, &["220-a", "220 b", "221 bye"]), Some(true));
        assert_eq!(talk(Protocol::Smtp, None, &["421 busy"]), None);
        assert_eq!(talk(Protocol::Imap, None, &["* OK hi", "* BYE", "x OK"]), Some(true));
        assert_eq!(talk(Protocol::Imap, Some(&user), &["* OK hi", "x OK"]), Some(false));
        assert_eq!(talk(Protocol::Imap, Some(&user), &["* OK hi", "x NO"]), None);
        assert_eq!(talk(Protocol::Pop3, Some(&user), &["+OK", "+OK", "+OK", "+OK"]), Some(true));
        assert_eq!(talk(Protocol::Pop3, Some(&user), &["+OK", "+OK", "-ERR"]), None);
    }
}
