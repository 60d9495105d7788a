//! Messages into a log as a value: placed, framed, checksummed, gathered, and the batch closed. No disk.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Slice;
use ringpost::mail::time::Timestamp;
use ringpost::store::LogId;
use ringpost::store::log::{Log, Outcome, Ready, Sizes};
use ringpost::store::record::{Body, Message, Record};
use ringpost::store::segment::SegmentKey;

fn message(bytes: &Slice) -> Record {
    Record::Message(Message {
        received: Timestamp { seconds: 1_767_225_600, zone_minutes: 0 },
        accepted: None,
        body: Body::Inline { bytes: bytes.clone(), return_path_length: 0 },
    })
}

/// A log with a segment that has room for everything here.
fn fresh_log() -> Log {
    let mut log = Log::create(LogId(0), SegmentKey(7), Sizes::default());
    let wanted = log.wants_segment().expect("a new log wants a segment");
    log.give_segment(Ready { number: wanted.number, bytes: 64 << 20, key: SegmentKey(8) });
    log
}

/// Appends `count` messages and writes them out as one batch or more; says how many bytes were to be written.
fn fill(log: &mut Log, bytes: &Slice, count: usize) -> u64 {
    for _ in 0..count {
        let mut record = message(bytes);
        log.append([&mut record]).expect("there is room");
    }
    let mut written = 0;
    while let Some(write) = log.poll_write() {
        written += write.length;
        log.handle_written(write.through, Outcome::Synced).expect("it is synced");
    }
    written
}

fn log_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log_append");
    for (name, size, count) in
        [("one_of_4_kib", 4 << 10, 1), ("64_of_4_kib", 4 << 10, 64), ("8_of_100_kib", 100 << 10, 8)]
    {
        let bytes = Slice::from(vec![b'x'; size]);
        let mut log = fresh_log();
        let written = fill(&mut log, &bytes, count);
        assert!(written >= (size * count) as u64 && written.is_multiple_of(4096));
        assert_eq!(log.synced().0 + 1, log.next_sequence().0);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                fresh_log,
                |log| fill(log, black_box(&bytes), count),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, log_append);
criterion_main!(benches);
