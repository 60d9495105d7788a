//! How many connections there are, in all and from each address, over all shards.
//!
//! Addresses are counted in slots by a keyed hash, so that the table has one size whatever comes; two addresses
//! that fall into one slot share its bound, which a bound of hundreds can bear. IPv6 counts by /64.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const SLOTS: usize = 1 << 16;

#[derive(Clone)]
pub struct Census {
    counts: Arc<Counts>,
}

struct Counts {
    hasher: RandomState,
    all: AtomicU32,
    slots: Vec<AtomicU32>,
}

/// A connection that is counted; no longer when it is dropped, on whatever shard.
pub struct Counted {
    counts: Arc<Counts>,
    slot: usize,
}

/// Which bound a new connection would break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crowded {
    /// There are too many connections in all.
    Server,
    /// There are too many from this address.
    Address,
}

impl Census {
    pub fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        Self { counts: Arc::new(Counts { hasher: RandomState::new(), all: AtomicU32::new(0), slots }) }
    }

    /// Counts a connection unless it would be one too many.
    pub fn admit(&self, peer: IpAddr, all_max: u32, address_max: u32) -> Result<Counted, Crowded> {
        let slot = self.slot_of(peer);
        let counted = Counted { counts: Arc::clone(&self.counts), slot };
        let all = self.counts.all.fetch_add(1, Ordering::Relaxed);
        let from_address = self.counts.slots[slot].fetch_add(1, Ordering::Relaxed);
        if all >= all_max {
            return Err(Crowded::Server);
        }
        if from_address >= address_max {
            return Err(Crowded::Address);
        }
        Ok(counted)
    }

    pub fn all(&self) -> u32 {
        self.counts.all.load(Ordering::Relaxed)
    }

    fn slot_of(&self, peer: IpAddr) -> usize {
        let key = match peer.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        (self.counts.hasher.hash_one(key) % SLOTS as u64) as usize
    }
}

impl Default for Census {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        self.counts.slots[self.slot].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Census, Crowded};

    #[test]
    fn what_is_refused_or_gone_does_not_count() {
        let census = Census::new();
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let first = census.admit(address, 10, 2);
        let second = census.admit(address, 10, 2);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(census.admit(address, 10, 2).err(), Some(Crowded::Address));
        assert_eq!(census.admit(address, 2, 10).err(), Some(Crowded::Server));
        assert_eq!(census.all(), 2);
        drop(first);
        assert!(census.admit(address, 10, 2).is_ok());
    }
}
