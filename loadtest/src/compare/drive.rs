//! The SMTP load of the comparison: the dialogue of smtp-source, one command at a time, which every server knows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::record::Spectrum;
use crate::smtp::{expect, message};
use crate::wire::Wire;

#[derive(Clone, Debug)]
pub struct Drive {
    pub to: SocketAddr,
    pub sessions: usize,
    pub bytes: usize,
    pub recipients: Arc<Vec<String>>,
    pub connections: Connections,
    pub until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One for each session.
    Kept,
    /// One for each message, with its QUIT.
    New,
}

/// When to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    After(Duration),
    Messages(usize),
}

/// How it went.
#[derive(Debug)]
pub struct Driven {
    pub acknowledged: u64,
    pub seconds: f64,
    /// From the end of data to its reply.
    pub ack: Spectrum,
}

/// What all sessions share: whose turn a message is, and when there are no more.
struct Turns {
    next: AtomicUsize,
    messages_max: usize,
    ends: Instant,
}

impl Drive {
    /// A closed loop: each session sends its next message when the last was answered.
    pub fn run(&self) -> io::Result<Driven> {
        let began = Instant::now();
        let (messages_max, length) = match self.until {
            Until::After(length) => (usize::MAX, length),
            Until::Messages(messages) => (messages, Duration::from_secs(3600)),
        };
        let turns = Arc::new(Turns { next: AtomicUsize::new(0), messages_max, ends: began + length });
        let sessions: Vec<_> = (0..self.sessions)
            .map(|_| {
                let (drive, turns) = (self.clone(), Arc::clone(&turns));
                thread::spawn(move || drive.session(&turns))
            })
            .collect();
        let mut ack = Spectrum::default();
        for session in sessions {
            ack.add(&session.join().map_err(|_| io::Error::other("a session panicked"))??);
        }
        Ok(Driven { acknowledged: ack.count(), seconds: began.elapsed().as_secs_f64(), ack })
    }

    fn session(&self, turns: &Turns) -> io::Result<Spectrum> {
        let mut ack = Spectrum::default();
        let mut kept = None;
        while let Some(number) = turns.take() {
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => self.connect()?,
            };
            ack.record(self.send(&mut wire, number)?);
            match self.connections {
                Connections::Kept => kept = Some(wire),
                Connections::New => quit(&mut wire)?,
            }
        }
        kept.map_or(Ok(()), |mut wire| quit(&mut wire))?;
        Ok(ack)
    }

    fn connect(&self) -> io::Result<Wire> {
        let mut wire = Wire::connect(self.to)?;
        expect(wire.reply()?, 220)?;
        wire.send(b"EHLO client.load.test\r\n")?;
        expect(wire.reply()?, 250)?;
        Ok(wire)
    }

    /// Gives how long the end of data took to be answered, in nanoseconds.
    fn send(&self, wire: &mut Wire, number: usize) -> io::Result<u64> {
        let data = message(number, self.bytes);
        let recipient = &self.recipients[number % self.recipients.len()];
        for (command, code) in [
            ("MAIL FROM:<sender@load.test>\r\n".to_owned(), 250),
            (format!("RCPT TO:<{recipient}>\r\n"), 250),
            ("DATA\r\n".to_owned(), 354),
        ] {
            wire.send(command.as_bytes())?;
            expect(wire.reply()?, code)?;
        }
        let began = Instant::now();
        wire.send(&data)?;
        expect(wire.reply()?, 250)?;
        Ok(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Turns {
    fn take(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.messages_max && Instant::now() < self.ends).then_some(number)
    }
}

/// The server closes, so that it is the one who remembers the connection for a while.
fn quit(wire: &mut Wire) -> io::Result<()> {
    wire.send(b"QUIT\r\n")?;
    expect(wire.reply()?, 221)?;
    match wire.line() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("words after the reply to QUIT")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Connections, Drive, Until};
    use crate::sink::Sink;

    #[test]
    fn it_sends_as_many_as_it_is_told_or_for_as_long() {
        let to = SocketAddr::from((Ipv4Addr::new(127, 71, 20, 1), 2736));
        let sink = Sink::start(to).expect("a free port");
        let recipients = Arc::new(vec!["a@sink.test".to_owned()]);
        let drive = Drive {
            to,
            sessions: 3,
            bytes: 2000,
            recipients,
            connections: Connections::New,
            until: Until::Messages(50),
        };
        assert_eq!(drive.run().expect("all are taken").acknowledged, 50);
        assert_eq!(sink.taken(), 50);
        let until = Until::After(Duration::from_millis(200));
        let driven = Drive { connections: Connections::Kept, until, ..drive }.run().expect("all are taken");
        assert_eq!(sink.taken() as u64, 50 + driven.acknowledged);
        assert!(driven.seconds >= 0.2 && driven.acknowledged > 0);
    }
}
