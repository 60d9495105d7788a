//! A server as kills and power cuts see it: started, killed, started again on what it left.

use std::fs;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::cast::{ELSEWHERE, Kind, accounts, name};
use crate::peers::{Dovecot, Postfix};
use crate::remote::Remote;
use crate::server::Server;

pub trait MailServer {
    fn kind(&self) -> Kind;

    /// Starts it; an error is why it does not take mail.
    fn start(&mut self) -> Result<(), String>;

    /// Ends it and all its processes with SIGKILL.
    fn kill(&mut self);

    fn address(&self) -> Ipv4Addr;

    fn log(&self) -> String;

    /// Where the mail of an account lies, if only files tell.
    fn maildir(&self, account: usize) -> Option<PathBuf>;

    /// Does what its operators would do about an account that lacks mail; whether there is anything they could.
    fn mend(&self, _account: usize) -> bool {
        false
    }
}

/// A server whose data is to lie in `data`, and what need not survive in `scratch`. Mail to elsewhere goes to `remote`.
pub fn prepare(kind: Kind, data: &Path, scratch: &Path, remote: &Remote) -> Box<dyn MailServer> {
    match kind {
        Kind::Ringpost => Box::new(ringpost(data, remote)),
        Kind::Postfix => Box::new(Postfix::prepare(data, scratch, remote)),
        _ => Box::new(Dovecot::prepare(kind, data, scratch)),
    }
}

/// Checkpoints every second of the load; mail to elsewhere that met a server that was just killed goes soon.
pub fn ringpost(data: &Path, remote: &Remote) -> Server {
    let more = format!(
        "[relay]\nallow = [\"127.0.0.0/8\"]\n\n[queue]\nretry_first_s = 1\nretry_max_s = 1\n\n[limits]\n\
         checkpoint_bytes = 262144\n\n[[route]]\ndomain = \"{ELSEWHERE}\"\nto = [{}]\n",
        remote.target()
    );
    fs::create_dir_all(data).expect("a folder for the server");
    let server = Server::prepare_in(data, 2, &more);
    accounts().for_each(|account| server.add_account(&name(account)));
    server
}

impl MailServer for Server {
    fn kind(&self) -> Kind {
        Kind::Ringpost
    }

    fn start(&mut self) -> Result<(), String> {
        let started = catch_unwind(AssertUnwindSafe(|| Server::start(self)));
        started.map_err(|_| Server::log(self))
    }

    fn kill(&mut self) {
        Server::kill(self);
    }

    fn address(&self) -> Ipv4Addr {
        Server::address(self)
    }

    fn log(&self) -> String {
        Server::log(self)
    }

    fn maildir(&self, _account: usize) -> Option<PathBuf> {
        None
    }
}
