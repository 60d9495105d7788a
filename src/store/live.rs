//! Which messages of a log anyone still has, and how much of each segment that is.
//!
//! Made anew whenever the cleaner looks: everything that the log still owes is told to it, then every row of every
//! mailbox. Sequences are dense, so a bit for each is small; a message that is told twice counts once. What came
//! after the look began is live without being told.
//!
//! Invariant: a message that was told is live; what is dead was not told by anyone.

use std::collections::{BTreeMap, BTreeSet};

use super::segment::Base;
use super::{Place, Sequence};

/// Sequences under one key of the map.
const PAGE_BITS: u64 = 1 << 16;

const WORD_BITS: u64 = 64;

type Page = Box<[u64; (PAGE_BITS / WORD_BITS) as usize]>;

/// Beside its bytes: the header of its frame with checksums of blocks, its fields.
const FRAME_BYTES: u64 = 128;

#[derive(Debug)]
pub struct Live {
    /// Everything behind this record is live.
    through: Sequence,
    pages: BTreeMap<u64, Page>,
    segments: BTreeMap<u32, Share>,
    large_bytes: u64,
    /// Large messages whose records are wanted.
    records: BTreeSet<Sequence>,
}

/// What of a segment is live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    pub bytes: u64,
    pub messages: u64,
}

/// A segment that may be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub number: u32,
    pub bytes: u64,
    pub live: Share,
}

/// How much a cleaning may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Only what is worth it.
    Steady,
    /// Whatever brings back more than it takes: space is low, or an operator wants it.
    Now,
}

/// What may be written for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Costs {
    /// What a new base has.
    pub snapshot_bytes: u64,
    /// What is left of the segment that is written: a base ends it, wherever it stands.
    pub left_bytes: u64,
    /// What a segment has that is begun now.
    pub segment_bytes: u64,
    /// There is room for so much in all.
    pub room_bytes: u64,
}

/// What is to be freed, and what that takes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    pub victims: Vec<u32>,
    /// Live bytes in them, which are written again.
    pub moved_bytes: u64,
    pub freed_bytes: u64,
    /// A snapshot must be written first.
    pub needs_base: bool,
}

impl Live {
    /// Nothing is told yet; what comes behind this record is live.
    pub fn new(through: Sequence) -> Self {
        Self {
            through,
            pages: BTreeMap::new(),
            segments: BTreeMap::new(),
            large_bytes: 0,
            records: BTreeSet::new(),
        }
    }

    /// Somebody has a message, of so many bytes, which is at this place now.
    pub fn tell(&mut self, message: Sequence, place: Place, length: u64) {
        if !self.set(message) {
            return;
        }
        match place {
            Place::Segment { number, .. } => {
                let share = self.segments.entry(number).or_default();
                share.bytes += length + FRAME_BYTES;
                share.messages += 1;
            }
            Place::File { .. } => self.large_bytes += length,
        }
    }

    /// The log owes a large message, whose record is at this place. Told before anyone else has it.
    pub fn tell_record(&mut self, message: Sequence, place: Place, large_bytes: u64) {
        self.tell(message, place, 0);
        self.large_bytes += large_bytes;
        self.records.insert(message);
    }

    /// Whether the record of a large message is wanted, and not its file alone.
    pub fn wants_record(&self, message: Sequence) -> bool {
        self.records.contains(&message)
    }

    pub fn is_live(&self, Sequence(message): Sequence) -> bool {
        let bit = message % PAGE_BITS;
        let page = self.pages.get(&(message / PAGE_BITS));
        message > self.through.0
            || page.is_some_and(|page| page[(bit / WORD_BITS) as usize] >> (bit % WORD_BITS) & 1 == 1)
    }

    /// What of a segment was told to be live.
    pub fn share(&self, segment: u32) -> Share {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    /// Live bytes in all segments and in large files.
    pub fn bytes(&self) -> (u64, u64) {
        (self.segments.values().map(|share| share.bytes).sum(), self.large_bytes)
    }

    /// Whether it was not live before.
    fn set(&mut self, Sequence(message): Sequence) -> bool {
        let new_page = || Box::new([0; (PAGE_BITS / WORD_BITS) as usize]);
        let page = self.pages.entry(message / PAGE_BITS).or_insert_with(new_page);
        let bit = message % PAGE_BITS;
        let word = &mut page[(bit / WORD_BITS) as usize];
        let is_new = *word >> (bit % WORD_BITS) & 1 == 0;
        *word |= 1 << (bit % WORD_BITS);
        is_new
    }
}

/// Of the garbage, so much stays without being worth the copies: this part of what is live.
const GARBAGE_SHARE: u64 = 8;

/// A segment with less garbage than this part of it stays.
const SPARSE_SHARE: u64 = 8;

/// A snapshot is written for this multiple of what it costs.
const WORTH_STEADY: u64 = 8;
const WORTH_NOW: u64 = 1;

/// It must bring back this part of a segment more than it takes.
const GAIN_SHARE: u64 = 4;

/// The emptiest segments first, until little garbage is left.
pub fn choose(candidates: &[Candidate], base: Option<Base>, costs: Costs, urgency: Urgency) -> Choice {
    let Costs { snapshot_bytes, left_bytes, segment_bytes, room_bytes } = costs;
    let room_beside_base = room_bytes.saturating_sub(snapshot_bytes);
    let all = take_emptiest(candidates, |_| true, room_beside_base, urgency);
    let worth = match urgency {
        Urgency::Steady => WORTH_STEADY,
        Urgency::Now => WORTH_NOW,
    };
    let is_superseded = |number: u32| base.is_some_and(|base| number < base.position.segment);
    let needs_base = all.victims.iter().any(|&number| !is_superseded(number));
    let has_room = snapshot_bytes <= room_bytes;
    // A base that brings back hardly more than it takes leaves as much garbage as it found, for the next one to find.
    let takes_bytes = snapshot_bytes + left_bytes + segment_bytes / GAIN_SHARE;
    let worth_bytes = (worth * snapshot_bytes).max(takes_bytes);
    if !needs_base || has_room && all.freed_bytes.saturating_sub(all.moved_bytes) > worth_bytes {
        return Choice { needs_base, ..all };
    }
    take_emptiest(candidates, |candidate| is_superseded(candidate.number), room_bytes, urgency)
}

fn take_emptiest(
    candidates: &[Candidate],
    which: impl Fn(&Candidate) -> bool,
    room_bytes: u64,
    urgency: Urgency,
) -> Choice {
    let total: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
    let live: u64 = candidates.iter().map(|candidate| candidate.live.bytes).sum();
    let mut garbage = total.saturating_sub(live);
    let mut sorted: Vec<&Candidate> = candidates.iter().filter(|candidate| which(candidate)).collect();
    sorted.sort_by_key(|candidate| candidate.live.bytes * 1024 / candidate.bytes.max(1));
    let mut choice = Choice::default();
    for Candidate { number, bytes, live: share } in sorted {
        let gain = bytes.saturating_sub(share.bytes);
        let is_enough = urgency == Urgency::Steady && garbage <= live / GARBAGE_SHARE && share.messages > 0;
        let has_room = choice.moved_bytes + share.bytes <= room_bytes;
        if is_enough || (share.messages > 0 && (gain < bytes / SPARSE_SHARE || !has_room)) {
            break;
        }
        choice.victims.push(*number);
        choice.moved_bytes += share.bytes;
        choice.freed_bytes += bytes;
        garbage = garbage.saturating_sub(gain);
    }
    choice.victims.sort_unstable();
    choice
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Choice, Costs, Live, Share, Urgency, choose};
    use crate::store::log::Position;
    use crate::store::segment::Base;
    use crate::store::{Place, Sequence};

    const MIB: u64 = 1 << 20;

    fn candidates(live: &[u64]) -> Vec<Candidate> {
        let share = |bytes: u64| Share { bytes, messages: u64::from(bytes > 0) };
        let candidate = |(number, &live)| Candidate { number, bytes: 4 * MIB, live: share(live) };
        (1..).zip(live).map(candidate).collect()
    }

    fn costs(snapshot_bytes: u64) -> Costs {
        Costs { snapshot_bytes, left_bytes: 0, segment_bytes: 0, room_bytes: u64::MAX }
    }

    fn base(segment: u32) -> Option<Base> {
        let position = Position { segment, offset: 8192, through: Sequence(9) };
        Some(Base { position, last: Sequence(12), parts: 2 })
    }

    #[test]
    fn what_was_told_or_came_later_is_live_and_counts_once() {
        let mut live = Live::new(Sequence(200_000));
        for message in [1, 63, 64, 65_535, 65_536, 199_999, 64] {
            live.tell(Sequence(message), Place::Segment { number: 3, offset: 8192 }, 1000);
        }
        live.tell(Sequence(7), Place::File { number: 1 }, 1 << 30);
        for (message, expected) in [(0, false), (1, true), (2, false), (64, true), (65_536, true), (7, true)]
        {
            assert_eq!(live.is_live(Sequence(message)), expected, "{message}");
        }
        assert!(!live.is_live(Sequence(200_000)) && live.is_live(Sequence(200_001)));
        assert_eq!(live.share(3).messages, 6);
        assert_eq!(live.bytes(), (6 * 1128, 1 << 30));
    }

    #[test]
    fn the_emptiest_go_until_little_is_left_to_gain() {
        let segments = candidates(&[4 * MIB - 9, 0, 2 * MIB, MIB, 4 * MIB - 9, 4 * MIB - 9, 4 * MIB - 9]);
        let choice = choose(&segments, base(8), costs(MIB), Urgency::Steady);
        let (moved_bytes, freed_bytes) = (MIB, 8 * MIB);
        assert_eq!(choice, Choice { victims: vec![2, 4], moved_bytes, freed_bytes, needs_base: false });
        assert_eq!(choose(&segments, base(8), costs(MIB), Urgency::Now).victims, [2, 3, 4]);
        assert_eq!(choose(&candidates(&[4 * MIB - 9]), base(8), costs(0), Urgency::Now).victims, [0; 0]);
    }

    #[test]
    fn a_snapshot_is_written_only_for_much() {
        let segments = candidates(&[0, 0, 0, 0]);
        let victims = |snapshot_bytes, base, urgency| choose(&segments, base, costs(snapshot_bytes), urgency);
        assert_eq!(victims(MIB, None, Urgency::Steady).victims, [1, 2, 3, 4]);
        assert!(victims(MIB, None, Urgency::Steady).needs_base);
        assert_eq!(victims(2 * MIB, None, Urgency::Steady), Choice::default());
        assert_eq!(victims(2 * MIB, base(3), Urgency::Steady).victims, [1, 2]);
        assert!(!victims(2 * MIB, base(3), Urgency::Steady).needs_base);
        assert_eq!(victims(2 * MIB, None, Urgency::Now).victims.len(), 4);
        assert_eq!(victims(16 * MIB, None, Urgency::Now), Choice::default());
    }

    #[test]
    fn a_snapshot_that_ends_as_much_of_a_segment_as_it_frees_is_not_written() {
        for (left_bytes, expected) in [(4 * MIB - 20_000, 0), (4 * MIB / 2, 1)] {
            let costs = Costs { left_bytes, segment_bytes: 4 * MIB, ..costs(4096) };
            for urgency in [Urgency::Steady, Urgency::Now] {
                // What stands in the first is superseded by the next base, and by nothing else.
                let victims = |live: &[u64]| choose(&candidates(live), base(1), costs, urgency).victims.len();
                assert_eq!((victims(&[0]), victims(&[0, 0])), (expected, 2), "{urgency:?} {left_bytes}");
            }
        }
    }

    #[test]
    fn no_more_is_moved_than_there_is_room_for() {
        let segments = candidates(&[MIB, 0, 2 * MIB, MIB]);
        let victims = |room_bytes, base| {
            let costs = Costs { room_bytes, ..costs(MIB) };
            choose(&segments, base, costs, Urgency::Now).victims
        };
        assert_eq!(victims(3 * MIB, None), [1, 2, 4]);
        assert_eq!(victims(MIB, None), [2]);
        assert_eq!(victims(MIB - 1, None), [0; 0], "not even the base");
        assert_eq!(victims(MIB - 1, base(9)), [2]);
    }
}
