//! Mail on its way out: the real server against mail servers, decent and hostile ones, and through kills.
//!
//! Each test has a server and remotes of its own, on loopback addresses that no other has, so that all run at once.

mod bounces;
mod churn;
#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/client.rs"]
mod client;
mod clock_steps;
mod content;
mod damage;
mod deadlines;
mod delays;
mod dsn;
mod full_disk;
mod hostile;
mod kill;
mod mail;
mod memory;
#[allow(dead_code, reason = "shared with the tests of the resolver")]
#[path = "../dns/server.rs"]
mod names;
mod operator;
mod recipients;
mod remote;
mod routing;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with tests that stop and start the server")]
mod server;
mod shaping;
#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/small_disk.rs"]
mod small_disk;
mod sources;
mod tls;
mod waiting;
