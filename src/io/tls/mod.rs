//! TLS: the server's certificate, whom we trust as a client, and sessions as values that take bytes and give bytes.
//!
//! [`ServerTls`] is what a certificate and its key make of every connection: cheap to clone, never changed; a
//! reload makes another. [`ClientTls`] is the same for connections that we make. [`TlsSession`] is one connection's
//! state, on either side. It does no I/O and may travel to another thread between two calls. [`authority`] makes
//! certificates for servers whose operator has none yet.
//!
//! Invariants: only this folder names rustls; private keys are in files of mode 0600 and in memory, never in a
//! log; a new certificate is checked whole before anything uses it, so a bad one leaves the old in place;
//! TLS 1.2 is the oldest version spoken; there is no early data.

pub mod authority;
mod client;
mod material;
mod session;

pub use client::{ClientTls, Trust};
pub use material::{ServerTls, TlsError};
pub use session::TlsSession;
