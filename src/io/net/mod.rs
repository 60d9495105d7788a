//! Sockets: listeners, connections with or without TLS, and their deadlines.
//!
//! A [`Conn`] owns what a connection is: the socket, the TLS state, the input that was not yet taken and the
//! replies that were not yet sent. It holds no buffer while it is idle. It can be taken apart into a
//! [`Parcel`] and put together on another shard.
//!
//! Invariants: session code sees only plain bytes; a burst of replies is one send; a wait ends at
//! its deadline.

mod census;
mod conn;
mod deadline;
mod dial;
mod listener;

pub use census::{Census, Counted, Crowded};
pub use conn::{Conn, Filled, Parcel};
pub use deadline::Deadlines;
pub use dial::dial;
pub use listener::{Accepted, Listener};
