//! How fast the disk streams, and how many small reads it answers.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, OFlags, fadvise};

use super::{Bound, record};
use crate::record::Spectrum;

const FILE_BYTES: usize = 512 << 20;
const BLOCK_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// A slow disk need not write the whole file.
const WRITE_MAX: Duration = Duration::from_secs(5);

const RANDOM_RUN: Duration = Duration::from_secs(1);

#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

pub fn measure(folder: &Path) -> io::Result<Vec<Bound>> {
    let path = folder.join("stream");
    let mut block = Box::new(Block([b'x'; BLOCK_BYTES]));
    let began = Instant::now();
    let file = File::create(&path)?;
    let mut written = 0;
    while written < FILE_BYTES && began.elapsed() < WRITE_MAX {
        // Bytes that differ, in case that something below leaves out what it has seen.
        block.0[..8].copy_from_slice(&written.to_le_bytes());
        file.write_all_at(&block.0, written as u64)?;
        written += BLOCK_BYTES;
    }
    file.sync_all()?;
    let write_rate = written as f64 / began.elapsed().as_secs_f64() / 1e6;
    fadvise(&file, 0, None, Advice::DontNeed)?;

    let file = File::open(&path)?;
    let began = Instant::now();
    for offset in (0..written).step_by(BLOCK_BYTES) {
        file.read_exact_at(&mut block.0, offset as u64)?;
    }
    let read_rate = written as f64 / began.elapsed().as_secs_f64() / 1e6;
    let random = random_reads(&path, written, &mut block.0[..PAGE_BYTES]);
    std::fs::remove_file(&path)?;
    let of = |what: &str, rate| Bound::new(what, rate, "MB/s");
    let mut bounds = vec![of("written and synced", write_rate), of("read, not cached", read_rate)];
    // Some file systems do not read past the cache; then nothing is known of small reads.
    bounds.extend(random.ok());
    Ok(bounds)
}

/// Pages at places that nothing foresees, one after the other, past the cache.
fn random_reads(path: &Path, written: usize, page: &mut [u8]) -> io::Result<Bound> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let pages = (written / PAGE_BYTES) as u64;
    let mut latency = Spectrum::default();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let began = Instant::now();
    while began.elapsed() < RANDOM_RUN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let read_began = Instant::now();
        file.read_exact_at(page, (state % pages) * PAGE_BYTES as u64)?;
        record(&mut latency, read_began);
    }
    let rate = latency.count() as f64 / began.elapsed().as_secs_f64();
    Ok(Bound::new("4 KiB at random, one at a time", rate, "/s").with_latency(latency))
}
