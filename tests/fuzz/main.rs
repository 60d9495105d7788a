//! Parsers and whole sessions on bytes that nobody chose: each target is a plain `fn(&[u8])` that must not panic,
//! must give the same answer however its input is cut, and must not work more per byte the more there is.
//!
//! Two drivers run the targets. Every day it is `everyday.rs`: the seeds, which are the lines of `corpus/` and the
//! cases of `tests/hostile`, and what a seeded generator makes of those. `RINGPOST_FUZZ_S=600 cargo test --test
//! fuzz mutations` gives each target ten minutes of that. With a nightly toolchain and cargo-fuzz it is
//! `libfuzzer.rs`, which follows the coverage: `tests/fuzz/run 600`, or with the name of a target behind it. A
//! failure shows its target and the bytes; they become a line of `corpus/`.

// Without the harness of tests, libFuzzer has `main`.
#![cfg_attr(not(test), no_main)]

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
#[cfg(test)]
mod everyday;
#[cfg(test)]
mod growth;
#[path = "../transcripts/imap.rs"]
mod imap;
#[cfg(not(test))]
mod keep;
#[cfg(not(test))]
mod libfuzzer;
#[cfg(test)]
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
mod work;

use bytes::unescaped;
use engine::{Engine, Header, Side};
