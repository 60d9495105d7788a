//! One connection: bytes out with as few system calls as may be, bytes in, plain or through TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

use rustls::{Connection as Tls, HandshakeKind};

/// What a socket is to the loop.
pub struct Connection {
    pub stream: TcpStream,
    pub phase: Phase,
    tls: Option<Box<Tls>>,
    /// What the kernel did not take yet, behind what it did.
    unsent: Vec<u8>,
    taken: usize,
    /// What the work did not use yet.
    unused: Vec<u8>,
    /// Readable, but not to be read now.
    pub is_held: bool,
    pub may_have_input: bool,
    /// To be closed when everything is sent.
    pub is_ending: bool,
    /// The other side has said that it sends no more.
    pub is_ended_by_peer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Dialling,
    /// The first bytes belong to TLS.
    Shaking,
    Open,
}

/// What reading found.
pub enum Input {
    /// So many bytes of plain text lie in the buffer.
    Bytes(usize),
    /// A handshake is over.
    Shaken,
    /// Nothing more for now.
    Dry,
    Ended,
}

impl Connection {
    pub fn new(stream: TcpStream, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            tls: None,
            unsent: Vec::new(),
            taken: 0,
            unused: Vec::new(),
            is_held: false,
            may_have_input: false,
            is_ending: false,
            is_ended_by_peer: false,
        }
    }

    /// From here on, bytes are TLS. A client begins, a server waits.
    pub fn begin_tls(&mut self, mut tls: Tls) -> io::Result<()> {
        tls.set_buffer_limit(None);
        self.tls = Some(Box::new(tls));
        self.phase = Phase::Shaking;
        // Whatever was learnt in the clear is void (RFC 3207, section 4.2).
        self.unused.clear();
        self.flush_tls()
    }

    /// Sends the parts in one call, as far as the kernel takes them; the rest follows when it can.
    pub fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            for part in parts {
                tls.writer().write_all(part)?;
            }
            return self.flush_tls();
        }
        let mut sent = 0;
        if self.unsent.is_empty() {
            sent = match parts {
                [part] => would_block(self.stream.write(part))?,
                parts => {
                    let mut slices = [IoSlice::new(&[]); 4];
                    assert!(parts.len() <= slices.len(), "no dialogue has more parts");
                    slices.iter_mut().zip(parts).for_each(|(slice, part)| *slice = IoSlice::new(part));
                    would_block(self.stream.write_vectored(&slices[..parts.len()]))?
                }
            };
        }
        for part in parts {
            let skipped = sent.min(part.len());
            self.unsent.extend_from_slice(&part[skipped..]);
            sent -= skipped;
        }
        Ok(())
    }

    /// The socket takes bytes again.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        // Not moved to the front each time: of ten megabytes that alone would take longer than a schedule can wait.
        self.taken += would_block(self.stream.write(&self.unsent[self.taken..]))?;
        if self.taken == self.unsent.len() {
            // An idle connection holds no buffers.
            (self.unsent, self.taken) = (Vec::new(), 0);
        }
        Ok(())
    }

    /// Whether TLS began anew or went on from an earlier session, once that is known.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.tls.as_ref()?.handshake_kind()
    }

    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads plain text into `buffer`; `raw`, half as long, is for what is encrypted.
    pub fn read(&mut self, buffer: &mut [u8], raw: &mut [u8]) -> io::Result<Input> {
        let Some(tls) = &mut self.tls else {
            return match self.stream.read(buffer) {
                Ok(0) => Ok(Input::Ended),
                Ok(count) => {
                    // A short read has emptied the socket; the next bytes are an event of their own.
                    self.may_have_input = count == buffer.len();
                    Ok(Input::Bytes(count))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_have_input = false;
                    Ok(Input::Dry)
                }
                Err(error) => Err(error),
            };
        };
        match tls.reader().read(buffer) {
            Ok(0) => return Ok(Input::Ended),
            Ok(count) => return Ok(Input::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Without close_notify it ends all the same; the dialogue above knows whether that is early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Input::Ended),
            Err(error) => return Err(error),
        }
        let count = match self.stream.read(raw) {
            Ok(0) => return Ok(Input::Ended),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_have_input = false;
                return Ok(Input::Dry);
            }
            Err(error) => return Err(error),
        };
        // What is encrypted is never shorter than what it holds, and `raw` is shorter than `buffer`.
        let (mut encrypted, mut filled) = (&raw[..count], 0);
        while !encrypted.is_empty() {
            tls.read_tls(&mut encrypted)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            while let Ok(count @ 1..) = tls.reader().read(&mut buffer[filled..]) {
                filled += count;
            }
        }
        let is_over = self.phase == Phase::Shaking && !tls.is_handshaking();
        self.flush_tls()?;
        if is_over {
            self.phase = Phase::Open;
            self.keep(&buffer[..filled]);
            return Ok(Input::Shaken);
        }
        // None is part of a record; there may be more in the socket.
        Ok(Input::Bytes(filled))
    }

    /// Keeps what was not used.
    pub fn keep(&mut self, rest: &[u8]) {
        self.unused.extend_from_slice(rest);
    }

    /// What was kept.
    pub fn take_unused(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unused)
    }

    pub fn has_unused(&self) -> bool {
        !self.unused.is_empty()
    }

    fn flush_tls(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.unsent)?;
        }
        self.flush()
    }
}

/// How many bytes were taken; a full socket takes none.
fn would_block(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
