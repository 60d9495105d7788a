//! What sessions to other servers start from.

use std::io;
use std::path::Path;

use super::{TlsError, TlsSession};

/// See the module. One for the whole process: cheap to clone, never changed.
#[derive(Clone)]
pub struct ClientTls {}

/// How much a peer must prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Any certificate will do, or an expired one, or one of another name; what it was is told afterwards.
    Anyone,
    /// The handshake fails unless a known authority vouches for the name.
    Verified,
}

impl ClientTls {
    /// Trusts the authorities of the system, and those in the PEM file `extra`.
    pub fn open(_extra: Option<&Path>) -> Result<Self, TlsError> {
        todo!()
    }

    /// The state of a connection on which TLS begins now, with the server of this name (an address in text is
    /// taken as one).
    pub fn session(&self, _name: &str, _trust: Trust) -> io::Result<TlsSession> {
        todo!()
    }
}
