//! Hostile input as data: what clients must not say, in all its variants, and what must come of it.
//!
//! The cases stand in `cases/`; `case.rs` says how they are written. Each variant is replayed against the engines in
//! all cuts, and against the real binary whole, byte by byte, at random cuts and under TLS. Besides the replies it is
//! looked at what was stored: exactly the messages that the client meant, wherever it put its dots and line ends.
//! Where Postfix and Dovecot answer otherwise is written in `peers/`, with the reason.

mod answer;
mod binary;
#[path = "../transcripts/bytes.rs"]
mod bytes;
mod case;
mod class;
#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/client.rs"]
mod client;
mod content;
mod difference;
#[allow(dead_code, reason = "shared with the transcripts")]
#[path = "../transcripts/engine.rs"]
mod engine;
mod engines;
#[path = "../transcripts/imap.rs"]
mod imap;
mod opening;
mod peers;
#[path = "../transcripts/pop3.rs"]
mod pop3;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with tests that stop and start the server")]
mod server;
#[path = "../transcripts/smtp.rs"]
mod smtp;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use case::{Case, Variant};
use engine::{Engine, Header};

const THREADS: usize = 4;

/// Shown of each run; of a broken class thousands of variants fail.
const FAILURES_SHOWN: usize = 30;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

fn cases(places: &[&str]) -> Vec<Case> {
    let all = case::read_all(&folder().join("cases"));
    all.into_iter().filter(|case| places.iter().any(|place| case.is_for(place))).collect()
}

/// Runs `replay` for all variants of `cases` on a few threads.
fn replay_all(cases: &[Case], replay: impl Fn(&Case, &Variant) -> Result<usize, String> + Sync) {
    let work: Vec<(&Case, Variant)> = cases
        .iter()
        .flat_map(|case| case.variants().into_iter().map(move |variant| (case, variant)))
        .collect();
    let (next, replays, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run = || {
        while let Some((case, variant)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            match replay(case, variant) {
                Ok(count) => drop(replays.fetch_add(count, Ordering::Relaxed)),
                Err(wrong) => {
                    let failure = format!("{} [{}]: {wrong}", case.name, variant.name);
                    failures.lock().expect("nobody panics with it").push(failure);
                }
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(run))));
    let failures = failures.into_inner().expect("nobody panics with it");
    let (count, replays) = (work.len(), replays.into_inner());
    println!("{} cases, {count} variants, {replays} replays; {}", cases.len(), classes(&work));
    let shown = failures.iter().take(FAILURES_SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {count} variants fail:\n{shown}", failures.len());
}

/// How many variants show something of each class: `SM 1234, TL 20`.
fn classes(work: &[(&Case, Variant)]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (case, _) in work {
        let names: BTreeSet<&str> = case.covers.iter().filter_map(|id| id.split('-').next()).collect();
        names.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn engines_answer_in_every_cut_as_they_must() {
    replay_all(&cases(&["engine"]), engines::replay);
}
