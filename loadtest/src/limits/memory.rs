//! How fast one core copies, checks and searches memory that lies in its caches or does not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Bound;

/// In a core's own cache, in the shared one, in neither.
const SIZES: [(usize, &str); 3] = [(256 << 10, "256 KiB"), (8 << 20, "8 MiB"), (256 << 20, "256 MiB")];

const RUN: Duration = Duration::from_millis(250);

pub fn measure() -> Vec<Bound> {
    let mut bounds = Vec::new();
    for (size, name) in SIZES {
        // Text that has no line end is searched to its end.
        let text = vec![b'x'; size];
        let mut copy = vec![0_u8; size];
        let copied = rate(size, || {
            copy.copy_from_slice(black_box(&text));
            black_box(&copy);
        });
        let checked = rate(size, || {
            black_box(crc32fast::hash(black_box(&text)));
        });
        let searched = rate(size, || {
            black_box(memchr::memchr(b'\n', black_box(&text)));
        });
        let found = rate(size, || {
            black_box(memchr::memmem::find(black_box(&text), b"\r\n."));
        });
        let of = |what: &str, gigabytes| Bound::new(format!("{what}, {name}"), gigabytes, "GB/s");
        bounds.extend([
            of("copied", copied),
            of("CRC-32", checked),
            of("line end searched", searched),
            of("CRLF and dot searched", found),
        ]);
    }
    bounds
}

/// Gigabytes a second.
fn rate(size: usize, mut work: impl FnMut()) -> f64 {
    // The first touch pays for the pages.
    work();
    let began = Instant::now();
    let mut bytes = 0_usize;
    while began.elapsed() < RUN {
        work();
        bytes += size;
    }
    bytes as f64 / began.elapsed().as_secs_f64() / 1e9
}
