//! A disk whose every write and flush is written down, and that can be as it was when the power went.
//!
//! What is under it never changes while it is in use: writes lie over the base, page by page. So one base serves any
//! number of crash states, each a few pages over it, and a recovery can itself be cut off and begun again. It may be in
//! [`Trouble`]: then it refuses what it is asked to do.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::trouble::{Request, Trouble, Word};

pub const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What the disk was asked to do, and when, in nanoseconds of the monotonic clock.
pub enum Event {
    Write { at: u64, offset: usize, bytes: Vec<u8> },
    Flush { at: u64 },
}

/// Pages that differ from the base.
pub type Overlay = HashMap<usize, Box<[u8; PAGE]>>;

pub struct Disk {
    base: Vec<u8>,
    overlay: Overlay,
    /// Since it was asked to remember.
    history: Option<Vec<Event>>,
    /// What it refuses.
    pub trouble: Option<Trouble>,
}

/// Nanoseconds that all processes of the machine count alike.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    u64::try_from(nanoseconds).expect("the monotonic clock begins at zero")
}

impl Event {
    pub fn at(&self) -> u64 {
        match self {
            Self::Write { at, .. } | Self::Flush { at } => *at,
        }
    }
}

impl Disk {
    /// Full of zeroes, which cost nothing until they are written over.
    pub fn new(bytes: usize) -> Self {
        assert!(bytes.is_multiple_of(PAGE), "whole pages");
        Self { base: vec![0; bytes], overlay: Overlay::new(), history: None, trouble: None }
    }

    pub fn bytes(&self) -> usize {
        self.base.len()
    }

    /// What it says to this, if it does not do it.
    pub fn balks(&mut self, request: Request, range: Range<usize>) -> Option<Word> {
        self.trouble.as_mut()?.strikes(request, &range)
    }

    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let (page, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let count = (PAGE - within).min(into.len() - done);
            let from = match self.overlay.get(&page) {
                Some(bytes) => &bytes[within..within + count],
                None => &self.base[offset + done..offset + done + count],
            };
            into[done..done + count].copy_from_slice(from);
            done += count;
        }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(history) = &mut self.history {
            history.push(Event::Write { at: now(), offset, bytes: bytes.to_vec() });
        }
        self.lay(offset, bytes);
    }

    pub fn flush(&mut self) {
        if let Some(history) = &mut self.history {
            history.push(Event::Flush { at: now() });
        }
    }

    /// Puts bytes over the base without a word in the history.
    pub fn lay(&mut self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let count = (PAGE - within).min(bytes.len() - done);
            let base = &self.base[page * PAGE..(page + 1) * PAGE];
            let over = self
                .overlay
                .entry(page)
                .or_insert_with(|| Box::new(base.try_into().expect("a page of the base is a page")));
            over[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Puts bytes into the base itself.
    pub fn sink(&mut self, offset: usize, bytes: &[u8]) {
        self.base[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes what lies over the base part of it.
    pub fn settle(&mut self) {
        for (page, bytes) in std::mem::take(&mut self.overlay) {
            self.base[page * PAGE..(page + 1) * PAGE].copy_from_slice(&bytes[..]);
        }
    }

    /// Remembers what happens from here on.
    pub fn record(&mut self) {
        self.history = Some(Vec::new());
    }

    /// What happened since [`Disk::record`]; no more is remembered.
    pub fn take_history(&mut self) -> Vec<Event> {
        self.history.take().expect("the disk was recording")
    }

    /// Writes all of it to a file, with holes for zeroes.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.base.len() as u64)?;
        let mut page = [0; PAGE];
        for offset in (0..self.base.len()).step_by(PAGE) {
            self.read(offset, &mut page);
            if page.iter().any(|byte| *byte != 0) {
                file.write_all_at(&page, offset as u64)?;
            }
        }
        Ok(())
    }

    pub fn overlay(&self) -> Overlay {
        self.overlay.clone()
    }

    /// As it is with these pages over its base.
    pub fn set_overlay(&mut self, overlay: Overlay) {
        self.overlay = overlay;
    }
}
