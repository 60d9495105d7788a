//! Appends lines to a ledger.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::ledger::Line;

/// Whether a line must survive a power cut before the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Buffered,
    Synced,
}

pub struct Writer {
    file: File,
    buffer: Vec<u8>,
    durability: Durability,
}

const TITLE: &[u8] = b"loadtest ledger 1\n";

/// Lines gather up to this.
const BUFFER_BYTES: usize = 64 << 10;

impl Writer {
    pub fn open(path: &Path, durability: Durability) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut writer = Self { file, buffer: Vec::new(), durability };
        // More than one title does no harm: readers skip them.
        writer.buffer.extend_from_slice(TITLE);
        writer.flush()?;
        Ok(writer)
    }

    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        line.write(&mut self.buffer);
        match self.durability == Durability::Synced || self.buffer.len() >= BUFFER_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes whole lines with one call, which the kernel does not mix with others' lines.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        match self.durability {
            Durability::Synced => self.file.sync_data(),
            Durability::Buffered => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants to know flushes before.
        let _ = self.flush();
    }
}
