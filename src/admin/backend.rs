//! What operators ask of a server, answered over its shards.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_lite::future::block_on;

use crate::admin::control::{Change, KeptBytes, KeptFile, Refusal};
use crate::admin::directory_file;
use crate::admin::queue::words::{QueueReply, QueueRequest};
use crate::admin::server::{Backend, Finding, Kept, MailboxRow, NewMessage, StoredMessage, Unfinished};
use crate::auth::Directory;
use crate::config::Config;
use crate::io::disk::copy::{Extent, extras};
use crate::io::disk::layout::DataDir;
use crate::io::events::EventWriter;
use crate::io::inbox::Inbox;
use crate::io::tls::ServerTls;
use crate::mail::address::Address;
use crate::proto::smtp::MessageRefusal;
use crate::shard::clean::Cycle;
use crate::shard::control::{Append, Figures, Held, NewMail, Request, Space, Stopped};
use crate::shard::cut::Pins;
use crate::shard::mesh::Letter;
use crate::shard::server::Server;
use crate::shard::submit::{Submission, Submitted};
use crate::store::{AccountId, LogId};

/// Messages that are handed over at once.
const MESSAGES_AT_ONCE: usize = 64;

/// A running server as its operators see it.
pub struct ShardBackend {
    server: Server,
    data: Arc<DataDir>,
    /// As it was read last.
    config: Mutex<Arc<Config>>,
    /// The newest snapshot. Whoever changes it holds it until all shards go by the next.
    directory: Mutex<Arc<Directory>>,
    /// Messages that programs on this machine handed in; each goes to the next shard.
    submissions: AtomicUsize,
    /// The number of the last suspension.
    suspended: AtomicU64,
    /// The number of the last cut through all logs.
    cuts: Mutex<u32>,
    /// Where nobody else waits for events to be written: dropping it does.
    _events: Option<EventWriter>,
}

/// An account with the log that its mail lies in.
#[derive(Clone, Copy)]
struct Place {
    account: AccountId,
    log: LogId,
}

impl ShardBackend {
    pub fn new(server: Server, data: Arc<DataDir>, config: Arc<Config>, directory: Arc<Directory>) -> Self {
        Self {
            server,
            data,
            config: Mutex::new(config),
            directory: Mutex::new(directory),
            submissions: AtomicUsize::new(0),
            suspended: AtomicU64::new(0),
            cuts: Mutex::new(0),
            _events: None,
        }
    }

    /// Of a server that ends with this backend; what happened is written by then.
    pub fn with_events(self, events: EventWriter) -> Self {
        Self { _events: Some(events), ..self }
    }

    /// Asks one shard.
    pub fn ask<T>(&self, shard: usize, request: impl FnOnce(Inbox<T>) -> Request) -> T {
        let answer = Inbox::new();
        self.server.post(shard, Letter::Control(request(answer.clone())));
        block_on(answer.next())
    }

    /// Asks all shards, which work on it at the same time; the answers are in their order.
    pub fn ask_all<T>(&self, request: impl Fn(Inbox<T>) -> Request) -> Vec<T> {
        let ask = |shard| {
            let answer = Inbox::new();
            self.server.post(shard, Letter::Control(request(answer.clone())));
            answer
        };
        let answers: Vec<Inbox<T>> = (0..self.server.shards()).map(ask).collect();
        answers.into_iter().map(|answer| block_on(answer.next())).collect()
    }

    pub fn driver_of(&self, log: LogId) -> usize {
        self.server.driver_of(log)
    }

    pub fn logs(&self) -> Result<Vec<LogId>, Refusal> {
        self.data.logs().map_err(Refusal::unavailable)
    }

    /// A number for a suspension, above `known`, which may be from before the start.
    pub fn next_suspension(&self, known: u64) -> u64 {
        self.suspended.fetch_max(known, Ordering::Relaxed);
        self.suspended.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nothing of any log is freed from here on.
    fn pin_all(&self) -> Pins {
        let shards = 0..self.server.shards();
        let release: Vec<Inbox<()>> = shards.map(|_| Inbox::new()).collect();
        // From the first one on they are let go of, whatever happens.
        let lost = Inbox::new();
        let pins = Pins::new(release.clone(), lost.clone());
        let ask = |(shard, release): (usize, Inbox<()>)| {
            let pinned = Inbox::new();
            self.server.post(shard, Letter::Control(Request::Pin(pinned.clone(), release, lost.clone())));
            pinned
        };
        let pinned: Vec<Inbox<()>> = release.into_iter().enumerate().map(ask).collect();
        pinned.into_iter().for_each(|pinned| block_on(pinned.next()));
        pins
    }

    /// The files of all logs as of a moment that all agree upon. One after the other: each cut has its number.
    fn cut(&self) -> Result<Vec<Extent>, Refusal> {
        let mut last = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let files = self.ask_all(|answer| Request::FilesAt(*last, answer));
        let files: Vec<Vec<Extent>> =
            files.into_iter().collect::<Result<_, _>>().map_err(Refusal::unavailable)?;
        Ok(files.into_iter().flatten().collect())
    }

    fn path_below(&self, path: &Path) -> String {
        path.strip_prefix(self.data.path()).unwrap_or(path).to_string_lossy().into_owned()
    }

    pub fn data(&self) -> &DataDir {
        &self.data
    }

    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock_config())
    }

    /// Certificates and configuration were read again.
    pub fn reload(&self, config: Arc<Config>, tls: &ServerTls) {
        self.server.reload(&config, tls);
        *self.lock_config() = config;
    }

    fn owner(&self, place: Place) -> usize {
        self.server.driver_of(place.log)
    }

    fn place(&self, address: &Address) -> Result<Place, Refusal> {
        let directory = self.directory();
        let account = directory.account_at(address);
        let account = account.ok_or_else(|| Refusal::wrong(format!("there is no account {address}")))?;
        Ok(Place { account: AccountId(account.id), log: LogId(account.log) })
    }

    fn lock_config(&self) -> MutexGuard<'_, Arc<Config>> {
        // It is replaced in one assignment, so that a panic elsewhere left it whole.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Directory>> {
        // The snapshot is replaced in one assignment, so that a panic elsewhere left it whole.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes an account, open or closed, and its mail. Until the mail is gone for good the account stays in the file,
    /// closed, so that what was cut off can be done again.
    fn purge(&self, current: &mut Arc<Directory>, address: &str) -> Result<(), Refusal> {
        let remove = |purge| Change::RemoveAccount { address: address.to_owned(), purge };
        let purged = Arc::new(directory_file::apply(remove(true), current, &[])?);
        let account = current.accounts().find(|account| purged.account(account.id).is_none());
        let account = account.expect("a purge takes an account out").clone();
        if !account.is_closed {
            let closed = Arc::new(directory_file::apply(remove(false), current, &[])?);
            directory_file::write(self.data.path(), &closed)?;
            *current = closed;
        }
        // Nobody logs in or delivers to it any more, or there would be mail again behind the record.
        self.server.publish(&purged);
        let (id, log) = (AccountId(account.id), LogId(account.log));
        let written = match self.ask(self.driver_of(log), |answer| Request::Purge(id, log, answer)) {
            // The address may come back, and must not give a number to other mail (RFC 9051 2.3.1.1).
            Some(used) => {
                let purged = purged.with_uid_validity(purged.uid_validity().max(used));
                directory_file::write(self.data.path(), &purged).map(|()| purged)
            }
            None => {
                Err(Refusal::unavailable("the account is removed, its mail could not be; purge it again"))
            }
        };
        match written {
            Ok(purged) => {
                *current = Arc::new(purged);
                Ok(())
            }
            Err(refusal) => {
                self.server.publish(current);
                Err(refusal)
            }
        }
    }

    fn held(&self, place: Place, mailbox: &str, above: u32) -> Vec<Held> {
        self.ask(self.owner(place), |answer| Request::Messages {
            account: place.account,
            mailbox: mailbox.to_owned(),
            above,
            count: MESSAGES_AT_ONCE,
            answer,
        })
    }
}

/// What a log takes on the disk, in words. Nothing is known to be live before the first cleaning.
fn space_rows(space: &Space) -> Vec<(String, u64)> {
    let Space { log, used_bytes, used_segments, ready_bytes, old_bytes, taken_bytes, written_bytes, last } =
        space;
    let mut rows = vec![
        ("bytes on disk in use", *used_bytes),
        ("files in use", *used_segments),
        ("bytes on disk ready for use", *ready_bytes),
        ("bytes on disk to be used again", *old_bytes),
    ];
    if last.at > 0 {
        rows.extend([
            ("bytes of mail that somebody has, when last cleaned", last.live_bytes),
            ("bytes of such mail in files of its own", last.large_bytes),
            ("bytes that could come back", used_bytes.saturating_sub(last.live_bytes)),
            ("last cleaning, in seconds since 1970", last.at.cast_unsigned()),
            ("bytes given back then", last.freed_bytes),
            ("bytes written again for that", last.moved_bytes),
            ("files kept because mail in them cannot be read", last.quarantined),
        ]);
    }
    if *taken_bytes > 0 {
        rows.push(("percent written of what was taken, since the start", written_bytes * 100 / taken_bytes));
    }
    rows.into_iter().map(|(name, value)| (format!("log {}: {name}", log.0), value)).collect()
}

fn cleaned_line(log: LogId, cleaned: Result<Cycle, String>) -> Result<String, String> {
    let Cycle { freed_bytes, freed_segments, moved_bytes, removed_files, quarantined, .. } =
        cleaned.map_err(|why| format!("log {}: {why}", log.0))?;
    let mut line = format!(
        "log {}: {freed_bytes} bytes in {freed_segments} files and {removed_files} large messages given back, \
         {moved_bytes} bytes written again",
        log.0
    );
    if quarantined > 0 {
        line.push_str(&format!("; {quarantined} files are kept because mail in them cannot be read"));
    }
    Ok(line)
}

impl Backend for ShardBackend {
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.lock())
    }

    fn change(&self, change: Change) -> Result<(), Refusal> {
        change.check_against(&self.config().domains)?;
        let mut current = self.lock();
        if let Change::RemoveAccount { address, purge: true } = &change {
            return self.purge(&mut current, address);
        }
        let logs = self.data.logs().map_err(Refusal::unavailable)?;
        let logs: Vec<u16> = logs.into_iter().map(|log| log.0).collect();
        let next = Arc::new(directory_file::apply(change, &current, &logs)?);
        directory_file::write(self.data.path(), &next)?;
        self.server.publish(&next);
        *current = next;
        Ok(())
    }

    fn queue(
        &self,
        request: QueueRequest,
        each: &mut dyn FnMut(QueueReply) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        self.answer_queue(request, each)
    }

    fn stats(&self) -> Result<Vec<(String, u64)>, Refusal> {
        let figures = self.ask_all(Request::Figures);
        let sum = |of: fn(&Figures) -> u64| figures.iter().map(of).sum::<u64>();
        let segments = self.data.segment_bytes().map_err(Refusal::unavailable)?;
        let space: Vec<Space> = figures.iter().flat_map(|figures| figures.space.clone()).collect();
        let rows = [
            ("shards", figures.len() as u64),
            ("logs", sum(|figures| figures.logs)),
            ("log bytes on disk", segments),
            ("accounts", sum(|figures| figures.accounts)),
            ("messages", sum(|figures| figures.messages)),
            ("message bytes", sum(|figures| figures.message_bytes)),
            ("queued messages", sum(|figures| figures.queued)),
            ("sessions", sum(|figures| figures.sessions)),
            ("records appended since the start", sum(|figures| figures.records)),
            ("syncs since the start", sum(|figures| figures.syncs)),
        ];
        let mut rows: Vec<(String, u64)> =
            rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        space.iter().for_each(|space| rows.extend(space_rows(space)));
        Ok(rows)
    }

    fn clean(&self) -> Result<Vec<Result<String, String>>, Refusal> {
        let cleaned = self.ask_all(Request::Clean).into_iter().flatten();
        Ok(cleaned.map(|(log, cleaned)| cleaned_line(log, cleaned)).collect())
    }

    fn verify(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        self.verify_all(report)
    }

    fn repair(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        self.repair_all(report)
    }

    fn keep_files(&self) -> Result<Kept, Refusal> {
        let pins = self.pin_all();
        let files = self.cut()?;
        let store = self.data.identity().map_err(Refusal::unavailable)?;
        let kept = |extent: Extent| {
            let Extent { path, bytes, length } = extent;
            KeptFile { path: self.path_below(&path), extent: Some(KeptBytes { bytes, length }) }
        };
        let extras = extras(self.data.path()).map_err(Refusal::unavailable)?;
        let extras = extras.iter().map(|path| KeptFile { path: self.path_below(path), extent: None });
        Ok(Kept { store, files: files.into_iter().map(kept).chain(extras).collect(), pins })
    }

    fn raise_uid_validity(&self, floor: u32) -> Result<u64, Refusal> {
        let raised = self.ask_all(|answer| Request::RaiseUidValidity(floor, answer));
        raised.into_iter().sum::<Result<u64, String>>().map_err(Refusal::unavailable)
    }

    fn message_bytes_max(&self) -> u64 {
        self.config().limits.message_bytes
    }

    fn mailboxes(&self, account: &Address) -> Result<Vec<MailboxRow>, Refusal> {
        let place = self.place(account)?;
        let mailboxes = self.ask(self.owner(place), |answer| Request::Mailboxes(place.account, answer));
        let row = |mailbox: crate::shard::control::MailboxSummary| MailboxRow {
            name: mailbox.name,
            messages: u64::from(mailbox.messages),
        };
        Ok(mailboxes.into_iter().map(row).collect())
    }

    fn append(&self, account: &Address, messages: Vec<NewMessage>) -> Result<(), Unfinished> {
        let Place { account, log } = self.place(account)?;
        let mail = |message: NewMessage| NewMail {
            mailbox: message.mailbox,
            flags: message.flags,
            internal: message.date,
            bytes: message.bytes,
        };
        let messages = messages.into_iter().map(mail).collect();
        let append = Append { account, log, messages };
        let appended = self.ask(self.server.driver_of(log), |answer| Request::Append(append, answer));
        appended.map_err(|Stopped { taken, why }| Unfinished { taken, refusal: Refusal::unavailable(why) })
    }

    fn submit(&self, submission: Submission) -> Result<Result<Submitted, MessageRefusal>, Refusal> {
        let shard = self.submissions.fetch_add(1, Ordering::Relaxed) % self.server.shards();
        Ok(self.ask(shard, |answer| Request::Submit(submission, answer)))
    }

    fn messages(
        &self,
        account: &Address,
        mailbox: &str,
        after_uid: u32,
    ) -> Result<Vec<StoredMessage>, Refusal> {
        let place = self.place(account)?;
        let stored = |message: Held| {
            let Held { uid, flags, internal, bytes } = message;
            StoredMessage { uid, flags, date: internal, bytes }
        };
        Ok(self.held(place, mailbox, after_uid).into_iter().map(stored).collect())
    }
}
