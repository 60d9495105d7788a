//! What becomes of records: after their sync they are applied to the accounts, the places and the queue, in the
//! log's order, and their asker is answered; what was not synced is abandoned where it was planned.

use std::rc::Rc;

use super::group::Group;
use super::ticket::Fate;
use super::{Commit, NotStored, item};
use crate::shard::seat::Seat;
use crate::store::log::Lost;
use crate::store::record::{Body, Message, Record};
use crate::store::{Locator, LogId, RecordPlace, Sequence};

impl Commit {
    /// From now on deliveries of messages of this log are remembered.
    pub fn watch(&self, home: LogId) {
        self.watched.borrow_mut().insert(home, Vec::new());
    }

    /// What was remembered since [`Commit::watch`], and what is under way.
    pub fn watched(&self, home: LogId) -> Vec<Locator> {
        let mut found = self.watched.borrow_mut().remove(&home).unwrap_or_default();
        let (pending, stalled) = (self.pending.borrow(), self.stalled.borrow());
        for group in pending.iter().chain(&*stalled) {
            found.extend(group.changes.iter().filter_map(|change| delivered(&change.record, home)));
        }
        found
    }

    /// Makes visible what is synced, in order.
    pub(super) fn apply_through(&self, synced: Sequence) {
        loop {
            let group = {
                let mut pending = self.pending.borrow_mut();
                match pending.front() {
                    Some(group) if group.last <= synced => pending.pop_front(),
                    _ => None,
                }
            };
            let Some(group) = group else {
                return;
            };
            let mut messages = group.messages.iter().map(|kept| kept.record);
            let mut places = group.places.iter().copied();
            for (index, change) in (0..).zip(&group.changes) {
                let place = match &change.record {
                    Record::Message(_) => messages.next(),
                    record if record.has_place() => places.next(),
                    _ => None,
                };
                let place = place.unwrap_or_default();
                self.follow(group.first + index, &change.record, place);
                self.owe(group.first + index, &change.record, place);
                let Some((account, mailbox)) = change.record.subject() else {
                    continue;
                };
                self.remember(&change.record);
                if let Some(seat) = self.seats.seat(account) {
                    seat.apply(change);
                    seat.mark(mailbox);
                }
                if let Some(mailbox) = mailbox {
                    self.bells.ring(account, mailbox);
                }
            }
            group.ticket.answer(Fate::Stored);
        }
    }

    fn remember(&self, record: &Record) {
        for (home, found) in self.watched.borrow_mut().iter_mut() {
            found.extend(delivered(record, *home));
        }
    }

    /// Follows what a record says about where messages are.
    fn follow(&self, sequence: Sequence, record: &Record, place: RecordPlace) {
        if matches!(record, Record::Message(_) | Record::Moved(_)) {
            self.files().change_places(|places| places.apply((sequence, record), place));
        }
    }

    /// Follows what a record says about owed mail.
    fn owe(&self, sequence: Sequence, record: &Record, place: RecordPlace) {
        let mut due = Vec::new();
        self.owed.borrow_mut().apply((sequence, record), place, &mut due);
        if due.is_empty() {
            return;
        }
        let mut schedule = self.schedule.borrow_mut();
        due.iter().for_each(|due| schedule.insert(item(due), due.at));
        self.alarm.ring();
    }

    /// A write failed. What waits for space is lost with what has its place: it was planned on top of that.
    pub(super) fn lose_range(&self, lost: &Lost) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        let (gone, kept): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|group| lost.0.contains(&group.first.0));
        self.pending.borrow_mut().extend(kept);
        let stalled = std::mem::take(&mut *self.stalled.borrow_mut());
        let (upkeep, planned): (Vec<_>, Vec<_>) = stalled.into_iter().partition(Group::is_upkeep);
        self.stalled.borrow_mut().extend(upkeep);
        gone.into_iter().chain(planned).for_each(|group| self.lose(group, NotStored::Failed));
    }

    pub(super) fn lose(&self, group: Group, why: NotStored) {
        let mut seats: Vec<Rc<Seat>> = Vec::new();
        for change in &group.changes {
            let seat = change.record.account().and_then(|account| self.seats.seat(account));
            seats.extend(seat.filter(|seat| !seats.iter().any(|known| known.id() == seat.id())));
        }
        seats.iter().for_each(|seat| seat.account_mut().abandon(&group.changes));
        // A batch whose sync failed may still be found by the next start, which removes what is nobody's.
        if why != NotStored::Failed {
            self.remove_files(&group);
        }
        group.ticket.answer(Fate::Lost(why));
    }

    /// Of new messages; of one that is written again the file stays.
    fn remove_files(&self, group: &Group) {
        for change in &group.changes {
            if let Record::Message(Message { body: Body::File { number, .. }, .. }) = &change.record {
                self.large_files.remove(self.dir(), *number);
            }
        }
    }
}

/// The message of a log that a delivery is of.
fn delivered(record: &Record, home: LogId) -> Option<Locator> {
    match record {
        Record::Delivered(delivered) if delivered.message.id.log == home => Some(delivered.message),
        _ => None,
    }
}
