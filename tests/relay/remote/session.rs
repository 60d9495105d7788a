//! One connection to a remote server, from its greeting to its end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConnection, StreamOwned};

use super::Shared;
use super::character::{Act, Step, Verb};
use super::fate;
use super::ledger::{Arrival, Carrier};

/// Between two bytes that a crawling server takes.
const CRAWL: Duration = Duration::from_millis(100);

/// Nobody has sent a longer message here.
const MESSAGE_BYTES_MAX: usize = 110 << 20;

/// What lines cross: a socket, or TLS over it.
trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

pub struct Session<'a> {
    wire: BufReader<Box<dyn Wire>>,
    socket: TcpStream,
    shared: &'a Shared,
    number: usize,
    transaction: usize,
    is_encrypted: bool,
    login: Option<String>,
    envelope: Envelope,
}

#[derive(Default)]
struct Envelope {
    mail: String,
    rcpt: Vec<String>,
    /// Their addresses.
    taken: Vec<String>,
    content: Vec<u8>,
}

/// The connection is over.
fn over<T>() -> io::Result<T> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

impl<'a> Session<'a> {
    pub fn new(socket: TcpStream, number: usize, shared: &'a Shared) -> Self {
        let other = socket.try_clone().expect("a socket has two ends here");
        Self {
            wire: BufReader::with_capacity(64 << 10, Box::new(other)),
            socket,
            shared,
            number,
            transaction: 0,
            is_encrypted: false,
            login: None,
            envelope: Envelope::default(),
        }
    }

    /// Until the connection ends, which is always an error.
    pub fn run(mut self) -> io::Result<()> {
        self.step(Verb::Connect, "220 remote.test ESMTP at your service")?;
        loop {
            let line = self.line()?;
            self.shared.ledger().command(self.number, &line);
            let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match word.as_str() {
                "EHLO" | "LHLO" | "HELO" => self.hello()?,
                "STARTTLS" => self.start_tls()?,
                "AUTH" => self.auth(&line)?,
                "MAIL" => self.mail(line)?,
                "RCPT" => self.rcpt(line)?,
                "DATA" => self.data()?,
                "BDAT" => self.bdat(&line)?,
                "RSET" => {
                    self.step(Verb::Rset, "250 2.0.0 Ok")?;
                    self.end_transaction();
                }
                "QUIT" => {
                    self.step(Verb::Quit, "221 2.0.0 Bye")?;
                    return over();
                }
                _ => drop(self.step(Verb::Other, "502 5.5.1 Not here")?),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.wire.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None if !line.ends_with(b"\n") => over(),
            None => panic!("a line that ends with LF alone: {:?}", String::from_utf8_lossy(&line)),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.get_mut().write_all(bytes)?;
        self.wire.get_mut().flush()
    }

    /// Asks the script, then does the decent thing; what was said. `None`: it was no reply.
    fn step(&mut self, verb: Verb, decent: &str) -> io::Result<Option<String>> {
        let act = self.act(verb);
        self.do_or(act, decent)
    }

    fn act(&self, verb: Verb) -> Option<Act> {
        let Self { number, transaction, .. } = *self;
        self.shared.character().act(&Step { verb, connection: number, transaction })
    }

    fn do_or(&mut self, act: Option<Act>, decent: &str) -> io::Result<Option<String>> {
        let reply = match act {
            None => decent.to_owned(),
            Some(Act::Say(reply)) => reply,
            Some(Act::Late(ms, reply)) => {
                self.rest(Duration::from_millis(ms))?;
                reply
            }
            Some(Act::Bytes(bytes)) => {
                self.say(&bytes)?;
                return Ok(None);
            }
            Some(Act::SayAndClose(reply) | Act::Interrupt(reply)) => {
                self.say(format!("{reply}\r\n").as_bytes())?;
                return over();
            }
            Some(Act::Garble(reply, bytes)) => {
                self.say(format!("{reply}\r\n").as_bytes())?;
                self.wire.read_exact(&mut [0; 16])?;
                self.say(&bytes)?;
                return over();
            }
            Some(Act::Close) => return over(),
            Some(Act::Silence | Act::Crawl) => return self.listen(),
            Some(Act::Repeat(bytes, most)) => {
                for _ in 0..most / bytes.len().max(1) {
                    self.say(&bytes)?;
                }
                return self.listen();
            }
        };
        self.say(format!("{reply}\r\n").as_bytes())?;
        Ok(Some(reply))
    }

    /// Reads on without a word, to the end.
    fn listen<T>(&mut self) -> io::Result<T> {
        let mut buffer = [0; 4096];
        while self.wire.read(&mut buffer)? > 0 {}
        over()
    }

    /// Waits, unless the test is over.
    fn rest(&self, span: Duration) -> io::Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            if self.shared.is_stopping() {
                return over();
            }
            thread::sleep(Duration::from_millis(5).min(until - Instant::now().min(until)));
        }
        Ok(())
    }

    fn hello(&mut self) -> io::Result<()> {
        let character = self.shared.character();
        let mut lines = vec!["remote.test".to_owned()];
        lines.extend(character.extensions.iter().cloned());
        if character.tls.is_some() && !self.is_encrypted {
            lines.push("STARTTLS".to_owned());
        }
        if character.login.is_some() {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        let last = lines.len() - 1;
        let mark = |index: usize| if index == last { ' ' } else { '-' };
        let text: Vec<String> =
            lines.iter().enumerate().map(|(index, line)| format!("250{}{line}", mark(index))).collect();
        self.step(Verb::Ehlo, &text.join("\r\n")).map(drop)
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let Some(config) = self.shared.character().tls.clone() else {
            return self.step(Verb::Starttls, "502 5.5.1 Not here").map(drop);
        };
        let said = self.step(Verb::Starttls, "220 2.0.0 Go ahead")?;
        if said.is_none_or(|reply| !reply.starts_with("220")) {
            return Ok(());
        }
        assert!(self.wire.buffer().is_empty(), "the client waits for 220");
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, self.socket.try_clone()?);
        stream.conn.complete_io(&mut stream.sock)?;
        self.wire = BufReader::with_capacity(64 << 10, Box::new(stream));
        self.is_encrypted = true;
        Ok(())
    }

    fn auth(&mut self, line: &str) -> io::Result<()> {
        let Some((name, password)) = self.shared.character().login.clone() else {
            return self.step(Verb::Auth, "502 5.5.1 Not here").map(drop);
        };
        let expected = STANDARD.encode(format!("\0{name}\0{password}"));
        let response = match line.strip_prefix("AUTH PLAIN") {
            Some(rest) if !rest.trim().is_empty() => rest.trim().to_owned(),
            Some(_) => {
                self.say(b"334 \r\n")?;
                self.line()?
            }
            None => String::new(),
        };
        if response == expected {
            self.step(Verb::Auth, "235 2.7.0 Welcome")?;
            self.login = Some(name);
        } else {
            self.step(Verb::Auth, "535 5.7.8 No")?;
        }
        Ok(())
    }

    fn mail(&mut self, line: String) -> io::Result<()> {
        let has_to_log_in = self.shared.character().login.is_some() && self.login.is_none();
        let decent = if has_to_log_in { "530 5.7.0 Log in first" } else { "250 2.1.0 Ok" };
        let said = self.step(Verb::Mail, decent)?;
        self.envelope = Envelope::default();
        if said.is_some_and(|reply| reply.starts_with('2')) {
            self.envelope.mail = line;
        } else {
            self.transaction += 1;
        }
        Ok(())
    }

    fn rcpt(&mut self, line: String) -> io::Result<()> {
        let address = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let times = self.shared.ledger().ask(&address);
        let decent = match self.envelope.mail.is_empty() {
            true => "503 5.5.1 MAIL first".to_owned(),
            false => fate::at_rcpt(&address, times),
        };
        let said = self.step(Verb::Rcpt, &decent)?;
        if said.is_some_and(|reply| reply.starts_with('2')) {
            self.envelope.rcpt.push(line);
            self.envelope.taken.push(address);
        }
        Ok(())
    }

    fn data(&mut self) -> io::Result<()> {
        let act = self.act(Verb::Data);
        let go_ahead = match (&act, self.envelope.taken.is_empty()) {
            (Some(Act::Crawl | Act::Interrupt(_)), _) | (None, false) => "354 Go ahead",
            (None, true) => "554 5.5.1 No valid recipients",
            (Some(_), _) => {
                let said = self.do_or(act.clone(), "")?;
                if said.is_none_or(|reply| !reply.starts_with("354")) {
                    self.end_transaction();
                    return Ok(());
                }
                return self.message();
            }
        };
        self.say(format!("{go_ahead}\r\n").as_bytes())?;
        match act {
            _ if !go_ahead.starts_with("354") => {
                self.end_transaction();
                Ok(())
            }
            Some(Act::Crawl) => self.crawl(),
            Some(Act::Interrupt(reply)) => {
                let mut some = [0; 4096];
                self.wire.read_exact(&mut some)?;
                self.do_or(Some(Act::SayAndClose(reply)), "").map(drop)
            }
            _ => self.message(),
        }
    }

    /// A byte now and then, until the client has had enough.
    fn crawl(&mut self) -> io::Result<()> {
        loop {
            self.rest(CRAWL)?;
            self.wire.read_exact(&mut [0])?;
        }
    }

    fn message(&mut self) -> io::Result<()> {
        let mut content = Vec::new();
        loop {
            let start = content.len();
            let count = self.wire.read_until(b'\n', &mut content)?;
            assert!(content.len() < MESSAGE_BYTES_MAX, "a message without an end");
            let line = &content[start..];
            if count == 0 || !line.ends_with(b"\n") {
                return over();
            }
            assert!(line.ends_with(b"\r\n"), "a bare LF in a message");
            if line == b".\r\n" {
                content.truncate(start);
                break;
            }
            if line.starts_with(b".") {
                content.remove(start);
            }
        }
        self.envelope.content = content;
        self.finish(Carrier::Data)
    }

    fn bdat(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split_whitespace().skip(1);
        let size: usize = words.next().and_then(|size| size.parse().ok()).expect("BDAT has a size");
        let is_last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let start = self.envelope.content.len();
        assert!(start + size < MESSAGE_BYTES_MAX, "a message without an end");
        self.envelope.content.resize(start + size, 0);
        self.wire.read_exact(&mut self.envelope.content[start..])?;
        if self.envelope.taken.is_empty() {
            self.step(Verb::Bdat, "554 5.5.1 No valid recipients")?;
            if is_last {
                self.end_transaction();
            }
            return Ok(());
        }
        if is_last {
            return self.finish(Carrier::Bdat);
        }
        self.step(Verb::Bdat, "250 2.0.0 Ok").map(drop)
    }

    /// The message is whole. The ledger has it before the client knows.
    fn finish(&mut self, carrier: Carrier) -> io::Result<()> {
        let act = self.act(Verb::End);
        let taken = std::mem::take(&mut self.envelope.taken);
        let (replies, taken_for): (Vec<String>, Vec<String>) = match (&act, self.shared.character().is_lmtp) {
            (None, true) => {
                let replies: Vec<String> = taken.iter().map(|to| fate::at_end(to).to_owned()).collect();
                let is_taken = |index: usize| replies[index].starts_with('2');
                let all = taken.iter().enumerate();
                let taken_for = all.filter(|(index, _)| is_taken(*index)).map(|(_, to)| to.clone()).collect();
                (replies, taken_for)
            }
            (None, false) => (vec!["250 2.0.0 Ok: queued".to_owned()], taken),
            (Some(Act::Say(reply) | Act::SayAndClose(reply) | Act::Late(_, reply)), _)
                if reply.starts_with('2') =>
            {
                (Vec::new(), taken)
            }
            _ => (Vec::new(), Vec::new()),
        };
        if !taken_for.is_empty() {
            let envelope = std::mem::take(&mut self.envelope);
            self.shared.ledger().arrive(Arrival {
                connection: self.number,
                at: Instant::now(),
                mail: envelope.mail,
                rcpt: envelope.rcpt,
                taken_for,
                content: envelope.content,
                carrier,
                is_encrypted: self.is_encrypted,
                login: self.login.clone(),
            });
        }
        self.end_transaction();
        match act {
            None => self.say(format!("{}\r\n", replies.join("\r\n")).as_bytes()),
            act => self.do_or(act, "").map(drop),
        }
    }

    fn end_transaction(&mut self) {
        self.envelope = Envelope::default();
        self.transaction += 1;
    }
}
