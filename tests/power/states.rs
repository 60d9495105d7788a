//! What a disk may hold after the power went at a moment of its history.
//!
//! A disk promises that what was written before a flush began is there when the flush has ended. Of what it was told
//! after the last flush it may have written anything, in any order, each sector whole: this is chosen by chance here,
//! from everything to nothing, with favours for what servers trip over.

use std::ops::Range;

use crate::disk::{Disk, Event, SECTOR};
use crate::random::Random;

/// What became of the writes that no flush covered.
#[derive(Clone, Copy, Debug)]
enum Remains {
    Nothing,
    Everything,
    /// Whole writes, each or not, laid down in any order.
    Writes,
    /// Sectors, each or not.
    Sectors,
    /// All but one write.
    AllButOne,
    /// Everything up to somewhere within the last write.
    Torn,
}

const REMAINS: [Remains; 6] = [
    Remains::Nothing,
    Remains::Everything,
    Remains::Writes,
    Remains::Sectors,
    Remains::AllButOne,
    Remains::Torn,
];

/// What flushes mean to a disk.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flushes {
    Honoured,
    /// It says that they are done and keeps the last writes for itself: what no server can stand.
    Ignored,
}

/// What a disk that ignores flushes has not written.
const LIE_EVENTS: usize = 60;

/// The power goes after so many events.
pub struct Cut {
    pub events: usize,
    /// Those of them that a flush covers for certain.
    pub durable: usize,
}

/// Where to cut: anywhere, and as often just before a flush, when the most is at stake.
pub fn choose(history: &[Event], random: &mut Random) -> usize {
    let events = below(random, history.len() + 1);
    if random.one_in(2) {
        return events;
    }
    let flush = history[events..].iter().position(|event| matches!(event, Event::Flush { .. }));
    flush.map_or(history.len(), |distance| events + distance)
}

impl Cut {
    pub fn after(events: usize, history: &[Event], flushes: Flushes) -> Self {
        if flushes == Flushes::Ignored {
            return Self { events, durable: events.saturating_sub(LIE_EVENTS) };
        }
        let flush = history[..events].iter().rposition(|event| matches!(event, Event::Flush { .. }));
        Self { events, durable: flush.map_or(0, |flush| flush + 1) }
    }

    /// The last moment at which the power may have gone: what was promised before it was promised for good. `end` is
    /// that of the history.
    pub fn at(&self, history: &[Event], end: u64) -> u64 {
        history.get(self.events).map_or(end, Event::at)
    }

    /// Writes that may be there or not.
    pub fn unflushed(&self, history: &[Event]) -> usize {
        writes(&history[self.durable..self.events]).count()
    }

    /// Puts what the chance `random` left of the unflushed writes over the disk; a word about what that was.
    pub fn leave(&self, history: &[Event], disk: &mut Disk, random: &mut Random) -> String {
        let writes: Vec<(usize, &[u8])> = writes(&history[self.durable..self.events]).collect();
        let kind = REMAINS[below(random, REMAINS.len())];
        for (offset, bytes) in remains(kind, writes.clone(), random) {
            disk.lay(offset, bytes);
        }
        format!("{} of {} events, {kind:?} of {} unflushed writes", self.events, history.len(), writes.len())
    }
}

/// The writes among events.
pub fn writes(events: &[Event]) -> impl Iterator<Item = (usize, &[u8])> {
    events.iter().filter_map(|event| match event {
        Event::Write { offset, bytes, .. } => Some((*offset, bytes.as_slice())),
        Event::Flush { .. } => None,
    })
}

fn remains<'a>(
    kind: Remains,
    mut writes: Vec<(usize, &'a [u8])>,
    random: &mut Random,
) -> Vec<(usize, &'a [u8])> {
    match kind {
        Remains::Nothing => Vec::new(),
        Remains::Everything => writes,
        Remains::Writes => {
            writes.retain(|_| random.one_in(2));
            shuffle(&mut writes, random);
            writes
        }
        Remains::Sectors => {
            // Now most are there and now few.
            let odds = [2, 2, 8][below(random, 3)];
            let is_rare = random.one_in(2);
            shuffle(&mut writes, random);
            let mut sectors = sectors(&writes);
            sectors.retain(|_| random.one_in(odds) == is_rare);
            sectors
        }
        Remains::AllButOne if writes.is_empty() => writes,
        Remains::AllButOne => {
            writes.remove(below(random, writes.len()));
            writes
        }
        Remains::Torn => match writes.pop() {
            None => writes,
            Some((offset, bytes)) => {
                let count = below(random, bytes.len() / SECTOR + 1);
                let Range { start, end } = match random.one_in(2) {
                    true => 0..count * SECTOR,
                    false => count * SECTOR..bytes.len(),
                };
                writes.push((offset + start, &bytes[start..end]));
                writes
            }
        },
    }
}

fn sectors<'a>(writes: &[(usize, &'a [u8])]) -> Vec<(usize, &'a [u8])> {
    let each = |(offset, bytes): &(usize, &'a [u8])| {
        let offset = *offset;
        bytes.chunks(SECTOR).enumerate().map(move |(index, sector)| (offset + index * SECTOR, sector))
    };
    writes.iter().flat_map(each).collect()
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for index in (1..items.len()).rev() {
        items.swap(index, below(random, index + 1));
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("it is below a size")
}
