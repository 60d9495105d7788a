//! What a session costs that waits for news.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cost::{kernel_bytes, pss_bytes};
use crate::smtp;
use crate::target::{self, Server};
use crate::wire::Wire;

#[derive(Args)]
pub struct Idle {
    /// The server's program; by default the one that was built beside this.
    #[arg(long)]
    server: Option<PathBuf>,
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Messages in the INBOX that all of them have selected.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
}

/// After so long without work a server has given back the memory it gives back.
const SETTLED: Duration = Duration::from_secs(5);

impl Idle {
    pub fn run(&self) -> io::Result<()> {
        raise_files();
        let program = self.server.clone().unwrap_or_else(target::default_program);
        let server = Server::start(&program, 1, 1)?;
        let mut filler = self.session()?;
        for number in 0..self.messages {
            let mut text = smtp::message(number, 512);
            text.truncate(text.len() - 3);
            filler.send(format!("x APPEND INBOX {{{}+}}\r\n", text.len()).as_bytes())?;
            filler.send(&text)?;
            filler.send(b"\r\n")?;
            while !filler.line()?.starts_with(b"x OK") {}
        }
        // The first sessions pay for what all of them share.
        let mut sessions = Vec::new();
        for _ in 0..100.min(self.sessions) {
            sessions.push(self.idle()?);
        }
        // What the server gives back of the filling must not hide what the sessions take.
        std::thread::sleep(SETTLED);
        let (before, kernel_before) = (pss_bytes(server.pid())?, kernel_bytes()?);
        let counted = self.sessions - sessions.len();
        for _ in 0..counted {
            sessions.push(self.idle()?);
        }
        std::thread::sleep(SETTLED);
        let (after, kernel_after) = (pss_bytes(server.pid())?, kernel_bytes()?);
        println!(
            "{} sessions in IDLE on an INBOX of {} messages: {} bytes of the server's memory each \
             (PSS, from {before} to {after}), \
             {} bytes of the kernel's for both ends",
            sessions.len(),
            self.messages,
            after.saturating_sub(before) / counted.max(1) as u64,
            kernel_after.saturating_sub(kernel_before) / counted.max(1) as u64,
        );
        Ok(())
    }

    fn session(&self) -> io::Result<Wire> {
        let mut wire = Wire::connect(target::imap_address())?;
        wire.line()?;
        wire.imap("a", &format!("LOGIN {} \"{}\"", target::account(0), target::PASSWORD))?;
        Ok(wire)
    }

    fn idle(&self) -> io::Result<Wire> {
        let mut wire = self.session()?;
        wire.imap("b", "SELECT INBOX")?;
        wire.send(b"c IDLE\r\n")?;
        while !wire.line()?.starts_with(b"+") {}
        Ok(wire)
    }
}

/// As many descriptors as this process may have.
fn raise_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and then the question.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
