//! Reads mailboxes by IMAP and writes what is in them into a ledger, for `verify`.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::command::Outcome;
use crate::engine::Clock;
use crate::imap::answer::Answer;
use crate::imap::client::{Login, resolve};
use crate::imap::options::Security;
use crate::ledger::{Durability, Line, Verdict, Writer, received_of};

#[derive(Args)]
pub struct Collect {
    /// host:port of IMAP
    server: String,
    /// The ledger of what came.
    ledger: PathBuf,
    /// A %d is replaced by the numbers from --first on.
    #[arg(long)]
    user: String,
    #[arg(long, default_value_t = 1)]
    users: usize,
    #[arg(long, default_value_t = 1)]
    first: usize,
    #[arg(long, default_value = "")]
    pass: String,
    #[arg(long = "box", default_value = "INBOX")]
    mailbox: String,
    /// TLS from the first byte; any certificate is taken.
    #[arg(long)]
    tls: bool,
}

impl Collect {
    pub fn run(&self) -> io::Result<Outcome> {
        let (host, port) = self.server.rsplit_once(':').ok_or_else(|| io::Error::other("host:port"))?;
        let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port} is no port")))?;
        let security = if self.tls { Security::Tls } else { Security::Plain };
        let (address, clock) = (resolve(host, port)?, Clock::start());
        let mut writer = Writer::open(&self.ledger, Durability::Buffered)?;
        let (mut messages, mut marked, mut corrupted) = (0_u64, 0_u64, 0_u64);
        for number in self.first..self.first + self.users {
            let user = self.user.replace("%d", &number.to_string());
            let login = Login { address, security, user: user.clone(), pass: self.pass.clone() };
            let mut client = login.open()?;
            client.command(&format!("EXAMINE \"{}\"", self.mailbox), |_| Ok(()))?;
            client.command("UID FETCH 1:* (BODY.PEEK[])", |answer| {
                let Answer::Fetch(_, row) = answer else {
                    return Ok(());
                };
                messages += 1;
                let Some(line) = row.message().and_then(|text| received_of(text, &user, clock.now())) else {
                    return Ok(());
                };
                marked += 1;
                corrupted += u64::from(line.verdict == Verdict::Corrupted);
                writer.append(&Line::Received(line))
            })?;
            client.logout()?;
        }
        writer.flush()?;
        say!("{messages} messages, {marked} of them of a load test, {corrupted} corrupted");
        Ok(if corrupted > 0 { Outcome::Missed } else { Outcome::Fine })
    }
}
