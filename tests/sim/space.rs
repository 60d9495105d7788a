//! Segments that are emptied, superseded and used again, with power cuts between and within all steps.
//!
//! The log takes messages that are owed, settles some, and a cleaner at work beside it moves what is owed, writes
//! bases and frees segments, in the order that `shard::clean` has. After each cut the state is read back as a start
//! without an index does. The oracle: whatever was acknowledged and not settled is owed and can be read, byte for
//! byte; what was settled and acknowledged is not owed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringpost::bytes::Slice;
use ringpost::mail::address::Address;
use ringpost::mail::envelope::{Envelope, Recipient};
use ringpost::mail::time::Timestamp;
use ringpost::store::frame::Frame;
use ringpost::store::log::{Log, Outcome, Ready, Refused, Sizes};
use ringpost::store::owed::Owed;
use ringpost::store::places::Places;
use ringpost::store::record::{
    Accepted, Based, Body, Message, Moved, Part, PartKind, Piece, Record, Route, Settled,
};
use ringpost::store::recover::{End, Found, Recovered, Scan, SegmentFile};
use ringpost::store::segment::{Base, Heading, SegmentKey};
use ringpost::store::{AccountId, LogId, MailboxId, RecordPlace, Sequence, codec};

use crate::disk::Disk;
use crate::random::Random;

const ID: LogId = LogId(5);
const SIZES: Sizes = Sizes {
    segment_bytes_min: 32 << 10,
    segment_bytes_max: 64 << 10,
    batch_bytes: 24 << 10,
    reserve_bytes: 32 << 10,
};

struct World {
    random: Random,
    disk: Disk,
    log: Log,
    state: State,
    /// Applied when they are synced.
    pending: Vec<(Sequence, Record, RecordPlace)>,
    ledger: Ledger,
    /// Contents of freed segments.
    old: Vec<Vec<u8>>,
    cleaning: Cleaning,
    freed: u64,
}

/// What a shard holds of the log.
struct State {
    owed: Owed,
    places: Places,
}

#[derive(Default)]
struct Ledger {
    bodies: BTreeMap<Sequence, Vec<u8>>,
    acknowledged: BTreeSet<Sequence>,
    /// Asked to be settled, and acknowledged as settled.
    settling: BTreeSet<Sequence>,
    settled: BTreeSet<Sequence>,
}

/// Where the cleaner is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cleaning {
    Rests,
    /// The victim's messages are appended anew, up to this record.
    Moving {
        victim: u32,
        through: Sequence,
    },
    /// The parts are appended.
    Gathering {
        victim: u32,
        base: Base,
    },
    /// The header is on its way.
    Naming {
        victim: u32,
        base: Base,
    },
}

impl State {
    fn new() -> Self {
        Self { owed: Owed::new(ID), places: Places::default() }
    }

    fn apply(&mut self, sequence: Sequence, record: &Record, place: RecordPlace) {
        self.owed.apply((sequence, record), place, &mut Vec::new());
        self.places.apply((sequence, record), place);
    }

    /// As a start without an index does.
    fn read_back(disk: &Disk) -> (Self, End) {
        let segments = disk.segments();
        let newest =
            segments.iter().rev().find_map(|segment| match Heading::read(&segment.bytes, segment.number) {
                Heading::Good(header) => Some(header),
                _ => None,
            });
        let base = newest.and_then(|header| header.base);
        let mut state = Self::new();
        if let Some(base) = base {
            let parts = parts(&segments, base);
            assert_eq!(parts.len(), base.parts as usize, "all of a base is there once a header names it");
            for part in parts {
                match part.kind {
                    PartKind::Owed => state.owed.take_in(&part.bytes).expect("it is whole"),
                    PartKind::Places => state.places.take_in(&part.bytes).expect("it is whole"),
                    other => panic!("{other:?} was never written"),
                }
            }
        } else if let Some(Heading::Good(first)) =
            segments.first().map(|first| Heading::read(&first.bytes, first.number))
        {
            assert_eq!(first.valid_through, Sequence(0), "nothing was freed without a base");
        }
        let from = base.map_or(0, |base| base.position.segment);
        let behind = segments.into_iter().filter(|segment| segment.number >= from).collect();
        let mut scan = Scan::new(ID, behind, base.map(|base| base.position)).expect("readable");
        for found in &mut scan {
            match found.expect("readable") {
                Found::Record(Recovered { sequence, place, record }) => state.apply(sequence, &record, place),
                Found::Damage(damage) => panic!("a cut is no damage: {damage}"),
            }
        }
        (state, scan.end())
    }
}

fn parts(segments: &[SegmentFile], base: Base) -> Vec<Part> {
    let behind = segments.iter().filter(|segment| segment.number >= base.position.segment).cloned().collect();
    let scan = Scan::new(ID, behind, Some(base.position)).expect("its position is there");
    let records = scan.filter_map(|found| match found.expect("readable") {
        Found::Record(Recovered { sequence, record: Record::Part(part), .. }) if sequence <= base.last => {
            Some(part)
        }
        _ => None,
    });
    records.filter(|part| part.snapshot == base.position.through).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let log = Log::create(ID, SegmentKey(random.next()), SIZES);
        Self {
            random,
            disk: Disk::default(),
            log,
            state: State::new(),
            pending: Vec::new(),
            ledger: Ledger::default(),
            old: Vec::new(),
            cleaning: Cleaning::Rests,
            freed: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..5 => self.take_message(),
            5..8 => self.settle(),
            8..12 => self.write(),
            12..15 => self.clean(),
            _ if self.random.one_in(4) => self.crash(),
            _ => {}
        }
    }

    fn take_message(&mut self) {
        let length = 500 + self.random.below(6000) as usize;
        let bytes = self.random.bytes(length);
        let address = |local: &str| Address { local: local.into(), domain: "example.org".into() };
        let envelope = Envelope { recipients: vec![Recipient::new(address("to"))], ..Envelope::default() };
        let accepted = Accepted { envelope, routes: vec![Route::Local(AccountId(1))], ..Accepted::default() };
        let body = Body::Inline { bytes: Slice::from(bytes.clone()), return_path_length: 0 };
        let received = Timestamp { seconds: 1_700_000_000, zone_minutes: 0 };
        let record = Record::Message(Message { received, accepted: Some(Arc::new(accepted)), body });
        let sequence = self.append(vec![record]);
        self.ledger.bodies.insert(sequence, bytes);
    }

    /// Most messages are soon settled, some stay for long.
    fn settle(&mut self) {
        let all: Vec<Sequence> = self.state.owed.rows().map(|row| row.message).collect();
        if all.is_empty() {
            return;
        }
        let message = all[self.random.below(all.len() as u64) as usize];
        if message.0.is_multiple_of(5) && all.len() < 30 || !self.ledger.settling.insert(message) {
            return;
        }
        self.append(vec![Record::Settled(Settled { message, recipient: 0 })]);
    }

    /// Gives the sequence of the first record.
    fn append(&mut self, mut group: Vec<Record>) -> Sequence {
        let appended = loop {
            match self.log.append(&mut group) {
                Ok(appended) => break appended,
                Err(Refused::NoSegment) => self.prepare(),
                Err(Refused::TooLarge) => panic!("nothing here is so large"),
            }
        };
        let mut messages = appended.messages.iter().map(|kept| kept.record);
        let mut places = appended.places.iter().copied();
        for (index, record) in (0..).zip(group) {
            let place = match &record {
                Record::Message(_) => messages.next(),
                record if record.has_place() => places.next(),
                _ => None,
            };
            self.pending.push((appended.first + index, record, place.unwrap_or_default()));
        }
        appended.first
    }

    fn prepare(&mut self) {
        while let Some(wanted) = self.log.wants_segment() {
            let fits = self.old.iter().position(|content| content.len() as u64 >= wanted.bytes_min);
            let content = match fits {
                Some(at) => self.old.swap_remove(at),
                None => vec![0; wanted.bytes as usize],
            };
            let bytes = content.len() as u64;
            self.disk.create(wanted.number, content);
            let key = SegmentKey(self.random.next());
            self.log.give_segment(Ready { number: wanted.number, bytes, key });
        }
    }

    fn write(&mut self) {
        self.prepare();
        let Some(write) = self.log.poll_write() else {
            return;
        };
        self.disk.write(&write);
        if self.random.one_in(12) {
            return self.crash();
        }
        self.disk.sync();
        let synced = self.log.handle_written(write.through, Outcome::Synced).expect("it was synced");
        let is_synced = |(sequence, ..): &(Sequence, Record, RecordPlace)| *sequence <= synced;
        let count = self.pending.iter().take_while(|pending| is_synced(pending)).count();
        for (sequence, record, place) in self.pending.drain(..count) {
            self.state.apply(sequence, &record, place);
            match record {
                Record::Message(_) => drop(self.ledger.acknowledged.insert(sequence)),
                Record::Settled(settled) => drop(self.ledger.settled.insert(settled.message)),
                _ => {}
            }
        }
    }

    /// The next step of the cleaner, if what it waits for is synced.
    fn clean(&mut self) {
        self.cleaning = match self.cleaning {
            Cleaning::Rests => self.begin_moving(),
            Cleaning::Moving { victim, through } if self.log.synced() >= through => self.gather(victim),
            Cleaning::Gathering { victim, base } if self.log.synced() >= base.last => self.name(victim, base),
            Cleaning::Naming { victim, base } if self.log.stated_base() == Some(base) => self.free(victim),
            waiting => waiting,
        };
    }

    fn begin_moving(&mut self) -> Cleaning {
        let victim = self.disk.numbers()[..].first().copied();
        let (Some(victim), Some(position)) = (victim, self.log.position()) else {
            return Cleaning::Rests;
        };
        if victim >= position.segment {
            return Cleaning::Rests;
        }
        let bytes = Slice::from(self.disk.file_mut(victim).clone());
        let victim_file = SegmentFile { number: victim, bytes };
        let scan = Scan::of_remains(ID, victim_file, None).expect("readable");
        let mut group = Vec::new();
        for found in scan {
            // All that can be found is, and what nobody was promised may be in pieces.
            let Found::Record(Recovered { sequence, place, record }) = found.expect("readable") else {
                continue;
            };
            let (message, content) = match record {
                Record::Message(content) => (sequence, content),
                Record::Moved(moved) => (moved.message, moved.content),
                _ => continue,
            };
            let newest = self.state.places.moved(message);
            let is_here = newest.map_or(message == sequence, |newest| newest == place);
            if is_here && self.state.owed.of_message(message).next().is_some() {
                group.push(Record::Moved(Moved { message, content }));
            }
        }
        for moved in group {
            self.append(vec![moved]);
        }
        let through = Sequence(self.log.next_sequence().0 - 1);
        Cleaning::Moving { victim, through }
    }

    /// Appends the parts of a snapshot in groups of their own; other records come between when they are applied later.
    fn gather(&mut self, victim: u32) -> Cleaning {
        let position = self.log.position().expect("something was synced");
        let mut count = 0;
        let mut last = Sequence(0);
        let mut behind = Some(Sequence(0));
        while let Some(message) = behind {
            let bytes;
            (bytes, behind) = self.state.owed.encode_behind(message, 3);
            last = self.append_part(PartKind::Owed, position.through, bytes);
            count += 1;
            // The log goes on meanwhile.
            if self.random.one_in(3) {
                self.take_message();
                self.write_without_cut();
            }
        }
        let mut behind = Some(Sequence(0));
        while let Some(message) = behind {
            let bytes;
            (bytes, behind) = self.state.places.encode_behind(message, 3);
            last = self.append_part(PartKind::Places, position.through, bytes);
            count += 1;
        }
        Cleaning::Gathering { victim, base: Base { position, last, parts: count } }
    }

    fn append_part(&mut self, kind: PartKind, snapshot: Sequence, bytes: Vec<u8>) -> Sequence {
        let sequence = self.log.synced();
        let (account, mailbox, piece) = (AccountId(0), MailboxId(0), Piece::Last);
        let bytes = Slice::from(bytes);
        self.append(vec![Record::Part(Part { snapshot, kind, account, mailbox, sequence, piece, bytes })])
    }

    fn write_without_cut(&mut self) {
        self.prepare();
        let Some(write) = self.log.poll_write() else {
            return;
        };
        self.disk.write(&write);
        self.disk.sync();
        let synced = self.log.handle_written(write.through, Outcome::Synced).expect("it was synced");
        while self.pending.first().is_some_and(|(sequence, ..)| *sequence <= synced) {
            let (sequence, record, place) = self.pending.remove(0);
            self.state.apply(sequence, &record, place);
            match record {
                Record::Message(_) => drop(self.ledger.acknowledged.insert(sequence)),
                Record::Settled(settled) => drop(self.ledger.settled.insert(settled.message)),
                _ => {}
            }
        }
    }

    fn name(&mut self, victim: u32, base: Base) -> Cleaning {
        self.log.set_base(base);
        self.prepare();
        if !self.log.begin_segment() {
            return Cleaning::Gathering { victim, base };
        }
        self.append(vec![Record::Based(Based { snapshot: base.position.through })]);
        Cleaning::Naming { victim, base }
    }

    fn free(&mut self, victim: u32) -> Cleaning {
        self.old.push(self.disk.file_mut(victim).clone());
        self.disk.remove(victim);
        self.freed += 1;
        Cleaning::Rests
    }

    /// Power is lost; the state is read back and must be what was promised.
    fn crash(&mut self) {
        self.disk.crash(&mut self.random);
        let (state, end) = State::read_back(&self.disk);
        self.check(&state);
        for blank in &end.blank {
            self.old.push(self.disk.file_mut(*blank).clone());
            self.disk.remove(*blank);
        }
        self.log = Log::resume(&end, SegmentKey(self.random.next()), SIZES);
        self.state = state;
        self.pending.clear();
        self.cleaning = Cleaning::Rests;
        // What came back without having been acknowledged is as good as acknowledged now.
        let owed: BTreeSet<Sequence> = self.state.owed.rows().map(|row| row.message).collect();
        self.ledger.acknowledged.extend(&owed);
        self.ledger.settling.retain(|message| !owed.contains(message));
        let gone = self.ledger.acknowledged.iter().filter(|message| !owed.contains(message));
        self.ledger.settled.extend(gone.copied().collect::<Vec<_>>());
    }

    fn check(&self, state: &State) {
        let segments = self.disk.segments();
        for message in &self.ledger.acknowledged {
            let row = state.owed.of_message(*message).next();
            if self.ledger.settled.contains(message) {
                assert_eq!(row, None, "{message:?} was settled and is owed again");
            } else if !self.ledger.settling.contains(message) {
                assert!(row.is_some(), "{message:?} is owed and forgotten");
            }
        }
        for row in state.owed.rows() {
            let place = state.places.moved(row.message).unwrap_or(row.record);
            let body = self.ledger.bodies.get(&row.message).expect("it was appended");
            assert_eq!(
                body_at(&segments, place, row.message),
                Some(&body[..]),
                "{:?} at {place:?}",
                row.message
            );
            assert_eq!(place, row.record, "what is owed knows where its record is");
        }
    }
}

/// The body of a message, if it is there and whole.
fn body_at(segments: &[SegmentFile], place: RecordPlace, message: Sequence) -> Option<&[u8]> {
    let segment = segments.iter().find(|segment| segment.number == place.segment)?;
    let Heading::Good(header) = Heading::read(&segment.bytes, segment.number) else {
        return None;
    };
    let bytes = &segment.bytes[place.offset as usize..];
    let frame = Frame::parse(bytes, header.key)?;
    let is_it = codec::message_of(frame.kind, frame.sequence, &bytes[frame.fields()]) == Some(message);
    (is_it && frame.payload_is_good(&bytes[frame.payload()])).then(|| &bytes[frame.body()])
}

#[test]
fn what_is_live_survives_any_cut_while_segments_are_used_again() {
    let seeds = std::env::var("RINGPOST_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut freed = 0;
    for seed in 1..=seeds {
        let mut world = World::new(seed);
        for _ in 0..800 {
            world.step();
        }
        world.crash();
        freed += world.freed;
    }
    assert!(freed > 3 * seeds, "segments were freed: {freed}");
}
