//! One IMAP connection that blocks: for filling mailboxes and for measuring one command at a time.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::answer::{Answer, Malformed, Reader, Status};
use super::options::Security;
use crate::engine::tls::{ClientTls, Handshake, Trust};

/// A listing of a million messages by a slow server takes minutes; silence of this length is none.
const SILENCE_MAX: Duration = Duration::from_secs(600);

const READ_BYTES: usize = 256 << 10;

/// How to get into a mailbox.
#[derive(Clone, Debug)]
pub struct Login {
    pub address: SocketAddr,
    pub security: Security,
    pub user: String,
    pub pass: String,
}

pub struct Client {
    stream: Stream,
    reader: Reader,
    buffer: Vec<u8>,
    commands: u64,
    /// When bytes came first since this was reset.
    first_byte: Option<Instant>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long a command took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub first_byte: Duration,
    pub whole: Duration,
}

/// The first address of `host:port`.
pub fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut addresses = (host, port).to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::other(format!("{host} has no address")))
}

impl Login {
    pub fn open(&self) -> io::Result<Client> {
        let mut client = Client::connect(self.address, self.security)?;
        client.login(&self.user, &self.pass)?;
        Ok(client)
    }
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr, security: Security) -> io::Result<Self> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SILENCE_MAX))?;
        let stream = match security {
            Security::Plain => Stream::Plain(tcp),
            Security::Tls => {
                let tls = ClientTls::new("mail.load.test", Trust::Anyone, Handshake::Full)?;
                let session = ClientConnection::new(Arc::clone(&tls.config), tls.name);
                Stream::Tls(Box::new(StreamOwned::new(session.map_err(io::Error::other)?, tcp)))
            }
        };
        let reader = Reader::default();
        let mut client = Self { stream, reader, buffer: vec![0; READ_BYTES], commands: 0, first_byte: None };
        client.answer(|answer| match answer {
            Answer::Status { status: Status::Ok | Status::Preauth, .. } => Ok(()),
            other => Err(unexpected("the greeting", &other)),
        })?;
        Ok(client)
    }

    pub fn login(&mut self, user: &str, pass: &str) -> io::Result<()> {
        let quoted = |word: &str| word.replace('\\', "\\\\").replace('"', "\\\"");
        self.command(&format!("LOGIN \"{}\" \"{}\"", quoted(user), quoted(pass)), |_| Ok(())).map(drop)
    }

    /// What the server says it can do.
    pub fn capabilities(&mut self, words: &mut Vec<String>) -> io::Result<()> {
        let take = |answer: &Answer<'_>| {
            if let Answer::Capability(list) = answer {
                words.extend(String::from_utf8_lossy(list).split_whitespace().map(str::to_owned));
            }
            Ok(())
        };
        self.command("CAPABILITY", take).map(drop)
    }

    /// Sends a command and hands over each answer up to its OK; NO and BAD are errors.
    pub fn command(
        &mut self,
        command: &str,
        mut each: impl FnMut(&Answer<'_>) -> io::Result<()>,
    ) -> io::Result<Timing> {
        let tag = self.next_tag();
        let began = Instant::now();
        self.first_byte = None;
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        let mut is_done = false;
        while !is_done {
            self.answer(|answer| match answer {
                Answer::Tagged { tag: found, status: Status::Ok, .. } if found == tag.as_bytes() => {
                    is_done = true;
                    Ok(())
                }
                Answer::Tagged { .. } | Answer::Status { status: Status::Bye | Status::Bad, .. } => {
                    Err(unexpected(command, &answer))
                }
                answer => each(&answer),
            })?;
        }
        let first_byte = self.first_byte.map_or(Duration::ZERO, |first| first - began);
        Ok(Timing { first_byte, whole: began.elapsed() })
    }

    pub fn next_tag(&mut self) -> String {
        self.commands += 1;
        format!("t{}", self.commands)
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => {
                tls.write_all(bytes)?;
                tls.flush()
            }
        }
    }

    /// Waits for the next answer and hands it over.
    pub fn answer<T>(&mut self, take: impl FnOnce(Answer<'_>) -> io::Result<T>) -> io::Result<T> {
        while self.reader.is_starved().map_err(malformed)? {
            let count = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(&mut self.buffer)?,
                Stream::Tls(tls) => tls.read(&mut self.buffer)?,
            };
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            self.first_byte.get_or_insert_with(Instant::now);
            self.reader.extend(&self.buffer[..count]);
        }
        let bytes = self.reader.poll().map_err(malformed)?.unwrap_or_default();
        take(Answer::parse(bytes).map_err(malformed)?)
    }

    /// LOGOUT, without waiting for more than its answer.
    pub fn logout(mut self) -> io::Result<()> {
        self.send(b"bye LOGOUT\r\n")?;
        while !self.answer(|answer| Ok(matches!(answer, Answer::Tagged { .. })))? {}
        Ok(())
    }
}

pub fn unexpected(command: &str, answer: &impl fmt::Debug) -> io::Error {
    let shown = format!("{answer:?}");
    io::Error::other(format!("{command}: {}", shown.chars().take(300).collect::<String>()))
}

fn malformed(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed.to_string())
}
