//! One session by itself, for measuring what it asks.

use std::io;
use std::net::SocketAddr;

use super::drive::{Drive, Found, Load};
use super::session::Plan;
use crate::engine::{Clock, Ports, Waiting, run};

/// Logs in, does what the plan says, and leaves. A refusal or a wrong answer is an error.
pub fn visit(address: SocketAddr, user: &str, pass: &str, plan: Plan) -> io::Result<Found> {
    let load = Load {
        address,
        tls: None,
        tls_address: address,
        tls_percent: 0,
        users: vec![(user.to_owned(), pass.to_owned())],
        sessions: 1,
        interval_ns: None,
        duration_ns: u64::MAX,
        sessions_total: Some(1),
        seed: 1,
    };
    let mut ports = Ports::new(Clock::start())?;
    let mut drive = Drive::new(load, plan, ports.now());
    run(&mut drive, &mut ports, Waiting::default())?;
    match drive.found {
        found if found.counts.failed == 0 => Ok(found),
        found => Err(io::Error::other(format!("POP3: {:?} {:?}", found.errors, found.wrongs))),
    }
}
