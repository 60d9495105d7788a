//! Arguments of commands that log into a mailbox of a server, one that runs or one that is started for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::imap::client::{Login, resolve};
use crate::imap::options::Security;
use crate::target::{self, Server, Setup};

#[derive(Args, Clone)]
pub struct LoginArguments {
    /// A server that runs; without it one is started with data of its own.
    #[arg(long)]
    host: Option<String>,
    #[arg(long, default_value_t = 143)]
    port: u16,
    #[arg(long, default_value = "user1")]
    user: String,
    #[arg(long, default_value = "")]
    pass: String,
    /// TLS from the first byte; any certificate is taken.
    #[arg(long)]
    tls: bool,
    /// Processes of the server, whose cost is measured with that of their children.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// The program to start without --host; by default the one that was built beside this.
    #[arg(long)]
    server: Option<PathBuf>,
}

/// A way in, and whose cost is measured.
pub struct Target {
    pub login: Login,
    /// Of a server that was started here.
    pub pop3: Option<SocketAddr>,
    pub pids: Vec<u32>,
    name: String,
    /// Ended with this.
    _server: Option<Server>,
}

impl LoginArguments {
    pub fn target(&self) -> io::Result<Target> {
        let Some(host) = &self.host else {
            return self.start();
        };
        let login = Login {
            address: resolve(host, self.port)?,
            security: if self.tls { Security::Tls } else { Security::Plain },
            user: self.user.clone(),
            pass: self.pass.clone(),
        };
        let name = login.address.to_string();
        Ok(Target { login, pop3: None, pids: self.pid.clone(), name, _server: None })
    }

    fn start(&self) -> io::Result<Target> {
        let program = self.server.clone().unwrap_or_else(target::default_program);
        let server = Server::start(&program, Setup { cores: 1, accounts: 1, sink: None })?;
        let login = Login {
            address: server.imap,
            security: Security::Plain,
            user: target::account(0),
            pass: target::PASSWORD.to_owned(),
        };
        // Its ports are others each time.
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (pop3, pids) = (Some(server.pop3), vec![server.pid()]);
        Ok(Target { login, pop3, pids, name, _server: Some(server) })
    }
}

impl Target {
    /// The same way in for another user.
    pub fn for_user(&self, user: &str) -> Self {
        let login = Login { user: user.to_owned(), ..self.login.clone() };
        Self { login, pop3: self.pop3, pids: self.pids.clone(), name: self.name.clone(), _server: None }
    }

    /// As a record names it.
    pub fn name(&self) -> &str {
        &self.name
    }
}
