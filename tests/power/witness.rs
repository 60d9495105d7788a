//! Somebody who reads mail while the disk is in trouble, and panics at nothing.

use std::io;

use crate::cast::{SHARED, WORKERS, is_whole, name, number};
use crate::client::{Imap, Pop3, Response};
use crate::ledger::{Folder, Ledger, Step};
use crate::server::{IMAP, PASSWORD, POP3};
use crate::servers::MailServer;

pub struct Witness<'a> {
    pub server: &'a dyn MailServer,
}

impl Witness<'_> {
    /// Reads the first message of a mailbox that has some, over IMAP and POP3. An error is what the server said.
    pub fn look(&self) -> Result<(), String> {
        if !self.server.kind().has_mailboxes() {
            return Ok(());
        }
        let mut imap = self.log_in(SHARED[0])?;
        let selected = ask(&mut imap, "SELECT INBOX")?;
        if selected.iter().any(|line| line.text == "* 0 EXISTS") {
            return Ok(());
        }
        whole(&ask(&mut imap, "FETCH 1 BODY.PEEK[]")?)?;
        self.pop().map_err(|error| format!("POP3: {error}"))?
    }

    /// Over POP3; nothing is deleted, and the session is left without a QUIT.
    fn pop(&self) -> io::Result<Result<(), String>> {
        let mut pop3 = Pop3::connect(self.server.address(), POP3)?;
        for command in [format!("USER {}", name(SHARED[0])), format!("PASS {PASSWORD}"), "RETR 1".to_owned()]
        {
            let reply = pop3.command(&command)?;
            if !reply.starts_with("+OK") {
                return Ok(Err(format!("{command}: {reply}")));
            }
        }
        Ok(Ok(()))
    }

    /// Asks for every message of all mailboxes; what was said of those that did not come. An error is about all.
    pub fn read_all(&self) -> Result<Vec<String>, String> {
        let mut refused = Vec::new();
        for account in SHARED.into_iter().chain(WORKERS) {
            let mut imap = self.log_in(account)?;
            for folder in Folder::ALL {
                ask(&mut imap, &format!("SELECT {}", folder.name()))?;
                let found = ask(&mut imap, "UID SEARCH ALL")?;
                let uids = found[0].text.strip_prefix("* SEARCH").unwrap_or_default().to_owned();
                for uid in uids.split_whitespace() {
                    let read = ask(&mut imap, &format!("UID FETCH {uid} BODY.PEEK[]"));
                    let refusal = read.and_then(|lines| whole(&lines)).err();
                    refused.extend(refusal.map(|reply| format!("{} {uid}: {reply}", name(account))));
                }
            }
        }
        Ok(refused)
    }

    fn log_in(&self, account: usize) -> Result<Imap, String> {
        let mut imap =
            Imap::connect(self.server.address(), IMAP).map_err(|error| format!("IMAP: {error}"))?;
        ask(&mut imap, &format!("LOGIN {} \"{PASSWORD}\"", name(account)))?;
        Ok(imap)
    }
}

fn ask(imap: &mut Imap, command: &str) -> Result<Vec<Response>, String> {
    let replies = imap.command(command).map_err(|error| format!("{command}: {error}"))?;
    let last = &replies[replies.len() - 1].text;
    if last.contains(" OK") { Ok(replies) } else { Err(format!("{command}: {last}")) }
}

/// Whether a message came, as it was sent; it may have been expunged since it was listed.
fn whole(fetched: &[Response]) -> Result<(), String> {
    let bodies = fetched.iter().flat_map(|response| &response.literals);
    for body in bodies {
        if !number(body).is_some_and(|number| is_whole(body, number)) {
            return Err("a message came that nobody sent".to_owned());
        }
    }
    Ok(())
}

/// Whether an account's lines have such a step.
pub fn exists(ledger: &Ledger, account: usize, step: Step) -> bool {
    ledger.entries.iter().any(|entry| entry.account == account && entry.step == step)
}
