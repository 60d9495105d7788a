//! POP3: the server's engine (RFC 1939, RFC 2449, RFC 2595, RFC 3206, RFC 5034, RFC 6856).
//!
//! ```text
//!             command     the table of verbs, and CAPA printed from it
//!                │
//!   bytes ──> server ──> reply        every word it says, in each language
//!                │ │
//!                │ └──> login         USER and PASS, AUTH by `sasl`
//!                └────> maildrop ──> sending     listings and messages, burst by burst
//! ```
//!
//! A session sees the maildrop as it was at login: numbers and sizes do not change under it. Other sessions,
//! IMAP too, may be at the same mailbox; what they have removed is answered with `-ERR` when it is asked for.
//! Marks of DELE become an expunge of exactly those UIDs at QUIT, and never otherwise.
//!
//! How a driver runs a [`Server`]: write `out` after each call; when [`Server::is_sending`], write and call
//! [`Server::poll_more`]; when `handle_bytes` has left input though no event waits, write and call it again.
//!
//! Departure from RFC 6856 2.1 for the sake of old mail: messages with octets over 127 are sent as they are
//! without UTF8 too, as every server in use does. `-ERR [UTF8]` would keep people from reading 8-bit mail of
//! twenty years, and a client that knows nothing of UTF-8 shows the rest of the message all the same.
//!
//! Invariants: nothing is removed but by QUIT, and its +OK comes after the driver has said that the removal is
//! durable; every line sent ends in CRLF, a message's last one too; of a message no byte is copied but in
//! pieces too small to be worth a list entry; nothing said in the clear is known after STLS; a password is
//! asked for only where the channel may carry it.

mod command;
mod event;
mod login;
mod maildrop;
mod reply;
mod sending;
mod server;

pub use event::{Asked, CommitVerdict, Event, LoginVerdict, MessageFailure, OpenFailure, Outcome};
pub use maildrop::Maildrop;
pub use reply::greet_busy;
pub use server::{Channel, Server, Tls};
