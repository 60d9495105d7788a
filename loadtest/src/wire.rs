//! Lines over a socket, for clients that look at every byte they get.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const REPLY_MAX: Duration = Duration::from_secs(120);

pub struct Wire {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, stream), line: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The next line with its end.
    pub fn line(&mut self) -> io::Result<&[u8]> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(&self.line),
        }
    }

    /// Sends an IMAP command and reads to its tagged line, which must say OK; gives the untagged lines.
    pub fn imap(&mut self, tag: &str, command: &str) -> io::Result<Vec<String>> {
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8_lossy(self.line()?).trim_end().to_owned();
            match line.strip_prefix(tag) {
                Some(rest) if rest.starts_with(" OK") => return Ok(lines),
                Some(rest) => return Err(io::Error::other(format!("{command}:{rest}"))),
                None => lines.push(line),
            }
        }
    }
}
