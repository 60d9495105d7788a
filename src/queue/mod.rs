//! Outbound mail as a state machine: when what is owed is tried, by which way, and how fast.
//!
//! Invariants: nothing here knows a record, a socket, a name server or a clock; a message is a number, a
//! destination a name, and time an argument. What is decided here is carried out in `shard/outbound`.

pub mod event;
pub mod schedule;
