//! A sink's thread: the dialogue with all its clients.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::{PortId, Ports, Work};
use crate::ledger::{Durability, Line, Writer};
use crate::plan::random::Random;
use crate::sink::conduct::{Conduct, Fate, Place};
use crate::sink::data::{Data, Taken};
use crate::sink::serve::{Counts, LOOK};

pub struct Receiver {
    conduct: Arc<Conduct>,
    counts: Arc<Counts>,
    ledger: Option<Writer>,
    random: Random,
    clients: HashMap<PortId, Client>,
    /// Answers that are late on purpose, by the token of their timer.
    late: HashMap<u64, Late>,
    tokens: u64,
    looked_at: u64,
}

struct Client {
    port: PortId,
    phase: Phase,
    /// From MAIL on.
    recipients: Option<Vec<String>>,
    /// Of a message whose last chunk is still to come.
    chunks: Option<Box<Data>>,
    /// Replies to what has been read of the input.
    replies: Vec<u8>,
    /// Nothing more is read before a late answer has gone out.
    is_waiting: bool,
    is_lmtp: bool,
}

impl Client {
    fn new(port: PortId) -> Self {
        Self {
            port,
            phase: Phase::Commands,
            recipients: None,
            chunks: None,
            replies: Vec::new(),
            is_waiting: false,
            is_lmtp: false,
        }
    }
}

#[derive(Default)]
enum Phase {
    #[default]
    Commands,
    Data(Box<Data>),
    Chunk {
        data: Box<Data>,
        left: usize,
        is_last: bool,
    },
}

enum Late {
    Answer(PortId, Vec<u8>),
    /// Reading goes on.
    Release(PortId),
}

/// What to do with the rest of the input.
#[derive(PartialEq)]
enum Next {
    GoOn,
    Wait,
    Close,
}

const COMMAND_BYTES_MAX: usize = 64 << 10;

impl Receiver {
    pub fn new(
        conduct: Arc<Conduct>,
        counts: Arc<Counts>,
        ledger: Option<(&Path, Durability)>,
        seed: u64,
    ) -> io::Result<Self> {
        let ledger = ledger.map(|(path, durability)| Writer::open(path, durability)).transpose()?;
        Ok(Self {
            conduct,
            counts,
            ledger,
            random: Random::new(seed, 7),
            clients: HashMap::new(),
            late: HashMap::new(),
            tokens: 0,
            looked_at: 0,
        })
    }

    pub fn end(&mut self) -> io::Result<()> {
        self.ledger.as_mut().map_or(Ok(()), Writer::flush)
    }

    /// Takes as much of the input as can be taken now.
    fn read(&mut self, ports: &mut Ports, client: &mut Client, input: &[u8]) -> (usize, Next) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (count, next) = match &mut client.phase {
                Phase::Commands => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        let is_long = rest.len() > COMMAND_BYTES_MAX;
                        return (used, if is_long { Next::Close } else { Next::GoOn });
                    };
                    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                    (end + 1, self.handle_command(ports, client, line))
                }
                Phase::Data(data) => {
                    let (count, is_over) = data.take_dotted(rest);
                    if !is_over {
                        return (used + count, Next::GoOn);
                    }
                    let data = mem::take(data);
                    client.phase = Phase::Commands;
                    (count, self.handle_end(ports, client, *data))
                }
                Phase::Chunk { data, left, is_last } => {
                    let count = rest.len().min(*left);
                    data.take_plain(&rest[..count]);
                    *left -= count;
                    if *left > 0 {
                        return (used + count, Next::GoOn);
                    }
                    let (data, is_last) = (mem::take(data), *is_last);
                    client.phase = Phase::Commands;
                    let next = match is_last {
                        true => self.handle_end(ports, client, *data),
                        false => {
                            client.chunks = Some(data);
                            client.replies.extend_from_slice(b"250 2.0.0 Go on\r\n");
                            Next::GoOn
                        }
                    };
                    (count, next)
                }
            };
            used += count;
            if next != Next::GoOn {
                return (used, next);
            }
        }
    }

    fn handle_command(&mut self, ports: &mut Ports, client: &mut Client, line: &[u8]) -> Next {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" | b"LHLO" => {
                client.is_lmtp = verb == b"LHLO";
                let hello = self.hello();
                self.answer(ports, client, Place::Hello, hello.as_bytes())
            }
            b"HELO" => {
                let hello = format!("250 {}\r\n", self.conduct.hostname);
                self.answer(ports, client, Place::Hello, hello.as_bytes())
            }
            b"MAIL" => match self.conduct.fate(Place::Mail, &mut self.random) {
                Some(fate) => self.turn_down(ports, client, Place::Mail, fate),
                None => {
                    client.recipients = Some(Vec::new());
                    self.answer_when_due(ports, client, Place::Mail, b"250 2.1.0 Fine\r\n")
                }
            },
            b"RCPT" => self.handle_recipient(ports, client, line),
            b"DATA" if client.recipients.as_ref().is_none_or(Vec::is_empty) => {
                client.replies.extend_from_slice(b"503 5.5.1 Nobody to send it to\r\n");
                Next::GoOn
            }
            b"DATA" => match self.conduct.fate(Place::Data, &mut self.random) {
                Some(fate) => self.turn_down(ports, client, Place::Data, fate),
                None => {
                    client.phase = Phase::Data(Box::default());
                    self.answer_when_due(ports, client, Place::Data, b"354 Go ahead\r\n")
                }
            },
            b"BDAT" => self.handle_chunk(client, line),
            b"RSET" => {
                client.recipients = None;
                client.chunks = None;
                client.replies.extend_from_slice(b"250 2.0.0 Forgotten\r\n");
                Next::GoOn
            }
            b"QUIT" => {
                client.replies.extend_from_slice(b"221 2.0.0 Bye\r\n");
                Next::Close
            }
            b"NOOP" | b"XFOR" | b"XCLI" => {
                client.replies.extend_from_slice(b"250 2.0.0 Fine\r\n");
                Next::GoOn
            }
            _ => {
                client.replies.extend_from_slice(b"500 5.5.2 What?\r\n");
                Next::GoOn
            }
        }
    }

    fn hello(&self) -> String {
        let listed = ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE"];
        let shown: Vec<&str> =
            listed.into_iter().filter(|name| !self.conduct.hidden.contains(name)).collect();
        let mut text = format!("250-{}\r\n", self.conduct.hostname);
        for (place, name) in shown.iter().enumerate() {
            let separator = if place + 1 == shown.len() { ' ' } else { '-' };
            text.push_str(&format!("250{separator}{name}\r\n"));
        }
        match shown.is_empty() {
            true => format!("250 {}\r\n", self.conduct.hostname),
            false => text,
        }
    }

    fn handle_recipient(&mut self, ports: &mut Ports, client: &mut Client, line: &[u8]) -> Next {
        if client.recipients.is_none() {
            client.replies.extend_from_slice(b"503 5.5.1 Who sends it?\r\n");
            return Next::GoOn;
        }
        let text = String::from_utf8_lossy(line);
        let address =
            text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(address, _)| address);
        let Some(address) = address.map(str::to_owned) else {
            client.replies.extend_from_slice(b"501 5.1.3 Who?\r\n");
            return Next::GoOn;
        };
        // Magic names, as in KumoMTA's sink.
        let magic = match address.split('@').next() {
            Some("tempfail") => Some(Fate::Temporary),
            Some("permfail") => Some(Fate::Permanent),
            _ => None,
        };
        if let Some(fate) = magic {
            let refusal = self.conduct.refusal(Place::Recipient, fate, &mut self.random);
            self.counts.refuse(&format!("rcpt {}", &refusal[..3]));
            client.replies.extend_from_slice(format!("{refusal}\r\n").as_bytes());
            return Next::GoOn;
        }
        match self.conduct.fate(Place::Recipient, &mut self.random) {
            Some(fate) => self.turn_down(ports, client, Place::Recipient, fate),
            None => {
                client.recipients.get_or_insert_default().push(address);
                self.answer_when_due(ports, client, Place::Recipient, b"250 2.1.5 Fine\r\n")
            }
        }
    }

    /// `BDAT size [LAST]`
    fn handle_chunk(&mut self, client: &mut Client, line: &[u8]) -> Next {
        let text = String::from_utf8_lossy(line).to_ascii_uppercase();
        let mut words = text.split_ascii_whitespace().skip(1);
        let Some(left) = words.next().and_then(|size| size.parse::<usize>().ok()) else { return Next::Close };
        let is_last = words.next() == Some("LAST");
        let data = client.chunks.take().unwrap_or_default();
        client.phase = Phase::Chunk { data, left, is_last };
        Next::GoOn
    }

    fn handle_end(&mut self, ports: &mut Ports, client: &mut Client, data: Data) -> Next {
        let recipients = client.recipients.take().unwrap_or_default();
        if recipients.is_empty() {
            client.replies.extend_from_slice(b"503 5.5.1 Nobody to send it to\r\n");
            return Next::GoOn;
        }
        if let Some(fate) = self.conduct.fate(Place::Dot, &mut self.random) {
            return self.turn_down(ports, client, Place::Dot, fate);
        }
        let answers = if client.is_lmtp { recipients.len() } else { 1 };
        let taken = data.end();
        self.count(&taken, recipients.len());
        self.write(ports.now(), &taken, &recipients);
        let queue_id = self.counts.messages.load(Ordering::Relaxed);
        let answer = format!("250 2.0.0 Taken, queued as {queue_id:X}\r\n").repeat(answers);
        self.answer_when_due(ports, client, Place::Dot, answer.as_bytes())
    }

    fn count(&self, taken: &Taken, copies: usize) {
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.counts.messages, 1);
        add(&self.counts.copies, copies as u64);
        add(&self.counts.bytes, taken.bytes);
        match &taken.mark {
            None => add(&self.counts.unmarked, 1),
            Some(mark) => add(&self.counts.corrupted, u64::from(mark.checksum != taken.checksum)),
        };
    }

    fn write(&mut self, now: u64, taken: &Taken, recipients: &[String]) {
        let (Some(ledger), Some(mark)) = (&mut self.ledger, &taken.mark) else { return };
        for recipient in recipients {
            let line = Line::Received(mark.received(recipient, taken.checksum, now));
            if ledger.append(&line).is_err() {
                self.counts.refuse("ledger could not be written");
            }
        }
    }

    /// Answers as asked, or as chance will have it.
    fn answer(&mut self, ports: &mut Ports, client: &mut Client, place: Place, fine: &[u8]) -> Next {
        match self.conduct.fate(place, &mut self.random) {
            Some(fate) => self.turn_down(ports, client, place, fate),
            None => self.answer_when_due(ports, client, place, fine),
        }
    }

    fn turn_down(&mut self, ports: &mut Ports, client: &mut Client, place: Place, fate: Fate) -> Next {
        if fate == Fate::Drop {
            self.counts.refuse(&format!("{place:?} dropped").to_lowercase());
            client.replies.clear();
            return Next::Close;
        }
        let refusal = self.conduct.refusal(place, fate, &mut self.random);
        self.counts.refuse(&format!("{place:?} {}", &refusal[..3]).to_lowercase());
        let refusal = format!("{refusal}\r\n");
        let next = self.answer_when_due(ports, client, place, refusal.as_bytes());
        let is_farewell = place == Place::Connect || refusal.starts_with("421");
        if is_farewell { Next::Close } else { next }
    }

    fn answer_when_due(&mut self, ports: &mut Ports, client: &mut Client, place: Place, text: &[u8]) -> Next {
        client.replies.extend_from_slice(text);
        let Some(delay) = self.conduct.delay(place, &mut self.random) else { return Next::GoOn };
        let replies = mem::take(&mut client.replies);
        self.later(ports, delay, Late::Answer(client.port, replies));
        ports.hold(client.port);
        client.is_waiting = true;
        Next::Wait
    }

    fn later(&mut self, ports: &mut Ports, delay: Duration, late: Late) {
        self.tokens += 1;
        self.late.insert(self.tokens, late);
        ports.wake_at(ports.now() + delay.as_nanos() as u64, self.tokens);
    }

    /// Reads no faster than it should.
    fn slow_down(&mut self, ports: &mut Ports, port: PortId, bytes: usize) {
        let Some(rate) = self.conduct.read_rate else { return };
        let pause = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        ports.hold(port);
        self.later(ports, pause, Late::Release(port));
    }
}

impl Work for Receiver {
    fn poll_due(&mut self, _: &mut Ports, now: u64) -> Option<u64> {
        if now >= self.looked_at {
            self.looked_at = now + LOOK.as_nanos() as u64;
        }
        Some(self.looked_at)
    }

    fn handle_opened(&mut self, _: &mut Ports, _: PortId, _: u64) {}

    fn handle_accepted(&mut self, ports: &mut Ports, port: PortId, _: PortId, _: u64) {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        if self.conduct.connections_max.is_some_and(|most| self.clients.len() >= most) {
            self.counts.refuse("connect 421");
            ports.send(port, &[b"421 4.3.2 Too many connections\r\n"]);
            return ports.end(port);
        }
        let mut client = Client::new(port);
        let greeting = format!("220 {} ESMTP\r\n", self.conduct.hostname);
        let next = self.answer(ports, &mut client, Place::Connect, greeting.as_bytes());
        if !client.replies.is_empty() {
            ports.send(port, &[&client.replies]);
            client.replies.clear();
        }
        match next {
            Next::Close => ports.end(port),
            Next::GoOn | Next::Wait => drop(self.clients.insert(port, client)),
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], _: u64) -> usize {
        let Some(mut client) = self.clients.remove(&port) else { return bytes.len() };
        if client.is_waiting {
            self.clients.insert(port, client);
            return 0;
        }
        let (used, next) = self.read(ports, &mut client, bytes);
        if !client.replies.is_empty() {
            ports.send(port, &[&client.replies]);
            client.replies.clear();
        }
        match next {
            Next::Close => ports.end(port),
            Next::GoOn | Next::Wait => {
                if next == Next::GoOn {
                    self.slow_down(ports, port, used);
                }
                self.clients.insert(port, client);
            }
        }
        used
    }

    fn handle_closed(&mut self, _: &mut Ports, port: PortId, _: Option<io::Error>, _: u64) {
        self.clients.remove(&port);
    }

    fn handle_timer(&mut self, ports: &mut Ports, token: u64, _: u64) {
        match self.late.remove(&token) {
            Some(Late::Answer(port, text)) => {
                ports.send(port, &[&text]);
                if let Some(client) = self.clients.get_mut(&port) {
                    client.is_waiting = false;
                }
                ports.release(port);
            }
            Some(Late::Release(port)) => ports.release(port),
            None => {}
        }
    }

    fn is_done(&self) -> bool {
        self.counts.stop.load(Ordering::Relaxed)
    }
}
