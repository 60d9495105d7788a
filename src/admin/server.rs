//! The server's end of the control socket: a thread that answers operators, over whatever holds the mail.
//!
//! The thread never waits for a shard in any other way than through the [`Backend`], which the running server
//! implements over its shards, and a command that found no server over what it opened itself.
//!
//! Invariants: at most `CLIENTS_MAX` operators at a time; an import holds at most one batch in memory; a
//! request that fails leaves the connection usable, but for an import and a submission, after which it is closed.

use std::fs;
use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use crate::admin::control::{
    AccountRow, BackupItem, Change, DamageKind, DamageRow, ImportItem, KeptFile, MessageHead, Refusal, Reply,
    Request, SubmitHead, SubmitRecipient, read_line, read_octets, write_line,
};
use crate::admin::queue::words::{QueueReply, QueueRequest};
use crate::admin::socket;
use crate::auth::Directory;
use crate::bytes::Slice;
use crate::mail::address::Address;
use crate::mail::envelope::{BodyKind, Envelope, Recipient};
use crate::mail::flags::Flags;
use crate::mail::header::Header;
use crate::mail::time::Timestamp;
use crate::proto::smtp::{MessageRefusal, RecipientVerdict};
use crate::shard::cut::Pins;
use crate::shard::submit::{self, Relaying, Submission, Submitted};

/// Operators at once. The next one waits.
const CLIENTS_MAX: usize = 16;

/// A client that says nothing for so long is gone; one that imports may be reading from a slow disk.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Why a backup ends early.
const FREED: &str = "the disk is full, and files that the backup needs had to be given up to make room; make room and \
                     run it again";

/// What a batch may hold besides one message as large as may be.
pub const BATCH_BYTES: u64 = 8 << 20;
pub const BATCH_MESSAGES: usize = 256;

/// What operators can ask of a server. Calls come from threads that serve no sessions and may block.
pub trait Backend: Send + Sync {
    /// The accounts, aliases and domains of now.
    fn directory(&self) -> Arc<Directory>;

    /// Makes a change; returns when it is durable and every shard goes by it. [`Change::apply`] is how.
    ///
    /// [`Change::apply`]: crate::admin::directory_file
    fn change(&self, change: Change) -> Result<(), Refusal>;

    /// What is asked of the mail that waits for its way out. `each` takes the lines of the answer; its error ends the
    /// work.
    fn queue(
        &self,
        request: QueueRequest,
        each: &mut dyn FnMut(QueueReply) -> io::Result<()>,
    ) -> Result<(), Refusal>;

    /// Numbers about what is stored, with their names, in the order of printing.
    fn stats(&self) -> Result<Vec<(String, u64)>, Refusal>;

    /// Gives back the space of mail that nobody has; a line for each log, whether it could be cleaned or not.
    fn clean(&self) -> Result<Vec<Result<String, String>>, Refusal>;

    /// Reads all that is stored and checks it. `report` is told of progress and damage; its error ends the work.
    fn verify(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal>;

    /// Puts aside what cannot be read, and tells of each piece.
    fn repair(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal>;

    /// Keeps all files as they are for as long as what comes back lives, and names those that a copy of all that was
    /// acknowledged by now needs.
    fn keep_files(&self) -> Result<Kept, Refusal>;

    /// Gives every mailbox a UIDVALIDITY above this one; says of how many accounts. For a store that serves nobody.
    fn raise_uid_validity(&self, floor: u32) -> Result<u64, Refusal>;

    /// The largest message that is taken.
    fn message_bytes_max(&self) -> u64;

    /// The mailboxes of an account.
    fn mailboxes(&self, account: &Address) -> Result<Vec<MailboxRow>, Refusal>;

    /// Puts messages into mailboxes of an account, which are made where they are missing; durable on return. Stops at
    /// the first message that cannot be put.
    fn append(&self, account: &Address, messages: Vec<NewMessage>) -> Result<(), Unfinished>;

    /// Takes responsibility for a message; durable on return.
    fn submit(&self, submission: Submission) -> Result<Result<Submitted, MessageRefusal>, Refusal>;

    /// The next messages of a mailbox after `after_uid`, in order, also those that cannot be read; as many as are good
    /// to hold at once, none at the end.
    fn messages(
        &self,
        account: &Address,
        mailbox: &str,
        after_uid: u32,
    ) -> Result<Vec<StoredMessage>, Refusal>;
}

/// What [`Backend::verify`] has to tell.
pub enum Finding {
    /// Bytes read, of how many; 0 of nobody knows how many.
    Progress { done: u64, total: u64 },
    /// Something that cannot be read, where it is, and what was done with it.
    Damage(Box<DamageRow>),
}

/// Files of a store that stay as they are.
pub struct Kept {
    pub store: String,
    pub files: Vec<KeptFile>,
    /// As long as it lives.
    pub pins: Pins,
}

/// A mailbox and how many messages are in it.
pub struct MailboxRow {
    pub name: String,
    pub messages: u64,
}

/// A message to be put into a mailbox. Its lines end with CRLF.
pub struct NewMessage {
    pub mailbox: String,
    pub flags: Flags,
    pub date: Timestamp,
    pub bytes: Vec<u8>,
}

/// Why not all messages of [`Backend::append`] are in.
pub struct Unfinished {
    /// So many of the first are in and durable, and none of the others.
    pub taken: usize,
    pub refusal: Refusal,
}

impl From<Refusal> for Unfinished {
    fn from(refusal: Refusal) -> Self {
        Self { taken: 0, refusal }
    }
}

/// A message of a mailbox.
pub struct StoredMessage {
    pub uid: u32,
    pub flags: Flags,
    pub date: Timestamp,
    /// `None` if it cannot be read.
    pub bytes: Option<Slice>,
}

/// The control socket of a running server. It goes when this is dropped.
pub struct ControlServer {
    path: PathBuf,
}

impl ControlServer {
    /// Listens in `data`, whose lock the caller holds, and answers from a thread of its own.
    pub fn start(data: &Path, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let listener = socket::listen(data)?;
        thread::Builder::new().name("control".to_owned()).spawn(move || accept(&listener, &backend))?;
        Ok(Self { path: socket::path(data) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The next start replaces what is left.
        let _ = fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, backend: &Arc<dyn Backend>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        while clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
            thread::sleep(Duration::from_millis(50));
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely; trying again at once would only burn time.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let client = Client::of(&clients);
        let backend = Arc::clone(backend);
        let answering = thread::Builder::new().name("control client".to_owned()).spawn(move || {
            let _client = client;
            if let Err(error) = serve(&*backend, stream) {
                tracing::debug!(%error, "control client lost");
            }
        });
        if let Err(error) = answering {
            tracing::warn!(%error, "no thread for an operator");
        }
    }
}

/// Counts a client for as long as it lives, also through a panic.
struct Client(Arc<AtomicUsize>);

impl Client {
    fn of(clients: &Arc<AtomicUsize>) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(clients))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers requests until the client hangs up.
pub fn serve(backend: &dyn Backend, stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut peer = Peer { writer: stream.try_clone()?, reader: BufReader::new(stream) };
    loop {
        let request = match read_line(&mut peer.reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                peer.reply(&Reply::Failed(Refusal::wrong(format!("the request cannot be read: {error}"))))?;
                return Err(error);
            }
        };
        // What follows these on its way would be taken for requests after a refusal.
        let has_more = matches!(request, Request::Import { .. } | Request::Submit(_) | Request::Backup);
        match peer.answer(backend, request) {
            Ok(()) => peer.reply(&Reply::Done)?,
            Err(Trouble::Refused(refusal)) => {
                peer.reply(&Reply::Failed(refusal))?;
                if has_more {
                    return Ok(());
                }
            }
            Err(Trouble::Lost(error)) => return Err(error),
        }
    }
}

struct Peer {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// Why an answer ended early.
enum Trouble {
    Refused(Refusal),
    /// The client is gone.
    Lost(io::Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Peer {
    fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        write_line(&mut self.writer, reply)
    }

    fn answer(&mut self, backend: &dyn Backend, request: Request) -> Result<(), Trouble> {
        match request {
            Request::Change(change) => Ok(backend.change(change)?),
            Request::Accounts => self.accounts(&backend.directory()),
            Request::Aliases => self.aliases(&backend.directory()),
            Request::Domains => self.domains(&backend.directory()),
            Request::Queue(request) => {
                Ok(backend.queue(request, &mut |reply| self.reply(&Reply::Queue(reply)))?)
            }
            Request::Stats => self.stats(backend),
            Request::Clean => self.clean(backend),
            Request::Verify => self.verify(backend),
            Request::Repair => self.repair(backend),
            Request::Backup => self.backup(backend),
            Request::Import { account } => self.import(backend, &account),
            Request::Export { account, mailbox } => self.export(backend, &account, mailbox),
            Request::Submit(head) => self.submit(backend, head),
            Request::Judge { address } => {
                let address = parse_address(&address)?;
                let judged = submit::judge(&backend.directory(), Relaying::Allowed, 0, &address);
                let verdict = judged.map_or_else(|refused| refused, |_| RecipientVerdict::Accepted);
                Ok(self.reply(&Reply::Judged(verdict))?)
            }
        }
    }

    fn accounts(&mut self, directory: &Directory) -> Result<(), Trouble> {
        for account in directory.accounts() {
            self.reply(&Reply::Account(AccountRow {
                address: account.address.to_string(),
                log: account.log,
                usage_bytes: account.usage_bytes(),
                quota_bytes: account.quota_bytes,
                is_closed: account.is_closed,
            }))?;
        }
        Ok(())
    }

    fn aliases(&mut self, directory: &Directory) -> Result<(), Trouble> {
        for alias in directory.aliases() {
            let targets = alias.targets.iter().map(Address::to_string).collect();
            self.reply(&Reply::Alias { name: alias.name.to_string(), targets })?;
        }
        Ok(())
    }

    fn domains(&mut self, directory: &Directory) -> Result<(), Trouble> {
        for name in directory.domains() {
            self.reply(&Reply::Domain { name: name.to_owned() })?;
        }
        Ok(())
    }

    fn stats(&mut self, backend: &dyn Backend) -> Result<(), Trouble> {
        for (name, value) in backend.stats()? {
            self.reply(&Reply::Stat { name, value })?;
        }
        Ok(())
    }

    fn clean(&mut self, backend: &dyn Backend) -> Result<(), Trouble> {
        for cleaned in backend.clean()? {
            let reply = cleaned.map_or_else(|text| Reply::Uncleaned { text }, |text| Reply::Cleaned { text });
            self.reply(&reply)?;
        }
        Ok(())
    }

    fn verify(&mut self, backend: &dyn Backend) -> Result<(), Trouble> {
        Ok(backend.verify(&mut |finding| self.find(finding))?)
    }

    fn repair(&mut self, backend: &dyn Backend) -> Result<(), Trouble> {
        Ok(backend.repair(&mut |finding| self.find(finding))?)
    }

    fn find(&mut self, finding: Finding) -> io::Result<()> {
        match finding {
            Finding::Progress { done, total } => self.reply(&Reply::Progress { done, total }),
            Finding::Damage(row) => self.reply(&Reply::Damage(row)),
        }
    }

    /// A client that hangs up lets go of the files as well.
    fn backup(&mut self, backend: &dyn Backend) -> Result<(), Trouble> {
        let Kept { store, files, pins } = backend.keep_files()?;
        for file in files {
            self.reply(&Reply::Kept(file))?;
        }
        self.reply(&Reply::AllKept { store })?;
        loop {
            match read_line(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)? {
                _ if !pins.are_kept() => return Err(Refusal::unavailable(FREED).into()),
                BackupItem::Still => {}
                BackupItem::End => return Ok(()),
            }
        }
    }

    fn import(&mut self, backend: &dyn Backend, account: &str) -> Result<(), Trouble> {
        let account = open_account(&backend.directory(), account)?;
        let mut batch = Batch::default();
        let mut done = 0;
        loop {
            match read_line(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)? {
                ImportItem::Message(head) => {
                    batch.check_room(&head, backend.message_bytes_max())?;
                    let bytes = read_octets(&mut self.reader, head.bytes)?;
                    batch.push(head, bytes);
                }
                ImportItem::Commit => {
                    let count = batch.messages.len();
                    let appended = backend.append(&account, batch.take());
                    done += appended.as_ref().map_or_else(|unfinished| unfinished.taken, |()| count) as u64;
                    // Also before a refusal: the client must know what not to send again.
                    self.reply(&Reply::Progress { done, total: 0 })?;
                    appended.map_err(|unfinished| unfinished.refusal)?;
                }
                // What was not committed was not promised; the client has sent `commit` before `end`.
                ImportItem::End => return Ok(()),
            }
        }
    }

    fn submit(&mut self, backend: &dyn Backend, head: SubmitHead) -> Result<(), Trouble> {
        let message_bytes_max = backend.message_bytes_max();
        if head.bytes > message_bytes_max {
            let text = format!("the message is larger than the {message_bytes_max} bytes that are taken");
            return Err(Refusal::wrong(text).into());
        }
        let message = read_octets(&mut self.reader, head.bytes)?;
        let user = socket_peercred(&self.writer).map_err(io::Error::from)?.uid.as_raw();
        let envelope = envelope(head, &message)?;
        match backend.submit(Submission { envelope, message, user })? {
            Ok(Submitted { id, refused }) => {
                let refused = refused.into_iter().map(|(address, why)| (address.to_string(), why)).collect();
                Ok(self.reply(&Reply::Submitted { id, refused })?)
            }
            Err(refusal) => Ok(self.reply(&Reply::NotKept(refusal))?),
        }
    }

    fn export(&mut self, backend: &dyn Backend, account: &str, only: Option<String>) -> Result<(), Trouble> {
        let account = open_account(&backend.directory(), account)?;
        let mut rows = backend.mailboxes(&account)?;
        if let Some(only) = only {
            rows.retain(|row| row.name == only);
            if rows.is_empty() {
                return Err(Refusal::wrong(format!("the account {account} has no mailbox {only:?}")).into());
            }
        }
        for MailboxRow { name, messages } in rows {
            self.reply(&Reply::Mailbox { name: name.clone(), messages })?;
            self.export_mailbox(backend, &account, &name)?;
        }
        Ok(())
    }

    fn export_mailbox(
        &mut self,
        backend: &dyn Backend,
        account: &Address,
        mailbox: &str,
    ) -> Result<(), Trouble> {
        let mut after_uid = 0;
        loop {
            let page = backend.messages(account, mailbox, after_uid)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after_uid = last.uid;
            for StoredMessage { uid, flags, date, bytes } in page {
                let Some(bytes) = bytes else {
                    self.reply(&Reply::Damage(Box::new(unreadable(account, mailbox, uid))))?;
                    continue;
                };
                let head = MessageHead::new(mailbox, &flags, date, bytes.len());
                self.reply(&Reply::Message(MessageHead { uid, ..head }))?;
                self.writer.write_all(&bytes)?;
            }
        }
    }
}

fn unreadable(account: &Address, mailbox: &str, uid: u32) -> DamageRow {
    let text = format!("{account}: message {uid} in {mailbox} cannot be read");
    DamageRow {
        account: Some(account.to_string()),
        mailbox: Some(mailbox.to_owned()),
        uid: Some(uid),
        ..DamageRow::of(DamageKind::Message, text)
    }
}

/// The envelope; what it says of the content is read from the content.
fn envelope(head: SubmitHead, message: &[u8]) -> Result<Envelope, Refusal> {
    let sender = match head.sender.as_str() {
        "" => None,
        sender => Some(parse_address(sender)?),
    };
    let mut recipients = Vec::with_capacity(head.recipients.len());
    for SubmitRecipient { address, notify, orcpt } in head.recipients {
        recipients.push(Recipient { notify, orcpt, ..Recipient::new(parse_address(&address)?) });
    }
    let header = &message[..Header::of(message).len()];
    let smtputf8 = !header.is_ascii()
        || sender.iter().chain(recipients.iter().map(|to| &to.address)).any(|address| !address.is_ascii());
    let body = if message.is_ascii() { BodyKind::SevenBit } else { BodyKind::EightBitMime };
    Ok(Envelope {
        sender,
        recipients,
        body,
        smtputf8,
        ret: head.ret,
        envid: head.envid,
        ..Envelope::default()
    })
}

/// `postmaster` needs no domain (RFC 5321 4.5.1).
fn parse_address(text: &str) -> Result<Address, Refusal> {
    if text.eq_ignore_ascii_case("postmaster") {
        return Ok(Address { local: text.to_owned(), domain: String::new() });
    }
    Address::parse(text)
        .map_err(|_| Refusal::wrong(format!("{text:?} is not an address of the form user@domain")))
}

/// The address of an open account that is spelt `text`.
fn open_account(directory: &Directory, text: &str) -> Result<Address, Refusal> {
    let address = parse_address(text)?;
    match directory.account_at(&address) {
        Some(account) if !account.is_closed => Ok(account.address.clone()),
        _ => Err(Refusal::wrong(format!("there is no account {address}; `ringpost account list` names all"))),
    }
}

#[derive(Default)]
struct Batch {
    messages: Vec<NewMessage>,
    bytes: u64,
}

impl Batch {
    fn check_room(&self, head: &MessageHead, message_bytes_max: u64) -> Result<(), Refusal> {
        if head.bytes > message_bytes_max {
            let text = format!(
                "a message for {} has {} bytes and the largest that is taken {message_bytes_max}; \
                 raise message_bytes in [limits]",
                head.mailbox, head.bytes
            );
            return Err(Refusal::wrong(text));
        }
        let is_full = self.messages.len() >= BATCH_MESSAGES || self.bytes > BATCH_BYTES;
        if is_full { Err(Refusal::wrong("too many messages without a commit")) } else { Ok(()) }
    }

    fn push(&mut self, head: MessageHead, bytes: Vec<u8>) {
        self.bytes += head.bytes;
        let (flags, date) = (head.flags(), head.date());
        self.messages.push(NewMessage { mailbox: head.mailbox, flags, date, bytes });
    }

    fn take(&mut self) -> Vec<NewMessage> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::{BATCH_MESSAGES, Backend, ControlServer};
    use crate::admin::control::{Change, Control, ImportItem, MessageHead, Reply, Request};
    use crate::admin::directory_file::tests::secrets;
    use crate::admin::failure::Failure;
    use crate::admin::memory::MemoryBackend;
    use crate::admin::offline::Session;
    use crate::admin::queue::words::QueueRequest;
    use crate::admin::socket;
    use crate::queue::selection::Selection;

    fn lines(session: &mut Session, request: &Request) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        session.ask(request, |reply| {
            lines.push(serde_json::to_string(&reply).unwrap());
            Ok(())
        })?;
        Ok(lines)
    }

    fn text(outcome: Result<impl Sized, Failure>) -> String {
        match outcome {
            Err(Failure::Wrong(text)) => format!("wrong: {text}"),
            Err(Failure::Unavailable(text)) => format!("unavailable: {text}"),
            _ => "fine".to_owned(),
        }
    }

    #[test]
    fn questions_and_changes() {
        let backend = MemoryBackend::with_bob();
        let mut session = Session::within(backend).unwrap();
        let name = |name: &str| name.to_owned();
        session.change(Change::AddDomain { name: name("example.net") }).unwrap();
        let add = Change::AddAlias { name: name("info@example.org"), targets: vec![name("bob@example.org")] };
        session.change(add).unwrap();
        let again = session.change(Change::AddDomain { name: name("example.net") });
        assert_eq!(text(again), "wrong: the domain example.net is local already");
        let table: [(Request, &[&str]); 5] = [
            (
                Request::Accounts,
                &[concat!(
                    r#"{"account":{"address":"bob@example.org","log":0,"usage_bytes":0,"#,
                    r#""quota_bytes":1000,"is_closed":false}}"#
                )],
            ),
            (Request::Aliases, &[r#"{"alias":{"name":"info@example.org","targets":["bob@example.org"]}}"#]),
            (
                Request::Domains,
                &[r#"{"domain":{"name":"example.net"}}"#, r#"{"domain":{"name":"example.org"}}"#],
            ),
            (
                Request::Queue(QueueRequest::List { selection: Selection::all(), count: 1 }),
                &[concat!(
                    r#"{"queue":{"row":{"id":"000000000001","sender":"bob@example.org","#,
                    r#""recipient":"eve@relay.test","queue":"relay.test","domain":"relay.test","size":5,"#,
                    r#""created":0,"state":"ready","num_attempts":0,"due":0,"reason":"","meta":{}}}}"#
                )],
            ),
            (
                Request::Verify,
                &[
                    r#"{"progress":{"done":5,"total":10}}"#,
                    r#"{"damage":{"what":"message","text":"log 0, message 7: a block has another checksum"}}"#,
                ],
            ),
        ];
        for (request, expected) in table {
            assert_eq!(lines(&mut session, &request).unwrap(), expected);
        }
        assert_eq!(text(lines(&mut session, &Request::Stats)), "unavailable: nobody counts");
        assert_eq!(lines(&mut session, &Request::Clean).unwrap().len(), 2);
    }

    #[test]
    fn imports_that_are_refused() {
        let head = |mailbox: &str, bytes| MessageHead {
            mailbox: mailbox.to_owned(),
            bytes,
            ..MessageHead::default()
        };
        let table = [
            ("eve@example.org", head("INBOX", 1), "wrong: there is no account eve@example.org"),
            ("eve", head("INBOX", 1), "wrong: \"eve\" is not an address"),
            ("bob@example.org", head("INBOX", 10_001), "wrong: a message for INBOX has 10001 bytes"),
            ("Bob@Example.org", head("Full", 1), "wrong: the account is full"),
            ("bob@example.org", head("INBOX", 1), "fine"),
        ];
        for (account, head, expected) in table {
            let mut session = Session::within(MemoryBackend::with_bob()).unwrap();
            let control = session.control();
            let mut import = || -> Result<(), Failure> {
                control.send(&Request::Import { account: account.to_owned() })?;
                control.send(&ImportItem::Message(head.clone()))?;
                control.send_octets(&b"x".repeat(usize::try_from(head.bytes).unwrap()))?;
                control.send(&ImportItem::Commit)?;
                control.receive()?;
                control.send(&ImportItem::End)?;
                while !matches!(control.receive()?, Reply::Done) {}
                Ok(())
            };
            let outcome = text(import());
            assert!(outcome.starts_with(expected), "{outcome}");
        }
    }

    #[test]
    fn a_batch_has_a_bound() {
        let mut session = Session::within(MemoryBackend::with_bob()).unwrap();
        let control = session.control();
        control.send(&Request::Import { account: "bob@example.org".to_owned() }).unwrap();
        let mut outcome = Ok(());
        for _ in 0..=BATCH_MESSAGES {
            outcome = control.send(&ImportItem::Message(MessageHead::default()));
        }
        let outcome = outcome.and_then(|()| control.receive().map(|_| ()));
        assert_eq!(text(outcome), "wrong: too many messages without a commit");
    }

    #[test]
    fn over_a_real_socket() {
        let folder = TempDir::new().unwrap();
        let backend = MemoryBackend::with_bob();
        let server = ControlServer::start(folder.path(), Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
        let stream = || socket::connect(folder.path()).unwrap().unwrap();
        let clients: Vec<UnixStream> = (0..5).map(|_| stream()).collect();
        let mut control = Control::over(stream()).unwrap();
        let secrets = secrets("y");
        let add = Change::AddAccount { address: "eve@example.org".to_owned(), secrets, quota_bytes: None };
        control.ask(&Request::Change(add), |_| Ok(())).unwrap();
        assert_eq!(backend.directory().accounts().count(), 2);
        drop(clients);
        // Words that are none of ours end the conversation with a reason.
        let mut stray = Control::over(stream()).unwrap();
        stray.send(&"frobnicate").unwrap();
        assert!(text(stray.receive()).starts_with("wrong: the request cannot be read"));
        drop(server);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
