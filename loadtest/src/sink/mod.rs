//! A server of SMTP that takes mail and keeps none: fast, slow, unwilling or broken, as asked.
//!
//! It reads every body through to its end, compares it with the checksum that the message carries, and writes the
//! receiving ledger. [`Conduct`] says how it behaves; chances are drawn for every command apart. Each thread listens
//! for itself at the same address.

mod conduct;
mod data;
mod receiver;
mod serve;

pub use conduct::{Chance, Conduct, Delay, Fate, Place, Replies};
pub use serve::{Counts, Sink};
