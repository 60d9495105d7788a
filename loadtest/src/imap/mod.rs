//! The IMAP side: reading answers, imaptest's spellings, sessions that know what they may be told.

pub mod answer;
pub mod choice;
pub mod client;
mod compose;
pub mod drive;
#[cfg(test)]
mod fake;
pub mod fill;
pub mod idle;
pub mod operations;
pub mod options;
pub mod profile;
pub use crate::plan::random;
pub mod session;
pub mod truth;
pub mod view;
