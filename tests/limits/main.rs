//! The limits of the server, shown from outside: what sessions cost, what a hostile crowd does to others, and what
//! happens when the machine runs out of something.
//!
//! The figures of `docs/limits.md` are what these tests print with `--nocapture`.

#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/client.rs"]
mod client;
mod crowd;
mod machine;
mod memory;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with the stories of the server")]
mod server;

use std::fs;

use server::Server;

const ALICE: &str = "alice@example.test";

/// The server's own memory, in bytes, without mapped files.
fn memory_of(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

fn descriptors_of(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process_id())).expect("it runs").count()
}

/// A small message.
fn note(number: usize) -> Vec<u8> {
    format!("From: a@example.test\r\nSubject: note {number} end\r\n\r\ntext of note {number}\r\n")
        .into_bytes()
}
