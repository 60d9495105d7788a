//! Parsers and whole sessions on bytes that nobody chose: each target is a plain `fn(&[u8])` that must not panic,
//! must give the same answer however its input is cut, and must not work more per byte the more there is.
//!
//! The targets run on the seeds, on the cases of `tests/hostile`, and on what a seeded generator makes of those. A
//! short run is part of the tests; `RINGPOST_FUZZ_S=600 cargo test --test fuzz mutations` runs each target for ten
//! minutes. A failure shows its target and the bytes; they become a seed in `seeds.rs`.

#[allow(dead_code, reason = "shared with the transcripts")]
#[path = "../transcripts/bytes.rs"]
mod bytes;
#[allow(dead_code, reason = "shared with the tests of hostile input")]
#[path = "../hostile/case.rs"]
mod case;
#[allow(dead_code, reason = "shared with the tests of hostile input")]
#[path = "../hostile/content.rs"]
mod content;
#[allow(dead_code, reason = "shared with the transcripts")]
#[path = "../transcripts/engine.rs"]
mod engine;
mod growth;
#[path = "../transcripts/imap.rs"]
mod imap;
mod mutate;
#[allow(dead_code, reason = "shared with the tests of hostile input")]
#[path = "../hostile/opening.rs"]
mod opening;
#[path = "../transcripts/pop3.rs"]
mod pop3;
mod seeds;
mod sessions;
#[path = "../transcripts/smtp.rs"]
mod smtp;
#[path = "../transcripts/smtp_client.rs"]
mod smtp_client;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::unescaped;
use engine::{Engine, Header, Side};
use mutate::Mutations;
use targets::{TARGETS, Target};

/// Of each target, in the tests of every day.
const MUTATIONS: u64 = 150;

/// Says what broke a target.
fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    ran.map_err(|_| format!("{}: \"{}\"", target.name, input.escape_ascii()))
}

#[test]
fn seeds() {
    let failures: Vec<String> = TARGETS
        .iter()
        .flat_map(|target| seeds::of(target.name).into_iter().filter_map(|seed| run(target, &seed).err()))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn mutations() {
    let seconds = std::env::var("RINGPOST_FUZZ_S").ok().and_then(|seconds| seconds.parse().ok());
    let only = std::env::var("RINGPOST_FUZZ_TARGET").unwrap_or_default();
    for target in TARGETS.iter().filter(|target| target.name.contains(&only)) {
        let begun = Instant::now();
        let is_over = |count: u64| match seconds {
            Some(seconds) => begun.elapsed() > Duration::from_secs(seconds),
            None => count >= MUTATIONS,
        };
        let mut mutations = Mutations::new(seeds::of(target.name), 1);
        let mut count = 0;
        while !is_over(count) {
            let input = mutations.next_input();
            run(target, &input).unwrap_or_else(|wrong| panic!("mutation {count}: {wrong}"));
            count += 1;
        }
        println!("{}: {count} inputs in {:?}", target.name, begun.elapsed());
    }
}
