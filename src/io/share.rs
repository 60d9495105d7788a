//! A share of the processor for each session.
//!
//! Every poll of a session is timed, and what it took is a debt, which is forgiven while the session wants nothing:
//! while it waits for its client or the disk. A session that has more debt than it may is in no hurry any more: it
//! waits in a line, of which only a few go in each turn of the shard, while all others go in every turn. So clients
//! that send commands as fast as they are answered, or ask for much, have what is left of the processor, in turns,
//! however many they are; whoever speaks as people and their programs do never waits for more than a few of them.
//!
//! A thousand that come at once, each with nothing owed, would still make a turn of a tenth of a second. So while
//! the shard is crowded (somebody is left in the line, or the turn lasts already) a poll is short and less may be
//! owed; nothing by those who have sent more than they were served in a poll, which mail programs hardly do.
//!
//! Invariants: a session in the line is polled by its turn alone, whatever else wakes it, and the turn comes; one
//! poll is not much longer than [`POLL_MAX`] where its work calls [`breathe`]. In a made world, where nothing takes
//! time, there are no debts.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;

use super::{clock, world};

/// Of the time in which a session wants nothing, this part is forgiven: a message costs less than that of its sync.
const FORGIVEN_PART: u32 = 8;

/// What comes in with the next turn of the ring, or the one behind a send, was there already.
const TURNS_OF_WORK: u64 = 2;

/// A login under TLS and a long answer are no reason to wait.
const DEBT_MAX: Duration = Duration::from_millis(1);

/// A poll that took longer was most likely interrupted, and whoever lost the processor owes nothing for that.
const POLL_CHARGED_MAX: Duration = Duration::from_micros(200);

/// More is not remembered.
const DEBT_MOST: Duration = Duration::from_millis(10);

/// Others wait for so long at most while one session works.
const POLL_MAX: Duration = Duration::from_micros(100);

/// As [`DEBT_MAX`] and [`POLL_MAX`] while the shard is crowded: a message by SMTP takes some 60 us in five polls, and
/// one of them may be interrupted.
const DEBT_CROWDED: Duration = Duration::from_micros(300);
const POLL_CROWDED: Duration = Duration::from_micros(10);

/// A turn that lasts so long has many to serve.
const TURN_LONG: Duration = Duration::from_millis(1);

/// Sessions of the line that go in one turn of the shard.
const DEBTORS_AT_ONCE: usize = 2;

thread_local! {
    static TURN: Cell<u64> = const { Cell::new(0) };
    static TURN_BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The session that is polled has more before it than this poll takes.
    static WANTS_MORE: Cell<bool> = const { Cell::new(false) };
    /// When the poll under way has lasted long enough.
    static POLL_ENOUGH: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Those who wait for their turn.
    static LINE: RefCell<VecDeque<(Ticket, Waker)>> = RefCell::default();
}

/// Whose turn it is.
#[derive(Clone, Default)]
struct Ticket(Rc<Cell<bool>>);

/// What a session has taken and was not forgiven yet.
struct Debt {
    span: Duration,
    /// The end of the last poll, and its turn.
    at: Instant,
    turn: u64,
    /// It wanted more than it was served, and did not wait for anything since.
    is_greedy: bool,
}

/// Polls `task` no more than its share allows.
pub(super) async fn fairly<T>(mut task: Pin<Box<impl Future<Output = T>>>) -> T {
    if world::current().is_some() {
        return task.await;
    }
    let mut debt = Debt { span: Duration::ZERO, at: clock::precise(), turn: TURN.get(), is_greedy: false };
    let mut ticket = None;
    poll_fn(move |context| {
        let begun = clock::precise();
        if ticket.is_none() {
            debt.forgive(begun, TURN.get());
        }
        let is_crowded = is_crowded(begun);
        let owed_max = match (is_crowded, debt.is_greedy) {
            (false, _) => DEBT_MAX,
            (true, false) => DEBT_CROWDED,
            (true, true) => Duration::ZERO,
        };
        let stands_in_line = ticket.is_some() || debt.span > owed_max;
        if stands_in_line && poll_turn(&mut ticket, context).is_pending() {
            return Poll::Pending;
        }
        ticket = None;
        // Whoever has waited for its turn has a whole one.
        let lasts = if is_crowded && !stands_in_line { POLL_CROWDED } else { POLL_MAX };
        POLL_ENOUGH.set(Some(begun + lasts));
        WANTS_MORE.set(false);
        let polled = task.as_mut().poll(context);
        debt.grow(begun, clock::precise(), TURN.get());
        debt.is_greedy |= WANTS_MORE.get();
        polled
    })
    .await
}

/// The ring is about to take what came in. A few of the line go in this turn; says how many.
///
/// By the turn and not by a task that yields again and again: while one is ready, glommio looks at nothing else.
pub(super) fn begin_turn(now: Instant) -> usize {
    TURN.set(TURN.get() + 1);
    TURN_BEGUN.set(Some(now));
    let few: Vec<(Ticket, Waker)> = LINE.with_borrow_mut(|line| {
        let count = line.len().min(DEBTORS_AT_ONCE);
        line.drain(..count).collect()
    });
    let count = few.len();
    for (ticket, waker) in few {
        ticket.0.set(true);
        waker.wake();
    }
    count
}

/// Lets others have their turn if this poll has lasted long enough.
pub async fn breathe() {
    if is_long() {
        yield_now().await;
    }
}

/// More has come for the session that is polled than it takes now.
pub(super) fn want_more() {
    WANTS_MORE.set(true);
}

/// Whether this poll has lasted long enough.
pub fn is_long() -> bool {
    POLL_ENOUGH.get().is_some_and(|enough| clock::precise() > enough)
}

/// Whether more want to work than one turn can bear.
fn is_crowded(now: Instant) -> bool {
    let is_long = TURN_BEGUN.get().is_some_and(|begun| now.saturating_duration_since(begun) > TURN_LONG);
    is_long || LINE.with_borrow(|line| !line.is_empty())
}

/// Stands in the line; ready in the turn that this brings.
fn poll_turn(ticket: &mut Option<Ticket>, context: &Context<'_>) -> Poll<()> {
    match ticket {
        Some(ticket) if ticket.0.get() => Poll::Ready(()),
        Some(_) => Poll::Pending,
        None => {
            let ticket = ticket.insert(Ticket::default());
            LINE.with_borrow_mut(|line| line.push_back((ticket.clone(), context.waker().clone())));
            Poll::Pending
        }
    }
}

impl Debt {
    /// The session wants something again.
    fn forgive(&mut self, now: Instant, turn: u64) {
        if turn - self.turn > TURNS_OF_WORK {
            self.span = self.span.saturating_sub(now.saturating_duration_since(self.at) / FORGIVEN_PART);
            self.is_greedy = false;
        }
    }

    fn grow(&mut self, begun: Instant, ended: Instant, turn: u64) {
        self.span = (self.span + (ended - begun).min(POLL_CHARGED_MAX)).min(DEBT_MOST);
        (self.at, self.turn) = (ended, turn);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use futures_lite::future::yield_now;

    use super::{DEBT_MOST, Debt, POLL_CHARGED_MAX, begin_turn, breathe};
    use crate::io::executor::{spawn_sharing, start};

    #[test]
    fn debts_are_forgiven_to_those_who_want_nothing() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut debt = Debt { span: Duration::ZERO, at: begun, turn: 0, is_greedy: false };
        let work = |debt: &mut Debt, polls, turn| {
            (0..polls).for_each(|_| debt.grow(begun, begun + POLL_CHARGED_MAX, turn));
        };
        work(&mut debt, 15, 1);
        assert_eq!(debt.span, Duration::from_millis(3));
        debt.at = at(3);
        debt.forgive(at(11), 2);
        assert_eq!(debt.span, Duration::from_millis(3), "it wants more in the next turn");
        debt.forgive(at(11), 9);
        assert_eq!(debt.span, Duration::from_millis(2));
        debt.forgive(at(1000), 10);
        assert_eq!(debt.span, Duration::ZERO);
        debt.grow(at(1000), at(5000), 11);
        assert_eq!(debt.span, POLL_CHARGED_MAX, "the kernel let others go");
        debt.is_greedy = true;
        debt.forgive(at(5001), 12);
        assert!(debt.is_greedy, "more came at once");
        debt.forgive(at(5002), 19);
        assert!(!debt.is_greedy, "it has waited");
        work(&mut debt, 1000, 20);
        assert_eq!(debt.span, DEBT_MOST);
    }

    /// Fifty sessions that always have something to do, and one that wants a short turn now and then.
    #[test]
    fn whoever_wants_little_goes_before_those_who_want_all() {
        const GREEDY: usize = 50;
        let body = |_| async {
            let (worked, is_over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
            for _ in 0..GREEDY {
                let (worked, is_over) = (Rc::clone(&worked), Rc::clone(&is_over));
                spawn_sharing("greedy", async move {
                    while !is_over.get() {
                        work(Duration::from_micros(100));
                        worked.set(worked.get() + 1);
                        breathe().await;
                    }
                });
            }
            // All of them come to have debts.
            turns(40).await;
            let before = worked.get();
            turns(100).await;
            is_over.set(true);
            (before, worked.get() - before)
        };
        let (handle, _) = start("sharing", None, body).expect("an executor");
        let (before, after) = handle.join().expect("it ends");
        assert!(before > GREEDY, "they had worked: {before}");
        // In a turn a few of them for a poll of one or two pieces, not all fifty.
        assert!(after < 100 * GREEDY / 2, "{after} pieces of work in 100 turns");
        assert!(after > 100, "they go on: {after}");
    }

    async fn turns(count: usize) {
        for _ in 0..count {
            yield_now().await;
            begin_turn(Instant::now());
        }
    }

    fn work(span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            std::hint::spin_loop();
        }
    }
}
