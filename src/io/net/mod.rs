//! Sockets: listeners, connections with or without TLS, and their deadlines.
//!
//! [`Sockets`] is a ring of our own beside glommio's: all receives and sends of a shard go through it, together in each
//! turn. ([`Listener`], [`Conn`]) > `socket` > `slots` > `sockets` and `buffers`, from the outside in.
//! A [`Conn`] owns what a connection is: the socket, the TLS state, the input that was not yet taken and the
//! replies that were not yet sent. It holds no buffer while it is idle. It can be taken apart into a
//! [`Parcel`] and put together on another shard.
//!
//! Invariants: session code sees only plain bytes; a burst of replies is one send; a wait ends at
//! its deadline.

mod buffers;
mod census;
mod conn;
mod deadline;
mod dial;
mod listener;
mod own;
mod slots;
mod socket;
mod sockets;
mod watch;

pub use census::{Census, Counted, Crowded};
pub use conn::{Conn, Filled, Parcel};
pub use deadline::Deadlines;
pub use dial::dial;
pub use listener::{Accepted, Listener, Reserved};
pub use own::own_addresses;
pub use sockets::Sockets;
pub use watch::Watch;

#[cfg(test)]
mod tests;
