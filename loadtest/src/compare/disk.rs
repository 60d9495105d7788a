//! Files out of memory, and how fast the disk gives them back.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Advice, fadvise};

/// Calls `take` with every file under a folder.
pub fn each_file(folder: &Path, take: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        match (kind.is_dir(), kind.is_file()) {
            (true, _) => each_file(&entry.path(), take)?,
            (_, true) => take(&entry.path())?,
            _ => {}
        }
    }
    Ok(())
}

/// Has the kernel forget what it has read of a folder. Nothing may have these files mapped. What a directory holds
/// stays in memory where dropping it needs a right that we do not have.
pub fn evict(folder: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(folder)?)?;
    // It drops directories, too, but not everyone may.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    each_file(folder, &mut |path| {
        fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
        Ok(())
    })
}

/// Bytes a second of reading a folder's files one after the other, none of which is in memory.
pub fn read_rate(folder: &Path) -> io::Result<f64> {
    evict(folder)?;
    let mut buffer = vec![0; 1 << 20];
    let (began, mut bytes) = (Instant::now(), 0_u64);
    each_file(folder, &mut |path| {
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => bytes += count as u64,
            }
        }
    })?;
    Ok(bytes as f64 / began.elapsed().as_secs_f64())
}
