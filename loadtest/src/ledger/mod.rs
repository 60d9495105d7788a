//! What was promised, and what came: one line for each, so that loss can be counted to the message.
//!
//! The sender writes a line for every acknowledged message; whoever receives (the sink, a reader of a mailbox) writes
//! one for every copy that came. A message says in a header which one it is and what the checksum of its body is:
//!
//! ```text
//! X-Loadtest: run session number checksum
//!
//! loadtest ledger 1
//! A run session number copies intended sent acknowledged code queue-id check
//! R run session number recipient verdict at check
//! ```
//!
//! Times are nanoseconds since the run began. `check` is a CRC-32 of the line before it, in hexadecimal digits: after
//! a power cut the last lines may be anything, and what is not whole is not believed. Lines are written whole, so
//! several threads, and several programs, may write to one file.

mod line;
mod verify;
mod writer;

pub use line::{Acknowledged, HEADER, Line, Mark, Received, Verdict, received_of};
pub use verify::{Reader, Verification};
pub use writer::{Durability, Writer};
