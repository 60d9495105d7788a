//! Messages that wait for their time (RFC 4865): accepted, safe and owed, and in nobody's mailbox before.
//!
//! What is here is only a list of when to look again. The time itself stands in the envelope in the log, where a
//! start finds it.
//!
//! Invariant: nothing is released before its second has come by the civil clock, however that clock is set.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::store::MessageId;

/// Messages with the Unix second until which each is held.
#[derive(Default)]
pub struct Held(RefCell<BTreeSet<(i64, MessageId)>>);

impl Held {
    pub fn hold(&self, message: MessageId, until: i64) {
        self.0.borrow_mut().insert((until, message));
    }

    /// Takes those whose time has come, the earliest first.
    pub fn take_due(&self, now: i64) -> Vec<MessageId> {
        let mut held = self.0.borrow_mut();
        let is_any = held.first().is_some_and(|(until, _)| *until <= now);
        if !is_any {
            return Vec::new();
        }
        let later = held.split_off(&(now.saturating_add(1), MessageId::default()));
        std::mem::replace(&mut *held, later).into_iter().map(|(_, message)| message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Held;
    use crate::store::{LogId, MessageId, Sequence};

    #[test]
    fn each_is_released_once_and_not_a_second_early() {
        let id = |sequence| MessageId { log: LogId(0), sequence: Sequence(sequence) };
        let held = Held::default();
        for (sequence, until) in [(1, 20), (2, 10), (3, 10), (4, 11), (5, i64::MAX)] {
            held.hold(id(sequence), until);
        }
        assert_eq!(held.take_due(9), []);
        assert_eq!(held.take_due(10), [id(2), id(3)]);
        // The clock was set back.
        assert_eq!(held.take_due(0), []);
        assert_eq!(held.take_due(30), [id(4), id(1)]);
        assert_eq!(held.take_due(i64::MAX - 1), []);
    }
}
