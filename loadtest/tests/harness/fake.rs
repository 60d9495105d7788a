//! A server of mail with known faults: it answers every message with 250, and passes on what it likes to a sink.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of the n-th message.
pub type Treatment = fn(u64) -> Treated;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Treated {
    Well,
    Lost,
    Doubled,
    Damaged,
    /// Passed on after the one that follows.
    Late,
}

pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    sink: Option<SocketAddr>,
    treatment: Treatment,
    taken: AtomicU64,
    began: Instant,
    /// From when on, and how long, nothing is answered.
    stall: Option<(Duration, Duration)>,
}

impl Fake {
    /// Without a sink, mail is taken and forgotten.
    pub fn start(
        sink: Option<SocketAddr>,
        treatment: Treatment,
        stall: Option<(Duration, Duration)>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let shared =
            Arc::new(Shared { sink, treatment, taken: AtomicU64::new(0), began: Instant::now(), stall });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // A connection that ends is the client's affair.
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut output, mut input) = (stream.try_clone()?, BufReader::new(stream));
        output.write_all(b"220 fake\r\n")?;
        let mut late: Option<Vec<u8>> = None;
        let mut recipients = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            self.stand_still();
            match line.get(..4) {
                Some("DATA") => {
                    output.write_all(b"354 go\r\n")?;
                    let message = read_message(&mut input)?;
                    self.stand_still();
                    let number = self.taken.fetch_add(1, Ordering::Relaxed);
                    let fate = (self.treatment)(number);
                    match fate {
                        Treated::Lost => {}
                        Treated::Late => late = Some(message),
                        Treated::Well => self.pass_on(&recipients, &message)?,
                        Treated::Doubled => {
                            self.pass_on(&recipients, &message)?;
                            self.pass_on(&recipients, &message)?;
                        }
                        Treated::Damaged => self.pass_on(&recipients, &damaged(message))?,
                    }
                    if let Some(message) = late.take_if(|_| fate != Treated::Late) {
                        self.pass_on(&recipients, &message)?;
                    }
                    recipients.clear();
                    output.write_all(b"250 taken\r\n")?;
                }
                Some("RCPT") => {
                    recipients.push(line.trim_end().to_owned());
                    output.write_all(b"250 fine\r\n")?;
                }
                Some("QUIT") => return output.write_all(b"221 bye\r\n"),
                _ => output.write_all(b"250 fine\r\n")?,
            }
        }
    }

    fn stand_still(&self) {
        let Some((from, time)) = self.stall else { return };
        let now = self.began.elapsed();
        if (from..from + time).contains(&now) {
            thread::sleep(from + time - now);
        }
    }

    fn pass_on(&self, recipients: &[String], message: &[u8]) -> io::Result<()> {
        let Some(sink) = self.sink else { return Ok(()) };
        let stream = TcpStream::connect(sink)?;
        let (mut output, mut input) = (stream.try_clone()?, BufReader::new(stream));
        let mut reply = String::new();
        input.read_line(&mut reply)?;
        let mut commands = vec!["HELO fake".to_owned(), "MAIL FROM:<fake@fake.test>".to_owned()];
        commands.extend(recipients.iter().cloned());
        commands.push("DATA".to_owned());
        for command in commands {
            output.write_all(format!("{command}\r\n").as_bytes())?;
            input.read_line(&mut reply)?;
        }
        output.write_all(message)?;
        input.read_line(&mut reply)?;
        output.write_all(b"QUIT\r\n")?;
        input.read_line(&mut reply).map(drop)
    }
}

/// With its final dot.
fn read_message(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let begin = message.len();
        if input.read_until(b'\n', &mut message)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &message[begin..] == b".\r\n" {
            return Ok(message);
        }
    }
}

/// One bit of the last line but one is not what it was.
fn damaged(mut message: Vec<u8>) -> Vec<u8> {
    let place = message.len() - 10;
    message[place] ^= 1;
    message
}
