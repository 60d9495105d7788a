//! Receive buffers that the kernel chooses from when there are bytes for them (a provided buffer ring).
//!
//! A connection that waits has none: the kernel takes the next free buffer at the moment in which it has something
//! to put there, and whoever has read that gives it back. There are as many as were ever needed at once, up to a
//! bound.
//!
//! Invariants: a buffer is either in the ring, where the kernel may write to it, or on loan, where we may read it;
//! the memory of both stays for as long as the ring that it is registered with.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use memmap2::MmapMut;

use crate::limits::RECEIVE_BUFFER_BYTES;

/// The number by which operations name these buffers.
pub const GROUP: u16 = 0;

/// The most buffers; a power of two. A session that waits for the disk or for a password hash may hold one.
pub const BUFFERS_MAX: u16 = if cfg!(test) { 128 } else { 4096 };

/// So many are made at a time.
const BLOCK_BUFFERS: u16 = 64;

pub struct Buffers {
    /// The ring of entries, on pages of its own.
    entries: MmapMut,
    tail: u16,
    /// Buffers, `BLOCK_BUFFERS` in each.
    blocks: Vec<MmapMut>,
}

/// `struct io_uring_buf`; the last field of the first entry is the tail of the ring.
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    number: u16,
    tail: u16,
}

impl Buffers {
    /// Registers a ring of buffers and makes the first of them.
    pub fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = MmapMut::map_anon(usize::from(BUFFERS_MAX) * size_of::<Entry>())?;
        let mut buffers = Self { entries, tail: 0, blocks: Vec::new() };
        // SAFETY: the mapping begins on a page, has room for as many entries, and lives as long as the ring, which
        // is never closed (`Sockets::open`).
        unsafe { submitter.register_buf_ring_with_flags(buffers.entry(0) as u64, BUFFERS_MAX, GROUP, 0)? };
        buffers.grow()?;
        Ok(buffers)
    }

    /// Makes more buffers. False if there are as many as there may be.
    pub fn grow(&mut self) -> io::Result<bool> {
        let first = u16::try_from(self.blocks.len()).expect("blocks are fewer than buffers") * BLOCK_BUFFERS;
        if first == BUFFERS_MAX {
            return Ok(false);
        }
        self.blocks.push(MmapMut::map_anon(usize::from(BLOCK_BUFFERS) * RECEIVE_BUFFER_BYTES)?);
        (first..first + BLOCK_BUFFERS).for_each(|number| self.give(number));
        Ok(true)
    }

    /// Lets the kernel have the buffer.
    pub fn give(&mut self, number: u16) {
        let address = self.address(number) as u64;
        let entry = self.entry(self.tail % BUFFERS_MAX);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the entry lies in our mapping. No more buffers are in the ring than it has entries, so that this
        // entry is behind the tail, where the kernel does not look until the tail is moved; the tail, which shares
        // the first entry, is only written as an atomic.
        unsafe {
            (&raw mut (*entry).address).write(address);
            (&raw mut (*entry).length).write(RECEIVE_BUFFER_BYTES as u32);
            (&raw mut (*entry).number).write(number);
            AtomicU16::from_ptr(&raw mut (*self.entry(0)).tail).store(self.tail, Ordering::Release);
        }
    }

    /// Where the buffer is. It may be read while it is on loan.
    pub fn address(&mut self, number: u16) -> *mut u8 {
        let within = usize::from(number % BLOCK_BUFFERS) * RECEIVE_BUFFER_BYTES;
        self.blocks[usize::from(number / BLOCK_BUFFERS)][within..].as_mut_ptr()
    }

    fn entry(&mut self, index: u16) -> *mut Entry {
        self.entries[usize::from(index) * size_of::<Entry>()..].as_mut_ptr().cast()
    }
}

const _: () = assert!(BUFFERS_MAX.is_power_of_two() && BUFFERS_MAX.is_multiple_of(BLOCK_BUFFERS));
