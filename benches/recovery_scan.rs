//! What a start costs: a segment of messages and small records read back, every checksum looked at.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Slice;
use ringpost::mail::time::Timestamp;
use ringpost::store::log::{Log, Outcome, Ready, Sizes};
use ringpost::store::record::{Body, Message, Record, Settled};
use ringpost::store::recover::{Found, Scan, SegmentFile};
use ringpost::store::segment::SegmentKey;
use ringpost::store::{LogId, Sequence};

const LOG: LogId = LogId(0);
const MESSAGES: usize = 2000;
const MESSAGE_BYTES: usize = 4 << 10;

/// The bytes of a segment with the messages and a small record behind each.
fn segment() -> SegmentFile {
    let mut log = Log::create(LOG, SegmentKey(7), Sizes::default());
    let wanted = log.wants_segment().expect("a new log wants a segment");
    let mut bytes = vec![0; 16 << 20];
    log.give_segment(Ready { number: wanted.number, bytes: bytes.len() as u64, key: SegmentKey(8) });
    for _ in 0..MESSAGES {
        let body = Body::Inline { bytes: Slice::from(vec![b'x'; MESSAGE_BYTES]), return_path_length: 0 };
        let received = Timestamp { seconds: 1_767_225_600, zone_minutes: 0 };
        let mut message = Record::Message(Message { received, accepted: None, body });
        let mut settled = Record::Settled(Settled { message: Sequence(2), recipient: 0 });
        log.append([&mut message, &mut settled]).expect("there is room");
        let Some(write) = log.poll_write() else {
            continue;
        };
        let mut offset = usize::try_from(write.offset).expect("inside of the segment");
        for piece in &write.pieces {
            bytes[offset..offset + piece.len()].copy_from_slice(piece);
            offset += piece.len();
        }
        log.handle_written(write.through, Outcome::Synced).expect("it is synced");
    }
    SegmentFile { number: wanted.number, bytes: Slice::from(bytes) }
}

/// Messages that a scan finds.
fn scan(segment: &SegmentFile) -> usize {
    let mut scan = Scan::new(LOG, vec![segment.clone()], None).expect("it is readable");
    let is_message = |found: Found| match found {
        Found::Record(found) => matches!(found.record, Record::Message(_)),
        Found::Damage(damage) => panic!("nothing is damaged: {damage:?}"),
    };
    (&mut scan).map(|found| found.expect("it is readable")).filter(|found| is_message(found.clone())).count()
}

fn recovery_scan(criterion: &mut Criterion) {
    let segment = segment();
    assert_eq!(scan(&segment), MESSAGES);
    let mut group = criterion.benchmark_group("recovery_scan");
    group.sample_size(20);
    group.throughput(Throughput::Bytes((MESSAGES * MESSAGE_BYTES) as u64));
    group.bench_function("2000_messages_of_4_kib", |bencher| {
        bencher.iter_batched(|| &segment, |segment| scan(black_box(segment)), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, recovery_scan);
criterion_main!(benches);
