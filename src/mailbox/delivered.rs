//! Which deliveries were made, so that one that is asked for again is recognised.
//!
//! Keys outlive their messages: what was expunged must not come back. They are forgotten once the accepting log has
//! settled everything up to them.

use std::collections::{BTreeMap, BTreeSet};

use super::account::DeliveryKey;
use crate::store::{LogId, Sequence};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Delivered {
    pub(super) logs: BTreeMap<LogId, OfLog>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct OfLog {
    /// Everything below was settled by its log.
    pub low_water: Sequence,
    pub keys: BTreeSet<(Sequence, u32)>,
}

impl Delivered {
    pub fn insert(&mut self, (message, recipient): DeliveryKey) {
        let of_log = self.logs.entry(message.log).or_default();
        if message.sequence >= of_log.low_water {
            of_log.keys.insert((message.sequence, recipient));
        }
    }

    /// Below the low-water mark every delivery was made.
    pub fn contains(&self, (message, recipient): DeliveryKey) -> bool {
        let Some(of_log) = self.logs.get(&message.log) else {
            return false;
        };
        message.sequence < of_log.low_water || of_log.keys.contains(&(message.sequence, recipient))
    }

    pub fn trim(&mut self, log: LogId, low_water: Sequence) {
        let Some(of_log) = self.logs.get_mut(&log) else {
            return;
        };
        if low_water > of_log.low_water {
            of_log.low_water = low_water;
            of_log.keys = of_log.keys.split_off(&(low_water, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Delivered;
    use crate::store::{LogId, MessageId, Sequence};

    #[test]
    fn keys_are_kept_until_the_low_water_mark_passes_them() {
        let key = |sequence| (MessageId { log: LogId(3), sequence: Sequence(sequence) }, 0);
        let mut delivered = Delivered::default();
        assert!(!delivered.contains(key(7)));
        delivered.insert(key(7));
        delivered.insert(key(9));
        delivered.trim(LogId(3), Sequence(8));
        assert!(delivered.contains(key(7)), "settled long ago");
        assert!(delivered.contains(key(9)) && !delivered.contains(key(10)));
        assert_eq!(delivered.logs[&LogId(3)].keys.len(), 1);
        assert!(!delivered.contains((MessageId { log: LogId(2), sequence: Sequence(7) }, 0)));
    }
}
