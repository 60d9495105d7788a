//! The protocol engines, as values that know no socket.
//!
//! Bytes, outcomes and a time go in; replies, events and a deadline come out. Every engine keeps one contract:
//!
//! - `handle_bytes(&mut self, input, out, now) -> usize` takes what it can of `input`, appends replies to `out`
//!   and says how many bytes it took. It stops early when it has an event for its driver or needs more input.
//! - `poll_event(&mut self) -> Option<Event>` gives what the driver must do. While the event waits for its
//!   outcome, `handle_bytes` takes nothing.
//! - `handle_done(&mut self, outcome, out, now)` tells how it went.
//! - A client's engine has `handle_end` for a connection that ended, and `poll_output`, which gives a large message
//!   burst by burst; it asks nothing of its driver, so that its events want no outcome.
//! - `deadline(&self) -> Option<Instant>` is when `handle_timeout(&mut self, out, now)` wants to be called.
//!
//! [`dns`] asks where the others answer: it polls for queries and is told what came of them.
//!
//! Invariants: an engine is total: any bytes in any split give the same replies or a close, never a panic;
//! work is bounded per input byte; engines know nothing of storage and of each other's protocols.

pub mod dns;
pub mod imap;
pub mod line;
pub mod pop3;
pub mod sasl;
pub mod smtp;
