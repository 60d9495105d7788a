//! What a block device did while something ran: of the whole device, whoever asked for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceCost {
    pub written_bytes: u64,
    pub writes: u64,
    pub flushes: u64,
}

/// The device's counters at a moment.
pub struct Reading {
    stat: PathBuf,
    counts: DeviceCost,
}

impl Reading {
    /// `None` for a file system that is not on one device.
    pub fn of(path: &Path) -> Option<Self> {
        let number = fs::metadata(path).ok()?.dev();
        let (major, minor) = (libc::major(number), libc::minor(number));
        let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        Some(Self { counts: read(&stat)?, stat })
    }

    pub fn since(self) -> Option<DeviceCost> {
        let now = read(&self.stat)?;
        Some(DeviceCost {
            written_bytes: now.written_bytes.saturating_sub(self.counts.written_bytes),
            writes: now.writes.saturating_sub(self.counts.writes),
            flushes: now.flushes.saturating_sub(self.counts.flushes),
        })
    }
}

/// The fields are those of the kernel's Documentation/block/stat.rst; a sector has 512 bytes.
fn read(stat: &Path) -> Option<DeviceCost> {
    let text = fs::read_to_string(stat).ok()?;
    let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    Some(DeviceCost {
        writes: *fields.get(4)?,
        written_bytes: fields.get(6)? * 512,
        flushes: fields.get(15).copied().unwrap_or(0),
    })
}
