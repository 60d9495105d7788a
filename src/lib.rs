//! Ringpost: a durable SMTP relay and a POP3/IMAP mailbox server on io_uring, one thread per core.
//!
//! Everything with rules is a value; everything with effects is a driver. The folders below stand in the
//! order in which they may use each other: a folder uses those above it, within the walls that
//! `tests/tidy.rs` holds. `docs/architecture.md` tells the story with its two arrow diagrams.

#![allow(rustdoc::private_intra_doc_links, reason = "the documentation is read with its private parts")]

pub mod limits;

pub mod bytes;
pub mod mail;

pub mod auth;
pub mod queue;

pub mod config;
pub mod mailbox;
pub mod proto;
pub mod store;

pub mod io;
pub mod shard;

pub mod admin;
