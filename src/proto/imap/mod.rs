//! The IMAP server engine: IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) with their usual extensions.
//!
//! `framing` cuts the input into commands with their literals, `parse` makes [`command`] values of them,
//! [`server`] holds the state of the session and answers what needs no mailbox. What needs one becomes an
//! event; the driver executes it, writes untagged data with the functions of [`render`] and ends the command
//! with a [`reply::Done`]. The message of an APPEND is streamed through `append`, never gathered.
//!
//! ```text
//!   bytes ─> framing ─> parse ─> server ──Event──> driver ─┐
//!                                  │                       │ render::*
//!                                  └──────> Output <───────┘ then handle_done
//! ```
//!
//! Invariants: the engine knows syntax, states and reply bytes and no storage; the same bytes in any split
//! give the same replies; between two commands it holds no buffer; what a client nests is bounded.

mod append;
pub mod command;
mod framing;
mod lexer;
mod parse;
pub mod render;
pub mod reply;
pub mod server;

pub use server::{Channel, Enabled, Event, Outcome, Refusal, Server, Settings};
