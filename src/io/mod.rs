//! The outside world: the ring, sockets, TLS, disks, clocks, other threads.
//!
//! Only this folder, `shard/server` and `main.rs` name glommio; only `io/tls` names rustls; a clock is read in
//! `io/clock` and nowhere else.
//!
//! Invariants: nothing here decides anything about mail; an error carries the path or the peer it is about;
//! every `unsafe` block of the server but the index reader's is in this folder, with its proof beside it.

mod bell;
pub mod clock;
pub mod disk;
pub mod dns;
pub mod events;
pub mod executor;
pub mod inbox;
pub mod net;
pub mod privilege;
pub mod random;
pub mod ring;
pub mod share;
pub mod stderr;
mod timers;
pub mod tls;
pub mod workers;
pub mod world;
