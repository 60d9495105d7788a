//! What a remote server saw: every connection, every command, every message it took.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

/// Commands kept for one connection; a test that looks at more has gone wrong.
const COMMANDS_MAX: usize = 4096;

#[derive(Default)]
pub struct Ledger {
    pub connections: Vec<Connection>,
    pub arrivals: Vec<Arrival>,
    /// How often each recipient was asked for.
    pub asked: HashMap<String, usize>,
    /// The most connections that were open at a time.
    pub open_most: usize,
    open: usize,
}

#[derive(Clone, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub opened: Instant,
    pub closed: Option<Instant>,
    /// Lines, without CRLF, but for the messages.
    pub commands: Vec<String>,
    /// Messages that were taken.
    pub messages: usize,
}

/// How a message's bytes came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    Data,
    Bdat,
}

/// A message that was taken for at least one recipient.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub connection: usize,
    pub at: Instant,
    /// Whole lines.
    pub mail: String,
    pub rcpt: Vec<String>,
    /// Those who have the message now.
    pub taken_for: Vec<String>,
    pub content: Vec<u8>,
    pub carrier: Carrier,
    pub is_encrypted: bool,
    pub login: Option<String>,
}

impl Ledger {
    /// Notes a new connection; its number.
    pub fn open(&mut self, peer: SocketAddr, now: Instant) -> usize {
        self.open += 1;
        self.open_most = self.open_most.max(self.open);
        let connection = Connection { peer, opened: now, closed: None, commands: Vec::new(), messages: 0 };
        self.connections.push(connection);
        self.connections.len() - 1
    }

    pub fn close(&mut self, number: usize, now: Instant) {
        self.open -= 1;
        self.connections[number].closed = Some(now);
    }

    pub fn command(&mut self, connection: usize, line: &str) {
        let commands = &mut self.connections[connection].commands;
        if commands.len() < COMMANDS_MAX {
            commands.push(line.to_owned());
        }
    }

    /// How often the recipient was asked for before.
    pub fn ask(&mut self, recipient: &str) -> usize {
        let times = self.asked.entry(recipient.to_owned()).or_default();
        *times += 1;
        *times - 1
    }

    pub fn arrive(&mut self, arrival: Arrival) {
        self.connections[arrival.connection].messages += 1;
        self.arrivals.push(arrival);
    }

    /// All commands of all connections that begin with this word.
    pub fn commands(&self, verb: &str) -> Vec<String> {
        let all = self.connections.iter().flat_map(|connection| &connection.commands);
        all.filter(|line| line.starts_with(verb)).cloned().collect()
    }
}

impl Arrival {
    pub fn has(&self, recipient: &str) -> bool {
        self.taken_for.iter().any(|taken| taken == recipient)
    }
}
