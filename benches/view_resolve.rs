//! Message numbers and UIDs of a mailbox of 100,000 messages with holes, as a session sees it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost::mail::flags::Flags;
use ringpost::mail::set::{Bound, NumberSet, Ranges};
use ringpost::mail::time::Timestamp;
use ringpost::mailbox::Plan;
use ringpost::mailbox::account::Account;
use ringpost::mailbox::plan::{Doomed, Incoming};
use ringpost::mailbox::saved::Saved;
use ringpost::mailbox::view::{Access, Numbering, View};
use ringpost::store::{AccountId, Locator, LogId, MailboxId, MessageId, Place, Sequence};

const MESSAGES: u32 = 100_000;

fn incoming(number: u32) -> Incoming {
    let at = Timestamp { seconds: 1_767_225_600, zone_minutes: 0 };
    let id = MessageId { log: LogId(0), sequence: Sequence(u64::from(number)) };
    Incoming {
        message: Locator {
            id,
            place: Place::Segment { number: 1, offset: 0 },
            length: 4096,
            return_path_length: 0,
        },
        digest: None,
        key: None,
        flags: Flags::default(),
        internal: at,
        saved: at.seconds,
    }
}

fn apply<T>(account: &mut Account, plan: Plan<T>) -> T {
    plan.changes.iter().for_each(|change| account.apply(&change.record, change.digest.as_ref()));
    plan.answer
}

/// A mailbox of which every eleventh UID has been expunged: `MESSAGES` are left.
fn account() -> (Account, MailboxId) {
    let mut account = Account::new(AccountId(1));
    let plan = account.plan_create("box", None).expect("a new name");
    let mailbox = apply(&mut account, plan);
    let uids = MESSAGES / 10 * 11;
    for number in 1..=uids {
        let plan = account.plan_append(mailbox, incoming(number)).expect("there is room");
        apply(&mut account, plan);
    }
    let doomed: Ranges = (1..=uids).filter(|uid| uid % 11 == 0).collect();
    let plan = account.plan_expunge(mailbox, Doomed::These(&doomed)).expect("the mailbox is there");
    apply(&mut account, plan);
    (account, mailbox)
}

fn view_resolve(criterion: &mut Criterion) {
    let (account, mailbox) = account();
    let mailbox = account.mailbox(mailbox).expect("the mailbox is there");
    let mut view = View::open(mailbox, Access::ReadOnly);
    let look = view.look(mailbox);
    assert_eq!(look.exists(), MESSAGES);
    assert_eq!(
        (look.uid_of(10), look.uid_of(11), look.uid_of(MESSAGES)),
        (Some(10), Some(12), Some(109_999))
    );
    assert_eq!((look.msn_of(12), look.msn_of(11), look.msn_of(109_999)), (Some(11), None, Some(MESSAGES)));

    let mut group = criterion.benchmark_group("view_resolve");
    let step = 37;
    group.throughput(Throughput::Elements(u64::from(MESSAGES / step)));
    group.bench_function("uid_of_msn", |bencher| {
        bencher.iter(|| {
            (1..MESSAGES).step_by(step as usize).filter_map(|msn| look.uid_of(black_box(msn))).count()
        });
    });
    group.bench_function("msn_of_uid", |bencher| {
        bencher.iter(|| {
            (1..MESSAGES).step_by(step as usize).filter_map(|uid| look.msn_of(black_box(uid))).count()
        });
    });
    // What a client that resynchronises sends: many single numbers.
    let numbers = (1..MESSAGES).step_by(step as usize).map(|msn| (Bound::Number(msn), Bound::Number(msn)));
    let set = NumberSet::Ranges(numbers.collect());
    let saved = Saved::default();
    let resolved = look.resolve(&set, Numbering::Sequence, &saved).expect("all are in range");
    assert_eq!(look.messages(&resolved, 0).count(), (1..MESSAGES).step_by(step as usize).count());
    group.bench_function("set_of_numbers", |bencher| {
        bencher.iter(|| look.resolve(black_box(&set), Numbering::Sequence, &saved).is_ok());
    });
    group.finish();
}

criterion_group!(benches, view_resolve);
criterion_main!(benches);
