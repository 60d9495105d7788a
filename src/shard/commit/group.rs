//! Records that are appended together, and become durable together or not at all.

use std::rc::Rc;

use super::ticket::Ticket;
use crate::mailbox::Change;
use crate::store::log::Draw;
use crate::store::record::Record;
use crate::store::{AccountId, Kept, LogId, MessageId, RecordPlace, Sequence, codec};

/// Records that were appended together.
pub struct Group {
    /// The sequence that its first record was planned to have.
    pub first: Sequence,
    pub last: Sequence,
    pub changes: Vec<Change>,
    pub messages: Vec<Kept>,
    /// Of other records that have one.
    pub places: Vec<RecordPlace>,
    pub ticket: Rc<Ticket>,
    /// Failures to get space that it has waited through.
    pub failures: u32,
}

impl Group {
    /// The group waited for space: its records come later in the log than was planned.
    pub fn renumber(&mut self, log: LogId, first: Sequence) {
        let late = first.0 - self.first.0;
        let planned = self.first;
        self.first = first;
        if late == 0 {
            return;
        }
        let shift = |id: &mut MessageId| {
            if id.log == log && id.sequence >= planned {
                id.sequence = id.sequence + late;
            }
        };
        for change in &mut self.changes {
            if let Record::Delivered(delivered) = &mut change.record {
                shift(&mut delivered.message.id);
                if let Some((id, _)) = &mut delivered.key {
                    shift(id);
                }
            }
        }
    }

    /// It is about nobody's mail, so that no plan rests on it.
    pub fn is_upkeep(&self) -> bool {
        self.draw() == Draw::All
    }

    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.changes.iter().filter_map(|change| change.record.account())
    }

    /// What it may take. New mail is a message that nobody is responsible for yet; a bounce is an outcome.
    pub fn draw(&self) -> Draw {
        let any = |is: fn(&Record) -> bool| self.changes.iter().any(|change| is(&change.record));
        match any(|record| matches!(record, Record::Message(_))) {
            true if any(|record| matches!(record, Record::Settled(_))) => Draw::Outcomes,
            true => Draw::NewMail,
            false if any(Record::is_upkeep) => Draw::All,
            false => Draw::Outcomes,
        }
    }
}

pub fn body_bytes(record: &Record) -> u64 {
    codec::body(record).map_or(0, |body| body.len() as u64)
}
