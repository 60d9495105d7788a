//! A start, and a look at everything as clients would see it.
//!
//! A damaged file belongs to one log. The logs share nothing but messages: an account of one log may have messages
//! whose bytes lie in another. A start of a log reads the files of that log alone, so that what the other logs say of
//! their accounts, of owed mail and of damage is what it was. So [`Look::at_one`] starts the damaged log alone, and
//! takes from the whole store what the others say, and the messages in their files. What lies in the damaged log is
//! read from it, for the accounts of all logs. [`Look::at_all`] takes nothing from anywhere, and finds the same.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use ringpost::io::disk::DiskError;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::{Begin, open_log};
use ringpost::io::disk::reader::Reader;
use ringpost::mail::digest::Digest;
use ringpost::mailbox::account::Account;
use ringpost::mailbox::mailbox::Mailbox;
use ringpost::shard::remake;
use ringpost::shard::restore::Loading;
use ringpost::store::owed::Row;
use ringpost::store::places::Places;
use ringpost::store::{Locator, LogId, MessageId, Place};

pub const LOGS: [LogId; 2] = [LogId(0), LogId(1)];

/// Account and mailbox.
pub type Name = (u32, Rc<str>);

/// Account, mailbox and UID.
pub type Key = (u32, Rc<str>, u32);

/// What a start and a look at everything found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Found {
    /// `None` if it cannot be read.
    pub messages: BTreeMap<Key, Option<Rc<[u8]>>>,
    /// UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, unseen, octets.
    pub mailboxes: BTreeMap<Name, [u64; 5]>,
    pub owed: Vec<Row>,
    /// Where what was written last is not whole: of segments that are used again, what they held before.
    pub torn: Vec<(u32, u64)>,
    /// Something was reported.
    pub is_told: bool,
    /// A digest that is not that of its message.
    pub wrong_digests: usize,
    pub ids: BTreeMap<Key, MessageId>,
    /// Which message a large file holds, whose record may be gone.
    pub large: BTreeMap<(LogId, u64), MessageId>,
}

/// What a log says when it is started.
struct Started {
    accounts: Vec<Account>,
    places: Places,
    owed: Vec<Row>,
    torn: Vec<(u32, u64)>,
    is_told: bool,
}

/// A message that was read, and what its digest must be.
#[derive(Clone)]
struct Letter {
    bytes: Rc<[u8]>,
    digest: Rc<Digest>,
}

/// A store as it was before any damage.
pub struct Look {
    logs: [Started; 2],
    letters: HashMap<Locator, Letter>,
}

impl Look {
    /// Looks at a whole store, which stays as it is from then on: what is known of it may be mapped.
    pub fn before_damage(data: &Path) -> Result<Self, DiskError> {
        let data = DataDir::open(data)?;
        let [one, other] = LOGS.map(|log| start(&data, log));
        let logs = [one?, other?];
        let reader = reader_of(&data, logs.each_ref());
        let accounts = logs.iter().flat_map(|log| &log.accounts);
        let locators = accounts.flat_map(Account::mailboxes).flat_map(Mailbox::places);
        let letters = locators.filter_map(|(_, at, _)| Some((at, Letter::of(&reader.message(&at).ok()?))));
        let letters = letters.collect();
        Ok(Self { logs, letters })
    }

    /// Starts all logs and reads everything.
    pub fn at_all(data: &Path) -> Result<Found, DiskError> {
        let data = DataDir::open(data)?;
        let [one, other] = LOGS.map(|log| start(&data, log));
        let logs = [&one?, &other?];
        let reader = reader_of(&data, logs);
        Ok(Found::of(logs, |at| Some(Letter::of(&reader.message(at).ok()?))))
    }

    /// The same, where nothing but the files of one log has changed.
    pub fn at_one(&self, data: &Path, damaged: LogId) -> Result<Found, DiskError> {
        let data = DataDir::open(data)?;
        let started = start(&data, damaged)?;
        let mut logs = self.logs.each_ref();
        logs[usize::from(damaged.0)] = &started;
        let reader = reader_of(&data, logs);
        Ok(Found::of(logs, |at| {
            let known = self.letters.get(at);
            if at.id.log != damaged && known.is_some() {
                return known.cloned();
            }
            let message = reader.message(at).ok()?;
            // The digest of the same bytes is the same.
            let is_known = known.filter(|known| *known.bytes == *message);
            Some(is_known.cloned().unwrap_or_else(|| Letter::of(&message)))
        }))
    }
}

fn start(data: &DataDir, id: LogId) -> Result<Started, DiskError> {
    let (opened, mut loading) = open_log(
        data,
        id,
        |begin| match begin {
            Begin::Checkpoint(index) => Loading::restore(id, index, &remake::for_index(index)),
            Begin::Base(parts) => Loading::restore_base(id, parts),
            Begin::Nothing => Some(Loading::empty(id)),
        },
        Loading::replay,
    )?;
    // Somebody who wakes all, and was not the first.
    let mailboxes = loading.accounts.values().flat_map(|loaded| loaded.account.mailboxes());
    mailboxes.filter_map(Mailbox::sleeping).for_each(|asleep| drop(asleep.read()));
    loading.allow_for(&opened.damage);
    Ok(Started {
        owed: loading.owed.rows().copied().collect(),
        accounts: loading.accounts.into_values().map(|loaded| loaded.account).collect(),
        places: loading.places,
        torn: opened.torn.iter().map(|torn| (torn.segment, torn.offset)).collect(),
        is_told: !opened.damage.is_empty(),
    })
}

/// A reader finds messages that were written again by what the log says of them.
fn reader_of(data: &DataDir, logs: [&Started; 2]) -> Reader {
    for (id, log) in LOGS.into_iter().zip(logs) {
        data.log_dir(id).files.change_places(|places| places.clone_from(&log.places));
    }
    Reader::new(data)
}

impl Letter {
    fn of(message: &[u8]) -> Self {
        Self { bytes: Rc::from(message), digest: Rc::new(Digest::of(message)) }
    }
}

impl Found {
    fn of(logs: [&Started; 2], read: impl Fn(&Locator) -> Option<Letter>) -> Self {
        let mut found = Self::default();
        for log in logs {
            found.is_told |= log.is_told;
            found.torn.extend(&log.torn);
            found.owed.extend(&log.owed);
        }
        for account in logs.into_iter().flat_map(|log| &log.accounts) {
            account.mailboxes().for_each(|mailbox| found.add(account.id().0, mailbox, &read));
        }
        found
    }

    fn add(&mut self, account: u32, mailbox: &Mailbox, read: impl Fn(&Locator) -> Option<Letter>) {
        let name: Rc<str> = Rc::from(mailbox.name());
        let counts = mailbox.counts();
        let [validity, next, unseen] =
            [mailbox.uid_validity(), mailbox.uid_next(), counts.unseen].map(u64::from);
        let state = [validity, next, mailbox.highest_modseq(), unseen, counts.size];
        self.mailboxes.insert((account, Rc::clone(&name)), state);
        for (uid, locator, _) in mailbox.places() {
            let letter = read(&locator);
            if let (Some(letter), Some(digest)) = (&letter, mailbox.digest(uid)) {
                let right = &letter.digest;
                let is_right = right.envelope == digest.envelope && right.fields == digest.fields;
                self.wrong_digests += usize::from(!is_right);
            }
            self.is_told |= letter.is_none();
            let key = (account, Rc::clone(&name), uid);
            self.ids.insert(key.clone(), locator.id);
            if let Place::File { number } = locator.place {
                self.large.insert((locator.id.log, number), locator.id);
            }
            self.messages.insert(key, letter.map(|letter| letter.bytes));
        }
    }
}
