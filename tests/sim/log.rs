//! A log through many lives: appends, syncs, failed syncs, power cuts, damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringpost::bytes::Slice;
use ringpost::mail::address::Address;
use ringpost::mail::envelope::{Envelope, Recipient};
use ringpost::mail::flags::{FlagsAction, SystemFlags};
use ringpost::mail::set::Ranges;
use ringpost::mail::time::Timestamp;
use ringpost::store::batch::BatchHeader;
use ringpost::store::frame::{self, FrameSpec};
use ringpost::store::log::{Log, Outcome, Position, Ready, Refused, Sizes};
use ringpost::store::record::{Accepted, Body, Delivered, FlagsChanged, Message, Record, Route, Settled};
use ringpost::store::recover::{Damage, End, Found, Scan, Unreadable};
use ringpost::store::segment::SegmentKey;
use ringpost::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, Sequence, codec};

use crate::disk::Disk;
use crate::random::Random;

const ID: LogId = LogId(3);
const SIZES: Sizes = Sizes {
    segment_bytes_min: 32 << 10,
    segment_bytes_max: 256 << 10,
    batch_bytes: 24 << 10,
    reserve_bytes: 0,
};

/// A log on its disk, with the ledger.
struct World {
    random: Random,
    disk: Disk,
    log: Log,
    ledger: Ledger,
    checkpoint: Option<Position>,
    /// Old segments that may be used again.
    recycled: Vec<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Ledger {
    /// All that was ever appended in the line of lives that led here, as bytes.
    appended: BTreeMap<Sequence, Vec<u8>>,
    /// Its groups, both ends included.
    groups: BTreeSet<(Sequence, Sequence)>,
    acknowledged: Sequence,
    /// Records that were told to be lost after a failed sync.
    lost: BTreeSet<Sequence>,
    /// Of these, those that must never come back, since a later segment says so durably.
    void: BTreeSet<Sequence>,
}

struct Scanned {
    records: BTreeMap<Sequence, Vec<u8>>,
    damage: Vec<Damage>,
    end: End,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let log = Log::create(ID, SegmentKey(random.next()), SIZES);
        let ledger = Ledger::default();
        Self { random, disk: Disk::default(), log, ledger, checkpoint: None, recycled: Vec::new() }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..8 => self.append(),
            8..14 => self.write(),
            14 if self.random.one_in(6) => self.write_badly(),
            14 => self.checkpoint = self.log.position().or(self.checkpoint),
            _ if self.random.one_in(3) => self.crash(),
            _ => {}
        }
    }

    fn prepare(&mut self) {
        while let Some(wanted) = self.log.wants_segment() {
            let mut content = match self.recycled.is_empty() || self.random.one_in(2) {
                true => Vec::new(),
                false => self.recycled.swap_remove(0),
            };
            content.resize(wanted.bytes as usize, 0);
            self.disk.create(wanted.number, content);
            let key = SegmentKey(self.random.next());
            self.log.give_segment(Ready { number: wanted.number, bytes: wanted.bytes, key });
        }
    }

    fn append(&mut self) {
        let mut group = self.group();
        let appended = loop {
            match self.log.append(&mut group) {
                Ok(appended) => break appended,
                Err(Refused::NoSegment) => self.prepare(),
                Err(Refused::TooLarge) => panic!("nothing here is so large"),
            }
        };
        for (index, record) in group.iter().enumerate() {
            let sequence = appended.first + index as u64;
            if let Record::Delivered(delivered) = record {
                let is_live = appended.messages.iter().any(|kept| kept.message == delivered.message);
                assert!(is_live, "live and replay agree");
            }
            self.ledger.appended.insert(sequence, bytes_of(record));
        }
        self.ledger.groups.insert((appended.first, appended.last));
    }

    fn append_all(&mut self, group: &mut [Record]) -> Sequence {
        loop {
            match self.log.append(&mut *group) {
                Ok(appended) => return appended.first,
                Err(Refused::NoSegment) => self.prepare(),
                Err(Refused::TooLarge) => panic!("nothing here is so large"),
            }
        }
    }

    /// Appends a group that becomes durable.
    fn acknowledge(&mut self, group: &mut [Record]) {
        let first = self.append_all(group);
        let numbered =
            group.iter().enumerate().map(|(index, record)| (first + index as u64, bytes_of(record)));
        self.ledger.appended.extend(numbered);
        while let Some(write) = self.log.poll_write() {
            self.disk.write(&write);
            self.disk.sync();
            self.log.handle_written(write.through, Outcome::Synced).expect("it was synced");
        }
    }

    /// A few records; sometimes a message that is delivered at once.
    fn group(&mut self) -> Vec<Record> {
        let mut group = Vec::new();
        if self.random.one_in(2) {
            group.push(self.message());
            if self.random.one_in(2) {
                group.push(self.delivered(MessageId { log: ID, sequence: self.log.next_sequence() }));
            }
        }
        while group.is_empty() || self.random.one_in(3) {
            group.push(self.small());
        }
        group
    }

    fn message(&mut self) -> Record {
        let length = match self.random.below(8) {
            0 => self.random.below(100_000),
            1..4 => 4096 + self.random.below(4096),
            _ => self.random.below(4096),
        };
        let bytes = Slice::from(self.random.bytes(length as usize));
        let address = |local: &str| Address { local: local.into(), domain: "example.org".into() };
        let envelope = Envelope {
            sender: Some(address("from")),
            recipients: vec![Recipient::new(address("to"))],
            ..Envelope::default()
        };
        let routes = vec![Route::Local(AccountId(1))];
        let accepted = Accepted { envelope, routes, ..Accepted::default() };
        Record::Message(Message {
            received: Timestamp { seconds: 1_700_000_000, zone_minutes: 60 },
            accepted: self.random.one_in(2).then(|| Arc::new(accepted)),
            body: Body::Inline { bytes, return_path_length: 0 },
        })
    }

    fn delivered(&mut self, id: MessageId) -> Record {
        let place = Place::Segment { number: 0, offset: 0 };
        Record::Delivered(Delivered {
            account: AccountId(1),
            mailbox: MailboxId(1),
            uid: self.random.next() as u32,
            modseq: self.random.next(),
            message: Locator { id, place, length: 0, return_path_length: 0 },
            key: Some((id, 0)),
            flags: SystemFlags::SEEN,
            keywords: 0,
            internal: Timestamp::default(),
            saved: 5,
        })
    }

    fn small(&mut self) -> Record {
        if self.random.one_in(2) {
            return Record::Settled(Settled { message: Sequence(self.random.next()), recipient: 2 });
        }
        let count = self.random.below(200) as u32;
        let uids: Ranges = (0..count).map(|n| n * 2 + 1).collect();
        Record::FlagsChanged(FlagsChanged {
            account: AccountId(1),
            mailbox: MailboxId(1),
            modseq: self.random.next(),
            action: FlagsAction::Add,
            flags: SystemFlags::SEEN,
            keywords: self.random.next(),
            uids,
        })
    }

    fn write(&mut self) {
        self.prepare();
        let Some(write) = self.log.poll_write() else {
            return;
        };
        assert!(self.log.poll_write().is_none(), "one write at a time");
        self.disk.write(&write);
        if self.random.one_in(20) {
            return self.crash();
        }
        self.disk.sync();
        let synced = self.log.handle_written(write.through, Outcome::Synced).expect("it was synced");
        self.ledger.acknowledged = synced;
        let lost = self.ledger.lost.clone();
        self.ledger.void.extend(lost);
    }

    /// The sync fails. What of it reached the disk is anyone's guess.
    fn write_badly(&mut self) {
        self.prepare();
        let Some(write) = self.log.poll_write() else {
            return;
        };
        self.disk.write(&write);
        self.disk.crash(&mut self.random);
        let lost = self.log.handle_written(write.through, Outcome::Failed).expect_err("it failed");
        self.ledger.lost.extend(lost.0.map(Sequence));
    }

    /// Power is lost, then the log is recovered and goes on.
    fn crash(&mut self) {
        self.disk.crash(&mut self.random);
        let scanned = scan(&self.disk, None).expect("readable");
        self.ledger.check(&scanned);
        assert_eq!(scanned.damage, [], "a crash is no damage");
        self.check_checkpoint(&scanned);
        self.ledger.adopt(&scanned);
        let end = scanned.end;
        for blank in &end.blank {
            self.recycled.push(self.disk.file_mut(*blank).clone());
            self.disk.remove(*blank);
        }
        self.log = Log::resume(&end, SegmentKey(self.random.next()), SIZES);
        self.recycle(&end);
    }

    /// Replay from the checkpoint gives the same records as replay of everything, as far as they are newer.
    fn check_checkpoint(&self, whole: &Scanned) {
        let Some(position) = self.checkpoint else {
            return;
        };
        let rest = scan(&self.disk, Some(position)).expect("the position is in the log");
        let newer = whole.records.range(position.through + 1..);
        assert!(newer.eq(rest.records.iter()), "replay from a checkpoint");
        assert_eq!((rest.end.next, rest.end.tail), (whole.end.next, whole.end.tail));
    }

    /// The oldest segment is given back, as a cleaner will do once all in it is superseded.
    fn recycle(&mut self, end: &End) {
        let numbers = self.disk.numbers();
        let is_tail = end.tail.is_none_or(|tail| tail.number <= numbers[0]);
        if numbers.len() < 4 || is_tail || !self.random.one_in(2) {
            return;
        }
        let oldest = self.disk.file_mut(numbers[0]).clone();
        self.recycled.push(oldest);
        self.disk.remove(numbers[0]);
        let scanned = scan(&self.disk, None).expect("readable");
        let first = scanned.records.keys().next().copied().unwrap_or(self.log.next_sequence());
        self.ledger.appended.retain(|sequence, _| *sequence >= first);
        self.ledger.groups.retain(|(begin, _)| *begin >= first);
        self.ledger.lost.retain(|sequence| *sequence >= first);
        self.checkpoint = self.checkpoint.filter(|position| position.segment > numbers[0]);
    }
}

impl Ledger {
    /// Everything acknowledged is there, nothing is there that was not appended, groups are whole.
    fn check(&self, scanned: &Scanned) {
        for (sequence, bytes) in &scanned.records {
            assert_eq!(self.appended.get(sequence), Some(bytes), "{sequence:?} is what was appended");
            assert!(!self.void.contains(sequence), "{sequence:?} came back");
        }
        for sequence in self.appended.keys().filter(|sequence| **sequence <= self.acknowledged) {
            let is_there = scanned.records.contains_key(sequence);
            assert!(is_there || self.lost.contains(sequence), "{sequence:?} was acknowledged");
        }
        for (first, last) in &self.groups {
            let is_there = |sequence: &Sequence| scanned.records.contains_key(sequence);
            assert_eq!(is_there(first), is_there(last), "the group {first:?} is whole or absent");
        }
    }

    /// The next life begins with what was recovered.
    fn adopt(&mut self, scanned: &Scanned) {
        self.appended.retain(|sequence, _| scanned.records.contains_key(sequence));
        self.groups.retain(|(first, _)| scanned.records.contains_key(first));
        self.lost.clear();
        self.acknowledged = scanned.end.synced;
    }
}

fn bytes_of(record: &Record) -> Vec<u8> {
    let mut bytes = vec![codec::kind(record)];
    codec::encode(record, &mut bytes);
    bytes.extend_from_slice(codec::body(record).map_or(&[], |body| body));
    bytes
}

fn scan(disk: &Disk, start: Option<Position>) -> Result<Scanned, Unreadable> {
    let mut scan = Scan::new(ID, disk.segments(), start)?;
    let (mut records, mut damage) = (BTreeMap::new(), Vec::new());
    let mut last = Sequence(0);
    for found in &mut scan {
        match found? {
            Found::Record(found) => {
                assert!(found.sequence > last, "in order, each once");
                last = found.sequence;
                records.insert(found.sequence, bytes_of(&found.record));
            }
            Found::Damage(found) => damage.push(found),
        }
    }
    Ok(Scanned { records, damage, end: scan.end() })
}

/// A log of a few batches and segments, all synced.
fn settled_world(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.append();
        if world.random.one_in(3) {
            world.write();
        }
    }
    while world.log.gathered_bytes() > 0 {
        world.write();
    }
    world
}

#[test]
fn what_was_acknowledged_outlives_any_number_of_crashes() {
    // For a long search: SIM_SEEDS=100000 cargo test --release --test sim outlives
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..300 {
                world.step();
            }
            world.crash();
        }));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn any_cut_of_the_tail_recovers_every_synced_record() {
    let mut world = settled_world(1, 12);
    world.append();
    world.append();
    let before = world.disk.clone();
    let write = world.log.poll_write().expect("there is something to write");
    let bytes: Vec<u8> = write.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
    for cut in 0..=bytes.len() {
        let mut disk = before.clone();
        let offset = write.offset as usize;
        disk.file_mut(write.segment)[offset..offset + cut].copy_from_slice(&bytes[..cut]);
        let scanned = scan(&disk, None).expect("readable");
        world.ledger.check(&scanned);
        assert_eq!(scanned.damage, []);
        if cut == bytes.len() {
            assert_eq!(scanned.end.synced, write.through);
        }
    }
}

#[test]
fn recovery_again_and_again_gives_the_same() {
    let mut world = settled_world(2, 30);
    world.append();
    let write = world.log.poll_write().expect("there is something to write");
    world.disk.write(&write);
    world.disk.crash(&mut world.random);
    let first = scan(&world.disk, None).expect("readable");
    let mut end = first.end;
    for life in 0..5 {
        // Each life is cut while its opening batch is on its way.
        world.log = Log::resume(&end, SegmentKey(9), SIZES);
        world.prepare();
        if let Some(write) = world.log.poll_write() {
            world.disk.write(&write);
            world.disk.crash(&mut world.random);
        }
        let again = scan(&world.disk, None).expect("readable");
        assert!(again.records == first.records && again.damage.is_empty(), "life {life}");
        end = again.end;
    }
}

/// Nobody can tell that the last batch was ever promised; who has its messages in another log knows them by number.
#[test]
fn the_numbers_of_a_damaged_last_batch_are_not_given_again() {
    let mut world = settled_world(8, 12);
    let position = world.log.position().expect("something was synced");
    let last = position.offset as usize + 64 + 24;
    world.disk.file_mut(position.segment)[last + 8] ^= 1;
    let scanned = scan(&world.disk, None).expect("readable");
    assert!(scanned.damage.is_empty() && scanned.end.next <= position.through);
    let log = Log::resume(&scanned.end, SegmentKey(9), SIZES);
    assert!(log.next_sequence() > position.through + 1);
}

/// A cleaning takes what it finds in a segment for the messages that somebody has, by their numbers: of a batch that a
/// crash tore, frames stay behind the end of the log, and nothing that is acknowledged later may have theirs.
#[test]
fn what_a_torn_batch_left_stands_for_no_acknowledged_mail() {
    let world = world_behind_a_torn_batch();
    let mut stale = 0;
    for file in world.disk.segments() {
        for found in Scan::of_remains(ID, file, None).expect("readable") {
            let Found::Record(found) = found.expect("readable") else {
                continue;
            };
            match world.ledger.appended.get(&found.sequence) {
                Some(bytes) => assert_eq!(bytes, &bytes_of(&found.record), "{:?}", found.sequence),
                None => stale += usize::from(matches!(found.record, Record::Message(_))),
            }
        }
    }
    assert_eq!(stale, 5, "the first of the torn batch is gone with its sector");
}

/// Numbers were left out there, and nothing was lost with them.
#[test]
fn a_segment_behind_numbers_that_were_left_out_needs_no_header() {
    let mut world = world_behind_a_torn_batch();
    let behind = world.log.position().expect("something was synced").segment;
    while world.log.position().is_some_and(|position| position.segment == behind) {
        world.acknowledge(&mut [filled(4, 5000)]);
    }
    world.disk.file_mut(behind)[..2 * 4096].fill(0xff);
    let scanned = scan(&world.disk, None).expect("readable");
    assert_eq!(scanned.damage, []);
    assert!(
        world.ledger.appended.iter().all(|(sequence, bytes)| scanned.records.get(sequence) == Some(bytes))
    );
}

/// A log that goes on behind a batch of messages that a crash tore.
fn world_behind_a_torn_batch() -> World {
    let mut world = World::new(1);
    world.acknowledge(&mut [filled(1, 100)]);
    world.append_all(&mut [(); 6].map(|()| filled(2, 2500)));
    let torn = world.log.poll_write().expect("there is something to write");
    world.disk.write(&torn);
    world.disk.sync();
    // All of it reached the disk but its first sector.
    world.disk.file_mut(torn.segment)[torn.offset as usize..][..512].fill(0);
    let scanned = scan(&world.disk, None).expect("readable");
    assert_eq!((scanned.damage.len(), scanned.end.torn.len()), (0, 1));
    world.log = Log::resume(&scanned.end, SegmentKey(9), SIZES);
    // One for the beginning of what is torn, one for which there is no room behind it.
    for length in [100, 20_000] {
        world.acknowledge(&mut [filled(3, length)]);
    }
    world
}

fn filled(byte: u8, length: usize) -> Record {
    let body = Body::Inline { bytes: Slice::from(vec![byte; length]), return_path_length: 0 };
    Record::Message(Message { received: Timestamp::default(), accepted: None, body })
}

#[test]
fn every_damage_is_told_and_costs_no_other_record() {
    let whole = settled_world(3, 60);
    let numbers = whole.disk.numbers();
    let mut random = Random::new(77);
    for case in 0..500 {
        let mut disk = whole.disk.clone();
        let number = numbers[random.below(numbers.len() as u64) as usize];
        let file = disk.file_mut(number);
        let at = random.below(file.len() as u64) as usize;
        match random.below(4) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at & !511..][..512].fill(0),
            2 => file[at & !511..][..512].fill(0xff),
            _ => {
                let from = random.below(file.len() as u64) as usize & !511;
                file.copy_within(from..from + 512, at & !511);
            }
        }
        check_damage(&whole, &disk, case);
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_told_or_harmless() {
    let whole = settled_world(4, 8);
    let number = whole.disk.numbers()[0];
    for bit in (0..64 * 8).chain(4096 * 8..(4096 + 64) * 8).chain(8192 * 8..(8192 + 160) * 8) {
        let mut disk = whole.disk.clone();
        disk.file_mut(number)[bit / 8] ^= 1 << (bit % 8);
        check_damage(&whole, &disk, bit as u64);
    }
}

/// Every record is there and right, or told to be damaged, or in the last batch, where nobody can tell damage
/// from a torn write.
fn check_damage(whole: &World, disk: &Disk, case: u64) {
    let scanned = scan(disk, None).expect("readable");
    for (sequence, bytes) in &scanned.records {
        assert_eq!(whole.ledger.appended.get(sequence), Some(bytes), "case {case}");
    }
    let is_told = |sequence: Sequence| {
        scanned.damage.iter().any(|damage| (damage.first..=damage.last).contains(&sequence))
    };
    let all = whole.ledger.appended.keys().copied();
    let mut missing = all.filter(|sequence| !scanned.records.contains_key(sequence) && !is_told(*sequence));
    let Some(first) = missing.next() else {
        return;
    };
    let last_batch = whole.log.position().expect("it was synced");
    let tail = scanned.end.tail.expect("a tail");
    assert_eq!((tail.number, tail.offset), (last_batch.segment, last_batch.offset), "case {case}: {first:?}");
    assert_eq!(scanned.end.next, first, "case {case}");
}

#[test]
fn one_lost_sector_costs_one_message() {
    let mut world = World::new(5);
    for _ in 0..6 {
        let mut group = [world.message()];
        while world.log.append(&mut group).is_err() {
            world.prepare();
        }
        world.ledger.appended.insert(Sequence(world.log.next_sequence().0 - 1), bytes_of(&group[0]));
    }
    while world.log.gathered_bytes() > 0 {
        world.write();
    }
    world.append();
    world.write();
    let all = scan(&world.disk, None).expect("readable");
    for number in world.disk.numbers() {
        for sector in (8192..world.disk.file_mut(number).len()).step_by(3 * 512) {
            let mut disk = world.disk.clone();
            disk.file_mut(number)[sector..sector + 512].fill(0xee);
            let scanned = scan(&disk, None).expect("readable");
            let lost = all.records.len() - scanned.records.len();
            // A sector may hold the end of one frame and the beginning of the next.
            assert!(lost <= 3, "segment {number} sector {sector}: {lost} records lost");
        }
    }
}

#[test]
fn a_message_that_contains_a_log_forges_nothing() {
    let mut world = settled_world(6, 4);
    let mut group = [message_with(Slice::from(forged(world.log.next_sequence())))];
    let place = loop {
        match world.log.append(&mut group) {
            Ok(appended) => break appended.messages[0].message.place,
            Err(_) => world.prepare(),
        }
    };
    while world.log.gathered_bytes() > 0 {
        world.write();
    }
    world.append();
    while world.log.gathered_bytes() > 0 {
        world.write();
    }
    // The header of the message's own frame is lost, so that what follows it is searched for frames.
    let Place::Segment { number, offset } = place else {
        panic!("it is in a segment");
    };
    world.disk.file_mut(number)[offset as usize + 4] ^= 0xff;
    let scanned = scan(&world.disk, None).expect("readable");
    assert_eq!(scanned.damage.len(), 1);
    world.ledger.lost.insert(scanned.damage[0].first);
    world.ledger.check(&scanned);
}

/// Pages that each begin like a batch, with frames for the sequence at hand: all but the key is right.
fn forged(sequence: Sequence) -> Vec<u8> {
    let key = SegmentKey(1);
    let mut fields = Vec::new();
    codec::encode(&Record::Settled(Settled { message: Sequence(1), recipient: 2 }), &mut fields);
    let spec = FrameSpec { kind: 13, version: codec::VERSION, sequence };
    let mut frame = vec![0; frame::header_length(fields.len())];
    frame::write_header(&mut frame, spec, [&fields, &[]], key);
    frame.extend_from_slice(&fields);
    let mut log = Vec::new();
    for page in 0..8 {
        let header = BatchHeader {
            segment: 1,
            page,
            incarnation: 1,
            count: 1,
            first: sequence,
            synced_through: sequence,
            length: frame.len() as u32,
            frames_checksum: 0,
        };
        log.extend_from_slice(&header.to_bytes(key));
        log.extend_from_slice(&frame);
        log.resize(log.len().next_multiple_of(4096), 0);
    }
    log
}

fn message_with(bytes: Slice) -> Record {
    let body = Body::Inline { bytes, return_path_length: 0 };
    Record::Message(Message { received: Timestamp::default(), accepted: None, body })
}

#[test]
fn a_batch_that_was_written_to_a_wrong_page_is_not_taken() {
    let world = settled_world(7, 6);
    let end = scan(&world.disk, None).expect("readable").end;
    let (tail, position) = (end.tail.expect("a tail"), end.position.expect("a batch"));
    let mut disk = world.disk.clone();
    let file = disk.file_mut(tail.number);
    let (from, to) = (position.offset as usize, tail.offset as usize);
    file.copy_within(from..to, to);
    let again = scan(&disk, None).expect("readable");
    assert_eq!((again.end.next, again.end.tail), (end.next, end.tail));
    world.ledger.check(&again);
}
