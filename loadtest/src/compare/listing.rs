//! Listings of a whole mailbox by a client that only counts rows: one that looked at each would be what is measured.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use memchr::{memmem, memrchr};

use crate::compare::mailbox::login;
use crate::compare::row::Samples;
use crate::compare::server::Running;
use crate::imap::operations::Operation;
use crate::stats::median;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Envelope,
    Headers,
}

/// One listing, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    whole: f64,
    first_byte: f64,
    /// Of the server.
    cpu: f64,
}

/// Every row has it once; the messages of the data sets do not.
const ROW: &[u8] = b" FETCH (";

const SILENCE_MAX: Duration = Duration::from_secs(600);

impl Listing {
    pub const ALL: [Self; 2] = [Self::Envelope, Self::Headers];

    /// The same, with every answer looked at.
    pub fn operation(self) -> Operation {
        match self {
            Self::Envelope => Operation::Envelope,
            Self::Headers => Operation::Headers,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Envelope => "FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)",
            Self::Headers => {
                "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Reply-To Subject Date \
                 Message-ID References In-Reply-To Newsgroups Priority X-Priority Content-Type)])"
            }
        }
    }

    pub fn time(self, running: &Running, messages: usize) -> io::Result<Timed> {
        let login = login(running)?;
        let mut stream = TcpStream::connect(login.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let commands =
            [("a", format!("LOGIN {} \"{}\"", login.user, login.pass)), ("b", "SELECT INBOX".to_owned())];
        for (tag, command) in commands {
            exchange(&mut stream, tag, &command)?;
        }
        let before = crate::cost::cpu_ns(&[running.pid])?;
        let (rows, mut timed) = exchange(&mut stream, "c", self.command())?;
        timed.cpu = crate::cost::cpu_ns(&[running.pid])?.saturating_sub(before) as f64;
        stream.write_all(b"d LOGOUT\r\n")?;
        match rows == messages {
            true => Ok(timed),
            false => Err(io::Error::other(format!("{rows} rows of {messages}"))),
        }
    }

    pub fn take(self, samples: &mut Samples, timed: &[Timed], messages: usize) {
        let of = |value: fn(&Timed) -> f64| median(&timed.iter().map(value).collect::<Vec<_>>());
        let cpu = of(|timed| timed.cpu) / messages.max(1) as f64;
        match self {
            Self::Headers => samples
                .extend([("headers".to_owned(), of(|timed| timed.whole)), ("headers cpu".to_owned(), cpu)]),
            Self::Envelope => samples.extend([
                ("envelope".to_owned(), of(|timed| timed.whole)),
                ("first byte".to_owned(), of(|timed| timed.first_byte)),
                ("cpu".to_owned(), cpu),
            ]),
        }
    }
}

/// Sends a command and reads to its tagged OK; gives how many rows stood before it.
fn exchange(stream: &mut TcpStream, tag: &str, command: &str) -> io::Result<(usize, Timed)> {
    let (ok, no, bad) = (format!("\n{tag} OK"), format!("\n{tag} NO"), format!("\n{tag} BAD"));
    let rows = memmem::Finder::new(ROW);
    let began = Instant::now();
    stream.write_all(format!("{tag} {command}\r\n").as_bytes())?;
    let mut buffer = vec![0; 1 << 20];
    // The line that the next read completes, with the end of the one before it.
    let (mut held, mut count, mut first_byte) = (0, 0, None);
    loop {
        let read = stream.read(&mut buffer[held..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first_byte.get_or_insert_with(|| began.elapsed());
        let filled = held + read;
        let whole = memrchr(b'\n', &buffer[..filled]).map_or(0, |newline| newline + 1);
        let bytes = &buffer[..whole];
        count += rows.find_iter(bytes).count();
        let tail = &bytes[bytes.len().saturating_sub(512)..];
        let says = |words: &str| memmem::find(tail, words.as_bytes()).is_some();
        if says(&ok) || bytes.starts_with(&ok.as_bytes()[1..]) {
            let nanos = |time: Duration| time.as_nanos() as f64;
            let first_byte = nanos(first_byte.unwrap_or_default());
            return Ok((count, Timed { whole: nanos(began.elapsed()), first_byte, cpu: 0.0 }));
        }
        if says(&no) || says(&bad) {
            return Err(io::Error::other(format!("{command}: {}", String::from_utf8_lossy(tail).trim())));
        }
        let from = whole.saturating_sub(1);
        buffer.copy_within(from..filled, 0);
        held = filled - from;
        if held == buffer.len() {
            return Err(io::Error::other(format!("{command}: a line of more than {held} bytes")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::exchange;

    #[test]
    fn rows_are_counted_however_they_are_cut() {
        for piece in [1, 7, 8, 100, 10_000] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("it has one");
            let answers = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody comes");
                stream.set_nodelay(true).expect("it is set");
                let mut command = [0; 9];
                stream.read_exact(&mut command).expect("a command");
                let rows: String =
                    (1..=30).map(|row| format!("* {row} FETCH (UID {row} FLAGS ())\r\n")).collect();
                let text = format!("{rows}c OK done\r\n");
                text.as_bytes().chunks(piece).for_each(|part| stream.write_all(part).expect("it reads"));
            });
            let mut stream = TcpStream::connect(address).expect("it listens");
            let (rows, timed) = exchange(&mut stream, "c", "FETCH").expect("it answers");
            assert_eq!(rows, 30, "in pieces of {piece}");
            assert!(timed.first_byte <= timed.whole);
            answers.join().expect("all was sent");
        }
    }
}
