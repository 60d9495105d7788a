//! How long silent clients are borne: hours of waiting, in no time.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;

use super::server::address;
use super::with_server;
use crate::world::net::Lines;
use crate::world::{CLIENTS, sim};

const LIMITS: &str = "login_s = 100\nsmtp_idle_s = 350\npop3_idle_s = 700\nimap_idle_s = 2000\n";

/// More than any of these.
const BORNE_MAX_US: u64 = 10_000_000_000;

/// What a client says first, and the seconds until it is sent away.
const TABLE: [(u16, &str, u64); 5] = [
    (25, "EHLO me.test\r\n", 350),
    (110, "", 100),
    (110, "USER alice@here.test\r\nPASS wonderland\r\n", 700),
    (143, "", 100),
    (143, "a LOGIN alice@here.test wonderland\r\n", 2000),
];

#[test]
fn silent_clients_are_borne_as_long_as_the_operator_says() {
    for (port, said, seconds) in TABLE {
        let borne_s = with_server(LIMITS, move |run| {
            let borne = Rc::new(Cell::new(None));
            let told = Rc::clone(&borne);
            run.sim.spawn(CLIENTS, "silent", async move { told.set(Some(be_silent(port, said).await)) });
            run.until("a silent client is sent away", BORNE_MAX_US, |_| borne.get().is_some());
            borne.get().expect("just looked at")
        });
        // Deadlines are looked at once a second.
        assert!((seconds..seconds + 5).contains(&borne_s), "port {port}, {said:?}: {borne_s}");
    }
}

/// Says how many seconds it was borne.
async fn be_silent(port: u16, said: &str) -> u64 {
    let mut lines = Lines::connect(address(port)).await.expect("the server listens");
    let began_us = sim().now_us();
    lines.send(said).await.expect("it is sent");
    loop {
        match lines.line().await {
            // Our own patience is less.
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(_) => return (sim().now_us() - began_us) / 1_000_000,
            Ok(_) => {}
        }
    }
}
