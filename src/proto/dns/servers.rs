//! Which name server is asked first.
//!
//! The order of the configuration holds, but a server that kept silent of late is asked after the others: with the
//! first one down, not every lookup waits for it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;
use crate::mail::time::Instant;

/// The name servers of this machine: at least one.
#[derive(Debug)]
pub struct Servers {
    /// Each with the time until which it is asked last.
    all: Vec<(SocketAddr, Instant)>,
    rotation: Rotation,
    /// Who is first next time, where they take turns.
    turn: usize,
}

/// Whether the load is spread (`options rotate` of resolv.conf).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rotation {
    #[default]
    FirstIsBest,
    InTurn,
}

impl Servers {
    pub fn new(addresses: &[SocketAddr], rotation: Rotation) -> Self {
        assert!(!addresses.is_empty(), "there is always somebody to ask");
        let all = addresses.iter().take(limits::dns::SERVERS_MAX);
        Self { all: all.map(|address| (*address, Instant(0))).collect(), rotation, turn: 0 }
    }

    /// All servers, in the order in which the next lookup asks them.
    pub fn order(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut order = self.all.clone();
        if self.rotation == Rotation::InTurn {
            order.rotate_left(self.turn);
            self.turn = (self.turn + 1) % self.all.len();
        }
        order.sort_by_key(|(_, silent_until)| *silent_until > now);
        order.into_iter().map(|(address, _)| address).collect()
    }

    pub fn handle_answer(&mut self, server: SocketAddr) {
        self.set_silent_until(server, Instant(0));
    }

    pub fn handle_silence(&mut self, server: SocketAddr, now: Instant) {
        self.set_silent_until(server, now + Duration::from_secs(limits::dns::SILENT_SERVER_S));
    }

    fn set_silent_until(&mut self, server: SocketAddr, until: Instant) {
        if let Some((_, silent_until)) = self.all.iter_mut().find(|(address, _)| *address == server) {
            *silent_until = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{Rotation, Servers};
    use crate::mail::time::Instant;

    fn servers(rotation: Rotation) -> (Servers, [SocketAddr; 3]) {
        let all = ["192.0.2.1:53", "192.0.2.2:53", "[2001:db8::3]:53"].map(|text| text.parse().unwrap());
        (Servers::new(&all, rotation), all)
    }

    #[test]
    fn who_keeps_silent_is_asked_last_for_a_while() {
        let (mut servers, [a, b, c]) = servers(Rotation::FirstIsBest);
        assert_eq!(servers.order(Instant(0)), [a, b, c]);
        servers.handle_silence(a, Instant(1000));
        assert_eq!(servers.order(Instant(1000)), [b, c, a]);
        servers.handle_silence(b, Instant(2000));
        assert_eq!(servers.order(Instant(2000)), [c, a, b]);
        servers.handle_answer(b);
        assert_eq!(servers.order(Instant(2000)), [b, c, a]);
        assert_eq!(servers.order(Instant(31_000)), [a, b, c]);
    }

    #[test]
    fn servers_take_turns() {
        let (mut servers, [a, b, c]) = servers(Rotation::InTurn);
        let orders: Vec<_> = (0..4).map(|_| servers.order(Instant(0))).collect();
        assert_eq!(orders, [[a, b, c], [b, c, a], [c, a, b], [a, b, c]]);
    }
}
