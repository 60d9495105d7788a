//! What listing a large mailbox costs.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::cost::{Calls, Meter};
use crate::plan;
use crate::target::{self, Server, Setup};
use crate::wire::Wire;

#[derive(Args)]
pub struct List {
    /// The server's program; by default the one that was built beside this.
    #[arg(long)]
    server: Option<PathBuf>,
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Messages that are appended before the answers are read.
const WINDOW: usize = 200;

impl List {
    pub fn run(&self) -> io::Result<()> {
        let program = self.server.clone().unwrap_or_else(target::default_program);
        let server = Server::start(&program, Setup { cores: 1, accounts: 1, sink: None })?;
        let mut wire = Wire::connect(server.imap)?;
        wire.line()?;
        wire.imap("a", &format!("LOGIN {} \"{}\"", target::account(0), target::PASSWORD))?;
        self.fill(&mut wire)?;
        wire.imap("b", "SELECT INBOX")?;
        for round in 1..=self.rounds {
            let meter = Meter::start(&[server.pid()], None, Calls::NotCounted)?;
            let began = Instant::now();
            wire.send(b"c FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE)\r\n")?;
            let mut first_byte = None;
            let mut listed = 0;
            let mut bytes = 0;
            loop {
                let line = wire.line()?;
                first_byte.get_or_insert_with(|| began.elapsed());
                bytes += line.len();
                match line {
                    line if line.starts_with(b"c OK") => break,
                    line if is_row(line) => listed += 1,
                    line => return Err(io::Error::other(String::from_utf8_lossy(line).into_owned())),
                }
            }
            if listed != self.messages {
                return Err(io::Error::other(format!("{listed} of {} messages were listed", self.messages)));
            }
            let took = began.elapsed();
            let cpu_us = meter.stop()?.cpu_us as f64;
            say!(
                "round {round}: {listed} messages in {:.0} ms, {:.2} us server CPU each, \
                 first byte after {:.2} ms, {bytes} bytes",
                took.as_secs_f64() * 1e3,
                cpu_us / listed as f64,
                first_byte.unwrap_or_default().as_secs_f64() * 1e3,
            );
        }
        Ok(())
    }

    fn fill(&self, wire: &mut Wire) -> io::Result<()> {
        let mut answered = 0;
        for number in 0..self.messages {
            let mut text = plan::message(number, 1024);
            text.truncate(text.len() - 3);
            let mut command = format!("x{number} APPEND INBOX {{{}+}}\r\n", text.len()).into_bytes();
            command.extend_from_slice(&text);
            command.extend_from_slice(b"\r\n");
            wire.send(&command)?;
            while number + 1 - answered >= WINDOW || (number + 1 == self.messages && answered <= number) {
                let line = wire.line()?;
                if line.starts_with(b"x") {
                    if !line.windows(4).any(|word| word == b" OK ") {
                        return Err(io::Error::other(String::from_utf8_lossy(line).into_owned()));
                    }
                    answered += 1;
                }
            }
        }
        Ok(())
    }
}

/// `* 12 FETCH (...)`
fn is_row(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    matches!(words[..], [b"*", _, b"FETCH", rest] if rest.ends_with(b")\r\n"))
}
