//! The nouns of mail, as values: addresses, envelopes, headers, MIME structure, dates, flags, queries.
//!
//! A message is bytes. [`header`] finds its fields, [`mime`] its parts; [`part`] answers what a client asks for
//! by section, [`render`] writes what IMAP says about a message, and [`digest`] keeps of a message what is
//! listed, so that listing does not parse. Everything else is what those are made of.
//!
//! Invariants: nothing here knows a protocol's dialogue, a file or a socket; no function reads a clock; no
//! input panics; work and memory are linear in the input, within the bounds of `limits`. Only CRLF ends a
//! line, for every reader of a message alike.

pub mod address;
pub mod address_list;
pub mod casemap;
pub mod charset;
pub mod content;
pub mod date;
pub mod digest;
pub mod dsn;
pub mod encoded_word;
pub mod envelope;
pub mod flags;
pub mod header;
pub mod label;
pub mod line_ends;
pub mod message_id;
pub mod mime;
pub mod mutf7;
pub mod part;
pub mod query;
pub mod render;
pub mod reply;
pub mod section;
pub mod set;
pub mod special_use;
pub mod subject;
pub mod submission;
pub mod text;
pub mod time;
pub mod trace;
pub mod transfer;
