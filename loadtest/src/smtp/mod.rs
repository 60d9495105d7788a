//! SMTP load: sessions on event loops, in an open loop with a schedule or in a closed one.
//!
//! [`Load`] says what to send. [`Load::prepare`] opens the connections that are kept, so that what is measured begins
//! with the first message; [`Prepared::run`] sends everything and gives what was counted as [`Sent`]. Each thread is
//! a `generator` with sessions of its own.

mod generator;
mod load;
mod reply;
mod run;
mod session;

pub use load::{
    Connections, Envelope, Greeting, Limit, Load, Login, OnError, Pace, Security, Transfer, new_run,
};
pub use run::{Prepared, Sent};
