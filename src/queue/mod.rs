//! Outbound mail as a state machine: when what is owed is tried, by which way, and how fast.
//!
//! [`policy`] has the nouns that the configuration makes. A message's recipients are grouped by destination, and
//! [`route`] says which way a destination goes; [`schedule`] says when, after [`retry`]. Destinations that lead to the
//! same hosts are one [`site`], which takes messages from their homes and sends them: through a [`lane`] for each
//! source, as fast as [`limit`] and [`adaptive`] allow. What the servers answer is [`classify`]'d, and may set off
//! a [`rule`].
//!
//! Invariants: nothing here knows a record, a socket, a name server or a clock; a message is a number, a
//! destination a name, and time an argument. What is decided here is carried out in `shard/outbound`. No limit is
//! ever exceeded, and every wait has an end that is known to the millisecond: nobody has to look again and again.

pub mod adaptive;
pub mod classify;
pub mod event;
pub mod feeds;
pub mod job;
pub mod lane;
pub mod limit;
pub mod memory;
pub mod pattern;
pub mod plan;
pub mod policy;
pub mod retry;
pub mod route;
pub mod rule;
pub mod schedule;
pub mod selection;
pub mod site;
pub mod slots;
pub mod sources;
pub mod suspension;
pub mod turns;
pub mod verdict;
pub mod warm_up;

pub use job::{Action, ConnectionId, FeedId, Job};
pub use plan::Plan;
pub use policy::{PoolId, SourceId};
pub use site::Site;
pub use sources::Sources;

#[cfg(test)]
mod simulation;
