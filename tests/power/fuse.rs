//! A file whose bytes are a [`Disk`]: the FUSE protocol, as far as a loop device uses it.
//!
//! The mount point is a regular file and the root of its file system at once, so that no names are looked up. The
//! file is opened for direct input and output: whatever the loop device writes or flushes arrives here before the
//! loop device says that it is done, and in the order in which it is taken from the queue.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crate::disk::Disk;
use crate::trouble::{Request, Word};

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const FORGET: u32 = 2;
const BATCH_FORGET: u32 = 42;

const MINOR: u32 = 31;
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
const OPEN_DIRECT_IO: u32 = 1;

const HEADER_BYTES: usize = 40;
/// Behind the header, before the bytes that are written.
const WRITE_BYTES: usize = 40;
const TRANSFER_MAX: usize = 1 << 20;

const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// Mounted until it is dropped.
pub struct Mount {
    point: PathBuf,
    disk: Arc<Mutex<Disk>>,
    serving: Option<JoinHandle<()>>,
}

impl Mount {
    /// Shows the disk as the file `point`, which is made.
    pub fn new(point: &Path, disk: Disk) -> io::Result<Self> {
        File::create(point)?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let status = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100000,user_id=0,group_id=0", "disk"])
            .arg(point)
            .stdin(device.try_clone()?)
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let disk = Arc::new(Mutex::new(disk));
        let served = Arc::clone(&disk);
        let serving = Some(thread::spawn(move || serve(device, &served)));
        Ok(Self { point: point.to_owned(), disk, serving })
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.point).status().is_ok_and(|status| status.success());
        if let Some(serving) = self.serving.take().filter(|_| unmounted) {
            serving.join().expect("the file was served to the end");
        }
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("nothing panics while it holds the disk")
}

/// Answers requests until the file is unmounted.
fn serve(mut device: File, disk: &Mutex<Disk>) {
    let mut request = vec![0; TRANSFER_MAX + HEADER_BYTES + WRITE_BYTES + 4096];
    loop {
        match device.read(&mut request) {
            Ok(count) => {
                if let Some(reply) = answer(&request[..count], disk) {
                    // A request that was given up needs no reply.
                    let _ = device.write(&reply);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A request was given up before it was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return,
        }
    }
}

fn answer(request: &[u8], disk: &Mutex<Disk>) -> Option<Vec<u8>> {
    let (header, body) = request.split_at(HEADER_BYTES);
    let unique = u64_at(header, 8);
    let result = match u32_at(header, 4) {
        INIT => Ok(init()),
        GETATTR | SETATTR => Ok(attributes(lock(disk).bytes())),
        OPEN => Ok([0u64.to_le_bytes(), u64::from(OPEN_DIRECT_IO).to_le_bytes()].concat()),
        READ => read(body, &mut lock(disk)),
        WRITE => write(body, &mut lock(disk)),
        FSYNC => flush(&mut lock(disk)),
        RELEASE | FLUSH | DESTROY => Ok(Vec::new()),
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        _ => Err(ENOSYS),
    };
    let (error, payload) = result.map_or_else(|error| (-error, Vec::new()), |payload| (0, payload));
    let length = u32::try_from(16 + payload.len()).expect("a transfer is small");
    let mut reply = Vec::with_capacity(16 + payload.len());
    reply.extend_from_slice(&length.to_le_bytes());
    reply.extend_from_slice(&error.to_le_bytes());
    reply.extend_from_slice(&unique.to_le_bytes());
    reply.extend_from_slice(&payload);
    Some(reply)
}

fn read(body: &[u8], disk: &mut Disk) -> Result<Vec<u8>, i32> {
    let (start, length) = (place(body), u32_at(body, 16) as usize);
    if disk.balks(Request::Read, start..start + length).is_some() {
        return Err(EIO);
    }
    let mut bytes = vec![0; length];
    disk.read(start, &mut bytes);
    Ok(bytes)
}

/// What is refused was not written, none of it.
fn write(body: &[u8], disk: &mut Disk) -> Result<Vec<u8>, i32> {
    let (start, bytes) = (place(body), &body[WRITE_BYTES..]);
    match disk.balks(Request::Write, start..start + bytes.len()) {
        Some(Word::Eio) => return Err(EIO),
        Some(Word::Done) => {}
        None => disk.write(start, bytes),
    }
    Ok((bytes.len() as u64).to_le_bytes().to_vec())
}

fn flush(disk: &mut Disk) -> Result<Vec<u8>, i32> {
    if disk.balks(Request::Flush, 0..disk.bytes()).is_some() {
        return Err(EIO);
    }
    disk.flush();
    Ok(Vec::new())
}

/// Where a read or write begins.
fn place(body: &[u8]) -> usize {
    usize::try_from(u64_at(body, 8)).expect("the kernel stays within the file")
}

fn init() -> Vec<u8> {
    let transfer = u32::try_from(TRANSFER_MAX).expect("a megabyte");
    let pages = u16::try_from(TRANSFER_MAX / 4096).expect("a few hundred");
    let mut out = Vec::with_capacity(64);
    for field in [7, MINOR, 0, BIG_WRITES | MAX_PAGES, 0, transfer, 1] {
        out.extend_from_slice(&u32::to_le_bytes(field));
    }
    out.extend_from_slice(&pages.to_le_bytes());
    out.resize(64, 0);
    out
}

fn attributes(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; 16];
    // Inode, size, blocks, three times.
    for field in [1, bytes as u64, bytes as u64 / 512, 0, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    // Fractions of the times, mode, links, owner, group, device, block size, flags.
    for field in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0] {
        out.extend_from_slice(&u32::to_le_bytes(field));
    }
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
