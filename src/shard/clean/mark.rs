//! Who has which messages of a log.
//!
//! The cleaner of a log, at home, first takes down everything that the log still owes, then asks every shard for
//! the messages of this log that its mailboxes hold. What arrived behind the record where it began counts as live
//! without being asked about.
//!
//! Why nothing is missed that anyone has. A message of this log can be had in three ways. (1) It is owed: it was
//! seen among what is owed, or it was settled before it could be seen. A local copy is settled only after its owner
//! has synced and applied the delivery, so that its row is there when that owner is asked, which is later. (2) A
//! row of a mailbox has it when the owner begins to answer: the row is visited, or it goes before that. If the
//! message is still somewhere when it goes, then by a later delivery of it into another mailbox, which is either
//! applied while the owner goes through its mailboxes, and then was watched, or not yet applied when it ends, and
//! then is among what is under way. (3) It comes into a mailbox after its owner has answered: as a copy of a row
//! that was there then, or by a letter of this log that asks for a delivery. The letter is sent while the row of
//! what is owed is not settled, and that is (1).

use std::rc::Rc;

use futures_lite::future::or;

use super::{Cleaner, Unclean};
use crate::io::executor::{Turns, sleep};
use crate::io::inbox::Inbox;
use crate::shard::Shard;
use crate::shard::mesh::Letter;
use crate::shard::seat::Seat;
use crate::store::live::Live;
use crate::store::{Locator, LogId, MailboxId, MessageId, Place, RecordPlace, Sequence};

/// Rows that are looked at in one go: some tens of microseconds.
const ROWS: usize = 512;

/// Records whose lengths are read in one job.
const OWED_ROWS: usize = 1024;

/// What a shard answers.
pub enum Declared {
    /// Its mailboxes have these messages.
    Have(Vec<Locator>),
    /// That was all.
    End,
}

impl Cleaner {
    pub(super) async fn mark(&self, shard: &Rc<Shard>, through: Sequence) -> Result<Live, Unclean> {
        let mut live = Live::new(through);
        self.tell_owed(&mut live).await?;
        let answers: Inbox<Declared> = Inbox::new();
        let home = self.commit.id();
        for number in 0..shard.mesh.shards() {
            shard.mesh.post(number, Letter::Declare(home, answers.clone()));
        }
        let mut open = shard.mesh.shards();
        while open > 0 {
            let waiting = async {
                sleep(super::PAUSE).await;
                None
            };
            match or(async { Some(answers.next().await) }, waiting).await {
                Some(Declared::Have(messages)) => self.tell_had(&messages, &mut live),
                Some(Declared::End) => open -= 1,
                None if shard.is_stopping() => return Err(Unclean::Stopping),
                None => {}
            }
        }
        Ok(live)
    }

    /// What is owed, oldest first. Where a record is said to be is where it is now.
    async fn tell_owed(&self, live: &mut Live) -> Result<(), Unclean> {
        let log = self.commit.id();
        let mut behind = Sequence(0);
        loop {
            let mut owed: Vec<(Sequence, RecordPlace)> = {
                let owed = self.commit.owed();
                let rows = owed.rows_from(behind + 1).take(OWED_ROWS);
                rows.map(|row| (row.message, row.record)).collect()
            };
            owed.dedup();
            let Some((last, _)) = owed.last() else {
                return Ok(());
            };
            behind = *last;
            let read = self.keeper.indexer().run(move |bench| {
                let locate = |(sequence, record): (Sequence, RecordPlace)| {
                    let extent = bench.reader.extent_of_taken(MessageId { log, sequence }, record);
                    (sequence, record, extent.ok())
                };
                owed.into_iter().map(locate).collect::<Vec<_>>()
            });
            for (sequence, record, extent) in read.await? {
                let place = Place::Segment { number: record.segment, offset: record.offset };
                match extent {
                    Some((Place::File { .. }, length)) => live.tell_record(sequence, place, length),
                    Some((_, length)) => live.tell(sequence, place, length),
                    // It cannot be read, which keeps its segment.
                    None => live.tell(sequence, place, 0),
                }
            }
        }
    }

    fn tell_had(&self, messages: &[Locator], live: &mut Live) {
        self.commit.files().with_places(|places| {
            for Locator { id, place, length, .. } in messages {
                let place = match (place, places.moved(id.sequence)) {
                    (Place::Segment { .. }, Some(RecordPlace { segment, offset })) => {
                        Place::Segment { number: segment, offset }
                    }
                    _ => *place,
                };
                live.tell(id.sequence, place, *length);
            }
        });
    }
}

impl Shard {
    /// Says which messages of a log the mailboxes of this shard have.
    pub async fn declare(self: Rc<Self>, home: LogId, to: Inbox<Declared>) {
        self.reader.forget_freed();
        self.logs().iter().for_each(|commit| commit.watch(home));
        let mut turns = Turns::begin();
        for seat in self.seats.all() {
            let mailboxes: Vec<MailboxId> = seat.account().mailboxes().map(|mailbox| mailbox.id()).collect();
            for mailbox in mailboxes {
                let mut above = 0;
                while let Some((last, messages)) = look(&seat, mailbox, above, home) {
                    above = last;
                    if !messages.is_empty() {
                        to.post(Declared::Have(messages));
                    }
                    turns.give().await;
                }
            }
        }
        // In one step, so that a delivery is either applied, and was watched, or under way.
        for commit in self.logs() {
            to.post(Declared::Have(commit.watched(home)));
        }
        to.post(Declared::End);
    }
}

/// The messages of a log in the next rows above a UID, with the last UID looked at. `None` if there are no more rows.
fn look(seat: &Seat, mailbox: MailboxId, above: u32, home: LogId) -> Option<(u32, Vec<Locator>)> {
    let account = seat.account();
    let mut last = None;
    let mut messages = Vec::new();
    for (uid, locator) in account.mailbox(mailbox)?.places_above(above).take(ROWS) {
        last = Some(uid);
        if locator.id.log == home {
            messages.push(locator);
        }
    }
    Some((last?, messages))
}
