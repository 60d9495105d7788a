//! A backend that keeps everything in memory, for tests of both ends of the control socket.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::control::{Change, DamageKind, DamageRow, Refusal};
use crate::admin::directory_file::{self, tests::secrets};
use crate::admin::queue::words::{Meta, QueueReply, QueueRequest, QueueRow};
use crate::admin::server::{Backend, Finding, Kept, MailboxRow, NewMessage, StoredMessage, Unfinished};
use crate::auth::Directory;
use crate::bytes::Slice;
use crate::mail::address::Address;
use crate::mail::flags::Flags;
use crate::mail::time::Timestamp;
use crate::proto::smtp::MessageRefusal;
use crate::queue::selection::State as QueueState;
use crate::shard::submit::{self, Relaying, Submission, Submitted};

/// See the module.
pub struct MemoryBackend {
    state: Mutex<State>,
    pub message_bytes_max: u64,
}

struct State {
    directory: Arc<Directory>,
    mailboxes: BTreeMap<String, Vec<StoredMessage>>,
    appends: usize,
}

impl MemoryBackend {
    /// With one account, bob@example.org.
    pub fn with_bob() -> Arc<Self> {
        let add = Change::AddAccount {
            address: "bob@example.org".to_owned(),
            secrets: secrets("x"),
            quota_bytes: Some(1000),
        };
        let directory =
            directory_file::apply(add, &Directory::new([1; 32]), &[0]).unwrap_or_else(|_| panic!());
        let state = State { directory: Arc::new(directory), mailboxes: BTreeMap::new(), appends: 0 };
        Arc::new(Self { state: Mutex::new(state), message_bytes_max: 10_000 })
    }

    /// What is in a mailbox: flags, date and octets of each message.
    pub fn contents(&self, mailbox: &str) -> Vec<(Vec<String>, i64, Vec<u8>)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = state.mailboxes.get(mailbox).into_iter().flatten();
        messages
            .map(|message| {
                let head = crate::admin::control::MessageHead::new(mailbox, &message.flags, message.date, 0);
                let bytes = message.bytes.as_deref().unwrap_or_default();
                (head.flags, message.date.seconds, bytes.to_vec())
            })
            .collect()
    }

    pub fn mailbox_names(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.mailboxes.keys().cloned().collect()
    }

    /// This message of a mailbox cannot be read from now on.
    pub fn damage(&self, mailbox: &str, uid: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = state.mailboxes.get_mut(mailbox).into_iter().flatten();
        messages.filter(|message| message.uid == uid).for_each(|message| message.bytes = None);
    }

    /// How many batches came.
    pub fn appends(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).appends
    }
}

impl Backend for MemoryBackend {
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).directory)
    }

    fn change(&self, change: Change) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.directory = Arc::new(directory_file::apply(change, &state.directory, &[0])?);
        Ok(())
    }

    /// A list has one row, whatever it is of.
    fn queue(
        &self,
        request: QueueRequest,
        each: &mut dyn FnMut(QueueReply) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        let QueueRequest::List { .. } = request else {
            return Err(Refusal::unavailable("nobody sends"));
        };
        let row = QueueRow {
            id: "000000000001".to_owned(),
            sender: "bob@example.org".to_owned(),
            recipient: "eve@relay.test".to_owned(),
            queue: "relay.test".to_owned(),
            domain: "relay.test".to_owned(),
            site: None,
            size: 5,
            created: 0,
            state: QueueState::Ready,
            num_attempts: 0,
            due: 0,
            reason: String::new(),
            meta: Meta::default(),
        };
        each(QueueReply::Row(row)).map_err(Refusal::unavailable)
    }

    fn stats(&self) -> Result<Vec<(String, u64)>, Refusal> {
        Err(Refusal::unavailable("nobody counts"))
    }

    fn clean(&self) -> Result<Vec<Result<String, String>>, Refusal> {
        Ok(vec![Ok("log 0: clean".to_owned()), Err("log 1: the disk failed".to_owned())])
    }

    fn verify(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        report(Finding::Progress { done: 5, total: 10 }).map_err(Refusal::unavailable)?;
        let text = "log 0, message 7: a block has another checksum".to_owned();
        report(Finding::Damage(Box::new(DamageRow::of(DamageKind::Message, text))))
            .map_err(Refusal::unavailable)
    }

    fn repair(&self, report: &mut dyn FnMut(Finding) -> io::Result<()>) -> Result<(), Refusal> {
        self.verify(report)
    }

    fn keep_files(&self) -> Result<Kept, Refusal> {
        Err(Refusal::unavailable("nothing is in files"))
    }

    fn raise_uid_validity(&self, _: u32) -> Result<u64, Refusal> {
        Err(Refusal::unavailable("nothing has a number"))
    }

    fn message_bytes_max(&self) -> u64 {
        self.message_bytes_max
    }

    fn mailboxes(&self, _: &Address) -> Result<Vec<MailboxRow>, Refusal> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(name, messages): (&String, &Vec<StoredMessage>)| MailboxRow {
            name: name.clone(),
            messages: messages.len() as u64,
        };
        Ok(state.mailboxes.iter().map(row).collect())
    }

    /// Nothing goes into a mailbox of the name Full.
    fn append(&self, _: &Address, messages: Vec<NewMessage>) -> Result<(), Unfinished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.appends += 1;
        for (taken, NewMessage { mailbox, flags, date, bytes }) in messages.into_iter().enumerate() {
            if mailbox == "Full" {
                return Err(Unfinished { taken, refusal: Refusal::wrong("the account is full") });
            }
            let there = state.mailboxes.entry(mailbox).or_default();
            let uid = u32::try_from(there.len()).unwrap_or(u32::MAX) + 1;
            there.push(StoredMessage { uid, flags, date, bytes: Some(Slice::from(bytes)) });
        }
        Ok(())
    }

    /// Into a mailbox of the sender's name; addresses of example.org but bob's are unknown.
    fn submit(&self, submission: Submission) -> Result<Result<Submitted, MessageRefusal>, Refusal> {
        let Submission { envelope, message, .. } = submission;
        let directory = self.directory();
        let verdict = |address: &Address| submit::judge(&directory, Relaying::Allowed, 0, address).err();
        let addresses = envelope.recipients.iter().map(|to| to.address.clone());
        let (refused, taken): (Vec<_>, Vec<_>) =
            addresses.map(|address| (verdict(&address), address)).partition(|(verdict, _)| verdict.is_some());
        let refused =
            refused.into_iter().filter_map(|(verdict, address)| Some((address, verdict?))).collect();
        if taken.is_empty() {
            return Ok(Ok(Submitted { id: None, refused }));
        }
        let mailbox = envelope.sender.map_or_else(|| "<>".to_owned(), |sender| sender.to_string());
        let message =
            NewMessage { mailbox, flags: Flags::default(), date: Timestamp::default(), bytes: message };
        self.append(&taken[0].1, vec![message]).map_err(|unfinished| unfinished.refusal)?;
        Ok(Ok(Submitted { id: Some("00010000002A".to_owned()), refused }))
    }

    /// Two at a time, so that pages are tested.
    fn messages(&self, _: &Address, mailbox: &str, after_uid: u32) -> Result<Vec<StoredMessage>, Refusal> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let there = state.mailboxes.get(mailbox).into_iter().flatten();
        let copy = |message: &StoredMessage| StoredMessage {
            uid: message.uid,
            flags: message.flags.clone(),
            date: message.date,
            bytes: message.bytes.clone(),
        };
        Ok(there.filter(|message| message.uid > after_uid).take(2).map(copy).collect())
    }
}
