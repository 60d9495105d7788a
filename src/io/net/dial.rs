//! Connections that we make.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::listener::Accepted;
use crate::mail::time::Instant;

/// Connects to `to`, from the address `from` if it is given, until `deadline`.
pub async fn dial(_to: SocketAddr, _from: Option<IpAddr>, _deadline: Instant) -> io::Result<Accepted> {
    todo!()
}
