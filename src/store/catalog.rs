//! Which blobs of the index file hold what: the directory of a checkpoint, as it is kept between two of them.
//!
//! Invariants: the chunks of a mailbox ascend and do not overlap; a mailbox's chunks stand before its state, an
//! account's blob before its mailboxes, so that one pass over a directory restores everything; a state counts as
//! long as its mailbox's chunks are those that it was taken with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::checkpoint::{BlobKind, BlobName, BlobRef};
use super::{AccountId, MailboxId, Sequence};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    /// What is of no account, in slices.
    of_log: Vec<BlobRef>,
    accounts: BTreeMap<AccountId, OfAccount>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct OfAccount {
    blob: Option<BlobRef>,
    mailboxes: BTreeMap<MailboxId, OfMailbox>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct OfMailbox {
    chunks: Vec<BlobRef>,
    state: Option<BlobRef>,
}

impl Catalog {
    /// What a directory names.
    pub fn of(blobs: &[BlobRef]) -> Self {
        let mut catalog = Self::default();
        blobs.iter().for_each(|blob| catalog.put(*blob));
        catalog
    }

    /// A blob that was written just now takes the place of what it replaces: a chunk that of all chunks which
    /// end among its UIDs.
    pub fn put(&mut self, blob: BlobRef) {
        let BlobName { kind, account, mailbox, uid_first, uid_last, .. } = blob.name;
        match kind {
            BlobKind::Account => self.accounts.entry(account).or_default().blob = Some(blob),
            BlobKind::State => self.of_mailbox(account, mailbox).state = Some(blob),
            BlobKind::Chunk => {
                let found = self.of_mailbox(account, mailbox);
                let at = found.forget_chunks(&(uid_first..=uid_last));
                found.chunks.insert(at, blob);
            }
            BlobKind::Owed | BlobKind::Places => self.of_log.push(blob),
            BlobKind::Directory => {}
        }
    }

    fn of_mailbox(&mut self, account: AccountId, mailbox: MailboxId) -> &mut OfMailbox {
        self.accounts.entry(account).or_default().mailboxes.entry(mailbox).or_default()
    }

    /// What is of no account is put anew.
    pub fn drop_of_log(&mut self) {
        self.of_log.clear();
    }

    /// The messages of these UIDs are all gone, or in a chunk that is put next.
    pub fn drop_chunks(&mut self, account: AccountId, mailbox: MailboxId, uids: &RangeInclusive<u32>) {
        if let Some(found) = self.accounts.get_mut(&account).and_then(|of| of.mailboxes.get_mut(&mailbox)) {
            found.forget_chunks(uids);
        }
    }

    /// Mailboxes that are not among these are gone.
    pub fn retain(&mut self, account: AccountId, mailboxes: &BTreeSet<MailboxId>) {
        if let Some(of_account) = self.accounts.get_mut(&account) {
            of_account.mailboxes.retain(|id, _| mailboxes.contains(id));
        }
    }

    pub fn has_account(&self, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|of_account| of_account.blob.is_some())
    }

    pub fn has_state(&self, account: AccountId, mailbox: MailboxId) -> bool {
        let of_account = self.accounts.get(&account);
        let found = of_account.and_then(|of_account| of_account.mailboxes.get(&mailbox));
        found.is_some_and(|of_mailbox| of_mailbox.state.is_some())
    }

    /// For a directory. What has no account or no state yet is left out: a mailbox that was deleted while the
    /// checkpoint was gathered may have had new chunks by then, and never gets a state for them.
    pub fn blobs(&self) -> Vec<BlobRef> {
        let mut blobs = self.of_log.clone();
        for of_account in self.accounts.values() {
            let Some(blob) = of_account.blob else {
                continue;
            };
            blobs.push(blob);
            for of_mailbox in of_account.mailboxes.values() {
                if let Some(state) = of_mailbox.state {
                    blobs.extend(&of_mailbox.chunks);
                    blobs.push(state);
                }
            }
        }
        blobs
    }
}

impl BlobName {
    pub fn of_account(account: AccountId, sequence: Sequence) -> Self {
        let mailbox = MailboxId(0);
        Self { kind: BlobKind::Account, account, mailbox, uid_first: 0, uid_last: 0, sequence }
    }

    pub fn of_state(account: AccountId, mailbox: MailboxId, sequence: Sequence) -> Self {
        Self { kind: BlobKind::State, account, mailbox, uid_first: 0, uid_last: 0, sequence }
    }
}

impl OfMailbox {
    /// Says where a chunk of these UIDs belongs. The state knows the chunks that were, and goes with them.
    fn forget_chunks(&mut self, uids: &RangeInclusive<u32>) -> usize {
        let from = self.chunks.partition_point(|chunk| chunk.name.uid_last < *uids.start());
        let to = self.chunks.partition_point(|chunk| chunk.name.uid_last <= *uids.end());
        self.chunks.drain(from..to.max(from));
        self.state = None;
        from
    }
}

#[cfg(test)]
mod tests {
    use super::Catalog;
    use crate::store::checkpoint::{BlobKind, BlobName, BlobRef};
    use crate::store::{AccountId, MailboxId, Sequence};

    const ACCOUNT: AccountId = AccountId(4);

    fn at(offset: u64, name: BlobName) -> BlobRef {
        BlobRef { name, offset, length: 1, summary: None }
    }

    fn chunk(offset: u64, mailbox: u32, uids: (u32, u32)) -> BlobRef {
        let (uid_first, uid_last) = uids;
        let (kind, mailbox, sequence) = (BlobKind::Chunk, MailboxId(mailbox), Sequence(9));
        at(offset, BlobName { kind, account: ACCOUNT, mailbox, uid_first, uid_last, sequence })
    }

    fn state(offset: u64, mailbox: u32) -> BlobRef {
        at(offset, BlobName::of_state(ACCOUNT, MailboxId(mailbox), Sequence(9)))
    }

    fn offsets(catalog: &Catalog) -> Vec<u64> {
        catalog.blobs().iter().map(|blob| blob.offset).collect()
    }

    #[test]
    fn newer_blobs_replace_older_ones_in_an_order_that_restores() {
        let mut catalog = Catalog::default();
        catalog.put(chunk(64, 2, (1, 90)));
        catalog.put(chunk(128, 2, (91, 120)));
        catalog.put(state(192, 2));
        catalog.put(state(256, 1));
        assert_eq!(offsets(&catalog), [0u64; 0], "nothing without its account");
        catalog.put(at(320, BlobName::of_account(ACCOUNT, Sequence(9))));
        assert_eq!(offsets(&catalog), [320, 256, 64, 128, 192]);
        assert_eq!(Catalog::of(&catalog.blobs()), catalog);
        // A chunk that took in the last one, then one that took in both.
        catalog.put(chunk(384, 2, (91, 300)));
        catalog.put(state(192, 2));
        assert_eq!(offsets(&catalog), [320, 256, 64, 384, 192]);
        catalog.put(chunk(448, 2, (5, 300)));
        catalog.put(state(192, 2));
        catalog.put(chunk(512, 3, (5, 300)));
        assert_eq!(offsets(&catalog), [320, 256, 448, 192], "a chunk counts with a state that knows it");
        catalog.drop_chunks(ACCOUNT, MailboxId(2), &(1..=300));
        catalog.put(state(192, 2));
        catalog.retain(ACCOUNT, &[MailboxId(2)].into());
        assert_eq!(offsets(&catalog), [320, 192]);
        assert!(catalog.has_state(ACCOUNT, MailboxId(2)) && !catalog.has_state(ACCOUNT, MailboxId(1)));
        assert!(catalog.has_account(ACCOUNT) && !catalog.has_account(AccountId(5)));
        let slice = |offset| at(offset, BlobName::of_log(BlobKind::Owed, Sequence(9)));
        catalog.put(slice(576));
        catalog.put(slice(640));
        assert_eq!(offsets(&catalog), [576, 640, 320, 192]);
        assert_eq!(Catalog::of(&catalog.blobs()), catalog);
        catalog.drop_of_log();
        assert_eq!(offsets(&catalog), [320, 192]);
    }

    /// It was taken by the checkpoint before, got a chunk for this one, and was deleted before its state was taken.
    #[test]
    fn a_mailbox_that_is_deleted_behind_its_new_chunk_is_left_out() {
        let mut catalog = Catalog::default();
        catalog.put(at(64, BlobName::of_account(ACCOUNT, Sequence(9))));
        for mailbox in [1, 2] {
            catalog.put(chunk(128, mailbox, (1, 90)));
            catalog.put(state(192, mailbox));
        }
        catalog.put(chunk(256, 1, (91, 200)));
        assert_eq!(offsets(&catalog), [64, 128, 192]);
        catalog.drop_chunks(ACCOUNT, MailboxId(2), &(1..=90));
        assert_eq!(offsets(&catalog), [64]);
    }
}
