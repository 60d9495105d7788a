//! Asks the linker to put `io/ring.rs` in front of one C function of glommio's liburing.
//!
//! The argument holds for every program of this package: the server, its tests and its benches.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rustc-link-arg=-Wl,--wrap=io_uring_queue_init_params");
}
