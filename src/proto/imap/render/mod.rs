//! Untagged data in wire form: pure functions that append to an `Output`.
//!
//! The driver calls these while it executes a command, and between commands for news. Each function writes
//! whole lines, except the three of [`fetch`] that open, fill and close a response around parts of a message.

pub mod fetch;
pub mod list;
pub mod search;
pub mod state;
pub(in crate::proto::imap) mod text;
pub mod thread;
