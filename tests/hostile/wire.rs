//! A client that says what a case wants said, cut as it is told, over TCP or TLS, and hears everything that comes back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::answer::{Protocol, words};
use crate::bytes::Cut;
use crate::server::{IMAP, IMAPS, POP3, POP3S, SMTP, SUBMISSIONS};

/// A server that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One that says nothing for so long waits for more.
const QUIET: Duration = Duration::from_secs(1);

/// Where a server is, and how it may be spoken to.
pub struct Place {
    pub address: Ipv4Addr,
    /// Of a port's name in a case: the number, and whether TLS comes before the first word.
    pub port: fn(&str, Channel) -> (u16, Secrecy),
    pub tls: Option<Arc<ClientConfig>>,
    pub leaving: Leaving,
}

/// When a client that has said everything closes its side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// At once: what it said before must be answered all the same.
    AtOnce,
    /// When nothing was heard for a while; some servers throw away what they have not read by then.
    WhenQuiet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    Clear,
    Tls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    None,
    AtOnce,
    AfterStartTls,
    /// TLS is spoken there, but not by us.
    Withheld,
}

/// How a variant is told.
#[derive(Clone, Copy, Debug)]
pub enum Telling {
    /// The opening a command at a time, then the case in pieces.
    Polite(Cut),
    /// The opening and the case at once.
    Burst,
}

/// What is said on which port: the opening, and the case.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub on: &'a str,
    pub commands: &'a [String],
    pub say: &'a [u8],
}

/// The words of the answer to a variant, without what answers its opening.
pub fn tell(
    place: &Place,
    told: Told<'_>,
    channel: Channel,
    telling: Telling,
) -> Result<Vec<String>, String> {
    let lost = |what: &str, error: io::Error| format!("{what}: {error}");
    let Told { on, commands, say } = told;
    let protocol = Protocol::of(on);
    let (port, secrecy) = (place.port)(on, channel);
    let stream = connect(place.address, port).map_err(|error| lost("connecting", error))?;
    let mut client =
        Client { wire: Wire::Clear(stream), protocol, leaving: place.leaving, heard: Vec::new() };
    if matches!(secrecy, Secrecy::None | Secrecy::AfterStartTls) {
        client.hear_words(1)?;
    }
    if secrecy == Secrecy::AfterStartTls {
        let command: &[u8] = match protocol {
            Protocol::Smtp => b"EHLO client.test\r\nSTARTTLS\r\n",
            Protocol::Imap => b"o0 STARTTLS\r\n",
            Protocol::Pop3 => b"STLS\r\n",
        };
        client.say(command);
        client.hear_words(if protocol == Protocol::Smtp { 3 } else { 2 })?;
        client.heard.clear();
    }
    if matches!(secrecy, Secrecy::AtOnce | Secrecy::AfterStartTls) {
        client.start_tls(place.tls.as_ref().ok_or("there is no TLS here")?)?;
    }
    if secrecy == Secrecy::AtOnce {
        client.hear_words(1)?;
    }
    client.heard.clear();
    let mut said = say.to_vec();
    match telling {
        Telling::Burst => said = [commands.concat().into_bytes(), said].concat(),
        Telling::Polite(_) => {
            for (index, command) in commands.iter().enumerate() {
                client.say(command.as_bytes());
                client.hear_words(index + 1)?;
            }
        }
    }
    said.extend_from_slice(protocol.farewell());
    let cut = match telling {
        Telling::Burst => Cut::Whole,
        Telling::Polite(cut) => cut,
    };
    let heard = client.say_all(&said, cut)?;
    let mut words = words(protocol, &heard);
    // A connection that is reset takes with it what this side had not read, even of the opening.
    let opening = words.iter().take_while(|word| *word != "end").count().min(commands.len());
    Ok(words.split_off(opening))
}

/// From an address that no other client of this test has, so that nobody waits for what others did.
fn connect(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, high, middle, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let from = Ipv4Addr::new(127, 200 + (high & 31), middle, low);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&SocketAddr::from((address, port)).into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

struct Client {
    wire: Wire,
    protocol: Protocol,
    leaving: Leaving,
    /// What was answered so far, from the last word of a new beginning on.
    heard: Vec<u8>,
}

enum Wire {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// What the server closes in the middle is told by what it answered.
    fn say(&mut self, bytes: &[u8]) -> bool {
        match &mut self.wire {
            Wire::Clear(stream) => stream.write_all(bytes).is_ok(),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()).is_ok(),
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let len = match &mut self.wire {
            Wire::Clear(stream) => stream.read(&mut piece),
            Wire::Tls(stream) => read_only(stream, &mut piece),
        }?;
        self.heard.extend_from_slice(&piece[..len]);
        Ok(len)
    }

    /// Waits until so many words have been heard; greetings count.
    fn hear_words(&mut self, count: usize) -> Result<(), String> {
        while !self.heard.ends_with(b"\n") || self.count_words() < count {
            match self.read_some() {
                Ok(0) => return Err(format!("closed after {}", self.heard.escape_ascii())),
                Ok(_) => {}
                Err(error) => return Err(format!("{error} after {}", self.heard.escape_ascii())),
            }
        }
        Ok(())
    }

    fn count_words(&self) -> usize {
        match self.protocol {
            Protocol::Smtp => self.lines().filter(|line| line.get(3) == Some(&b' ')).count(),
            Protocol::Pop3 => self.lines().count(),
            Protocol::Imap => {
                self.lines().filter(|line| line.starts_with(b"o") || line.starts_with(b"* OK [CAP")).count()
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.heard.split_inclusive(|byte| *byte == b'\n')
    }

    fn start_tls(&mut self, config: &Arc<ClientConfig>) -> Result<(), String> {
        let Wire::Clear(stream) = &self.wire else {
            return Err("TLS is there".into());
        };
        let stream = stream.try_clone().map_err(|error| error.to_string())?;
        let name = ServerName::try_from("mail.example.test").expect("it is a name");
        let client = ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(client, stream);
        stream.conn.complete_io(&mut stream.sock).map_err(|error| format!("handshake: {error}"))?;
        self.wire = Wire::Tls(Box::new(stream));
        Ok(())
    }

    /// Says everything, closes this side, and hears what there is. Under TLS the answers must fit into what the system
    /// buffers.
    fn say_all(mut self, said: &[u8], cut: Cut) -> Result<Vec<u8>, String> {
        let reading = match &self.wire {
            Wire::Clear(stream) => Some(read_apart(stream).map_err(|error| error.to_string())?),
            Wire::Tls(_) => None,
        };
        for piece in cut.pieces(said) {
            if !self.say(piece) {
                break;
            }
        }
        let ended = match reading {
            Some(pieces) => self.hear_apart(&pieces),
            None => self.hear_out(),
        };
        match ended {
            Err(error) if is_silence(&error) => Err(format!("silent after {}", self.heard.escape_ascii())),
            // A reset is an end, too.
            _ => Ok(self.heard),
        }
    }

    /// Hears what another thread reads.
    fn hear_apart(&mut self, pieces: &Receiver<io::Result<Vec<u8>>>) -> io::Result<()> {
        let mut is_leaving = self.leaving == Leaving::AtOnce;
        if is_leaving {
            self.leave();
        }
        loop {
            let patience = if is_leaving { SILENCE_MAX } else { QUIET };
            match pieces.recv_timeout(patience) {
                Ok(piece) => self.heard.extend_from_slice(&piece?),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if is_leaving => return Err(io::ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Timeout) => {
                    self.leave();
                    is_leaving = true;
                }
            }
        }
    }

    fn hear_out(&mut self) -> io::Result<()> {
        if self.leaving == Leaving::WhenQuiet {
            self.socket().set_read_timeout(Some(QUIET))?;
            loop {
                match self.read_some() {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if is_silence(&error) => break,
                    Err(error) => return Err(error),
                }
            }
            self.socket().set_read_timeout(Some(SILENCE_MAX))?;
        }
        self.leave();
        while self.read_some()? > 0 {}
        Ok(())
    }

    fn leave(&mut self) {
        if let Wire::Tls(stream) = &mut self.wire {
            stream.conn.send_close_notify();
            // The server may have closed already.
            let _ = stream.flush();
        }
        drop(self.socket().shutdown(Shutdown::Write));
    }

    fn socket(&self) -> &TcpStream {
        match &self.wire {
            Wire::Clear(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }
}

/// Reads under TLS and writes nothing, as `StreamOwned` does first: a server that takes no more may have said why.
fn read_only(stream: &mut StreamOwned<ClientConnection, TcpStream>, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.conn.reader().read(piece) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        stream.conn.read_tls(&mut stream.sock)?;
        stream.conn.process_new_packets().map_err(io::Error::other)?;
    }
}

/// Reads to the end on a thread of its own, so that whoever writes is not held up by answers.
fn read_apart(stream: &TcpStream) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let mut stream = stream.try_clone()?;
    let (pieces, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let read = match stream.read(&mut piece) {
                Ok(0) => return,
                Ok(len) => Ok(piece[..len].to_vec()),
                Err(error) if is_silence(&error) => continue,
                Err(error) => Err(error),
            };
            // Nobody may listen any more.
            let is_over = read.is_err();
            if pieces.send(read).is_err() || is_over {
                return;
            }
        }
    });
    Ok(heard)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Where a case is said that names its listener so. The peers listen where the server does.
pub fn port(on: &str, channel: Channel) -> (u16, Secrecy) {
    match (on, channel) {
        ("relay", Channel::Clear) => (SMTP, Secrecy::None),
        ("relay", Channel::Tls) => (SMTP, Secrecy::AfterStartTls),
        ("submission", _) => (SUBMISSIONS, Secrecy::AtOnce),
        ("submissions", _) => (SUBMISSIONS, Secrecy::Withheld),
        ("imaps", _) => (IMAPS, Secrecy::Withheld),
        ("pop3s", _) => (POP3S, Secrecy::Withheld),
        ("imap", Channel::Clear) => (IMAP, Secrecy::None),
        ("imap", Channel::Tls) => (IMAPS, Secrecy::AtOnce),
        ("pop3", Channel::Clear) => (POP3, Secrecy::None),
        _ => (POP3S, Secrecy::AtOnce),
    }
}
