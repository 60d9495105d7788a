//! Things that are done by one at a time each, and who stands in line to do one.
//!
//! Invariants: of a thing at most one turn lives that has not run out; whoever gives up holds nobody up; a thing that
//! nobody does or waits for is forgotten.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::io::executor::{sleep, spawn};

/// Turns at things, such as the hash of a login with its password.
pub struct Turns<K>(Rc<RefCell<Table<K>>>);

struct Table<K> {
    lines: HashMap<K, Line>,
    /// How many turns there were, which numbers them.
    turns: u64,
}

/// Who stands in line for a thing.
#[derive(Default)]
struct Line {
    /// The turn that is taken.
    now: Option<u64>,
    waiting: usize,
    wakers: Vec<Waker>,
}

/// While it lives nobody else does the same, unless it runs out.
pub struct Turn<K: Copy + Eq + Hash> {
    table: Rc<RefCell<Table<K>>>,
    thing: K,
    number: u64,
}

/// A place in line.
struct Place<'a, K: Copy + Eq + Hash> {
    table: &'a RefCell<Table<K>>,
    thing: K,
}

impl<K: Copy + Eq + Hash + 'static> Turns<K> {
    /// How many wait for a turn at a thing.
    pub fn waiting(&self, thing: K) -> usize {
        self.0.borrow().lines.get(&thing).map_or(0, |line| line.waiting)
    }

    pub async fn turn(&self, thing: K) -> Turn<K> {
        let place = Place::take(&self.0, thing);
        let number = poll_fn(|context| {
            let table = &mut *self.0.borrow_mut();
            let line = table.lines.entry(thing).or_default();
            if line.now.is_some() {
                line.wakers.push(context.waker().clone());
                return Poll::Pending;
            }
            table.turns += 1;
            line.now = Some(table.turns);
            Poll::Ready(table.turns)
        })
        .await;
        drop(place);
        Turn { table: Rc::clone(&self.0), thing, number }
    }
}

impl<K: Copy + Eq + Hash + 'static> Turn<K> {
    /// Others have their turn after so long, whether this one is done or not.
    pub fn run_out_after(&self, span: Duration) {
        let (table, thing, number) = (Rc::clone(&self.table), self.thing, self.number);
        spawn("turn", async move {
            sleep(span).await;
            table.borrow_mut().end(thing, number);
        });
    }
}

impl<K: Copy + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        self.table.borrow_mut().end(self.thing, self.number);
    }
}

impl<K: Eq + Hash> Table<K> {
    /// This turn is over, if it was not before.
    fn end(&mut self, thing: K, number: u64) {
        let Some(line) = self.lines.get_mut(&thing).filter(|line| line.now == Some(number)) else {
            return;
        };
        line.now = None;
        // All, since the first of them may have given up.
        line.wakers.drain(..).for_each(Waker::wake);
        self.forget_unused(&thing);
    }

    fn forget_unused(&mut self, thing: &K) {
        if self.lines.get(thing).is_some_and(|line| line.now.is_none() && line.waiting == 0) {
            self.lines.remove(thing);
        }
    }
}

impl<'a, K: Copy + Eq + Hash> Place<'a, K> {
    fn take(table: &'a RefCell<Table<K>>, thing: K) -> Self {
        table.borrow_mut().lines.entry(thing).or_default().waiting += 1;
        Self { table, thing }
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut table = self.table.borrow_mut();
        if let Some(line) = table.lines.get_mut(&self.thing) {
            line.waiting -= 1;
        }
        table.forget_unused(&self.thing);
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Table { lines: HashMap::new(), turns: 0 })))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, poll_once, yield_now, zip};

    use super::Turns;

    #[test]
    fn the_same_is_done_by_one_at_a_time_and_others_go_on() {
        let now = Turns::default();
        let order = Cell::new(Vec::new());
        let note = |what| order.set([order.take(), vec![what]].concat());
        let hash = async |tag, begins, ends| {
            let _turn = now.turn([tag; 32]).await;
            note(begins);
            yield_now().await;
            note(ends);
        };
        block_on(zip(
            hash(1, "a begins", "a ends"),
            zip(hash(1, "b begins", "b ends"), hash(2, "c begins", "c ends")),
        ));
        let order = order.take();
        let at = |what| order.iter().position(|noted| *noted == what).expect("it happened");
        assert!(at("a ends") < at("b begins"), "{order:?}");
        assert!(at("c begins") < at("a ends"), "{order:?}");
        assert!(now.0.borrow().lines.is_empty(), "nobody is remembered");
    }

    #[test]
    fn who_gives_up_leaves_the_turn_to_others() {
        let now = Turns::default();
        let turn = block_on(now.turn(1));
        let mut gives_up = Box::pin(now.turn(1));
        assert!(block_on(poll_once(&mut gives_up)).is_none());
        assert_eq!((now.waiting(1), now.waiting(2)), (1, 0));
        drop(turn);
        drop(gives_up);
        assert_eq!(now.waiting(1), 0);
        block_on(now.turn(1));
        assert!(now.0.borrow().lines.is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_turn_that_ran_out_does_not_end_the_next() {
        let now = Turns::default();
        let silent = block_on(now.turn(1));
        now.0.borrow_mut().end(1, silent.number);
        let next = block_on(now.turn(1));
        drop(silent);
        assert!(block_on(poll_once(now.turn(1))).is_none(), "it is the next one's turn");
        drop(next);
        block_on(now.turn(1));
    }
}
