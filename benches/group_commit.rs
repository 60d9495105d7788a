//! Group commit on a real disk: so many askers, each of whom waits for the sync of its message before it has the next.
//! What is appended while a write is being synced goes out with the next one, so that a hundred askers cost two syncs.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use ringpost::bytes::Slice;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::{Opened, open_log};
use ringpost::io::disk::prepare::prepare_segment;
use ringpost::io::disk::writer::LogEvent;
use ringpost::mail::time::Timestamp;
use ringpost::store::log::{Outcome, Refused};
use ringpost::store::record::{Body, Message, Record};
use ringpost::store::{LogId, Sequence};
use tempfile::TempDir;

const MESSAGE_BYTES: usize = 4 << 10;

struct Bench {
    opened: Opened,
    bytes: Slice,
    acknowledged: usize,
    syncs: usize,
    // The log is closed before its lock is given back and its files go.
    data: DataDir,
    folder: TempDir,
}

/// The log of a folder, and how many messages it holds.
fn open(data: &DataDir) -> (Opened, usize) {
    let count = |messages: &mut usize, found: ringpost::store::recover::Recovered| {
        *messages += usize::from(matches!(found.record, Record::Message(_)));
    };
    open_log(data, LogId(0), |_| Some(0), count).expect("the log is opened")
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::open(folder.path()).expect("the lock is free");
        let (opened, messages) = open(&data);
        assert_eq!(messages, 0);
        let bytes = Slice::from(vec![b'x'; MESSAGE_BYTES]);
        Self { opened, bytes, acknowledged: 0, syncs: 0, data, folder }
    }

    /// One message of each asker, from the first append to the last answer.
    fn round(&mut self, askers: usize) {
        let mut waiting: Vec<Sequence> = Vec::with_capacity(askers);
        for _ in 0..askers {
            waiting.push(self.append());
            self.write();
        }
        while !waiting.is_empty() {
            let LogEvent::Written { through, result } = block_on(self.opened.writer.events().next()) else {
                panic!("no segment was asked for");
            };
            result.expect("it is written and synced");
            let synced = self.opened.log.handle_written(through, Outcome::Synced).expect("it was synced");
            let before = waiting.len();
            waiting.retain(|sequence| *sequence > synced);
            self.acknowledged += before - waiting.len();
            self.write();
        }
    }

    fn append(&mut self) -> Sequence {
        let body = Body::Inline { bytes: self.bytes.clone(), return_path_length: 0 };
        let received = Timestamp { seconds: 1_767_225_600, zone_minutes: 0 };
        let mut record = Record::Message(Message { received, accepted: None, body });
        loop {
            match self.opened.log.append([&mut record]) {
                Ok(appended) => return appended.last,
                Err(Refused::TooLarge) => panic!("it is not"),
                Err(Refused::NoSegment) => {
                    let wanted = self.opened.log.wants_segment().expect("one is missing");
                    let ready = prepare_segment(self.opened.writer.dir(), wanted).expect("there is space");
                    self.opened.log.give_segment(ready);
                }
            }
        }
    }

    /// Closes the batch, unless a write is in flight.
    fn write(&mut self) {
        if let Some(write) = self.opened.log.poll_write() {
            self.syncs += 1;
            self.opened.writer.submit(write);
        }
    }

    /// Everything that was acknowledged is there after a start.
    fn check(self) {
        let Self { opened, acknowledged, data, folder, .. } = self;
        drop(opened);
        let (opened, messages) = open(&data);
        assert_eq!(messages, acknowledged);
        drop((opened, data, folder));
    }
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_commit");
    group.sample_size(10);
    for askers in [1, 16, 100] {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.round(askers);
        }
        // The first goes alone, the others together.
        assert!(bench.syncs <= 3 * 2, "{} syncs", bench.syncs);
        group.throughput(Throughput::Elements(askers as u64));
        group.bench_function(format!("{askers}_of_4_kib"), |bencher| bencher.iter(|| bench.round(askers)));
        bench.check();
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
