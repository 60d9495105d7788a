//! Makes a mailbox of so many messages.

use std::io;
use std::time::Instant;

use clap::Args;

use crate::command::login::{LoginArguments, Target};
use crate::imap::fill::{self, Pace};

#[derive(Args)]
pub struct Fill {
    #[command(flatten)]
    login: LoginArguments,
    #[arg(long = "box", default_value = "INBOX")]
    mailbox: String,
    /// Until it holds so many; what is there counts.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Of each message.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Unless the server takes many messages in one command.
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

impl Fill {
    pub fn run(&self) -> io::Result<()> {
        let target = self.login.target()?;
        let began = Instant::now();
        let pace = Pace::Fast { connections: self.connections };
        let added = fill_up(&target, &self.mailbox, self.messages, self.bytes, pace)?;
        let seconds = began.elapsed().as_secs_f64();
        say!("{added} messages of {} bytes in {seconds:.1} s", self.bytes);
        Ok(())
    }
}

/// Gives how many messages were missing and were added.
pub fn fill_up(
    target: &Target,
    mailbox: &str,
    messages: usize,
    message_bytes: usize,
    pace: Pace,
) -> io::Result<usize> {
    let first = fill::count(&target.login, mailbox)?;
    let login = target.login.clone();
    let fill = fill::Fill { login, mailbox: mailbox.to_owned(), first, end: messages, message_bytes, pace };
    if first >= messages {
        return Ok(0);
    }
    let tenth = (messages - first).div_ceil(10);
    fill.run(&|done| {
        if done.is_multiple_of(tenth) {
            eprintln!("{} of {messages} messages", first + done);
        }
    })?;
    match fill::count(&target.login, mailbox)? {
        found if found == messages => Ok(messages - first),
        found => Err(io::Error::other(format!("the mailbox holds {found} messages, not {messages}"))),
    }
}
