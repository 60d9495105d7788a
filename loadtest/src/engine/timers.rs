//! Times that a work wants to be woken at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<(u64, u64)>>);

impl Timers {
    pub fn add(&mut self, at: u64, token: u64) {
        self.0.push(Reverse((at, token)));
    }

    pub fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The token of a timer whose time has come.
    pub fn pop_due(&mut self, now: u64) -> Option<u64> {
        match self.next() {
            Some(at) if at <= now => self.0.pop().map(|Reverse((_, token))| token),
            _ => None,
        }
    }
}
