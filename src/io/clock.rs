//! The clocks of this machine, read here and nowhere else.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::world;
use crate::mail::time::{Instant, Now, Timestamp};

/// Milliseconds since the first reading in this process; suspends and clock steps do not show.
pub fn instant() -> Instant {
    if let Some(world) = world::current() {
        return Instant(world.instant_ms());
    }
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// What the timers of a shard go by. In a made world timers are the world's.
pub fn precise() -> std::time::Instant {
    std::time::Instant::now()
}

/// Civil time in UTC.
pub fn timestamp() -> Timestamp {
    Timestamp { seconds: unix_ms().div_euclid(1000), zone_minutes: 0 }
}

/// Civil time as Unix milliseconds.
pub fn unix_ms() -> i64 {
    if let Some(world) = world::current() {
        return world.unix_ms();
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

pub fn now() -> Now {
    Now { instant: instant(), timestamp: timestamp() }
}
