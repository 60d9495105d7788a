//! The client: mail on its way out, by SMTP (RFC 5321) and LMTP (RFC 2033).
//!
//! ```text
//!   bytes ──> replies ──> engine ──┬──> opening    greeting, EHLO (offers), STARTTLS, AUTH
//!                                  └──> sending ──> command   MAIL, RCPT
//!                                         │    └──> content   the message, in bursts
//!                                         └── plan: what this peer can be asked
//! ```
//!
//! A [`Client`] is made when a connection is, says when it is [`Event::Ready`], and takes one [`Transaction`] after
//! another; each ends with [`Done`], which has a [`Fate`] for every recipient. The message goes out by `poll_output`,
//! from where it lies.
//!
//! Invariants: a recipient is accepted only by a 2yz that came after the whole message was sent; whatever else
//! happens leaves it to be tried again, unless the peer or a rule said 5yz about it; nothing that came in the clear is
//! known after STARTTLS; credentials go only where the settings let them; nobody is followed to where 251 or 551
//! point; what a server can make us keep is bounded.

mod command;
mod content;
mod engine;
mod event;
mod offers;
mod opening;
mod plan;
mod replies;
mod sending;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;

pub use engine::Client;
pub use event::{Closed, Done, Event, Failure, Fate, Origin, Passed, Phase};
pub use offers::{Limits, MinBySeconds, Offers, Size};
pub use settings::{Chunking, EightBit, Login, LoginOver, Protocol, Security, Settings, Timeouts, TlsPolicy};
pub use transaction::{ByMode, DeliverBy, Transaction};
