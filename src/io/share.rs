//! A share of the processor for each session.
//!
//! Every poll of a session is timed, and what it took is a debt, which is forgiven while the session wants nothing:
//! while it waits for its client or the disk. A session that has more debt than it may is in no hurry any more: it
//! waits in a line, of which only a few go in each turn of the shard, while all others go in every turn. So clients
//! that send commands as fast as they are answered, or ask for much, have what is left of the processor, in turns,
//! however many they are; whoever speaks as people and their programs do never waits for more than a few of them.
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

use super::executor::spawn_vital;
use super::{clock, world};

/// Of the time in which a session wants nothing, this part is forgiven: a message costs less than that of its sync.
const FORGIVEN_PART: u32 = 8;

/// What comes in with the next turn of the ring, or the one behind a send, was there already.
const TURNS_OF_WORK: u64 = 2;

/// A login under TLS and a long answer are no reason to wait.
const DEBT_MAX: Duration = Duration::from_millis(1);

/// More is not remembered.
const DEBT_MOST: Duration = Duration::from_millis(10);

/// Others wait for so long at most while one session works.
const POLL_MAX: Duration = Duration::from_micros(100);

/// Sessions of the line that go in one turn of the shard.
const DEBTORS_AT_ONCE: usize = 2;

thread_local! {
    static TURN: Cell<u64> = const { Cell::new(0) };
    static POLL_BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    static LINE: RefCell<Line> = RefCell::default();
}

/// Those who wait for their turn.
#[derive(Default)]
struct Line {
    waiting: VecDeque<(Ticket, Waker)>,
    is_served: bool,
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
}

/// Polls `task` no more than its share allows.
pub(super) async fn fairly<T>(mut task: Pin<Box<impl Future<Output = T>>>) -> T {
    if world::current().is_some() {
        return task.await;
    }
    let mut debt = Debt { span: Duration::ZERO, at: clock::precise(), turn: TURN.get() };
    let mut ticket = None;
    poll_fn(move |context| {
        let begun = clock::precise();
        if ticket.is_none() {
            debt.forgive(begun, TURN.get());
        }
        if debt.span > DEBT_MAX && poll_turn(&mut ticket, context).is_pending() {
            return Poll::Pending;
        }
        ticket = None;
        POLL_BEGUN.set(Some(begun));
        let polled = task.as_mut().poll(context);
        debt.grow(begun, clock::precise(), TURN.get());
        polled
    })
    .await
}

/// The ring has taken what came in.
pub(super) fn begin_turn() {
    TURN.set(TURN.get() + 1);
}

/// Lets others have their turn if this poll has lasted long enough.
pub async fn breathe() {
    if is_long() {
        yield_now().await;
    }
}

/// Whether this poll has lasted long enough.
pub fn is_long() -> bool {
    POLL_BEGUN.get().is_some_and(|begun| clock::precise() - begun > POLL_MAX)
}

/// Stands in the line; ready in the turn that this brings.
fn poll_turn(ticket: &mut Option<Ticket>, context: &Context<'_>) -> Poll<()> {
    match ticket {
        Some(ticket) if ticket.0.get() => Poll::Ready(()),
        Some(_) => Poll::Pending,
        None => {
            let ticket = ticket.insert(Ticket::default());
            let is_first = LINE.with_borrow_mut(|line| {
                line.waiting.push_back((ticket.clone(), context.waker().clone()));
                !std::mem::replace(&mut line.is_served, true)
            });
            if is_first {
                spawn_vital("turns", serve_line());
            }
            Poll::Pending
        }
    }
}

/// Lets a few go, and in the next turn of the shard a few more, until nobody waits.
async fn serve_line() {
    loop {
        let few: Vec<(Ticket, Waker)> = LINE.with_borrow_mut(|line| {
            let count = line.waiting.len().min(DEBTORS_AT_ONCE);
            line.is_served = count > 0;
            line.waiting.drain(..count).collect()
        });
        if few.is_empty() {
            return;
        }
        for (ticket, waker) in few {
            ticket.0.set(true);
            waker.wake();
        }
        yield_now().await;
    }
}

impl Debt {
    /// The session wants something again.
    fn forgive(&mut self, now: Instant, turn: u64) {
        if turn - self.turn > TURNS_OF_WORK {
            self.span = self.span.saturating_sub(now.saturating_duration_since(self.at) / FORGIVEN_PART);
        }
    }

    fn grow(&mut self, begun: Instant, ended: Instant, turn: u64) {
        self.span = (self.span + (ended - begun)).min(DEBT_MOST);
        (self.at, self.turn) = (ended, turn);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use futures_lite::future::yield_now;

    use super::{DEBT_MOST, Debt, begin_turn, breathe};
    use crate::io::executor::{spawn_sharing, start};

    #[test]
    fn debts_are_forgiven_to_those_who_want_nothing() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut debt = Debt { span: Duration::ZERO, at: begun, turn: 0 };
        debt.grow(begun, at(3), 1);
        debt.forgive(at(11), 2);
        assert_eq!(debt.span, Duration::from_millis(3), "it wants more in the next turn");
        debt.forgive(at(11), 9);
        assert_eq!(debt.span, Duration::from_millis(2));
        debt.forgive(at(1000), 10);
        assert_eq!(debt.span, Duration::ZERO);
        debt.grow(at(1000), at(5000), 11);
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
            begin_turn();
        }
    }

    fn work(span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            std::hint::spin_loop();
        }
    }
}
