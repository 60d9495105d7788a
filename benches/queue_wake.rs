//! Mail that is owed elsewhere: put into the timeline, woken when its time has come, taken in line and settled. Beside
//! it a hundred thousand messages wait for later, as behind a destination that does not answer.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::queue::schedule::{COMMON_WAY, Item, Line, Schedule};

const BACKLOG: u64 = 100_000;
const MESSAGES: u64 = 1000;
const DESTINATIONS: u32 = 50;

const NOW: u32 = 1_767_225_600;
const LATER: u32 = NOW + 3600;

/// What is due falls due within a minute.
const MINUTE: u32 = 60;

fn item(message: u64) -> Item {
    Item { message, destination: (message % u64::from(DESTINATIONS)) as u32 }
}

/// When a message is due: not in the order in which they come.
fn due(message: u64) -> u32 {
    NOW + (message.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u32 % MINUTE
}

fn backlog() -> Schedule {
    let items = (MESSAGES..MESSAGES + BACKLOG).map(|message| (item(message), LATER + (message % 600) as u32));
    Schedule::of(items, BACKLOG as usize)
}

fn insert(schedule: &mut Schedule) {
    (0..MESSAGES).for_each(|message| schedule.insert(item(message), due(message)));
}

fn filled() -> Schedule {
    let mut schedule = backlog();
    insert(&mut schedule);
    schedule
}

/// Wakes what is due, second by second, and has all of it taken and settled; calls `see` with each and its time.
fn wake(schedule: &mut Schedule, mut see: impl FnMut(Item, u32)) {
    for now in NOW..NOW + MINUTE {
        while let Some((item, at)) = schedule.poll_due(now) {
            schedule.make_ready(item, COMMON_WAY, 0, at);
        }
        while let Some(line) = schedule.poll_fresh() {
            while let Some(item) = schedule.take(line) {
                see(item, now);
                schedule.give_back(item);
            }
        }
    }
}

/// Each message comes out once, at its time, and the backlog stays.
fn check() {
    let mut schedule = filled();
    let mut woken = Vec::new();
    wake(&mut schedule, |item, at| {
        assert_eq!(at, due(item.message));
        woken.push(item.message);
    });
    woken.sort_unstable();
    assert_eq!(woken, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!((schedule.waiting() as u64, schedule.out()), (BACKLOG, 0));
    assert!(schedule.deadline() >= Some(LATER));
    let line = Line { destination: 0, way: COMMON_WAY };
    assert_eq!(schedule.ready(line), 0);
}

fn queue_wake(criterion: &mut Criterion) {
    check();
    let mut group = criterion.benchmark_group("queue_wake");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("insert_beside_100k", |bencher| {
        bencher.iter_batched_ref(backlog, |schedule| insert(black_box(schedule)), BatchSize::LargeInput);
    });
    group.bench_function("wake_beside_100k", |bencher| {
        let see = |item, _| {
            black_box(item);
        };
        let wake_all = |schedule: &mut Schedule| wake(schedule, see);
        bencher.iter_batched_ref(filled, wake_all, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, queue_wake);
criterion_main!(benches);
