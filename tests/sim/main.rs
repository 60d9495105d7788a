//! The store on a simulated disk: volatile until synced; at a crash each unsynced sector is old, new or garbage.
//!
//! Everything follows from a seed. The oracle is a ledger of what was appended and what was acknowledged.

mod disk;
mod log;
mod random;
mod space;
