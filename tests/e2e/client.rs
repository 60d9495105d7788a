//! The plainest clients there can be: lines out, lines in, every byte visible.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::server::SUBMISSION;

/// A reply that takes longer than this is a hang.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// What the server's certificate says its name is.
const SERVER_NAME: &str = "mail.example.test";

/// What lines cross: a socket, or TLS over it.
trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// A connection that speaks lines.
pub struct Lines {
    reader: BufReader<Box<dyn Wire>>,
    socket: TcpStream,
}

impl Lines {
    pub fn connect(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((address, port))?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        stream.set_nodelay(true)?;
        let socket = stream.try_clone()?;
        Ok(Self { reader: BufReader::new(Box::new(stream)), socket })
    }

    /// Goes on under TLS, trusting the CA of the server's data directory `data`.
    pub fn start_tls(&mut self, data: &Path) -> io::Result<()> {
        assert!(self.reader.buffer().is_empty(), "nothing in the clear is left to be read");
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(data.join("tls/ca.pem")).expect("a CA");
        roots.add(ca).expect("a CA that can be trusted");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(SERVER_NAME).expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, self.socket.try_clone()?);
        stream.conn.complete_io(&mut stream.sock)?;
        self.reader = BufReader::new(Box::new(stream));
        Ok(())
    }

    /// How long a reply may take from here on.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The next line without its CRLF.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::InvalidData)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// An SMTP client.
pub struct Smtp {
    lines: Lines,
}

impl Smtp {
    /// Connects and says EHLO.
    pub fn connect(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        Self::greet(address, port, "EHLO client.example.test")
    }

    /// As [`Smtp::connect`], with another greeting, such as that of LMTP.
    pub fn greet(address: Ipv4Addr, port: u16, greeting: &str) -> io::Result<Self> {
        let mut smtp = Self { lines: Lines::connect(address, port)? };
        smtp.reply()?;
        smtp.command(greeting)?;
        Ok(smtp)
    }

    /// Connects and says EHLO, under TLS that begins with STARTTLS.
    pub fn connect_tls(address: Ipv4Addr, port: u16, data: &Path) -> io::Result<Self> {
        let mut smtp = Self::connect(address, port)?;
        assert_eq!(smtp.command("STARTTLS")?.0, 220);
        smtp.lines.start_tls(data)?;
        smtp.command("EHLO client.example.test")?;
        Ok(smtp)
    }

    /// Logs in to the submission port, as everyone must.
    pub fn submit(address: Ipv4Addr, data: &Path, account: &str, password: &str) -> io::Result<Self> {
        let mut smtp = Self::connect_tls(address, SUBMISSION, data)?;
        let (code, lines) = smtp.auth_plain(account, password)?;
        assert_eq!(code, 235, "{lines:?}");
        Ok(smtp)
    }

    pub fn auth_plain(&mut self, account: &str, password: &str) -> io::Result<(u16, Vec<String>)> {
        let response = STANDARD.encode(format!("\0{account}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}"))
    }

    pub fn code(&mut self, command: &str) -> u16 {
        self.command(command).expect("a reply").0
    }

    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lines.send(bytes)
    }

    /// A whole reply: its code and its lines.
    pub fn reply(&mut self) -> io::Result<(u16, Vec<String>)> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.line()?;
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return Ok((code, lines));
            }
        }
    }

    pub fn command(&mut self, command: &str) -> io::Result<(u16, Vec<String>)> {
        self.lines.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a message whose lines end with CRLF; true if it got a 250.
    pub fn message(&mut self, sender: &str, recipients: &[&str], message: &[u8]) -> io::Result<bool> {
        let (code, _) = self.message_reply(sender, recipients, message)?;
        Ok(code == 250)
    }

    /// As [`Smtp::message`]; the whole reply.
    pub fn message_reply(
        &mut self,
        sender: &str,
        recipients: &[&str],
        message: &[u8],
    ) -> io::Result<(u16, Vec<String>)> {
        let mut burst = format!("MAIL FROM:<{sender}>\r\n");
        for recipient in recipients {
            burst.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        burst.push_str("DATA\r\n");
        self.lines.send(burst.as_bytes())?;
        for _ in 0..=recipients.len() {
            let (code, lines) = self.reply()?;
            assert_eq!(code, 250, "{lines:?}");
        }
        let (code, lines) = self.reply()?;
        assert_eq!(code, 354, "{lines:?}");
        self.lines.send(&stuffed(message))?;
        self.reply()
    }
}

/// Dot-stuffed, with the end of data.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    assert!(message.is_empty() || message.ends_with(b"\r\n"), "a message ends with CRLF");
    data.extend_from_slice(b".\r\n");
    data
}

/// An IMAP client.
pub struct Imap {
    lines: Lines,
    tag: u32,
}

/// One piece of a reply: a line with the literals that stood in it.
#[derive(Debug, Clone)]
pub struct Response {
    /// The line; a literal shows as its `{n}`.
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

impl Imap {
    pub fn connect(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let mut imap = Self { lines: Lines::connect(address, port)?, tag: 0 };
        imap.response()?;
        Ok(imap)
    }

    pub fn login(address: Ipv4Addr, port: u16, account: &str, password: &str) -> io::Result<Self> {
        let mut imap = Self::connect(address, port)?;
        imap.ok(&format!("LOGIN {account} \"{password}\""))?;
        Ok(imap)
    }

    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = Response { text: String::new(), literals: Vec::new() };
        loop {
            let line = self.lines.line()?;
            response.text.push_str(&line);
            let Some(count) = literal_length(&line) else {
                return Ok(response);
            };
            response.literals.push(self.lines.exactly(count)?);
        }
    }

    /// Sends a command and gathers what comes until its tagged line, which is the last.
    pub fn command(&mut self, command: &str) -> io::Result<Vec<Response>> {
        let tag = self.send(command)?;
        self.until(&tag)
    }

    /// As [`Imap::command`], and it must succeed.
    pub fn ok(&mut self, command: &str) -> io::Result<Vec<Response>> {
        let responses = self.command(command)?;
        let last = &responses[responses.len() - 1].text;
        assert!(last.contains(" OK"), "{command}: {last}");
        Ok(responses)
    }

    pub fn append(&mut self, mailbox: &str, message: &[u8]) -> io::Result<Vec<Response>> {
        let tag = self.send(&format!("APPEND {mailbox} {{{}}}", message.len()))?;
        let go_ahead = self.response()?;
        assert!(go_ahead.text.starts_with('+'), "{go_ahead:?}");
        self.lines.send(message)?;
        self.lines.send(b"\r\n")?;
        self.until(&tag)
    }

    /// The messages of the selected mailbox, whole, by number.
    pub fn bodies(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let responses = self.ok("FETCH 1:* BODY.PEEK[]")?;
        Ok(responses.into_iter().flat_map(|response| response.literals).collect())
    }

    pub fn send(&mut self, command: &str) -> io::Result<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.lines.send(format!("{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lines.send(bytes)
    }

    /// As [`Imap::command`], as plain text: what a story looks at.
    pub fn texts(&mut self, command: &str) -> Vec<String> {
        let responses = self.command(command).expect("a reply");
        responses.into_iter().map(|response| response.text).collect()
    }

    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    pub fn until(&mut self, tag: &str) -> io::Result<Vec<Response>> {
        let mut responses = Vec::new();
        loop {
            let response = self.response()?;
            let last = response.text.starts_with(&format!("{tag} "));
            responses.push(response);
            if last {
                return Ok(responses);
            }
        }
    }
}

fn literal_length(line: &str) -> Option<usize> {
    let (_, count) = line.strip_suffix('}')?.rsplit_once('{')?;
    count.parse().ok()
}

/// A POP3 client.
pub struct Pop3 {
    lines: Lines,
}

impl Pop3 {
    pub fn login(address: Ipv4Addr, port: u16, account: &str, password: &str) -> io::Result<Self> {
        let mut pop3 = Self::connect(address, port)?;
        for command in [format!("USER {account}"), format!("PASS {password}")] {
            let reply = pop3.command(&command)?;
            assert!(reply.starts_with("+OK"), "{command}: {reply}");
        }
        Ok(pop3)
    }

    pub fn connect(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let mut pop3 = Self { lines: Lines::connect(address, port)? };
        pop3.lines.line()?;
        Ok(pop3)
    }

    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.send(format!("{command}\r\n").as_bytes())?;
        self.lines.line()
    }

    /// A command with a reply of many lines; they come back unstuffed, with CRLF, without the last dot.
    pub fn lines(&mut self, command: &str) -> io::Result<Vec<u8>> {
        let reply = self.command(command)?;
        assert!(reply.starts_with("+OK"), "{command}: {reply}");
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            self.lines.reader.read_until(b'\n', &mut line)?;
            if line == b".\r\n" {
                return Ok(all);
            }
            all.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
}
