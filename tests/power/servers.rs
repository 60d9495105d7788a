//! A server as kills and power cuts see it: started, killed, started again on what it left.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
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

    /// Of the process that began it.
    fn process_id(&self) -> u32;

    /// Whether that has not ended by itself.
    fn is_running(&self) -> bool {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process_id())).unwrap_or_default();
        // Behind the name, which may hold anything: the state. Nobody has asked after a zombie yet.
        text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    fn log(&self) -> String;

    /// Where the mail of an account lies, if only files tell.
    fn maildir(&self, account: usize) -> Option<PathBuf>;

    /// Removes what it can make again from the rest.
    fn forget_indexes(&self) {}

    /// Does what its operators would do about an account that lacks mail; whether there is anything they could.
    fn mend(&self, _account: usize) -> bool {
        false
    }
}

/// A server whose data is to lie in `data`, and what need not survive in `scratch`. Mail to elsewhere goes to `remote`.
pub fn prepare(kind: Kind, data: &Path, scratch: &Path, remote: &Remote) -> Box<dyn MailServer> {
    match kind {
        Kind::Ringpost => {
            // Its log and configuration do not suffer what its data does.
            let folder = scratch.join("server");
            fs::create_dir_all(data).and_then(|()| fs::create_dir(&folder)).expect("a folder for the server");
            symlink(data, folder.join("data")).expect("a link to its data");
            Box::new(ringpost(&folder, remote))
        }
        Kind::Postfix => Box::new(Postfix::prepare(data, scratch, remote)),
        _ => Box::new(Dovecot::prepare(kind, data, scratch)),
    }
}

/// Checkpoints every second of the load, and segments that come to an end; mail to elsewhere that met a server that
/// was just killed goes soon.
pub fn ringpost(data: &Path, remote: &Remote) -> Server {
    let more = format!(
        "[relay]\nallow = [\"127.0.0.0/8\"]\n\n[queue]\nretry_first_s = 1\nretry_max_s = 1\n\n[limits]\n\
         checkpoint_bytes = 262144\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n\n[[route]]\n\
         domain = \"{ELSEWHERE}\"\nto = [{}]\n",
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
        started.map_err(|_| {
            let log = Server::log(self);
            Server::kill(self);
            log
        })
    }

    fn kill(&mut self) {
        Server::kill(self);
    }

    fn address(&self) -> Ipv4Addr {
        Server::address(self)
    }

    fn process_id(&self) -> u32 {
        Server::process_id(self)
    }

    fn log(&self) -> String {
        Server::log(self)
    }

    fn maildir(&self, _account: usize) -> Option<PathBuf> {
        None
    }

    fn forget_indexes(&self) {
        let logs = fs::read_dir(self.data().join("log")).expect("it has logs").flatten();
        let files = logs.flat_map(|log| fs::read_dir(log.path()).expect("a log is a folder")).flatten();
        let paths = files.map(|file| file.path());
        let is_index = |path: &PathBuf| path.extension().is_some_and(|end| end == "idx" || end == "root");
        paths.filter(is_index).for_each(|path| fs::remove_file(path).expect("it can be removed"));
    }
}
