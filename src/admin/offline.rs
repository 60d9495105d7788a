//! Reaching the server, or being one where none runs.
//!
//! A server that runs holds the lock of its data directory and answers on its socket. A command that finds no
//! such socket becomes the user that the configuration names, takes the lock itself and serves its own request from a
//! thread: the directory's file for accounts, aliases and domains; for mail, a server without listeners, which `main`
//! knows how to open.
//!
//! Invariants: the data directory is read and written only by whoever holds its lock; the thread has ended, and
//! what it wrote is durable, before the process exits.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::admin::control::{Change, Control, Refusal, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::queue::words::{QueueReply, QueueRequest};
use crate::admin::server::{self, Backend, Finding, Kept, MailboxRow, NewMessage, StoredMessage, Unfinished};
use crate::admin::{directory_file, socket, user};
use crate::auth::Directory;
use crate::config::Config;
use crate::io::disk::DiskError;
use crate::io::disk::layout::DataDir;
use crate::io::executor;
use crate::mail::address::Address;
use crate::proto::smtp::MessageRefusal;
use crate::shard::submit::{Submission, Submitted};
use crate::store::log::Sizes;

/// A server that starts takes its lock before it listens, and one that stops closes its socket first.
const ATTEMPTS: usize = 25;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// Opens what holds the mail when no server runs: one without listeners.
pub type OpenStore = fn(&Config, DataDir) -> Result<Arc<dyn Backend>, Failure>;

/// A conversation with a server, be it another process or a thread of this one.
pub struct Session {
    /// `None` only while it is dropped.
    control: Option<Control>,
    server: Option<JoinHandle<()>>,
}

impl Session {
    /// For commands about accounts, aliases and domains, but for a purge.
    pub fn for_directory(config: &Config) -> Result<Self, Failure> {
        let open: OpenStore = |config, data| Ok(Arc::new(DirectoryBackend::open(config, data)?));
        Self::open(config, open)
    }

    /// For commands about mail.
    pub fn for_mail(config: &Config, open: OpenStore) -> Result<Self, Failure> {
        if !config.data.exists() {
            let data = config.data.display();
            return Err(Failure::unavailable(format!(
                "there is no data directory {data}; name it with --data or --config"
            )));
        }
        Self::open(config, open)
    }

    fn open(config: &Config, open: OpenStore) -> Result<Self, Failure> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(BETWEEN_ATTEMPTS);
            }
            if let Some(stream) = connect(&config.data)? {
                let control = Control::over(stream).map_err(Failure::unavailable)?;
                return Ok(Self { control: Some(control), server: None });
            }
            user::become_configured(config)?;
            match DataDir::open(&config.data) {
                Ok(data) => return Self::within(open(config, data.with_sizes(sizes(config)))?),
                Err(error) if is_locked(&error) => last = Some(error),
                Err(error) => return Err(user::no_directory(config, &error)),
            }
        }
        let data = config.data.display();
        let error = last.map(|error| error.to_string()).unwrap_or_default();
        Err(Failure::unavailable(format!(
            "another process uses {data} and does not answer on {} ({error}); is it a server that hangs?",
            socket::path(&config.data).display()
        )))
    }

    /// A conversation with a server in this process.
    pub fn within(backend: Arc<dyn Backend>) -> Result<Self, Failure> {
        let (ours, theirs) = UnixStream::pair().map_err(Failure::unavailable)?;
        let serve = move || {
            // An error here is ours hanging up, or one that our end sees too.
            let _ = server::serve(&*backend, theirs);
        };
        let server =
            thread::Builder::new().name("offline".to_owned()).spawn(serve).map_err(Failure::unavailable)?;
        let control = Control::over(ours).map_err(Failure::unavailable)?;
        Ok(Self { control: Some(control), server: Some(server) })
    }

    pub fn control(&mut self) -> &mut Control {
        self.control.as_mut().expect("it goes when the session goes")
    }

    /// Whether no server runs, and this process is one for the moment.
    pub fn is_offline(&self) -> bool {
        self.server.is_some()
    }

    pub fn change(&mut self, change: Change) -> Result<(), Failure> {
        self.control().ask(&Request::Change(change), |_| Ok(()))
    }

    /// Asks, and hands each line of the answer to `each`.
    pub fn ask(
        &mut self,
        request: &Request,
        each: impl FnMut(Reply) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.control().ask(request, each)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.control.take());
        if let Some(server) = self.server.take() {
            // A panic there has been printed; what was promised before it was durable.
            let _ = server.join();
        }
    }
}

/// The socket of the server that runs on `data`; `None` if none does.
pub fn connect(data: &Path) -> Result<Option<UnixStream>, Failure> {
    socket::connect(data).map_err(|error| {
        let path = socket::path(data);
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; run this as the user that the server runs as",
            _ => "",
        };
        Failure::unavailable(format!("{} cannot be reached: {error}{hint}", path.display()))
    })
}

fn is_locked(error: &DiskError) -> bool {
    error.source.kind() == io::ErrorKind::WouldBlock
}

/// The directory's file without a server.
struct DirectoryBackend {
    config: Config,
    data: DataDir,
    logs: Vec<u16>,
    directory: Mutex<Arc<Directory>>,
}

impl DirectoryBackend {
    fn open(config: &Config, data: DataDir) -> Result<Self, Failure> {
        let directory = directory_file::read(data.path(), &config.domains)?;
        let logs = logs(config, &data)?;
        Ok(Self { config: config.clone(), data, logs, directory: Mutex::new(Arc::new(directory)) })
    }
}

/// The logs that are there, or that the first start will make.
fn logs(config: &Config, data: &DataDir) -> Result<Vec<u16>, Failure> {
    let found = data.logs().map_err(Failure::unavailable)?;
    if !found.is_empty() {
        return Ok(found.into_iter().map(|log| log.0).collect());
    }
    let cores = config.cores.map_or_else(|| executor::allowed_cpus().len(), usize::from);
    Ok((0..u16::try_from(cores.max(1)).unwrap_or(u16::MAX)).collect())
}

impl Backend for DirectoryBackend {
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: Change) -> Result<(), Refusal> {
        change.check_against(&self.config.domains)?;
        if matches!(change, Change::RemoveAccount { purge: true, .. }) {
            return Err(without_mail());
        }
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let next = directory_file::apply(change, &directory, &self.logs)?;
        directory_file::write(self.data.path(), &next)?;
        *directory = Arc::new(next);
        Ok(())
    }

    fn queue(&self, _: QueueRequest, _: &mut dyn FnMut(QueueReply) -> io::Result<()>) -> Result<(), Refusal> {
        Err(without_mail())
    }

    fn stats(&self) -> Result<Vec<(String, u64)>, Refusal> {
        Err(without_mail())
    }

    fn clean(&self) -> Result<Vec<Result<String, String>>, Refusal> {
        Err(without_mail())
    }

    fn verify(&self, _: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        Err(without_mail())
    }

    fn repair(&self, _: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        Err(without_mail())
    }

    fn keep_files(&self) -> Result<Kept, Refusal> {
        Err(without_mail())
    }

    fn raise_uid_validity(&self, _: u32) -> Result<u64, Refusal> {
        Err(without_mail())
    }

    fn message_bytes_max(&self) -> u64 {
        self.config.limits.message_bytes
    }

    fn mailboxes(&self, _: &Address) -> Result<Vec<MailboxRow>, Refusal> {
        Err(without_mail())
    }

    fn append(&self, _: &Address, _: Vec<NewMessage>) -> Result<(), Unfinished> {
        Err(without_mail().into())
    }

    fn submit(&self, _: Submission) -> Result<Result<Submitted, MessageRefusal>, Refusal> {
        Err(without_mail())
    }

    fn messages(&self, _: &Address, _: &str, _: u32) -> Result<Vec<StoredMessage>, Refusal> {
        Err(without_mail())
    }
}

fn without_mail() -> Refusal {
    Refusal::unavailable("this needs the mail, and only the directory was opened")
}

/// How large segments are, as the configuration has it.
pub fn sizes(config: &Config) -> Sizes {
    Sizes::bounded(config.limits.segment_bytes, config.limits.reserve_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::Session;
    use crate::admin::control::{Change, Reply, Request};
    use crate::admin::directory_file::tests::secrets;
    use crate::admin::failure::Failure;
    use crate::admin::memory::MemoryBackend;
    use crate::admin::server::{Backend, ControlServer};
    use crate::config::Config;
    use crate::io::disk::layout::DataDir;

    fn config(folder: &TempDir) -> Config {
        let text = format!(
            "data = {:?}\ncores = 2\n[[domain]]\nname = \"named.example\"",
            folder.path().join("data")
        );
        Config::parse(&text, "here").unwrap()
    }

    fn add(address: &str) -> Change {
        Change::AddAccount { address: address.to_owned(), secrets: secrets("x"), quota_bytes: None }
    }

    fn accounts(config: &Config) -> Vec<(String, u16)> {
        let mut found = Vec::new();
        let mut session = Session::for_directory(config).unwrap();
        session
            .ask(&Request::Accounts, |reply| {
                if let Reply::Account(row) = reply {
                    found.push((row.address, row.log));
                }
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn without_a_server_the_file_is_changed() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        for address in ["a@example.org", "b@example.org", "c@example.org"] {
            Session::for_directory(&config).unwrap().change(add(address)).unwrap();
        }
        let expected = [("a@example.org", 0), ("b@example.org", 1), ("c@example.org", 0)];
        assert_eq!(accounts(&config), expected.map(|(address, log)| (address.to_owned(), log)));
        let remove = Change::RemoveDomain { name: "named.example".to_owned() };
        let refused = Session::for_directory(&config).unwrap().change(remove);
        assert!(matches!(refused, Err(Failure::Wrong(text)) if text.contains("[[domain]]")));
        let purge = Change::RemoveAccount { address: "a@example.org".to_owned(), purge: true };
        let refused = Session::for_directory(&config).unwrap().change(purge);
        assert!(matches!(refused, Err(Failure::Unavailable(_))), "its mail would stay");
        assert_eq!(accounts(&config).len(), 3);
    }

    #[test]
    fn a_running_server_is_asked() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let data = DataDir::open(&config.data).unwrap();
        let backend: Arc<dyn Backend> = MemoryBackend::with_bob();
        let server = ControlServer::start(data.path(), Arc::clone(&backend)).unwrap();
        Session::for_directory(&config).unwrap().change(add("eve@example.org")).unwrap();
        assert_eq!(backend.directory().accounts().count(), 2);
        drop(server);
        drop(data);
        assert!(accounts(&config).is_empty());
    }

    #[test]
    fn mail_needs_a_data_directory() {
        let folder = TempDir::new().unwrap();
        let opened = Session::for_mail(&config(&folder), |_, _| Err(Failure::wrong("not reached")));
        assert!(matches!(opened, Err(Failure::Unavailable(text)) if text.contains("--data")));
    }

    #[test]
    fn a_damaged_file_is_not_an_empty_one() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        Session::for_directory(&config).unwrap().change(add("a@example.org")).unwrap();
        for name in ["directory", "directory.copy"] {
            let path = config.data.join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(bytes.len() - 5);
            std::fs::write(&path, bytes).unwrap();
        }
        let opened = Session::for_directory(&config);
        assert!(matches!(opened, Err(Failure::Unavailable(text)) if text.contains("directory: ")));
    }
}
