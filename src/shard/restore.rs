//! The state of a log as it is read back: from the last checkpoint, then record by record.
//!
//! A checkpoint is gathered while the log goes on, so that its parts are as of different moments, none before the
//! position where replay begins. A part that holds a record already must not take it twice: what is about messages
//! is known by its mod-sequence, everything else of an account by the sequence in the name of its blob. The snapshot
//! that is the log's base is gathered in the same way, and its parts are restored by the same rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::bytes::Slice;
use crate::io::disk::index_file::IndexFile;
use crate::mailbox::account::Account;
use crate::mailbox::contents::{Asleep, Remake};
use crate::store::checkpoint::{BlobKind, Unread};
use crate::store::index::Chunk;
use crate::store::owed::Owed;
use crate::store::places::Places;
use crate::store::record::{Part, PartKind, Piece, Record};
use crate::store::recover::{Damage, Recovered};
use crate::store::{AccountId, LogId, MailboxId, Sequence};

/// State of one log while it is read back.
pub struct Loading {
    pub accounts: HashMap<AccountId, Loaded>,
    pub owed: Owed,
    pub places: Places,
    /// Records read after the checkpoint.
    pub replayed: u64,
}

pub struct Loaded {
    pub account: Account,
    /// Everything but its messages is as after this record.
    through: Sequence,
    /// Mailboxes that are not as the checkpoint says; `None` for what is of the account alone.
    pub changed: Vec<Option<MailboxId>>,
    /// Numbers of mailboxes that were passed over: their making failed, or is lost.
    unmade: BTreeSet<MailboxId>,
    /// Records about mailboxes that nothing says to have been made.
    homeless: BTreeMap<MailboxId, Vec<Record>>,
}

impl Loading {
    /// Before the first record.
    pub fn empty(log: LogId) -> Self {
        Self { accounts: HashMap::new(), owed: Owed::new(log), places: Places::default(), replayed: 0 }
    }

    /// As of the checkpoint; `None` if any part of it is not good that is looked at. What is in mailboxes stays asleep;
    /// who finds it not good later has it remade.
    pub fn restore(log: LogId, index: &IndexFile, remake: &Remake) -> Option<Self> {
        let directory = index.directory()?;
        let mut loading = Self::empty(log);
        let mut chunks: Vec<(Of, Unread)> = Vec::new();
        for blob in &directory.blobs {
            let of = Of { account: blob.name.account, mailbox: blob.name.mailbox };
            let unread = index.unread(blob).ok()?;
            match blob.name.kind {
                BlobKind::Chunk => chunks.push((of, unread)),
                BlobKind::Account => loading.restore_account(of, blob.name.sequence, &unread.open()?)?,
                BlobKind::State => {
                    let chunks = of.all(std::mem::take(&mut chunks))?;
                    let asleep = Asleep { state: unread, chunks, remake: Arc::clone(remake) };
                    loading.restore_mailbox(of, asleep)?;
                }
                BlobKind::Owed => loading.owed.take_in(&unread.open()?).ok()?,
                BlobKind::Places => loading.places.take_in(&unread.open()?).ok()?,
                BlobKind::Directory => return None,
            }
        }
        chunks.is_empty().then_some(loading)
    }

    /// As of the log's base; `None` if any part of it is not good. The parts are whole and in order.
    pub fn restore_base(log: LogId, parts: Vec<Part>) -> Option<Self> {
        let mut loading = Self::empty(log);
        let mut chunks: Vec<(Of, Chunk)> = Vec::new();
        let mut pieces = Vec::new();
        for part in parts {
            pieces.extend_from_slice(&part.bytes);
            if part.piece == Piece::More {
                continue;
            }
            // A copy: what is mapped keeps its segment from being used again.
            let payload = std::mem::take(&mut pieces);
            let of = Of { account: part.account, mailbox: part.mailbox };
            match part.kind {
                PartKind::Account => loading.restore_account(of, part.sequence, &payload)?,
                PartKind::Chunk => chunks.push((of, Chunk::open_bare(Slice::from(payload)).ok()?)),
                PartKind::State => {
                    let chunks = std::mem::take(&mut chunks);
                    loading.restore_bare_mailbox(of, &payload, chunks)?;
                }
                PartKind::Owed => loading.owed.take_in(&payload).ok()?,
                PartKind::Places => loading.places.take_in(&payload).ok()?,
            }
        }
        pieces.is_empty().then_some(loading)
    }

    fn restore_account(&mut self, of: Of, through: Sequence, payload: &[u8]) -> Option<()> {
        let account = Account::restore(payload).ok()?;
        let loaded = Loaded { account, through, ..Loaded::new(of.account) };
        let id = loaded.account.id();
        let is_first = self.accounts.insert(id, loaded).is_none();
        (is_first && id == of.account).then_some(())
    }

    fn restore_bare_mailbox(&mut self, of: Of, payload: &[u8], mut chunks: Vec<(Of, Chunk)>) -> Option<()> {
        // A mailbox that was deleted while it was gathered left chunks behind.
        chunks.retain(|(chunk_of, _)| *chunk_of == of);
        let chunks: Vec<Chunk> = chunks.into_iter().map(|(_, chunk)| chunk).collect();
        let loaded = self.accounts.get_mut(&of.account)?;
        let id = loaded.account.restore_bare_mailbox(payload, &chunks).ok()?;
        loaded.changed.push(Some(id));
        (id == of.mailbox).then_some(())
    }

    fn restore_mailbox(&mut self, of: Of, asleep: Asleep) -> Option<()> {
        let loaded = self.accounts.get_mut(&of.account)?;
        let lacks_digests = loaded.account.restore_mailbox(of.mailbox, asleep).ok()?;
        loaded.changed.extend(lacks_digests.then_some(Some(of.mailbox)));
        Some(())
    }

    pub fn replay(&mut self, recovered: Recovered) {
        self.replayed += 1;
        let Recovered { sequence, place, record } = recovered;
        self.places.apply((sequence, &record), place);
        // Everything is scheduled at the end of the replay.
        self.owed.apply((sequence, &record), place, &mut Vec::new());
        if let Some(id) = record.account() {
            self.accounts.entry(id).or_insert_with(|| Loaded::new(id)).replay(sequence, &record);
        }
    }

    /// The end of the replay. Of records that were lost nobody knows what they said, so that anything they may have
    /// given is taken as given. Says how many those are.
    pub fn allow_for(&mut self, damage: &[Damage]) -> u64 {
        let lost = damage.iter().map(Damage::records).sum();
        if lost > 0 {
            self.accounts.values_mut().for_each(|loaded| loaded.allow_for(lost));
        }
        lost
    }
}

impl Loaded {
    fn new(id: AccountId) -> Self {
        Self {
            account: Account::new(id),
            through: Sequence(0),
            changed: Vec::new(),
            unmade: BTreeSet::new(),
            homeless: BTreeMap::new(),
        }
    }

    fn replay(&mut self, sequence: Sequence, record: &Record) {
        if sequence <= self.through && !record.is_of_messages() {
            return;
        }
        let mailbox = record.subject().and_then(|(_, mailbox)| mailbox);
        if let Some(mailbox) = mailbox
            && self.is_homeless(mailbox, record)
        {
            self.homeless.entry(mailbox).or_default().push(record.clone());
            return;
        }
        self.account.apply(record, None);
        if self.changed.last() != Some(&mailbox) {
            self.changed.push(mailbox);
        }
    }
}

impl Loaded {
    /// Whether the record is about a mailbox that nothing says to have been made.
    fn is_homeless(&mut self, mailbox: MailboxId, record: &Record) -> bool {
        if matches!(record, Record::MailboxCreated(_)) {
            self.unmade.extend(self.account.unmade_below(mailbox));
            return false;
        }
        self.unmade.contains(&mailbox) || !self.account.has_counted(mailbox)
    }

    fn allow_for(&mut self, lost: u64) {
        for (mailbox, records) in std::mem::take(&mut self.homeless) {
            self.account.remake(mailbox, lost);
            records.iter().for_each(|record| self.account.apply(record, None));
        }
        self.account.allow_for(lost);
        let mailboxes: Vec<MailboxId> = self.account.mailboxes().map(|mailbox| mailbox.id()).collect();
        self.changed = mailboxes.into_iter().map(Some).chain([None]).collect();
    }
}

/// What a blob or a part is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Of {
    account: AccountId,
    mailbox: MailboxId,
}

impl Of {
    /// The chunks that came since the last mailbox, if they are of this one.
    fn all(self, chunks: Vec<(Of, Unread)>) -> Option<Vec<Unread>> {
        chunks.into_iter().map(|(of, chunk)| (of == self).then_some(chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{Arc, Loading, Remake};
    use crate::bytes::Slice;
    use crate::io::disk::index_file::IndexFile;
    use crate::io::disk::layout::DataDir;
    use crate::mail::flags::Flags;
    use crate::mail::time::Timestamp;
    use crate::mailbox::account::Account;
    use crate::mailbox::contents::Awake;
    use crate::mailbox::plan::Incoming;
    use crate::mailbox::rows::SealWhen;
    use crate::mailbox::{Change, Plan};
    use crate::store::checkpoint::{BlobKind, BlobName, Directory, IndexOwner};
    use crate::store::index::Chunk;
    use crate::store::log::Position;
    use crate::store::record::{AccountPurged, Record};
    use crate::store::recover::Recovered;
    use crate::store::segment::SegmentKey;
    use crate::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, RecordPlace, Sequence};

    const LOG: LogId = LogId(0);
    const ACCOUNT: AccountId = AccountId(7);
    const OWNER: IndexOwner = IndexOwner { log: LOG, key: SegmentKey(3) };

    /// A log of one account, beside what is in the account by now.
    struct World {
        account: Account,
        log: Vec<Record>,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { account: Account::new(ACCOUNT), log: Vec::new() };
            let plan = world.account.plan_new();
            world.carry_out(plan);
            world
        }

        fn carry_out<T>(&mut self, plan: Plan<T>) -> T {
            plan.changes.into_iter().for_each(|Change { record, .. }| self.add(record));
            plan.answer
        }

        fn add(&mut self, record: Record) {
            self.account.apply(&record, None);
            self.log.push(record);
        }

        fn deliver(&mut self, count: u64) {
            let inbox = self.account.named("INBOX").expect("it was made").id();
            for _ in 0..count {
                let id = MessageId { log: LOG, sequence: Sequence(1000 + self.log.len() as u64) };
                let place = Place::Segment { number: 1, offset: 8192 };
                let message = Locator { id, place, length: 9, return_path_length: 0 };
                let (flags, internal) = (Flags::default(), Timestamp::default());
                let incoming =
                    Incoming { message, digest: None, key: Some((id, 0)), flags, internal, saved: 0 };
                let plan = self.account.plan_deliver(inbox, incoming).expect("there is room");
                self.carry_out(plan.expect("it is new"));
            }
        }

        fn through(&self) -> Sequence {
            Sequence(self.log.len() as u64)
        }

        /// The rest of the log, from behind a checkpoint's position.
        fn replay_from(&self, loading: &mut Loading, position: Sequence) {
            for (sequence, record) in (1..).map(Sequence).zip(&self.log).filter(|(at, _)| *at > position) {
                let place = RecordPlace { segment: 1, offset: 0 };
                loading.replay(Recovered { sequence, place, record: record.clone() });
            }
        }
    }

    fn nobody() -> Remake {
        Arc::new(|_| panic!("what is asked for is good"))
    }

    fn picture(account: &Account) -> Vec<Vec<u8>> {
        let states = account.mailboxes().map(|mailbox| {
            let rows = mailbox.uids().iter().filter_map(|&uid| mailbox.row(uid));
            let rows: Vec<String> = rows.map(|row| format!("{row:?}")).collect();
            let numbers = (mailbox.uid_next(), mailbox.highest_modseq(), mailbox.uid_validity());
            format!("{numbers:?} {:?} {rows:?}", mailbox.counts()).into_bytes()
        });
        let usage = format!("{:?}", account.usage()).into_bytes();
        states.chain([account.snapshot(), usage]).collect()
    }

    /// Writes the account's blob as of now, lets `meanwhile` happen, writes the mailboxes.
    fn checkpoint(world: &mut World, index: &mut IndexFile, meanwhile: impl FnOnce(&mut World)) -> Sequence {
        let through = world.through();
        let mut blobs = vec![
            index
                .append(BlobName::of_account(ACCOUNT, through), None, &world.account.snapshot())
                .expect("appended"),
        ];
        let mailboxes: Vec<MailboxId> = world.account.mailboxes().map(|mailbox| mailbox.id()).collect();
        meanwhile(world);
        for id in mailboxes {
            while let Some(seal) =
                world.account.mailbox(id).and_then(|found| found.seal(SealWhen::Checkpoint))
            {
                let chunk = Chunk::open(Slice::from(seal.bytes.clone())).expect("just made");
                let (uid_first, uid_last) = (chunk.uid(0), chunk.uid(chunk.len() - 1));
                let name = BlobName::of_state(ACCOUNT, id, world.through());
                let name = BlobName { kind: BlobKind::Chunk, uid_first, uid_last, ..name };
                blobs.push(index.append(name, None, &seal.bytes).expect("appended"));
                assert!(world.account.install(id, &seal.uids, chunk));
            }
            if let Some(mailbox) = world.account.mailbox(id) {
                let name = BlobName::of_state(ACCOUNT, id, world.through());
                let (summary, snapshot) = (mailbox.summary(), mailbox.snapshot(ACCOUNT));
                blobs.push(index.append(name, Some(summary), &snapshot).expect("appended"));
            }
        }
        let position = Some(Position { segment: 1, offset: 8192, through });
        index.commit(Directory { position, blobs }).expect("committed");
        through
    }

    #[test]
    fn what_happens_while_a_checkpoint_is_gathered_is_taken_once() {
        type Happening = fn(&mut World);
        let happenings: [Happening; 5] = [
            |_| {},
            |world| world.deliver(70),
            |world| {
                let trash = world.account.named("Trash").expect("it was made").id();
                let plan = world.account.plan_delete("Trash").expect("it is there");
                world.carry_out(plan);
                assert!(world.account.mailbox(trash).is_none());
                let plan = world.account.plan_create("Trash", None).expect("a new name");
                world.carry_out(plan);
            },
            |world| {
                world.add(Record::AccountPurged(AccountPurged { account: ACCOUNT }));
                let plan = world.account.plan_new();
                world.carry_out(plan);
                world.deliver(3);
            },
            |world| {
                world.deliver(3);
                let plan = world.account.plan_rename("Trash", "Sent/old", 0).expect("a new name");
                world.carry_out(plan);
            },
        ];
        for (number, happening) in happenings.into_iter().enumerate() {
            let temporary = tempfile::tempdir().expect("a directory");
            let data = DataDir::open(temporary.path()).expect("opened");
            let dir = data.log(LOG).expect("made");
            let mut index = IndexFile::create(dir.clone(), OWNER).expect("new");
            let mut world = World::new();
            world.deliver(200);
            let position = checkpoint(&mut world, &mut index, happening);
            world.deliver(5);
            let index = IndexFile::open(dir, OWNER).expect("opened").expect("it is there");
            let mut loading = Loading::restore(LOG, &index, &nobody()).expect("it is good");
            world.replay_from(&mut loading, position);
            let found = &loading.accounts[&ACCOUNT].account;
            assert_eq!(picture(found), picture(&world.account), "happening {number}");
        }
    }

    #[test]
    fn a_cut_or_damaged_index_is_refused_or_says_the_same() {
        let temporary = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(temporary.path()).expect("opened");
        let dir = data.log(LOG).expect("made");
        let mut index = IndexFile::create(dir.clone(), OWNER).expect("new");
        let mut world = World::new();
        world.deliver(300);
        checkpoint(&mut world, &mut index, |_| {});
        let whole = fs::read(dir.index(1)).expect("read");
        let root = fs::read(dir.index_root()).expect("read");
        let check = |bytes: &[u8], what: &str, at: usize| {
            fs::write(dir.index_root(), &root).expect("written");
            fs::write(dir.index(1), bytes).expect("written");
            let index = IndexFile::open(dir.clone(), OWNER).expect("opened");
            let remade = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&remade);
            let remake: Remake = Arc::new(move |_| {
                told.store(true, Ordering::Relaxed);
                Awake::default()
            });
            let Some(loading) = index.and_then(|index| Loading::restore(LOG, &index, &remake)) else {
                return false;
            };
            let found = picture(&loading.accounts[&ACCOUNT].account);
            let is_good = !remade.load(Ordering::Relaxed);
            assert!(!is_good || found == picture(&world.account), "{what} at {at}");
            is_good
        };
        assert!(check(&whole, "nothing", 0));
        for length in (0..whole.len()).step_by(4096) {
            assert!(!check(&whole[..length], "cut", length));
        }
        let mut refused = 0;
        let places = (0..whole.len()).step_by(331);
        for at in places.clone() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            refused += usize::from(!check(&damaged, "damage", at));
        }
        assert!(refused > places.len() / 2, "{refused} of {}", places.len());
    }
}
