//! Whether an address leads back to this server: that of a listener, or any address of this machine where a listener
//! takes what comes to all of them.
//!
//! The machine's addresses are asked for again now and then, for they come and go.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::io::clock;
use crate::io::net::own_addresses;
use crate::mail::time::Instant;
use crate::shard::Shard;

const ASKED_AGAIN: Duration = Duration::from_secs(30);

/// The addresses of this machine, as they were.
#[derive(Default)]
pub struct Ourselves(RefCell<Option<(Instant, HashSet<IpAddr>)>>);

impl Shard {
    /// Whether a connection to this address would reach a listener of this server.
    pub fn is_us(&self, to: SocketAddr) -> bool {
        let ip = to.ip().to_canonical();
        self.config().listeners.iter().map(|listener| listener.address).any(|listener| {
            let takes_all = listener.ip().is_unspecified() && listener.is_ipv4() == ip.is_ipv4();
            listener.port() == to.port()
                && (listener.ip() == ip || (takes_all && self.outbound().ourselves.has(ip)))
        })
    }
}

impl Ourselves {
    fn has(&self, ip: IpAddr) -> bool {
        // Linux takes a connection to no address for one to itself.
        if ip.is_loopback() || ip.is_unspecified() {
            return true;
        }
        let now = clock::instant();
        let mut known = self.0.borrow_mut();
        let is_fresh = known.as_ref().is_some_and(|(at, _)| now - *at < ASKED_AGAIN);
        if !is_fresh {
            match own_addresses() {
                Ok(found) => *known = Some((now, found)),
                Err(error) => tracing::warn!(%error, "the addresses of this machine are not to be had"),
            }
        }
        known.as_ref().is_some_and(|(_, found)| found.contains(&ip))
    }
}
