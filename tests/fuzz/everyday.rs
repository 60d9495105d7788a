//! The targets in the tests of every day, on the stable toolchain: the seeds, and mutations of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::mutate::Mutations;
use crate::seeds;
use crate::targets::{TARGETS, Target};

/// Of each target, in the tests of every day.
const MUTATIONS: u64 = 150;

/// Says what broke a target.
fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    ran.map_err(|_| format!("{}: {}", target.name, seeds::escaped(input)))
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
fn every_corpus_belongs_to_a_target() {
    for entry in std::fs::read_dir(seeds::folder()).expect("the folder is there").flatten() {
        let is_known = TARGETS.iter().any(|target| seeds::corpus(target.name) == entry.path());
        assert!(is_known, "{} belongs to no target", entry.path().display());
    }
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
