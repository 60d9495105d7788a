//! One bare write and sync after the other, to be set beside an acknowledgement.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::record::Spectrum;

/// The file that is synced is written in full before, as a segment of the log is.
const FILE_BYTES: usize = 16 << 20;

/// What one sync covers.
const SYNCED_BYTES: usize = 8 << 10;

const SYNCS: usize = 500;

/// What a bare write and sync takes on the disk of `folder`, as one number for each of many.
pub fn sync_latency(folder: &Path) -> io::Result<Spectrum> {
    let path = folder.join("sync");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let bytes = [b'x'; SYNCED_BYTES];
    let mut latency = Spectrum::default();
    for number in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&bytes, (number * SYNCED_BYTES) as u64)?;
        file.sync_data()?;
        latency.record(began.elapsed().as_nanos() as u64);
    }
    std::fs::remove_file(path)?;
    Ok(latency)
}
