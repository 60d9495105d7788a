//! Fresh connections: counted, greeted, and given to a session.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::session::{self, Front};
use crate::config;
use crate::io::clock;
use crate::io::executor::{sleep, spawn, spawn_sharing};
use crate::io::net::{Accepted, Conn, Crowded, Listener};

/// What accept does when descriptors run out: others may end meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// A line about failures covers those that follow within this.
const SILENCE: Duration = Duration::from_secs(10);

/// Accepts on one listener until the server stops.
pub async fn run(shard: Rc<Shard>, listener: Listener, config: config::Listener) {
    let mut said = None;
    while !shard.is_stopping() {
        match listener.accept().await {
            Ok(accepted) => admit(&shard, accepted, config),
            Err(error) => {
                if said.is_none_or(|said| clock::instant() >= said + SILENCE) {
                    tracing::warn!(address = %listener.address(), %error, "accept failed");
                    said = Some(clock::instant());
                }
                sleep(PAUSE).await;
            }
        }
    }
}

fn admit(shard: &Rc<Shard>, accepted: Accepted, config: config::Listener) {
    if shard.is_stopping() {
        return;
    }
    let peer = accepted.peer;
    let limits = &shard.config().limits;
    let all_max = u32::try_from(limits.sessions).unwrap_or(u32::MAX);
    // Loopback is the operator's own load generator, proxy or webmail.
    let address_max = match peer.ip().to_canonical().is_loopback() {
        true => u32::MAX,
        false => u32::try_from(limits.sessions_per_address).unwrap_or(u32::MAX),
    };
    // Boxed: futures that hand it on would each make room for it.
    let conn = Box::new(Conn::new(accepted, &shard.sockets, &shard.deadlines));
    match shard.census.admit(peer.ip(), all_max, address_max) {
        Ok(counted) => {
            let front = Front { conn, config, counted };
            spawn_sharing("session", session::serve(Rc::clone(shard), front));
        }
        Err(crowded) => {
            let why = match crowded {
                Crowded::Server => "too many connections",
                Crowded::Address => "too many connections from this address",
            };
            tracing::info!(%peer, why, "connection refused");
            spawn("refusal", session::refuse(conn, config.protocol));
        }
    }
}
