//! SMTP: the server's engine for mail exchange and submission (RFC 5321, RFC 6409), and the [`client`]'s.
//!
//! ```text
//!             command   the table of verbs; parse: their arguments
//!                │
//!   bytes ──> server ──> reply   every word it says; extension: what EHLO lists
//!                │
//!                ├──> auth                         AUTH, by `sasl`
//!                ├──> transaction                  MAIL, RCPT
//!                └──> receive ──┬─> data ──> body   DATA: dots, and the end
//!                               └──────────> body   BDAT: what is gathered, and its faults
//! ```
//!
//! [`Server`] reads commands, asks its driver about senders, recipients and passwords, and gathers the message
//! behind the trace fields that the driver puts in front.
//!
//! Invariants: only CRLF.CRLF ends DATA; a refused chunk is swallowed to its last octet; nothing that came in
//! the clear is known after STARTTLS; a message is answered with 250 only when its driver has said that it is
//! kept; without TLS no credential is asked for.

mod auth;
mod body;
pub mod client;
mod command;
mod data;
mod event;
mod extension;
mod parse;
mod receive;
mod reply;
mod server;
mod session;
mod transaction;

pub use event::{Event, LoginVerdict, MessageRefusal, Outcome, RecipientVerdict, Refusal, SenderVerdict};
pub use reply::Reply;
pub use server::Server;
pub use session::{Greeting, Policy, Role, Session, Tls};
pub use transaction::Transaction;
