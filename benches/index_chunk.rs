//! A sealed chunk of the index: built from rows, opened with its checksum, and asked for rows by UID.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::bytes::Slice;
use ringpost::mail::digest::Digest;
use ringpost::mail::time::Timestamp;
use ringpost::store::index::{Chunk, ChunkBuilder, Kept, LazyDigest};
use ringpost::store::{Locator, LogId, MessageId, Place, Sequence};

const ROWS: u32 = 4096;

fn digest() -> Digest {
    Digest::of(
        b"From: Sender <sender@elsewhere.example>\r\nTo: Alice <alice@example.org>\r\nSubject: a benchmark\r\n\
          Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@elsewhere.example>\r\n\r\nbody\r\n",
    )
}

fn kept(uid: u32, digest: &Digest) -> Kept<'_> {
    let at = Timestamp { seconds: 1_767_225_600 + i64::from(uid), zone_minutes: 0 };
    Kept {
        internal: at,
        saved: at.seconds,
        locator: Locator {
            id: MessageId { log: LogId(0), sequence: Sequence(u64::from(uid)) },
            place: Place::Segment { number: 1, offset: uid * 4096 },
            length: 4096,
            return_path_length: 0,
        },
        digest: LazyDigest::Made(digest),
    }
}

/// A chunk with every second UID.
fn build(digest: &Digest) -> Vec<u8> {
    let mut builder = ChunkBuilder::new();
    (1..=ROWS).for_each(|number| builder.push(number * 2, &kept(number * 2, digest)));
    builder.finish()
}

fn index_chunk(criterion: &mut Criterion) {
    let digest = digest();
    let bytes = build(&digest);
    let chunk = Chunk::open(Slice::from(bytes.clone())).expect("its checksum is good");
    for uid in [2, ROWS, ROWS * 2] {
        let index = chunk.find(uid).expect("it is there");
        assert_eq!((chunk.uid(index), chunk.kept(index)), (uid, kept(uid, &digest)));
        assert_eq!(chunk.find(uid + 1), None);
    }
    let mut group = criterion.benchmark_group("index_chunk");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.bench_function("build", |bencher| bencher.iter(|| build(black_box(&digest))));
    let slice = Slice::from(bytes);
    group.bench_function("open", |bencher| bencher.iter(|| Chunk::open(black_box(slice.clone())).is_ok()));
    group.bench_function("find_each_row", |bencher| {
        bencher.iter(|| {
            let found = (1..=ROWS).filter_map(|number| chunk.find(black_box(number * 2)));
            found.map(|index| chunk.kept(index).locator.length).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(benches, index_chunk);
criterion_main!(benches);
