//! The targets under libFuzzer, which changes inputs by what they reach. `RINGPOST_FUZZ_TARGET` names the one to
//! run.
//!
//! One program has all of them, so that the server is built once. Before libFuzzer begins, `RINGPOST_FUZZ_SEEDS`
//! has the seeds written into that folder, from which it can read them; `RINGPOST_FUZZ_KEEP` has the best of what
//! it found written to the corpus, and ends there (`keep.rs`). The bound on work per byte holds for every input:
//! there is no clock to compare two sizes with, so it is far above what any target needs, and far below what a
//! square takes.

use std::path::Path;
use std::sync::LazyLock;
use std::{env, fs, process};

use libfuzzer_sys::fuzz_target;

use crate::targets::{TARGETS, Target};
use crate::{keep, seeds, work};

/// With the checks of the sanitizer, and whatever the first run of a target prepares.
const WORK_NS_MAX: u64 = 100_000_000;
const BYTE_NS_MAX: u64 = 30_000;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("RINGPOST_FUZZ_TARGET").unwrap_or_default();
    let names = || TARGETS.map(|target| target.name).join(", ");
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("RINGPOST_FUZZ_TARGET is {name:?} and none of {}", names()))
});

fuzz_target!(init: prepare(), |input: &[u8]| run(input));

fn prepare() {
    if let Some(folder) = env::var_os("RINGPOST_FUZZ_SEEDS") {
        for (index, seed) in seeds::of(TARGET.name).iter().enumerate() {
            fs::write(Path::new(&folder).join(format!("seed-{index:04}")), seed)
                .expect("the folder is there");
        }
    }
    if let Some(control) = env::var_os("RINGPOST_FUZZ_KEEP") {
        keep::best(TARGET.name, Path::new(&control));
        process::exit(0);
    }
}

fn run(input: &[u8]) {
    let before = work::spent_ns();
    (TARGET.run)(input);
    let spent = work::spent_ns() - before;
    let bound = WORK_NS_MAX + BYTE_NS_MAX * input.len() as u64;
    assert!(spent < bound, "{} bytes took {spent} ns", input.len());
}
