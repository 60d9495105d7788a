//! A server that takes every message, keeps none and counts them.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// It serves until the program ends.
pub struct Sink {
    taken: Arc<AtomicUsize>,
}

impl Sink {
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A connection that breaks has delivered what was answered; the rest is the sender's to repeat.
                thread::spawn(move || serve(stream, &counter));
            }
        });
        Ok(Self { taken })
    }

    /// Messages that were answered with 250.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits for so many messages in all.
    pub fn wait(&self, count: usize) -> io::Result<()> {
        let (mut last, mut moved) = (self.taken(), Instant::now());
        while last < count {
            thread::sleep(Duration::from_millis(5));
            let now = self.taken();
            if now > last {
                (last, moved) = (now, Instant::now());
            } else if moved.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other(format!("the sink got {last} of {count} messages and no more")));
            }
        }
        Ok(())
    }
}

fn serve(stream: TcpStream, taken: &AtomicUsize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(128 << 10, stream);
    output.write_all(b"220 sink ESMTP\r\n")?;
    let mut line = Vec::new();
    let mut replies = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" => {
                replies.extend_from_slice(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
            }
            b"DATA" => {
                replies.extend_from_slice(b"354 go\r\n");
                output.write_all(&replies)?;
                replies.clear();
                swallow(&mut input, &mut line)?;
                taken.fetch_add(1, Ordering::Relaxed);
                replies.extend_from_slice(b"250 2.0.0 taken\r\n");
            }
            b"QUIT" => {
                replies.extend_from_slice(b"221 bye\r\n");
                return output.write_all(&replies);
            }
            _ => replies.extend_from_slice(b"250 2.0.0 fine\r\n"),
        }
        if input.buffer().is_empty() {
            output.write_all(&replies)?;
            replies.clear();
        }
    }
}

/// Reads to the end of a message.
fn swallow(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    loop {
        line.clear();
        if input.read_until(b'\n', line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::Sink;
    use crate::smtp::Load;

    #[test]
    fn the_sink_counts_what_it_answers() {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 2736));
        let sink = Sink::start(to).expect("a free port");
        let recipients = Arc::new(vec!["a@sink.test".to_owned()]);
        let load = Load { to, sessions: 3, messages: 50, size: 3000, recipients, pipelined: true };
        assert_eq!(load.run().expect("all are taken").acknowledged, 50);
        assert_eq!(sink.taken(), 50);
        sink.wait(50).expect("they are there");
    }
}
