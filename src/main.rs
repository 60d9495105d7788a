//! Ringpost, the program: arguments to configuration to shards to signals.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringpost::admin::cli::{self, Hooks};
use ringpost::admin::serve::{open_store, serve};

/// Messages are many small allocations that other threads free; mimalloc is good at that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Hooks { serve, open_store })
}
