//! A file system on a disk that can lose power: a loop device over the file that [`fuse`](crate::fuse) shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::MutexGuard;
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::fuse::Mount;

/// Of ext4, as it is made here.
pub const BLOCK: usize = 4096;

/// A process that was killed has closed its files by then.
const UNMOUNT_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// A size that it works on without complaint.
    fn bytes(self) -> usize {
        match self {
            Self::Ext4 => 384 << 20,
            Self::Xfs => 512 << 20,
            Self::Btrfs => 768 << 20,
        }
    }

    fn make(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &[
                "mkfs.ext4",
                "-q",
                "-F",
                "-b",
                "4096",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0,packed_meta_blocks=1",
            ],
            Self::Xfs => &["mkfs.xfs", "-q", "-f", "-K"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f", "-K"],
        }
    }

    pub fn program(self) -> &'static str {
        self.make()[0]
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program()["mkfs.".len()..])
    }
}

/// The disk, and where its file system is to be seen.
pub struct Device {
    file: Mount,
    kind: FileSystem,
    folder: PathBuf,
    is_mounted: bool,
    /// How often its file system had to be checked before it could be mounted.
    pub fscks: usize,
}

impl Device {
    /// A new file system, not mounted yet. Its mount point is made in `scratch`.
    pub fn make(kind: FileSystem, scratch: &Path) -> Result<Self, String> {
        let file = Mount::new(&scratch.join("disk"), Disk::new(kind.bytes()))
            .map_err(|error| format!("a file of FUSE cannot be mounted: {error}"))?;
        let folder = scratch.join("mounted");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let [program, options @ ..] = kind.make() else {
            return Err("no program".to_owned());
        };
        run(Command::new(program).args(options).arg(file.point()))?;
        file.disk().settle();
        Ok(Self { file, kind, folder, is_mounted: false, fscks: 0 })
    }

    /// Reads the file system's journal, too. What the kernel refuses (a superblock of ext4 that was torn, and has
    /// copies) is given to its `fsck` first, as at a boot.
    pub fn mount(&mut self) -> Result<(), String> {
        if let Err(error) = self.try_mount() {
            if self.kind != FileSystem::Ext4 {
                return Err(error);
            }
            self.check();
            self.try_mount()?;
        }
        self.is_mounted = true;
        Ok(())
    }

    fn try_mount(&self) -> Result<(), String> {
        let kind = self.kind.to_string();
        let mut command = Command::new("mount");
        run(command.args(["-t", &kind, "-o", "loop,noatime"]).arg(self.file.point()).arg(&self.folder))
    }

    pub fn unmount_if_mounted(&mut self) {
        if self.is_mounted {
            self.unmount();
        }
    }

    pub fn unmount(&mut self) {
        self.try_unmount().unwrap_or_else(|error| panic!("the file system is still in use: {error}"));
    }

    pub fn try_unmount(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while let Err(error) = run(Command::new("umount").arg(&self.folder)) {
            if begun.elapsed() > UNMOUNT_MAX {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.is_mounted = false;
        Ok(())
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the journal and the tables of ext4 end, which all lie in front of the files.
    pub fn files_begin(&self) -> Result<usize, String> {
        let blocks = told(Command::new("debugfs").args(["-R", "blocks <8>"]).arg(self.file.point()))?;
        let blocks = blocks.split_whitespace().map(|block| block.parse().map_err(|_| blocks.clone()));
        let blocks: Vec<usize> = blocks.collect::<Result<_, _>>()?;
        let last = blocks.into_iter().max().ok_or("the file system has no journal")?;
        Ok((last + 1) * BLOCK)
    }

    /// Looks for what is wrong and mends it, as at a boot.
    pub fn check(&mut self) {
        // Its exit status says that it has mended something.
        let _ = run(Command::new("e2fsck").arg("-fy").arg(self.file.point()));
        self.fscks += 1;
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.file.disk()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_mounted {
            // Something may still use it after a failure; it goes when that ends.
            let _ = run(Command::new("umount").arg("-l").arg(&self.folder));
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    told(command).map(drop)
}

/// What a program says.
pub fn told(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
