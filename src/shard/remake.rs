//! Contents of mailboxes made again from the log, for who finds after the start that the index is damaged.

use std::collections::HashMap;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use super::restore::{Loaded, Loading};
use super::start::tell_damage;
use crate::io::disk::DiskError;
use crate::io::disk::index_file::IndexFile;
use crate::io::disk::layout::LogDir;
use crate::io::disk::open::{Begin, look_back};
use crate::mailbox::Mailbox;
use crate::mailbox::contents::{Asleep, Awake, Remake};
use crate::store::checkpoint::{BlobName, Summary};
use crate::store::recover::Recovered;
use crate::store::{AccountId, MailboxId, Sequence};

type Key = (AccountId, MailboxId);

/// How to get what the mailboxes of an index held when their states were written.
struct Remaking {
    dir: LogDir,
    /// The record that each state was written after, and what it is to have.
    states: HashMap<Key, (Sequence, Summary)>,
    /// The first who asks has all of them made: a second look at the whole log would cost as much as the first. It may
    /// be asked twice for the same, by the thread that wakes all and by a session that does not wait for it.
    made: Mutex<Option<HashMap<Key, Awake>>>,
}

/// Makes mailboxes of an index again. Records that are damaged as well are told of and missing. Where the log has no
/// such mailbox, or cannot be read, the process ends: nobody may see a mailbox as empty that is not.
pub fn for_index(index: &IndexFile) -> Remake {
    let remaking = Remaking::new(index);
    Arc::new(move |asleep| {
        let (log, name) = (remaking.dir.id.0, asleep.state.name());
        let (account, mailbox) = (name.account.0, name.mailbox.0);
        tracing::warn!(log, account, mailbox, "the index is damaged; a mailbox is made again from the log");
        let made = remaking.contents(asleep).inspect_err(|error| tracing::error!(log, %error));
        made.ok().flatten().unwrap_or_else(|| {
            tracing::error!(
                log,
                account,
                mailbox,
                "a mailbox is neither in the index nor in the log as it was; the server ends"
            );
            process::abort()
        })
    })
}

impl Remaking {
    fn new(index: &IndexFile) -> Self {
        let blobs = index.directory().map_or(&[][..], |directory| &directory.blobs);
        let states = blobs.iter().filter_map(|blob| {
            let BlobName { account, mailbox, sequence, .. } = blob.name;
            Some(((account, mailbox), (sequence, blob.summary?)))
        });
        Self { dir: index.dir().clone(), states: states.collect(), made: Mutex::default() }
    }

    /// `None` if the log has no mailbox that can be the one of the index.
    fn contents(&self, asleep: &Asleep) -> Result<Option<Awake>, DiskError> {
        let name = asleep.state.name();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            *made = self.make()?;
        }
        let Some(made) = made.as_mut() else {
            return Ok(None);
        };
        let contents = made.get(&(name.account, name.mailbox)).cloned();
        if contents.is_none() {
            // Without the index the next start takes the log as it is.
            IndexFile::remove(&self.dir)?;
        }
        Ok(contents)
    }

    fn make(&self) -> Result<Option<HashMap<Key, Awake>>, DiskError> {
        let log = self.dir.id;
        let begin = |begin: Begin<'_>| match begin {
            Begin::Base(parts) => Loading::restore_base(log, parts),
            _ => Some(Loading::empty(log)),
        };
        let replay = |loading: &mut Loading, recovered: Recovered| {
            if self.is_in_its_state(&recovered) {
                loading.replay(recovered);
            }
        };
        let through = self.states.values().map(|&(through, _)| through).max().unwrap_or_default();
        let Some((loading, damage)) = look_back(&self.dir, through, begin, replay)? else {
            return Ok(None);
        };
        tell_damage(log, &damage);
        let of_account = |Loaded { account, .. }: Loaded| {
            let id = account.id();
            account.into_mailboxes().map(move |mailbox| ((id, mailbox.id()), mailbox))
        };
        let contents = |(key, mailbox): (Key, Mailbox)| {
            let (_, summary) = self.states.get(&key)?;
            Some((key, mailbox.into_contents(summary)?))
        };
        let mailboxes = loading.accounts.into_values().flat_map(of_account);
        Ok(Some(mailboxes.filter_map(contents).collect()))
    }

    /// Whether the state of a mailbox has this change of its messages. All else is as of the last of the states.
    fn is_in_its_state(&self, recovered: &Recovered) -> bool {
        match recovered.record.subject() {
            Some((account, Some(mailbox))) if recovered.record.is_of_messages() => self
                .states
                .get(&(account, mailbox))
                .is_some_and(|&(through, _)| recovered.sequence <= through),
            _ => true,
        }
    }
}
