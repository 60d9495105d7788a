//! What it takes to make one write durable, in each way that a log can be written.
//!
//! Three kinds of file: one that grows, one whose blocks are reserved, one that was written in full before. Three
//! ways: a write and `fdatasync`, a write that syncs itself (`RWF_DSYNC`), the same past the page cache (`O_DIRECT`).
//! Five sizes; for the smallest also two and four writers at once, each with a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::{Bound, record};
use crate::record::Spectrum;

const SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Of each file; a run ends where the file ends.
const FILE_BYTES: usize = 64 << 20;

/// Of each run.
const RUN: Duration = Duration::from_millis(300);

#[derive(Clone, Copy)]
enum Space {
    Growing,
    Reserved,
    Written,
}

#[derive(Clone, Copy)]
enum Mode {
    Sync,
    Dsync,
    Direct,
}

/// One page, where direct writes need it.
#[repr(align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

pub fn measure(folder: &Path) -> io::Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    for space in [Space::Growing, Space::Reserved, Space::Written] {
        for mode in [Mode::Sync, Mode::Dsync, Mode::Direct] {
            for size in SIZES {
                let what = format!("{} KiB, {}, {}", size >> 10, space.name(), mode.name());
                match write(folder, space, mode, size) {
                    Ok(latency) => bounds.push(bound(what, 1, latency)),
                    // Not every file system writes past the cache.
                    Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    for writers in [2, 4] {
        bounds.push(together(folder, writers)?);
    }
    Ok(bounds)
}

/// Writers that are never idle: how many syncs a second is what each of them takes.
fn bound(what: String, writers: usize, latency: Spectrum) -> Bound {
    let rate = writers as f64 * 1e9 / latency.mean().max(1.0);
    Bound::new(what, rate, "/s").with_latency(latency)
}

/// Several writers of 4 KiB at once.
fn together(folder: &Path, writers: usize) -> io::Result<Bound> {
    let runs: Vec<_> = (0..writers)
        .map(|writer| {
            let folder = folder.join(writer.to_string());
            thread::spawn(move || {
                std::fs::create_dir(&folder)?;
                write(&folder, Space::Written, Mode::Sync, SIZES[0])
            })
        })
        .collect();
    let mut latency = Spectrum::default();
    for run in runs {
        let written = run.join().map_err(|_| io::Error::other("a writer panicked"))?;
        latency.add(&written?);
    }
    for writer in 0..writers {
        std::fs::remove_dir_all(folder.join(writer.to_string()))?;
    }
    let what = format!("4 KiB, {}, {}, {writers} writers", Space::Written.name(), Mode::Sync.name());
    Ok(bound(what, writers, latency))
}

/// One run: writes one after the other, each durable before the next.
fn write(folder: &Path, space: Space, mode: Mode, size: usize) -> io::Result<Spectrum> {
    let path = folder.join("log");
    let pages = vec![Page([b'x'; 4096]); size / 4096];
    let bytes: Vec<IoSlice<'_>> = pages.iter().map(|page| IoSlice::new(&page.0)).collect();
    space.prepare(&path)?;
    let file = mode.open(&path)?;
    let mut latency = Spectrum::default();
    let began = Instant::now();
    for offset in (0..FILE_BYTES).step_by(size) {
        if began.elapsed() > RUN {
            break;
        }
        let write_began = Instant::now();
        mode.write(&file, &bytes, offset as u64)?;
        record(&mut latency, write_began);
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok(latency)
}

impl Space {
    fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Reserved => "reserved",
            Self::Written => "written before",
        }
    }

    fn prepare(self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        match self {
            Self::Growing => {}
            Self::Reserved => fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES as u64)?,
            Self::Written => {
                let block = vec![0; 1 << 20];
                for offset in (0..FILE_BYTES).step_by(block.len()) {
                    file.write_all_at(&block, offset as u64)?;
                }
            }
        }
        file.sync_all()
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Sync => "fdatasync",
            Self::Dsync => "RWF_DSYNC",
            Self::Direct => "O_DIRECT and DSYNC",
        }
    }

    fn open(self, path: &Path) -> io::Result<File> {
        let flags = match self {
            Self::Sync | Self::Dsync => OFlags::empty(),
            Self::Direct => OFlags::DIRECT,
        };
        OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)
    }

    fn write(self, file: &File, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let flags = match self {
            Self::Sync => ReadWriteFlags::empty(),
            Self::Dsync | Self::Direct => ReadWriteFlags::DSYNC,
        };
        let size: usize = bytes.iter().map(|slice| slice.len()).sum();
        // A regular file takes it whole, or the disk is full.
        if pwritev2(file, bytes, offset, flags)? != size {
            return Err(io::Error::other("a short write"));
        }
        match self {
            Self::Sync => file.sync_data(),
            Self::Dsync | Self::Direct => Ok(()),
        }
    }
}
