//! A closed loop of SMTP sessions: each sends its next message when the last was answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::wire::Wire;

/// What is to be sent.
#[derive(Clone)]
pub struct Load {
    pub to: SocketAddr,
    pub sessions: usize,
    pub messages: usize,
    /// Bytes of each message, all different from each other.
    pub size: usize,
    pub recipients: Arc<Vec<String>>,
    /// MAIL, RCPT and DATA in one send.
    pub pipelined: bool,
}

/// How it went.
pub struct Sent {
    pub acknowledged: usize,
    pub seconds: f64,
    /// From the end of data to its reply, in microseconds.
    pub latency: Histogram<u64>,
}

impl Load {
    /// Sends everything; an answer that is no 250 is an error.
    pub fn run(&self) -> io::Result<Sent> {
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let sessions: Vec<_> = (0..self.sessions)
            .map(|_| {
                let (load, next) = (self.clone(), Arc::clone(&next));
                std::thread::spawn(move || load.session(&next))
            })
            .collect();
        let mut latency = histogram();
        for session in sessions {
            let ended = session.join().map_err(|_| io::Error::other("a session panicked"))?;
            latency.add(ended?).map_err(io::Error::other)?;
        }
        let acknowledged = usize::try_from(latency.len()).unwrap_or(usize::MAX);
        Ok(Sent { acknowledged, seconds: began.elapsed().as_secs_f64(), latency })
    }

    fn session(&self, next: &AtomicUsize) -> io::Result<Histogram<u64>> {
        let mut latency = histogram();
        let mut wire = self.connect()?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.messages {
                wire.send(b"QUIT\r\n")?;
                return Ok(latency);
            }
            let data = message(number, self.size);
            self.open(&mut wire, &self.recipients[number % self.recipients.len()])?;
            let began = Instant::now();
            wire.send(&data)?;
            expect(wire.reply()?, 250)?;
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            latency.saturating_record(micros);
        }
    }

    pub fn connect(&self) -> io::Result<Wire> {
        let mut wire = Wire::connect(self.to)?;
        wire.reply()?;
        wire.send(b"EHLO load.test\r\n")?;
        wire.reply()?;
        Ok(wire)
    }

    /// Up to the 354.
    pub fn open(&self, wire: &mut Wire, recipient: &str) -> io::Result<()> {
        let commands = [
            ("MAIL FROM:<load@load.test>\r\n".to_owned(), 250),
            (format!("RCPT TO:<{recipient}>\r\n"), 250),
            ("DATA\r\n".to_owned(), 354),
        ];
        if self.pipelined {
            let burst: String = commands.iter().map(|(command, _)| command.as_str()).collect();
            wire.send(burst.as_bytes())?;
        }
        for (command, code) in &commands {
            if !self.pipelined {
                wire.send(command.as_bytes())?;
            }
            expect(wire.reply()?, *code)?;
        }
        Ok(())
    }
}

/// A message of about `size` bytes that is like no other, with the end of data.
pub fn message(number: usize, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: load@load.test\r\nTo: someone@load.test\r\nSubject: load {number}\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@load.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    .into_bytes();
    // A cheap generator: bodies that differ everywhere, in lines of 72 characters.
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() + 5 < size {
        for _ in 0..72.min(size.saturating_sub(text.len() + 7)).max(1) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(b'a' + (state % 26) as u8);
        }
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b".\r\n");
    text
}

pub fn expect(code: u16, expected: u16) -> io::Result<()> {
    match code == expected {
        true => Ok(()),
        false => Err(io::Error::other(format!("reply {code} where {expected} was expected"))),
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}
